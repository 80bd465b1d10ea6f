//! The rows of the database, each with the checksum that tells whether it is what was written.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Row};
use serde::{Deserialize, Serialize};

use super::super::asked::Digest;
use super::super::clock_steps::ClockSteps;
use super::super::{EventReceipt, Superseded};
use super::epochs::Epochs;
use crate::model::{
    Cursor, Data, Envelope, Event, EventType, LogName, Timestamp, Topic, TopicError,
};

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

/// The one row about the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogRow {
    pub(super) name: LogName,
    /// What its past is known by.
    pub(super) past: u32,
    pub(super) committed: u64,
    pub(super) reserved: u64,
    pub(super) floor: u64,
    pub(super) time: i64,
    pub(super) bytes: u64,
}

impl LogRow {
    pub(super) const SELECT: &str =
        "SELECT name, rules, committed, reserved, floor, time, bytes, checksum FROM log";
    const WRITE: &str = "INSERT OR REPLACE INTO log \
        (id, name, rules, committed, reserved, floor, time, bytes, checksum) \
        VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

    pub(super) fn read(row: &Row<'_>) -> RowResult<Self> {
        let name: String = row.get(0)?;
        let log = Self {
            name: LogName::parse(&name).ok_or_else(|| damaged("record of the log"))?,
            past: row.get(1)?,
            committed: number(row, 2)?,
            reserved: number(row, 3)?,
            floor: number(row, 4)?,
            time: row.get(5)?,
            bytes: number(row, 6)?,
        };
        if log.checksum() != row.get::<_, u32>(7)? {
            return Err(damaged("record of the log"));
        }
        Ok(log)
    }

    pub(super) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        db.prepare_cached(Self::WRITE)?.execute((
            self.name.to_string(),
            self.past,
            integer(self.committed),
            integer(self.reserved),
            integer(self.floor),
            self.time,
            integer(self.bytes),
            self.checksum(),
        ))?;
        Ok(())
    }

    fn checksum(&self) -> u32 {
        Checksum::default()
            .text(self.name.to_string().as_bytes())
            .number(u64::from(self.past))
            .number(self.committed)
            .number(self.reserved)
            .number(self.floor)
            .number(self.time as u64)
            .number(self.bytes)
            .finish()
    }
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicRow {
    pub(super) id: i64,
    pub(super) name: Topic,
    pub(super) last: u64,
    pub(super) last_removed: u64,
    pub(super) retained: u64,
    pub(super) bytes: u64,
}

impl TopicRow {
    /// The columns that [`TopicRow::read`] reads.
    pub(super) const COLUMNS: &str = "id, name, last, last_removed, retained, bytes, checksum";
    const WRITE: &str = "INSERT OR REPLACE INTO topics \
        (id, name, last, last_removed, retained, bytes, checksum) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

    pub(super) fn read(row: &Row<'_>) -> RowResult<Self> {
        let name: String = row.get(1)?;
        let topic = Self {
            id: row.get(0)?,
            name: Topic::from_stored(&name).map_err(|_| damaged("record of a topic"))?,
            last: number(row, 2)?,
            last_removed: number(row, 3)?,
            retained: number(row, 4)?,
            bytes: number(row, 5)?,
        };
        if topic.checksum() != row.get::<_, u32>(6)? {
            return Err(damaged(format!("record of topic {}", topic.name)));
        }
        Ok(topic)
    }

    pub(super) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        db.prepare_cached(Self::WRITE)?.execute((
            self.id,
            self.name.as_str(),
            integer(self.last),
            integer(self.last_removed),
            integer(self.retained),
            integer(self.bytes),
            self.checksum(),
        ))?;
        Ok(())
    }

    fn checksum(&self) -> u32 {
        Checksum::default()
            .number(self.id as u64)
            .text(self.name.as_str().as_bytes())
            .number(self.last)
            .number(self.last_removed)
            .number(self.retained)
            .number(self.bytes)
            .finish()
    }
}

/// Where one event stands in the log and in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coordinates {
    pub(super) sequence: u64,
    pub(super) topic: i64,
    pub(super) previous: u64,
}

/// One event.
#[derive(Debug)]
pub(super) struct EventRow;

impl EventRow {
    /// The columns that the functions here read.
    pub(super) const COLUMNS: &str =
        "sequence, topic, previous, time, type, base64, data, checksum, envelope";
    const WRITE: &str = "INSERT INTO events \
        (sequence, topic, previous, time, type, base64, data, checksum, envelope) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

    pub(super) fn coordinates(row: &Row<'_>) -> rusqlite::Result<Coordinates> {
        Ok(Coordinates { sequence: number(row, 0)?, topic: row.get(1)?, previous: number(row, 2)? })
    }

    /// The event of a row of `topic`, in the log whose head is given. One that is restricted in a way that is not known here
    /// can't be had.
    pub(super) fn read(
        row: &Row<'_>,
        topic: &Topic,
        head: Cursor,
        epochs: &Epochs,
    ) -> RowResult<Arc<Event>> {
        let event = Self::read_whole(row, topic, head, epochs)?;
        match &event.envelope {
            Some(envelope) if envelope.is_withheld() => {
                Err(Withheld { sequence: number(row, 0)?, topic: topic.clone() }.into())
            }
            _ => Ok(event),
        }
    }

    /// The same, whatever restricts it: to judge, count or copy it, and never to deliver it.
    pub(super) fn read_whole(
        row: &Row<'_>,
        topic: &Topic,
        head: Cursor,
        epochs: &Epochs,
    ) -> RowResult<Arc<Event>> {
        let coordinates = Self::coordinates(row)?;
        let time: i64 = row.get(3)?;
        let kind = row.get_ref(4)?.as_str_or_null().ok().flatten();
        let base64: bool = row.get(5)?;
        let data = row.get_ref(6)?.as_str().unwrap_or_default();
        let envelope = row.get_ref(8)?.as_blob_or_null().ok().flatten();
        let found = Self::checksum(coordinates, topic, time, kind, base64, data, envelope);
        let broken = || damaged(format!("event {} of {topic}", coordinates.sequence));
        if found != row.get::<_, u32>(7)? {
            return Err(broken());
        }
        let kind = kind.map(EventType::parse).transpose().map_err(|_| broken())?;
        let data = Data::from_stored(data, base64).map_err(|_| broken())?;
        let read = |bytes| Envelope::read_whole(bytes).map(Box::new).ok_or_else(broken);
        let envelope = envelope.map(read).transpose()?;
        let (sequence, epoch) = (coordinates.sequence, epochs.of(coordinates.sequence));
        let cursor = Some(Cursor { log: head.log, epoch, sequence });
        let time = Timestamp::from_millis(time);
        Ok(Arc::new(Event { cursor, topic: topic.clone(), kind, time, data, envelope }))
    }

    pub(super) fn write(
        db: &Connection,
        coordinates: Coordinates,
        event: &Event,
    ) -> rusqlite::Result<()> {
        let kind = event.kind.as_ref().map(EventType::as_str);
        let (base64, data) = (event.data.is_base64(), event.data.json().get());
        let time = event.time.millis();
        let envelope = event.envelope.as_ref().map(|envelope| envelope.bytes());
        db.prepare_cached(Self::WRITE)?.execute((
            integer(coordinates.sequence),
            coordinates.topic,
            integer(coordinates.previous),
            time,
            kind,
            base64,
            data,
            Self::checksum(coordinates, &event.topic, time, kind, base64, data, envelope),
            envelope,
        ))?;
        Ok(())
    }

    fn checksum(
        coordinates: Coordinates,
        topic: &Topic,
        time: i64,
        kind: Option<&str>,
        base64: bool,
        data: &str,
        envelope: Option<&[u8]>,
    ) -> u32 {
        let checksum = Checksum::default()
            .number(coordinates.sequence)
            .number(coordinates.topic as u64)
            .text(topic.as_str().as_bytes())
            .number(coordinates.previous)
            .number(time as u64)
            .text(kind.unwrap_or_default().as_bytes())
            .number(u64::from(base64))
            .text(data.as_bytes());
        // What has none has the checksum that earlier releases wrote.
        match envelope {
            Some(envelope) => checksum.text(envelope).finish(),
            None => checksum.finish(),
        }
    }
}

/// A value that ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EndingRow {
    pub(super) topic: Topic,
    pub(super) sequence: u64,
    /// When it was published.
    time: i64,
    pub(super) envelope: Envelope,
}

impl EndingRow {
    /// The columns that [`EndingRow::read`] reads.
    pub(super) const COLUMNS: &str = "topic, sequence, time, envelope, checksum";
    const WRITE: &str = "INSERT OR REPLACE INTO endings \
        (topic, sequence, time, envelope, checksum) VALUES (?1, ?2, ?3, ?4, ?5)";

    /// The row of an event that ends by itself; none of any other.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let envelope = event.envelope.as_deref().filter(|envelope| envelope.is_mortal())?;
        let sequence = event.cursor?.sequence;
        let (topic, time) = (event.topic.clone(), event.time.millis());
        Some(Self { topic, sequence, time, envelope: envelope.clone() })
    }

    pub(super) fn read(row: &Row<'_>) -> RowResult<Self> {
        let topic: String = row.get(0)?;
        let broken = || damaged(format!("record of the end of {topic}"));
        let envelope = Envelope::read_whole(row.get_ref(3)?.as_blob().unwrap_or_default());
        let ending = Self {
            topic: Topic::from_stored(&topic).map_err(|_| broken())?,
            sequence: number(row, 1)?,
            time: row.get(2)?,
            envelope: envelope.ok_or_else(broken)?,
        };
        if ending.checksum() != row.get::<_, u32>(4)? {
            return Err(broken());
        }
        // Its tombstone would be told to everyone.
        if ending.envelope.is_withheld() {
            return Err(Withheld { sequence: ending.sequence, topic: ending.topic }.into());
        }
        Ok(ending)
    }

    pub(super) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        db.prepare_cached(Self::WRITE)?.execute((
            self.topic.as_str(),
            integer(self.sequence),
            self.time,
            self.envelope.bytes(),
            self.checksum(),
        ))?;
        Ok(())
    }

    /// How long the value still holds at a time, in milliseconds since 1970, where it has a time.
    pub(super) fn left(&self, now: i64, steps: &ClockSteps) -> Option<Duration> {
        let ttl = self.envelope.ttl()?;
        let since = now.saturating_sub(steps.aged(self.sequence, self.time));
        let passed = Duration::from_millis(u64::try_from(since).unwrap_or(0));
        Some(ttl.saturating_sub(passed))
    }

    /// The place of the value, in the log whose head is given.
    pub(super) fn cursor(&self, head: Cursor, epochs: &Epochs) -> Cursor {
        Cursor { log: head.log, epoch: epochs.of(self.sequence), sequence: self.sequence }
    }

    fn checksum(&self) -> u32 {
        Checksum::default()
            .text(self.topic.as_str().as_bytes())
            .number(self.sequence)
            .number(self.time as u64)
            .text(self.envelope.bytes())
            .finish()
    }
}

/// What a publish with an idempotency key came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReceiptRow {
    pub(super) scope: [u8; 32],
    pub(super) request: Digest,
    pub(super) time: i64,
    pub(super) events: Vec<Outcome>,
}

/// What one event of it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) topic: Topic,
    /// Its number; none where it was not kept, or not stored.
    pub(super) number: Option<u64>,
    pub(super) superseded: Option<Superseded>,
}

/// The same as text: `[topic, number]`, and for what was superseded `[topic, null, version]`, which is 0 where it
/// was not a version that did so.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Noted<'a> {
    Stored(Cow<'a, str>, Option<u64>),
    Superseded(Cow<'a, str>, (), u64),
}

impl From<EventReceipt> for Outcome {
    fn from(receipt: EventReceipt) -> Self {
        let EventReceipt { topic, cursor, superseded, time: _ } = receipt;
        Self { topic, number: cursor.map(|cursor| cursor.sequence), superseded }
    }
}

impl<'a> From<&'a Outcome> for Noted<'a> {
    fn from(outcome: &'a Outcome) -> Self {
        let topic = Cow::Borrowed(outcome.topic.as_str());
        match outcome.superseded {
            None => Self::Stored(topic, outcome.number),
            Some(superseded) => Self::Superseded(topic, (), superseded.version.unwrap_or(0)),
        }
    }
}

impl TryFrom<Noted<'_>> for Outcome {
    type Error = TopicError;

    fn try_from(noted: Noted<'_>) -> Result<Self, TopicError> {
        Ok(match noted {
            Noted::Stored(topic, number) => {
                Self { topic: Topic::from_stored(&topic)?, number, superseded: None }
            }
            Noted::Superseded(topic, (), version) => {
                let superseded = Some(Superseded { version: (version > 0).then_some(version) });
                Self { topic: Topic::from_stored(&topic)?, number: None, superseded }
            }
        })
    }
}

impl ReceiptRow {
    /// The columns that [`ReceiptRow::read`] reads.
    pub(super) const COLUMNS: &str = "scope, request, time, events, checksum";
    const WRITE: &str = "INSERT OR REPLACE INTO receipts \
        (scope, request, time, events, checksum) VALUES (?1, ?2, ?3, ?4, ?5)";

    pub(super) fn read(row: &Row<'_>) -> RowResult<Self> {
        let broken = || damaged("record of an idempotency key");
        let (scope, time) = (row.get(0)?, row.get(2)?);
        let (request, text): (Vec<u8>, String) = (row.get(1)?, row.get(3)?);
        if Self::checksum(&scope, &request, time, &text) != row.get::<_, u32>(4)? {
            return Err(broken());
        }
        let request = Digest::from_bytes(&request).ok_or_else(broken)?;
        let events: Vec<Noted<'_>> = serde_json::from_str(&text).map_err(|_| broken())?;
        let events: Result<_, _> = events.into_iter().map(Outcome::try_from).collect();
        Ok(Self { scope, request, time, events: events.map_err(|_| broken())? })
    }

    /// From when its age counts, in milliseconds since 1970.
    pub(super) fn aged(&self, steps: &ClockSteps) -> i64 {
        let number = self.events.iter().find_map(|event| event.number);
        steps.aged(number.unwrap_or(u64::MAX), self.time)
    }

    pub(super) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        let events: Vec<_> = self.events.iter().map(Noted::from).collect();
        let text = serde_json::to_string(&events).unwrap_or_default();
        let request = self.request.to_bytes();
        let checksum = Self::checksum(&self.scope, &request, self.time, &text);
        db.prepare_cached(Self::WRITE)?
            .execute((self.scope, request, self.time, text, checksum))?;
        Ok(())
    }

    fn checksum(scope: &[u8; 32], request: &[u8], time: i64, events: &str) -> u32 {
        Checksum::default()
            .text(scope)
            .text(request)
            .number(time as u64)
            .text(events.as_bytes())
            .finish()
    }
}
