//! The live events that wait while one subscribe is being caught up with history.
//!
//! Pure state. Register first, note the boundary, read the history up to it while later events wait
//! here, then go live. What waits is bounded: when it grows too large it is dropped, for it can be
//! read from the history again up to a new boundary.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::catchups::TopicSet;
use crate::broker::{Delivery, Roll};
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
    /// Patterns of topics where it is told who is in others, which it asks about.
    rooms: Vec<Pattern>,
    /// Of what these match, where it is still to be heard who is there.
    awaits_roll: TopicSet,
    /// It was told, and is to ask again once earlier ones are live.
    waits_for_turn: bool,
}

impl Catchup {
    /// A subscribe that has not begun. At most `max_bytes` of events will wait.
    pub fn new(reference: Option<u64>, patterns: Vec<Pattern>, max_bytes: usize) -> Self {
        Self {
            reference,
            is_renewal: false,
            rooms: Vec::new(),
            awaits_roll: TopicSet::Nothing,
            waits_for_turn: false,
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

    /// Asks who is in topics, where these patterns are of such as tell it; to tell the client, or to know from where on
    /// to tell who comes and goes.
    pub fn ask_about(&mut self, patterns: &[Pattern]) {
        self.rooms = patterns.iter().filter(|pattern| pattern.is_presence()).cloned().collect();
        if !self.rooms.is_empty() {
            self.awaits_roll = TopicSet::All;
        }
    }

    /// Asks only about what was lost of that; the rest is known.
    pub fn ask_only_about(&mut self, lost: &TopicSet) {
        if let TopicSet::Of(lost) = lost {
            self.awaits_roll = TopicSet::Nothing;
            self.ask_roll_again(Some(lost));
        }
    }

    fn ask_roll_again(&mut self, lost: Option<&[Topic]>) {
        let asks = |room: &&Topic| self.rooms.iter().any(|pattern| pattern.matches(room));
        let rooms = lost.map(|lost| lost.iter().filter(asks).cloned().collect::<Vec<_>>());
        if !self.rooms.is_empty() && rooms.as_ref().is_none_or(|rooms| !rooms.is_empty()) {
            self.awaits_roll.and(rooms.as_deref());
        }
    }

    /// Whether it asks who is in topics.
    pub fn asks_who_is_there(&self) -> bool {
        !self.rooms.is_empty()
    }

    /// Is to ask again once it is its turn.
    pub fn wait_for_turn(&mut self) {
        self.waits_for_turn = true;
    }

    /// Whether it has waited for its turn, which this is.
    pub fn take_turn(&mut self) -> bool {
        std::mem::take(&mut self.waits_for_turn)
    }

    /// Of what it asks about, where it is still to be heard who is there: all that comes before is in that.
    pub fn awaits_roll(&self) -> &TopicSet {
        &self.awaits_roll
    }

    /// Whether it is still to be heard who is in a topic, known by the one where it is told.
    pub fn awaits_roll_of(&self, room: &Topic) -> bool {
        match &self.awaits_roll {
            TopicSet::Nothing => false,
            TopicSet::Of(rooms) => rooms.contains(room),
            TopicSet::All => self.rooms.iter().any(|pattern| pattern.matches(room)),
        }
    }

    /// Hears who is in topics. Where what came meanwhile is dropped, what comes behind this is dropped, too: it is
    /// asked again.
    pub fn hear_roll(&mut self, roll: &Roll) {
        if self.overflowed {
            return;
        }
        match &mut self.awaits_roll {
            TopicSet::All if self.rooms.iter().all(|one| roll.is_of(one)) => {
                self.awaits_roll = TopicSet::Nothing;
            }
            TopicSet::Of(rooms) => {
                rooms.retain(|room| !roll.covers(room));
                if rooms.is_empty() {
                    self.awaits_roll = TopicSet::Nothing;
                }
            }
            TopicSet::Nothing | TopicSet::All => {}
        }
    }

    /// Takes an event that came after the boundary.
    pub fn hold(&mut self, delivery: &Arc<Delivery>) {
        let topic = &delivery.event.topic;
        let is_wanted = self.has_begun() && self.matches(topic) && !self.awaits_roll_of(topic);
        if !is_wanted || self.overflowed {
            return;
        }
        self.held_bytes += delivery.event.cost();
        self.held.push_back(delivery.clone());
        if self.held_bytes > self.max_bytes {
            self.held = VecDeque::new();
            self.held_bytes = 0;
            self.overflowed = true;
            if !self.rooms.is_empty() {
                self.awaits_roll = TopicSet::All;
            }
        }
    }

    /// Drops what waits of some topics, or of all: it was lost, or leads to values that are read again.
    pub fn forget(&mut self, lost: Option<&[Topic]>) {
        let is_lost = |topic: &Topic| lost.is_none_or(|lost| lost.contains(topic));
        self.held.retain(|delivery| !is_lost(&delivery.event.topic));
        self.held_bytes = self.held.iter().map(|delivery| delivery.event.cost()).sum();
        self.snapshot.retain(|topic, _| !is_lost(topic));
        self.ask_roll_again(lost);
    }

    /// Whether events that waited were dropped and have to be read again.
    pub fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// The newest event that waited and was sent: what was dropped came after it.
    pub fn sent(&self) -> Option<Cursor> {
        self.sent
    }

    /// How much waits that may be sent, in bytes as [`Event::cost`] counts them: nothing, as long as it is to be told
    /// before who is in some topics.
    pub fn held_bytes(&self) -> usize {
        if self.awaits_roll == TopicSet::Nothing { self.held_bytes } else { 0 }
    }

    /// How much of that is the oldest event's.
    pub fn next_held_bytes(&self) -> usize {
        self.held.front().map_or(0, |delivery| delivery.event.cost())
    }

    /// The oldest event that waits and is still wanted.
    pub fn next_held(&mut self) -> Option<Arc<Delivery>> {
        while let Some(delivery) = self.held.pop_front() {
            self.held_bytes -= delivery.event.cost();
            self.sent = delivery.event.cursor.or(self.sent);
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
    use super::super::catchups::{Active, Catchups, Held};
    use super::*;
    use crate::broker::BarrierId;
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

    const ROOMS: [&str; 3] = ["$presence.r", "$presence.s", "a.*"];

    fn roll(rooms: &[&str]) -> Roll {
        Roll::of_nobody(rooms.iter().map(|text| Pattern::parse(text).unwrap()).collect())
    }

    fn catchup_of_rooms(max_bytes: usize) -> Catchup {
        let patterns = ROOMS.map(|text| Pattern::parse(text).unwrap());
        let mut catchup = Catchup::new(None, patterns.to_vec(), max_bytes);
        catchup.ask_about(&patterns);
        catchup.begin(cursor(0));
        catchup
    }

    #[test]
    fn what_came_before_the_members_were_told_is_in_them_and_what_comes_later_follows() {
        let mut catchup = catchup_of_rooms(10_000);
        for (topic, sequence) in [("$presence.r", 1), ("a.x", 2), ("$presence.s", 3)] {
            catchup.hold(&delivery(topic, sequence));
        }
        catchup.hear_roll(&roll(&ROOMS[..1]));
        assert_eq!(*catchup.awaits_roll(), TopicSet::All, "it does not hold all that was asked");
        catchup.hear_roll(&roll(&ROOMS[..2]));
        catchup.hold(&delivery("$presence.r", 4));
        assert_eq!(*catchup.awaits_roll(), TopicSet::Nothing);
        assert_eq!(held(&mut catchup), [2, 4]);
        // Where a change was lost they are to be told again, and where none was they are not.
        catchup.forget(Some(&[Topic::parse("a.x").unwrap()]));
        assert_eq!(*catchup.awaits_roll(), TopicSet::Nothing);
        let room = Topic::parse("$presence.s").unwrap();
        catchup.forget(Some(std::slice::from_ref(&room)));
        assert_eq!(*catchup.awaits_roll(), TopicSet::Of(vec![room]));
        catchup.hear_roll(&roll(&ROOMS[1..2]));
        assert_eq!(*catchup.awaits_roll(), TopicSet::Nothing);
    }

    #[test]
    fn who_leaves_before_a_later_subscribe_is_told_the_members_is_told_by_the_earlier_one() {
        let mut catchups = Catchups::default();
        let (barrier, catchup, values) = (BarrierId::ONE, catchup_of_rooms(10_000), Some(1));
        let (interval, reader, reread) = (None, None, TopicSet::Nothing);
        catchups.add(Active { barrier, catchup, values, interval, reader, reread });
        assert_eq!(
            catchups.hold(&delivery("$presence.r", 1)),
            Held::NotHere,
            "what is live has it"
        );
        catchups.called(barrier, Some(roll(&ROOMS[..2])));
        assert_eq!(catchups.hold(&delivery("$presence.r", 2)), Held::Waits);
        assert_eq!(held(&mut catchups.get(barrier).unwrap().catchup), [2]);
    }

    #[test]
    fn of_a_renewal_more_may_be_lost_than_it_was_begun_for() {
        let [r, s] = ["$presence.r", "$presence.s"].map(|name| Topic::parse(name).unwrap());
        let mut catchup = catchup_of_rooms(10_000);
        catchup.ask_only_about(&TopicSet::Of(vec![r.clone()]));
        catchup.hold(&delivery("$presence.s", 1));
        assert_eq!(*catchup.awaits_roll(), TopicSet::Of(vec![r.clone()]));
        catchup.forget(Some(std::slice::from_ref(&s)));
        assert_eq!(*catchup.awaits_roll(), TopicSet::Of(vec![r, s]));
        assert_eq!(held(&mut catchup), [0; 0]);
    }

    #[test]
    fn nothing_that_waits_is_sent_before_who_is_there() {
        let mut catchup = catchup_of_rooms(10_000);
        catchup.hear_roll(&roll(&ROOMS[..2]));
        catchup.hold(&delivery("$presence.r", 1));
        assert!(catchup.held_bytes() > 0);
        catchup.forget(Some(&[Topic::parse("$presence.s").unwrap()]));
        assert_eq!(catchup.held_bytes(), 0);
        catchup.hear_roll(&roll(&ROOMS[1..2]));
        assert!(catchup.held_bytes() > 0);
    }

    #[test]
    fn who_is_there_is_asked_again_where_what_follows_it_is_dropped() {
        let mut catchup = catchup_of_rooms(delivery("a.x", 1).event.cost());
        catchup.hold(&delivery("a.x", 1));
        catchup.hold(&delivery("a.x", 2));
        assert!(catchup.has_overflowed());
        catchup.hear_roll(&roll(&ROOMS[..2]));
        catchup.hold(&delivery("$presence.r", 3));
        assert_eq!(*catchup.awaits_roll(), TopicSet::All, "what came behind it is gone");
        catchup.begin(cursor(3));
        catchup.hear_roll(&roll(&ROOMS[..2]));
        assert_eq!(*catchup.awaits_roll(), TopicSet::Nothing);
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
