//! `fanfare.v1+cbor`: the same messages as CBOR (RFC 8949) maps, for binary data and small frames.
//!
//! Member by member the same as JSON, and so is what the members mean; here they only change form.
//! Data stays JSON text inside the broker: it becomes CBOR on its way out and JSON on its way in, as
//! RFC 8949, section 6, has it. Binary data is a byte string here, and has no `encoding`.

mod bignum;
mod read;
mod write;

use std::borrow::Cow;
use std::fmt;
use std::io::Write;

use self::read::{Reader, Unreadable};
use super::reply::{self, Map};
use super::request::Frame;
use super::spelling::Spelling;
use super::{Annotations, ClientMessage, Form, ParseLimits, Refused, Reply};
use crate::model::{Code, Data, DataError, Event, Problem};

/// The form of events in CBOR.
pub(super) static CBOR: Form = Form { is_binary: true, event: Cbor::event };

/// CBOR.
pub(super) struct Cbor;

impl Spelling for Cbor {
    fn event(event: &Event, annotations: &Annotations) -> Vec<u8> {
        let mut message = Outgoing::of("event", event.data.json().get().len());
        reply::event(event, &mut message);
        reply::annotations(annotations, &mut message);
        message.finish()
    }

    fn reply(reply: &Reply<'_>) -> Vec<u8> {
        let mut message = Outgoing::of(reply::op(reply), 0);
        reply::reply(reply, &mut message);
        message.finish()
    }

    fn read<'a>(message: ClientMessage<'a>, limits: &ParseLimits) -> Result<Frame<'a>, Refused> {
        let mut frame = Frame::default();
        let collected = match message {
            ClientMessage::Binary(bytes) => collect(bytes, limits, &mut frame),
            ClientMessage::Text(_) => {
                Err(Problem::new(Code::BadRequest, "a text message, where CBOR needs binary ones"))
            }
        };
        match collected {
            Ok(()) => Ok(frame),
            Err(problem) => Err(frame.refused(problem)),
        }
    }
}

/// Puts the members of a message into `frame`. A value that JSON can't have is noted there, and
/// the rest is read all the same, since the `ref` may be yet to come.
fn collect(bytes: &[u8], limits: &ParseLimits, frame: &mut Frame<'_>) -> Result<(), Problem> {
    let mut reader = Reader::new(bytes);
    let mut left = reader.map()?;
    while reader.another(&mut left)? {
        let name = reader.name()?;
        let is_data = name == "data";
        let value = reader.value(limits.json_depth).map_err(|error| match error {
            Unreadable::TooDeep if is_data => DataError::TooDeep(limits.json_depth).into(),
            other => Problem::from(other),
        })?;
        if let Some(unfit) = value.unfit {
            let code = if is_data { Code::InvalidEvent } else { Code::BadRequest };
            frame.fault(Problem::new(code, format!("there is {unfit} in the message")));
        } else if is_data && value.is_binary {
            frame.data_is_binary();
        } else if value.has_bytes && !is_data {
            let detail = "there is a byte string outside of `data` in the message";
            frame.fault(Problem::new(Code::BadRequest, detail));
        }
        frame.add(&name, Cow::Owned(value.json));
    }
    reader.end()?;
    Ok(())
}

impl From<Unreadable> for Problem {
    fn from(error: Unreadable) -> Self {
        match error {
            Unreadable::Malformed { .. } => {
                Problem::new(Code::InvalidJson, format!("not a CBOR map: {error}"))
            }
            Unreadable::TooDeep => Problem::new(Code::BadRequest, error.to_string()),
        }
    }
}

/// A map of fewer than 24 members being written, so that its head is one byte.
struct Outgoing {
    bytes: Vec<u8>,
}

impl Outgoing {
    /// Room for all but the data.
    const AROUND_THE_DATA: usize = 192;

    fn new(data: usize) -> Self {
        let mut bytes = Vec::with_capacity(Self::AROUND_THE_DATA + data);
        write::head(&mut bytes, Major::Map, 0);
        Self { bytes }
    }

    fn of(op: &'static str, data: usize) -> Self {
        let mut message = Self::new(data);
        message.text("op", op);
        message
    }

    fn name(&mut self, name: &'static str) {
        self.bytes[0] += 1;
        write::text(&mut self.bytes, name);
    }

    fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

impl Map for Outgoing {
    fn text(&mut self, name: &'static str, text: &str) {
        self.name(name);
        write::text(&mut self.bytes, text);
    }

    fn ascii(&mut self, name: &'static str, text: impl fmt::Display) {
        self.name(name);
        let start = write::begin(&mut self.bytes);
        // A `Vec` takes whatever is written to it.
        let _ = write!(self.bytes, "{text}");
        let length = self.bytes.len() - start - 1;
        write::end(&mut self.bytes, start, Major::Text, length);
    }

    fn number(&mut self, name: &'static str, number: u64) {
        self.name(name);
        write::head(&mut self.bytes, Major::Unsigned, number);
    }

    fn flag(&mut self, name: &'static str) {
        self.name(name);
        self.bytes.push(write::TRUE);
    }

    fn texts(&mut self, name: &'static str, members: &[(&'static str, Option<&str>)]) {
        self.name(name);
        let given = members.iter().filter_map(|(name, text)| Some((name, (*text)?)));
        write::head(&mut self.bytes, Major::Map, given.clone().count() as u64);
        for (name, text) in given {
            write::text(&mut self.bytes, name);
            write::text(&mut self.bytes, text);
        }
    }

    fn event(&mut self, name: &'static str, event: &Event) {
        self.name(name);
        let mut inner = Self::new(event.data.json().get().len());
        reply::event(event, &mut inner);
        self.bytes.extend_from_slice(&inner.finish());
    }

    fn list(&mut self, name: &'static str, texts: &[impl fmt::Display]) {
        self.name(name);
        write::head(&mut self.bytes, Major::Array, texts.len() as u64);
        texts.iter().for_each(|text| write::text(&mut self.bytes, &text.to_string()));
    }

    fn data(&mut self, data: &Data) {
        self.name("data");
        match data.binary() {
            Some(bytes) => write::bytes(&mut self.bytes, &bytes),
            None => write::json(&mut self.bytes, data.json().get()),
        }
    }
}

/// The major types of RFC 8949, section 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Major {
    Unsigned = 0,
    Negative = 1,
    Bytes = 2,
    Text = 3,
    Array = 4,
    Map = 5,
    Tag = 6,
}

/// The tags that mean something to JSON (RFC 8949, section 3.4).
mod tag {
    pub const BIG_POSITIVE: u64 = 2;
    pub const BIG_NEGATIVE: u64 = 3;
    pub const DECIMAL: u64 = 4;
    pub const TO_BASE64URL: u64 = 21;
    pub const TO_BASE64: u64 = 22;
    pub const TO_BASE16: u64 = 23;
}

#[cfg(test)]
mod tests;
