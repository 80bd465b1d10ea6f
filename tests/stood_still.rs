//! A broker that stood still for a while (SIGSTOP, a frozen cgroup, a machine that moves) and goes on:
//! nobody is judged by time in which it did not run.

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use reqwest::StatusCode;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use support::PATIENCE;
use support::process::Process;
use support::raw::Raw;
use support::redis::Redis;
use support::tls::{Issuer, trusting};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Longer than any limit that these brokers are given.
const STILL: Duration = Duration::from_secs(5);

const KEY: &str = "a-key-of-sixteen-characters";

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

fn broker(settings: &[&str]) -> Process {
    let keys = format!("auth.api_keys=[\"{KEY}\"]");
    let mut arguments = vec!["--set", keys.as_str(), "--set", "server.workers=1"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    Process::start(&arguments)
}

/// Lets a broker stand still while something is done to it.
async fn stand_still(broker: &Process, meanwhile: impl Future<Output = ()>) {
    broker.signal("-STOP");
    meanwhile.await;
    sleep(STILL).await;
    broker.signal("-CONT");
}

async fn connect(broker: &Process) -> Socket {
    let (socket, _) =
        connect_async(format!("ws://{}/v1/ws", broker.address)).await.expect("a socket");
    socket
}

async fn say(socket: &mut Socket, said: Value) {
    socket.send(Message::text(said.to_string())).await.expect("it is sent");
}

/// The next frame with one of these ops, or the end.
async fn until(socket: &mut Socket, ops: &[&str]) -> Value {
    loop {
        let message = timeout(PATIENCE, socket.next()).await.expect("a message in time");
        match message.expect("an open socket").expect("a message") {
            Message::Text(text) => {
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                if ops.iter().any(|op| frame["op"] == *op) {
                    return frame;
                }
            }
            Message::Close(close) => panic!("closed: {close:?}"),
            _ => {}
        }
    }
}

fn auth() -> Value {
    json!({"op": "auth", "token": KEY, "ref": 1})
}

#[tokio::test]
async fn who_says_who_it_is_while_the_broker_stands_still_or_soon_after_is_in_time() {
    let broker = broker(&["limits.auth_timeout=1500ms"]);
    let (mut early, mut late, mut never) =
        (connect(&broker).await, connect(&broker).await, connect(&broker).await);
    for socket in [&mut early, &mut late, &mut never] {
        until(socket, &["welcome"]).await;
    }
    stand_still(&broker, say(&mut early, auth())).await;
    sleep(Duration::from_millis(300)).await;
    say(&mut late, auth()).await;
    for socket in [&mut early, &mut late] {
        assert_eq!(until(socket, &["ack", "bye"]).await["op"], "ack");
    }
    let bye = until(&mut never, &["bye"]).await;
    assert_eq!(bye["code"], "unauthorized", "who says nothing is not waited for without end");
}

#[tokio::test]
async fn a_head_that_is_completed_while_the_broker_stands_still_or_soon_after_is_answered() {
    let broker = broker(&["limits.request_timeout=1500ms"]);
    let address = broker.address.parse().expect("an address");
    let (mut early, mut late, mut never) =
        (Raw::connect(address).await, Raw::connect(address).await, Raw::connect(address).await);
    for raw in [&mut early, &mut late, &mut never] {
        raw.send("GET /health/live HTTP/1.1\r\n").await;
    }
    // Its time begins once the broker has read it.
    sleep(Duration::from_millis(500)).await;
    let rest = "Host: a\r\nConnection: close\r\n\r\n";
    stand_still(&broker, early.send(rest)).await;
    sleep(Duration::from_millis(300)).await;
    late.send(rest).await;
    for raw in [&mut early, &mut late] {
        let rest = raw.rest().await;
        assert!(rest.contains("HTTP/1.1 200"), "{rest:?}");
    }
    let rest = never.rest().await;
    assert!(rest.contains("HTTP/1.1 408"), "{rest:?}");
}

#[tokio::test]
async fn who_begins_to_shake_hands_while_the_broker_stands_still_or_soon_after_is_in_time() {
    let issuer = Issuer::new();
    let [chain, key] = [("certificate", issuer.chain()), ("key", issuer.key())]
        .map(|(name, file)| format!("server.tls_{name}={}", file.display()));
    let broker = broker(&[&chain, &key, "limits.handshake_timeout=1500ms"]);
    let certificate = issuer.certificate();
    let trusting = trusting(&certificate.key.cert[0]);
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let mut client = ClientConnection::new(Arc::new(trusting), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("memory has room");
    let connect = async || TcpStream::connect(&broker.address).await.expect("a connection");
    let (mut early, mut late, mut never) = (connect().await, connect().await, connect().await);
    // Their time begins once the broker has let them in.
    sleep(Duration::from_millis(500)).await;
    stand_still(&broker, async { early.write_all(&hello[..1]).await.expect("it is sent") }).await;
    sleep(Duration::from_millis(300)).await;
    // The broker may have hung up by now, which the answer says.
    _ = early.write_all(&hello[1..]).await;
    _ = late.write_all(&hello).await;
    for client in [&mut early, &mut late] {
        let answer = timeout(PATIENCE, client.read_u8()).await.expect("an answer in time");
        assert_eq!(answer.ok(), Some(22), "it shakes hands (RFC 8446, section 5.1)");
    }
    let ended = timeout(PATIENCE, never.read(&mut [0; 1])).await.expect("it is not waited for");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn a_body_that_is_completed_while_the_broker_stands_still_or_soon_after_is_taken() {
    let broker = broker(&["limits.body_timeout=1500ms"]);
    let address = broker.address.parse().expect("an address");
    let path = "/v1/topics/a/events";
    let (mut early, mut late, mut never) = (
        Raw::begin(address, path, KEY, "[1,2]").await,
        Raw::begin(address, path, KEY, "[1,2]").await,
        Raw::begin(address, path, KEY, "[1,2]").await,
    );
    for raw in [&mut early, &mut late, &mut never] {
        raw.send("[1,").await;
    }
    stand_still(&broker, early.send("2]")).await;
    sleep(Duration::from_millis(300)).await;
    late.send("2]").await;
    assert_eq!((early.status().await, late.status().await), (201, 201));
    assert_eq!(never.status().await, 408);
}

#[tokio::test]
async fn who_answers_heartbeats_stays_when_the_broker_goes_on() {
    let broker = broker(&[
        "server.heartbeat=1s",
        "topics=[{match=\"a\", publish=\"anyone\", subscribe=\"anyone\"}]",
    ]);
    let mut socket = connect(&broker).await;
    say(&mut socket, json!({"op": "subscribe", "topics": ["a"], "ref": 1})).await;
    until(&mut socket, &["live"]).await;
    // Its library answers pings while it is read from.
    let reader = tokio::spawn(async move {
        until(&mut socket, &["event"]).await;
    });
    for _ in 0..2 {
        sleep(Duration::from_millis(1_500)).await;
        stand_still(&broker, async {}).await;
    }
    // Three heartbeats more.
    sleep(Duration::from_millis(3_500)).await;
    assert!(!reader.is_finished(), "it was closed");
    let published = reqwest::Client::new().post(broker.url("/v1/topics/a/events")).json(&1).send();
    assert_eq!(published.await.expect("an answer").status(), 201);
    reader.await.expect("the event comes");
}

/// The connections of Redis' clients, by their numbers.
fn connections(redis: &Redis) -> Vec<String> {
    let list: String = redis.run(&["CLIENT", "LIST"]);
    let ours = list.lines().filter(|line| !line.contains("cmd=client"));
    ours.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
}

/// A node that is ready.
async fn node_behind(redis: &Redis) -> Process {
    let settings = redis.settings();
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let broker = broker(&settings);
    ready(&broker).await;
    broker
}

async fn ready(broker: &Process) {
    support::eventually("ready", async || {
        let ready = reqwest::get(broker.url("/health/ready")).await;
        ready.is_ok_and(|response| response.status() == 200)
    })
    .await;
}

/// What becomes of a publish.
fn publish(broker: &Process) -> JoinHandle<StatusCode> {
    let request = reqwest::Client::new().post(broker.url("/v1/topics/a/events"));
    let request = request.bearer_auth(KEY).json(&1).send();
    tokio::spawn(async { request.await.expect("an answer").status() })
}

#[tokio::test]
async fn a_node_that_stood_still_keeps_the_connection_over_which_it_hears() {
    let redis = Redis::start();
    let broker = node_behind(&redis).await;
    let subscribed = || {
        let clients: String = redis.run(&["CLIENT", "LIST", "TYPE", "pubsub"]);
        clients.lines().map(|line| line.split(' ').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    let before = subscribed();
    assert_eq!(before.len(), 1);
    stand_still(&broker, async {}).await;
    sleep(Duration::from_millis(2_500)).await;
    ready(&broker).await;
    assert_eq!(subscribed(), before);
}

#[tokio::test]
async fn what_redis_answers_while_a_node_stands_still_is_answered_in_time() {
    let redis = Redis::start();
    let broker = node_behind(&redis).await;
    let before = connections(&redis);
    let still = redis.stop();
    let published = publish(&broker);
    // It has been asked, and would not wait for much longer.
    sleep(Duration::from_millis(300)).await;
    stand_still(&broker, async { drop(still) }).await;
    assert_eq!(published.await.expect("it does not panic"), 201);
    assert_eq!(connections(&redis), before, "nothing was given up");
}

/// A batch of the most events does that on a busy machine.
#[tokio::test]
async fn a_redis_that_is_busy_for_longer_than_a_publisher_waits_is_not_given_up() {
    let redis = Redis::start();
    let broker = node_behind(&redis).await;
    let before = connections(&redis);
    let still = redis.stop();
    assert_eq!(publish(&broker).await.expect("it does not panic"), 503);
    drop(still);
    support::eventually("it publishes", async || {
        publish(&broker).await.expect("it does not panic") == 201
    })
    .await;
    assert_eq!(connections(&redis), before, "nothing was given up");
}
