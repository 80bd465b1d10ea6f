//! What the broker says.

use super::*;

fn said(reply: Reply<'_>) -> String {
    String::from_utf8(Json::reply(&reply)).unwrap()
}

#[test]
fn each_reply_has_its_form() {
    let at = cursor("abcdefgh-1-7");
    for (reply, text) in [
        (
            Reply::Welcome { session: "s1", heartbeat: 25, retry_after_ms: 900, secret: None },
            concat!(
                r#"{"op":"welcome","session":"s1","heartbeat":25,"version":""#,
                env!("CARGO_PKG_VERSION"),
                r#""}"#
            ),
        ),
        (
            Reply::Ack { reference: Some(2), id: None, superseded: None, repeated: false },
            r#"{"op":"ack","ref":2}"#,
        ),
        (
            Reply::Ack { reference: Some(0), id: None, superseded: None, repeated: false },
            r#"{"op":"ack","ref":0}"#,
        ),
        (
            Reply::Ack { reference: None, id: Some(at), superseded: None, repeated: true },
            r#"{"op":"ack","id":"abcdefgh-1-7","repeated":true}"#,
        ),
        (
            Reply::Ack { reference: Some(4), id: Some(at), superseded: None, repeated: false },
            r#"{"op":"ack","ref":4,"id":"abcdefgh-1-7"}"#,
        ),
        (
            Reply::Error {
                reference: Some(2),
                code: Code::Forbidden,
                message: "not \"yours\"\n",
                event: None,
            },
            r#"{"op":"error","ref":2,"code":"forbidden","message":"not \"yours\"\n"}"#,
        ),
        (
            Reply::Error { reference: None, code: Code::InvalidJson, message: "no", event: None },
            r#"{"op":"error","code":"invalid_json","message":"no"}"#,
        ),
        (
            Reply::Gap { reference: Some(2), since: at, topics: &[] },
            r#"{"op":"gap","ref":2,"since":"abcdefgh-1-7"}"#,
        ),
        (
            Reply::Gap { reference: None, since: at, topics: &[] },
            r#"{"op":"gap","since":"abcdefgh-1-7"}"#,
        ),
        (
            Reply::Gap { reference: None, since: at, topics: &["a.b", "c"].map(topic) },
            r#"{"op":"gap","since":"abcdefgh-1-7","topics":["a.b","c"]}"#,
        ),
        (Reply::Cursor(at), r#"{"op":"cursor","cursor":"abcdefgh-1-7"}"#),
        (
            Reply::Live { reference: Some(0), cursor: at },
            r#"{"op":"live","ref":0,"cursor":"abcdefgh-1-7"}"#,
        ),
        (Reply::Pong { reference: Some(5) }, r#"{"op":"pong","ref":5}"#),
        (Reply::Pong { reference: None }, r#"{"op":"pong"}"#),
        (Reply::Heartbeat, r#"{"op":"heartbeat"}"#),
        (Reply::GoAway { within_ms: 1_500 }, r#"{"op":"goaway","within_ms":1500}"#),
        (
            Reply::Trouble(Trouble::Over),
            r#"{"op":"trouble","code":"over","message":"the broker can do its whole job again"}"#,
        ),
        (
            bye(Close::SlowConsumer, Some(1_234)),
            r#"{"op":"bye","code":"slow_consumer","message":"the client did not keep up","retry_after_ms":1234}"#,
        ),
        (
            bye(Close::Policy, None),
            r#"{"op":"bye","code":"policy","message":"the session was ended by the operator"}"#,
        ),
    ] {
        assert_eq!(said(reply), text);
    }
}

#[test]
fn an_event_has_its_members_in_order_and_then_its_marks() {
    let text = |event: &Event, annotations: &Annotations| {
        String::from_utf8(Json::event(event, annotations)).unwrap()
    };
    let full = event("{\"b\":1.10,\"a\":1}");
    assert_eq!(
        text(&full, &Annotations::default()),
        r#"{"op":"event","id":"abcdefgh-1-7","topic":"orders.eu.42","type":"created","time":"2023-11-14T22:13:20.007Z","data":{"b":1.10,"a":1}}"#
    );
    let annotations = Annotations { replay: Some(0), snapshot: true, conflated: true, skipped: 3 };
    assert_eq!(
        text(&full, &annotations),
        r#"{"op":"event","id":"abcdefgh-1-7","topic":"orders.eu.42","type":"created","time":"2023-11-14T22:13:20.007Z","data":{"b":1.10,"a":1},"replay":0,"snapshot":true,"conflated":true,"skipped":3}"#
    );
    let ephemeral =
        Event { cursor: None, kind: None, data: Data::from_binary(&[0, 255, 7]), ..full };
    assert_eq!(
        text(&ephemeral, &Annotations { replay: Some(2), ..Annotations::default() }),
        r#"{"op":"event","topic":"orders.eu.42","time":"2023-11-14T22:13:20.007Z","data":"AP8H","encoding":"base64","replay":2}"#
    );
}

#[test]
fn an_event_is_written_without_growing_the_buffer() {
    let long = event(&format!("\"{}\"", "x".repeat(10_000)));
    let annotations = Annotations { replay: Some(2), ..Annotations::default() };
    let bytes = Json::event(&long, &annotations);
    assert!(bytes.capacity() < bytes.len() + 192, "{} for {}", bytes.capacity(), bytes.len());
}
