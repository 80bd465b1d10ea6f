//! The ends of connections of HTTP/1.1, where requests are lost elsewhere: who asks for an upgrade that is none,
//! who ends its half, and who comes back to a connection that was idle.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::TestServer;
use support::raw::Raw;
use tokio::io::AsyncWriteExt;

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

#[tokio::test]
async fn an_idle_connection_is_kept_for_as_long_as_the_setting_says() {
    let server = TestServer::with(|config| config.server.keep_alive = Duration::from_secs(1));
    let mut raw = Raw::connect(server.addr).await;
    raw.send("GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(raw.rest().await.starts_with("HTTP/1.1 200"), "and then the connection ends");
    let kept = fanfare::config::Config::default().server.keep_alive;
    assert!(kept > Duration::from_secs(75), "nginx and many a pool reuse theirs for 60 to 75 s");
}
