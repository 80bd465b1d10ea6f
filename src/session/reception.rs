//! What one session receives: the end of the road of an event.
//!
//! The fan-out calls it for each event, on the session's own thread, without the session actor in
//! between. As long as all subscriptions are live and granted whole it only hands the shared bytes
//! to the outbox; while one is caught up, or must be filtered, it looks at each event.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use actix::{Message, WeakAddr};
use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::actor::{LookAgain, Session};
use super::catchup::Catchup;
use super::conflation::{Conflation, Offered};
use super::live::Live;
use super::outgoing::Outgoing;
use super::replay::Kind;
use super::wire::Wire;
use crate::auth::{Access, Coverage};
use crate::broker::{Delivery, MarkId, Subscriber, Transport};
use crate::metrics::{CodeLabel, Metrics};
use crate::model::{Close, Cursor, Event, Pattern, Problem, Topic};
use crate::protocol::{Marks, Reply};

/// Heartbeats in a row without a word from a WebSocket client before it counts as gone.
const MISSED_HEARTBEATS: u32 = 2;

/// How far a reconnect may be delayed beyond what the table of closes says, as a factor, so that
/// not all clients come back at once.
const JITTER: std::ops::Range<f64> = 1.0..2.0;

/// The receiving end of one session.
pub struct Reception {
    transport: Transport,
    wire: Wire,
    outgoing: Arc<Outgoing>,
    metrics: Arc<Metrics>,
    /// Every event that comes is to be sent as it is.
    plain: AtomicBool,
    /// Something may wait to be sent by the clock, or when there is room.
    conflates: AtomicBool,
    max_conflated_bytes: usize,
    state: Mutex<State>,
    /// Who reads current values anew after a gap, and asks again for what it may.
    session: OnceLock<WeakAddr<Session>>,
}

struct State {
    access: Access,
    live: Live,
    /// In a box, as what is waited for seldom is.
    expected: Option<Box<Expected>>,
    catchups: Vec<Active>,
    /// In a box, for most sessions want every event.
    conflation: Option<Box<Conflation>>,
    /// All that is live is conflated alike, so that no event has to be asked for its pattern.
    uniform: Option<Duration>,
    missed_heartbeats: u32,
    told: Option<Cursor>,
}

/// A subscribe that is about to be registered.
struct Expected {
    catchup: Catchup,
    snapshot: bool,
    interval: Option<Duration>,
    progress: Option<UnboundedSender<Progress>>,
}

/// A subscribe that is registered and not live yet.
struct Active {
    mark: MarkId,
    catchup: Catchup,
    /// Whether current values are wanted where there is a gap.
    snapshot: bool,
    /// The shortest time between two events of a topic, where they are conflated.
    interval: Option<Duration>,
    /// Who reads its history; nobody where it wants none.
    progress: Option<UnboundedSender<Progress>>,
}

/// Asks the session to have current values read anew, for what was live and has a gap.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Renew {
    /// Which of its catch-ups this is.
    pub mark: MarkId,
    /// All that was live.
    pub patterns: Arc<[Pattern]>,
    /// Those whose current values are wanted.
    pub snapshots: Arc<[Pattern]>,
    /// What says how far to read.
    pub progress: UnboundedReceiver<Progress>,
}

/// What the reader of a subscribe's history is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Read up to `boundary`; what came up to `sent` has been sent already.
    Read { boundary: Cursor, sent: Option<Cursor> },
    /// It is live; nothing is left to read.
    Live,
}

impl Reception {
    /// The receiving end of a session that is subscribed to nothing.
    pub fn new(
        transport: Transport,
        wire: Wire,
        outgoing: Arc<Outgoing>,
        access: Access,
        max_conflated_bytes: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        let state = State {
            access,
            live: Live::default(),
            expected: None,
            catchups: Vec::new(),
            conflation: None,
            uniform: None,
            missed_heartbeats: 0,
            told: None,
        };
        let (plain, conflates) = (AtomicBool::new(true), AtomicBool::new(false));
        let (state, session) = (Mutex::new(state), OnceLock::new());
        Self {
            transport,
            wire,
            outgoing,
            metrics,
            plain,
            conflates,
            max_conflated_bytes,
            state,
            session,
        }
    }

    /// Says which session it is part of.
    pub fn belongs_to(&self, session: WeakAddr<Session>) {
        // It is said once.
        _ = self.session.set(session);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outbox that it fills.
    pub fn outgoing(&self) -> &Arc<Outgoing> {
        &self.outgoing
    }

    /// The session's rights.
    pub fn access(&self) -> Access {
        self.lock().access.clone()
    }

    /// Changes the session's rights; returns the patterns that are granted no longer.
    pub fn set_access(&self, access: Access) -> Vec<Pattern> {
        let mut state = self.lock();
        state.live.look_again(&access);
        state.access = access;
        self.refresh(&mut state);
        let ungranted = |pattern: &&Pattern| state.access.coverage(pattern) == Coverage::None;
        state.patterns().filter(ungranted).cloned().collect()
    }

    /// How many patterns there would be with `more`.
    pub fn count_with(&self, more: &[Pattern]) -> usize {
        let state = self.lock();
        let caught_up = state.catchups.iter().flat_map(|active| active.catchup.patterns());
        let others = caught_up.chain(more).filter(|pattern| !state.live.contains(pattern));
        state.live.len() + others.collect::<HashSet<_>>().len()
    }

    /// How many subscribes are being caught up.
    pub fn replays(&self) -> usize {
        self.lock().catchups.len()
    }

    /// Says what to expect: a subscribe that is registered next, whether it wants current values, and
    /// how far apart events of a topic are to be where they are conflated.
    pub fn expect(
        &self,
        catchup: Catchup,
        snapshot: bool,
        interval: Option<Duration>,
        progress: Option<UnboundedSender<Progress>>,
    ) {
        let expected = Expected { catchup, snapshot, interval, progress };
        self.lock().expected = Some(Box::new(expected));
    }

    /// Stops receiving `patterns`.
    pub fn unsubscribe(&self, patterns: &[Pattern]) {
        let mut state = self.lock();
        let state = &mut *state;
        patterns.iter().for_each(|pattern| state.live.remove(pattern, &state.access));
        state.catchups.retain_mut(|active| !active.catchup.unsubscribe(patterns));
        self.stop_conflating(state, patterns);
        self.refresh(state);
    }

    /// Says something that is not an event.
    pub fn reply(&self, reply: &Reply<'_>) {
        if let Reply::Gap { .. } = reply {
            self.metrics.gaps.inc();
        }
        if let Some(message) = self.wire.reply(reply) {
            self.push(message);
        }
    }

    /// Says that a request is refused.
    pub fn refuse(&self, reference: Option<u64>, problem: &Problem) {
        self.metrics.refusals.get_or_create(&CodeLabel { code: problem.code.as_str() }).inc();
        let (code, message) = (problem.code, &problem.detail);
        self.reply(&Reply::Error { reference, code, message });
    }

    /// Sends an event out of the history for the subscribe of `mark`, if it is still wanted; false
    /// once there is no such subscribe.
    pub fn replay(&self, mark: MarkId, event: &Event, kind: Kind) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        let may_see = state.access.may_subscribe(&event.topic);
        let Some(active) = state.catchups.iter_mut().find(|active| active.mark == mark) else {
            return false;
        };
        if may_see && active.catchup.wants(event) {
            let marks = active.catchup.marks(kind);
            if kind != Kind::Replayed {
                active.catchup.sent_snapshot(event);
                if let Some(conflation) = &mut state.conflation {
                    conflation.supersede(&event.topic, event.cursor);
                }
            }
            self.metrics.events_replayed.inc();
            self.push(self.wire.event(event, &marks));
        }
        true
    }

    /// Sends events that wait for the subscribe of `mark` while there is room; none once so few
    /// wait that the rest may go at once, else how many bytes the next one needs.
    pub fn drain_held(&self, mark: MarkId) -> Option<usize> {
        let few_bytes = self.outgoing.max_bytes() / 4;
        let mut state = self.lock();
        let state = &mut *state;
        let active = state.catchups.iter_mut().find(|active| active.mark == mark)?;
        if active.interval.is_some() {
            // It takes no room to have the newest of them wait elsewhere.
            return None;
        }
        while active.catchup.held_bytes() > few_bytes {
            let next = active.catchup.next_held_bytes();
            if !self.outgoing.has_room(next) {
                return Some(next);
            }
            let delivery = active.catchup.next_held()?;
            self.send_held(&state.access, &active.catchup, &delivery);
        }
        None
    }

    fn send_held(&self, access: &Access, catchup: &Catchup, delivery: &Delivery) {
        if access.may_subscribe(&delivery.event.topic) {
            self.push(self.wire.event(&delivery.event, &catchup.marks(Kind::Replayed)));
        }
    }

    /// Sends a live event of a conflated topic, or has it wait; true asks for a flush.
    fn conflate(&self, state: &mut State, delivery: &Arc<Delivery>, interval: Duration) -> bool {
        self.offer(state, delivery, interval, self.outgoing.is_behind())
    }

    fn offer(
        &self,
        state: &mut State,
        delivery: &Arc<Delivery>,
        interval: Duration,
        is_behind: bool,
    ) -> bool {
        let conflation = state.conflation.get_or_insert_with(|| {
            self.conflates.store(true, Ordering::Relaxed);
            Box::new(Conflation::new(self.max_conflated_bytes))
        });
        match conflation.offer(delivery, interval, Instant::now(), is_behind) {
            Offered::Now => self.push_quietly(self.wire.conflated(delivery)),
            Offered::Waits if is_behind => {
                self.outgoing.has_more();
                false
            }
            Offered::Waits => true,
            Offered::TooMuch => {
                self.end(Close::SlowConsumer);
                false
            }
        }
    }

    /// Sends what waits and is due, as long as the client keeps up; says when more is due.
    fn send_due(&self) -> Option<Instant> {
        let mut state = self.lock();
        let State { conflation, access, live, uniform, .. } = &mut *state;
        let conflation = conflation.as_mut()?;
        let now = Instant::now();
        while conflation.due().is_some_and(|due| due <= now) {
            if self.outgoing.is_behind() {
                self.outgoing.has_more();
                return None;
            }
            let wanted = |conflation: &Conflation, topic: &Topic| {
                uniform.or_else(|| live.interval(conflation, topic))
            };
            let Some((delivery, skipped)) = conflation.next(now, wanted) else { break };
            if let Some(message) = self.conflated(access, &delivery, skipped) {
                self.push_quietly(message);
            }
        }
        conflation.due()
    }

    /// A conflated event as it leaves, if it may be seen.
    fn conflated(&self, access: &Access, delivery: &Delivery, skipped: u64) -> Option<Bytes> {
        access.may_subscribe(&delivery.event.topic).then(|| match skipped {
            0 => self.wire.conflated(delivery),
            skipped => {
                let marks = Marks { conflated: true, skipped, ..Marks::default() };
                self.wire.event(&delivery.event, &marks)
            }
        })
    }

    /// Conflates what these match no longer. What waits of a topic of which every event is wanted now
    /// goes out before them; what nobody wants any more is dropped.
    fn stop_conflating(&self, state: &mut State, patterns: &[Pattern]) {
        let State { conflation, live, access, .. } = state;
        let Some(conflation) = conflation else { return };
        patterns.iter().for_each(|pattern| conflation.remove(pattern));
        for topic in conflation.topics() {
            if live.interval(conflation, &topic).is_none()
                && let Some((delivery, skipped)) = conflation.take(&topic)
                && live.matches(&topic)
                && let Some(message) = self.conflated(access, &delivery, skipped)
            {
                self.push(message);
            }
        }
    }

    fn push(&self, message: Bytes) {
        if self.outgoing.push(message).is_err() {
            self.end(Close::SlowConsumer);
        }
    }

    fn push_quietly(&self, message: Bytes) -> bool {
        self.outgoing.push_quietly(message).unwrap_or_else(|_full| {
            self.end(Close::SlowConsumer);
            false
        })
    }

    /// Whether events can go out without a look is noted once, here.
    fn refresh(&self, state: &mut State) {
        let is_settled =
            state.expected.is_none() && state.catchups.is_empty() && state.live.is_whole();
        let conflation = state.conflation.as_ref().filter(|conflation| !conflation.is_empty());
        self.plain.store(is_settled && conflation.is_none(), Ordering::Relaxed);
        let uniform = conflation.and_then(|conflation| conflation.uniform(state.live.len()));
        state.uniform = uniform.filter(|_| is_settled);
    }

    fn deliver_with_a_look(&self, delivery: &Arc<Delivery>) -> bool {
        let event = &delivery.event;
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(interval) = state.uniform {
            return self.conflate(state, delivery, interval);
        }
        if !state.access.may_subscribe(&event.topic) {
            return false;
        }
        let mut is_live = state.live.matches(&event.topic);
        for active in &mut state.catchups {
            match event.cursor {
                Some(_) => active.catchup.hold(delivery),
                // An ephemeral event has no place in a replay.
                None => {
                    is_live |= active.catchup.has_begun() && active.catchup.matches(&event.topic);
                }
            }
        }
        match state.interval(&event.topic) {
            Some(interval) if is_live => self.conflate(state, delivery, interval),
            _ => is_live && self.push_quietly(self.wire.live(delivery)),
        }
    }

    /// Has current values read anew after a gap, while what follows it waits; false where none are
    /// wanted.
    fn renew(&self, state: &mut State, position: Cursor, mark: MarkId) -> bool {
        let session = self.session.get().and_then(WeakAddr::upgrade);
        let Some(session) = session.filter(|_| state.live.snapshots().next().is_some()) else {
            return false;
        };
        let patterns = state.live.take();
        let (sender, progress) = unbounded_channel();
        _ = sender.send(Progress::Read { boundary: position, sent: None });
        let snapshots = state.live.snapshots().cloned().collect();
        session.do_send(Renew { mark, patterns: patterns.clone().into(), snapshots, progress });
        let catchup = Catchup::renewal(patterns, self.outgoing.max_bytes(), position);
        let (progress, interval) = (Some(sender), None);
        state.catchups.push(Active { mark, catchup, snapshot: true, interval, progress });
        self.refresh(state);
        true
    }

    fn go_live(&self, state: &mut State, at: usize, position: Cursor) {
        let active = state.catchups.swap_remove(at);
        let Active { mut catchup, snapshot, interval, progress, .. } = active;
        if state.catchups.is_empty() {
            // Most sessions never catch up again.
            state.catchups = Vec::new();
        }
        if !catchup.is_renewal {
            // A later subscribe to the same pattern replaces its options.
            self.stop_conflating(state, catchup.patterns());
        }
        for pattern in catchup.patterns() {
            match catchup.is_renewal {
                true => state.live.add_again(pattern, &state.access),
                false => state.live.add(pattern, snapshot, &state.access),
            }
            if let Some(interval) = interval {
                let max_bytes = self.max_conflated_bytes;
                let conflation =
                    state.conflation.get_or_insert_with(|| Conflation::new(max_bytes).into());
                conflation.add(pattern.clone(), interval);
                self.conflates.store(true, Ordering::Relaxed);
            }
        }
        while let Some(delivery) = catchup.next_held() {
            match state.interval(&delivery.event.topic) {
                Some(_) if !state.access.may_subscribe(&delivery.event.topic) => {}
                // It goes out behind all that is written before.
                Some(interval) => _ = self.offer(state, &delivery, interval, true),
                None => self.send_held(&state.access, &catchup, &delivery),
            }
        }
        let cursor = state.floor(position);
        self.reply(&Reply::Live { reference: catchup.reference, cursor });
        state.told = Some(cursor);
        if let Some(progress) = progress {
            _ = progress.send(Progress::Live);
        }
        self.refresh(state);
    }
}

impl State {
    /// The shortest time between two events of a topic; none where every one is wanted.
    fn interval(&self, topic: &Topic) -> Option<Duration> {
        self.live.interval(self.conflation.as_ref()?, topic)
    }

    /// The place up to which everything was sent or superseded, where it was delivered up to `place`.
    fn floor(&self, place: Cursor) -> Cursor {
        self.conflation.as_ref().map_or(place, |conflation| conflation.floor(place))
    }

    fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.live.iter().chain(self.catchups.iter().flat_map(|active| active.catchup.patterns()))
    }
}

impl Catchup {
    fn marks(&self, kind: Kind) -> Marks {
        let is_snapshot = kind == Kind::Snapshot;
        let is_replay = !is_snapshot && !self.is_renewal;
        Marks {
            replay: is_replay.then(|| self.reference.unwrap_or(0)),
            snapshot: is_snapshot,
            conflated: kind == Kind::Changed,
            skipped: 0,
        }
    }
}

impl Subscriber for Reception {
    fn deliver(&self, delivery: &Arc<Delivery>) -> bool {
        if self.plain.load(Ordering::Relaxed) {
            self.push_quietly(self.wire.live(delivery))
        } else {
            self.deliver_with_a_look(delivery)
        }
    }

    fn flush(&self) -> Option<Instant> {
        if !self.conflates.load(Ordering::Relaxed) {
            self.outgoing.flush();
            return None;
        }
        loop {
            let more_at = self.send_due();
            self.outgoing.flush();
            if !self.outgoing.wants_more() {
                return more_at;
            }
        }
    }

    fn joined(&self, mark: MarkId) {
        let mut state = self.lock();
        if let Some(expected) = state.expected.take() {
            let Expected { catchup, snapshot, interval, progress } = *expected;
            state.catchups.push(Active { mark, catchup, snapshot, interval, progress });
        }
        self.refresh(&mut state);
    }

    fn marked(&self, mark: MarkId, position: Cursor) {
        let mut state = self.lock();
        let Some(at) = state.catchups.iter().position(|active| active.mark == mark) else { return };
        let active = &mut state.catchups[at];
        match &active.progress {
            Some(progress) if !active.catchup.has_begun() || active.catchup.has_overflowed() => {
                let sent = active.catchup.sent();
                _ = progress.send(Progress::Read { boundary: position, sent });
                active.catchup.begin(position);
            }
            _ => self.go_live(&mut state, at, position),
        }
    }

    fn beat(&self, position: Cursor) {
        let mut state = self.lock();
        if self.transport == Transport::WebSocket {
            state.missed_heartbeats = match self.outgoing.was_heard() {
                true => 0,
                false => state.missed_heartbeats + 1,
            };
            if state.missed_heartbeats >= MISSED_HEARTBEATS {
                return self.end(Close::HeartbeatMissed);
            }
        }
        if let Some(heartbeat) = self.wire.heartbeat() {
            self.push(heartbeat);
        }
        let is_live = state.catchups.is_empty() && !state.live.is_empty();
        let cursor = state.floor(position);
        if is_live && state.told != Some(cursor) {
            state.told = Some(cursor);
            self.reply(&Reply::Cursor(cursor));
        }
    }

    fn wants_each(&self, topic: &Topic) -> bool {
        let state = self.lock();
        let is_caught_up = |active: &Active| {
            active.interval.is_none() && active.catchup.has_begun() && active.catchup.matches(topic)
        };
        let is_live = state.live.matches(topic) && state.interval(topic).is_none();
        is_live || state.catchups.iter().any(is_caught_up)
    }

    fn broken(&self, since: Cursor, position: Cursor, mark: MarkId) {
        let mut state = self.lock();
        // A subscribe that has not begun reads up to a place that comes after the loss.
        let is_told = |active: &Active| active.catchup.has_begun();
        if state.live.is_empty() && !state.catchups.iter().any(is_told) {
            return;
        }
        self.reply(&Reply::Gap { reference: None, since });
        if !state.live.is_empty() && !self.renew(&mut state, position, mark) {
            let cursor = state.floor(position);
            state.told = Some(cursor);
            self.reply(&Reply::Live { reference: None, cursor });
        }
    }

    fn end(&self, close: Close) {
        if self.outgoing.is_closing() {
            return;
        }
        self.metrics.closes.get_or_create(&CodeLabel { code: close.name() }).inc();
        let jitter = |after: u32| (f64::from(after) * rand::random_range(JITTER)) as u32;
        let good_bye = self.wire.good_bye(close, close.retry_after_ms().map(jitter));
        self.outgoing.close(good_bye, close == Close::SlowConsumer);
    }

    fn look_again(&self) {
        if let Some(session) = self.session.get().and_then(WeakAddr::upgrade) {
            session.do_send(LookAgain);
        }
    }

    fn has_room(&self) -> bool {
        self.outgoing.has_room(0)
    }

    fn queued_bytes(&self) -> usize {
        self.outgoing.bytes()
    }
}
