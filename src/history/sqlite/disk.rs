//! The database as its one writer has it, and the room there is: for what is published, and for what is to be
//! removed when there is none.
//!
//! What is published may never take the space that its removal would need. A checkpoint that has to have
//! SQLite's log to itself is made here, between commits, with the broker's own readers kept
//! waiting for as long as one page takes; for another process nobody waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use super::failure::Failure;
use super::open::{BUSY, Directory, length, pragma};
use super::readers::Readers;
use super::retention::REMOVED_AT_A_TIME;
use super::rows::RowError;
use super::space::{self, Bounds, LogLength, Reserve};
use super::store::{Group, REMOVED_ON_A_FULL_DISK, Store};
use super::strangers;
use crate::model::Quiet;

/// How often something is tried that failed for want of space, or for another process.
const RETRY: Duration = Duration::from_millis(100);

/// How long another process may hold the log before that is told.
const TOLD_AFTER: Duration = Duration::from_secs(3);

/// How many events one transaction removes meanwhile.
const REMOVED_WHILE_ONE_WAITS: usize = 4_096;

/// How long a publish waits for removals that make room for it.
const REMOVING: Duration = Duration::from_secs(1);

/// How many pages of the database are given back at once.
const PAGES: usize = 512;

/// What of the database may stay free, beside an eighth of what is used, in bytes.
const FREE: u64 = 1 << 20;

/// What `auto_vacuum` is where free pages can be given back.
const INCREMENTAL: u64 = 2;

/// What each event may cost in SQLite's log beside itself, in bytes: the pages that it changes.
const CHANGED: u64 = 8 << 10;

/// The database and its readers, what is kept back for it, and who else is in the way.
pub(super) struct Disk {
    pub(super) directory: Arc<Directory>,
    pub(super) readers: Arc<Readers>,
    /// None while the disk can't be trusted.
    pub(super) store: Option<Store>,
    reserve: Reserve,
    bounds: Bounds,
    /// When the reserve was tried last.
    tried: Option<Instant>,
    /// When the file was made shorter last.
    shrunk: Instant,
    log: Held,
}

/// Another process that keeps the log from being emptied.
#[derive(Default)]
struct Held {
    since: Option<Instant>,
    tried: Option<Instant>,
    quiet: Quiet<()>,
}

/// Whether something that was done at a time may be done again.
fn is_due(last: Option<Instant>, interval: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= interval)
}

fn not_stored(error: rusqlite::Error) -> Failure {
    Failure::before_commit(RowError::from(error))
}

impl Disk {
    pub(super) fn new(
        directory: Arc<Directory>,
        readers: Arc<Readers>,
        store: Store,
        reserve: Reserve,
        bounds: Bounds,
    ) -> Self {
        let (shrunk, log) = (Instant::now(), Held::default());
        Self { directory, readers, store: Some(store), reserve, bounds, tried: None, shrunk, log }
    }

    /// The store, while the disk can be trusted.
    pub(super) fn trusted(&mut self) -> Result<&mut Store, Failure> {
        let failed = || Failure::NotStored("the disk has failed".to_owned());
        self.store.as_mut().ok_or_else(failed)
    }

    /// Has room for a group, or says why there is none.
    pub(super) fn make_room(&mut self, group: &Group) -> Result<(), Failure> {
        let bytes = group.events.iter().map(|event| event.cost() as u64).sum();
        self.keep_reserve()?;
        self.keep_log_short()?;
        self.keep_within(bytes)?;
        self.keep_way_out(bytes, group.events.len() as u64)
    }

    /// Has the reserve whole again, if it can be.
    pub(super) fn keep_reserve(&mut self) -> Result<(), Failure> {
        if self.reserve.is_whole() {
            return Ok(());
        }
        if !is_due(self.tried, RETRY) {
            return Err(Failure::Full);
        }
        self.tried = Some(Instant::now());
        if self.reserve.restore(&self.directory) {
            return Ok(());
        }
        self.shrink()?;
        self.checkpoint("TRUNCATE");
        if self.reserve.restore(&self.directory) { Ok(()) } else { Err(Failure::Full) }
    }

    /// Lets SQLite's log begin anew where it is long. Where another process is in the way, that is told, and
    /// the log may grow up to its limit.
    fn keep_log_short(&mut self) -> Result<(), Failure> {
        let bounds = self.bounds;
        let Some(store) = &self.store else { return Ok(()) };
        let mut log = space::checkpoint(&store.db, "NOOP").map_err(not_stored)?;
        let is_file_long = length(&self.directory.wal()) > bounds.log_file;
        if log.written < bounds.log && !is_file_long {
            self.log = Held::default();
            return Ok(());
        }
        if is_due(self.log.tried, RETRY) {
            // A file that keeps its length is written to faster.
            log = self.checkpoint(if is_file_long { "TRUNCATE" } else { "RESTART" });
            if log.is_moved {
                self.log = Held::default();
                return Ok(());
            }
            self.log.tried = Some(Instant::now());
        }
        let held = &mut self.log;
        let elapsed = held.since.get_or_insert_with(Instant::now).elapsed();
        let is_too_long = log.written >= bounds.longest_log;
        let is_to_tell = is_too_long || elapsed >= TOLD_AFTER;
        // It lasts: there is nothing to count.
        if is_to_tell && held.quiet.tell(1, Instant::now(), || ()).is_some() {
            let who = strangers::named(&self.directory);
            warn!(
                bytes = log.written,
                limit = bounds.longest_log,
                "{who} reads history.db and has kept its log from being emptied for {} s: end it, or let it \
                 read in shorter steps, as `fanfare backup` does; at history.wal_bytes publishes are refused",
                elapsed.as_secs()
            );
        }
        if !is_too_long {
            return Ok(());
        }
        Err(Failure::Busy(format!(
            "another process has read history.db for {} s, and its log has reached history.wal_bytes",
            elapsed.as_secs()
        )))
    }

    /// Removes what is over `history.disk_bytes` by what the database really takes, so that what comes finds
    /// its place in what was freed.
    fn keep_within(&mut self, coming: u64) -> Result<(), Failure> {
        let begun = Instant::now();
        let bound = self.bounds.database;
        while let Some(store) = &mut self.store {
            let excess = store.excess(coming).map_err(not_stored)?;
            if excess <= bound / 32 || begun.elapsed() > REMOVING {
                break;
            }
            if store.remove_excess(coming, REMOVED_WHILE_ONE_WAITS)? == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Refuses what would leave no space for moving the log into the database: without that nothing can
    /// be removed any more.
    fn keep_way_out(&mut self, bytes: u64, events: u64) -> Result<(), Failure> {
        let reserve = self.reserve.bytes();
        let free = self.directory.free();
        let logged = 2 * bytes + events * CHANGED;
        if reserve == 0 || free > logged + 4 * reserve {
            return Ok(());
        }
        let Some(store) = &self.store else { return Ok(()) };
        let growth = self.directory.growth(&store.db).map_err(not_stored)?;
        if 2 * (growth + bytes) <= reserve {
            return Ok(());
        }
        let log = self.checkpoint("RESTART");
        let Some(store) = &self.store else { return Ok(()) };
        let growth = self.directory.growth(&store.db).map_err(not_stored)?;
        // The log is written over from its beginning.
        let logged = logged.saturating_sub(if log.is_moved { log.written } else { 0 });
        let left = self.directory.free().saturating_sub(logged);
        if growth + bytes <= left + reserve / 2 { Ok(()) } else { Err(Failure::Full) }
    }

    /// What has to be free so that events are taken again, in bytes.
    pub(super) fn needed(&self) -> u64 {
        let growth = self.store.as_ref().map(|store| self.directory.growth(&store.db));
        growth.and_then(Result::ok).unwrap_or(0).max(self.reserve.bytes())
    }

    /// Does something that removes. On a full disk it has an empty log and less to do at once, then the reserve
    /// as well.
    pub(super) fn remove<T>(
        &mut self,
        mut act: impl FnMut(&mut Store, usize) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut result = act(self.trusted()?, REMOVED_AT_A_TIME);
        for is_reserve_needed in [false, true] {
            if !matches!(result, Err(Failure::Full)) {
                break;
            }
            if is_reserve_needed {
                self.reserve.give_up();
            }
            self.checkpoint("TRUNCATE");
            result = act(self.trusted()?, REMOVED_ON_A_FULL_DISK);
        }
        result
    }

    /// Gives some of what is free in the database back to the file system; whether there is more.
    pub(super) fn shrink(&mut self) -> Result<bool, Failure> {
        self.shrunk = Instant::now();
        let Some(store) = &self.store else { return Ok(false) };
        let is_able = pragma(&store.db, "auto_vacuum").map_err(not_stored)? == INCREMENTAL;
        let used = space::used(&store.db).map_err(not_stored)?;
        let unused = space::unused(&store.db).map_err(not_stored)?;
        if is_able && unused > used / 8 + FREE {
            self.remove(|store, events| {
                let few = events == REMOVED_ON_A_FULL_DISK;
                store.vacuum(if few { events } else { PAGES })
            })?;
            return Ok(true);
        }
        // The file itself is cut once all of the log has been moved into it.
        if self.directory.surplus(&store.db).map_err(not_stored)? > FREE {
            return Ok(self.checkpoint("RESTART").is_moved);
        }
        Ok(false)
    }

    /// The same beside what is published, now and then.
    pub(super) fn shrink_now_and_then(&mut self) -> Result<(), Failure> {
        if self.shrunk.elapsed() >= RETRY {
            self.shrink()?;
        }
        Ok(())
    }

    /// Empties a log that nobody writes to at the moment.
    pub(super) fn rest(&mut self) {
        if length(&self.directory.wal()) > self.bounds.moved {
            self.checkpoint("TRUNCATE");
        }
    }

    /// Makes a checkpoint that has the log to itself, unless another process has it.
    pub(super) fn checkpoint(&self, mode: &str) -> LogLength {
        let nothing = LogLength { written: 0, is_moved: false };
        let Some(store) = &self.store else { return nothing };
        let _paused = self.readers.pause();
        let made = store.db.busy_timeout(Duration::ZERO).and_then(|()| {
            let made = space::checkpoint(&store.db, mode);
            store.db.busy_timeout(BUSY).and(made)
        });
        // The log is as good. What has failed for good will be found by the next commit.
        made.unwrap_or_else(|error| {
            debug!(%error, "no checkpoint was made");
            nothing
        })
    }
}
