//! The newest events of their topics, which are current values, beyond their age or the bytes of all topics: they
//! stay until they are removed or replaced, within bounds of their own.
//!
//! They are listed in the database, so that a start knows at once what takes no room of the others.

use rusqlite::{Connection, OptionalExtension};

use super::retention::{Removable, Removal};
use super::rows::{RowResult, TopicRow, integer, number};
use crate::config::{self, Rules, Storage};

/// What the bounds on age and on all topics together leave alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spared {
    /// Of what is kept up to here, all is state of the broker's own, or stays.
    pub(super) upto: u64,
    /// What the events that stay cost.
    pub(super) bytes: u64,
    /// How many there are.
    count: u64,
    /// No event above this number stays.
    newest: u64,
    max_count: u64,
    max_bytes: u64,
}

impl Spared {
    /// As the database has it.
    pub(super) fn read(db: &Connection, config: &config::History) -> RowResult<Self> {
        let sql = "SELECT COUNT(*), ifnull(SUM(bytes), 0), ifnull(MAX(sequence), 0) FROM stays";
        let read =
            |row: &rusqlite::Row<'_>| Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?));
        let (count, bytes, newest) = db.query_row(sql, (), read)?;
        let (max_count, max_bytes) = (config.newest_topics as u64, config.newest_bytes as u64);
        Ok(Self { upto: 0, bytes, count, newest, max_count, max_bytes })
    }

    /// Whether more stays than may.
    pub(super) fn is_over(&self) -> bool {
        self.count > self.max_count || self.bytes > self.max_bytes
    }
}

impl Removal<'_> {
    /// Lets an event stay where it is the newest of its topic and its rule says so; whether it does.
    pub(super) fn lets_stay(&mut self, event: &Removable, rules: &Rules) -> RowResult<bool> {
        let Some(topic) = self.topics.numbered(self.transaction, event.topic)? else {
            return Ok(false);
        };
        let is_newest = topic.last == event.sequence;
        if !is_newest || event.is_tombstone || !rules.of(&topic.name).keeps_newest(Storage::Disk) {
            return Ok(false);
        }
        let bytes = event.cost(topic);
        let sql = "INSERT OR IGNORE INTO stays (sequence, bytes) VALUES (?1, ?2)";
        let mut insert = self.transaction.prepare_cached(sql)?;
        if insert.execute((integer(event.sequence), integer(bytes)))? > 0 {
            self.spared.count += 1;
            self.spared.bytes += bytes;
            self.spared.newest = self.spared.newest.max(event.sequence);
        }
        Ok(true)
    }

    /// Removes what stayed for being the newest of its topic, and is that no longer.
    pub(super) fn replaced(&mut self, sequence: u64) -> RowResult<()> {
        if self.stays(sequence)?
            && let Some(event) = Removable::at(self.transaction, sequence)?
        {
            self.remove(&event)?;
        }
        Ok(())
    }

    /// Removes the oldest of what stays where that is too much.
    pub(super) fn over_stays(&mut self) -> RowResult<()> {
        while self.left > 0 && self.spared.is_over() {
            let sql = "SELECT sequence FROM stays ORDER BY sequence LIMIT 1";
            let mut oldest = self.transaction.prepare_cached(sql)?;
            let Some(sequence) = oldest.query_row((), |row| number(row, 0)).optional()? else {
                return Ok(());
            };
            match Removable::at(self.transaction, sequence)? {
                Some(event) => self.remove(&event)?,
                None => self.is_gone(sequence)?,
            }
        }
        Ok(())
    }

    fn stays(&self, sequence: u64) -> RowResult<bool> {
        if sequence > self.spared.newest {
            return Ok(false);
        }
        let mut select =
            self.transaction.prepare_cached("SELECT 1 FROM stays WHERE sequence = ?1")?;
        Ok(select.exists((integer(sequence),))?)
    }

    /// Notes that an event is no longer there, where it stayed.
    pub(super) fn is_gone(&mut self, sequence: u64) -> RowResult<()> {
        if sequence > self.spared.newest {
            return Ok(());
        }
        let sql = "DELETE FROM stays WHERE sequence = ?1 RETURNING bytes";
        let mut delete = self.transaction.prepare_cached(sql)?;
        let bytes = delete.query_row((integer(sequence),), |row| number(row, 0)).optional()?;
        if let Some(bytes) = bytes {
            self.spared.count = self.spared.count.saturating_sub(1);
            self.spared.bytes = self.spared.bytes.saturating_sub(bytes);
        }
        Ok(())
    }
}

impl Removable {
    /// What it costs, as every history counts it.
    pub(super) fn cost(&self, topic: &TopicRow) -> u64 {
        self.bytes + (topic.name.as_str().len() + crate::model::Event::OVERHEAD_BYTES) as u64
    }
}
