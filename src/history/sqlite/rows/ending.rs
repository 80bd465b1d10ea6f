//! A value that ends by itself, so that it does after a start, too.

use std::time::Duration;

use rusqlite::{Connection, Row};

use super::super::super::clock_steps::ClockSteps;
use super::{Checksum, RowResult, Withheld, damaged, integer, number, readable};
use crate::model::{Envelope, Event, Topic};

/// A value that ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::history::sqlite) struct EndingRow {
    pub(in crate::history::sqlite) topic: Topic,
    pub(in crate::history::sqlite) sequence: u64,
    /// When it was published.
    time: i64,
    pub(in crate::history::sqlite) envelope: Envelope,
}

impl EndingRow {
    const COLUMNS: &str = "topic, sequence, time, envelope, checksum";
    const WRITE: &str = "INSERT OR REPLACE INTO endings \
        (topic, sequence, time, envelope, checksum) VALUES (?1, ?2, ?3, ?4, ?5)";

    /// The row of an event that ends by itself; none of any other.
    pub(in crate::history::sqlite) fn of(event: &Event) -> Option<Self> {
        let envelope = event.envelope.as_deref().filter(|envelope| envelope.is_mortal())?;
        let sequence = event.cursor?.sequence;
        let (topic, time) = (event.topic.clone(), event.time.millis());
        Some(Self { topic, sequence, time, envelope: envelope.clone() })
    }

    /// All but those that something followed, which go. A damaged one is reported and left out.
    pub(in crate::history::sqlite) fn all(db: &Connection) -> RowResult<Vec<Self>> {
        db.execute(
            "DELETE FROM endings WHERE EXISTS \
             (SELECT 1 FROM topics WHERE name = endings.topic AND last > endings.sequence)",
            (),
        )?;
        let sql = format!("SELECT {} FROM endings", Self::COLUMNS);
        readable(db, &sql, Self::read, "a value will not end by itself")
    }

    /// Forgets that of a topic, where its value is not above a number.
    pub(in crate::history::sqlite) fn forget(
        db: &Connection,
        topic: &Topic,
        upto: u64,
    ) -> rusqlite::Result<()> {
        let sql = "DELETE FROM endings WHERE topic = ?1 AND sequence <= ?2";
        db.prepare_cached(sql)?.execute((topic.as_str(), integer(upto)))?;
        Ok(())
    }

    fn read(row: &Row<'_>) -> RowResult<Self> {
        let topic: String = row.get(0)?;
        let broken = || damaged(format!("record of the end of {topic}"));
        let envelope = Envelope::read_whole(row.get_ref(3)?.as_blob().unwrap_or_default());
        let ending = Self {
            topic: Topic::from_stored(&topic).map_err(|_| broken())?,
            sequence: number(row, 1)?,
            time: row.get(2)?,
            envelope: envelope.ok_or_else(broken)?,
        };
        if ending.checksum() != row.get::<_, u32>(4)? {
            return Err(broken());
        }
        // Its tombstone would be told to everyone.
        if ending.envelope.is_withheld() {
            return Err(Withheld { sequence: ending.sequence, topic: ending.topic }.into());
        }
        Ok(ending)
    }

    pub(in crate::history::sqlite) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        db.prepare_cached(Self::WRITE)?.execute((
            self.topic.as_str(),
            integer(self.sequence),
            self.time,
            self.envelope.bytes(),
            self.checksum(),
        ))?;
        Ok(())
    }

    /// How long the value still holds at a time, in milliseconds since 1970, where it has a time.
    pub(in crate::history::sqlite) fn left(
        &self,
        now: i64,
        steps: &ClockSteps,
    ) -> Option<Duration> {
        let ttl = self.envelope.ttl()?;
        let since = now.saturating_sub(steps.aged(self.sequence, self.time));
        let passed = Duration::from_millis(u64::try_from(since).unwrap_or(0));
        Some(ttl.saturating_sub(passed))
    }

    fn checksum(&self) -> u32 {
        Checksum::default()
            .text(self.topic.as_str().as_bytes())
            .number(self.sequence)
            .number(self.time as u64)
            .text(self.envelope.bytes())
            .finish()
    }
}
