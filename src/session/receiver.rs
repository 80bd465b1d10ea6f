//! What one session receives, and by what right: the end of the road of an event.
//!
//! Its worker owns it and calls it for each event, on the session's own thread, without the session
//! actor in between. As long as all that is routed to it is live and granted whole, it only hands the shared
//! bytes to the outbox; while something is caught up, or must be filtered, it looks at each event. Which of
//! both is a fact that changes in the same step as what it follows from.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::catchup::Catchup;
use super::catchups::{Active, Again, Catchups, Marked, Progress, Reader, Running};
use super::door::require_coverage;
use super::house::House;
use super::live::Live;
use super::places::UserPlace;
use super::pump::Pump;
use super::replay::{Kind, Replay};
use super::voice::Voice;
use crate::auth::{Access, Caller, Coverage, User};
use crate::broker::{
    BrokerHandle, Changed, Delivered, Delivery, Joined, MarkId, SessionKey, Subscriber, Transport,
    WorkerHandle,
};
use crate::clock::Instant;
use crate::history::Loss;
use crate::model::{Bearer, Close, Code, Cursor, Event, Pattern, Problem, Topic};
use crate::protocol::{Marks, Reply, Subscribe};

/// The number of what a client subscribed to at connect.
pub const AT_CONNECT: u64 = 0;

/// Heartbeats in a row without a word from a WebSocket client before it counts as gone.
const MISSED_HEARTBEATS: u32 = 2;

/// How long before its token expires a client is told, if the token lives that long twice.
const WARNING: Duration = Duration::from_secs(60);

/// The most topics that a gap names.
const MAX_NAMED: usize = 100;

/// The receiving end of one session.
pub struct Receiver {
    /// Every event that comes is to be sent as it is. Changed by [`Receiver::change`] alone.
    plain: bool,
    voice: Voice,
    transport: Transport,
    house: Rc<House>,
    access: Access,
    live: Live,
    catchups: Catchups,
    pump: Pump,
    /// What it subscribed to at connect and has no right to yet.
    waiting: Option<Box<Subscribe>>,
    /// What waits for this node to come to where another is.
    lagging: Option<Running>,
    /// Its place among the sessions of its user.
    user_place: Option<UserPlace>,
    deadline: Option<(Instant, Due)>,
    /// What it is about to be ended for.
    ends: Option<Close>,
    missed_heartbeats: u32,
    told: Option<Cursor>,
}

/// What a session's time has come for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// To say who it is, or subscribe to what needs no credential.
    Identify,
    /// To renew its token, which expires then.
    Renew(Instant),
    /// To leave.
    Expire,
}

/// A subscribe, and the number that the client gave it.
pub struct Wish {
    /// The client's number.
    pub reference: Option<u64>,
    /// What it asks for.
    pub subscribe: Subscribe,
}

/// Who a session is to become, and the number of the request that says so.
pub struct Becoming {
    /// The client's number.
    pub reference: Option<u64>,
    /// Who it is by its credential.
    pub caller: Caller,
}

/// What is to be done once a call has returned.
pub enum Errand {
    /// Read a history.
    Read(Reading),
    /// Subscribe to what was asked for at connect.
    Subscribe(Box<Subscribe>),
}

/// What is to be read for a subscribe.
pub struct Reading {
    /// Which of its subscribes.
    pub mark: MarkId,
    /// The number the client gave it.
    pub reference: Option<u64>,
    /// What is subscribed to.
    pub patterns: Arc<[Pattern]>,
    /// Of that, what current values are wanted of.
    pub snapshots: Arc<[Pattern]>,
    /// The place up to which the client has everything.
    pub since: Option<Cursor>,
    /// Whether current values are wanted where there is no usable `since`.
    pub snapshot: bool,
    /// Whether the newest event of each topic is enough.
    pub is_conflated: bool,
    /// What the session says of how far to read.
    pub progress: UnboundedReceiver<Progress>,
}

impl Receiver {
    /// The receiving end of a session that is subscribed to nothing.
    pub fn new(
        house: Rc<House>,
        transport: Transport,
        voice: Voice,
        access: Access,
        user_place: Option<UserPlace>,
    ) -> Self {
        let pump = Pump::new(house.limits.conflated_bytes);
        let mut receiver = Self {
            plain: false,
            voice,
            transport,
            house,
            access,
            live: Live::default(),
            catchups: Catchups::default(),
            pump,
            waiting: None,
            lagging: None,
            user_place,
            deadline: None,
            ends: None,
            missed_heartbeats: 0,
            told: None,
        };
        receiver.watch_expiry();
        receiver.watch_idleness();
        receiver
    }

    /// Changes what decides about rights, and with it whether events may go out without a look. Until it
    /// is done, none may.
    fn change<R>(&mut self, change: impl FnOnce(&mut Self) -> R) -> R {
        self.plain = false;
        let changed = change(self);
        let is_settled = self.catchups.is_empty() && self.live.is_whole();
        self.pump.settle(self.live.len(), is_settled);
        self.plain = is_settled && !self.live.is_empty() && self.pump.is_idle();
        self.watch_idleness();
        changed
    }

    /// Says the first word, behind what the transport sends before it.
    pub fn welcome(&self, before: &[u8], welcome: &Reply<'_>) {
        self.voice.welcome(before, welcome);
    }

    /// Notes what the client asked for at connect, to be subscribed to as soon as it may be.
    pub fn wait_for(&mut self, subscribe: Option<Subscribe>) {
        self.waiting = subscribe.map(Box::new);
    }

    /// Says something that is not an event.
    pub fn reply(&mut self, reply: &Reply<'_>) {
        self.voice.reply(reply);
    }

    /// Says that a request is refused.
    pub fn refuse(&mut self, reference: Option<u64>, problem: &Problem) {
        self.voice.refuse(reference, problem);
    }

    /// Says that a subscribe is refused. An event stream has nothing else to live for.
    pub fn refuse_subscribe(&mut self, reference: Option<u64>, problem: &Problem) {
        self.voice.refuse(reference, problem);
        if self.transport == Transport::Sse {
            self.ends = Some(match problem.code {
                Code::TooMany => Close::TooMany,
                Code::Unauthorized => Close::Unauthorized,
                _ => Close::Forbidden,
            });
        }
    }

    /// The node's broker.
    pub fn broker(&self) -> &BrokerHandle {
        &self.house.broker
    }

    /// The session's rights at this moment.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Whether a subscribe may be done as a whole.
    pub fn check(&self, subscribe: &Subscribe) -> Result<(), Problem> {
        require_coverage(&self.access, subscribe)?;
        let limits = &self.house.limits;
        if self.count_with(&subscribe.patterns) > limits.subscriptions {
            let detail =
                format!("more than {} subscriptions (limits.subscriptions)", limits.subscriptions);
            return Err(Problem::new(Code::TooMany, detail));
        }
        let reads_history = subscribe.since.is_some() || subscribe.snapshot;
        if reads_history && self.catchups.len() >= limits.replays {
            let detail = format!("more than {} replays at a time (limits.replays)", limits.replays);
            return Err(Problem::new(Code::TooMany, detail));
        }
        Ok(())
    }

    /// How many patterns there would be with `more`.
    fn count_with(&self, more: &[Pattern]) -> usize {
        let caught_up = self.catchups.patterns();
        let others = caught_up.chain(more).filter(|pattern| !self.live.contains(pattern));
        self.live.len() + others.collect::<std::collections::HashSet<_>>().len()
    }

    /// Says that events after a place are gone, for the subscribe of `mark`; false once there is none.
    pub fn replay_gap(&mut self, mark: MarkId, reference: Option<u64>, since: Cursor) -> bool {
        let is_there = self.catchups.get(mark).is_some();
        if is_there {
            self.voice.reply(&Reply::Gap { reference, since, topics: &[] });
        }
        is_there
    }

    /// Sends an event out of the history for the subscribe of `mark`, if it is still wanted; false
    /// once there is no such subscribe.
    pub fn replay(&mut self, mark: MarkId, event: &Event, kind: Kind) -> bool {
        let Some(active) = self.catchups.get(mark) else { return false };
        if self.access.may_subscribe(&event.topic) && active.catchup.wants(event) {
            if kind != Kind::Replayed {
                active.catchup.sent_snapshot(event);
                self.pump.supersede(&event.topic, event.cursor);
            }
            self.voice.replay(event, &marks(&active.catchup, kind));
        }
        true
    }

    /// Sends events that wait for the subscribe of `mark` while there is room; none once so few
    /// wait that the rest may go at once, else how many bytes the next one needs.
    pub fn drain_held(&mut self, mark: MarkId) -> Option<usize> {
        let few_bytes = self.voice.outgoing().max_bytes() / 4;
        let active = self.catchups.get(mark)?;
        if active.interval.is_some() {
            // It takes no room to have the newest of them wait elsewhere.
            return None;
        }
        while active.catchup.held_bytes() > few_bytes {
            let next = active.catchup.next_held_bytes();
            if !self.voice.outgoing().has_room(next) {
                return Some(next);
            }
            let delivery = active.catchup.next_held()?;
            send_held(&mut self.voice, &self.access, &active.catchup, &delivery);
        }
        None
    }

    fn deliver_with_a_look(&mut self, delivery: &Arc<Delivery>) -> Delivered {
        let topic = &delivery.event.topic;
        if let Some(interval) = self.pump.uniform() {
            let is_behind = self.voice.outgoing().is_behind();
            return self.pump.offer(&mut self.voice, delivery, interval, is_behind);
        }
        if !self.access.may_subscribe(topic) {
            return Delivered::Quietly;
        }
        let is_live = self.catchups.hold(delivery) | self.live.matches(topic);
        if !is_live {
            return Delivered::Quietly;
        }
        match self.pump.interval(&self.live, topic) {
            Some(interval) => {
                let is_behind = self.voice.outgoing().is_behind();
                self.pump.offer(&mut self.voice, delivery, interval, is_behind)
            }
            None => self.voice.live(delivery),
        }
    }

    fn go_live(&mut self, active: Active, position: Cursor) {
        let Active { mut catchup, snapshot, interval, reader, .. } = active;
        let Self { live, access, voice, pump, .. } = self;
        if !catchup.is_renewal {
            // A later subscribe to the same pattern replaces its options.
            pump.remove(catchup.patterns(), voice, access, live);
        }
        for pattern in catchup.patterns() {
            match catchup.is_renewal {
                true => live.add_again(pattern, access),
                false => live.add(pattern, snapshot, access),
            }
            if let Some(interval) = interval {
                pump.add(pattern.clone(), interval);
            }
        }
        while let Some(delivery) = catchup.next_held() {
            match pump.interval(live, &delivery.event.topic) {
                Some(_) if !access.may_subscribe(&delivery.event.topic) => {}
                // It goes out behind all that is written before.
                Some(interval) => _ = pump.offer(voice, &delivery, interval, true),
                None => send_held(voice, access, &catchup, &delivery),
            }
        }
        self.say_live(catchup.reference, position);
        if let Some(reader) = reader {
            reader.tell(Progress::Live);
        }
    }

    fn say_live(&mut self, reference: Option<u64>, position: Cursor) {
        let cursor = self.pump.floor(position);
        self.voice.reply(&Reply::Live { reference, cursor });
        self.told = Some(cursor);
    }

    /// The topics of a loss that concern this session, or none where it may be of any.
    fn lost_topics(&self, loss: &Loss) -> Option<Vec<Topic>> {
        let is_missed = |topic: &Topic, is_superseded: bool| {
            let wants_each = |interval: Option<Duration>| !is_superseded || interval.is_none();
            let mut begun = self.catchups.begun();
            self.access.may_subscribe(topic)
                && (self.live.matches(topic) && wants_each(self.pump.interval(&self.live, topic))
                    || begun
                        .any(|active| active.catchup.matches(topic) && wants_each(active.interval)))
        };
        let missed = |topics: &Arc<[crate::history::LostTopic]>| {
            let missed = topics.iter().filter(|lost| is_missed(&lost.topic, lost.is_superseded));
            missed.map(|lost| lost.topic.clone()).collect()
        };
        loss.topics.as_ref().map(missed)
    }

    fn hear_of(&mut self, loss: &Loss, mark: MarkId) -> Option<Errand> {
        // A subscribe that has not begun reads up to a place that comes after the loss.
        let is_told = !self.live.is_empty() || self.catchups.begun().next().is_some();
        let lost = self.lost_topics(loss);
        if !is_told || lost.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let lost = lost.as_deref();
        let topics = lost.filter(|lost| lost.len() <= MAX_NAMED).unwrap_or_default();
        self.voice.reply(&Reply::Gap { reference: None, since: loss.since, topics });
        self.catchups.lose(lost);
        if self.live.is_empty() {
            return None;
        }
        let snapshots: Vec<_> = match lost {
            None => self.live.snapshots().cloned().collect(),
            Some(lost) => {
                let wanted = lost.iter().filter(|topic| self.live.wants_value(topic));
                wanted.map(Pattern::from).collect()
            }
        };
        if snapshots.is_empty() {
            self.say_live(None, loss.place);
            return None;
        }
        Some(Errand::Read(self.renew(snapshots.into(), loss.place, mark)))
    }

    /// Has current values read anew, while what follows them waits.
    fn renew(&mut self, snapshots: Arc<[Pattern]>, position: Cursor, mark: MarkId) -> Reading {
        let patterns = self.live.take();
        let (sender, progress) = unbounded_channel();
        let reader = Reader::new(sender);
        let (boundary, sent, anew) = (position, None, Again::Nothing);
        reader.tell(Progress::Read { boundary, sent, anew, only_anew: false });
        let max_bytes = self.voice.outgoing().max_bytes();
        self.catchups.add(Active {
            mark,
            catchup: Catchup::renewal(patterns.clone(), max_bytes, position),
            snapshot: true,
            interval: None,
            reader: Some(reader),
            again: Again::Nothing,
        });
        Reading {
            mark,
            reference: None,
            patterns: patterns.into(),
            snapshots,
            since: None,
            snapshot: true,
            is_conflated: false,
            progress,
        }
    }

    /// Takes other rights; what they do not cover any more is lost at once.
    fn set_access(&mut self, access: Access) -> Vec<Pattern> {
        self.live.look_again(&access);
        self.access = access;
        let patterns = self.live.iter().chain(self.catchups.patterns());
        let lost = patterns.filter(|pattern| self.access.coverage(pattern) == Coverage::None);
        let lost: Vec<_> = lost.cloned().collect();
        self.drop_patterns(&lost);
        self.watch_expiry();
        lost
    }

    fn drop_patterns(&mut self, patterns: &[Pattern]) {
        let Self { live, access, voice, pump, .. } = self;
        patterns.iter().for_each(|pattern| live.remove(pattern, access));
        self.catchups.unsubscribe(patterns);
        pump.remove(patterns, voice, access, live);
    }

    fn tell_lost(&mut self, lost: &[Pattern]) {
        for pattern in lost {
            let detail = format!("no right to subscribe to {pattern} any more");
            self.voice.refuse(None, &Problem::new(Code::Forbidden, detail));
        }
    }

    /// What was asked for at connect, unless that is still to wait until the client says who it is.
    fn admitted(&mut self) -> Option<Errand> {
        let may_identify = self.transport == Transport::WebSocket
            && matches!(self.access.caller(), Caller::Anonymous);
        let access = &self.access;
        let waits =
            |subscribe: &Subscribe| may_identify && require_coverage(access, subscribe).is_err();
        self.waiting.take_if(|subscribe| !waits(subscribe)).map(Errand::Subscribe)
    }

    /// A session may become someone, and renew, but not become someone else.
    fn may_become(&self, caller: &Caller) -> Result<(), Problem> {
        let name = |caller: &Caller| caller.user().map(|user| user.bearer.user.clone());
        match name(self.access.caller()) {
            Some(user) if name(caller).as_ref() != Some(&user) => {
                Err(Problem::new(Code::Forbidden, "the session belongs to another user"))
            }
            _ => Ok(()),
        }
    }

    fn become_caller(&mut self, caller: &Caller) -> Result<Access, Problem> {
        self.may_become(caller)?;
        if self.user_place.is_none()
            && let Some(user) = caller.user()
        {
            let House { places, limits, .. } = &*self.house;
            self.user_place = places.take_user(&user.bearer.user, limits)?;
        }
        let auth = &self.house.auth;
        let gone = "the key that the token was checked with is known no longer";
        let caller = auth.again(caller).ok_or_else(|| Problem::new(Code::Unauthorized, gone))?;
        Ok(auth.access(caller))
    }

    fn watch_expiry(&mut self) {
        let expires = self.access.caller().user().map(|user| user.expires);
        self.deadline = expires.map(|expires| {
            let (now, expires) = (self.house.clock.now(), self.house.clock.when(expires));
            let warning = WARNING.min((expires - now) / 2);
            (expires - warning, Due::Renew(expires))
        });
    }

    /// A WebSocket client that may say who it is, and wants nothing before that, is waited for some time.
    fn watch_idleness(&mut self) {
        let is_asked = self.transport == Transport::WebSocket
            && matches!(self.access.caller(), Caller::Anonymous)
            && self.live.is_empty()
            && self.catchups.is_empty();
        match self.deadline {
            None if is_asked => {
                let deadline = self.house.clock.now() + self.house.limits.auth_timeout;
                self.deadline = Some((deadline, Due::Identify));
            }
            Some((_, Due::Identify)) if !is_asked => self.deadline = None,
            _ => {}
        }
    }
}

/// Subscribes a session, as soon as this node is where its client is already; what is left to wait for, if
/// there is something. All that was looked at before is looked at again then.
pub fn subscribe_when_there(
    worker: &WorkerHandle<Receiver>,
    session: SessionKey,
    wish: Wish,
) -> Option<impl Future<Output = ()> + use<>> {
    let broker = worker.with(session, |receiver| receiver.broker().clone())?;
    let Some(since) = wish.subscribe.since.filter(|since| !broker.has_reached(*since)) else {
        worker.subscribe(session, wish);
        return None;
    };
    let checked = worker.with(session, |receiver| {
        let checked = receiver.check(&wish.subscribe);
        checked.inspect_err(|problem| receiver.refuse_subscribe(wish.reference, problem)).is_ok()
    });
    let worker = worker.clone();
    checked?.then_some(async move {
        match broker.reach(since).await {
            Ok(()) => worker.subscribe(session, wish),
            Err(problem) => {
                worker.with(session, |receiver| receiver.refuse(wish.reference, &problem));
                worker.end(session, Close::Restart);
            }
        }
    })
}

fn send_held(voice: &mut Voice, access: &Access, catchup: &Catchup, delivery: &Delivery) {
    if access.may_subscribe(&delivery.event.topic) {
        voice.event(&delivery.event, &marks(catchup, Kind::Replayed));
    }
}

fn marks(catchup: &Catchup, kind: Kind) -> Marks {
    let is_snapshot = kind == Kind::Snapshot;
    let is_replay = !is_snapshot && !catchup.is_renewal;
    Marks {
        replay: is_replay.then(|| catchup.reference.unwrap_or(0)),
        snapshot: is_snapshot,
        conflated: kind == Kind::Changed,
        skipped: 0,
    }
}

impl Subscriber for Receiver {
    type Subscribe = Wish;
    type Caller = Becoming;
    type Errand = Errand;

    fn look_again(&mut self) -> Result<Changed<Errand>, Close> {
        let House { auth, clock, .. } = &*self.house;
        let is_over =
            |user: &User| user.expires <= clock.time() || auth.revocations().cover(&user.bearer);
        if self.access.caller().user().is_some_and(is_over) {
            return Err(Close::Unauthorized);
        }
        let mut lost = Vec::new();
        if !auth.is_current(&self.access) {
            let caller = auth.again(self.access.caller()).ok_or(Close::Unauthorized)?;
            let access = auth.access(caller);
            lost = self.change(|receiver| receiver.set_access(access));
            let is_stream = self.transport == Transport::Sse;
            if is_stream && !lost.is_empty() && self.live.is_empty() && self.catchups.is_empty() {
                return Err(Close::Forbidden);
            }
            self.tell_lost(&lost);
        }
        Ok(Changed { lost, errand: self.admitted() })
    }

    fn identify(&mut self, Becoming { reference, caller }: Becoming) -> Changed<Errand> {
        match self.become_caller(&caller) {
            Ok(access) => {
                let lost = self.change(|receiver| receiver.set_access(access));
                self.voice.reply(&Reply::Ack { reference, id: None });
                self.tell_lost(&lost);
                Changed { lost, errand: None }
            }
            Err(problem) => {
                self.voice.refuse(reference, &problem);
                Changed::default()
            }
        }
    }

    fn bearer(&self) -> Option<&Bearer> {
        self.access.caller().user().map(|user| &user.bearer)
    }

    fn subscribe(&mut self, mark: MarkId, wish: Wish) -> Option<Joined<Errand>> {
        let Wish { reference, subscribe } = wish;
        if let Err(problem) = self.check(&subscribe) {
            self.refuse_subscribe(reference, &problem);
            return None;
        }
        self.voice.reply(&Reply::Ack { reference, id: None });
        let interval = subscribe.interval();
        let Subscribe { patterns, since, snapshot, .. } = subscribe;
        let (reader, errand) = match since.is_some() || snapshot {
            true => {
                let (sender, progress) = unbounded_channel();
                let shared: Arc<[_]> = patterns.clone().into();
                let reading = Reading {
                    mark,
                    reference,
                    snapshots: shared.clone(),
                    patterns: shared,
                    since,
                    snapshot,
                    is_conflated: interval.is_some(),
                    progress,
                };
                (Some(Reader::new(sender)), Some(Errand::Read(reading)))
            }
            false => (None, None),
        };
        let max_bytes = self.house.limits.catchup_bytes;
        let catchup = Catchup::new(reference, patterns.clone(), max_bytes);
        let again = Again::Nothing;
        let active = Active { mark, catchup, snapshot, interval, reader, again };
        self.change(|receiver| receiver.catchups.add(active));
        Some(Joined { patterns, errand })
    }

    fn unsubscribe(&mut self, patterns: &[Pattern]) {
        self.change(|receiver| receiver.drop_patterns(patterns));
    }

    fn may_receive(&self, topic: &Topic) -> bool {
        self.access.may_subscribe(topic)
    }

    fn deliver(&mut self, delivery: &Arc<Delivery>) -> Delivered {
        if self.plain { self.voice.live(delivery) } else { self.deliver_with_a_look(delivery) }
    }

    fn flush(&mut self) -> Option<Instant> {
        loop {
            let more_at = self.pump.send_due(&mut self.voice, &self.access, &self.live);
            self.voice.outgoing().flush();
            if self.pump.is_idle() || !self.voice.outgoing().wants_more() {
                return more_at;
            }
        }
    }

    fn marked(&mut self, mark: MarkId, position: Cursor) {
        self.change(|receiver| {
            if let Some(Marked::Live(active)) = receiver.catchups.marked(mark, position) {
                receiver.go_live(*active, position);
            }
        });
    }

    fn beat(&mut self, position: Cursor) -> Result<(), Close> {
        if self.transport == Transport::WebSocket {
            self.missed_heartbeats = match self.voice.outgoing().was_heard() {
                true => 0,
                false => self.missed_heartbeats + 1,
            };
            if self.missed_heartbeats >= MISSED_HEARTBEATS {
                return Err(Close::HeartbeatMissed);
            }
        }
        self.voice.heartbeat();
        let is_live = self.catchups.is_empty() && !self.live.is_empty();
        let cursor = self.pump.floor(position);
        if is_live && self.told != Some(cursor) {
            self.told = Some(cursor);
            self.voice.reply(&Reply::Cursor(cursor));
        }
        Ok(())
    }

    fn broken(&mut self, loss: &Loss, mark: MarkId) -> Option<Errand> {
        self.change(|receiver| receiver.hear_of(loss, mark))
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline.map(|(at, _)| at)
    }

    fn due(&mut self) -> Result<(), Close> {
        match self.deadline.take() {
            Some((_, Due::Renew(expires))) => {
                let left = expires.saturating_duration_since(self.house.clock.now());
                let expires_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                self.voice.reply(&Reply::Warn { expires_ms });
                self.deadline = Some((expires, Due::Expire));
                Ok(())
            }
            Some((_, Due::Expire | Due::Identify)) => Err(Close::Unauthorized),
            None => Ok(()),
        }
    }

    fn verdict(&self) -> Option<Close> {
        let is_slow = self.voice.is_full() || self.pump.is_full();
        if is_slow { Some(Close::SlowConsumer) } else { self.ends }
    }

    fn end(&mut self, close: Close) {
        self.voice.good_bye(close);
    }

    fn queued_bytes(&self) -> usize {
        self.voice.outgoing().bytes()
    }

    fn has_room(&self) -> bool {
        self.voice.outgoing().has_room(0)
    }

    fn run(worker: &WorkerHandle<Self>, session: SessionKey, errand: Errand) {
        match errand {
            Errand::Read(reading) => {
                let mark = reading.mark;
                let parts = worker.with(session, |receiver| {
                    (receiver.house.broker.clone(), receiver.voice.outgoing().clone())
                });
                let Some((broker, outgoing)) = parts else { return };
                let worker_too = worker.clone();
                let replay = Replay { outgoing, broker, worker: worker_too, session, reading };
                let task = Running(actix::spawn(replay.run()).abort_handle());
                worker.with(session, |receiver| receiver.catchups.run_by(mark, task));
            }
            Errand::Subscribe(subscribe) => {
                let wish = Wish { reference: Some(AT_CONNECT), subscribe: *subscribe };
                if let Some(subscribing) = subscribe_when_there(worker, session, wish) {
                    let task = Running(actix::spawn(subscribing).abort_handle());
                    worker.with(session, |receiver| receiver.lagging = Some(task));
                }
            }
        }
    }
}
