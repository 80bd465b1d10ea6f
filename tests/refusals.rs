//! Every refusal at the door is counted, and logged with what to set: once a minute a reason, and nothing secret.

mod support;

use std::fs;
use std::path::Path;

use reqwest::{Client, RequestBuilder};
use serde_json::json;
use support::process::Process;
use support::{API_KEY, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A broker whose log is read.
struct Scene {
    broker: Process,
    http: Client,
    directory: tempfile::TempDir,
}

impl Scene {
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("fanfare.toml");
        fs::write(&file, format!("[auth]\napi_keys = [\"{API_KEY}\"]\n")).expect("written");
        let arguments = [&["--config", "fanfare.toml"][..], arguments].concat();
        let broker = Process::durable(directory.path(), 0, &arguments);
        Self { broker, http: Client::new(), directory }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(self.broker.url(path))
    }

    fn lines(&self) -> Vec<String> {
        lines(self.directory.path())
    }

    /// The lines of one reason, once there is one.
    async fn said(&self, reason: &str) -> Vec<String> {
        let mark = format!("reason=\"{reason}\"");
        let said = || self.lines().into_iter().filter(|line| line.contains(&mark)).collect();
        eventually(&mark, async || !Vec::is_empty(&said())).await;
        said()
    }

    async fn counted(&self, reason: &str) -> u64 {
        let request = self.get("/metrics").bearer_auth(API_KEY);
        let text = request.send().await.expect("an answer").text().await.expect("text");
        let name = format!("fanfare_refusals_total{{reason=\"{reason}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
    }

    /// The answer to what is written as it is; `|` stands for an end of a line.
    async fn knock(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.broker.address).await.expect("a connection");
        stream.write_all(request.replace('|', "\r\n").as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an end");
        answer
    }
}

fn lines(directory: &Path) -> Vec<String> {
    let log = fs::read_to_string(directory.join("broker.log")).expect("a log");
    log.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_refusal_that_was_held_back_is_told_at_the_end_though_nothing_follows() {
    let scene = Scene::start(&[]);
    for host in ["first.example", "second.example", "third.example"] {
        let asked = scene.get("/v1/topics/a..b").bearer_auth(API_KEY).header("host", host);
        assert_eq!(asked.send().await.expect("an answer").status(), 422);
    }
    let said = scene.said("invalid_topic").await;
    assert!(said.len() == 1 && said[0].contains("count=1 "), "{said:?}");
    let Scene { mut broker, directory, .. } = scene;
    broker.signal("-TERM");
    broker.wait();
    let said = lines(directory.path());
    let said: Vec<_> = said.iter().filter(|line| line.contains("invalid_topic")).collect();
    assert!(said.len() == 2 && said[1].contains("count=2 "), "{said:?}");
    assert!(said[1].contains("second.example") && said[1].contains("not a topic"), "{said:?}");
}

const UPGRADE: &str = "Connection: Upgrade|Upgrade: websocket|Sec-WebSocket-Version: 13|\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|";

#[tokio::test]
async fn every_refusal_at_the_door_is_logged_with_what_to_set_and_counted() {
    let scene = Scene::start(&["--set", "limits.connections_per_address=3"]);
    let (secret, evil) = ("a-token-that-nobody-may-read-in-a-log", "https://evil.example");
    for _ in 0..3 {
        let query = format!("?topic=a&access_token={secret}");
        let request =
            format!("GET /v1/ws{query} HTTP/1.1|Host: push.example|Origin: {evil}|{UPGRADE}|");
        assert!(scene.knock(&request).await.starts_with("HTTP/1.1 403"));
    }
    let origin = scene.said("origin_not_allowed").await;
    assert_eq!((origin.len(), scene.counted("origin_not_allowed").await), (1, 3), "{origin:?}");
    for part in ["WARN", "server.allowed_origins", "count=1", "GET /v1/ws", evil, "127.0.0.1"] {
        assert!(origin[0].contains(part), "{part}: {origin:?}");
    }
    // As nginx passes it on by default.
    let answer = scene.knock("GET /v1/ws?topic=a HTTP/1.0|Host: a|Connection: close||").await;
    assert!(answer.starts_with("HTTP/1.1 426") || answer.starts_with("HTTP/1.0 426"), "{answer}");
    let upgrade = scene.said("upgrade_required").await;
    assert!(upgrade[0].contains("pass on") && upgrade[0].contains("Upgrade"), "{upgrade:?}");
    // A handshake without its key.
    let bad = UPGRADE.split("Sec-WebSocket-Key").next().expect("a part");
    let answer = scene.knock(&format!("GET /v1/ws HTTP/1.1|Host: a|{bad}|")).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(scene.said("bad_request").await[0].contains("RFC 6455"));
    let token = format!("/v1/sse?topic=a&access_token={secret}");
    assert_eq!(scene.get(&token).send().await.expect("an answer").status(), 401);
    let ticket = format!("/v1/sse?topic=a&ticket={secret}");
    assert_eq!(scene.get(&ticket).send().await.expect("an answer").status(), 401);
    scene.said("unauthorized").await;
    assert_eq!(scene.counted("unauthorized").await, 2);
    for (path, reason) in [
        ("/nowhere", "not_found"),
        ("/v1/topics?limit=0", "bad_request"),
        ("/v1/topics/a..b", "invalid_topic"),
    ] {
        let before = scene.counted(reason).await;
        scene.get(path).bearer_auth(API_KEY).send().await.expect("an answer");
        assert_eq!(scene.counted(reason).await, before + 1, "{path}");
        scene.said(reason).await;
    }
    // A limit that a browser hears of in a stream of status 200.
    let stream = || {
        let request = scene.get("/v1/sse?topic=a").bearer_auth(API_KEY);
        async { request.header("accept", "text/event-stream").send().await.expect("an answer") }
    };
    let mut streams = Vec::new();
    while scene.counted("unavailable").await == 0 {
        streams.push(stream().await);
        assert!(streams.len() < 10, "there is no limit");
    }
    let limit = scene.said("unavailable").await;
    assert!(limit[0].contains("limits.connections_per_address"), "{limit:?}");
    let log = scene.lines();
    assert!(!log.iter().any(|line| line.contains(secret)), "{log:?}");
}

#[tokio::test]
async fn what_is_refused_before_there_is_a_request_is_counted_too() {
    let scene = Scene::start(&["--set", "limits.request_timeout=200ms"]);
    let answer = scene.knock("GET /v1/topics HTTP/1.1|Host: a|").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(scene.said("too_slow").await[0].contains("limits.request_timeout"));
    let long = format!("GET / HTTP/1.1|Host: a|X: {}||", "x".repeat(20_000));
    let answer = scene.knock(&long).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(scene.counted("head_too_large").await, 1);
    let plain = scene.knock("PUT /v1/topics HTTP/1.1|Host: a|Connection: close||").await;
    assert!(plain.starts_with("HTTP/1.1 405"), "{plain}");
    assert_eq!(scene.counted("method_not_allowed").await, 1);
}

#[tokio::test]
async fn what_is_refused_within_a_session_is_counted_alike() {
    let scene = Scene::start(&[]);
    let query = format!("?access_token={API_KEY}");
    let mut client = support::ws::WsClient::at(&scene.broker.address, &query).await;
    client.send(json!({"op": "subscribe", "ref": 1, "topics": ["a..b"]})).await;
    client.until("error").await;
    assert_eq!(scene.counted("invalid_pattern").await, 1);
    let said = scene.said("invalid_pattern").await;
    assert!(said[0].contains("an open session"), "{said:?}");
}

#[tokio::test]
async fn who_takes_nothing_is_in_the_log() {
    let scene = Scene::start(&[
        "--set",
        "limits.stall_timeout=1s",
        "--set",
        "limits.send_buffer_bytes=4KiB",
        "--set",
        "limits.outbox_bytes=16MiB",
    ]);
    let mut deaf = TcpStream::connect(&scene.broker.address).await.expect("a connection");
    let query = format!("?topic=a&access_token={API_KEY}");
    let request = format!("GET /v1/ws{query} HTTP/1.1|Host: a|{UPGRADE}|").replace('|', "\r\n");
    deaf.write_all(request.as_bytes()).await.expect("sent");
    for _ in 0..200 {
        let post = scene.http.post(scene.broker.url("/v1/topics/a/events")).bearer_auth(API_KEY);
        assert_eq!(post.json(&"x".repeat(50_000)).send().await.expect("an answer").status(), 201);
    }
    let is_said = |line: &String| line.contains("stalled") && line.contains("limits.stall_timeout");
    eventually("it is said", async || scene.lines().iter().any(is_said)).await;
    let lines = scene.lines();
    let line = lines.iter().find(|line| is_said(line)).expect("a line");
    assert!(line.contains("INFO") && line.contains("websocket"), "{line}");
}
