//! The newest events that this node has heard, so that who was away for a moment is caught up without
//! reading them from Redis: after a node or a balancer has gone, all of its clients come at once.
//!
//! Pure state behind a lock. Events of topics that nobody here wanted were never read; of those only the
//! newest number of each topic is noted, which is all it takes to know where they are missing. So it is with what is
//! kept no longer.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::{Read, Removal};
use crate::model::{Cursor, Event, Pattern, Topic};
use crate::panics::lock;

/// Of how many topics it is noted that they were passed by.
const MAX_PASSED: usize = 4_096;

/// Of how many topics it is noted that events of them were removed: as many as are here of one event each.
const MAX_REMOVED: usize = 65_536;

/// How many events one page looks at.
const LOOKED_AT: usize = 1_024;

/// The newest events of the log.
pub(super) struct Recent {
    max_bytes: usize,
    kept: Mutex<Kept>,
}

struct Kept {
    /// Everything after this place is here or was passed by.
    start: Cursor,
    /// Nothing after this place is. It may be of a later epoch, as may what is in between.
    end: Cursor,
    /// With their positions, in order.
    events: VecDeque<(Cursor, Arc<Event>)>,
    bytes: usize,
    /// The newest number of each topic that was passed by.
    passed: HashMap<Topic, u64>,
    /// The number of the last removed event of each topic, of what is here.
    removed: HashMap<Topic, u64>,
    /// Up to here events of any topic may have been removed.
    floor: u64,
}

impl Recent {
    /// Nothing yet, of a log that stands at `start`; later at most `max_bytes`, as [`Event::cost`]
    /// counts them.
    pub(super) fn new(start: Cursor, max_bytes: usize) -> Self {
        Self { max_bytes, kept: Mutex::new(Kept::new(start)) }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }

    /// Forgets everything, and goes on after `start`.
    pub(super) fn restart(&self, start: Cursor) {
        *self.lock() = Kept::new(start);
    }

    /// Keeps events that come next in the log; those without a place are nobody's to read again.
    pub(super) fn add(&self, events: &[Arc<Event>]) {
        let mut kept = self.lock();
        for event in events {
            let Some(cursor) = event.cursor else { continue };
            kept.end = cursor;
            kept.bytes += event.cost();
            kept.events.push_back((cursor, event.clone()));
        }
        while kept.bytes > self.max_bytes
            && let Some((position, event)) = kept.events.pop_front()
        {
            kept.bytes -= event.cost();
            kept.start = position;
        }
    }

    /// Notes an event that comes next in the log and that nobody here wants.
    pub(super) fn pass(&self, topic: &Topic, position: Cursor) {
        let mut kept = self.lock();
        let sequence = position.sequence;
        kept.end = position;
        if let Some(newest) = kept.passed.get_mut(topic) {
            *newest = sequence;
            return;
        }
        if kept.passed.len() == MAX_PASSED {
            let start = kept.start.sequence;
            kept.passed.retain(|_, newest| *newest > start);
        }
        if kept.passed.len() == MAX_PASSED {
            *kept = Kept::new(position);
            return;
        }
        kept.passed.insert(topic.clone(), sequence);
    }

    /// Notes what is kept no longer, of which no page is whole.
    pub(super) fn remove(&self, all: &[Removal]) {
        let mut kept = self.lock();
        for Removal { topic, upto, .. } in all {
            if *upto <= kept.start.sequence {
                continue;
            }
            let Some(topic) = topic else {
                // What comes after it may be whole.
                kept.floor = kept.floor.max(*upto);
                continue;
            };
            let last = kept.removed.entry(topic.clone()).or_default();
            *last = (*last).max(*upto);
        }
        if kept.removed.len() > MAX_REMOVED {
            let start = kept.start.sequence;
            kept.removed.retain(|_, last| *last > start);
        }
        if kept.removed.len() > MAX_REMOVED {
            *kept = Kept::new(kept.end);
        }
    }

    /// The events of a page after one place and up to another, and the place up to which it is whole;
    /// none unless every event there is here that `read` is to find.
    pub(super) fn between(
        &self,
        read: &Read,
        after: Cursor,
        upto: Cursor,
    ) -> Option<(Vec<Arc<Event>>, Cursor)> {
        let kept = self.lock();
        let is_here = kept.start.at(0) == after.at(0) && kept.start <= after;
        let is_known = kept.end.at(0) == upto.at(0) && upto <= kept.end;
        if !is_here || !is_known || kept.misses(&read.patterns, after.sequence) {
            return None;
        }
        let (mut events, mut bytes) = (Vec::new(), 0);
        let from = kept.events.partition_point(|(position, _)| position.sequence <= after.sequence);
        let those = kept.events.range(from..);
        let those = those.take_while(|(position, _)| position.sequence <= upto.sequence);
        for (looked_at, (position, event)) in (1..).zip(those) {
            if read.patterns.iter().any(|pattern| pattern.matches(&event.topic)) {
                bytes += event.cost();
                events.push(event.clone());
            }
            let is_full = events.len() >= read.max_events || bytes >= read.max_bytes;
            if is_full || looked_at == LOOKED_AT {
                return Some((events, *position));
            }
        }
        Some((events, upto.max(after)))
    }
}

impl Kept {
    fn new(start: Cursor) -> Self {
        let (events, passed, removed) = (VecDeque::new(), HashMap::new(), HashMap::new());
        Self { start, end: start, events, bytes: 0, passed, removed, floor: 0 }
    }

    /// Whether something after a number that one of `patterns` matches was passed by, or may have been removed.
    fn misses(&self, patterns: &[Pattern], after: u64) -> bool {
        let is_later = |newest: &u64| *newest > after;
        let is_missed = |pattern: &Pattern, numbers: &HashMap<Topic, u64>| match pattern.as_topic()
        {
            Some(topic) => numbers.get(&topic).is_some_and(is_later),
            None => {
                numbers.iter().any(|(topic, newest)| is_later(newest) && pattern.matches(topic))
            }
        };
        let is_missed =
            |pattern| is_missed(pattern, &self.passed) || is_missed(pattern, &self.removed);
        self.floor > after || patterns.iter().any(is_missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Data, Timestamp};

    fn topic(name: &str) -> Topic {
        Topic::parse(name).unwrap()
    }

    fn at(sequence: u64) -> Cursor {
        Cursor::parse("abcdefgh-1-0").unwrap().at(sequence)
    }

    fn event(name: &str, sequence: u64) -> Arc<Event> {
        let data = Data::from_json(b"1", 9).unwrap();
        let (cursor, time) = (Some(at(sequence)), Timestamp::from_millis(0));
        Arc::new(Event { cursor, topic: topic(name), kind: None, time, data, envelope: None })
    }

    fn read(pattern: &str, max_events: usize) -> Read {
        let patterns = Arc::new([Pattern::parse(pattern).unwrap()]);
        Read { patterns, after: None, upto: None, max_events, max_bytes: usize::MAX }
    }

    fn between(recent: &Recent, pattern: &str, after: u64, upto: u64) -> Option<Vec<u64>> {
        let (events, next) = recent.between(&read(pattern, 1_000), at(after), at(upto))?;
        assert_eq!(next, at(upto));
        Some(events.iter().map(|event| event.cursor.unwrap().sequence).collect())
    }

    #[test]
    fn what_came_since_the_start_is_here_and_nothing_else_is_promised() {
        let recent = Recent::new(at(10), usize::MAX);
        assert_eq!(between(&recent, ">", 10, 10), Some(vec![]));
        recent.add(&[event("a", 11), event("b", 12)]);
        recent.add(&[event("a", 13)]);
        assert_eq!(between(&recent, ">", 10, 13), Some(vec![11, 12, 13]));
        assert_eq!(between(&recent, ">", 11, 12), Some(vec![12]));
        assert_eq!(between(&recent, ">", 9, 13), None, "before the start");
        assert_eq!(between(&recent, ">", 10, 14), None, "after the end");
    }

    #[test]
    fn a_page_ends_where_it_is_full_and_the_next_one_goes_on_from_there() {
        let recent = Recent::new(at(0), usize::MAX);
        let events: Vec<_> = (1..=5).map(|n| event(if n == 2 { "b" } else { "a" }, n)).collect();
        recent.add(&events);
        let (mut after, mut seen) = (at(0), Vec::new());
        while after < at(5) {
            let (events, next) = recent.between(&read("a", 2), after, at(5)).unwrap();
            seen.push((events.len(), next.sequence));
            after = next;
        }
        assert_eq!(seen, [(2, 3), (2, 5)]);
    }

    #[test]
    fn a_place_of_another_epoch_is_for_redis_to_judge() {
        let recent = Recent::new(at(0), usize::MAX);
        recent.add(&[event("a", 1)]);
        let (other, read) = (Cursor { epoch: 2, ..at(0) }, read("a", 2));
        assert!(recent.between(&read, other, at(1)).is_none());
        assert!(recent.between(&read, at(0), other.at(1)).is_none());
        assert!(recent.between(&read, at(0), at(1)).is_some());
    }

    #[test]
    fn a_page_that_ends_in_an_earlier_epoch_than_the_log_ends_with_an_id_of_that_one() {
        let recent = Recent::new(at(0), 2 * event("a", 1).cost());
        let later = |sequence| Cursor { epoch: 2, ..at(sequence) };
        let in_later = Event { cursor: Some(later(900)), ..(*event("a", 900)).clone() };
        recent.add(&[event("a", 1), Arc::new(in_later.clone())]);
        let between = |after, events| recent.between(&read("a", events), after, later(900));
        let (_, next) = between(at(0), 1).unwrap();
        assert_eq!(next, at(1));
        assert_eq!(between(next, 1).unwrap().1, later(900));
        // And what is forgotten is known by its own epoch, too.
        recent.add(&[Arc::new(Event { cursor: Some(later(901)), ..in_later.clone() })]);
        recent.add(&[Arc::new(Event { cursor: Some(later(902)), ..in_later })]);
        assert!(recent.between(&read("a", 9), later(900), later(902)).is_some());
    }

    #[test]
    fn over_its_bytes_it_forgets_what_is_oldest() {
        let recent = Recent::new(at(0), 2 * event("a", 1).cost());
        recent.add(&[event("a", 1), event("a", 2), event("a", 3)]);
        assert_eq!(between(&recent, "a", 0, 3), None);
        assert_eq!(between(&recent, "a", 1, 3), Some(vec![2, 3]));
        let none = Recent::new(at(0), 0);
        none.add(&[event("a", 1)]);
        assert_eq!(between(&none, "a", 0, 1), None);
        assert_eq!(between(&none, "a", 1, 1), Some(vec![]));
    }

    #[test]
    fn what_nobody_wanted_is_missing_for_who_wants_it_now_and_for_nobody_else() {
        let recent = Recent::new(at(0), usize::MAX);
        recent.add(&[event("a", 1)]);
        recent.pass(&topic("b.c"), at(2));
        recent.add(&[event("a", 3)]);
        for (pattern, after, found) in [
            ("a", 0, Some(vec![1, 3])),
            ("b.c", 1, None),
            ("b.*", 1, None),
            (">", 1, None),
            ("b.d", 1, Some(vec![])),
            ("b.c", 2, Some(vec![])),
            (">", 2, Some(vec![3])),
        ] {
            assert_eq!(between(&recent, pattern, after, 3), found, "{pattern} after {after}");
        }
    }

    #[test]
    fn too_many_topics_that_nobody_wanted_make_it_begin_anew() {
        let recent = Recent::new(at(0), usize::MAX);
        for sequence in 1..=MAX_PASSED as u64 {
            recent.pass(&topic(&format!("t.{sequence}")), at(sequence));
        }
        let end = MAX_PASSED as u64;
        assert_eq!(between(&recent, "a", 0, end), Some(vec![]));
        recent.pass(&topic("one.more"), at(end + 1));
        assert_eq!(between(&recent, "a", 0, end + 1), None);
        assert_eq!(between(&recent, ">", end + 1, end + 1), Some(vec![]));
    }

    #[test]
    fn no_page_is_whole_of_which_something_was_removed() {
        let recent = Recent::new(at(10), usize::MAX);
        recent.add(&[event("a.x", 11), event("b", 12), event("a.x", 13)]);
        let removal = |topic: Option<Topic>, upto| Removal { topic, upto, is_superseded: true };
        recent.remove(&[removal(Some(topic("b")), 9), removal(Some(topic("a.x")), 11)]);
        for (pattern, after, found) in [
            ("a.x", 10, None),
            ("a.*", 10, None),
            (">", 10, None),
            ("b", 10, Some(vec![12])),
            ("a.x", 11, Some(vec![13])),
        ] {
            assert_eq!(between(&recent, pattern, after, 13), found, "{pattern} after {after}");
        }
        recent.remove(&[removal(None, 12)]);
        assert_eq!(between(&recent, "b", 11, 13), None, "of any topic");
        assert_eq!(between(&recent, "a.x", 12, 13), Some(vec![13]));
    }

    #[test]
    fn after_a_restart_it_knows_of_nothing_before() {
        let recent = Recent::new(at(0), usize::MAX);
        recent.add(&[event("a", 1)]);
        recent.pass(&topic("b"), at(2));
        recent.restart(at(900));
        assert_eq!(between(&recent, "a", 1, 2), None);
        recent.add(&[event("a", 901)]);
        assert_eq!(between(&recent, ">", 900, 901), Some(vec![901]));
    }
}
