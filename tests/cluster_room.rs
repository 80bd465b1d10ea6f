//! What makes room: at the bound of a topic, and at the `maxmemory` of Redis, where the way out needs no memory that it does
//! not have.

mod support;

use std::time::Duration;

use fanfare::config::{Config, Redis as RedisConfig, Storage};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::redis::Redis;
use support::{API_KEY, TestServer, eventually, expect_status, token};

fn node(redis: &Redis, change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        config.redis = Some(RedisConfig::at(&redis.url()));
        config.rules.default.storage = Storage::Redis;
        config.rules.default.max_bytes = 1 << 30;
        support::close(config);
        change(config);
    })
}

async fn publish(node: &TestServer, topic: &str) -> u16 {
    let request = node.post(&format!("/v1/topics/{topic}/events")).bearer_auth(API_KEY);
    let body = json!("x".repeat(20_000));
    request.json(&body).send().await.expect("an answer").status().as_u16()
}

/// Lets Redis have so much more memory, and publishes until nothing more is taken.
async fn fill(redis: &Redis, node: &TestServer, more: u64) {
    let info: String = redis.run(&["INFO", "memory"]);
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a number");
    let most = used.trim().parse::<u64>().expect("a number") + more;
    let _: String = redis.run(&["CONFIG", "SET", "maxmemory", &most.to_string()]);
    for n in 0.. {
        match publish(node, &format!("fill.{}", n % 7)).await {
            201 => assert!(n < 10_000, "it never is full"),
            503 => return,
            status => panic!("{status}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_makes_room_by_itself() {
    let redis = Redis::start();
    let node = node(&redis, |config| config.rules.default.max_age = Duration::from_secs(4));
    fill(&redis, &node, 4 << 20).await;
    eventually("publishes are taken again", async || publish(&node, "after").await == 201).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_to_a_full_redis_with_less_to_keep_makes_room() {
    let redis = Redis::start();
    let first = node(&redis, |_| {});
    fill(&redis, &first, 4 << 20).await;
    first.stop();
    let second = node(&redis, |config| config.history.redis_bytes = 1 << 20);
    eventually("publishes are taken again", async || publish(&second, "after").await == 201).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_revoked_is_so_though_nothing_else_can_be_stored() {
    let redis = Redis::start();
    let node = node(&redis, |_| {});
    fill(&redis, &node, 4 << 20).await;
    let eve = token("eve", &["a"], &[], 600);
    let read = || node.get("/v1/topics/a/events").bearer_auth(&eve).send();
    assert_eq!(read().await.expect("an answer").status(), StatusCode::OK);
    let revoke = node.post("/v1/revocations").bearer_auth(API_KEY).json(&json!({ "user": "eve" }));
    expect_status(revoke.send().await.expect("an answer"), StatusCode::CREATED).await;
    assert_eq!(read().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    assert_eq!(publish(&node, "after").await, 503);
    let forget = node.delete("/v1/topics/fill.1/events").bearer_auth(API_KEY).send().await;
    let removed: Value = expect_status(forget.expect("an answer"), StatusCode::OK).await;
    assert!(removed["removed"].as_u64().expect("a count") > 1);
    assert_eq!(publish(&node, "after").await, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_a_full_redis_is_read_all_the_same() {
    use fanfare::config::{RedisSource, Tap};
    let (app, own) = (Redis::start(), Redis::start());
    let add = |n: &str| app.run::<String>(&["XADD", "orders", "*", "json", n]);
    let _: String = app.run(&["XGROUP", "CREATE", "orders", "fanfare", "0", "MKSTREAM"]);
    add("1");
    let _: String = app.run(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let tap = Tap::Stream {
        name: "orders".to_owned(),
        group: "fanfare".to_owned(),
        field: Some("json".to_owned()),
    };
    let node = node(&own, |config| {
        let (redis, topic) = (RedisConfig::at(&app.url()), "orders".to_owned());
        config.sources = vec![RedisSource { redis, tap, topic, kind: None, keys: None }];
    });
    eventually("it is there", async || {
        let request = node.get("/v1/topics/orders").bearer_auth(API_KEY).send().await;
        let topic: Value = expect_status(request.expect("an answer"), StatusCode::OK).await;
        topic["retained"] == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_leave_the_same_at_the_bound_of_their_topic_whichever_script_takes_them() {
    let redis = Redis::start();
    let node = node(&redis, |config| config.rules.default.max_events = 3);
    let mut ids = Vec::new();
    for n in 1..=5 {
        for (topic, key) in [("plain", None), ("keyed", Some(format!("key-{n}")))] {
            let request = node.post(&format!("/v1/topics/{topic}/events")).bearer_auth(API_KEY);
            let request =
                key.into_iter().fold(request, |it, key| it.header("Idempotency-Key", key));
            let answer = request.json(&json!(n)).send().await.expect("an answer");
            let receipt: Value = expect_status(answer, StatusCode::CREATED).await;
            ids.push(receipt["id"].as_str().expect("an id").to_owned());
            // The short way is open again then.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
    let numbers: Vec<u64> = ids
        .iter()
        .map(|id| id.rsplit('-').next().expect("parts").parse().expect("a number"))
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    let kept = |topic: &str| -> Vec<String> {
        let entries: redis::Value =
            redis.run(&["XRANGE", &format!("{{fanfare}}:t:{topic}"), "-", "+"]);
        let entries: Vec<(String, Vec<String>)> =
            redis::from_redis_value(entries).expect("entries");
        entries.into_iter().map(|(_, fields)| fields[1].clone()).collect()
    };
    assert_eq!(kept("plain"), ["\0\x003", "\0\x004", "\0\x005"].map(str::to_owned));
    assert_eq!(kept("keyed"), kept("plain"));
    let bytes = |topic: &str| redis.run::<u64>(&["HGET", "{fanfare}:bytes", topic]);
    assert_eq!((bytes("plain"), bytes("keyed")), (3 * 262, 3 * 262));
    assert_eq!(redis.run::<u64>(&["HGET", "{fanfare}:log", "bytes"]), 6 * 262);
    assert_eq!(redis.run::<u64>(&["XLEN", "{fanfare}:order"]), 6);
    let topics: Vec<String> = redis.run(&["ZRANGE", "{fanfare}:topics", "0", "-1"]);
    assert_eq!(topics, ["keyed", "plain"]);
    let lost = |topic: &str| redis.run::<u64>(&["ZSCORE", "{fanfare}:lost", topic]);
    assert_eq!((lost("plain"), lost("keyed")), (numbers[2], numbers[3]));
}
