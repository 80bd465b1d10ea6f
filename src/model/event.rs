//! A published thing: its type, time and data.
//!
//! Data is JSON text that is passed through byte for byte: no number is parsed again and no key
//! reordered. Only CR and LF, which JSON allows between tokens alone, become spaces, so that an
//! event always fits one line of SSE and NDJSON.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Cursor, Envelope, Topic};

/// An event as it was stored and is delivered.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its place in the log; `None` on ephemeral topics.
    pub cursor: Option<Cursor>,
    /// Its address.
    pub topic: Topic,
    /// What kind of event it is, in the publisher's words.
    pub kind: Option<EventType>,
    /// When the broker took it.
    pub time: Timestamp,
    /// What was published.
    pub data: Data,
    /// What it carries beside that; most events nothing.
    pub envelope: Option<Box<Envelope>>,
}

impl Event {
    /// What an event costs beside its texts, in bytes: a flat charge for its record and its place
    /// in the indexes.
    pub const OVERHEAD_BYTES: usize = 256;

    /// What keeping this event costs, in bytes, as every bound on a history counts it.
    pub fn cost(&self) -> usize {
        let Self { topic, kind, data, envelope, .. } = self;
        cost(topic, kind.as_ref(), data, envelope.as_deref())
    }

    /// Whether it is a tombstone: it removes its topic's current value.
    pub fn is_tombstone(&self) -> bool {
        self.envelope.as_ref().is_some_and(|envelope| envelope.removed().is_some())
    }
}

/// An event that a publisher hands in: neither numbered nor stored yet.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its address.
    pub topic: Topic,
    /// What kind of event it is, in the publisher's words.
    pub kind: Option<EventType>,
    /// What is published.
    pub data: Data,
    /// What it carries beside that.
    pub envelope: Option<Box<Envelope>>,
    /// What it is stored under, where that is not always.
    pub terms: Option<Box<Terms>>,
}

impl NewEvent {
    /// An event that carries nothing else, and is stored whatever is there.
    pub fn new(topic: Topic, kind: Option<EventType>, data: Data) -> Self {
        Self { topic, kind, data, envelope: None, terms: None }
    }

    /// What it costs while it waits to be stored, in bytes, as [`Event::cost`] counts.
    pub fn cost(&self) -> usize {
        let Self { topic, kind, data, envelope, .. } = self;
        cost(topic, kind.as_ref(), data, envelope.as_deref())
    }

    /// The member of it that only an event has that is kept; none where it has no such one.
    pub fn kept_member(&self) -> Option<&'static str> {
        let envelope = self.envelope.as_deref();
        let has = |has: fn(&Envelope) -> bool| envelope.is_some_and(has);
        if has(|envelope| envelope.removed().is_some()) {
            Some("removed")
        } else if has(|envelope| envelope.version().is_some()) {
            Some("version")
        } else if has(|envelope| envelope.ttl().is_some()) {
            Some("ttl_ms")
        } else if has(|envelope| envelope.holder().is_some()) {
            Some("bound")
        } else {
            let if_latest = self.terms.as_ref().and_then(|terms| terms.if_latest);
            if_latest.map(|_| "if_latest")
        }
    }

    /// The session that its value is to be bound to.
    pub fn holder(&self) -> Option<&str> {
        self.envelope.as_ref()?.holder()
    }

    /// Whether it is to be kept, where its topic is.
    pub fn is_kept(&self) -> bool {
        self.terms.as_ref().is_none_or(|terms| !terms.passes)
    }
}

fn cost(
    topic: &Topic,
    kind: Option<&EventType>,
    data: &Data,
    envelope: Option<&Envelope>,
) -> usize {
    let kind = kind.map_or(0, |kind| kind.as_str().len());
    let envelope = envelope.map_or(0, |envelope| envelope.bytes().len());
    let texts = topic.as_str().len() + kind + data.json().get().len();
    texts + envelope + Event::OVERHEAD_BYTES
}

/// What an event is stored under.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// It is delivered and not kept, on topics that are.
    pub passes: bool,
    /// What has to be the newest of its topic.
    pub if_latest: Option<Latest>,
    /// No newer event of its topic, by number, may ever have been there.
    pub unless_after: Option<Cursor>,
}

/// What the newest event of a topic has to be for another to follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latest {
    /// No current value: nothing, or a tombstone.
    Absent,
    /// Any current value.
    Present,
    /// The newest kept event, be it a tombstone, is this one.
    Is(Cursor),
}

/// The `type` of an event: 1 to 200 characters of visible ASCII, other than the names that SSE and
/// the broker use for themselves. Cloning shares the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventType(Arc<str>);

/// What is wrong with an event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventTypeError {
    /// The text is empty.
    #[error("it is empty; leave it out where there is none")]
    Empty,
    /// The text is longer than [`EventType::MAX_BYTES`].
    #[error("it has {0} bytes, and the limit is {max}", max = EventType::MAX_BYTES)]
    TooLong(usize),
    /// A byte outside visible ASCII, at this offset.
    #[error("the character at byte {0} is not visible ASCII")]
    BadCharacter(usize),
    /// A name that `EventSource` or the broker gives a meaning of its own.
    #[error("`error`, `open` and names beginning with `fanfare.` are reserved")]
    Reserved,
}

impl EventType {
    /// The longest legal type, in bytes.
    pub const MAX_BYTES: usize = 200;

    /// Reads a type, or says what is wrong.
    pub fn parse(text: &str) -> Result<Self, EventTypeError> {
        match text {
            "" => Err(EventTypeError::Empty),
            _ if text.len() > Self::MAX_BYTES => Err(EventTypeError::TooLong(text.len())),
            "error" | "open" => Err(EventTypeError::Reserved),
            _ if text.starts_with("fanfare.") => Err(EventTypeError::Reserved),
            _ => match text.bytes().position(|byte| !byte.is_ascii_graphic()) {
                Some(at) => Err(EventTypeError::BadCharacter(at)),
                None => Ok(Self(text.into())),
            },
        }
    }

    /// The type as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A moment in UTC, in milliseconds since 1970; shown as RFC 3339 with three decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn millis(self) -> i64 {
        self.0
    }
}

impl Timestamp {
    /// So many milliseconds after 1970-01-01T00:00:00Z.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Reads a moment as RFC 3339 writes it, with its offset from UTC.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|time| Self(time.as_millisecond()))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.written() {
            return f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?);
        }
        let time = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{time:.3}")
    }
}

impl Timestamp {
    /// The digits of a time from 1970 to 9999, for each event and each receipt has one. The date follows from the days
    /// as in Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    fn written(self) -> Option<[u8; 24]> {
        let millis = u64::try_from(self.0).ok().filter(|millis| *millis < YEAR_10000)?;
        let (day, of_day) = (millis / DAY + 719_468, millis % DAY);
        let (era, of_era) = (day / 146_097, day % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        // Years begin in March here, so that a leap day is the last.
        let month = (5 * of_year + 2) / 153;
        let date = of_year - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = year + era * 400 + next;
        let mut text = *b"0000-00-00T00:00:00.000Z";
        for (at, digits, number) in [
            (0, 4, year),
            (5, 2, month),
            (8, 2, date),
            (11, 2, of_day / 3_600_000),
            (14, 2, of_day / 60_000 % 60),
            (17, 2, of_day / 1_000 % 60),
            (20, 3, of_day % 1_000),
        ] {
            let mut left = number;
            for digit in text[at..at + digits].iter_mut().rev() {
                *digit += (left % 10) as u8;
                left /= 10;
            }
        }
        Some(text)
    }
}

/// Milliseconds of a day.
const DAY: u64 = 86_400_000;

/// Milliseconds from 1970 to the year 10000, which has a digit more.
const YEAR_10000: u64 = 253_402_300_800_000;

/// A text without the byte order mark that some editors and libraries put before it: where JSON is expected
/// it means nothing (RFC 8259, section 8.1).
pub fn unmarked(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// The data of an event: one JSON value as text, without line breaks.
#[derive(Debug, Clone)]
pub struct Data {
    json: Box<RawValue>,
    base64: bool,
}

/// Why a body can't be the data of an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The text is not one JSON value (RFC 8259); the message says where.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// Arrays and objects are nested deeper than the limit.
    #[error("it is nested more than {0} deep (limits.json_depth)")]
    TooDeep(usize),
    /// `"encoding":"base64"` with data that is not a string of base64.
    #[error("its encoding is base64, but the data is not a base64 string")]
    NotBase64,
}

impl Data {
    /// Takes a JSON text (RFC 8259) as it is, nested at most `max_depth` deep.
    pub fn from_json(text: &[u8], max_depth: usize) -> Result<Self, DataError> {
        let raw: &RawValue =
            serde_json::from_slice(text).map_err(|error| DataError::NotJson(error.to_string()))?;
        Self::from_raw(raw, max_depth)
    }

    /// Takes a JSON value that was parsed out of a larger text.
    pub fn from_raw(raw: &RawValue, max_depth: usize) -> Result<Self, DataError> {
        let text = raw.get();
        // Most data is far too short of brackets to be too deep, which is quick to see.
        if count(text, |byte| matches!(byte, b'[' | b'{')) > max_depth && depth(text) > max_depth {
            return Err(DataError::TooDeep(max_depth));
        }
        let json = if count(text, |byte| matches!(byte, b'\r' | b'\n')) > 0 {
            let line = text.replace(['\r', '\n'], " ");
            RawValue::from_string(line).map_err(|error| DataError::NotJson(error.to_string()))?
        } else {
            raw.to_owned()
        };
        Ok(Self { json, base64: false })
    }

    /// Takes data back as [`Data::json`] and [`Data::is_base64`] gave it to a history.
    pub fn from_stored(json: &str, base64: bool) -> Result<Self, DataError> {
        let json = RawValue::from_string(json.to_owned());
        let json = json.map_err(|error| DataError::NotJson(error.to_string()))?;
        Ok(Self { json, base64 })
    }

    /// No data.
    pub fn null() -> Self {
        Self { json: RawValue::NULL.to_owned(), base64: false }
    }

    /// Wraps a text as a JSON string.
    pub fn from_text(text: &str) -> Self {
        Self { json: json_string(text), base64: false }
    }

    /// Wraps bytes as a JSON string of base64 (RFC 4648, section 4).
    pub fn from_binary(bytes: &[u8]) -> Self {
        Self { json: json_string(&BASE64_STANDARD.encode(bytes)), base64: true }
    }

    /// Marks data that already is a JSON string of base64 as such.
    pub fn marked_as_base64(self) -> Result<Self, DataError> {
        let marked = Self { base64: true, ..self };
        match marked.binary() {
            Some(_) => Ok(marked),
            None => Err(DataError::NotBase64),
        }
    }

    /// The JSON text.
    pub fn json(&self) -> &RawValue {
        &self.json
    }

    /// Whether the JSON text is a string that holds base64.
    pub fn is_base64(&self) -> bool {
        self.base64
    }

    /// The bytes behind the base64, where the data is binary.
    pub fn binary(&self) -> Option<Vec<u8>> {
        if !self.base64 {
            return None;
        }
        let text: String = serde_json::from_str(self.json.get()).ok()?;
        BASE64_STANDARD.decode(text).ok()
    }
}

fn json_string(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// How many bytes of a text count. Without a branch in the loop, so that it is done many at a time.
fn count(text: &str, counts: impl Fn(u8) -> bool) -> usize {
    text.bytes().map(|byte| usize::from(counts(byte))).sum()
}

/// How deep the arrays and objects of a JSON text are nested.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_is_kept_byte_for_byte_but_for_line_breaks() {
        for (given, kept) in [
            (r#"{"b":1.10,"a":1e400,"c":"\u00e4"}"#, r#"{"b":1.10,"a":1e400,"c":"\u00e4"}"#),
            (" 12345678901234567890.0 ", "12345678901234567890.0"),
            ("{\r\n\"a\":\n1}", "{  \"a\": 1}"),
            ("null", "null"),
        ] {
            assert_eq!(Data::from_json(given.as_bytes(), 8).unwrap().json().get(), kept);
        }
    }

    #[test]
    fn what_an_event_carries_costs_while_it_waits_and_when_it_is_kept() {
        let (topic, data) = (Topic::parse("abc").unwrap(), Data::from_text("x"));
        let mut event = NewEvent::new(topic, Some(EventType::parse("t").unwrap()), data);
        assert_eq!(event.cost(), 3 + 1 + 3 + 256);
        let envelope = Envelope::from_iter([crate::model::Member::User("ann")]);
        event.envelope = Some(Box::new(envelope));
        assert_eq!(event.cost(), 3 + 1 + 3 + 256 + 6);
        let time = Timestamp::from_millis(0);
        let NewEvent { topic, kind, data, envelope, .. } = event.clone();
        let kept = Event { cursor: None, topic, kind, time, data, envelope };
        assert_eq!(kept.cost(), event.cost());
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        for text in ["", "{", "1 2", "nul", "{\"a\":\"\n\"}", "'a'", "NaN"] {
            let result = Data::from_json(text.as_bytes(), 8);
            assert!(matches!(result, Err(DataError::NotJson(_))), "{text:?}");
        }
        assert!(matches!(Data::from_json(b"\"\xff\"", 8), Err(DataError::NotJson(_))));
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert!(Data::from_json(br#"[["[[[[\"[[[["]]"#, 2).is_ok());
        assert_eq!(Data::from_json(b"[[[1]]]", 2).unwrap_err(), DataError::TooDeep(2));
        let bomb = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(Data::from_json(bomb.as_bytes(), 64).unwrap_err(), DataError::TooDeep(64));
    }

    #[test]
    fn binary_data_comes_back_as_the_same_bytes() {
        let data = Data::from_binary(&[0, 255, 7]);
        assert!(data.is_base64());
        assert_eq!(data.binary(), Some(vec![0, 255, 7]));
        assert_eq!(Data::from_text("no").marked_as_base64().unwrap_err(), DataError::NotBase64);
        assert_eq!(Data::from_text("AP8H").marked_as_base64().unwrap().binary(), data.binary());
    }

    #[test]
    fn event_types_that_would_fool_an_event_source_are_refused() {
        use EventTypeError::{BadCharacter, Empty, Reserved, TooLong};
        for (text, error) in [
            ("", Empty),
            ("error", Reserved),
            ("open", Reserved),
            ("fanfare.live", Reserved),
            ("a b", BadCharacter(1)),
            ("a\nb", BadCharacter(1)),
            ("é", BadCharacter(0)),
        ] {
            assert_eq!(EventType::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(EventType::parse(&"x".repeat(201)), Err(TooLong(201)));
        assert!(EventType::parse(&"x".repeat(200)).is_ok());
        assert_eq!(EventType::parse("order.created").unwrap().as_str(), "order.created");
    }

    #[test]
    fn times_are_shown_in_utc_with_milliseconds() {
        assert_eq!(Timestamp(1_700_000_000_007).to_string(), "2023-11-14T22:13:20.007Z");
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn a_time_is_written_as_a_library_writes_it(millis in -90_000_000_000_000_i64..300_000_000_000_000) {
            let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
            prop_assert_eq!(Timestamp(millis).to_string(), format!("{time:.3}"));
        }

        #[test]
        fn any_text_survives_as_a_json_string_on_one_line(text in any::<String>()) {
            let data = Data::from_text(&text);
            prop_assert!(!data.json().get().contains(['\r', '\n']));
            prop_assert_eq!(serde_json::from_str::<String>(data.json().get()).unwrap(), text);
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(data) = Data::from_json(&bytes, 4) {
                prop_assert!(!data.json().get().contains(['\r', '\n']));
            }
        }
    }
}
