//! A session, as the broker sees it.

use std::sync::Arc;
use std::time::Duration;

use super::orders::{Commanded, Overheard};
use super::roster::Roll;
use super::{BarrierId, Delivery, SessionInfo};
use crate::clock::Instant;
use crate::history::Loss;
use crate::model::{Bearer, Close, Cursor, Ended, Pattern, Topic, Trouble};

/// The receiving end of a session, and what it may receive.
///
/// Its worker owns it and is the only one to call it: what is said here of patterns and rights, and what the
/// worker routes by, change in one call. It must neither block nor call its worker; what it sets off is
/// an errand, which is done once the call has returned.
pub trait Subscriber: Sized + 'static {
    /// What a client asks to be subscribed to.
    type Subscribe;

    /// Who a session is to become.
    type Caller;

    /// What is left to do after a call: the [`Runner`](super::Runner) does it.
    type Errand;

    /// Looks whether the session may be here at all at this moment, and at what it may receive; a reason
    /// to end it otherwise.
    fn recheck_rights(&mut self) -> Result<Changed<Self::Errand>, Close>;

    /// Becomes somebody, or says why not.
    fn identify(&mut self, caller: Self::Caller) -> Changed<Self::Errand>;

    /// Whose token it shows.
    fn bearer(&self) -> Option<&Bearer>;

    /// Takes a subscribe, which begins where `barrier` will be found, or says why not.
    fn subscribe(
        &mut self,
        barrier: BarrierId,
        subscribe: Self::Subscribe,
    ) -> Option<Joined<Self::Errand>>;

    /// Receives nothing by these patterns any more.
    fn unsubscribe(&mut self, patterns: &[Pattern]);

    /// Whether it may receive events of `topic`.
    fn may_receive(&self, topic: &Topic) -> bool;

    /// Takes an event that one of its patterns matches, as far as it may receive it.
    fn deliver(&mut self, delivery: &Arc<Delivery>) -> Delivered;

    /// Has what it took written; says when it has more to send by the clock, if it has. A reason to end it,
    /// where more waits than may.
    fn flush(&mut self) -> Result<Option<Instant>, Close>;

    /// Hears that all before `barrier` has been delivered, up to `position`.
    fn barrier_reached(&mut self, barrier: BarrierId, position: Cursor);

    /// Hears who was in the topics that it asked about, for `barrier`, at this place of what it is delivered; nothing where
    /// that is not known.
    fn called(&mut self, barrier: BarrierId, roll: Option<Roll>);

    /// Seconds between its heartbeats.
    fn heartbeat(&self) -> u32;

    /// Hears that a heartbeat is due; all up to `position` has been delivered. A reason to end it, where
    /// nothing is heard from its client any more.
    fn beat(&mut self, position: Cursor) -> Result<(), Close>;

    /// Hears that events were lost: of topics that its patterns match, or of any. What it reads again because of that may have `barrier`.
    fn broken(&mut self, loss: &Loss, barrier: BarrierId) -> Option<Self::Errand>;

    /// Hears how the log is.
    fn tell_trouble(&mut self, trouble: Trouble);

    /// Hears that its client has so much time to go elsewhere.
    fn go_away(&mut self, within: Duration);

    /// When it is to be asked whether it may stay.
    fn deadline(&self) -> Option<Instant>;

    /// Hears that this moment has come; a reason to end it, where it is over. Its rights are looked at then.
    fn due(&mut self) -> Result<(), Close>;

    /// Why it can't go on, where it found that out by itself.
    fn verdict(&self) -> Option<Close>;

    /// Says good-bye; nothing is asked of it after that.
    fn end(&mut self, close: Close);

    /// Hears how its client has left by itself; nothing is asked of it after that.
    fn left(&mut self, info: &SessionInfo, ended: Ended);

    /// How much waits for the client, in bytes.
    fn queued_bytes(&self) -> usize;

    /// How it keeps up, as is asked once a second.
    fn strain(&self, now: Instant) -> Strain;

    /// Whether a backlog may be added to what waits.
    fn has_room(&self) -> bool;

    /// Does what an operator commands, in the words of the wire, as far as that needs no waiting.
    fn command(&mut self, command: &str) -> Commanded<Self::Errand>;

    /// Takes a message that came over another request, from who knows the secret of the session.
    fn overhear(&mut self, secret: &str, message: &str) -> Overheard;
}

/// How one session keeps up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strain {
    /// How much waits for it, in bytes.
    pub queued_bytes: u64,
    /// For how long something has, without a pause, as far as that was seen.
    pub lag: Duration,
    /// How many events it did not get, for newer ones took their place.
    pub skipped: u64,
}

/// What a look at the rights of a session changed.
#[derive(Debug)]
pub struct Changed<E> {
    /// Patterns that it receives nothing by any more.
    pub lost: Vec<Pattern>,
    /// What is left to do.
    pub errand: Option<E>,
}

impl<E> Default for Changed<E> {
    fn default() -> Self {
        Self { lost: Vec::new(), errand: None }
    }
}

/// A subscribe that was taken.
#[derive(Debug)]
pub struct Joined<E> {
    /// What is to be routed to the session.
    pub patterns: Vec<Pattern>,
    /// What is left to do.
    pub errand: Option<E>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// Nothing is left to do for it.
    Quietly,
    /// It is to be flushed, once all that goes out with it has been taken.
    ToFlush,
    /// There is no room: the session has a verdict.
    Full,
}
