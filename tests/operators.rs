//! What the console reads beside what everyone does: the tree of topics, the rule of one, who asks, and what a token is
//! worth.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use fanfare::config::{Config, Rule, Who};
use fanfare::model::Pattern;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use support::process::Process;
use support::sse::SseClient;
use support::{API_KEY, TestServer, close, expect_status, problem, token};

async fn json_of(request: RequestBuilder) -> Value {
    expect_status(request.send().await.expect("an answer"), StatusCode::OK).await
}

fn rule(config: &mut Config, pattern: &str, change: impl FnOnce(&mut Rule)) {
    let mut rule = config.rules.default.clone();
    rule.pattern = Pattern::parse(pattern).expect("a pattern");
    change(&mut rule);
    config.rules.listed.push(rule);
}

/// All branches under a topic, read in pages of `limit`.
async fn tree(server: &TestServer, under: &str, limit: usize) -> Vec<Value> {
    let (mut branches, mut after) = (Vec::new(), String::new());
    loop {
        let under = if under.is_empty() { String::new() } else { format!("under={under}&") };
        let path = format!("/v1/topic-tree?{under}limit={limit}{after}");
        let page = json_of(server.get(&path)).await;
        let found = page["branches"].as_array().expect("a list");
        assert!(found.len() <= limit);
        branches.extend(found.iter().cloned());
        let Some(next) = page["next"].as_str() else { return branches };
        after = format!("&after={}", next.replace('&', "%26").replace('#', "%23"));
    }
}

/// The same, by the list of all topics: segment → topics, events, whether it is one itself.
fn expected(
    topics: &BTreeMap<String, usize>,
    under: &str,
) -> BTreeMap<String, (usize, usize, bool)> {
    let prefix = if under.is_empty() { String::new() } else { format!("{under}.") };
    let mut branches: BTreeMap<String, (usize, usize, bool)> = BTreeMap::new();
    for (topic, events) in topics {
        let Some(rest) = topic.strip_prefix(&prefix) else { continue };
        let segment = rest.split('.').next().unwrap_or(rest);
        let branch = branches.entry(segment.to_owned()).or_default();
        *branch = (branch.0 + 1, branch.1 + events, branch.2 || rest == segment);
    }
    branches
}

#[tokio::test]
async fn the_tree_is_that_of_the_topics_whatever_stands_between_a_topic_and_what_is_below_it() {
    let server = TestServer::open();
    // Of these some come between `a` and `a.…` by name: `a!`, `a#`, `a-b`.
    let segments = ["a", "a!", "a#", "a-b", "a/", "ab", "~", "B"];
    let mut topics: BTreeMap<String, usize> = BTreeMap::new();
    let mut seed = 7_usize;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..150 {
        let depth = 1 + next(3);
        let topic: Vec<_> = (0..depth).map(|_| segments[next(segments.len())]).collect();
        *topics.entry(topic.join(".")).or_default() += 1;
    }
    let events: Vec<_> =
        topics.iter().flat_map(|(topic, n)| vec![(topic.clone(), json!(1)); *n]).collect();
    server.publish_all(&events).await;
    for under in ["", "a", "a-b", "a.a", "ab.~", "nothing"] {
        for limit in [1, 3, 1_000] {
            let found = tree(&server, under, limit).await;
            let read: BTreeMap<_, _> = found
                .iter()
                .map(|branch| {
                    let count = |name: &str| branch[name].as_u64().expect("a count") as usize;
                    let is_topic = branch["is_topic"].as_bool().expect("a truth");
                    let segment = branch["segment"].as_str().expect("a text").to_owned();
                    (segment, (count("topics"), count("retained"), is_topic))
                })
                .collect();
            assert_eq!(read, expected(&topics, under), "under {under:?}, {limit} a page");
            assert_eq!(found.len(), read.len(), "each once: under {under:?}, {limit} a page");
        }
    }
    let long = "x".repeat(255);
    let below = json_of(server.get(&format!("/v1/topic-tree?under={long}"))).await;
    assert_eq!(below, json!({"branches": []}), "nothing is below what is as long as may be");
    let found = json_of(server.get("/v1/topic-tree?find=B")).await;
    let names: BTreeSet<_> = found["branches"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|branch| branch["segment"].as_str().expect("a text"))
        .collect();
    let wanted: BTreeSet<_> = topics
        .keys()
        .map(|topic| topic.split('.').next().expect("one"))
        .filter(|segment| segment.to_lowercase().contains('b'))
        .collect();
    assert_eq!(names, wanted);
}

#[tokio::test]
async fn the_tree_has_what_is_listened_to_and_when_the_newest_came_and_not_what_was_removed() {
    let server = TestServer::open();
    server.publish("a.kept", &json!(1)).await;
    let newest = server.publish("a.kept.below", &json!(2)).await;
    server.publish("a.gone", &json!(3)).await;
    expect_status(
        server.delete("/v1/topics/a.gone").send().await.expect("an answer"),
        StatusCode::OK,
    )
    .await;
    let _reader = SseClient::live(&server, "?topic=a.heard").await;
    support::eventually("the topic is listened to", async || {
        json_of(server.get("/v1/topic-tree?under=a")).await["branches"]
            .as_array()
            .expect("a list")
            .len()
            == 2
    })
    .await;
    let page = json_of(server.get("/v1/topic-tree?under=a")).await;
    assert_eq!(
        page["branches"][0],
        json!({"segment": "heard", "topic": "a.heard", "is_topic": true, "topics": 1, "retained": 0})
    );
    let kept = &page["branches"][1];
    assert_eq!(
        (&kept["segment"], &kept["topics"], &kept["latest_time"]),
        (&json!("kept"), &json!(2), &newest["time"])
    );
}

#[tokio::test]
async fn many_topics_are_counted_up_to_a_bound_and_their_page_costs_no_more() {
    let server = TestServer::open();
    for part in 0..3 {
        let many: Vec<_> = (0..5_000).map(|n| (format!("many.{part}{n:04}"), json!(1))).collect();
        server.publish_all(&many).await;
    }
    server.publish("other", &json!(1)).await;
    let page = json_of(server.get("/v1/topic-tree")).await;
    let many = &page["branches"][0];
    assert_eq!((&many["segment"], &many["more"]), (&json!("many"), &json!(true)));
    assert!(many["topics"].as_u64().expect("a count") >= 10_000);
    assert_eq!(page["branches"][1]["segment"], "other");
    assert_eq!(tree(&server, "many", 1_000).await.len(), 15_000);
}

#[tokio::test]
async fn a_caller_sees_of_the_tree_what_it_may_subscribe_to() {
    let server = TestServer::with(close);
    let key = |request: RequestBuilder| request.bearer_auth(API_KEY);
    for topic in ["mine.a", "mine.b", "theirs.a"] {
        let published = key(server.post(&format!("/v1/topics/{topic}/events"))).body("1");
        expect_status(published.send().await.expect("an answer"), StatusCode::CREATED).await;
    }
    let ada = token("ada", &["mine.a"], &[], 60);
    let page = json_of(server.get("/v1/topic-tree").bearer_auth(&ada)).await;
    let branches = page["branches"].as_array().expect("a list");
    assert_eq!((branches.len(), &branches[0]["topics"]), (1, &json!(1)));
    assert_eq!(problem(server.get("/v1/topic-tree?under=theirs").bearer_auth(&ada)).await.0, 403);
    assert_eq!(problem(server.get("/v1/topic-tree")).await.0, 401);
    assert_eq!(
        problem(key(server.get("/v1/topic-tree?under=a.*"))).await,
        (422, "invalid_topic".to_owned())
    );
}

#[tokio::test]
async fn the_rule_of_a_topic_is_told_with_those_that_do_not_match() {
    let server = TestServer::with(|config| {
        close(config);
        rule(config, "public.>", |rule| rule.subscribe = Who::Anyone);
        rule(config, "orders.>", |rule| (rule.max_events, rule.presence) = (7, true));
    });
    let key = |path: &str| server.get(path).bearer_auth(API_KEY);
    let told = json_of(key("/v1/topics/orders.1/rule")).await;
    for (name, value) in [
        ("origin", json!("listed")),
        ("number", json!(2)),
        ("match", json!("orders.>")),
        ("passed", json!(["public.>"])),
        ("subscribe", json!("token")),
        ("max_events", json!(7)),
        ("presence", json!(true)),
    ] {
        assert_eq!(told[name], value, "{name}");
    }
    let other = json_of(key("/v1/topics/elsewhere/rule")).await;
    assert_eq!(
        (&other["origin"], &other["passed"]),
        (&json!("default"), &json!(["public.>", "orders.>"]))
    );
    assert_eq!(json_of(key("/v1/topics/$sys.sessions/rule")).await["origin"], "broker");
    let ada = token("ada", &["orders.>"], &[], 60);
    assert_eq!(problem(server.get("/v1/topics/orders.1/rule").bearer_auth(ada)).await.0, 403);
}

#[tokio::test]
async fn who_asks_is_told_what_that_is_worth() {
    let open = TestServer::open();
    let anyone = json_of(open.get("/v1/caller")).await;
    assert_eq!(
        (&anyone["open"], &anyone["admin"], &anyone["kind"]),
        (&json!(true), &json!(true), &json!("application"))
    );

    let server = TestServer::with(|config| {
        close(config);
        rule(config, "public.>", |rule| rule.subscribe = Who::Anyone);
    });
    let nobody = json_of(server.get("/v1/caller")).await;
    assert_eq!(
        (&nobody["kind"], &nobody["admin"], &nobody["subscribe"]),
        (&json!("anonymous"), &json!(false), &json!(["public.>"]))
    );
    let ada = token("ada", &["orders.>"], &["orders.1"], 60);
    let user = json_of(server.get("/v1/caller?topic=orders.1").bearer_auth(&ada)).await;
    assert_eq!(
        (&user["kind"], &user["user"], &user["open"]),
        (&json!("user"), &json!("ada"), &json!(false))
    );
    assert_eq!(
        user["topic"],
        json!({"topic": "orders.1", "subscribe": true, "publish": true, "forget": false})
    );
    assert!(user["expires"].is_string());
    assert_eq!(problem(server.get("/v1/caller").bearer_auth("no credential")).await.0, 401);
}

#[tokio::test]
async fn a_token_is_explained_to_operators_alone_and_a_bad_one_says_why() {
    let server = TestServer::closed();
    let explain = |token: &str| {
        server.post("/v1/tokens/explain").json(&json!({ "token": token })).bearer_auth(API_KEY)
    };
    let ada = token("ada", &["orders.>"], &[], 60);
    let told = json_of(explain(&ada)).await;
    assert_eq!(
        (&told["valid"], &told["claims"]["sub"], &told["header"]["alg"]),
        (&json!(true), &json!("ada"), &json!("HS256"))
    );
    assert_eq!(
        (&told["caller"]["user"], &told["caller"]["subscribe"]),
        (&json!("ada"), &json!(["orders.>"]))
    );
    let late = json_of(explain(&token("ada", &[], &[], -60))).await;
    assert_eq!((&late["valid"], &late["claims"]["sub"]), (&json!(false), &json!("ada")));
    assert!(late["detail"].as_str().expect("a reason").contains("expired"), "{late}");
    let key = json_of(explain(API_KEY)).await;
    assert_eq!(
        (&key["valid"], &key["caller"]["kind"], &key["claims"]),
        (&json!(true), &json!("application"), &Value::Null)
    );
    assert_eq!(problem(explain(" ")).await, (400, "bad_request".to_owned()));
    let other = server.post("/v1/tokens/explain").json(&json!({ "token": ada })).bearer_auth(&ada);
    assert_eq!(problem(other).await.0, 403);
}

#[tokio::test]
async fn of_a_session_it_is_told_how_it_keeps_up_and_at_which_node_it_is() {
    let server = TestServer::open();
    let _reader = SseClient::live(&server, "?topic=a").await;
    let page = json_of(server.get("/v1/sessions")).await;
    let session = &page["sessions"][0];
    assert_eq!((&session["lag_ms"], &session["skipped"]), (&json!(0), &json!(0)));
    assert!(session["node"].as_str().is_some_and(|node| node.len() == 8), "{session}");
}

#[tokio::test]
async fn the_configuration_is_told_with_where_each_value_comes_from_and_without_secrets() {
    let secret = "5ecretmark-secret-that-signs-every-token";
    let key = "5ecretmark-api-key-of-the-shop";
    let (auth, keys) = (format!("auth.jwt_secret={secret}"), format!("auth.api_keys={key}"));
    let topics = "topics=[{match = \"public.>\", subscribe = \"anyone\"}]";
    let broker = Process::start(&["--set", &auth, "--set", &keys, "--set", topics]);
    let http = reqwest::Client::new();
    let told = json_of(http.get(broker.url("/v1/settings")).bearer_auth(key)).await;
    assert!(!told.to_string().contains("5ecretmark"), "{told}");
    let settings = told["settings"].as_array().expect("a list");
    let of = |name: &str| settings.iter().find(|setting| setting["key"] == name).expect(name);
    assert_eq!(of("auth.jwt_secret")["origin"], "--set auth.jwt_secret");
    let usual = of("limits.replays");
    assert_eq!((&usual["value"], &usual["origin"]), (&json!("8"), &Value::Null));
    assert!(usual["about"].as_str().expect("a text").starts_with("Replays that run"));
    assert_eq!(of("auth.issuer")["value"], Value::Null);
    assert_eq!(of("topics[0].match")["value"], "\"public.>\"");
    assert_eq!(problem(http.get(broker.url("/v1/settings"))).await.0, 401);
}
