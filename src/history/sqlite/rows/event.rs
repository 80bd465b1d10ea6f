//! A kept event, and its place in the log and in its topic.

use std::sync::Arc;

use rusqlite::{Connection, Row};

use super::super::epochs::Epochs;
use super::{Checksum, RowResult, Withheld, damaged, integer, number};
use crate::model::{Cursor, Data, Envelope, Event, EventType, Timestamp, Topic};

/// Where one event stands in the log and in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::history::sqlite) struct Coordinates {
    pub(in crate::history::sqlite) sequence: u64,
    pub(in crate::history::sqlite) topic: i64,
    pub(in crate::history::sqlite) previous: u64,
}

/// One event.
#[derive(Debug)]
pub(in crate::history::sqlite) struct EventRow;

impl EventRow {
    /// The columns that the functions here read.
    pub(in crate::history::sqlite) const COLUMNS: &str =
        "sequence, topic, previous, time, type, base64, data, checksum, envelope";
    const WRITE: &str = "INSERT INTO events \
        (sequence, topic, previous, time, type, base64, data, checksum, envelope) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

    pub(in crate::history::sqlite) fn coordinates(row: &Row<'_>) -> rusqlite::Result<Coordinates> {
        Ok(Coordinates { sequence: number(row, 0)?, topic: row.get(1)?, previous: number(row, 2)? })
    }

    /// The event of a row of `topic`, in the log whose head is given. One that is restricted in a way that is not known here
    /// can't be had.
    pub(in crate::history::sqlite) fn read(
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
    pub(in crate::history::sqlite) fn read_whole(
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
        let cursor = Some(epochs.position(head, coordinates.sequence));
        let time = Timestamp::from_millis(time);
        Ok(Arc::new(Event { cursor, topic: topic.clone(), kind, time, data, envelope }))
    }

    pub(in crate::history::sqlite) fn write(
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
