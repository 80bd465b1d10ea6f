//! Spans as OTLP writes them: `ExportTraceServiceRequest` of opentelemetry-proto 1, in its JSON encoding.
//!
//! That is Protocol Buffers' JSON with ids in hexadecimal and enums as numbers (OTLP 1.9, "JSON Protobuf encoding"). The
//! names of attributes are those of OpenTelemetry's conventions for messaging where these have one.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Outcome;
use super::span::{Span, Step};
use crate::model::Topic;

/// In `flags` of a span: its trace is recorded, and it is known whether its parent is remote.
const FLAGS: u32 = 0x101;

/// In `flags` of a span: its parent is recorded by another process.
const REMOTE: u32 = 0x200;

// The values of `SpanKind`.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const PRODUCER: u8 = 4;
const CONSUMER: u8 = 5;

/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// Who records spans, as a collector knows it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) service: String,
    /// What tells this node from others.
    pub(super) node: String,
    /// Whether spans say topics.
    pub(super) has_topics: bool,
}

/// What a collector answers to spans that it took, as far as it matters.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Answer {
    partial_success: Partial,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Partial {
    rejected_spans: Count,
    error_message: String,
}

/// A number of 64 bits, which the encoding writes as text, and readers take as a number too.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Count {
    Number(u64),
    Text(String),
}

impl Default for Count {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Answer {
    /// How many spans were not taken after all, and what the collector says of that.
    pub(super) fn rejected(&self) -> Option<(u64, &str)> {
        let count = match &self.partial_success.rejected_spans {
            Count::Number(count) => *count,
            Count::Text(text) => text.parse().unwrap_or(0),
        };
        (count > 0).then_some((count, &self.partial_success.error_message))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: Vec<Attribute<'a>>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<Written<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    flags: u32,
    name: &'static str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Serialize)]
struct Status {
    code: u8,
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'static str,
    value: Value<'a>,
}

#[derive(Serialize)]
enum Value<'a> {
    #[serde(rename = "stringValue")]
    Text(Cow<'a, str>),
    /// As text, for a number of JSON may not hold it.
    #[serde(rename = "intValue")]
    Number(String),
}

fn text<'a>(key: &'static str, value: impl Into<Cow<'a, str>>) -> Attribute<'a> {
    Attribute { key, value: Value::Text(value.into()) }
}

fn number<'a>(key: &'static str, value: impl ToString) -> Attribute<'a> {
    Attribute { key, value: Value::Number(value.to_string()) }
}

/// These spans as the body of a request; `rule_of` gives the pattern of the rule that a topic falls under.
pub(super) fn request(
    source: &Source,
    spans: &[Span],
    rule_of: impl Fn(&Topic) -> Option<String>,
) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let attributes = vec![
        text("service.name", &*source.service),
        text("service.version", version),
        text("service.instance.id", &*source.node),
    ];
    let spans = spans.iter().map(|span| written(source, span, &rule_of)).collect();
    let scope = Scope { name: "fanfare", version };
    let scope_spans = [ScopeSpans { scope, spans }];
    let resource_spans = [ResourceSpans { resource: Resource { attributes }, scope_spans }];
    // Nothing in it can fail to be written.
    serde_json::to_vec(&Request { resource_spans }).unwrap_or_default()
}

fn written<'a>(
    source: &Source,
    span: &'a Span,
    rule_of: impl Fn(&Topic) -> Option<String>,
) -> Written<'a> {
    let (name, kind, operation) = match span.step {
        Step::Publish { .. } => ("publish", SERVER, Some("send")),
        Step::Commit { .. } => ("commit", INTERNAL, None),
        Step::Relay => ("relay", CONSUMER, Some("receive")),
        Step::Write { .. } => ("write", PRODUCER, None),
    };
    let mut attributes =
        vec![text("messaging.system", "fanfare"), text("messaging.operation.name", name)];
    attributes.extend(operation.map(|operation| text("messaging.operation.type", operation)));
    match source.has_topics {
        true => attributes.push(text("messaging.destination.name", span.topic.as_str())),
        false => attributes
            .extend(rule_of(&span.topic).map(|rule| text("messaging.destination.template", rule))),
    }
    attributes.extend(span.event.map(|event| text("messaging.message.id", event.to_string())));
    let failed = about(span.step, &mut attributes);
    let is_remote = span.parent.is_some_and(|parent| parent.is_remote);
    Written {
        trace_id: hex(&span.context.trace),
        span_id: hex(&span.context.span),
        parent_span_id: span.parent.map(|parent| hex(&parent.id)),
        flags: FLAGS | if is_remote { REMOTE } else { 0 },
        name,
        kind,
        start_time_unix_nano: nanos(span.begin).to_string(),
        end_time_unix_nano: nanos(span.end.max(span.begin)).to_string(),
        attributes,
        status: failed.then_some(Status { code: ERROR }),
    }
}

/// Adds what is said of one step alone; true where it failed.
fn about(step: Step, attributes: &mut Vec<Attribute<'_>>) -> bool {
    let outcome = match step {
        Step::Publish { way, events, bytes, outcome } => {
            attributes.push(text("fanfare.way", way.name()));
            attributes.push(number("messaging.batch.message_count", events));
            attributes.push(number("messaging.message.body.size", bytes));
            outcome
        }
        Step::Commit { outcome } => outcome,
        Step::Relay => return false,
        Step::Write { sessions } => {
            attributes.push(number("fanfare.sessions", sessions));
            return false;
        }
    };
    let (key, what) = match outcome {
        Outcome::Stored(_) => ("fanfare.outcome", "stored"),
        Outcome::Repeated => ("fanfare.outcome", "repeated"),
        Outcome::Superseded => ("fanfare.outcome", "superseded"),
        Outcome::Failed(code) => ("error.type", code),
    };
    attributes.push(text(key, what));
    matches!(outcome, Outcome::Failed(_))
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::with_capacity(2 * id.len()), |mut text, byte| {
        // Writing into a String can't fail.
        _ = write!(text, "{byte:02x}");
        text
    })
}

fn nanos(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_nanos()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::span::Parent;
    use super::*;
    use crate::metrics::Way;
    use crate::model::{Cursor, SpanContext};

    fn source(has_topics: bool) -> Source {
        Source { service: "fanfare".to_owned(), node: "n1".to_owned(), has_topics }
    }

    fn span(step: Step) -> Span {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Span {
            step,
            context: SpanContext { trace: [0x0a; 16], span: [0xb0; 8], is_sampled: true },
            parent: Some(Parent { id: [1; 8], is_remote: true }),
            topic: Topic::parse("users.ada.inbox").unwrap(),
            event: Some(Cursor::parse("abcdefgh-1-7").unwrap()),
            begin: at(5),
            end: at(4),
        }
    }

    fn written(source: &Source, span: Span) -> serde_json::Value {
        let rule = |_: &Topic| Some("users.{sub}.>".to_owned());
        serde_json::from_slice(&request(source, &[span], rule)).unwrap()
    }

    #[test]
    fn a_span_is_written_as_the_encoding_has_it() {
        let outcome = Outcome::Stored(None);
        let publish = Step::Publish { way: Way::Http, events: 2, bytes: 9, outcome };
        let whole = written(&source(false), span(publish));
        let of = &whole["resourceSpans"][0];
        let service = json!({"key": "service.name", "value": {"stringValue": "fanfare"}});
        assert_eq!(of["resource"]["attributes"][0], service);
        assert_eq!(of["resource"]["attributes"][2]["value"]["stringValue"], "n1");
        assert_eq!(of["scopeSpans"][0]["scope"]["name"], "fanfare");
        let span = &of["scopeSpans"][0]["spans"][0];
        let attribute = |key, value| json!({"key": key, "value": value});
        let text = |key, value| attribute(key, json!({ "stringValue": value }));
        let number = |key, value| attribute(key, json!({ "intValue": value }));
        let expected = json!({
            "traceId": "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
            "spanId": "b0b0b0b0b0b0b0b0",
            "parentSpanId": "0101010101010101",
            "flags": 0x301,
            "name": "publish",
            "kind": 2,
            "startTimeUnixNano": "5000000000",
            // No span ends before it begins.
            "endTimeUnixNano": "5000000000",
            "attributes": [
                text("messaging.system", "fanfare"),
                text("messaging.operation.name", "publish"),
                text("messaging.operation.type", "send"),
                text("messaging.destination.template", "users.{sub}.>"),
                text("messaging.message.id", "abcdefgh-1-7"),
                text("fanfare.way", "http"),
                number("messaging.batch.message_count", "2"),
                number("messaging.message.body.size", "9"),
                text("fanfare.outcome", "stored"),
            ],
        });
        assert_eq!(*span, expected);
    }

    #[test]
    fn a_topic_is_said_only_where_that_is_asked_for_and_a_failure_by_its_name() {
        let failed = || span(Step::Commit { outcome: Outcome::Failed("storage_full") });
        let hidden = written(&source(false), failed());
        assert!(!hidden.to_string().contains("ada"), "{hidden}");
        let shown = written(&source(true), failed());
        let span = &shown["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["status"], json!({ "code": 2 }));
        let text = shown.to_string();
        assert!(text.contains("users.ada.inbox") && text.contains("storage_full"), "{text}");
    }

    #[test]
    fn what_a_collector_did_not_take_is_read_as_text_or_number() {
        let rejected = |text: &str| {
            let answer: Answer = serde_json::from_str(text).unwrap();
            answer.rejected().map(|(count, why)| (count, why.to_owned()))
        };
        for (text, expected) in [
            (r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"old"}}"#, Some((2, "old"))),
            (r#"{"partialSuccess":{"rejectedSpans":3}}"#, Some((3, ""))),
            (r#"{"partialSuccess":{"errorMessage":"a warning"}}"#, None),
            (r#"{"partialSuccess":{}}"#, None),
            ("{}", None),
        ] {
            assert_eq!(rejected(text), expected.map(|(n, why)| (n, why.to_owned())), "{text}");
        }
    }
}
