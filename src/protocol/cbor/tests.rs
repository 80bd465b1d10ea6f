use super::*;
use crate::model::{Close, Trouble};
use crate::protocol::native;
use crate::protocol::samples::{
    LIMITS, WIDE, any_annotations, any_event, bye, cursor, event, parsed, topic,
};
use crate::protocol::{Op, Request};
use proptest::prelude::*;
use serde_json::Value as Json;

mod items;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn to_cbor(json: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write::json(&mut out, json);
    out
}

/// The JSON of one item, or why it has none.
fn to_json(item: &[u8]) -> Result<String, String> {
    let mut reader = Reader::new(item);
    let value = reader.value(64).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    match value.unfit {
        Some(unfit) => Err(unfit.to_owned()),
        None => Ok(value.json.get().to_owned()),
    }
}

/// A message of these JSON members, but with `data` (if any) as this item.
fn message(members: &str, data: Option<&[u8]>) -> Vec<u8> {
    let mut out = to_cbor(members);
    if let Some(data) = data {
        out[0] += 1;
        write::text(&mut out, "data");
        out.extend_from_slice(data);
    }
    out
}

fn parse(message: &[u8]) -> Result<Request, Refused> {
    parsed::<Cbor>(ClientMessage::Binary(message), &LIMITS)
}

fn published(data: &[u8]) -> Result<(String, bool), Refused> {
    let message = message(r#"{"op":"publish","ref":4,"topic":"a"}"#, Some(data));
    match parse(&message)?.op {
        Op::Publish { event: new, .. } => {
            Ok((new.data.json().get().to_owned(), new.data.is_base64()))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_means_what_it_means_as_json() {
    for json in [
        r#"{"op":"auth","ref":1,"token":"abc"}"#,
        r#"{"op":"subscribe","ref":2,"topics":["orders.>","a"],"since":"abcdefgh-1-7","snapshot":true,"max_rate":2.5}"#,
        r#"{"op":"subscribe","ref":2,"topics":["a"],"since":"-15m","last":50}"#,
        r#"{"op":"subscribe","ref":2,"topics":["a"],"tail":50}"#,
        r#"{"op":"unsubscribe","ref":3,"topics":["orders.>"]}"#,
        r#"{"op":"publish","ref":4,"topic":"chat.lobby","type":"message","data":{"a":[1,2.5,null]}}"#,
        r#"{"op":"publish","topic":"a","data":"AP8H","encoding":"base64"}"#,
        r#"{"op":"ping","ref":5}"#,
        r#"{"op":"ping","ref":5.0}"#,
        r#"{"op":"pong","ref":5}"#,
        r#"{"op":"ping","ref":5,"x":1}"#,
        r#"{"op":"subscribe","ref":5,"topics":[]}"#,
        r#"{"op":"subscribe","ref":5,"topics":["a","b","c","d","e"]}"#,
        r#"{"op":"publish","ref":4,"topic":"a","data":[[[[[[[[[1]]]]]]]]]}"#,
    ] {
        let ours = parse(&to_cbor(json));
        let theirs = parsed::<native::Json>(ClientMessage::Text(json), &LIMITS);
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{json}");
    }
}

#[test]
fn a_byte_string_is_binary_data() {
    assert_eq!(published(&bytes("4300ff07")).unwrap(), (r#""AP8H""#.to_owned(), true));
    assert_eq!(published(&bytes("5f4100 42ff07 ff")).unwrap(), (r#""AP8H""#.to_owned(), true));
    assert_eq!(published(&bytes("d64300ff07")).unwrap(), (r#""AP8H""#.to_owned(), true));
    assert_eq!(published(&bytes("d74300ff07")).unwrap(), (r#""00FF07""#.to_owned(), false));
    assert_eq!(published(&bytes("814300ff07")).unwrap(), (r#"["AP8H"]"#.to_owned(), false));
    assert_eq!(published(&bytes("6161")).unwrap(), (r#""a""#.to_owned(), false));
}

#[test]
fn a_refusal_carries_the_ref_and_the_right_code() {
    let code = |item: &str| {
        let refused = published(&bytes(item)).expect_err(item);
        assert_eq!(refused.reference, Some(4), "{item}");
        refused.problem.code
    };
    assert_eq!(code("f97e00"), Code::InvalidEvent);
    assert_eq!(code("81f7"), Code::InvalidEvent);
    assert_eq!(code("a10102"), Code::InvalidEvent);
    assert_eq!(code("61ff"), Code::InvalidEvent);
    assert_eq!(code("81818181818181818101"), Code::InvalidEvent);
    assert_eq!(code("5a7fffffff"), Code::InvalidJson);
    assert_eq!(code("0000"), Code::InvalidJson);
    let large = [vec![0x58, 200], vec![0; 200]].concat();
    assert_eq!(published(&large).unwrap_err().problem.code, Code::TooLarge);
    // Here `ref` comes last.
    let late = bytes("a3 646461746181f7 626f70677075626c697368 6372656605");
    let refused = parse(&late).unwrap_err();
    assert_eq!((refused.reference, refused.problem.code), (Some(5), Code::InvalidEvent));
}

#[test]
fn a_byte_string_is_no_name_and_no_text() {
    for (item, code) in [
        ("a1 626f70 4470696e67", Code::BadRequest),
        ("a1 426f70 6470696e67", Code::InvalidJson),
        ("a1 01 02", Code::InvalidJson),
        ("a1 61ff 02", Code::InvalidJson),
        ("a2 626f70 697375627363726962 65 66746f70696373 81 4161", Code::BadRequest),
        ("80", Code::InvalidJson),
        ("01", Code::InvalidJson),
        ("", Code::InvalidJson),
        ("a1 626f70 6470696e67 00", Code::InvalidJson),
        ("a2 626f70 6470696e67 626f70 6470696e67", Code::BadRequest),
    ] {
        let problem = parse(&bytes(item)).expect_err(item).problem;
        assert_eq!(problem.code, code, "{item}: {problem}");
    }
    let text = parsed::<Cbor>(ClientMessage::Text("{\"op\":\"ping\"}"), &LIMITS).unwrap_err();
    assert_eq!(text.problem.code, Code::BadRequest);
    let encoded =
        message(r#"{"op":"publish","topic":"a","encoding":"base64"}"#, Some(&bytes("4300ff07")));
    assert_eq!(parse(&encoded).unwrap_err().problem.code, Code::BadRequest);
}

#[test]
fn a_message_may_have_no_declared_length_and_say_that_it_is_cbor() {
    let item = bytes("d9d9f7 bf 626f70 7f 627069 626e67 ff 63726566 05 ff");
    assert_eq!(parse(&item).unwrap().reference, Some(5));
}

/// What another reader makes of a message, as JSON.
fn read_by_ciborium(message: &[u8]) -> Json {
    ciborium::from_reader::<ciborium::Value, _>(message).unwrap().deserialized().unwrap()
}

#[test]
fn each_reply_is_the_map_that_it_is_as_json() {
    let at = cursor("abcdefgh-1-7");
    for reply in [
        Reply::Welcome { session: "s1", heartbeat: 25, retry_after_ms: 900, secret: None },
        Reply::Ack { reference: Some(0), id: None, superseded: None, repeated: false },
        Reply::Ack {
            reference: Some(9_007_199_254_740_991),
            id: Some(at),
            superseded: None,
            repeated: false,
        },
        Reply::Error {
            reference: None,
            code: Code::Forbidden,
            message: "not \"yours\"\n",
            event: None,
        },
        Reply::Gap { reference: Some(2), since: at, topics: &[] },
        Reply::Gap { reference: None, since: at, topics: &["a.b", "c"].map(topic) },
        Reply::Cursor(at),
        Reply::Live { reference: Some(0), cursor: at },
        Reply::Pong { reference: None },
        Reply::Heartbeat,
        Reply::GoAway { within_ms: 1_500 },
        Reply::Trouble(Trouble::Unavailable),
        bye(Close::SlowConsumer, Some(1_234)),
    ] {
        let ours = read_by_ciborium(&Cbor::reply(&reply));
        let json = native::Json::reply(&reply);
        assert_eq!(ours, serde_json::from_slice::<Json>(&json).unwrap());
    }
    let ack = Reply::Ack { reference: Some(2), id: None, superseded: None, repeated: false };
    assert_eq!(hex(&Cbor::reply(&ack)), "a2626f706361636b6372656602");
}

#[test]
fn binary_data_goes_out_as_bytes_without_encoding() {
    let binary = Event { data: Data::from_binary(&[0, 255, 7]), ..event("0") };
    let message = Cbor::event(&binary, &Annotations::default());
    let value: ciborium::Value = ciborium::from_reader(&message[..]).unwrap();
    let members = value.as_map().unwrap();
    let names: Vec<_> = members.iter().filter_map(|(name, _)| name.as_text()).collect();
    assert_eq!(names, ["op", "id", "topic", "type", "time", "data"]);
    assert_eq!(members[5].1, ciborium::Value::Bytes(vec![0, 255, 7]));
}

fn any_item() -> impl Strategy<Value = ciborium::Value> {
    use ciborium::Value;
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| Value::Integer(number.into())),
        any::<u64>().prop_map(|number| Value::Integer(number.into())),
        any::<f64>().prop_map(Value::Float),
        any::<f32>().prop_map(|number| Value::Float(number.into())),
        any::<String>().prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(Value::Bytes),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
    ];
    leaf.prop_recursive(4, 48, 30, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..30).prop_map(Value::Array),
            prop::collection::vec(("[a-c]{0,2}".prop_map(Value::Text), inner.clone()), 0..30)
                .prop_map(Value::Map),
            (24..100_u64, inner).prop_map(|(tag, value)| Value::Tag(tag, Box::new(value))),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = to_json(&bytes);
        let _ = parse(&bytes);
        let _ = published(&bytes);
    }

    #[test]
    fn a_spoilt_message_is_judged_without_a_panic(
        item in any_item(),
        spoils in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut data = Vec::new();
        ciborium::into_writer(&item, &mut data).unwrap();
        let mut message = message(r#"{"op":"publish","ref":4,"topic":"a"}"#, Some(&data));
        for (index, byte) in spoils {
            *index.get_mut(&mut message) = byte;
        }
        let _ = parsed::<Cbor>(ClientMessage::Binary(&message), &WIDE);
    }

    #[test]
    fn any_event_is_the_map_that_it_is_as_json(event in any_event(), annotations in any_annotations()) {
        let message = Cbor::event(&event, &annotations);
        let json = native::Json::event(&event, &annotations);
        let mut expected = to_cbor(std::str::from_utf8(&json).unwrap());
        if let Some(data) = event.data.binary() {
            let as_text = to_cbor(&format!("\"data\" {} \"encoding\" \"base64\"", event.data.json()));
            let mut as_bytes = to_cbor("\"data\"");
            write::bytes(&mut as_bytes, &data);
            let at = expected.windows(as_text.len()).position(|part| part == as_text).unwrap();
            expected.splice(at..at + as_text.len(), as_bytes);
            expected[0] -= 1;
        }
        prop_assert_eq!(hex(&message), hex(&expected));
    }

    #[test]
    fn what_goes_out_can_be_published_again(event in any_event()) {
        let mut item = Outgoing::of("publish", 0);
        item.text("topic", "a");
        item.data(&event.data);
        let request = parsed::<Cbor>(ClientMessage::Binary(&item.finish()), &WIDE).unwrap();
        let Op::Publish { event: new, .. } = request.op else { panic!("no publish") };
        prop_assert_eq!(new.data.is_base64(), event.data.is_base64());
        prop_assert_eq!(new.data.binary(), event.data.binary());
    }
}

#[test]
fn of_two_members_of_one_name_a_map_has_the_last() {
    for (doubled, once) in [
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"a":1,"b":{"c":1,"d":[{"e":1}],"c" : 2}}"#, r#"{"a":1,"b":{"d":[{"e":1}],"c":2}}"#),
        (r#"{"a":[1,{"x":0}],"\u0061":2,"b":3,"a":"4"}"#, r#"{"b":3,"a":"4"}"#),
        (r#"{"":1,"x":{"":2,"":[3]},"":"y"}"#, r#"{"x":{"":[3]},"":"y"}"#),
        (
            r#"[{"a":"b","b":"a"},{"a":{"a":1},"b":"a"}]"#,
            r#"[{"a":"b","b":"a"},{"a":{"a":1},"b":"a"}]"#,
        ),
    ] {
        assert_eq!(hex(&to_cbor(doubled)), hex(&to_cbor(once)), "{doubled}");
    }
    // Of a message itself it is refused, as in JSON: {"op": "ping", "op": "ping"}.
    let doubled = bytes("a2 626f706470696e67 626f706470696e67");
    assert!(parse(&doubled).unwrap_err().problem.detail.contains("`op` is there twice"));
}
