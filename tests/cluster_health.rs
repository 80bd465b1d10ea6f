//! One node and its Redis: what is said while Redis is away or not as it must be.

mod support;

use std::time::Duration;

use fanfare::config::{Redis as RedisConfig, Storage};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::process::Process;
use support::proxy::Proxy;
use support::redis::Redis;
use support::sse::SseClient;
use support::ws::WsClient;
use support::{TestServer, eventually, problem};
use tokio::time::timeout;

fn node(redis: &Redis) -> TestServer {
    TestServer::with(|config| {
        config.rules.default.storage = Storage::Redis;
        config.redis = Some(RedisConfig::at(&redis.url()));
    })
}

async fn readiness(node: &TestServer) -> (u16, String) {
    let response = node.get("/health/ready").send().await.expect("an answer");
    let status = response.status().as_u16();
    let body: Value = response.json().await.expect("JSON");
    (status, body["checks"]["history"].as_str().expect("a check").to_owned())
}

async fn eventually_ready(node: &TestServer) {
    eventually("it is ready", async || readiness(node).await.0 == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_not_ready_and_refuses_at_once_while_redis_is_away() {
    let mut redis = Redis::durable();
    let node = node(&redis);
    eventually_ready(&node).await;
    node.publish("a", &json!(1)).await;
    redis.kill();
    let away = async || readiness(&node).await.1.starts_with("Redis is away");
    timeout(Duration::from_secs(5), eventually("it says so", away)).await.expect("within 5 s");
    let publish =
        timeout(Duration::from_secs(1), problem(node.post("/v1/topics/a/events").body("2")));
    assert_eq!(publish.await.expect("within 1 s"), (503, "unavailable".to_owned()));
    let read = problem(node.get("/v1/topics/a/events")).await;
    assert_eq!(read, (503, "unavailable".to_owned()));
    redis.restart();
    eventually_ready(&node).await;
    node.publish("a", &json!(3)).await;
    let page: Value = node.get("/v1/topics/a").send().await.unwrap().json().await.unwrap();
    assert_eq!((&page["retained"], &page["latest"]["data"]), (&json!(2), &json!(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_hear_within_5_s_that_redis_is_away_and_that_it_is_back() {
    let mut redis = Redis::durable();
    let node = node(&redis);
    eventually_ready(&node).await;
    let mut early = WsClient::live(&node, "?topic=a").await;
    let mut stream = SseClient::live(&node, "?topic=a").await;
    redis.kill();
    let heard = async {
        let trouble = stream.next().await.expect("an event");
        (early.until("trouble").await, trouble)
    };
    let (trouble, of_stream) = timeout(Duration::from_secs(5), heard).await.expect("within 5 s");
    assert_eq!(trouble["code"], "unavailable");
    assert_eq!(
        (of_stream.event.as_str(), of_stream.json()["code"].as_str()),
        ("fanfare.trouble", Some("unavailable"))
    );
    assert_eq!(readiness(&node).await.0, 503);
    // Behind its welcome, which `connect` has read.
    let mut late = WsClient::connect(&node, "").await;
    assert_eq!(late.next().await["code"], "unavailable");
    redis.restart();
    for client in [&mut early, &mut late] {
        assert_eq!(client.until("trouble").await["code"], "over");
    }
    assert_eq!(stream.next().await.expect("an event").json()["code"], "over");
    let mut well = WsClient::connect(&node, "?topic=a").await;
    assert_eq!(well.next().await["op"], "ack", "it hears of no trouble");
    node.publish("a", &json!(1)).await;
    assert_eq!(early.until("event").await["data"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_redis_leaves_the_outcome_unknown_within_a_second() {
    let redis = Redis::start();
    let node = node(&redis);
    node.publish("a", &json!(1)).await;
    redis.signal("-STOP");
    let publish =
        timeout(Duration::from_millis(1_500), problem(node.post("/v1/topics/a/events").body("2")));
    assert_eq!(publish.await.expect("in time"), (503, "outcome_unknown".to_owned()));
    // It may just be busy, for as long as the largest batch takes.
    eventually("it is not ready", async || readiness(&node).await.0 != 200).await;
    redis.signal("-CONT");
    eventually_ready(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_events_forgotten_waits_for_a_hanging_redis_no_longer_than_a_publisher() {
    let redis = Redis::start();
    let node = node(&redis);
    node.publish("a", &json!(1)).await;
    redis.signal("-STOP");
    let forget = timeout(Duration::from_millis(1_500), problem(node.delete("/v1/topics/a/events")));
    assert_eq!(forget.await.expect("in time"), (503, "unavailable".to_owned()));
    redis.signal("-CONT");
    eventually_ready(&node).await;
}

/// What is newest is read once it is refused: Redis hangs between the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_waits_for_what_is_newest_no_longer_than_a_publisher() {
    let redis = Redis::start();
    let network = Proxy::to(redis.port).await;
    let node = TestServer::with(|config| {
        config.rules.default.storage = Storage::Redis;
        config.redis = Some(RedisConfig::at(&format!("redis://127.0.0.1:{}", network.port)));
    });
    node.publish("a", &json!(1)).await;
    let event = json!({"topic": "a", "data": 2, "if_latest": "absent"});
    let publish = || problem(node.post("/v1/events").json(&event));
    assert_eq!(publish().await, (412, "not_latest".to_owned()));
    network.cut_at("unmet");
    let hang = async {
        network.cut_off().await;
        redis.signal("-STOP");
        network.cut(false, false);
    };
    let refused = async { tokio::join!(publish(), hang).0 };
    let refused = timeout(Duration::from_millis(1_500), refused).await.expect("in time");
    assert_eq!(refused, (412, "not_latest".to_owned()));
    redis.signal("-CONT");
    eventually_ready(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_may_evict_is_not_relied_on() {
    let redis = Redis::start();
    let node = node(&redis);
    eventually_ready(&node).await;
    let _: String = redis.run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let says = async || readiness(&node).await.1.contains("must be noeviction");
    eventually("it says so", says).await;
    let _: String = redis.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    eventually_ready(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_without_memory_stores_nothing_and_goes_on_to_serve() {
    let redis = Redis::start();
    let node = node(&redis);
    node.publish("a", &json!(1)).await;
    let _: String = redis.run(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let publish = problem(node.post("/v1/topics/a/events").body("2")).await;
    assert_eq!(publish, (503, "storage_full".to_owned()));
    let page: Value = node.get("/v1/topics/a/events").send().await.unwrap().json().await.unwrap();
    assert_eq!(page["events"].as_array().map(Vec::len), Some(1));
    let response = node.delete("/v1/topics/a/events").send().await.unwrap();
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "removed": 1 }));
    let _: String = redis.run(&["CONFIG", "SET", "maxmemory", "0"]);
    node.publish("a", &json!(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_may_not_be_written_to_refuses_publishers_and_keeps_subscribers() {
    let redis = Redis::start();
    let node = node(&redis);
    let first = node.publish("a", &json!(1)).await;
    let mut client = WsClient::live(&node, "?topic=a").await;
    // A replica of nobody.
    let _: String = redis.run(&["REPLICAOF", "127.0.0.1", "1"]);
    let publish =
        timeout(Duration::from_secs(1), problem(node.post("/v1/topics/a/events").body("2")));
    assert_eq!(publish.await.expect("within 1 s"), (503, "unavailable".to_owned()));
    let unready = async || readiness(&node).await.0 == 503;
    timeout(Duration::from_secs(5), eventually("it is not ready", unready)).await.expect("in 5 s");
    let _: String = redis.run(&["REPLICAOF", "NO", "ONE"]);
    eventually_ready(&node).await;
    let second = node.publish("a", &json!(3)).await;
    assert_ne!(first["id"], second["id"]);
    assert_eq!(client.until("event").await["data"], 3);
}

/// Stores an event as the publishing script does, and tells nobody.
const UNTOLD: &str = r#"
    local seq = redis.call('HINCRBY', '{fanfare}:log', 'seq', 1)
    redis.call('XADD', '{fanfare}:t:a', seq .. '-0', 'e', '\0\0"untold"', 't', 1700000000000)
    redis.call('XADD', '{fanfare}:order', seq .. '-0', 'n', 'a', 't', 1700000000000)
    return redis.call('HINCRBY', '{fanfare}:bytes', 'a', 265)
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_last_message_shows_within_five_seconds() {
    let redis = Redis::start();
    let node = node(&redis);
    node.publish("a", &json!(1)).await;
    let mut client = WsClient::live(&node, "?topic=a").await;
    let _: i64 = redis.run(&["EVAL", UNTOLD, "0"]);
    let untold = async {
        // The first event may still be on its way when the client subscribes.
        while client.until("event").await["data"] != "untold" {}
    };
    timeout(Duration::from_secs(5), untold).await.expect("within 5 s");
    node.publish("a", &json!(2)).await;
    assert_eq!(client.until("event").await["data"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_and_ephemeral_events_come_through_too() {
    let redis = Redis::start();
    let publisher = node(&redis);
    let node = TestServer::with(|config| {
        config.redis = Some(RedisConfig::at(&redis.url()));
        config.rules.default.storage = Storage::None;
    });
    let mut client = WsClient::live(&node, "?topic=%3E").await;
    let large = "x".repeat(40_000);
    publisher.publish_all(&[("a".to_owned(), json!(large)), ("b".to_owned(), json!(1))]).await;
    assert_eq!(client.until("event").await["data"], json!(large));
    assert_eq!(client.until("event").await["data"], 1);
    let response = node.post("/v1/topics/now/events").body("2").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let event = client.until("event").await;
    assert_eq!((&event["data"], event.get("id")), (&json!(2), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_waits_for_replicas_is_acknowledged_once_they_have_it() {
    let redis = Redis::start();
    let node = TestServer::with(|config| {
        config.redis = Some(RedisConfig { wait_replicas: 1, ..RedisConfig::at(&redis.url()) });
        config.rules.default.storage = Storage::Redis;
    });
    let key = ("idempotency-key", "k");
    let publish = || node.post("/v1/topics/a/events").header(key.0, key.1).body("1");
    let alone = timeout(Duration::from_millis(1_500), problem(publish())).await;
    assert_eq!(alone.expect("in time"), (503, "outcome_unknown".to_owned()));
    let replica = Redis::replica_of(redis.port);
    // It was stored before, and is known now.
    let known = async || publish().send().await.expect("an answer").status() == StatusCode::OK;
    eventually("the replica is there", known).await;
    node.publish("a", &json!(2)).await;
    let kept: usize = replica.run(&["XLEN", "{fanfare}:t:a"]);
    assert_eq!(kept, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_gap_while_live_current_values_come_again_where_they_were_asked_for() {
    let mut redis = Redis::start();
    let node = node(&redis);
    node.publish_all(&[("a".to_owned(), json!(1)), ("b".to_owned(), json!(1))]).await;
    let mut client = WsClient::live(&node, "?topic=a&snapshot=true").await;
    let ask = json!({"op": "subscribe", "ref": 7, "topics": ["b"]});
    client.send(ask).await;
    client.until("live").await;
    let _: String = redis.run(&["SAVE"]);
    node.publish("a", &json!(2)).await;
    assert_eq!(client.until("event").await["data"], 2);
    redis.kill();
    redis.restart();
    let gap = client.until("gap").await;
    assert_eq!(gap.get("ref"), None);
    let value = client.next().await;
    assert_eq!((&value["data"], &value["snapshot"]), (&json!(1), &json!(true)));
    let live = client.until("live").await;
    assert_eq!(live.get("ref"), None);
    eventually_ready(&node).await;
    node.publish("b", &json!(3)).await;
    let event = client.until("event").await;
    assert_eq!((&event["data"], event.get("replay")), (&json!(3), None));
}

#[test]
fn a_start_without_redis_is_refused_in_time() {
    let mut redis = Redis::start();
    redis.kill();
    let url = format!("redis.url={}", redis.url());
    let started = std::process::Command::new(env!("CARGO_BIN_EXE_fanfare"))
        .args(["serve", "--set", "server.listen=127.0.0.1:0", "--set", &url])
        .output();
    let output = started.expect("it runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Redis could not be joined"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_is_spoken_to_over_tls_where_its_certificate_is_trusted() {
    let redis = Redis::with_tls();
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("redis.url=rediss://localhost:{}", redis.port);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.env("SSL_CERT_FILE", redis.path("cert.pem"));
    let node = Process::run(command, directory.path(), 0, &["--set", &url]);
    let sent = reqwest::Client::new().post(node.url("/v1/topics/a/events")).body("1").send().await;
    assert_eq!(sent.expect("an answer").status(), StatusCode::CREATED);
    let untrusting = std::process::Command::new(env!("CARGO_BIN_EXE_fanfare"))
        .args(["serve", "--set", "server.listen=127.0.0.1:0", "--set", &url])
        .output();
    assert!(!untrusting.expect("it runs").status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_the_rights_that_the_docs_name_is_enough() {
    let redis = Redis::start();
    let docs = include_str!("../docs/cluster.md");
    let rights = docs.split("ACL SETUSER fanfare on >PASSWORD").nth(1).expect("the command");
    let rights = rights.split("```").next().expect("its end").split_whitespace();
    let mut words = vec!["ACL", "SETUSER", "fanfare", "on", ">hunter2"];
    words.extend(rights);
    let _: String = redis.run(&words);
    let node = TestServer::with(|config| {
        config.rules.default.storage = Storage::Redis;
        let url = format!("redis://fanfare:hunter2@127.0.0.1:{}", redis.port);
        config.redis = Some(RedisConfig::at(&url));
    });
    eventually_ready(&node).await;
    let mut client = WsClient::live(&node, "?topic=%3E").await;
    let key = ("idempotency-key", "k");
    for status in [StatusCode::CREATED, StatusCode::OK] {
        let publish = node.post("/v1/topics/a/events").header(key.0, key.1).body("1");
        assert_eq!(publish.send().await.expect("an answer").status(), status);
    }
    assert_eq!(client.until("event").await["data"], 1);
    let page: Value = node.get("/v1/topics/a").send().await.unwrap().json().await.unwrap();
    assert_eq!(page["retained"], 1);
    let response = node.delete("/v1/topics/a/events").send().await.unwrap();
    assert_eq!(response.json::<Value>().await.unwrap(), json!({ "removed": 1 }));
    // Over the same connections it goes on to be ready.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(readiness(&node).await.0, 200);
}
