//! The sessions of one worker thread: who is there, what they are subscribed to, what reaches them.
//!
//! One plain struct owns them all, and whoever is on its thread changes them by a call that has happened when
//! it returns. So there is no moment in which one place knows of a right, a subscription or an end and
//! another does not. What a call finds out about others (that they must end, that something is to be
//! read) is done after it, in order.

mod answers;
mod clockwork;
mod exam;
mod losses;
mod slots;

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::debug;

use self::slots::{Entry, Slots};
use super::alarms::Alarms;
use super::census::Census;
use super::delivery::Delivery;
use super::flush::Flush;
use super::goaways::Goaways;
use super::inbox::Item;
use super::outlook::Outlook;
use super::router::{Router, WorkerId};
use super::subscriber::{Changed, Delivered, Joined, Subscriber};
use super::topics::{Subscribed, Topics};
use super::{BarrierId, Observer, SessionInfo, SessionKey, Timing, Transport};
use crate::clock::{Clock, Instant};
use crate::metrics::{Metrics, TransportLabel};
use crate::model::{Close, Ended, Pattern, Trouble};
use crate::traces::Writes;

/// How many sessions write in one turn.
const TURN: usize = 64;

/// The sessions of one worker thread.
pub(super) struct Worker<S: Subscriber> {
    id: WorkerId,
    router: Arc<Router>,
    observer: Arc<dyn Observer>,
    metrics: Arc<Metrics>,
    clock: Clock,
    /// Whether the broker goes.
    outlook: Arc<Outlook>,
    /// What sessions were told of the log, while it is away.
    trouble: Option<Trouble>,
    topics: Topics<SessionKey>,
    sessions: Slots<S>,
    pub(super) flush: Flush,
    /// When sessions have more to send.
    alarms: Alarms,
    /// When sessions are to be asked whether they may stay.
    deadlines: Alarms,
    /// When they are to be told to go elsewhere.
    goaways: Goaways,
    errands: VecDeque<(SessionKey, S::Errand)>,
    next_barrier: u64,
    ticks: u64,
    /// How much of what nodes say of themselves was delivered.
    heard: u64,
    /// When the events were committed that are on their way to sockets.
    unwritten: Vec<Instant>,
    /// Those of them that are traced.
    writes: Writes,
}

impl<S: Subscriber> Worker<S> {
    pub(super) fn new(
        id: WorkerId,
        router: Arc<Router>,
        observer: Arc<dyn Observer>,
        metrics: Arc<Metrics>,
        outlook: Arc<Outlook>,
        Timing { flush_interval, clock }: Timing,
    ) -> Self {
        Self {
            id,
            router,
            observer,
            metrics,
            clock,
            outlook: outlook.clone(),
            trouble: None,
            topics: Topics::default(),
            sessions: Slots::default(),
            flush: Flush::new(flush_interval),
            alarms: Alarms::default(),
            deadlines: Alarms::default(),
            goaways: Goaways::new(outlook),
            errands: VecDeque::new(),
            next_barrier: 0,
            ticks: 0,
            heard: 0,
            unwritten: Vec::new(),
            writes: Writes::default(),
        }
    }

    /// Its number among the workers of the node.
    pub(super) fn id(&self) -> WorkerId {
        self.id
    }

    /// How much of what nodes say of themselves was delivered.
    pub(super) fn heard(&self) -> u64 {
        self.heard
    }

    /// This moment.
    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Lets a session in, unless it may not be here or nobody comes in any more.
    pub(super) fn enter(
        &mut self,
        info: SessionInfo,
        mut subscriber: Box<S>,
    ) -> Result<SessionKey, Close> {
        if self.outlook.is_draining() {
            return Err(Close::Restart);
        }
        subscriber.recheck_rights()?;
        self.metrics.entry.connected(info.transport == Transport::WebSocket);
        let label = TransportLabel { transport: info.transport.name() };
        self.metrics.sessions.get_or_create(&label).inc();
        debug!(session = %info.id, "session entered");
        self.observer.session(&info, true);
        let key = self.sessions.enter(info, subscriber, self.ticks);
        self.watch(key);
        let now = self.now();
        self.goaways.enter(key, now);
        Ok(key)
    }

    /// Lets `ask` have a session as it stands, if it is there; it may find that it can't go on.
    pub(super) fn with<R>(&mut self, key: SessionKey, ask: impl FnOnce(&mut S) -> R) -> Option<R> {
        let asked = ask(&mut self.sessions.get_mut(key)?.subscriber);
        self.settle(key);
        Some(asked)
    }

    /// Looks at a session's rights anew; false where it is gone, or ends with that.
    pub(super) fn recheck_rights(&mut self, key: SessionKey) -> bool {
        let Some(entry) = self.sessions.get_mut(key) else { return false };
        match entry.subscriber.recheck_rights() {
            Ok(changed) => self.apply(key, changed),
            Err(close) => self.end(key, close),
        }
        self.sessions.get_mut(key).is_some()
    }

    /// Looks at the rights of every session anew.
    pub(super) fn recheck_all_rights(&mut self) {
        for key in self.sessions.keys() {
            if self.recheck_rights(key) {
                // Others may see now that it is in a topic, or no longer.
                self.refresh_listing(key);
            }
        }
    }

    /// Has a session become somebody.
    pub(super) fn identify(&mut self, key: SessionKey, caller: S::Caller) {
        let Some(entry) = self.sessions.get_mut(key) else { return };
        let changed = entry.subscriber.identify(caller);
        entry.info.bearer = entry.subscriber.bearer().cloned().map(Box::new);
        self.apply(key, changed);
        self.refresh_listing(key);
        // What was true when the credential was looked at may not be true now.
        self.recheck_rights(key);
    }

    /// Has others see who a session is now, where they see that it is in a topic.
    fn refresh_listing(&self, key: SessionKey) {
        if let Some(entry) = self.sessions.get(key) {
            self.topics.patterns(key).for_each(|one| self.observer.member(one, &entry.info, true));
        }
    }

    fn apply(&mut self, key: SessionKey, Changed { lost, errand }: Changed<S::Errand>) {
        self.unroute(key, &lost);
        self.errands.extend(errand.map(|errand| (key, errand)));
        self.settle(key);
    }

    /// Subscribes a session, unless it is refused, which it is told then.
    pub(super) fn subscribe(&mut self, key: SessionKey, subscribe: S::Subscribe) {
        if !self.recheck_rights(key) {
            return;
        }
        let barrier = self.new_barrier();
        let Some(entry) = self.sessions.get_mut(key) else { return };
        if let Some(Joined { patterns, errand }) = entry.subscriber.subscribe(barrier, subscribe) {
            self.route(key, patterns, barrier);
            self.errands.extend(errand.map(|errand| (key, errand)));
        }
        self.settle(key);
    }

    fn route(&mut self, key: SessionKey, patterns: Vec<Pattern>, barrier: BarrierId) {
        let Some(entry) = self.sessions.get(key) else { return };
        let mut wanted = Vec::new();
        for pattern in patterns {
            let subscribed = self.topics.subscribe(key, pattern.clone());
            if subscribed == Subscribed::Already {
                continue;
            }
            self.metrics.subscriptions.inc();
            self.observer.member(&pattern, &entry.info, true);
            if subscribed == Subscribed::First {
                wanted.push(pattern);
            }
        }
        self.router.want(self.id, &wanted, key, barrier);
    }

    /// Asks for `barrier` once more, behind everything that waits now.
    pub(super) fn set_barrier(&mut self, key: SessionKey, barrier: BarrierId) {
        if self.sessions.get_mut(key).is_some() {
            self.router.want(self.id, &[], key, barrier);
        }
    }

    /// Asks who is in the topics of these patterns, at the end of everything that waits now.
    pub(super) fn call_roll(
        &mut self,
        key: SessionKey,
        barrier: BarrierId,
        patterns: Arc<[Pattern]>,
    ) {
        if self.sessions.get_mut(key).is_some() {
            self.router.call_roll(self.id, key, barrier, patterns);
        }
    }

    /// Unsubscribes a session.
    pub(super) fn unsubscribe(&mut self, key: SessionKey, patterns: &[Pattern]) {
        let Some(entry) = self.sessions.get_mut(key) else { return };
        entry.subscriber.unsubscribe(patterns);
        self.unroute(key, patterns);
        self.settle(key);
    }

    fn unroute(&mut self, key: SessionKey, patterns: &[Pattern]) {
        let Some(entry) = self.sessions.get(key) else { return };
        let mut unwanted = Vec::new();
        for pattern in patterns {
            if !self.topics.has(key, pattern) {
                continue;
            }
            self.metrics.subscriptions.dec();
            self.observer.member(pattern, &entry.info, false);
            if self.topics.unsubscribe(key, pattern) {
                unwanted.push(pattern.clone());
            }
        }
        self.router.unwant(self.id, &unwanted);
    }

    /// Ends a session that can't go on, and notes when it is to be asked next.
    fn settle(&mut self, key: SessionKey) {
        match self.sessions.get_mut(key).and_then(|entry| entry.subscriber.verdict()) {
            Some(close) => self.end(key, close),
            None => self.watch(key),
        }
    }

    fn watch(&mut self, key: SessionKey) {
        if let Some(entry) = self.sessions.get_mut(key) {
            let deadline = entry.subscriber.deadline();
            self.deadlines.set(key, deadline);
        }
    }

    /// Ends a session: from here on it gets the good-bye and nothing else, and is in no list and no count.
    pub(super) fn end(&mut self, key: SessionKey, close: Close) {
        if let Some((_, mut subscriber)) = self.remove(key, Ended::Closed(close)) {
            subscriber.end(close);
        }
    }

    /// Removes a session whose client has left or is gone.
    pub(super) fn leave(&mut self, key: SessionKey, ended: Ended) {
        if let Some((info, mut subscriber)) = self.remove(key, ended) {
            subscriber.left(&info, ended);
        }
    }

    fn remove(&mut self, key: SessionKey, ended: Ended) -> Option<(SessionInfo, Box<S>)> {
        let Entry { info, subscriber, .. } = self.sessions.leave(key)?;
        let mut patterns = 0;
        for pattern in self.topics.patterns(key) {
            self.observer.member(pattern, &info, false);
            patterns += 1;
        }
        self.metrics.subscriptions.dec_by(patterns);
        let unwanted = self.topics.leave(key);
        self.router.unwant(self.id, &unwanted);
        self.alarms.set(key, None);
        self.deadlines.set(key, None);
        self.goaways.leave(key);
        self.observer.session(&info, false);
        let transport = info.transport.name();
        self.metrics.sessions.get_or_create(&TransportLabel { transport }).dec();
        self.metrics.closes.note(ended, &info.id, transport);
        Some((info, subscriber))
    }

    /// Does what waits for the worker, in the order of the log. Who may stay no longer is gone before.
    pub(super) fn handle(&mut self, items: Vec<Item>) -> Instant {
        let now = self.now();
        self.pass_deadlines(now);
        self.flush.begin(now);
        for item in items {
            match item {
                Item::Event(delivery) => self.deliver(&delivery, now),
                Item::Said { number, delivery } => {
                    self.heard = number;
                    self.deliver(&delivery, now);
                }
                Item::Beat { position } => self.beat(position),
                // Nobody waits for it any more where it can't be sent.
                Item::Census(asked) => _ = asked.send(self.census()),
                Item::Broken(loss) => self.broken(&loss),
                Item::Roll { session, barrier, roll } => {
                    self.with(session, |subscriber| subscriber.called(barrier, roll));
                }
                Item::Barrier { session, barrier, position } => {
                    self.with(session, |subscriber| subscriber.barrier_reached(barrier, position));
                }
            }
        }
        now
    }

    fn deliver(&mut self, delivery: &Arc<Delivery>, now: Instant) {
        let (mut delivered, mut full) = (0, Vec::new());
        let Self { topics, sessions, flush, .. } = self;
        topics.each_subscriber(&delivery.event.topic, |key| {
            let Some(entry) = sessions.get_mut(key) else { return };
            match entry.subscriber.deliver(delivery) {
                Delivered::Quietly => {}
                Delivered::ToFlush => flush.add(key, entry.wrote),
                Delivered::Full => full.push(key),
            }
            delivered += 1;
        });
        self.metrics.events_delivered.inc_by(delivered);
        if delivered > 0 {
            self.note_taken(delivery.at, now);
            self.writes.taken(&delivery.onward, &delivery.event, delivered, now);
        }
        full.into_iter().for_each(|key| self.settle(key));
    }

    pub(super) fn add_to_flush(&mut self, key: SessionKey) {
        if let Some(wrote) = self.sessions.get_mut(key).map(|entry| entry.wrote) {
            self.flush.add(key, wrote);
        }
    }

    /// Has some of these write, few enough that whatever else this thread has to do comes in between.
    pub(super) fn write_turn(&mut self, waiting: &mut VecDeque<SessionKey>) {
        let round = self.flush.round();
        for key in waiting.drain(..TURN.min(waiting.len())) {
            let Some(entry) = self.sessions.get_mut(key) else { continue };
            entry.wrote = round;
            match entry.subscriber.flush() {
                Ok(None) => {}
                Ok(more_at) => self.alarms.set(key, more_at),
                Err(close) => self.end(key, close),
            }
        }
        if waiting.is_empty() && self.flush.is_idle() {
            self.note_written();
        }
    }

    /// What a call has set off, the first first.
    pub(super) fn next_errand(&mut self) -> Option<(SessionKey, S::Errand)> {
        self.errands.pop_front()
    }

    fn census(&self) -> Census {
        let without = self.sessions.iter().filter(|(_, entry)| !entry.subscriber.has_room());
        Census { sessions: self.sessions.len(), without_room: without.count() }
    }

    fn new_barrier(&mut self) -> BarrierId {
        self.next_barrier += 1;
        BarrierId(self.next_barrier)
    }

    /// Every session that is here.
    pub(super) fn everyone(&self) -> VecDeque<SessionKey> {
        self.sessions.keys().into()
    }
}

#[cfg(test)]
mod tests;
