//! Who comes in where: proxies, the operators' side, headers, and an address of their own.

mod support;

use fanfare::config::{ProxyHeaders, Sources, load};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::json;
use support::http2::Http2;
use support::sse::SseClient;
use support::tls::Issuer;
use support::ws::WsClient;
use support::{API_KEY, JWT_SECRET, TestServer, close, expect_status, problem};

async fn answer(request: RequestBuilder) -> Response {
    request.send().await.expect("an answer")
}

#[tokio::test]
async fn what_a_listed_proxy_says_of_a_client_is_believed_and_nobody_elses_word_is() {
    let headers = [
        ("x-forwarded-for", "1.1.1.1, 203.0.113.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "push.example"),
        ("forwarded", "for=198.51.100.7;proto=https;host=other.example"),
    ];
    let cases = [
        (None, "127.0.0.1", None),
        (Some(ProxyHeaders::XForwarded), "203.0.113.9", Some("https://push.example")),
        (Some(ProxyHeaders::Forwarded), "198.51.100.7", Some("https://other.example")),
    ];
    for (kind, seen, own) in cases {
        let server = TestServer::with(|config| {
            close(config);
            if let Some(kind) = kind {
                config.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
                config.server.proxy_headers = kind;
            }
        });
        let query = format!("?topic=a&access_token={API_KEY}");
        let sessions = async || {
            let request = server.get("/v1/sessions").bearer_auth(API_KEY);
            let list = expect_status(answer(request).await, StatusCode::OK).await;
            list["sessions"][0]["address"].clone()
        };
        let client = WsClient::connect_with(&server, &query, &headers).await.expect("in");
        assert_eq!(sessions().await, seen);
        drop(client);
        support::eventually("it has left", async || sessions().await.is_null()).await;
        let stream = SseClient::connect(&server, &query, &headers).await;
        assert_eq!(sessions().await, seen);
        drop(stream);
        for origin in ["https://push.example", "https://other.example", "http://push.example"] {
            let mut request = server.get("/v1/topics").bearer_auth(API_KEY);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let status = answer(request.header("origin", origin)).await.status();
            assert_eq!(status == 200, own == Some(origin), "{origin} as {kind:?}: {status}");
        }
    }
}

#[tokio::test]
async fn an_operators_paths_need_an_admin_key_and_are_off_where_there_is_none() {
    let secret = std::str::from_utf8(JWT_SECRET).expect("text");
    for (set, console, sessions) in [
        (format!("auth.jwt_secret={secret}"), 404, 401),
        (r#"auth.keys=[{name="a", key="a-key-that-publishes", publish=["a"]}]"#.into(), 404, 401),
        (r#"auth.keys=[{name="a", key="a-key-of-operators", admin=true}]"#.into(), 200, 401),
        (format!("auth.api_keys={API_KEY}"), 200, 401),
    ] {
        let server = TestServer::with(|config| {
            let sets = vec![set.clone()];
            let typed = load(&Sources { sets, ..Sources::default() }).expect("a configuration");
            config.auth = typed.auth;
            config.server.listen.set_ip([0, 0, 0, 0].into());
        });
        let url = |path: &str| format!("http://127.0.0.1:{}{path}", server.addr.port());
        for path in ["/", "/console.js", "/console.css"] {
            let response = answer(server.http.get(url(path))).await;
            assert_eq!(response.status(), console, "{path} with {set}");
            let text = response.text().await.expect("text");
            assert!(console == 200 || text.contains("until there is an API key"), "{text}");
        }
        for (method, path) in [
            (Method::GET, "/v1/sessions"),
            (Method::DELETE, "/v1/sessions/x"),
            (Method::DELETE, "/v1/users/x/sessions"),
            (Method::GET, "/metrics"),
        ] {
            let response = answer(server.http.request(method, url(path))).await;
            assert_eq!(response.status(), sessions, "{path} with {set}");
            let text = response.text().await.expect("text");
            assert_eq!(console == 404, text.contains("off until there is an API key"), "{text}");
        }
    }
}

#[tokio::test]
async fn on_this_machine_the_console_is_there_without_an_admin_key() {
    let server = TestServer::with(|config| {
        close(config);
        config.auth.api_keys.clear();
    });
    assert_eq!(answer(server.get("/")).await.status(), 200);
    assert_eq!(problem(server.get("/v1/sessions")).await, (401, "unauthorized".to_owned()));
}

#[tokio::test]
async fn with_a_listener_of_their_own_operators_and_publishers_are_served_there_alone() {
    let server = TestServer::with(|config| {
        config.server.internal_listen = Some(([127, 0, 0, 1], 0).into());
    });
    let inside = server.internal.expect("an address");
    let mut client = WsClient::live(&server, "?topic=a").await;
    let body = json!({"topic": "a", "data": 1}).to_string();
    for (method, path, public, internal) in [
        (Method::POST, "/v1/events", 405, 201),
        (Method::POST, "/v1/topics/a/events", 405, 201),
        (Method::DELETE, "/v1/topics/b/events", 405, 200),
        // The body is that of a publish.
        (Method::POST, "/v1/sse", 400, 400),
        (Method::GET, "/v1/topics/a/events", 200, 200),
        (Method::GET, "/v1/events?match=a", 200, 200),
        (Method::GET, "/v1/snapshot?match=a", 200, 200),
        (Method::GET, "/v1/cursor", 200, 200),
        (Method::GET, "/v1/topics/a", 200, 200),
        (Method::GET, "/v1/topics", 200, 200),
        (Method::GET, "/v1/topic-tree", 200, 200),
        (Method::GET, "/v1/caller", 200, 200),
        (Method::GET, "/v1/topics/a/rule", 404, 200),
        (Method::GET, "/v1/settings", 404, 200),
        (Method::GET, "/v1/sessions", 404, 200),
        (Method::GET, "/v1/%73essions", 404, 200),
        (Method::GET, "/v1/../v1/sessions", 404, 200),
        (Method::DELETE, "/v1/users/x/sessions", 404, 200),
        (Method::GET, "/v1/revocations", 404, 200),
        (Method::GET, "/metrics", 404, 200),
        (Method::GET, "/", 404, 200),
        (Method::GET, "/console.js", 404, 200),
        (Method::GET, "/console/overview.js", 404, 200),
        (Method::GET, "/docs", 200, 200),
        (Method::GET, "/fanfare.js", 200, 200),
        (Method::GET, "/fanfare/streams.js", 200, 200),
        (Method::GET, "/health/live", 200, 200),
        (Method::GET, "/health/ready", 200, 200),
    ] {
        for (address, status) in [(server.addr, public), (inside, internal)] {
            let url = format!("http://{address}{path}");
            let request = server.http.request(method.clone(), &url);
            let request = match method {
                Method::POST => request.body(body.clone()),
                _ => request,
            };
            assert_eq!(answer(request).await.status(), status, "{method} {url}");
        }
    }
    // What is published inside comes out.
    assert_eq!(client.until("event").await["data"], 1);
    for path in ["/v1/topics/a/events", "/v1/events"] {
        let refused = server.http.patch(server.url(path));
        assert_eq!(answer(refused).await.headers()["allow"], "GET, HEAD");
    }
}

#[tokio::test]
async fn every_response_has_the_headers_that_keep_browsers_from_harm() {
    let issuer = Issuer::new();
    let server = TestServer::with(|config| {
        config.server.certificate = Some(issuer.certificate());
    });
    let http = Http2::connect(&server).await;
    for (path, status, cached) in [
        ("/", 200, "no-cache"),
        ("/console.js", 200, "no-cache"),
        ("/docs", 200, "no-cache"),
        ("/fanfare.js", 200, "no-cache"),
        ("/v1/topics/a/events", 200, "no-store"),
        ("/v1/sessions", 200, "no-store"),
        ("/metrics", 200, "no-store"),
        ("/nowhere", 404, "no-store"),
        ("/v1/topics/a..b", 422, "no-store"),
        ("/v1/ws", 426, "no-store"),
    ] {
        let response = http.get(path).await;
        assert_eq!(response.status, status, "{path}");
        let header = |name: &str| {
            let values: Vec<_> = response.headers.get_all(name).iter().collect();
            assert_eq!(values.len(), 1, "{name} of {path}");
            values[0].to_str().expect("text").to_owned()
        };
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        for loose in ["unsafe", "*", "http:", "https:", "ws:", "blob:"] {
            assert!(!policy.contains(loose), "{policy}");
        }
        for (name, value) in [
            ("cache-control", cached),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("strict-transport-security", "max-age=31536000"),
        ] {
            assert_eq!(header(name), value, "{name} of {path}");
        }
        assert!(header("permissions-policy").contains("camera=()"));
    }
    let plain = TestServer::open();
    assert!(!answer(plain.get("/")).await.headers().contains_key("strict-transport-security"));
}

#[tokio::test]
async fn no_data_whatever_its_line_ends_breaks_out_of_its_event() {
    let server = TestServer::open();
    let mut stream = SseClient::live(&server, "?topic=a").await;
    let mut bare = SseClient::live(&server, "?topic=a&format=data").await;
    let ends =
        ["\n", "\r", "\r\n", "\n\n", "\r\r", "\u{85}", "\u{2028}", "\u{2029}", "\0", "\u{b}"];
    for end in ends {
        for field in ["data: forged", "event: fanfare.bye", "id: forged", "retry: 1", ": x", ""] {
            let text = format!("a{end}{field}{end}{end}b");
            server.publish("a", &json!(text)).await;
            let plain = server.post("/v1/topics/a/events").header("content-type", "text/plain");
            assert_eq!(answer(plain.body(text.clone())).await.status(), 201);
            for _ in 0..2 {
                let event = stream.next().await.expect("an event");
                assert_eq!(
                    (event.event.as_str(), &event.json()["data"]),
                    ("message", &json!(text))
                );
                let event = bare.next().await.expect("an event");
                assert_eq!((event.event.as_str(), event.json()), ("message", json!(text)));
                assert!(event.id.len() > 6, "{}", event.id);
            }
            // Between the tokens of JSON, where a line end is no part of any text.
            let spaced = format!("[{end}1{end}]");
            let json =
                server.post("/v1/topics/a/events").header("content-type", "application/json");
            let status = answer(json.body(spaced)).await.status().as_u16();
            let is_space = end.chars().all(|c| matches!(c, '\r' | '\n'));
            assert_eq!(status, if is_space { 201 } else { 400 }, "{end:?}");
            if is_space {
                assert_eq!(stream.next().await.expect("an event").json()["data"], json!([1]));
                assert_eq!(bare.next().await.expect("an event").json(), json!([1]));
            }
            let typed = server.post("/v1/topics/a/events").body("1");
            let kind = format!("x{end}{field}");
            if let Ok(value) = reqwest::header::HeaderValue::from_str(&kind) {
                let status = answer(typed.header("x-event-type", value)).await.status();
                assert!(status.is_client_error(), "{kind:?}");
            }
        }
    }
}
