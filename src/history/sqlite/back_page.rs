//! One page of events, read backwards: newest first, along the few topics that match or along the log.
//!
//! As forwards, an event knows the number of its topic's event before, and a topic the number of its newest: what is
//! not there although it should be is noted as missing.

use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use rusqlite::Row;

use super::super::FoundBack;
use super::reader::{Reader, Wanted};
use super::rows::{Coordinates, EventRow, RowError, RowResult, TopicRow};
use crate::model::Event;

/// The most events that one page looks at along the log.
const LOOKED_AT: usize = 4_096;

/// A page while it is put together.
pub(super) struct BackPage<'a> {
    reader: &'a Reader,
    wanted: &'a Wanted,
    pub(super) found: FoundBack,
    bytes: usize,
    /// Whether something that matches should be there and is not.
    pub(super) is_missing: bool,
}

impl<'a> BackPage<'a> {
    pub(super) fn new(reader: &'a Reader, wanted: &'a Wanted) -> Self {
        let found = FoundBack::default();
        Self { reader, wanted, found, bytes: 0, is_missing: false }
    }

    fn is_full(&self) -> bool {
        let Wanted { max_events, max_bytes, .. } = *self.wanted;
        let is_full = self.found.events.len() >= max_events || self.bytes >= max_bytes;
        is_full || self.found.looked_at >= LOOKED_AT
    }

    /// Takes the events of some topics, the newest first.
    pub(super) fn follow(&mut self, topics: Vec<TopicRow>) -> RowResult<()> {
        let mut next = BinaryHeap::new();
        for (at, topic) in topics.iter().enumerate() {
            let newest = self.newest_within(topic)?;
            next.extend(newest.map(|sequence| (sequence, at)));
        }
        let mut last = 0;
        while let Some(&(sequence, at)) = next.peek() {
            if self.is_full() {
                self.found.downto = last;
                break;
            }
            next.pop();
            last = sequence;
            self.found.looked_at += 1;
            let topic = &topics[at];
            let row = self
                .reader
                .event(sequence, |row| Ok((EventRow::coordinates(row)?, self.read(row, topic))))?;
            let before = match row {
                Some((coordinates, event)) => {
                    self.take(coordinates, event)?;
                    self.before(coordinates, topic)?
                }
                None => {
                    self.miss(sequence, topic);
                    self.reader.last_of(topic.id, sequence.saturating_sub(1))?
                }
            };
            next.extend(before.map(|sequence| (sequence, at)));
        }
        Ok(())
    }

    /// Takes matching events along the log, the newest first.
    pub(super) fn look_along(&mut self) -> RowResult<()> {
        // Of each topic that matches, the newest place that was looked at, and the oldest.
        let mut topics: HashMap<i64, Option<(TopicRow, Coordinates, Coordinates)>> = HashMap::new();
        let sql = format!(
            "SELECT {} FROM events WHERE sequence <= ?1 ORDER BY sequence DESC",
            EventRow::COLUMNS
        );
        let mut statement = self.reader.db.prepare_cached(&sql)?;
        let mut rows = statement.query((self.wanted.upto as i64,))?;
        let mut last = 0;
        while let Some(row) = rows.next()? {
            if self.is_full() {
                self.found.downto = last;
                break;
            }
            let coordinates = EventRow::coordinates(row)?;
            last = coordinates.sequence;
            self.found.looked_at += 1;
            let known = match topics.entry(coordinates.topic) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let topic = self.reader.topic_of(coordinates)?;
                    let matches = self.wanted.patterns.iter().any(|of| of.matches(&topic.name));
                    unknown.insert(matches.then_some((topic, coordinates, coordinates)))
                }
            };
            let Some((topic, _, oldest)) = known else { continue };
            let is_next =
                oldest.sequence == coordinates.sequence || oldest.previous == coordinates.sequence;
            if !is_next {
                self.miss(oldest.previous, topic);
            }
            *oldest = coordinates;
            let event = self.read(row, topic);
            self.take(coordinates, event)?;
        }
        self.check_ends(&topics)
    }

    /// Whose newest event lies within the page must have been seen with it, and what was before the oldest one that was
    /// seen must be there.
    fn check_ends(
        &mut self,
        topics: &HashMap<i64, Option<(TopicRow, Coordinates, Coordinates)>>,
    ) -> RowResult<()> {
        for (topic, _, oldest) in topics.values().flatten() {
            self.before(*oldest, topic)?;
        }
        let (from, upto) = (self.found.downto, self.wanted.upto);
        let within =
            self.reader.topics_where("last >= ?1 AND last <= ?2", (from as i64, upto as i64))?;
        for topic in within {
            let seen = topics.get(&topic.id).and_then(Option::as_ref);
            let is_seen = seen.is_some_and(|(_, newest, _)| newest.sequence == topic.last);
            let matches = self.wanted.patterns.iter().any(|of| of.matches(&topic.name));
            if matches && topic.retained > 0 && !is_seen {
                self.miss(topic.last, &topic);
            }
        }
        Ok(())
    }

    /// The newest event of a topic that is wanted at all.
    fn newest_within(&mut self, topic: &TopicRow) -> RowResult<Option<u64>> {
        let newest = self.reader.last_of(topic.id, self.wanted.upto)?;
        let is_last = newest == Some(topic.last);
        if topic.last <= self.wanted.upto && topic.retained > 0 && !is_last {
            self.miss(topic.last, topic);
        }
        Ok(newest)
    }

    /// The event of a topic before one of it.
    fn before(&mut self, coordinates: Coordinates, topic: &TopicRow) -> RowResult<Option<u64>> {
        let before = self.reader.last_of(topic.id, coordinates.sequence.saturating_sub(1))?;
        if before != Some(coordinates.previous) {
            self.miss(coordinates.previous, topic);
        }
        Ok(before)
    }

    /// Notes that an event is not there, unless it was removed.
    fn miss(&mut self, sequence: u64, topic: &TopicRow) {
        if sequence > topic.last_removed {
            tracing::error!(topic = %topic.name, sequence, "an event is missing");
            self.is_missing = true;
        }
    }

    fn read(&self, row: &Row<'_>, topic: &TopicRow) -> RowResult<Arc<Event>> {
        EventRow::read(row, &topic.name, self.wanted.head, &self.reader.epochs)
    }

    fn take(&mut self, coordinates: Coordinates, event: RowResult<Arc<Event>>) -> RowResult<()> {
        match event {
            Ok(event) => {
                self.bytes += event.cost();
                self.found.events.push(event);
            }
            Err(RowError::Damaged(damage)) => {
                tracing::error!(%damage, sequence = coordinates.sequence, "an event is left out");
                self.is_missing = true;
            }
            Err(RowError::Withheld(withheld)) => {
                tracing::debug!(%withheld, "an event is left out");
                self.is_missing = true;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
