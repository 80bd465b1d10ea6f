//! A node of an earlier release and one of this, behind one Redis: what every upgrade goes through.
//!
//! Runs where `FANFARE_MIXED_CLUSTER` names the binary of an earlier release; `scripts/mixed-cluster`
//! builds one and says so. Each thing is tried in both directions.

mod support;

use std::future::ready;
use std::process::Command;
use std::time::Duration;

use fanfare::model::Timestamp;
use futures_util::StreamExt;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use support::process::Process;
use support::redis::Redis;
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, JWT_SECRET, PATIENCE, eventually, expect_status, token};
use tokio::time::sleep;

/// One node of the two.
struct Node {
    process: Process,
    http: Client,
    _directory: tempfile::TempDir,
}

impl Node {
    fn start(binary: &str, redis: &Redis) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let secret = std::str::from_utf8(JWT_SECRET).expect("text");
        let sets = [
            format!("redis.url={}", redis.url()),
            format!("auth.api_keys=[\"{API_KEY}\"]"),
            format!("auth.jwt_secret={secret}"),
            "server.workers=1".to_owned(),
        ];
        let arguments: Vec<_> = sets.iter().flat_map(|set| ["--set", set.as_str()]).collect();
        let process = Process::run(Command::new(binary), directory.path(), 0, &arguments);
        let http = Client::builder().timeout(PATIENCE).build().expect("a client");
        Self { process, http, _directory: directory }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(self.process.url(path))
    }

    async fn ask(&self, path: &str) -> Value {
        let answer = self.get(path).bearer_auth(API_KEY).send().await.expect("an answer");
        expect_status(answer, StatusCode::OK).await
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(self.process.url(path)).bearer_auth(API_KEY)
    }

    /// Publishes, and returns the id of the event.
    async fn publish(&self, topic: &str, data: Value) -> String {
        let request = self.post(&format!("/v1/topics/{topic}/events")).json(&data);
        let receipt =
            expect_status(request.send().await.expect("an answer"), StatusCode::CREATED).await;
        receipt["id"].as_str().expect("an id").to_owned()
    }

    async fn stream(&self, query: &str, credential: &str) -> SseClient {
        let request = Client::new().get(self.process.url(&format!("/v1/sse?{query}")));
        let request = request.bearer_auth(credential).header("accept", "text/event-stream");
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        let whole = response.bytes_stream().take_while(|bytes| ready(bytes.is_ok()));
        SseClient::of(whole.filter_map(|bytes| ready(bytes.ok())))
    }

    /// A stream of what happens from here on.
    async fn live(&self, query: &str, credential: &str) -> SseClient {
        let mut stream = self.stream(query, credential).await;
        while stream.next().await.expect("an event").event != "fanfare.live" {}
        stream
    }

    async fn status(&self, token: &str) -> u16 {
        let request = self.get("/v1/topics/a/events").bearer_auth(token);
        request.send().await.expect("an answer").status().as_u16()
    }
}

/// The data of the next events of a stream.
async fn data(stream: &mut SseClient, count: usize) -> Vec<Value> {
    let mut all = Vec::new();
    while all.len() < count {
        let event = stream.next().await.expect("an event");
        assert_ne!(event.event, "fanfare.gap");
        if event.event == "message" {
            all.push(event.json()["data"].clone());
        }
    }
    all
}

async fn events_of_each_reach_who_listens_at_the_other(here: &Node, there: &Node) {
    let mut listening = there.live("topic=a.%3E", API_KEY).await;
    let since = here.publish("a.x", json!(1)).await;
    let large = json!("x".repeat(40_000));
    here.publish("a.y", large.clone()).await;
    here.publish("a.x", json!(3)).await;
    assert_eq!(data(&mut listening, 3).await, [json!(1), large.clone(), json!(3)]);
    let mut resumed = there.stream(&format!("topic=a.%3E&since={since}"), API_KEY).await;
    assert_eq!(
        data(&mut resumed, 2).await,
        [large, json!(3)],
        "a cursor of one is good at the other"
    );
}

async fn a_repeat_at_the_other_is_known(here: &Node, there: &Node, key: &str) {
    let publish = |node: &Node| {
        let request = node.post("/v1/topics/keyed/events").header("idempotency-key", key);
        request.json(&json!(key)).send()
    };
    let first = expect_status(publish(here).await.expect("an answer"), StatusCode::CREATED).await;
    let again = expect_status(publish(there).await.expect("an answer"), StatusCode::OK).await;
    assert_eq!(first, again);
}

/// What the earlier node could not compare is refused while it is there, and only that.
async fn a_message_with_a_key_waits_until_all_nodes_are_of_this_release(new: &Node) {
    let address = new.process.url("");
    let address = address.strip_prefix("http://").expect("an address");
    let mut client = WsClient::at(address, &format!("?access_token={API_KEY}")).await;
    let message = json!({ "op": "publish", "topic": "keyed", "data": 1 });
    assert_eq!(client.ask(1, message.clone()).await["op"], "ack");
    let mut keyed = message;
    keyed["key"] = json!("message");
    assert_eq!(client.ask(2, keyed).await["code"], "unavailable");
}

async fn sessions_of_both_are_listed_and_ended_at_each(here: &Node, there: &Node, user: &str) {
    let token = token(user, &["a"], &[], 600);
    let mut stream = there.stream("topic=a", &token).await;
    let path = format!("/v1/sessions?user={user}");
    eventually("it is listed", || async {
        let [a, b] = [here.ask(&path).await, there.ask(&path).await];
        assert!(a.get("silent_nodes").is_none() && b.get("silent_nodes").is_none());
        a["sessions"].as_array().is_some_and(|all| all.len() == 1) && a["sessions"] == b["sessions"]
    })
    .await;
    let id = here.ask(&path).await["sessions"][0]["session"].as_str().expect("an id").to_owned();
    let url = here.process.url(&format!("/v1/sessions/{id}"));
    let ended = here.http.delete(url).bearer_auth(API_KEY).send().await.expect("an answer");
    assert_eq!(ended.status(), StatusCode::NO_CONTENT);
    while stream.next().await.is_some() {}
}

async fn what_is_revoked_at_one_is_refused_at_both(here: &Node, there: &Node, user: &str) {
    let token = token(user, &["a"], &[], 600);
    assert_eq!((here.status(&token).await, there.status(&token).await), (200, 200));
    let mut stream = there.live("topic=a", &token).await;
    let revoke = here.post("/v1/revocations").json(&json!({ "user": user })).send().await;
    let answer = expect_status(revoke.expect("an answer"), StatusCode::CREATED).await;
    assert_eq!(answer["ended"], 1);
    while stream.next().await.is_some() {}
    assert_eq!(here.status(&token).await, 401);
    eventually("the other knows", || async { there.status(&token).await == 401 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_earlier_release_and_this_one_are_one_broker() {
    let Some(earlier) = earlier() else { return };
    let redis = Redis::start();
    let old = Node::start(&earlier, &redis);
    let new = Node::start(env!("CARGO_BIN_EXE_fanfare"), &redis);
    a_message_with_a_key_waits_until_all_nodes_are_of_this_release(&new).await;
    let [from_old, from_new] = [(&old, &new), (&new, &old)];
    for ((here, there), name) in [(from_old, "old"), (from_new, "new")] {
        events_of_each_reach_who_listens_at_the_other(here, there).await;
        a_repeat_at_the_other_is_known(here, there, name).await;
        sessions_of_both_are_listed_and_ended_at_each(here, there, &format!("listed-{name}")).await;
        what_is_revoked_at_one_is_refused_at_both(here, there, &format!("revoked-{name}")).await;
        println!(
            "from {name}: events, cursors, keys, sessions and revocations are the other's too"
        );
    }
}

/// The binary of an earlier release, where one was built.
fn earlier() -> Option<String> {
    let earlier = std::env::var("FANFARE_MIXED_CLUSTER").ok();
    if earlier.is_none() {
        println!(
            "left out: FANFARE_MIXED_CLUSTER names no binary (scripts/mixed-cluster builds one)"
        );
    }
    earlier
}

/// Publishes until it is taken; the event's id and time.
async fn taken(node: &Node, topic: &str) -> (String, Timestamp) {
    loop {
        let request = node.post(&format!("/v1/topics/{topic}/events")).json(&1);
        let answer = request.send().await.expect("an answer");
        if answer.status() == StatusCode::CREATED {
            let receipt: Value = answer.json().await.expect("JSON");
            let text = |name: &str| receipt[name].as_str().expect("text").to_owned();
            return (text("id"), Timestamp::parse(&text("time")).expect("a time"));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_an_earlier_release_this_one_reads_all_epochs_whoever_began_them() {
    let Some(earlier) = earlier() else { return };
    let mut redis = Redis::durable();
    let old = Node::start(&earlier, &redis);
    let new = Node::start(env!("CARGO_BIN_EXE_fanfare"), &redis);
    let mut ids = vec![taken(&old, "a").await.0];
    for n in 1..40 {
        redis.kill();
        redis.restart();
        ids.push(taken([&old, &new][n % 2], "a").await.0);
    }
    let (mut all, mut since) = (Vec::new(), String::new());
    while all.len() < ids.len() {
        let page = new.ask(&format!("/v1/topics/a/events?limit=7{since}")).await;
        assert_eq!(page["gap"], false);
        let events = page["events"].as_array().expect("events");
        assert!(!events.is_empty(), "{all:?}");
        all.extend(events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()));
        since = format!("&since={}", page["next"].as_str().expect("a place"));
    }
    assert_eq!(all, ids);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_this_release_events_of_an_earlier_one_are_dated_rightly_after_a_step_back() {
    let Some(earlier) = earlier() else { return };
    let redis = Redis::ahead_by(600);
    let old = Node::start(&earlier, &redis);
    let _new = Node::start(env!("CARGO_BIN_EXE_fanfare"), &redis);
    let now = || Timestamp::from(std::time::SystemTime::now()).millis();
    assert!(taken(&old, "a").await.1.millis() > now() + 500_000);
    redis.set_ahead(0);
    eventually("its events are dated by the clock", || async {
        taken(&old, "a").await.1.millis() < now() + 60_000
    })
    .await;
}
