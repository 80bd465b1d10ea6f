//! What is known of a topic.

use rusqlite::{Connection, Params, Row};

use super::{Checksum, RowResult, collect, damaged, integer, number};
use crate::model::Topic;

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::history::sqlite) struct TopicRow {
    pub(in crate::history::sqlite) id: i64,
    pub(in crate::history::sqlite) name: Topic,
    pub(in crate::history::sqlite) last: u64,
    pub(in crate::history::sqlite) last_removed: u64,
    pub(in crate::history::sqlite) retained: u64,
    pub(in crate::history::sqlite) bytes: u64,
}

impl TopicRow {
    /// The columns that [`TopicRow::read`] reads.
    pub(in crate::history::sqlite) const COLUMNS: &str =
        "id, name, last, last_removed, retained, bytes, checksum";
    const WRITE: &str = "INSERT OR REPLACE INTO topics \
        (id, name, last, last_removed, retained, bytes, checksum) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

    /// Those that meet a condition, with what stands behind it.
    pub(in crate::history::sqlite) fn all_where(
        db: &Connection,
        condition: &str,
        parameters: impl Params,
    ) -> RowResult<Vec<Self>> {
        let sql = format!("SELECT {} FROM topics WHERE {condition}", Self::COLUMNS);
        collect(db, &sql, parameters, Self::read)
    }

    /// That of this name; none where nobody used it.
    pub(in crate::history::sqlite) fn named(
        db: &Connection,
        name: &Topic,
    ) -> RowResult<Option<Self>> {
        Ok(Self::all_where(db, "name = ?1", (name.as_str(),))?.pop())
    }

    /// That with this id.
    pub(in crate::history::sqlite) fn numbered(
        db: &Connection,
        id: i64,
    ) -> RowResult<Option<Self>> {
        Ok(Self::all_where(db, "id = ?1", (id,))?.pop())
    }

    pub(in crate::history::sqlite) fn read(row: &Row<'_>) -> RowResult<Self> {
        let name: String = row.get(1)?;
        let topic = Self {
            id: row.get(0)?,
            name: Topic::from_stored(&name).map_err(|_| damaged("record of a topic"))?,
            last: number(row, 2)?,
            last_removed: number(row, 3)?,
            retained: number(row, 4)?,
            bytes: number(row, 5)?,
        };
        if topic.checksum() != row.get::<_, u32>(6)? {
            return Err(damaged(format!("record of topic {}", topic.name)));
        }
        Ok(topic)
    }

    pub(in crate::history::sqlite) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        db.prepare_cached(Self::WRITE)?.execute((
            self.id,
            self.name.as_str(),
            integer(self.last),
            integer(self.last_removed),
            integer(self.retained),
            integer(self.bytes),
            self.checksum(),
        ))?;
        Ok(())
    }

    fn checksum(&self) -> u32 {
        Checksum::default()
            .number(self.id as u64)
            .text(self.name.as_str().as_bytes())
            .number(self.last)
            .number(self.last_removed)
            .number(self.retained)
            .number(self.bytes)
            .finish()
    }
}
