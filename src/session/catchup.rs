//! The live events that wait while one subscribe is being caught up with history.
//!
//! Pure state. Register first, note the boundary, read the history up to it while later events wait
//! here, then go live. What waits is bounded: when it grows too large it is dropped, for it can be
//! read from the history again up to a new boundary.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::broker::Delivery;
use crate::model::{Cursor, Event, Pattern, Topic};

/// One subscribe on its way to live.
#[derive(Debug)]
pub struct Catchup {
    /// The number that its replayed events carry.
    pub reference: Option<u64>,
    /// It was live, and becomes so again: what waits is no replay.
    pub is_renewal: bool,
    patterns: Vec<Pattern>,
    /// Where the history is to be read up to; none before the subscription begins.
    boundary: Option<Cursor>,
    held: VecDeque<Arc<Delivery>>,
    held_bytes: usize,
    max_bytes: usize,
    overflowed: bool,
    /// The newest event that waited and was sent.
    sent: Option<Cursor>,
    /// Sequence of the newest event sent of each topic whose snapshot was newer than the boundary.
    snapshot: HashMap<Topic, u64>,
}

impl Catchup {
    /// A subscribe that has not begun. At most `max_bytes` of events will wait.
    pub fn new(reference: Option<u64>, patterns: Vec<Pattern>, max_bytes: usize) -> Self {
        Self {
            reference,
            is_renewal: false,
            patterns,
            boundary: None,
            held: VecDeque::new(),
            held_bytes: 0,
            max_bytes,
            overflowed: false,
            sent: None,
            snapshot: HashMap::new(),
        }
    }

    /// What was live up to `boundary`, and is to be told current values again before it goes on.
    pub fn renewal(patterns: Vec<Pattern>, max_bytes: usize, boundary: Cursor) -> Self {
        let mut renewal = Self { is_renewal: true, ..Self::new(None, patterns, max_bytes) };
        renewal.begin(boundary);
        renewal
    }

    /// What is subscribed to.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether the subscription has begun: later events are its own.
    pub fn has_begun(&self) -> bool {
        self.boundary.is_some()
    }

    /// Whether an event of `topic` is wanted.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(topic))
    }

    /// Wants `patterns` no longer; true if nothing is left to want.
    pub fn unsubscribe(&mut self, patterns: &[Pattern]) -> bool {
        self.patterns.retain(|pattern| !patterns.contains(pattern));
        self.patterns.is_empty()
    }

    /// Begins at a boundary, or begins again at a later one after an overflow.
    pub fn begin(&mut self, boundary: Cursor) {
        self.boundary = Some(boundary);
        self.overflowed = false;
    }

    /// Takes an event of the log that came after the boundary.
    pub fn hold(&mut self, delivery: &Arc<Delivery>) {
        if !self.has_begun() || self.overflowed || !self.matches(&delivery.event.topic) {
            return;
        }
        self.held_bytes += delivery.event.cost();
        self.held.push_back(delivery.clone());
        if self.held_bytes > self.max_bytes {
            self.held = VecDeque::new();
            self.held_bytes = 0;
            self.overflowed = true;
        }
    }

    /// Drops what waits of some topics, or of all: it was lost, or leads to values that are read again.
    pub fn forget(&mut self, lost: Option<&[Topic]>) {
        let is_lost = |topic: &Topic| lost.is_none_or(|lost| lost.contains(topic));
        self.held.retain(|delivery| !is_lost(&delivery.event.topic));
        self.held_bytes = self.held.iter().map(|delivery| delivery.event.cost()).sum();
        self.snapshot.retain(|topic, _| !is_lost(topic));
    }

    /// Whether events that waited were dropped and have to be read again.
    pub fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// The newest event that waited and was sent: what was dropped came after it.
    pub fn sent(&self) -> Option<Cursor> {
        self.sent
    }

    /// How much waits, in bytes as [`Event::cost`] counts them.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// How much of that is the oldest event's.
    pub fn next_held_bytes(&self) -> usize {
        self.held.front().map_or(0, |delivery| delivery.event.cost())
    }

    /// The oldest event that waits and is still wanted.
    pub fn next_held(&mut self) -> Option<Arc<Delivery>> {
        while let Some(delivery) = self.held.pop_front() {
            self.held_bytes -= delivery.event.cost();
            self.sent = delivery.event.cursor;
            if self.wants(&delivery.event) {
                return Some(delivery);
            }
        }
        None
    }

    /// Notes that `event` was sent as the current value of its topic, so that what led to it is not
    /// sent after it.
    pub fn sent_snapshot(&mut self, event: &Event) {
        if let (Some(cursor), Some(boundary)) = (event.cursor, self.boundary)
            && cursor > boundary
        {
            self.snapshot.insert(event.topic.clone(), cursor.sequence);
        }
    }

    /// Whether an event is wanted and not older than its topic's snapshot.
    pub fn wants(&self, event: &Event) -> bool {
        let sent = self.snapshot.get(&event.topic);
        let superseded = match (event.cursor, sent) {
            (Some(cursor), Some(sent)) => cursor.sequence <= *sent,
            _ => false,
        };
        !superseded && self.matches(&event.topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Data, LogName, Timestamp};
    use std::time::SystemTime;

    fn cursor(sequence: u64) -> Cursor {
        Cursor { log: LogName::parse("abcdefgh").unwrap(), epoch: 1, sequence }
    }

    fn delivery(topic: &str, sequence: u64) -> Arc<Delivery> {
        Arc::new(Delivery::new(Arc::new(Event {
            cursor: Some(cursor(sequence)),
            topic: Topic::parse(topic).unwrap(),
            kind: None,
            time: Timestamp::from(SystemTime::UNIX_EPOCH),
            data: Data::from_text("x"),
            envelope: None,
        })))
    }

    fn catchup(max_bytes: usize) -> Catchup {
        Catchup::new(Some(1), vec![Pattern::parse("a.*").unwrap()], max_bytes)
    }

    fn held(catchup: &mut Catchup) -> Vec<u64> {
        let next = std::iter::from_fn(|| catchup.next_held());
        next.map(|delivery| delivery.event.cursor.unwrap().sequence).collect()
    }

    #[test]
    fn it_holds_what_matches_from_its_boundary_on() {
        let mut catchup = catchup(10_000);
        catchup.hold(&delivery("a.x", 1));
        catchup.begin(cursor(1));
        catchup.hold(&delivery("b", 2));
        catchup.hold(&delivery("a.x", 3));
        catchup.hold(&delivery("a.y", 4));
        assert_eq!(held(&mut catchup), [3, 4]);
        assert_eq!(catchup.held_bytes(), 0);
    }

    #[test]
    fn too_much_is_dropped_until_it_begins_again() {
        let mut catchup = catchup(delivery("a.x", 1).event.cost());
        catchup.begin(cursor(0));
        catchup.hold(&delivery("a.x", 1));
        assert!(!catchup.has_overflowed());
        catchup.hold(&delivery("a.x", 2));
        catchup.hold(&delivery("a.x", 3));
        assert!(catchup.has_overflowed());
        assert_eq!(held(&mut catchup), [0; 0]);
        catchup.begin(cursor(3));
        catchup.hold(&delivery("a.x", 4));
        assert_eq!(held(&mut catchup), [4]);
    }

    #[test]
    fn nothing_older_follows_the_snapshot_of_its_topic() {
        let mut catchup = catchup(10_000);
        catchup.begin(cursor(5));
        for (topic, sequence) in [("a.x", 6), ("a.y", 7), ("a.x", 8), ("a.x", 9)] {
            catchup.hold(&delivery(topic, sequence));
        }
        catchup.sent_snapshot(&delivery("a.x", 8).event);
        assert_eq!(held(&mut catchup), [7, 9]);
    }

    #[test]
    fn what_is_lost_is_forgotten_with_what_waits_of_it() {
        let mut catchup = catchup(10_000);
        catchup.begin(cursor(0));
        for (topic, sequence) in [("a.x", 1), ("a.y", 2), ("a.x", 3)] {
            catchup.hold(&delivery(topic, sequence));
        }
        catchup.forget(Some(&[Topic::parse("a.x").unwrap()]));
        catchup.hold(&delivery("a.x", 4));
        assert_eq!(held(&mut catchup), [2, 4]);
        catchup.hold(&delivery("a.y", 5));
        catchup.forget(None);
        assert_eq!((held(&mut catchup).len(), catchup.held_bytes()), (0, 0));
    }

    #[test]
    fn what_is_unsubscribed_meanwhile_is_not_sent() {
        let patterns = ["a.*", "b"].map(|text| Pattern::parse(text).unwrap());
        let mut catchup = Catchup::new(None, patterns.to_vec(), 10_000);
        catchup.begin(cursor(0));
        catchup.hold(&delivery("a.x", 1));
        catchup.hold(&delivery("b", 2));
        assert!(!catchup.unsubscribe(&patterns[..1]));
        assert_eq!(held(&mut catchup), [2]);
        assert!(catchup.unsubscribe(&patterns[1..]));
    }
}
