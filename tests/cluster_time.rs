//! Ages and moments in Redis: by its own clock, at any rate, and where that clock was wrong.

mod support;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use fanfare::config::{Config, Redis as RedisConfig, Rule, Storage};
use fanfare::model::{Pattern, Timestamp};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::redis::Redis;
use support::{TestServer, eventually, expect_status};

/// A node on which topics that a pattern matches are kept for so long each.
fn node(redis: &Redis, ages: &[(&str, u64)]) -> TestServer {
    TestServer::with(|config: &mut Config| {
        config.redis = Some(RedisConfig::at(&redis.url()));
        config.rules.default.storage = Storage::Redis;
        let rule = |&(pattern, seconds): &(&str, u64)| Rule {
            pattern: Pattern::parse(pattern).expect("a pattern"),
            max_age: Duration::from_secs(seconds),
            max_events: 1_000_000,
            max_bytes: 1 << 30,
            keep_newest: false,
            ..config.rules.default.clone()
        };
        config.rules.listed = ages.iter().map(rule).collect();
    })
}

async fn page(node: &TestServer, path: &str) -> Value {
    expect_status(node.get(path).send().await.expect("an answer"), StatusCode::OK).await
}

async fn retained(node: &TestServer, topic: &str) -> u64 {
    page(node, &format!("/v1/topics/{topic}")).await["retained"].as_u64().expect("a count")
}

/// How many seconds an event is dated ahead of this machine's clock.
fn ahead(event: &Value) -> i64 {
    let time = Timestamp::parse(event["time"].as_str().expect("a time")).expect("a time");
    (time.millis() - Timestamp::from(SystemTime::now()).millis()) / 1_000
}

async fn publish_many(node: &TestServer, topic: &str, count: usize) {
    let events: Vec<_> = (0..count).map(|n| (topic.to_owned(), json!(n))).collect();
    for events in events.chunks(1_000) {
        node.publish_all(events).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_goes_as_fast_as_it_came() {
    let redis = Redis::start();
    let node = node(&redis, &[("brief", 2)]);
    publish_many(&node, "brief", 30_000).await;
    assert!(retained(&node, "brief").await > 0);
    eventually("all are gone", async || retained(&node, "brief").await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_snapshot_brings_back_ages_like_the_rest() {
    let mut redis = Redis::start();
    let node = node(&redis, &[("brief", 2)]);
    publish_many(&node, "brief", 1_500).await;
    let _: String = redis.run(&["SAVE"]);
    eventually("all are gone", async || retained(&node, "brief").await == 0).await;
    redis.kill();
    redis.restart();
    assert_eq!(redis.run::<usize>(&["XLEN", "{fanfare}:t:brief"]), 1_500, "they are back");
    let gone = async || redis.run::<usize>(&["XLEN", "{fanfare}:t:brief"]) == 0;
    eventually("they are gone again", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_ahead_of_redis_removes_nothing_early() {
    let redis = Redis::ahead_by(-600);
    let node = node(&redis, &[("kept", 60), ("brief", 2)]);
    node.publish("kept", &json!(1)).await;
    node.publish("brief", &json!(1)).await;
    eventually("it was swept", async || retained(&node, "brief").await == 0).await;
    assert_eq!(retained(&node, "kept").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_ten_years_ahead_stops_nothing_once_it_is_right() {
    let decade = 10 * 365 * 86_400;
    let redis = Redis::ahead_by(decade);
    let node = node(&redis, &[("brief", 2), ("kept", 3_600)]);
    let keyed = |n: i32| {
        let request = node.post("/v1/topics/kept/events").header("idempotency-key", n.to_string());
        request.body(n.to_string()).send()
    };
    let first = keyed(1).await.expect("an answer");
    assert!(ahead(&expect_status(first, StatusCode::CREATED).await) > decade - 60);
    node.publish("brief", &json!(1)).await;
    redis.set_ahead(0);
    let second = expect_status(keyed(2).await.expect("an answer"), StatusCode::CREATED).await;
    assert!(ahead(&second).abs() < 60, "{second}");
    node.publish("brief", &json!(2)).await;
    eventually("both are gone", async || retained(&node, "brief").await == 0).await;
    assert_eq!(retained(&node, "kept").await, 2);
    // What was remembered then is forgotten when its window is over.
    let receipts: Vec<String> = redis.run(&["KEYS", "{fanfare}:k:*"]);
    assert_eq!(receipts.len(), 2);
    eventually("no key outlives its window", async || {
        receipts.iter().all(|key| redis.run::<i64>(&["TTL", key]) <= 86_400)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_back_of_the_clock_is_in_the_log_of_a_node() {
    let redis = Redis::ahead_by(120);
    let directory = tempfile::tempdir().expect("a directory");
    let setting = format!("redis.url={}", redis.url());
    let node = support::process::Process::durable(directory.path(), 0, &["--set", &setting]);
    let publish = || reqwest::Client::new().post(node.url("/v1/topics/a/events")).body("1").send();
    expect_status(publish().await.expect("an answer"), StatusCode::CREATED).await;
    redis.set_ahead(0);
    let said = || std::fs::read_to_string(directory.path().join("broker.log")).expect("its log");
    eventually("it says so", async || said().contains("the clock of Redis went back")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_ahead_of_the_clock_is_in_the_log_of_a_node() {
    let redis = Redis::ahead_by(0);
    let directory = tempfile::tempdir().expect("a directory");
    let setting = format!("redis.url={}", redis.url());
    let _node = support::process::Process::durable(directory.path(), 0, &["--set", &setting]);
    let said = || std::fs::read_to_string(directory.path().join("broker.log")).expect("its log");
    let ahead = AtomicI64::new(0);
    eventually("it says so", async || {
        // It may not have looked before the first of them.
        redis.set_ahead(60 + ahead.fetch_add(60, Ordering::SeqCst));
        said().contains("the clock of Redis went ahead")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_after_a_step_back_goes_in_time_though_what_came_before_it_stays_longer() {
    let redis = Redis::ahead_by(3_600);
    let node = node(&redis, &[("brief", 60)]);
    node.publish("brief", &json!(1)).await;
    redis.set_ahead(0);
    node.publish("brief", &json!(2)).await;
    // Who was away so long can't say which time was the right one, and the first may be no older than this.
    redis.set_ahead(70);
    eventually("the second is gone", async || {
        let page = page(&node, "/v1/topics/brief/events").await;
        page["events"].as_array().is_some_and(|events| events.len() == 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_long_ago_is_so_by_the_clock_of_redis_at_a_node_whose_clock_is_ahead() {
    let redis = Redis::ahead_by(-600);
    let node = node(&redis, &[("a", 86_400)]);
    node.publish("a", &json!(1)).await;
    let page = page(&node, "/v1/topics/a/events?since=-5m").await;
    assert_eq!(page["events"][0]["data"], 1, "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn since_a_moment_that_the_clock_went_through_twice_is_a_gap() {
    let redis = Redis::ahead_by(0);
    let node = node(&redis, &[("a", 86_400)]);
    let mut times = Vec::new();
    for (n, seconds) in [0, 600, 0, 900].into_iter().enumerate() {
        redis.set_ahead(seconds);
        times.push(ahead(&node.publish("a", &json!(n)).await));
    }
    assert_eq!(times.iter().map(|time| (time + 30) / 300).collect::<Vec<_>>(), [0, 2, 0, 3]);
    let now = Timestamp::from(SystemTime::now()).millis();
    let since = |seconds: i64| {
        let moment = Timestamp::from_millis(now + seconds * 1_000);
        let path = format!("/v1/topics/a/events?since={moment}");
        async {
            let page = page(&node, &{ path }).await;
            let events = page["events"].as_array().expect("events");
            let numbers: Vec<_> = events.iter().map(|event| event["data"].clone()).collect();
            (page["gap"] == true, json!(numbers))
        }
    };
    // The second is dated after it, and lies below the newest that is dated before.
    assert_eq!(since(300).await, (true, json!([3])));
    assert_eq!(since(750).await, (false, json!([3])));
    assert_eq!(since(-300).await, (false, json!([0, 1, 2, 3])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_before_a_step_back_is_a_gap_for_who_reads_since_a_moment_that_hides_it() {
    let redis = Redis::ahead_by(0);
    let node = node(&redis, &[(">", 86_400)]);
    for (topic, seconds) in [("a", 0), ("b", 600), ("a", 0), ("a", 900)] {
        redis.set_ahead(seconds);
        node.publish(topic, &json!(seconds)).await;
    }
    let now = Timestamp::from(SystemTime::now()).millis();
    let is_gap = async |topic: &str, seconds: i64| {
        let moment = Timestamp::from_millis(now + seconds * 1_000);
        page(&node, &format!("/v1/topics/{topic}/events?since={moment}")).await["gap"] == true
    };
    assert!(is_gap("b", 300).await, "what is kept shows its date");
    let deleted = node.delete("/v1/topics/b/events").send().await.expect("an answer");
    assert_eq!(deleted.json::<Value>().await.expect("JSON"), json!({ "removed": 1 }));
    assert!(is_gap("b", 300).await, "what is gone showed it as well");
    assert!(!is_gap("b", 750).await && !is_gap("a", -300).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_lost_for_a_while_makes_nothing_older() {
    let redis = Redis::ahead_by(0);
    let node = node(&redis, &[("kept", 3_600), ("brief", 2)]);
    node.publish("kept", &json!(1)).await;
    redis.set_ahead(-50 * 365 * 86_400);
    node.publish("kept", &json!(2)).await;
    redis.set_ahead(0);
    node.publish("brief", &json!(1)).await;
    eventually("it was swept", async || retained(&node, "brief").await == 0).await;
    let page = page(&node, "/v1/topics/kept/events").await;
    assert_eq!(page["events"][0]["data"], 1, "{page}");
}
