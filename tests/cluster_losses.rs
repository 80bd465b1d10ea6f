//! What is told of events that were gone before a node could deliver them: to whom it concerns, and to
//! nobody else.
//!
//! An entry of more than 256 KiB always travels by its place alone, so that of three in one batch, on a
//! topic that keeps one, two are gone before any node can fetch them.

mod support;

use std::collections::BTreeMap;
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
struct Told {
    frames: Vec<Frame>,
}

#[derive(Debug)]
enum Frame {
    Event(Cursor, String, Value),
    Gap(Cursor),
}

impl Told {
    async fn up_to_the_end(mut client: WsClient) -> Self {
        let mut told = Self::default();
        loop {
            let frame = client.next().await;
            match frame["op"].as_str().expect("an op") {
                "event" if frame["topic"] == "end" => return told,
                "event" if frame.get("snapshot").is_none() => {
                    let topic = frame["topic"].as_str().expect("a topic").to_owned();
                    let n = frame["data"][0].clone();
                    told.frames.push(Frame::Event(cursor(&frame["id"]), topic, n));
                }
                "gap" => told.frames.push(Frame::Gap(cursor(&frame["since"]))),
                "bye" => panic!("{frame}"),
                _ => {}
            }
        }
    }

    fn gaps(&self) -> usize {
        self.frames.iter().filter(|frame| matches!(frame, Frame::Gap(_))).count()
    }

    fn events(&self) -> usize {
        self.frames.len() - self.gaps()
    }

    fn newest(&self) -> Option<&Value> {
        self.frames.iter().rev().find_map(|frame| match frame {
            Frame::Event(_, _, n) => Some(n),
            Frame::Gap(_) => None,
        })
    }

    /// Every published event came, in order and once, or a gap from before it came before anything later.
    fn expect_nothing_unsaid(&self, published: &BTreeMap<Cursor, String>) {
        let (mut last, mut missing) = (None, published.clone());
        let mut open: Vec<Cursor> = Vec::new();
        for frame in &self.frames {
            match frame {
                Frame::Gap(since) => open.push(*since),
                Frame::Event(id, topic, _) => {
                    assert!(last.is_none_or(|last| last < *id), "{id} after {last:?}");
                    let before: Vec<_> = missing.range(..*id).map(|(id, _)| *id).collect();
                    for lost in before {
                        let is_told = open.iter().any(|since| *since < lost);
                        assert!(is_told, "{lost} did not come before {id}, and no gap");
                        missing.remove(&lost);
                    }
                    assert_eq!(missing.remove(id).as_ref(), Some(topic), "{id}");
                    (last, open) = (Some(*id), Vec::new());
                }
            }
        }
        for lost in missing.keys() {
            assert!(open.iter().any(|since| since < lost), "{lost} never came, and no gap");
        }
    }
}

/// Follows until the end.
fn follow(client: WsClient) -> JoinHandle<Told> {
    tokio::spawn(Told::up_to_the_end(client))
}

/// Clients of a node: of one topic in both modes, and of others; what each is told up to the end.
struct Audience {
    all: JoinHandle<Told>,
    newest: JoinHandle<Told>,
    wildcard: JoinHandle<Told>,
    others: Vec<JoinHandle<Told>>,
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
                live("?topic=other.*&topic=end&mode=latest".to_owned()).await,
            ],
        }
    }

    async fn told(self) -> (Told, Told, Told, Vec<Told>) {
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
    let (all, newest, wildcard, others) = audience.told().await;
    for (other, events) in others.iter().zip([1, 0]) {
        assert_eq!((other.gaps(), other.events()), (0, events), "{other:?}");
    }
    assert!(all.gaps() >= 10, "two of each three were gone: {all:?}");
    all.expect_nothing_unsaid(&published);
    assert_eq!((newest.gaps(), newest.newest()), (0, Some(&json!(29))));
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
    let (all, newest, wildcard, others) = audience.told().await;
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
    let (all, newest, wildcard, others) = audience.told().await;
    assert_eq!(others.iter().map(|other| other.gaps() + other.events()).sum::<usize>(), 0);
    for told in [all, newest, wildcard] {
        assert_eq!(told.events(), 0, "{told:?}");
        told.expect_nothing_unsaid(&published);
    }
}
