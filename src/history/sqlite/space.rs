//! What the files of the history take of their disk, and what of it is kept back.
//!
//! On a full disk even a removal needs space first: for SQLite's log, and where that is moved into the
//! database. A file beside them, `reserve`, has it; it is given up when a removal needs it, and until it is
//! whole again nothing is published.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rusqlite::Connection;
use tracing::info;

use super::open::{Directory, length, pragma};
use crate::config;

/// The most of a file system that is kept back, as a divisor.
const RESERVED_SHARE: u64 = 8;

/// The longest that the file of SQLite's log should be, in bytes.
const LOG: u64 = 64 << 20;

/// The shortest that matters, in bytes.
const SHORT_LOG: u64 = 2 << 20;

/// The length from which the log is moved into the database, in bytes.
const MOVED: u64 = 4 << 20;

/// What a page of the log costs beside itself, in bytes.
const FRAME_HEADER: u64 = 24;

/// What of the database is in use, in bytes.
pub(super) fn used(db: &Connection) -> rusqlite::Result<u64> {
    let pages = pragma(db, "page_count")?.saturating_sub(pragma(db, "freelist_count")?);
    Ok(pages * pragma(db, "page_size")?)
}

/// What of the database is free, in bytes.
pub(super) fn unused(db: &Connection) -> rusqlite::Result<u64> {
    Ok(pragma(db, "freelist_count")? * pragma(db, "page_size")?)
}

/// SQLite's log, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogLength {
    /// What of its file is in use.
    pub(super) written: u64,
    /// Whether all of it is in the database, and nobody else was in the way.
    pub(super) is_moved: bool,
}

/// Makes a checkpoint; how long the log is then.
pub(super) fn checkpoint(db: &Connection, mode: &str) -> rusqlite::Result<LogLength> {
    let frame = pragma(db, "page_size")? + FRAME_HEADER;
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    db.prepare_cached(&sql)?.query_row((), |row| {
        let (busy, written, moved): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let is_moved = busy == 0 && written == moved;
        Ok(LogLength { written: written.max(0) as u64 * frame, is_moved })
    })
}

impl Directory {
    /// What is free on its file system for who is not root, in bytes; any amount where it doesn't say.
    pub(super) fn free(&self) -> u64 {
        let free = |room: rustix::fs::StatVfs| room.f_bavail.saturating_mul(room.f_frsize);
        rustix::fs::statvfs(self.path()).map_or(u64::MAX, free)
    }

    /// By how much the file of the database grows once all of the log is moved into it, in bytes.
    pub(super) fn growth(&self, db: &Connection) -> rusqlite::Result<u64> {
        let whole = pragma(db, "page_count")? * pragma(db, "page_size")?;
        Ok(whole.saturating_sub(length(&self.database())))
    }

    /// By how much it shrinks then.
    pub(super) fn surplus(&self, db: &Connection) -> rusqlite::Result<u64> {
        let whole = pragma(db, "page_count")? * pragma(db, "page_size")?;
        Ok(length(&self.database()).saturating_sub(whole))
    }
}

/// The bounds on the files, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// What the events may cost, as every history counts it.
    pub(super) cost: u64,
    /// What the database may have in use, beside the broker's own state.
    pub(super) database: u64,
    /// From where the log begins anew.
    pub(super) log: u64,
    /// What its file has at most, unless another process uses it.
    pub(super) log_file: u64,
    /// What it must not, whoever else uses it.
    pub(super) longest_log: u64,
    /// From where the log is moved into the database.
    pub(super) moved: u64,
}

impl Bounds {
    /// As configured.
    pub(super) fn new(config: &config::History) -> Self {
        let cost = config.disk_bytes as u64;
        let log_file = (cost / 8).clamp(SHORT_LOG, LOG);
        // Where it begins anew, there is room for one more group.
        let log = log_file / 4 * 3;
        let longest_log = (config.wal_bytes as u64).max(log_file);
        let database = cost.saturating_sub(log_file).max(SHORT_LOG);
        Self { cost, database, log, log_file, longest_log, moved: MOVED.min(log / 4) }
    }
}

/// The space that is kept back.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// The reserve of a directory, as it was left; given up where there is little else to begin with.
    pub(super) fn new(directory: &Directory, config: &config::History) -> Self {
        let share = |room: rustix::fs::StatVfs| room.f_blocks * room.f_frsize / RESERVED_SHARE;
        let share = rustix::fs::statvfs(directory.path()).map_or(u64::MAX, share);
        let reserve = Self {
            path: directory.path().join("reserve"),
            bytes: (config.reserve_bytes as u64).min(share),
        };
        if directory.free() < MOVED || length(&reserve.path) > reserve.bytes {
            reserve.give_up();
        }
        reserve
    }

    /// What it is to have, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As much of the log as may have to be moved into the database on a full disk, in bytes.
    pub(super) fn bound(&self, moved: u64) -> u64 {
        if self.bytes == 0 { moved } else { moved.min(self.bytes / 2) }
    }

    /// Whether it is there.
    pub(super) fn is_whole(&self) -> bool {
        length(&self.path) >= self.bytes
    }

    /// Has it there, if there is the space for it.
    pub(super) fn restore(&self, directory: &Directory) -> bool {
        if self.is_whole() {
            return true;
        }
        let is_there = directory.free() >= self.bytes && self.allocate().is_ok();
        if !is_there {
            _ = fs::remove_file(&self.path);
        }
        is_there
    }

    fn allocate(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&self.path)?;
        allocate(&file, self.bytes)
    }

    /// Leaves the space to whoever needs it now.
    pub(super) fn give_up(&self) {
        if fs::remove_file(&self.path).is_ok() {
            info!("the disk is full: what the history had in reserve is given up for removals");
        }
    }
}

/// Takes the space of a file without writing to it, where the file system can.
#[cfg(target_os = "linux")]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(file, bytes),
        result => Ok(result?),
    }
}

/// Takes the space of a file.
#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    write_zeros(file, bytes)
}

fn write_zeros(mut file: &File, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::Read::take(io::repeat(0), bytes), &mut file)?;
    file.sync_all()
}
