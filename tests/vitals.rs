//! What nodes say of themselves on `$sys.metrics`: all of it, to operators alone, and without a gap.

mod support;

use std::time::Duration;

use fanfare::config::{ApiKey, Config, KeyHash, Sources, Storage, load};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::redis::Redis;
use support::room;
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, TestServer, close, expect_status, in_memory, token};

/// A key with an operator's right and no topic, and one with every topic and no operator's right.
const OPERATOR: &str = "a-key-of-an-operator";
const PUBLISHER: &str = "a-key-of-a-publisher";

const PAST: &str = "?topic=%24sys.metrics&last=900";

fn number(event: &Value) -> u64 {
    event["data"]["number"].as_u64().expect("a number")
}

/// What a client is told first of each node, and then so much that is live.
async fn past_and(client: &mut WsClient, live: usize) -> (Vec<Value>, Vec<Value>) {
    let mut past = Vec::new();
    loop {
        let frame = client.next().await;
        match frame["op"].as_str() {
            Some("event") => past.push(frame),
            Some("live") => break,
            other => assert_ne!(other, Some("error"), "{frame}"),
        }
    }
    (past, client.events(live).await)
}

/// Waits until a node has said so much of itself.
async fn said(client: &mut WsClient, number: u64) {
    while self::number(&client.events(1).await[0]) < number {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_comes_first_and_what_follows_it_is_neither_missing_nor_there_twice() {
    let server = TestServer::with(|config| config.limits.last_events = 2);
    let mut first = WsClient::live(&server, "?topic=%24sys.metrics").await;
    said(&mut first, 3).await;
    for last in [900_usize, 100_000, 2] {
        let query = format!("?topic=%24sys.metrics&last={last}");
        let mut client = WsClient::connect(&server, &query).await;
        let (past, live) = past_and(&mut client, 2).await;
        assert!(past.iter().all(|event| event["snapshot"] == true && event.get("id").is_none()));
        assert!(live.iter().all(|event| event.get("snapshot").is_none()), "{live:?}");
        let numbers: Vec<_> = past.iter().chain(&live).map(number).collect();
        let begin = if last == 2 { numbers[0] } else { 1 };
        assert_eq!(numbers, (begin..begin + numbers.len() as u64).collect::<Vec<_>>());
        assert!(past.len() >= 2 && (last > 2 || past.len() == 2), "{last}: {}", past.len());
    }
    let mut stream = SseClient::connect(&server, PAST, &[]).await;
    let event = stream.events(1).await.remove(0).json();
    assert_eq!((number(&event), &event["snapshot"]), (1, &json!(true)));
    // A pattern brings it as well, and a later subscribe in the same session.
    let topics = json!({"op": "subscribe", "topics": ["$sys.*"], "snapshot": true});
    first.send(topics).await;
    let (past, live) = past_and(&mut first, 1).await;
    let newest = past.iter().filter(|event| event["snapshot"] == true).map(number).next_back();
    assert_eq!(newest.map(|number| number + 1), Some(number(&live[0])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_the_docs_say_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = TestServer::durable(directory.path(), |_| {});
    let mut client = WsClient::live(&server, "?topic=%24sys.metrics&topic=a").await;
    server.publish("a", &json!(1)).await;
    let busy = loop {
        let event = client.events(1).await.remove(0);
        let data = &event["data"];
        if event["topic"] == "$sys.metrics"
            && data["total"]["published"] == 1
            && data.get("disk").is_some()
        {
            break event;
        }
    };
    let docs = include_str!("../docs/metrics.md");
    let example = docs.split("```json\n").nth(2).and_then(|it| it.split("```").next());
    let example: Value = serde_json::from_str(example.expect("an example")).expect("JSON");
    // Members that the docs say may be absent, here.
    let absent = ["redis", "issuer", "history.events", "history.topics", "latency_ms.relay"];
    let (data, mut missing) = (&busy["data"], Vec::new());
    for (name, shown) in example.as_object().expect("an object") {
        let Some(said) = data.get(name) else {
            missing.push(name.clone());
            continue;
        };
        assert_eq!(kind(said), kind(shown), "{name}");
        let counted = ["gaps", "refusals", "closes"].contains(&name.as_str());
        if let (Some(said), Some(shown), false) = (said.as_object(), shown.as_object(), counted) {
            let path = |member: &String| format!("{name}.{member}");
            missing.extend(shown.keys().filter(|key| !said.contains_key(*key)).map(path));
            let unknown: Vec<_> = said.keys().filter(|key| !shown.contains_key(*key)).collect();
            assert!(unknown.is_empty(), "{name}: {unknown:?} is not in the docs");
        }
    }
    missing.retain(|name| !absent.contains(&name.as_str()) && !name.starts_with("latency_ms."));
    assert!(missing.is_empty(), "{missing:?} of {data}");
    let unknown = data.as_object().expect("members").keys().filter(|it| example.get(it).is_none());
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!((&busy["type"], &data["ready"]), (&json!("metrics"), &json!(true)));
    assert_eq!(data["history"]["kind"], "disk");
    assert_eq!(data["sessions"]["websocket"], 1);
    assert!(busy.to_string().len() < 4_096, "{}", busy.to_string().len());
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

fn hash(key: &str) -> KeyHash {
    use aws_lc_rs::digest::{SHA256, digest};
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    KeyHash(hash)
}

/// A broker whose rules open whatever can be opened, with keys of both kinds.
fn opened(rule: &str) -> TestServer {
    TestServer::with(|config| {
        close(config);
        let rules = format!(
            "topics=[{{match = \"{rule}\", subscribe = \"anyone\", publish = \"anyone\", presence = true}}, \
             {{match = \">\", subscribe = \"anyone\", publish = \"anyone\"}}]"
        );
        let sets = vec!["auth.api_keys=sixteen-bytes-key".to_owned(), rules];
        let typed = load(&Sources { sets, ..Sources::default() }).expect("rules");
        config.rules.listed = typed.rules.listed;
        config.rules.listed.iter_mut().for_each(|rule| rule.storage = Storage::Memory);
        let all = || ["$sys.>", "$sys.metrics", ">"].map(|it| it.parse_pattern()).to_vec();
        let key = |name: &str, key: &str, admin| ApiKey {
            name: name.to_owned(),
            hash: hash(key),
            publish: if admin { Vec::new() } else { all() },
            subscribe: if admin { Vec::new() } else { all() },
            admin,
        };
        let keys = [key("operator", OPERATOR, true), key("publisher", PUBLISHER, false)];
        config.auth.scoped_keys = keys.map(std::sync::Arc::new).to_vec();
    })
}

trait ParsePattern {
    fn parse_pattern(&self) -> fanfare::model::Pattern;
}

impl ParsePattern for str {
    fn parse_pattern(&self) -> fanfare::model::Pattern {
        fanfare::model::Pattern::parse(self).expect("a pattern")
    }
}

async fn rest(server: &TestServer, path: &str, credential: Option<&str>) -> StatusCode {
    let request = server.get(path);
    let request = match credential {
        Some(credential) => request.bearer_auth(credential),
        None => request,
    };
    request.send().await.expect("an answer").status()
}

/// Of patterns and credentials, those by which a client is told how nodes are, live or of the past.
async fn heard<'a>(server: &TestServer, all: &[(&'a str, Option<&'a str>)]) -> Vec<&'a str> {
    let mut clients = Vec::new();
    for (pattern, credential) in all {
        let bearer = credential.map(|credential| format!("Bearer {credential}"));
        let headers: Vec<_> = bearer.iter().map(|it| ("authorization", it.as_str())).collect();
        let mut client = WsClient::connect_with(server, "", &headers).await.expect("it opens");
        let request = json!({"op": "subscribe", "topics": [pattern], "last": 9});
        let answer = client.ask(1, request).await;
        assert!(answer["op"] == "ack" || *pattern == "$sys.metrics", "{answer}");
        clients.push((pattern, client));
    }
    // What comes to the one would have come to the others.
    past_and(&mut operator(server).await, 2).await;
    let mut heard = Vec::new();
    for (pattern, mut client) in clients {
        client.send(json!({"op": "ping", "ref": 7})).await;
        let mut is_heard = false;
        while let frame = client.next().await
            && frame["op"] != "pong"
        {
            is_heard |= frame["topic"] == "$sys.metrics";
        }
        if is_heard {
            heard.push(*pattern);
        }
    }
    heard
}

async fn operator(server: &TestServer) -> WsClient {
    let bearer = format!("Bearer {API_KEY}");
    WsClient::connect_with(server, PAST, &[("authorization", &bearer)]).await.expect("it opens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rule_and_no_grant_opens_it_to_who_is_no_operator() {
    for rule in ["$sys.>", "$sys.metrics", "$sys.*"] {
        let server = opened(rule);
        let granted = token("ada", &["$sys.>", "$sys.metrics", ">"], &[">"], 600);
        let credentials = [None, Some(granted.as_str()), Some(PUBLISHER)];
        let patterns = ["$sys.metrics", "$sys.*", "$sys.>"];
        let all = credentials.map(|credential| patterns.map(|pattern| (pattern, credential)));
        assert_eq!(heard(&server, all.as_flattened()).await, [""; 0], "{rule}");
        for credential in credentials {
            let refused = if credential.is_none() { 401 } else { 403 };
            for path in [
                "/v1/topics/%24sys.metrics",
                "/v1/topics/%24sys.metrics/events",
                "/v1/topics/%24sys.metrics/presence",
                "/v1/snapshot?match=%24sys.metrics",
                "/v1/events?match=%24sys.metrics",
            ] {
                assert_eq!(
                    rest(&server, path, credential).await.as_u16(),
                    refused,
                    "{rule} {path}"
                );
            }
        }
        for path in ["/v1/sse?topic=%24sys.metrics&last=9", "/v1/ws?topic=%24sys.metrics"] {
            let path = format!("{path}&access_token={granted}");
            assert!(!rest(&server, &path, None).await.is_success(), "{rule} {path}");
        }
        let query = format!("?topic=%24sys.%3E&last=9&access_token={granted}");
        let mut stream = SseClient::connect(&server, &query, &[]).await;
        let operators = [OPERATOR, API_KEY].map(|key| patterns.map(|pattern| (pattern, Some(key))));
        assert_eq!(
            heard(&server, operators.as_flattened()).await,
            [patterns, patterns].concat(),
            "{rule}"
        );
        server.publish("x", &json!(1)).await;
        let quiet = tokio::time::timeout(Duration::from_millis(200), async {
            while let Some(event) = stream.next().await {
                assert_ne!(event.json()["topic"], "$sys.metrics", "{rule}");
            }
        });
        assert!(quiet.await.is_err(), "the stream goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_an_operators_right_hears_no_more() {
    let server = opened("$sys.>");
    let mut client = operator(&server).await;
    past_and(&mut client, 1).await;
    // Whoever becomes somebody else has other rights from there on.
    let ada = token("ada", &["$sys.>"], &[], 600);
    let answer = client.ask(5, json!({"op": "auth", "token": ada})).await;
    assert_eq!(answer["op"], "ack");
    let mut other = operator(&server).await;
    past_and(&mut other, 2).await;
    client.send(json!({"op": "ping", "ref": 7})).await;
    loop {
        let frame = client.next().await;
        assert_ne!(frame["op"], "event", "{frame}");
        if frame["op"] == "pong" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_credentials_it_is_served_where_metrics_are() {
    let open = TestServer::open();
    assert!(hears_openly(&open.addr.to_string()).await);
    let inside = TestServer::with(|config: &mut Config| {
        config.server.internal_listen = Some(([127, 0, 0, 1], 0).into());
    });
    assert!(hears_openly(&inside.internal.expect("an address").to_string()).await);
    assert!(!hears_openly(&inside.addr.to_string()).await);
    let mut wide = WsClient::at(&inside.addr.to_string(), "?topic=%24sys.%3E&last=9").await;
    let address = inside.internal.expect("an address").to_string();
    let mut narrow = WsClient::at(&address, PAST).await;
    past_and(&mut narrow, 2).await;
    wide.send(json!({"op": "ping", "ref": 7})).await;
    while let frame = wide.next().await
        && frame["op"] != "pong"
    {
        assert_ne!(frame["op"], "event", "{frame}");
    }
}

async fn hears_openly(address: &str) -> bool {
    let mut client = WsClient::at(address, "").await;
    let request = json!({"op": "subscribe", "topics": ["$sys.metrics"], "last": 9});
    client.ask(1, request).await["op"] == "ack"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_kept_nowhere_whatever_rules_say() {
    let server = TestServer::with(|config| in_memory(config, "$sys.>"));
    let mut client = WsClient::live(&server, "?topic=%24sys.metrics").await;
    said(&mut client, 3).await;
    let events = server.get("/v1/topics/%24sys.metrics/events").send().await.expect("an answer");
    assert_eq!(expect_status(events, StatusCode::OK).await["events"], json!([]));
    let topic = server.get("/v1/topics/%24sys.metrics").send().await.expect("an answer");
    assert_eq!(expect_status(topic, StatusCode::OK).await["retained"], 0);
    let published = server.post("/v1/topics/%24sys.metrics/events").body("1").send().await;
    assert_eq!(published.expect("an answer").status(), StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_hears_all_and_itself_also_while_redis_is_away() {
    let mut redis = Redis::start();
    let nodes = [room::node(&redis, 0), room::node(&redis, 0)];
    let mut clients = [operator(&nodes[0]).await, operator(&nodes[1]).await];
    for client in &mut clients {
        let mut heard = std::collections::BTreeSet::new();
        while heard.len() < 2 {
            let event = client.events(1).await.remove(0);
            heard.insert(event["data"]["node"].as_str().expect("a name").to_owned());
        }
    }
    // Whoever comes now has the past of both.
    let mut late = operator(&nodes[0]).await;
    let (past, _) = past_and(&mut late, 1).await;
    let of: std::collections::BTreeSet<_> =
        past.iter().map(|it| it["data"]["node"].to_string()).collect();
    assert_eq!(of.len(), 2);
    let newest = past.last().map(|event| event["data"]["redis"]["nodes"].clone());
    assert_eq!(newest, Some(json!(2)));
    redis.kill();
    let mut client = operator(&nodes[0]).await;
    until(&mut client, |data| {
        let check = &data["failing"][0]["check"];
        data["redis"]["state"] == "away" && data["ready"] == false && check == "history"
    })
    .await;
    redis.restart();
    until(&mut client, |data| data["redis"]["state"] == "connected" && data["ready"] == true).await;
}

/// Waits until a node says so of itself.
async fn until(client: &mut WsClient, says: impl Fn(&Value) -> bool) {
    while !says(&client.events(1).await[0]["data"]) {}
}
