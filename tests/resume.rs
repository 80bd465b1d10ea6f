//! Who comes back with a cursor gets each later event once and in order, or is told of a gap.

mod support;

use std::time::Duration;

use fanfare::config::Config;
use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::ws::WsClient;
use support::{API_KEY, TestServer, close, expect_status, token};

fn numbered(topic: &str, numbers: impl IntoIterator<Item = usize>) -> Vec<(String, Value)> {
    numbers.into_iter().map(|n| (topic.to_owned(), json!(n))).collect()
}

fn data(events: &[Value]) -> Vec<Value> {
    events.iter().map(|event| event["data"].clone()).collect()
}

/// What comes up to and with the next `live`.
async fn until_live(client: &mut WsClient) -> Vec<Value> {
    let mut frames = Vec::new();
    loop {
        let frame = client.next().await;
        assert_ne!(frame["op"], "bye", "{frame}");
        let is_live = frame["op"] == "live";
        if !matches!(frame["op"].as_str(), Some("ack" | "cursor")) {
            frames.push(frame);
        }
        if is_live {
            return frames;
        }
    }
}

/// Follows a pattern over many short connections, each from the cursor that the one before had
/// reached, until so many events came.
async fn follow(server: &TestServer, pattern: &str, total: usize, reads: usize) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor: Option<String> = None;
    while ids.len() < total {
        let since = cursor.iter().map(|cursor| format!("&since={cursor}")).collect::<String>();
        let mut client = WsClient::connect(server, &format!("?topic={pattern}{since}")).await;
        let mut left = reads;
        while left > 0 && ids.len() < total {
            let frame = client.next().await;
            match frame["op"].as_str() {
                Some("event") => {
                    let id = frame["id"].as_str().expect("an id").to_owned();
                    cursor = Some(id.clone());
                    ids.push(id);
                    left -= 1;
                }
                Some("live" | "cursor") => cursor = frame["cursor"].as_str().map(str::to_owned),
                Some("ack") => {}
                _ => panic!("unexpected: {frame}"),
            }
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_or_doubled_where_replay_meets_live_at_full_speed() {
    const BATCHES: usize = 300;
    const BATCH: usize = 10;
    let server = TestServer::with(|config| {
        config.rules.default.max_events = BATCHES * BATCH;
        // So small that what waits overflows and is read again, again and again.
        config.limits.catchup_bytes = 2_000;
    });
    // The followers' first cursor: everything after it is theirs.
    let start = server.publish("seam.start", &json!(0)).await;
    let start = start["id"].as_str().expect("an id");
    let publish = async {
        let mut ids = Vec::new();
        for batch in 0..BATCHES {
            let topic = format!("seam.{}", batch % 3);
            ids.extend(server.publish_all(&numbered(&topic, 0..BATCH)).await);
        }
        ids
    };
    let follow = async |reads: usize| {
        let mut client = WsClient::connect(&server, &format!("?topic=seam.*&since={start}")).await;
        let first = client.events(reads).await;
        let last = first[reads - 1]["id"].as_str().expect("an id").to_owned();
        drop(client);
        let mut ids: Vec<_> =
            first.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect();
        let mut cursor = last;
        while ids.len() < BATCHES * BATCH {
            let query = format!("?topic=seam.*&since={cursor}");
            let mut client = WsClient::connect(&server, &query).await;
            for _ in 0..reads.min(BATCHES * BATCH - ids.len()) {
                let event = client.until("event").await;
                cursor = event["id"].as_str().expect("an id").to_owned();
                ids.push(cursor.clone());
            }
        }
        ids
    };
    let followers = join_all([13, 50, 170, 600, 1_100].map(follow));
    let (published, followed) = tokio::join!(publish, followers);
    for ids in followed {
        assert_eq!(ids, published);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cursor_of_live_is_as_good_as_an_event() {
    let server = TestServer::with(|config| config.rules.default.max_events = 2_000);
    // The first connection comes without a cursor, so only what follows its `live` is promised: it
    // must be live before anything is published.
    let ready = WsClient::live(&server, "?topic=x.*").await;
    let publish = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut ids = Vec::new();
        for n in 0..400 {
            ids.extend(server.publish_all(&numbered(&format!("x.{}", n % 7), [n])).await);
        }
        ids
    };
    let (published, followed) = tokio::join!(publish, follow(&server, "x.*", 400, 3));
    assert_eq!(followed, published);
    drop(ready);
}

#[tokio::test]
async fn a_replay_is_marked_and_ends_with_live() {
    let server = TestServer::open();
    let ids = server.publish_all(&numbered("a", 0..3)).await;
    server.publish("b", &json!("not asked for")).await;
    let mut client = WsClient::connect(&server, "").await;
    client.send(json!({"op": "subscribe", "ref": 5, "topics": ["a"], "since": ids[0]})).await;
    assert_eq!(client.next().await, json!({"op": "ack", "ref": 5}));
    let frames = until_live(&mut client).await;
    assert_eq!(data(&frames[..2]), [1, 2]);
    assert!(frames[..2].iter().all(|event| event["replay"] == 5));
    assert_eq!(frames[2]["ref"], 5);
    server.publish("a", &json!(3)).await;
    let event = client.until("event").await;
    assert_eq!((&event["data"], event.get("replay")), (&json!(3), None));
}

#[tokio::test]
async fn what_retention_removed_is_a_gap_and_what_is_left_follows() {
    let server = TestServer::with(|config: &mut Config| config.rules.default.max_events = 3);
    let ids = server.publish_all(&numbered("a", 0..6)).await;
    let mut client = WsClient::connect(&server, &format!("?topic=a&since={}", ids[0])).await;
    let frames = until_live(&mut client).await;
    assert_eq!(frames[0], json!({"op": "gap", "ref": 0, "since": ids[0]}));
    assert_eq!(data(&frames[1..4]), [3, 4, 5]);

    // The cursor of the last removed event is retained: nothing after it is missing.
    let mut client = WsClient::connect(&server, &format!("?topic=a&since={}", ids[2])).await;
    let frames = until_live(&mut client).await;
    assert_eq!(data(&frames[..3]), [3, 4, 5]);

    // And so is any cursor for a topic of which nothing was removed.
    server.publish("b", &json!("b")).await;
    let mut client = WsClient::connect(&server, &format!("?topic=b&since={}", ids[0])).await;
    assert_eq!(data(&until_live(&mut client).await[..1]), ["b"]);
}

#[tokio::test]
async fn a_forgotten_history_is_a_gap_for_who_was_in_the_middle_of_it() {
    let server = TestServer::open();
    let ids = server.publish_all(&numbered("a", 0..3)).await;
    assert_eq!(server.delete("/v1/topics/a/events").send().await.expect("an answer").status(), 200);
    let mut client = WsClient::connect(&server, &format!("?topic=a&since={}", ids[0])).await;
    let frames = until_live(&mut client).await;
    assert_eq!(frames[0]["op"], "gap");
    assert_eq!(frames.len(), 2);
    let mut client = WsClient::connect(&server, &format!("?topic=a&since={}", ids[2])).await;
    assert_eq!(until_live(&mut client).await.len(), 1);
}

#[tokio::test]
async fn foreign_and_future_cursors_are_a_gap_and_then_all_that_is_kept() {
    let server = TestServer::open();
    let ids = server.publish_all(&numbered("a", 0..2)).await;
    let log = ids[0].split('-').next().expect("a log");
    for since in ["abcdefgh-1-1".to_owned(), format!("{log}-1-99"), format!("{log}-2-1")] {
        let mut client = WsClient::connect(&server, &format!("?topic=a&since={since}")).await;
        let frames = until_live(&mut client).await;
        assert_eq!(frames[0], json!({"op": "gap", "ref": 0, "since": since}));
        assert_eq!(data(&frames[1..3]), [0, 1]);
        assert_eq!(frames[3]["cursor"], ids[1]);
    }
}

#[tokio::test]
async fn a_snapshot_is_the_current_value_of_each_topic_and_then_live_goes_on() {
    let server = TestServer::open();
    for (topic, value) in [("s.a", 1), ("s.b", 1), ("s.a", 2), ("t", 9)] {
        server.publish(topic, &json!(value)).await;
    }
    let mut client = WsClient::connect(&server, "?topic=s.*&snapshot=true").await;
    let frames = until_live(&mut client).await;
    let shown: Vec<_> = frames[..2].iter().map(|event| (&event["topic"], &event["data"])).collect();
    assert_eq!(shown, [(&json!("s.a"), &json!(2)), (&json!("s.b"), &json!(1))]);
    assert!(frames[..2].iter().all(|event| event["snapshot"] == true));
    assert_eq!(frames.len(), 3);
    server.publish("s.b", &json!(2)).await;
    let event = client.until("event").await;
    assert_eq!((&event["data"], event.get("snapshot")), (&json!(2), None));
}

#[tokio::test]
async fn a_snapshot_is_sent_after_a_gap_and_not_where_the_cursor_is_good() {
    let server = TestServer::open();
    let ids = server.publish_all(&numbered("a", 0..3)).await;
    let query = |since: &str| format!("?topic=a&snapshot=true&since={since}");
    let mut client = WsClient::connect(&server, &query(&ids[1])).await;
    let frames = until_live(&mut client).await;
    assert_eq!((data(&frames[..1]), frames.len()), (vec![json!(2)], 2));
    assert!(frames[0].get("snapshot").is_none());
    let mut client = WsClient::connect(&server, &query("abcdefgh-1-1")).await;
    let frames = until_live(&mut client).await;
    assert_eq!((&frames[0]["op"], frames.len()), (&json!("gap"), 3));
    assert_eq!((&frames[1]["data"], &frames[1]["snapshot"]), (&json!(2), &json!(true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_loses_nothing_of_what_is_published_while_it_is_taken() {
    const EVENTS: usize = 600;
    let server = TestServer::open();
    server.publish("n", &json!(-1)).await;
    let publish = async {
        for n in 0..EVENTS {
            server.publish("n", &json!(n)).await;
        }
    };
    let watch = async {
        for _ in 0..30 {
            let mut client = WsClient::connect(&server, "?topic=n&snapshot=true").await;
            let first = client.until("event").await;
            assert_eq!(first["snapshot"], true);
            let mut last = first["data"].as_i64().expect("a number");
            for _ in 0..5 {
                if last + 1 == EVENTS as i64 {
                    break;
                }
                let next = client.until("event").await["data"].as_i64().expect("a number");
                assert_eq!(next, last + 1);
                last = next;
            }
        }
    };
    tokio::join!(publish, watch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_replay_waits_for_its_reader_instead_of_closing_it() {
    const EVENTS: usize = 600;
    let server = TestServer::with(|config| {
        config.limits.outbox_bytes = 128 * 1024;
        config.rules.default.max_bytes = 64 << 20;
    });
    let start = server.publish("big", &json!("start")).await;
    let text = "x".repeat(30_000);
    for chunk in (0..EVENTS).collect::<Vec<_>>().chunks(20) {
        let events: Vec<_> =
            chunk.iter().map(|n| ("big".to_owned(), json!([n, text.as_str()]))).collect();
        server.publish_all(&events).await;
    }
    let since = start["id"].as_str().expect("an id");
    let mut slow = WsClient::connect(&server, &format!("?topic=big&since={since}")).await;
    // Far more is due than its outbox and the kernel's buffers hold, and it is not read.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let sessions = server.get("/v1/sessions").send().await.expect("an answer");
    let sessions: Value = sessions.json().await.expect("JSON");
    let queued = sessions["sessions"][0]["queued_bytes"].as_u64().expect("a number");
    assert!(queued <= 128 * 1024, "{queued}");
    for n in 0..EVENTS {
        assert_eq!(slow.until("event").await["data"][0], n);
    }
    slow.until("live").await;
}

#[tokio::test]
async fn unsubscribing_ends_a_replay_in_its_middle() {
    let server = TestServer::with(|config| {
        config.limits.outbox_bytes = 64 * 1024;
        config.rules.default.max_bytes = 64 << 20;
    });
    let start = server.publish("big", &json!("start")).await;
    let data = json!("x".repeat(20_000));
    for _ in 0..40 {
        server.publish_all(&vec![("big".to_owned(), data.clone()); 20]).await;
    }
    let mut client = WsClient::connect(&server, "").await;
    let since = &start["id"];
    client.send(json!({"op": "subscribe", "ref": 1, "topics": ["big"], "since": since})).await;
    client.until("event").await;
    client.send(json!({"op": "unsubscribe", "ref": 2, "topics": ["big"]})).await;
    let mut more = 0;
    loop {
        let frame = client.next().await;
        match frame["op"].as_str() {
            Some("event") => more += 1,
            _ => {
                assert_eq!(frame, json!({"op": "ack", "ref": 2}));
                break;
            }
        }
    }
    assert!(more < 700, "{more} events of 800 came");
    client.send(json!({"op": "ping", "ref": 3})).await;
    assert_eq!(client.next().await, json!({"op": "pong", "ref": 3}));
}

#[tokio::test]
async fn a_replay_goes_on_beside_what_is_live() {
    let server = TestServer::open();
    let ids = server.publish_all(&numbered("old", 0..500)).await;
    let mut client = WsClient::live(&server, "?topic=new").await;
    client.send(json!({"op": "subscribe", "ref": 1, "topics": ["old"], "since": ids[0]})).await;
    let live: Vec<_> = server.publish_all(&numbered("new", 0..5)).await;
    let (mut replayed, mut fresh) = (Vec::new(), Vec::new());
    while replayed.len() < 499 || fresh.len() < 5 {
        let event = client.until("event").await;
        let ids = if event["replay"] == 1 { &mut replayed } else { &mut fresh };
        ids.push(event["id"].as_str().expect("an id").to_owned());
    }
    assert_eq!((&replayed[..], &fresh[..]), (&ids[1..], &live[..]));
}

#[tokio::test]
async fn only_so_many_replays_run_at_a_time_on_one_connection() {
    let server = TestServer::with(|config| {
        config.limits.replays = 1;
        config.limits.outbox_bytes = 64 * 1024;
        config.rules.default.max_bytes = 64 << 20;
    });
    let start = server.publish("big", &json!("start")).await;
    let data = json!("x".repeat(20_000));
    for _ in 0..40 {
        server.publish_all(&vec![("big".to_owned(), data.clone()); 20]).await;
    }
    let mut client = WsClient::connect(&server, "").await;
    let subscribe =
        |pattern: &str| json!({"op": "subscribe", "topics": [pattern], "since": start["id"]});
    assert_eq!(client.ask(1, subscribe("big")).await["op"], "ack");
    let refused = client.ask(2, subscribe("other")).await;
    assert_eq!((&refused["op"], &refused["code"]), (&json!("error"), &json!("too_many")));
    client.until("live").await;
    assert_eq!(client.ask(3, subscribe("other")).await["op"], "ack");
}

#[tokio::test]
async fn retention_that_overtakes_a_replay_is_a_gap_in_its_middle() {
    let server = TestServer::with(|config| {
        config.limits.outbox_bytes = 64 * 1024;
        config.rules.default.max_events = 400;
        config.rules.default.max_bytes = 64 << 20;
    });
    let start = server.publish("big", &json!("start")).await;
    let text = "x".repeat(20_000);
    let publish = async |numbers: std::ops::Range<usize>| {
        for n in numbers.step_by(20) {
            let events = (n..n + 20).map(|n| ("big".to_owned(), json!([n, text.as_str()])));
            server.publish_all(&events.collect::<Vec<_>>()).await;
        }
    };
    publish(0..380).await;
    let since = start["id"].as_str().expect("an id");
    let mut client = WsClient::connect(&server, &format!("?topic=big&since={since}")).await;
    client.until("event").await;
    publish(380..1_380).await;
    let (mut gaps, mut last, mut total) = (0, 0, 1);
    loop {
        let frame = client.next().await;
        match frame["op"].as_str() {
            Some("gap") => {
                assert_eq!(frame["ref"], 0);
                gaps += 1;
            }
            Some("event") => {
                let n = frame["data"][0].as_u64().expect("a number");
                assert!(n == last + 1 || gaps > 0 && n > last, "{n} after {last}, {gaps} gaps");
                (last, total) = (n, total + 1);
            }
            Some("live") => break,
            _ => {}
        }
    }
    assert_eq!(last, 1_379);
    assert!(gaps > 0 && total < 1_380, "{gaps} gaps, {total} events");
}

#[tokio::test]
async fn each_replay_has_the_number_of_its_own_request_whoever_asked_for_the_same_before() {
    let server = TestServer::with(|config| config.server.workers = 1);
    let first = server.publish("a", &json!(0)).await;
    for n in 1..=3 {
        server.publish("a", &json!(n)).await;
    }
    for reference in [1, 2, 1, 15, 16, 1_000_000, 1] {
        let mut client = WsClient::connect(&server, "").await;
        client
            .send(
                json!({"op": "subscribe", "ref": reference, "topics": ["a"], "since": first["id"]}),
            )
            .await;
        client.until("ack").await;
        let mut frames = until_live(&mut client).await;
        assert_eq!(frames.pop().expect("a live")["ref"], reference);
        assert_eq!(data(&frames), [1, 2, 3].map(Value::from));
        assert!(frames.iter().all(|event| event["replay"] == reference), "{frames:?}");
    }
    // At connect it is 0, and a value has none.
    let since = first["id"].as_str().expect("an id");
    for _ in 0..2 {
        let mut client = WsClient::connect(&server, &format!("?topic=a&since={since}")).await;
        client.until("ack").await;
        let frames = until_live(&mut client).await;
        assert!(frames[..3].iter().all(|event| event["replay"] == 0), "{frames:?}");
        let mut client = WsClient::connect(&server, "?topic=a&snapshot=true").await;
        let value = client.until("event").await;
        assert_eq!((&value["snapshot"], value.get("replay")), (&json!(true), None));
    }
}

#[tokio::test]
async fn who_comes_back_with_fewer_rights_is_told_no_more_for_what_was_told_to_others() {
    let server = TestServer::with(|config| {
        close(config);
        config.server.workers = 1;
    });
    let events = [numbered("a.x", 0..3), numbered("a.y", 3..5)].concat();
    let events = events.iter().map(|(topic, data)| json!({"topic": topic, "data": data}));
    let body = json!({"events": events.collect::<Vec<_>>()});
    let request = server.post("/v1/events").bearer_auth(API_KEY).json(&body);
    let stored = expect_status(request.send().await.expect("an answer"), StatusCode::CREATED).await;
    let since = stored["events"][0]["id"].as_str().expect("an id");
    let all = token("all", &["a.>"], &[], 60);
    let some = token("some", &["a.y"], &[], 60);
    for _ in 0..2 {
        for (token, expected) in [(&all, vec![1, 2, 3, 4]), (&some, vec![3, 4])] {
            let query = format!("?topic=a.*&since={since}&access_token={token}");
            let mut client = WsClient::connect(&server, &query).await;
            let mut frames = until_live(&mut client).await;
            frames.retain(|frame| frame["op"] == "event");
            let expected: Vec<_> = expected.into_iter().map(Value::from).collect();
            assert_eq!(data(&frames), expected);
        }
    }
}
