//! The data directory: who may open it, and what must be true before it is used.
//!
//! `lock` keeps a second process out, `history.db` (with its `-wal` and `-shm`) is the database, and
//! `head` holds the number of the newest commit beside it: SQLite drops its log silently from the
//! first bad frame on, and only this file can tell.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::rows::RowError;

/// The schema, one step a file, each applied once and in order.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/0001_history.sql"),
    include_str!("../../../migrations/0002_past.sql"),
    include_str!("../../../migrations/0003_stays.sql"),
    include_str!("../../../migrations/0004_envelope.sql"),
];

/// How long a statement waits for a lock. The broker's own connections never wait for one another, so
/// it is another process that has it, and may keep it.
pub(super) const BUSY: Duration = Duration::from_millis(500);

/// The same where the database is opened, for the other process may be a backup that just begins.
const OPENING: Duration = Duration::from_secs(5);

/// What a start needs beside the growth of the database, in bytes.
const BEGINNING: u64 = 1 << 20;

/// Why the durable history can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory can't be made or used.
    #[error("the data directory {path} can't be used: {source}")]
    Directory {
        /// `history.path`.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the data directory {0} is in use by another process")]
    InUse(PathBuf),
    /// Another process, which is no broker, has locked the database.
    #[error(
        "the history in {0} is locked by another process, such as a shell of SQLite or a backup: end it"
    )]
    Locked(PathBuf),
    /// The file system can't do what SQLite needs.
    #[error(
        "the history in {path} can't be used: its file system lends no shared memory, which the log of \
         SQLite needs (as some that are on the network, or shared with a virtual machine): set \
         history.path to a directory on a local one"
    )]
    NoSharedMemory {
        /// `history.path`.
        path: PathBuf,
    },
    /// There is not even the space to begin.
    #[error(
        "there is no space left for the history in {path}, not even to remove what is over \
         history.disk_bytes: free {needed} bytes on its file system, or move the directory to a larger one"
    )]
    Full {
        /// `history.path`.
        path: PathBuf,
        /// Bytes that are enough.
        needed: u64,
    },
    /// It was written by a later version.
    #[error(
        "the history in {path} has schema version {found}, and this version of Fanfare knows \
         {known}: use the version that wrote it, or a later one; or restore a copy that `fanfare \
         backup` made before the upgrade (docs/operating.md)"
    )]
    TooNew {
        /// `history.path`.
        path: PathBuf,
        /// What the database says.
        found: u32,
        /// What this version can write.
        known: u32,
    },
    /// It can't be read, or is not what was written.
    #[error(
        "the history in {path} can't be used: {reason}. Nothing was changed. To begin anew, move \
         the directory away: every client is told of the gap"
    )]
    Damaged {
        /// `history.path`.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
}

/// What `head` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is new, or was left out of a copy.
    Nothing,
    /// It is not what was written.
    Damaged,
    /// The number of the newest commit.
    Number(u64),
}

/// The data directory, held by this process.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    lock: File,
    head: File,
}

impl Directory {
    /// Makes the directory if need be (mode 0700), and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Directory { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let file = |name: &str| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.open(path.join(name)).map_err(failed)
        };
        let lock = file("lock")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(Self { path: path.to_owned(), lock, head: file("head")? })
    }

    /// Says that a history here can't be used.
    pub(super) fn damaged(&self, reason: impl ToString) -> OpenError {
        OpenError::Damaged { path: self.path.clone(), reason: reason.to_string() }
    }

    /// Says why a history here can't be used.
    pub(super) fn unusable(&self, error: impl Into<RowError>) -> OpenError {
        let (error, path) = (error.into(), self.path.clone());
        match error.code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked(path),
            // All of the log may have to be moved into the database.
            Some(ErrorCode::DiskFull) => self.full(length(&self.wal())),
            _ if error.is_of_shared_memory() => OpenError::NoSharedMemory { path },
            _ => self.damaged(error),
        }
    }

    /// Says that there is no space to begin, where the database has to grow.
    pub(super) fn full(&self, growth: u64) -> OpenError {
        OpenError::Full { path: self.path.clone(), needed: growth + BEGINNING }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The database.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("history.db")
    }

    /// The log of SQLite, which a checkpoint moves into the database.
    pub(super) fn wal(&self) -> PathBuf {
        self.path.join("history.db-wal")
    }

    /// What stands beside the database about its newest commit.
    pub(super) fn head(&self) -> Noted {
        if self.head.metadata().is_ok_and(|file| file.len() == 0) {
            return Noted::Nothing;
        }
        let mut record = [0; 12];
        let read = self.head.read_exact_at(&mut record, 0).ok();
        let parts = read.and_then(|()| record.split_first_chunk());
        let number = parts.map(|(number, checksum)| (u64::from_le_bytes(*number), checksum));
        match number {
            Some((number, checksum)) if *checksum == head_checksum(number) => Noted::Number(number),
            Some(_) | None => Noted::Damaged,
        }
    }

    /// Notes the number of the newest commit. Not forced to disk: it need only outlive the process,
    /// and after a power failure an older number is true as well.
    pub(super) fn set_head(&self, number: u64) -> io::Result<()> {
        let record = [&number.to_le_bytes()[..], &head_checksum(number)].concat();
        self.head.write_all_at(&record, 0)
    }

    /// Lets another process in.
    pub(super) fn unlock(&self) {
        _ = self.lock.unlock();
    }

    /// Forces the head and the directory's entries to disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.head.sync_data()?;
        File::open(&self.path)?.sync_all()
    }

    /// Opens the database to write, with the newest schema.
    pub(super) fn writer(&self, fsync: bool) -> Result<Connection, OpenError> {
        let open = || -> Result<(Connection, u32), rusqlite::Error> {
            let db = Connection::open(self.database())?;
            prepare(&db)?;
            db.busy_timeout(OPENING)?;
            if pragma(&db, "page_count")? == 0 {
                // A new file can shrink from the first; an older one has to be converted.
                db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
            }
            let mode: String =
                db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
            if !mode.eq_ignore_ascii_case("wal") {
                return Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_SHMOPEN),
                    None,
                ));
            }
            db.pragma_update(None, "synchronous", if fsync { "FULL" } else { "NORMAL" })?;
            // Checkpoints are made beside the writer, so that no publisher waits for one.
            db.pragma_update(None, "wal_autocheckpoint", 0)?;
            db.pragma_update(None, "cache_size", -16_384)?;
            let version = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
            Ok((db, version))
        };
        let (mut db, version) = open().map_err(|error| self.unusable(error))?;
        let known = MIGRATIONS.len() as u32;
        if version > known {
            return Err(OpenError::TooNew { path: self.path.clone(), found: version, known });
        }
        migrate(&mut db, version).map_err(|error| self.unusable(error))?;
        db.busy_timeout(BUSY).map_err(|error| self.unusable(error))?;
        Ok(db)
    }

    /// Opens the database to read.
    pub(super) fn reader(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(self.database(), flags)?;
        prepare(&db)?;
        db.pragma_update(None, "cache_size", -8_192)?;
        Ok(db)
    }

    /// Opens the database to make checkpoints.
    pub(super) fn checkpointer(&self, fsync: bool) -> rusqlite::Result<Connection> {
        let db = Connection::open(self.database())?;
        prepare(&db)?;
        db.pragma_update(None, "synchronous", if fsync { "FULL" } else { "NORMAL" })?;
        db.pragma_update(None, "wal_autocheckpoint", 0)?;
        Ok(db)
    }

    /// Forgets what the system has cached of the database, so that it is read from the disk again:
    /// after a failed fsync the cache may hold what the disk does not. Only Linux can be asked to.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn drop_caches(&self) -> io::Result<()> {
        Ok(())
    }

    /// Forgets what the system has cached of the database, so that it is read from the disk again:
    /// after a failed fsync the cache may hold what the disk does not.
    #[cfg(target_os = "linux")]
    pub(super) fn drop_caches(&self) -> io::Result<()> {
        for path in [self.database(), self.wal()] {
            match File::open(path) {
                Ok(file) => rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What every connection needs. No checkpoint is made when the last one closes: after a failed fsync
/// it would copy what nobody has verified.
fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

/// The number that a pragma of the database says.
pub(super) fn pragma(db: &Connection, name: &str) -> rusqlite::Result<u64> {
    let mut statement = db.prepare_cached(&format!("PRAGMA {name}"))?;
    statement.query_row((), |row| row.get::<_, i64>(0)).map(|number| number as u64)
}

/// The length of a file, in bytes; none where there is no such file. It is never opened for that: the
/// system would drop all locks of this process on it when it is closed (POSIX fcntl).
pub(super) fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

fn head_checksum(number: u64) -> [u8; 4] {
    crc32fast::hash(&number.to_le_bytes()).to_le_bytes()
}

fn migrate(db: &mut Connection, version: u32) -> rusqlite::Result<()> {
    for (sql, step) in MIGRATIONS.iter().zip(1_u32..).skip(version as usize) {
        let transaction = db.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", step)?;
        transaction.commit()?;
    }
    Ok(())
}
