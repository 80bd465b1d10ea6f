//! Revocation: of a user's tokens, of one token, of the one that a session came in with.

mod support;

use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use fanfare::clock::Clock;
use fanfare::history::sqlite::Opened;
use fanfare::history::{Append, Feed, History, Loss};
use fanfare::model::{Cursor, Data, Event, NewEvent, Topic};
use jsonwebtoken::{EncodingKey, Header};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::process::Process;
use support::redis::Redis;
use support::ws::WsClient;
use support::{API_KEY, TestServer, eventually, expect_status, problem, token};
use tokio_tungstenite::tungstenite::Error;

async fn revoke(server: &TestServer, what: Value) -> Value {
    let request = server.post("/v1/revocations").bearer_auth(API_KEY).json(&what);
    expect_status(request.send().await.expect("an answer"), StatusCode::CREATED).await
}

async fn status(server: &TestServer, token: &str) -> u16 {
    let request = server.get("/v1/topics/a/events").bearer_auth(token);
    request.send().await.expect("an answer").status().as_u16()
}

/// A token with these claims.
fn signed(claims: &Value) -> String {
    let key = EncodingKey::from_secret(support::JWT_SECRET);
    jsonwebtoken::encode(&Header::default(), claims, &key).expect("a token")
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("a time").as_secs()
}

/// What a session's token is called.
async fn token_of(server: &TestServer, session: &str) -> String {
    let request = server.get("/v1/sessions").bearer_auth(API_KEY);
    let sessions = expect_status(request.send().await.expect("an answer"), StatusCode::OK).await;
    let sessions = sessions["sessions"].as_array().expect("sessions").iter();
    let mut found = sessions.filter(|one| one["session"] == session);
    found.next().expect("the session")["token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn one_token_of_a_user_is_refused_and_the_others_go_on() {
    let server = TestServer::closed();
    let (lost, kept) = (token("ada", &["a"], &[], 60), token("ada", &["a"], &[], 61));
    let mut thief = WsClient::live(&server, &format!("?topic=a&access_token={lost}")).await;
    let mut owner = WsClient::live(&server, &format!("?topic=a&access_token={kept}")).await;
    let name = token_of(&server, &thief.session).await;
    assert_eq!(revoke(&server, json!({"token": name})).await["ended"], 1);
    assert_eq!(thief.closed().await.1, Some(4401));
    assert_eq!((status(&server, &lost).await, status(&server, &kept).await), (401, 200));
    let back = WsClient::connect_with(&server, &format!("?access_token={lost}"), &[]).await;
    assert!(matches!(back, Err(Error::Http(response)) if response.status() == 401));
    let refused = owner.ask(1, json!({"op": "auth", "token": lost})).await;
    assert_eq!(refused["code"], "unauthorized", "renewal asks the same question");
    assert_eq!(owner.ask(2, json!({"op": "ping"})).await["op"], "pong");
}

#[tokio::test]
async fn all_tokens_of_a_user_are_refused_and_those_issued_later_are_not() {
    let server = TestServer::closed();
    let (ada, bob) = (token("ada", &["a"], &[], 60), token("bob", &["a"], &[], 60));
    let mut ada_here = WsClient::live(&server, &format!("?topic=a&access_token={ada}")).await;
    let mut bob_here = WsClient::live(&server, &format!("?topic=a&access_token={bob}")).await;
    let ticket = server.post("/v1/tickets").bearer_auth(&ada).send().await.expect("an answer");
    let ticket = expect_status(ticket, StatusCode::CREATED).await;
    assert_eq!(revoke(&server, json!({"user": "ada"})).await["ended"], 1);
    assert_eq!(ada_here.closed().await.1, Some(4401));
    assert_eq!(bob_here.ask(1, json!({"op": "ping"})).await["op"], "pong");
    assert_eq!((status(&server, &ada).await, status(&server, &bob).await), (401, 200));
    let ticket = ticket["ticket"].as_str().expect("a ticket");
    let by_ticket = server.get(&format!("/v1/sse?topic=a&ticket={ticket}"));
    assert_eq!(problem(by_ticket).await.0, 401, "a ticket is worth no more than its token");
    // `iat` is in whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let later = token("ada", &["a"], &[], 60);
    assert_eq!(status(&server, &later).await, 200);
    WsClient::live(&server, &format!("?topic=a&access_token={later}")).await;
}

#[tokio::test]
async fn a_token_that_was_issued_in_the_future_is_revoked_with_its_user() {
    let server = TestServer::closed();
    let issued = |iat: u64| {
        let grants = json!({ "subscribe": ["a"] });
        signed(&json!({ "sub": "ada", "iat": iat, "exp": now() + 7_200, "fanfare": grants }))
    };
    // In milliseconds; by a clock that is an hour ahead.
    let tokens = [now() * 1_000, now() + 3_600].map(issued);
    let mut sessions = Vec::new();
    for token in &tokens {
        let query = format!("?topic=a&access_token={token}");
        sessions.push(WsClient::live(&server, &query).await);
    }
    assert_eq!(revoke(&server, json!({"user": "ada"})).await["ended"], 2);
    for (token, session) in tokens.iter().zip(&mut sessions) {
        assert_eq!(session.closed().await.1, Some(4401));
        assert_eq!(status(&server, token).await, 401);
    }
}

#[tokio::test]
async fn tokens_that_outlive_their_revocation_are_warned_of_once_without_a_word_of_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let secret = std::str::from_utf8(support::JWT_SECRET).expect("text");
    let sets = [format!("auth.api_keys={API_KEY}"), format!("auth.jwt_secret={secret}")];
    let arguments: Vec<_> = sets.iter().flat_map(|set| ["--set", set.as_str()]).collect();
    let broker = Process::durable(directory.path(), 0, &arguments);
    let ask = async |exp: u64| {
        let grants = json!({ "subscribe": ["a"] });
        let claims = json!({ "sub": "hunter2", "iat": now(), "exp": exp, "fanfare": grants });
        let request = reqwest::Client::new().get(broker.url("/v1/topics/a/events"));
        let token = signed(&claims);
        let answer = request.bearer_auth(&token).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        token
    };
    ask(now() + 3_600).await;
    let log = || fs::read_to_string(directory.path().join("broker.log")).expect("a log");
    assert!(!log().contains("auth.revocation_window"), "{}", log());
    let tokens = [ask((now() + 3_600) * 1_000).await, ask(now() + 7 * 86_400).await];
    eventually("it is warned of", || async { log().contains("milliseconds") }).await;
    assert_eq!(log().matches("auth.revocation_window").count(), 1, "{}", log());
    for secret in tokens.iter().flat_map(|token| token.split('.')).chain(["hunter2"]) {
        assert!(!log().contains(secret));
    }
}

#[tokio::test]
async fn the_token_of_a_session_is_found_by_the_session() {
    let server = TestServer::closed();
    let token = token("ada", &["a"], &[], 60);
    let mut client = WsClient::live(&server, &format!("?topic=a&access_token={token}")).await;
    revoke(&server, json!({"session": client.session})).await;
    assert_eq!(client.closed().await.1, Some(4401));
    assert_eq!(status(&server, &token).await, 401);
    let listed = server.get("/v1/revocations").bearer_auth(API_KEY).send().await;
    let listed = expect_status(listed.expect("an answer"), StatusCode::OK).await;
    assert!(listed["revocations"][0]["token"].as_str().expect("a token").starts_with("sha256:"));
}

#[tokio::test]
async fn who_may_not_revoke_or_what_can_not_be_revoked_is_refused() {
    let server = TestServer::with(|config| {
        support::close(config);
        config.auth.revocations = 1;
    });
    let token = token("ada", &[">"], &[">"], 60);
    let post = || server.post("/v1/revocations");
    let by_key = WsClient::connect(&server, &format!("?access_token={API_KEY}")).await;
    for (what, request, status) in [
        ("nobody", post().json(&json!({"user": "a"})), 401),
        ("a user", post().bearer_auth(&token).json(&json!({"user": "a"})), 403),
        ("nothing", post().bearer_auth(API_KEY), 400),
        ("two things", post().bearer_auth(API_KEY).json(&json!({"user": "a", "token": "b"})), 400),
        ("no session", post().bearer_auth(API_KEY).json(&json!({"session": "x"})), 404),
        ("a key", post().bearer_auth(API_KEY).json(&json!({"session": by_key.session})), 400),
        ("a list", server.get("/v1/revocations").bearer_auth(&token), 403),
        ("its topic", server.get("/v1/topics/$sys.revoked/events").bearer_auth(&token), 403),
    ] {
        assert_eq!(problem(request).await.0, status, "{what}");
    }
    let forged = json!({"op": "publish", "topic": "$sys.revoked", "data": {"user": "b", "at": 0}});
    let mut ada = WsClient::connect(&server, &format!("?access_token={token}")).await;
    assert_eq!(ada.ask(1, forged).await["code"], "forbidden");
    revoke(&server, json!({"user": "eve"})).await;
    let one_more = post().bearer_auth(API_KEY).json(&json!({"user": "mallory"}));
    assert_eq!(problem(one_more).await, (429, "too_many".to_owned()));
    revoke(&server, json!({"user": "eve"})).await;
}

#[tokio::test]
async fn a_revocation_outlives_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = || {
        TestServer::durable(directory.path(), |config| {
            support::close(config);
        })
    };
    let token = token("ada", &["a"], &[], 60);
    let server = start();
    revoke(&server, json!({"user": "ada"})).await;
    server.stop();
    let server = start();
    assert_eq!(status(&server, &token).await, 401);
}

/// Publishes more than may be kept, to topics that nobody revokes anything on.
async fn flood(server: &TestServer) {
    let text = "x".repeat(1_000);
    for n in 0..20 {
        let topic = format!("elsewhere.{n}");
        let events: Vec<_> =
            (0..20).map(|n| json!({ "topic": topic, "data": [n, text] })).collect();
        let publish = server.post("/v1/events").bearer_auth(API_KEY);
        let answer = publish.json(&json!({ "events": events })).send().await.expect("an answer");
        expect_status(answer, StatusCode::CREATED).await;
    }
    let oldest = server.get("/v1/topics/elsewhere.0/events").bearer_auth(API_KEY).send().await;
    let kept = expect_status(oldest.expect("an answer"), StatusCode::OK).await;
    // Of each topic the current value stays.
    let kept = kept["events"].as_array().map(Vec::len);
    assert_eq!(kept, Some(1), "the oldest events are over the bound");
}

async fn forget_revocations(server: &TestServer) {
    let forget = server.delete("/v1/topics/$sys.revoked/events").bearer_auth(API_KEY);
    assert_eq!(problem(forget).await, (403, "forbidden".to_owned()));
}

#[tokio::test]
async fn a_revocation_outlives_any_amount_of_other_events_and_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = || {
        TestServer::durable(directory.path(), |config| {
            support::close(config);
            config.history.disk_bytes = 100_000;
        })
    };
    let (token, name) = (token("ada", &["a"], &[], 60), "the token of bob");
    let server = start();
    revoke(&server, json!({"user": "ada"})).await;
    revoke(&server, json!({"token": name})).await;
    flood(&server).await;
    forget_revocations(&server).await;
    server.stop();
    let server = start();
    assert_eq!(status(&server, &token).await, 401);
    flood(&server).await;
    server.stop();
    let server = start();
    assert_eq!(status(&server, &token).await, 401);
    let listed = server.get("/v1/revocations").bearer_auth(API_KEY).send().await;
    let listed = expect_status(listed.expect("an answer"), StatusCode::OK).await;
    assert_eq!(listed["revocations"].as_array().map(Vec::len), Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_in_redis_outlives_any_amount_of_other_events_and_every_node() {
    let redis = Redis::start();
    let node = || {
        TestServer::with(|config| {
            support::close(config);
            config.redis = Some(fanfare::config::Redis::at(&redis.url()));
            config.rules.default.storage = fanfare::config::Storage::Redis;
            config.history.redis_bytes = 100_000;
        })
    };
    let first = node();
    let token = token("ada", &["a"], &[], 60);
    revoke(&first, json!({"user": "ada"})).await;
    flood(&first).await;
    forget_revocations(&first).await;
    let second = node();
    assert_eq!(status(&second, &token).await, 401);
    first.stop();
    second.stop();
    let third = node();
    assert_eq!(status(&third, &token).await, 401);
}

/// As `append` is heard by nobody.
struct Nobody;

impl Feed for Nobody {
    fn committed(&self, _: Vec<Arc<Event>>) {}

    fn skip(&self, _: &Topic, _: Option<Cursor>) -> bool {
        true
    }

    fn broken(&self, _: Loss) {}
}

#[tokio::test]
async fn the_first_request_after_a_start_is_refused_however_many_are_revoked() {
    const REVOKED: usize = 20_000;
    // Made before all that is revoked, however long it takes to store that.
    let token = token("ada", &["a"], &[], 600);
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = fanfare::config::Config::default();
    config.history.path = directory.path().to_owned();
    let opened = Opened::open(&config.history, config.rules, Clock::default()).expect("it opens");
    let history = opened.start(Arc::new(Nobody)).expect("it starts");
    let event = |n: usize| {
        let user = if n + 1 == REVOKED { "ada".to_owned() } else { format!("user {n}") };
        let data = json!({ "user": user, "at": (now() + 5) * 1_000 }).to_string();
        let data = Data::from_json(data.as_bytes(), 8).expect("JSON");
        NewEvent::new(Topic::revocations(), None, data)
    };
    let append = Append { events: (0..REVOKED).map(event).collect(), key: None };
    history.append(append).await.expect("they are stored");
    history.stop();
    let server = TestServer::durable(directory.path(), support::close);
    assert_eq!(status(&server, &token).await, 401);
}

#[tokio::test]
async fn who_is_revoked_again_and_again_makes_no_other_revocation_forgotten() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = || {
        TestServer::durable(directory.path(), |config| {
            support::close(config);
            config.auth.revocations = 2;
        })
    };
    let token = token("ada", &["a"], &[], 60);
    let server = start();
    revoke(&server, json!({"user": "ada"})).await;
    for _ in 0..7 {
        revoke(&server, json!({"user": "eve"})).await;
    }
    let one_more = server.post("/v1/revocations").bearer_auth(API_KEY);
    assert_eq!(problem(one_more.json(&json!({"user": "eve"}))).await.0, 429);
    server.stop();
    let server = start();
    assert_eq!(status(&server, &token).await, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_and_a_ticket_hold_on_every_node() {
    let redis = Redis::start();
    let node = || {
        TestServer::with(|config| {
            support::close(config);
            config.redis = Some(fanfare::config::Redis::at(&redis.url()));
            config.rules.default.storage = fanfare::config::Storage::Redis;
        })
    };
    let nodes = [node(), node()];
    let token = token("ada", &["a"], &[], 60);
    let ticket = nodes[0].post("/v1/tickets").bearer_auth(&token).send().await.expect("an answer");
    let ticket = expect_status(ticket, StatusCode::CREATED).await;
    let query = format!("?topic=a&ticket={}", ticket["ticket"].as_str().expect("a ticket"));
    let mut client = WsClient::live(&nodes[1], &query).await;
    for node in &nodes {
        let again = WsClient::connect_with(node, &query, &[]).await;
        assert!(matches!(again, Err(Error::Http(response)) if response.status() == 401));
    }
    assert_eq!(revoke(&nodes[0], json!({"user": "ada"})).await["ended"], 1);
    assert_eq!(client.closed().await.1, Some(4401));
    assert_eq!(status(&nodes[0], &token).await, 401);
    eventually("the other node knows", || async { status(&nodes[1], &token).await == 401 }).await;
    let third = node();
    assert_eq!(status(&third, &token).await, 401);
}
