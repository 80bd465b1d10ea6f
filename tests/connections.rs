//! The ends of connections of HTTP/1.1, where requests are lost elsewhere: who asks for an upgrade that is none,
//! who ends its half, and who comes back to a connection that was idle.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::TestServer;
use support::raw::{Raw, knock};
use support::tls::shake;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A publish with one more header line.
fn publish(line: &str) -> String {
    format!("POST /v1/topics/a/events HTTP/1.1\r\nHost: a\r\n{line}Content-Length: 1\r\n\r\n1")
}

/// The head of an answer, and how long its body is.
async fn head(raw: &mut Raw) -> (String, usize) {
    let head = raw.head().await.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|length| length.parse().ok()).unwrap_or_default();
    (head, length)
}

async fn stored(server: &TestServer) -> u64 {
    let topic = server.get("/v1/topics/a").send().await.expect("an answer");
    let topic: Value = topic.json().await.expect("JSON");
    topic["retained"].as_u64().expect("a number")
}

#[tokio::test]
async fn who_asks_for_an_upgrade_that_is_none_of_ours_is_answered_as_if_it_did_not() {
    let server = TestServer::open();
    let mut raw = Raw::connect(server.addr).await;
    for line in [
        // The lines for nginx that everybody copies, and Java's HttpClient.
        "Connection: upgrade\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n",
        "Connection: upgrade\r\nUpgrade: nonsense\r\n",
    ] {
        raw.send(&publish(line)).await;
        let (head, length) = head(&mut raw).await;
        assert!(head.starts_with("http/1.1 201"), "{line}: {head}");
        assert!(!head.contains("connection:") && !head.contains("upgrade:"), "{line}: {head}");
        raw.skip(length).await;
    }
    assert_eq!(stored(&server).await, 3);
    let websocket = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    raw.send(&publish(websocket)).await;
    let last = raw.rest().await;
    assert!(last.starts_with("HTTP/1.1 201") && last.contains("connection: close"), "{last}");
    let mut raw = Raw::connect(server.addr).await;
    raw.send("GET /v1/sse?topic=a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    let (head, _) = head(&mut raw).await;
    assert!(head.starts_with("http/1.1 200") && head.contains("text/event-stream"), "{head}");
}

#[tokio::test]
async fn an_upgrade_that_is_asked_for_in_pieces_costs_the_connection_alone() {
    let server = TestServer::open();
    let mut raw = Raw::connect(server.addr).await;
    let request = publish("Connection: upgrade\r\n");
    let (first, second) = request.split_at(request.find("grade").expect("it is there"));
    raw.0.set_nodelay(true).expect("it is set");
    raw.send(first).await;
    // Only what is read apart is told apart.
    tokio::time::sleep(Duration::from_millis(200)).await;
    raw.send(second).await;
    let answer = raw.rest().await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 201") && answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_request_whose_sender_ends_its_half_is_answered_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = TestServer::durable(directory.path(), |_| {});
    for n in 1..=20 {
        let mut raw = Raw::connect(server.addr).await;
        raw.send(&publish("")).await;
        raw.0.shutdown().await.expect("its half ends");
        assert_eq!(raw.status().await, 201);
        assert_eq!(stored(&server).await, n);
    }
}

#[tokio::test]
async fn an_event_stream_ends_with_the_half_of_its_client() {
    let server = TestServer::open();
    let sessions = async || {
        let list = server.get("/v1/sessions").send().await.expect("an answer");
        let list: Value = list.json().await.expect("JSON");
        list["sessions"].as_array().expect("a list").len()
    };
    let ask = "GET /v1/sse?topic=a HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut late = Raw::connect(server.addr).await;
    late.send(ask).await;
    late.head().await;
    support::eventually("it is there", async || sessions().await == 1).await;
    late.0.shutdown().await.expect("its half ends");
    late.rest().await;
    let mut early = Raw::connect(server.addr).await;
    early.send(ask).await;
    early.0.shutdown().await.expect("its half ends");
    early.rest().await;
    support::eventually("both are gone", async || sessions().await == 0).await;
}

/// What a body in chunks holds, and what comes behind it (RFC 9112, section 7.1).
fn unchunked(mut rest: &str) -> (String, &str) {
    let mut body = String::new();
    loop {
        let (length, behind) = rest.split_once("\r\n").expect("the length of a chunk");
        let length = usize::from_str_radix(length, 16).expect("a number");
        let (chunk, behind) = behind.split_at(length);
        rest = behind.strip_prefix("\r\n").expect("the end of a chunk");
        if length == 0 {
            return (body, rest);
        }
        body.push_str(chunk);
    }
}

#[tokio::test]
async fn an_event_stream_has_its_connection_to_itself_and_ends_with_a_last_chunk() {
    let server = TestServer::with(|config| {
        config.server.stream_heartbeat = Duration::from_secs(1);
    });
    for behind in ["", "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n", "anything at all"] {
        let mut raw = Raw::connect(server.addr).await;
        let ask = "GET /v1/sse?topic=a HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
        raw.send(&format!("{ask}{behind}")).await;
        let head = raw.head().await.to_ascii_lowercase();
        assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
        assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
        for n in 0..3 {
            raw.send(behind).await;
            server.publish("a", &serde_json::json!(n)).await;
        }
        let list = server.get("/v1/sessions").send().await.expect("an answer");
        let list: Value = list.json().await.expect("JSON");
        let id = list["sessions"][0]["session"].as_str().expect("a session");
        // At least one heartbeat has come.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let ended = server.delete(&format!("/v1/sessions/{id}")).send().await.expect("an answer");
        assert!(ended.status().is_success());
        let rest = raw.rest().await;
        let (body, behind) = unchunked(&rest);
        assert_eq!(behind, "", "nothing comes behind it");
        let data = |n| format!("\"data\":{n}}}\n\n");
        assert!((0..3).all(|n| body.contains(&data(n))), "{body}");
        assert!(body.contains("\n:\n") && body.contains("event: fanfare.bye"), "{body}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_as_long_as_the_setting_says() {
    let server = TestServer::with(|config| config.server.keep_alive = Duration::from_secs(1));
    let mut raw = Raw::connect(server.addr).await;
    raw.send("GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(raw.rest().await.starts_with("HTTP/1.1 200"), "and then the connection ends");
    let kept = fanfare::config::Config::default().server.keep_alive;
    assert!(kept > Duration::from_secs(75), "nginx and many a pool reuse theirs for 60 to 75 s");
}

#[tokio::test]
async fn a_pattern_as_everybody_types_it_is_understood() {
    let server = TestServer::open();
    for target in ["/v1/sse?topic=demo.>", "/v1/sse?topic=>&topic=x.>"] {
        let mut raw = Raw::connect(server.addr).await;
        raw.send(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{target}: {head}");
    }
    // Many more bytes than there is room for at once.
    let (status, answer) = knock(
        server.addr,
        &format!("GET /{} HTTP/1.1|Host: a|Connection: close||", ">".repeat(5_000)),
    )
    .await;
    assert_eq!(status, 404, "{answer}");
    // One that comes in pieces is told what to write.
    let mut raw = Raw::connect(server.addr).await;
    raw.0.set_nodelay(true).expect("it is set");
    raw.send("GET /v1/sse?topic=demo.>").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    raw.send("&since=0 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = raw.rest().await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("write %3E"), "{answer}");
}

#[tokio::test]
async fn a_head_that_nobody_can_read_is_refused_in_words() {
    let (plain, encrypted) = (TestServer::open(), TestServer::encrypted(|_| {}));
    let long = "x".repeat(100_000);
    for (request, words) in [
        ("GET /v1/sse?topic=a b HTTP/1.1|Host: a||", "write %20"),
        ("GET /v1/sse?topic=a\"b HTTP/1.1|Host: a||", "write %22"),
        ("GET /v1/sse?topic=caf\u{e9} HTTP/1.1|Host: a||", "write %C3"),
        ("GET /v1/sse HTTP/1.2|Host: a||", "HTTP/1.0 or HTTP/1.1"),
        ("GET /v1/sse HTTP/1.1||", "there is one Host"),
        ("GET /v1/sse HTTP/1.1|Host : a||", "a colon right behind it"),
        ("POST /v1/events HTTP/1.1|Host: a|Content-Length: +1||1", "Content-Length is one number"),
        (&format!("POST /v1/events HTTP/1.1|Host: a|Content-Length: x||{long}"), "Content-Length"),
    ] {
        let tls = exchange(&encrypted, &request.replace('|', "\r\n")).await;
        for answer in [knock(plain.addr, request).await.1, tls] {
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            assert!(head.starts_with("HTTP/1.1 400"), "{request:.80}: {answer}");
            assert!(head.contains("application/problem+json"), "{request:.80}: {answer}");
            let problem: Value = serde_json::from_str(body).expect("a problem");
            assert_eq!(problem["code"], "bad_request", "{request:.80}");
            assert!(
                problem["detail"].as_str().is_some_and(|told| told.contains(words)),
                "{problem}"
            );
        }
    }
    // Behind a request that is answered.
    let two = "GET /health/live HTTP/1.1|Host: a||GET /a b HTTP/1.1|Host: a||";
    let (status, answer) = knock(plain.addr, two).await;
    assert_eq!(status, 200);
    assert!(answer.contains("HTTP/1.1 400") && answer.contains("bad_request"), "{answer}");
}

/// What a request over TLS is answered.
async fn exchange(server: &TestServer, request: &str) -> String {
    let stream = TcpStream::connect(server.addr).await.expect("connected");
    let mut stream = shake(stream, server.tls.clone().expect("TLS")).await.expect("a handshake");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let read = timeout(support::PATIENCE, stream.read_to_end(&mut answer)).await;
    _ = read.expect("it ends in time");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn an_event_stream_within_http_1_0_has_no_chunks_and_ends_with_its_connection() {
    let server = TestServer::open();
    for more in ["", "Connection: keep-alive\r\n"] {
        let mut raw = Raw::connect(server.addr).await;
        raw.send(&format!("GET /v1/sse?topic=a HTTP/1.0\r\n{more}\r\n")).await;
        let head = raw.head().await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.0 200"), "{head}");
        assert!(!head.contains("transfer-encoding") && !head.contains("keep-alive"), "{head}");
        server.publish("a", &serde_json::json!(7)).await;
        let mut came = String::new();
        while !came.contains("\"data\":7") {
            let mut some = [0; 1_024];
            let read = timeout(support::PATIENCE, raw.0.read(&mut some)).await.expect("in time");
            came.push_str(&String::from_utf8_lossy(&some[..read.expect("it goes on")]));
        }
        let line = came.lines().next().expect("a line");
        assert!(line.contains(':'), "no length of a chunk: {came}");
    }
    // A sized answer may be followed by another.
    let mut raw = Raw::connect(server.addr).await;
    for _ in 0..2 {
        raw.send("GET /health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        let (head, length) = head(&mut raw).await;
        assert!(head.starts_with("http/1.0 200"), "{head}");
        raw.skip(length).await;
    }
}

#[tokio::test]
async fn an_upgrade_within_http_1_0_is_none_and_who_asks_is_told_why() {
    let server = TestServer::open();
    let handshake = "Connection: Upgrade|Upgrade: websocket|Sec-WebSocket-Version: 13|\
                     Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==|";
    let request = format!("GET /v1/ws?topic=a HTTP/1.0|Host: a|{handshake}|");
    let (status, answer) = knock(server.addr, &request).await;
    assert_eq!(status, 426, "{answer}");
    assert!(answer.contains("proxy_http_version 1.1"), "{answer}");
}
