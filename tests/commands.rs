//! Commands to sessions, as an operator gives them and clients of Fanfare's own language hear them.

mod support;

use reqwest::StatusCode;
use serde_json::{Value, json};
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, TestServer, expect_status, problem, token};

async fn command(server: &TestServer, command: Value) -> Value {
    let asked = server.post("/v1/commands").bearer_auth(API_KEY).json(&command);
    expect_status(asked.send().await.expect("an answer"), StatusCode::OK).await
}

fn done(done: usize, refused: usize) -> Value {
    json!({ "done": done, "refused": refused })
}

async fn client(server: &TestServer, user: &str, seconds: i64) -> WsClient {
    let token = token(user, &["eu.>"], &[], seconds);
    WsClient::connect(server, &format!("?access_token={token}")).await
}

async fn publish(server: &TestServer, topic: &str, data: &Value) {
    let path = format!("/v1/topics/{topic}/events");
    let answer = server.post(&path).bearer_auth(API_KEY).json(data).send().await;
    expect_status(answer.expect("an answer"), StatusCode::CREATED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_subscribed_and_unsubscribed_as_if_it_had_asked() {
    let server = TestServer::closed();
    publish(&server, "eu.a", &json!(1)).await;
    let (mut ada, mut bob) = (client(&server, "ada", 600).await, client(&server, "bob", 600).await);
    let subscribe = |topic: &str| json!({ "op": "subscribe", "user": "ada", "topics": [topic], "snapshot": true });
    assert_eq!(command(&server, subscribe("eu.*")).await, done(1, 0));
    assert_eq!(ada.next().await, json!({ "op": "subscribed", "topics": ["eu.*"] }));
    let value = ada.next().await;
    assert_eq!((&value["data"], &value["snapshot"]), (&json!(1), &json!(true)));
    let live = ada.next().await;
    assert_eq!((&live["op"], live.get("ref")), (&json!("live"), None));
    publish(&server, "eu.b", &json!(2)).await;
    assert_eq!(ada.next().await["data"], 2);
    assert_eq!(command(&server, subscribe("us.*")).await, done(0, 1), "no right comes by it");
    let unsubscribe = json!({ "op": "unsubscribe", "session": ada.session, "topics": ["eu.*"] });
    assert_eq!(command(&server, unsubscribe).await, done(1, 0));
    assert_eq!(ada.next().await, json!({ "op": "unsubscribed", "topics": ["eu.*"] }));
    publish(&server, "eu.b", &json!(3)).await;
    for client in [&mut ada, &mut bob] {
        client.send(json!({ "op": "ping", "ref": 1 })).await;
        assert_eq!(client.next().await, json!({ "op": "pong", "ref": 1 }), "nothing came before");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_sent_away_or_asked_to_come_back() {
    let server = TestServer::closed();
    let (mut ada, mut bob) = (client(&server, "ada", 600).await, client(&server, "bob", 600).await);
    let token = token("eve", &["eu.>"], &[], 600);
    let mut eve = SseClient::live(&server, &format!("?topic=eu.a&access_token={token}")).await;
    let again = json!({ "op": "disconnect", "user": "ada", "code": "restart" });
    assert_eq!(command(&server, again).await, done(1, 0));
    assert_eq!(ada.closed().await.1, Some(1012));
    assert_eq!(command(&server, json!({ "op": "disconnect", "all": true })).await, done(2, 0));
    assert_eq!(bob.closed().await.1, Some(1008));
    let bye = eve.any().await.expect("a good-bye");
    assert_eq!((bye.event.as_str(), bye.json()["code"].as_str()), ("fanfare.bye", Some("policy")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_gets_the_time_and_the_rights_of_a_new_token_of_its_user_alone() {
    let server = TestServer::closed();
    let mut ada = client(&server, "ada", 3).await;
    let refresh =
        |token: String| json!({ "op": "refresh", "session": ada.session, "token": token });
    let of_bob = refresh(token("bob", &["us.>"], &[], 600));
    assert_eq!(command(&server, of_bob).await, done(1, 0), "it is told, and stays who it is");
    let of_ada = refresh(token("ada", &["us.>"], &[], 600));
    assert_eq!(command(&server, of_ada).await, done(1, 0));
    // Until it may read what its new token grants.
    while {
        ada.send(json!({ "op": "subscribe", "ref": 1, "topics": ["us.a"] })).await;
        let mut said = ada.next().await;
        while said["ref"] != 1 {
            said = ada.next().await;
        }
        said["op"] == "error"
    } {}
    let stale = json!({ "op": "refresh", "session": "x", "token": "none" });
    let asked = server.post("/v1/commands").bearer_auth(API_KEY).json(&stale);
    assert_eq!(problem(asked).await, (401, "unauthorized".to_owned()));
}

#[tokio::test]
async fn commands_are_for_operators_and_say_what_is_wrong() {
    let server = TestServer::closed();
    let ada = token("ada", &[">"], &[">"], 600);
    let end = json!({ "op": "disconnect", "all": true });
    let asked = server.post("/v1/commands").bearer_auth(ada).json(&end);
    assert_eq!(problem(asked).await, (403, "forbidden".to_owned()));
    let asked = server.post("/v1/commands").json(&end);
    assert_eq!(problem(asked).await, (401, "unauthorized".to_owned()));
    for wrong in [json!({ "op": "disconnect" }), json!({ "op": "dance", "all": true }), json!([])] {
        let asked = server.post("/v1/commands").bearer_auth(API_KEY).json(&wrong);
        assert_eq!(problem(asked).await.0, 400, "{wrong}");
    }
    let nobody = json!({ "op": "disconnect", "session": "none" });
    let asked = server.post("/v1/commands").bearer_auth(API_KEY).json(&nobody);
    assert_eq!(problem(asked).await, (404, "not_found".to_owned()));
    assert_eq!(command(&server, json!({ "op": "disconnect", "user": "none" })).await, done(0, 0));
}
