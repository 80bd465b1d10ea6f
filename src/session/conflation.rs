//! The newest event of each topic, for who can't keep up with all of them or does not want to.
//!
//! Pure state; whoever fills it brings the clock. An event goes out at once while its client keeps up
//! and its topic has not sent too lately. What can't go out waits, and of each topic only the newest:
//! in the order in which the topics fell due, so that none starves, and never an older value after a
//! newer one. What is not kept takes no place of what is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::{Delivery, Waiting};
use crate::clock::Instant;
use crate::model::{Cursor, Pattern, Topic};

/// How many topics that sent lately are remembered before those are looked for that may send again.
const FEW_TOPICS: usize = 64;

/// The conflated subscriptions of one session, and what waits for them.
#[derive(Debug)]
pub struct Conflation {
    /// The shortest time between two events of a topic.
    intervals: HashMap<Pattern, Duration>,
    /// The one of all patterns, as long as none has another.
    shared: Option<Duration>,
    newest: HashMap<Topic, Newest>,
    /// The topics that wait, by when they are due and then as they came.
    queue: BTreeMap<Rank, Topic>,
    /// When topics that sent lately may send again.
    not_before: HashMap<Topic, Instant>,
    /// How many of these are to be looked through next.
    many: usize,
    next_number: u64,
    bytes: usize,
    max_bytes: usize,
}

/// Where a topic stands in the queue: when it is due, then as it came.
type Rank = (Instant, u64);

/// The newest event of a topic, on its way.
#[derive(Debug)]
struct Newest {
    waiting: Waiting,
    /// Events of the topic that it took the place of, or that gave way to it.
    skipped: u64,
    rank: Rank,
}

/// What becomes of an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Offered {
    /// It may go out now.
    Now,
    /// It waits.
    Waits,
    /// More waits than may.
    TooMuch,
}

impl Conflation {
    /// Nothing is conflated yet. At most `max_bytes` of events will wait, counted as their history
    /// does.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            intervals: HashMap::new(),
            shared: None,
            newest: HashMap::new(),
            queue: BTreeMap::new(),
            not_before: HashMap::new(),
            many: FEW_TOPICS,
            next_number: 0,
            bytes: 0,
            max_bytes,
        }
    }

    /// Conflates what `pattern` matches, with at least `interval` between two events of a topic.
    pub fn add(&mut self, pattern: Pattern, interval: Duration) {
        let is_first = self.intervals.is_empty();
        self.shared = self.shared.filter(|shared| *shared == interval);
        if is_first {
            self.shared = Some(interval);
        }
        self.intervals.insert(pattern, interval);
    }

    /// The shortest time between two events of a topic where all of `patterns` subscriptions are conflated
    /// alike, so that no event has to be asked for its pattern.
    pub fn uniform(&self, patterns: usize) -> Option<Duration> {
        self.shared.filter(|_| self.intervals.len() == patterns)
    }

    /// Conflates what `pattern` matches no longer.
    pub fn remove(&mut self, pattern: &Pattern) {
        self.intervals.remove(pattern);
    }

    /// Whether no subscription is conflated.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// The shortest time between two events of topics that `pattern` matches; none where it is not
    /// conflated.
    pub fn interval(&self, pattern: &Pattern) -> Option<Duration> {
        self.intervals.get(pattern).copied()
    }

    /// Takes an event that came now. `is_behind` says that its client has not taken what went before.
    pub fn offer(
        &mut self,
        delivery: &Arc<Delivery>,
        interval: Duration,
        now: Instant,
        is_behind: bool,
    ) -> Offered {
        let topic = &delivery.event.topic;
        if let Some(Newest { waiting, skipped, .. }) = self.newest.get_mut(topic) {
            *skipped += 1;
            // What is passed on gives way to what is kept: who types, to what was written.
            if delivery.event.cursor.is_some() || waiting.delivery.event.cursor.is_none() {
                let before = std::mem::replace(waiting, Waiting::new(delivery));
                self.bytes = self.bytes - before.bytes + waiting.bytes;
            }
            return self.verdict();
        }
        let due = self.not_before.get(topic).copied().unwrap_or(now);
        if due <= now && !is_behind {
            self.sent(topic, interval, now);
            return Offered::Now;
        }
        let rank = (due.max(now), self.next_number);
        self.next_number += 1;
        self.queue.insert(rank, topic.clone());
        let waiting = Waiting::new(delivery);
        self.bytes += waiting.bytes;
        self.newest.insert(topic.clone(), Newest { waiting, skipped: 0, rank });
        self.verdict()
    }

    fn verdict(&self) -> Offered {
        if self.bytes > self.max_bytes { Offered::TooMuch } else { Offered::Waits }
    }

    /// The event that is due next, with how many it took the place of. `interval` knows how long its
    /// topic then has to wait.
    pub fn next(
        &mut self,
        now: Instant,
        interval: impl FnOnce(&Self, &Topic) -> Option<Duration>,
    ) -> Option<(Arc<Delivery>, u64)> {
        let (rank, _) = self.queue.first_key_value()?;
        if rank.0 > now {
            return None;
        }
        let topic = self.queue.first_key_value()?.1.clone();
        let (delivery, skipped) = self.take(&topic)?;
        let interval = interval(self, &topic).unwrap_or_default();
        self.sent(&topic, interval, now);
        Some((delivery, skipped))
    }

    /// When something is due next.
    pub fn due(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|(rank, _)| rank.0)
    }

    /// The place before all that waits, or `place` where that comes first: up to there everything was
    /// sent or superseded.
    pub fn floor(&self, position: Cursor) -> Cursor {
        let waiting =
            self.newest.values().filter_map(|newest| newest.waiting.delivery.event.cursor);
        let before = waiting.map(|cursor| cursor.at(cursor.sequence.saturating_sub(1))).min();
        before.map_or(position, |before| before.min(position))
    }

    /// The topics of which something waits, in their order.
    pub fn topics(&self) -> Vec<Topic> {
        self.queue.values().cloned().collect()
    }

    /// Takes what waits of a topic, with how many events it took the place of.
    pub fn take(&mut self, topic: &Topic) -> Option<(Arc<Delivery>, u64)> {
        let Newest { waiting, skipped, rank } = self.newest.remove(topic)?;
        self.queue.remove(&rank);
        self.bytes -= waiting.bytes;
        Some((waiting.delivery, skipped))
    }

    /// Drops what waits of a topic and is no newer than what was sent of it on another way.
    pub fn supersede(&mut self, topic: &Topic, cursor: Option<Cursor>) {
        if self
            .newest
            .get(topic)
            .is_some_and(|newest| newest.waiting.delivery.event.cursor <= cursor)
        {
            self.take(topic);
        }
    }

    fn sent(&mut self, topic: &Topic, interval: Duration, now: Instant) {
        if interval.is_zero() {
            return;
        }
        if self.not_before.len() >= self.many {
            self.not_before.retain(|_, at| *at > now);
            self.many = (2 * self.not_before.len()).max(FEW_TOPICS);
        }
        self.not_before.insert(topic.clone(), now + interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Data, Event, LogName, Timestamp};
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn event(log: LogName, topic: &str, sequence: u64) -> Arc<Delivery> {
        Arc::new(Delivery::new(Arc::new(Event {
            cursor: Some(Cursor { log, epoch: 1, sequence }),
            topic: Topic::parse(topic).unwrap(),
            kind: None,
            time: Timestamp::from_millis(0),
            data: Data::from_json(b"1", 1).unwrap(),
            envelope: None,
        })))
    }

    /// A conflation whose topics send every `interval`, and the clock.
    struct Paced {
        conflation: Conflation,
        interval: Duration,
        now: Instant,
        log: LogName,
    }

    impl Paced {
        fn new(interval: Duration) -> Self {
            let (conflation, now) = (Conflation::new(usize::MAX), Instant::now());
            Self { conflation, interval, now, log: LogName::random() }
        }

        fn offer(&mut self, topic: &str, sequence: u64, is_behind: bool) -> Offered {
            let event = event(self.log, topic, sequence);
            self.conflation.offer(&event, self.interval, self.now, is_behind)
        }

        fn next(&mut self) -> Option<(String, u64, u64)> {
            let interval = self.interval;
            let (delivery, skipped) = self.conflation.next(self.now, |_, _| Some(interval))?;
            let sequence = delivery.event.cursor.unwrap().sequence;
            Some((delivery.event.topic.to_string(), sequence, skipped))
        }
    }

    #[test]
    fn what_is_passed_on_never_takes_the_place_of_what_is_kept() {
        let mut paced = Paced::new(MS);
        let passing = || {
            let kept = event(paced.log, "a", 1);
            Arc::new(Delivery::new(Arc::new(Event { cursor: None, ..(*kept.event).clone() })))
        };
        let (first, second) = (passing(), passing());
        assert_eq!(paced.offer("a", 1, false), Offered::Now);
        let offer = |paced: &mut Paced, delivery: &Arc<Delivery>| {
            paced.conflation.offer(delivery, MS, paced.now, false)
        };
        // The newest of those that pass, until something is kept.
        assert_eq!(offer(&mut paced, &first), Offered::Waits);
        assert_eq!(offer(&mut paced, &second), Offered::Waits);
        paced.offer("a", 2, false);
        offer(&mut paced, &first);
        paced.now += MS;
        assert_eq!(paced.next(), Some(("a".to_owned(), 2, 3)));
        assert_eq!(offer(&mut paced, &first), Offered::Waits);
        paced.now += MS;
        let (last, skipped) = paced.conflation.next(paced.now, |_, _| Some(MS)).unwrap();
        assert!(Arc::ptr_eq(&last, &first) && skipped == 0 && paced.conflation.bytes == 0);
    }

    #[test]
    fn who_keeps_up_gets_every_event() {
        let mut paced = Paced::new(Duration::ZERO);
        for sequence in 1..10 {
            assert_eq!(paced.offer("a", sequence, false), Offered::Now);
        }
        assert_eq!(paced.next(), None);
    }

    #[test]
    fn while_behind_the_newest_of_each_topic_waits_in_the_order_of_the_topics() {
        let mut paced = Paced::new(Duration::ZERO);
        for (topic, sequence) in [("a", 1), ("b", 2), ("a", 3), ("c", 4), ("a", 5)] {
            assert_eq!(paced.offer(topic, sequence, true), Offered::Waits);
        }
        assert_eq!(paced.offer("b", 6, false), Offered::Waits, "not past what waits");
        let said: Vec<_> = std::iter::from_fn(|| paced.next()).collect();
        assert_eq!(said, [("a".into(), 5, 2), ("b".into(), 6, 1), ("c".into(), 4, 0)]);
    }

    #[test]
    fn a_paced_topic_sends_its_first_at_once_and_its_last_when_it_may() {
        let mut paced = Paced::new(100 * MS);
        assert_eq!(paced.offer("a", 1, false), Offered::Now);
        paced.now += 10 * MS;
        assert_eq!(paced.offer("a", 2, false), Offered::Waits);
        assert_eq!(paced.offer("a", 3, false), Offered::Waits);
        assert_eq!(paced.offer("b", 4, false), Offered::Now, "each topic has its own pace");
        assert_eq!(paced.next(), None);
        assert_eq!(paced.conflation.due(), Some(paced.now + 90 * MS));
        paced.now += 90 * MS;
        assert_eq!(paced.next(), Some(("a".into(), 3, 1)));
        assert_eq!(paced.offer("a", 5, false), Offered::Waits, "the trailing edge counts too");
        paced.now += 250 * MS;
        assert_eq!(paced.next(), Some(("a".into(), 5, 0)));
    }

    #[test]
    fn a_cursor_stays_below_what_waits() {
        let mut paced = Paced::new(Duration::ZERO);
        let position = Cursor { log: paced.log, epoch: 1, sequence: 9 };
        assert_eq!(paced.conflation.floor(position), position);
        paced.offer("a", 4, true);
        paced.offer("b", 5, true);
        paced.offer("a", 6, true);
        assert_eq!(paced.conflation.floor(position), position.at(4));
        paced.conflation.take(&Topic::parse("b").unwrap());
        assert_eq!(paced.conflation.floor(position), position.at(5));
        paced.conflation.supersede(&Topic::parse("a").unwrap(), Some(position.at(6)));
        assert_eq!(paced.conflation.floor(position), position);
        assert_eq!((paced.conflation.bytes, paced.next()), (0, None));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut paced = Paced::new(Duration::ZERO);
        paced.conflation.max_bytes = 3 * event(paced.log, "a", 1).event.cost();
        for (topic, verdict) in [
            ("a", Offered::Waits),
            ("b", Offered::Waits),
            ("c", Offered::Waits),
            ("d", Offered::TooMuch),
        ] {
            assert_eq!(paced.offer(topic, 1, true), verdict);
        }
    }

    #[test]
    fn topics_that_sent_long_ago_are_forgotten() {
        let mut paced = Paced::new(MS);
        for number in 0..10_000 {
            assert_eq!(paced.offer(&format!("t{number}"), number, false), Offered::Now);
            paced.now += MS;
        }
        assert!(paced.conflation.not_before.len() <= FEW_TOPICS);
    }

    proptest! {
        #[test]
        fn the_last_value_always_comes_never_after_an_older_one_and_every_event_is_counted(
            interval in prop_oneof![Just(0), 1..50_u32],
            steps in prop::collection::vec((0..5_usize, any::<bool>(), 0..30_u32, 0..4_usize), 1..200),
        ) {
            let mut paced = Paced::new(interval * MS);
            let mut published: HashMap<String, Vec<u64>> = HashMap::new();
            let mut received: HashMap<String, Vec<(u64, u64, Instant)>> = HashMap::new();
            for (sequence, (topic, is_behind, pause, takes)) in (1..).zip(steps) {
                let topic = format!("t{topic}");
                paced.now += pause * MS;
                published.entry(topic.clone()).or_default().push(sequence);
                if paced.offer(&topic, sequence, is_behind) == Offered::Now {
                    received.entry(topic).or_default().push((sequence, 0, paced.now));
                }
                for _ in 0..takes {
                    let Some((topic, sequence, skipped)) = paced.next() else { break };
                    received.entry(topic).or_default().push((sequence, skipped, paced.now));
                }
            }
            paced.now += interval * MS;
            while let Some((topic, sequence, skipped)) = paced.next() {
                received.entry(topic).or_default().push((sequence, skipped, paced.now));
            }
            prop_assert_eq!(paced.conflation.bytes, 0);
            prop_assert!(paced.conflation.due().is_none());
            for (topic, published) in published {
                let received = &received[&topic];
                prop_assert_eq!(received.last().unwrap().0, *published.last().unwrap());
                prop_assert!(received.is_sorted_by(|a, b| a.0 < b.0));
                let counted: u64 = received.iter().map(|(_, skipped, _)| skipped + 1).sum();
                prop_assert_eq!(counted, published.len() as u64);
                for pair in received.windows(2) {
                    prop_assert!(pair[1].2 - pair[0].2 >= interval * MS);
                }
            }
        }
    }
}
