//! From what was typed to the JSON of one event.

use serde_json::value::RawValue;

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
    },
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
        let (topic, kind, text) = match self {
            Form::Whole => {
                let object: &RawValue =
                    serde_json::from_str(typed).map_err(|_| FormError::NotAnObject)?;
                let is_object = object.get().starts_with('{');
                return if is_object { Ok(one_line(object)) } else { Err(FormError::NotAnObject) };
            }
            Form::Data { topic, kind, text } => (topic, kind, *text),
        };
        let data = match serde_json::from_str::<&RawValue>(typed) {
            Ok(json) if !text => one_line(json),
            _ => Data::from_text(typed).json().get().to_owned(),
        };
        // Neither has a character that JSON escapes, but for a type's quotes and backslashes.
        let kind = kind.as_ref().map_or(String::new(), |kind| {
            format!(r#","type":{}"#, Data::from_text(kind.as_str()).json())
        });
        Ok(format!(r#"{{"topic":"{topic}"{kind},"data":{data}}}"#))
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
        Form::Data { topic: Topic::parse("a.b").unwrap(), kind, text }
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
    fn a_whole_event_passes_as_it_is() {
        let event = r#"{"topic":"a","data":1.0,"encoding":"x"}"#;
        assert_eq!(Form::Whole.event(format!(" {event}").as_bytes()).as_deref(), Ok(event));
        for typed in ["[]", "1", "{", "", "{}{}"] {
            assert_eq!(Form::Whole.event(typed.as_bytes()), Err(FormError::NotAnObject));
        }
    }
}
