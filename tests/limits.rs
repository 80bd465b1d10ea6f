//! How many and how fast: each limit of who connects and of what they send, with its verdict.

mod support;

use std::time::Duration;

use fanfare::config::Config;
use futures_util::StreamExt;
use serde_json::json;
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, TestServer, eventually, problem, token};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

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
    assert_eq!(refused(&server, "?topic=a").await, Some((503, "5".to_owned())));
    assert_eq!(problem(server.get("/v1/sse?topic=a")).await, (503, "unavailable".to_owned()));
    let mut turned_away = SseClient::connect(&server, "?topic=a", &[]).await;
    let bye = turned_away.next().await.expect("a good-bye");
    assert_eq!(bye.event, "fanfare.bye");
    let why = "too many connections of this address are open (limits.connections_per_address)";
    assert_eq!((&bye.json()["code"], &bye.json()["message"]), (&json!("too_many"), &json!(why)));
    // What counts may be a ghost, for up to a minute.
    assert!((5_000..=10_000).contains(&turned_away.retry.expect("a time to come back")));
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
    assert_eq!(refused(&server, &query).await, Some((503, "5".to_owned())));
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

/// Room for what is to stand beside the data of an event (`from`, `version` and the like).
const ENVELOPE: usize = 4 * 1024;

#[tokio::test]
async fn the_largest_event_of_the_defaults_fits_64_kib_with_all_that_stands_around_it() {
    let server = TestServer::open();
    let (topic, kind) = (["t"; 128].join("."), "k".repeat(200));
    let path = format!("/v1/topics/{topic}/events");
    let first = server.publish(&topic, &json!(0)).await;
    let publish = async |media: &str, body: Vec<u8>| {
        let request =
            server.post(&path).header("content-type", media).header("x-event-type", &kind);
        request.body(body).send().await.expect("an answer").status().as_u16()
    };
    let most = Config::default().limits.event_bytes;
    let json = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2)).into_bytes();
    let binary = |bytes: usize| vec![7; (bytes - 2) / 4 * 3];
    assert_eq!(publish("application/json", json(most)).await, 201);
    assert_eq!(publish("application/json", json(most + 1)).await, 413);
    assert_eq!(publish("application/octet-stream", binary(most)).await, 201);
    assert_eq!(publish("application/octet-stream", binary(most + 4)).await, 413);

    let query = format!("?topic={topic}&since={}", first["id"].as_str().expect("an id"));
    let cbor = [("sec-websocket-protocol", "fanfare.v1+cbor")];
    for headers in [&[][..], &cbor] {
        let url = format!("ws://{}/v1/ws{query}", server.addr);
        let mut request = url.into_client_request().expect("a request");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a value"));
        }
        let (mut socket, _) = connect_async(request).await.expect("a connection");
        let mut large = 0;
        while large < 2 {
            let message = socket.next().await.expect("a message").expect("a message");
            assert!(message.len() + ENVELOPE <= 65_536, "{}", message.len());
            // Binary data takes less in CBOR.
            large += usize::from(message.len() > 40_000);
        }
    }
    let mut stream = SseClient::connect(&server, &query, &[]).await;
    for event in stream.events(2).await {
        let line = "data: ".len() + event.data.len();
        assert!(line > most && line + ENVELOPE <= 65_536, "{line}");
    }
}

#[tokio::test]
async fn what_is_kept_and_larger_than_may_be_published_now_is_still_sent() {
    let directory = tempfile::tempdir().expect("a directory");
    let large = json!("x".repeat(60_000));
    let before = TestServer::durable(directory.path(), |config| {
        config.limits.event_bytes = 64 * 1024;
    });
    let first = before.publish("a", &json!(0)).await;
    before.publish("a", &large).await;
    before.stop();
    let server = TestServer::durable(directory.path(), |_| {});
    let refused = server.post("/v1/topics/a/events").json(&large).send().await;
    assert_eq!(refused.expect("an answer").status(), 413);
    let since = first["id"].as_str().expect("an id");
    let mut client = WsClient::connect(&server, &format!("?topic=a&since={since}")).await;
    assert_eq!(client.until("event").await["data"], large);
    let mut stream = SseClient::connect(&server, &format!("?topic=a&since={since}"), &[]).await;
    assert_eq!(stream.events(1).await[0].json()["data"], large);
}

#[tokio::test]
async fn a_client_that_ends_at_the_same_large_event_again_and_again_is_counted() {
    let server = TestServer::open();
    let first = server.publish("a", &json!(0)).await;
    server.publish("a", &json!("x".repeat(40_000))).await;
    let since = first["id"].as_str().expect("an id");
    let stumbles = async || {
        let metrics = server.get("/metrics").send().await.expect("an answer");
        let text = metrics.text().await.expect("text");
        let value = text.lines().find_map(|line| line.strip_prefix("fanfare_stumbles_total "));
        value.expect("the metric").parse::<usize>().expect("a number")
    };
    let gone = async || {
        eventually("it is gone", async || {
            let topic = server.get("/v1/topics/a").send().await.expect("an answer");
            topic.json::<serde_json::Value>().await.expect("JSON")["subscribers"] == 0
        })
        .await;
    };
    // Others are not: who goes on behind it, or meets nothing large.
    let second = server.publish("a", &json!(1)).await;
    for _ in 0..5 {
        let id = second["id"].as_str().expect("an id");
        drop(WsClient::live(&server, &format!("?topic=a&since={id}")).await);
        drop(WsClient::live(&server, "?topic=a&snapshot=true").await);
        gone().await;
    }
    assert_eq!(stumbles().await, 0);
    // Neither is who took it, is still there two heartbeats later, and leaves then.
    let query = format!("?topic=a&since={since}&heartbeat=1");
    for _ in 0..3 {
        let mut client = SseClient::connect(&server, &query, &[]).await;
        let mut beats = 0;
        while beats < 3 {
            beats +=
                usize::from(client.next().await.expect("an event").event == "fanfare.heartbeat");
        }
        drop(client);
        gone().await;
    }
    assert_eq!(stumbles().await, 0);
    for times in 1..=4 {
        let mut client = SseClient::connect(&server, "?topic=a", &[("last-event-id", since)]).await;
        assert_eq!(client.next().await.expect("an event").json()["data"], "x".repeat(40_000));
        drop(client);
        gone().await;
        assert_eq!(stumbles().await, usize::saturating_sub(times, 2), "after {times}");
    }
}
