//! A start: what is in the data directory is checked, recalled and carried on.

use std::sync::{Arc, Mutex};
use std::thread;

use tracing::{error, info};

use super::super::Feed;
use super::super::clock_steps::Dating;
use super::super::memory::log::Log;
use super::disk::Disk;
use super::failure::Failure;
use super::group_commit::Shared;
use super::joined::Joined;
use super::open::{Directory, Noted, OpenError};
use super::past::Past;
use super::readers::Readers;
use super::recall::recall;
use super::space::{Bounds, Reserve};
use super::store::Store;
use super::writer::Writer;
use super::{SqliteHistory, checkpoints};
use crate::clock::Clock;
use crate::config::{self, Rules};
use crate::model::Cursor;

/// A history that is open and not yet written to.
pub struct Opened {
    directory: Arc<Directory>,
    store: Store,
    log: Log,
    reserve: Reserve,
    config: config::History,
    clock: Clock,
}

impl Opened {
    /// Opens the data directory, checks what is in it, and begins an epoch, which numbers above all that any
    /// client may have seen. Where acknowledged events are proven to be missing, whoever comes with an older
    /// cursor is told of a gap.
    pub fn open(config: &config::History, rules: Rules, clock: Clock) -> Result<Self, OpenError> {
        let directory = Arc::new(Directory::open(&config.path)?);
        let reserve = Reserve::new(&directory, config);
        let mut store = Store::open(&directory, config, &rules)?;
        let lost = missing(directory.head(), store.log().committed);
        store.convert(&directory).map_err(|error| directory.unusable(error))?;
        let sequence = begin(&mut store, lost, &reserve, &directory)?;
        let synced = directory.set_head(store.log().committed).and_then(|()| directory.sync());
        synced.map_err(|error| directory.damaged(error))?;
        let head = Cursor { log: store.log().name, epoch: store.past().epochs.newest(), sequence };
        let dating = Dating::new(store.log().time, store.past().steps.clone());
        let mut log = Log::new(head, dating, config, rules, clock);
        recall(&mut log, &store, clock).map_err(|error| directory.damaged(error))?;
        Ok(Self { directory, store, log, reserve, config: config.clone(), clock })
    }

    /// The place above which new events are numbered.
    pub fn head(&self) -> Cursor {
        self.log.head()
    }

    /// Starts to write, and to tell `feed`.
    pub fn start(self, feed: Arc<dyn Feed>) -> std::io::Result<SqliteHistory> {
        let Self { directory, store, log, reserve, config, clock } = self;
        let rules = log.rules().clone();
        let readers = Arc::new(Readers::start(directory.clone())?);
        let bounds = Bounds::new(&config);
        checkpoints::start(Arc::downgrade(&readers), config.fsync, reserve.bound(bounds.moved))?;
        let reserved = store.log().reserved;
        let has_strays = store.has_strays().map_err(std::io::Error::other)?;
        let shared = Shared::new(log, reserved, has_strays, config.pending_bytes, feed);
        let shared = Arc::new(shared);
        let commit_timeout = config.commit_timeout;
        let Past { epochs, memories, .. } = store.past().clone();
        let joined = Joined {
            shared: shared.clone(),
            readers: readers.clone(),
            rules: rules.clone(),
            epochs,
            memories,
        };
        let disk = Disk::new(directory.clone(), readers, store, reserve, bounds);
        let writer = Writer::new(shared.clone(), disk, config, rules, clock);
        let thread = thread::Builder::new().name("history-writer".to_owned());
        let disk_bytes = bounds.cost;
        let writer = Mutex::new(Some(thread.spawn(move || writer.run())?));
        Ok(SqliteHistory { shared, joined, directory, commit_timeout, disk_bytes, writer })
    }
}

/// Up to which number events were acknowledged, where `head` proves that some of them are missing.
fn missing(head: Noted, committed: u64) -> Option<u64> {
    match head {
        Noted::Number(noted) if noted > committed => {
            error!(noted, committed, "acknowledged events are missing from the history");
            Some(noted)
        }
        Noted::Damaged => {
            error!(committed, "what the history should hold is not known: head is damaged");
            Some(committed)
        }
        Noted::Nothing if committed > 0 => {
            info!(committed, "this is taken for a copy of a history, for it has no head");
            None
        }
        Noted::Nothing | Noted::Number(_) => None,
    }
}

/// Begins an epoch, on a full disk with what is kept in reserve; the number above which new ones begin.
fn begin(
    store: &mut Store,
    lost: Option<u64>,
    reserve: &Reserve,
    directory: &Directory,
) -> Result<u64, OpenError> {
    let mut growth = 0;
    let begun = match store.begin(lost) {
        Err(Failure::Full) => {
            reserve.give_up();
            store.empty_log();
            growth = directory.growth(&store.db).unwrap_or(0);
            store.begin(lost)
        }
        begun => begun,
    };
    begun.map_err(|failure| match failure {
        Failure::Full => directory.full(growth),
        Failure::Busy(_) => OpenError::Locked(directory.path().to_owned()),
        Failure::NotStored(reason) | Failure::Unknown(reason) => directory.damaged(reason),
    })
}
