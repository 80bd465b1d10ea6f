//! What must work through every proxy.

use reqwest::header::{ACCEPT, CONTENT_TYPE, ORIGIN};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::broker::{Broker, LISTED};
use crate::gateway::Gateway;
use crate::source::EventSource;
use crate::support::deflate::{DeflateClient, OFFER};
use crate::support::ws::WsClient;
use crate::support::{API_KEY, PATIENCE, eventually, expect_status, problem, token};

/// All of it.
pub async fn everything(proxy: &Gateway, broker: Broker) {
    all_but_restarts(proxy).await;
    restart(proxy, broker, away).await;
}

/// What needs no answer of the proxy's own.
pub async fn all_but_restarts(proxy: &Gateway) {
    all_but_bodies_origins_and_restarts(proxy).await;
    large_bodies(proxy).await;
    origins(proxy).await;
}

/// What needs nothing but that requests, upgrades and `Host` are passed on.
pub async fn all_but_bodies_origins_and_restarts(proxy: &Gateway) {
    publishing(proxy).await;
    streaming(proxy).await;
    sockets(proxy).await;
    renewal(proxy).await;
    compression(proxy).await;
    refusals(proxy).await;
}

pub fn http() -> Client {
    Client::builder().timeout(PATIENCE).build().expect("a client")
}

/// Waits until the proxy has found its broker.
pub async fn ready(proxy: &Gateway) {
    eventually("the proxy finds the broker", async || {
        let answer = http().get(proxy.url("/health/ready")).send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    })
    .await;
}

fn post(proxy: &Gateway, path: &str) -> RequestBuilder {
    http().post(proxy.url(path)).bearer_auth(API_KEY)
}

/// Publishes a number; its id.
async fn publish(proxy: &Gateway, topic: &str, data: impl Into<Value>) -> String {
    let request = post(proxy, &format!("/v1/topics/{topic}/events")).json(&data.into());
    let receipt =
        expect_status(request.send().await.expect("an answer"), StatusCode::CREATED).await;
    receipt["id"].as_str().expect("an id").to_owned()
}

/// A query with a token that may read `read.>` and publish there.
fn reader(topic: &str) -> String {
    format!("?topic={topic}&access_token={}", token("ada", &["read.>"], &["read.>"], 60))
}

/// Every way to publish, and reading it back.
pub async fn publishing(proxy: &Gateway) {
    let one = "/v1/topics/open.publish/events";
    let forms = [
        ("application/x-www-form-urlencoded", r#"{"a": 1}"#, json!({"a": 1})),
        ("application/json", "[1.50]", json!([1.50])),
        ("text/plain; charset=utf-8", "käse", json!("käse")),
        ("application/octet-stream", "\0\u{1}", json!("AAE=")),
    ];
    for (kind, body, _) in &forms {
        let request = post(proxy, one).header(CONTENT_TYPE, *kind).body(*body);
        expect_status(request.send().await.expect("an answer"), StatusCode::CREATED).await;
    }
    let many = "/v1/events";
    let event = |n: u64| json!({"topic": "open.publish", "data": n});
    let lines = format!("{}\n{}\n", event(4), event(5));
    let batch = json!({"events": [event(2), event(3)]});
    for request in [
        post(proxy, many).json(&event(1)),
        post(proxy, many).json(&batch),
        post(proxy, many).header(CONTENT_TYPE, "application/x-ndjson").body(lines),
    ] {
        expect_status(request.send().await.expect("an answer"), StatusCode::CREATED).await;
    }
    for status in [StatusCode::CREATED, StatusCode::OK] {
        let repeated = post(proxy, one).header("idempotency-key", "once").json(&json!(6));
        expect_status(repeated.send().await.expect("an answer"), status).await;
    }
    let kept = http().get(proxy.url("/v1/topics/open.publish/events")).send().await;
    let kept = expect_status(kept.expect("an answer"), StatusCode::OK).await;
    let kept = kept["events"].as_array().expect("events").iter().map(|event| event["data"].clone());
    let expected = forms.iter().map(|(_, _, data)| data.clone()).chain((1..=6).map(Value::from));
    assert_eq!(kept.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

/// Event streams: each event as it comes, resuming, current values.
pub async fn streaming(proxy: &Gateway) {
    let mut source = EventSource::open(proxy.url("/v1/sse?topic=open.stream.*"));
    source.until("fanfare.live").await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(publish(proxy, "open.stream.a", n).await);
        // Before the next is published: nothing is held back.
        assert_eq!(source.until("message").await.json()["data"], n);
    }
    let since = proxy.url(&format!("/v1/sse?topic=open.stream.*&since={}", ids[0]));
    let mut resumed = EventSource::open(since);
    for n in 1..3 {
        assert_eq!(resumed.until("message").await.json()["data"], n);
    }
    let mut current = EventSource::open(proxy.url("/v1/sse?topic=open.stream.*&snapshot=true"));
    let value = current.until("message").await.json();
    assert_eq!((&value["data"], &value["snapshot"]), (&json!(2), &json!(true)));
}

/// WebSockets: live, publishing, resuming, current values.
pub async fn sockets(proxy: &Gateway) {
    let mut client = WsClient::live_at(&proxy.address, &reader("read.sockets.*")).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(publish(proxy, "read.sockets.a", n).await);
        assert_eq!(client.until("event").await["data"], n);
    }
    let said = json!({"op": "publish", "topic": "read.sockets.a", "data": 3});
    assert_eq!(client.ask(1, said).await["op"], "ack");
    let query = format!("{}&since={}", reader("read.sockets.*"), ids[0]);
    let mut resumed = WsClient::at(&proxy.address, &query).await;
    for n in 1..4 {
        assert_eq!(resumed.until("event").await["data"], n);
    }
    resumed.until("live").await;
    let query = format!("{}&snapshot=true", reader("read.sockets.*"));
    let mut current = WsClient::at(&proxy.address, &query).await;
    assert_eq!(current.until("event").await["data"], 3);
    current.socket.close(None).await.expect("it closes");
}

/// A credential as the first message, its renewal, and its end with the close code of the broker.
pub async fn renewal(proxy: &Gateway) {
    let mut client = WsClient::at(&proxy.address, "?topic=read.renewal").await;
    let auth = |seconds| json!({"op": "auth", "token": token("ada", &["read.>"], &[], seconds)});
    assert_eq!(client.ask(1, auth(2)).await["op"], "ack");
    client.until("live").await;
    assert_eq!(client.ask(2, auth(5)).await["op"], "ack");
    let mut short = WsClient::at(&proxy.address, "?topic=read.renewal").await;
    assert_eq!(short.ask(1, auth(2)).await["op"], "ack");
    let (bye, code) = short.closed().await;
    assert_eq!((bye.expect("a bye")["code"].as_str(), code), (Some("unauthorized"), Some(4401)));
    publish(proxy, "read.renewal", 1).await;
    assert_eq!(client.until("event").await["data"], 1, "the one that was renewed goes on");
}

/// Compressed messages.
pub async fn compression(proxy: &Gateway) {
    let offer = [("Sec-WebSocket-Extensions", OFFER)];
    let connected = DeflateClient::connect(&proxy.address, "?topic=open.rows", &offer).await;
    let mut client = connected.expect("the connection opens");
    assert!(client.extensions.is_some(), "the offer is passed on, and so is the answer");
    client.until("live").await;
    let rows = Value::from("a row, and a row, and ".repeat(100));
    publish(proxy, "open.rows", rows.clone()).await;
    let frame = client.until("event").await;
    assert!(frame.is_compressed());
    assert_eq!(frame.json()["data"], rows);
}

/// Refusals come as they left.
pub async fn refusals(proxy: &Gateway) {
    let http = http();
    let get = |path: &str| http.get(proxy.url(path));
    let asked = [
        (get("/v1/sse?topic=read.a"), 401, "unauthorized"),
        (get("/v1/sse?topic=*.*.*&access_token=no"), 401, "unauthorized"),
        (get("/v1/sse"), 400, "bad_request"),
        (get("/v1/nothing"), 404, "not_found"),
        (get("/v1/ws?topic=open.a"), 426, "upgrade_required"),
        (http.put(proxy.url("/v1/events")), 405, "method_not_allowed"),
        (post(proxy, "/v1/topics/a..b/events").body("1"), 422, "invalid_topic"),
        (post(proxy, "/v1/topics/a/events").json(&"a".repeat(100_000)), 413, "too_large"),
    ];
    let reader = token("ada", &["read.>"], &[], 60);
    let forbidden = http.post(proxy.url("/v1/topics/read.a/events")).bearer_auth(reader).body("1");
    for (request, status, code) in asked.into_iter().chain([(forbidden, 403, "forbidden")]) {
        let answer = request.send().await.expect("an answer");
        let got = (answer.status().as_u16(), answer.text().await.expect("text"));
        assert!(got.0 == status && got.1.contains(&format!("\"{code}\"")), "{code}: {got:?}");
    }
    let refused = DeflateClient::connect(&proxy.address, "?topic=a..b", &[]).await;
    let refused = refused.err().expect("it is refused before the upgrade");
    assert!(refused.starts_with("HTTP/1.1 422"), "{refused}");
    let head = http.head(proxy.url("/v1/sse?topic=open.a")).send().await.expect("an answer");
    assert_eq!(head.status(), StatusCode::OK);
}

/// A batch as large as the broker takes them by default.
async fn large_bodies(proxy: &Gateway) {
    let event = json!({"topic": "pool.large", "data": "a".repeat(40_000)});
    let batch = json!({"events": vec![event; 100]});
    let answer = post(proxy, "/v1/events").json(&batch).send().await.expect("an answer");
    expect_status(answer, StatusCode::CREATED).await;
}

/// Pages of the own address, of a listed and of a foreign origin.
async fn origins(proxy: &Gateway) {
    let own = format!("http://{}", proxy.address);
    let http = http();
    let topic = proxy.url("/v1/topics/open.origins/events");
    let get = |origin: &str| http.get(&topic).header(ORIGIN, origin);
    for origin in [LISTED, &own] {
        let answer = get(origin).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK, "{origin}");
    }
    let foreign = problem(get("https://elsewhere.example")).await;
    assert_eq!(foreign, (403, "origin_not_allowed".to_owned()));
    let preflight = http.request(Method::OPTIONS, &topic).header(ORIGIN, LISTED);
    let preflight = preflight.header("access-control-request-method", "POST");
    let preflight = preflight.header("access-control-request-headers", "authorization,traceparent");
    let answer = preflight.send().await.expect("an answer");
    assert!(answer.status().is_success());
    let header = |name: &str| answer.headers()[name].to_str().expect("text").to_lowercase();
    assert_eq!(header("access-control-allow-origin"), LISTED);
    assert_eq!(header("access-control-allow-credentials"), "true");
    assert!(header("access-control-allow-methods").contains("post"));
    assert!(header("access-control-allow-headers").contains("traceparent"));
}

/// The broker is killed, is away for a while and comes back: who is subscribed comes back too, and misses
/// nothing. `meanwhile` looks at what the proxy does while the broker is away, and says who waits for it.
pub async fn restart(
    proxy: &Gateway,
    mut broker: Broker,
    meanwhile: impl AsyncFn(&Gateway, &mut EventSource) -> Option<EventSource>,
) {
    let mut source = EventSource::open(proxy.url("/v1/sse?topic=open.restart"));
    source.until("fanfare.live").await;
    let mut client = WsClient::live_at(&proxy.address, "?topic=open.restart").await;
    publish(proxy, "open.restart", 1).await;
    assert_eq!(source.until("message").await.json()["data"], 1);
    let since = client.until("event").await["id"].as_str().expect("an id").to_owned();
    broker.kill();
    let waiting = meanwhile(proxy, &mut source).await;
    client.closed().await;
    broker.restart();
    if let Some(mut waiting) = waiting {
        waiting.until("fanfare.live").await;
    }
    ready(proxy).await;
    publish(proxy, "open.restart", 2).await;
    assert_eq!(source.until("message").await.json()["data"], 2);
    let mut client =
        WsClient::at(&proxy.address, &format!("?topic=open.restart&since={since}")).await;
    assert_eq!(client.until("event").await["data"], 2);
    publish(proxy, "open.restart", 3).await;
    assert_eq!(client.until("event").await["data"], 3);
    assert_eq!(source.until("message").await.json()["data"], 3);
}

/// What the proxy says itself while the broker is away, from the page of another origin too.
async fn away(proxy: &Gateway, source: &mut EventSource) -> Option<EventSource> {
    // One end, and two answers of the proxy alone.
    source.errors(3).await;
    let stream = http().get(proxy.url("/v1/sse?topic=open.a")).header(ACCEPT, "text/event-stream");
    let answer = stream.header(ORIGIN, LISTED).send().await.expect("an answer");
    assert_eq!(answer.headers()["access-control-allow-origin"], LISTED);
    assert_eq!(answer.headers()["access-control-allow-credentials"], "true");
    let text = answer.text().await.expect("text");
    assert!(text.starts_with("retry: 1500\nevent: fanfare.bye\n") && text.ends_with("\n\n"));
    let other = http().get(proxy.url("/v1/topics")).send().await.expect("an answer");
    assert_eq!(other.headers()["retry-after"], "1");
    let answer = expect_status(other, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(answer["code"], "unavailable");
    None
}

/// The proxy says nothing while the broker is away: who comes waits until it is there again.
pub async fn waiting(proxy: &Gateway, source: &mut EventSource) -> Option<EventSource> {
    source.errors(1).await;
    Some(EventSource::open(proxy.url("/v1/sse?topic=open.restart")))
}
