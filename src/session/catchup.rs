//! The live events that wait while one subscribe is being caught up with history.
//!
//! Pure state. Register first, note the boundary, read the history up to it while later events wait
//! here, then go live. What waits is bounded: when it grows too large it is dropped, for it can be
//! read from the history again up to a new boundary.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::filters::Filters;
use super::topic_set::TopicSet;
use crate::broker::{Delivery, Roll, Waiting};
use crate::clock::Instant;
use crate::metrics::Gap;
use crate::model::{Cursor, Event, Pattern, Topic};

/// One subscribe on its way to live.
#[derive(Debug)]
pub struct Catchup {
    /// The number that its replayed events carry.
    pub reference: Option<u64>,
    /// When it was taken.
    pub begun_at: Instant,
    /// It asked by a time over which the clock went back.
    pub is_short: bool,
    /// It was live, and becomes so again: what waits is no replay.
    pub is_renewal: bool,
    patterns: Vec<Pattern>,
    /// Some of what was asked for is wanted no longer.
    is_reduced: bool,
    filters: Filters,
    /// Where the history is to be read up to; none before the subscription begins.
    boundary: Option<Cursor>,
    held: VecDeque<Waiting>,
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
    past: Past,
}

/// Whether the client is to be told first what nodes said of themselves lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    /// It hears what is said from here on.
    NotAsked,
    /// What is said now will be in it.
    Awaited,
    /// What is said now follows it.
    Told,
}

impl Catchup {
    /// A subscribe that has not begun. At most `max_bytes` of events will wait.
    pub fn new(reference: Option<u64>, patterns: Vec<Pattern>, max_bytes: usize) -> Self {
        Self {
            reference,
            begun_at: Instant::now(),
            is_short: false,
            is_renewal: false,
            rooms: Vec::new(),
            awaits_roll: TopicSet::Nothing,
            waits_for_turn: false,
            filters: Filters::default(),
            past: Past::NotAsked,
            patterns,
            is_reduced: false,
            boundary: None,
            held: VecDeque::new(),
            held_bytes: 0,
            max_bytes,
            overflowed: false,
            sent: None,
            snapshot: HashMap::new(),
        }
    }

    /// The same, of which these say what is wanted.
    pub fn filtered(self, filters: Filters) -> Self {
        Self { filters, ..self }
    }

    /// What is asked of each event.
    pub fn filters(&self) -> &Filters {
        &self.filters
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

    /// Whether an event is wanted, and not only its topic.
    pub fn asks_for(&self, event: &Event) -> bool {
        let mut matching = self.patterns.iter().filter(|pattern| pattern.matches(&event.topic));
        matching.any(|pattern| self.filters.wants(pattern, event))
    }

    /// Wants `patterns` no longer; true if nothing is left to want.
    pub fn unsubscribe(&mut self, patterns: &[Pattern]) -> bool {
        let asked = self.patterns.len();
        self.patterns.retain(|pattern| !patterns.contains(pattern));
        self.is_reduced |= self.patterns.len() < asked;
        self.patterns.is_empty()
    }

    /// Why what came after a place is missing.
    pub fn gap_since(&mut self, since: Cursor) -> Gap {
        if std::mem::take(&mut self.is_short) {
            return Gap::Clock;
        }
        match self.boundary {
            Some(boundary) if boundary.log != since.log || boundary < since => Gap::Foreign,
            _ => Gap::Retention,
        }
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

    /// Asks what nodes said of themselves lately, where current values are wanted and that matches.
    pub fn ask_past(&mut self, wants_values: bool) {
        if wants_values && self.matches(&Topic::metrics()) {
            self.past = Past::Awaited;
        }
    }

    /// From here on what nodes say waits, for what they said before is about to be told; false where that is not asked.
    pub fn begin_past(&mut self) -> bool {
        let asks = self.past == Past::Awaited;
        if asks {
            self.past = Past::Told;
        }
        asks
    }

    /// Whether what nodes say goes out at once.
    pub fn asks_no_past(&self) -> bool {
        self.past == Past::NotAsked
    }

    /// Whether what nodes say waits for what they said before.
    pub fn has_begun_past(&self) -> bool {
        self.past == Past::Told
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
        let event = &delivery.event;
        let is_wanted =
            self.has_begun() && self.asks_for(event) && !self.awaits_roll_of(&event.topic);
        if !is_wanted || self.overflowed {
            return;
        }
        let waiting = Waiting::new(delivery);
        self.held_bytes += waiting.bytes;
        self.held.push_back(waiting);
        if self.held_bytes > self.max_bytes {
            self.held = VecDeque::new();
            self.held_bytes = 0;
            self.overflowed = true;
            if self.past == Past::Told {
                self.past = Past::Awaited;
            }
            if !self.rooms.is_empty() {
                self.awaits_roll = TopicSet::All;
            }
        }
    }

    /// Drops what waits of some topics, or of all: it was lost, or leads to values that are read again.
    pub fn forget(&mut self, lost: Option<&[Topic]>) {
        let is_lost = |topic: &Topic| match lost {
            Some(lost) => lost.contains(topic),
            // The log does not have what nodes say of themselves.
            None => !topic.is_metrics(),
        };
        self.held.retain(|waiting| !is_lost(&waiting.delivery.event.topic));
        self.held_bytes = self.held.iter().map(|waiting| waiting.bytes).sum();
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

    /// How much waits that may be sent, in bytes: nothing, as long as it is to be told
    /// before who is in some topics.
    pub fn held_bytes(&self) -> usize {
        if self.awaits_roll == TopicSet::Nothing { self.held_bytes } else { 0 }
    }

    /// How much of that is the oldest event's.
    pub fn next_held_bytes(&self) -> usize {
        self.held.front().map_or(0, |waiting| waiting.bytes)
    }

    /// The oldest event that waits and is still wanted.
    pub fn next_held(&mut self) -> Option<Arc<Delivery>> {
        while let Some(Waiting { delivery, bytes }) = self.held.pop_front() {
            self.held_bytes -= bytes;
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

    /// Whether an event that was read or waited for it is wanted still, and not older than its topic's snapshot.
    pub fn wants(&self, event: &Event) -> bool {
        let sent = self.snapshot.get(&event.topic);
        let superseded = match (event.cursor, sent) {
            (Some(cursor), Some(sent)) => cursor.sequence <= *sent,
            _ => false,
        };
        let is_asked_for = || {
            let is_as_it_was = !self.is_reduced && self.filters.is_empty();
            is_as_it_was || self.asks_for(event)
        };
        !superseded && is_asked_for()
    }
}

#[cfg(test)]
mod tests;
