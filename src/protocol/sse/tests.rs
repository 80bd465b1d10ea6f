use super::*;
use crate::model::{Close, Code, Data, Trouble};
use crate::protocol::samples::{UNTOLD, any_annotations, any_event, bye, cursor, event};
use crate::protocol::{PROTOCOLS, event_object};
use proptest::prelude::*;
use serde_json::Value;

/// What `EventSource` makes of a stream.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// Type, data and last event ID of each event.
    events: Vec<(String, String, String)>,
    last_id: String,
    retry: Option<u64>,
}

/// Reads a stream as WHATWG HTML, section 9.2.6, says.
fn event_source(stream: &[u8]) -> Seen {
    let stream = String::from_utf8_lossy(stream).replace("\r\n", "\n").replace('\r', "\n");
    let mut seen = Seen::default();
    let (mut data, mut kind, mut id) = (String::new(), String::new(), String::new());
    let complete = stream.rfind('\n').map_or("", |end| &stream[..end]);
    for line in complete.split('\n') {
        if line.is_empty() {
            seen.last_id.clone_from(&id);
            let kind = std::mem::take(&mut kind);
            if let Some(data) = std::mem::take(&mut data).strip_suffix('\n') {
                let kind = if kind.is_empty() { "message".to_owned() } else { kind };
                seen.events.push((kind, data.to_owned(), id.clone()));
            }
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => kind = value.to_owned(),
            "data" => data = data + value + "\n",
            "id" if !value.contains('\0') => id = value.to_owned(),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                seen.retry = value.parse().ok();
            }
            _ => {}
        }
    }
    seen
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn an_event_is_the_object_without_op_under_the_default_name() {
    assert_eq!(
        text((SSE.event)(&event("{\"b\": 1.10}"), &Annotations::default())),
        "id: abcdefgh-1-7\n\
         data: {\"id\":\"abcdefgh-1-7\",\"topic\":\"orders.eu.42\",\"type\":\"created\",\
         \"time\":\"2023-11-14T22:13:20.007Z\",\"data\":{\"b\": 1.10}}\n\n"
    );
    let replayed = Annotations { replay: Some(0), ..Annotations::default() };
    assert_eq!(
        text((SSE.event)(&Event { kind: None, ..event("1") }, &replayed)),
        "id: abcdefgh-1-7\n\
         data: {\"id\":\"abcdefgh-1-7\",\"topic\":\"orders.eu.42\",\
         \"time\":\"2023-11-14T22:13:20.007Z\",\"data\":1,\"replay\":0}\n\n"
    );
}

/// The bytes of the first release, in every form.
#[test]
fn an_event_that_carries_nothing_costs_on_the_wire_what_it_did() {
    let bare = event("{\"b\": 1.10}");
    let object = "{\"id\":\"abcdefgh-1-7\",\"topic\":\"orders.eu.42\",\"type\":\"created\",\
                  \"time\":\"2023-11-14T22:13:20.007Z\",\"data\":{\"b\": 1.10}}";
    assert_eq!(text(event_object(&bare)), object);
    let annotations = Annotations::default();
    assert_eq!(
        text((SSE.event)(&bare, &annotations)),
        format!("id: abcdefgh-1-7\ndata: {object}\n\n")
    );
    let forms = PROTOCOLS.websockets().flat_map(|entry| entry.dialects);
    let sizes: Vec<_> =
        forms.map(|dialect| (dialect.form.event)(&event("1"), &annotations).len()).collect();
    assert_eq!(sizes, [117, 95], "JSON and CBOR over WebSocket");
    assert_eq!(size_of::<Event>(), 8 + 96, "in memory the one pointer more");
}

#[test]
fn what_is_for_other_languages_or_later_releases_is_shown_in_no_form() {
    let dialects = PROTOCOLS.entries().flat_map(|entry| entry.dialects);
    let bare = event("1");
    let carrying = Event { envelope: Some(Box::new(UNTOLD.into_iter().collect())), ..bare.clone() };
    for dialect in dialects {
        let shown = |event: &Event| (dialect.form.event)(event, &Annotations::default());
        assert_eq!(shown(&carrying), shown(&bare), "form {}", dialect.name);
    }
    assert_eq!(event_object(&carrying), event_object(&bare), "REST");
}

#[test]
fn what_does_not_move_the_place_has_no_id_field() {
    let ephemeral = Event { cursor: None, ..event("1") };
    assert_eq!(
        text((SSE.event)(&ephemeral, &Annotations::default())),
        "data: {\"topic\":\"orders.eu.42\",\"type\":\"created\",\
         \"time\":\"2023-11-14T22:13:20.007Z\",\"data\":1}\n\n"
    );
    let snapshot = Annotations { snapshot: true, ..Annotations::default() };
    assert_eq!(
        text((SSE.event)(&event("1"), &snapshot)),
        "data: {\"id\":\"abcdefgh-1-7\",\"topic\":\"orders.eu.42\",\"type\":\"created\",\
         \"time\":\"2023-11-14T22:13:20.007Z\",\"data\":1,\"snapshot\":true}\n\n"
    );
    let conflated = Annotations { conflated: true, skipped: 2, ..Annotations::default() };
    assert_eq!(
        text((SSE.event)(&event("1"), &conflated)),
        "data: {\"id\":\"abcdefgh-1-7\",\"topic\":\"orders.eu.42\",\"type\":\"created\",\
         \"time\":\"2023-11-14T22:13:20.007Z\",\"data\":1,\"conflated\":true,\"skipped\":2}\n\n"
    );
    assert_eq!(text((SSE_DATA.event)(&event("1"), &snapshot)), "event: created\ndata: 1\n\n");
    assert_eq!(text((SSE_DATA.event)(&event("1"), &conflated)), "event: created\ndata: 1\n\n");
}

#[test]
fn bare_data_comes_as_json_under_its_type() {
    let bare = |event: &Event| text((SSE_DATA.event)(event, &Annotations::default()));
    for (data, line) in [
        (Data::from_json(b"{\"a\":\n1}", 8).unwrap(), "data: {\"a\": 1}\n\n"),
        (Data::from_text("two\nlines"), "data: \"two\\nlines\"\n\n"),
        (Data::from_binary(&[0, 255, 7]), "data: \"AP8H\"\n\n"),
    ] {
        let event = Event { data, ..event("0") };
        assert_eq!(bare(&event), format!("id: abcdefgh-1-7\nevent: created\n{line}"));
        let untyped = Event { kind: None, ..event };
        assert_eq!(bare(&untyped), format!("id: abcdefgh-1-7\n{line}"));
    }
}

#[test]
fn each_reply_has_its_form() {
    let at = cursor("abcdefgh-1-7");
    for (reply, block) in [
        (
            Reply::Welcome { session: "s1", heartbeat: 25, retry_after_ms: 900, secret: None },
            ": welcome s1 heartbeat=25\nretry: 900\n",
        ),
        (Reply::Heartbeat, "event: fanfare.heartbeat\ndata: {}\n\n"),
        (
            Reply::Cursor(at),
            "id: abcdefgh-1-7\nevent: fanfare.cursor\ndata: {\"cursor\":\"abcdefgh-1-7\"}\n\n",
        ),
        (
            Reply::GoAway { within_ms: 1_500 },
            "event: fanfare.goaway\ndata: {\"within_ms\":1500}\n\n",
        ),
        (
            Reply::Trouble(Trouble::Over),
            "event: fanfare.trouble\ndata: {\"code\":\"over\",\
             \"message\":\"the broker can do its whole job again\"}\n\n",
        ),
        (
            Reply::Live { reference: Some(0), cursor: at },
            "id: abcdefgh-1-7\nevent: fanfare.live\ndata: {\"ref\":0,\"cursor\":\"abcdefgh-1-7\"}\n\n",
        ),
        (
            Reply::Gap { reference: Some(0), since: at, topics: &[] },
            "event: fanfare.gap\ndata: {\"ref\":0,\"since\":\"abcdefgh-1-7\"}\n\n",
        ),
        (
            Reply::Gap { reference: None, since: at, topics: &[] },
            "event: fanfare.gap\ndata: {\"since\":\"abcdefgh-1-7\"}\n\n",
        ),
        (
            bye(Close::Restart, Some(1_234)),
            "retry: 1234\nevent: fanfare.bye\ndata: {\"code\":\"restart\",\
             \"message\":\"the broker is restarting\",\"retry_after_ms\":1234}\n\n",
        ),
        (
            bye(Close::Policy, None),
            "event: fanfare.bye\ndata: {\"code\":\"policy\",\
             \"message\":\"the session was ended by the operator\"}\n\n",
        ),
    ] {
        assert_eq!(block_of_reply(&reply).map(text).as_deref(), Some(block));
    }
}

#[test]
fn what_answers_a_request_has_no_words_here() {
    for reply in [
        Reply::Ack { reference: Some(1), id: None, superseded: None, repeated: false },
        Reply::Pong { reference: Some(1) },
        Reply::Error { reference: Some(1), code: Code::Forbidden, message: "no", event: None },
    ] {
        assert_eq!(block_of_reply(&reply), None);
    }
}

#[test]
fn an_event_source_keeps_the_id_of_the_last_block_that_had_one() {
    let mut stream = (SSE.event)(&event("1"), &Annotations::default());
    stream.extend(block_of_reply(&Reply::Cursor(cursor("abcdefgh-1-9"))).unwrap());
    stream.extend((SSE.event)(
        &event("2"),
        &Annotations { snapshot: true, ..Annotations::default() },
    ));
    let seen = event_source(&stream);
    assert_eq!(seen.last_id, "abcdefgh-1-9");
    let kinds: Vec<_> = seen.events.iter().map(|(kind, ..)| kind.as_str()).collect();
    assert_eq!(kinds, ["message", "fanfare.cursor", "message"]);
    assert_eq!(seen.events[2].2, "abcdefgh-1-9");
}

#[test]
fn a_line_break_never_begins_a_field() {
    for (value, data) in [
        ("a\nid: 1", "a\nid: 1"),
        ("a\r\nevent: x\rretry: 1", "a\nevent: x\nretry: 1"),
        ("\n\n", "\n\n"),
        ("a\n\rb\r\n", "a\n\nb\n"),
    ] {
        let mut block = Block::with_capacity(0);
        block.field("data", value.as_bytes());
        let seen = event_source(&block.finish());
        let event = ("message".to_owned(), data.to_owned(), String::new());
        assert_eq!(seen, Seen { events: vec![event], ..Seen::default() }, "{value:?}");
    }
    let session = "x\n\ndata: fake\n\n";
    let welcome = Reply::Welcome { session, heartbeat: 1, retry_after_ms: 5, secret: None };
    let mut stream = block_of_reply(&welcome).unwrap();
    assert!(!stream.windows(2).any(|pair| pair == b"\n\n"), "lines, and no block");
    stream.extend(block_of_reply(&Reply::Heartbeat).unwrap());
    let seen = event_source(&stream);
    assert_eq!((seen.retry, seen.events.len()), (Some(5), 1));
}

proptest! {
    #[test]
    fn an_event_source_finds_just_what_was_sent(event in any_event(), annotations in any_annotations()) {
        let moves = !annotations.snapshot && !annotations.conflated;
        let id = event.cursor.filter(|_| moves).map(|id| id.to_string()).unwrap_or_default();

        let seen = event_source(&(SSE.event)(&event, &annotations));
        prop_assert_eq!(seen.events.len(), 1);
        let (kind, data, last_id) = &seen.events[0];
        prop_assert_eq!((kind.as_str(), last_id, &seen.last_id), ("message", &id, &id));
        prop_assert!(serde_json::from_str::<&serde_json::value::RawValue>(data).is_ok());
        let bare = String::from_utf8(event_object(&event)).unwrap();
        prop_assert!(data.starts_with(&bare[..bare.len() - 1]));

        let seen = event_source(&(SSE_DATA.event)(&event, &annotations));
        let kind = event.kind.as_ref().map_or("message", |kind| kind.as_str());
        let gone = serde_json::json!({ "topic": event.topic.as_str() }).to_string();
        let (kind, data) = match event.is_tombstone() {
            true => ("fanfare.removed", gone.as_str()),
            false => (kind, event.data.json().get()),
        };
        let expected = vec![(kind.to_owned(), data.to_owned(), id.clone())];
        prop_assert_eq!(seen, Seen { events: expected, last_id: id, retry: None });
    }

    #[test]
    fn any_lines_come_together_again(value in "[a:\r\n ]{0,12}") {
        let mut block = Block::with_capacity(0);
        block.field("data", value.as_bytes());
        let seen = event_source(&block.finish());
        let value = value.replace("\r\n", "\n").replace('\r', "\n");
        prop_assert_eq!(&seen.events, &[("message".to_owned(), value, String::new())]);
    }
}

#[test]
fn a_control_event_holds_json() {
    let live = Reply::Live { reference: Some(0), cursor: cursor("abcdefgh-1-7") };
    let seen = event_source(&block_of_reply(&live).unwrap());
    let (kind, data, _) = &seen.events[0];
    assert_eq!(kind, "fanfare.live");
    let value: Value = serde_json::from_str(data).unwrap();
    assert_eq!(value["cursor"], "abcdefgh-1-7");
}
