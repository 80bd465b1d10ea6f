//! Every way to begin: from a time, with the newest events of each topic, with the newest of all.

mod support;

use std::future::ready;
use std::process::Command;

use fanfare::config::Config;
use futures_util::StreamExt;
use serde_json::{Value, json};
use support::kept::{Kept, behind, on_every_history};
use support::process::without_settings;
use support::redis::Redis;
use support::sse::SseClient;
use support::ws::WsClient;
use support::{TestServer, close, numbered, problem, token};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// What comes up to and with `live`, but for `ack` and `cursor`.
async fn until_live(client: &mut WsClient) -> Vec<Value> {
    let mut frames = Vec::new();
    loop {
        let frame = client.next().await;
        assert!(!["bye", "error"].iter().any(|op| frame["op"] == *op), "{frame}");
        let is_live = frame["op"] == "live";
        if !matches!(frame["op"].as_str(), Some("ack" | "cursor")) {
            frames.push(frame);
        }
        if is_live {
            return frames;
        }
    }
}

/// What comes at connect, up to `live`.
async fn at_connect(server: &TestServer, query: &str) -> Vec<Value> {
    until_live(&mut WsClient::connect(server, query).await).await
}

/// What comes over an event stream up to `live`, as it would over a WebSocket.
async fn over_a_stream(mut stream: SseClient) -> Vec<Value> {
    let mut frames = Vec::new();
    loop {
        let event = stream.next().await.expect("an event");
        let mut frame = event.json();
        frame["op"] = match event.event.strip_prefix("fanfare.") {
            Some(op) => json!(op),
            None => {
                assert_eq!(event.id.is_empty(), frame["snapshot"] == json!(true), "{frame}");
                json!("event")
            }
        };
        let is_live = frame["op"] == "live";
        frames.push(frame);
        if is_live {
            return frames;
        }
    }
}

/// What comes as CBOR, up to `live`.
async fn as_cbor(server: &TestServer, query: &str) -> Vec<Value> {
    let url = format!("ws://{}/v1/ws{query}", server.addr);
    let mut request = url.into_client_request().expect("a request");
    let protocol = "fanfare.v1+cbor".parse().expect("a value");
    request.headers_mut().insert("sec-websocket-protocol", protocol);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("a connection");
    let mut frames = Vec::new();
    loop {
        let message = socket.next().await.expect("a message").expect("no error");
        let Message::Binary(bytes) = message else { continue };
        let frame: Value = ciborium::from_reader(&bytes[..]).expect("CBOR");
        let op = frame["op"].as_str().expect("an op").to_owned();
        if !["welcome", "ack", "cursor"].contains(&&*op) {
            frames.push(frame);
        }
        if op == "live" {
            return frames;
        }
    }
}

/// The body of `POST /v1/sse`.
async fn by_a_body(server: &TestServer, body: &Value) -> SseClient {
    let request = server.post("/v1/sse").header("accept", "text/event-stream").json(body);
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    let whole = response.bytes_stream().take_while(|bytes| ready(bytes.is_ok()));
    SseClient::of(whole.filter_map(|bytes| ready(bytes.ok())))
}

/// The data of events that all have a mark.
fn marked(frames: &[Value], mark: &str) -> Vec<Value> {
    let events = frames.iter().filter(|frame| frame["op"] == "event");
    events
        .map(|event| {
            assert!(!event[mark].is_null(), "no {mark}: {event}");
            event["data"].clone()
        })
        .collect()
}

fn ops(frames: &[Value]) -> Vec<&str> {
    let mut ops: Vec<_> = frames.iter().filter_map(|frame| frame["op"].as_str()).collect();
    ops.dedup();
    ops
}

/// What comes first by every transport, which is the same.
async fn by_every_transport(server: &TestServer, name: &str, value: &Value) -> Vec<Value> {
    let query = format!("?topic=s.*&{name}={}", value.to_string().trim_matches('"'));
    let first = at_connect(server, &query).await;
    let beginning = |frames: &[Value]| -> Vec<_> {
        let events = frames.iter().filter(|frame| frame["op"] == "event");
        let events = events.map(|frame| {
            (frame["topic"].clone(), frame["data"].clone(), frame["snapshot"].clone())
        });
        events.collect()
    };
    let expected = beginning(&first);
    assert_eq!(beginning(&as_cbor(server, &query).await), expected, "CBOR");
    let stream = SseClient::connect(server, &query, &[]).await;
    assert_eq!(beginning(&over_a_stream(stream).await), expected, "an event stream");
    let stream = by_a_body(server, &json!({"topics": ["s.*"], name: value})).await;
    assert_eq!(beginning(&over_a_stream(stream).await), expected, "a body");
    let mut client = WsClient::connect(server, "").await;
    let mut subscribe = json!({"op": "subscribe", "topics": ["s.*"], "ref": 7});
    subscribe[name] = value.clone();
    client.send(subscribe).await;
    let asked = until_live(&mut client).await;
    assert_eq!(beginning(&asked), expected, "a request");
    let replays = asked.iter().filter_map(|frame| frame.get("replay"));
    assert!(replays.into_iter().all(|reference| *reference == json!(7)), "{asked:?}");
    first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_events_of_each_topic_come_first_however_they_are_asked_for() {
    for Kept { server, .. } in &on_every_history(|_| {}) {
        for n in 0..9 {
            server.publish(["s.b", "s.a", "s.c"][n % 3], &json!(n)).await;
        }
        server.publish("s.b", &json!(9)).await;
        server.publish("other", &json!("other")).await;
        let first = by_every_transport(server, "last", &json!(2)).await;
        assert_eq!(marked(&first, "snapshot"), [4, 7, 6, 9, 5, 8]);
        assert_eq!(ops(&first), ["event", "live"]);
        assert_eq!(
            marked(&by_every_transport(server, "last", &json!(1)).await, "snapshot"),
            [7, 9, 8]
        );
        let snapshot = by_every_transport(server, "snapshot", &json!(true)).await;
        assert_eq!(marked(&snapshot, "snapshot"), [7, 9, 8]);
        let more = by_every_transport(server, "last", &json!(100)).await;
        assert_eq!(marked(&more, "snapshot"), [1, 4, 7, 0, 3, 6, 9, 2, 5, 8]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_events_of_all_topics_come_as_a_replay_in_the_order_of_the_log() {
    for Kept { server, .. } in &on_every_history(|config| config.rules.default.max_events = 3) {
        for n in 0..12 {
            server.publish(["s.b", "s.a", "other"][n % 3], &json!(n)).await;
        }
        let tail = by_every_transport(server, "tail", &json!(3)).await;
        assert_eq!(marked(&tail, "replay"), [7, 9, 10]);
        assert_eq!(ops(&tail), ["event", "live"]);
        // What was removed before is no gap to who asks for the newest.
        let tail = by_every_transport(server, "tail", &json!(100)).await;
        assert_eq!(marked(&tail, "replay"), [3, 4, 6, 7, 9, 10]);
        assert_eq!(ops(&tail), ["event", "live"]);
        // Who is cut off in its midst goes on from there.
        let id = tail[1]["id"].as_str().expect("an id");
        let rest = at_connect(server, &format!("?topic=s.*&tail=100&since={id}")).await;
        assert_eq!(marked(&rest, "replay"), [6, 7, 9, 10]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_page_comes_whole_and_in_order() {
    let text = "x".repeat(20_000);
    for Kept { server, .. } in &on_every_history(|_| {}) {
        for batch in 0..5 {
            let events = (0..20).map(|n| {
                let topic = ["s.a", "s.b"][n % 2].to_owned();
                (topic, json!([batch * 20 + n, text]))
            });
            server.publish_all(&events.collect::<Vec<_>>()).await;
        }
        let numbers = |frames: &[Value], mark| -> Vec<_> {
            let data = marked(frames, mark);
            data.iter().map(|data| data[0].as_u64().expect("a number")).collect()
        };
        let last = at_connect(server, "?topic=s.*&last=40").await;
        let expected: Vec<_> = (20..100).step_by(2).chain((21..100).step_by(2)).collect();
        assert_eq!(numbers(&last, "snapshot"), expected);
        let tail = at_connect(server, "?topic=s.*&tail=77").await;
        assert_eq!(numbers(&tail, "replay"), (23..100).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_meanwhile_comes_once_and_in_order_behind_what_comes_first() {
    for Kept { server, .. } in &on_every_history(|config| {
        config.rules.default.max_events = 5_000;
        // So small that what waits overflows and is read again.
        config.limits.catchup_bytes = 2_000;
    }) {
        server.publish_all(&numbered("s.a", 0..50)).await;
        let publish = async {
            for batch in 0..40 {
                server.publish_all(&numbered("s.a", 50 + batch * 25..75 + batch * 25)).await;
            }
        };
        let follow = async |query: &str| {
            for _ in 0..6 {
                let mut client = WsClient::connect(server, query).await;
                let mut next = None;
                for _ in 0..60 {
                    let event = client.until("event").await;
                    let number = event["data"].as_u64().expect("a number");
                    assert_eq!(next.unwrap_or(number), number, "{query}: {event}");
                    next = Some(number + 1);
                    if next == Some(1_050) {
                        break;
                    }
                }
            }
        };
        tokio::join!(publish, follow("?topic=s.*&last=30"), follow("?topic=s.*&tail=30"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn since_a_time_comes_what_has_happened_since() {
    for Kept { server, .. } in &on_every_history(|_| {}) {
        server.publish("s.a", &json!(1)).await;
        let second = loop {
            // Each millisecond is a moment.
            let receipt = server.publish("s.b", &json!(2)).await;
            let first = at_connect(server, "?topic=s.a&last=1").await[0]["time"].clone();
            if receipt["time"] != first {
                break receipt;
            }
        };
        let time = second["time"].as_str().expect("a time").to_owned();
        let all = by_every_transport(server, "since", &json!("-1h")).await;
        assert_eq!(marked(&all, "replay").first(), Some(&json!(1)));
        assert_eq!(ops(&all), ["event", "live"]);
        let some = by_every_transport(server, "since", &json!(time)).await;
        assert_eq!(marked(&some, "replay").first(), Some(&json!(2)));
        let none = by_every_transport(server, "since", &json!("2200-01-01T00:00:00Z")).await;
        assert_eq!(ops(&none), ["live"]);
        // In mode `latest` the newest of each topic that changed since then.
        let changed = at_connect(server, "?topic=s.*&since=-1h&mode=latest").await;
        assert_eq!(marked(&changed, "conflated"), [1, 2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn since_a_time_that_the_clock_went_back_over_there_is_a_gap() {
    let redis = Redis::ahead_by(3_600);
    let node = behind(&redis, |_| {});
    node.publish("s.a", &json!("an hour ahead")).await;
    redis.set_ahead(0);
    node.publish("s.a", &json!("set right")).await;
    redis.set_ahead(7_200);
    node.publish("s.a", &json!("later")).await;
    let frames = by_every_transport(&node, "since", &json!("-90m")).await;
    assert_eq!(
        (ops(&frames), frames[1]["data"].clone()),
        (vec!["gap", "event", "live"], json!("later"))
    );
    let frames = at_connect(&node, "?topic=s.*&since=-90m&last=2").await;
    assert_eq!(ops(&frames), ["gap", "event", "live"]);
    assert_eq!(marked(&frames, "snapshot"), ["set right", "later"]);
    let frames = at_connect(&node, "?topic=s.*&since=-90m&mode=latest").await;
    assert_eq!(ops(&frames), ["gap", "event", "live"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_place_they_act_only_after_a_gap() {
    for Kept { server, .. } in &on_every_history(|_| {}) {
        let ids = server.publish_all(&numbered("s.a", 0..6)).await;
        let foreign = "zzzzzzzz-1-5";
        for (first, mark, expected) in
            [("last=2", "snapshot", [4, 5]), ("tail=2", "replay", [4, 5])]
        {
            let query = |since: &str| format!("?topic=s.*&{first}&since={since}");
            let resumed = at_connect(server, &query(&ids[2])).await;
            assert_eq!(
                (ops(&resumed), marked(&resumed, "replay").len()),
                (vec!["event", "live"], 3)
            );
            let frames = at_connect(server, &query(foreign)).await;
            assert_eq!(ops(&frames), ["gap", "event", "live"]);
            assert_eq!(marked(&frames, mark), expected);
            let latest = at_connect(server, &format!("{}&mode=latest", query(foreign))).await;
            assert_eq!(marked(&latest, mark), expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_screen_comes_back_to_the_newest_alone_and_hears_of_a_gap_where_nothing_newer_is_kept()
 {
    for Kept { server, .. } in &on_every_history(|config| config.rules.default.max_events = 1) {
        for topic in ["s.a", "s.b", "s.c"] {
            server.publish(topic, &json!("old")).await;
        }
        let since = server.publish("s.d", &json!("old")).await["id"].clone();
        let since = since.as_str().expect("an id");
        for n in 0..3 {
            server.publish("s.a", &json!(n)).await;
        }
        let removed = server.delete("/v1/topics/s.b").send().await.expect("an answer");
        assert!(removed.status().is_success());
        let query = format!("?topic=s.*&since={since}&mode=latest");
        let resumed = at_connect(server, &query).await;
        assert_eq!(ops(&resumed), ["event", "live"]);
        assert_eq!(marked(&resumed, "conflated"), [json!(2), Value::Null]);
        assert_eq!(resumed[1]["removed"], true);
        server.publish("s.c", &json!("new")).await;
        let forgotten = server.delete("/v1/topics/s.c/events").send().await.expect("an answer");
        assert!(forgotten.status().is_success());
        let resumed = at_connect(server, &query).await;
        assert_eq!(ops(&resumed), ["gap", "event", "live"]);
        assert_eq!(marked(&resumed, "conflated"), [json!(2), json!("old")]);
        server.publish("s.c", &json!("newer")).await;
        let resumed = at_connect(server, &query).await;
        assert_eq!(ops(&resumed), ["event", "live"]);
        assert_eq!(marked(&resumed, "conflated"), [json!(2), Value::Null, json!("newer")]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_screen_begins_with_as_many_and_is_conflated_only_then() {
    for Kept { server, .. } in &on_every_history(|_| {}) {
        server.publish_all(&numbered("s.a", 0..6)).await;
        server.publish("s.b", &json!(6)).await;
        let last = at_connect(server, "?topic=s.*&last=3&max_rate=0.1").await;
        assert_eq!(marked(&last, "snapshot"), [3, 4, 5, 6]);
        let tail = at_connect(server, "?topic=s.*&tail=3&max_rate=0.1").await;
        assert_eq!(marked(&tail, "replay"), [4, 5, 6]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_topic_whose_value_was_removed_only_what_came_later_is_shown() {
    for Kept { server, .. } in &on_every_history(|_| {}) {
        for (topic, data) in
            [("s.a", Some(1)), ("s.a", None), ("s.a", Some(2)), ("s.b", Some(3)), ("s.b", None)]
        {
            let event = match data {
                Some(number) => json!({"topic": topic, "data": number}),
                None => json!({"topic": topic, "removed": true}),
            };
            let answer = server.post("/v1/events").json(&event).send().await.expect("an answer");
            assert_eq!(answer.status(), 201);
        }
        assert_eq!(marked(&at_connect(server, "?topic=s.*&last=5").await, "snapshot"), [2]);
        let tail = at_connect(server, "?topic=s.*&tail=4").await;
        let removed: Vec<_> = tail.iter().map(|frame| frame["removed"] == json!(true)).collect();
        assert_eq!(removed, [true, false, false, true, false], "as they happened, and live");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_count_what_the_session_may_see() {
    for Kept { server, .. } in &on_every_history(|config| {
        close(config);
        config.limits.last_events = 4;
    }) {
        let http = |topic: &str| server.post(&format!("/v1/topics/{topic}/events"));
        for n in 0..10 {
            let topic = if n % 5 == 0 { "eu.a" } else { "us.a" };
            let request = http(topic).bearer_auth(support::API_KEY).json(&json!(n));
            assert_eq!(request.send().await.expect("an answer").status(), 201);
        }
        let token = token("ada", &["eu.>"], &[], 60);
        let asked = async |query: &str| {
            at_connect(server, &format!("?topic=%3E&{query}&access_token={token}")).await
        };
        assert_eq!(marked(&asked("tail=2").await, "replay"), [0, 5]);
        assert_eq!(marked(&asked("tail=1").await, "replay"), [5]);
        assert_eq!(marked(&asked("last=4").await, "snapshot"), [0, 5]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_back_stops_after_so_many_events_and_sends_what_was_found() {
    const BATCH: usize = 10_000;
    let server = TestServer::with(|config| {
        close(config);
        config.rules.default.max_events = 20 * BATCH;
    });
    let publish = async |topic: &str, count: usize| {
        let events: Vec<_> = (0..count).map(|n| json!({"topic": topic, "data": n})).collect();
        let request = server.post("/v1/events").bearer_auth(support::API_KEY);
        let answer = request.json(&json!({"events": events})).send().await.expect("an answer");
        assert_eq!(answer.status(), 201);
    };
    publish("eu.a", 1).await;
    let token = token("ada", &["eu.>"], &[], 3_600);
    let query = format!("?topic=%3E&tail=1&access_token={token}");
    for _ in 0..5 {
        publish("us.a", BATCH).await;
    }
    assert_eq!(marked(&at_connect(&server, &query).await, "replay"), [0]);
    for _ in 0..6 {
        publish("us.a", BATCH).await;
    }
    assert_eq!(ops(&at_connect(&server, &query).await), ["live"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_at_a_time_is_refused_with_its_number() {
    let change = |config: &mut Config| {
        config.limits.last_events = 5;
        // Where one has heard an event, the next one begins behind it.
        config.server.workers = 1;
    };
    for Kept { server, .. } in &on_every_history(change) {
        for n in 0..9 {
            server.publish(["s.a", "s.b", "s.c"][n % 3], &json!(n)).await;
        }
        assert_eq!(problem(server.get("/v1/sse?topic=s.*&last=6")).await, (429, "too_many".into()));
        assert_eq!(problem(server.get("/v1/sse?topic=s.*&tail=6")).await, (429, "too_many".into()));
        let mut client = WsClient::connect(server, "").await;
        let answer =
            client.ask(1, json!({"op": "subscribe", "topics": ["s.*", "s.a"], "last": 2})).await;
        assert_eq!((&answer["op"], &answer["code"]), (&json!("error"), &json!("too_many")));
        let message = answer["message"].as_str().expect("a message");
        assert!(
            message.contains("6 events") && message.contains("limits.last_events"),
            "{message}"
        );
        // What is refused is not subscribed to, and the connection stays.
        let mut listens = WsClient::live(server, "?topic=s.a").await;
        server.publish("s.a", &json!("unheard")).await;
        assert_eq!(listens.until("event").await["data"], "unheard");
        assert_eq!(
            client.ask(2, json!({"op": "subscribe", "topics": ["s.a"], "last": 2})).await["op"],
            "ack"
        );
        assert_eq!(
            marked(&until_live(&mut client).await, "snapshot"),
            [json!(6), json!("unheard")]
        );
        let mut stream = SseClient::connect(server, "?topic=s.*&last=2", &[]).await;
        let mut bye = None;
        while let Some(event) = stream.next().await {
            bye = Some(event);
        }
        let bye = bye.expect("the stream says why it ends");
        assert_eq!((&*bye.event, &bye.json()["code"]), ("fanfare.bye", &json!("too_many")));
        // A snapshot has no such limit.
        server.publish_all(&(0..6).map(|n| (format!("t.{n}"), json!(n))).collect::<Vec<_>>()).await;
        assert_eq!(
            marked(&at_connect(server, "?topic=t.*&snapshot=true").await, "snapshot").len(),
            6
        );
    }
}

#[tokio::test]
async fn at_most_one_of_them_may_be_asked_for_and_none_of_nothing() {
    let server = TestServer::open();
    for query in [
        "topic=a&last=1&tail=1",
        "topic=a&last=1&snapshot=true",
        "topic=a&tail=1&snapshot=true",
        "topic=a&last=0",
        "topic=a&tail=x",
        "topic=a&last=1.5",
    ] {
        for path in ["/v1/sse", "/v1/ws"] {
            let mut request = server.get(&format!("{path}?{query}"));
            if path == "/v1/ws" {
                let key = "dGhlIHNhbXBsZSBub25jZQ==";
                let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
                for (name, value) in upgrade
                    .into_iter()
                    .chain([("sec-websocket-version", "13"), ("sec-websocket-key", key)])
                {
                    request = request.header(name, value);
                }
            }
            assert_eq!(problem(request).await, (400, "bad_request".into()), "{path}?{query}");
        }
    }
    assert_eq!(
        problem(server.get("/v1/sse?topic=a&since=-15x")).await,
        (400, "invalid_cursor".into())
    );
    for body in [json!({"last": 1, "tail": 1}), json!({"last": 0}), json!({"tail": "5"})] {
        let mut body = body;
        body["topics"] = json!(["a"]);
        let refused = problem(server.post("/v1/sse").json(&body)).await;
        assert_eq!(refused, (400, "bad_request".into()), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_gap_while_live_the_newest_events_of_its_topics_come_again() {
    let redis = Redis::start();
    let roomy = |config: &mut Config| {
        config.rules.default.max_events = 3;
        config.limits.event_bytes = 1 << 20;
        config.limits.outbox_bytes = 256 << 20;
        config.limits.catchup_bytes = 256 << 20;
    };
    let nodes = [behind(&redis, roomy), behind(&redis, roomy)];
    // So large that a node has to fetch it.
    let text = "x".repeat(300_000);
    let large = |from: usize| -> Vec<_> {
        (from..from + 9).map(|n| ("s.a".to_owned(), json!([n, text]))).collect()
    };
    nodes[0].publish("s.b", &json!(["b"])).await;
    nodes[0].publish_all(&large(0)).await;
    let mut client = WsClient::connect(&nodes[1], "?topic=s.*&last=2").await;
    let first = marked(&until_live(&mut client).await, "snapshot");
    let numbers: Vec<_> = first.iter().map(|data| data[0].clone()).collect();
    assert_eq!(numbers, [json!(7), json!(8), json!("b")]);
    // All but three of them are gone before another node can fetch them.
    nodes[0].publish_all(&large(9)).await;
    client.until("gap").await;
    let mut numbers = Vec::new();
    while numbers.last() != Some(&json!(17)) {
        numbers.push(client.until("event").await["data"][0].clone());
    }
    assert!(numbers.ends_with(&[json!(16), json!(17)]), "{numbers:?}");
    assert!(!numbers.contains(&json!("b")), "no topic but the one of the gap: {numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_begins_in_each_of_these_ways() {
    let server = TestServer::open();
    for n in 0..6 {
        server.publish(["s.a", "s.b"][n % 2], &json!(n)).await;
    }
    let url = server.url("");
    for (asked, expected) in [
        (&["--last", "2"][..], &["2", "4", "3", "5"][..]),
        (&["--tail", "3"], &["3", "4", "5"]),
        (&["--since", "-1h"], &["0", "1", "2", "3", "4", "5"]),
        (&["--since", "2000-01-01T00:00:00Z"], &["0", "1", "2", "3", "4", "5"]),
    ] {
        let count = expected.len().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        let command = without_settings(&mut command);
        command.args(["subscribe", "--url", &url, "s.*", "--data", "--count", &count]).args(asked);
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{asked:?}: {errors}");
    }
}
