//! Reading state over REST: snapshots and who may keep them, the cursor, events of many topics, lists by their order.

mod support;

use std::collections::BTreeMap;

use fanfare::config::{Config, Redis as RedisConfig, Rule, Storage, Who};
use fanfare::model::Pattern;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use support::kept::{Kept, on_every_history};
use support::redis::Redis;
use support::room;
use support::ws::WsClient;
use support::{API_KEY, TestServer, close, eventually, expect_status, problem, token};

fn rule(config: &mut Config, pattern: &str, subscribe: Who) {
    let pattern = Pattern::parse(pattern).expect("a pattern");
    let rule = Rule { pattern, subscribe, ..config.rules.default.clone() };
    config.rules.listed.push(rule);
}

/// A broker with credentials, whose `open.*` is for anyone and whose `mix.secret.*` for nobody.
fn closed() -> TestServer {
    TestServer::with(|config| {
        close(config);
        rule(config, "open.*", Who::Anyone);
        rule(config, "mix.secret.*", Who::Nobody);
    })
}

async fn answer(request: RequestBuilder) -> Response {
    request.send().await.expect("an answer")
}

async fn ask(request: RequestBuilder) -> Value {
    expect_status(answer(request).await, StatusCode::OK).await
}

async fn get(server: &TestServer, path: &str) -> Value {
    ask(server.get(path)).await
}

/// Publishes with every right.
async fn publish(server: &TestServer, topic: &str, data: Value) -> Value {
    let path = format!("/v1/topics/{topic}/events");
    expect_status(
        answer(server.post(&path).bearer_auth(API_KEY).json(&data)).await,
        StatusCode::CREATED,
    )
    .await
}

/// What each event of a page says: topic and data.
fn said(page: &Value) -> Vec<(String, Value)> {
    let events = page["events"].as_array().expect("events").iter();
    let said = |event: &Value| {
        (event["topic"].as_str().expect("a topic").to_owned(), event["data"].clone())
    };
    events.map(said).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn said_to_be(expected: &[(&str, i64)]) -> Vec<(String, Value)> {
    expected.iter().map(|(topic, data)| ((*topic).to_owned(), json!(data))).collect()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().expect("text")
}

#[tokio::test]
async fn a_snapshot_has_the_newest_of_each_topic_and_its_cursor_leads_on() {
    let directory = tempfile::tempdir().expect("a directory");
    for server in [TestServer::open(), TestServer::durable(directory.path(), |_| {})] {
        for (topic, data) in [("a.x", 1), ("a.y", 2), ("b", 3), ("a.x", 4)] {
            publish(&server, topic, json!(data)).await;
        }
        let page = get(&server, "/v1/snapshot?match=a.*").await;
        assert_eq!(said(&page), said_to_be(&[("a.x", 4), ("a.y", 2)]));
        assert_eq!((page.get("next"), page["events"][0].get("snapshot")), (None, None));
        let all = get(&server, "/v1/snapshot").await;
        assert_eq!(said(&all), said_to_be(&[("a.x", 4), ("a.y", 2), ("b", 3)]));
        publish(&server, "a.z", json!(5)).await;
        let cursor = text(&page["cursor"]);
        let rest = get(&server, &format!("/v1/events?match=a.*&since={cursor}")).await;
        assert_eq!((said(&rest), &rest["gap"]), (said_to_be(&[("a.z", 5)]), &json!(false)));
        assert_eq!(get(&server, "/v1/snapshot?match=c").await["events"], json!([]));
    }
}

#[tokio::test]
async fn what_comes_between_two_pages_of_a_snapshot_is_read_since_the_cursor_of_the_first() {
    let server = TestServer::open();
    for topic in ["t.1", "t.2", "t.3", "t.4", "t.5"] {
        publish(&server, topic, json!(1)).await;
    }
    let first = get(&server, "/v1/snapshot?match=t.*&limit=2").await;
    let (cursor, mut seen) = (text(&first["cursor"]), said(&first));
    let mut next = text(&first["next"]).to_owned();
    publish(&server, "t.1", json!(2)).await;
    publish(&server, "t.4", json!(2)).await;
    loop {
        let page = ask(server.get("/v1/snapshot").query(&[
            ("match", "t.*"),
            ("limit", "2"),
            ("after", &next),
        ]))
        .await;
        assert_eq!(text(&page["cursor"]), cursor);
        seen.extend(said(&page));
        match page.get("next") {
            Some(more) => next = text(more).to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, said_to_be(&[("t.1", 1), ("t.2", 1), ("t.3", 1), ("t.4", 2), ("t.5", 1)]));
    let missed = get(&server, &format!("/v1/events?match=t.*&since={cursor}")).await;
    assert_eq!(said(&missed), said_to_be(&[("t.1", 2), ("t.4", 2)]));
    for after in ["t.1", "nope", &format!("{cursor}."), &format!("{cursor}.a..b")] {
        let request = server.get("/v1/snapshot").query(&[("after", after)]);
        assert_eq!(problem(request).await, (400, "bad_request".to_owned()), "{after}");
    }
}

#[tokio::test]
async fn a_page_names_no_topic_that_its_reader_may_not_see() {
    let server = closed();
    for topic in ["mix.a", "mix.secret.1", "mix.secret.2", "mix.z", "other.1", "open.1", "open.2"] {
        publish(&server, topic, json!(1)).await;
    }
    let ada = token("ada", &["mix.>"], &[], 600);
    for (path, name, shown) in [
        ("/v1/snapshot", "events", vec!["mix.a", "mix.z", "open.1", "open.2"]),
        ("/v1/topics", "topics", vec!["mix.a", "mix.z", "open.1", "open.2"]),
        ("/v1/events", "events", vec!["mix.a", "mix.z", "open.1", "open.2"]),
    ] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let place = if path == "/v1/events" { "since" } else { "after" };
            let mut query = vec![("match", ">"), ("limit", "1")];
            if !after.is_empty() {
                query.push((place, &after));
            }
            let page = ask(server.get(path).query(&query).bearer_auth(&ada)).await;
            let written = page.to_string();
            assert!(!written.contains("secret") && !written.contains("other"), "{written}");
            let items = page[name].as_array().expect("a list");
            seen.extend(items.iter().map(|item| text(&item["topic"]).to_owned()));
            match page.get("next") {
                Some(next) if !items.is_empty() => after = text(next).to_owned(),
                _ => break,
            }
        }
        assert_eq!(seen, shown, "{path}");
    }
    let back = server.get("/v1/events?match=%3E&before=").bearer_auth(&ada);
    let back: Vec<_> = said(&ask(back).await).into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(back, ["open.2", "open.1", "mix.z", "mix.a"]);
}

#[tokio::test]
async fn of_a_pattern_each_is_shown_what_is_granted_and_nothing_granted_is_a_refusal() {
    let server = closed();
    for topic in ["a.1", "a.2", "b.1", "open.1", "mix.secret.1"] {
        publish(&server, topic, json!(1)).await;
    }
    let ada = token("ada", &["a.1", "mix.>"], &[], 600);
    for path in ["/v1/snapshot?match=", "/v1/events?match="] {
        let with = |of: &str| server.get(&format!("{path}{of}")).bearer_auth(&ada);
        assert_eq!(said(&ask(with("a.*")).await), said_to_be(&[("a.1", 1)]));
        assert_eq!(said(&ask(with(">")).await), said_to_be(&[("a.1", 1), ("open.1", 1)]));
        assert_eq!(said(&ask(with("mix.secret.*")).await), []);
        assert_eq!(problem(with("b.*")).await, (403, "forbidden".to_owned()));
        assert_eq!(problem(with("a..b")).await, (422, "invalid_pattern".to_owned()));
        let without = |of: &str| server.get(&format!("{path}{of}"));
        assert_eq!(said(&ask(without(">")).await), said_to_be(&[("open.1", 1)]));
        assert_eq!(problem(without("b.*")).await, (401, "unauthorized".to_owned()));
    }
}

#[tokio::test]
async fn a_cache_may_keep_a_snapshot_only_where_anyone_would_be_given_the_same() {
    let server = closed();
    publish(&server, "open.1", json!(1)).await;
    let read = |of: &str| server.get(&format!("/v1/snapshot?match={of}"));
    let ada = token("ada", &["open.*", "a.>"], &[], 600);
    for (request, kept) in [
        (read("open.*"), "public, max-age=1"),
        (read("open.1"), "public, max-age=1"),
        (read("open.%3E"), "private, no-store"),
        (read("%3E"), "private, no-store"),
        (read("open.*").bearer_auth(&ada), "private, no-store"),
        (read("open.*").bearer_auth(API_KEY), "private, no-store"),
        (read("open.*").basic_auth("proxy", Some("word")), "private, no-store"),
        (read("a.*").bearer_auth(&ada), "private, no-store"),
    ] {
        let shown = format!("{request:?}");
        let response = answer(request).await;
        assert_eq!(header(&response, "cache-control"), kept, "{shown}");
        assert_eq!(header(&response, "vary"), "Authorization, Origin, Accept-Encoding");
        assert!(header(&response, "etag").starts_with("W/\""));
    }
    // Where no credential is configured everyone may have everything, and no rule says that it is for all.
    let open = TestServer::open();
    let response = answer(open.get("/v1/snapshot")).await;
    assert_eq!(header(&response, "cache-control"), "private, no-store");
    // A refusal is for nobody's cache either.
    assert_eq!(header(&answer(read("b")).await, "cache-control"), "no-store");
}

#[tokio::test]
async fn who_has_a_snapshot_already_is_told_so_once_its_rights_are_looked_at() {
    let server = closed();
    for topic in ["a.1", "a.2", "open.1"] {
        publish(&server, topic, json!(1)).await;
    }
    let (ada, bob) = (token("ada", &["a.*"], &[], 600), token("bob", &["a.1"], &[], 600));
    let read = |token: &str| server.get("/v1/snapshot?match=a.*").bearer_auth(token);
    let tag_of = async |token: &str| header(&answer(read(token)).await, "etag").to_owned();
    let (tag, other) = (tag_of(&ada).await, tag_of(&bob).await);
    assert_ne!(tag, other, "they see different things");
    let again =
        async |token: &str, tag: &str| answer(read(token).header("if-none-match", tag)).await;
    let known = again(&ada, &tag).await;
    assert_eq!((known.status().as_u16(), header(&known, "etag")), (304, tag.as_str()));
    assert_eq!(header(&known, "cache-control"), "private, no-store");
    assert_eq!(known.bytes().await.expect("no body").len(), 0);
    assert_eq!(again(&bob, &tag).await.status(), 200);
    // What others see is nothing new, though the cursor has moved.
    publish(&server, "open.1", json!(2)).await;
    publish(&server, "b.1", json!(2)).await;
    assert_eq!(again(&ada, &tag).await.status(), 304);
    publish(&server, "a.2", json!(1)).await;
    assert_eq!(again(&ada, &tag).await.status(), 200, "the same data in another event");
    assert_eq!(again(&bob, &other).await.status(), 304);
    let revoke = server.post("/v1/revocations").bearer_auth(API_KEY).json(&json!({"user": "bob"}));
    expect_status(answer(revoke).await, StatusCode::CREATED).await;
    for tag in [other.as_str(), "*"] {
        let refused = read(&bob).header("if-none-match", tag);
        assert_eq!(problem(refused).await, (401, "unauthorized".to_owned()));
    }
    let head = server.http.head(server.url("/v1/snapshot?match=open.*"));
    let head = answer(head).await;
    assert_eq!(
        (head.status().as_u16(), header(&head, "cache-control")),
        (200, "public, max-age=1")
    );
}

#[tokio::test]
async fn the_cursor_is_for_whoever_may_hear_or_say_something_and_leads_on_from_there() {
    let server = TestServer::with(close);
    let id = text(&publish(&server, "a", json!(1)).await["id"]).to_owned();
    let read = |token: &str| server.get("/v1/cursor").bearer_auth(token);
    for token in
        [token("ada", &["a"], &[], 600), token("bob", &[], &["b"], 600), API_KEY.to_owned()]
    {
        assert_eq!(ask(read(&token)).await, json!({ "cursor": id }));
    }
    let nothing = token("eve", &[], &[], 600);
    assert_eq!(problem(read(&nothing)).await, (403, "forbidden".to_owned()));
    assert_eq!(problem(server.get("/v1/cursor")).await, (401, "unauthorized".to_owned()));
    assert_eq!(problem(read(API_KEY).query(&[("x", "1")])).await.0, 400);
    // What is published after it is what a subscription since then begins with.
    publish(&server, "a", json!(2)).await;
    let ada = token("ada", &["a"], &[], 600);
    let query = format!("?topic=a&since={id}&access_token={ada}");
    let mut client = WsClient::connect(&server, &query).await;
    assert_eq!(client.until("event").await["data"], 2);
    // An open topic makes everyone a subscriber.
    assert_eq!(answer(closed().get("/v1/cursor")).await.status(), 200);
}

#[tokio::test]
async fn events_of_many_topics_are_read_in_the_order_of_the_log() {
    let server = TestServer::with(|config| {
        let mut rule = config.rules.default.clone();
        rule.pattern = Pattern::parse("short.*").expect("a pattern");
        rule.max_events = 1;
        config.rules.listed.push(rule);
    });
    let topics = ["a.x", "b", "a.y", "a.x", "b", "a.z"];
    let published: Vec<_> =
        topics.iter().enumerate().map(|(n, topic)| ((*topic).to_owned(), json!(n))).collect();
    let ids = server.publish_all(&published).await;
    let (mut seen, mut since) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/events?match=a.*&limit=2&since={since}");
        let page = get(&server, &path).await;
        if page["events"] == json!([]) {
            break;
        }
        seen.extend(said(&page));
        text(&page["next"]).clone_into(&mut since);
    }
    assert_eq!(seen, said_to_be(&[("a.x", 0), ("a.y", 2), ("a.x", 3), ("a.z", 5)]));
    assert_eq!(said(&get(&server, "/v1/events").await), published);
    assert_eq!(said(&get(&server, "/v1/events?match=a.*&since=-1h").await).len(), 4);
    for number in 0..3 {
        publish(&server, "short.1", json!(number)).await;
    }
    for (of, gap) in [("a.*", false), ("short.*", true), ("%3E", true)] {
        let page = get(&server, &format!("/v1/events?match={of}&since={}", ids[0])).await;
        assert_eq!(page["gap"], gap, "{of}");
    }
    let refused = problem(server.get("/v1/events?match=a&since=nope")).await;
    assert_eq!(refused, (400, "invalid_cursor".to_owned()));
}

/// Reads back to the end: what the pages say, and their gaps.
async fn read_back(
    server: &TestServer,
    path: &str,
    before: &str,
) -> (Vec<(String, Value)>, Vec<bool>) {
    let (mut seen, mut gaps, mut before) = (Vec::new(), Vec::new(), before.to_owned());
    loop {
        let query = [("limit", "2"), ("before", &before)];
        let page = ask(server.get(path).query(&query)).await;
        seen.extend(said(&page));
        gaps.push(page["gap"].as_bool().expect("a truth value"));
        match page.get("next") {
            Some(next) => text(next).clone_into(&mut before),
            None => return (seen, gaps),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_read_back_newest_first_and_the_end_says_whether_there_was_more() {
    let (directory, redis) = (tempfile::tempdir().expect("a directory"), Redis::start());
    let short = |config: &mut Config| {
        let mut rule = config.rules.default.clone();
        rule.pattern = Pattern::parse("short.*").expect("a pattern");
        rule.max_events = 2;
        config.rules.listed.push(rule);
    };
    let servers = [
        TestServer::with(short),
        TestServer::durable(directory.path(), short),
        TestServer::with(|config| {
            config.redis = Some(RedisConfig::at(&redis.url()));
            config.rules.default.storage = Storage::Redis;
            short(config);
        }),
    ];
    for server in servers {
        let topics = ["a.x", "b", "a.y", "a.x", "b", "a.z"];
        let published: Vec<_> =
            topics.iter().enumerate().map(|(n, topic)| ((*topic).to_owned(), json!(n))).collect();
        let ids = server.publish_all(&published).await;
        let matching = "/v1/events?match=a.*";
        let (seen, gaps) = read_back(&server, matching, "").await;
        assert_eq!(seen, said_to_be(&[("a.z", 5), ("a.x", 3), ("a.y", 2), ("a.x", 0)]));
        assert!(gaps.iter().all(|gap| !gap), "{gaps:?}");
        let (seen, _) = read_back(&server, matching, &ids[3]).await;
        assert_eq!(seen, said_to_be(&[("a.y", 2), ("a.x", 0)]), "what is before it alone");
        let (seen, _) = read_back(&server, "/v1/topics/b/events", "").await;
        assert_eq!(seen, said_to_be(&[("b", 4), ("b", 1)]));
        for number in 0..4 {
            publish(&server, "short.1", json!(number)).await;
        }
        let (seen, gaps) = read_back(&server, "/v1/topics/short.1/events", "").await;
        assert_eq!(
            (seen, gaps.last()),
            (said_to_be(&[("short.1", 3), ("short.1", 2)]), Some(&true))
        );
        let both = format!("/v1/events?since={}&before={}", ids[0], ids[1]);
        assert_eq!(problem(server.get(&both)).await, (400, "bad_request".to_owned()));
        let refused = problem(server.get("/v1/events?before=nope")).await;
        assert_eq!(refused, (400, "invalid_cursor".to_owned()));
    }
}

/// A node of a cluster.
fn node(redis: &Redis) -> TestServer {
    TestServer::with(|config| {
        config.redis = Some(RedisConfig::at(&redis.url()));
        config.rules.default.storage = Storage::Redis;
        config.limits.outbox_bytes = 64 << 20;
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_snapshot_may_be_read_at_any_node_and_its_cursor_be_used_at_another() {
    let redis = Redis::start();
    let nodes = [node(&redis), node(&redis)];
    for topic in ["t.1", "t.2", "t.3", "t.1"] {
        publish(&nodes[0], topic, json!(1)).await;
    }
    let first = get(&nodes[0], "/v1/snapshot?match=t.*&limit=2").await;
    publish(&nodes[1], "t.1", json!(2)).await;
    let query = [("match", "t.*"), ("limit", "2"), ("after", text(&first["next"]))];
    let second = ask(nodes[1].get("/v1/snapshot").query(&query)).await;
    assert_eq!((&second["cursor"], second.get("next")), (&first["cursor"], None));
    let seen = [said(&first), said(&second)].concat();
    assert_eq!(seen, said_to_be(&[("t.1", 1), ("t.2", 1), ("t.3", 1)]));
    let cursor = text(&first["cursor"]);
    for node in &nodes {
        let mut client = WsClient::connect(node, &format!("?topic=t.*&since={cursor}")).await;
        assert_eq!(client.until("event").await["data"], 2);
    }
    // What a node has acknowledged it knows of, and the other soon.
    let id = text(&publish(&nodes[0], "t.2", json!(3)).await["id"]).to_owned();
    assert_eq!(get(&nodes[0], "/v1/cursor").await["cursor"], id.as_str());
    eventually("the other node knows it", async || {
        get(&nodes[1], "/v1/cursor").await["cursor"] == id.as_str()
    })
    .await;
    let times = newest_times(&nodes[1]).await;
    let events = get(&nodes[1], "/v1/snapshot?match=t.*").await;
    for event in events["events"].as_array().expect("events") {
        assert_eq!(times[text(&event["topic"])], event["time"]);
    }
}

/// When the newest event of each listed topic came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_page_of_a_snapshot_looks_past_topics_without_a_value() {
    const REMOVED: usize = 2_500;
    for Kept { server, .. } in &on_every_history(|_| {}) {
        let gone = |n: usize| json!({"topic": format!("gone.t{n:04}"), "removed": true});
        for chunk in (0..REMOVED).collect::<Vec<_>>().chunks(500) {
            let events: Vec<_> = chunk.iter().map(|n| gone(*n)).collect();
            let request = server.post("/v1/events").json(&json!({ "events": events }));
            assert_eq!(request.send().await.expect("an answer").status(), 201);
        }
        let kept =
            json!({"events": [{"topic": "here.a", "data": 1}, {"topic": "here.b", "data": 2}]});
        server.post("/v1/events").json(&kept).send().await.expect("an answer");
        let (mut seen, mut pages, mut after) = (Vec::new(), 0, String::new());
        while pages < 9 {
            let page = get(server, &format!("/v1/snapshot?match=%3E&limit=1{after}")).await;
            seen.extend(said(&page));
            pages += 1;
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(seen, said_to_be(&[("here.a", 1), ("here.b", 2)]));
        assert!(pages < 9, "{pages} pages");
    }
}

async fn newest_times(server: &TestServer) -> BTreeMap<String, Value> {
    let list = get(server, "/v1/topics").await;
    let topics = list["topics"].as_array().expect("topics").iter();
    topics.map(|line| (text(&line["topic"]).to_owned(), line["latest_time"].clone())).collect()
}

#[tokio::test]
async fn a_list_of_topics_says_when_the_newest_event_of_each_came() {
    let directory = tempfile::tempdir().expect("a directory");
    for server in [TestServer::open(), TestServer::durable(directory.path(), |_| {})] {
        publish(&server, "a", json!(1)).await;
        let a = publish(&server, "a", json!(2)).await;
        let b = publish(&server, "b", json!(1)).await;
        let _quiet = WsClient::live(&server, "?topic=c").await;
        let times = newest_times(&server).await;
        let expected = [("a", a["time"].clone()), ("b", b["time"].clone()), ("c", Value::Null)];
        let expected = expected.map(|(topic, time)| (topic.to_owned(), time));
        assert_eq!(times, BTreeMap::from(expected));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_is_in_no_list_and_no_snapshot() {
    let (directory, redis) = (tempfile::tempdir().expect("a directory"), Redis::start());
    let servers = [TestServer::open(), TestServer::durable(directory.path(), |_| {}), node(&redis)];
    for server in servers {
        for topic in ["a", "b", "c"] {
            publish(&server, topic, json!(1)).await;
        }
        let cursor = get(&server, "/v1/cursor").await["cursor"].clone();
        for topic in ["b", "c"] {
            let removed = answer(server.delete(&format!("/v1/topics/{topic}"))).await;
            assert!(removed.status().is_success(), "{removed:?}");
        }
        let _listener = WsClient::live(&server, "?topic=c").await;
        assert_eq!(said(&get(&server, "/v1/snapshot").await), said_to_be(&[("a", 1)]));
        // What somebody listens to is there.
        assert_eq!(newest_times(&server).await.into_keys().collect::<Vec<_>>(), ["a", "c"]);
        let path = format!("/v1/events?since={}", text(&cursor));
        assert_eq!(get(&server, &path).await["events"].as_array().map(Vec::len), Some(2));
    }
}

/// The names of all sessions, page by page.
async fn sorted(server: &TestServer, sort: &str, limit: &str) -> Vec<String> {
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let mut query = vec![("sort", sort), ("limit", limit)];
        query.extend(after.as_deref().map(|after| ("after", after)));
        let request = server.get("/v1/sessions").bearer_auth(API_KEY).query(&query);
        let page = ask(request).await;
        let sessions = page["sessions"].as_array().expect("sessions").iter();
        seen.extend(sessions.map(|session| text(&session["session"]).to_owned()));
        match page.get("next") {
            Some(next) => after = Some(text(next).to_owned()),
            None => return seen,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_all_nodes_are_listed_by_when_they_came_and_by_what_waits_for_them() {
    let redis = Redis::start();
    let nodes = [node(&redis), node(&redis)];
    let mut clients = Vec::new();
    for number in 0..5 {
        let topic = if number == 3 { "flood" } else { "quiet" };
        clients.push(WsClient::live(&nodes[number % 2], &format!("?topic={topic}")).await);
        // So that no two have come within the same millisecond.
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    let expected: Vec<_> = clients.iter().map(|client| client.session.clone()).collect();
    // One client takes nothing of what is published: the kernel takes some, the rest waits.
    let large = vec![("flood".to_owned(), json!("x".repeat(50_000))); 4];
    eventually("much waits for one", async || {
        nodes[0].publish_all(&large).await;
        let page = get(&nodes[0], "/v1/sessions?sort=queued_bytes&limit=1").await;
        page["sessions"][0]["queued_bytes"].as_u64() > Some(100_000)
    })
    .await;
    for node in &nodes {
        for limit in ["1", "2", "100"] {
            assert_eq!(sorted(node, "since", limit).await, expected, "{limit}");
            let by_bytes = sorted(node, "queued_bytes", limit).await;
            assert_eq!((by_bytes.len(), &by_bytes[0]), (5, &expected[3]), "{limit}");
        }
    }
    for query in ["sort=node", "sort=", "sort=since&after=x", "sort=queued_bytes&after=x.y"] {
        let request = nodes[0].get(&format!("/v1/sessions?{query}"));
        assert_eq!(problem(request).await, (400, "bad_request".to_owned()), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_all_nodes_are_listed_by_their_users_and_those_of_nobody_last() {
    let redis = Redis::start();
    let nodes = [0, 1].map(|_| room::node(&redis, 0));
    let mut clients = Vec::new();
    for (number, user) in ["c.c", "a", "b=", "a.b"].into_iter().enumerate() {
        clients.push((user, room::client(&nodes[number % 2], user, "?topic=x").await));
    }
    clients.sort_by_key(|(user, _)| *user);
    // An application has no user.
    let key = format!("?topic=x&access_token={API_KEY}");
    let application = WsClient::live(&nodes[0], &key).await;
    let users = clients.iter().map(|(_, client)| client);
    let expected: Vec<_> =
        users.chain([&application]).map(|client| client.session.clone()).collect();
    for node in &nodes {
        for limit in ["1", "2", "100"] {
            assert_eq!(sorted(node, "user", limit).await, expected, "{limit}");
            assert_eq!(sorted(node, "address", limit).await.len(), 5, "{limit}");
        }
    }
}
