//! The door as clients, proxies and platforms knock: what they say in other words than ours, and mean
//! the same.

mod support;

use fanfare::config::{ProxyHeaders, Rule, Who};
use fanfare::model::Pattern;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use support::http2::{Http2, whole};
use support::raw::Raw;
use support::sse::SseClient;
use support::ws::WsClient;
use support::{API_KEY, JWT_SECRET, TestServer, close, expect, problem, token};
use tokio_tungstenite::tungstenite::{Error, Message};

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

/// What one request of HTTP/1.1 is answered, written as it is: `|` stands for an end of a line.
async fn knock(server: &TestServer, request: &str) -> (u16, String) {
    let mut raw = Raw::connect(server.addr).await;
    raw.send(&request.replace('|', "\r\n")).await;
    let rest = raw.rest().await;
    (rest[9..12].parse().expect("a status"), rest)
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
    let ticket = expect(response, StatusCode::CREATED).await;
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
        let (status, text) = knock(&server, &page(host, origin)).await;
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
        let (status, text) = knock(&server, &request).await;
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
async fn empty_members_of_a_list_do_not_count_anywhere() {
    let server = TestServer::open();
    for protocols in ["", ",", "fanfare.v1,", ", ,fanfare.v1", "unspoken,, fanfare.v1"] {
        let headers = [("sec-websocket-protocol", protocols)];
        let request = format!(
            "GET /v1/ws HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket|\
             Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|\
             {}: {}||",
            headers[0].0, headers[0].1
        );
        let mut raw = Raw::connect(server.addr).await;
        raw.send(&request.replace('|', "\r\n")).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{protocols:?}: {head}");
    }
    for encoding in ["", "identity,", ", Identity", "identity, identity"] {
        for path in ["/v1/topics/a/events", "/v1/events"] {
            let request = server.post(path).header("content-encoding", encoding);
            let request = request.body(r#"{"topic":"a","data":1}"#);
            assert_eq!(status(request).await, 201, "{encoding:?} to {path}");
        }
    }
    for encoding in ["gzip", "gzip,", "identity, br", "identity;q=1"] {
        for path in ["/v1/topics/a/events", "/v1/events", "/v1/tickets", "/v1/revocations"] {
            let request = server.post(path).header("content-encoding", encoding).body("{}");
            assert_eq!(status(request).await, 415, "{encoding:?} to {path}");
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
        assert_eq!((wrong.status().as_u16(), read.status().as_u16()), (405, 403), "{origin}");
        for response in [wrong, read] {
            let headers = response.headers();
            let mut names = headers.keys().map(|name| name.as_str());
            assert!(!names.any(|name| name.starts_with("access-control-")), "{headers:?}");
            assert_eq!(headers["vary"], "Origin");
        }
    }
}

#[tokio::test]
async fn media_types_are_read_as_such() {
    let server = TestServer::open();
    let post = |path: &str, kind: &str, body: &'static [u8]| {
        server.post(path).header("content-type", kind).body(body)
    };
    for (kind, data) in [
        ("application/json;charset=utf8", json!([1])),
        ("application/json; charset=UTF8", json!([1])),
        ("Application/JSON ; Charset=\"utf-8\"", json!([1])),
        ("application/json; charset=unicode-1-1-utf-8;", json!([1])),
        ("application/json;;charset=x-unicode20utf8", json!([1])),
        ("application/json; utf-8", json!([1])),
        ("application/json; note=\"a;charset=latin1\"; v=1", json!([1])),
        ("application/json; note=\"\\\";charset=latin1\"", json!([1])),
        ("application/cloudevents+json; charset=utf-8", json!([1])),
        ("TEXT/PLAIN;CHARSET=UTF8", json!("[1]")),
        ("text/plain; charset=ascii", json!("[1]")),
        ("text/x.y-z!#$&^_+a; charset=utf-8", json!("[1]")),
        ("image/png; charset=latin1", json!("WzFd")),
    ] {
        let response = answer(post("/v1/topics/a/events", kind, b"[1]")).await;
        assert_eq!(response.status(), 201, "{kind}: {:?}", response.text().await);
        let topic = answer(server.get("/v1/topics/a")).await;
        let topic = expect(topic, StatusCode::OK).await;
        assert_eq!(topic["latest"]["data"], data, "{kind}");
    }
    for kind in
        ["text/plain; charset=utf-16", "text/plain; charset=\"latin1\"", "json", "/", "a/ b"]
    {
        assert_eq!(status(post("/v1/topics/a/events", kind, b"[1]")).await, 415, "{kind}");
    }
    for kind in ["application/json; charset=utf8", "Application/JSON", "application/vnd.a+json"] {
        let body = br#"{"user":"ada"}"#;
        assert_eq!(status(post("/v1/tickets", kind, body)).await, 201, "{kind}");
        assert_eq!(status(post("/v1/revocations", kind, body)).await, 201, "{kind}");
    }
    assert_eq!(status(post("/v1/tickets", "text/plain", b"{\"user\":\"a\"}")).await, 415);
}

#[tokio::test]
async fn who_takes_an_event_stream_is_told_so_in_one_however_it_says_it() {
    let server = TestServer::with(|config| {
        close(config);
        config.limits.connections_per_user = 1;
    });
    let query = format!("?topic=a&access_token={}", token("ada", &["a"], &[], 60));
    let _only = SseClient::connect(&server, &query, &[]).await;
    for (accept, expected) in [
        ("text/event-stream", 200),
        ("TEXT/Event-Stream", 200),
        ("text/html, text/event-stream;q=0.1", 200),
        ("text/event-stream ; charset=utf-8", 200),
        (", text/event-stream,", 200),
        ("text/event-stream;q=0", 503),
        ("text/event-stream; Q=0.000, */*", 503),
        ("text/event-stream-not", 503),
        ("a/b;c=\"text/event-stream\"", 503),
        ("*/*", 503),
    ] {
        let stream = answer(server.get(&format!("/v1/sse{query}")).header("accept", accept)).await;
        assert_eq!(stream.status(), expected, "{accept}");
    }
}

#[tokio::test]
async fn what_polyfills_put_into_the_url_is_read_as_the_header_is() {
    let server = TestServer::open();
    let first = server.publish("a", &json!(1)).await["id"].as_str().expect("an id").to_owned();
    server.publish("a", &json!(2)).await;
    for query in [
        format!("?topic=a&lastEventId={first}"),
        format!("?topic=a&Last-Event-ID={first}&_=1711111111111"),
        format!("?topic=a&last-event-id={first}&since=&_=1&_=2"),
        format!("?topic=a&since={first}&lastEventId="),
        format!("?topic=a&since=nonsense&lastEventId={first}"),
    ] {
        let mut stream = SseClient::connect(&server, &query, &[]).await;
        assert_eq!(stream.next().await.expect("an event").json()["data"], 2, "{query}");
    }
    // What the browser says itself is the newer.
    let headers = [("last-event-id", first.as_str())];
    let query = "?topic=a&lastEventId=nonsense&since=nonsense";
    let mut stream = SseClient::connect(&server, query, &headers).await;
    assert_eq!(stream.next().await.expect("an event").json()["data"], 2);
    let mut client = WsClient::connect(&server, "?topic=a&since=&_=1").await;
    client.until("live").await;
    for path in
        ["/v1/topics?_=1", "/v1/topics/a?_=1", "/v1/topics/a/events?since=&_=x", "/v1/sessions?_"]
    {
        assert_eq!(status(server.get(path)).await, 200, "{path}");
    }
    // What is meant otherwise is told what to write.
    for (query, word) in
        [("token=x", "access_token"), ("topics=a", "topic"), ("last_id=x", "since")]
    {
        let response = answer(server.get(&format!("/v1/sse?topic=a&{query}"))).await;
        let refused = expect(response, StatusCode::BAD_REQUEST).await;
        assert!(refused["detail"].as_str().expect("text").contains(word), "{refused}");
    }
}

#[tokio::test]
async fn null_is_a_member_that_is_absent_everywhere_but_in_data() {
    let server = TestServer::with(close);
    let post = |path: &str, body: &Value| server.post(path).bearer_auth(API_KEY).json(body);
    for body in [
        json!({"topic": "a", "data": null, "type": null, "encoding": null, "events": null}),
        json!({"events": [{"topic": "a", "data": null, "type": null, "encoding": null}],
            "topic": null, "data": null, "type": null, "encoding": null}),
    ] {
        assert_eq!(status(post("/v1/events", &body)).await, 201, "{body}");
    }
    let kept = server.get("/v1/topics/a/events").bearer_auth(API_KEY);
    let kept = expect(answer(kept).await, StatusCode::OK).await;
    assert_eq!(kept["events"].as_array().expect("events").len(), 2);
    assert!(kept["events"][1]["data"].is_null() && kept["events"][1].get("type").is_none());
    let ticket =
        json!({"user": "ada", "subscribe": null, "publish": null, "session_seconds": null});
    assert_eq!(status(post("/v1/tickets", &ticket)).await, 201);
    let revoked = json!({"user": "ada", "token": null, "session": null});
    assert_eq!(status(post("/v1/revocations", &revoked)).await, 201);
    for (path, body) in [
        ("/v1/events", json!({"topic": null, "data": 1})),
        ("/v1/events", json!({"topic": "a", "data": 1, "sinse": null})),
        ("/v1/tickets", json!({"user": null})),
        ("/v1/revocations", json!({"user": null})),
        ("/v1/revocations", json!({"user": "a", "token": "b"})),
    ] {
        let refused = status(post(path, &body)).await;
        assert!([400, 422].contains(&refused), "{path} {body}: {refused}");
    }
    let mut client = WsClient::connect(&server, &format!("?access_token={API_KEY}")).await;
    let all = |mut told: Value| {
        for name in [
            "token", "topics", "since", "snapshot", "mode", "max_rate", "topic", "type",
            "encoding", "data",
        ] {
            if told.get(name).is_none() {
                told[name] = Value::Null;
            }
        }
        told
    };
    for (reference, told) in [
        json!({"op": "subscribe", "topics": ["a"]}),
        json!({"op": "publish", "topic": "a", "data": null}),
        json!({"op": "unsubscribe", "topics": ["a"]}),
        json!({"op": "auth", "token": API_KEY}),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = client.ask(reference as u64 + 1, all(told)).await;
        assert_eq!(answer["op"], "ack", "{answer}");
    }
    client.send(all(json!({"op": "ping", "ref": null}))).await;
    assert!(client.until("pong").await.get("ref").is_none());
    // What is none of them and not absent is told to be left out.
    for (reference, told) in [
        json!({"op": "subscribe", "topics": ["a"], "since": ""}),
        json!({"op": "subscribe", "topics": ["a"], "mode": ""}),
        json!({"op": "subscribe", "topics": ["a"], "max_rate": 0}),
        json!({"op": "subscribe", "topics": ["a"], "snapshot": 0}),
        json!({"op": "publish", "topic": "a", "data": 1, "type": ""}),
        json!({"op": "publish", "topic": "a", "data": 1, "encoding": ""}),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = client.ask(reference as u64 + 20, told).await;
        let said = answer["message"].as_str().expect("an error");
        assert!(said.contains("leave it out"), "{said}");
    }
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped_before_json_and_named_before_a_credential() {
    let server = TestServer::with(close);
    let post = |path: &str, kind: &str, body: &str| {
        let request = server.post(path).bearer_auth(API_KEY).header("content-type", kind);
        request.body(format!("\u{feff}{body}"))
    };
    let newest = async || {
        let topic = answer(server.get("/v1/topics/a").bearer_auth(API_KEY)).await;
        expect(topic, StatusCode::OK).await["latest"]["data"].clone()
    };
    for (kind, body, data) in [
        ("application/json", "[1]", json!([1])),
        ("application/x-www-form-urlencoded", "[2]", json!([2])),
        ("application/x-www-form-urlencoded", "it's", json!("it's")),
    ] {
        assert_eq!(status(post("/v1/topics/a/events", kind, body)).await, 201, "{kind}");
        assert_eq!(newest().await, data, "{kind}");
    }
    let event = r#"{"topic":"a","data":3}"#;
    assert_eq!(status(post("/v1/events", "application/json", event)).await, 201);
    let lines = format!("{event}\n\u{feff}{event}");
    assert_eq!(status(post("/v1/events", "application/x-ndjson", &lines)).await, 201);
    assert_eq!(status(post("/v1/tickets", "application/json", r#"{"user":"ada"}"#)).await, 201);
    assert_eq!(status(post("/v1/revocations", "application/json", r#"{"user":"ada"}"#)).await, 201);
    let mut client = WsClient::connect(&server, "").await;
    for credential in [API_KEY.to_owned(), token("bob", &["a"], &[], 60)] {
        let auth = json!({"op": "auth", "token": format!("\u{feff}{credential}"), "ref": 1});
        let told = client.ask(1, auth).await;
        assert_eq!((&told["op"], &told["code"]), (&json!("error"), &json!("unauthorized")));
        assert!(told["message"].as_str().expect("text").contains("byte order mark"), "{told}");
    }
    let auth = json!({"op": "auth", "token": API_KEY, "ref": 2}).to_string();
    client.send_text(&format!("\u{feff}{auth}")).await;
    assert_eq!(client.until("ack").await["ref"], 2);
    let ping = "\u{feff}{\"op\":\"ping\",\"ref\":3}".as_bytes().to_vec();
    futures_util::SinkExt::send(&mut client.socket, Message::binary(ping)).await.expect("sent");
    assert_eq!(client.until("pong").await["ref"], 3);
}

#[tokio::test]
async fn head_is_answered_as_get_is_without_a_body_and_opens_no_session() {
    let server = TestServer::with(|config| {
        close(config);
        config.rules.default.presence = true;
    });
    let key = |request: RequestBuilder| request.bearer_auth(API_KEY);
    expect(answer(key(server.post("/v1/topics/a/events").body("1"))).await, StatusCode::CREATED)
        .await;
    for path in [
        "/v1/topics",
        "/v1/topics/a",
        "/v1/topics/a/events",
        "/v1/topics/a/presence",
        "/v1/topics/a..b",
        "/v1/topics?nonsense",
        "/v1/sessions",
        "/v1/revocations",
        "/v1/ws",
        "/metrics",
        "/health/ready",
        "/docs",
        "/",
        "/nowhere",
    ] {
        let get = answer(key(server.get(path))).await;
        let head = answer(key(server.http.head(server.url(path)))).await;
        assert_eq!(head.status(), get.status(), "{path}");
        let named = |response: &Response, name: &str| response.headers().get(name).cloned();
        for name in ["content-type", "cache-control"] {
            assert_eq!(named(&head, name), named(&get, name), "{name} of {path}");
        }
        if path != "/metrics" {
            assert_eq!(named(&head, "content-length"), named(&get, "content-length"), "{path}");
        }
        assert_eq!(head.text().await.expect("no body"), "", "{path}");
    }
    let refused = server.http.head(server.url("/v1/topics/a"));
    assert_eq!(status(refused).await, 401);
    // An event stream.
    let ticket = a_ticket(&server).await;
    let asked = format!(
        "HEAD /v1/sse?topic=a HTTP/1.1|Host: a|Authorization: Bearer {API_KEY}||\
         HEAD /v1/sse?topic=a.x&ticket={ticket} HTTP/1.1|Host: a||\
         HEAD /v1/sse?topic=a HTTP/1.1|Host: a||\
         GET /v1/sessions HTTP/1.1|Host: a|Authorization: Bearer {API_KEY}|Connection: close||"
    );
    let (_, text) = knock(&server, &asked).await;
    let statuses: Vec<_> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "401", "200"], "{text}");
    assert!(text.contains("text/event-stream"), "{text}");
    assert!(text.ends_with("{\"sessions\":[]}"), "{text}");
    WsClient::connect(&server, &format!("?topic=a.x&ticket={ticket}")).await;
}

#[tokio::test]
async fn head_and_options_of_everything_are_answered_over_http2_as_well() {
    let server = TestServer::encrypted(|_| {});
    let http = Http2::connect(&server).await;
    for path in ["/v1/topics", "/v1/sse?topic=a"] {
        let answer = whole(http.ask(Method::HEAD, path, &[])).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
    }
    let plain = TestServer::open();
    let (status, text) = knock(&plain, "OPTIONS * HTTP/1.1|Host: a|Connection: close||").await;
    assert_eq!(status, 204, "{text}");
    assert!(text.contains("allow: GET, HEAD, POST, DELETE, OPTIONS"), "{text}");
    let (status, text) = knock(&plain, "GET * HTTP/1.1|Host: a|Connection: close||").await;
    assert_eq!(status, 404, "{text}");
}

#[tokio::test]
async fn a_claim_that_is_wrong_is_named_and_never_repeated() {
    let server = TestServer::closed();
    let ask = async |change: fn(&mut Value)| {
        let mut claims =
            json!({"sub": "ada", "exp": 4_000_000_000_u64, "fanfare": {"subscribe": ["a"]}});
        change(&mut claims);
        let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET);
        let header = jsonwebtoken::Header::default();
        let token = jsonwebtoken::encode(&header, &claims, &key).expect("a token");
        let response = answer(server.get("/v1/topics/a").bearer_auth(token)).await;
        let (status, text) = (response.status().as_u16(), response.text().await.expect("text"));
        let detail: Value = serde_json::from_str(&text).expect("JSON");
        (status, detail["detail"].as_str().unwrap_or_default().to_owned())
    };
    let cases: [(&str, fn(&mut Value)); 12] = [
        ("`sub` must be a string", |claims| claims["sub"] = json!(4711)),
        ("`sub` is missing", |claims| claims["sub"] = Value::Null),
        ("`exp` must be a number", |claims| claims["exp"] = json!("4711")),
        ("`exp` must be a number", |claims| claims["exp"] = json!([4711])),
        ("`exp` is missing", |claims| claims["exp"] = Value::Null),
        ("`exp`", |claims| claims["exp"] = json!(-4711)),
        ("`iat` must be a number", |claims| claims["iat"] = json!("4711")),
        ("`jti` must be a string", |claims| claims["jti"] = json!(4711)),
        ("`fanfare` must be an object", |claims| claims["fanfare"] = json!("4711")),
        ("`fanfare.subscribe` must be an array", |claims| {
            claims["fanfare"]["subscribe"] = json!("4711")
        }),
        ("`fanfare.publish` must be an array", |claims| {
            claims["fanfare"]["publish"] = json!([4711])
        }),
        ("`fanfare.4711`", |claims| claims["fanfare"]["4711"] = json!([])),
    ];
    for (named, change) in cases {
        let (status, detail) = ask(change).await;
        assert_eq!(status, 401, "{named}: {detail}");
        assert!(detail.contains(named), "{named}: {detail}");
        assert!(named.contains("4711") || !detail.contains("4711"), "{detail}");
    }
    let fine: [fn(&mut Value); 3] = [
        |claims| claims["exp"] = json!(4_000_000_000.5),
        |claims| {
            claims["iat"] = Value::Null;
            claims["jti"] = Value::Null;
            claims["fanfare"]["publish"] = Value::Null;
        },
        |claims| claims["iat"] = json!(1.7e9),
    ];
    for change in fine {
        assert_eq!(ask(change).await, (200, String::new()));
    }
}

#[tokio::test]
async fn a_refused_upgrade_by_head_says_nothing_behind_its_head() {
    let server = TestServer::open();
    let request = "HEAD /v1/ws HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket|\
                   Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||";
    let (status, text) = knock(&server, request).await;
    assert_eq!(status, 426);
    assert!(text.ends_with("\r\n\r\n"), "{text}");
}
