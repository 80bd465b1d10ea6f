//! From a publish over REST to subscribers over WebSocket and SSE.

mod support;

use serde_json::{Value, json};
use support::sse::SseClient;
use support::ws::WsClient;
use support::{TestServer, expect};

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
