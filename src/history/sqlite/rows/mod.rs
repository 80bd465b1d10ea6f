//! The rows of the database, a table a file, each with the checksum that tells whether it is what was written.

mod ending;
mod event;
mod log;
mod receipt;
mod topic;

use rusqlite::{Connection, ErrorCode, Row};

pub(super) use self::ending::EndingRow;
pub(super) use self::event::{Coordinates, EventRow};
pub(super) use self::log::LogRow;
pub(super) use self::receipt::{Outcome, ReceiptRow};
pub(super) use self::topic::TopicRow;
use crate::model::Topic;

/// A row that is not what was written, or can't be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {row} is damaged")]
pub(super) struct Damaged {
    row: String,
}

/// An event that a later release stored with a restriction which this one does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {sequence} of {topic} is restricted in a way that this release does not know")]
pub(super) struct Withheld {
    sequence: u64,
    topic: Topic,
}

/// Why a row could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowError {
    #[error(transparent)]
    Damaged(#[from] Damaged),
    #[error(transparent)]
    Withheld(#[from] Withheld),
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
}

pub(super) type RowResult<T> = Result<T, RowError>;

pub(super) fn damaged(row: impl Into<String>) -> RowError {
    Damaged { row: row.into() }.into()
}

impl RowError {
    /// What SQLite calls it, where it comes from there.
    pub(super) fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            Self::Damaged(_) | Self::Withheld(_) => None,
        }
    }

    /// Whether it is of the memory that connections to a database share (`-shm`).
    pub(super) fn is_of_shared_memory(&self) -> bool {
        use rusqlite::ffi;
        let of_memory =
            [ffi::SQLITE_IOERR_SHMOPEN, ffi::SQLITE_IOERR_SHMMAP, ffi::SQLITE_IOERR_SHMLOCK];
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(error, _)) => {
                of_memory.contains(&error.extended_code)
            }
            Self::Sqlite(_) | Self::Damaged(_) | Self::Withheld(_) => false,
        }
    }

    /// An event that should be there is not.
    pub(super) fn missing(sequence: u64, topic: &Topic) -> Self {
        damaged(format!("event {sequence} of {topic}"))
    }

    /// An event is of a topic that is not there.
    pub(super) fn without_topic(sequence: u64) -> Self {
        damaged(format!("topic of event {sequence}"))
    }
}

/// CRC-32 over values that can't be shifted into one another.
#[derive(Default)]
pub(super) struct Checksum(crc32fast::Hasher);

impl Checksum {
    pub(super) fn number(mut self, number: u64) -> Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    pub(super) fn text(self, text: &[u8]) -> Self {
        let mut checksum = self.number(text.len() as u64);
        checksum.0.update(text);
        checksum
    }

    pub(super) fn finish(self) -> u32 {
        self.0.finalize()
    }
}

/// Numbers are kept as SQLite's 64-bit integers; those that a log gives are far below the sign.
pub(super) fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(at).map(|number| number as u64)
}

pub(super) fn integer(number: u64) -> i64 {
    number as i64
}

/// Every row of a query.
pub(super) fn collect<T>(
    db: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: impl Fn(&Row<'_>) -> RowResult<T>,
) -> RowResult<Vec<T>> {
    let mut statement = db.prepare_cached(sql)?;
    statement.query_and_then(parameters, read)?.collect()
}

/// Every row of a query that can be read; of each of the others it is said what comes of that.
fn readable<T>(
    db: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> RowResult<T>,
    otherwise: &'static str,
) -> RowResult<Vec<T>> {
    let mut statement = db.prepare(sql)?;
    let mut rows = statement.query(())?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok(found) => all.push(found),
            Err(error) => tracing::error!(%error, "{otherwise}"),
        }
    }
    Ok(all)
}
