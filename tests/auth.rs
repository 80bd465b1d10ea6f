//! Who may do what, with credentials configured: every path asks the same question.

mod support;

use fanfare::config::{Storage, Who};
use fanfare::model::Pattern;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, TestServer, close, problem, token};
use tokio_tungstenite::tungstenite::Error;

fn with(request: RequestBuilder, credential: &str) -> RequestBuilder {
    request.header("authorization", format!("Bearer {credential}"))
}

async fn publish(server: &TestServer, topic: &str, data: i32) -> String {
    let request = with(server.post(&format!("/v1/topics/{topic}/events")), API_KEY);
    let response = request.json(&data).send().await.expect("an answer");
    let receipt: serde_json::Value = response.json().await.expect("JSON");
    receipt["id"].as_str().expect("an id").to_owned()
}

/// What is asked, how, and the status that each of six callers gets.
type Question<'a> = (&'a str, &'a dyn Fn() -> RequestBuilder, [u16; 6]);

#[tokio::test]
async fn every_path_asks_who_and_whether() {
    let server = TestServer::closed();
    let granted = token("ada", &["a.>"], &["a.>"], 60);
    let ungranted = token("bob", &["b"], &["b"], 60);
    let expired = token("eve", &["a.>"], &["a.>"], -60);
    let callers = [
        ("nobody", None),
        ("a wrong key", Some("not-an-api-key-at-all")),
        ("an expired token", Some(expired.as_str())),
        ("a token without the grant", Some(ungranted.as_str())),
        ("a token with the grant", Some(granted.as_str())),
        ("an application", Some(API_KEY)),
    ];
    let requests: [Question; 8] = [
        (
            "publish",
            &|| server.post("/v1/topics/a.x/events").body("1"),
            [401, 401, 401, 403, 201, 201],
        ),
        (
            "batch",
            &|| server.post("/v1/events").body(r#"{"topic":"a.x","data":1}"#),
            [401, 401, 401, 403, 201, 201],
        ),
        ("read", &|| server.get("/v1/topics/a.x/events"), [401, 401, 401, 403, 200, 200]),
        ("topic", &|| server.get("/v1/topics/a.x"), [401, 401, 401, 403, 200, 200]),
        ("list", &|| server.get("/v1/topics?match=a.*"), [401, 401, 401, 403, 200, 200]),
        ("forget", &|| server.delete("/v1/topics/none/events"), [401, 401, 401, 403, 403, 200]),
        ("sessions", &|| server.get("/v1/sessions"), [401, 401, 401, 403, 403, 200]),
        ("metrics", &|| server.get("/metrics"), [401, 401, 401, 403, 403, 200]),
    ];
    for (what, request, statuses) in &requests {
        for ((who, credential), status) in callers.iter().zip(statuses) {
            let request = match credential {
                Some(credential) => with(request(), credential),
                None => request(),
            };
            let response = request.send().await.expect("an answer");
            assert_eq!(response.status(), *status, "{what} by {who}");
            // RFC 6750, section 3.1: a credential that is not valid is named as the error, none is not.
            let challenge = match (status, credential) {
                (401, Some(_)) => Some(r#"Bearer error="invalid_token""#),
                (401, None) => Some("Bearer"),
                _ => None,
            };
            let said = response.headers().get("www-authenticate");
            assert_eq!(said.map(|said| said.to_str().expect("text")), challenge, "{what} by {who}");
            let text = response.text().await.expect("text");
            assert!(credential.is_none_or(|credential| !text.contains(credential)), "{text}");
        }
    }
    for (who, credential, status) in [
        ("nobody", None, 401),
        ("a wrong key", Some("not-an-api-key-at-all"), 401),
        ("a token without the grant", Some(ungranted.as_str()), 403),
    ] {
        let request = server.get("/v1/sse?topic=a.x");
        let request = credential.map_or(request.try_clone().expect("a copy"), |c| with(request, c));
        assert_eq!(problem(request).await.0, status, "stream by {who}");
    }
}

#[tokio::test]
async fn a_websocket_takes_its_credential_in_three_ways() {
    let server = TestServer::closed();
    let token = token("ada", &["a"], &[], 60);
    let header = format!("Bearer {token}");
    let mut by_header = WsClient::connect_with(&server, "?topic=a", &[("authorization", &header)])
        .await
        .expect("in");
    by_header.until("live").await;
    WsClient::live(&server, &format!("?topic=a&access_token={token}")).await;
    // Without one, the subscription waits for `auth`.
    let mut by_message = WsClient::connect(&server, "?topic=a").await;
    let refused = by_message.ask(1, json!({"op": "subscribe", "topics": ["a"]})).await;
    assert_eq!(refused["code"], "unauthorized");
    let refused = by_message.ask(2, json!({"op": "auth", "token": "wrong"})).await;
    assert_eq!(refused["code"], "unauthorized");
    let ack = by_message.ask(3, json!({"op": "auth", "token": token})).await;
    assert_eq!(ack["op"], "ack");
    assert_eq!(by_message.until("live").await["ref"], 0);
    publish(&server, "a", 1).await;
    assert_eq!(by_message.until("event").await["data"], 1);
    // It may renew, but not become someone else.
    let other = support::token("bob", &["a"], &[], 60);
    let refused = by_message.ask(4, json!({"op": "auth", "token": other})).await;
    assert_eq!(refused["code"], "forbidden");
    let bad = [("authorization", "Bearer nonsense")];
    let refused = WsClient::connect_with(&server, "", &bad).await;
    assert!(matches!(refused, Err(Error::Http(response)) if response.status() == 401));
}

#[tokio::test]
async fn a_wildcard_shows_only_what_the_grant_covers_live_replayed_and_in_snapshots() {
    let server = TestServer::closed();
    let before = publish(&server, "a.public", 0).await;
    publish(&server, "a.secret", 1).await;
    publish(&server, "a.public", 2).await;
    let token = token("ada", &["a.public"], &[], 60);
    let query = format!("?topic=a.*&access_token={token}");
    let mut resumed = WsClient::connect(&server, &format!("{query}&since={before}")).await;
    let mut snapshot = WsClient::connect(&server, &format!("{query}&snapshot=true")).await;
    let mut stream = SseClient::connect(&server, &format!("{query}&since={before}"), &[]).await;
    for client in [&mut resumed, &mut snapshot] {
        assert_eq!(client.until("event").await["data"], 2);
        assert_eq!(client.next().await["op"], "live");
    }
    assert_eq!(stream.next().await.expect("an event").json()["data"], 2);
    assert_eq!(stream.next().await.expect("an event").event, "fanfare.live");
    publish(&server, "a.secret", 3).await;
    publish(&server, "a.public", 4).await;
    for client in [&mut resumed, &mut snapshot] {
        assert_eq!(client.until("event").await["data"], 4);
    }
    assert_eq!(stream.next().await.expect("an event").json()["data"], 4);
    let listed = with(server.get("/v1/topics?match=a.*"), &token).send().await.expect("an answer");
    let listed: serde_json::Value = listed.json().await.expect("JSON");
    assert_eq!(listed["topics"].as_array().expect("a list").len(), 1);
}

#[tokio::test]
async fn a_key_does_what_it_is_scoped_to_and_nothing_else() {
    let server = TestServer::with(|config| {
        let keys = r#"auth.keys=[
            {name = "old", key = "the-old-key-of-the-shop", publish = ["orders.>"]},
            {name = "new", key = "the-new-key-of-the-shop", publish = ["orders.>"]},
            {name = "reader", key = "the-key-of-the-reader", subscribe = ["orders.eu.>"]},
            {name = "support", key = "the-key-of-support", admin = true}]"#;
        let sets =
            vec![keys.to_owned(), "topics=[{match = \"open.>\", publish = \"anyone\"}]".into()];
        let loaded =
            fanfare::config::load(&fanfare::config::Sources { sets, ..Default::default() });
        let loaded = loaded.expect("a configuration");
        (config.auth, config.rules) = (loaded.auth, loaded.rules);
        config.rules.listed.iter_mut().for_each(|rule| rule.storage = Storage::Memory);
        config.rules.default.storage = Storage::Memory;
    });
    let status = async |request: RequestBuilder, key: &str| {
        with(request, key).send().await.expect("an answer").status().as_u16()
    };
    let publish = |topic: &str| server.post(&format!("/v1/topics/{topic}/events")).json(&1);
    for key in ["the-old-key-of-the-shop", "the-new-key-of-the-shop"] {
        assert_eq!(status(publish("orders.eu.1"), key).await, 201);
        assert_eq!(status(publish("stock.1"), key).await, 403);
        assert_eq!(status(publish("open.x"), key).await, 201, "anyone may");
        assert_eq!(status(server.get("/v1/topics/orders.eu.1/events"), key).await, 403);
        assert_eq!(status(server.get("/v1/sessions"), key).await, 403);
        assert_eq!(status(server.delete("/v1/topics/orders.eu.1/events"), key).await, 403);
    }
    let reader = "the-key-of-the-reader";
    assert_eq!(status(publish("orders.eu.1"), reader).await, 403);
    assert_eq!(status(server.get("/v1/topics/orders.eu.1/events"), reader).await, 200);
    assert_eq!(status(server.get("/v1/topics/orders.us.1/events"), reader).await, 403);
    let mut client =
        WsClient::live(&server, &format!("?topic=orders.%3E&access_token={reader}")).await;
    for (topic, data) in [("orders.us.1", 1), ("orders.eu.1", 2)] {
        let request =
            with(server.post(&format!("/v1/topics/{topic}/events")), "the-new-key-of-the-shop");
        assert_eq!(request.json(&data).send().await.expect("an answer").status(), 201);
    }
    assert_eq!(client.until("event").await["data"], 2);
    assert_eq!(status(server.get("/v1/sessions"), "the-key-of-support").await, 200);
    assert_eq!(
        status(server.delete("/v1/topics/orders.eu.1/events"), "the-key-of-support").await,
        200
    );
    assert_eq!(status(publish("orders.eu.1"), "the-key-of-support").await, 403);
}

#[tokio::test]
async fn fewer_rights_after_renewal_end_what_they_no_longer_cover() {
    let server = TestServer::closed();
    let before = token("ada", &["a", "b"], &[], 60);
    let mut client =
        WsClient::live(&server, &format!("?topic=a&topic=b&access_token={before}")).await;
    let fewer = token("ada", &["b"], &[], 60);
    assert_eq!(client.ask(1, json!({"op": "auth", "token": fewer})).await["op"], "ack");
    let refusal = client.until("error").await;
    assert_eq!((&refusal["code"], refusal.get("ref")), (&json!("forbidden"), None));
    publish(&server, "a", 1).await;
    publish(&server, "b", 2).await;
    assert_eq!(client.until("event").await["data"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_ended_lets_nothing_through_while_its_subscription_is_taken_away() {
    let server = std::sync::Arc::new(TestServer::closed());
    let publishing = tokio::spawn({
        let server = server.clone();
        async move {
            loop {
                publish(&server, "a", 1).await;
            }
        }
    });
    let (before, fewer) = (token("ada", &["a", "b"], &[], 60), token("ada", &["b"], &[], 60));
    let query = format!("?topic=a&topic=b&access_token={before}");
    for _ in 0..50 {
        let mut client = WsClient::live(&server, &query).await;
        client.send(json!({"op": "auth", "ref": 1, "token": fewer})).await;
        client.until("error").await;
        client.send(json!({"op": "ping", "ref": 2})).await;
        loop {
            let said = client.next().await;
            assert_ne!(said["op"], "event", "{said}");
            if said["op"] == "pong" {
                break;
            }
        }
    }
    publishing.abort();
}

#[tokio::test]
async fn a_session_ends_when_its_token_expires_unless_it_is_renewed() {
    let server = TestServer::closed();
    let brief = token("ada", &["a"], &[], 2);
    let query = format!("?topic=a&access_token={brief}");
    let mut ends = WsClient::live(&server, &query).await;
    let mut renewed = WsClient::live(&server, &query).await;
    let longer = token("ada", &["a"], &[], 60);
    assert_eq!(renewed.ask(1, json!({"op": "auth", "token": longer})).await["op"], "ack");
    let warned = ends.until("warn").await;
    assert_eq!(warned["code"], "token_expires");
    assert!((1..=1_000).contains(&warned["expires_ms"].as_u64().expect("a number")), "{warned}");
    let (bye, code) = ends.closed().await;
    assert_eq!((&bye.expect("a bye")["code"], code), (&json!("unauthorized"), Some(4401)));
    publish(&server, "a", 1).await;
    assert_eq!(renewed.until("event").await["data"], 1);
}

#[tokio::test]
async fn who_never_says_who_they_are_is_closed_in_time() {
    let server = TestServer::with(|config| {
        close(config);
        config.limits.auth_timeout = std::time::Duration::from_millis(100);
    });
    let mut client = WsClient::connect(&server, "?topic=a").await;
    let (bye, code) = client.closed().await;
    assert_eq!((&bye.expect("a bye")["code"], code), (&json!("unauthorized"), Some(4401)));
}

#[tokio::test]
async fn rules_open_and_close_topics_and_clients_publish_where_granted() {
    let server = TestServer::with(|config| {
        close(config);
        for (pattern, who) in [("open.>", Who::Anyone), ("shut.>", Who::Nobody)] {
            let mut rule = config.rules.default.clone();
            rule.pattern = Pattern::parse(pattern).expect("a pattern");
            (rule.subscribe, rule.publish) = (who, who);
            config.rules.listed.push(rule);
        }
    });
    let mut anyone = WsClient::live(&server, "?topic=open.x").await;
    let publish = |topic: &str| json!({"op": "publish", "topic": topic, "data": 1});
    assert_eq!(anyone.ask(1, publish("open.x")).await["op"], "ack");
    assert_eq!(anyone.ask(2, publish("other")).await["code"], "unauthorized");
    let token = token("ada", &[">"], &[">"], 60);
    let mut ada = WsClient::connect(&server, &format!("?access_token={token}")).await;
    assert_eq!(ada.ask(1, publish("other")).await["op"], "ack");
    assert_eq!(ada.ask(2, publish("shut.x")).await["code"], "forbidden");
    let subscribe = json!({"op": "subscribe", "topics": ["shut.x"]});
    assert_eq!(ada.ask(3, subscribe).await["code"], "forbidden");
    // Every session of a user can be ended at once.
    let ended =
        with(server.delete("/v1/users/ada/sessions"), API_KEY).send().await.expect("an answer");
    let ended: serde_json::Value = ended.json().await.expect("JSON");
    assert_eq!(ended, json!({"ended": 1}));
    assert_eq!(ada.closed().await.1, Some(1008));
}

#[tokio::test]
async fn a_page_whose_name_was_made_this_machines_reads_nothing_of_an_open_broker() {
    let server = TestServer::open();
    let port = server.addr.port();
    // A browser names no origin with what a page reads from its own address.
    let host = format!("evil.example:{port}");
    for path in
        ["/v1/topics", "/v1/sessions", "/metrics", "/v1/topics/a/events", "/v1/sse?topic=%3E"]
    {
        let refused = problem(server.get(path).header("host", &host)).await;
        assert_eq!(refused, (403, "origin_not_allowed".to_owned()), "{path}");
        let here = server.get(path).header("host", format!("localhost:{port}"));
        assert_eq!(here.send().await.expect("an answer").status(), 200, "{path}");
    }
    let refused = problem(server.post("/v1/topics/a/events").header("host", &host).body("1")).await;
    assert_eq!(refused, (403, "origin_not_allowed".to_owned()));
    let Err(Error::Http(refused)) = WsClient::connect_with(&server, "", &[("host", &host)]).await
    else {
        panic!("it is refused")
    };
    assert_eq!(refused.status(), 403);
}

#[tokio::test]
async fn a_page_of_a_development_server_works_with_an_open_broker_and_no_page_without_an_origin_does()
 {
    let (server, closed) = (TestServer::open(), TestServer::with(close));
    let here = format!("localhost:{}", server.addr.port());
    let elsewhere = format!("push.example:{}", server.addr.port());
    let page = "http://localhost:5173";
    for (server, origin, host, may) in [
        (&server, page, &here, true),
        (&server, "https://app.localhost:3000", &here, true),
        (&server, "http://127.1.2.3", &here, true),
        (&server, "null", &here, false),
        // The name of a proxy, or one that somebody had made this machine's.
        (&server, page, &elsewhere, false),
        (&closed, page, &here, false),
    ] {
        let request = |method, path| {
            let request = server.http.request(method, server.url(path)).bearer_auth(API_KEY);
            request.header("host", host).header("origin", origin)
        };
        let preflight = request(Method::OPTIONS, "/v1/topics/a/events")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type");
        let publish = request(Method::POST, "/v1/topics/a/events").json(&json!(1));
        for (request, status) in [(preflight, 204), (publish, 201)] {
            let answer = request.send().await.expect("an answer");
            let status = if may { status } else { 403 };
            assert_eq!(answer.status(), status, "{origin} at {host}");
            let vary: Vec<_> = answer.headers().get_all("vary").iter().collect();
            let varies =
                vary.iter().any(|field| field.to_str().is_ok_and(|it| it.contains("Origin")));
            // A broker that lists none lets in its own pages alone.
            let is_open = !std::ptr::eq(server, &closed);
            assert_eq!(varies, is_open, "{origin} at {host}: {vary:?}");
            let allowed = answer.headers().get("access-control-allow-origin");
            assert!(!may || allowed.is_some_and(|allowed| allowed == origin), "{origin} at {host}");
        }
        let fields = [("origin", origin), ("host", host.as_str())];
        let socket = WsClient::connect_with(server, "?topic=a", &fields).await;
        assert_eq!(socket.is_ok(), may, "{origin} at {host}");
    }
    // Caches keep apart what pages get from what others get.
    let plain = server.get("/v1/topics").send().await.expect("an answer");
    assert_eq!(plain.headers()["vary"], "Origin");
}

#[tokio::test]
async fn a_credential_in_the_url_of_a_path_that_looks_at_none_is_told_where_it_belongs() {
    let (open, closed) = (TestServer::open(), TestServer::with(close));
    for path in ["/metrics", "/v1/sessions", "/v1/topics/a/events"] {
        let path = format!("{path}?access_token={API_KEY}");
        let answer = closed.get(&path).send().await.expect("an answer");
        assert_eq!(answer.status(), 401, "{path}");
        let said = answer.text().await.expect("text");
        assert!(
            said.contains("Authorization: Bearer") && !said.contains(API_KEY),
            "{path}: {said}"
        );
    }
    let path = format!("/metrics?access_token={API_KEY}");
    let shown = closed.get(&path).bearer_auth(API_KEY).send().await.expect("an answer");
    assert_eq!(shown.status(), 200, "what is shown as it should be counts");
    assert_eq!(open.get(&path).send().await.expect("an answer").status(), 200, "nobody is asked");
}

#[tokio::test]
async fn pages_of_foreign_origins_get_nothing_on_any_path() {
    let listed = "https://dashboard.example";
    let server = TestServer::with(|config| config.server.allowed_origins = vec![listed.to_owned()]);
    let own = format!("http://{}", server.addr);
    for (origin, allowed) in [
        (own.as_str(), true),
        (listed, true),
        ("https://evil.example", false),
        ("null", false),
        ("http://127.0.0.1:1", true),
        ("http://localhost.evil.example", false),
        ("https://dashboard.example.evil.example", false),
        ("https://evil.example/https://dashboard.example", false),
        ("https://sub.dashboard.example", false),
        ("https://user@dashboard.example", false),
        ("https://dashboard.example@evil.example", false),
        ("https://dashboard.example:443", false),
        ("https://dashboard.example:8443", false),
        ("https://dashboard.example/", false),
        ("https://dashboard.example.", false),
        ("https://dashboard.example#", false),
        ("https://dashboard.exampl", false),
        ("https://dashboard.examplee", false),
        ("https://xn--dashbord-b4a.example", false),
        ("https://DASHBOARD.EXAMPLE", false),
        ("HTTPS://dashboard.example", false),
        ("http://dashboard.example", false),
        ("wss://dashboard.example", false),
        ("//dashboard.example", false),
        ("dashboard.example", false),
        ("https://dashboard.example https://evil.example", false),
        ("https://evil.example, https://dashboard.example", false),
        ("http://[::1]:8080", true),
        ("http://0.0.0.0", false),
        ("file://", false),
        ("chrome-extension://dashboard.example", false),
        ("data:", false),
        ("*", false),
    ] {
        let rest = server.post("/v1/topics/a/events").body("1").header("origin", origin);
        let response = rest.send().await.expect("an answer");
        assert_eq!(response.status(), if allowed { 201 } else { 403 }, "{origin}");
        let cors = response.headers().get("access-control-allow-origin");
        assert_eq!(cors.is_some(), allowed, "{origin}");
        let socket = WsClient::connect_with(&server, "", &[("origin", origin)]).await;
        match socket {
            Ok(_) => assert!(allowed, "{origin} was admitted"),
            Err(Error::Http(response)) => {
                assert!(!allowed && response.status() == 403, "{origin}");
            }
            Err(error) => panic!("{origin}: {error}"),
        }
        if !allowed {
            let stream = server.get("/v1/sse?topic=a").header("origin", origin);
            assert_eq!(problem(stream).await, (403, "origin_not_allowed".to_owned()));
        }
    }
    let preflight = server.http.request(Method::OPTIONS, server.url("/v1/events"));
    let preflight =
        preflight.header("origin", listed).header("access-control-request-method", "POST");
    let preflight = preflight.send().await.expect("an answer");
    assert_eq!(preflight.status(), 204);
    assert_eq!(preflight.headers()["access-control-allow-origin"], listed);
}
