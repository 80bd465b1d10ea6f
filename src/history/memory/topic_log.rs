//! The kept events of one topic in memory, and what is known of those that are gone.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::TopicSummary;
use super::super::terms::Standing;
use crate::model::{Event, Topic};

/// What may be kept of one topic. One event is kept however large it is.
#[derive(Debug, Clone, Copy)]
pub(in crate::history) struct Bounds {
    pub(in crate::history) max_events: usize,
    pub(in crate::history) max_bytes: usize,
    /// Whether its newest event stays beyond its age and the bytes of all.
    pub(in crate::history) keep_newest: bool,
}

/// The kept events of one topic, oldest first, with their numbers.
#[derive(Debug)]
pub(super) struct TopicLog {
    events: VecDeque<(u64, Arc<Event>)>,
    bytes: usize,
    last_removed: u64,
    keep_newest: bool,
    /// The number of the newest event that carries a version; it may be gone.
    versioned: u64,
}

impl TopicLog {
    /// Nothing kept; what there may have been is gone up to `last_removed`.
    pub(super) fn new(last_removed: u64) -> Self {
        let events = VecDeque::new();
        Self { events, bytes: 0, last_removed, keep_newest: false, versioned: 0 }
    }

    /// Adds the newest event. What is then over the bounds is for the caller to remove.
    pub(super) fn push(&mut self, sequence: u64, event: Arc<Event>, bounds: &Bounds) {
        if event.envelope.as_ref().is_some_and(|envelope| envelope.version().is_some()) {
            self.versioned = sequence;
        }
        self.bytes += event.cost();
        self.keep_newest = bounds.keep_newest;
        self.events.push_back((sequence, event));
    }

    /// Takes the oldest event away.
    pub(super) fn pop(&mut self) -> Option<(u64, Arc<Event>)> {
        let (sequence, event) = self.events.pop_front()?;
        self.bytes -= event.cost();
        self.last_removed = sequence;
        Some((sequence, event))
    }

    /// Whether more is kept than may be.
    pub(super) fn is_over(&self, bounds: &Bounds) -> bool {
        self.events.len() > 1
            && (self.events.len() > bounds.max_events || self.bytes > bounds.max_bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The number of the last event that was, or may have been, removed.
    pub(super) fn last_removed(&self) -> u64 {
        self.last_removed
    }

    /// The only event, where it stays beyond its age and the bytes of all topics: its rule says so, and it is a value.
    pub(super) fn staying(&self) -> Option<&(u64, Arc<Event>)> {
        let may_stay = self.keep_newest && self.events.len() == 1;
        self.oldest().filter(|(_, event)| may_stay && !event.is_tombstone())
    }

    /// The event of a number.
    pub(super) fn event(&self, sequence: u64) -> Option<&Arc<Event>> {
        let at = self.events.binary_search_by_key(&sequence, |(other, _)| *other).ok()?;
        self.events.get(at).map(|(_, event)| event)
    }

    /// The events after a number and up to another.
    pub(super) fn between(
        &self,
        after: u64,
        upto: u64,
    ) -> impl DoubleEndedIterator<Item = &(u64, Arc<Event>)> {
        let first_after = |number| self.events.partition_point(|(other, _)| *other <= number);
        self.events.range(first_after(after)..first_after(upto))
    }

    pub(super) fn oldest(&self) -> Option<&(u64, Arc<Event>)> {
        self.events.front()
    }

    pub(super) fn newest(&self) -> Option<&Arc<Event>> {
        self.events.back().map(|(_, event)| event)
    }

    pub(super) fn summary(&self, topic: Topic) -> TopicSummary {
        TopicSummary::new(topic, self.events.len(), self.newest().cloned())
    }

    /// How the topic stands, as far as terms go by it.
    pub(super) fn standing(&self) -> Standing {
        let last = self.events.back().map_or(self.last_removed, |(sequence, _)| *sequence);
        let newest = self.newest().map(|event| &**event);
        Standing::of(last, newest, self.event(self.versioned).map(|event| &**event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Data, Timestamp};

    fn event() -> Arc<Event> {
        let (topic, data) = (Topic::parse("a").unwrap(), Data::from_text("x"));
        let time = Timestamp::from_millis(0);
        Arc::new(Event { cursor: None, topic, kind: None, time, data, envelope: None })
    }

    fn log(numbers: &[u64], bounds: &Bounds) -> TopicLog {
        let mut log = TopicLog::new(0);
        numbers.iter().for_each(|number| log.push(*number, event(), bounds));
        log
    }

    const WIDE: Bounds = Bounds { max_events: 10, max_bytes: 1 << 20, keep_newest: true };

    #[test]
    fn one_event_is_never_over_the_bounds() {
        let narrow = Bounds { max_events: 1, max_bytes: 1, keep_newest: false };
        let mut log = log(&[3, 5], &narrow);
        assert!(log.is_over(&narrow));
        assert_eq!(log.pop().map(|(sequence, _)| sequence), Some(3));
        assert!(!log.is_over(&narrow));
        assert_eq!((log.last_removed(), log.bytes), (3, event().cost()));
    }

    #[test]
    fn only_a_single_event_stays() {
        let mut log = log(&[3, 5], &WIDE);
        assert!(log.staying().is_none());
        log.pop();
        assert_eq!(log.staying().map(|(sequence, _)| *sequence), Some(5));
        log.push(7, event(), &Bounds { keep_newest: false, ..WIDE });
        log.pop();
        assert!(log.staying().is_none());
    }

    #[test]
    fn a_stretch_begins_behind_its_first_number_and_ends_with_its_last() {
        let log = log(&[3, 5, 7, 9], &WIDE);
        let between = |after, upto| -> Vec<u64> {
            log.between(after, upto).map(|(sequence, _)| *sequence).collect()
        };
        assert_eq!(between(3, 7), [5, 7]);
        assert_eq!(between(4, 8), [5, 7]);
        assert_eq!(between(9, 20), [0_u64; 0]);
    }
}
