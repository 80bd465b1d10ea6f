//! What one node says of itself, on its way to the others.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::{Data, Event, EventType, Timestamp, Topic};

/// The most bytes of what a node says; more is none of ours.
const MAX_BYTES: usize = 64 * 1024;

/// How deep it may be nested.
const MAX_DEPTH: usize = 8;

/// How a node is.
#[derive(Serialize, Deserialize)]
pub(super) struct News<'a> {
    /// In which database its log is: letters are heard in all of them.
    database: i64,
    /// When it says so, in milliseconds since 1970.
    time: i64,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl<'a> News<'a> {
    pub(super) fn of(event: &'a Event, database: i64) -> Self {
        Self { database, time: event.time.millis(), data: event.data.json() }
    }

    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        (body.len() <= MAX_BYTES).then(|| serde_json::from_slice(body).ok()).flatten()
    }

    pub(super) fn write(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    pub(super) fn is_of(&self, database: i64) -> bool {
        self.database == database
    }

    pub(super) fn into_event(self) -> Option<Event> {
        Some(Event {
            cursor: None,
            topic: Topic::metrics(),
            kind: EventType::parse("metrics").ok(),
            time: Timestamp::from_millis(self.time),
            data: Data::from_raw(self.data, MAX_DEPTH).ok()?,
            envelope: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_arrives_as_it_was_and_what_is_too_much_does_not() {
        let event = |text: &str| Event {
            cursor: None,
            topic: Topic::metrics(),
            kind: EventType::parse("metrics").ok(),
            time: Timestamp::from_millis(7),
            data: Data::from_json(text.as_bytes(), 16).unwrap(),
            envelope: None,
        };
        let said = event(r#"{"node":"a","sessions":{"sse":1}}"#);
        let body = News::of(&said, 3).write().unwrap();
        let news = News::read(&body).unwrap();
        assert!(news.is_of(3) && !news.is_of(0));
        let heard = news.into_event().unwrap();
        assert_eq!((heard.data.json().get(), heard.time), (said.data.json().get(), said.time));
        let deep = News::of(&event("[[[[[[[[[1]]]]]]]]]"), 3).write().unwrap();
        assert!(News::read(&deep).unwrap().into_event().is_none());
        let long = News::of(&event(&format!("\"{}\"", "x".repeat(MAX_BYTES))), 3).write().unwrap();
        assert!(News::read(&long).is_none());
    }
}
