//! What a publish with an idempotency key came to, so that a repeat is known after a start, too.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};

use super::super::super::asked::Digest;
use super::super::super::clock_steps::ClockSteps;
use super::super::super::{EventReceipt, Superseded};
use super::{Checksum, RowResult, collect, damaged, readable};
use crate::model::{Timestamp, Topic, TopicError};

/// What a publish with an idempotency key came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::history::sqlite) struct ReceiptRow {
    pub(in crate::history::sqlite) scope: [u8; 32],
    pub(in crate::history::sqlite) request: Digest,
    pub(in crate::history::sqlite) time: i64,
    pub(in crate::history::sqlite) events: Vec<Outcome>,
}

/// What one event of it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::history::sqlite) struct Outcome {
    pub(in crate::history::sqlite) topic: Topic,
    /// Its number; none where it was not kept, or not stored.
    pub(in crate::history::sqlite) number: Option<u64>,
    pub(in crate::history::sqlite) superseded: Option<Superseded>,
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
    const COLUMNS: &str = "scope, request, time, events, checksum";
    const WRITE: &str = "INSERT OR REPLACE INTO receipts \
        (scope, request, time, events, checksum) VALUES (?1, ?2, ?3, ?4, ?5)";

    /// All of them, oldest first. A damaged one is reported and left out.
    pub(in crate::history::sqlite) fn all(db: &Connection) -> RowResult<Vec<Self>> {
        let sql = format!("SELECT {} FROM receipts ORDER BY time", Self::COLUMNS);
        readable(db, &sql, Self::read, "an idempotency key was dropped")
    }

    /// Scopes of those whose window is over. Those whose date says so are looked at, and those that are dated
    /// after the clock.
    pub(in crate::history::sqlite) fn old(
        db: &Connection,
        window: Duration,
        steps: &ClockSteps,
        now: SystemTime,
        limit: usize,
    ) -> RowResult<Vec<[u8; 32]>> {
        let now = Timestamp::from(now).millis();
        let oldest = now - window.as_millis() as i64;
        let sql = format!(
            "SELECT {} FROM receipts WHERE time < ?1 OR time > ?2 ORDER BY time LIMIT ?3",
            Self::COLUMNS
        );
        let is_old = |receipt: &Self| receipt.aged(steps) < oldest;
        let found = collect(db, &sql, (oldest, now, limit as i64), |row| {
            let scope = row.get(0)?;
            // A damaged one goes by its date.
            Ok((scope, Self::read(row).map_or(true, |receipt| is_old(&receipt))))
        })?;
        Ok(found.into_iter().filter(|(_, is_old)| *is_old).map(|(scope, _)| scope).collect())
    }

    /// Forgets some of these.
    pub(in crate::history::sqlite) fn forget_old(
        db: &Connection,
        window: Duration,
        steps: &ClockSteps,
        now: SystemTime,
        limit: usize,
    ) -> RowResult<()> {
        for scope in Self::old(db, window, steps, now, limit)? {
            db.prepare_cached("DELETE FROM receipts WHERE scope = ?1")?.execute((scope,))?;
        }
        Ok(())
    }

    fn read(row: &Row<'_>) -> RowResult<Self> {
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
    pub(in crate::history::sqlite) fn aged(&self, steps: &ClockSteps) -> i64 {
        let number = self.events.iter().find_map(|event| event.number);
        steps.aged(number.unwrap_or(u64::MAX), self.time)
    }

    pub(in crate::history::sqlite) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
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
