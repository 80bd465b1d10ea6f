//! From what was typed to the JSON of one event.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::config::Span;
use crate::model::{Data, EventType, Topic};

/// What is typed for each event.
pub enum Form {
    /// The event itself, as JSON.
    Whole,
    /// The data; the rest is the same for all.
    Data {
        /// The topic.
        topic: Topic,
        /// The type, if there is one.
        kind: Option<EventType>,
        /// Whether the data is text even where it parses as JSON.
        text: bool,
        /// What else each event carries.
        carried: Carried,
    },
}

/// What an event carries beside topic, type and data.
#[derive(Debug, Default, Clone, PartialEq, Eq, clap::Args, Serialize)]
pub struct Carried {
    /// Remove the topic's current value: a tombstone, which needs no data
    #[arg(long, conflicts_with_all = ["ndjson", "data", "text"])]
    #[serde(skip_serializing_if = "is_not")]
    pub removed: bool,
    /// Your own number of this value: nothing is stored where the newest one is not lower
    #[arg(long, value_name = "N", conflicts_with = "ndjson")]
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// What the version is counted in; another one begins anew
    #[arg(long, value_name = "TEXT", requires = "version")]
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    /// Publish only where the newest event of the topic is this: `absent`, `present` or its id
    #[arg(long, value_name = "WHAT", conflicts_with = "ndjson")]
    #[serde(skip_serializing_if = "Option::is_none")]
    if_latest: Option<String>,
    /// For how long the value holds, such as 30s
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["ndjson", "removed"])]
    #[serde(rename = "ttl_ms", skip_serializing_if = "Option::is_none", serialize_with = "millis")]
    ttl: Option<Span>,
    /// Deliver the events and keep none of them
    #[arg(long = "no-keep", conflicts_with_all = ["ndjson", "removed", "version", "if_latest", "ttl"])]
    #[serde(rename = "keep", skip_serializing_if = "is_not", serialize_with = "negated")]
    no_keep: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_not(flag: &bool) -> bool {
    !*flag
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn negated<S: Serializer>(flag: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(!*flag)
}

fn millis<S: Serializer>(span: &Option<Span>, serializer: S) -> Result<S::Ok, S::Error> {
    let millis =
        span.as_ref().map(|Span(time)| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    millis.serialize(serializer)
}

/// Why something typed can't be an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// A line that is to be an event, but is no JSON object.
    #[error("not a JSON object")]
    NotAnObject,
    /// Text that is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
}

impl Form {
    /// The event as one line of JSON. Whether its topic, type and size are allowed is for the broker
    /// to say.
    pub fn event(&self, typed: &[u8]) -> Result<String, FormError> {
        let typed = std::str::from_utf8(typed).map_err(|_| FormError::NotUtf8)?;
        let (topic, kind, text, carried) = match self {
            Form::Whole => {
                let object: &RawValue =
                    serde_json::from_str(typed).map_err(|_| FormError::NotAnObject)?;
                let is_object = object.get().starts_with('{');
                return if is_object { Ok(one_line(object)) } else { Err(FormError::NotAnObject) };
            }
            Form::Data { topic, kind, text, carried } => (topic, kind, *text, carried),
        };
        let data = match serde_json::from_str::<&RawValue>(typed) {
            Ok(json) if !text => one_line(json),
            _ => Data::from_text(typed).json().get().to_owned(),
        };
        // Neither has a character that JSON escapes, but for a type's quotes and backslashes.
        let kind = kind.as_ref().map_or(String::new(), |kind| {
            format!(r#","type":{}"#, Data::from_text(kind.as_str()).json())
        });
        // An object of its own, whose braces give way to those of the event.
        let carried = serde_json::to_string(carried).unwrap_or_default();
        let carried = carried.trim_start_matches('{').trim_end_matches('}');
        let comma = if carried.is_empty() { "" } else { "," };
        Ok(format!(r#"{{"topic":"{topic}"{kind}{comma}{carried},"data":{data}}}"#))
    }
}

/// The same JSON without line breaks, which it has between tokens alone.
fn one_line(json: &RawValue) -> String {
    json.get().replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: bool, kind: Option<&str>) -> Form {
        let kind = kind.map(|kind| EventType::parse(kind).unwrap());
        let carried = Carried::default();
        Form::Data { topic: Topic::parse("a.b").unwrap(), kind, text, carried }
    }

    #[test]
    fn data_is_json_if_it_parses_and_otherwise_text() {
        for (typed, event) in [
            ("17.50", r#"{"topic":"a.b","data":17.50}"#),
            (" {\"x\":\n1e400} ", r#"{"topic":"a.b","data":{"x": 1e400}}"#),
            ("hello", r#"{"topic":"a.b","data":"hello"}"#),
            ("{\"x\":", r#"{"topic":"a.b","data":"{\"x\":"}"#),
            ("", r#"{"topic":"a.b","data":""}"#),
        ] {
            assert_eq!(data(false, None).event(typed.as_bytes()).as_deref(), Ok(event));
        }
        let event = data(true, Some("say\"")).event(b"17").unwrap();
        assert_eq!(event, r#"{"topic":"a.b","type":"say\"","data":"17"}"#);
        assert_eq!(data(false, None).event(b"\xff"), Err(FormError::NotUtf8));
    }

    #[test]
    fn what_an_event_carries_stands_before_its_data() {
        let topic = Topic::parse("a").unwrap();
        let form = |carried| Form::Data { topic: topic.clone(), kind: None, text: false, carried };
        let held = Carried {
            version: Some(7),
            epoch: Some("e".to_owned()),
            if_latest: Some("absent".to_owned()),
            ttl: Some(Span(std::time::Duration::from_secs(30))),
            ..Carried::default()
        };
        let told = r#""version":7,"epoch":"e","if_latest":"absent","ttl_ms":30000"#;
        assert_eq!(form(held).event(b"1").unwrap(), format!(r#"{{"topic":"a",{told},"data":1}}"#));
        let removed = form(Carried { removed: true, ..Carried::default() });
        assert_eq!(removed.event(b"null").unwrap(), r#"{"topic":"a","removed":true,"data":null}"#);
        let passing = form(Carried { no_keep: true, ..Carried::default() });
        assert_eq!(passing.event(b"1").unwrap(), r#"{"topic":"a","keep":false,"data":1}"#);
    }

    #[test]
    fn a_whole_event_passes_as_it_is() {
        let event = r#"{"topic":"a","data":1.0,"encoding":"x"}"#;
        assert_eq!(Form::Whole.event(format!(" {event}").as_bytes()).as_deref(), Ok(event));
        for typed in ["[]", "1", "{", "", "{}{}"] {
            assert_eq!(Form::Whole.event(typed.as_bytes()), Err(FormError::NotAnObject));
        }
    }
}
