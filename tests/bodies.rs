//! Bodies that come late, slowly, without end or in crowds: who may what is looked at when a body is
//! whole, and none of them costs others anything.

mod support;

use fanfare::config::{Sources, load};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::raw::Raw;
use support::{API_KEY, TestServer, expect, token};

const EVENT: &str = r#"{"topic":"a","data":1}"#;

/// The paths that take a body, with one for each.
const BODIES: [(&str, &str); 4] = [
    ("/v1/topics/a/events", "1234"),
    ("/v1/events", EVENT),
    ("/v1/tickets", r#"{"user":"bob"}"#),
    ("/v1/revocations", r#"{"user":"bob"}"#),
];

async fn retained(server: &TestServer, topic: &str) -> Value {
    let request = server.get(&format!("/v1/topics/{topic}")).bearer_auth(API_KEY);
    expect(request.send().await.expect("an answer"), StatusCode::OK).await["retained"].clone()
}

/// Begins a request with a body, lets something happen, and sends the rest.
async fn status_after<F: Future>(
    server: &TestServer,
    path: &str,
    key: &str,
    body: &str,
    happens: F,
) -> u16 {
    let mut late = Raw::begin(server.addr, path, key, body).await;
    late.send(&body[..1]).await;
    happens.await;
    late.send(&body[1..]).await;
    late.status().await
}

#[tokio::test]
async fn what_a_token_publishes_is_refused_where_it_was_revoked_before_the_body_was_whole() {
    let server = TestServer::closed();
    for (user, (path, body)) in ["ada", "bob"].iter().zip(BODIES) {
        let token = token(user, &[], &["a"], 60);
        let revoke = async {
            let revoke = server.post("/v1/revocations").bearer_auth(API_KEY);
            let revoke = revoke.json(&json!({"user": user})).send().await.expect("an answer");
            expect(revoke, StatusCode::CREATED).await;
        };
        assert_eq!(status_after(&server, path, &token, body, revoke).await, 401, "{path}");
    }
    let token = token("carol", &[], &["a"], 60);
    let revoke = async {
        let revoke = server.post("/v1/revocations").bearer_auth(API_KEY);
        let revoke = revoke.json(&json!({"user": "carol"})).send().await.expect("an answer");
        expect(revoke, StatusCode::CREATED).await;
    };
    let mut ticket = Raw::begin(server.addr, "/v1/tickets", &token, " ").await;
    revoke.await;
    ticket.send(" ").await;
    assert_eq!(ticket.status().await, 401, "a ticket");
    assert_eq!(retained(&server, "a").await, 0);
}

#[tokio::test]
async fn what_a_key_sends_is_refused_where_it_was_taken_away_before_the_body_was_whole() {
    const LOST: &str = "a-key-that-is-taken-away";
    let keys = |keys: &str| {
        let sets = vec![format!("auth.api_keys={keys}")];
        load(&Sources { sets, ..Sources::default() }).expect("a configuration")
    };
    for (path, body) in BODIES {
        let both = keys(&format!("{API_KEY},{LOST}"));
        let server = TestServer::with(|config| config.auth = both.auth);
        let mut without = keys(API_KEY);
        without.rules.default.storage = fanfare::config::Storage::Memory;
        let taken = async { server.reload.apply(&without).await.expect("it is in force") };
        assert_eq!(status_after(&server, path, LOST, body, taken).await, 401, "{path}");
        assert_eq!(retained(&server, "a").await, 0);
    }
}

#[tokio::test]
async fn what_a_token_publishes_is_refused_where_it_expired_before_the_body_was_whole() {
    let server = TestServer::closed();
    for (path, body) in &BODIES[..2] {
        let token = token("ada", &["a"], &["a"], 2);
        let expired = async {
            support::eventually("it expires", || async {
                let read = server.get("/v1/topics/a").bearer_auth(&token).send().await;
                read.expect("an answer").status() == 401
            })
            .await;
        };
        assert_eq!(status_after(&server, path, &token, body, expired).await, 401, "{path}");
    }
    assert_eq!(retained(&server, "a").await, 0);
}
