//! What is told of events that were gone before a node could deliver them: to whom it concerns, and to
//! nobody else.
//!
//! An entry of more than 256 KiB always travels by its place alone, so that of three in one batch, on a
//! topic that keeps one, two are gone before any node can fetch them.

mod support;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fanfare::config::{Config, Redis as RedisConfig, Rule, Storage};
use fanfare::model::{Cursor, Pattern};
use serde_json::{Value, json};
use support::proxy::Proxy;
use support::redis::Redis;
use support::ws::WsClient;
use support::{TestServer, eventually};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The data of an event that has to be fetched, whatever its topic keeps.
const LARGE: usize = 300_000;

/// A node on which topics of `value.>` keep one event.
fn node(port: u16) -> TestServer {
    TestServer::with(|config| {
        config.redis = Some(RedisConfig::at(&format!("redis://127.0.0.1:{port}")));
        config.rules.default.storage = Storage::Redis;
        let pattern = Pattern::parse("value.>").expect("a pattern");
        config.rules.listed = vec![Rule { pattern, max_events: 1, ..config.rules.default.clone() }];
        roomy(config);
    })
}

/// Room for clients that are to be told, not to be judged.
fn roomy(config: &mut Config) {
    config.limits.event_bytes = 1 << 20;
    config.limits.outbox_bytes = 256 << 20;
    config.limits.catchup_bytes = 256 << 20;
}

fn cursor(text: &Value) -> Cursor {
    Cursor::parse(text.as_str().expect("a cursor")).expect("a cursor")
}

/// So many large events of one topic, numbered from a number.
fn large(topic: &str, from: usize, count: usize) -> Vec<(String, Value)> {
    let text = "x".repeat(LARGE);
    (from..from + count).map(|n| (topic.to_owned(), json!([n, text]))).collect()
}

/// What a client has been told, in order, up to an event of the topic `end`.
#[derive(Debug, Default)]
struct Transcript {
    frames: Vec<Frame>,
}

#[derive(Debug)]
enum Frame {
    Event(Cursor, String, Value),
    /// Since when, and of which topics where it says so.
    Gap(Cursor, Option<Vec<String>>),
}

impl Transcript {
    async fn up_to_the_end(mut client: WsClient) -> Self {
        let mut transcript = Self::default();
        loop {
            let frame = client.next().await;
            match frame["op"].as_str().expect("an op") {
                "event" if frame["topic"] == "end" => return transcript,
                "event" if frame.get("snapshot").is_none() => {
                    let topic = frame["topic"].as_str().expect("a topic").to_owned();
                    let n = frame["data"][0].clone();
                    transcript.frames.push(Frame::Event(cursor(&frame["id"]), topic, n));
                }
                "gap" => {
                    let names = |topics: &Vec<Value>| {
                        topics
                            .iter()
                            .map(|name| name.as_str().expect("a name").to_owned())
                            .collect()
                    };
                    let topics = frame["topics"].as_array().map(names);
                    transcript.frames.push(Frame::Gap(cursor(&frame["since"]), topics));
                }
                "bye" => panic!("{frame}"),
                _ => {}
            }
        }
    }

    fn gaps(&self) -> usize {
        self.frames.iter().filter(|frame| matches!(frame, Frame::Gap(..))).count()
    }

    fn events(&self) -> usize {
        self.frames.len() - self.gaps()
    }

    /// The last event that came.
    fn newest(&self) -> Option<(Cursor, &Value)> {
        self.frames.iter().rev().find_map(|frame| match frame {
            Frame::Event(id, _, n) => Some((*id, n)),
            Frame::Gap(..) => None,
        })
    }

    /// Whether a gap tells of an event that was lost, and comes after the last event of its topic.
    fn tells(
        gap: &(usize, Cursor, &Option<Vec<String>>),
        from: usize,
        lost: Cursor,
        of: &str,
    ) -> bool {
        let (at, since, topics) = gap;
        let names = |topics: &Vec<String>| topics.iter().any(|topic| topic == of);
        *at >= from && *since < lost && topics.as_ref().is_none_or(names)
    }

    /// Every published event came, in order and once, or a gap was told that begins before it: after the
    /// last event of its topic that came, and before anything later.
    fn expect_nothing_unsaid(&self, published: &BTreeMap<Cursor, String>) {
        let (mut last, mut missing) = (None, published.clone());
        let (mut gaps, mut newest_by_topic) = (Vec::new(), HashMap::new());
        for (at, frame) in self.frames.iter().enumerate() {
            let (id, topic) = match frame {
                Frame::Gap(since, topics) => {
                    gaps.push((at, *since, topics));
                    continue;
                }
                Frame::Event(id, topic, _) => (*id, topic),
            };
            assert!(last.is_none_or(|last| last < id), "{id} after {last:?}");
            last = Some(id);
            let later = missing.split_off(&id);
            for (lost, of) in std::mem::replace(&mut missing, later) {
                let from = newest_by_topic.get(&of).copied().unwrap_or(0);
                let is_told = gaps.iter().any(|gap| Self::tells(gap, from, lost, &of));
                assert!(is_told, "{lost} of {of} did not come before {id}, and no gap: {self:#?}");
            }
            // What was never acknowledged may have been stored all the same.
            assert!(missing.remove(&id).is_none_or(|of| of == *topic), "{id}");
            newest_by_topic.insert(topic.clone(), at);
        }
        for (lost, of) in &missing {
            let from = newest_by_topic.get(of).copied().unwrap_or(0);
            let is_told = gaps.iter().any(|gap| Self::tells(gap, from, *lost, of));
            assert!(is_told, "{lost} of {of} never came, and no gap: {self:#?}");
        }
    }
}

/// Follows until the end.
fn follow(client: WsClient) -> JoinHandle<Transcript> {
    tokio::spawn(Transcript::up_to_the_end(client))
}

/// Clients of a node: of one topic in both modes, and of others; what each is told up to the end.
struct Audience {
    all: JoinHandle<Transcript>,
    newest: JoinHandle<Transcript>,
    wildcard: JoinHandle<Transcript>,
    others: Vec<JoinHandle<Transcript>>,
}

impl Audience {
    async fn of(node: &TestServer, topic: &str) -> Self {
        let live = async |query: String| follow(WsClient::live(node, &query).await);
        Self {
            all: live(format!("?topic={topic}&topic=end")).await,
            newest: live(format!("?topic={topic}&topic=end&mode=latest")).await,
            wildcard: live("?topic=%3E".to_owned()).await,
            others: vec![
                live("?topic=other&topic=end&snapshot=true".to_owned()).await,
                live("?topic=other&topic=end&mode=latest".to_owned()).await,
            ],
        }
    }

    async fn transcripts(self) -> (Transcript, Transcript, Transcript, Vec<Transcript>) {
        let mut others = Vec::new();
        for other in self.others {
            others.push(other.await.expect("it is told"));
        }
        let (all, newest) = (self.all.await.expect("told"), self.newest.await.expect("told"));
        (all, newest, self.wildcard.await.expect("told"), others)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn superseded_values_of_one_topic_disturb_no_session_of_another_topic() {
    let redis = Redis::start();
    let nodes = [node(redis.port), node(redis.port)];
    let _: Value = nodes[0].publish("other", &json!([0])).await;
    let audience = Audience::of(&nodes[1], "value.a").await;
    let mut published = BTreeMap::new();
    for turn in 0..10 {
        let ids = nodes[turn % 2].publish_all(&large("value.a", turn * 3, 3)).await;
        published.extend(ids.iter().map(|id| (cursor(&json!(id)), "value.a".to_owned())));
    }
    let small = nodes[0].publish("other", &json!([1])).await;
    nodes[0].publish("end", &json!([0])).await;
    let (all, newest, wildcard, others) = audience.transcripts().await;
    for other in &others {
        assert_eq!((other.gaps(), other.events()), (0, 1), "{other:?}");
    }
    assert!(all.gaps() >= 10, "two of each three were gone: {all:?}");
    all.expect_nothing_unsaid(&published);
    assert_eq!((newest.gaps(), newest.newest().expect("one").1), (0, &json!(29)));
    published.insert(cursor(&small["id"]), "other".to_owned());
    wildcard.expect_nothing_unsaid(&published);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_keeps_one_event_tells_each_of_many_to_who_wants_every_one() {
    const PUBLISHERS: usize = 6;
    let redis = Redis::start();
    let nodes: Arc<[TestServer]> = [node(redis.port), node(redis.port)].into();
    let audience = Audience::of(&nodes[1], "value.a").await;
    let goes_on = Arc::new(AtomicBool::new(true));
    let publishing = (0..PUBLISHERS).map(|number| {
        let (nodes, goes_on) = (nodes.clone(), goes_on.clone());
        tokio::spawn(async move {
            let (mut ids, text) = (Vec::new(), "x".repeat(20_000));
            while goes_on.load(Ordering::Relaxed) {
                let receipt = nodes[number % 2].publish("value.a", &json!([number, text])).await;
                ids.push(cursor(&receipt["id"]));
            }
            ids
        })
    });
    let publishing: Vec<_> = publishing.collect();
    sleep(Duration::from_secs(2)).await;
    goes_on.store(false, Ordering::Relaxed);
    let mut published = BTreeMap::new();
    for ids in publishing {
        let ids = ids.await.expect("it publishes");
        published.extend(ids.into_iter().map(|id| (id, "value.a".to_owned())));
    }
    nodes[0].publish("end", &json!([0])).await;
    let (all, newest, wildcard, others) = audience.transcripts().await;
    assert!(newest.newest().map(|(id, _)| id) >= published.keys().next_back().copied());
    println!(
        "{} published; {} came and {} gaps; {} of the newest",
        published.len(),
        all.events(),
        all.gaps(),
        newest.events(),
    );
    assert_eq!(others.iter().map(|other| other.gaps() + other.events()).sum::<usize>(), 0);
    all.expect_nothing_unsaid(&published);
    wildcard.expect_nothing_unsaid(&published);
    assert_eq!(newest.gaps(), 0);
    assert!(all.events() * 10 >= published.len() * 9, "most of them come");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_overtakes_delivery_is_a_gap_for_sessions_of_that_topic_alone() {
    let redis = Redis::start();
    let network = Proxy::to(redis.port).await;
    let (here, there) = (node(network.port), node(redis.port));
    let audience = Audience::of(&here, "kept.a").await;
    let is_there = async || {
        let body = there.get("/v1/topics/kept.a").send().await.expect("one").text().await;
        body.expect("a text").contains("\"subscribers\":3")
    };
    eventually("the audience is there", is_there).await;
    network.cut(false, true);
    let ids = there.publish_all(&large("kept.a", 0, 3)).await;
    let answer = there.delete("/v1/topics/kept.a/events").send().await.expect("an answer");
    assert_eq!(answer.json::<Value>().await.expect("JSON"), json!({ "removed": 3 }));
    network.cut(false, false);
    there.publish("end", &json!([0])).await;
    let published = ids.iter().map(|id| (cursor(&json!(id)), "kept.a".to_owned())).collect();
    let (all, newest, wildcard, others) = audience.transcripts().await;
    assert_eq!(others.iter().map(|other| other.gaps() + other.events()).sum::<usize>(), 0);
    for transcript in [all, newest, wildcard] {
        assert_eq!(transcript.events(), 0, "{transcript:?}");
        let names = |frame: &Frame| matches!(frame, Frame::Gap(_, Some(of)) if of == &["kept.a"]);
        assert!(transcript.frames.iter().any(names), "{transcript:?}");
        transcript.expect_nothing_unsaid(&published);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_in_which_thousands_of_topics_lost_values_is_a_gap_for_their_sessions_alone() {
    const TOPICS: usize = 3_000;
    let redis = Redis::start();
    let network = Proxy::to(redis.port).await;
    let (here, there) = (node(network.port), node(redis.port));
    let audience = Audience::of(&here, "value.7").await;
    network.cut(true, true);
    let mut published = BTreeMap::new();
    for round in 0..2 {
        let events: Vec<_> = (0..TOPICS).map(|n| (format!("value.{n}"), json!([round]))).collect();
        let ids = there.publish_all(&events).await;
        let ids = ids.iter().map(|id| cursor(&json!(id)));
        published.extend(ids.zip(events.into_iter().map(|(topic, _)| topic)));
    }
    // Until each connection is given up, so that what was held back is never heard.
    sleep(Duration::from_secs(4)).await;
    network.cut(false, false);
    there.publish("end", &json!([0])).await;
    let (all, newest, wildcard, others) = audience.transcripts().await;
    wildcard.expect_nothing_unsaid(&published);
    published.retain(|_, topic| topic == "value.7");
    all.expect_nothing_unsaid(&published);
    assert_eq!((all.gaps(), all.events()), (1, 1));
    assert_eq!((newest.gaps(), newest.events()), (0, 1));
    assert_eq!(others.iter().map(|other| other.gaps() + other.events()).sum::<usize>(), 0);
}

/// Publishes to a topic until it is told to stop, events of these sizes in turn, with whatever comes of each
/// publish; what was acknowledged.
async fn publish(
    nodes: Arc<[TestServer]>,
    topic: &str,
    sizes: &[usize],
    goes_on: Arc<AtomicBool>,
) -> BTreeMap<Cursor, String> {
    let mut published = BTreeMap::new();
    for turn in 0.. {
        if !goes_on.load(Ordering::Relaxed) {
            break;
        }
        let path = format!("/v1/topics/{topic}/events");
        let data = json!([turn, "x".repeat(sizes[turn % sizes.len()])]);
        let request = nodes[turn % nodes.len()].post(&path).json(&data);
        if let Ok(answer) = request.send().await
            && answer.status().is_success()
            && let Ok(receipt) = answer.json::<Value>().await
        {
            published.insert(cursor(&receipt["id"]), topic.to_owned());
        }
        sleep(Duration::from_millis(if turn % 20 == 0 { 20 } else { 1 })).await;
    }
    published
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_nothing_is_unsaid_and_nobody_hears_of_what_is_not_theirs() {
    let turns = std::env::var("FANFARE_CLUSTER_TURNS").ok().and_then(|turns| turns.parse().ok());
    let redis = Redis::start();
    let network = Proxy::to(redis.port).await;
    let nodes: Arc<[TestServer]> = [node(network.port), node(redis.port), node(redis.port)].into();
    let mut audiences = Vec::new();
    for node in nodes.iter() {
        for topic in ["value.a", "value.b", "kept.a"] {
            audiences.push((topic, Audience::of(node, topic).await));
        }
    }
    let goes_on = Arc::new(AtomicBool::new(true));
    let of = |topic: &'static str, sizes: &'static [usize]| {
        let (nodes, goes_on) = (nodes.clone(), goes_on.clone());
        tokio::spawn(async move { publish(nodes, topic, sizes, goes_on).await })
    };
    let publishing = [
        of("value.a", &[10, 20_000, LARGE]),
        of("value.a", &[LARGE, 10]),
        of("value.b", &[10]),
        of("kept.a", &[10, 30_000]),
        of("other", &[10]),
    ];
    for turn in 0..turns.unwrap_or(2) {
        // Too short for anybody to notice, and long enough for connections to be given up.
        let outage = Duration::from_millis(if turn % 2 == 0 { 400 } else { 3_000 });
        redis.signal("-STOP");
        sleep(outage).await;
        redis.signal("-CONT");
        sleep(Duration::from_millis(300)).await;
        network.cut(turn % 4 > 1, true);
        sleep(outage).await;
        _ = nodes[1].delete("/v1/topics/kept.a/events").send().await;
        network.cut(false, false);
        sleep(Duration::from_millis(300)).await;
        let _: i64 = redis.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        sleep(Duration::from_millis(700)).await;
    }
    goes_on.store(false, Ordering::Relaxed);
    let mut published = BTreeMap::new();
    for publishing in publishing {
        published.extend(publishing.await.expect("it publishes"));
    }
    let ended = async || {
        let request = nodes[1].post("/v1/topics/end/events").body("[0]");
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    };
    eventually("the end is told", ended).await;
    for (topic, audience) in audiences {
        let (all, newest, wildcard, others) = audience.transcripts().await;
        let of = |topic: &str| -> BTreeMap<_, _> {
            published.clone().into_iter().filter(|(_, of)| of == topic).collect()
        };
        println!(
            "{topic}: {} published; {} came and {} gaps; {} of the newest and {} gaps",
            of(topic).len(),
            all.events(),
            all.gaps(),
            newest.events(),
            newest.gaps(),
        );
        all.expect_nothing_unsaid(&of(topic));
        wildcard.expect_nothing_unsaid(&published);
        others[0].expect_nothing_unsaid(&of("other"));
        assert_eq!(others.iter().map(Transcript::gaps).sum::<usize>(), 0, "of what is not theirs");
        let id = newest.newest().map(|(id, _)| id);
        assert!(id >= of(topic).keys().next_back().copied(), "{id:?} is not the newest of {topic}");
        if topic != "kept.a" {
            assert_eq!(newest.gaps(), 0, "what is superseded is no gap for who wants the newest");
        }
    }
}
