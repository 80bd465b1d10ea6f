//! What the files of the history take of their disk, and what of it is kept back.
//!
//! On a full disk even a removal needs space first: for SQLite's log, and where that is moved into the
//! database. A file beside them, `reserve`, has it, and is given up when a removal needs it.

use rusqlite::Connection;

use super::open::{Directory, pragma};

/// What of the database is in use, in bytes.
pub(super) fn used(db: &Connection) -> rusqlite::Result<u64> {
    let pages = pragma(db, "page_count")?.saturating_sub(pragma(db, "freelist_count")?);
    Ok(pages * pragma(db, "page_size")?)
}

/// Makes a checkpoint; whether all of SQLite's log has been moved, and no one holds it.
pub(super) fn checkpoint(db: &Connection, mode: &str) -> rusqlite::Result<bool> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    db.query_row(&sql, (), |row| {
        let (busy, frames, moved): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(busy == 0 && frames == moved)
    })
}

impl Directory {
    /// What is free on its file system for who is not root, in bytes; any amount where it doesn't say.
    pub(super) fn free(&self) -> u64 {
        let free = |room: rustix::fs::StatVfs| room.f_bavail.saturating_mul(room.f_frsize);
        rustix::fs::statvfs(self.path()).map_or(u64::MAX, free)
    }
}
