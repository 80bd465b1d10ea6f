//! Two installations in two databases of one Redis know nothing of each other.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use support::redis::Redis;
use support::room::{ask, client, node};
use support::ws::WsClient;
use support::{API_KEY, PATIENCE, TestServer, eventually, expect_status, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn publish(node: &TestServer, data: u32) -> String {
    let request = node.post("/v1/topics/room.a/events").bearer_auth(API_KEY).json(&data);
    let receipt =
        expect_status(request.send().await.expect("an answer"), StatusCode::CREATED).await;
    receipt["id"].as_str().expect("an id").to_owned()
}

/// A client of `ada` in the room.
async fn ada(node: &TestServer) -> WsClient {
    client(node, "ada", "?topic=room.a").await
}

/// The users of the room, and whether that is an answer of all who should know.
async fn users(node: &TestServer) -> (usize, Option<u64>) {
    let presence = ask(node, "/v1/topics/room.a/presence").await;
    let silent = presence.get("silent_nodes").and_then(Value::as_u64);
    (presence["members"].as_array().expect("members").len(), silent)
}

/// Until each has heard of all others, a node can't know that some are no neighbours.
async fn settled(nodes: &[&TestServer]) {
    eventually("they know whose neighbours they are", async || {
        let mut is_settled = true;
        for node in nodes {
            is_settled &= users(node).await.1.is_none();
        }
        is_settled
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_presence_ends_tickets_and_revocations_of_another_database_are_not_ours() {
    let redis = Redis::start();
    let nodes = [node(&redis, 0), node(&redis, 1), node(&redis, 1)];
    let [first, second, third] = &nodes;
    settled(&[first, second, third]).await;
    let mut theirs = ada(first).await;
    let mut ours = [ada(second).await, ada(third).await];
    for (node, count) in [(first, 1), (second, 2), (third, 2)] {
        assert_eq!(users(node).await, (count, None));
        assert_eq!(ask(node, "/v1/topics/room.a").await["subscribers"], count);
        let sessions = ask(node, "/v1/sessions?user=ada").await;
        assert_eq!(sessions["sessions"].as_array().map(Vec::len), Some(count));
    }

    let ticket = async |node: &TestServer| {
        let request = node.post("/v1/tickets").bearer_auth(token("eve", &["room.a"], &[], 60));
        let made =
            expect_status(request.send().await.expect("an answer"), StatusCode::CREATED).await;
        format!("?topic=room.a&ticket={}", made["ticket"].as_str().expect("a ticket"))
    };
    let (of_first, of_second) = (ticket(first).await, ticket(second).await);
    assert!(WsClient::connect_with(second, &of_first, &[]).await.is_err(), "a stranger's ticket");
    assert!(WsClient::connect_with(first, &of_second, &[]).await.is_err(), "a stranger's ticket");
    // And neither was used up by that.
    drop(WsClient::live(first, &of_first).await);
    drop(WsClient::live(third, &of_second).await);

    let delete = first.delete("/v1/users/ada/sessions").bearer_auth(API_KEY).send().await;
    let ended = expect_status(delete.expect("an answer"), StatusCode::OK).await;
    assert_eq!(ended, json!({ "ended": 1 }));
    assert_eq!(theirs.closed().await.1, Some(1008));
    let revoke = first.post("/v1/revocations").bearer_auth(API_KEY).json(&json!({"user": "ada"}));
    expect_status(revoke.send().await.expect("an answer"), StatusCode::CREATED).await;
    for client in &mut ours {
        client.send(json!({ "op": "ping", "ref": 9 })).await;
        let next = client.next().await;
        assert_eq!(next["op"], "pong", "what was ended is another's: {next}");
    }
    let session = &ours[0].session;
    let delete = first.delete(&format!("/v1/sessions/{session}")).bearer_auth(API_KEY);
    assert_eq!(delete.send().await.expect("an answer").status(), StatusCode::NOT_FOUND);
    assert_eq!(users(second).await, (2, None));
    let delete = third.delete("/v1/users/ada/sessions").bearer_auth(API_KEY).send().await;
    let ended = expect_status(delete.expect("an answer"), StatusCode::OK).await;
    assert_eq!(ended, json!({ "ended": 2 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_another_database_are_not_heard_even_where_the_log_there_is_a_copy() {
    let redis = Redis::start();
    let begun = node(&redis, 0);
    publish(&begun, 1).await;
    begun.stop();
    for key in redis.run::<Vec<String>>(&["KEYS", "*"]) {
        let copied: u8 = redis.run(&["COPY", &key, &key, "DB", "1"]);
        assert_eq!(copied, 1, "{key}");
    }
    let nodes = [node(&redis, 0), node(&redis, 1), node(&redis, 1)];
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(ada(node).await);
    }
    for n in 0..20 {
        publish(&nodes[0], 2 * n).await;
        publish(&nodes[1], 2 * n + 1).await;
    }
    for (client, odd) in clients.iter_mut().zip([0, 1, 1]) {
        for n in 0..20 {
            let frame = client.next().await;
            assert_eq!((&frame["op"], &frame["data"]), (&json!("event"), &json!(2 * n + odd)));
        }
    }
    for (node, expected) in nodes.iter().zip([21, 21, 21]) {
        assert_eq!(ask(node, "/v1/topics/room.a").await["retained"], expected);
    }
}

/// A node of a release that does not say which database is its own: it hears the channel of all, and says that it is
/// there once it is asked to.
struct Earlier {
    /// Read as it comes: the client of tests takes a message for a late answer after each read that timed out.
    hears: TcpStream,
    ends: Arc<AtomicBool>,
    says: Option<JoinHandle<()>>,
}

impl Earlier {
    async fn at(redis: &Redis) -> Self {
        let mut hears = TcpStream::connect(("127.0.0.1", redis.port)).await.expect("a connection");
        let subscribe = redis::cmd("SSUBSCRIBE").arg("{fanfare}:feed").get_packed_command();
        hears.write_all(&subscribe).await.expect("it is sent");
        let mut earlier = Self { hears, ends: Arc::default(), says: None };
        assert!(earlier.hears().await, "it is subscribed");
        earlier
    }

    /// Says that it is there until it ends.
    fn speak(&mut self, redis: &Redis) {
        let (mut speaks, until) = (redis.connect(), self.ends.clone());
        self.says = Some(thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let mut say = redis::cmd("SPUBLISH");
                say.arg("{fanfare}:nodes").arg(&b"+zzzzzzzz\x02"[..]);
                say.query::<i64>(&mut speaks).expect("it is said");
                thread::sleep(Duration::from_millis(200));
            }
        }));
    }

    /// Whether it hears anything.
    async fn hears(&mut self) -> bool {
        let mut heard = [0; 16_384];
        let read = timeout(Duration::from_millis(300), self.hears.read(&mut heard)).await;
        matches!(read, Ok(Ok(1..)))
    }
}

impl Drop for Earlier {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        _ = self.says.take().map(JoinHandle::join);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_an_earlier_release_are_told_what_is_published_as_long_as_one_is_there() {
    let redis = Redis::start();
    let nodes = [node(&redis, 1), node(&redis, 1)];
    let mut client = ada(&nodes[1]).await;
    let mut n = 0;
    let mut heard = async |earlier: &mut Earlier| {
        n += 1;
        publish(&nodes[0], n).await;
        // Its own nodes miss nothing, whichever channel it is.
        assert_eq!(client.until("event").await["data"], n);
        earlier.hears().await
    };
    let mut earlier = Earlier::at(&redis).await;
    assert!(!heard(&mut earlier).await, "nobody knows of it");
    earlier.speak(&redis);
    let is_used = async { while !heard(&mut earlier).await {} };
    timeout(PATIENCE, is_used).await.expect("the channel of all is used");
    for _ in 0..5 {
        assert!(heard(&mut earlier).await, "and goes on to");
    }
    // It ends, and another program listens on.
    earlier.ends.store(true, Ordering::Relaxed);
    let is_left = async { while heard(&mut earlier).await {} };
    timeout(PATIENCE, is_left).await.expect("the channel of all is left");
}
