//! One page of events, put together so that nothing can be missing unnoticed.
//!
//! An event knows the number of its topic's event before, and a topic the number of its newest. What
//! a page does not find although it should be there, or finds damaged, is lost, and told as a gap.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use rusqlite::Row;

use super::reader::{Reader, Wanted};
use super::rows::{Coordinates, EventRow, RowError, RowResult, TopicRow, collect};
use crate::model::Event;

/// The most events that one page looks at along the log: what is found less often than that comes in
/// several pages, so that no read takes long.
const LOOKED_AT: usize = 4_096;

/// How many of the next events say which way a page goes.
const TASTED: usize = 64;

/// Of how many of them one has to match for the way along the log to be the shorter one.
const SHARE: usize = 4;

/// The most topics that lost events which a page along the log goes through by choice.
const FEW_LOSSES: usize = 64;

/// The most topics that lost events which a page of very many topics looks at before it takes it
/// that one of them matches: a needless gap is allowed, a missing one is not.
const LOSSES_LOOKED_AT: usize = 50_000;

/// A page while it is put together.
pub(super) struct Page<'a> {
    reader: &'a Reader,
    wanted: &'a Wanted,
    pub(super) events: Vec<Arc<Event>>,
    bytes: usize,
    pub(super) lost: u64,
    /// The newest event that was looked at of each topic.
    seen: HashMap<i64, u64>,
}

impl<'a> Page<'a> {
    pub(super) fn new(reader: &'a Reader, wanted: &'a Wanted) -> Self {
        Self { reader, wanted, events: Vec::new(), bytes: 0, lost: 0, seen: HashMap::new() }
    }

    /// Takes matching events by the shorter way; returns where the page ends.
    pub(super) fn fill(&mut self) -> RowResult<u64> {
        if self.is_dense()? {
            let most = self.wanted.max_events.saturating_mul(SHARE);
            return self.look_along(most.clamp(TASTED, LOOKED_AT));
        }
        match self.reader.changed(self.wanted)? {
            Some(topics) => self.follow(topics),
            None => self.look_along(LOOKED_AT),
        }
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.wanted.max_events || self.bytes >= self.wanted.max_bytes
    }

    fn lose(&mut self, sequence: u64) {
        self.lost = self.lost.max(sequence);
    }

    /// Takes the events of some topics in the order of the log; returns where the page ends.
    fn follow(&mut self, topics: Vec<TopicRow>) -> RowResult<u64> {
        let Wanted { after, upto, .. } = *self.wanted;
        let mut next = BinaryHeap::new();
        for (at, topic) in topics.iter().enumerate() {
            self.lose(topic.last_removed);
            match self.reader.next_of(topic.id, after)? {
                Some(sequence) => next.push(Reverse((sequence, at))),
                // Its newest event is after the place, and not there.
                None => self.lose(topic.last),
            }
        }
        let mut end = upto;
        while let Some(&Reverse((sequence, at))) = next.peek()
            && sequence <= upto
        {
            if self.is_full() {
                end = sequence - 1;
                break;
            }
            next.pop();
            let topic = &topics[at];
            let coordinates = self.reader.event(sequence, |row| {
                let coordinates = EventRow::coordinates(row)?;
                Ok((coordinates, self.read(row, topic)))
            })?;
            match coordinates {
                Some((coordinates, event)) => self.take(coordinates, topic, event)?,
                None => self.lose(sequence),
            }
            self.seen.insert(topic.id, sequence);
            match self.reader.next_of(topic.id, sequence)? {
                Some(sequence) => next.push(Reverse((sequence, at))),
                None if topic.last > sequence => self.lose(topic.last),
                None => {}
            }
        }
        // What comes next of each topic must follow on what was seen of it.
        for Reverse((sequence, at)) in next {
            let topic = &topics[at];
            match self.reader.event(sequence, |row| Ok(EventRow::coordinates(row)?))? {
                Some(coordinates) if coordinates.topic == topic.id => {
                    self.check_chain(coordinates, topic)?;
                }
                _ => self.lose(sequence),
            }
        }
        Ok(end)
    }

    /// Whether the way along the log is the shorter one: a good part of what comes next matches, and few topics have
    /// lost events, through which that way goes one by one.
    fn is_dense(&self) -> RowResult<bool> {
        let Wanted { after, upto, ref patterns, .. } = *self.wanted;
        let db = &self.reader.db;
        let next = "SELECT topic FROM events WHERE sequence > ?1 AND sequence <= ?2 \
             ORDER BY sequence LIMIT ?3";
        let parameters = (after as i64, upto as i64, TASTED as i64);
        let next: Vec<i64> = collect(db, next, parameters, |row| Ok(row.get(0)?))?;
        let mut topics: HashMap<i64, bool> = HashMap::new();
        let mut matching = 0;
        for topic in &next {
            let is_wanted = match topics.entry(*topic) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(unknown) => {
                    let row = TopicRow::numbered(db, *topic)?;
                    let matches = |row: TopicRow| patterns.iter().any(|it| it.matches(&row.name));
                    *unknown.insert(row.is_some_and(matches))
                }
            };
            matching += usize::from(is_wanted);
        }
        if matching == 0 || matching * SHARE < next.len() {
            return Ok(false);
        }
        let lost = "SELECT 1 FROM topics WHERE last_removed > ?1 LIMIT ?2";
        let parameters = (after as i64, FEW_LOSSES as i64 + 1);
        Ok(collect(db, lost, parameters, |_| Ok(()))?.len() <= FEW_LOSSES)
    }

    /// Takes matching events along the log, looking at so many of all; returns where the page ends.
    fn look_along(&mut self, most: usize) -> RowResult<u64> {
        let Wanted { after, upto, ref patterns, .. } = *self.wanted;
        let mut topics: HashMap<i64, Option<TopicRow>> = HashMap::new();
        let sql = format!(
            "SELECT {} FROM events WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence",
            EventRow::COLUMNS
        );
        let mut statement = self.reader.db.prepare_cached(&sql)?;
        let mut rows = statement.query((after as i64, upto as i64))?;
        let (mut end, mut looked_at) = (upto, 0);
        while let Some(row) = rows.next()? {
            let coordinates = EventRow::coordinates(row)?;
            if self.is_full() || looked_at >= most {
                end = coordinates.sequence - 1;
                break;
            }
            looked_at += 1;
            let topic = match topics.entry(coordinates.topic) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let row = self.reader.topic_of(coordinates)?;
                    let matches = patterns.iter().any(|pattern| pattern.matches(&row.name));
                    unknown.insert(matches.then_some(row))
                }
            };
            if let Some(topic) = topic {
                let event = self.read(row, topic);
                self.take(coordinates, topic, event)?;
                self.seen.insert(coordinates.topic, coordinates.sequence);
            }
        }
        // Whose newest event lies within the page must have been seen with it.
        let within =
            self.reader.topics_where("last > ?1 AND last <= ?2", (after as i64, end as i64))?;
        for topic in within {
            let matches = patterns.iter().any(|pattern| pattern.matches(&topic.name));
            if matches && topic.retained > 0 && self.seen.get(&topic.id) != Some(&topic.last) {
                self.lose(topic.last);
            }
        }
        self.lose_what_was_removed()?;
        Ok(end)
    }

    /// The newest removed event of any topic that matches, where there are too many to go through.
    pub(super) fn lose_what_was_removed(&mut self) -> RowResult<()> {
        let sql = format!(
            "SELECT {} FROM topics WHERE last_removed > ?1 ORDER BY last_removed DESC",
            TopicRow::COLUMNS
        );
        let mut statement = self.reader.db.prepare_cached(&sql)?;
        let removed =
            statement.query_and_then((self.wanted.after as i64,), TopicRow::read)?.enumerate();
        for (looked_at, topic) in removed {
            let topic = topic?;
            let matches = self.wanted.patterns.iter().any(|pattern| pattern.matches(&topic.name));
            if matches || looked_at >= LOSSES_LOOKED_AT {
                self.lose(topic.last_removed);
                break;
            }
        }
        Ok(())
    }

    fn read(&self, row: &Row<'_>, topic: &TopicRow) -> RowResult<Arc<Event>> {
        EventRow::read(row, &topic.name, self.wanted.head, &self.reader.epochs)
    }

    fn take(
        &mut self,
        coordinates: Coordinates,
        topic: &TopicRow,
        event: RowResult<Arc<Event>>,
    ) -> RowResult<()> {
        match event {
            Ok(event) => {
                self.check_chain(coordinates, topic)?;
                self.bytes += event.cost();
                self.events.push(event);
            }
            Err(RowError::Damaged(damage)) => {
                tracing::error!(%damage, "an event is left out");
                self.lose(coordinates.sequence);
            }
            Err(RowError::Withheld(withheld)) => {
                tracing::debug!(%withheld, "an event is left out");
                self.check_chain(coordinates, topic)?;
                self.lose(coordinates.sequence);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Notes a loss where the topic's event before this one should be there and is not.
    fn check_chain(&mut self, coordinates: Coordinates, topic: &TopicRow) -> RowResult<()> {
        let previous = coordinates.previous;
        let is_whole = match self.seen.get(&topic.id) {
            Some(seen) => previous == *seen,
            None if previous <= topic.last_removed || previous == 0 => true,
            None if previous > self.wanted.after => false,
            // It belongs to an earlier page, which may not have found it.
            None => self.reader.has(topic.id, previous)?,
        };
        if !is_whole {
            tracing::error!(topic = %topic.name, sequence = previous, "an event is missing");
            // Told as a loss of this page, so that it is told at all.
            self.lose(previous.max(self.wanted.after + 1));
        }
        Ok(())
    }
}
