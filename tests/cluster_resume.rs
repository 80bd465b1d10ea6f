//! Clients that come back to nodes behind Redis: what is read for them, and how fast a node that missed
//! something tells them of it.

mod support;

use std::ops::Range;
use std::time::{Duration, Instant};

use fanfare::config::{Redis as RedisConfig, Rule, Storage};
use fanfare::model::Pattern;
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use support::proxy::Proxy;
use support::redis::Redis;
use support::ws::WsClient;
use support::{TestServer, eventually};
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

fn node(port: u16, change: impl FnOnce(&mut RedisConfig)) -> TestServer {
    TestServer::with(|config| {
        config.rules.default.storage = Storage::Redis;
        let mut redis = RedisConfig::at(&format!("redis://127.0.0.1:{port}"));
        change(&mut redis);
        config.redis = Some(redis);
    })
}

/// How often a command was given to Redis.
fn calls(redis: &Redis, command: &str) -> u64 {
    let info: String = redis.run(&["INFO", "commandstats"]);
    let prefix = format!("cmdstat_{command}:calls=");
    let calls = info.lines().find_map(|line| line.strip_prefix(&*prefix));
    calls.map_or(0, |calls| calls.split(',').next().expect("a field").parse().expect("a number"))
}

/// How often something has been read from a stream in Redis.
fn stream_reads(redis: &Redis) -> u64 {
    calls(redis, "xrange")
}

/// Publishes so many events on two topics, to which somebody else is subscribed; the first one's id.
async fn publish(node: &TestServer, count: usize) -> String {
    let mut other = WsClient::live(node, "?topic=a.*").await;
    let events: Vec<_> = (0..count).map(|n| (["a.0", "a.1"][n % 2].to_owned(), json!(n))).collect();
    let ids = node.publish_all(&events).await;
    other.events(count).await;
    ids[0].clone()
}

/// What a client gets that comes back after `since`.
async fn resumed(node: &TestServer, patterns: &str, since: &str) -> (Vec<Value>, bool) {
    let mut client = WsClient::connect(node, &format!("?{patterns}&since={since}")).await;
    let (mut data, mut is_gap) = (Vec::new(), false);
    loop {
        let frame = client.next().await;
        match frame["op"].as_str().expect("an op") {
            "event" => data.push(frame["data"].clone()),
            "gap" => is_gap = true,
            "live" => return (data, is_gap),
            _ => {}
        }
    }
}

/// What a client gets before it is live.
async fn values(node: &TestServer, query: &str) -> Vec<Value> {
    let mut client = WsClient::connect(node, &format!("?{query}")).await;
    let mut data = Vec::new();
    loop {
        let frame = client.next().await;
        match frame["op"].as_str().expect("an op") {
            "event" => data.push(frame["data"].clone()),
            "live" => return data,
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_for_a_moment_is_caught_up_without_reading_events_from_redis() {
    let redis = Redis::start();
    for recent_bytes in [16 << 20, 0] {
        let node = node(redis.port, |redis| redis.recent_bytes = recent_bytes);
        let since = publish(&node, 1_000).await;
        let before = stream_reads(&redis);
        for (patterns, count) in
            [("topic=a.*", 999), ("topic=a.0", 499), ("topic=a.1&topic=b", 500)]
        {
            let (data, is_gap) = resumed(&node, patterns, &since).await;
            assert_eq!((data.len(), is_gap), (count, false), "{patterns} of {recent_bytes}");
            assert_eq!(data.last(), Some(&json!(if patterns == "topic=a.0" { 998 } else { 999 })));
        }
        let is_read = stream_reads(&redis) > before;
        assert_eq!(is_read, recent_bytes == 0, "with {recent_bytes} bytes of recent events");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_comes_back_asks_redis_once_for_all_of_it() {
    const CLIENTS: usize = 120;
    let redis = Redis::start();
    let node = node(redis.port, |_| {});
    let since = publish(&node, 1_000).await;
    // What is asked for again is at hand.
    for _ in 0..2 {
        values(&node, "topic=a.*&snapshot=true").await;
    }
    let commands = ["xrange", "xrevrange", "zrevrangebyscore", "zrangebylex", "zmscore"];
    let read = || commands.map(|command| calls(&redis, command));
    let (before, asked, begin) = (read(), calls(&redis, "hmget"), Instant::now());
    let newest: Vec<_> = (600..1_000).map(|n| json!(n)).collect();
    let clients = (0..CLIENTS).map(async |n| match n % 4 {
        3 => assert_eq!(values(&node, "topic=a.*&tail=400").await, newest),
        0 => assert_eq!(values(&node, "topic=a.*&snapshot=true").await, [json!(998), json!(999)]),
        1 => assert_eq!(resumed(&node, "topic=a.*", &since).await.0.len(), 999),
        _ => {
            let query = format!("topic=a.*&mode=latest&since={since}");
            assert_eq!(values(&node, &query).await, [json!(998), json!(999)]);
        }
    });
    join_all(clients).await;
    let took = begin.elapsed().as_millis() as u64;
    // But for what is looked at once a second.
    let by_itself = 10 * (1 + took / 1_000);
    for ((command, before), now) in commands.iter().zip(before).zip(read()) {
        assert!(now <= before + by_itself, "{command}: {} times in {took} ms", now - before);
    }
    let asked = calls(&redis, "hmget") - asked;
    assert!(asked <= took / 2 + by_itself, "{asked} times in {took} ms");
}

/// Has so many clients ask for the same at once, and each get so many events; how often streams are read for that.
async fn crowd(
    redis: &Redis,
    node: &TestServer,
    (clients, query): (usize, &str),
    due: usize,
) -> u64 {
    let reads = || calls(redis, "xrange") + calls(redis, "xrevrange");
    let before = reads();
    // All have asked before the first is answered.
    let still = redis.stop();
    let clients = join_all((0..clients).map(|_| WsClient::connect(node, query))).await;
    drop(still);
    join_all(clients.into_iter().map(async |mut client| {
        assert_eq!(client.events(due).await.len(), due);
        client.until("live").await;
    }))
    .await;
    reads() - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_at_a_node_where_nobody_stayed_has_redis_read_a_few_times_for_all_of_it() {
    const CLIENTS: usize = 60;
    const TOPICS: usize = 100;
    let redis = Redis::start();
    let [one, other] = [(); 2].map(|()| node(redis.port, |_| {}));
    let event = |n: usize| (format!("a.{}", n % TOPICS), json!(n));
    let since = one.publish_all(&(0..400).map(event).collect::<Vec<_>>()).await[0].clone();
    let back = [format!("&since={since}"), format!("&mode=latest&since={since}")];
    let [missed, latest] = back.each_ref().map(String::as_str);
    for (way, due) in [(missed, 399), (latest, TOPICS), ("&last=5", 400)] {
        let query = format!("?topic=a.*{way}");
        // Nodes that do not know each other yet can't tell that nothing was removed.
        eventually("it is read for several", async || {
            let alone = crowd(&redis, &other, (1, &query), due).await;
            let all = crowd(&redis, &other, (CLIENTS, &query), due).await;
            all < alone * CLIENTS as u64 / 3
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_moment_is_in_the_log_is_looked_up_a_few_times_for_all_who_ask_since_then() {
    const CLIENTS: usize = 60;
    let redis = Redis::start();
    let node = node(redis.port, |_| {});
    // Their events are at hand.
    let _stays = WsClient::live(&node, "?topic=a.*").await;
    publish(&node, 100).await;
    let query = "?topic=a.*&since=-10m";
    let alone = crowd(&redis, &node, (1, query), 100).await;
    let all = crowd(&redis, &node, (CLIENTS, query), 100).await;
    assert!(alone > 0 && all < alone * CLIENTS as u64 / 3, "{all} times, {alone} for one alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_of_redis_that_lost_nothing_who_was_there_before_it_is_served_from_memory()
{
    let mut redis = Redis::durable();
    let node = node(redis.port, |_| {});
    let since = publish(&node, 100).await;
    redis.kill();
    redis.restart();
    let get = async |path| node.get(path).send().await.expect("an answer");
    // It may be ready, still, because it has not noticed yet.
    eventually("an epoch has begun", async || {
        let place: Value = get("/v1/cursor").await.json().await.expect("a place");
        let has_begun = epoch(place["cursor"].as_str().expect("a cursor")) != epoch(&since);
        has_begun && get("/health/ready").await.status() == 200
    })
    .await;
    let later = publish(&node, 100).await;
    assert_ne!(epoch(&later), epoch(&since));
    let before = stream_reads(&redis);
    assert_eq!(resumed(&node, "topic=a.*", &since).await, (numbers(1..100, 0..100), false));
    assert_eq!(resumed(&node, "topic=a.*", &later).await, (numbers(1..1, 1..100), false));
    assert_eq!(stream_reads(&redis), before, "it is at hand");
}

/// The epoch of a cursor: its number is drawn by chance, and may begin with that of another.
fn epoch(cursor: &str) -> &str {
    cursor.split('-').nth(1).expect("log, epoch and sequence")
}

/// The data of events of two runs.
fn numbers(first: Range<usize>, then: Range<usize>) -> Vec<Value> {
    first.chain(then).map(|n| json!(n)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_values_again_has_them_from_memory_and_as_they_are_though_nobody_listens() {
    let redis = Redis::start();
    let (here, there) = (node(redis.port, |_| {}), node(redis.port, |_| {}));
    publish(&there, 4).await;
    for _ in 0..2 {
        assert_eq!(values(&here, "topic=a.*&snapshot=true").await, [json!(2), json!(3)]);
    }
    let reads = || calls(&redis, "xrevrange");
    let before = reads();
    for n in 4..20 {
        there.publish("a.0", &json!(n)).await;
        assert_eq!(values(&here, "topic=a.*&snapshot=true").await, [json!(n), json!(3)]);
    }
    let answer = there.delete("/v1/topics/a.1/events").send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    assert_eq!(values(&here, "topic=a.*&snapshot=true").await, [json!(19)]);
    assert_eq!(reads(), before, "they are at hand");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_here_wanted_is_read_from_redis_for_who_wants_it_now() {
    let redis = Redis::start();
    let (here, there) = (node(redis.port, |_| {}), node(redis.port, |_| {}));
    let _wants_another = WsClient::live(&here, "?topic=other").await;
    let since = publish(&there, 100).await;
    let (data, is_gap) = resumed(&here, "topic=a.0", &since).await;
    assert_eq!((data.len(), is_gap), (49, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_forgotten_on_one_node_comes_from_the_memory_of_none() {
    let redis = Redis::start();
    let (here, there) = (node(redis.port, |_| {}), node(redis.port, |_| {}));
    let _wants_it = WsClient::live(&here, "?topic=a.*").await;
    let since = publish(&there, 10).await;
    let there_is_all = async || resumed(&here, "topic=a.0", &since).await.0.len() == 4;
    eventually("it is heard here", there_is_all).await;
    let answer = there.delete("/v1/topics/a.0/events").send().await.expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    assert_eq!(resumed(&here, "topic=a.0", &since).await, (vec![], true));
    assert_eq!(resumed(&here, "topic=a.1", &since).await.0.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_was_gone_leaves_the_others_at_hand_and_is_a_gap_for_its_own_topic() {
    let redis = Redis::start();
    let node = TestServer::with(|config| {
        config.rules.default.storage = Storage::Redis;
        let (pattern, default) =
            (Pattern::parse("value").expect("a pattern"), &config.rules.default);
        config.rules.listed = vec![Rule { pattern, max_events: 1, ..default.clone() }];
        config.limits.event_bytes = 1 << 20;
        config.redis = Some(RedisConfig::at(&redis.url()));
    });
    let mut watching = WsClient::live(&node, "?topic=value").await;
    let since = publish(&node, 100).await;
    // Too large to travel, and superseded before anybody can fetch the first of them.
    let large = json!("x".repeat(300_000));
    node.publish_all(&[("value".to_owned(), large.clone()), ("value".to_owned(), large)]).await;
    watching.until("gap").await;
    watching.until("event").await;
    let before = stream_reads(&redis);
    let (data, is_gap) = resumed(&node, "topic=a.*", &since).await;
    assert_eq!((data.len(), is_gap), (99, false));
    assert_eq!(stream_reads(&redis), before, "it is at hand");
    let (data, is_gap) = resumed(&node, "topic=value", &since).await;
    assert_eq!((data.len(), is_gap), (1, true));
    let (data, is_gap) = resumed(&node, "topic=%3E", &since).await;
    assert_eq!((data.len(), is_gap), (100, true));
}

/// A client that takes at most 4 MB/s: nothing much waits for it but in the broker.
async fn slow_reader(node: &TestServer, count: usize) -> Result<(), String> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(64 * 1024).expect("it is small");
    let stream = socket.connect(node.addr).await.expect("a connection");
    let url = format!("ws://{}/v1/ws?topic=slow", node.addr);
    let (mut socket, _) = client_async(url, stream).await.expect("a WebSocket");
    let mut received = 0;
    while received < count {
        let message = timeout(Duration::from_secs(20), socket.next()).await;
        match message.map_err(|_| format!("nothing more comes after {received}"))? {
            Some(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                if frame["op"] == "event" {
                    assert_eq!(frame["data"][0], received);
                    received += 1;
                    if received % 40 == 0 {
                        sleep(Duration::from_millis(10)).await;
                    }
                }
                assert_ne!(frame["op"], "gap");
            }
            Some(Ok(Message::Close(frame))) => return Err(format!("{frame:?} after {received}")),
            Some(Ok(_)) => {}
            other => return Err(format!("{other:?} after {received}")),
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_missed_much_tells_it_no_faster_than_its_clients_take_it() {
    const COUNT: usize = 6_000;
    let redis = Redis::start();
    let network = Proxy::to(redis.port).await;
    let (here, there) = (node(network.port, |_| {}), node(redis.port, |_| {}));
    let reading = slow_reader(&here, COUNT);
    let cutting = async {
        let is_live = async || {
            let body = there.get("/v1/topics/slow").send().await.expect("one").text().await;
            body.expect("a text").contains("\"subscribers\":1")
        };
        eventually("the reader is there", is_live).await;
        network.cut(true, true);
        let text = "x".repeat(1_000);
        for from in (0..COUNT).step_by(500) {
            let events: Vec<_> =
                (from..from + 500).map(|n| ("slow".to_owned(), json!([n, text]))).collect();
            there.publish_all(&events).await;
        }
        // Until each connection is given up.
        sleep(Duration::from_secs(4)).await;
        network.cut(false, false);
    };
    let (read, ()) = tokio::join!(reading, cutting);
    read.expect("the reader was never too slow");
}
