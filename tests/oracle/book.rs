//! What every life keeps: what it draws from its seed, what was done, what logs have acknowledged, and the
//! places that readers were given.

mod carried;
mod readers;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::AddAssign;
use std::sync::Arc;

pub use self::carried::EndsAt;
pub use self::readers::{fates_of, is_at_hand};
use fanfare::clock::Instant;
use fanfare::history::{Asked, IdempotencyKey, Receipt};
use fanfare::model::{Cursor, Data, Event, NewEvent, Timestamp, Topic};

use crate::CARRYING;
use crate::chronicle::{Chronicle, Entry, Fault, Given, id};
use crate::seed::Dice;
use crate::trace::Trace;

/// How readings came out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub exact: usize,
    pub told: usize,
    pub needless: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.exact += other.exact;
        self.told += other.told;
        self.needless += other.needless;
    }
}

/// A place that a reader was given, and how much of which log it had seen by then.
#[derive(Debug, Clone, Copy)]
pub struct Bookmark {
    pub cursor: Cursor,
    pub line: usize,
    pub seen: usize,
}

/// The first of all kept events that is one of those which are too old, and not the current value of its topic:
/// that one may stay.
pub fn too_old<'a>(kept: &'a Given, late: &[usize]) -> Option<&'a Arc<Event>> {
    let is_replaced = |at: usize, event: &Event| {
        kept.events[at + 1..].iter().any(|later| later.topic == event.topic)
    };
    let mut events = kept.events.iter().enumerate();
    events
        .find(|(at, event)| late.contains(&id(event)) && is_replaced(*at, event))
        .map(|found| found.1)
}

/// The book of one life.
pub struct Book {
    pub dice: Dice,
    pub trace: Trace,
    pub tally: Tally,
    /// What each log has acknowledged.
    pub chronicles: Vec<Chronicle>,
    pub bookmarks: Vec<Bookmark>,
    /// How many events there were.
    pub events: usize,
    /// Events carry something, and come under terms.
    pub carries: bool,
    /// Values last in real time, and by no clock that is held.
    pub is_in_real_time: bool,
    /// The values of each log that end by themselves.
    pub ends: HashMap<usize, BTreeMap<Topic, EndsAt>>,
    /// The current values of each log whose rules let them stay, by topic.
    values: HashMap<usize, BTreeMap<Topic, usize>>,
    /// Every place that an event of any log was given.
    given: HashSet<Cursor>,
}

impl Book {
    /// The book of the life that follows from a seed.
    pub fn new(seed: u64, shows_all: bool) -> Self {
        Self {
            dice: Dice::of(seed),
            trace: Trace::new(shows_all),
            tally: Tally::default(),
            chronicles: Vec::new(),
            bookmarks: Vec::new(),
            events: 0,
            carries: seed / CARRYING % 2 == 1,
            is_in_real_time: false,
            ends: HashMap::new(),
            values: HashMap::new(),
            given: HashSet::new(),
        }
    }

    /// A log goes on, and what it has may be less; from here on current values stay or do not.
    pub fn opened(&mut self, line: usize, keep_newest: bool) {
        self.values.remove(&line);
        self.ends.remove(&line);
        if keep_newest {
            self.values.insert(line, BTreeMap::new());
        }
    }

    /// A log has forgotten a topic.
    pub fn forgotten(&mut self, line: usize, topic: &Topic) {
        if let Some(ends) = self.ends.get_mut(&line) {
            ends.remove(topic);
        }
        if let Some(values) = self.values.get_mut(&line) {
            values.remove(topic);
        }
    }

    fn event(&mut self, topic: &str) -> NewEvent {
        self.events += 1;
        let topic = Topic::parse(topic).expect("a topic");
        let text = match self.dice.below(30) {
            0 => "x".repeat(self.dice.below(40_000)),
            1..10 => "x".repeat(self.dice.below(200)),
            _ => String::new(),
        };
        let data = format!("[{},\"{text}\"]", self.events);
        let data = Data::from_json(data.as_bytes(), 4).expect("JSON");
        NewEvent::new(topic, None, data)
    }

    /// New events of these topics, for one log.
    pub fn events_of(&mut self, line: usize, topics: &[&str]) -> Vec<NewEvent> {
        let first = self.events + 1;
        self.trace.step(format!("line {line}: {} from {first} on", topics.join(" ")));
        let mut events: Vec<_> = topics.iter().map(|topic| self.event(topic)).collect();
        if self.carries {
            events.iter_mut().for_each(|event| self.load(line, event));
        }
        events
    }

    /// The same, which carry nothing.
    pub fn bare_events_of(&mut self, line: usize, topics: &[&str]) -> Vec<NewEvent> {
        let carries = std::mem::take(&mut self.carries);
        let events = self.events_of(line, topics);
        self.carries = carries;
        events
    }

    /// A key that was not used before, for the newest events.
    pub fn key(&self) -> IdempotencyKey {
        let mut scope = [0; 32];
        scope[..8].copy_from_slice(&(self.events as u64).to_le_bytes());
        let asked = Asked { events: Some(scope), raw: Some(scope) };
        IdempotencyKey { scope, asked, is_in_series: false }
    }

    /// The newest events were acknowledged at this moment, by a clock that says so.
    pub fn acknowledged(
        &mut self,
        line: usize,
        events: &[NewEvent],
        receipt: &Receipt,
        now: Timestamp,
        born: Instant,
    ) -> Result<(), Fault> {
        let first = self.events + 1 - receipt.events.len();
        for ((id, event), receipt) in (first..).zip(events).zip(&receipt.events) {
            if (receipt.time.millis() - now.millis()).abs() > 60_000 {
                return Err(Fault(format!("{id} is dated {} at {now}", receipt.time)));
            }
            let Some(cursor) = receipt.cursor else { continue };
            if !self.given.insert(cursor) {
                return Err(Fault(format!("{cursor}, the place of {id}, was given before")));
            }
            let (topic, date) = (receipt.topic.clone(), receipt.time);
            let carried = event.envelope.as_deref().cloned();
            let is_tombstone = carried.as_ref().is_some_and(|it| it.removed().is_some());
            match self.values.get_mut(&line) {
                Some(values) if is_tombstone => _ = values.remove(&topic),
                Some(values) => _ = values.insert(topic.clone(), id),
                None => {}
            }
            let ends = self.ends.entry(line).or_default();
            ends.remove(&topic);
            if let Some(ttl) = carried.as_ref().and_then(|carried| carried.ttl()) {
                ends.insert(topic.clone(), EndsAt { id, born, at: born + ttl });
            }
            self.chronicles[line].add(Entry { id, topic, cursor, date, born, carried });
        }
        Ok(())
    }
}
