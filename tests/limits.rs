//! How many and how fast: each limit of who connects and of what they send, with its verdict.

mod support;

use std::time::Duration;

use fanfare::config::Config;
use serde_json::json;
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, TestServer, eventually, problem, token};
use tokio_tungstenite::tungstenite::Error;

/// The status and `Retry-After` with which a WebSocket is refused; nothing where it is not.
async fn refused(server: &TestServer, query: &str) -> Option<(u16, String)> {
    match WsClient::connect_with(server, query, &[]).await {
        Ok(_) => None,
        Err(Error::Http(response)) => {
            let after = response.headers().get("retry-after").expect("a time to come back");
            Some((response.status().as_u16(), after.to_str().expect("text").to_owned()))
        }
        Err(error) => panic!("{error}"),
    }
}

fn closed(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::with(|config| {
        support::close(config);
        change(config);
    })
}

#[tokio::test]
async fn an_address_may_open_so_many_connections_and_an_event_source_is_told_to_come_back() {
    let server = TestServer::with(|config| config.limits.connections_per_address = 2);
    let first = WsClient::live(&server, "?topic=a").await;
    let _second = SseClient::live(&server, "?topic=a").await;
    assert_eq!(refused(&server, "?topic=a").await, Some((503, "1".to_owned())));
    assert_eq!(problem(server.get("/v1/sse?topic=a")).await, (503, "unavailable".to_owned()));
    let mut turned_away = SseClient::connect(&server, "?topic=a", &[]).await;
    let bye = turned_away.next().await.expect("a good-bye");
    assert_eq!(bye.event, "fanfare.bye");
    assert!(turned_away.retry.is_some());
    drop(first);
    eventually("there is room again", || async { refused(&server, "?topic=a").await.is_none() })
        .await;
}

#[tokio::test]
async fn a_user_may_open_so_many_connections_however_they_say_who_they_are() {
    let server = closed(|config| config.limits.connections_per_user = 1);
    let (ada, bob) = (token("ada", &["a"], &[], 60), token("bob", &["a"], &[], 60));
    let first = WsClient::live(&server, &format!("?topic=a&access_token={ada}")).await;
    let query = format!("?topic=a&access_token={ada}");
    assert_eq!(refused(&server, &query).await, Some((503, "1".to_owned())));
    let mut other = WsClient::connect(&server, "").await;
    let late = other.ask(1, json!({"op": "auth", "token": ada})).await;
    assert_eq!(late["code"], "unavailable");
    assert_eq!(other.ask(2, json!({"op": "auth", "token": bob})).await["op"], "ack");
    drop(first);
    eventually("there is room again", || async { refused(&server, &query).await.is_none() }).await;
}

#[tokio::test]
async fn connections_may_come_only_so_fast() {
    let server = TestServer::with(|config| config.limits.connects_per_second = 3);
    let mut verdicts = Vec::new();
    for _ in 0..8 {
        verdicts.push(refused(&server, "").await);
    }
    assert!(verdicts.iter().filter(|verdict| verdict.is_none()).count() >= 3);
    assert!(verdicts.contains(&Some((503, "1".to_owned()))), "{verdicts:?}");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(refused(&server, "").await, None);
}

#[tokio::test]
async fn who_sends_too_many_messages_or_bytes_is_closed() {
    let server = TestServer::with(|config| {
        config.limits.messages_per_second = 20;
        config.limits.bytes_per_second = 4_096;
    });
    let mut patient = WsClient::connect(&server, "").await;
    for number in 1..=15 {
        assert_eq!(patient.ask(number, json!({"op": "ping"})).await["op"], "pong");
    }
    let padding = "x".repeat(1_000);
    for frame in [json!({"op": "ping"}), json!({"op": "publish", "topic": "a", "data": padding})] {
        let mut hasty = WsClient::connect(&server, "").await;
        for _ in 0..40 {
            // It may be closed before all of them are sent.
            if hasty.try_send(&frame).await.is_err() {
                break;
            }
        }
        let (bye, code) = hasty.closed().await;
        assert_eq!((&bye.expect("a bye")["code"], code), (&json!("too_many"), Some(4429)));
    }
    assert_eq!(patient.ask(99, json!({"op": "ping"})).await["op"], "pong");
}

#[tokio::test]
async fn a_credential_may_publish_so_many_events_a_second_and_no_other_pays_for_it() {
    let server = closed(|config| config.auth.publishes_per_second = 10);
    let publish =
        |credential: &str| server.post("/v1/topics/a/events").bearer_auth(credential).json(&1);
    let mut statuses = Vec::new();
    for _ in 0..15 {
        let answer = publish(API_KEY).send().await.expect("an answer");
        if answer.status() == 429 {
            assert_eq!(answer.headers()["retry-after"], "1");
        }
        statuses.push(answer.status().as_u16());
    }
    assert!(statuses.iter().filter(|status| **status == 201).count() >= 10, "{statuses:?}");
    assert_eq!(problem(publish(API_KEY)).await, (429, "too_many".to_owned()));
    let batch = json!({"events": [{"topic": "a", "data": 1}]});
    let batch = server.post("/v1/events").bearer_auth(API_KEY).json(&batch);
    assert_eq!(problem(batch).await, (429, "too_many".to_owned()));
    let ada = token("ada", &[], &["a"], 60);
    assert_eq!(publish(&ada).send().await.expect("an answer").status(), 201);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(publish(API_KEY).send().await.expect("an answer").status(), 201);
}
