//! The thread that moves what was committed from SQLite's log into the database, so that no
//! publisher waits for it and the log stays small.

use std::sync::Weak;
use std::thread;
use std::time::Duration;

use tracing::{debug, warn};

use super::open::Directory;
use super::readers::Readers;

/// How often the length of the log is looked at.
const INTERVAL: Duration = Duration::from_millis(200);

/// The length from which the log is moved, in bytes.
const LONG: u64 = 4 << 20;

/// The length from which readers are kept waiting until the log can begin anew, in bytes: with
/// readers that overlap all the time it would grow for ever.
const TOO_LONG: u64 = 64 << 20;

/// Makes checkpoints as long as the readers are there.
pub(super) fn start(readers: Weak<Readers>, fsync: bool) -> std::io::Result<()> {
    let work = move || {
        while let Some(readers) = readers.upgrade() {
            if let Err(error) = checkpoint(&readers, fsync) {
                // What could not be moved stays in the log, which is as good.
                warn!(%error, "no checkpoint was made");
            }
            drop(readers);
            thread::sleep(INTERVAL);
        }
    };
    thread::Builder::new().name("history-checkpoints".to_owned()).spawn(work)?;
    Ok(())
}

fn checkpoint(readers: &Readers, fsync: bool) -> rusqlite::Result<()> {
    let directory = readers.directory();
    if std::fs::metadata(directory.wal()).map_or(0, |wal| wal.len()) < LONG {
        return Ok(());
    }
    let waiting = {
        let _held = readers.hold();
        moved(directory, fsync, "PASSIVE")?
    };
    if waiting > TOO_LONG {
        debug!(bytes = waiting, "readers wait for the log of the history");
        let _paused = readers.pause();
        moved(directory, fsync, "RESTART")?;
    }
    Ok(())
}

/// Makes a checkpoint; returns how long the log was, in bytes.
fn moved(directory: &Directory, fsync: bool, mode: &str) -> rusqlite::Result<u64> {
    let db = directory.checkpointer(fsync)?;
    let page: i64 = db.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let frames: i64 = db.query_row(&sql, (), |row| row.get(1))?;
    Ok((frames.max(0) * page) as u64)
}
