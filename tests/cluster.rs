//! The promise on several nodes, while Redis or a node fails: nothing acknowledged is lost, nothing
//! comes twice or out of order, and what Redis itself lost is told as a gap.
//!
//! Three nodes are processes of their own, on a real Redis. The runs are short by default; the
//! environment makes them long:
//!
//! ```sh
//! FANFARE_CLUSTER_CLIENTS=300 FANFARE_CLUSTER_RATE=2000 FANFARE_CLUSTER_PUBLISHERS=30 \
//! FANFARE_CLUSTER_OUTAGE=30 FANFARE_CLUSTER_CUT=10 FANFARE_CLUSTER_TURNS=5 \
//!     cargo test --release --test cluster -- --nocapture --test-threads 1
//! ```

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::fleet::node;
use support::group::{Guarded, RedisCluster};
use support::process::Process;
use support::proxy::Proxy;
use support::redis::Redis;
use support::run::Run;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_and_keeps_everything_loses_nothing() {
    let mut redis = Redis::durable();
    let run = Run::start(&redis.settings()).await;
    for _ in 0..run.turns {
        redis.kill();
        sleep(Duration::from_millis(700)).await;
        redis.restart();
        run.expect_flow().await;
    }
    run.finish(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_costs_latency_and_no_event() {
    let redis = Redis::start();
    let run = Run::start(&redis.settings()).await;
    for _ in 0..run.turns {
        redis.signal("-STOP");
        sleep(run.outage).await;
        redis.signal("-CONT");
        run.expect_flow().await;
    }
    run.finish(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_channels_and_scripts_cost_no_event() {
    let redis = Redis::start();
    let run = Run::start(&redis.settings()).await;
    for _ in 0..run.turns {
        let _: i64 = redis.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        sleep(Duration::from_millis(300)).await;
        let _: String = redis.run(&["SCRIPT", "FLUSH"]);
        run.expect_flow().await;
        let _: i64 = redis.run(&["CLIENT", "KILL", "TYPE", "normal"]);
        run.expect_flow().await;
    }
    run.finish(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_forgot_everything_is_a_gap_to_everybody_and_no_number_comes_again() {
    let redis = Redis::start();
    let run = Run::start(&redis.settings()).await;
    for _ in 0..run.turns {
        let _: String = redis.run(&["FLUSHALL"]);
        run.expect_flow().await;
    }
    run.finish(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_rolled_back_is_a_gap_to_everybody_and_no_number_comes_again() {
    let mut redis = Redis::start();
    let run = Run::start(&redis.settings()).await;
    for _ in 0..run.turns {
        let _: String = redis.run(&["SAVE"]);
        sleep(Duration::from_millis(500)).await;
        redis.kill();
        redis.restart();
        run.expect_flow().await;
    }
    run.finish(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_killed_and_restarted_lose_nothing() {
    let redis = Redis::start();
    let mut run = Run::start(&redis.settings()).await;
    for turn in 0..run.turns * 2 {
        let at = turn % run.nodes.len();
        let signal = if turn % 2 == 0 { "-KILL" } else { "-TERM" };
        run.nodes[at].signal(signal);
        run.nodes[at].wait();
        run.restart(at);
        run.expect_flow().await;
    }
    run.finish(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_both_ways_or_one_way_loses_nothing() {
    let redis = Redis::start();
    let network = Proxy::to(redis.port).await;
    let settings = vec![network.settings(), redis.settings(), redis.settings()];
    let run = Run::over(settings).await;
    for (to_redis, from_redis) in [(true, true), (false, true), (true, false)] {
        network.cut(to_redis, from_redis);
        sleep(run.cut).await;
        network.cut(false, false);
        run.expect_flow().await;
    }
    run.finish(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_between_two_flushes_loses_nothing_unsaid() {
    let mut redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let run = Run::start(&redis.settings()).await;
    for _ in 0..run.turns {
        redis.kill();
        sleep(Duration::from_millis(300)).await;
        redis.restart();
        run.expect_flow().await;
    }
    run.finish(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_was_cut_off_and_is_promoted_rolls_back_no_number_and_everybody_is_told() {
    let mut master = Redis::start();
    let copying = Proxy::to(master.port).await;
    let replica = Redis::replica_of(copying.port);
    let network = Proxy::to(master.port).await;
    let run = Run::start(&network.settings()).await;
    copying.cut(true, true);
    sleep(Duration::from_secs(1)).await;
    master.kill();
    let _: String = replica.run(&["REPLICAOF", "NO", "ONE"]);
    network.lead_to(replica.port);
    run.expect_flow().await;
    assert!(run.gaps() > 0, "nobody was told");
    run.finish(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_by_sentinels_loses_nothing_unsaid() {
    let mut guarded = Guarded::start();
    let run = Run::start(&guarded.settings()).await;
    for _ in 0..run.turns {
        let master = guarded.master();
        guarded.servers[master].kill();
        guarded.wait_for_another(master);
        run.expect_flow().await;
        guarded.rejoin(master);
    }
    run.finish(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_of_a_cluster_that_is_killed_loses_nothing_unsaid() {
    let mut cluster = RedisCluster::start();
    let run = Run::start(&cluster.settings()).await;
    for _ in 0..run.turns {
        let owner = cluster.owner(0).expect("somebody has the log");
        cluster.servers[owner].kill();
        cluster.wait_for_another(owner);
        run.expect_flow().await;
        cluster.rejoin(owner);
    }
    run.finish(true).await;
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
    let nodes: Vec<_> = (0..2).map(|_| node(&redis.settings(), 0)).collect();
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
