//! Reading from the database: pages of events, current values, topics.
//!
//! A page either follows the few topics that match and have changed, each along its own index, or
//! looks along the log where very many have. Either way nothing can be missing unnoticed: an event
//! knows the number of its topic's event before, and a topic the number of its newest; what a page
//! does not find although it should be there becomes a gap.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row};

use super::rows::{Epochs, EventRow, LogRow, Place, RowError, RowResult, TopicRow};
use crate::model::{Cursor, Event, Pattern, Topic};

/// The most topics that are followed one by one.
const FOLLOWED: usize = 2_048;

/// The most events or topics that one page looks at: what is found less often than that comes in
/// several pages, so that no read takes long.
const LOOKED_AT: usize = 4_096;

/// The most topics that lost events which a page of very many topics looks at before it takes it
/// that one of them matches: a needless gap is allowed, a missing one is not.
const LOSSES_LOOKED_AT: usize = 50_000;

/// A connection that reads.
pub(super) struct Reader {
    db: Connection,
    epochs: Epochs,
}

/// Which events to read.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) patterns: Arc<[Pattern]>,
    pub(super) after: u64,
    pub(super) upto: u64,
    pub(super) max_events: usize,
    pub(super) max_bytes: usize,
    /// The head of the log, for its name and epoch.
    pub(super) head: Cursor,
}

/// A page of events.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) events: Vec<Arc<Event>>,
    /// The newest number after `after` that is missing.
    pub(super) lost: Option<u64>,
    /// Where the page ends.
    pub(super) upto: u64,
}

/// The newest events or the rows of topics, and the topic up to which all were looked at, unless
/// that is the last one.
#[derive(Debug)]
pub(super) struct ByTopic<T> {
    pub(super) found: Vec<(Topic, T)>,
    pub(super) upto: Option<Topic>,
}

/// A page while it is put together.
struct Page<'a> {
    reader: &'a Reader,
    wanted: &'a Wanted,
    events: Vec<Arc<Event>>,
    bytes: usize,
    lost: u64,
    /// The newest event that was looked at of each topic.
    seen: HashMap<i64, u64>,
}

impl Reader {
    pub(super) fn new(db: Connection) -> RowResult<Self> {
        let epochs = Epochs::read(&db)?;
        Ok(Self { db, epochs })
    }

    /// The events of one page.
    pub(super) fn events(&self, wanted: &Wanted) -> RowResult<Found> {
        // Everything below sees one state of the database.
        let transaction = self.db.unchecked_transaction()?;
        let mut page = Page {
            reader: self,
            wanted,
            events: Vec::new(),
            bytes: 0,
            lost: 0,
            seen: HashMap::new(),
        };
        let upto = match self.changed(wanted)? {
            Some(topics) => page.follow(topics)?,
            None => page.look_along()?,
        };
        let lost = page.lost.max(self.floor(wanted)?);
        let events = page.events;
        transaction.finish()?;
        Ok(Found { events, lost: (lost > wanted.after).then_some(lost), upto })
    }

    /// Up to where nothing is known of topics that have no row and could match.
    fn floor(&self, wanted: &Wanted) -> RowResult<u64> {
        let log = self
            .db
            .prepare_cached(LogRow::SELECT)?
            .query_and_then((), LogRow::read)?
            .next()
            .transpose()?;
        let floor = log.map_or(0, |log| log.floor);
        if floor <= wanted.after {
            return Ok(0);
        }
        for pattern in &*wanted.patterns {
            let is_known = match pattern.as_topic() {
                Some(topic) => self.topic(&topic)?.is_some(),
                None => false,
            };
            if !is_known {
                return Ok(floor);
            }
        }
        Ok(0)
    }

    /// Topics that match and have had an event after a place; none where there are too many to
    /// follow.
    fn changed(&self, wanted: &Wanted) -> RowResult<Option<Vec<TopicRow>>> {
        let mut changed: HashMap<i64, TopicRow> = HashMap::new();
        let mut wildcards = Vec::new();
        for pattern in &*wanted.patterns {
            match pattern.as_topic() {
                Some(topic) => {
                    let row = self.topic(&topic)?.filter(|row| row.last > wanted.after);
                    changed.extend(row.map(|row| (row.id, row)));
                }
                None => wildcards.push(pattern),
            }
        }
        if !wildcards.is_empty() {
            let Some(rows) = self.matching_changed(&wildcards, wanted.after)? else {
                return Ok(None);
            };
            changed.extend(rows.into_iter().map(|row| (row.id, row)));
        }
        Ok(Some(changed.into_values().collect()))
    }

    /// Changed topics that a wildcard matches, found among all that changed or, where those are too
    /// many, among all that begin as the wildcards do.
    fn matching_changed(
        &self,
        wildcards: &[&Pattern],
        after: u64,
    ) -> RowResult<Option<Vec<TopicRow>>> {
        let matches = |row: &TopicRow| wildcards.iter().any(|pattern| pattern.matches(&row.name));
        if self.are_few("last > ?1", (after as i64,))? {
            let recent = self.topics_where("last > ?1", (after as i64,))?;
            return Ok(Some(recent.into_iter().filter(matches).collect()));
        }
        let mut rows = Vec::new();
        for pattern in wildcards {
            let prefix = pattern.literal_prefix();
            let named = (prefix, after_prefix(prefix));
            if prefix.is_empty() || !self.are_few("name >= ?1 AND name < ?2", named.clone())? {
                return Ok(None);
            }
            let named = self.topics_where("name >= ?1 AND name < ?2", named)?;
            rows.extend(named.into_iter().filter(|row| row.last > after && matches(row)));
        }
        Ok(Some(rows))
    }

    /// Whether few enough topics to follow meet a condition that an index knows of.
    fn are_few(&self, condition: &str, parameters: impl rusqlite::Params) -> RowResult<bool> {
        let limit = FOLLOWED + 1;
        let sql =
            format!("SELECT COUNT(*) FROM (SELECT 1 FROM topics WHERE {condition} LIMIT {limit})");
        let mut statement = self.db.prepare_cached(&sql)?;
        let count: u32 = statement.query_row(parameters, |row| row.get(0))?;
        Ok(count as usize <= FOLLOWED)
    }

    fn topics_where(
        &self,
        condition: &str,
        parameters: impl rusqlite::Params,
    ) -> RowResult<Vec<TopicRow>> {
        let sql = format!("SELECT {} FROM topics WHERE {condition}", TopicRow::COLUMNS);
        let mut statement = self.db.prepare_cached(&sql)?;
        statement.query_and_then(parameters, TopicRow::read)?.collect()
    }

    pub(super) fn topic(&self, name: &Topic) -> RowResult<Option<TopicRow>> {
        Ok(self.topics_where("name = ?1", (name.as_str(),))?.into_iter().next())
    }

    fn topic_of(&self, place: Place) -> RowResult<TopicRow> {
        let row = self.topics_where("id = ?1", (place.topic,))?.into_iter().next();
        row.ok_or_else(|| RowError::without_topic(place.sequence))
    }

    fn event<T>(
        &self,
        sequence: u64,
        read: impl FnOnce(&Row<'_>) -> RowResult<T>,
    ) -> RowResult<Option<T>> {
        let sql = format!("SELECT {} FROM events WHERE sequence = ?1", EventRow::COLUMNS);
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query((sequence as i64,))?;
        rows.next()?.map(read).transpose()
    }

    /// The number of a topic's next event after a place, along the topic's own index.
    fn next_of(&self, topic: i64, after: u64) -> RowResult<Option<u64>> {
        let mut statement = self.db.prepare_cached(
            "SELECT sequence FROM events INDEXED BY events_by_topic \
             WHERE topic = ?1 AND sequence > ?2 ORDER BY sequence LIMIT 1",
        )?;
        let next: Option<i64> =
            statement.query_row((topic, after as i64), |row| row.get(0)).optional()?;
        // A damaged index may lead back, and then has no more to say.
        Ok(next.map(|next| next as u64).filter(|next| *next > after))
    }

    /// The newest kept event of a topic.
    pub(super) fn newest_of(
        &self,
        topic: &TopicRow,
        head: Cursor,
    ) -> RowResult<Option<Arc<Event>>> {
        if topic.retained == 0 {
            return Ok(None);
        }
        let read = |row: &Row<'_>| EventRow::read(row, &topic.name, head, &self.epochs);
        let event = self.event(topic.last, read)?;
        Ok(Some(event.ok_or_else(|| RowError::missing(topic.last, &topic.name))?))
    }

    /// The newest kept event of each topic that one of the patterns matches, by topic.
    pub(super) fn newest(
        &self,
        patterns: &[Pattern],
        after: Option<&Topic>,
        limit: usize,
        head: Cursor,
    ) -> RowResult<ByTopic<Arc<Event>>> {
        let transaction = self.db.unchecked_transaction()?;
        let rows = self.by_name(patterns, after, limit)?;
        let mut found = Vec::new();
        for (name, row) in rows.found {
            if let Some(event) = self.newest_of(&row, head)? {
                found.push((name, event));
            }
        }
        transaction.finish()?;
        Ok(ByTopic { found, upto: rows.upto })
    }

    /// Topics with kept events that one of the patterns matches, by name.
    pub(super) fn by_name(
        &self,
        patterns: &[Pattern],
        after: Option<&Topic>,
        limit: usize,
    ) -> RowResult<ByTopic<TopicRow>> {
        let mut found: Vec<(Topic, TopicRow)> = Vec::new();
        let mut upto: Option<Topic> = None;
        for pattern in patterns {
            let prefix = pattern.literal_prefix();
            let rows = match pattern.as_topic() {
                Some(topic) if after.is_none_or(|after| topic > *after) => {
                    self.topic(&topic)?.into_iter().collect()
                }
                Some(_) => Vec::new(),
                None => self.topics_where(
                    "name >= ?1 AND name < ?2 AND name > ?3 ORDER BY name LIMIT ?4",
                    (
                        prefix,
                        after_prefix(prefix),
                        after.map_or("", Topic::as_str),
                        LOOKED_AT as i64,
                    ),
                )?,
            };
            let is_cut = rows.len() == LOOKED_AT;
            let last = rows.last().filter(|_| is_cut).map(|row| row.name.clone());
            upto = earlier(upto, last);
            let matching =
                rows.into_iter().filter(|row| row.retained > 0 && pattern.matches(&row.name));
            found.extend(matching.map(|row| (row.name.clone(), row)));
        }
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        found.dedup_by(|(a, _), (b, _)| a == b);
        if found.len() > limit {
            found.truncate(limit);
            upto = earlier(upto, found.last().map(|(name, _)| name.clone()));
        }
        found.retain(|(name, _)| upto.as_ref().is_none_or(|upto| name <= upto));
        Ok(ByTopic { found, upto })
    }

    /// The number of the newest event before a moment, in milliseconds since 1970; times never go
    /// back along the log.
    pub(super) fn newest_before(&self, millis: i64, head: u64) -> RowResult<u64> {
        let mut at_or_after = self.db.prepare_cached(
            "SELECT sequence, time FROM events WHERE sequence >= ?1 ORDER BY sequence LIMIT 1",
        )?;
        // Everything up to `low` is earlier; nothing from `high` on is.
        let (mut low, mut high) = (0, head + 1);
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            let found: Option<(i64, i64)> = at_or_after
                .query_row((middle as i64,), |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            match found {
                Some((sequence, time))
                    if time < millis && (middle..high).contains(&(sequence as u64)) =>
                {
                    low = sequence as u64;
                }
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Every event after a place, whichever topic it is of.
    pub(super) fn committed_after(&self, wanted: &Wanted) -> RowResult<Vec<Arc<Event>>> {
        let sql = format!(
            "SELECT {} FROM events WHERE sequence > ?1 ORDER BY sequence",
            EventRow::COLUMNS
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut rows = statement.query((wanted.after as i64,))?;
        let mut events = Vec::new();
        while let Some(row) = rows.next()? {
            let place = EventRow::place(row)?;
            let topic = self.topic_of(place)?;
            events.push(EventRow::read(row, &topic.name, wanted.head, &self.epochs)?);
        }
        Ok(events)
    }
}

impl Page<'_> {
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
            let place = self.reader.event(sequence, |row| {
                let place = EventRow::place(row)?;
                Ok((place, self.read(row, topic)))
            })?;
            match place {
                Some((place, event)) => self.take(place, topic, event)?,
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
            match self.reader.event(sequence, |row| Ok(EventRow::place(row)?))? {
                Some(place) if place.topic == topic.id => self.check_chain(place, topic)?,
                _ => self.lose(sequence),
            }
        }
        Ok(end)
    }

    /// Takes matching events along the log; returns where the page ends.
    fn look_along(&mut self) -> RowResult<u64> {
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
            let place = EventRow::place(row)?;
            if self.is_full() || looked_at >= LOOKED_AT {
                end = place.sequence - 1;
                break;
            }
            looked_at += 1;
            let topic = match topics.entry(place.topic) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let row = self.reader.topic_of(place)?;
                    let matches = patterns.iter().any(|pattern| pattern.matches(&row.name));
                    unknown.insert(matches.then_some(row))
                }
            };
            if let Some(topic) = topic {
                let event = self.read(row, topic);
                self.take(place, topic, event)?;
                self.seen.insert(place.topic, place.sequence);
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
    fn lose_what_was_removed(&mut self) -> RowResult<()> {
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
        place: Place,
        topic: &TopicRow,
        event: RowResult<Arc<Event>>,
    ) -> RowResult<()> {
        match event {
            Ok(event) => {
                self.check_chain(place, topic)?;
                self.bytes += event.cost();
                self.events.push(event);
            }
            Err(RowError::Damaged(damage)) => {
                tracing::error!(%damage, "an event is left out");
                self.lose(place.sequence);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Notes a loss where the topic's event before this one should be there and is not.
    fn check_chain(&mut self, place: Place, topic: &TopicRow) -> RowResult<()> {
        let previous = place.previous;
        let is_whole = match self.seen.get(&topic.id) {
            Some(seen) => previous == *seen,
            None if previous <= topic.last_removed || previous == 0 => true,
            None if previous > self.wanted.after => false,
            // It belongs to an earlier page, which may not have found it.
            None => {
                let before = previous.saturating_sub(1);
                self.reader.next_of(topic.id, before)? == Some(previous)
                    && self.reader.event(previous, |_| Ok(()))?.is_some()
            }
        };
        if !is_whole {
            tracing::error!(topic = %topic.name, sequence = previous, "an event is missing");
            // Told as a loss of this page, so that it is told at all.
            self.lose(previous.max(self.wanted.after + 1));
        }
        Ok(())
    }
}

/// The first text after all that begin with `prefix`; topics are ASCII.
fn after_prefix(prefix: &str) -> String {
    format!("{prefix}\u{7f}")
}

fn earlier(a: Option<Topic>, b: Option<Topic>) -> Option<Topic> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
