mod said;

use super::*;
use crate::model::{Close, Code, Data, Start, Trouble};
use crate::protocol::samples::{
    LIMITS, WIDE, any_annotations, any_event, any_json, bye, cursor, event, parsed, topic,
};
use crate::protocol::{Mode, Op, Request, Subscribe};
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

fn parse(text: &str) -> Result<Request, Refused> {
    parsed::<Json>(ClientMessage::Text(text), &LIMITS)
}

/// A request in few words.
fn meaning(text: &str) -> String {
    let Request { reference, op } = parse(text).unwrap_or_else(|refused| panic!("{refused:?}"));
    let op = match op {
        Op::Auth { token } => format!("auth {}", token.0),
        Op::Subscribe(Subscribe { patterns, since, opening, mode, max_rate, .. }) => {
            format!("subscribe {patterns:?} {since:?} {opening:?} {mode:?} {max_rate:?}")
        }
        Op::Unsubscribe { patterns } => format!("unsubscribe {patterns:?}"),
        Op::Publish { event: new, key } => {
            let kind = new.kind.as_ref().map(|kind| kind.as_str());
            let data = (new.data.json().get(), new.data.is_base64());
            let key = key.map_or(String::new(), |key| format!(" {}", key.as_str()));
            format!("publish {} {kind:?} {data:?}{key}", new.topic)
        }
        Op::Ping => "ping".to_owned(),
    };
    format!("{reference:?} {op}")
}

/// A refusal in few words.
fn refusal(text: &str) -> String {
    let Refused { reference, problem } = parse(text).expect_err(text);
    format!("{reference:?} {problem}")
}

#[test]
fn each_op_is_understood() {
    for (text, means) in [
        (r#"{"op":"auth","ref":1,"token":"abc"}"#, "Some(1) auth abc"),
        (
            r#"{"op":"subscribe","ref":2,"topics":["orders.>"]}"#,
            "Some(2) subscribe [Pattern(orders.>)] None Nothing All None",
        ),
        (
            r#"{"topics":["a","b.*","a"],"mode":"latest","snapshot":true,"op":"subscribe"}"#,
            "None subscribe [Pattern(a), Pattern(b.*)] None Snapshot Latest None",
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"snapshot":false,"mode":"all"}"#,
            "None subscribe [Pattern(a)] None Nothing All None",
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"max_rate":5}"#,
            "None subscribe [Pattern(a)] None Nothing Latest Some(5.0)",
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"max_rate":1e3,"mode":"latest"}"#,
            "None subscribe [Pattern(a)] None Nothing Latest Some(1000.0)",
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"last":50,"tail":null}"#,
            "None subscribe [Pattern(a)] None Last(50) All None",
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"tail":1e2,"snapshot":false}"#,
            "None subscribe [Pattern(a)] None Tail(100) All None",
        ),
        (
            r#"{"op":"unsubscribe","ref":9007199254740991,"topics":["orders.>"]}"#,
            "Some(9007199254740991) unsubscribe [Pattern(orders.>)]",
        ),
        (
            r#"{"op":"publish","ref":4,"topic":"chat.lobby","type":"message","data":{"b" : 1.10,"a":1e400}}"#,
            r#"Some(4) publish chat.lobby Some("message") ("{\"b\" : 1.10,\"a\":1e400}", false)"#,
        ),
        (r#"{"op":"publish","topic":"a","data": null }"#, r#"None publish a None ("null", false)"#),
        (
            r#"{"op":"publish","topic":"a","data":"AP8H","encoding":"base64"}"#,
            r#"None publish a None ("\"AP8H\"", true)"#,
        ),
        (
            r#"{"op":"subscribe","ref":null,"topics":["a"],"since":null,"snapshot":null,"mode":null,"max_rate":null,"token":null,"data":null}"#,
            "None subscribe [Pattern(a)] None Nothing All None",
        ),
        (
            r#"{"op":"publish","topic":"a","data":null,"type":null,"encoding":null,"topics":null}"#,
            r#"None publish a None ("null", false)"#,
        ),
        (
            r#"{"op":"publish","topic":"a","data":1,"key":"order-42"}"#,
            r#"None publish a None ("1", false) order-42"#,
        ),
        (
            r#"{"op":"publish","topic":"a","data":1,"key":null}"#,
            r#"None publish a None ("1", false)"#,
        ),
        ("\u{feff}{\"op\":\"ping\"}", "None ping"),
        (r#" { "o\u0070" : "\u0070ing" , "ref" : 5 } "#, "Some(5) ping"),
    ] {
        assert_eq!(meaning(text), means, "{text}");
    }
}

#[test]
fn a_place_to_resume_from_is_read() {
    let text = r#"{"op":"subscribe","ref":2,"topics":["a"],"since":"abcdefgh-1-7"}"#;
    let Op::Subscribe(subscribe) = parse(text).unwrap().op else { panic!("no subscribe") };
    assert_eq!(subscribe.since, Some(Start::After(cursor("abcdefgh-1-7"))));
    let text = r#"{"op":"subscribe","ref":2,"topics":["a"],"since":"-15m"}"#;
    let Op::Subscribe(subscribe) = parse(text).unwrap().op else { panic!("no subscribe") };
    assert_eq!(subscribe.since, Some(Start::parse("-15m").unwrap()));
}

#[test]
fn a_binary_message_of_the_same_json_is_read_alike() {
    let read = |bytes: &[u8]| parsed::<Json>(ClientMessage::Binary(bytes), &LIMITS);
    assert_eq!(read(br#"{"op":"ping","ref":5}"#).unwrap().reference, Some(5));
    assert_eq!(read(b"{\"op\":\"\xff\"}").unwrap_err().problem.code, Code::InvalidJson);
}

#[test]
fn what_is_not_one_json_object_is_invalid_json_and_is_not_echoed() {
    for text in [
        "",
        " ",
        "{",
        "[]",
        "null",
        "5",
        "\"hunter2\"",
        "{}{}",
        "{\"op\":}",
        "{op:1}",
        "{\"a\":1,}",
        "{\"op\":\"ping\",\"ref\":5",
        "{\"data\":\"\n\"}",
        "{\"data\":01}",
        "{1:2}",
        "\u{feff}",
        "\u{feff}\u{feff}{}",
        "{}\u{feff}",
    ] {
        let refused = parse(text).expect_err(text);
        assert_eq!((refused.reference, refused.problem.code), (None, Code::InvalidJson), "{text}");
        assert!(!refused.problem.detail.contains("hunter2"), "{refused:?}");
    }
}

#[test]
fn a_refusal_names_what_is_wrong_and_carries_the_ref() {
    for (text, problem) in [
        ("{}", "None bad_request: `op` is missing"),
        (r#"{"ref":7}"#, "Some(7) bad_request: `op` is missing"),
        (r#"{"op":5,"ref":7}"#, "Some(7) bad_request: `op` must be a string"),
        (r#"{"op":null,"ref":7}"#, "Some(7) bad_request: `op` is missing"),
        (
            r#"{"op":"subscrbe","topic":"a","x":1,"ref":7}"#,
            r#"Some(7) bad_request: "subscrbe" is not an `op`; these are: auth, subscribe, unsubscribe, publish, ping"#,
        ),
        (
            r#"{"op":"ping","pong":true,"ref":7}"#,
            r#"Some(7) bad_request: "pong" is not a member of any message"#,
        ),
        (
            r#"{"op":"ping","topic":"a","ref":7}"#,
            "Some(7) bad_request: `topic` is not a member of `ping`",
        ),
        (r#"{"op":"ping","op":"ping","ref":7}"#, "Some(7) bad_request: `op` is there twice"),
        (r#"{"op":"ping","ref":7,"r\u0065f":7}"#, "Some(7) bad_request: `ref` is there twice"),
        (r#"{"op":"auth","ref":7}"#, "Some(7) bad_request: `token` is missing"),
        (r#"{"op":"auth","token":"","ref":7}"#, "Some(7) bad_request: `token` is empty"),
        (r#"{"op":"auth","token":1,"ref":7}"#, "Some(7) bad_request: `token` must be a string"),
        (r#"{"op":"subscribe","ref":7}"#, "Some(7) bad_request: `topics` is missing"),
        (r#"{"op":"subscribe","topics":[],"ref":7}"#, "Some(7) bad_request: `topics` is empty"),
        (
            r#"{"op":"subscribe","topics":"a","ref":7}"#,
            "Some(7) bad_request: `topics` must be an array of strings",
        ),
        (
            r#"{"op":"subscribe","topics":["a",1],"ref":7}"#,
            "Some(7) bad_request: `topics` must be an array of strings",
        ),
        (
            r#"{"op":"subscribe","topics":["a","b","c","d","e","f"],"ref":7}"#,
            "Some(7) too_many: `topics` has over 4 (limits.subscriptions)",
        ),
        (
            r#"{"op":"subscribe","topics":["a","b..c"],"ref":7}"#,
            r#"Some(7) invalid_pattern: "b..c" is not a pattern: the segment at byte 2 is empty"#,
        ),
        (
            r#"{"op":"unsubscribe","topics":["\n"],"ref":7}"#,
            r#"Some(7) invalid_pattern: "\n" is not a pattern: '\n' at byte 0 is not allowed"#,
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"since":"5","ref":7}"#,
            "Some(7) invalid_cursor: since is neither a cursor given by this broker, nor a moment as RFC 3339 writes it, nor as long ago as -15m",
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"since":0,"ref":7}"#,
            "Some(7) bad_request: `since` must be a string; else leave it out",
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"since":"","ref":7}"#,
            "Some(7) bad_request: `since` is empty; leave it out",
        ),
        (r#"{"op":"subscribe","topics":null,"ref":7}"#, "Some(7) bad_request: `topics` is missing"),
        (r#"{"op":"auth","token":null,"ref":7}"#, "Some(7) bad_request: `token` is missing"),
        (
            r#"{"op":"ping","sinse":null,"ref":7}"#,
            r#"Some(7) bad_request: "sinse" is not a member of any message"#,
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"since":null,"since":"a","ref":7}"#,
            "Some(7) bad_request: `since` is there twice",
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"since":"abcdefgh-1-7"}"#,
            "None bad_request: `since` needs a `ref`, by which its replay is known",
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"snapshot":1,"ref":7}"#,
            "Some(7) bad_request: `snapshot` must be true or false; else leave it out",
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"last":0,"ref":7}"#,
            "Some(7) bad_request: `last` must be a whole number from 1 on; else leave it out",
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"tail":101,"ref":7}"#,
            "Some(7) too_many: `tail` asks for 101 events, over 100 (limits.last_events)",
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"tail":1,"last":1,"ref":7}"#,
            "Some(7) bad_request: at most one of `snapshot`, `last` and `tail` may be there",
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"mode":"newest","ref":7}"#,
            r#"Some(7) bad_request: `mode` must be "all" or "latest"; else leave it out"#,
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"mode":"all","max_rate":5,"ref":7}"#,
            r#"Some(7) bad_request: `max_rate` needs the mode "latest""#,
        ),
        (
            r#"{"op":"subscribe","topics":["a"],"max_rate":"5","ref":7}"#,
            "Some(7) bad_request: `max_rate` must be a number; else leave it out",
        ),
        (r#"{"op":"publish","data":1,"ref":7}"#, "Some(7) bad_request: `topic` is missing"),
        (
            r#"{"op":"publish","topic":"a.*","data":1,"ref":7}"#,
            "Some(7) invalid_topic: not a topic: '*' at byte 2 is not allowed",
        ),
        (r#"{"op":"publish","topic":"a","ref":7}"#, "Some(7) bad_request: `data` is missing"),
        (
            r#"{"op":"publish","topic":"a","data":1,"type":5,"ref":7}"#,
            "Some(7) bad_request: `type` must be a string; else leave it out",
        ),
        (
            r#"{"op":"publish","topic":"a","data":1,"type":"a b","ref":7}"#,
            "Some(7) invalid_event: not an event type: the character at byte 1 is not visible ASCII",
        ),
        (
            r#"{"op":"publish","topic":"a","data":"!","encoding":"base64","ref":7}"#,
            "Some(7) invalid_event: bad data: its encoding is base64, but the data is not a base64 string",
        ),
        (
            r#"{"op":"publish","topic":"a","data":"AA==","encoding":"base16","ref":7}"#,
            r#"Some(7) bad_request: `encoding` must be "base64"; else leave it out"#,
        ),
        (
            r#"{"op":"publish","topic":"a","data":[[[[[[[[[1]]]]]]]]],"ref":7}"#,
            "Some(7) invalid_event: bad data: it is nested more than 8 deep (limits.json_depth)",
        ),
    ] {
        assert_eq!(refusal(text), problem, "{text}");
    }
}

#[test]
fn a_ref_is_an_integer_that_every_reader_can_hold() {
    for legal in ["7", "7.0", "0.7e1", "70E-1"] {
        let text = format!(r#"{{"op":"ping","ref":{legal}}}"#);
        assert_eq!(parse(&text).map(|request| request.reference).ok(), Some(Some(7)), "{text}");
    }
    for illegal in ["0", "-1", "-0", "1.5", "9007199254740992", "1e99", "\"1\"", "true", "[1]"] {
        let text = format!(r#"{{"op":"ping","ref":{illegal}}}"#);
        let problem =
            "None bad_request: `ref` must be an integer from 1 to 2^53-1; else leave it out";
        assert_eq!(refusal(&text), problem, "{text}");
    }
}

#[test]
fn a_rate_is_above_0_and_at_most_1000() {
    for illegal in ["0", "-0.0", "-1", "1000.001", "1e400", "-1e400", "1e-400"] {
        let text = format!(r#"{{"op":"subscribe","topics":["a"],"max_rate":{illegal}}}"#);
        let problem =
            "None bad_request: `max_rate` must be above 0 and at most 1000; else leave it out";
        assert_eq!(refusal(&text), problem, "{text}");
    }
}

#[test]
fn data_over_the_limit_is_too_large() {
    let publish = |length: usize| {
        let text = "x".repeat(length - 2);
        parse(&format!(r#"{{"op":"publish","topic":"a","data": "{text}" ,"ref":7}}"#))
    };
    assert!(publish(256).is_ok());
    let refused = publish(257).unwrap_err();
    assert_eq!((refused.reference, refused.problem.code), (Some(7), Code::TooLarge));
}

#[test]
fn an_echo_is_cut_short() {
    let long = "é".repeat(10_000);
    for text in [
        format!(r#"{{"op":"{long}"}}"#),
        format!(r#"{{"op":"ping","{long}":1}}"#),
        format!(r#"{{"op":"subscribe","topics":["{long}"]}}"#),
    ] {
        let detail = parse(&text).unwrap_err().problem.detail;
        assert!(detail.contains(&format!("{:?}…", "é".repeat(64))), "{detail}");
        assert!(detail.len() < 300, "{detail}");
    }
}

#[test]
fn a_refusal_never_shows_a_token_or_data() {
    for text in [
        r#"{"op":"auth","token":["hunter2"]}"#,
        r#"{"op":"auth","token":"hunter2\ud800"}"#,
        r#"{"op":"auth","token":"hunter2","data":1}"#,
        r#"{"op":"subscribe","topics":{"a":"hunter2"}}"#,
        r#"{"op":"publish","topic":"a","data":"hunter2","encoding":"base64"}"#,
        r#"{"op":"publish","topic":"a","data":"hunter2","#,
    ] {
        let refused = parse(text).expect_err(text);
        assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
    }
}

#[test]
fn nesting_does_not_overflow_the_stack() {
    let deep = |open: &str, close: &str| open.repeat(1 << 20) + &close.repeat(1 << 20);
    let arrays = deep("[", "]");
    for (text, code) in [
        ("[".repeat(1 << 20), Code::InvalidJson),
        (arrays.clone(), Code::InvalidJson),
        (deep("{\"a\":", "1}").replace("}1", "}"), Code::BadRequest),
        (format!("{{\"data\":{}", "[".repeat(1 << 20)), Code::InvalidJson),
        (format!("{{\"op\":\"ping\",\"x\":{arrays}}}"), Code::BadRequest),
        (format!("{{\"op\":{arrays}}}"), Code::BadRequest),
        (format!("{{\"op\":\"subscribe\",\"topics\":{arrays}}}"), Code::BadRequest),
        (format!("{{\"op\":\"auth\",\"token\":{arrays}}}"), Code::BadRequest),
    ] {
        let problem = parsed::<Json>(ClientMessage::Text(&text), &WIDE).unwrap_err().problem;
        assert_eq!(problem.code, code, "{problem}");
    }
    let text = format!("{{\"op\":\"publish\",\"topic\":\"a\",\"ref\":7,\"data\":{arrays}}}");
    let unlimited = ParseLimits { event_bytes: usize::MAX, ..WIDE };
    let refused = parsed::<Json>(ClientMessage::Text(&text), &unlimited).unwrap_err();
    assert_eq!((refused.reference, refused.problem.code), (Some(7), Code::InvalidEvent));
}

/// Legal messages, to be mutated.
fn any_message() -> impl Strategy<Value = String> {
    let reference = prop::option::of(1..=5_u64)
        .prop_map(|reference| reference.map_or(String::new(), |n| format!(",\"ref\":{n}")));
    let body = prop_oneof![
        Just(r#""op":"ping""#.to_owned()),
        Just(r#""op":"auth","token":"abc""#.to_owned()),
        "[a-c>*.]{1,6}".prop_map(|topic| format!(
            r#""op":"subscribe","topics":["{topic}","b"],"snapshot":true,"mode":"latest","max_rate":2.5"#
        )),
        Just(r#""op":"unsubscribe","topics":["a.>"]"#.to_owned()),
        any_json()
            .prop_map(|json| format!(r#""op":"publish","topic":"a","type":"t","data":{json}"#)),
    ];
    (body, reference).prop_map(|(body, reference)| format!("{{{body}{reference}}}"))
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parsed::<Json>(ClientMessage::Binary(&bytes), &LIMITS);
    }

    #[test]
    fn a_spoilt_message_is_judged_without_a_panic(
        message in any_message(),
        spoils in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..4),
    ) {
        let mut bytes = message.into_bytes();
        for (index, byte, how) in spoils {
            let at = index.index(bytes.len() + 1);
            match how {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => {}
            }
        }
        if let Ok(request) = parsed::<Json>(ClientMessage::Binary(&bytes), &WIDE) {
            let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            prop_assert!(value.is_null() || value["ref"].as_u64() == request.reference);
        }
    }

    #[test]
    fn published_data_goes_through_byte_for_byte_but_for_line_breaks(json in any_json()) {
        let text = format!(r#"{{"op":"publish","topic":"a","data":{json}}}"#);
        let request = parsed::<Json>(ClientMessage::Text(&text), &WIDE).unwrap();
        let Op::Publish { event: new, .. } = request.op else { panic!("no publish") };
        let line = json.replace(['\r', '\n'], " ");
        prop_assert_eq!(new.data.json().get(), line);
    }

    #[test]
    fn any_event_is_the_object_of_the_api_with_op_and_annotations(event in any_event(), annotations in any_annotations()) {
        let ours = String::from_utf8(Json::event(&event, &annotations)).unwrap();
        let bare = String::from_utf8(crate::protocol::event_object(&event)).unwrap();
        let start = format!("{{\"op\":\"event\",{}", &bare[1..bare.len() - 1]);
        prop_assert!(ours.starts_with(&start), "{} {}", ours, start);
        prop_assert!(serde_json::from_str::<&RawValue>(&ours).is_ok());
        for (name, there) in [
            ("\"replay\":", annotations.replay.is_some()),
            ("\"snapshot\":true", annotations.snapshot),
            ("\"conflated\":true", annotations.conflated),
            ("\"skipped\":", annotations.skipped > 0),
        ] {
            prop_assert_eq!(ours[start.len()..].contains(name), there);
        }
    }
}

#[test]
fn the_two_modes_have_names() {
    assert_eq!(Mode::parse("all"), Ok(Mode::All));
    assert_eq!(Mode::parse("latest"), Ok(Mode::Latest));
}
