//! A session, as the broker sees it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Delivery;
use super::roster::Roll;
use super::seat::WorkerHandle;
use crate::clock::Instant;
use crate::history::Loss;
use crate::model::{Bearer, Close, Cursor, Ended, Info, Pattern, Timestamp, Topic, Trouble};

/// A session, as its worker knows it: where it sits, and the number of its coming, which tells it from
/// whoever sat there before. What is addressed to a session that left is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    pub(super) slot: u32,
    pub(super) number: u32,
}

/// A boundary in the order of what a worker handles; no two of a worker are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierId(pub(super) u64);

#[cfg(test)]
impl BarrierId {
    /// One of a worker.
    pub const ONE: Self = Self(1);
}

/// How a session is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// RFC 6455.
    WebSocket,
    /// Server-Sent Events.
    Sse,
}

impl Transport {
    /// The name in listings and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Transport::WebSocket => "websocket",
            Transport::Sse => "sse",
        }
    }
}

/// What is known of a session from its start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its id, which nobody can guess.
    pub id: Arc<str>,
    /// Whose token it shows, if any.
    pub bearer: Option<Box<Bearer>>,
    /// When it connected.
    pub since: Timestamp,
    /// How it is connected.
    pub transport: Transport,
    /// Where it connects from.
    pub address: Option<String>,
    /// The node that it is connected to, where one of several says who would receive an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl SessionInfo {
    /// Who it belongs to.
    pub fn user(&self) -> Option<&str> {
        self.bearer.as_ref().map(|bearer| bearer.user.as_str())
    }

    /// What the issuer of its token lets others see.
    pub fn info(&self) -> Option<&Info> {
        self.bearer.as_ref()?.info.as_ref()
    }

    /// When it connected, in milliseconds since 1970.
    pub(super) fn since_millis(&self) -> u64 {
        u64::try_from(self.since.millis()).unwrap_or_default()
    }
}

/// A session as administrators see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionView {
    /// What is known of it.
    pub info: SessionInfo,
    /// What it is subscribed to, in order.
    pub subscriptions: Vec<Pattern>,
    /// How much waits for it, in bytes.
    pub queued_bytes: usize,
    /// For how long something has, without a pause, in milliseconds. Nodes of an earlier release do not say.
    #[serde(default)]
    pub lag_ms: Option<u64>,
    /// How many events it did not get, for newer ones took their place.
    #[serde(default)]
    pub skipped: Option<u64>,
}

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

    /// What is left to do after a call.
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
    fn tell(&mut self, trouble: Trouble);

    /// Hears that its client has so much time to go elsewhere.
    fn go_away(&mut self, within: Duration);

    /// When it is to be asked whether it may stay.
    fn deadline(&self) -> Option<Instant>;

    /// Hears that this moment has come; a reason to end it, where it is over.
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

    /// Does what a call has set off.
    fn run(worker: &WorkerHandle<Self>, session: SessionKey, errand: Self::Errand);
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
