//! The thread that moves what was committed from SQLite's log into the database, so that no
//! publisher waits for it and the log stays small.

use std::sync::Weak;
use std::thread;
use std::time::Duration;

use tracing::warn;

use super::open::length;
use super::readers::Readers;
use super::space;

/// How often the length of the log is looked at.
const INTERVAL: Duration = Duration::from_millis(200);

/// Makes checkpoints of a log that is as long as that, in bytes, while the readers are there.
pub(super) fn start(readers: Weak<Readers>, fsync: bool, long: u64) -> std::io::Result<()> {
    let work = move || {
        let mut is_failing = false;
        while let Some(readers) = readers.upgrade() {
            let made = checkpoint(&readers, fsync, long);
            if let Err(error) = &made
                && !is_failing
            {
                // What could not be moved stays in the log, which is as good.
                warn!(%error, "no checkpoint was made");
            }
            is_failing = made.is_err();
            drop(readers);
            thread::sleep(INTERVAL);
        }
    };
    thread::Builder::new().name("history-checkpoints".to_owned()).spawn(work)?;
    Ok(())
}

/// Moves what nobody reads any more. It waits for no one and holds no lock that a writer needs.
fn checkpoint(readers: &Readers, fsync: bool, long: u64) -> rusqlite::Result<()> {
    let directory = readers.directory();
    if length(&directory.wal()) < long {
        return Ok(());
    }
    let _held = readers.hold();
    space::checkpoint(&directory.checkpointer(fsync)?, "PASSIVE")?;
    Ok(())
}
