//! A publish that is repeated is stored once, whichever way each attempt comes.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fanfare::config::{Hidden, Redis as RedisConfig, RedisSource, SourceKeys, Storage, Tap, Who};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::redis::Redis;
use support::ws::WsClient;
use support::{API_KEY, PATIENCE, TestServer, close, eventually, expect_status, token};
use tokio::time::{sleep, timeout};

/// The ways in, of which each is told the same event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Topic,
    Single,
    Batch,
    Lines,
    WebSocket,
}

const WAYS: [Way; 5] = [Way::Topic, Way::Single, Way::Batch, Way::Lines, Way::WebSocket];

/// A publisher, by each of its ways.
struct Publisher<'a> {
    server: &'a TestServer,
    credential: Option<&'a str>,
    client: WsClient,
    asked: u64,
}

impl<'a> Publisher<'a> {
    async fn new(server: &'a TestServer, credential: Option<&'a str>) -> Self {
        let mut client = WsClient::connect(server, "").await;
        if let Some(token) = credential {
            assert_eq!(client.ask(1, json!({ "op": "auth", "token": token })).await["op"], "ack");
        }
        Self { server, credential, client, asked: 1 }
    }

    /// Publishes, and says what became of it: whether it is a repeat and its id, or the code of a refusal.
    async fn publish(&mut self, way: Way, key: &str, data: &str) -> Result<(bool, Value), String> {
        if way == Way::WebSocket {
            self.asked += 1;
            let data: Value = serde_json::from_str(data).expect("JSON");
            let event =
                json!({ "op": "publish", "topic": "a.x", "type": "t", "data": data, "key": key });
            let answer = self.client.ask(self.asked, event).await;
            return match answer["op"].as_str() {
                Some("ack") => Ok((answer["repeated"] == true, answer["id"].clone())),
                _ => Err(answer["code"].as_str().expect("a code").to_owned()),
            };
        }
        let event = format!(r#"{{"type":"t","data":{data},"topic":"a.x"}}"#);
        let (path, form, body) = match way {
            Way::Topic | Way::WebSocket => {
                ("topics/a.x/events", "application/json", data.to_owned())
            }
            Way::Single => ("events", "application/json", event),
            Way::Batch => ("events", "application/json", format!(r#"{{"events":[{event}]}}"#)),
            Way::Lines => ("events", "application/x-ndjson", event),
        };
        let mut request = self.server.post(&format!("/v1/{path}")).header("content-type", form);
        if let Some(credential) = self.credential {
            request = request.bearer_auth(credential);
        }
        if way == Way::Topic {
            request = request.header("x-event-type", "t");
        }
        let answer = request.header("idempotency-key", key).body(body).send().await.expect("one");
        let status = answer.status();
        let answer: Value = answer.json().await.expect("JSON");
        let event = answer.get("events").map_or(&answer, |events| &events[0]);
        match status {
            StatusCode::CREATED | StatusCode::OK => {
                Ok((status == StatusCode::OK, event["id"].clone()))
            }
            _ => Err(answer["code"].as_str().expect("a code").to_owned()),
        }
    }

    /// Publishes until this becomes of it.
    async fn until(&mut self, way: Way, key: &str, expected: &Result<(bool, Value), String>) {
        let trying = async {
            while self.publish(way, key, "1").await != *expected {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, trying).await.expect("it comes in time");
    }

    /// Tries every way after every other.
    async fn try_all(&mut self, who: &str) {
        for first in WAYS {
            let key = format!("{who}-{first:?}");
            let (repeated, id) = self.publish(first, &key, r#"{"n":1}"#).await.expect("stored");
            assert!(!repeated && id.is_string(), "{key}");
            for way in WAYS {
                let again = self.publish(way, &key, "{ \"n\" : 1 }").await;
                assert_eq!(again, Ok((true, id.clone())), "{key}, then {way:?}");
                let other = self.publish(way, &key, r#"{"n":2}"#).await;
                assert_eq!(other, Err("idempotency_mismatch".to_owned()), "{key}, then {way:?}");
            }
        }
    }
}

async fn retained(server: &TestServer, topic: &str) -> Value {
    let topic = server.get(&format!("/v1/topics/{topic}")).bearer_auth(API_KEY).send().await;
    expect_status(topic.expect("an answer"), StatusCode::OK).await["retained"].clone()
}

async fn check_all_ways(server: &TestServer) {
    let user = token("ada", &["a.>"], &["a.>"], 600);
    let again = token("ada", &["a.>"], &["a.>"], 900);
    let other = token("bob", &["a.>"], &["a.>"], 600);
    for (who, credential) in
        [("application", Some(API_KEY)), ("ada", Some(user.as_str())), ("nobody", None)]
    {
        Publisher::new(server, credential).await.try_all(who).await;
    }
    assert_eq!(retained(server, "a.x").await, 15);
    let mut renewed = Publisher::new(server, Some(&again)).await;
    let repeat = renewed.publish(Way::WebSocket, "ada-Topic", r#"{"n":1}"#).await;
    assert!(repeat.is_ok_and(|(repeated, _)| repeated), "another token of the same user");
    let mut stranger = Publisher::new(server, Some(&other)).await;
    let own = stranger.publish(Way::WebSocket, "ada-Topic", r#"{"n":1}"#).await;
    assert!(own.is_ok_and(|(repeated, _)| !repeated), "another user has keys of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_may_come_another_way_than_the_first_attempt() {
    let server = TestServer::with(|config| {
        close(config);
        let mut rule = config.rules.default.clone();
        rule.pattern = fanfare::model::Pattern::parse("a.>").expect("a pattern");
        rule.publish = Who::Anyone;
        config.rules.listed.push(rule);
    });
    check_all_ways(&server).await;
    let mut client = WsClient::connect(&server, "").await;
    for key in ["", "a b", &"x".repeat(256)] {
        let event = json!({ "op": "publish", "topic": "a.x", "data": 1, "key": key });
        assert_eq!(client.ask(1, event).await["code"], "bad_request", "{key:?}");
    }
}

/// Whoever does not know whether a removal happened asks again, and must not take out what came in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_is_repeated_under_its_key_takes_nothing_newer_out() {
    let server = TestServer::open();
    let remove = async |key: &str| {
        let request = server.delete("/v1/topics/a.x").header("idempotency-key", key);
        expect_status(request.send().await.expect("an answer"), StatusCode::OK).await
    };
    let first = remove("r-1").await;
    let value = server.publish("a.x", &json!(1)).await;
    assert_eq!(remove("r-1").await, first);
    let topic = server.get("/v1/topics/a.x").send().await.expect("an answer");
    let topic = expect_status(topic, StatusCode::OK).await;
    assert_eq!(topic["latest"]["id"], value["id"], "{topic}");
    assert_ne!(remove("r-2").await["id"], first["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_that_is_shown_at_connect_is_the_same_publisher_as_over_http() {
    let server = TestServer::closed();
    let mut http = Publisher::new(&server, Some(API_KEY)).await;
    let first = http.publish(Way::Topic, "k", "1").await.expect("stored");
    let event = json!({ "op": "publish", "topic": "a.x", "type": "t", "data": 1, "key": "k" });
    let mut by_query = WsClient::connect(&server, &format!("?access_token={API_KEY}")).await;
    let bearer = format!("Bearer {API_KEY}");
    let by_header = WsClient::connect_with(&server, "", &[("authorization", &bearer)]).await;
    let mut by_header = by_header.expect("the connection opens");
    for client in [&mut by_query, &mut by_header] {
        let answer = client.ask(1, event.clone()).await;
        assert_eq!((&answer["repeated"], &answer["id"]), (&json!(true), &first.1), "{answer}");
    }
}

/// A node of an earlier release, as far as it says that it is there.
struct Earlier {
    ends: Arc<AtomicBool>,
    says: Option<JoinHandle<()>>,
}

impl Earlier {
    fn at(redis: &Redis) -> Self {
        let (mut speaks, ends) = (redis.connect(), Arc::new(AtomicBool::new(false)));
        let until = ends.clone();
        let says = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let mut say = redis::cmd("SPUBLISH");
                say.arg("{fanfare}:nodes").arg(&b"+zzzzzzzz\x02"[..]);
                say.query::<i64>(&mut speaks).expect("it is said");
                thread::sleep(Duration::from_millis(200));
            }
        });
        Self { ends, says: Some(says) }
    }
}

impl Drop for Earlier {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(says) = self.says.take() {
            says.join().expect("it ends");
        }
    }
}

/// Where an application gives keys of its own.
fn keys() -> Option<SourceKeys> {
    Some(SourceKeys { name: "key".to_owned(), api_key: Some(Hidden(API_KEY.to_owned())) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_may_come_by_a_stream_or_a_channel_of_an_applications_own_redis() {
    let (own, app) = (Redis::start(), Redis::start());
    let source = |tap| RedisSource {
        redis: RedisConfig::at(&app.url()),
        tap,
        topic: "a.x".to_owned(),
        kind: Some(fanfare::model::EventType::parse("t").expect("a type")),
        keys: keys(),
    };
    let (name, group) = ("orders".to_owned(), "fanfare".to_owned());
    let stream = Tap::Stream { name, group, field: Some("json".to_owned()) };
    let server = TestServer::with(|config| {
        close(config);
        config.redis = Some(RedisConfig::at(&own.url()));
        config.rules.default.storage = Storage::Redis;
        config.sources = vec![source(stream), source(Tap::Channel("messages".to_owned()))];
    });
    eventually("the channel is heard", async || {
        app.run::<(String, usize)>(&["PUBSUB", "NUMSUB", "messages"]).1 == 1
    })
    .await;
    let add = |key: &str, data: &str| {
        let _: String = app.run(&["XADD", "orders", "*", "key", key, "json", data]);
    };
    let mut http = Publisher::new(&server, Some(API_KEY)).await;
    // The other way first, then by the stream; one without a key says that they were read.
    let (_, id) = http.publish(Way::Topic, "from-http", "1").await.expect("stored");
    add("from-http", "1");
    add("from-http", "2");
    add("from-stream", r#"{"n": 3}"#);
    add("", "4");
    eventually("the last is there", async || retained(&server, "a.x").await == 3).await;
    for way in WAYS {
        let again = http.publish(way, "from-http", "1").await;
        assert_eq!(again, Ok((true, id.clone())), "{way:?}");
        let known = http.publish(way, "from-stream", r#"{"n":3}"#).await;
        assert!(known.is_ok_and(|(repeated, _)| repeated), "{way:?}");
    }
    let message = r#"{"key":"from-channel","n":5}"#;
    let _: usize = app.run(&["PUBLISH", "messages", message]);
    let _: usize = app.run(&["PUBLISH", "messages", message]);
    let _: usize = app.run(&["PUBLISH", "messages", "6"]);
    eventually("the last is there", async || retained(&server, "a.x").await == 5).await;
    let known = http.publish(Way::Batch, "from-channel", message).await;
    assert!(known.is_ok_and(|(repeated, _)| repeated));
    assert_eq!(retained(&server, "a.x").await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_node_of_an_earlier_release_nothing_is_taken_that_it_would_refuse_wrongly() {
    let redis = Redis::start();
    let server = TestServer::with(|config| {
        close(config);
        config.redis = Some(RedisConfig::at(&redis.url()));
        config.rules.default.storage = Storage::Redis;
    });
    let mut publisher = Publisher::new(&server, Some(API_KEY)).await;
    let earlier = Earlier::at(&redis);
    // Without a key, and over HTTP, all goes on; a message with a key, and a long type, wait for the upgrade.
    publisher.until(Way::WebSocket, "k", &Err("unavailable".to_owned())).await;
    let (repeated, id) = publisher.publish(Way::Topic, "h", "1").await.expect("stored");
    assert!(!repeated);
    assert_eq!(publisher.publish(Way::Batch, "h", "1").await, Ok((true, id.clone())));
    let long = server.post("/v1/topics/a.x/events").bearer_auth(API_KEY);
    let long = long.header("x-event-type", "x".repeat(200)).body("1").send().await;
    let refused = expect_status(long.expect("an answer"), StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(refused["detail"].as_str().expect("a reason").contains("zzzzzzzz"), "{refused}");
    // What an earlier node looks at stands where it always stood, and its own receipts are known.
    let receipts: Vec<String> = redis.run(&["KEYS", "{fanfare}:k:*"]);
    let known: Vec<Vec<u8>> =
        receipts.iter().map(|key| redis.run(&["GETRANGE", key, "0", "31"])).collect();
    assert!(known.iter().any(|digest| digest.len() == 32 && digest.iter().any(|byte| *byte != 0)));
    drop(earlier);
    publisher.until(Way::WebSocket, "h", &Ok((true, id))).await;
}
