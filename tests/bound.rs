//! Values that belong to the session of who published them: they end with it, and without a flicker where its client
//! comes back in time.

mod support;

use std::time::{Duration, Instant};

use fanfare::config::{Config, Rule, Storage, Who};
use fanfare::model::Pattern;
use futures_util::future::select_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::process::Process;
use support::redis::Redis;
use support::ws::WsClient;
use support::{API_KEY, PATIENCE, TestServer, close, eventually, expect_status, token};
use tokio::time::timeout;

/// A time after which no test waits for anything.
const NEVER: Duration = Duration::from_secs(3_600);

/// A broker at which values stay so long after their session was cut.
fn server(linger: Duration) -> TestServer {
    TestServer::with(|config| {
        close(config);
        config.history.bound_linger = linger;
        rule(config, "open.>", |rule| (rule.publish, rule.subscribe) = (Who::Anyone, Who::Anyone));
        rule(config, "now.>", |rule| rule.storage = Storage::None);
    })
}

fn rule(config: &mut Config, pattern: &str, change: impl FnOnce(&mut Rule)) {
    let pattern = Pattern::parse(pattern).expect("a pattern");
    let mut rule = Rule { pattern, ..config.rules.default.clone() };
    change(&mut rule);
    config.rules.listed.push(rule);
}

/// Somebody who may subscribe and publish to all, and is subscribed to what the query says.
async fn client(server: &TestServer, query: &str) -> WsClient {
    let token = token("ann", &[">"], &[">"], 600);
    let query = format!("?access_token={token}{query}");
    let mut client = WsClient::connect(server, &query).await;
    if query.contains("&topic=") {
        client.until("live").await;
    }
    client
}

fn value(topic: &str, data: &str) -> Value {
    json!({ "op": "publish", "topic": topic, "data": data, "bound": true })
}

async fn publish(client: &mut WsClient, event: Value) -> Value {
    let answer = client.ask(9, event).await;
    assert_eq!(answer["op"], "ack", "{answer}");
    answer
}

/// Has a client hold the value of a topic.
async fn hold(client: &mut WsClient, topic: &str) {
    publish(client, value(topic, topic)).await;
}

/// What the next events say: topic and data, or why the value ended.
async fn changes(reader: &mut WsClient, count: usize) -> Vec<(String, String)> {
    let events = reader.events(count).await;
    let said = |event: &Value| {
        let text = |name: &str| event[name].as_str().expect("a text").to_owned();
        (text("topic"), text(if event["removed"] == true { "reason" } else { "data" }))
    };
    events.iter().map(said).collect()
}

fn said(topic: &str, what: &str) -> (String, String) {
    (topic.to_owned(), what.to_owned())
}

#[tokio::test]
async fn what_a_client_holds_ends_at_once_where_it_closes() {
    let server = server(NEVER);
    let mut reader = client(&server, "&topic=*.%3E").await;
    let mut holder = client(&server, "").await;
    let versioned = json!({ "version": 4, "epoch": "e" });
    let mut event = value("seats.1", "ann");
    event.as_object_mut().unwrap().extend(versioned.as_object().unwrap().clone());
    publish(&mut holder, event).await;
    hold(&mut holder, "seats.2").await;
    publish(&mut holder, json!({ "op": "publish", "topic": "seats.3", "data": "stays" })).await;
    reader.events(3).await;
    holder.socket.close(None).await.expect("closed");
    let mut ended = reader.events(2).await;
    ended.sort_by_key(|event| event["topic"].to_string());
    let first = &ended[0];
    assert_eq!((&first["removed"], &first["reason"]), (&json!(true), &json!("left")), "{first}");
    assert_eq!((&first["data"], &first["version"]), (&Value::Null, &json!(4)));
    assert!(first["id"].is_string() && first["epoch"] == "e" && first.get("from").is_none());
    let values = server.get("/v1/snapshot?match=seats.*").bearer_auth(API_KEY);
    let values = expect_status(values.send().await.expect("an answer"), StatusCode::OK).await;
    let values: Vec<_> =
        values["events"].as_array().unwrap().iter().map(|it| &it["data"]).collect();
    assert_eq!(values, ["stays"]);
}

#[tokio::test]
async fn what_a_client_holds_ends_at_once_where_the_broker_ends_it_for_good() {
    let server = server(NEVER);
    let mut reader = client(&server, "&topic=*").await;
    let mut ended = client(&server, "").await;
    hold(&mut ended, "ended").await;
    let path = format!("/v1/sessions/{}", ended.session);
    let request = server.delete(&path).bearer_auth(API_KEY);
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    assert_eq!(ended.closed().await.1, Some(1008));
    assert_eq!(changes(&mut reader, 2).await[1], said("ended", "left"));
    let mut bad = client(&server, "").await;
    hold(&mut bad, "bad").await;
    for _ in 0..10 {
        bad.send_text("?").await;
    }
    assert_eq!(bad.closed().await.1, Some(4400));
    assert_eq!(changes(&mut reader, 2).await[1], said("bad", "left"));
    let eve = token("eve", &[">"], &[">"], 600);
    let mut revoked = WsClient::connect(&server, &format!("?access_token={eve}")).await;
    hold(&mut revoked, "revoked").await;
    let request = server.post("/v1/revocations").bearer_auth(API_KEY);
    let request = request.json(&json!({ "user": "eve" }));
    expect_status(request.send().await.expect("an answer"), StatusCode::CREATED).await;
    assert_eq!(revoked.closed().await.1, Some(4401));
    assert_eq!(changes(&mut reader, 2).await[1], said("revoked", "left"));
}

#[tokio::test]
async fn who_comes_back_in_time_replaces_its_values_and_nobody_sees_a_flicker() {
    let linger = Duration::from_millis(500);
    let server = server(linger);
    let mut reader = client(&server, "&topic=*").await;
    let mut holder = client(&server, "").await;
    hold(&mut holder, "a").await;
    let mut other = client(&server, "").await;
    hold(&mut other, "b").await;
    drop(holder);
    let mut holder = client(&server, "").await;
    publish(&mut holder, value("a", "again")).await;
    // Who is cut later ends later: by then the first one's time is over.
    let cut = Instant::now();
    drop(other);
    let all = [said("a", "a"), said("b", "b"), said("a", "again"), said("b", "left")];
    assert_eq!(changes(&mut reader, 4).await, all);
    assert!(cut.elapsed() >= linger, "not early");
    // What anybody else publishes ends with nobody.
    publish(&mut reader, json!({ "op": "publish", "topic": "a", "data": "free" })).await;
    hold(&mut holder, "c").await;
    holder.socket.close(None).await.expect("closed");
    assert_eq!(changes(&mut reader, 3).await[2], said("c", "left"));
}

#[tokio::test]
async fn who_repeats_a_publish_under_its_key_holds_the_value_from_then_on() {
    let server = server(NEVER);
    let mut reader = client(&server, "&topic=*").await;
    let keyed = |topic: &str| {
        let mut event = value(topic, topic);
        event["key"] = json!(format!("key-of-{topic}"));
        event
    };
    let mut first = client(&server, "").await;
    let id = publish(&mut first, keyed("a")).await["id"].clone();
    publish(&mut first, keyed("b")).await;
    let mut second = client(&server, "").await;
    let repeat = publish(&mut second, keyed("a")).await;
    assert_eq!((&repeat["repeated"], &repeat["id"]), (&json!(true), &id));
    first.socket.close(None).await.expect("closed");
    assert_eq!(changes(&mut reader, 3).await[2], said("b", "left"));
    publish(&mut second, json!({ "op": "publish", "topic": "c", "data": "c" })).await;
    assert_eq!(changes(&mut reader, 1).await, [said("c", "c")], "nothing else ended");
    second.socket.close(None).await.expect("closed");
    assert_eq!(changes(&mut reader, 1).await, [said("a", "left")]);
}

#[tokio::test]
async fn who_was_told_to_go_elsewhere_comes_back_though_it_closed() {
    let mut server = TestServer::with(|config| {
        close(config);
        config.history.bound_linger = NEVER;
        config.server.shutdown_delay = Duration::from_secs(15);
    });
    let mut holders = Vec::new();
    for number in 0..4 {
        let mut holder = client(&server, "").await;
        hold(&mut holder, &format!("goes.{number}")).await;
        holders.push(holder);
    }
    let mut ended = client(&server, "").await;
    hold(&mut ended, "ended.a").await;
    let mut reader = client(&server, "&topic=*.*").await;
    server.begin_stop();
    // Evenly over that time, and the first of each worker at once.
    let told_first = holders.iter_mut().map(|holder| Box::pin(holder.until("goaway")));
    let (_, first, _) = select_all(told_first).await;
    holders[first].socket.close(None).await.expect("closed");
    // It has left, and what is held by whoever leaves later ends.
    let left = &holders[first].session;
    eventually("it has left", async || {
        let request = server.get("/v1/sessions").bearer_auth(API_KEY);
        let list = expect_status(request.send().await.expect("an answer"), StatusCode::OK).await;
        !list["sessions"].as_array().unwrap().iter().any(|one| one["session"] == left.as_str())
    })
    .await;
    let request = server.delete(&format!("/v1/sessions/{}", ended.session)).bearer_auth(API_KEY);
    assert_eq!(request.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    assert_eq!(changes(&mut reader, 1).await, [said("ended.a", "left")]);
}

#[tokio::test]
async fn a_session_holds_so_many_values_and_no_event_that_is_not_kept() {
    let server = TestServer::with(|config| {
        close(config);
        config.history.bound_topics = 2;
        rule(config, "now.>", |rule| rule.storage = Storage::None);
    });
    let mut holder = client(&server, "").await;
    hold(&mut holder, "a").await;
    hold(&mut holder, "b").await;
    let refused = holder.ask(1, value("c", "c")).await;
    assert_eq!(refused["code"], "too_many", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("limits.bound_topics"), "{refused}");
    hold(&mut holder, "b").await;
    publish(&mut holder, json!({ "op": "publish", "topic": "a", "removed": true })).await;
    hold(&mut holder, "c").await;
    for (member, more) in [("keep", json!(false)), ("removed", json!(true))] {
        let mut event = value("b", "b");
        event[member] = more;
        let refused = holder.ask(2, event).await;
        assert_eq!(refused["code"], "invalid_event", "{refused}");
        assert!(refused["message"].as_str().unwrap().starts_with("`bound` "), "{refused}");
    }
    let refused = holder.ask(3, value("now.a", "a")).await;
    assert_eq!(refused["code"], "invalid_event", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("now.a keeps none"), "{refused}");
    let over_http = server.post("/v1/events").bearer_auth(API_KEY);
    let over_http = over_http.json(&json!({ "topic": "a", "data": 1, "bound": true }));
    let answer = over_http.send().await.expect("an answer");
    let refused = expect_status(answer, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!(refused["code"], "invalid_event");
    assert!(refused["detail"].as_str().unwrap().contains("WebSocket"), "{refused}");
}

#[tokio::test]
async fn who_is_nobody_holds_values_too_and_they_go_by_what_ends_first() {
    let server = server(NEVER);
    let mut nobody = WsClient::live(&server, "?topic=open.*").await;
    let mut event = value("open.a", "a");
    event["ttl_ms"] = json!(200);
    publish(&mut nobody, event.clone()).await;
    assert_eq!(changes(&mut nobody, 2).await[1], said("open.a", "expired"));
    let mut other = WsClient::connect(&server, "").await;
    event["ttl_ms"] = json!(3_600_000);
    publish(&mut other, event).await;
    other.socket.close(None).await.expect("closed");
    let events = nobody.events(2).await;
    assert!(events[0]["expires"].is_string() && events[0].get("bound").is_none(), "{}", events[0]);
    assert_eq!(events[1]["reason"], "left");
}

#[tokio::test]
async fn what_is_forgotten_is_not_ended() {
    let server = server(NEVER);
    let mut reader = client(&server, "&topic=*").await;
    let mut holder = client(&server, "").await;
    hold(&mut holder, "a").await;
    hold(&mut holder, "b").await;
    let forget = server.delete("/v1/topics/a/events").bearer_auth(API_KEY);
    assert!(forget.send().await.expect("an answer").status().is_success());
    holder.socket.close(None).await.expect("closed");
    assert_eq!(changes(&mut reader, 3).await[2], said("b", "left"));
}

/// A client of a process, subscribed to everything.
async fn at(process: &Process, query: &str) -> WsClient {
    WsClient::live_at(&process.address, &format!("?topic=*{query}")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_values_stay_a_while_counted_from_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let linger = ["--set", "limits.bound_linger=2s"];
    let start = || Process::durable(directory.path(), 0, &linger);
    let mut broker = start();
    let mut holder = at(&broker, "").await;
    for topic in ["a", "b", "c", "d"] {
        hold(&mut holder, topic).await;
    }
    let mut keyed = value("d", "keyed");
    keyed["key"] = json!("k");
    publish(&mut holder, keyed.clone()).await;
    publish(&mut holder, json!({ "op": "publish", "topic": "b", "data": "free" })).await;
    broker.signal("-KILL");
    broker.wait();
    let started = Instant::now();
    let broker = start();
    let mut reader = at(&broker, "&snapshot=true").await;
    let mut back = at(&broker, "").await;
    publish(&mut back, value("c", "again")).await;
    assert_eq!(publish(&mut back, keyed).await["repeated"], true);
    let ended = changes(&mut reader, 2).await;
    assert_eq!(ended, [said("c", "again"), said("a", "left")]);
    assert!(started.elapsed() >= Duration::from_secs(2), "not early");
    back.socket.close(None).await.expect("closed");
    let mut ended = changes(&mut reader, 2).await;
    ended.sort();
    assert_eq!(ended, [said("c", "left"), said("d", "left")]);
    // Nothing of it is left for the next start.
    drop(broker);
    let broker = start();
    let mut reader = at(&broker, "").await;
    let mut back = at(&broker, "").await;
    hold(&mut back, "e").await;
    back.socket.close(None).await.expect("closed");
    assert_eq!(changes(&mut reader, 2).await, [said("e", "e"), said("e", "left")]);
}

/// Nodes take what they have not heard each other say that they read, once they have.
async fn hold_soon(client: &mut WsClient, topic: &str) {
    let held = async {
        while client.ask(1, value(topic, topic)).await["op"] != "ack" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, held).await.expect("they have heard each other");
}

/// A node that is a process of its own.
fn node(redis: &Redis, settings: &[&str]) -> Process {
    let url = format!("redis.url={}", redis.url());
    let mut arguments = vec!["--set", &url];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    Process::start(&arguments)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_held_at_a_killed_node_ends_after_its_lease_unless_its_client_came_to_another() {
    let redis = Redis::start();
    let settings = ["limits.bound_linger=2s"];
    let (stays, killed) = (node(&redis, &settings), node(&redis, &settings));
    let mut reader = at(&stays, "").await;
    let mut holders = [at(&killed, "").await, at(&killed, "").await];
    hold_soon(&mut holders[0], "a").await;
    hold(&mut holders[0], "b").await;
    hold(&mut holders[1], "c").await;
    let mut back = at(&stays, "").await;
    hold_soon(&mut back, "x").await;
    reader.events(4).await;
    killed.signal("-KILL");
    let cut = Instant::now();
    publish(&mut back, value("b", "again")).await;
    let mut ended = changes(&mut reader, 3).await;
    assert_eq!(ended.remove(0), said("b", "again"));
    ended.sort();
    assert_eq!(ended, [said("a", "left"), said("c", "left")]);
    // A lease of five seconds counts from its last word, a second before at most.
    assert!(cut.elapsed() >= Duration::from_secs(5), "after {:?}", cut.elapsed());
    back.socket.close(None).await.expect("closed");
    let mut ended = changes(&mut reader, 2).await;
    ended.sort();
    assert_eq!(ended, [said("b", "left"), said("x", "left")]);
    // Where no node ran it counts from the start.
    let mut last = at(&stays, "").await;
    hold(&mut last, "d").await;
    drop((reader, stays));
    let next = node(&redis, &settings);
    let started = Instant::now();
    let mut reader = at(&next, "").await;
    assert_eq!(changes(&mut reader, 1).await, [said("d", "left")]);
    assert!(started.elapsed() >= Duration::from_secs(2), "after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_any_node_a_value_ends_with_its_session_also_where_redis_was_away() {
    let redis = Redis::start();
    let nodes =
        [node(&redis, &["limits.bound_linger=1s"]), node(&redis, &["limits.bound_linger=1s"])];
    let mut reader = at(&nodes[0], "").await;
    let mut holders = [at(&nodes[0], "").await, at(&nodes[1], "").await];
    for (holder, topic) in holders.iter_mut().zip(["a", "b"]) {
        hold_soon(holder, topic).await;
        holder.socket.close(None).await.expect("closed");
    }
    let mut all = changes(&mut reader, 4).await;
    all.sort();
    assert_eq!(all, [said("a", "a"), said("a", "left"), said("b", "b"), said("b", "left")]);
    let mut holders = [at(&nodes[0], "").await, at(&nodes[1], "").await, at(&nodes[1], "").await];
    for (holder, topic) in holders.iter_mut().zip(["c", "d", "e"]) {
        hold(holder, topic).await;
    }
    reader.events(3).await;
    let stands_still = redis.stop();
    let [closes, cut, stays] = holders;
    let mut closes = closes;
    closes.socket.close(None).await.expect("closed");
    drop(cut);
    tokio::time::sleep(Duration::from_secs(7)).await;
    drop(stands_still);
    let mut ended = changes(&mut reader, 2).await;
    ended.sort();
    assert_eq!(ended, [said("c", "left"), said("d", "left")]);
    drop(stays);
    assert_eq!(changes(&mut reader, 1).await, [said("e", "left")]);
}

/// How many values each of the sessions holds that leave together.
fn values_of_each() -> usize {
    let count = std::env::var("FANFARE_BOUND_VALUES").ok();
    count.map_or(100, |count| count.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sessions_with_many_values_leave_together_and_nobody_else_waits() {
    const SESSIONS: usize = 100;
    let each = values_of_each();
    let server = TestServer::with(|config| {
        close(config);
        config.history.memory_bytes = 1 << 30;
        (config.limits.messages_per_second, config.limits.bytes_per_second) = (0, 0);
        config.limits.connections_per_address = 0;
    });
    let mut holders = Vec::new();
    for session in 0..SESSIONS {
        let mut holder = client(&server, "").await;
        for number in 0..each {
            holder.send(value(&format!("held.{session}.{number}"), "x")).await;
        }
        holders.push(holder);
    }
    for holder in &mut holders {
        for _ in 0..each {
            holder.until("ack").await;
        }
    }
    let mut reader = client(&server, "&topic=live").await;
    let mut writer = client(&server, "").await;
    let left = async || {
        let request = server.get("/metrics").bearer_auth(API_KEY);
        let text = request.send().await.expect("an answer").text().await.expect("text");
        let line = text
            .lines()
            .find(|line| line.starts_with(r#"fanfare_values_ended_total{reason="left"}"#));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok()).unwrap_or(0)
    };
    let begun = Instant::now();
    drop(holders);
    let (mut longest, mut number) = (Duration::ZERO, 0);
    // Five seconds pass until the first of them ends.
    while left().await < SESSIONS * each {
        assert!(begun.elapsed() < Duration::from_secs(120), "{} ended", left().await);
        let sent = Instant::now();
        publish(&mut writer, json!({ "op": "publish", "topic": "live", "data": number })).await;
        let heard = timeout(PATIENCE, reader.events(1)).await.expect("it is delivered");
        assert_eq!(heard[0]["data"], number);
        longest = longest.max(sent.elapsed());
        number += 1;
    }
    let took = begun.elapsed();
    println!(
        "{} values ended {took:?} after the cut; a live event took {longest:?} at most",
        SESSIONS * each
    );
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    eventually("nothing is left", async || {
        let request = server.get("/v1/snapshot?match=held.%3E").bearer_auth(API_KEY);
        let left = expect_status(request.send().await.expect("an answer"), StatusCode::OK).await;
        left["events"].as_array().is_some_and(Vec::is_empty)
    })
    .await;
}
