//! A copy of the history, made beside a broker that uses it.
//!
//! SQLite's own ways either begin anew with each commit of another process or hold one long read, beneath
//! which the broker's log grows without end. So events are copied in many short reads, along the
//! log; one more, short as well, has what was published meanwhile and everything else, which is little. What was
//! removed meanwhile is removed from the copy, and then each row of it is checked.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode};

use super::open::{MIGRATIONS, pragma};
use super::past::Past;
use super::rows::{EventRow, LogRow, RowError, RowResult, TopicRow, collect};
use super::verify::{corrupt, verify};
use crate::model::Cursor;

/// How long one read of events should take: no more than a page of events takes a reader.
const STEP: Duration = Duration::from_millis(20);

/// How often what was published meanwhile is copied before the last read has the rest of it.
const ROUNDS: usize = 8;

/// How much is written before it is forced to the disk, so that the broker's own fsync never waits for
/// much of it, in bytes.
const SYNCED: u64 = 16 << 20;

/// How long it is waited for a lock: a broker that begins may be converting the history.
const PATIENCE: Duration = Duration::from_secs(40);

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is nothing to copy.
    #[error("there is no history in {0}")]
    Missing(PathBuf),
    /// It is of another form than this version's.
    #[error(
        "the history has schema version {found}, and this version of Fanfare copies {known} alone: use the \
         version that wrote it"
    )]
    OtherForm {
        /// What the database says.
        found: u64,
        /// What this version knows.
        known: u64,
    },
    /// Nothing is overwritten.
    #[error("{0} is there already, and is not overwritten")]
    Exists(PathBuf),
    /// The system said no.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no space for the copy.
    #[error("there is no space left for the copy, {0}")]
    Full(PathBuf),
    /// The history can't be read, or the copy is not what it should be.
    #[error("the history could not be copied: {0}")]
    Failed(String),
}

impl From<RowError> for BackupError {
    fn from(error: RowError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// How far a copy is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Events copied, or checked.
    pub events: u64,
    /// All there are, as far as is known.
    pub of: u64,
    /// Whether they are being checked.
    pub checking: bool,
}

/// What a copy has.
#[derive(Debug)]
pub struct Copied {
    /// Its file.
    pub path: PathBuf,
    /// Its length, in bytes.
    pub bytes: u64,
    /// How many events it has.
    pub events: u64,
    /// Of how many topics.
    pub topics: u64,
    /// The newest of them.
    pub newest: Cursor,
}

/// Copies the history of a data directory to a file, or into a directory as `history.db`, and tells about it.
pub fn copy(
    from: &Path,
    to: &Path,
    mut progress: impl FnMut(Progress),
) -> Result<Copied, BackupError> {
    let source = from.join("history.db");
    if !source.is_file() {
        return Err(BackupError::Missing(from.to_owned()));
    }
    let path = if to.is_dir() { to.join("history.db") } else { to.to_owned() };
    let partial = Partial::new(&path)?;
    let full = |error: BackupRow| match error {
        BackupRow::Row(error) if error.code() == Some(ErrorCode::DiskFull) => {
            BackupError::Full(path.clone())
        }
        BackupRow::Row(error) => error.into(),
        BackupRow::Other(error) => error,
    };
    let mut copy = Copy::open(&source, &partial).map_err(full)?;
    copy.all(&mut progress).map_err(full)?;
    let (events, topics, newest) = copy.check(&mut progress).map_err(|error| full(error.into()))?;
    copy.close()?;
    let bytes = partial.publish(&path)?;
    Ok(Copied { path, bytes, events, topics, newest })
}

/// Why a step failed.
enum BackupRow {
    Row(RowError),
    Other(BackupError),
}

impl<E: Into<RowError>> From<E> for BackupRow {
    fn from(error: E) -> Self {
        Self::Row(error.into())
    }
}

/// The copy under its first name; removed unless it is whole.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    fn new(path: &Path) -> Result<Self, BackupError> {
        if path.exists() {
            return Err(BackupError::Exists(path.to_owned()));
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        let partial = PathBuf::from(name);
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create_new(true).mode(0o600).open(&partial);
        match opened {
            Ok(file) => Ok(Self { path: partial, file }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BackupError::Exists(partial))
            }
            Err(source) => Err(BackupError::File { path: partial, source }),
        }
    }

    /// Forces it to disk and gives it its name; its length, in bytes.
    fn publish(self, path: &Path) -> Result<u64, BackupError> {
        let failed = |source| BackupError::File { path: path.to_owned(), source };
        self.file.sync_all().map_err(failed)?;
        let bytes = self.file.metadata().map_err(failed)?.len();
        if path.exists() {
            return Err(BackupError::Exists(path.to_owned()));
        }
        fs::rename(&self.path, path).map_err(failed)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))
            .and_then(|it| it.sync_all())
            .map_err(failed)?;
        Ok(bytes)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Where it has its name it is not there any more.
        _ = fs::remove_file(&self.path);
    }
}

/// A connection to the copy, with the history attached as `source`.
struct Copy<'a> {
    db: Connection,
    partial: &'a Partial,
    /// The number of the newest event copied.
    copied: i64,
    events: u64,
    /// How many events are read at once.
    step: usize,
    synced: u64,
}

impl<'a> Copy<'a> {
    fn open(source: &Path, partial: &'a Partial) -> Result<Self, BackupRow> {
        let db = Connection::open(&partial.path)?;
        db.busy_timeout(PATIENCE)?;
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        // Until it has its name nobody needs it.
        db.pragma_update(None, "journal_mode", "OFF")?;
        db.pragma_update(None, "synchronous", "OFF")?;
        db.pragma_update(None, "cache_size", -65_536)?;
        db.execute("ATTACH ?1 AS source", (read_only(source),))?;
        let (found, known) = (pragma(&db, "source.user_version")?, MIGRATIONS.len() as u64);
        if found != known {
            return Err(BackupRow::Other(BackupError::OtherForm { found, known }));
        }
        let sql =
            "SELECT sql FROM source.sqlite_schema WHERE sql IS NOT NULL ORDER BY type = 'index'";
        for statement in collect(&db, sql, (), |row| Ok(row.get::<_, String>(0)?))? {
            db.execute_batch(&statement)?;
        }
        db.pragma_update(None, "user_version", known as i64)?;
        Ok(Self { db, partial, copied: 0, events: 0, step: 256, synced: 0 })
    }

    /// Copies everything.
    fn all(&mut self, progress: &mut impl FnMut(Progress)) -> Result<(), BackupRow> {
        let of: i64 = self.number("SELECT ifnull(SUM(retained), 0) FROM source.topics")?;
        let mut tell = |events: u64| {
            progress(Progress { events, of: events.max(of as u64), checking: false });
        };
        for _ in 0..ROUNDS {
            let newest = self.number("SELECT ifnull(MAX(sequence), 0) FROM source.events")?;
            if newest - self.copied < self.step as i64 {
                break;
            }
            while self.copied < newest {
                self.some(newest)?;
                tell(self.events);
            }
        }
        self.rest()?;
        self.sync(0)
    }

    /// Copies some events up to a number, as many as are quickly read.
    fn some(&mut self, upto: i64) -> Result<(), BackupRow> {
        let begun = Instant::now();
        let end = "SELECT MAX(sequence) FROM (SELECT sequence FROM source.events \
                   WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3)";
        let parameters = (self.copied, upto, self.step as i64);
        let end: Option<i64> =
            self.db.prepare_cached(end)?.query_row(parameters, |row| row.get(0))?;
        // Where all of them have been removed right now, none is missing.
        let end = end.unwrap_or(upto);
        self.events += self.copy_events(end)?;
        self.copied = end;
        let elapsed = begun.elapsed();
        if elapsed > STEP {
            self.step = (self.step / 2).max(1);
        } else if elapsed < STEP / 2 {
            self.step *= 2;
        }
        self.sync(SYNCED)
    }

    fn copy_events(&self, upto: i64) -> rusqlite::Result<u64> {
        let sql = "INSERT INTO main.events SELECT * FROM source.events \
                   WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence";
        Ok(self.db.prepare_cached(sql)?.execute((self.copied, upto))? as u64)
    }

    /// Copies, as of one moment, the newest events and all other tables; then removes what had been removed
    /// up to that moment. Of a topic the oldest events are removed first, always.
    fn rest(&mut self) -> Result<(), BackupRow> {
        let tables = "SELECT name FROM main.sqlite_schema WHERE type = 'table' \
                      AND name <> 'events' AND name NOT LIKE 'sqlite%'";
        let tables = collect(&self.db, tables, (), |row| Ok(row.get::<_, String>(0)?))?;
        let transaction = self.db.unchecked_transaction()?;
        self.copy_events(i64::MAX)?;
        for table in tables {
            let sql = format!("INSERT INTO main.{table} SELECT * FROM source.{table}");
            self.db.execute(&sql, ())?;
        }
        transaction.commit()?;
        self.db.execute_batch(
            "DETACH source;
             DELETE FROM events WHERE sequence IN (
                 SELECT e.sequence FROM topics t CROSS JOIN events e INDEXED BY events_by_topic
                 ON e.topic = t.id AND e.sequence <= t.last_removed);
             DELETE FROM events WHERE topic NOT IN (SELECT id FROM topics);",
        )?;
        Ok(())
    }

    /// Checks each row of the copy; how many events of how many topics it has, and its newest place.
    fn check(&self, progress: &mut impl FnMut(Progress)) -> RowResult<(u64, u64, Cursor)> {
        verify(&self.db)?;
        let log = LogRow::of(&self.db)?;
        let log = log.ok_or_else(|| corrupt("the record of the log is missing"))?;
        let epochs = Past::read(&self.db, log.past)?.epochs;
        let newest = Cursor { log: log.name, epoch: epochs.newest(), sequence: log.committed };
        let sql = format!("SELECT {} FROM topics", TopicRow::COLUMNS);
        let topics = collect(&self.db, &sql, (), TopicRow::read)?;
        let of = topics.iter().map(|topic| topic.retained).sum();
        let mut topics: HashMap<_, _> =
            topics.into_iter().map(|topic| (topic.id, (topic, 0, 0))).collect();
        let sql = format!("SELECT {} FROM events ORDER BY sequence", EventRow::COLUMNS);
        let mut statement = self.db.prepare(&sql)?;
        let mut rows = statement.query(())?;
        let mut events = 0;
        while let Some(row) = rows.next()? {
            let coordinates = EventRow::coordinates(row)?;
            let Some((topic, count, bytes)) = topics.get_mut(&coordinates.topic) else {
                return Err(RowError::without_topic(coordinates.sequence));
            };
            let event = EventRow::read_whole(row, &topic.name, newest, &epochs)?;
            *count += 1;
            *bytes += event.cost() as u64;
            events += 1;
            progress(Progress { events, of, checking: true });
        }
        for (topic, count, bytes) in topics.values() {
            if (topic.retained, topic.bytes) != (*count, *bytes) {
                return Err(corrupt(format!("events of {} are missing", topic.name)));
            }
        }
        Ok((events, topics.len() as u64, newest))
    }

    fn number(&self, sql: &str) -> rusqlite::Result<i64> {
        self.db.query_row(sql, (), |row| row.get(0))
    }

    /// Forces what was written to the disk, where it is much.
    fn sync(&mut self, much: u64) -> Result<(), BackupRow> {
        let failed = |source| {
            BackupRow::Other(BackupError::File { path: self.partial.path.clone(), source })
        };
        let length = self.partial.file.metadata().map_err(failed)?.len();
        if length >= self.synced + much {
            self.partial.file.sync_data().map_err(failed)?;
            self.synced = length;
        }
        Ok(())
    }

    fn close(self) -> Result<(), BackupError> {
        self.db.close().map_err(|(_, error)| BackupError::Failed(error.to_string()))
    }
}

/// A path as SQLite takes it, so that nothing is written there.
fn read_only(path: &Path) -> String {
    let path = path.to_string_lossy();
    let escaped = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let escaped = if escaped.starts_with('/') { escaped } else { format!("./{escaped}") };
    format!("file:{escaped}?mode=ro")
}
