//! Who is in a topic: each session that is subscribed to it by name.
//!
//! Changes are events on a topic of the broker's own beside it, and all nodes make of them, in their order, the
//! same list of members.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{Data, Event, EventType, NoticeKind, Pattern, Timestamp, Topic};

/// What the topics begin with that say who is subscribed to another topic.
const PRESENCE: &str = "$presence.";

/// How deep the data of a notice may be nested: what a parser takes for [`Info`], and what is around it.
const MAX_DEPTH: usize = 160;

impl Topic {
    /// Where it is told who is in this topic; none where its name is too long for that.
    pub fn presence(&self) -> Option<Self> {
        Self::parse(&format!("{PRESENCE}{self}")).ok()
    }

    /// Whether it is told here who is in another topic.
    pub fn is_presence(&self) -> bool {
        self.as_str().starts_with(PRESENCE)
    }
}

impl Pattern {
    /// Every topic where it is told who is in another.
    pub const PRESENCE: &str = "$presence.>";

    /// Whether all that it matches says who is in other topics. A pattern matches no such topic otherwise, for a
    /// leading wildcard matches none of the broker's own.
    pub fn is_presence(&self) -> bool {
        self.as_str().starts_with(PRESENCE)
    }
}

/// What the issuer of a token lets others see of its user: any JSON but null. Cloning shares the text.
#[derive(Debug, Clone)]
pub struct Info(Arc<RawValue>);

impl Info {
    /// The longest, in bytes as it is shown.
    pub const MAX_BYTES: usize = 1_024;

    /// Takes a JSON value; none where it is null, or why it can't be taken.
    pub fn of(value: &serde_json::Value) -> Result<Option<Self>, String> {
        if value.is_null() {
            return Ok(None);
        }
        let text = value.to_string();
        if text.len() > Self::MAX_BYTES {
            let (bytes, max) = (text.len(), Self::MAX_BYTES);
            return Err(format!("has {bytes} bytes of JSON, and the limit is {max}"));
        }
        let raw = RawValue::from_string(text).map_err(|error| error.to_string())?;
        Ok(Some(Self(raw.into())))
    }

    /// The JSON.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Info {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Info {}

impl Serialize for Info {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Info {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self(raw.into()))
    }
}

/// One session in a topic, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attendee {
    /// The topic.
    pub topic: Topic,
    /// The session.
    pub session: String,
    /// Whose it is, where that was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the issuer of its token says of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Info>,
    /// When it connected.
    #[serde(with = "rfc3339")]
    pub since: Timestamp,
    /// How it is connected.
    pub transport: String,
    /// The node that it is connected to.
    pub node: String,
    /// How many sessions of its user are in the topic, over all nodes; none where it has no user, or where that is
    /// not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_sessions: Option<usize>,
    /// The place of the change that tells of it, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

/// A member since some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Present {
    /// When it came into the topic.
    pub joined: Timestamp,
    /// The number of the change with which it came, or became somebody else.
    pub change: u64,
    /// Who it is, without what changes: how many sessions its user has.
    pub member: Attendee,
}

/// The place of a change among all that one node tells of who is in its topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its number, which rises.
    pub number: u64,
    /// The number of the change of the same topic before it; 0 where nobody of that node was there.
    pub after: u64,
}

impl Attendee {
    /// What a notice says, if it tells of who came to a topic or left it; with it, whether it came.
    pub fn of(event: &Event) -> Option<(Self, bool)> {
        let is_there = match NoticeKind::parse(event.kind.as_ref()?.as_str())? {
            NoticeKind::PresenceJoined => true,
            NoticeKind::PresenceLeft => false,
            _ => return None,
        };
        Some((serde_json::from_str(event.data.json().get()).ok()?, is_there))
    }

    /// The event that tells of this member; none where the topic's name is too long for one.
    pub fn event(&self, kind: NoticeKind, time: Timestamp) -> Option<Event> {
        let (topic, kind) = (self.topic.presence()?, EventType::parse(kind.name()).ok()?);
        let (data, kind) = (self.data()?, Some(kind));
        Some(Event { cursor: None, topic, kind, time, data, envelope: None })
    }

    /// What an event says that tells of this member.
    pub fn data(&self) -> Option<Data> {
        let text = serde_json::to_string(self).ok()?;
        Data::from_json(text.as_bytes(), MAX_DEPTH).ok()
    }
}

mod rfc3339 {
    use super::{Deserialize, Deserializer, Serializer, Timestamp};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(from)?;
        Timestamp::parse(&text).ok_or_else(|| serde::de::Error::custom("no time of RFC 3339"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn topic(text: &str) -> Topic {
        Topic::parse(text).unwrap()
    }

    #[test]
    fn a_member_is_read_as_it_was_told() {
        let info = Info::of(&json!({"name": "Ada", "tags": [1.50, {"deep": [[[]]]}]})).unwrap();
        let member = Attendee {
            topic: topic("room.a"),
            session: "5e55".to_owned(),
            user: Some("ada".to_owned()),
            info,
            since: Timestamp::from_millis(1_500),
            transport: "websocket".to_owned(),
            node: "n".to_owned(),
            user_sessions: Some(2),
            change: Some(Change { number: 7, after: 3 }),
        };
        let event = member.event(NoticeKind::PresenceLeft, Timestamp::from_millis(0)).unwrap();
        assert_eq!(event.topic.as_str(), "$presence.room.a");
        assert!(event.data.json().get().contains(r#""since":"1970-01-01T00:00:01.500Z""#));
        assert_eq!(Attendee::of(&event), Some((member, false)));
    }

    #[test]
    fn info_is_any_json_up_to_its_limit_and_null_is_none() {
        assert_eq!(Info::of(&json!(null)), Ok(None));
        assert!(Info::of(&json!("x".repeat(Info::MAX_BYTES - 2))).is_ok_and(|info| info.is_some()));
        let refused = Info::of(&json!("x".repeat(Info::MAX_BYTES - 1)));
        assert_eq!(refused, Err("has 1025 bytes of JSON, and the limit is 1024".to_owned()));
    }

    #[test]
    fn a_topic_whose_name_is_too_long_has_no_presence() {
        assert!(topic(&"x".repeat(245)).presence().is_some_and(|told| told.is_presence()));
        assert_eq!(topic(&"x".repeat(246)).presence(), None);
        let is_presence = |text| Pattern::parse(text).unwrap().is_presence();
        assert!(is_presence("$presence.room.*") && is_presence(Pattern::PRESENCE));
        assert!(!is_presence(">") && !is_presence("$sys.>") && !is_presence("room.a"));
    }
}
