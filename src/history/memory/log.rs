//! What a log holds in memory: its place, the events of topics that are kept in memory, and the
//! results of publishes that may be repeated.
//!
//! Pure state, shared by the backends. Numbering and committing are two steps, because what is
//! numbered may have to reach a disk in between.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::super::clock_steps::{ClockSteps, Dating, span};
use super::super::endings::{Departure, Ending, Endings};
use super::super::terms::{self, Apart, Judged, Standings};
use super::super::{
    Append, AppendError, EventReceipt, Feed, FoundBack, IdempotencyKey, ListTopics, Newest,
    NewestPage, Receipt, TopicSummary,
};
use super::kept::{Found, Kept};
use super::receipts::{Asking, Receipts};
use super::stays::MaxStays;
use super::topic_log::Bounds;
use crate::clock::Clock;
use crate::config::{self, Rule, Rules, Storage};
use crate::metrics::{EARLY_KEYS, LOG};
use crate::model::{Cursor, Envelope, Event, NewEvent, Pattern, Timestamp, Topic};

/// How many topics one sweep looks at.
const SWEPT_TOPICS: usize = 4_096;

/// The part of a log that is in memory.
pub(in crate::history) struct Log {
    head: Cursor,
    /// The newest number that was given.
    last: u64,
    clock: Clock,
    dating: Dating,
    rules: Rules,
    kept: Kept,
    endings: Endings,
    /// How many values one session may hold, and for how long they stay where it was cut.
    bound: (usize, Duration),
    receipts: Receipts,
    swept: Option<Topic>,
}

impl Log {
    /// A log whose newest event is at `head`, and that has nothing in memory.
    pub(in crate::history) fn new(
        head: Cursor,
        dating: Dating,
        config: &config::History,
        rules: Rules,
        clock: Clock,
    ) -> Self {
        let max_stays = MaxStays { topics: config.newest_topics, bytes: config.newest_bytes };
        let mut log = Self {
            head,
            last: head.sequence,
            clock,
            dating,
            rules,
            kept: Kept::new(config.memory_bytes, max_stays),
            endings: Endings::default(),
            bound: (config.bound_topics, config.bound_linger),
            receipts: Receipts::new(config.idempotency_window, config.idempotency_keys),
            swept: None,
        };
        log.look_at_clock();
        log
    }

    /// Notices and says where the clock has stepped.
    fn look_at_clock(&mut self) {
        let stepped = self.dating.look(self.last, self.clock.now().into_std(), self.now());
        match stepped {
            Some(millis) if millis < 0 => {
                warn!(by = ?span(millis), "the clock went back: new events carry the time it shows now");
            }
            Some(millis) => {
                warn!(by = ?span(millis), "the clock went ahead, or the system stood still");
            }
            None => {}
        }
    }

    /// The time of day, in milliseconds since 1970.
    fn now(&self) -> i64 {
        self.time().millis()
    }

    /// The time of day by which events are dated.
    pub(in crate::history) fn time(&self) -> Timestamp {
        Timestamp::from(self.clock.time())
    }

    /// Takes back the numbers of a group that nobody was told of; none of those that the clock's steps
    /// go by.
    pub(in crate::history) fn take_back(&mut self) {
        let stepped = self.steps().all().last().map_or(0, |step| step.after);
        self.last = self.head.sequence.max(stepped);
    }

    /// Where the clock stepped, as far as that is kept.
    pub(in crate::history) fn steps(&self) -> &ClockSteps {
        self.dating.steps()
    }

    /// The newest committed place.
    pub(in crate::history) fn head(&self) -> Cursor {
        self.head
    }

    /// The newest number that was given.
    pub(in crate::history) fn last(&self) -> u64 {
        self.last
    }

    /// Where events are kept.
    pub(in crate::history) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The first result of a repeated request, whose values are bound to who repeats it; none where there is no key,
    /// or it is new.
    pub(in crate::history) fn known(
        &mut self,
        append: &Append,
    ) -> Result<Option<Receipt>, AppendError> {
        let Some(key) = &append.key else { return Ok(None) };
        match self.receipts.find(key, self.clock.now().into_std()) {
            Asking::Repeat(events) => {
                self.rebind(&append.events, &events)?;
                Ok(Some(Receipt { events, repeated: true }))
            }
            Asking::Mismatch => Err(AppendError::Mismatch),
            Asking::Full => Err(AppendError::TooManyKeys),
            Asking::New => Ok(None),
        }
    }

    fn rebind(
        &mut self,
        events: &[NewEvent],
        receipts: &[EventReceipt],
    ) -> Result<(), AppendError> {
        self.require_room(events)?;
        for (event, receipt) in events.iter().zip(receipts) {
            if let Some(session) = event.holder()
                && let Some(position) = receipt.cursor
            {
                self.endings.rebind(&event.topic, position, session);
            }
        }
        Ok(())
    }

    /// Refuses what would be bound to a session that holds as many values as it may.
    fn require_room(&self, events: &[NewEvent]) -> Result<(), AppendError> {
        let (most, _) = self.bound;
        let has_room = |event: &NewEvent| {
            let holder = event.holder();
            holder.is_none_or(|session| self.endings.may_bind(session, &event.topic, most))
        };
        match events.iter().all(has_room) {
            true => Ok(()),
            false => Err(AppendError::TooManyBound { most }),
        }
    }

    /// Remembers a result from before a restart.
    pub(in crate::history) fn remember(
        &mut self,
        key: IdempotencyKey,
        events: Vec<EventReceipt>,
        age: Duration,
    ) {
        let now = self.clock.now().into_std();
        // What was remembered before a restart stays so, whatever room there is for more.
        let is_new = matches!(self.receipts.find(&key, now), Asking::New | Asking::Full);
        if let Some(since) = now.checked_sub(age)
            && is_new
        {
            self.receipts.remember(key, events, since);
        }
    }

    /// Which of these events are to be stored; `elsewhere` is how those topics stand that are kept elsewhere.
    pub(in crate::history) fn judge(
        &self,
        events: Vec<NewEvent>,
        elsewhere: &Standings,
    ) -> Result<Judged, AppendError> {
        if events.iter().all(terms::is_free) {
            return Ok(Judged { events, apart: Vec::new() });
        }
        self.require_room(&events)?;
        let is_kept = |event: &NewEvent| self.is_kept(event);
        let standing = |topic: &Topic| {
            let here = self.kept.standing(topic);
            elsewhere.get(topic).map_or(here.clone(), |there| there.clone().or(here))
        };
        terms::judge(events, self.head.at(self.last), self.time(), is_kept, standing)
    }

    fn is_kept(&self, event: &NewEvent) -> bool {
        event.is_kept() && self.rules.of(&event.topic).storage != Storage::None
    }

    /// Gives events their time, and numbers to those that are kept anywhere.
    pub(in crate::history) fn number(&mut self, events: Vec<NewEvent>) -> Vec<Arc<Event>> {
        let now = self.now();
        if self.dating.is_ahead_of(now) {
            self.look_at_clock();
        }
        let time = Timestamp::from_millis(self.dating.date(now));
        let events = events.into_iter().map(|event| {
            let cursor = self.is_kept(&event).then(|| {
                self.last += 1;
                self.head.at(self.last)
            });
            let NewEvent { topic, kind, data, envelope, terms: _ } = event;
            Arc::new(Event { cursor, topic, kind, time, data, envelope })
        });
        events.collect()
    }

    /// Takes numbered events as stored, and keeps those of topics in memory.
    pub(in crate::history) fn commit(
        &mut self,
        events: &[Arc<Event>],
        apart: Apart,
        key: Option<IdempotencyKey>,
    ) -> Receipt {
        for event in events {
            let Some(cursor) = event.cursor else { continue };
            self.endings.note(event, self.clock.now().into_std());
            self.head = self.head.max(cursor);
            let rule = self.rules.of(&event.topic);
            if rule.storage == Storage::Memory {
                let Rule { max_events, max_bytes, keep_newest, .. } = *rule;
                let bounds = Bounds { max_events, max_bytes, keep_newest };
                self.kept.keep(cursor.sequence, event.clone(), &bounds);
            }
        }
        let receipt = Receipt { events: results(events, apart), repeated: false };
        if let Some(key) = key {
            self.receipts.remember(key, receipt.events.clone(), self.clock.now().into_std());
        }
        receipt
    }

    /// Events in memory after `after` and up to `upto`.
    pub(in crate::history) fn read(
        &self,
        patterns: &[Pattern],
        after: u64,
        upto: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> Found {
        self.kept.read(patterns, after, upto, max_events, max_bytes)
    }

    /// Events in memory up to `upto`, newest first.
    pub(in crate::history) fn read_back(
        &self,
        patterns: &[Pattern],
        upto: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> FoundBack {
        self.kept.read_back(patterns, upto, max_events, max_bytes)
    }

    /// The newest number after `sequence` under which a matching event was, or may have been,
    /// removed from memory.
    pub(in crate::history) fn lost_after(
        &self,
        sequence: u64,
        patterns: &[Pattern],
    ) -> Option<u64> {
        self.kept.lost_after(sequence, patterns)
    }

    /// Whether that is so of a topic that keeps none which is newer in memory.
    pub(in crate::history) fn has_lost_newest(&self, sequence: u64, patterns: &[Pattern]) -> bool {
        self.kept.has_lost_newest(sequence, patterns)
    }

    /// The number of the newest event in memory before a time; 0 where there is none.
    pub(in crate::history) fn newest_before(&self, time: Timestamp) -> u64 {
        self.kept.newest_before(self.steps(), time.millis(), self.head.sequence)
    }

    /// Whether an event before this number, the newest one before a time, may be dated since.
    pub(in crate::history) fn hides_some(&self, position: u64, time: Timestamp) -> bool {
        self.steps().hides_some(position, time.millis(), self.now())
    }

    /// The newest event in memory of each matching topic.
    pub(in crate::history) fn newest(&self, newest: &Newest) -> NewestPage {
        let Newest { patterns, after, max_events, max_bytes, .. } = newest;
        self.kept.newest(patterns, after.as_ref(), *max_events, *max_bytes)
    }

    /// Topics with events in memory.
    pub(in crate::history) fn topics(&self, list: &ListTopics) -> Vec<TopicSummary> {
        self.kept.topics(&list.pattern, list.after.as_ref(), list.limit)
    }

    /// What is kept in memory of one topic.
    pub(in crate::history) fn topic(&self, topic: Topic) -> TopicSummary {
        self.kept.topic(topic)
    }

    /// Notes that sessions have left, whose values end with them.
    pub(in crate::history) fn depart(&mut self, departures: Vec<Departure>) {
        let now = self.clock.now().into_std();
        let (_, linger) = self.bound;
        for Departure { session, lingers } in departures {
            self.endings.leave(session, now, if lingers { linger } else { Duration::ZERO });
        }
    }

    /// Values that have ended, wherever they are kept.
    pub(in crate::history) fn due(&self, limit: usize) -> Vec<Ending> {
        self.endings.due(self.clock.now().into_std(), limit)
    }

    /// Has a value from before a restart end: after so long, where it has a time, and with its session, which is gone.
    pub(in crate::history) fn restore(
        &mut self,
        topic: Topic,
        position: Cursor,
        envelope: Envelope,
        left: Option<Duration>,
    ) {
        let now = self.clock.now().into_std();
        if let Some(session) = envelope.holder() {
            self.endings.leave(session.into(), now, self.bound.1);
        }
        self.endings.add(topic, position, envelope, now, left);
    }

    /// Forgets what is in memory of one topic; returns how many events.
    pub(in crate::history) fn forget(&mut self, topic: &Topic) -> usize {
        self.endings.forget(topic);
        self.kept.forget(topic)
    }

    /// Removes some of what is too old.
    pub(in crate::history) fn sweep(&mut self) {
        self.look_at_clock();
        let now = self.now();
        let (rules, steps) = (&self.rules, self.dating.steps());
        let oldest = |topic: &Topic| {
            let age = i64::try_from(rules.of(topic).max_age.as_millis()).unwrap_or(i64::MAX);
            now.saturating_sub(age)
        };
        let from = self.swept.take();
        let aged = |sequence, date: Timestamp| steps.aged(sequence, date.millis());
        self.swept = self.kept.expire(from.as_ref(), SWEPT_TOPICS, oldest, aged);
        let now = self.clock.now().into_std();
        self.endings.forget_departures(now);
        self.receipts.expire(now);
        let remembered = self.receipts.shorter_window(now).unwrap_or_default();
        EARLY_KEYS.note(self.receipts.take_early(), remembered);
    }

    /// Tells what was removed from memory since this was last done, whose events were told before.
    pub(in crate::history) fn tell_removed(&mut self, feed: &dyn Feed) {
        self.kept.tell_removed(|removed| {
            LOG.removals.add(removed.len() as u64);
            feed.removed(removed);
        });
    }

    /// How much is kept in memory.
    pub(in crate::history) fn stock(&self) -> super::super::Kept {
        self.kept.stock()
    }

    /// For how long idempotency keys are remembered now; none where that is their whole window.
    pub(in crate::history) fn shorter_window(&self) -> Option<Duration> {
        self.receipts.shorter_window(self.clock.now().into_std())
    }
}

/// What became of events that were given together, of which some were not stored.
pub(in crate::history) fn results(events: &[Arc<Event>], apart: Apart) -> Vec<EventReceipt> {
    let stored = events.iter().map(|event| EventReceipt {
        cursor: event.cursor,
        topic: event.topic.clone(),
        time: event.time,
        superseded: None,
    });
    let mut all: Vec<_> = stored.collect();
    // Each has its place among all, and those before it are there.
    apart.into_iter().for_each(|(at, receipt)| all.insert(at.min(all.len()), receipt));
    all
}
