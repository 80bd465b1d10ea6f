//! The promise on several nodes, while Redis or a node fails: nothing acknowledged is lost, nothing
//! comes twice or out of order, and what Redis itself lost is told as a gap.
//!
//! Three nodes are processes of their own, on a real Redis. The runs are short by default; the
//! environment makes them long:
//!
//! ```sh
//! FANFARE_CLUSTER_CLIENTS=300 FANFARE_CLUSTER_RATE=2000 FANFARE_CLUSTER_PUBLISHERS=30 \
//! FANFARE_CLUSTER_OUTAGE=30 FANFARE_CLUSTER_TURNS=5 \
//!     cargo test --release --test cluster -- --nocapture --test-threads 1
//! ```

mod support;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use support::fleet::{Fleet, Load, node};
use support::process::Process;
use support::proxy::Proxy;
use support::redis::Redis;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

fn parameter(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn seconds(seconds: usize) -> Duration {
    Duration::from_secs(seconds as u64)
}

/// A run: its Redis, its nodes, and those who use them.
struct Run {
    redis: Redis,
    nodes: Vec<Process>,
    fleet: Arc<Fleet>,
    turns: usize,
    outage: Duration,
}

impl Run {
    async fn start(redis: Redis) -> Self {
        let url = redis.url();
        Self::over(redis, &[url.clone(), url.clone(), url]).await
    }

    /// A run whose nodes reach Redis each over its own address.
    async fn over(redis: Redis, urls: &[String]) -> Self {
        let nodes: Vec<_> = urls.iter().map(|url| node(url, 0)).collect();
        let load = Load {
            publishers: parameter("FANFARE_CLUSTER_PUBLISHERS", 6),
            clients: parameter("FANFARE_CLUSTER_CLIENTS", 18),
            rate: parameter("FANFARE_CLUSTER_RATE", 300),
            stay: 20..400,
        };
        let addresses = nodes.iter().map(|node| node.address.clone()).collect();
        let fleet = Fleet::start(addresses, &load).await;
        let turns = parameter("FANFARE_CLUSTER_TURNS", 2);
        let outage = seconds(parameter("FANFARE_CLUSTER_OUTAGE", 2));
        sleep(Duration::from_millis(500)).await;
        Self { redis, nodes, fleet, turns, outage }
    }

    async fn expect_flow(&self) {
        let took = self.fleet.flow().await;
        println!("everything flows after {took:?}");
        // More only where the machine has other work to do.
        assert!(took < seconds(parameter("FANFARE_CLUSTER_HEALED", 5)), "it took {took:?}");
        sleep(Duration::from_millis(300)).await;
    }

    async fn finish(self, is_lossy: bool) {
        let faults = self.fleet.finish(is_lossy).await;
        let some = &faults[..faults.len().min(5)];
        assert!(faults.is_empty(), "{} faults, first {some:?}", faults.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_and_keeps_everything_loses_nothing() {
    let mut run = Run::start(Redis::durable()).await;
    for _ in 0..run.turns {
        run.redis.kill();
        sleep(Duration::from_millis(700)).await;
        run.redis.restart();
        run.expect_flow().await;
    }
    run.finish(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_costs_latency_and_no_event() {
    let run = Run::start(Redis::start()).await;
    for _ in 0..run.turns {
        run.redis.signal("-STOP");
        sleep(run.outage).await;
        run.redis.signal("-CONT");
        run.expect_flow().await;
    }
    run.finish(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_channels_and_scripts_cost_no_event() {
    let run = Run::start(Redis::start()).await;
    for _ in 0..run.turns {
        let _: i64 = run.redis.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        sleep(Duration::from_millis(300)).await;
        let _: String = run.redis.run(&["SCRIPT", "FLUSH"]);
        run.expect_flow().await;
        let _: i64 = run.redis.run(&["CLIENT", "KILL", "TYPE", "normal"]);
        run.expect_flow().await;
    }
    run.finish(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_forgot_everything_is_a_gap_to_everybody_and_no_number_comes_again() {
    let run = Run::start(Redis::start()).await;
    for _ in 0..run.turns {
        let _: String = run.redis.run(&["FLUSHALL"]);
        run.expect_flow().await;
    }
    run.finish(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_rolled_back_is_a_gap_to_everybody_and_no_number_comes_again() {
    let mut run = Run::start(Redis::start()).await;
    for _ in 0..run.turns {
        let _: String = run.redis.run(&["SAVE"]);
        sleep(Duration::from_millis(500)).await;
        run.redis.kill();
        run.redis.restart();
        run.expect_flow().await;
    }
    run.finish(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_killed_and_restarted_lose_nothing() {
    let mut run = Run::start(Redis::start()).await;
    let url = run.redis.url();
    for turn in 0..run.turns * 2 {
        let at = turn % run.nodes.len();
        let signal = if turn % 2 == 0 { "-KILL" } else { "-TERM" };
        run.nodes[at].signal(signal);
        run.nodes[at].wait();
        let (_, port) = run.nodes[at].address.rsplit_once(':').expect("a port");
        let port = port.parse().expect("a number");
        run.nodes[at] = node(&url, port);
        run.expect_flow().await;
    }
    run.finish(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_both_ways_or_one_way_loses_nothing() {
    let redis = Redis::start();
    let network = Proxy::to(redis.port).await;
    let urls = [network.url(), redis.url(), redis.url()];
    let run = Run::over(redis, &urls).await;
    for (to_redis, from_redis) in [(true, true), (false, true), (true, false)] {
        network.cut(to_redis, from_redis);
        // Long enough for each connection to be given up.
        sleep(run.outage.max(Duration::from_secs(4))).await;
        network.cut(false, false);
        run.expect_flow().await;
    }
    run.finish(false).await;
}

/// The data of all that is kept of a topic, as one node sees it.
async fn kept(node: &Process, topic: &str) -> Vec<Value> {
    let url = node.url(&format!("/v1/topics/{topic}/events?limit=1000"));
    let page: Value =
        reqwest::get(url).await.expect("an answer").json().await.expect("a page of JSON");
    page["events"].as_array().expect("events").iter().map(|event| event["data"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_publish_to_one_topic_have_one_order() {
    use futures_util::StreamExt;
    let redis = Redis::start();
    let nodes: Vec<_> = (0..2).map(|_| node(&redis.url(), 0)).collect();
    let mut sockets = Vec::new();
    for number in 0..6 {
        let url = format!("ws://{}/v1/ws?topic=one", nodes[number % 2].address);
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a connection");
        loop {
            let frame = socket.next().await.expect("a frame").expect("a frame");
            if frame.to_text().is_ok_and(|text| text.contains(r#""op":"live""#)) {
                break;
            }
        }
        sockets.push(socket);
    }
    let publishing = (0..8).map(|publisher| {
        let url = nodes[publisher % 2].url("/v1/topics/one/events");
        tokio::spawn(async move {
            let http = reqwest::Client::new();
            for n in 0..100 {
                let sent = http.post(&url).json(&json!([publisher, n])).send().await;
                assert_eq!(sent.expect("an answer").status(), 201);
            }
        })
    });
    for publishing in publishing.collect::<Vec<_>>() {
        publishing.await.expect("it publishes");
    }
    let expected = kept(&nodes[0], "one").await;
    assert_eq!(expected.len(), 800);
    for mut socket in sockets {
        let mut seen = Vec::new();
        while seen.len() < 800 {
            let next = tokio::time::timeout(support::PATIENCE, socket.next()).await;
            // A heartbeat is no text.
            let Message::Text(text) = next.expect("in time").expect("a frame").expect("a frame")
            else {
                continue;
            };
            let frame: Value = serde_json::from_str(&text).expect("JSON");
            if frame["op"] == "event" {
                seen.push(frame["data"].clone());
            }
        }
        assert_eq!(seen, expected);
    }
}
