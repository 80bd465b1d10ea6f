//! A token in a cookie, and who may not use it: browsers add cookies whichever page asks.

mod support;

use fanfare::config::Who;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use support::http2::{Http2, whole};
use support::ws::WsClient;
use support::{API_KEY, TestServer, close, problem, token};
use tokio_tungstenite::tungstenite::Error;

const LISTED: &str = "https://dash.example";

fn server() -> TestServer {
    TestServer::with(|config| {
        close(config);
        config.auth.cookie = Some("__Host-fanfare".to_owned());
        config.server.allowed_origins = vec![LISTED.to_owned()];
    })
}

fn cookie(token: &str) -> String {
    format!("theme=dark; __Host-fanfare={token}; sid=1")
}

fn granted() -> String {
    token("ada", &["a.>"], &["a.>"], 60)
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn a_cookie_serves_every_path_that_our_own_page_asks_for() {
    let server = server();
    let cookie = cookie(&granted());
    let origin = server.url("");
    let own = |request: RequestBuilder| request.header("cookie", &cookie).header("origin", &origin);
    let publish = || own(server.post("/v1/topics/a.x/events")).json(&1);
    assert_eq!(status(publish()).await, 201);
    assert_eq!(status(publish().header("sec-fetch-site", "same-origin")).await, 201);
    assert_eq!(
        status(own(server.post("/v1/events")).json(&json!({"topic": "a.x", "data": 1}))).await,
        201
    );
    assert_eq!(status(own(server.post("/v1/sse")).json(&json!({"topics": ["a.x"]}))).await, 200);
    assert_eq!(status(own(server.post("/v1/tickets"))).await, 201);
    // A browser names no origin in a read of its own, and says so otherwise.
    for path in ["/v1/topics/a.x/events", "/v1/topics?match=a.*", "/v1/sse?topic=a.x"] {
        let read = || server.get(path).header("cookie", &cookie);
        assert_eq!(status(read().header("sec-fetch-site", "same-origin")).await, 200, "{path}");
        assert_eq!(status(read().header("origin", &origin)).await, 200, "{path}");
        assert_eq!(status(read().header("origin", LISTED)).await, 200, "{path}");
    }
    for origin in [origin.as_str(), LISTED] {
        let headers = [("cookie", cookie.as_str()), ("origin", origin)];
        let mut client = WsClient::connect_with(&server, "?topic=a.x", &headers).await.expect("in");
        client.until("live").await;
        let asked = json!({"op": "publish", "topic": "a.x", "data": 2});
        assert_eq!(client.ask(1, asked).await["op"], "ack");
    }
}

#[tokio::test]
async fn a_credential_that_is_given_counts_beside_a_stale_cookie() {
    let server = server();
    let (origin, stale) = (server.url(""), cookie(&token("ada", &["a.>"], &[], -60)));
    let given = token("ada", &["a.x"], &[], 60);
    let ticket = server.post("/v1/tickets").bearer_auth(&given).send().await.expect("an answer");
    let ticket: Value = ticket.json().await.expect("JSON");
    let ticket = ticket["ticket"].as_str().expect("a ticket");
    for query in [format!("access_token={given}"), format!("ticket={ticket}")] {
        let post = server.post(&format!("/v1/sse?{query}")).json(&json!({"topics": ["a.x"]}));
        let post = post.header("cookie", &stale).header("origin", &origin);
        assert_eq!(status(post).await, 200, "{query}");
    }
}

#[tokio::test]
async fn what_no_page_of_ours_asks_for_gets_nothing_by_a_cookie() {
    let server = server();
    let cookie = cookie(&granted());
    let own = server.url("");
    let with = |request: RequestBuilder, headers: &[(&str, &str)]| {
        let request = request.header("cookie", &cookie);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let port = format!(":{}", server.addr.port());
    let (subdomain, suffixed) =
        (format!("http://evil.127.0.0.1{port}"), format!("{own}.evil.example"));
    let attacks: [(&str, &[(&str, &str)]); 13] = [
        ("no word of the page", &[]),
        (
            "a form of another site",
            &[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")],
        ),
        ("a page without an origin", &[("origin", "null"), ("sec-fetch-site", "cross-site")]),
        ("a sandbox of our own", &[("origin", "null"), ("sec-fetch-site", "same-origin")]),
        ("a subdomain", &[("origin", &subdomain), ("sec-fetch-site", "same-site")]),
        ("a subdomain of a listed one", &[("origin", "https://x.dash.example")]),
        ("the listed one without TLS", &[("origin", "http://dash.example")]),
        ("another port", &[("origin", "http://127.0.0.1:1"), ("sec-fetch-site", "same-site")]),
        ("a suffix", &[("origin", &suffixed)]),
        ("an image of a neighbour", &[("sec-fetch-site", "same-site")]),
        ("an image of another site", &[("sec-fetch-site", "cross-site")]),
        ("a link in a mail", &[("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")]),
        ("two words that disagree", &[("origin", &own), ("sec-fetch-site", "cross-site")]),
    ];
    for (who, headers) in attacks {
        let names_one = headers.iter().any(|(name, _)| *name == "origin");
        for (method, path) in [
            (Method::POST, "/v1/topics/a.x/events"),
            (Method::POST, "/v1/events"),
            (Method::POST, "/v1/sse"),
            (Method::POST, "/v1/tickets"),
            (Method::DELETE, "/v1/topics/a.x/events"),
        ] {
            let form =
                server.http.request(method, server.url(path)).body(r#"{"topic":"a.x","data":1}"#);
            let form = with(form.header("content-type", "text/plain"), headers);
            assert_eq!(
                problem(form).await,
                (403, "origin_not_allowed".to_owned()),
                "{who}: {path}"
            );
        }
        for path in ["/v1/topics/a.x/events", "/v1/topics?match=a.*", "/v1/sse?topic=a.x"] {
            let refused = status(with(server.get(path), headers)).await;
            let expected = if names_one && !who.starts_with("two") { 403 } else { 401 };
            assert_eq!(refused, expected, "{who}: {path}");
        }
        let all: Vec<_> = [("cookie", cookie.as_str())].iter().chain(headers).copied().collect();
        let refused = WsClient::connect_with(&server, "?topic=a.x", &all).await;
        assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == 403), "{who}");
    }
    let topic = server.get("/v1/topics/a.x").bearer_auth(API_KEY).send().await.expect("an answer");
    assert_eq!(topic.json::<Value>().await.expect("JSON")["retained"], 0, "nothing was published");
}

#[tokio::test]
async fn what_is_given_on_purpose_wins_over_a_cookie() {
    let server = server();
    let path = "/v1/topics/a.x/events";
    let other = token("bob", &["b"], &[], 60);
    let read = |cookie_token: &str| {
        server
            .get(path)
            .header("cookie", cookie(cookie_token))
            .header("sec-fetch-site", "same-origin")
    };
    assert_eq!(status(read(&granted()).bearer_auth(&other)).await, 403);
    assert_eq!(status(read(&granted()).bearer_auth("nonsense")).await, 401);
    assert_eq!(status(read("nonsense").bearer_auth(granted())).await, 200);
    assert_eq!(
        status(
            server.post(path).header("cookie", cookie("nonsense")).bearer_auth(API_KEY).json(&1)
        )
        .await,
        201
    );
    // Another scheme of `Authorization` is meant for a proxy, so the cookie counts.
    assert_eq!(status(read(&granted()).header("authorization", "Basic YTpi")).await, 200);
    let stream = |credential: &str, cookie_token: &str| {
        let request = server.get(&format!("/v1/sse?topic=a.x&{credential}"));
        request.header("cookie", cookie(cookie_token)).header("sec-fetch-site", "same-origin")
    };
    assert_eq!(status(stream(&format!("access_token={other}"), &granted())).await, 403);
    assert_eq!(status(stream(&format!("access_token={}", granted()), "nonsense")).await, 200);
    let made = server.post("/v1/tickets").bearer_auth(granted()).send().await.expect("an answer");
    let ticket =
        made.json::<Value>().await.expect("JSON")["ticket"].as_str().expect("one").to_owned();
    assert_eq!(status(stream(&format!("ticket={ticket}"), "nonsense")).await, 200);
}

#[tokio::test]
async fn a_cookie_must_hold_one_good_token_and_no_key() {
    let server = server();
    let read = |cookie: &str| {
        let request = server.get("/v1/topics/a.x/events").header("cookie", cookie);
        request.header("sec-fetch-site", "same-origin")
    };
    let good = granted();
    for (cookie, expected) in [
        (cookie(&good), 200),
        (format!("__Host-fanfare=\"{good}\""), 200),
        (format!("__Host-fanfare={}", token("ada", &["a.>"], &[], -60)), 401),
        (format!("__Host-fanfare={API_KEY}"), 401),
        ("__Host-fanfare=".to_owned(), 401),
        (format!("__host-fanfare={good}"), 401),
        (format!("fanfare={good}"), 401),
        (format!("__Host-fanfare={good}; __Host-fanfare={good}"), 400),
    ] {
        let answer = read(&cookie).send().await.expect("an answer");
        assert_eq!(answer.status(), expected, "{cookie}");
        let said = answer.text().await.expect("text");
        assert!(!said.contains(&good) && !said.contains(API_KEY), "{said}");
    }
}

#[tokio::test]
async fn over_http_2_a_cookie_may_come_in_pieces_and_over_tls_the_origin_is_https() {
    let server = TestServer::encrypted(|config| {
        close(config);
        config.auth.cookie = Some("__Host-fanfare".to_owned());
    });
    let http = Http2::connect(&server).await;
    let ours = format!("__Host-fanfare={}", granted());
    let (own, plain) = (format!("https://{}", server.addr), format!("http://{}", server.addr));
    for (origin, expected) in [(own, 200), (plain, 403)] {
        let headers = [("cookie", "theme=dark"), ("cookie", ours.as_str()), ("origin", &origin)];
        let answer = whole(http.ask(Method::GET, "/v1/topics/a.x/events", &headers)).await;
        assert_eq!(answer.status, expected, "{origin}");
    }
}

#[tokio::test]
async fn without_the_setting_a_cookie_is_nothing() {
    let server = TestServer::closed();
    let request = server.get("/v1/topics/a.x/events").header("cookie", cookie(&granted()));
    assert_eq!(status(request.header("sec-fetch-site", "same-origin")).await, 401);
}

#[tokio::test]
async fn rules_that_are_open_to_anyone_need_no_page_to_read() {
    let server = TestServer::with(|config| {
        close(config);
        config.auth.cookie = Some("t".to_owned());
        config.rules.default.subscribe = Who::Anyone;
        config.rules.default.publish = Who::Anyone;
    });
    let cookie = format!("t={}", granted());
    let path = "/v1/topics/a.x/events";
    assert_eq!(status(server.get(path).header("cookie", &cookie)).await, 200);
    // Who may be someone must say which page asks, though nobody may do it too.
    assert_eq!(status(server.post(path).header("cookie", &cookie).json(&1)).await, 403);
    assert_eq!(status(server.post(path).json(&1)).await, 201);
}
