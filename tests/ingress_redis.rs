//! Events out of an application's own Redis.

mod support;

use std::time::Duration;

use fanfare::config::{Config, Redis as RedisConfig, RedisSource, Storage, Tap};
use serde_json::{Value, json};
use support::process::Process;
use support::redis::Redis;
use support::ws::WsClient;
use support::{TestServer, eventually};

fn stream(redis: &Redis, field: Option<&str>) -> RedisSource {
    let (name, group) = ("app:orders".to_owned(), "fanfare".to_owned());
    let tap = Tap::Stream { name, group, field: field.map(str::to_owned) };
    let (redis, topic) = (RedisConfig::at(&redis.url()), "{name}".to_owned());
    RedisSource { redis, tap, topic, kind: None, keys: None }
}

/// A node of a cluster that is fed.
fn node(own: &Redis, source: RedisSource) -> TestServer {
    node_of(own, vec![source])
}

fn node_of(own: &Redis, sources: Vec<RedisSource>) -> TestServer {
    TestServer::with(|config: &mut Config| {
        config.redis = Some(RedisConfig::at(&own.url()));
        config.rules.default.storage = Storage::Redis;
        config.sources = sources;
    })
}

fn add(redis: &Redis, data: &str) {
    let _: String = redis.run(&["XADD", "app:orders", "*", "other", "x", "json", data]);
}

async fn kept(node: &TestServer, topic: &str) -> Vec<Value> {
    let path = format!("/v1/topics/{topic}/events?limit=1000");
    let page: Value = node.get(&path).send().await.expect("one").json().await.expect("JSON");
    page["events"].as_array().expect("events").iter().map(|event| event["data"].clone()).collect()
}

fn pending(redis: &Redis) -> usize {
    let (pending, ..): (usize, redis::Value, redis::Value, redis::Value) =
        redis.run(&["XPENDING", "app:orders", "fanfare"]);
    pending
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_becomes_events_once_and_in_order_though_several_nodes_could_read_it() {
    let (app, own) = (Redis::start(), Redis::start());
    for n in 0..150 {
        add(&app, &n.to_string());
    }
    let nodes = [node(&own, stream(&app, Some("json"))), node(&own, stream(&app, Some("json")))];
    for n in 150..300 {
        add(&app, &n.to_string());
    }
    let all: Vec<_> = (0..300).map(|n| json!(n)).collect();
    eventually("all are there", async || kept(&nodes[0], "app.orders").await.len() >= 300).await;
    assert_eq!(kept(&nodes[1], "app.orders").await, all);
    eventually("all are acknowledged", async || pending(&app) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_and_not_acknowledged_is_published_by_the_next_reader_once() {
    let (app, own) = (Redis::start(), Redis::start());
    let first = node(&own, stream(&app, Some("json")));
    add(&app, "1");
    eventually("it is there", async || kept(&first, "app.orders").await.len() == 1).await;
    first.stop();
    // As if a reader had died behind its publish, or before it.
    add(&app, "2");
    add(&app, "3");
    let read = ["XREADGROUP", "GROUP", "fanfare", "fanfare", "STREAMS", "app:orders", ">"];
    let _: redis::Value = app.run(&read);
    let second = node(&own, stream(&app, Some("json")));
    eventually("all are there", async || kept(&second, "app.orders").await.len() == 3).await;
    eventually("all are acknowledged", async || pending(&app) == 0).await;
    assert_eq!(kept(&second, "app.orders").await, [json!(1), json!(2), json!(3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_an_event_is_passed_by_and_holds_up_nothing() {
    let (app, own) = (Redis::start(), Redis::start());
    let large = "x".repeat(100_000);
    add(&app, &large);
    let _: String = app.run(&["XADD", "app:orders", "*", "nothing", "here"]);
    add(&app, "not JSON");
    let node = node(&own, stream(&app, Some("json")));
    eventually("the good one is there", async || {
        kept(&node, "app.orders").await == [json!("not JSON")]
    })
    .await;
    eventually("all are acknowledged", async || pending(&app) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_waits_while_the_log_is_away() {
    let (app, mut own) = (Redis::start(), Redis::durable());
    let node = node(&own, stream(&app, None));
    add(&app, "1");
    eventually("it is there", async || kept(&node, "app.orders").await.len() == 1).await;
    own.kill();
    add(&app, "2");
    tokio::time::sleep(Duration::from_secs(2)).await;
    own.restart();
    let text = |n: &str| json!({ "json": n, "other": "x" });
    eventually("both are there", async || {
        let answer = node.get("/v1/topics/app.orders").send().await.expect("an answer");
        answer.status() == 200 && kept(&node, "app.orders").await == [text("1"), text("2")]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_become_topics_by_their_names() {
    let (app, own) = (Redis::start(), Redis::start());
    let source = RedisSource {
        redis: RedisConfig::at(&app.url()),
        tap: Tap::Channel("prices:*".to_owned()),
        topic: "app.{name}".to_owned(),
        kind: None,
        keys: None,
    };
    let nodes = [node(&own, source.clone()), node(&own, source)];
    let mut client = WsClient::live(&nodes[1], "?topic=app.%3E").await;
    eventually("a node listens", async || app.run::<usize>(&["PUBSUB", "NUMPAT"]) == 1).await;
    let heard: usize = app.run(&["PUBLISH", "prices:eur", r#"{"price": 1.10}"#]);
    assert_eq!(heard, 1);
    let _: usize = app.run(&["PUBLISH", "prices:no topic", "1"]);
    let _: usize = app.run(&["PUBLISH", "prices:usd", "plain text"]);
    let event = client.until("event").await;
    assert_eq!(
        (&event["topic"], &event["data"]),
        (&json!("app.prices.eur"), &json!({"price": 1.1}))
    );
    let event = client.until("event").await;
    assert_eq!((&event["topic"], &event["data"]), (&json!("app.prices.usd"), &json!("plain text")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_of_one_name_do_not_wait_for_each_other() {
    let (app, own) = (Redis::start(), Redis::start());
    let mut channel = stream(&app, Some("json"));
    channel.tap = Tap::Channel("app:orders".to_owned());
    channel.topic = "heard".to_owned();
    let mut again = stream(&app, Some("json"));
    if let Tap::Stream { group, .. } = &mut again.tap {
        "another".clone_into(group);
    }
    again.topic = "again".to_owned();
    let sources = vec![stream(&app, Some("json")), channel, again];
    let nodes = [node_of(&own, sources.clone()), node_of(&own, sources)];
    add(&app, "1");
    let heard = async || app.run::<usize>(&["PUBLISH", "app:orders", "2"]) == 1;
    eventually("a node listens", heard).await;
    for (topic, data) in [("app.orders", 1), ("heard", 2), ("again", 1)] {
        eventually(topic, async || kept(&nodes[0], topic).await == [json!(data)]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_the_log_took_without_an_answer_is_kept_once() {
    let (app, own) = (Redis::start(), Redis::start());
    let source = RedisSource {
        redis: RedisConfig::at(&app.url()),
        tap: Tap::Channel("prices".to_owned()),
        topic: "prices".to_owned(),
        kind: None,
        keys: None,
    };
    let node = node(&own, source);
    let is_heard = async || {
        let (_, listeners): (String, usize) = app.run(&["PUBSUB", "NUMSUB", "prices"]);
        listeners == 1
    };
    eventually("the node listens", is_heard).await;
    // So that Redis has the script.
    node.publish("other", &json!(0)).await;
    own.signal("-STOP");
    let _: usize = app.run(&["PUBLISH", "prices", "1"]);
    eventually("nobody knows what became of it", async || {
        node.get("/health/ready").send().await.expect("an answer").status() == 503
    })
    .await;
    own.signal("-CONT");
    eventually("it is ready", async || {
        node.get("/health/ready").send().await.expect("an answer").status() == 200
    })
    .await;
    let _: usize = app.run(&["PUBLISH", "prices", "2"]);
    eventually("the second is kept", async || kept(&node, "prices").await.contains(&json!(2)))
        .await;
    assert_eq!(kept(&node, "prices").await, [json!(1), json!(2)]);
}

/// A broker of its own that reads a stream, and the file to which it logs.
fn reading(app_url: &str, field: &str) -> (Process, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let sources = format!(
        r#"ingress.redis=[{{url="{app_url}", stream="app:orders", group="fanfare", field="{field}", topic="orders"}}]"#
    );
    let process = Process::durable(directory.path(), 0, &["--set", &sources]);
    (process, directory)
}

async fn eventually_logged(directory: &tempfile::TempDir, words: &[&str]) {
    eventually("it is said", async || {
        let log = std::fs::read_to_string(directory.path().join("broker.log")).expect("a log");
        log.lines().any(|line| words.iter().all(|word| line.contains(word)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_without_its_field_is_said_and_counted() {
    let app = Redis::start();
    let _: String = app.run(&["XADD", "app:orders", "7-1", "nothing", "here"]);
    add(&app, "1");
    let (process, directory) = reading(&app.url(), "json");
    let words = ["app:orders", "7-1", "ingress.redis", "field", "json"];
    eventually_logged(&directory, &words).await;
    let metrics = reqwest::get(process.url("/metrics")).await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    let counted = "fanfare_ingress_passed_by_total{reason=\"no_field\"} 1\n";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_fills_a_stream_with_what_can_be_no_event_fills_no_log() {
    let app = Redis::start();
    for n in 0..300 {
        let _: String =
            app.run(&["XADD", "app:orders", &format!("7-{}", n + 1), "nothing", "here"]);
    }
    add(&app, "1");
    let (mut process, directory) = reading(&app.url(), "json");
    eventually("the good one is there", async || {
        let kept = reqwest::get(process.url("/v1/topics/orders/events")).await.expect("an answer");
        kept.json::<Value>().await.expect("JSON")["events"].as_array().map(Vec::len) == Some(1)
    })
    .await;
    process.signal("-TERM");
    process.wait();
    let log = std::fs::read_to_string(directory.path().join("broker.log")).expect("a log");
    let said: Vec<_> = log.lines().filter(|line| line.contains("no_field")).collect();
    assert!(
        said.len() == 2 && said[0].contains("7-1:") && said[1].contains("count=299"),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_refuses_a_command_is_told_of_by_its_name_before_anything_is_published() {
    for (rule, name) in [("-xack", "XACK"), ("-set", "SET"), ("-xreadgroup", "XREADGROUP")] {
        let app = Redis::start();
        let all = ["ACL", "SETUSER", "app", "on", ">hunter2", "+@all", "~*", "&*", rule];
        let _: String = app.run(&all);
        add(&app, "1");
        let url = format!("redis://app:hunter2@127.0.0.1:{}", app.port);
        let (process, directory) = reading(&url, "json");
        eventually_logged(&directory, &["app:orders", "does not allow this user", name]).await;
        let kept = reqwest::get(process.url("/v1/topics/orders/events")).await.expect("an answer");
        let kept: Value = kept.json().await.expect("JSON");
        assert_eq!(kept["events"], json!([]), "{rule}");
    }
}
