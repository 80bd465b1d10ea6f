//! Bodies that come late, slowly, without end or in crowds: who may what is looked at when a body is
//! whole, and none of them costs others anything.

mod support;

use std::time::Duration;

use fanfare::config::{Sources, load};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::raw::Raw;
use support::{API_KEY, TestServer, expect_status, token};

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
    expect_status(request.send().await.expect("an answer"), StatusCode::OK).await["retained"]
        .clone()
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
            expect_status(revoke, StatusCode::CREATED).await;
        };
        assert_eq!(status_after(&server, path, &token, body, revoke).await, 401, "{path}");
    }
    let token = token("carol", &[], &["a"], 60);
    let revoke = async {
        let revoke = server.post("/v1/revocations").bearer_auth(API_KEY);
        let revoke = revoke.json(&json!({"user": "carol"})).send().await.expect("an answer");
        expect_status(revoke, StatusCode::CREATED).await;
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

/// A publish of nobody, or by a key, whose body is announced in one way or the other.
fn head(method: &str, path: &str, key: Option<&str>, framing: &str) -> String {
    let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{key}{framing}\r\n\r\n")
}

const LONG: &str = "Content-Length: 8000000";
const CHUNKED: &str = "Transfer-Encoding: chunked";

/// A response, which must be the last, as its status and the problem it has.
fn refusal(response: &str) -> (u16, Value) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{response:?}"));
    assert!(head.to_ascii_lowercase().contains("\r\nconnection: close"), "{head}");
    (head[9..12].parse().expect("a status"), serde_json::from_str(body).expect("a problem"))
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_given_up() {
    let server = TestServer::with(|config| {
        support::close(config);
        config.limits.body_timeout = Duration::from_millis(300);
    });
    for framing in [LONG, CHUNKED] {
        let mut slow = Raw::connect(server.addr).await;
        slow.send(&head("POST", "/v1/events", Some(API_KEY), framing)).await;
        slow.send("1").await;
        let (status, problem) = refusal(&slow.rest().await);
        assert_eq!((status, &problem["code"]), (408, &json!("too_slow")), "{framing}");
        assert!(problem["detail"].to_string().contains("limits.body_timeout"), "{problem}");
    }
}

#[tokio::test]
async fn who_may_publish_nowhere_is_refused_before_a_body_is_read() {
    let server = TestServer::closed();
    let token = token("ada", &["a"], &[], 60);
    for (key, status) in [(None, 401), (Some(token.as_str()), 403)] {
        for (path, framing) in [("/v1/events", LONG), ("/v1/events", CHUNKED)] {
            let mut early = Raw::connect(server.addr).await;
            early.send(&head("POST", path, key, framing)).await;
            assert_eq!(refusal(&early.rest().await).0, status);
        }
    }
    let mut ticket = Raw::connect(server.addr).await;
    ticket.send(&head("POST", "/v1/tickets", None, "Content-Length: 1000")).await;
    assert_eq!(refusal(&ticket.rest().await).0, 401);
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_not_read_without_end() {
    let server = TestServer::with(|config| {
        support::close(config);
        config.limits.batch_bytes = 100_000;
        config.limits.event_bytes = 10_000;
    });
    let key = Some(API_KEY);
    for (method, path, key, status) in [
        ("POST", "/v1/events", None, 401),
        ("POST", "/v1/topics/a/events", None, 401),
        ("POST", "/v1/topics/a/events", key, 413),
        ("GET", "/v1/topics", key, 200),
        ("GET", "/v1/sse?topic=a", key, 200),
        ("POST", "/nowhere", key, 404),
        ("PUT", "/v1/events", key, 405),
    ] {
        for framing in ["Content-Length: 99999999999", CHUNKED] {
            let mut endless = Raw::connect(server.addr).await;
            endless.send(&head(method, path, key, framing)).await;
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
            let mut sent = 0;
            let stuck = Duration::from_secs(2);
            while sent < 1 << 30
                && let Ok(true) =
                    tokio::time::timeout(stuck, endless.try_send(chunk.as_bytes())).await
            {
                sent += chunk.len();
            }
            // What the kernel takes on both sides is much more than what the broker reads.
            assert!(sent < 64 << 20, "{method} {path} {framing}: {sent} bytes");
            if path.starts_with("/v1/sse") {
                assert!(endless.head().await.starts_with("HTTP/1.1 200"), "it is a stream still");
                continue;
            }
            let answer = endless.rest().await;
            // The reset that follows may have overtaken the answer.
            assert!(answer.is_empty() || answer[9..].starts_with(&status.to_string()), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_refusal_is_seen_by_who_sends_a_whole_body_before_looking() {
    let server = TestServer::closed();
    for framing in ["Content-Length: 1000000", CHUNKED] {
        let mut polite = Raw::connect(server.addr).await;
        polite.send(&head("POST", "/v1/events", None, framing)).await;
        polite.send(&format!("f4240\r\n{}", "x".repeat(999_993))).await;
        assert_eq!(refusal(&polite.rest().await).0, 401, "{framing}");
    }
}

#[tokio::test]
async fn a_later_head_on_a_connection_has_its_time_too() {
    let server =
        TestServer::with(|config| config.limits.request_timeout = Duration::from_millis(300));
    let mut slow = Raw::connect(server.addr).await;
    slow.send("GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(slow.head().await.starts_with("HTTP/1.1 200"));
    slow.send("GET /").await;
    let rest = slow.rest().await;
    let (status, problem) = refusal(rest.trim_start_matches(r#"{"status":"ok"}"#));
    assert_eq!((status, &problem["code"]), (408, &json!("too_slow")));
}

#[tokio::test]
async fn a_connection_that_is_kept_alive_outlives_the_time_of_each_of_its_heads() {
    let server =
        TestServer::with(|config| config.limits.request_timeout = Duration::from_millis(300));
    let mut kept = Raw::connect(server.addr).await;
    for _ in 0..10 {
        kept.send("GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(kept.head().await.starts_with("HTTP/1.1 200"));
        kept.skip(r#"{"status":"ok"}"#.len()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    kept.send("GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(
        kept.head().await.starts_with("HTTP/1.1 200"),
        "nor does it matter how long it was idle"
    );
}

/// A broker of which bodies hold little, behind a proxy that says from whom they are.
fn narrow() -> TestServer {
    TestServer::with(|config| {
        support::close(config);
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
        config.limits.event_bytes = 1_000;
        config.limits.batch_bytes = 40_000;
        config.limits.bodies_bytes_per_address = 100_000;
        config.limits.bodies_bytes = 150_000;
    })
}

/// Begins a batch of 40,000 bytes and sends all of it but a byte.
async fn hold(server: &TestServer, from: &str) -> Raw {
    let mut raw = Raw::connect(server.addr).await;
    let framing = format!("X-Forwarded-For: {from}\r\nContent-Length: 40000");
    raw.send(&head("POST", "/v1/events", Some(API_KEY), &framing)).await;
    raw.send(&" ".repeat(39_999)).await;
    raw
}

/// What becomes of a batch of this size: the status, `Retry-After` and the detail.
async fn tried(server: &TestServer, from: &str, bytes: usize) -> (u16, bool, String) {
    let events = json!({"events": [{"topic": "a", "data": 1}]}).to_string();
    let request = server.post("/v1/events").bearer_auth(API_KEY).header("x-forwarded-for", from);
    let request = request.header("content-type", "application/json");
    let response = request.body(format!("{events:<bytes$}")).send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers.contains_key("retry-after"), response.text().await.expect("text"))
}

/// Holds a batch from each of these addresses until one from `asking` is refused; returns how. One that
/// is held may be refused itself, while one that asks takes its room: it is begun again.
async fn refused(
    server: &TestServer,
    held: &mut [(&str, Option<Raw>)],
    asking: &str,
) -> (u16, bool, String) {
    for _ in 0..1_000 {
        for (from, held) in held.iter_mut() {
            if held.as_ref().is_none_or(|raw| open(std::slice::from_ref(raw)).is_empty()) {
                *held = Some(hold(server, from).await);
            }
        }
        let answer = tried(server, asking, 39_000).await;
        if answer.0 != 201 {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is never refused");
}

#[tokio::test]
async fn bodies_that_are_read_together_have_a_bound_and_an_address_a_share_of_it() {
    let server = narrow();
    let (one, other) = ("203.0.113.1", "203.0.113.2");
    assert_eq!(tried(&server, one, 40_000).await.0, 201);
    let mut held = [(one, None), (one, None), (other, None)];
    let (status, retry, detail) = refused(&server, &mut held[..2], one).await;
    assert!(detail.contains("limits.bodies_bytes_per_address"), "{detail}");
    assert_eq!((status, retry), (429, true));
    assert_eq!(tried(&server, other, 39_000).await.0, 201, "another one has its own");
    let (status, retry, detail) = refused(&server, &mut held, "203.0.113.3").await;
    assert!(detail.contains("(limits.bodies_bytes)"), "{detail}");
    assert_eq!((status, retry), (503, true));
    drop(held);
    support::eventually("it comes back", || async { tried(&server, one, 40_000).await.0 == 201 })
        .await;
}

/// The connections that have not ended, each by its place.
fn open(sockets: &[Raw]) -> Vec<usize> {
    let is_open = |raw: &Raw| {
        let read = raw.0.try_read(&mut [0; 1]);
        read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let open = sockets.iter().enumerate().filter(|(_, raw)| is_open(raw));
    open.map(|(place, _)| place).collect()
}

#[tokio::test]
async fn idle_sockets_make_room_the_longest_idle_first_and_sessions_stay() {
    for of_address in [true, false] {
        let server = TestServer::with(|config| match of_address {
            true => config.limits.connections_per_address = 20,
            false => config.limits.connections = 20,
        });
        let mut session = support::ws::WsClient::live(&server, "?topic=a").await;
        let mut idle = Vec::new();
        for _ in 0..60 {
            let mut raw = Raw::connect(server.addr).await;
            raw.send("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let head = raw.head().await;
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            raw.skip(length.expect("a length").parse().expect("a number")).await;
            idle.push(raw);
        }
        support::eventually("no more than the limit are open", || async {
            open(&idle).len() <= 19
        })
        .await;
        assert_eq!(open(&idle), (41..60).collect::<Vec<_>>(), "the newest stay");
        let mut last = idle.pop().expect("a socket");
        last.send("GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert_eq!(last.status().await, 200);
        let pong = session.ask(1, json!({"op": "ping"})).await;
        assert_eq!(pong["op"], "pong", "who is busy is not closed");
    }
}

#[tokio::test]
async fn a_head_has_so_many_fields_and_bytes() {
    let server = TestServer::open();
    let request = |fields: usize, bytes: usize| {
        let mut request = "GET /health/live HTTP/1.1\r\nHost: a\r\n".to_owned();
        (0..fields).for_each(|n| request.push_str(&format!("x-{n}: 1\r\n")));
        request.push_str(&format!("x-long: {}\r\n", "x".repeat(bytes)));
        request.push_str("Connection: close\r\n\r\n");
        request
    };
    for (fields, bytes, status) in [(90, 10, 200), (0, 15_000, 200), (0, 16_500, 431)] {
        let mut raw = Raw::connect(server.addr).await;
        raw.send(&request(fields, bytes)).await;
        assert_eq!(raw.status().await, status, "{fields} fields, {bytes} bytes");
    }
    // More than the parser takes, which has no words for it.
    for fields in [101, 1_000] {
        let mut raw = Raw::connect(server.addr).await;
        _ = raw.try_send(request(fields, 10).as_bytes()).await;
        let (status, problem) = refusal(&raw.rest().await);
        assert_eq!((status, &problem["code"]), (431, &json!("head_too_large")), "{fields} fields");
        assert!(problem["detail"].to_string().contains("96 fields"), "{problem}");
    }
    let mut endless = Raw::connect(server.addr).await;
    endless.send("GET /health/live HTTP/1.1\r\nHost: a\r\nx-long: ").await;
    _ = endless.try_send(&vec![b'x'; 100_000]).await;
    let (status, problem) = refusal(&endless.rest().await);
    assert_eq!((status, &problem["code"]), (431, &json!("head_too_large")));
    let mut upgrade = Raw::connect(server.addr).await;
    let long = "x".repeat(16_400);
    upgrade
        .send(&format!(
            "GET /v1/ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             x-long: {long}\r\n\r\n"
        ))
        .await;
    assert_eq!(upgrade.status().await, 431);
}
