//! Topics that a token adds to a session, without making it somebody else.

mod support;

use serde_json::{Value, json};
use support::ws::WsClient;
use support::{API_KEY, TestServer, token};

fn subscribe(reference: u64, topics: Value, token: &str) -> Value {
    json!({ "op": "subscribe", "ref": reference, "topics": topics, "token": token })
}

async fn publish(server: &TestServer, topic: &str, data: Value) {
    let path = format!("/v1/topics/{topic}/events");
    let answer = server.post(&path).bearer_auth(API_KEY).json(&data).send().await;
    support::expect_status(answer.expect("an answer"), reqwest::StatusCode::CREATED).await;
}

/// What the broker says of a subscribe with a token, in few words.
async fn said(client: &mut WsClient, reference: u64, topics: Value, token: &str) -> String {
    client.send(subscribe(reference, topics, token)).await;
    loop {
        let said = client.next().await;
        if said["ref"] == reference && said["op"] != "live" {
            return said["code"].as_str().unwrap_or("ack").to_owned();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_added_for_as_long_as_its_token_holds_and_the_session_stays() {
    let server = TestServer::closed();
    let own = token("ada", &["own.>"], &[], 600);
    let mut ada = WsClient::live(&server, &format!("?topic=own.a&access_token={own}")).await;
    assert_eq!(said(&mut ada, 1, json!(["eu.a"]), &token("ada", &["eu.>"], &[], 3)).await, "ack");
    publish(&server, "eu.a", json!(1)).await;
    assert_eq!(ada.until("event").await["data"], 1);
    ada.send(json!({ "op": "subscribe", "ref": 2, "topics": ["eu.b"] })).await;
    assert_eq!(ada.until("error").await["code"], "forbidden", "it adds what was named alone");
    ada.send(json!({ "op": "subscribe", "ref": 3, "topics": ["eu.*"] })).await;
    assert_eq!(ada.until("ack").await["ref"], 3, "some of it");
    publish(&server, "eu.b", json!(2)).await;
    let lost = ada.until("error").await;
    assert!(lost["message"].as_str().expect("a text").contains("eu."), "{lost}");
    assert_eq!((&lost["code"], lost.get("ref")), (&json!("forbidden"), None));
    assert_eq!(ada.until("error").await["code"], "forbidden", "of both patterns");
    publish(&server, "eu.a", json!(3)).await;
    publish(&server, "own.a", json!(4)).await;
    assert_eq!(
        ada.until("event").await["data"],
        4,
        "the session is there, and eu.a is not its any more"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_without_a_credential_stays_nobody() {
    let server = TestServer::closed();
    let mut client = WsClient::connect(&server, "").await;
    let by_ada = token("ada", &["eu.a"], &[], 600);
    let by_bob = token("bob", &["eu.b"], &["eu.b"], 600);
    assert_eq!(said(&mut client, 1, json!(["eu.a"]), &by_ada).await, "ack");
    assert_eq!(said(&mut client, 2, json!(["eu.b"]), &by_bob).await, "ack", "of two users");
    let sessions = server.get("/v1/sessions").bearer_auth(API_KEY).send().await.expect("an answer");
    let sessions: Value = sessions.json().await.expect("JSON");
    assert_eq!(sessions["sessions"][0].get("user"), None, "{sessions}");
    client.send(json!({ "op": "publish", "ref": 3, "topic": "eu.b", "data": 1 })).await;
    assert_eq!(client.until("error").await["ref"], 3, "nothing is added but what it may read");
    let end = json!({ "user": "ada" });
    let revoked = server.post("/v1/revocations").bearer_auth(API_KEY).json(&end).send().await;
    assert_eq!(revoked.expect("an answer").status(), 201);
    let lost = client.until("error").await;
    assert!(lost["message"].as_str().expect("a text").contains("eu.a"), "{lost}");
    publish(&server, "eu.a", json!("gone")).await;
    publish(&server, "eu.b", json!("there")).await;
    assert_eq!(client.until("event").await["data"], "there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_token_does_not_grant_by_name_is_not_added() {
    let server = TestServer::with(|config| {
        support::close(config);
        config.limits.subscriptions = 3;
    });
    let own = token("ada", &["own.>"], &[], 600);
    let mut ada = WsClient::connect(&server, &format!("?access_token={own}")).await;
    let eu = token("ada", &["eu.>"], &[], 600);
    for (topics, token, code) in [
        (json!(["eu.*"]), eu.clone(), "bad_request"),
        (json!(["eu.a", "us.a"]), eu.clone(), "forbidden"),
        (json!(["eu.a"]), token("bob", &["eu.>"], &[], 600), "forbidden"),
        (json!(["eu.a"]), token("ada", &["eu.>"], &[], -5), "unauthorized"),
        (json!(["eu.a"]), "none".to_owned(), "unauthorized"),
        (json!(["eu.a"]), API_KEY.to_owned(), "bad_request"),
    ] {
        assert_eq!(said(&mut ada, 1, topics.clone(), &token).await, code, "{topics}");
    }
    assert_eq!(said(&mut ada, 2, json!(["eu.a", "eu.b"]), &eu).await, "ack");
    // Again in the place of what was, and not beside it.
    assert_eq!(said(&mut ada, 3, json!(["eu.a", "eu.b"]), &eu).await, "ack");
    assert_eq!(said(&mut ada, 4, json!(["eu.c", "eu.d"]), &eu).await, "too_many");
    // What is refused adds nothing.
    ada.send(json!({ "op": "unsubscribe", "ref": 5, "topics": ["eu.a", "eu.b"] })).await;
    ada.send(json!({ "op": "subscribe", "ref": 6, "topics": ["own.a", "own.b", "own.c"] })).await;
    ada.until("live").await;
    assert_eq!(said(&mut ada, 7, json!(["eu.e"]), &eu).await, "too_many");
    ada.send(json!({ "op": "unsubscribe", "ref": 8, "topics": ["own.a"] })).await;
    ada.send(json!({ "op": "subscribe", "ref": 9, "topics": ["eu.e"] })).await;
    assert_eq!(ada.until("error").await["code"], "forbidden");
    let body = json!({ "topics": ["eu.a"], "token": eu });
    let stream = server.post("/v1/sse").bearer_auth(API_KEY).json(&body);
    assert_eq!(support::problem(stream).await, (400, "bad_request".to_owned()), "streams have one");
}
