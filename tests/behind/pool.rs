//! Pools of connections that stay for a minute and are used again and again, as backends have them: each
//! request on a connection that was idle is answered.

use std::time::Duration;

use tokio::time::sleep;

use crate::broker::Broker;
use crate::gateway::is_installed;
use crate::nginx;
use crate::support::API_KEY;
use crate::support::raw::Raw;

const CONNECTIONS: u64 = 60;
const BURSTS: u64 = 10;
const REQUESTS_A_BURST: u64 = 5;

/// 3,000 publishes by a pool of connections, over about a minute. Between bursts a connection is idle for 5 to 7.7 s:
/// around the time after which many a server ends it.
async fn pool(address: String, name: &'static str) {
    let connection = |number: u64| {
        let address = address.parse().expect("an address");
        tokio::spawn(async move {
            let mut raw = Raw::connect(address).await;
            raw.0.set_nodelay(true).expect("it is set");
            for burst in 0..BURSTS {
                for _ in 0..REQUESTS_A_BURST {
                    post(&mut raw, name).await;
                }
                sleep(Duration::from_millis(4_900 + (number * 7 + burst * 13) % 29 * 100)).await;
            }
            // One that was idle for as long as a pool keeps any.
            post(&mut raw, name).await;
        })
    };
    let connections: Vec<_> = (0..CONNECTIONS).map(connection).collect();
    for connection in connections {
        connection.await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

async fn post(raw: &mut Raw, name: &str) {
    raw.send(&format!(
        "POST /v1/topics/pool.{name}/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {API_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: 1\r\n\r\n1"
    ))
    .await;
    let head = raw.head().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 201"), "{head}");
    assert!(!head.contains("connection: close"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    raw.skip(length.expect("a length").parse().expect("a number")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_that_use_a_connection_for_a_minute_lose_no_request() {
    let broker = Broker::start();
    let direct = tokio::spawn(pool(format!("127.0.0.1:{}", broker.port), "direct"));
    if is_installed("nginx") {
        let (by_the_page, as_copied) =
            (nginx::by_the_page(broker.port), nginx::as_copied(broker.port));
        let page = tokio::spawn(pool(by_the_page.address.clone(), "page"));
        let copied = tokio::spawn(pool(as_copied.address.clone(), "copied"));
        page.await.expect("not one error through nginx");
        copied.await.expect("not one error through nginx as copied");
    }
    direct.await.expect("not one error without a proxy");
}
