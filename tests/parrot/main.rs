//! A foreign language on the real broker: all that makes it foreign, over the seam that languages have. No line of broker,
//! session or server is there for it.

mod client;
mod language;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use fanfare::config::{Config, Jwks, Jwt};
use futures_util::StreamExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::client::{ParrotClient, say_back};
use crate::language::{PAGE, WITH_PARROT};
use crate::support::redis::Redis;
use crate::support::{API_KEY, PATIENCE, TestServer, close, numbered, room, token};

fn open() -> TestServer {
    with(|_| {})
}

fn with(change: impl FnOnce(&mut Config)) -> TestServer {
    TestServer::speaking(WITH_PARROT, change)
}

fn says(messages: &[Value]) -> Vec<&Value> {
    messages.iter().map(|message| &message["says"]).collect()
}

/// Follows topics; the answer to it.
async fn follow(client: &mut ParrotClient, command: Value) -> Value {
    client.send(&[command]).await;
    client.until("follow").await
}

#[tokio::test]
async fn nothing_is_said_before_a_hello_and_then_it_is_live() {
    let server = open();
    let mut client = ParrotClient::connect(&server, "reds", "?colour=any").await;
    client.send(&[json!({ "n": 1, "follow": ["a"] })]).await;
    let first = client.next().await.expect("an answer");
    assert_eq!((&first["n"], &first["no"]), (&json!(1), &json!("say hello first")));
    client.send(&[json!({ "n": 2, "hello": {} }), json!({ "n": 3, "follow": ["a", "b"] })]).await;
    let hello = client.next().await.expect("a greeting");
    assert_eq!((&hello["n"], &hello["hello"]["flock"]), (&json!(2), &json!("reds")));
    assert_eq!(client.next().await.expect("its flock"), json!({ "follows": "flock.reds" }));
    let followed = client.until("follow").await;
    assert_eq!((&followed["n"], &followed["heard"]), (&json!(3), &json!([])));
    assert!(followed["live"].is_string(), "{followed}");
    server.publish("flock.reds", &json!("to all")).await;
    let heard = client.until("bird").await;
    assert_eq!((&heard["bird"], &heard["says"]), (&json!("flock.reds"), &json!("to all")));
    client.send(&[json!({ "n": 4, "squawk": { "topic": "a", "data": 1 } })]).await;
    let (done, heard) = (client.until("done").await, client.until("bird").await);
    assert_eq!((&done["n"], &done["id"]), (&json!(4), &heard["id"]));
    client.send(&[json!({ "n": 5, "unfollow": ["a"] })]).await;
    assert_eq!(client.until("done").await["n"], 5);
}

#[tokio::test]
async fn a_recovery_holds_at_most_one_page_and_the_rest_is_behind_it() {
    for (from, missed) in [(PAGE + 1, 3), (4, PAGE), (0, PAGE + 4)] {
        let server = open();
        let ids = server.publish_all(&numbered("a", 0..PAGE + 5)).await;
        let mut client = ParrotClient::greeted(&server, "reds", "").await;
        let page = follow(&mut client, json!({ "n": 2, "follow": ["a"], "from": ids[from] })).await;
        let mut heard = page["heard"].as_array().expect("what it missed").clone();
        assert_eq!(heard.len(), missed.min(PAGE), "from {from}");
        // A whole page may have more behind it.
        assert_eq!(page["live"].is_string(), heard.len() < PAGE);
        while page["live"].is_null() {
            let message = client.next().await.expect("more");
            if message["live"].is_string() {
                assert_eq!(message["n"], 2);
                break;
            }
            heard.push(message);
        }
        let expected: Vec<_> = (from + 1..PAGE + 5).map(|n| json!(n)).collect();
        assert_eq!(says(&heard), expected.iter().collect::<Vec<_>>());
        server.publish("a", &json!("live")).await;
        assert_eq!(client.until("bird").await["says"], "live");
        server.delete("/v1/topics/none/events").send().await.expect("an answer");
    }
}

#[tokio::test]
async fn a_gap_is_told_with_the_recovery() {
    let server = with(|config| config.rules.default.max_events = 2);
    let ids = server.publish_all(&numbered("a", 0..6)).await;
    let mut client = ParrotClient::greeted(&server, "reds", "").await;
    let page = follow(&mut client, json!({ "n": 2, "follow": ["a"], "from": ids[0] })).await;
    assert_eq!(page["gap"]["since"], ids[0].as_str(), "{page}");
    assert_eq!(says(page["heard"].as_array().expect("what is left")), [&json!(4), &json!(5)]);
}

#[tokio::test]
async fn a_subscription_is_asked_for_each_event_live_and_replayed() {
    let server = open();
    let loud = |loud: bool, n: usize| json!({ "loud": loud, "n": n });
    let first = server.publish("a", &loud(true, 0)).await;
    for n in 1..5 {
        server.publish("a", &loud(n % 2 == 0, n)).await;
    }
    let mut client = ParrotClient::greeted(&server, "reds", "").await;
    let command = json!({ "n": 2, "follow": ["a"], "from": first["id"], "loud": true });
    let page = follow(&mut client, command).await;
    let heard = page["heard"].as_array().expect("what it missed");
    assert_eq!(says(heard), [&loud(true, 2), &loud(true, 4)]);
    let mut other = ParrotClient::greeted(&server, "reds", "").await;
    follow(&mut other, json!({ "n": 2, "follow": ["a"] })).await;
    for n in 5..8 {
        server.publish("a", &loud(n % 2 == 0, n)).await;
    }
    assert_eq!(client.until("bird").await["says"], loud(true, 6));
    for n in 5..8 {
        assert_eq!(other.until("bird").await["says"], loud(n % 2 == 0, n), "who asks for nothing");
    }
    // A later subscribe replaces the question.
    follow(&mut client, json!({ "n": 3, "follow": ["a"] })).await;
    server.publish("a", &loud(false, 9)).await;
    assert_eq!(client.until("bird").await["says"], loud(false, 9));
}

#[tokio::test]
async fn a_thousand_commands_in_one_message_are_refused_by_name_and_none_is_done() {
    let server = open();
    let mut client = ParrotClient::greeted(&server, "reds", "").await;
    follow(&mut client, json!({ "n": 2, "follow": ["a"] })).await;
    let squawk = |n: usize| json!({ "n": n, "squawk": { "topic": "a", "data": n } });
    client.send(&(0..1_000).map(squawk).collect::<Vec<_>>()).await;
    let refused = client.until("no").await;
    assert_eq!(refused["code"], "too_many");
    let why = refused["no"].as_str().expect("a text");
    assert_eq!(why, "more than 100 requests in a message (limits.message_requests)");
    client.send(&(0..20).map(squawk).collect::<Vec<_>>()).await;
    let (mut done, mut heard) = (Vec::new(), Vec::new());
    while done.len() + heard.len() < 40 {
        let message = client.next().await.expect("more");
        if message["done"] == true {
            done.push(message["n"].as_u64().expect("a number"));
        } else {
            heard.push(message["says"].as_u64().expect("a number"));
        }
    }
    let all: Vec<_> = (0..20).collect();
    assert_eq!((&done, &heard), (&all, &all), "in their order, and nothing of the thousand");
}

#[tokio::test]
async fn requests_count_and_not_messages() {
    let server = with(|config| config.limits.messages_per_second = 30);
    let mut client = ParrotClient::greeted(&server, "reds", "").await;
    let squawk = |n: usize| json!({ "n": n, "squawk": { "topic": "a", "data": n } });
    client.send(&(0..90).map(squawk).collect::<Vec<_>>()).await;
    assert_eq!(client.until("bye").await["bye"], "too_many");
    while client.next().await.is_some() {}
    assert_eq!(client.closed, Some(3_429));
}

#[tokio::test]
async fn heartbeats_are_messages_and_who_does_not_answer_is_gone() {
    let server = with(|config| config.server.heartbeat = Duration::from_secs(1));
    let mut answers = ParrotClient::greeted(&server, "reds", "").await;
    let mut silent = ParrotClient::greeted(&server, "reds", "").await;
    let answering = tokio::spawn(async move { answers.until("bird").await });
    let mut pings = 0;
    loop {
        match timeout(PATIENCE, silent.socket.next()).await.expect("something comes in time") {
            Some(Ok(tokio_tungstenite::tungstenite::Message::Text(text))) => {
                pings += usize::from(text.as_str() == r#"{"ping":true}"#);
            }
            Some(Ok(tokio_tungstenite::tungstenite::Message::Close(Some(frame)))) => {
                assert_eq!(u16::from(frame.code), 3_408);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(pings >= 2, "{pings}");
    server.publish("flock.reds", &json!("still there")).await;
    assert_eq!(answering.await.expect("it is heard")["says"], "still there");
}

#[tokio::test]
async fn who_does_not_take_what_waits_is_let_go_with_its_own_code() {
    let server = with(|config| config.limits.outbox_bytes = 100_000);
    let mut client = ParrotClient::greeted(&server, "reds", "").await;
    follow(&mut client, json!({ "n": 2, "follow": ["a"] })).await;
    for _ in 0..200 {
        server.publish("a", &json!("x".repeat(40_000))).await;
    }
    while client.next().await.is_some() {}
    assert_eq!(client.closed, Some(3_409));
}

#[tokio::test]
async fn who_expires_is_told_in_its_words_and_let_go() {
    let server = with(close);
    let token = token("ada", &[">"], &[], 3);
    let mut client = ParrotClient::connect(&server, "reds", "").await;
    client.send(&[json!({ "n": 1, "hello": { "token": token } })]).await;
    assert_eq!(client.until("hello").await["n"], 1);
    assert_eq!(client.until("follows").await["follows"], "flock.reds");
    client.until("moults").await;
    assert_eq!(client.until("bye").await["bye"], "unauthorized");
    while client.next().await.is_some() {}
    assert_eq!(client.closed, Some(3_401));
    let mut stranger = ParrotClient::connect(&server, "reds", "").await;
    stranger.send(&[json!({ "n": 1, "hello": { "token": "none" } })]).await;
    assert_eq!(stranger.until("no").await["n"], 1);
    // By the query, as some clients have it.
    let token = support::token("ada", &[">"], &[], 600);
    ParrotClient::greeted(&server, "reds", &format!("?token={token}")).await;
}

#[tokio::test]
async fn a_stop_is_told_in_its_words() {
    let mut server = open();
    let mut client = ParrotClient::greeted(&server, "reds", "").await;
    server.begin_stop();
    assert_eq!(client.until("bye").await["bye"], "restart");
    while client.next().await.is_some() {}
    assert_eq!(client.closed, Some(3_012));
}

#[tokio::test]
async fn who_is_in_a_topic_is_said_in_other_words() {
    let server = with(|config| config.rules.default.presence = true);
    let mut host = ParrotClient::greeted(&server, "hosts", "").await;
    follow(&mut host, json!({ "n": 2, "follow": ["$presence.flock.guests"] })).await;
    let guest = ParrotClient::greeted(&server, "guests", "").await;
    let came = host.until("perch").await;
    assert_eq!(came["perch"], "$presence.flock.guests");
    assert_eq!(came["who"]["session"], guest.name["session"]);
    drop(guest);
    let gone = host.until("perch").await;
    assert_ne!(gone["change"], came["change"], "{gone}");
}

/// A client that is only told things, and says what it has to say elsewhere.
struct Listener {
    body: std::pin::Pin<Box<dyn futures_util::Stream<Item = reqwest::Result<bytes::Bytes>>>>,
    text: String,
}

impl Listener {
    async fn connect(server: &TestServer, path: &str) -> Self {
        let response = server.get(path).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: Box::pin(response.bytes_stream()), text: String::new() }
    }

    /// The next message that has this member.
    async fn until(&mut self, member: &str) -> Value {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let data = block.trim().strip_prefix("data: ");
                let message: Value =
                    data.map_or(Value::Null, |data| serde_json::from_str(data).expect("JSON"));
                if message.get(member).is_some() {
                    return message;
                }
            }
            let chunk = timeout(PATIENCE, self.body.next()).await.expect("it comes in time");
            let chunk = chunk.expect("it goes on").expect("bytes");
            self.text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_comes_over_another_request_at_another_node() {
    let redis = Redis::start();
    let nodes = [0, 1].map(|_| room::node_speaking(WITH_PARROT, &redis, 0));
    let token = token("ada", &[">"], &[">"], 600);
    let path = format!("/parrot/reds/heard?token={token}");
    let mut client = Listener::connect(&nodes[0], &path).await;
    // Its session is known to operators, and its secret to nobody.
    let listed = room::ask(&nodes[1], "/v1/sessions?user=ada").await;
    let session = listed["sessions"][0]["session"].clone();
    let guess = json!({ "session": session, "secret": "00" });
    let hello = json!({ "n": 1, "hello": {} });
    for node in &nodes {
        assert_eq!(say_back(node, &guess, std::slice::from_ref(&hello)).await, 404);
        assert_eq!(say_back(node, &json!({ "session": "x", "secret": "y" }), &[]).await, 404);
    }
    assert_eq!(
        nodes[1].post("/parrot/say").body("{}").send().await.expect("an answer").status(),
        400
    );
    let name = client.until("name").await["name"].clone();
    assert_eq!(say_back(&nodes[1], &name, &[hello]).await, 204);
    assert_eq!(client.until("hello").await["n"], 1);
    let follow = json!({ "n": 2, "follow": ["room.a"] });
    assert_eq!(say_back(&nodes[1], &name, &[follow]).await, 204);
    assert_eq!(client.until("follow").await["n"], 2);
    let squawk = json!({ "n": 3, "squawk": { "topic": "room.a", "data": "heard" } });
    assert_eq!(say_back(&nodes[0], &name, &[squawk]).await, 204);
    assert_eq!(client.until("bird").await["says"], "heard");
    drop(client);
    support::eventually("it is gone", async || {
        say_back(&nodes[1], &name, &[json!({ "pong": true })]).await == 404
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_over_other_requests_is_done_one_after_the_other() {
    let issuer = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/keys", issuer.local_addr().expect("an address"));
    let jwks = Some(Jwks { url, refresh: PATIENCE, keep: PATIENCE });
    let server = with(|config| {
        let leeway = Duration::ZERO;
        config.auth.jwt =
            Some(Jwt { keys: Vec::new(), jwks, issuer: None, audience: None, leeway });
    });
    let mut client = Listener::connect(&server, "/parrot/reds/heard").await;
    let name = client.until("name").await["name"].clone();
    // Whose token this is has to be asked for.
    let pair = Ed25519KeyPair::generate().expect("a key");
    let key = EncodingKey::from_ed_der(pair.to_pkcs8v1().expect("PKCS #8").as_ref());
    let header = Header { kid: Some("first".into()), ..Header::new(Algorithm::EdDSA) };
    let claims =
        json!({ "sub": "ada", "exp": 4_000_000_000_u64, "fanfare": { "subscribe": [">"] } });
    let token = encode(&header, &claims, &key).expect("a token");
    let hello = json!({ "n": 1, "hello": { "token": token } });
    assert_eq!(say_back(&server, &name, &[hello]).await, 204);
    let asked = timeout(PATIENCE, issuer.accept()).await.expect("it asks");
    let (mut asked, _) = asked.expect("a connection");
    for n in 2..5 {
        let follow = json!({ "n": n, "follow": [format!("room.{n}")] });
        assert_eq!(say_back(&server, &name, &[follow]).await, 204);
    }
    let public = BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let key = json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "first", "x": public });
    let keys = json!({ "keys": [key] }).to_string();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", keys.len());
    asked.write_all((head + &keys).as_bytes()).await.expect("it is taken");
    for n in 1..5 {
        assert_eq!(client.until("n").await["n"], n);
    }
}

async fn command(node: &TestServer, command: Value) -> (u16, Value) {
    let asked = node.post("/v1/commands").bearer_auth(API_KEY).json(&command);
    let answer = asked.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_subscribes_a_session_of_another_node() {
    let redis = Redis::start();
    let nodes = [0, 1].map(|_| room::node_speaking(WITH_PARROT, &redis, 0));
    let token = token("ada", &["room.>", "flock.>"], &[], 600);
    let mut client = ParrotClient::greeted(&nodes[0], "reds", &format!("?token={token}")).await;
    let session = client.name["session"].clone();
    let to = |op: &str, topics: Value| json!({ "op": op, "session": session, "topics": topics });
    let done = |count: usize, refused: usize| (200, json!({ "done": count, "refused": refused }));
    assert_eq!(command(&nodes[1], to("subscribe", json!(["room.a"]))).await, done(1, 0));
    assert_eq!(client.until("follows").await["follows"], json!(["room.a"]));
    let publish = nodes[1].post("/v1/topics/room.a/events").bearer_auth(API_KEY).json(&json!(1));
    publish.send().await.expect("an answer");
    assert_eq!(client.until("bird").await["says"], 1);
    assert_eq!(command(&nodes[1], to("subscribe", json!(["other"]))).await, done(0, 1));
    assert_eq!(command(&nodes[1], to("unsubscribe", json!(["room.a"]))).await, done(1, 0));
    assert_eq!(client.until("leaves").await["leaves"], json!(["room.a"]));
    let user = json!({ "op": "disconnect", "user": "ada", "code": "restart" });
    assert_eq!(command(&nodes[1], user.clone()).await, done(1, 0));
    assert_eq!(client.until("bye").await["bye"], "restart");
    assert_eq!(command(&nodes[1], user).await, done(0, 0));
    let (status, problem) = command(&nodes[1], to("subscribe", json!(["room.a"]))).await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
}
