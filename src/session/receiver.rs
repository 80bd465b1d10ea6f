//! The receiving end of one session: who it is, how long it may stay, and what it takes in.
//!
//! Its worker owns it, and calls it for each event without the session's actor in between. What decides about
//! rights is looked at here, in the same call as what it decides about.

mod catching_up;
mod command;
mod identity;
mod talking;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;

pub use self::identity::Becoming;
use super::catchup::Catchup;
use super::catchups::{Active, Reader, Running};
use super::door::require_coverage;
use super::ear::Ear;
use super::errand::Errand;
use super::filters::Filters;
use super::house::House;
use super::intake::Intake;
use super::outgoing::Outgoing;
use super::permits::UserPermit;
use super::reading::{First, Kind, Reading};
use super::resumed::Resumed;
use super::rhythm::Rhythm;
use super::term::{Term, Up};
use super::topic_set::TopicSet;
use super::voice::Voice;
use super::wish::Wish;
use crate::auth::{Access, Publisher};
use crate::broker::{
    BarrierId, BrokerHandle, Changed, Commanded, Delivered, Delivery, Joined, Overheard, Roll,
    SessionInfo, Strain, Subscriber, Transport,
};
use crate::clock::Instant;
use crate::history::{Departure, Loss};
use crate::model::{Bearer, Close, Code, Cursor, Ended, Event, Pattern, Problem, Topic, Trouble};
use crate::protocol::{Opening, Reply, Subscribe};

/// The receiving end of one session.
pub struct Receiver {
    intake: Intake,
    transport: Transport,
    rhythm: Rhythm,
    house: Rc<House>,
    /// What it subscribed to at connect and has no right to yet.
    waiting: Option<Box<Subscribe>>,
    /// What waits for this node to come to where another is.
    lagging: Vec<Running>,
    /// Its place among the sessions of its user. In a box, for it is counted where there is a limit alone.
    user_permit: Option<Box<UserPermit>>,
    /// What an application's idempotency keys are known by.
    credential: Option<Box<Publisher>>,
    /// Where it connects from, as far as that is known.
    address: Option<IpAddr>,
    term: Term,
    /// What it is about to be ended for.
    ends: Option<Close>,
    /// Values may be bound to it.
    holds: bool,
    /// Its client was told to go elsewhere.
    goes: bool,
    missed_heartbeats: u32,
    /// It has said what it may without a credential.
    has_published: bool,
    /// How its client says things over other requests. In a box, for most can't.
    ear: Option<Box<Ear>>,
    /// The cursor that it came back with, and the first large event after it. In a box, for most don't.
    resumed: Option<Box<Resumed>>,
}

impl Receiver {
    /// The receiving end of a session that is subscribed to nothing.
    pub fn new(
        house: Rc<House>,
        transport: Transport,
        rhythm: Rhythm,
        voice: Voice,
        access: Access,
        session: Arc<str>,
        user_permit: Option<UserPermit>,
    ) -> Self {
        let term = Term::of(access.caller(), &house.clock);
        let intake = Intake::new(voice, access, session, house.limits.conflated_bytes);
        let (waiting, lagging, ends) = (None, Vec::new(), None);
        let mut receiver = Self {
            intake,
            transport,
            rhythm,
            house,
            waiting,
            lagging,
            user_permit: user_permit.map(Box::new),
            credential: None,
            address: None,
            term,
            ends,
            holds: false,
            goes: false,
            missed_heartbeats: 0,
            has_published: false,
            ear: None,
            resumed: None,
        };
        receiver.watch_idleness();
        receiver
    }

    /// The same, with the credential or else the address by which what it publishes is known.
    pub fn of_publisher(self, credential: Option<Box<Publisher>>, address: Option<IpAddr>) -> Self {
        Self { credential, address, ..self }
    }

    /// Lets go of what is bound to it. Who was told to go elsewhere comes back there, however it closed.
    fn let_go(&self, ended: Ended) {
        if self.holds {
            let lingers = !ended.is_meant() || self.goes && ended == Ended::Left;
            let session = self.intake.session().into();
            self.broker().depart(Departure { session, lingers });
        }
    }

    /// Notes what the client asked for at connect, to be subscribed to as soon as it may be.
    pub fn wait_for(&mut self, subscribe: Option<Subscribe>) {
        self.waiting = subscribe.map(Box::new);
    }

    /// What its thread has in common.
    pub fn house(&self) -> &Rc<House> {
        &self.house
    }

    /// Has a task wait for what is to be subscribed to; it ends with the session.
    pub fn wait_in(&mut self, task: Running) {
        self.lagging.retain(|task| !task.0.is_finished());
        self.lagging.push(task);
    }

    /// The node's broker.
    pub fn broker(&self) -> &BrokerHandle {
        &self.house.broker
    }

    /// The outbox that it fills.
    pub fn outgoing(&self) -> &Arc<Outgoing> {
        self.intake.voice().outgoing()
    }

    /// The session's rights at this moment.
    pub fn access(&self) -> &Access {
        self.intake.access()
    }

    /// Whether a subscribe may be done as a whole.
    pub fn check(&self, subscribe: &Subscribe) -> Result<(), Problem> {
        require_coverage(self.access(), subscribe)?;
        let limits = &self.house.limits;
        if self.intake.count_with(&subscribe.patterns) > limits.subscriptions {
            let detail =
                format!("more than {} subscriptions (limits.subscriptions)", limits.subscriptions);
            return Err(Problem::new(Code::TooMany, detail));
        }
        let reads_history = subscribe.since.is_some() || subscribe.opening != Opening::Nothing;
        if reads_history && self.intake.replays() >= limits.replays {
            let detail = format!("more than {} replays at a time (limits.replays)", limits.replays);
            return Err(Problem::new(Code::TooMany, detail));
        }
        Ok(())
    }

    /// Whether an event out of the history may be shown as such a one.
    pub fn may_show(&self, event: &Event, kind: Kind) -> bool {
        self.intake.may_show(event, kind)
    }

    /// How many events `last` may come to.
    pub fn last_events(&self) -> usize {
        self.house.limits.last_events
    }

    /// Whose client has taken all that was replayed, and is still there a heartbeat later, stumbles over none of it.
    fn outlive_large(&mut self) {
        let was_replayed = self.intake.replays() == 0 && self.outgoing().bytes() == 0;
        let was_heard = self.transport == Transport::Sse || self.missed_heartbeats == 0;
        self.resumed.take_if(|resumed| resumed.is_outlived(was_replayed, was_heard));
    }
}

impl Subscriber for Receiver {
    type Subscribe = Wish;
    type Caller = Becoming;
    type Errand = Errand;

    fn recheck_rights(&mut self) -> Result<Changed<Errand>, Close> {
        let auth = &self.house.auth;
        if auth.is_current(self.access()) {
            let held = self.caller().user().map(|user| auth.holds(user));
            held.transpose().map_err(|_| Close::Unauthorized)?;
            return Ok(Changed { lost: Vec::new(), errand: self.admitted() });
        }
        let access = auth.still(self.access()).map_err(|_| Close::Unauthorized)?;
        // What a token had added may be over, which changes nothing of how long the session may stay.
        let lost = match access.has_policy_of(self.access()) {
            true => self.intake.set_access(access),
            false => self.set_access(access),
        };
        self.watch_idleness();
        if self.transport == Transport::Sse && !lost.is_empty() && self.intake.is_empty() {
            return Err(Close::Forbidden);
        }
        self.tell_lost(&lost);
        Ok(Changed { lost, errand: self.admitted() })
    }

    fn identify(&mut self, becoming: Becoming) -> Changed<Errand> {
        let Becoming { reference, caller, credential, is_commanded } = becoming;
        match self.rights_of(&caller) {
            Ok(access) => {
                self.credential = credential;
                let lost = self.set_access(access);
                if !is_commanded {
                    self.reply(&Reply::done(reference));
                }
                self.tell_lost(&lost);
                Changed { lost, errand: self.admitted() }
            }
            Err(problem) => {
                if !is_commanded {
                    self.refuse(reference, &problem);
                }
                Changed::default()
            }
        }
    }

    fn bearer(&self) -> Option<&Bearer> {
        self.caller().user().map(|user| &user.bearer)
    }

    fn subscribe(&mut self, barrier: BarrierId, wish: Wish) -> Option<Joined<Errand>> {
        let Wish { reference, subscribe, after: since, is_short, is_commanded } = wish;
        if let Err(problem) = self.check(&subscribe) {
            self.refuse_subscribe(reference, &problem);
            return None;
        }
        match is_commanded {
            true => self.reply(&Reply::Subscribed { patterns: &subscribe.patterns }),
            false => self.reply(&Reply::done(reference)),
        }
        if let (None, Some(since)) = (&self.resumed, since) {
            self.resumed = Some(Box::new(Resumed::at(since)));
        }
        let interval = subscribe.interval();
        let Subscribe { patterns, opening, filter, .. } = subscribe;
        // Who is in a topic is known only once all nodes have been asked.
        let is_read = since.is_some()
            || opening != Opening::Nothing
            || patterns.iter().any(Pattern::is_presence);
        let (reader, errand) = match is_read {
            true => {
                let (sender, progress) = unbounded_channel();
                let shared: Arc<[_]> = patterns.clone().into();
                let reading = Reading {
                    barrier,
                    reference,
                    first: First::of(opening, &shared),
                    patterns: shared,
                    since,
                    is_short,
                    is_conflated: interval.is_some(),
                    progress,
                };
                (Some(Reader::new(sender)), Some(Errand::Read(reading)))
            }
            false => (None, None),
        };
        let max_bytes = self.house.limits.catchup_bytes;
        let filters = Filters::of(&patterns, filter);
        let mut catchup = Catchup::new(reference, patterns.clone(), max_bytes).filtered(filters);
        let values = opening.of_each();
        catchup.is_short = is_short;
        catchup.ask_about(&patterns);
        catchup.ask_past(values.is_some());
        let reread = TopicSet::Nothing;
        self.intake.add(Active { barrier, catchup, values, interval, reader, reread });
        self.watch_idleness();
        Some(Joined { patterns, errand })
    }

    fn unsubscribe(&mut self, patterns: &[Pattern]) {
        self.intake.unsubscribe(patterns);
        self.watch_idleness();
    }

    fn may_receive(&self, topic: &Topic) -> bool {
        self.access().may_subscribe(topic)
    }

    #[inline]
    fn deliver(&mut self, delivery: &Arc<Delivery>) -> Delivered {
        self.intake.deliver(delivery)
    }

    #[inline]
    fn flush(&mut self) -> Result<Option<Instant>, Close> {
        self.intake.flush()
    }

    fn barrier_reached(&mut self, barrier: BarrierId, position: Cursor) {
        self.intake.barrier_reached(barrier, position);
    }

    fn called(&mut self, barrier: BarrierId, roll: Option<Roll>) {
        self.intake.called(barrier, roll);
    }

    fn heartbeat(&self) -> u32 {
        self.rhythm.seconds
    }

    fn beat(&mut self, position: Cursor) -> Result<(), Close> {
        if self.transport == Transport::WebSocket {
            self.missed_heartbeats = match self.outgoing().was_heard() {
                true => 0,
                false => self.missed_heartbeats + 1,
            };
            if self.missed_heartbeats >= self.rhythm.missed {
                return Err(Close::HeartbeatMissed);
            }
        }
        self.outlive_large();
        self.intake.voice_mut().heartbeat();
        self.intake.tell_cursor(position);
        Ok(())
    }

    fn broken(&mut self, loss: &Loss, barrier: BarrierId) -> Option<Errand> {
        self.intake.lose(loss, barrier).map(Errand::Read)
    }

    fn tell_trouble(&mut self, trouble: Trouble) {
        self.reply(&Reply::Trouble(trouble));
    }

    fn go_away(&mut self, within: Duration) {
        self.goes = true;
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.reply(&Reply::GoAway { within_ms });
    }

    fn deadline(&self) -> Option<Instant> {
        let granted = self.access().first_grant_ends().map(|ends| self.house.clock.when(ends));
        [self.term.ends(), granted].into_iter().flatten().min()
    }

    fn due(&mut self) -> Result<(), Close> {
        let now = self.house.clock.now();
        if self.term.ends().is_none_or(|end| end > now) {
            // What is over is a grant, which is found by a look at the rights.
            return Ok(());
        }
        match self.term.pass(now) {
            Up::Nothing => Ok(()),
            Up::Warn(left) => {
                let expires_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                self.reply(&Reply::Warn { expires_ms });
                Ok(())
            }
            Up::Over => Err(Close::Unauthorized),
        }
    }

    fn verdict(&self) -> Option<Close> {
        if self.intake.is_full() { Some(Close::SlowConsumer) } else { self.ends }
    }

    fn end(&mut self, close: Close) {
        self.let_go(Ended::Closed(close));
        self.intake.voice_mut().good_bye(close);
    }

    fn left(&mut self, info: &SessionInfo, ended: Ended) {
        self.let_go(ended);
        if let Some(resumed) = &self.resumed {
            let House { stumbles, metrics, clock, .. } = &*self.house;
            resumed.stumble(info, stumbles, metrics, clock.now());
        }
    }

    fn queued_bytes(&self) -> usize {
        self.outgoing().bytes()
    }

    fn strain(&self, now: Instant) -> Strain {
        let (bytes, lag) = self.outgoing().backlog(now);
        Strain { queued_bytes: bytes as u64, lag, skipped: self.intake.voice().skipped() }
    }

    fn has_room(&self) -> bool {
        self.outgoing().has_room(0)
    }

    fn command(&mut self, command: &str) -> Commanded<Errand> {
        self.obey(command)
    }

    fn overhear(&mut self, secret: &str, message: &str) -> Overheard {
        let said = self.ear.as_ref().map(|ear| ear.hear(secret, message));
        said.unwrap_or(Overheard::Nobody)
    }
}
