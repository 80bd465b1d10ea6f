//! The record of the log.

use rusqlite::{Connection, Row};

use super::{Checksum, RowResult, collect, damaged, integer, number};
use crate::model::LogName;

/// The one row about the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::history::sqlite) struct LogRow {
    pub(in crate::history::sqlite) name: LogName,
    /// What its past is known by.
    pub(in crate::history::sqlite) past: u32,
    pub(in crate::history::sqlite) committed: u64,
    pub(in crate::history::sqlite) reserved: u64,
    pub(in crate::history::sqlite) floor: u64,
    pub(in crate::history::sqlite) time: i64,
    pub(in crate::history::sqlite) bytes: u64,
}

impl LogRow {
    const SELECT: &str =
        "SELECT name, rules, committed, reserved, floor, time, bytes, checksum FROM log";
    const WRITE: &str = "INSERT OR REPLACE INTO log \
        (id, name, rules, committed, reserved, floor, time, bytes, checksum) \
        VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

    /// That of a database; none where nothing was ever written to it.
    pub(in crate::history::sqlite) fn of(db: &Connection) -> RowResult<Option<Self>> {
        Ok(collect(db, Self::SELECT, (), Self::read)?.pop())
    }

    fn read(row: &Row<'_>) -> RowResult<Self> {
        let name: String = row.get(0)?;
        let log = Self {
            name: LogName::parse(&name).ok_or_else(|| damaged("record of the log"))?,
            past: row.get(1)?,
            committed: number(row, 2)?,
            reserved: number(row, 3)?,
            floor: number(row, 4)?,
            time: row.get(5)?,
            bytes: number(row, 6)?,
        };
        if log.checksum() != row.get::<_, u32>(7)? {
            return Err(damaged("record of the log"));
        }
        Ok(log)
    }

    pub(in crate::history::sqlite) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        db.prepare_cached(Self::WRITE)?.execute((
            self.name.to_string(),
            self.past,
            integer(self.committed),
            integer(self.reserved),
            integer(self.floor),
            self.time,
            integer(self.bytes),
            self.checksum(),
        ))?;
        Ok(())
    }

    fn checksum(&self) -> u32 {
        Checksum::default()
            .text(self.name.to_string().as_bytes())
            .number(u64::from(self.past))
            .number(self.committed)
            .number(self.reserved)
            .number(self.floor)
            .number(self.time as u64)
            .number(self.bytes)
            .finish()
    }
}
