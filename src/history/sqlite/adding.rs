//! Adding an event to the tables of the database.

use rusqlite::Transaction;

use super::retention::Topics;
use super::rows::{Coordinates, EndingRow, EventRow, LogRow, RowResult, TopicRow, integer};
use crate::model::Event;

/// The adding side of one transaction.
pub(super) struct Adding<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) log: &'a mut LogRow,
    pub(super) topics: &'a mut Topics,
}

impl Adding<'_> {
    /// Adds an event; the number of the one before of its topic, kept or not.
    pub(super) fn event(&mut self, event: &Event) -> RowResult<u64> {
        let Self { transaction, log, topics } = self;
        let Some(cursor) = event.cursor else { return Ok(u64::MAX) };
        let topic = match topics.named(transaction, &event.topic)? {
            Some(topic) => topic,
            None => {
                let mut insert = transaction.prepare_cached(
                    "INSERT INTO topics (name, last, last_removed, retained, bytes, checksum) \
                     VALUES (?1, 0, 0, 0, 0, 0)",
                )?;
                let id = insert.insert((event.topic.as_str(),))?;
                let name = event.topic.clone();
                // What was known of it may have been forgotten.
                let (last, last_removed) = (log.floor, log.floor);
                topics.insert(TopicRow { id, name, last, last_removed, retained: 0, bytes: 0 })
            }
        };
        let coordinates =
            Coordinates { sequence: cursor.sequence, topic: topic.id, previous: topic.last };
        EventRow::write(transaction, coordinates, event)?;
        if event.envelope.as_ref().is_some_and(|envelope| envelope.version().is_some()) {
            let sql = "INSERT OR REPLACE INTO versions (topic, sequence) VALUES (?1, ?2)";
            transaction.prepare_cached(sql)?.execute((topic.id, integer(cursor.sequence)))?;
        }
        if let Some(ending) = EndingRow::of(event) {
            ending.write(transaction)?;
        } else if event.is_tombstone() {
            // What else follows a value leaves its row, which says by its number that it is of no use.
            let sql = "DELETE FROM endings WHERE topic = ?1";
            transaction.prepare_cached(sql)?.execute((event.topic.as_str(),))?;
        }
        topic.last = cursor.sequence;
        topic.retained += 1;
        topic.bytes += event.cost() as u64;
        log.bytes += event.cost() as u64;
        log.time = event.time.millis();
        Ok(coordinates.previous)
    }
}
