//! What requests say in other words than ours, and mean the same: lists, media types, queries, null, byte
//! order marks, methods and claims.

mod support;

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use support::http2::{Http2, whole};
use support::raw::{Raw, knock};
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, JWT_SECRET, TestServer, close, expect_status, token};
use tokio_tungstenite::tungstenite::Message;

async fn answer(request: RequestBuilder) -> Response {
    request.send().await.expect("an answer")
}

async fn status(request: RequestBuilder) -> u16 {
    answer(request).await.status().as_u16()
}

#[tokio::test]
async fn empty_members_of_a_list_do_not_count_anywhere() {
    let server = TestServer::open();
    for protocols in ["", ",", "fanfare.v1,", ", ,fanfare.v1", "unspoken,, fanfare.v1"] {
        let headers = [("sec-websocket-protocol", protocols)];
        let request = format!(
            "GET /v1/ws HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket|\
             Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|\
             {}: {}||",
            headers[0].0, headers[0].1
        );
        let mut raw = Raw::connect(server.addr).await;
        raw.send(&request.replace('|', "\r\n")).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{protocols:?}: {head}");
    }
    for encoding in ["", "identity,", ", Identity", "identity, identity"] {
        for path in ["/v1/topics/a/events", "/v1/events"] {
            let request = server.post(path).header("content-encoding", encoding);
            let request = request.body(r#"{"topic":"a","data":1}"#);
            assert_eq!(status(request).await, 201, "{encoding:?} to {path}");
        }
    }
    for encoding in ["br", "identity, br", "identity;q=1", "gzip, gzip", "deflate"] {
        for path in TAKES_BODIES {
            let request = server.post(path).header("content-encoding", encoding).body("{}");
            let response = answer(request).await;
            assert_eq!(response.status(), 415, "{encoding:?} to {path}");
            assert_eq!(response.headers()["accept-encoding"], "gzip", "{encoding:?} to {path}");
        }
    }
    // Where the coding is not what is wrong, none is named (RFC 9110, section 15.5.16).
    let request = server.post("/v1/events").header("content-type", "image/png").body("{}");
    let response = answer(request).await;
    assert_eq!(response.status(), 415);
    assert!(!response.headers().contains_key("accept-encoding"));
}

/// The paths that take a body.
const TAKES_BODIES: [&str; 4] =
    ["/v1/topics/a/events", "/v1/events", "/v1/tickets", "/v1/revocations"];

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).expect("encoded");
    encoder.finish().expect("encoded")
}

#[tokio::test]
async fn a_body_in_gzip_is_the_body_that_it_was() {
    let server = TestServer::with(close);
    let post = |path: &str, coding: &str, body: Vec<u8>| {
        server.post(path).bearer_auth(API_KEY).header("content-encoding", coding).body(body)
    };
    for (path, body) in TAKES_BODIES.into_iter().zip([
        r#"{"topic":"a","data":1}"#,
        r#"{"topic":"a","data":1}"#,
        r#"{"user":"ada","session_seconds":60}"#,
        r#"{"user":"ada"}"#,
    ]) {
        for coding in ["gzip", "GZip", "x-gzip", " ,gzip, identity,"] {
            let status = status(post(path, coding, gzip(body.as_bytes()))).await;
            assert_eq!(status, 201, "{coding} to {path}");
        }
        for bad in [body.as_bytes().to_vec(), gzip(body.as_bytes())[..20].to_vec(), vec![0x1f]] {
            assert_eq!(status(post(path, "gzip", bad)).await, 400, "{path}");
        }
    }
    let latest = expect_status(
        answer(server.get("/v1/topics/a").bearer_auth(API_KEY)).await,
        StatusCode::OK,
    );
    assert_eq!(latest.await["latest"]["data"], 1, "of the batch, which came last");
    // A repeat is one, whichever way it comes.
    let keyed = |request: RequestBuilder| request.header("idempotency-key", "k");
    let first = keyed(post("/v1/topics/k/events", "gzip", gzip(b"[1]")));
    assert_eq!(status(first).await, 201);
    let again = keyed(server.post("/v1/topics/k/events").bearer_auth(API_KEY)).body("[1]");
    assert_eq!(status(again).await, 200);
    // No body is none.
    let token = token("bob", &["a"], &[], 60);
    let ticket = server.post("/v1/tickets").bearer_auth(token).header("content-encoding", "gzip");
    assert_eq!(status(ticket).await, 201);
}

#[tokio::test]
async fn a_bomb_is_too_large_and_costs_no_more_than_a_body_may() {
    let server = TestServer::with(|config| {
        close(config);
        config.limits.batch_bytes = 256 * 1024;
        config.limits.event_bytes = 64 * 1024;
        // A bomb that was kept would not fit.
        config.limits.bodies_bytes = 1024 * 1024;
        config.limits.bodies_bytes_per_address = 1024 * 1024;
    });
    let post = |path: &str, body: Vec<u8>| {
        let request = server.post(path).bearer_auth(API_KEY).header("content-encoding", "gzip");
        request.body(body)
    };
    let bomb = gzip(&vec![b' '; 64 << 20]);
    for path in TAKES_BODIES {
        let problem = support::problem(post(path, bomb.clone())).await;
        assert_eq!(problem, (413, "too_large".to_owned()), "{path}");
    }
    // Up to the limit it is taken, whatever it was before.
    let text = format!("\"{}\"", "x".repeat(64 * 1024 - 2));
    assert_eq!(status(post("/v1/topics/a/events", gzip(text.as_bytes()))).await, 201);
    let longer = format!("\"{}\"", "x".repeat(64 * 1024 - 1));
    assert_eq!(status(post("/v1/topics/a/events", gzip(longer.as_bytes()))).await, 413);
    let noise: Vec<u8> =
        (0_u64..64 * 1024).map(|n| ((n * n * 2_654_435_761) >> 17) as u8).collect();
    let event = post("/v1/topics/a/events", gzip(&noise[..48_000]));
    assert_eq!(status(event.header("content-type", "image/png")).await, 201, "it does not shrink");
}

#[tokio::test]
async fn text_in_latin_1_becomes_utf_8() {
    let server = TestServer::open();
    for label in ["iso-8859-1", "Latin1", "windows-1252", "l1", "cp1252", "ISO_8859-1:1987"] {
        for (kind, body, data) in [
            ("text/plain", &b"caf\xe9 \x80"[..], json!("caf\u{e9} \u{20ac}")),
            ("application/json", b"{\"a\":\"\xe9\"}", json!({"a": "\u{e9}"})),
            ("application/x-www-form-urlencoded", b"[\"\xfc\"]", json!(["\u{fc}"])),
        ] {
            let content_type = format!("{kind}; charset={label}");
            let post = server.post("/v1/topics/a/events").header("content-type", content_type);
            assert_eq!(status(post.body(body)).await, 201, "{kind} {label}");
            let topic = answer(server.get("/v1/topics/a")).await;
            assert_eq!(
                expect_status(topic, StatusCode::OK).await["latest"]["data"],
                data,
                "{kind} {label}"
            );
        }
        let batch = server
            .post("/v1/events")
            .header("content-type", format!("application/json; charset={label}"))
            .body(&b"{\"topic\":\"b\",\"data\":\"\xe4\"}"[..]);
        assert_eq!(status(batch).await, 201, "{label}");
        let ticket = server
            .post("/v1/tickets")
            .header("content-type", format!("application/json; charset={label}"))
            .body(&b"{\"user\":\"J\xfcrgen\"}"[..]);
        assert_eq!(status(ticket).await, 201, "{label}");
    }
    // It grows as it becomes UTF-8, and the limit is that of what is stored.
    let post = server.post("/v1/topics/a/events").header("content-type", "text/plain; charset=l1");
    assert_eq!(status(post.body(vec![0xe9; 40_000])).await, 413);
}

#[tokio::test]
async fn a_number_is_the_same_however_it_is_written() {
    let server = TestServer::with(close);
    let post = |path: &str, body: String| {
        let request = server.post(path).bearer_auth(API_KEY);
        request.header("content-type", "application/json").body(body)
    };
    for seconds in ["60", "60.0", "6e1", "6.0E+1", "600e-1"] {
        let body = format!("{{\"user\":\"ada\",\"session_seconds\":{seconds}}}");
        assert_eq!(status(post("/v1/tickets", body)).await, 201, "{seconds}");
        let path = format!("/v1/topics?limit={}", seconds.replace('+', "%2B"));
        assert_eq!(status(server.get(&path).bearer_auth(API_KEY)).await, 200, "{seconds}");
    }
    for seconds in ["0", "1.5", "-1", "1e400", "\"60\"", "[60]", "true"] {
        let body = format!("{{\"user\":\"ada\",\"session_seconds\":{seconds}}}");
        let refused =
            expect_status(answer(post("/v1/tickets", body)).await, StatusCode::BAD_REQUEST).await;
        let detail = refused["detail"].as_str().expect("a detail");
        assert!(detail.contains("`session_seconds` must be a whole number from 1"), "{detail}");
    }
    let mut client = WsClient::connect(&server, &format!("?access_token={API_KEY}")).await;
    for reference in ["7", "7.0", "0.7e1"] {
        client.send_text(&format!("{{\"op\":\"ping\",\"ref\":{reference}}}")).await;
        assert_eq!(client.until("pong").await["ref"], 7, "{reference}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_said_by_the_name_of_its_member() {
    let server = TestServer::open();
    for (path, body, expected) in [
        ("/v1/tickets", r#"{"user":7}"#, "`user` must be a string"),
        ("/v1/tickets", r#"{}"#, "`user` is missing"),
        ("/v1/tickets", r#"{"user":"a","user":"b"}"#, "`user` is there twice"),
        ("/v1/tickets", r#"{"user":"a","ttl":1}"#, "\"ttl\" is not known"),
        ("/v1/tickets", r#"{"user":"a","subscribe":"b"}"#, "`subscribe` must be an array"),
        ("/v1/tickets", r#"{"user":"a","subscribe":["b",1]}"#, "`subscribe` must be an array"),
        ("/v1/tickets", r#"["a"]"#, "the body must be an object"),
        ("/v1/tickets", r#"{"user":"#, "the body is not JSON"),
        ("/v1/revocations", r#"{"user":["a"]}"#, "`user` must be a string"),
        ("/v1/revocations", r#"{"users":"a"}"#, "\"users\" is not known"),
        ("/v1/revocations", r#"{"user":"a","token":"b"}"#, "one of the three"),
        ("/v1/revocations", r#"{}"#, "one of the three"),
        ("/v1/events", r#"{"topic":7,"data":1}"#, "`topic` must be a string"),
        ("/v1/events", r#"{"events":[{"topic":"a","type":7,"data":1}]}"#, "events[0]: `type` must"),
    ] {
        let request = server.post(path).header("content-type", "application/json").body(body);
        let response = answer(request).await;
        assert!([400, 422].contains(&response.status().as_u16()), "{path} {body}");
        let refused: Value = response.json().await.expect("JSON");
        let detail = refused["detail"].as_str().expect("a detail");
        assert!(detail.contains(expected), "{path} {body}: {detail}");
        for word in ["u64", "i64", "f64", "struct", "sequence", "invalid type"] {
            assert!(!detail.contains(word), "{path} {body}: {detail}");
        }
    }
}

#[tokio::test]
async fn a_publisher_is_told_what_its_data_became_where_it_was_not_taken_for_json() {
    let server = TestServer::open();
    for (kind, body, expected) in [
        (Some("application/json"), r#"{"a":1}"#, Value::Null),
        (None, r#"{"a":1}"#, Value::Null),
        (Some("application/x-www-form-urlencoded"), "[1]", Value::Null),
        (None, r#"{"a":1"#, json!("text")),
        (Some("application/x-www-form-urlencoded"), "{'a':1}", json!("text")),
        (Some("text/plain;charset=UTF-8"), r#"{"a":1}"#, json!("text")),
        (Some("text/plain"), "hello", json!("text")),
        (Some("application/octet-stream"), r#"{"a":1}"#, json!("base64")),
        (Some("application/x-ndjson"), r#"{"a":1}"#, json!("base64")),
    ] {
        for key in ["k", "k"] {
            let mut post = server.post("/v1/topics/a/events");
            if let Some(kind) = kind {
                post = post.header("content-type", kind);
            }
            let key = format!("{key} {kind:?} {body}").replace([' ', '"'], "-");
            let response = answer(post.header("idempotency-key", key).body(body)).await;
            let receipt: Value = response.json().await.expect("JSON");
            assert_eq!(receipt["stored_as"], expected, "{kind:?} {body}");
        }
    }
}

#[tokio::test]
async fn media_types_are_read_as_such() {
    let server = TestServer::open();
    let post = |path: &str, kind: &str, body: &'static [u8]| {
        server.post(path).header("content-type", kind).body(body)
    };
    for (kind, data) in [
        ("application/json;charset=utf8", json!([1])),
        ("application/json; charset=UTF8", json!([1])),
        ("Application/JSON ; Charset=\"utf-8\"", json!([1])),
        ("application/json; charset=unicode-1-1-utf-8;", json!([1])),
        ("application/json;;charset=x-unicode20utf8", json!([1])),
        ("application/json; utf-8", json!([1])),
        ("application/json; note=\"a;charset=latin1\"; v=1", json!([1])),
        ("application/json; note=\"\\\";charset=latin1\"", json!([1])),
        ("application/cloudevents+json; charset=utf-8", json!([1])),
        ("TEXT/PLAIN;CHARSET=UTF8", json!("[1]")),
        ("text/plain; charset=ascii", json!("[1]")),
        ("text/x.y-z!#$&^_+a; charset=utf-8", json!("[1]")),
        ("image/png; charset=latin1", json!("WzFd")),
    ] {
        let response = answer(post("/v1/topics/a/events", kind, b"[1]")).await;
        assert_eq!(response.status(), 201, "{kind}: {:?}", response.text().await);
        let topic = answer(server.get("/v1/topics/a")).await;
        let topic = expect_status(topic, StatusCode::OK).await;
        assert_eq!(topic["latest"]["data"], data, "{kind}");
    }
    for kind in ["text/plain; charset=utf-16", "text/plain; charset=koi8-r", "json", "/", "a/ b"] {
        assert_eq!(status(post("/v1/topics/a/events", kind, b"[1]")).await, 415, "{kind}");
    }
    for kind in ["application/json; charset=utf8", "Application/JSON", "application/vnd.a+json"] {
        let body = br#"{"user":"ada"}"#;
        assert_eq!(status(post("/v1/tickets", kind, body)).await, 201, "{kind}");
        assert_eq!(status(post("/v1/revocations", kind, body)).await, 201, "{kind}");
    }
    assert_eq!(status(post("/v1/tickets", "text/plain", b"{\"user\":\"a\"}")).await, 415);
}

#[tokio::test]
async fn who_takes_an_event_stream_is_told_so_in_one_however_it_says_it() {
    let server = TestServer::with(|config| {
        close(config);
        config.limits.connections_per_user = 1;
    });
    let query = format!("?topic=a&access_token={}", token("ada", &["a"], &[], 60));
    let _only = SseClient::connect(&server, &query, &[]).await;
    for (accept, expected) in [
        ("text/event-stream", 200),
        ("TEXT/Event-Stream", 200),
        ("text/html, text/event-stream;q=0.1", 200),
        ("text/event-stream ; charset=utf-8", 200),
        (", text/event-stream,", 200),
        ("text/event-stream;q=0", 503),
        ("text/event-stream; Q=0.000, */*", 503),
        ("text/event-stream-not", 503),
        ("a/b;c=\"text/event-stream\"", 503),
        ("*/*", 503),
    ] {
        let stream = answer(server.get(&format!("/v1/sse{query}")).header("accept", accept)).await;
        assert_eq!(stream.status(), expected, "{accept}");
    }
}

#[tokio::test]
async fn what_polyfills_put_into_the_url_is_read_as_the_header_is() {
    let server = TestServer::open();
    let first = server.publish("a", &json!(1)).await["id"].as_str().expect("an id").to_owned();
    server.publish("a", &json!(2)).await;
    for query in [
        format!("?topic=a&lastEventId={first}"),
        format!("?topic=a&Last-Event-ID={first}&_=1711111111111"),
        format!("?topic=a&last-event-id={first}&since=&_=1&_=2"),
        format!("?topic=a&since={first}&lastEventId="),
        format!("?topic=a&since=nonsense&lastEventId={first}"),
    ] {
        let mut stream = SseClient::connect(&server, &query, &[]).await;
        assert_eq!(stream.next().await.expect("an event").json()["data"], 2, "{query}");
    }
    // What the browser says itself is the newer.
    let headers = [("last-event-id", first.as_str())];
    let query = "?topic=a&lastEventId=nonsense&since=nonsense";
    let mut stream = SseClient::connect(&server, query, &headers).await;
    assert_eq!(stream.next().await.expect("an event").json()["data"], 2);
    let mut client = WsClient::connect(&server, "?topic=a&since=&_=1").await;
    client.until("live").await;
    for path in
        ["/v1/topics?_=1", "/v1/topics/a?_=1", "/v1/topics/a/events?since=&_=x", "/v1/sessions?_"]
    {
        assert_eq!(status(server.get(path)).await, 200, "{path}");
    }
    // What is meant otherwise is told what to write.
    for (query, word) in
        [("token=x", "access_token"), ("topics=a", "topic"), ("last_id=x", "since")]
    {
        let response = answer(server.get(&format!("/v1/sse?topic=a&{query}"))).await;
        let refused = expect_status(response, StatusCode::BAD_REQUEST).await;
        assert!(refused["detail"].as_str().expect("text").contains(word), "{refused}");
    }
}

#[tokio::test]
async fn null_is_a_member_that_is_absent_everywhere_but_in_data() {
    let server = TestServer::with(close);
    let post = |path: &str, body: &Value| server.post(path).bearer_auth(API_KEY).json(body);
    for body in [
        json!({"topic": "a", "data": null, "type": null, "encoding": null, "events": null}),
        json!({"events": [{"topic": "a", "data": null, "type": null, "encoding": null}],
            "topic": null, "data": null, "type": null, "encoding": null}),
    ] {
        assert_eq!(status(post("/v1/events", &body)).await, 201, "{body}");
    }
    let kept = server.get("/v1/topics/a/events").bearer_auth(API_KEY);
    let kept = expect_status(answer(kept).await, StatusCode::OK).await;
    assert_eq!(kept["events"].as_array().expect("events").len(), 2);
    assert!(kept["events"][1]["data"].is_null() && kept["events"][1].get("type").is_none());
    let ticket =
        json!({"user": "ada", "subscribe": null, "publish": null, "session_seconds": null});
    assert_eq!(status(post("/v1/tickets", &ticket)).await, 201);
    let revoked = json!({"user": "ada", "token": null, "session": null});
    assert_eq!(status(post("/v1/revocations", &revoked)).await, 201);
    for (path, body) in [
        ("/v1/events", json!({"topic": null, "data": 1})),
        ("/v1/events", json!({"topic": "a", "data": 1, "sinse": null})),
        ("/v1/tickets", json!({"user": null})),
        ("/v1/revocations", json!({"user": null})),
        ("/v1/revocations", json!({"user": "a", "token": "b"})),
    ] {
        let refused = status(post(path, &body)).await;
        assert!([400, 422].contains(&refused), "{path} {body}: {refused}");
    }
    let mut client = WsClient::connect(&server, &format!("?access_token={API_KEY}")).await;
    let all = |mut request: Value| {
        for name in [
            "token", "topics", "since", "snapshot", "mode", "max_rate", "topic", "type",
            "encoding", "data",
        ] {
            if request.get(name).is_none() {
                request[name] = Value::Null;
            }
        }
        request
    };
    for (reference, request) in [
        json!({"op": "subscribe", "topics": ["a"]}),
        json!({"op": "publish", "topic": "a", "data": null}),
        json!({"op": "unsubscribe", "topics": ["a"]}),
        json!({"op": "auth", "token": API_KEY}),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = client.ask(reference as u64 + 1, all(request)).await;
        assert_eq!(answer["op"], "ack", "{answer}");
    }
    client.send(all(json!({"op": "ping", "ref": null}))).await;
    assert!(client.until("pong").await.get("ref").is_none());
    // What is none of them and not absent is told to be left out.
    for (reference, request) in [
        json!({"op": "subscribe", "topics": ["a"], "since": ""}),
        json!({"op": "subscribe", "topics": ["a"], "mode": ""}),
        json!({"op": "subscribe", "topics": ["a"], "max_rate": 0}),
        json!({"op": "subscribe", "topics": ["a"], "snapshot": 0}),
        json!({"op": "publish", "topic": "a", "data": 1, "type": ""}),
        json!({"op": "publish", "topic": "a", "data": 1, "encoding": ""}),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = client.ask(reference as u64 + 20, request).await;
        let said = answer["message"].as_str().expect("an error");
        assert!(said.contains("leave it out"), "{said}");
    }
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped_before_json_and_named_before_a_credential() {
    let server = TestServer::with(close);
    let post = |path: &str, kind: &str, body: &str| {
        let request = server.post(path).bearer_auth(API_KEY).header("content-type", kind);
        request.body(format!("\u{feff}{body}"))
    };
    let newest = async || {
        let topic = answer(server.get("/v1/topics/a").bearer_auth(API_KEY)).await;
        expect_status(topic, StatusCode::OK).await["latest"]["data"].clone()
    };
    for (kind, body, data) in [
        ("application/json", "[1]", json!([1])),
        ("application/x-www-form-urlencoded", "[2]", json!([2])),
        ("application/x-www-form-urlencoded", "it's", json!("it's")),
    ] {
        assert_eq!(status(post("/v1/topics/a/events", kind, body)).await, 201, "{kind}");
        assert_eq!(newest().await, data, "{kind}");
    }
    let event = r#"{"topic":"a","data":3}"#;
    assert_eq!(status(post("/v1/events", "application/json", event)).await, 201);
    let lines = format!("{event}\n\u{feff}{event}");
    assert_eq!(status(post("/v1/events", "application/x-ndjson", &lines)).await, 201);
    assert_eq!(status(post("/v1/tickets", "application/json", r#"{"user":"ada"}"#)).await, 201);
    assert_eq!(status(post("/v1/revocations", "application/json", r#"{"user":"ada"}"#)).await, 201);
    let mut client = WsClient::connect(&server, "").await;
    for credential in [API_KEY.to_owned(), token("bob", &["a"], &[], 60)] {
        let auth = json!({"op": "auth", "token": format!("\u{feff}{credential}"), "ref": 1});
        let answer = client.ask(1, auth).await;
        assert_eq!((&answer["op"], &answer["code"]), (&json!("error"), &json!("unauthorized")));
        assert!(answer["message"].as_str().expect("text").contains("byte order mark"), "{answer}");
    }
    let auth = json!({"op": "auth", "token": API_KEY, "ref": 2}).to_string();
    client.send_text(&format!("\u{feff}{auth}")).await;
    assert_eq!(client.until("ack").await["ref"], 2);
    let ping = "\u{feff}{\"op\":\"ping\",\"ref\":3}".as_bytes().to_vec();
    futures_util::SinkExt::send(&mut client.socket, Message::binary(ping)).await.expect("sent");
    assert_eq!(client.until("pong").await["ref"], 3);
}

#[tokio::test]
async fn head_is_answered_as_get_is_without_a_body_and_opens_no_session() {
    let server = TestServer::with(|config| {
        close(config);
        config.rules.default.presence = true;
    });
    let key = |request: RequestBuilder| request.bearer_auth(API_KEY);
    expect_status(
        answer(key(server.post("/v1/topics/a/events").body("1"))).await,
        StatusCode::CREATED,
    )
    .await;
    for path in [
        "/v1/topics",
        "/v1/topics/a",
        "/v1/topics/a/events",
        "/v1/topics/a/presence",
        "/v1/topics/a..b",
        "/v1/topics?nonsense",
        "/v1/sessions",
        "/v1/revocations",
        "/v1/ws",
        "/metrics",
        "/health/ready",
        "/docs",
        "/",
        "/nowhere",
    ] {
        let get = answer(key(server.get(path))).await;
        let head = answer(key(server.http.head(server.url(path)))).await;
        assert_eq!(head.status(), get.status(), "{path}");
        let named = |response: &Response, name: &str| response.headers().get(name).cloned();
        for name in ["content-type", "cache-control"] {
            assert_eq!(named(&head, name), named(&get, name), "{name} of {path}");
        }
        if path != "/metrics" {
            assert_eq!(named(&head, "content-length"), named(&get, "content-length"), "{path}");
        }
        assert_eq!(head.text().await.expect("no body"), "", "{path}");
    }
    let refused = server.http.head(server.url("/v1/topics/a"));
    assert_eq!(status(refused).await, 401);
    // An event stream.
    let wanted = json!({"user": "ada", "subscribe": ["a.>"]});
    let ticket = expect_status(
        answer(key(server.post("/v1/tickets").json(&wanted))).await,
        StatusCode::CREATED,
    );
    let ticket = ticket.await["ticket"].as_str().expect("a ticket").to_owned();
    let asked = format!(
        "HEAD /v1/sse?topic=a HTTP/1.1|Host: a|Authorization: Bearer {API_KEY}||\
         HEAD /v1/sse?topic=a.x&ticket={ticket} HTTP/1.1|Host: a||\
         HEAD /v1/sse?topic=a HTTP/1.1|Host: a||\
         GET /v1/sessions HTTP/1.1|Host: a|Authorization: Bearer {API_KEY}|Connection: close||"
    );
    let (_, text) = knock(server.addr, &asked).await;
    let statuses: Vec<_> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "401", "200"], "{text}");
    assert!(text.contains("text/event-stream"), "{text}");
    assert!(text.ends_with("{\"sessions\":[]}"), "{text}");
    WsClient::connect(&server, &format!("?topic=a.x&ticket={ticket}")).await;
}

#[tokio::test]
async fn head_and_options_of_everything_are_answered_over_http2_as_well() {
    let server = TestServer::encrypted(|_| {});
    let http = Http2::connect(&server).await;
    for path in ["/v1/topics", "/v1/sse?topic=a"] {
        let answer = whole(http.ask(Method::HEAD, path, &[])).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
    }
    let plain = TestServer::open();
    let (status, text) = knock(plain.addr, "OPTIONS * HTTP/1.1|Host: a|Connection: close||").await;
    assert_eq!(status, 204, "{text}");
    assert!(text.contains("allow: GET, HEAD, POST, DELETE, OPTIONS"), "{text}");
    let (status, text) = knock(plain.addr, "GET * HTTP/1.1|Host: a|Connection: close||").await;
    assert_eq!(status, 404, "{text}");
}

#[tokio::test]
async fn a_refused_upgrade_by_head_says_nothing_behind_its_head() {
    let server = TestServer::open();
    let request = "HEAD /v1/ws HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket|\
                   Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||";
    let (status, text) = knock(server.addr, request).await;
    assert_eq!(status, 426);
    assert!(text.ends_with("\r\n\r\n"), "{text}");
}

#[tokio::test]
async fn a_claim_that_is_wrong_is_named_and_never_repeated() {
    let server = TestServer::closed();
    let ask = async |changes: &[(&str, Value)]| {
        let grants = json!({"subscribe": ["a"]});
        let mut claims = json!({"sub": "ada", "exp": 4_000_000_000_u64, "fanfare": grants});
        for (name, value) in changes {
            match name.strip_prefix("fanfare.") {
                Some(name) => claims["fanfare"][name] = value.clone(),
                None => claims[name] = value.clone(),
            }
        }
        let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET);
        let header = jsonwebtoken::Header::default();
        let token = jsonwebtoken::encode(&header, &claims, &key).expect("a token");
        let response = answer(server.get("/v1/topics/a").bearer_auth(token)).await;
        let status = response.status().as_u16();
        let body: Value = response.json().await.expect("JSON");
        (status, body["detail"].as_str().unwrap_or_default().to_owned())
    };
    for (claim, value, named) in [
        ("sub", json!(4711), "`sub` must be a string"),
        ("sub", Value::Null, "`sub` is missing"),
        ("exp", json!("4711"), "`exp` must be a number"),
        ("exp", json!([4711]), "`exp` must be a number"),
        ("exp", Value::Null, "`exp` is missing"),
        ("exp", json!(-4711), "`exp`"),
        ("nbf", json!({"4711": 1}), "`nbf` must be a number"),
        ("nbf", json!(4_000_000_000_u64), "`nbf`"),
        ("iat", json!("4711"), "`iat` must be a number"),
        ("jti", json!(4711), "`jti` must be a string"),
        ("fanfare", json!("4711"), "`fanfare` must be an object"),
        ("fanfare.subscribe", json!("4711"), "`fanfare.subscribe` must be an array"),
        ("fanfare.publish", json!([4711]), "`fanfare.publish` must be an array"),
        ("fanfare.publishes", json!(["4711"]), "`fanfare.publishes` is not known"),
    ] {
        let (status, detail) = ask(&[(claim, value)]).await;
        assert_eq!(status, 401, "{named}: {detail}");
        assert!(detail.contains(named) && !detail.contains("4711"), "{named}: {detail}");
    }
    for changes in [
        &[("exp", json!(4_000_000_000.5)), ("nbf", json!(1.5)), ("iat", json!(1.7e9))][..],
        &["nbf", "iat", "jti", "fanfare.publish"].map(|claim| (claim, Value::Null)),
    ] {
        assert_eq!(ask(changes).await, (200, String::new()), "{changes:?}");
    }
}
