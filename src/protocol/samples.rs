//! Events for the tests of the protocols.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::spelling::{Plain, Spelling};
use super::{Annotations, ClientMessage, ParseLimits, Refused, Reply, Request, Requests, Talk};
use crate::clock::Instant;
use crate::model::{
    Close, Cursor, Data, Envelope, Event, EventType, MAX_WHOLE, Member, Removed, Topic,
};

/// Limits that the tests can reach.
pub const LIMITS: ParseLimits =
    ParseLimits { json_depth: 8, event_bytes: 256, patterns: 4, last_events: 100, requests: 1 };

/// Limits that no test reaches.
pub const WIDE: ParseLimits = ParseLimits {
    json_depth: 64,
    event_bytes: 1 << 20,
    patterns: 64,
    last_events: 10_000,
    requests: 1,
};

/// The one request of a message that is spelled so.
pub fn parsed<S: Spelling>(
    message: ClientMessage<'_>,
    limits: &ParseLimits,
) -> Result<Request, Refused> {
    let mut requests = Requests::new(limits.requests);
    let mut talk = Plain::<S>::NEW;
    talk.hear(message, limits, Instant::now(), &mut requests)?;
    Ok(requests.into_vec().pop().expect("a message is one request"))
}

/// A cursor.
pub fn cursor(text: &str) -> Cursor {
    Cursor::parse(text).expect(text)
}

/// A topic.
pub fn topic(text: &str) -> Topic {
    Topic::parse(text).unwrap()
}

/// An event with this JSON as its data.
pub fn event(json: &str) -> Event {
    Event {
        cursor: Some(cursor("abcdefgh-1-7")),
        topic: Topic::parse("orders.eu.42").unwrap(),
        kind: Some(EventType::parse("created").unwrap()),
        time: (SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_007)).into(),
        data: Data::from_json(json.as_bytes(), 64).expect(json),
        envelope: None,
    }
}

/// Any JSON text, with whatever spaces and escapes.
pub fn any_json() -> impl Strategy<Value = String> {
    let number = "-?(0|[1-9][0-9]{0,24})([.][0-9]{1,20})?([eE][+-]?[0-9]{1,3})?";
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|yes| yes.to_string()),
        number.prop_map(String::from),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "([a-z\"é😀]|\\\\[nrtbf/\\\\]|\\\\u00[0-9a-f]{2}|\\\\ud83d\\\\ude00){0,8}"
            .prop_map(|text| format!("\"{}\"", text.replace('"', "\\\""))),
    ];
    leaf.prop_recursive(4, 64, 30, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..30)
                .prop_map(|items| format!("[ {}\t]", items.join(",\r\n"))),
            prop::collection::btree_map("[a-z\n\u{1}]{0,3}", inner, 0..30).prop_map(|members| {
                let name = |text| serde_json::to_string(text).unwrap();
                let members = members.iter().map(|(key, value)| format!("{} : {value}", name(key)));
                format!("{{\r{}}}", members.collect::<Vec<_>>().join(", "))
            }),
        ]
    })
}

/// Any data: JSON, text or binary.
pub fn any_data() -> impl Strategy<Value = Data> {
    prop_oneof![
        any_json().prop_map(|json| Data::from_json(json.as_bytes(), 64).expect(&json)),
        any::<String>().prop_map(|text| Data::from_text(&text)),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Data::from_binary(&bytes)),
    ]
}

/// Members that are told nobody: of other wire languages, and of later releases.
pub const UNTOLD: [Member<'static>; 4] = [
    Member::Lang(1, b"{\"retry\":5}"),
    Member::Except("5e55"),
    Member::Lang(2, b"hidden"),
    Member::Other(99, b"hidden"),
];

/// Anything that an event may carry; mostly nothing.
fn any_envelope() -> impl Strategy<Value = Option<Box<Envelope>>> {
    let removed = [Removed::Publisher, Removed::Expired, Removed::Left];
    let member =
        (any::<String>(), 0..=MAX_WHOLE, 0..16_usize).prop_map(move |(text, number, which)| {
            let mut envelope = Envelope::default();
            envelope.push(match which {
                0 => Member::User(&text),
                1 => Member::Session(&text),
                2 => Member::Version(number),
                3 => Member::Epoch(&text),
                4 => Member::Ttl(number % 31_536_000_000),
                5 => Member::Trace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                6..9 => Member::Removed(removed[which - 6]),
                9..13 => UNTOLD[which - 9],
                _ => return Envelope::default(),
            });
            envelope
        });
    prop::option::weighted(0.3, prop::collection::vec(member, 0..6)).prop_map(|envelopes| {
        let members = envelopes.iter().flatten().flat_map(Envelope::members);
        envelopes.as_ref().map(|_| Box::new(members.collect()))
    })
}

/// Any event, ephemeral ones among them.
pub fn any_event() -> impl Strategy<Value = Event> {
    let kind = prop::option::of(
        "[!-~]{1,200}".prop_filter_map("reserved", |text| EventType::parse(&text).ok()),
    );
    let topic =
        "[!#-)+-=?-\\[\\]-~]{1,40}".prop_filter_map("not a topic", |text| Topic::parse(&text).ok());
    (prop::option::of(any::<(u64, u64)>()), topic, kind, any_data(), any_envelope()).prop_map(
        |(place, topic, kind, data, envelope)| Event {
            cursor: place.map(|(epoch, sequence)| Cursor {
                epoch,
                sequence,
                ..cursor("abcdefgh-1-1")
            }),
            topic,
            kind,
            data,
            envelope,
            ..event("0")
        },
    )
}

/// Any annotations.
pub fn any_annotations() -> impl Strategy<Value = Annotations> {
    let number = prop_oneof![Just(0), any::<u64>()];
    (any::<Option<u64>>(), any::<bool>(), any::<bool>(), number).prop_map(
        |(replay, snapshot, conflated, skipped)| Annotations {
            replay,
            snapshot,
            conflated,
            skipped,
        },
    )
}

/// A good-bye in its usual words.
pub fn bye(close: Close, retry_after_ms: Option<u32>) -> Reply<'static> {
    Reply::Bye { close, message: close.message(), retry_after_ms }
}
