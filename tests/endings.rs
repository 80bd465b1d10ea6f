//! Many values that end at one moment: all of them do, and live events are delivered meanwhile.
//!
//! `FANFARE_ENDINGS=100000` is the long form, which says how long it took and how late live events were:
//! `cargo test --test endings -- --nocapture --test-threads 1`.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fanfare::config::{Redis as RedisConfig, Storage};
use futures_util::StreamExt;
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::redis::Redis;
use support::ws::WsClient;
use support::{TestServer, expect_status};
use tokio_tungstenite::tungstenite::Message;

/// How many values end.
const VALUES: usize = 2_000;

/// How many are published together.
const BATCH: usize = 1_000;

/// How often a live event is published meanwhile.
const PACE: Duration = Duration::from_millis(20);

fn values() -> usize {
    let text = std::env::var("FANFARE_ENDINGS").ok();
    text.map_or(VALUES, |text| text.parse().expect("FANFARE_ENDINGS is a number"))
}

/// Publishes values that all end at one moment, which is to come.
async fn publish(server: &TestServer, count: usize, end: Instant) {
    for first in (0..count).step_by(BATCH) {
        let left = end.saturating_duration_since(Instant::now()).as_millis() as u64;
        assert!(left > 0, "they are not published before they end");
        let event = |n| json!({"topic": format!("v.{n}"), "data": n, "ttl_ms": left});
        let events: Vec<_> = (first..count.min(first + BATCH)).map(event).collect();
        let request = server.post("/v1/events").json(&json!({ "events": events }));
        expect_status(request.send().await.expect("an answer"), StatusCode::CREATED).await;
    }
}

/// How late live events were, the latest of those that were published until the values had ended.
async fn watch(server: Arc<TestServer>, begun: Instant, has_ended: Arc<AtomicBool>) -> Duration {
    let mut client = WsClient::live(&server, "?topic=live").await;
    let publishing = async {
        while !has_ended.load(Ordering::SeqCst) {
            server.publish("live", &json!(begun.elapsed().as_micros() as u64)).await;
            tokio::time::sleep(PACE).await;
        }
        server.publish("live", &Value::Null).await;
    };
    let hearing = async {
        let mut latest = Duration::ZERO;
        while let Some(at) = client.until("event").await["data"].as_u64() {
            latest = latest.max(begun.elapsed() - Duration::from_micros(at));
        }
        latest
    };
    tokio::join!(publishing, hearing).1
}

async fn end_at_once(what: &str, server: TestServer) {
    let (server, count) = (Arc::new(server), values());
    // Whoever is slow gets the newest of each topic, which is the tombstone.
    let mut screen = WsClient::live(&server, "?topic=v.*&mode=latest").await;
    let seeing = tokio::spawn(async move {
        let mut ended = 0;
        while ended < count {
            // Nothing comes until they end, however long that is.
            let message = screen.socket.next().await.expect("it stays").expect("a message");
            let Message::Text(text) = message else { continue };
            let event: Value = serde_json::from_str(&text).expect("JSON");
            assert_ne!(event["op"], "bye", "{event}");
            if event["removed"] == true {
                assert_eq!(event["reason"], "expired");
                ended += 1;
            }
        }
    });
    let end = Instant::now() + Duration::from_secs(3) + Duration::from_micros(600 * count as u64);
    publish(&server, count, end).await;
    let early = end.saturating_duration_since(Instant::now());
    tokio::time::sleep(early.saturating_sub(Duration::from_secs(1))).await;
    let has_ended = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(watch(server.clone(), Instant::now(), has_ended.clone()));
    seeing.await.expect("all of them end");
    let took = end.elapsed();
    has_ended.store(true, Ordering::SeqCst);
    let latest = watching.await.expect("live events came");
    println!(
        "{what}: {count} values ended within {took:?}; a live event was {latest:?} late at most"
    );
    let page: Value = expect_status(
        server.get("/v1/snapshot?match=v.*").send().await.expect("an answer"),
        StatusCode::OK,
    )
    .await;
    assert_eq!(page["events"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_values_end_at_once_in_memory_while_live_events_are_delivered() {
    end_at_once("memory", TestServer::open()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_values_end_at_once_on_disk_while_live_events_are_delivered() {
    let directory = tempfile::tempdir().expect("a directory");
    end_at_once("disk", TestServer::durable(directory.path(), |_| {})).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_values_end_at_once_behind_redis_while_live_events_are_delivered() {
    let redis = Redis::start();
    let node = TestServer::with(|config| {
        config.rules.default.storage = Storage::Redis;
        config.redis = Some(RedisConfig::at(&redis.url()));
    });
    end_at_once("redis", node).await;
}
