//! What events carry beside type and data, from publishers to readers: who sent them, what they remove, which
//! version they are, what they are stored under, and from whom they are kept.

mod support;

use fanfare::config::{Config, Rule, Storage, Who};
use fanfare::model::Pattern;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, TestServer, expect_status, token};

/// A broker with credentials, where `chat.>` takes messages of anyone and `hidden.>` does not say who sent them.
fn server() -> TestServer {
    TestServer::with(|config| {
        support::close(config);
        rule(config, "hidden.>", |rule| rule.from = false);
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

fn ann() -> String {
    token("ann", &[">"], &["chat.>", "hidden.>", "now.>"], 60)
}

async fn client(server: &TestServer, topic: &str) -> WsClient {
    let authorization = format!("Bearer {}", ann());
    let headers = [("authorization", authorization.as_str())];
    let query = format!("?topic={topic}");
    let mut client = WsClient::connect_with(server, &query, &headers).await.expect("connected");
    client.until("live").await;
    client
}

fn as_key(request: RequestBuilder) -> RequestBuilder {
    request.bearer_auth(API_KEY)
}

async fn publish(server: &TestServer, event: Value, status: StatusCode) -> Value {
    let request = as_key(server.post("/v1/events")).json(&event);
    expect_status(request.send().await.expect("an answer"), status).await
}

/// Publishes for a key, and returns what became of the event.
async fn published(server: &TestServer, event: Value) -> Value {
    publish(server, event, StatusCode::CREATED).await["events"][0].clone()
}

async fn values(server: &TestServer, topics: &str) -> Vec<Value> {
    let query = format!("?topic={topics}&snapshot=true");
    let authorization = format!("Bearer {API_KEY}");
    let headers = [("authorization", authorization.as_str())];
    let mut client = WsClient::connect_with(server, &query, &headers).await.expect("connected");
    let mut values = Vec::new();
    loop {
        let frame = client.next().await;
        match frame["op"].as_str() {
            Some("event") => values.push(frame),
            Some("live") => return values,
            _ => {}
        }
    }
}

#[tokio::test]
async fn who_sent_it_is_said_by_the_broker_and_by_nobody_else() {
    let server = server();
    let mut reader = client(&server, "*.%3E").await;
    let mut writer = client(&server, "chat.x").await;
    let said = json!({"op": "publish", "topic": "chat.a", "data": 1});
    assert_eq!(writer.ask(1, said).await["op"], "ack");
    let from = json!({"user": "ann", "session": writer.session});
    assert_eq!(reader.events(1).await[0]["from"], from);
    let forged = json!({"op": "publish", "topic": "chat.a", "data": 1, "from": {"user": "bob"}});
    assert_eq!(writer.ask(2, forged).await["code"], "forbidden");
    // Over HTTP there is no session, and a key says it for others, if it says anything.
    let over_http = server.post("/v1/topics/chat.a/events").bearer_auth(ann()).body("2");
    expect_status(over_http.send().await.expect("an answer"), StatusCode::CREATED).await;
    published(&server, json!({"topic": "chat.a", "data": 3})).await;
    let from = json!({"user": "bob", "session": "s"});
    published(&server, json!({"topic": "chat.a", "data": 4, "from": from})).await;
    let senders: Vec<_> =
        reader.events(3).await.into_iter().map(|event| event["from"].clone()).collect();
    assert_eq!(senders, [json!({"user": "ann"}), Value::Null, from]);
    let forged = json!({"topic": "chat.a", "data": 1, "from": {"user": "bob"}});
    let forged = server.post("/v1/events").bearer_auth(ann()).json(&forged);
    let refused =
        expect_status(forged.send().await.expect("an answer"), StatusCode::FORBIDDEN).await;
    assert!(refused["detail"].as_str().unwrap().contains("`from`"), "{refused}");
    // A `sub` may be an e-mail address.
    let hidden = server.post("/v1/topics/hidden.a/events").bearer_auth(ann()).body("5");
    expect_status(hidden.send().await.expect("an answer"), StatusCode::CREATED).await;
    let event = &reader.events(1).await[0];
    assert_eq!((&event["data"], event.get("from")), (&json!(5), None));
    published(&server, json!({"topic": "hidden.a", "data": 6, "from": {"user": "bob"}})).await;
    let event = &reader.events(1).await[0];
    assert_eq!((&event["data"], event.get("from")), (&json!(6), None), "whoever says it");
}

#[tokio::test]
async fn who_publishes_what_needs_no_credential_may_stay_without_one() {
    let server = TestServer::with(|config| {
        support::close(config);
        rule(config, "open.>", |rule| (rule.publish, rule.subscribe) = (Who::Anyone, Who::Anyone));
        config.limits.auth_timeout = std::time::Duration::from_millis(1_500);
    });
    let (mut says, mut listens) =
        (WsClient::connect(&server, "").await, WsClient::connect(&server, "").await);
    let said = json!({"op": "publish", "topic": "open.a", "data": 1});
    assert_eq!(says.ask(1, said.clone()).await["op"], "ack");
    assert_eq!(says.ask(2, json!({"op": "publish", "topic": "a", "data": 1})).await["op"], "error");
    // Who has neither said nor heard anything by then shows that the time is over.
    let (bye, code) = listens.closed().await;
    assert_eq!((&bye.expect("a bye")["code"], code), (&json!("unauthorized"), Some(4401)));
    assert_eq!(says.ask(3, said).await["op"], "ack");
}

#[tokio::test]
async fn who_is_nobody_is_known_by_the_session_alone() {
    let server = server();
    let mut nobody = WsClient::live(&server, "?topic=open.a").await;
    let said = json!({"op": "publish", "topic": "open.a", "data": 1});
    assert_eq!(nobody.ask(1, said).await["op"], "ack");
    assert_eq!(nobody.events(1).await[0]["from"], json!({"session": nobody.session}));
    let anonymous = server.post("/v1/topics/open.a/events").body("2");
    expect_status(anonymous.send().await.expect("an answer"), StatusCode::CREATED).await;
    assert_eq!(nobody.events(1).await[0].get("from"), None);
}

#[tokio::test]
async fn on_an_open_broker_who_speaks_over_a_websocket_is_known_by_its_session() {
    let server = TestServer::open();
    let mut nobody = WsClient::live(&server, "?topic=chat").await;
    let said = json!({"op": "publish", "topic": "chat", "data": 1});
    assert_eq!(nobody.ask(1, said).await["op"], "ack");
    assert_eq!(nobody.events(1).await[0]["from"], json!({"session": nobody.session}));
    server.publish("chat", &json!(2)).await;
    assert_eq!(nobody.events(1).await[0].get("from"), None);
}

#[tokio::test]
async fn a_tombstone_takes_a_topic_out_of_snapshots_and_lists_and_is_told_as_an_event() {
    let server = server();
    let mut reader = client(&server, "orders.%3E").await;
    for n in 1..4 {
        published(&server, json!({"topic": format!("orders.{n}"), "data": n})).await;
    }
    published(&server, json!({"topic": "orders.1", "removed": true})).await;
    let gone = as_key(server.delete("/v1/topics/orders.2")).send().await.expect("an answer");
    assert!(expect_status(gone, StatusCode::OK).await["id"].is_string());
    let left: Vec<_> =
        values(&server, "orders.%3E").await.iter().map(|event| event["data"].clone()).collect();
    assert_eq!(left, [3]);
    let events = reader.events(5).await;
    for event in &events[3..] {
        assert_eq!((&event["removed"], &event["data"]), (&json!(true), &Value::Null), "{event}");
        assert_eq!(event.get("reason"), None);
    }
    assert_eq!(events[0].get("removed"), None);
    let topic = as_key(server.get("/v1/topics/orders.1")).send().await.expect("an answer");
    let topic = expect_status(topic, StatusCode::OK).await;
    assert_eq!((topic.get("latest"), &topic["retained"]), (None, &json!(2)));
    let refused = server.delete("/v1/topics/orders.3").bearer_auth(ann());
    assert_eq!(support::problem(refused).await, (403, "forbidden".to_owned()));
}

#[tokio::test]
async fn a_stream_of_bare_data_is_told_by_name_which_topic_is_gone() {
    let server = server();
    let authorization = format!("Bearer {API_KEY}");
    let headers = [("authorization", authorization.as_str())];
    let query = "?topic=a.*&format=data";
    let mut stream = SseClient::connect(&server, query, &headers).await;
    while stream.any().await.expect("an event").event != "fanfare.live" {}
    published(&server, json!({"topic": "a.b", "type": "t", "data": 1})).await;
    let gone = published(&server, json!({"topic": "a.b", "type": "t", "removed": true})).await;
    assert_eq!(stream.any().await.expect("an event").event, "t");
    let removal = stream.any().await.expect("an event");
    assert_eq!(
        (removal.event.as_str(), removal.json()),
        ("fanfare.removed", json!({"topic": "a.b"}))
    );
    assert_eq!(Some(removal.id.as_str()), gone["id"].as_str());
}

#[tokio::test]
async fn an_older_version_is_superseded_and_its_publisher_is_told_by_what() {
    let server = server();
    let version =
        |number: u64| json!({"topic": "a", "data": number, "version": number, "epoch": "e"});
    published(&server, version(5)).await;
    let answer = publish(&server, version(5), StatusCode::OK).await;
    let answer = &answer["events"][0];
    assert_eq!((&answer["superseded"], &answer["version"]), (&json!(true), &json!(5)));
    assert_eq!(answer.get("id"), None);
    let batch = json!({"events": [version(4), version(6), {"topic": "b", "data": 0}]});
    let answer = publish(&server, batch, StatusCode::CREATED).await;
    let is_stored: Vec<_> =
        answer["events"].as_array().unwrap().iter().map(|event| event["id"].is_string()).collect();
    assert_eq!(is_stored, [false, true, true]);
    let value = &values(&server, "a").await[0];
    assert_eq!(
        (&value["version"], &value["epoch"], &value["data"]),
        (&json!(6), &json!("e"), &json!(6))
    );
    let mut writer = client(&server, "chat.a").await;
    let said = json!({"op": "publish", "topic": "chat.a", "data": 1, "version": 1});
    assert!(writer.ask(1, said.clone()).await["id"].is_string());
    let again = writer.ask(2, said).await;
    assert_eq!(
        (&again["op"], &again["superseded"], &again["version"]),
        (&json!("ack"), &json!(true), &json!(1))
    );
    let metrics = as_key(server.get("/metrics")).send().await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains("fanfare_events_superseded_total 3\n"), "{metrics}");
    for (topic, superseded) in [("a", json!(2)), ("chat.a", json!(1)), ("b", json!(null))] {
        let known = as_key(server.get(&format!("/v1/topics/{topic}"))).send().await;
        let known: Value = known.expect("an answer").json().await.expect("JSON");
        assert_eq!(known["superseded"], superseded, "{topic}");
    }
}

#[tokio::test]
async fn who_is_late_is_shown_the_newest_event_where_that_may_be_read() {
    let server = server();
    let claim = json!({"topic": "chat.a", "data": "mine", "if_latest": "absent"});
    let first = published(&server, claim.clone()).await;
    let refused = publish(&server, claim.clone(), StatusCode::PRECONDITION_FAILED).await;
    assert_eq!((&refused["code"], &refused["event"]["id"]), (&json!("not_latest"), &first["id"]));
    let after = |id: &Value| json!({"topic": "chat.a", "data": "next", "if_latest": id});
    let gone = json!({"topic": "chat.a", "removed": true, "if_latest": first["id"]});
    let gone = published(&server, gone).await;
    let refused = publish(&server, after(&first["id"]), StatusCode::PRECONDITION_FAILED).await;
    assert_eq!(refused["event"]["removed"], true, "a tombstone is shown, too");
    published(&server, after(&gone["id"])).await;
    // In a batch, nothing is stored and the one is named.
    let batch = json!({"events": [{"topic": "b", "data": 1}, claim]});
    let refused = publish(&server, batch, StatusCode::PRECONDITION_FAILED).await;
    assert!(refused["detail"].as_str().unwrap().starts_with("events[1]: "), "{refused}");
    assert!(values(&server, "b").await.is_empty());
    let blind = token("eve", &[], &["chat.>"], 60);
    let claim = json!({"topic": "chat.a", "data": "mine", "if_latest": "absent"});
    let refused = server.post("/v1/events").bearer_auth(blind).json(&claim).send().await;
    let refused = expect_status(refused.expect("an answer"), StatusCode::PRECONDITION_FAILED).await;
    assert_eq!(refused.get("event"), None, "it may not be read");
    let mut writer = client(&server, "chat.b").await;
    let mut claim = json!({"op": "publish", "topic": "chat.a", "data": 1, "if_latest": "absent"});
    let refused = writer.ask(1, claim.clone()).await;
    assert_eq!(
        (&refused["code"], &refused["event"]["data"]),
        (&json!("not_latest"), &json!("next"))
    );
    claim["if_latest"] = Value::Null;
    assert_eq!(writer.ask(2, claim).await["code"], "invalid_event");
}

#[tokio::test]
async fn what_is_kept_from_a_session_does_not_come_to_it_and_moves_its_cursor_all_the_same() {
    let server = server();
    let mut one = client(&server, "chat.%3E").await;
    let mut other = client(&server, "chat.%3E").await;
    let mine = json!({"op": "publish", "topic": "chat.a", "data": 1, "except": one.session});
    assert_eq!(one.ask(1, mine).await["op"], "ack");
    let theirs = json!({"op": "publish", "topic": "chat.a", "data": 2, "except": other.session});
    assert_eq!(one.ask(2, theirs).await["code"], "forbidden");
    let by_key = as_key(server.post("/v1/topics/chat.a/events"));
    let by_key = by_key.header("x-except-session", &one.session).body("3").send().await;
    expect_status(by_key.expect("an answer"), StatusCode::CREATED).await;
    let last = published(&server, json!({"topic": "chat.a", "data": 4})).await;
    let event = &one.events(1).await[0];
    assert_eq!(event["data"], 4);
    let data: Vec<_> =
        other.events(3).await.into_iter().map(|event| event["data"].clone()).collect();
    assert_eq!(data, [1, 3, 4]);
    assert_eq!(event["id"], last["id"]);
    // Read again in the same session it is left out, and as a current value it is there.
    published(&server, json!({"topic": "chat.b", "data": 5, "except": one.session})).await;
    let id = last["id"].clone();
    let again = json!({"op": "subscribe", "ref": 3, "topics": ["chat.b"], "since": id});
    one.send(again).await;
    while one.next().await["op"] != "live" {}
    let value = json!({"op": "subscribe", "ref": 4, "topics": ["chat.b"], "snapshot": true});
    one.send(value).await;
    let value = &one.events(1).await[0];
    assert_eq!((&value["data"], &value["snapshot"]), (&json!(5), &json!(true)));
    assert!(value.get("except").is_none());
}

#[tokio::test]
async fn what_is_passed_on_has_no_id_and_is_not_kept() {
    let server = server();
    let mut reader = client(&server, "chat.%3E").await;
    published(&server, json!({"topic": "chat.a", "data": 1})).await;
    let typing =
        published(&server, json!({"topic": "chat.a", "data": "typing", "keep": false})).await;
    assert_eq!(typing.get("id"), None);
    let events = reader.events(2).await;
    assert_eq!((&events[1]["data"], events[1].get("id")), (&json!("typing"), None));
    assert_eq!(values(&server, "chat.a").await[0]["data"], 1);
}

#[tokio::test]
async fn what_does_not_go_together_or_has_no_place_is_refused_by_name() {
    let server = server();
    for (event, name) in [
        (json!({"topic": "a", "data": 1, "version": "1"}), "version"),
        (json!({"topic": "a", "data": 1, "if_latest": null}), "if_latest"),
        (json!({"topic": "a", "data": 1, "keep": false, "version": 1}), "version"),
        (json!({"topic": "now.a", "data": 1, "version": 1}), "version"),
        (json!({"topic": "now.a", "removed": true}), "removed"),
        (json!({"topic": "now.a", "data": 1, "if_latest": "absent"}), "if_latest"),
        (json!({"topic": "a", "removed": false}), "data"),
    ] {
        let refused = publish(&server, event.clone(), StatusCode::UNPROCESSABLE_ENTITY).await;
        assert_eq!(refused["code"], "invalid_event");
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("`{name}`")), "{event}: {detail}");
    }
    let long = json!({"topic": "a", "data": 1, "from": {"user": "u".repeat(1_025)}});
    publish(&server, long, StatusCode::UNPROCESSABLE_ENTITY).await;
    published(&server, json!({"topic": "now.a", "data": 1, "keep": false})).await;
}

#[tokio::test]
async fn a_value_ends_when_its_time_is_over_and_everyone_is_told() {
    let server = server();
    let mut reader = client(&server, "seats.%3E").await;
    published(&server, json!({"topic": "seats.1", "data": "ann", "ttl_ms": 300, "version": 4}))
        .await;
    published(&server, json!({"topic": "seats.2", "data": "bob", "ttl_ms": 60_000})).await;
    let events = reader.events(3).await;
    let at = |name: &str, event: &Value| {
        let time = event[name].as_str().expect("a time").to_owned();
        fanfare::model::Timestamp::parse(&time).expect("a time").millis()
    };
    assert_eq!(at("expires", &events[0]) - at("time", &events[0]), 300);
    let ended = &events[2];
    assert_eq!((&ended["topic"], &ended["removed"]), (&json!("seats.1"), &json!(true)));
    assert_eq!((&ended["reason"], &ended["version"]), (&json!("expired"), &json!(4)));
    assert!(ended["id"].is_string() && ended.get("expires").is_none());
    assert!(at("time", ended) >= at("expires", &events[0]), "not early");
    assert_eq!(values(&server, "seats.%3E").await.len(), 1);
}

#[tokio::test]
async fn a_value_ends_though_the_broker_was_stopped_when_its_time_was_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = || TestServer::durable(directory.path(), support::close);
    let server = start();
    published(&server, json!({"topic": "a", "data": 1, "ttl_ms": 400})).await;
    published(&server, json!({"topic": "b", "data": 2, "ttl_ms": 400})).await;
    published(&server, json!({"topic": "b", "data": 3})).await;
    published(&server, json!({"topic": "c", "data": 4, "ttl_ms": 60_000})).await;
    server.stop();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let server = start();
    let data = async || -> Vec<Value> {
        values(&server, "*").await.iter().map(|event| event["data"].clone()).collect()
    };
    support::eventually("it has ended", async || data().await == [3, 4]).await;
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Publishes to `a` with such headers.
async fn traced(server: &TestServer, traceparents: &[&str], status: StatusCode) -> Value {
    let request = server.post("/v1/topics/a/events").body("1");
    let request = request.header("idempotency-key", "k");
    let request = traceparents.iter().fold(request, |it, value| it.header("traceparent", *value));
    expect_status(request.send().await.expect("an answer"), status).await
}

#[tokio::test]
async fn readers_on_every_transport_are_shown_the_trace_of_a_publish() {
    let server = TestServer::with(|config| config.server.trace_context = true);
    let mut text = WsClient::live(&server, "?topic=a").await;
    let protocol = [("sec-websocket-protocol", "fanfare.v1+cbor")];
    let cbor = WsClient::connect_with(&server, "?topic=a", &protocol).await;
    let mut cbor = cbor.expect("connected");
    cbor.until("live").await;
    let mut stream = SseClient::live(&server, "?topic=a").await;
    traced(&server, &[TRACE], StatusCode::CREATED).await;
    for event in [&text.events(1).await[0], &cbor.events(1).await[0]] {
        assert_eq!(event["trace"], TRACE, "{event}");
    }
    assert_eq!(stream.next().await.expect("an event").json()["trace"], TRACE);
    for path in ["/v1/topics/a/events", "/v1/events", "/v1/snapshot"] {
        let page =
            expect_status(server.get(path).send().await.expect("a page"), StatusCode::OK).await;
        assert_eq!(page["events"][0]["trace"], TRACE, "{path}");
    }
    let topic = server.get("/v1/topics/a").send().await.expect("a topic");
    assert_eq!(expect_status(topic, StatusCode::OK).await["latest"]["trace"], TRACE);
    // Each event of a batch, and a tombstone, are of their request's trace.
    let batch = json!({"events": [{"topic": "a", "data": 2}, {"topic": "a", "data": 3}]});
    let batch = server.post("/v1/events").header("traceparent", TRACE).json(&batch);
    expect_status(batch.send().await.expect("an answer"), StatusCode::CREATED).await;
    let gone = server.delete("/v1/topics/a").header("traceparent", TRACE);
    expect_status(gone.send().await.expect("an answer"), StatusCode::OK).await;
    for event in text.events(3).await {
        assert_eq!(event["trace"], TRACE, "{event}");
    }
}

#[tokio::test]
async fn a_retry_in_another_span_or_without_one_is_the_same_publish() {
    let server = TestServer::with(|config| config.server.trace_context = true);
    let first = traced(&server, &[TRACE], StatusCode::CREATED).await;
    let retried = TRACE.replace("b7ad6b7169203331", "00f067aa0ba902b7");
    for again in [&[retried.as_str()][..], &[]] {
        assert_eq!(traced(&server, again, StatusCode::OK).await, first);
    }
}

#[tokio::test]
async fn a_trace_that_is_none_or_there_twice_is_ignored_and_the_event_published() {
    let server = TestServer::with(|config| config.server.trace_context = true);
    let mut reader = WsClient::live(&server, "?topic=*").await;
    for (topic, traceparents) in
        [("a", &["00-what-is-this"][..]), ("b", &[TRACE, TRACE]), ("c", &[])]
    {
        let request = server.post(&format!("/v1/topics/{topic}/events")).body("1");
        let request =
            traceparents.iter().fold(request, |it, value| it.header("traceparent", *value));
        expect_status(request.send().await.expect("an answer"), StatusCode::CREATED).await;
        assert_eq!(reader.events(1).await[0].get("trace"), None, "{topic}");
    }
}

#[tokio::test]
async fn no_trace_is_told_unless_the_operator_says_so_and_none_is_taken_from_a_member() {
    let server = TestServer::open();
    let mut reader = WsClient::live(&server, "?topic=a").await;
    traced(&server, &[TRACE], StatusCode::CREATED).await;
    assert_eq!(reader.events(1).await[0].get("trace"), None);
    let server = TestServer::with(|config| config.server.trace_context = true);
    let mut writer = WsClient::connect_with(&server, "?topic=a", &[("traceparent", TRACE)]).await;
    let writer = writer.as_mut().expect("connected");
    writer.until("live").await;
    let said = json!({"op": "publish", "topic": "a", "data": 1, "trace": TRACE});
    assert_eq!(writer.ask(1, said).await["code"], "bad_request");
    // The trace of a connection is not that of what is published over it.
    assert_eq!(writer.ask(2, json!({"op": "publish", "topic": "a", "data": 1})).await["op"], "ack");
    assert_eq!(writer.events(1).await[0].get("trace"), None);
    let publish = server.post("/v1/events").json(&json!({"topic": "a", "data": 1, "trace": TRACE}));
    expect_status(publish.send().await.expect("an answer"), StatusCode::UNPROCESSABLE_ENTITY).await;
}

#[tokio::test]
async fn an_event_that_carries_nothing_costs_one_byte_more_on_disk_than_before_any_could() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = TestServer::durable(directory.path(), |_| {});
    server.publish_all(&support::numbered("a", 0..50)).await;
    server.stop();
    let db = rusqlite::Connection::open(directory.path().join("history.db")).expect("opened");
    // The table of the first release, with the same events.
    db.execute_batch(
        "CREATE TABLE before (sequence INTEGER PRIMARY KEY, topic INTEGER NOT NULL,
            previous INTEGER NOT NULL, time INTEGER NOT NULL, type TEXT, base64 INTEGER NOT NULL,
            data TEXT NOT NULL, checksum INTEGER NOT NULL) STRICT;
         INSERT INTO before SELECT sequence, topic, previous, time, type, base64, data, checksum
            FROM events",
    )
    .expect("copied");
    let bytes = |table: &str| -> i64 {
        let sql = "SELECT sum(payload) FROM dbstat WHERE name = ?1";
        db.query_row(sql, (table,), |row| row.get(0)).expect("a sum")
    };
    // SQLite says in each record that there is none.
    assert_eq!(bytes("events") - bytes("before"), 50);
}

#[tokio::test]
async fn what_is_passed_on_takes_no_value_from_a_slow_screen() {
    let server = server();
    for last in
        [json!({"topic": "chat.a", "data": "final"}), json!({"topic": "chat.a", "removed": true})]
    {
        let query = format!("?topic=chat.a&max_rate=2&access_token={}", ann());
        let mut screen = WsClient::live(&server, &query).await;
        published(&server, json!({"topic": "chat.a", "data": "first"})).await;
        published(&server, last.clone()).await;
        for data in ["x", "y"] {
            published(&server, json!({"topic": "chat.a", "data": data, "keep": false})).await;
        }
        assert_eq!(screen.until("event").await["data"], "first");
        let event = screen.until("event").await;
        assert_eq!(
            (event.get("data"), event.get("removed")),
            (Some(last.get("data").unwrap_or(&Value::Null)), last.get("removed"),)
        );
        assert_eq!(event["skipped"], 2);
    }
}
