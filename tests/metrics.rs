//! What the broker counts about itself, as whoever scrapes it reads it, and that each end of a session counts.

mod support;

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use fanfare::model::{Code, Ended};
use reqwest::{Method, StatusCode};
use serde_json::json;
use socket2::SockRef;
use support::http2::Http2;
use support::prometheus::Prometheus;
use support::raw::Raw;
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, TestServer, close, eventually, token};
use tokio::net::TcpSocket;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What Prometheus 2.53 asks for.
const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

async fn metrics(server: &TestServer, accept: Option<&str>) -> (String, String) {
    let mut request = server.get("/metrics").bearer_auth(API_KEY);
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["vary"], "Accept");
    let content_type = response.headers()["content-type"].to_str().expect("text").to_owned();
    (content_type, response.text().await.expect("text"))
}

/// The value of a metric.
async fn value(server: &TestServer, name: &str) -> u64 {
    let (_, text) = metrics(server, None).await;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
}

async fn ends(server: &TestServer, code: &str) -> u64 {
    value(server, &format!("fanfare_closes_total{{code=\"{code}\"}}")).await
}

/// Waits until one session more has ended so, and no other has ended in another way.
async fn ended(server: &TestServer, before: u64, code: &str) {
    eventually(code, async || ends(server, code).await > before).await;
    assert_eq!(ends(server, code).await, before + 1, "{code}");
}

#[tokio::test]
async fn metrics_come_in_the_classic_format_unless_open_metrics_is_asked_for() {
    let server = TestServer::open();
    for (accept, expected) in [
        (None, CLASSIC),
        (Some("*/*"), CLASSIC),
        (Some("text/html,application/xhtml+xml,*/*;q=0.8"), CLASSIC),
        (Some("text/plain; version=0.0.4"), CLASSIC),
        (Some("text/plain, application/openmetrics-text;q=0.9"), CLASSIC),
        (Some("application/openmetrics-text;q=0"), CLASSIC),
        (Some("application/openmetrics-text; version=1.0.0"), OPEN_METRICS),
        (Some("application/openmetrics-text, text/plain"), OPEN_METRICS),
        (Some(PROMETHEUS), OPEN_METRICS),
    ] {
        let (content_type, text) = metrics(&server, accept).await;
        assert_eq!(content_type, expected, "{accept:?}");
        let is_open = expected == OPEN_METRICS;
        assert_eq!(text.ends_with("# EOF\n"), is_open, "{accept:?}");
        let counter = if is_open { "events_published" } else { "events_published_total" };
        assert!(text.contains(&format!("# TYPE fanfare_{counter} counter\n")), "{text}");
        assert!(text.contains("\nfanfare_events_published_total 0\n"), "{text}");
    }
}

#[tokio::test]
async fn every_label_is_there_at_0_before_its_first_time() {
    let server = TestServer::open();
    for code in Code::ALL.map(Code::as_str).into_iter().chain(["tls_handshake"]) {
        let name = format!("fanfare_refusals_total{{reason=\"{code}\"}}");
        assert_eq!(value(&server, &name).await, 0, "{code}");
    }
    for ended in Ended::all() {
        assert_eq!(ends(&server, ended.name()).await, 0, "{ended:?}");
    }
    for transport in ["websocket", "sse"] {
        let name = format!("fanfare_sessions{{transport=\"{transport}\"}}");
        assert_eq!(value(&server, &name).await, 0, "{transport}");
    }
}

#[tokio::test]
async fn promtool_finds_nothing_wrong() {
    let server = TestServer::open();
    let mut client = WsClient::live(&server, "?topic=a").await;
    server.publish("a", &json!(1)).await;
    client.until("event").await;
    let (_, text) = metrics(&server, None).await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    promtool.stdin.take().expect("its input").write_all(text.as_bytes()).expect("read");
    let output = promtool.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

#[tokio::test]
async fn prometheus_scrapes_what_was_counted() {
    let server = TestServer::open();
    server.publish("a", &json!(1)).await;
    let prometheus = Prometheus::of(&[server.addr]).await;
    let query = async |query: &str| -> Option<String> {
        let answer = prometheus.ask(&format!("query?query={query}")).await;
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    };
    let published = async || query("fanfare_events_published_total").await;
    eventually("it is scraped", async || published().await.as_deref() == Some("1")).await;
    assert_eq!(query("up").await.as_deref(), Some("1"));
    let refused = "fanfare_refusals_total{reason=\"origin_not_allowed\"}";
    assert_eq!(query(refused).await.as_deref(), Some("0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_end_of_a_websocket_is_counted_by_its_reason() {
    let server = TestServer::with(|config| {
        close(config);
        config.limits.bad_messages = 1;
        config.limits.messages_per_second = 5;
        config.limits.close_timeout = Duration::from_millis(500);
        config.limits.auth_timeout = Duration::from_millis(200);
    });
    let key = format!("?access_token={API_KEY}");
    let none = async |code: &str| assert_eq!(ends(&server, code).await, 0, "{code}");
    let mut left = WsClient::connect(&server, &key).await;
    left.socket.close(None).await.expect("closed");
    ended(&server, 0, "left").await;
    none("gone").await;
    drop(WsClient::connect(&server, &key).await);
    ended(&server, 0, "gone").await;
    let cut = WsClient::connect(&server, &key).await;
    let tokio_tungstenite::MaybeTlsStream::Plain(stream) = cut.socket.get_ref() else {
        panic!("plain TCP")
    };
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("a reset at its end");
    drop(cut);
    ended(&server, 1, "gone").await;
    let mut bad = WsClient::connect(&server, &key).await;
    bad.send_text("nonsense").await;
    ended(&server, 0, "bad_message").await;
    let mut many = WsClient::connect(&server, &key).await;
    for reference in 1..=20 {
        _ = many.try_send(&json!({"op": "ping", "ref": reference})).await;
    }
    ended(&server, 0, "too_many").await;
    let ended_by_us = WsClient::connect(&server, &key).await;
    let path = format!("/v1/sessions/{}", ended_by_us.session);
    server.delete(&path).bearer_auth(API_KEY).send().await.expect("an answer");
    ended(&server, 0, "policy").await;
    let _nobody = WsClient::connect(&server, "").await;
    ended(&server, 0, "unauthorized").await;
    let query = format!("?access_token={}", token("ada", &[], &[], 60));
    let _user = WsClient::connect(&server, &query).await;
    let revoked = server.post("/v1/revocations").bearer_auth(API_KEY).json(&json!({"user": "ada"}));
    assert_eq!(revoked.send().await.expect("an answer").status(), 201);
    ended(&server, 1, "unauthorized").await;
    for (frame, code) in [
        (&[0x81, 0x02, b'{', b'}'][..], "protocol_error"),
        (&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe], "invalid_text"),
        (&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], "too_large"),
    ] {
        let mut raw = handshaken(&server, &key).await;
        assert!(raw.try_send(frame).await);
        ended(&server, 0, code).await;
    }
    // Each of them ended once, whatever its socket did after that.
    let sessions = value(&server, "fanfare_sessions{transport=\"websocket\"}").await;
    assert_eq!(sessions, 0);
    assert_eq!((ends(&server, "gone").await, ends(&server, "left").await), (2, 1));
}

/// A WebSocket whose frames a test writes itself.
async fn handshaken(server: &TestServer, query: &str) -> Raw {
    let mut raw = Raw::connect(server.addr).await;
    raw.send(&handshake(query)).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101"));
    raw
}

fn handshake(query: &str) -> String {
    format!(
        "GET /v1/ws{query} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_that_is_silent_is_counted_as_such() {
    let server = TestServer::with(|config| config.server.heartbeat = Duration::from_secs(1));
    let _silent = handshaken(&server, "").await;
    ended(&server, 0, "heartbeat_missed").await;
}

/// A client of a small window that sent `request`, and reads nothing.
async fn deaf(address: SocketAddr, request: &str) -> Raw {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    let mut raw = Raw(socket.connect(address).await.expect("a connection"));
    raw.send(request).await;
    raw
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_for_too_long_is_counted_as_stalled_on_each_transport() {
    let change = |config: &mut fanfare::config::Config| {
        config.limits.stall_timeout = Duration::from_secs(1);
        config.limits.send_buffer_bytes = 4_096;
        // Wide enough that nobody is closed as slow before.
        config.limits.outbox_bytes = 64 << 20;
    };
    let plain = TestServer::with(change);
    let stream = "GET /v1/sse?topic=a HTTP/1.1\r\nHost: a\r\n\r\n";
    for (number, request) in [(0, handshake("?topic=a")), (1, stream.to_owned())] {
        let _deaf = deaf(plain.addr, &request).await;
        eventually("it is there", async || value(&plain, "fanfare_subscriptions").await == 1).await;
        for _ in 0..100 {
            plain.publish("a", &json!("x".repeat(50_000))).await;
        }
        ended(&plain, number, "stalled").await;
    }
    assert_eq!(ends(&plain, "gone").await, 0);
    let encrypted = TestServer::encrypted(change);
    let http = Http2::with_window(&encrypted, 0).await;
    let _deaf = http.ask(Method::GET, "/v1/sse?topic=a", &[]).await.expect("an answer");
    encrypted.publish("a", &json!("x".repeat(50_000))).await;
    ended(&encrypted, 0, "stalled").await;
    assert_eq!(ends(&encrypted, "gone").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_end_of_an_event_stream_is_counted_by_its_reason() {
    let server = TestServer::with(|config| {
        close(config);
        config.limits.outbox_bytes = 64 * 1024;
        config.limits.send_buffer_bytes = 4_096;
    });
    let key = format!("?topic=a&access_token={API_KEY}");
    drop(SseClient::live(&server, &key).await);
    ended(&server, 0, "gone").await;
    let query = format!("?topic=a&access_token={}", token("ada", &["a"], &[], 60));
    let _user = SseClient::live(&server, &query).await;
    let ended_by_us = server.delete("/v1/users/ada/sessions").bearer_auth(API_KEY).send().await;
    assert_eq!(ended_by_us.expect("an answer").status(), 200);
    ended(&server, 0, "policy").await;
    let request = format!("GET /v1/sse{key} HTTP/1.1\r\nHost: a\r\n\r\n");
    let _deaf = deaf(server.addr, &request).await;
    eventually("it is there", async || {
        value(&server, "fanfare_sessions{transport=\"sse\"}").await == 1
    })
    .await;
    while ends(&server, "slow_consumer").await == 0 {
        let post = server.post("/v1/topics/a/events").bearer_auth(API_KEY);
        post.json(&"x".repeat(50_000)).send().await.expect("an answer");
    }
    assert_eq!(ends(&server, "slow_consumer").await, 1);
    assert_eq!(ends(&server, "gone").await, 1);
}
