//! JSON objects as the broker writes them.
//!
//! Straight into one buffer, without a tree between: an event is written once per wire form however
//! many receive it, but also once per event of a page of history. Data goes in byte for byte.

use std::fmt;
use std::io::Write;

use super::reply::{self, Map};
use crate::model::{Cursor, Data, Event, Timestamp, Topic};

/// An event as the HTTP API shows it: `{"id","topic","type"?,"time","data","encoding"?}`.
pub fn event_object(event: &Event) -> Vec<u8> {
    let mut object = Object::for_event(event);
    reply::event(event, &mut object);
    object.finish()
}

/// What a publisher is told of an event over HTTP: `{"id"?,"topic","time","superseded"?,"version"?,"stored_as"?}`, where an
/// event that was not stored is superseded by a version, or by none.
pub fn receipt_object(
    id: Option<Cursor>,
    topic: &Topic,
    time: Timestamp,
    superseded: Option<Option<u64>>,
    stored_as: Option<&'static str>,
) -> Vec<u8> {
    let mut object = Object::new();
    if let Some(id) = id {
        object.ascii("id", id);
    }
    object.ascii("topic", topic);
    object.ascii("time", time);
    if let Some(version) = superseded {
        object.flag("superseded");
        version.into_iter().for_each(|version| object.number("version", version));
    }
    if let Some(form) = stored_as {
        object.ascii("stored_as", form);
    }
    object.finish()
}

/// A JSON object being written.
pub(super) struct Object {
    bytes: Vec<u8>,
}

impl Object {
    /// Room for what a reply usually holds.
    const REPLY_BYTES: usize = 128;
    /// Room for what stands around topic, type and data: names, id, time and a mark or two.
    const AROUND_AN_EVENT: usize = 192;

    /// An object with room for a reply.
    pub(super) fn new() -> Self {
        Self::with_capacity(Self::REPLY_BYTES)
    }

    /// An object with room for `event`.
    pub(super) fn for_event(event: &Event) -> Self {
        let kind = event.kind.as_ref().map_or(0, |kind| kind.as_str().len());
        let content = event.topic.as_str().len() + kind + event.data.json().get().len();
        Self::with_capacity(Self::AROUND_AN_EVENT + content)
    }

    fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.push(b'{');
        Self { bytes }
    }

    /// The whole text.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(b'}');
        self.bytes
    }

    fn name(&mut self, name: &'static str) {
        if self.bytes.len() > 1 {
            self.bytes.push(b',');
        }
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }

    // A `Vec` takes whatever is written to it.
    fn show(&mut self, value: impl fmt::Display) {
        let _ = write!(self.bytes, "{value}");
    }
}

impl Map for Object {
    fn text(&mut self, name: &'static str, text: &str) {
        self.name(name);
        let _ = serde_json::to_writer(&mut self.bytes, text);
    }

    fn ascii(&mut self, name: &'static str, text: impl fmt::Display) {
        self.name(name);
        self.bytes.push(b'"');
        self.show(text);
        self.bytes.push(b'"');
    }

    fn number(&mut self, name: &'static str, number: u64) {
        self.name(name);
        self.show(number);
    }

    fn flag(&mut self, name: &'static str) {
        self.name(name);
        self.bytes.extend_from_slice(b"true");
    }

    fn texts(&mut self, name: &'static str, members: &[(&'static str, Option<&str>)]) {
        self.name(name);
        let mut inner = Self::new();
        for (name, text) in members {
            if let Some(text) = text {
                inner.text(name, text);
            }
        }
        self.bytes.extend_from_slice(&inner.finish());
    }

    fn event(&mut self, name: &'static str, event: &Event) {
        self.name(name);
        self.bytes.extend_from_slice(&event_object(event));
    }

    fn list(&mut self, name: &'static str, texts: &[impl fmt::Display]) {
        self.name(name);
        for (index, text) in texts.iter().enumerate() {
            self.bytes.extend_from_slice(if index == 0 { b"[\"" } else { b",\"" });
            _ = write!(self.bytes, "{text}\"");
        }
        self.bytes.push(b']');
    }

    fn data(&mut self, data: &Data) {
        self.name("data");
        self.bytes.extend_from_slice(data.json().get().as_bytes());
        if data.is_base64() {
            self.ascii("encoding", "base64");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Data;
    use crate::protocol::samples::{any_event, event};
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use std::collections::BTreeMap;

    #[test]
    fn an_event_is_shown_with_its_members_in_order() {
        assert_eq!(
            String::from_utf8(event_object(&event("{\"b\":1.10, \"a\":1}"))).unwrap(),
            r#"{"id":"abcdefgh-1-7","topic":"orders.eu.42","type":"created","time":"2023-11-14T22:13:20.007Z","data":{"b":1.10, "a":1}}"#
        );
    }

    #[test]
    fn what_an_event_lacks_is_left_out() {
        let bare = Event { cursor: None, kind: None, ..event("null") };
        assert_eq!(
            String::from_utf8(event_object(&bare)).unwrap(),
            r#"{"topic":"orders.eu.42","time":"2023-11-14T22:13:20.007Z","data":null}"#
        );
    }

    #[test]
    fn binary_data_says_so() {
        let binary = Event { data: Data::from_binary(&[0, 255, 7]), ..event("0") };
        let text = String::from_utf8(event_object(&binary)).unwrap();
        assert!(text.ends_with(r#""data":"AP8H","encoding":"base64"}"#), "{text}");
    }

    proptest! {
        #[test]
        fn any_event_becomes_one_object_on_one_line(event in any_event()) {
            let text = String::from_utf8(event_object(&event)).unwrap();
            prop_assert!(!text.contains(['\r', '\n']));
            prop_assert!(text.contains(event.data.json().get()));
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(&text).unwrap();
            let kind: Option<String> =
                members.get("type").map(|raw| serde_json::from_str(raw.get()).unwrap());
            prop_assert_eq!(kind.as_deref(), event.kind.as_ref().map(|kind| kind.as_str()));
            prop_assert_eq!(members["topic"].get(), format!("\"{}\"", event.topic));
        }
    }
}
