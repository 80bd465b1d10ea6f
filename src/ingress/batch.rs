//! Batches: several events in one body, validated whole.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::body_format::require_size;
use crate::auth::Access;
use crate::config::Limits;
use crate::model::{Code, Data, EventType, NewEvent, Problem, Topic, unmarked};
use crate::protocol::Given;

/// The longest text out of a body that a refusal repeats, in characters.
const MAX_REPEATED: usize = 200;

/// The events of one body.
#[derive(Debug)]
pub struct Batch {
    /// At least one.
    pub events: Vec<NewEvent>,
}

/// `{"events":[...]}`, or one event. What may be left out may be null too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    events: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    encoding: Option<Encoding>,
    #[serde(borrow)]
    from: Option<&'a RawValue>,
    #[serde(borrow)]
    removed: Option<&'a RawValue>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    epoch: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    if_latest: Option<&'a RawValue>,
    #[serde(borrow)]
    ttl_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    bound: Option<&'a RawValue>,
    #[serde(borrow)]
    except: Option<&'a RawValue>,
    #[serde(borrow)]
    keep: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Base64,
}

/// A member for which null is a value.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

impl Batch {
    /// Reads `{"topic","type"?,"data"}` or `{"events":[...]}`.
    pub fn from_json(body: &[u8], limits: &Limits) -> Result<Self, Problem> {
        let body: Body<'_> = object(utf8(body)?)?;
        let Some(events) = &body.events else {
            return Ok(Self { events: vec![body.event(limits)?] });
        };
        if !body.is_batch_alone() {
            let detail = "a batch has `events` alone; topic, type and data stand in each event";
            return Err(Problem::new(Code::InvalidEvent, detail));
        }
        require_count(events.len(), limits)?;
        let events = events.iter().enumerate().map(|(index, raw)| {
            event(raw.get(), limits).map_err(|problem| at(format!("events[{index}]"), problem))
        });
        Ok(Self { events: events.collect::<Result<_, _>>()? })
    }

    /// Reads one event a line; empty lines are passed over.
    pub fn from_lines(body: &[u8], limits: &Limits) -> Result<Self, Problem> {
        let text = utf8(body)?;
        // Files that were put together have a byte order mark before each part.
        let lines = text.lines().map(|line| line.strip_prefix('\u{feff}').unwrap_or(line));
        let lines = lines.enumerate().filter(|(_, line)| !line.trim().is_empty());
        require_count(lines.clone().count(), limits)?;
        let events = lines.map(|(index, line)| {
            event(line, limits).map_err(|problem| at(format!("line {}", index + 1), problem))
        });
        Ok(Self { events: events.collect::<Result<_, _>>()? })
    }

    /// Refuses what of an event its publisher may not say, and says who that is.
    pub fn sign(&mut self, access: &Access) -> Result<(), Problem> {
        let is_one = self.events.len() == 1;
        self.events.iter_mut().enumerate().try_for_each(|(index, event)| {
            let signed = access.sign(event, None);
            signed.map_err(|problem| match is_one {
                true => problem,
                false => at(format!("events[{index}]"), problem),
            })
        })
    }
}

fn require_count(count: usize, limits: &Limits) -> Result<(), Problem> {
    if count == 0 {
        return Err(Problem::new(Code::InvalidEvent, "the batch has no event"));
    }
    if count > limits.batch_events {
        let limit = limits.batch_events;
        let detail = format!("the batch has {count} events, and limits.batch_events is {limit}");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    Ok(())
}

fn event(json: &str, limits: &Limits) -> Result<NewEvent, Problem> {
    let body: Body<'_> = object(json)?;
    if body.events.is_some() {
        return Err(Problem::new(Code::InvalidEvent, "an event has no `events`"));
    }
    body.event(limits)
}

impl Body<'_> {
    fn is_batch_alone(&self) -> bool {
        let has_data = self.data.is_some_and(|data| data.get() != "null");
        let has_more = has_data || !self.given().is_empty();
        !has_more && self.topic.is_none() && self.kind.is_none() && self.encoding.is_none()
    }

    fn given(&self) -> Given<'_> {
        let member = |name: &'static str| match name {
            "from" => self.from,
            "removed" => self.removed,
            "version" => self.version,
            "epoch" => self.epoch,
            "if_latest" => self.if_latest,
            "ttl_ms" => self.ttl_ms,
            "bound" => self.bound,
            "except" => self.except,
            "keep" => self.keep,
            _ => None,
        };
        Given::take(|name| member(name).map(Cow::Borrowed))
    }

    fn event(&self, limits: &Limits) -> Result<NewEvent, Problem> {
        let missing = |name| Problem::new(Code::InvalidEvent, format!("missing field `{name}`"));
        let topic = Topic::parse(self.topic.as_deref().ok_or_else(|| missing("topic"))?)?;
        let kind = self.kind.as_deref().map(EventType::parse).transpose()?;
        let given = self.given();
        let none = given.is_removed().then_some(RawValue::NULL);
        let data = self.data.or(none).ok_or_else(|| missing("data"))?;
        let mut data = Data::from_raw(data, limits.json_depth)?;
        if let Some(Encoding::Base64) = self.encoding {
            data = data.marked_as_base64()?;
        }
        require_size(&data, limits)?;
        let mut event = NewEvent::new(topic, kind, data);
        given.put_into(&mut event)?;
        Ok(event)
    }
}

/// The text of a body or a line of it.
fn utf8(body: &[u8]) -> Result<&str, Problem> {
    let text = std::str::from_utf8(unmarked(body));
    text.map_err(|_| Problem::new(Code::InvalidJson, "the body is not UTF-8"))
}

/// Reads an object; serde would also take an array of its members' values for one.
fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Problem> {
    let value: &RawValue = serde_json::from_str(json).map_err(|error| refused(&error, json))?;
    if !value.get().starts_with('{') {
        return Err(Problem::new(Code::InvalidEvent, "it must be an object"));
    }
    serde_json::from_str(json).map_err(|error| refused(&error, json))
}

fn at(place: String, problem: Problem) -> Problem {
    Problem { detail: format!("{place}: {}", problem.detail), ..problem }
}

/// Text that is not JSON is told apart from JSON that is no event.
fn refused(error: &serde_json::Error, json: &str) -> Problem {
    let code = match error.classify() {
        Category::Data => Code::InvalidEvent,
        Category::Syntax | Category::Eof | Category::Io => Code::InvalidJson,
    };
    // What serde says of a wrong type would repeat the value, and not the name.
    let wrong = wrong_member(json).filter(|_| code == Code::InvalidEvent);
    let said = || error.to_string().chars().take(MAX_REPEATED).collect();
    Problem::new(code, wrong.unwrap_or_else(said))
}

/// The first member of an object that is not what it must be; looked for only once one is known to be there.
fn wrong_member(json: &str) -> Option<String> {
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(json).ok()?;
    let must_be = |name, what: &str, is: fn(&str) -> bool| {
        let value = members.get(name)?.get();
        (value != "null" && !is(value)).then(|| format!("`{name}` must be {what}"))
    };
    let is_text = |value: &str| value.starts_with('"');
    must_be("events", "an array of events", |value| value.starts_with('['))
        .or_else(|| must_be("topic", "a string", is_text))
        .or_else(|| must_be("type", "a string", is_text))
        .or_else(|| must_be("encoding", "\"base64\"", |value| value == "\"base64\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn limits() -> Limits {
        Limits { batch_events: 2, ..Config::default().limits }
    }

    #[test]
    fn the_three_shapes_of_a_batch_give_the_same_events() {
        let a = r#"{"topic":"a","type":"t","data":{"x": 1.0}}"#;
        let b = r#"{"topic":"b","data":null}"#;
        let single = Batch::from_json(a.as_bytes(), &limits()).unwrap();
        let batch =
            Batch::from_json(format!("{{\"events\":[{a},{b}]}}").as_bytes(), &limits()).unwrap();
        let lines = Batch::from_lines(format!("{a}\r\n\n{b}\n").as_bytes(), &limits()).unwrap();
        let shown = |batch: &Batch| -> Vec<String> {
            let show = |event: &NewEvent| {
                format!("{} {:?} {}", event.topic, event.kind, event.data.json())
            };
            batch.events.iter().map(show).collect()
        };
        assert_eq!(shown(&single), shown(&batch)[..1]);
        assert_eq!(shown(&batch), shown(&lines));
        assert_eq!(batch.events[0].data.json().get(), r#"{"x": 1.0}"#);
        assert_eq!(batch.events[1].data.json().get(), "null");
    }

    #[test]
    fn null_is_absent_but_in_data_and_byte_order_marks_are_skipped() {
        let one = r#"{"topic":"a","data":null,"type":null,"encoding":null,"events":null}"#;
        let batch = format!(r#"{{"events":[{one}],"topic":null,"data":null,"type":null}}"#);
        let marked = format!("\u{feff}{batch}");
        for body in [one, &batch, &marked] {
            let read = Batch::from_json(body.as_bytes(), &limits()).unwrap();
            assert_eq!(read.events[0].data.json().get(), "null", "{body}");
            assert_eq!(read.events[0].kind, None, "{body}");
        }
        let lines = format!("\u{feff}{one}\n\u{feff}{one}\n\u{feff}\n");
        assert_eq!(Batch::from_lines(lines.as_bytes(), &limits()).unwrap().events.len(), 2);
    }

    #[test]
    fn a_bad_batch_is_refused_with_its_place() {
        for (body, code, detail) in [
            ("nope", Code::InvalidJson, "expected"),
            ("[]", Code::InvalidEvent, "object"),
            (r#"["a","t",5]"#, Code::InvalidEvent, "object"),
            (r#"{"events":[["a","t",5]]}"#, Code::InvalidEvent, "events[0]: it must be an object"),
            ("{}", Code::InvalidEvent, "missing field `topic`"),
            (r#"{"events":[]}"#, Code::InvalidEvent, "no event"),
            (r#"{"events":null}"#, Code::InvalidEvent, "missing field `topic`"),
            (r#"{"events":[{"events":[]}]}"#, Code::InvalidEvent, "events[0]: an event has no"),
            (r#"{"events":[],"data":1}"#, Code::InvalidEvent, "alone"),
            (r#"{"events":[],"topic":"a"}"#, Code::InvalidEvent, "alone"),
            (r#"{"topic":"a"}"#, Code::InvalidEvent, "missing field `data`"),
            (r#"{"topic":"a","data":1,"typo":2}"#, Code::InvalidEvent, "unknown field `typo`"),
            (r#"{"topic":"a","data":1,"typo":null}"#, Code::InvalidEvent, "unknown field `typo`"),
            (r#"{"topic":null,"data":1}"#, Code::InvalidEvent, "missing field `topic`"),
            (r#"{"topic":"a","topic":"b","data":1}"#, Code::InvalidEvent, "duplicate"),
            (
                r#"{"topic":"a","data":1,"encoding":"hex"}"#,
                Code::InvalidEvent,
                "`encoding` must be \"base64\"",
            ),
            (r#"{"topic":5.0,"data":1}"#, Code::InvalidEvent, "`topic` must be a string"),
            (r#"{"topic":"a","data":1,"type":{}}"#, Code::InvalidEvent, "`type` must be a string"),
            (r#"{"events":{}}"#, Code::InvalidEvent, "`events` must be an array"),
            (r#"{"topic":"a","data":1,"encoding":"base64"}"#, Code::InvalidEvent, "base64"),
            (
                r#"{"events":[{"topic":"a","data":1},{"topic":"","data":1}]}"#,
                Code::InvalidTopic,
                "events[1]: ",
            ),
            (
                r#"{"events":[{"topic":"a","data":1,"type":"open"}]}"#,
                Code::InvalidEvent,
                "events[0]: ",
            ),
            (r#"{"events":[1,2,3]}"#, Code::TooLarge, "batch_events"),
        ] {
            let problem = Batch::from_json(body.as_bytes(), &limits()).unwrap_err();
            assert_eq!(problem.code, code, "{body}: {problem}");
            assert!(problem.detail.contains(detail), "{body}: {problem}");
        }
        let problem = Batch::from_lines(b"{\"topic\":\"a\",\"data\":1}\n{", &limits()).unwrap_err();
        assert_eq!(problem.code, Code::InvalidJson);
        assert!(problem.detail.starts_with("line 2: "), "{problem}");
    }
}
