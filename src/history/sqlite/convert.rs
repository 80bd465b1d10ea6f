//! Making a database of an older release one whose file can shrink.
//!
//! SQLite can give space back in small steps only where it has written down, page by page, who refers
//! to it, and an existing file has to be written anew for that. It is done at a start, before anybody is
//! served, so it is done only where it is sure to be quick and there is room: else the file stays
//! as good as it was, and what is free in it is used again.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tracing::{info, warn};

use super::open::{Directory, pragma};
use super::rows::RowResult;
use super::space;

/// The most that is converted at a start, in bytes.
const MOST: u64 = 1 << 30;

/// How long a start waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the log says that it is still going on.
const PROGRESS: Duration = Duration::from_secs(5);

/// What it needs beside twice what is kept, in bytes.
const MARGIN: u64 = 4 << 20;

/// How to have it done otherwise.
const WAY_OUT: &str = "a copy that `fanfare backup` makes can shrink (docs/operating.md)";

/// Converts the database, or says why not.
pub(super) fn convert(db: &Connection, directory: &Directory) -> RowResult<()> {
    if pragma(db, "auto_vacuum")? != 0 {
        return Ok(());
    }
    let bytes = space::used(db)?;
    let (free, needed) = (directory.free(), 2 * bytes + MARGIN);
    if bytes > MOST {
        info!(
            bytes,
            "the file of the history can't shrink, and is too large to convert: {WAY_OUT}"
        );
        return Ok(());
    }
    if free < needed {
        warn!(free, needed, "the file of the history can't shrink; that changes with more space");
        return Ok(());
    }
    let begun = Instant::now();
    info!(bytes, "the history is converted, so that its file can shrink");
    match within_patience(db, || vacuum(db, directory)) {
        Ok(()) => info!(elapsed = ?begun.elapsed(), "the history has been converted"),
        Err(error) if is_harmless(&error) => {
            warn!(%error, "the history was not converted, and is as it was: {WAY_OUT}");
        }
        Err(error) => return Err(error.into()),
    }
    match space::checkpoint(db, "TRUNCATE") {
        Err(error) if !is_harmless(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whether everything is as it was before. After anything else nobody knows what the disk has.
fn is_harmless(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OperationInterrupted
        )
    )
}

fn vacuum(db: &Connection, directory: &Directory) -> rusqlite::Result<()> {
    // Where there is the room; what else is for temporary files may be small, or memory.
    db.pragma_update(None, "temp_store_directory", directory.path().to_string_lossy())?;
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let vacuumed = db.execute_batch("VACUUM");
    db.pragma_update(None, "temp_store_directory", "")?;
    vacuumed
}

/// Does something with the database that is interrupted when it takes too long.
fn within_patience<T>(db: &Connection, act: impl FnOnce() -> T) -> T {
    let interrupt = db.get_interrupt_handle();
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let begun = Instant::now();
            while is_done.recv_timeout(PROGRESS) == Err(RecvTimeoutError::Timeout) {
                info!(elapsed = ?begun.elapsed(), "the history is still being converted");
                if begun.elapsed() > PATIENCE {
                    interrupt.interrupt();
                }
            }
        });
        let result = act();
        drop(done);
        result
    })
}
