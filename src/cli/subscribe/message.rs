//! A message of the broker, taken apart no further than needed.
//!
//! Members are kept as the JSON that came, so that what is printed is what was sent: no number is
//! written anew, and members that this program does not know are passed on.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A message: an object's members in their order.
#[derive(Debug)]
pub struct Message<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Message<'a> {
    /// Reads a message; `None` where it is no JSON object.
    pub fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// What kind of message it is.
    pub fn op(&self) -> &'a str {
        self.member("op").map_or("", |op| op.get().trim_matches('"'))
    }

    /// A member that is text.
    pub fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.member(name)?.get()).ok()
    }

    /// A member that is a list of texts; an empty one where it is missing.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let list = self.member(name).and_then(|list| serde_json::from_str(list.get()).ok());
        list.unwrap_or_default()
    }

    /// A member that is a whole number.
    pub fn number(&self, name: &str) -> Option<u64> {
        serde_json::from_str(self.member(name)?.get()).ok()
    }

    /// Whether a member is `true`.
    pub fn flag(&self, name: &str) -> bool {
        self.member(name).is_some_and(|value| value.get() == "true")
    }

    /// The JSON of a member.
    pub fn member(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| *value)
    }

    /// The message as one line of JSON, without its `op`.
    pub fn without_op(&self) -> String {
        let members = self.0.iter().filter(|(name, _)| name != "op");
        let members: Vec<_> = members
            .map(|(name, value)| format!("{}:{}", serde_json::Value::from(&**name), value.get()))
            .collect();
        format!("{{{}}}", members.join(","))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Message<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Message<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut message = Vec::new();
        while let Some(Name(name)) = members.next_key()? {
            message.push((name, members.next_value()?));
        }
        Ok(Message(message))
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_was_sent_without_op() {
        let text = r#"{"op":"event","id":"abcdefgh-1-7","data":{"n":1.10,"é":1e400},"new":[1]}"#;
        let message = Message::parse(text).unwrap();
        assert_eq!(message.op(), "event");
        let printed = r#"{"id":"abcdefgh-1-7","data":{"n":1.10,"é":1e400},"new":[1]}"#;
        assert_eq!(message.without_op(), printed);
        assert_eq!(message.member("data").unwrap().get(), r#"{"n":1.10,"é":1e400}"#);
    }

    #[test]
    fn members_have_their_types() {
        let message = Message::parse(r#"{"a":"x\"","n":7,"yes":true,"no":"true"}"#).unwrap();
        assert_eq!(message.text("a").as_deref(), Some("x\""));
        assert_eq!((message.number("n"), message.number("a")), (Some(7), None));
        assert!(message.flag("yes") && !message.flag("no") && !message.flag("absent"));
    }

    #[test]
    fn what_is_no_object_is_no_message() {
        for text in ["", "[]", "1", "{", "{}{}"] {
            assert!(Message::parse(text).is_none(), "{text}");
        }
    }
}
