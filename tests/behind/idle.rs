//! Clients to whom nothing happens for longer than proxies wait: `FANFARE_IDLE_SECONDS=600` tries ten minutes.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Client;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::broker::Broker;
use crate::gateway::{Gateway, is_installed};
use crate::support::ws::WsClient;
use crate::support::{API_KEY, PATIENCE, expect_status};
use crate::{caddy, haproxy, nginx, traefik};

type Start = fn(u16) -> Gateway;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_idle_for_long_still_gets_the_next_event() {
    let seconds = std::env::var("FANFARE_IDLE_SECONDS").ok();
    let Some(seconds) = seconds.and_then(|seconds| seconds.parse().ok()) else {
        eprintln!("not tried: FANFARE_IDLE_SECONDS says for how long");
        return;
    };
    let broker = Broker::start();
    let proxies: [(&str, Start); 5] = [
        ("nginx", nginx::by_the_page),
        ("nginx", nginx::as_copied),
        ("haproxy", haproxy::start),
        ("caddy", caddy::start),
        ("traefik", traefik::start),
    ];
    let installed = proxies.iter().filter(|(program, _)| is_installed(program));
    let started: Vec<_> = installed.map(|(name, start)| (*name, start(broker.port))).collect();
    let mut waiting = Vec::new();
    for (name, proxy) in &started {
        waiting.push((name, tokio::spawn(on_socket(proxy.address.clone()))));
        waiting.push((name, tokio::spawn(on_stream(proxy.url("/v1/sse?topic=open.idle")))));
    }
    sleep(Duration::from_secs(seconds)).await;
    let request =
        Client::new().post(format!("http://127.0.0.1:{}/v1/topics/open.idle/events", broker.port));
    let request = request.bearer_auth(API_KEY).json(&"at last");
    expect_status(request.send().await.expect("an answer"), reqwest::StatusCode::CREATED).await;
    for (name, client) in waiting {
        let came = timeout(PATIENCE, client).await;
        came.unwrap_or_else(|_| panic!("{name}: nothing comes"))
            .expect("it was connected all the time");
    }
}

/// Waits for an event on one connection, however long that takes.
async fn on_socket(address: String) {
    let mut client = WsClient::live_at(&address, "?topic=open.idle").await;
    loop {
        let message = client.socket.next().await.expect("it is connected").expect("a message");
        if let Message::Text(text) = message {
            let frame: Value = serde_json::from_str(&text).expect("JSON");
            match frame["op"].as_str() {
                Some("event") => return assert_eq!(frame["data"], "at last"),
                Some("cursor") => {}
                _ => panic!("{frame}"),
            }
        }
    }
}

async fn on_stream(url: String) {
    let mut answer = Client::new().get(url).send().await.expect("an answer");
    let mut text = String::new();
    while !text.contains("\"at last\"") {
        let chunk = answer.chunk().await.expect("it is connected").expect("it goes on");
        text += str::from_utf8(&chunk).expect("text");
    }
}
