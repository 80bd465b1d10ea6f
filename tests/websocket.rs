//! The WebSocket protocol as a client sees it: requests, refusals, heartbeats and closes.

mod support;

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use support::ws::WsClient;
use support::{TestServer, eventually, problem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

#[tokio::test]
async fn every_bad_request_is_refused_with_its_code_and_ref_and_the_connection_stays() {
    let server = TestServer::with(|config| {
        config.limits.subscriptions = 3;
        config.limits.bad_messages = 100;
    });
    let mut client = WsClient::connect(&server, "").await;
    let deep = format!("{}1{}", "[".repeat(99), "]".repeat(99));
    for (text, reference, code) in [
        ("nope", None, "invalid_json"),
        ("[]", None, "invalid_json"),
        (r#"{"ref":1}"#, Some(1), "bad_request"),
        (r#"{"op":"dance","ref":1}"#, Some(1), "bad_request"),
        (r#"{"op":"ping","ref":0}"#, None, "bad_request"),
        (r#"{"op":"ping","ref":1.5}"#, None, "bad_request"),
        (r#"{"op":"ping","ref":9007199254740992}"#, None, "bad_request"),
        (r#"{"op":"ping","ref":1,"x":1}"#, Some(1), "bad_request"),
        (r#"{"op":"subscribe","ref":2}"#, Some(2), "bad_request"),
        (r#"{"op":"subscribe","ref":2,"topics":[]}"#, Some(2), "bad_request"),
        (r#"{"op":"subscribe","ref":2,"topics":["a..b"]}"#, Some(2), "invalid_pattern"),
        (r#"{"op":"subscribe","ref":2,"topics":["a"],"since":"x"}"#, Some(2), "invalid_cursor"),
        (r#"{"op":"subscribe","topics":["a"],"since":"abcdefgh-1-1"}"#, None, "bad_request"),
        (r#"{"op":"subscribe","ref":2,"topics":["a"],"mode":"newest"}"#, Some(2), "bad_request"),
        (r#"{"op":"subscribe","ref":2,"topics":["a","b","c","d"]}"#, Some(2), "too_many"),
        (r#"{"op":"publish","ref":3,"topic":"a"}"#, Some(3), "bad_request"),
        (r#"{"op":"publish","ref":3,"topic":"a.*","data":1}"#, Some(3), "invalid_topic"),
        (r#"{"op":"publish","ref":3,"topic":"$sys.a","data":1}"#, Some(3), "forbidden"),
        (
            r#"{"op":"publish","ref":3,"topic":"a","type":"open","data":1}"#,
            Some(3),
            "invalid_event",
        ),
        (
            &format!(r#"{{"op":"publish","ref":3,"topic":"a","data":{deep}}}"#),
            Some(3),
            "invalid_event",
        ),
        (
            &format!(r#"{{"op":"publish","ref":3,"topic":"a","data":"{}"}}"#, "x".repeat(70_000)),
            Some(3),
            "too_large",
        ),
    ] {
        client.send_text(text).await;
        let error = client.next().await;
        let shown: String = text.chars().take(80).collect();
        assert_eq!(error["op"], "error", "{shown}: {error}");
        assert_eq!(error["code"], code, "{shown}: {error}");
        assert_eq!(error["ref"].as_u64(), reference, "{shown}: {error}");
    }
    assert_eq!(client.ask(9, json!({"op": "ping"})).await["op"], "pong");
}

#[tokio::test]
async fn a_subscription_begins_with_ack_and_live_and_ends_with_unsubscribe() {
    let server = TestServer::open();
    let mut client = WsClient::connect(&server, "?topic=a").await;
    let (ack, live) = (client.next().await, client.next().await);
    assert_eq!((&ack["op"], &ack["ref"]), (&json!("ack"), &json!(0)));
    assert_eq!((&live["op"], &live["ref"]), (&json!("live"), &json!(0)));
    let ack = client.ask(1, json!({"op": "unsubscribe", "topics": ["a", "never"]})).await;
    assert_eq!(ack["op"], "ack");
    server.publish("a", &json!(1)).await;
    assert_eq!(client.ask(2, json!({"op": "subscribe", "topics": ["a"]})).await["op"], "ack");
    client.until("live").await;
    server.publish("a", &json!(2)).await;
    assert_eq!(client.until("event").await["data"], 2);
}

#[tokio::test]
async fn a_binary_message_with_the_same_json_is_read_alike() {
    let server = TestServer::open();
    let mut client = WsClient::connect(&server, "").await;
    client.socket.send(Message::binary(&br#"{"op":"ping","ref":7}"#[..])).await.expect("sent");
    assert_eq!(client.next().await, json!({"op": "pong", "ref": 7}));
}

#[tokio::test]
async fn what_is_wrong_at_connect_is_a_status_before_the_upgrade() {
    let server = TestServer::open();
    for (query, status) in [
        ("?topic=a..b", 422),
        ("?topics=a", 400),
        ("?topic=a&since=x", 400),
        ("?since=abcdefgh-1-1", 400),
        ("?topic=a&snapshot=maybe", 400),
        ("?topic=a&mode=some", 400),
        ("?topic=a&mode=newest", 400),
    ] {
        match WsClient::connect_with(&server, query, &[]).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), status, "{query}"),
            Err(error) => panic!("{query}: {error}"),
            Ok(_) => panic!("{query} was admitted"),
        }
    }
    let unspoken = [("sec-websocket-protocol", "graphql-ws")];
    let refused = WsClient::connect_with(&server, "", &unspoken).await;
    assert!(matches!(refused, Err(Error::Http(response)) if response.status() == 400));
    let plain = problem(server.get("/v1/ws")).await;
    assert_eq!(plain, (426, "upgrade_required".to_owned()));
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_as_a_problem_and_the_connection_ends() {
    let server = TestServer::open();
    let key = "Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (line, headers, status, code) in [
        ("GET /v1/ws", format!("{upgrade}{version}"), 400, "bad_request"),
        ("GET /v1/ws", format!("{upgrade}{version}Sec-WebSocket-Key: x\r\n"), 400, "bad_request"),
        ("GET /v1/ws", format!("{upgrade}{key}"), 400, "bad_request"),
        (
            "GET /v1/ws",
            format!("{upgrade}{key}Sec-WebSocket-Version: 8\r\n"),
            426,
            "upgrade_required",
        ),
        ("POST /v1/ws", format!("{upgrade}{version}{key}"), 426, "upgrade_required"),
        ("GET /v1/ws", format!("Upgrade: websocket\r\n{version}{key}"), 400, "bad_request"),
        ("GET /v1/wss", format!("{upgrade}{version}{key}"), 404, "not_found"),
    ] {
        let answer = raw(&server, &format!("{line} HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).await;
        let lower = answer.to_lowercase();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line} {headers}: {answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{line} {headers}: {answer}");
        for header in ["application/problem+json", "x-content-type-options: nosniff"] {
            assert!(lower.contains(header), "{line} {headers}: {answer}");
        }
        assert_eq!(status == 426, lower.contains("sec-websocket-version: 13"), "{answer}");
    }
}

/// What a server answers until it hangs up.
async fn raw(server: &TestServer, request: &str) -> String {
    let mut stream = TcpStream::connect(server.addr).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer and an end");
    answer
}

#[tokio::test]
async fn pings_are_answered_and_a_clients_close_is_echoed() {
    let server = TestServer::open();
    let mut client = WsClient::connect(&server, "").await;
    client.socket.send(Message::Ping("are you there".into())).await.expect("sent");
    let pong = client.message().await.expect("a pong");
    assert_eq!(pong, Message::Pong("are you there".into()));
    let close = CloseFrame { code: 4000.into(), reason: "done".into() };
    client.socket.send(Message::Close(Some(close))).await.expect("sent");
    let (bye, code) = client.closed().await;
    assert_eq!((bye, code), (None, Some(4000)));
    let ended = client.message().await;
    assert!(matches!(ended, Err(Error::ConnectionClosed | Error::AlreadyClosed)), "{ended:?}");
}

#[tokio::test]
async fn heartbeats_come_with_the_cursor_when_the_log_has_moved() {
    let server = TestServer::with(|config| config.server.heartbeat = Duration::from_secs(1));
    let mut client = WsClient::live(&server, "?topic=a").await;
    let moved = server.publish("elsewhere", &json!(1)).await;
    assert_eq!(client.until("cursor").await["cursor"], moved["id"]);
    loop {
        if let Message::Ping(_) = client.message().await.expect("a message") {
            break;
        }
    }
}

#[tokio::test]
async fn a_client_that_is_silent_for_two_heartbeats_is_closed_with_4408() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = TestServer::with(|config| config.server.heartbeat = Duration::from_secs(1));
    let mut socket = TcpStream::connect(server.addr).await.expect("a connection");
    let request = "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n";
    socket.write_all(request.as_bytes()).await.expect("sent");
    // It never answers a ping, so all it reads until the end is what it was sent.
    let mut bytes = Vec::new();
    let read = socket.read_to_end(&mut bytes);
    tokio::time::timeout(support::PATIENCE, read).await.expect("it ends").expect("in order");
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("\"code\":\"heartbeat_missed\""), "{text}");
    assert!(bytes.windows(2).any(|code| code == 4408_u16.to_be_bytes()));
}

#[tokio::test]
async fn each_reason_to_hang_up_has_its_code_and_good_bye() {
    let server = TestServer::with(|config| config.limits.bad_messages = 3);

    let mut client = WsClient::connect(&server, "").await;
    for _ in 0..3 {
        client.send_text("nope").await;
    }
    let (bye, code) = client.closed().await;
    assert_eq!((&bye.expect("a bye")["code"], code), (&json!("bad_message"), Some(4400)));

    let mut client = WsClient::connect(&server, "").await;
    client.send_text(&"x".repeat(200_000)).await;
    let (bye, code) = client.closed().await;
    assert_eq!((&bye.expect("a bye")["code"], code), (&json!("too_large"), Some(1009)));

    let mut client = WsClient::connect(&server, "?topic=a").await;
    let path = format!("/v1/sessions/{}", client.session);
    assert_eq!(server.delete(&path).send().await.expect("an answer").status(), 204);
    let (bye, code) = client.closed().await;
    let bye = bye.expect("a bye");
    assert_eq!((&bye["code"], code), (&json!("policy"), Some(1008)));
    assert!(bye.get("retry_after_ms").is_none());
    eventually("the session is gone", async || {
        server.delete(&path).send().await.expect("an answer").status() == 404
    })
    .await;
}

#[tokio::test]
async fn who_asks_for_heartbeats_sees_them_as_messages_and_is_pinged_all_the_same() {
    let server = TestServer::open();
    let mut client = WsClient::connect(&server, "?heartbeat=1").await;
    let (mut heartbeats, mut pings) = (0, 0);
    while heartbeats < 2 || pings < 2 {
        match client.message().await.expect("a message") {
            Message::Text(text) => {
                assert_eq!(text.as_str(), r#"{"op":"heartbeat"}"#);
                heartbeats += 1;
            }
            Message::Ping(_) => pings += 1,
            other => panic!("{other:?}"),
        }
    }
    // The broker's own is never longer than it would be.
    for (query, seconds) in [("?heartbeat=7", 7), ("?heartbeat=300", 25), ("", 25)] {
        let url = format!("ws://{}/v1/ws{query}", server.addr);
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a connection");
        let welcome = socket.next().await.expect("a message").expect("a message");
        let welcome: serde_json::Value =
            serde_json::from_str(welcome.to_text().expect("text")).expect("JSON");
        assert_eq!(welcome["heartbeat"], seconds, "{query}");
    }
    let refused = problem(server.get("/v1/sse?topic=a&heartbeat=0")).await;
    assert_eq!(refused, (400, "bad_request".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_closed_with_4409_and_costs_others_nothing() {
    let server = TestServer::with(|config| {
        config.limits.outbox_bytes = 64 * 1024;
        config.limits.close_timeout = Duration::from_millis(200);
    });
    let slow = WsClient::live(&server, "?topic=flood").await;
    let mut healthy = WsClient::live(&server, "?topic=flood").await;
    let data = json!("x".repeat(30_000));
    let closes = async || {
        let metrics = server.get("/metrics").send().await.expect("an answer");
        metrics.text().await.expect("text").contains("closes_total{code=\"slow_consumer\"} 1")
    };
    let mut published = 0;
    while !closes().await {
        server.publish("flood", &data).await;
        assert_eq!(healthy.until("event").await["data"], data);
        published += 1;
        assert!(published < 2_000, "the slow client was never closed");
    }
    let sessions = async || {
        let sessions = server.get("/v1/sessions").send().await.expect("an answer");
        let sessions: serde_json::Value = sessions.json().await.expect("JSON");
        sessions["sessions"].as_array().expect("a list").len() == 1
    };
    eventually("the slow session is gone", sessions).await;
    server.publish("flood", &json!("still here")).await;
    assert_eq!(healthy.until("event").await["data"], "still here");
    drop(slow);
}

#[tokio::test]
async fn over_the_limit_of_connections_one_more_is_turned_away() {
    let server = TestServer::with(|config| config.limits.connections = 1);
    let first = WsClient::connect(&server, "").await;
    match WsClient::connect_with(&server, "", &[]).await {
        Err(Error::Http(response)) => {
            assert_eq!(response.status(), 503);
            assert!(response.headers().contains_key("retry-after"));
        }
        _ => panic!("one more was admitted"),
    }
    let stream = server.get("/v1/sse?topic=a").header("accept", "text/event-stream");
    let stream = stream.send().await.expect("an answer");
    assert_eq!(stream.status(), 200);
    let text = stream.text().await.expect("it ends");
    assert!(text.contains("retry:") && text.contains("event: fanfare.bye"), "{text}");
    assert!(
        text.contains(
            r#""code":"too_many","message":"too many connections are open (limits.connections)""#
        ),
        "{text}"
    );
    let plain = problem(server.get("/v1/sse?topic=a")).await;
    assert_eq!(plain, (503, "unavailable".to_owned()));
    drop(first);
    eventually("there is room again", async || {
        WsClient::connect_with(&server, "", &[]).await.is_ok()
    })
    .await;
}
