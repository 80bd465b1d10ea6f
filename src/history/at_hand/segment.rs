//! A stretch of the log, immutable once somebody reads it: its events in order, and the way along each topic.

use std::collections::HashMap;
use std::sync::Arc;

use super::wanted::Wanted;
use crate::model::{Cursor, Event, Topic};

/// The most events of a segment.
pub(super) const EVENTS: usize = 256;

/// What an event takes of memory, about, beside what [`Event::cost`] counts.
const COST: usize = 64;

/// Events that come one after the other in the log.
#[derive(Debug, Clone, Default)]
pub(super) struct Segment {
    events: Vec<(Cursor, Arc<Event>)>,
    /// Of each event, behind which of them the one before of its topic stands; 0 where that is in no segment or in
    /// an earlier one.
    previous: Vec<u16>,
    /// Behind which of them the newest event of each topic stands.
    newest: HashMap<Topic, u16>,
    bytes: usize,
}

impl Segment {
    /// Adds the event that comes next.
    pub(super) fn push(&mut self, place: Cursor, event: Arc<Event>) {
        self.bytes += event.cost() + COST;
        let behind = self.events.len() as u16 + 1;
        let previous = match self.newest.get_mut(&event.topic) {
            Some(newest) => std::mem::replace(newest, behind),
            None => self.newest.insert(event.topic.clone(), behind).unwrap_or(0),
        };
        self.previous.push(previous);
        self.events.push((place, event));
    }

    /// What it takes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many events it has.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether its first event comes before a place, or is there.
    pub(super) fn begins_before(&self, place: Cursor) -> bool {
        self.events.first().is_some_and(|(first, _)| *first <= place)
    }

    /// The place of its last event.
    pub(super) fn end(&self) -> Option<Cursor> {
        self.events.last().map(|(place, _)| *place)
    }

    /// The number of the newest event of a topic.
    pub(super) fn newest(&self, topic: &Topic) -> Option<u64> {
        let behind = usize::from(*self.newest.get(topic)?);
        self.events.get(behind.checked_sub(1)?).map(|(place, _)| place.sequence)
    }

    /// The events after one number and up to another that are wanted, in order, and how many looks that took.
    pub(super) fn find(
        &self,
        wanted: &Wanted<'_>,
        after: u64,
        upto: u64,
    ) -> (Vec<&(Cursor, Arc<Event>)>, usize) {
        let from = self.events.partition_point(|(place, _)| place.sequence <= after);
        let to = self.events.partition_point(|(place, _)| place.sequence <= upto);
        let Some(stretch) = self.events.get(from..to) else { return (Vec::new(), 0) };
        match wanted.names() {
            Some(names) if names.len() < stretch.len() => {
                let mut found: Vec<_> = names.iter().flat_map(|name| self.chain(name)).collect();
                found.retain(|at| (from..to).contains(at));
                found.sort_unstable();
                let looks = names.len() + found.len();
                (found.into_iter().filter_map(|at| self.events.get(at)).collect(), looks)
            }
            _ => {
                let found = stretch.iter().filter(|(_, event)| wanted.has(&event.topic));
                (found.collect(), stretch.len())
            }
        }
    }

    /// Where the events of a topic stand, the newest first.
    fn chain(&self, name: &str) -> impl Iterator<Item = usize> {
        let newest = self.newest.get(name).copied();
        let next = |behind: &u16| self.previous.get(usize::from(*behind).checked_sub(1)?).copied();
        let behind = std::iter::successors(newest, next).take_while(|behind| *behind > 0);
        behind.map(|behind| usize::from(behind) - 1)
    }
}
