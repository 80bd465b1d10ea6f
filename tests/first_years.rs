//! What broke elsewhere when "the current state, then live" was young, tried here on every history.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fanfare::config::Config;
use futures_util::future::join_all;
use serde_json::{Value, json};
use support::deflate::{DeflateClient, OFFER};
use support::kept::{Kept, on_every_history};
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, TestServer, close, numbered, token};
use tokio::time::sleep;

/// Publishes whole events for a key.
async fn publish(server: &TestServer, events: &[Value]) -> Value {
    let request = server.post("/v1/events").bearer_auth(API_KEY);
    let answer = request.json(&json!({ "events": events })).send().await.expect("an answer");
    let status = answer.status();
    let answer: Value = answer.json().await.expect("JSON");
    assert!(status.is_success(), "{answer}");
    answer
}

async fn remove(server: &TestServer, topic: &str) {
    let request = server.delete(&format!("/v1/topics/{topic}")).bearer_auth(API_KEY);
    assert!(request.send().await.expect("an answer").status().is_success(), "{topic}");
}

/// The current values of a pattern, page by page.
async fn values(server: &TestServer, pattern: &str) -> BTreeMap<String, Value> {
    let (mut values, mut after) = (BTreeMap::new(), String::new());
    loop {
        let path = format!("/v1/snapshot?match={pattern}&limit=1000{after}");
        let page = server.get(&path).bearer_auth(API_KEY).send().await.expect("an answer");
        let page: Value = page.json().await.expect("JSON");
        for event in page["events"].as_array().expect("events") {
            let topic = event["topic"].as_str().expect("a topic").to_owned();
            assert!(values.insert(topic, event["data"].clone()).is_none(), "{event}");
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return values,
        }
    }
}

/// What a screen shows that is told of current values and then of what is new.
#[derive(Default)]
struct Screen {
    shown: BTreeMap<String, Value>,
    /// What was taken from it, and may not come back as it was.
    removed: BTreeSet<String>,
}

impl Screen {
    fn tell(&mut self, event: &Value) {
        let topic = event["topic"].as_str().expect("a topic").to_owned();
        if event["removed"] == json!(true) {
            self.shown.remove(&topic);
            self.removed.insert(topic);
        } else {
            assert!(!self.removed.contains(&topic), "a removed one came again: {event}");
            self.shown.insert(topic, event["data"].clone());
        }
    }

    /// Reads up to the event of a topic that comes last.
    async fn follow(&mut self, client: &mut WsClient, last: &str) {
        loop {
            let event = client.until("event").await;
            if event["topic"] == json!(last) {
                return;
            }
            self.tell(&event);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_below_what_expired_is_one_gap_and_then_the_values_that_stayed() {
    for Kept { server, .. } in &on_every_history(|config| config.rules.default.max_events = 1) {
        let ids = server.publish_all(&numbered("old.a", 0..5)).await;
        server.publish_all(&numbered("old.b", 0..3)).await;
        // Two places: one below what was removed, and the newest, of which nothing is missing.
        for (since, gaps, values) in [(&ids[0], 1, 2), (&ids[4], 1, 2)] {
            let query = format!("?topic=old.*&snapshot=true&since={since}");
            let mut client = WsClient::connect(server, &query).await;
            let (mut told, mut shown) = (0, BTreeMap::new());
            loop {
                let frame = client.next().await;
                match frame["op"].as_str() {
                    Some("gap") => told += 1,
                    Some("event") => {
                        assert_eq!((told, &frame["snapshot"]), (gaps, &json!(true)), "{frame}");
                        shown.insert(frame["topic"].clone().to_string(), frame["data"].clone());
                    }
                    Some("live") => break,
                    _ => {}
                }
            }
            assert_eq!((told, shown.len()), (gaps, values), "{shown:?}");
            assert_eq!((&shown["\"old.a\""], &shown["\"old.b\""]), (&json!(4), &json!(2)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_while_current_values_are_read_is_told_once_and_what_is_removed_stays_away() {
    const TOPICS: usize = 900;
    for Kept { server, .. } in &on_every_history(|_| {}) {
        let value = |n: usize, data: Value| json!({"topic": format!("g.t{n}"), "data": data});
        let first: Vec<_> = (0..TOPICS).map(|n| value(n, json!([n, 0]))).collect();
        publish(server, &first).await;
        let change = async {
            for n in 0..60 {
                // One of each hundred is removed, another changed, and one is new.
                let (gone, changed) = (n * 15, n * 15 + 7);
                remove(server, &format!("g.t{gone}")).await;
                publish(server, &[value(changed, json!([changed, 1]))]).await;
                publish(server, &[value(TOPICS + n, json!([TOPICS + n, 0]))]).await;
            }
            publish(server, &[json!({"topic": "g.end", "data": null})]).await;
        };
        let watch = async {
            let watching = (0..12_u64).map(|n| async move {
                sleep(Duration::from_millis(n * 20)).await;
                let mut client = WsClient::connect(server, "?topic=g.*&snapshot=true").await;
                let mut screen = Screen::default();
                screen.follow(&mut client, "g.end").await;
                screen.shown
            });
            join_all(watching).await
        };
        let ((), screens) = tokio::join!(change, watch);
        let mut expected = values(server, "g.*").await;
        expected.remove("g.end");
        assert_eq!(expected.len(), TOPICS);
        for shown in screens {
            assert!(shown == expected, "a screen shows something else");
        }
    }
}

/// A broker whose clients get what is long a little at a time.
fn with_small_outboxes(config: &mut Config) {
    close(config);
    config.limits.outbox_bytes = 128 << 10;
    config.rules.default.max_bytes = 64 << 20;
}

/// So many topics with values of 20 KB, and a client of a token for a second or a minute that has seen the first.
async fn in_the_middle(server: &TestServer, topics: usize, seconds: i64) -> WsClient {
    let filler = "x".repeat(20_000);
    for chunk in (0..topics).collect::<Vec<_>>().chunks(20) {
        let event = |n: &usize| json!({"topic": format!("m.t{n:03}"), "data": filler});
        publish(server, &chunk.iter().map(event).collect::<Vec<_>>()).await;
    }
    let token = token("ann", &["m.*"], &[], seconds);
    let query = format!("?topic=m.*&snapshot=true&access_token={token}");
    let mut client = WsClient::connect(server, &query).await;
    client.until("event").await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_renewed_or_shrinks_while_current_values_are_read_goes_on_with_what_is_left()
 {
    const TOPICS: usize = 300;
    for Kept { server, .. } in &on_every_history(with_small_outboxes) {
        let mut client = in_the_middle(server, TOPICS, 60).await;
        let again = token("ann", &["m.*"], &[], 60);
        client.send(json!({"op": "auth", "ref": 9, "token": again})).await;
        let (mut seen, mut is_renewed) = (1, false);
        loop {
            let frame = client.next().await;
            match frame["op"].as_str() {
                Some("event") => seen += 1,
                Some("ack") if frame["ref"] == 9 => is_renewed = true,
                Some("live") => break,
                _ => {}
            }
        }
        assert_eq!((seen, is_renewed), (TOPICS, true));

        let mut client = in_the_middle(server, TOPICS, 60).await;
        let fewer = token("ann", &["m.t299"], &[], 60);
        client.send(json!({"op": "auth", "ref": 9, "token": fewer})).await;
        let (mut is_less, mut last) = (false, json!(null));
        loop {
            let frame = client.next().await;
            match frame["op"].as_str() {
                Some("event") => {
                    assert!(!is_less || frame["topic"] == "m.t299", "{}", frame["topic"]);
                    last = frame["topic"].clone();
                }
                Some("ack") if frame["ref"] == 9 => is_less = true,
                Some("live") => break,
                _ => {}
            }
        }
        assert_eq!((is_less, last), (true, json!("m.t299")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_ends_while_current_values_are_read_ends_them_with_a_bye() {
    const TOPICS: usize = 600;
    for Kept { server, .. } in &on_every_history(with_small_outboxes) {
        let mut client = in_the_middle(server, TOPICS, 2).await;
        // What was sent by then waits in the kernel's buffers; behind it there is nothing but the good-bye.
        sleep(Duration::from_secs(3)).await;
        let (bye, code) = client.closed().await;
        assert_eq!((&bye.expect("a bye")["code"], code), (&json!("unauthorized"), Some(4401)));
    }
}

/// Each way to ask for events that changes how they come.
const FORMS: [(&str, &str, Option<&str>); 7] = [
    ("as JSON", "", None),
    ("compressed", "", Some("Sec-WebSocket-Extensions")),
    ("as CBOR", "", Some("Sec-WebSocket-Protocol")),
    ("the newest alone", "&mode=latest", None),
    ("at a rate", "&max_rate=50", None),
    ("with heartbeats", "&heartbeat=1", None),
    ("with current values", "&snapshot=true", None),
];

/// The next event in any form.
async fn event(client: &mut DeflateClient) -> Value {
    loop {
        let frame = client.frame().await;
        let message: Value = match frame.first & 0x0f {
            1 => frame.json(),
            2 => ciborium::from_reader(&frame.message()[..]).expect("CBOR"),
            9 | 10 => continue,
            other => panic!("opcode {other}"),
        };
        assert_ne!(message["op"], "bye", "{message}");
        if message["op"] == "event" {
            return message;
        }
    }
}

/// One of each kind of event, each of a topic of its own, and one that nobody may see behind each.
fn kinds() -> Vec<(&'static str, Value)> {
    let long = json!("ä€😀".repeat(400));
    let kinds = [
        ("a value", json!({"data": 1})),
        ("a long value", json!({"data": long})),
        ("a typed one", json!({"data": {"n": 1}, "type": "order.changed"})),
        ("a removal", json!({"removed": true})),
        ("a removal with data", json!({"removed": true, "data": {"why": "closed"}})),
        ("a version", json!({"data": 2, "version": 7, "epoch": "e1"})),
        ("one that ends", json!({"data": 3, "ttl_ms": 3_600_000})),
        ("one that is signed", json!({"data": 4, "from": {"user": "bob"}})),
        ("one that is kept from another", json!({"data": 5, "except": "0123456789abcdef"})),
        ("one that is not kept", json!({"data": 6, "keep": false})),
        ("null", json!({"data": null})),
    ];
    kinds.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_event_comes_in_each_form_and_none_goes_round_the_rights() {
    for Kept { server, .. } in &on_every_history(close) {
        let token = token("ann", &["k.>"], &[], 60);
        let mut clients = Vec::new();
        for (name, query, header) in FORMS {
            let value = if query.is_empty() && header == Some("Sec-WebSocket-Protocol") {
                "fanfare.v1+cbor"
            } else {
                OFFER
            };
            let headers: Vec<_> = header.map(|header| (header, value)).into_iter().collect();
            let query = format!("?topic=%3E&access_token={token}{query}");
            let address = server.addr.to_string();
            let client = DeflateClient::connect(&address, &query, &headers).await;
            clients.push((name, client.expect("connected")));
        }
        let query = format!("?topic=%3E&access_token={token}");
        let mut stream = SseClient::live(server, &query).await;
        let mut bare = SseClient::live(server, &format!("{query}&format=data")).await;
        let count = clients.len() + 2;
        let live = async || sessions(server).await == count;
        support::eventually("all are there", live).await;
        for (at, (kind, mut said)) in kinds().into_iter().enumerate() {
            let topic = format!("k.{at}");
            said["topic"] = json!("hidden.x");
            let mut shown = said.clone();
            shown["topic"] = json!(topic);
            // What is of a kind is of it for those, too, who may not see it.
            publish(server, &[said]).await;
            publish(server, &[shown.clone()]).await;
            for (form, client) in &mut clients {
                let event = event(client).await;
                check(&format!("{kind} {form}"), &event, &shown);
            }
            let event = stream.next().await.expect("an event").json();
            check(&format!("{kind} in a stream"), &event, &shown);
            let event = bare.next().await.expect("an event");
            match shown["removed"] == json!(true) {
                true => assert_eq!(event.event, "fanfare.removed", "{kind}"),
                false => assert_eq!(event.json(), shown["data"], "{kind}"),
            }
        }
    }
}

async fn sessions(server: &TestServer) -> usize {
    let page = server.get("/v1/sessions?limit=1000").bearer_auth(API_KEY).send().await;
    let page: Value = page.expect("an answer").json().await.expect("JSON");
    let sessions = page["sessions"].as_array().expect("sessions");
    let is_subscribed = |session: &&Value| session["subscriptions"] != json!([]);
    sessions.iter().filter(is_subscribed).count()
}

/// Whether an event is what was published.
fn check(what: &str, event: &Value, said: &Value) {
    for name in ["topic", "type", "removed", "version", "epoch", "from"] {
        assert_eq!(event.get(name), said.get(name), "{what}: {name}");
    }
    let data = said.get("data").unwrap_or(&Value::Null);
    assert_eq!(event.get("data").unwrap_or(&Value::Null), data, "{what}");
    assert_eq!(event.get("expires").is_some(), said.get("ttl_ms").is_some(), "{what}");
    assert_eq!(event.get("id").is_none(), said["keep"] == json!(false), "{what}");
    assert_eq!(event.get("except"), None, "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_subscribes_catch_up_while_publishing_goes_on() {
    const CLIENTS: usize = 125;
    const EACH: usize = 8;
    let change = |config: &mut Config| config.limits.connects_per_second = 0;
    for Kept { server, .. } in &on_every_history(change) {
        let mut topics = numbered("many.start", 0..1);
        for n in 0..EACH {
            topics.extend(numbered(&format!("many.t{n}"), 0..20));
        }
        let since = server.publish_all(&topics).await.swap_remove(0);
        let publishing = async {
            for n in 20..60 {
                let events = (0..EACH).map(|topic| (format!("many.t{topic}"), json!(n)));
                server.publish_all(&events.collect::<Vec<_>>()).await;
            }
        };
        let recovering = join_all((0..CLIENTS).map(|_| async {
            let mut client = WsClient::connect(server, "").await;
            for n in 0..EACH {
                let topics = [format!("many.t{n}")];
                let subscribe =
                    json!({"op": "subscribe", "ref": n + 1, "topics": topics, "since": since});
                client.send(subscribe).await;
            }
            let mut next = BTreeMap::<String, u64>::new();
            while next.len() < EACH || next.values().any(|next| *next < 60) {
                let event = client.until("event").await;
                let next = next.entry(event["topic"].to_string()).or_default();
                assert_eq!(event["data"], json!(*next), "{event}");
                *next += 1;
            }
        }));
        tokio::join!(publishing, recovering);
    }
}
