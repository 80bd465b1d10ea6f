//! The door as clients, proxies and platforms knock: credentials, tickets, origins and proxies in other
//! words than ours, which mean the same.

mod support;

use fanfare::config::{ProxyHeaders, Rule, Who};
use fanfare::model::Pattern;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use support::http2::{Http2, whole};
use support::raw::knock;
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, TestServer, close, expect_status, problem, token};
use tokio_tungstenite::tungstenite::Error;

/// What a proxy or a platform says of itself where we read a token.
const OTHER_SCHEMES: [&str; 5] = [
    "Basic dXNlcjpwYXNzd29yZA==",
    "Negotiate YIIJvwYGKwYBBQUCoIIJszCCCa",
    "Digest username=\"ada\", realm=\"a, b\", nonce=\"\", uri=\"/\", response=\"\"",
    "AWS4-HMAC-SHA256 Credential=a/20260101/eu/s3, SignedHeaders=host, Signature=b",
    "anything",
];

const LISTED: &str = "https://dash.example";

async fn answer(request: RequestBuilder) -> Response {
    request.send().await.expect("an answer")
}

async fn status(request: RequestBuilder) -> u16 {
    answer(request).await.status().as_u16()
}

/// A broker with credentials, and one topic that is open to all.
fn with_an_open_topic() -> TestServer {
    TestServer::with(|config| {
        close(config);
        let rule = Rule {
            pattern: Pattern::parse("public").expect("a pattern"),
            subscribe: Who::Anyone,
            publish: Who::Anyone,
            ..config.rules.default.clone()
        };
        config.rules.listed.push(rule);
    })
}

fn listing() -> TestServer {
    TestServer::with(|config| {
        close(config);
        config.server.allowed_origins = vec![LISTED.to_owned()];
    })
}

async fn a_ticket(server: &TestServer) -> String {
    let token = token("ada", &["a.>"], &[], 60);
    let response = answer(server.post("/v1/tickets").bearer_auth(token)).await;
    let ticket = expect_status(response, StatusCode::CREATED).await;
    ticket["ticket"].as_str().expect("a ticket").to_owned()
}

/// The status of a handshake that is refused.
async fn refused(server: &TestServer, query: &str, headers: &[(&'static str, &str)]) -> u16 {
    match WsClient::connect_with(server, query, headers).await {
        Ok(_) => panic!("{query} is let in"),
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn another_scheme_of_authorization_is_no_credential_of_ours() {
    let (open, closed) = (TestServer::open(), with_an_open_topic());
    for scheme in OTHER_SCHEMES {
        let with = |request: RequestBuilder| request.header("authorization", scheme);
        let headers = [("authorization", scheme)];
        assert_eq!(status(with(open.get("/v1/topics"))).await, 200, "{scheme}");
        assert_eq!(status(with(open.get("/"))).await, 200, "{scheme}");
        assert_eq!(status(with(open.get("/v1/sessions"))).await, 200, "{scheme}");
        WsClient::connect_with(&open, "?topic=a", &headers).await.expect("in");
        assert_eq!(status(with(closed.get("/v1/topics/public"))).await, 200, "{scheme}");
        let post = closed.post("/v1/topics/public/events").body("1");
        assert_eq!(status(with(post)).await, 201, "{scheme}");
        SseClient::connect(&closed, "?topic=public", &headers).await;
        let token = format!("?topic=a&access_token={API_KEY}");
        SseClient::connect(&closed, &token, &headers).await;
        WsClient::connect_with(&closed, &token, &headers).await.expect("in");
        let ticket = format!("?topic=a.x&ticket={}", a_ticket(&closed).await);
        WsClient::connect_with(&closed, &ticket, &headers).await.expect("in");
        // It gives no right.
        let unauthorized = (401, "unauthorized".to_owned());
        assert_eq!(problem(with(closed.get("/v1/topics/a"))).await, unauthorized);
        assert_eq!(problem(with(closed.get("/v1/sessions"))).await, unauthorized);
        assert_eq!(problem(with(closed.post("/v1/topics/a/events").body("1"))).await, unauthorized);
    }
    // Ours is looked at, whatever it is like.
    for ours in ["Bearer", "bearer ", "BEARER wrong", "Bearer\twrong", "Bearer w\u{e4}"] {
        let ours = reqwest::header::HeaderValue::from_bytes(ours.as_bytes()).expect("a value");
        let refused = status(closed.get("/v1/topics/public").header("authorization", &ours)).await;
        assert!([400, 401].contains(&refused), "{ours:?}: {refused}");
    }
}

#[tokio::test]
async fn a_ticket_is_not_used_up_by_a_request_that_is_refused_for_anything_else() {
    let server = with_an_open_topic();
    let ticket = a_ticket(&server).await;
    for (query, headers) in [
        (format!("?topic=a..b&ticket={ticket}"), vec![]),
        (format!("?topic=a.x&since=nonsense&ticket={ticket}"), vec![]),
        (format!("?topic=a.x&mode=nonsense&ticket={ticket}"), vec![]),
        (format!("?topic=a.x&ticket={ticket}"), vec![("origin", "https://evil.example")]),
        (format!("?topic=a.x&ticket={ticket}"), vec![("authorization", "Bearer another")]),
        (format!("?topic=a.x&ticket={ticket}&access_token=x"), vec![]),
        (format!("?topic=a.x&ticket={ticket}"), vec![("sec-websocket-protocol", "unspoken")]),
        (format!("?topic=a.x&ticket={ticket}"), vec![("sec-websocket-extensions", "=")]),
    ] {
        assert_ne!(refused(&server, &query, &headers).await, 401, "{query} {headers:?}");
        if !headers.iter().any(|(name, _)| name.starts_with("sec-")) {
            let mut stream = server.get(&format!("/v1/sse{query}"));
            for (name, value) in headers {
                stream = stream.header(name, value);
            }
            assert_ne!(status(stream).await, 401, "{query}");
        }
    }
    let form = format!("/v1/sse?topic=a.x&format=x&ticket={ticket}");
    assert_eq!(status(server.get(&form)).await, 400);
    assert_eq!(status(server.get(&format!("/v1/sse?ticket={ticket}"))).await, 400);
    WsClient::connect(&server, &format!("?topic=a.x&ticket={ticket}")).await;
}

#[tokio::test]
async fn a_ticket_is_not_used_up_where_there_is_no_room() {
    for is_of_address in [true, false] {
        let server = TestServer::with(|config| {
            close(config);
            if is_of_address {
                config.limits.connections_per_address = 4;
            } else {
                config.limits.connections = 4;
            }
        });
        let ticket = a_ticket(&server).await;
        let query = format!("?topic=a.x&ticket={ticket}");
        let mut others = Vec::new();
        while let Ok(other) = WsClient::connect_with(&server, "", &[]).await {
            others.push(other);
        }
        assert_eq!(refused(&server, &query, &[]).await, 503);
        drop(others);
        support::eventually("it is let in once there is room", async || {
            match WsClient::connect_with(&server, &query, &[]).await {
                Ok(_) => true,
                Err(Error::Http(response)) => {
                    assert_eq!(response.status(), 503);
                    false
                }
                Err(error) => panic!("{error}"),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_page_of_our_own_is_known_however_its_address_is_written() {
    let server = TestServer::with(close);
    let page = |host: &str, origin: &str| {
        format!(
            "GET /v1/topics HTTP/1.1|Host: {host}|Origin: {origin}|Authorization: Bearer {API_KEY}|\
             Connection: close||"
        )
    };
    for (host, origin, expected) in [
        ("a.example:80", "http://a.example", 200),
        ("a.example", "http://a.example:80", 200),
        ("a.example:", "http://a.example", 200),
        ("A.Example", "http://a.example", 200),
        ("[2001:DB8:0:0:0:0:0:1]", "http://[2001:db8::1]", 200),
        ("[2001:db8::1]:80", "http://[2001:db8:0::1]", 200),
        ("a.example:8080", "http://a.example:8080", 200),
        ("a.example:8080", "http://a.example", 403),
        ("a.example:443", "http://a.example", 403),
        ("a.example:443", "https://a.example", 403),
        ("a.example", "https://a.example", 403),
        ("a.example:80", "http://b.example", 403),
        ("a.example.", "http://a.example", 403),
        ("a@a.example", "http://a.example", 403),
        ("[2001:db8::2]", "http://[2001:db8::1]", 403),
        ("a.example:080000", "http://a.example", 403),
        ("a.example:99999", "http://a.example:99999", 403),
        ("a.example", "http://a.example/", 403),
        ("a.example", "null", 403),
    ] {
        let (status, text) = knock(server.addr, &page(host, origin)).await;
        assert_eq!(status, expected, "{origin} at {host}: {text}");
    }
    // The whole address of what is asked for, as proxies write it.
    for (target, host, expected) in [
        ("http://a.example/v1/topics", "a.example", 200),
        ("http://a.example:80/v1/topics", "a.example", 200),
        ("http://a.example/v1/topics", "A.example:80", 200),
        ("http://a.example:/v1/topics", "a.example", 200),
        ("http://a.example/v1/topics", "b.example", 400),
        ("http://a.example:81/v1/topics", "a.example", 400),
        ("http://b@a.example/v1/topics", "a.example", 400),
    ] {
        let request = format!(
            "GET {target} HTTP/1.1|Host: {host}|Origin: http://a.example|\
             Authorization: Bearer {API_KEY}|Connection: close||"
        );
        let (status, text) = knock(server.addr, &request).await;
        assert_eq!(status, expected, "{target} at {host}: {text}");
    }
}

#[tokio::test]
async fn a_page_of_our_own_is_known_over_tls_and_http2_with_the_default_port() {
    let server = TestServer::encrypted(close);
    let http = Http2::connect(&server).await;
    let bearer = format!("Bearer {API_KEY}");
    let port = server.addr.port();
    for (host, origin, expected) in [
        (format!("127.0.0.1:{port}"), format!("https://127.0.0.1:{port}"), 200),
        (format!("127.0.0.1:{port}"), format!("wss://127.0.0.1:{port}"), 200),
        (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{port}"), 403),
    ] {
        let headers =
            [("host", host.as_str()), ("origin", &origin), ("authorization", bearer.as_str())];
        let answer = whole(http.ask(Method::GET, "/v1/topics", &headers));
        assert_eq!(answer.await.status, expected, "{origin} at {host}");
    }
    for (host, origin) in
        [("a.example:443", "https://a.example"), ("a.example", "https://a.example:443")]
    {
        let headers = [("host", host), ("origin", origin)];
        WsClient::connect_with(&server, "", &headers).await.expect("in");
    }
    let foreign = [("host", "a.example:80"), ("origin", "https://a.example")];
    assert_eq!(refused(&server, "", &foreign).await, 403);
}

#[tokio::test]
async fn what_a_proxy_says_of_scheme_and_host_is_read_as_such_and_what_is_unknown_is_nobodys() {
    let server = |kind| {
        TestServer::with(move |config| {
            close(config);
            config.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
            config.server.proxy_headers = kind;
        })
    };
    let (x, forwarded) = (server(ProxyHeaders::XForwarded), server(ProxyHeaders::Forwarded));
    for (scheme, host, origin, expected) in [
        ("wss", "a.example", "https://a.example", 200),
        ("WSS", "a.example:443", "https://a.example", 200),
        ("HTTPS", "a.example", "https://a.example", 200),
        ("https", "a.example:443", "https://a.example", 200),
        ("ws", "a.example:80", "http://a.example", 200),
        ("https", "a.example", "http://a.example", 403),
        ("wss", "a.example", "http://a.example", 403),
        ("ws", "a.example", "https://a.example", 403),
        ("https", "a.example:80", "https://a.example", 403),
        ("gopher", "a.example", "http://a.example", 403),
        ("gopher", "a.example", "https://a.example", 403),
        ("gopher", "a.example", "gopher://a.example", 403),
    ] {
        let ask = async |server: &TestServer, headers: [(&str, String); 3]| {
            let mut request =
                server.get("/v1/topics").bearer_auth(API_KEY).header("origin", origin);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            status(request).await
        };
        let words = || {
            [
                ("x-forwarded-proto", scheme.to_owned()),
                ("x-forwarded-host", host.to_owned()),
                ("x-forwarded-for", "203.0.113.9".to_owned()),
            ]
        };
        assert_eq!(ask(&x, words()).await, expected, "{scheme} {host} {origin}");
        // Members that are empty are none (RFC 9110, section 5.6.1).
        let words = || words().map(|(name, value)| (name, format!("b.example, , {value},, ")));
        assert_eq!(ask(&x, words()).await, expected, "{scheme} {host} {origin}, in lists");
        let one = format!("for=203.0.113.9;Proto={scheme};host=\"{host}\"");
        let empty = || ("x-none", "x".to_owned());
        let lists = [("forwarded", one.clone()), ("forwarded", format!("for=b, {one}; ,, "))];
        for list in lists {
            let shown = list.1.clone();
            assert_eq!(ask(&forwarded, [list, empty(), empty()]).await, expected, "{shown}");
        }
    }
}

#[tokio::test]
async fn a_page_of_a_listed_origin_may_send_credentials_and_headers_and_read_when_to_come_back() {
    let server = listing();
    let response =
        answer(server.get("/v1/topics").bearer_auth(API_KEY).header("origin", LISTED)).await;
    let headers = response.headers();
    assert_eq!(headers["access-control-allow-origin"], LISTED);
    assert_eq!(headers["access-control-allow-credentials"], "true");
    assert_eq!(headers["access-control-expose-headers"], "Retry-After");
    assert_eq!(headers["vary"], "Origin");
    // A refusal may be read too.
    let response = answer(server.get("/v1/topics/a").header("origin", LISTED)).await;
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["access-control-allow-credentials"], "true");
    let preflight = |origin: &str, wanted: &str| {
        let request = server.http.request(Method::OPTIONS, server.url("/v1/events"));
        let request =
            request.header("origin", origin).header("access-control-request-method", "POST");
        request.header("access-control-request-headers", wanted)
    };
    let response =
        answer(preflight(LISTED, "authorization, traceparent,x-b3-traceid , baggage")).await;
    assert_eq!(response.status(), 204);
    let headers = response.headers();
    assert_eq!(headers["access-control-allow-credentials"], "true");
    let allowed = headers["access-control-allow-headers"].to_str().expect("text");
    let allowed: Vec<_> = allowed.split(", ").collect();
    for wanted in ["authorization", "traceparent", "x-b3-traceid", "baggage"] {
        assert!(allowed.contains(&wanted), "{wanted} among {allowed:?}");
    }
    let vary: Vec<_> =
        headers.get_all("vary").iter().map(|value| value.to_str().expect("text")).collect();
    assert_eq!(vary.join(", "), "Access-Control-Request-Headers, Origin");
    // What is a proxy's to say is no page's to say.
    let response =
        answer(preflight(LISTED, "x-forwarded-for, Forwarded, x-forwarded-host, x")).await;
    assert_eq!(response.headers()["access-control-allow-headers"], "x");
    // No other page is answered anything of this.
    for origin in
        ["https://evil.example", "null", "https://DASH.example", "https://dash.example:443"]
    {
        let wrong = answer(preflight(origin, "authorization")).await;
        let read = answer(server.get("/v1/topics").header("origin", origin)).await;
        assert_eq!((wrong.status().as_u16(), read.status().as_u16()), (403, 403), "{origin}");
        for response in [wrong, read] {
            let headers = response.headers();
            let mut names = headers.keys().map(|name| name.as_str());
            assert!(!names.any(|name| name.starts_with("access-control-")), "{headers:?}");
            assert_eq!(headers["vary"], "Origin");
        }
    }
}
