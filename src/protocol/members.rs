//! The members of a message that is JSON.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::request::Frame;
use crate::model::{Code, Problem};

/// Reads the members of a message that came as bytes.
pub(super) fn read_bytes(bytes: &[u8]) -> Result<Frame<'_>, Problem> {
    let not_utf8 = |_| Problem::new(Code::InvalidJson, "not JSON: it is not UTF-8");
    read(std::str::from_utf8(bytes).map_err(not_utf8)?)
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
