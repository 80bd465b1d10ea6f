//! From a publish to every subscriber: in order, whole, and once.

mod support;

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::TestServer;
use support::sse::SseClient;
use support::ws::WsClient;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn an_event_published_over_rest_arrives_over_websocket_and_sse() {
    let server = TestServer::open();
    let mut ws = WsClient::live(&server, "?topic=orders.*").await;
    let mut sse = SseClient::live(&server, "?topic=orders.%3E").await;
    let receipt = server.publish("orders.eu", &json!({"n": 1.10})).await;

    let event = ws.until("event").await;
    assert_eq!(event["id"], receipt["id"]);
    assert_eq!(event["topic"], "orders.eu");
    assert_eq!(event["time"], receipt["time"]);
    assert_eq!(event["data"], json!({"n": 1.10}));
    assert!(event.get("type").is_none());

    let event = sse.next().await.expect("an event");
    assert_eq!(event.event, "message");
    assert_eq!(event.id, receipt["id"]);
    assert_eq!(event.json()["topic"], "orders.eu");
    assert!(event.json().get("op").is_none());
}

/// What a subscriber of `topic` must get of what was published, in order.
fn expected(topic: usize, published: &[(String, Value)], ids: &[String]) -> Vec<(String, Value)> {
    let wanted = |name: &str| topic == 0 || name == format!("load.{topic}");
    let events = published.iter().zip(ids).filter(|((name, _), _)| wanted(name));
    events.map(|((_, data), id)| (id.clone(), data.clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_subscribers_of_fifty_topics_get_all_of_theirs_in_order() {
    const TOPICS: usize = 50;
    let server = Arc::new(TestServer::open());
    // Subscriber n takes topic n % 51, where 0 stands for all of them.
    let query = |n: usize| match n % (TOPICS + 1) {
        0 => "?topic=load.*".to_owned(),
        topic => format!("?topic=load.{topic}"),
    };
    let mut sockets = Vec::new();
    for n in 0..900 {
        sockets.push((n % (TOPICS + 1), WsClient::live(&server, &query(n)).await));
    }
    let mut streams = Vec::new();
    for n in 0..100 {
        streams.push((n % (TOPICS + 1), SseClient::live(&server, &query(n)).await));
    }

    let published: Vec<_> =
        (0..500).map(|n| (format!("load.{}", n * 7 % TOPICS + 1), json!(n))).collect();
    let mut ids = Vec::new();
    for batch in published.chunks(25) {
        ids.extend(server.publish_all(batch).await);
    }

    join_all(sockets.into_iter().map(async |(topic, mut client)| {
        let expected = expected(topic, &published, &ids);
        let events = client.events(expected.len()).await;
        let got: Vec<_> = events
            .iter()
            .map(|event| (event["id"].as_str().expect("an id").to_owned(), event["data"].clone()))
            .collect();
        assert_eq!(got, expected);
    }))
    .await;
    join_all(streams.into_iter().map(async |(topic, mut client)| {
        let expected = expected(topic, &published, &ids);
        let events = client.events(expected.len()).await;
        let got: Vec<_> =
            events.iter().map(|event| (event.id.clone(), event.json()["data"].clone())).collect();
        assert_eq!(got, expected);
    }))
    .await;
}

#[tokio::test]
async fn a_topic_matched_by_several_patterns_comes_once() {
    let server = TestServer::open();
    let mut client = WsClient::live(&server, "?topic=a.b&topic=a.*&topic=%3E").await;
    assert_eq!(client.ask(1, json!({"op": "subscribe", "topics": ["*.b"]})).await["op"], "ack");
    client.until("live").await;
    server.publish("a.b", &json!(1)).await;
    server.publish("a.b", &json!(2)).await;
    let data: Vec<_> = client.events(2).await.iter().map(|event| event["data"].clone()).collect();
    assert_eq!(data, [1, 2]);
}

#[tokio::test]
async fn both_wire_forms_show_the_same_event() {
    let server = TestServer::open();
    let protocol = [("sec-websocket-protocol", "fanfare.v1+cbor")];
    let url = format!("ws://{}/v1/ws?topic=a", server.addr);
    let mut request =
        tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(url)
            .expect("a request");
    for (name, value) in protocol {
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    let (mut cbor, response) =
        tokio_tungstenite::connect_async(request).await.expect("a connection");
    assert_eq!(response.headers()["sec-websocket-protocol"], "fanfare.v1+cbor");
    let mut next = async || loop {
        use futures_util::StreamExt;
        let message = cbor.next().await.expect("a message").expect("no error");
        if let Message::Binary(bytes) = message {
            break ciborium::from_reader::<Value, _>(&bytes[..]).expect("CBOR");
        }
    };
    assert_eq!(next().await["op"], "welcome");
    let mut text = WsClient::live(&server, "?topic=a").await;
    while next().await["op"] != "live" {}
    server.publish("a", &json!({"x": [1, 2.5, "ä", null]})).await;
    assert_eq!(next().await, text.until("event").await);
}

#[tokio::test]
async fn two_clients_chat_in_both_directions_at_the_same_time() {
    const MESSAGES: usize = 200;
    let server = TestServer::open();
    let ada = WsClient::live(&server, "?topic=chat.ada").await;
    let bob = WsClient::live(&server, "?topic=chat.bob").await;
    let talk = async |mut client: WsClient, to: &str| {
        for n in 0..MESSAGES {
            let topic = format!("chat.{to}");
            client
                .send(json!({"op": "publish", "topic": topic, "type": "message", "data": n}))
                .await;
        }
        let (mut acks, mut heard) = (0, Vec::new());
        while acks < MESSAGES || heard.len() < MESSAGES {
            let frame = client.next().await;
            match frame["op"].as_str() {
                Some("ack") => acks += 1,
                Some("event") => heard.push(frame["data"].as_u64().expect("a number") as usize),
                _ => panic!("unexpected: {frame}"),
            }
        }
        assert_eq!(heard, Vec::from_iter(0..MESSAGES));
    };
    tokio::join!(talk(ada, "bob"), talk(bob, "ada"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subscriber_sees_racing_publishers_in_one_order() {
    let server = TestServer::open();
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(WsClient::live(&server, "?topic=race.*").await);
    }
    let publish = async |name: &str| {
        for n in 0..100 {
            server.publish(&format!("race.{name}"), &json!(n)).await;
        }
    };
    tokio::join!(publish("a"), publish("b"), publish("c"));
    let seen = join_all(clients.iter_mut().map(async |client| {
        let events = client.events(300).await;
        events.iter().map(|event| event["id"].clone()).collect::<Vec<_>>()
    }))
    .await;
    assert!(seen.iter().all(|ids| *ids == seen[0]));
}

#[tokio::test]
async fn ephemeral_topics_are_delivered_without_an_id_and_not_kept() {
    let server = TestServer::with(|config| {
        let mut rule = config.rules.default.clone();
        rule.pattern = fanfare::model::Pattern::parse("now.>").expect("a pattern");
        rule.storage = fanfare::config::Storage::None;
        config.rules.listed.push(rule);
    });
    let mut client = WsClient::live(&server, "?topic=now.x").await;
    let receipt = server.publish("now.x", &json!(1)).await;
    assert!(receipt.get("id").is_none());
    let event = client.until("event").await;
    assert_eq!(event["data"], 1);
    assert!(event.get("id").is_none());
    let topic: Value =
        server.get("/v1/topics/now.x").send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(topic["retained"], 0);
}
