//! `fanfare.v1`, the broker's own protocol: one JSON object a message.
//!
//! Data is passed through byte for byte in both directions: it is cut out of the message and put
//! into one again without being taken apart. A binary message that holds the same JSON is read like
//! a text one, for clients that send nothing else.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::json::Object;
use super::reply::{self, Map};
use super::request::Frame;
use super::{Annotations, ClientMessage, Form, ParseLimits, Protocol, Refused, Reply, Request};
use crate::model::{Code, Event, Problem};

/// Where the broker's own protocols are spoken over WebSocket.
pub(super) const WEBSOCKET: &str = "/v1/ws";

/// The protocol `fanfare.v1`.
pub struct Native;

impl Form for Native {
    fn wire_form(&self) -> usize {
        0
    }

    fn event(&self, event: &Event, annotations: &Annotations) -> Vec<u8> {
        let mut object = Object::for_event(event);
        object.ascii("op", "event");
        reply::event(event, &mut object);
        reply::annotations(annotations, &mut object);
        object.finish()
    }

    fn reply(&self, reply: &Reply<'_>) -> Option<Vec<u8>> {
        let mut object = Object::new();
        object.ascii("op", reply::op(reply));
        reply::reply(reply, &mut object);
        Some(object.finish())
    }
}

impl Protocol for Native {
    fn path(&self) -> &'static str {
        WEBSOCKET
    }

    fn name(&self) -> &'static str {
        "fanfare.v1"
    }

    fn is_binary(&self) -> bool {
        false
    }

    fn parse(&self, message: ClientMessage<'_>, limits: &ParseLimits) -> Result<Request, Refused> {
        let frame = match message {
            ClientMessage::Text(text) => read(text),
            ClientMessage::Binary(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => read(text),
                Err(_) => Err(Problem::new(Code::InvalidJson, "not JSON: it is not UTF-8")),
            },
        };
        frame.map_err(|problem| Refused { reference: None, problem })?.request(limits)
    }
}

/// Reads the members of a message.
pub(super) fn read(text: &str) -> Result<Frame<'_>, Problem> {
    // Some editors and libraries put a byte order mark before a text (RFC 8259, section 8.1).
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_json::from_str(text).map_err(|error| match error.classify() {
        // What serde says of a wrong type would quote the value, which may be a secret.
        Category::Data => Problem::new(Code::InvalidJson, "the message is not a JSON object"),
        _ => Problem::new(Code::InvalidJson, format!("not JSON: {error}")),
    })
}

impl<'de: 'a, 'a> Deserialize<'de> for Frame<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Frame<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut frame = Frame::default();
        while let Some(Name(name)) = members.next_key()? {
            let value: &RawValue = members.next_value()?;
            frame.add(&name, Cow::Borrowed(value));
        }
        Ok(frame)
    }
}

/// A member's name, copied only where it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests;
