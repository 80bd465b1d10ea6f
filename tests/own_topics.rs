//! Topics that are a session's own, and names that are nobody's.

mod support;

use fanfare::config::{Config, Sources, load};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::ws::WsClient;
use support::{API_KEY, TestServer, close, expect_status, token};

const RULES: &str = r#"topics=[
    {match = "cursors.*.{session}", subscribe = "anyone", publish = "own"},
    {match = "private.{session}"},
    {match = "tabs.{sub}.{session}", publish = "own"},
    {match = "open.>", subscribe = "anyone", publish = "anyone"},
]"#;

fn server() -> TestServer {
    TestServer::with(|config: &mut Config| {
        close(config);
        let sets = vec!["auth.api_keys=sixteen-bytes-key".to_owned(), RULES.replace('\n', " ")];
        let typed = load(&Sources { sets, ..Sources::default() }).expect("rules");
        let storage = config.rules.default.storage;
        config.rules.listed = typed.rules.listed;
        config.rules.listed.iter_mut().for_each(|rule| rule.storage = storage);
    })
}

async fn publish(client: &mut WsClient, topic: &str) -> Value {
    let answer = client.ask(9, json!({ "op": "publish", "topic": topic, "data": 1 })).await;
    answer.get("code").unwrap_or(&answer["op"]).clone()
}

async fn publish_over_http(server: &TestServer, credential: &str, topic: &str) -> StatusCode {
    let request = server.post(&format!("/v1/topics/{topic}/events")).bearer_auth(credential);
    request.body("1").send().await.expect("an answer").status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_publishes_to_its_own_topics_and_to_no_others() {
    let server = server();
    let grants = ["seats.{session}"];
    let [ada, longer] = [600, 900].map(|seconds| token("ada", &[], &grants, seconds));
    let mut one = WsClient::connect(&server, &format!("?access_token={ada}")).await;
    let mut other = WsClient::connect(&server, "").await;
    // Before it says who it is, it owns nothing; then what its welcome called it.
    let cursor = |client: &WsClient| format!("cursors.room.{}", client.session);
    let (of_one, of_other) = (cursor(&one), cursor(&other));
    assert_eq!(publish(&mut other, &of_other).await, "unauthorized");
    assert_eq!(other.ask(1, json!({ "op": "auth", "token": ada })).await["op"], "ack");
    assert_eq!(publish(&mut other, &of_other).await, "ack");
    let own = |client: &WsClient| {
        let id = &client.session;
        [format!("cursors.a.{id}"), format!("tabs.ada.{id}"), format!("seats.{id}")]
    };
    for renewed in [false, true] {
        if renewed {
            assert_eq!(one.ask(1, json!({ "op": "auth", "token": longer })).await["op"], "ack");
        }
        for topic in own(&one) {
            assert_eq!(publish(&mut one, &topic).await, "ack", "{topic}");
        }
        for topic in own(&other) {
            assert_eq!(publish(&mut one, &topic).await, "forbidden", "{topic}");
        }
        let elsewhere = format!("tabs.bob.{}", one.session);
        for topic in ["cursors.a.{session}", "seats.{session}", &elsewhere] {
            assert_eq!(publish(&mut one, topic).await, "forbidden", "{topic}");
        }
    }
    let own_private = format!("private.{}", one.session);
    let subscribe = |topic: &str| json!({ "op": "subscribe", "topics": [topic] });
    assert_eq!(one.ask(2, subscribe(&own_private)).await["op"], "ack");
    assert_eq!(other.ask(2, subscribe(&own_private)).await["code"], "forbidden");
    // An id is public, and to know it gives no right.
    for topic in own(&one) {
        assert_eq!(publish_over_http(&server, &ada, &topic).await, StatusCode::FORBIDDEN);
    }
    let stream = format!("/v1/sse?topic={own_private}");
    let stream = server.get(&stream).bearer_auth(&ada).send().await.expect("an answer");
    assert_eq!(stream.status(), StatusCode::FORBIDDEN);
    // Who comes back is another session.
    let before = of_one;
    drop(one);
    let mut again = WsClient::connect(&server, &format!("?access_token={ada}")).await;
    assert_eq!(publish(&mut again, &before).await, "forbidden");
    let now = cursor(&again);
    assert_eq!(publish(&mut again, &now).await, "ack");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_that_begin_with_two_carets_are_refused_wherever_they_come_from() {
    let server = server();
    for topic in ["^^a", "open.^^b.c"] {
        let encoded = topic.replace('^', "%5E");
        for (method, path) in [
            ("POST", format!("/v1/topics/{encoded}/events")),
            ("GET", format!("/v1/topics/{encoded}/events")),
            ("GET", format!("/v1/topics/{encoded}")),
            ("GET", format!("/v1/topics?match={encoded}")),
            ("GET", format!("/v1/sse?topic={encoded}")),
        ] {
            let method = method.parse().expect("a method");
            let request = server.http.request(method, server.url(&path)).bearer_auth(API_KEY);
            let answer = request.body("1").send().await.expect("an answer");
            let problem = expect_status(answer, StatusCode::UNPROCESSABLE_ENTITY).await;
            assert!(
                problem["detail"].as_str().is_some_and(|detail| detail.contains("^^")),
                "{path}"
            );
        }
        let batch = json!({ "topic": topic, "data": 1 });
        let batch = server.post("/v1/events").bearer_auth(API_KEY).json(&batch).send().await;
        let problem =
            expect_status(batch.expect("an answer"), StatusCode::UNPROCESSABLE_ENTITY).await;
        assert_eq!(problem["code"], "invalid_topic");
        let mut client = WsClient::connect(&server, "").await;
        assert_eq!(publish(&mut client, topic).await, "invalid_topic");
        let subscribe = json!({ "op": "subscribe", "topics": [topic] });
        assert_eq!(client.ask(2, subscribe).await["code"], "invalid_pattern");
    }
    assert_eq!(publish_over_http(&server, API_KEY, "open.a%5E%5E").await, StatusCode::CREATED);
}
