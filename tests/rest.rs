//! The REST paths: publishing, reading back, sessions, and every refusal.

mod support;

use std::io::Read;
use std::time::Duration;

use fanfare::config::{Config, Rule, Who};
use fanfare::model::Pattern;
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::sse::SseClient;
use support::ws::WsClient;
use support::{TestServer, eventually, expect_status, problem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn rule(config: &mut Config, pattern: &str, change: impl FnOnce(&mut Rule)) {
    let mut rule = config.rules.default.clone();
    rule.pattern = Pattern::parse(pattern).expect("a pattern");
    change(&mut rule);
    config.rules.listed.push(rule);
}

async fn json_of(server: &TestServer, path: &str) -> Value {
    expect_status(server.get(path).send().await.expect("an answer"), StatusCode::OK).await
}

#[tokio::test]
async fn a_body_becomes_data_as_its_media_type_says_and_keeps_its_bytes() {
    let server = TestServer::open();
    for (content_type, body, stored) in [
        (
            Some("application/json"),
            &br#"{"b":1.10,"a":12345678901234567890.5,"b":2}"#[..],
            r#""data":{"b":1.10,"a":12345678901234567890.5,"b":2}"#,
        ),
        (Some("application/vnd.x+json"), b"[1,\r\n2]", r#""data":[1,  2]"#),
        (Some("application/x-www-form-urlencoded"), b"{\"a\":1}", r#""data":{"a":1}"#),
        (Some("application/x-www-form-urlencoded"), b"a=1&b", r#""data":"a=1&b""#),
        (None, b"42", r#""data":42"#),
        (None, b"forty-two", r#""data":"forty-two""#),
        (Some("text/plain"), b"42\n", r#""data":"42\n""#),
        (Some("image/png"), b"\x89PNG", r#""data":"iVBORw==","encoding":"base64""#),
    ] {
        let mut request = server.post("/v1/topics/a/events").body(body.to_vec());
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        expect_status(request.send().await.expect("an answer"), StatusCode::CREATED).await;
        let topic = server.get("/v1/topics/a").send().await.expect("an answer");
        let text = topic.text().await.expect("text");
        assert!(text.contains(stored), "{content_type:?}: {text}");
    }
    let typed = server.post("/v1/topics/a/events").header("x-event-type", "order.created");
    expect_status(typed.body("1").send().await.expect("an answer"), StatusCode::CREATED).await;
    assert_eq!(json_of(&server, "/v1/topics/a").await["latest"]["type"], "order.created");
}

#[tokio::test]
async fn a_batch_is_stored_whole_and_in_order_or_not_at_all() {
    let server = TestServer::open();
    let lines = "{\"topic\":\"b\",\"data\":1}\n\n{\"topic\":\"c\",\"type\":\"t\",\"data\":2}\n";
    let request = server.post("/v1/events").header("content-type", "application/x-ndjson");
    let receipt = request.body(lines).send().await.expect("an answer");
    let receipt = expect_status(receipt, StatusCode::CREATED).await;
    assert_eq!(receipt["events"][1]["topic"], "c");
    let single = server.post("/v1/events").json(&json!({"topic": "b", "data": 3}));
    expect_status(single.send().await.expect("an answer"), StatusCode::CREATED).await;
    let bad = json!({"events": [{"topic": "b", "data": 4}, {"topic": "b..", "data": 5}]});
    let refused = problem(server.post("/v1/events").json(&bad)).await;
    assert_eq!(refused, (422, "invalid_topic".to_owned()));
    let events = json_of(&server, "/v1/topics/b/events").await;
    let data: Vec<_> =
        events["events"].as_array().expect("a list").iter().map(|e| &e["data"]).collect();
    assert_eq!(data, [1, 3]);
}

#[tokio::test]
async fn history_is_read_page_by_page_and_says_where_something_is_gone() {
    let server = TestServer::with(|config| rule(config, "short", |rule| rule.max_events = 2));
    let ids =
        server.publish_all(&(0..5).map(|n| ("a".to_owned(), json!(n))).collect::<Vec<_>>()).await;
    let mut read = Vec::new();
    let mut path = "/v1/topics/a/events?limit=2".to_owned();
    loop {
        let page = json_of(&server, &path).await;
        let events = page["events"].as_array().expect("a list");
        assert_eq!(page["gap"], false);
        if events.is_empty() {
            break;
        }
        read.extend(events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()));
        path =
            format!("/v1/topics/a/events?limit=2&since={}", page["next"].as_str().expect("next"));
    }
    assert_eq!(read, ids);

    let shorts = (0..4).map(|n| ("short".to_owned(), json!(n))).collect::<Vec<_>>();
    let shorts = server.publish_all(&shorts).await;
    for (since, gap, left) in
        [(&shorts[0], true, 2), (&shorts[1], false, 2), (&shorts[3], false, 0)]
    {
        let page = json_of(&server, &format!("/v1/topics/short/events?since={since}")).await;
        assert_eq!(
            (&page["gap"], page["events"].as_array().expect("a list").len()),
            (&json!(gap), left)
        );
    }
    let foreign = json_of(&server, "/v1/topics/a/events?since=zzzzzzzz-1-3").await;
    assert_eq!(
        (&foreign["gap"], foreign["events"].as_array().expect("a list").len()),
        (&json!(true), 5)
    );
    let future = ids[0].replace("-1-1", "-1-999999");
    assert_eq!(json_of(&server, &format!("/v1/topics/a/events?since={future}")).await["gap"], true);

    let removed = server.delete("/v1/topics/a/events").send().await.expect("an answer");
    assert_eq!(expect_status(removed, StatusCode::OK).await, json!({"removed": 5}));
    let page = json_of(&server, &format!("/v1/topics/a/events?since={}", ids[3])).await;
    assert_eq!((&page["gap"], &page["events"]), (&json!(true), &json!([])));
    let page = json_of(&server, &format!("/v1/topics/a/events?since={}", ids[4])).await;
    assert_eq!(page["gap"], false);
}

#[tokio::test]
async fn topics_are_listed_with_their_subscribers_and_events() {
    let server = TestServer::open();
    let unused = json_of(&server, "/v1/topics/nobody.was.here").await;
    assert_eq!(unused, json!({"topic": "nobody.was.here", "subscribers": 0, "retained": 0}));
    server.publish("t.kept", &json!(1)).await;
    server.publish("odd%2Fone%2525", &json!(1)).await;
    let _ws = WsClient::live(&server, "?topic=t.kept&topic=t.quiet").await;
    let _sse = SseClient::live(&server, "?topic=t.*").await;
    let kept = json_of(&server, "/v1/topics/t.kept").await;
    assert_eq!(
        (&kept["subscribers"], &kept["retained"], &kept["latest"]["data"]),
        (&json!(2), &json!(1), &json!(1))
    );
    let mut all = json_of(&server, "/v1/topics").await;
    let listed = all["topics"].as_array_mut().expect("topics");
    let times = listed.iter_mut().map(|topic| topic.as_object_mut()?.remove("latest_time"));
    let are_dated: Vec<_> = times.map(|time| time.is_some()).collect();
    assert_eq!(are_dated, [true, true, false], "those with events");
    assert_eq!(
        all["topics"],
        json!([
            {"topic": "odd/one%25", "subscribers": 0, "retained": 1},
            {"topic": "t.kept", "subscribers": 2, "retained": 1},
            {"topic": "t.quiet", "subscribers": 2, "retained": 0},
        ])
    );
    let page = json_of(&server, "/v1/topics?match=t.*&limit=1").await;
    assert_eq!((&page["topics"][0]["topic"], &page["next"]), (&json!("t.kept"), &json!("t.kept")));
    let page = json_of(&server, "/v1/topics?match=t.*&after=t.kept").await;
    assert_eq!(page["topics"][0]["topic"], "t.quiet");
    assert!(page.get("next").is_none());
}

#[tokio::test]
async fn presence_is_told_where_the_rule_has_it_on() {
    let server = TestServer::with(|config| rule(config, "room.*", |rule| rule.presence = true));
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(WsClient::live(&server, "?topic=room.*").await);
    }
    let first = json_of(&server, "/v1/topics/room.a/presence?limit=2").await;
    let next = first["next"].as_str().expect("there is more");
    let rest = json_of(&server, &format!("/v1/topics/room.a/presence?limit=2&after={next}")).await;
    let members = |page: &Value| -> Vec<String> {
        let members = page["members"].as_array().expect("members").iter();
        members.map(|member| member["session"].as_str().expect("an id").to_owned()).collect()
    };
    let mut seen = [members(&first), members(&rest)].concat();
    seen.sort();
    let mut sessions: Vec<_> = clients.iter().map(|client| client.session.clone()).collect();
    sessions.sort();
    assert_eq!(seen, sessions);
    assert!(rest.get("next").is_none());
    let off = server.get("/v1/topics/elsewhere/presence").send().await.expect("an answer");
    assert_eq!(off.status(), 404);
    let off: Value = off.json().await.expect("a problem");
    assert_eq!((&off["code"], &off["setting"]), (&json!("not_found"), &json!("topics.presence")));
}

#[tokio::test]
async fn sessions_are_seen_and_ended() {
    let server = TestServer::open();
    let mut client = WsClient::live(&server, "?topic=b&topic=a").await;
    let sessions = json_of(&server, "/v1/sessions").await;
    let session = &sessions["sessions"][0];
    assert_eq!(session["session"], client.session);
    assert_eq!(session["transport"], "websocket");
    assert_eq!(session["subscriptions"], json!(["a", "b"]));
    assert_eq!(session["address"], "127.0.0.1");
    assert_eq!(json_of(&server, "/v1/sessions?user=ada").await["sessions"], json!([]));
    let path = format!("/v1/sessions/{}", client.session);
    assert_eq!(server.delete(&path).send().await.expect("an answer").status(), 204);
    assert_eq!(client.closed().await.1, Some(1008));
    eventually("it is gone", async || problem_code(&server, &path).await == "not_found").await;
}

async fn problem_code(server: &TestServer, path: &str) -> String {
    let response = server.delete(path).send().await.expect("an answer");
    match response.json::<Value>().await {
        Ok(body) => body["code"].as_str().unwrap_or_default().to_owned(),
        Err(_) => String::new(),
    }
}

#[tokio::test]
async fn a_key_of_one_anonymous_client_is_not_that_of_another() {
    let server = TestServer::with(|config| {
        support::close(config);
        rule(config, "open", |rule| rule.publish = Who::Anyone);
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    });
    let publish = async |address: &str| {
        let request = server.post("/v1/topics/open/events").header("idempotency-key", "one");
        let response = request.header("x-forwarded-for", address).body("1").send().await;
        let response = response.expect("an answer");
        (response.status().as_u16(), response.json::<Value>().await.expect("JSON"))
    };
    let first = publish("203.0.113.1").await;
    assert_eq!(first.0, 201);
    assert_eq!(publish("203.0.113.1").await, (200, first.1.clone()));
    let other = publish("203.0.113.2").await;
    assert_eq!(other.0, 201);
    assert_ne!(other.1["id"], first.1["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_repeated_under_its_key_is_stored_once() {
    let server = TestServer::with(|config| config.history.idempotency_keys = 3);
    let publish = async |key: &str, body: &'static str| {
        let request = server.post("/v1/topics/a/events").header("idempotency-key", key);
        let response = request.body(body).send().await.expect("an answer");
        (response.status().as_u16(), response.json::<Value>().await.expect("JSON"))
    };
    let repeats = join_all((0..10).map(|_| publish("one", "1"))).await;
    assert_eq!(repeats.iter().filter(|(status, _)| *status == 201).count(), 1);
    assert!(repeats.iter().all(|(status, _)| *status == 201 || *status == 200));
    assert!(repeats.iter().all(|(_, receipt)| *receipt == repeats[0].1));
    let (status, body) = publish("one", "2").await;
    assert_eq!((status, &body["code"]), (409, &json!("idempotency_mismatch")));
    // A failure is not remembered: the same key may be used for what is right.
    let bad = server.post("/v1/topics/a..b/events").header("idempotency-key", "two").body("1");
    assert_eq!(problem(bad).await.0, 422);
    assert_eq!(publish("two", "1").await.0, 201);
    assert_eq!(publish("three", "1").await.0, 201);
    let (status, body) = publish("four", "1").await;
    assert_eq!((status, &body["code"]), (429, &json!("too_many")));
    assert_eq!(json_of(&server, "/v1/topics/a").await["retained"], 3);
}

#[tokio::test]
async fn every_refusal_has_its_status_and_code() {
    let server = TestServer::with(|config| {
        config.limits.batch_events = 2;
        config.limits.batch_bytes = 100_000;
    });
    let json_body = |path: &str, body: &str| {
        server.post(path).header("content-type", "application/json").body(body.to_owned())
    };
    let events = "/v1/topics/a/events";
    let long = "x".repeat(256);
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let large = format!("\"{}\"", "x".repeat(70_000));
    let many = r#"{"events":[1,2,3]}"#;
    for (request, status, code) in [
        (json_body(events, "{"), 400, "invalid_json"),
        (json_body(events, &deep), 422, "invalid_event"),
        (json_body(events, &large), 413, "too_large"),
        (json_body("/v1/events", &large.repeat(2)), 413, "too_large"),
        (json_body("/v1/events", many), 413, "too_large"),
        (json_body("/v1/events", r#"{"events":[]}"#), 422, "invalid_event"),
        (json_body("/v1/events", r#"{"events":[["a",null,1]]}"#), 422, "invalid_event"),
        (json_body("/v1/topics/a..b/events", "1"), 422, "invalid_topic"),
        (json_body("/v1/topics/a.*/events", "1"), 422, "invalid_topic"),
        (json_body(&format!("/v1/topics/{long}/events"), "1"), 422, "invalid_topic"),
        (json_body("/v1/topics/%ff/events", "1"), 422, "invalid_topic"),
        (json_body("/v1/topics/a%00b/events", "1"), 422, "invalid_topic"),
        (json_body("/v1/topics/$sys.a/events", "1"), 403, "forbidden"),
        (json_body("/v1/topics/a/events?x=1", "1"), 400, "bad_request"),
        (json_body(events, "1").header("x-event-type", "open"), 422, "invalid_event"),
        (json_body(events, "1").header("x-event-type", "fanfare.x"), 422, "invalid_event"),
        (json_body(events, "1").header("idempotency-key", ""), 400, "bad_request"),
        (json_body(events, "1").header("idempotency-key", "x".repeat(256)), 400, "bad_request"),
        (json_body(events, "1").header("content-encoding", "br"), 415, "unsupported_media_type"),
        (
            server.post(events).header("content-type", "text/plain; charset=koi8-r").body("x"),
            415,
            "unsupported_media_type",
        ),
        (
            server.post(events).header("content-type", "text/plain").body(vec![0xff]),
            400,
            "bad_request",
        ),
        (
            server.post("/v1/events").header("content-type", "text/plain").body("x"),
            415,
            "unsupported_media_type",
        ),
        (server.get("/v1/topics/a/events?since=nope"), 400, "invalid_cursor"),
        (server.get("/v1/topics/a/events?limit=0"), 400, "bad_request"),
        (server.get("/v1/topics/a/events?limit=1&limit=2"), 400, "bad_request"),
        (server.get("/v1/topics?match=a..b"), 422, "invalid_pattern"),
        (server.get("/v1/topics?after=*"), 422, "invalid_topic"),
        (server.get("/v1/sse"), 400, "bad_request"),
        (server.get("/v1/sse?topic=a&format=xml"), 400, "bad_request"),
        (server.get("/v1/sse?topic=a").header("last-event-id", "nope"), 400, "invalid_cursor"),
        (server.get("/v1/ws"), 426, "upgrade_required"),
        (server.get("/nothing"), 404, "not_found"),
        (server.delete("/v1/sessions/nobody"), 404, "not_found"),
        (server.post("/v1/topics"), 405, "method_not_allowed"),
        (server.delete("/v1/events"), 405, "method_not_allowed"),
    ] {
        let shown = format!("{request:?}");
        assert_eq!(problem(request).await, (status, code.to_owned()), "{shown}");
    }
    let refused = server.post("/v1/topics/a").send().await.expect("an answer");
    assert_eq!(refused.headers()["allow"], "GET, HEAD, DELETE");
}

#[tokio::test]
async fn nothing_that_is_sent_gives_a_500_or_disturbs_others() {
    let server = TestServer::with(|config| {
        config.limits.request_timeout = Duration::from_millis(300);
    });
    let mut witness = WsClient::live(&server, "?topic=calm").await;
    let raw: [&[u8]; 10] = [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/topics/calm/events HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\ncut off",
        b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\nslow: ",
    ];
    for bytes in raw {
        let mut socket = tokio::net::TcpStream::connect(server.addr).await.expect("a connection");
        socket.write_all(bytes).await.expect("sent");
        _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let read = socket.read_to_end(&mut answer);
        _ = tokio::time::timeout(support::PATIENCE, read).await.expect("an end");
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 5"), "{answer}");
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    server.publish("calm", &json!("still")).await;
    assert_eq!(witness.until("event").await["data"], "still");
}

#[tokio::test]
async fn health_metrics_and_pages_are_served() {
    let server = TestServer::open();
    assert_eq!(json_of(&server, "/health/live").await, json!({"status": "ok"}));
    assert_eq!(json_of(&server, "/health/ready").await["status"], "ready");
    server.publish("a", &json!(1)).await;
    let metrics = server.get("/metrics").send().await.expect("an answer");
    assert!(
        metrics.headers()["content-type"]
            .to_str()
            .expect("text")
            .starts_with("text/plain; version=0.0.4")
    );
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("fanfare_events_published_total 1\n"), "{metrics}");
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/console.js", "text/javascript; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/openapi.json", "application/json"),
    ] {
        let page = server.get(path).send().await.expect("an answer");
        assert_eq!(page.headers()["content-type"], content_type);
        assert!(
            page.headers()["content-security-policy"]
                .to_str()
                .expect("text")
                .starts_with("default-src 'none'")
        );
        assert_eq!(page.headers()["x-content-type-options"], "nosniff");
        let head = server.http.head(server.url(path)).send().await.expect("an answer");
        assert_eq!(head.status(), 200);
        assert!(head.bytes().await.expect("no body").is_empty());
    }
}

#[tokio::test]
async fn the_client_alone_is_served_to_pages_of_every_origin_and_not_twice() {
    let server = TestServer::with(|config| {
        config.server.allowed_origins = vec!["https://dash.example".to_owned()];
    });
    for (origin, allowed) in [
        ("https://dash.example", Some("https://dash.example")),
        ("https://evil.example", Some("*")),
        ("null", Some("*")),
    ] {
        let readable = allowed.filter(|allowed| *allowed != "*");
        let answer =
            server.get("/fanfare.js").header("origin", origin).send().await.expect("an answer");
        let said = answer.headers().get("access-control-allow-origin");
        assert_eq!(said.map(|value| value.to_str().expect("text")), allowed, "{origin}");
        let varies: Vec<_> = answer.headers().get_all("vary").iter().collect();
        assert_eq!(varies, ["Accept-Encoding", "Origin"]);
        assert_eq!(answer.headers()["content-type"], "text/javascript; charset=utf-8");
        let tag = answer.headers()["etag"].clone();
        let text = answer.text().await.expect("text");
        assert!(text.contains("export class Fanfare"), "{text}");
        let again = server.get("/fanfare.js").header("if-none-match", tag);
        let again = again.send().await.expect("an answer");
        assert_eq!(again.status(), 304);
        assert_eq!(again.headers()["access-control-allow-origin"], "*");
        assert!(again.bytes().await.expect("no body").is_empty());
        let others =
            ["/openapi.json", "/docs.js", "/fanfare/none.js", "/health/live", "/v1/topics"];
        for path in others {
            let answer = server.get(path).header("origin", origin).send().await.expect("an answer");
            let said = answer.headers().get("access-control-allow-origin");
            assert_eq!(said.map(|value| value.to_str().expect("text")), readable, "{path}");
        }
        let credentials = server.get("/fanfare.js").header("origin", origin).send().await;
        let credentials = credentials.expect("an answer");
        let may_send = credentials.headers().contains_key("access-control-allow-credentials");
        assert_eq!(may_send, readable.is_some(), "{origin}");
    }
    let live = server.get("/health/live").send().await.expect("an answer");
    assert_eq!(live.headers()["cross-origin-resource-policy"], "cross-origin");
    let ready = server.get("/health/ready").send().await.expect("an answer");
    assert_eq!(ready.headers()["cross-origin-resource-policy"], "same-origin");
}

#[tokio::test]
async fn pages_and_the_client_come_in_gzip_to_whoever_reads_it() {
    let server = TestServer::open();
    for path in ["/", "/docs.js", "/openapi.json", "/fanfare.js", "/fanfare/react.d.ts"] {
        let plain = server.get(path).send().await.expect("an answer");
        assert_eq!(plain.headers().get("content-encoding"), None, "{path}");
        let plain = plain.bytes().await.expect("a text");
        let small = server.get(path).header("accept-encoding", "br, gzip").send().await;
        let small = small.expect("an answer");
        assert_eq!(small.headers()["content-encoding"], "gzip", "{path}");
        let length = small.headers()["content-length"].to_str().expect("text").to_owned();
        let small = small.bytes().await.expect("a text");
        assert_eq!(length, small.len().to_string(), "{path}");
        assert!(small.len() < plain.len() / 2, "{path}: {} of {}", small.len(), plain.len());
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&small[..]).read_to_end(&mut unpacked).expect("gzip");
        assert_eq!(unpacked, plain, "{path}");
        let never = server.get(path).header("accept-encoding", "gzip;q=0, *").send().await;
        assert_eq!(never.expect("an answer").headers().get("content-encoding"), None, "{path}");
    }
    let small = server.get("/fanfare.js").header("accept-encoding", "gzip").send().await;
    assert!(small.expect("an answer").bytes().await.expect("a text").len() <= 8_192);
}

#[tokio::test]
async fn events_are_read_since_a_moment_or_as_long_ago() {
    let server = TestServer::open();
    let mut times = Vec::new();
    for n in 0..3 {
        let receipt = server.publish("a", &json!(n)).await;
        times.push(receipt["time"].as_str().expect("a time").to_owned());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (middle, _) = times[1].split_once('Z').expect("UTC");
    for (since, expected) in [
        (times[1].clone(), vec![1, 2]),
        (format!("{middle}%2B00:00"), vec![1, 2]),
        (format!("{middle}+00:00"), vec![1, 2]),
        ("-15m".to_owned(), vec![0, 1, 2]),
        ("-1ms".to_owned(), vec![]),
        ("2000-01-01T00:00:00Z".to_owned(), vec![0, 1, 2]),
        ("2999-01-01T00:00:00Z".to_owned(), vec![]),
    ] {
        let page = json_of(&server, &format!("/v1/topics/a/events?since={since}")).await;
        let events = page["events"].as_array().expect("events").iter();
        let data: Vec<_> = events.map(|event| event["data"].as_i64().expect("a number")).collect();
        assert_eq!((data, &page["gap"]), (expected, &json!(false)), "{since}");
    }
    for since in ["-15", "-m", "15m", "yesterday", "2026-13-01T00:00:00Z", "-99999999999999999999d"]
    {
        let refused = problem(server.get(&format!("/v1/topics/a/events?since={since}"))).await;
        assert_eq!(refused, (400, "invalid_cursor".to_owned()), "{since}");
    }
}
