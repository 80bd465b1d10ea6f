//! What requests say in other words than ours, and mean the same: lists, media types, queries, null, byte
//! order marks, methods and claims.

mod support;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use support::http2::{Http2, whole};
use support::raw::{Raw, knock};
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, JWT_SECRET, TestServer, close, expect, token};
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
    for encoding in ["gzip", "gzip,", "identity, br", "identity;q=1"] {
        for path in ["/v1/topics/a/events", "/v1/events", "/v1/tickets", "/v1/revocations"] {
            let request = server.post(path).header("content-encoding", encoding).body("{}");
            assert_eq!(status(request).await, 415, "{encoding:?} to {path}");
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
        let topic = expect(topic, StatusCode::OK).await;
        assert_eq!(topic["latest"]["data"], data, "{kind}");
    }
    for kind in
        ["text/plain; charset=utf-16", "text/plain; charset=\"latin1\"", "json", "/", "a/ b"]
    {
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
        let refused = expect(response, StatusCode::BAD_REQUEST).await;
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
    let kept = expect(answer(kept).await, StatusCode::OK).await;
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
    let all = |mut told: Value| {
        for name in [
            "token", "topics", "since", "snapshot", "mode", "max_rate", "topic", "type",
            "encoding", "data",
        ] {
            if told.get(name).is_none() {
                told[name] = Value::Null;
            }
        }
        told
    };
    for (reference, told) in [
        json!({"op": "subscribe", "topics": ["a"]}),
        json!({"op": "publish", "topic": "a", "data": null}),
        json!({"op": "unsubscribe", "topics": ["a"]}),
        json!({"op": "auth", "token": API_KEY}),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = client.ask(reference as u64 + 1, all(told)).await;
        assert_eq!(answer["op"], "ack", "{answer}");
    }
    client.send(all(json!({"op": "ping", "ref": null}))).await;
    assert!(client.until("pong").await.get("ref").is_none());
    // What is none of them and not absent is told to be left out.
    for (reference, told) in [
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
        let answer = client.ask(reference as u64 + 20, told).await;
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
        expect(topic, StatusCode::OK).await["latest"]["data"].clone()
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
        let told = client.ask(1, auth).await;
        assert_eq!((&told["op"], &told["code"]), (&json!("error"), &json!("unauthorized")));
        assert!(told["message"].as_str().expect("text").contains("byte order mark"), "{told}");
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
    expect(answer(key(server.post("/v1/topics/a/events").body("1"))).await, StatusCode::CREATED)
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
    let ticket =
        expect(answer(key(server.post("/v1/tickets").json(&wanted))).await, StatusCode::CREATED);
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
