//! Tickets: a single use of someone's rights, in a URL.

mod support;

use fanfare::config::Sources;
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, TestServer, eventually, expect_status, problem, token};
use tokio_tungstenite::tungstenite::Error;

async fn ticket(server: &TestServer, credential: &str, wanted: Option<Value>) -> String {
    let request = server.post("/v1/tickets").bearer_auth(credential);
    let request = match wanted {
        Some(wanted) => request.json(&wanted),
        None => request,
    };
    let response = request.send().await.expect("an answer");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let ticket = expect_status(response, StatusCode::CREATED).await;
    assert_eq!(ticket["expires_in"], 60);
    ticket["ticket"].as_str().expect("a ticket").to_owned()
}

async fn is_refused(server: &TestServer, query: &str) -> bool {
    match WsClient::connect_with(server, query, &[]).await {
        Ok(_) => false,
        Err(Error::Http(response)) => response.status() == 401,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_ticket_opens_one_session_with_the_rights_of_its_token() {
    let server = TestServer::closed();
    let token = token("ada", &["a.>"], &[], 60);
    let first = ticket(&server, &token, None).await;
    let mut client = WsClient::live(&server, &format!("?topic=a.x&ticket={first}")).await;
    let refused = client.ask(1, json!({"op": "subscribe", "topics": ["b"]})).await;
    assert_eq!(refused["code"], "forbidden");
    assert!(is_refused(&server, &format!("?topic=a.x&ticket={first}")).await, "it is used up");
    let second = ticket(&server, &token, None).await;
    SseClient::connect(&server, &format!("?topic=a.x&ticket={second}"), &[]).await;
    let again = server.get(&format!("/v1/sse?topic=a.x&ticket={second}"));
    assert_eq!(problem(again).await, (401, "unauthorized".to_owned()));
    let sessions = server.get("/v1/sessions?user=ada").bearer_auth(API_KEY);
    let sessions = expect_status(sessions.send().await.expect("an answer"), StatusCode::OK).await;
    assert!(!sessions["sessions"].as_array().expect("sessions").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_show_a_ticket_at_once_one_gets_in() {
    let server = TestServer::closed();
    let token = token("ada", &["a"], &[], 60);
    for _ in 0..10 {
        let query = format!("?ticket={}", ticket(&server, &token, None).await);
        let all = (0..8).map(|_| WsClient::connect_with(&server, &query, &[]));
        let all = futures_util::future::join_all(all).await;
        assert_eq!(all.iter().filter(|client| client.is_ok()).count(), 1);
    }
}

#[tokio::test]
async fn an_application_says_for_whom_a_ticket_is_and_what_it_is_for() {
    let server = TestServer::closed();
    let wanted = json!({
        "user": "ada", "subscribe": ["orders.eu.>"], "publish": ["chat"], "session_seconds": 2,
    });
    let ticket = ticket(&server, API_KEY, Some(wanted)).await;
    let mut client = WsClient::connect(&server, &format!("?ticket={ticket}")).await;
    let ask = |topic: &str| json!({"op": "subscribe", "topics": [topic]});
    assert_eq!(client.ask(1, ask("orders.eu.1")).await["op"], "ack");
    assert_eq!(client.ask(2, ask("orders.us.1")).await["code"], "forbidden");
    let publish = json!({"op": "publish", "topic": "chat", "data": 1});
    assert_eq!(client.ask(3, publish).await["op"], "ack");
    client.until("warn").await;
    assert_eq!(client.closed().await.1, Some(4401), "the session lasts as long as was said");
}

#[tokio::test]
async fn a_key_gives_no_rights_that_it_has_not() {
    let server = TestServer::with(|config| {
        let keys = r#"auth.keys=[
            {name = "shop", key = "the-key-of-the-shop", publish = ["orders.>"], subscribe = ["stock.*"]}]"#;
        let sources = Sources { sets: vec![keys.to_owned()], ..Sources::default() };
        config.auth = fanfare::config::load(&sources).expect("a configuration").auth;
    });
    for (subscribe, publish, status) in [
        ("stock.*", "orders.eu.>", 201),
        ("stock.1", "orders.1", 201),
        ("stock.>", "orders.1", 403),
        ("orders.1", "orders.1", 403),
        ("stock.1", "stock.1", 403),
        (">", "orders.1", 403),
    ] {
        let wanted = json!({"user": "ada", "subscribe": [subscribe], "publish": [publish]});
        let request = server.post("/v1/tickets").bearer_auth("the-key-of-the-shop").json(&wanted);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), status, "{subscribe} {publish}");
    }
}

#[tokio::test]
async fn who_may_not_have_a_ticket_is_told_why() {
    let server = TestServer::closed();
    let token = token("ada", &["a"], &[], 60);
    let post = || server.post("/v1/tickets");
    let for_ada = json!({"user": "ada"});
    for (what, request, code) in [
        ("nobody", post(), (401, "unauthorized")),
        ("a user for others", post().bearer_auth(&token).json(&for_ada), (400, "bad_request")),
        ("nobody's", post().bearer_auth(API_KEY), (400, "bad_request")),
        (
            "a user without a name",
            post().bearer_auth(API_KEY).json(&json!({"user": ""})),
            (400, "bad_request"),
        ),
        (
            "a session without end",
            post().bearer_auth(API_KEY).json(&json!({"user": "a", "session_seconds": 86_401})),
            (400, "bad_request"),
        ),
        (
            "no pattern",
            post().bearer_auth(API_KEY).json(&json!({"user": "a", "subscribe": ["a..b"]})),
            (422, "invalid_pattern"),
        ),
        (
            "a typo",
            post().bearer_auth(API_KEY).json(&json!({"user": "a", "subscribes": []})),
            (400, "bad_request"),
        ),
        (
            "text",
            post().bearer_auth(API_KEY).header("content-type", "text/plain").body("{}"),
            (415, "unsupported_media_type"),
        ),
        ("too much", post().bearer_auth(API_KEY).body("x".repeat(70_000)), (413, "too_large")),
    ] {
        let (status, said) = problem(request).await;
        assert_eq!((status, said.as_str()), code, "{what}");
    }
    let made_up = format!("?topic=a&ticket=fft_{:032x}", 7);
    assert!(is_refused(&server, &made_up).await);
    let ticket = ticket(&server, &token, None).await;
    let two = server.get(&format!("/v1/sse?topic=a&ticket={ticket}&access_token={token}"));
    assert_eq!(problem(two).await.0, 400, "one credential is enough");
}

#[tokio::test]
async fn a_ticket_whose_token_has_expired_since_is_refused_at_the_door() {
    let server = TestServer::closed();
    let token = token("ada", &["a"], &[], 2);
    let (first, second) =
        (ticket(&server, &token, None).await, ticket(&server, &token, None).await);
    eventually("the token expires", || async {
        let read = server.get("/v1/topics/a").bearer_auth(&token).send().await;
        read.expect("an answer").status() == 401
    })
    .await;
    assert!(is_refused(&server, &format!("?topic=a&snapshot=true&ticket={first}")).await);
    let stream = server.get(&format!("/v1/sse?topic=a&snapshot=true&ticket={second}"));
    assert_eq!(problem(stream).await, (401, "unauthorized".to_owned()));
}
