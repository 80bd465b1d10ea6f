//! The event stream as a browser's `EventSource` sees it.

mod support;

use std::time::Duration;

use fanfare::model::Code;
use futures_util::StreamExt;
use serde_json::{Value, json};
use support::sse::SseClient;
use support::{TestServer, eventually, expect_status, problem};

async fn typed(server: &TestServer, topic: &str, kind: &str, data: &Value) -> Value {
    let path = format!("/v1/topics/{topic}/events");
    let request = server.post(&path).header("x-event-type", kind).json(data);
    expect_status(request.send().await.expect("an answer"), reqwest::StatusCode::CREATED).await
}

#[tokio::test]
async fn events_come_to_onmessage_whatever_their_type() {
    let server = TestServer::open();
    let mut stream = SseClient::live(&server, "?topic=a").await;
    let receipt = typed(&server, "a", "changed", &json!([1, 2])).await;
    let event = stream.next().await.expect("an event");
    assert_eq!(
        (event.event.as_str(), event.id.as_str()),
        ("message", receipt["id"].as_str().unwrap())
    );
    let expected = json!({
        "id": receipt["id"], "topic": "a", "type": "changed", "time": receipt["time"], "data": [1, 2],
    });
    assert_eq!(event.json(), expected);
}

#[tokio::test]
async fn with_format_data_the_data_comes_bare_under_its_type() {
    let server = TestServer::open();
    let mut stream = SseClient::live(&server, "?topic=a&format=data").await;
    let first = typed(&server, "a", "changed", &json!({"x": 1})).await;
    server.publish("a", &json!("plain")).await;
    let event = stream.next().await.expect("an event");
    assert_eq!((event.event.as_str(), event.data.as_str()), ("changed", r#"{"x":1}"#));
    assert_eq!(event.id, first["id"]);
    let event = stream.next().await.expect("an event");
    assert_eq!((event.event.as_str(), event.data.as_str()), ("message", r#""plain""#));
}

#[tokio::test]
async fn a_stream_says_when_to_come_back_and_not_all_are_told_the_same() {
    let server = TestServer::open();
    let mut waits = Vec::new();
    for _ in 0..8 {
        let stream = SseClient::live(&server, "?topic=a").await;
        waits.push(stream.retry.expect("a retry"));
    }
    assert!(waits.iter().all(|millis| (1_000..3_000).contains(millis)), "{waits:?}");
    assert!(waits.iter().any(|millis| *millis != waits[0]), "{waits:?}");
}

#[tokio::test]
async fn a_heartbeat_is_a_comment_and_the_cursor_comes_with_it_where_the_log_moved() {
    let server = TestServer::with(|config| {
        config.server.stream_heartbeat = Duration::from_secs(1);
    });
    let mut stream = SseClient::live(&server, "?topic=a").await;
    let comments = stream.comments;
    let elsewhere = server.publish("b", &json!(1)).await;
    let cursor = stream.any().await.expect("an event");
    assert_eq!((cursor.event.as_str(), &cursor.id), ("fanfare.cursor", &stream.last_event_id));
    assert_eq!(cursor.json(), json!({"cursor": elsewhere["id"]}));
    assert_eq!(cursor.json()["cursor"], cursor.id);
    assert!(stream.comments > comments);
}

/// A stream as it came, until it holds `end`.
async fn raw(server: &TestServer, query: &str, end: &str) -> String {
    let request = server.get(&format!("/v1/sse{query}")).header("accept", "text/event-stream");
    let response = request.send().await.expect("an answer");
    assert_eq!(response.headers()["cache-control"], "no-store, no-transform");
    let (mut bytes, mut text) = (response.bytes_stream(), String::new());
    while !text.contains(end) {
        let chunk = bytes.next().await.expect("the stream goes on").expect("bytes");
        text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
    }
    text
}

#[tokio::test]
async fn every_block_has_data_for_some_readers_take_any_other_for_an_empty_event() {
    let server = TestServer::with(|config| {
        config.server.stream_heartbeat = Duration::from_secs(1);
    });
    let first = server.publish("a", &json!(1)).await;
    server.publish("a", &json!(2)).await;
    let since = first["id"].as_str().expect("an id");
    let (elsewhere, _) = tokio::join!(raw(&server, "?topic=a", "fanfare.cursor"), async {
        // Once the stream is live: else its `live` has that place already.
        eventually("it is there", async || {
            let topic = server.get("/v1/topics/a").send().await.expect("an answer");
            topic.json::<Value>().await.expect("JSON")["subscribers"] == 1
        })
        .await;
        server.publish("b", &json!(1)).await
    });
    let resumed = raw(&server, &format!("?topic=a&since={since}"), "fanfare.live").await;
    for text in [elsewhere, resumed] {
        let (whole, _) = text.rsplit_once("\n\n").expect("a block");
        for block in whole.split("\n\n") {
            let has_data = block.lines().any(|line| line.starts_with("data:"));
            assert!(has_data, "{block:?} of {text}");
        }
        let first = text.split("\n\n").next().expect("a block");
        assert!(first.lines().any(|line| line.starts_with("retry: ")), "{text}");
    }
}

#[tokio::test]
async fn who_asks_for_heartbeats_sees_them_as_events() {
    let server = TestServer::open();
    let mut stream = SseClient::live(&server, "?topic=a&heartbeat=1").await;
    for _ in 0..2 {
        let heartbeat = stream.next().await.expect("an event");
        assert_eq!((heartbeat.event.as_str(), heartbeat.json()), ("fanfare.heartbeat", json!({})));
    }
    assert_eq!(stream.comments, 1, "the one that begins it");
    for bad in ["0", "301", "1.5", "often"] {
        let query = format!("/v1/sse?topic=a&heartbeat={bad}");
        assert_eq!(problem(server.get(&query)).await, (400, "bad_request".to_owned()), "{bad}");
    }
}

#[tokio::test]
async fn last_event_id_resumes_and_beats_since() {
    let server = TestServer::open();
    let events: Vec<_> = (1..=4).map(|n| ("a".to_owned(), json!(n))).collect();
    let ids = server.publish_all(&events).await;
    let query = format!("?topic=a&since={}", ids[0]);
    let mut stream = SseClient::connect(&server, &query, &[]).await;
    let replayed = stream.events(4).await;
    let data = |event: &support::sse::SseEvent| event.json()["data"].clone();
    assert_eq!(replayed[..3].iter().map(data).collect::<Vec<_>>(), [2, 3, 4]);
    assert!(replayed[..3].iter().all(|event| event.json()["replay"] == 0));
    assert_eq!(replayed[3].event, "fanfare.live");

    let header = [("last-event-id", ids[2].as_str())];
    let mut stream = SseClient::connect(&server, &query, &header).await;
    let replayed = stream.events(2).await;
    assert_eq!((data(&replayed[0]), replayed[1].event.as_str()), (json!(4), "fanfare.live"));
    assert_eq!(replayed[1].id, ids[3]);
}

#[tokio::test]
async fn a_cursor_of_another_log_is_a_gap_and_then_what_is_kept() {
    let server = TestServer::open();
    let receipt = server.publish("a", &json!(1)).await;
    let header = [("last-event-id", "abcdefgh-1-7")];
    let mut stream = SseClient::connect(&server, "?topic=a", &header).await;
    let gap = stream.next().await.expect("a gap");
    assert_eq!((gap.event.as_str(), gap.id.as_str()), ("fanfare.gap", ""));
    assert_eq!(gap.json(), json!({"ref": 0, "since": "abcdefgh-1-7"}));
    let event = stream.next().await.expect("an event");
    assert_eq!(
        (event.id.as_str(), event.json()["data"].clone()),
        (receipt["id"].as_str().unwrap(), json!(1))
    );
    assert_eq!(stream.next().await.expect("live").event, "fanfare.live");
}

#[tokio::test]
async fn snapshots_have_no_id_so_that_a_reconnect_does_not_skip() {
    let server = TestServer::open();
    server.publish("a.x", &json!("old")).await;
    server.publish("a.x", &json!("new")).await;
    let newest = server.publish("a.y", &json!("other")).await;
    let mut stream = SseClient::connect(&server, "?topic=a.*&snapshot=true", &[]).await;
    let events = stream.events(3).await;
    let shown: Vec<_> = events[..2].iter().map(|event| event.json()["data"].clone()).collect();
    assert_eq!(shown, ["new", "other"]);
    assert!(
        events[..2].iter().all(|event| event.id.is_empty() && event.json()["snapshot"] == true)
    );
    assert_eq!(
        (events[2].event.as_str(), events[2].id.as_str()),
        ("fanfare.live", newest["id"].as_str().unwrap())
    );
}

#[tokio::test]
async fn a_client_that_hangs_up_is_gone_at_once() {
    let server = TestServer::open();
    let stream = SseClient::live(&server, "?topic=a").await;
    let subscribers = async || {
        let topic = server.get("/v1/topics/a").send().await.expect("an answer");
        topic.json::<Value>().await.expect("JSON")["subscribers"].clone()
    };
    assert_eq!(subscribers().await, 1);
    drop(stream);
    eventually("nobody is subscribed", async || subscribers().await == 0).await;
}

#[tokio::test]
async fn a_stop_ends_the_stream_with_a_bye_that_says_when_to_come_back() {
    let mut server = TestServer::open();
    let mut stream = SseClient::live(&server, "?topic=a").await;
    server.begin_stop();
    let bye = stream.next().await.expect("a bye");
    assert_eq!((bye.event.as_str(), bye.json()["code"].clone()), ("fanfare.bye", json!("restart")));
    assert!((1_000..=2_000).contains(&stream.retry.expect("a retry")));
    assert!(bye.json()["retry_after_ms"].is_u64());
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn an_ended_session_gets_a_bye_and_no_more() {
    let server = TestServer::open();
    let mut stream = SseClient::live(&server, "?topic=a").await;
    let sessions = server.get("/v1/sessions").send().await.expect("an answer");
    let sessions: Value = sessions.json().await.expect("JSON");
    let id = sessions["sessions"][0]["session"].as_str().expect("an id");
    let ended = server.delete(&format!("/v1/sessions/{id}")).send().await.expect("an answer");
    assert_eq!(ended.status(), 204);
    let bye = stream.next().await.expect("a bye");
    assert_eq!((bye.event.as_str(), bye.json()["code"].clone()), ("fanfare.bye", json!("policy")));
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn what_is_wrong_at_connect_is_a_plain_status() {
    let server = TestServer::open();
    for (query, status, code) in [
        ("", 400, Code::BadRequest),
        ("?topic=a..b", 422, Code::InvalidPattern),
        ("?topic=a&since=x", 400, Code::InvalidCursor),
        ("?topic=a&format=xml", 400, Code::BadRequest),
        ("?topic=a&colour=red", 400, Code::BadRequest),
        ("?topic=a&max_rate=0", 400, Code::BadRequest),
    ] {
        let got = problem(server.get(&format!("/v1/sse{query}"))).await;
        assert_eq!(got, (status, code.as_str().to_owned()), "{query}");
    }
    let bad = server.get("/v1/sse?topic=a").header("last-event-id", "nonsense");
    assert_eq!(problem(bad).await, (400, "invalid_cursor".to_owned()));
}
