//! Reading from the database: events by their numbers, current values, topics.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row};

use super::super::{Newest, TopicSummary};
use super::epochs::Epochs;
use super::past::Past;
use super::removable::Removable;
use super::rows::{Coordinates, EventRow, LogRow, RowError, RowResult, TopicRow, integer};
use crate::model::{Cursor, Event, Pattern, Timestamp, Topic};

/// The most topics that one page of topics looks at.
const LOOKED_AT: usize = 4_096;

/// A connection that reads.
pub(super) struct Reader {
    pub(super) db: Connection,
    pub(super) epochs: Epochs,
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

/// The newest events or the rows of topics, and the topic up to which all were looked at, unless
/// that is the last one.
#[derive(Debug)]
pub(super) struct ByTopic<T> {
    pub(super) found: Vec<(Topic, T)>,
    pub(super) upto: Option<Topic>,
}

impl Reader {
    pub(super) fn new(db: Connection) -> RowResult<Self> {
        // Both are of one state of the database.
        let transaction = db.unchecked_transaction()?;
        let log = LogRow::of(&db)?;
        let epochs = Past::read(&db, log.map_or(0, |log| log.past))?.epochs;
        transaction.finish()?;
        Ok(Self { db, epochs })
    }

    /// Up to where nothing is known of topics that have no row and could match.
    pub(super) fn floor(&self, patterns: &[Pattern], after: u64) -> RowResult<u64> {
        let floor = LogRow::of(&self.db)?.map_or(0, |log| log.floor);
        if floor <= after {
            return Ok(0);
        }
        for pattern in patterns {
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

    pub(super) fn topics_where(
        &self,
        condition: &str,
        parameters: impl rusqlite::Params,
    ) -> RowResult<Vec<TopicRow>> {
        TopicRow::all_where(&self.db, condition, parameters)
    }

    pub(super) fn topic(&self, name: &Topic) -> RowResult<Option<TopicRow>> {
        TopicRow::named(&self.db, name)
    }

    pub(super) fn topic_of(&self, coordinates: Coordinates) -> RowResult<TopicRow> {
        let row = TopicRow::numbered(&self.db, coordinates.topic)?;
        row.ok_or_else(|| RowError::without_topic(coordinates.sequence))
    }

    pub(super) fn event<T>(
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
    pub(super) fn next_of(&self, topic: i64, after: u64) -> RowResult<Option<u64>> {
        let mut statement = self.db.prepare_cached(
            "SELECT sequence FROM events INDEXED BY events_by_topic \
             WHERE topic = ?1 AND sequence > ?2 ORDER BY sequence LIMIT 1",
        )?;
        let next: Option<i64> =
            statement.query_row((topic, after as i64), |row| row.get(0)).optional()?;
        // A damaged index may lead back, and then has no more to say.
        Ok(next.map(|next| next as u64).filter(|next| *next > after))
    }

    /// Whether the log has a topic's event under a number, along the topic's own index and without it.
    pub(super) fn has(&self, topic: i64, sequence: u64) -> RowResult<bool> {
        let mut statement = self.db.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM events INDEXED BY events_by_topic \
                 WHERE topic = ?1 AND sequence = ?2) \
             AND EXISTS (SELECT 1 FROM events NOT INDEXED WHERE sequence = ?2 AND topic = ?1)",
        )?;
        Ok(statement.query_row((topic, sequence as i64), |row| row.get(0))?)
    }

    /// The number of a topic's newest event up to a number, along the topic's own index.
    pub(super) fn last_of(&self, topic: i64, upto: u64) -> RowResult<Option<u64>> {
        let mut statement = self.db.prepare_cached(
            "SELECT sequence FROM events INDEXED BY events_by_topic \
             WHERE topic = ?1 AND sequence <= ?2 ORDER BY sequence DESC LIMIT 1",
        )?;
        let last: Option<i64> =
            statement.query_row((topic, upto as i64), |row| row.get(0)).optional()?;
        // A damaged index may lead on, and then has no more to say.
        Ok(last.map(|last| last as u64).filter(|last| *last <= upto))
    }

    /// The newest kept event of a topic; none where it may not be delivered by this release.
    pub(super) fn newest_of(
        &self,
        topic: &TopicRow,
        head: Cursor,
    ) -> RowResult<Option<Arc<Event>>> {
        if topic.retained == 0 {
            return Ok(None);
        }
        let read = |row: &Row<'_>| EventRow::read(row, &topic.name, head, &self.epochs);
        match self.event(topic.last, read) {
            Ok(Some(event)) => Ok(Some(event)),
            Ok(None) => Err(RowError::missing(topic.last, &topic.name)),
            Err(RowError::Withheld(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The newest kept event of each topic that one of the patterns matches, by topic; of those that changed after a
    /// number, where one is given, and whether some of what came after it is gone with nothing newer of its topic kept.
    pub(super) fn newest(
        &self,
        Newest { patterns, after, max_events, max_bytes, .. }: &Newest,
        changed_after: Option<u64>,
        head: Cursor,
    ) -> RowResult<(ByTopic<Arc<Event>>, bool)> {
        let transaction = self.db.unchecked_transaction()?;
        let rows = match changed_after {
            Some(since) if self.are_few("last > ?1", (integer(since),))? => {
                self.changed_by_name(patterns, after.as_ref(), since)?
            }
            _ => self.by_name(patterns, after.as_ref(), *max_events)?,
        };
        let (mut found, mut upto, mut bytes) = (Vec::new(), rows.upto, 0);
        let is_changed = |row: &TopicRow| changed_after.is_none_or(|after| row.last > after);
        let mut rows = rows.found.into_iter().filter(|(_, row)| is_changed(row)).peekable();
        while let Some((name, row)) = rows.next() {
            if let Some(event) = self.newest_of(&row, head)? {
                bytes += event.cost();
                found.push((name.clone(), event));
            }
            let is_full = found.len() >= *max_events || bytes >= *max_bytes;
            if is_full && rows.peek().is_some() {
                upto = Some(name);
                break;
            }
        }
        let is_lost = match changed_after {
            Some(after) => self.has_lost_newest(patterns, after)?,
            None => false,
        };
        transaction.finish()?;
        Ok((ByTopic { found, upto }, is_lost))
    }

    /// Topics with kept events that one of the patterns matches and that changed after a number, by name; few have.
    fn changed_by_name(
        &self,
        patterns: &[Pattern],
        after: Option<&Topic>,
        since: u64,
    ) -> RowResult<ByTopic<TopicRow>> {
        let mut rows = self.topics_where("last > ?1 AND retained > 0", (integer(since),))?;
        rows.retain(|row| after.is_none_or(|after| row.name > *after));
        rows.retain(|row| patterns.iter().any(|pattern| pattern.matches(&row.name)));
        rows.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let found = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
        Ok(ByTopic { found, upto: None })
    }

    /// Whether an event after a number was, or may have been, removed of a topic that matches and keeps none.
    fn has_lost_newest(&self, patterns: &[Pattern], after: u64) -> RowResult<bool> {
        if self.floor(patterns, after)? > 0 {
            return Ok(true);
        }
        let emptied = self.topics_where("retained = 0 AND last_removed > ?1", (integer(after),))?;
        let is_asked_for = |row: &TopicRow| patterns.iter().any(|one| one.matches(&row.name));
        Ok(emptied.iter().any(is_asked_for))
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

    /// How many events of a topic are kept, and the newest of them, as of one moment; none where nobody used it.
    pub(super) fn summary(
        &self,
        topic: &Topic,
        head: Cursor,
    ) -> RowResult<Option<(usize, Option<Arc<Event>>)>> {
        let transaction = self.db.unchecked_transaction()?;
        let Some(row) = self.topic(topic)? else { return Ok(None) };
        let newest = self.newest_of(&row, head)?;
        transaction.finish()?;
        Ok(Some((row.retained as usize, newest)))
    }

    /// What is kept of such topics.
    pub(super) fn summaries(
        &self,
        patterns: &[Pattern],
        after: Option<&Topic>,
        limit: usize,
    ) -> RowResult<ByTopic<TopicSummary>> {
        let transaction = self.db.unchecked_transaction()?;
        let ByTopic { found: rows, upto } = self.by_name(patterns, after, limit)?;
        let mut found = Vec::with_capacity(rows.len());
        for (name, row) in rows {
            let newest = Removable::at(&self.db, row.last)?;
            let summary = TopicSummary {
                retained: row.retained as usize,
                latest_time: newest.as_ref().map(|event| Timestamp::from_millis(event.time)),
                is_removed: newest.is_some_and(|event| event.is_tombstone),
                ..TopicSummary::empty(name.clone())
            };
            found.push((name, summary));
        }
        transaction.finish()?;
        Ok(ByTopic { found, upto })
    }

    /// The number and the date of the first event from a number on.
    pub(super) fn next_date(&self, from: u64) -> RowResult<Option<(u64, i64)>> {
        let mut next = self.db.prepare_cached(
            "SELECT sequence, time FROM events WHERE sequence >= ?1 ORDER BY sequence LIMIT 1",
        )?;
        let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?));
        Ok(next.query_row((from as i64,), read).optional()?)
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
            let coordinates = EventRow::coordinates(row)?;
            let topic = self.topic_of(coordinates)?;
            events.push(EventRow::read(row, &topic.name, wanted.head, &self.epochs)?);
        }
        Ok(events)
    }
}

/// The first text after all that begin with `prefix`; topics are ASCII.
pub(super) fn after_prefix(prefix: &str) -> String {
    format!("{prefix}\u{7f}")
}

fn earlier(a: Option<Topic>, b: Option<Topic>) -> Option<Topic> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
