//! An event about to be removed.

use rusqlite::Connection;

use super::rows::{RowResult, TopicRow, collect, integer};
use crate::model::{Envelope, Event};

/// What a removal has to know of an event.
pub(super) struct Removable {
    pub(super) sequence: u64,
    pub(super) topic: i64,
    pub(super) time: i64,
    /// Its texts beside its topic, in bytes.
    pub(super) bytes: u64,
    /// It removes its topic's current value, and so is none that could stay.
    pub(super) is_tombstone: bool,
}

impl Removable {
    pub(super) const COLUMNS: &str = "sequence, topic, time, \
        octet_length(data) + ifnull(octet_length(type), 0) + ifnull(octet_length(envelope), 0), envelope";

    pub(super) fn read(row: &rusqlite::Row<'_>) -> RowResult<Self> {
        let (sequence, bytes): (i64, i64) = (row.get(0)?, row.get(3)?);
        let (sequence, bytes) = (sequence as u64, bytes as u64);
        let envelope = row.get_ref(4)?.as_blob_or_null().ok().flatten();
        let envelope = envelope.and_then(Envelope::read_whole);
        let is_tombstone = envelope.is_some_and(|envelope| envelope.removed().is_some());
        Ok(Self { sequence, topic: row.get(1)?, time: row.get(2)?, bytes, is_tombstone })
    }

    /// The event of a number, where it is kept.
    pub(super) fn at(db: &Connection, sequence: u64) -> RowResult<Option<Self>> {
        let sql = format!("SELECT {} FROM events WHERE sequence = ?1", Self::COLUMNS);
        Ok(collect(db, &sql, (integer(sequence),), Self::read)?.pop())
    }

    /// What it costs, as every history counts it.
    pub(super) fn cost(&self, topic: &TopicRow) -> u64 {
        self.bytes + (topic.name.as_str().len() + Event::OVERHEAD_BYTES) as u64
    }
}
