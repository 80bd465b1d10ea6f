//! Slow screens: the newest event of each topic for who can't keep up, and for who wants fewer.

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::sse::SseClient;
use support::ws::WsClient;
use support::{PATIENCE, TestServer};

/// Data of some size, with a number to know it by.
fn large(number: usize) -> Value {
    json!({ "number": number, "text": "x".repeat(40_000) })
}

/// What came of each topic: the numbers, and how many events were skipped in all.
#[derive(Default)]
struct Received(HashMap<String, (Vec<u64>, u64)>);

impl Received {
    fn add(&mut self, event: &Value) {
        assert_eq!(event["conflated"], true, "{}", event["topic"]);
        let (numbers, skipped) =
            self.0.entry(event["topic"].as_str().expect("a topic").to_owned()).or_default();
        numbers.push(event["data"]["number"].as_u64().expect("a number"));
        *skipped += event.get("skipped").map_or(0, |skipped| skipped.as_u64().expect("a number"));
    }

    fn last(&self, topic: &str) -> Option<u64> {
        self.0.get(topic)?.0.last().copied()
    }

    /// Nothing old came after something new, and whatever did not come was counted.
    fn check(&self, topic: &str, published: u64) {
        let (numbers, skipped) = &self.0[topic];
        assert!(numbers.is_sorted(), "{topic}: {numbers:?}");
        assert_eq!(numbers.len() as u64 + skipped, published, "{topic}");
    }
}

const TOPICS: [&str; 4] = ["t.0", "t.1", "t.2", "t.3"];

/// More than the kernel and the broker would hold for a client that does not read.
const LARGE: usize = 400;

async fn publish_large(server: &TestServer) {
    for number in (0..LARGE).step_by(20) {
        let events: Vec<_> = (number..number + 20)
            .map(|number| (TOPICS[number % TOPICS.len()].to_owned(), large(number)))
            .collect();
        server.publish_all(&events).await;
    }
}

fn check_large(received: &Received) {
    for (at, topic) in TOPICS.iter().enumerate() {
        assert_eq!(received.last(topic), Some((LARGE - TOPICS.len() + at) as u64));
        received.check(topic, (LARGE / TOPICS.len()) as u64);
        assert!(received.0[*topic].1 > 0, "{topic} was not conflated");
    }
}

#[tokio::test]
async fn who_keeps_up_gets_every_event_in_latest_mode_too() {
    let server = TestServer::open();
    let mut client = WsClient::live(&server, "?topic=t.*&mode=latest").await;
    let mut received = Received::default();
    for number in 0..100 {
        server.publish("t.0", &json!({ "number": number })).await;
        received.add(&client.until("event").await);
    }
    received.check("t.0", 100);
    assert_eq!(received.0["t.0"].1, 0, "none was skipped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_gets_the_newest_of_each_topic_and_is_told_how_many_it_missed() {
    let server = TestServer::open();
    let mut client = WsClient::live(&server, "?topic=t.*&mode=latest").await;
    publish_large(&server).await;
    let mut received = Received::default();
    while TOPICS.iter().any(|topic| received.last(topic) < Some((LARGE - TOPICS.len()) as u64)) {
        received.add(&client.until("event").await);
    }
    check_large(&received);
    // It goes on as if nothing had been.
    server.publish("t.0", &json!({"number": LARGE})).await;
    assert_eq!(client.until("event").await["data"]["number"], LARGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_stream_gets_the_newest_of_each_topic_too() {
    let server = TestServer::open();
    let mut client = SseClient::live(&server, "?topic=t.*&mode=latest").await;
    publish_large(&server).await;
    let mut received = Received::default();
    while TOPICS.iter().any(|topic| received.last(topic) < Some((LARGE - TOPICS.len()) as u64)) {
        let block = client.next().await.expect("an event");
        received.add(&block.json());
        assert_ne!(block.id, block.json()["id"], "a conflated event does not move the cursor");
    }
    check_large(&received);
}

#[tokio::test]
async fn a_paced_topic_sends_its_first_at_once_its_last_in_the_end_and_not_more_often() {
    let server = TestServer::open();
    let mut client = WsClient::live(&server, "?topic=t.*&max_rate=5").await;
    let mut stream = SseClient::live(&server, "?topic=t.*&max_rate=5").await;
    let begin = Instant::now();
    for number in 0..40 {
        for topic in ["t.0", "t.1"] {
            server.publish(topic, &json!({ "number": number })).await;
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    let published_for = begin.elapsed();
    let (mut received, mut times) = (Received::default(), Vec::new());
    while received.last("t.0") != Some(39) || received.last("t.1") != Some(39) {
        let event = client.until("event").await;
        if event["topic"] == "t.0" {
            times.push(Instant::now());
        }
        received.add(&event);
    }
    for topic in ["t.0", "t.1"] {
        received.check(topic, 40);
        let (numbers, _) = &received.0[topic];
        assert_eq!(numbers[0], 0, "the first comes at once");
        let most = published_for.as_millis() / 200 + 3;
        assert!((2..=most).contains(&(numbers.len() as u128)), "{topic}: {numbers:?}");
    }
    let mut streamed = Received::default();
    while streamed.last("t.0") != Some(39) || streamed.last("t.1") != Some(39) {
        streamed.add(&stream.next().await.expect("an event").json());
    }
    streamed.check("t.0", 40);
    assert!(streamed.0["t.0"].0.len() < 20);
}

#[tokio::test]
async fn who_resumes_gets_the_newest_of_each_topic_that_changed() {
    let server = TestServer::open();
    let old = server.publish("t.0", &json!({"number": 0})).await;
    let mut expected = HashMap::new();
    for number in 1..20 {
        let topic = format!("t.{}", number % 3 + 1);
        server.publish(&topic, &json!({ "number": number })).await;
        expected.insert(topic, number);
    }
    let since = old["id"].as_str().expect("an id");
    let query = format!("?topic=t.*&mode=latest&since={since}");
    let mut client = WsClient::connect(&server, &query).await;
    let mut received = Received::default();
    let live = loop {
        let frame = client.next().await;
        match frame["op"].as_str() {
            Some("event") => {
                assert_eq!(frame["replay"], 0);
                received.add(&frame);
            }
            Some("live") => break frame,
            _ => {}
        }
    };
    assert_eq!(received.0.len(), 3, "t.0 did not change");
    for (topic, number) in expected {
        assert_eq!(received.0[&topic].0, [number]);
    }
    // From here on nothing changed.
    let cursor = live["cursor"].as_str().expect("a cursor");
    let mut again =
        WsClient::connect(&server, &format!("?topic=t.*&mode=latest&since={cursor}")).await;
    again.next().await;
    assert_eq!(again.next().await["op"], "live");
}

#[tokio::test]
async fn the_cursor_stays_below_what_waits_so_that_nothing_is_lost_in_between() {
    let server = TestServer::with(|config| config.server.heartbeat = Duration::from_secs(1));
    // One event of a topic in a hundred seconds: the second one waits.
    let mut client = WsClient::live(&server, "?topic=t.*&max_rate=0.01").await;
    server.publish("t.0", &json!({"number": 1})).await;
    client.until("event").await;
    server.publish("t.0", &json!({"number": 2})).await;
    for number in 3..6 {
        server.publish("elsewhere", &json!({ "number": number })).await;
    }
    let first = client.until("cursor").await;
    let cursor = first["cursor"].as_str().expect("a cursor");
    let mut again =
        WsClient::connect(&server, &format!("?topic=t.*&mode=latest&since={cursor}")).await;
    assert_eq!(again.until("event").await["data"]["number"], 2);
}

#[tokio::test]
async fn where_patterns_overlap_every_event_wins_then_the_higher_rate() {
    let server = TestServer::open();
    let mut client = WsClient::connect(&server, "").await;
    let subscribe = |topic: &str, options: Value| {
        let mut request = json!({"op": "subscribe", "topics": [topic]});
        request.as_object_mut().expect("a request").extend(options.as_object().unwrap().clone());
        request
    };
    for (reference, topic, options) in [
        (1, "a.*", json!({"max_rate": 0.01})),
        (2, "a.all", json!({"mode": "all"})),
        (3, "a.fast", json!({"mode": "latest"})),
    ] {
        assert_eq!(client.ask(reference, subscribe(topic, options)).await["op"], "ack");
        client.until("live").await;
    }
    for number in 0..3 {
        for topic in ["a.all", "a.fast", "a.slow"] {
            server.publish(topic, &json!({ "number": number })).await;
        }
    }
    let mut seen: HashMap<String, Vec<u64>> = HashMap::new();
    for event in client.events(7).await {
        let topic = event["topic"].as_str().expect("a topic").to_owned();
        assert_eq!(event.get("conflated").is_some(), topic != "a.all", "{event}");
        seen.entry(topic).or_default().push(event["data"]["number"].as_u64().expect("a number"));
    }
    assert_eq!(seen["a.all"], [0, 1, 2]);
    assert_eq!(seen["a.fast"], [0, 1, 2]);
    assert_eq!(seen["a.slow"], [0]);
    // Another subscribe to the same pattern takes its place; what waited goes out before.
    client.send(json!({"op": "subscribe", "topics": ["a.*"], "ref": 9})).await;
    let waited = client.until("event").await;
    assert_eq!((&waited["data"]["number"], &waited["skipped"]), (&json!(2), &json!(1)));
    client.until("live").await;
    server.publish("a.slow", &json!({"number": 3})).await;
    assert_eq!(client.until("event").await.get("conflated"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_goes_out_before_every_event_of_its_topic_is_wanted_by_another_pattern() {
    let server = TestServer::open();
    let mut client = WsClient::connect(&server, "").await;
    let paced = json!({"op": "subscribe", "topics": [">"], "max_rate": 0.5});
    assert_eq!(client.ask(1, paced).await["op"], "ack");
    client.until("live").await;
    server.publish("a.x", &json!(1)).await;
    server.publish("a.x", &json!(2)).await;
    assert_eq!(client.until("event").await["data"], 1);
    // Two seconds are not over: the second one waits. Behind the third it would be an older value after a newer one.
    let all = json!({"op": "subscribe", "topics": ["a.x"]});
    assert_eq!(client.ask(2, all).await["op"], "ack");
    let waited = client.until("event").await;
    assert_eq!((&waited["data"], &waited["conflated"]), (&json!(2), &json!(true)));
    client.until("live").await;
    server.publish("a.x", &json!(3)).await;
    let event = client.until("event").await;
    assert_eq!((&event["data"], event.get("conflated")), (&json!(3), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_events_that_wait_for_a_client_are_bounded() {
    let server = TestServer::with(|config| {
        config.limits.conflated_bytes = 2 << 20;
        // The client reads only once all is published, which may take longer than a good-bye waits.
        config.limits.close_timeout = PATIENCE;
    });
    let mut client = WsClient::live(&server, "?topic=t.%3E&mode=latest").await;
    for number in 0..60 {
        let events: Vec<_> =
            (0..10).map(|at| (format!("t.{number}.{at}"), large(number))).collect();
        server.publish_all(&events).await;
    }
    let (bye, code) = client.closed().await;
    assert_eq!((&bye.expect("a bye")["code"], code), (&json!("slow_consumer"), Some(4409)));
}

#[tokio::test]
async fn a_rate_so_low_that_there_is_no_time_between_two_events_ends_nobody() {
    let server = TestServer::open();
    let mut other = WsClient::live(&server, "?topic=a").await;
    for rate in ["5e-324", "1e-300", "1e-19"] {
        let mut client = WsClient::live(&server, &format!("?topic=a&max_rate={rate}")).await;
        let subscribe = json!({ "op": "subscribe", "topics": ["b"], "mode": "latest" });
        let mut subscribe = subscribe.to_string();
        subscribe.insert_str(1, &format!("\"max_rate\":{rate},\"ref\":7,"));
        client.send_text(&subscribe).await;
        assert_eq!(client.until("ack").await["ref"], 7, "{rate}");
        server.publish("a", &json!(rate)).await;
        assert_eq!(client.until("event").await["data"], rate, "the first one comes at once");
        assert_eq!(other.until("event").await["data"], rate);
    }
}
