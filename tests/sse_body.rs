//! `POST /v1/sse`: an event stream that a body asks for, as `fetch` reads it.

mod support;

use fanfare::model::Code;
use futures_util::StreamExt;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use std::future::ready;
use support::http2::Http2;
use support::raw::Raw;
use support::sse::{SseClient, SseEvent};
use support::{API_KEY, TestServer, close, eventually, expect_status, numbered, problem, token};

/// Opens the stream that a request asks for.
async fn open(request: RequestBuilder) -> SseClient {
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200, "{}", response.text().await.expect("a body"));
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let whole = response.bytes_stream().take_while(|bytes| ready(bytes.is_ok()));
    SseClient::of(whole.filter_map(|bytes| ready(bytes.ok())))
}

fn asked(server: &TestServer, body: &Value) -> RequestBuilder {
    server.post("/v1/sse").header("accept", "text/event-stream").json(body)
}

fn data(event: &SseEvent) -> Value {
    event.json()["data"].clone()
}

#[tokio::test]
async fn a_body_names_more_topics_than_a_url_holds() {
    let server = TestServer::open();
    let long = "x".repeat(90);
    let topics: Vec<_> = (0..1_000).map(|n| format!("{long}.{n}")).collect();
    let query: Vec<_> = topics.iter().map(|topic| format!("topic={topic}")).collect();
    let by_url = server.get(&format!("/v1/sse?{}", query.join("&"))).send().await;
    assert!(by_url.is_err() || by_url.is_ok_and(|answer| answer.status() == 431));
    let mut stream = open(asked(&server, &json!({"topics": topics}))).await;
    assert_eq!(stream.next().await.expect("live").event, "fanfare.live");
    server.publish(&topics[999], &json!(1)).await;
    assert_eq!(data(&stream.next().await.expect("an event")), 1);
}

#[tokio::test]
async fn a_body_says_all_that_a_subscribe_says() {
    let server = TestServer::open();
    let ids = server.publish_all(&numbered("a", 0..4)).await;
    let kept = async |body: Value| {
        let mut stream = open(asked(&server, &body)).await;
        let mut kept = Vec::new();
        loop {
            let event = stream.next().await.expect("an event");
            if event.event == "fanfare.live" {
                return kept;
            }
            kept.push(event);
        }
    };
    let all = async |body| kept(body).await.iter().map(data).collect::<Vec<_>>();
    assert_eq!(all(json!({"topics": ["a"], "since": ids[1]})).await, [2, 3]);
    assert_eq!(all(json!({"topics": ["a"], "since": null, "snapshot": true})).await, [3]);
    let newest = kept(json!({"topics": ["a"], "since": ids[0], "mode": "latest"})).await;
    assert_eq!((newest.len(), data(&newest[0])), (1, json!(3)));
    assert_eq!(newest[0].json()["conflated"], true);
    let bare = kept(json!({"topics": ["a"], "since": ids[2], "format": "data"})).await;
    assert_eq!(bare[0].data, "3");
    let paced = kept(json!({"topics": ["a"], "snapshot": true, "max_rate": 5})).await;
    assert_eq!(paced.len(), 1);
    // Who resumes repeats the body and knows better in the header.
    let body = json!({"topics": ["a"], "since": ids[0]});
    let mut stream = open(asked(&server, &body).header("last-event-id", &ids[2])).await;
    assert_eq!(data(&stream.next().await.expect("an event")), 3);
}

#[tokio::test]
async fn a_refusal_is_a_status_and_a_problem_whatever_is_accepted() {
    let server = TestServer::with(|config| {
        config.limits.message_bytes = 4_096;
        config.limits.subscriptions = 3;
        config.limits.connections_per_address = 1;
    });
    for (body, status, code) in [
        ("", 400, Code::InvalidJson),
        ("[]", 400, Code::InvalidJson),
        (r#"{"topics":["a"]"#, 400, Code::InvalidJson),
        ("{}", 400, Code::BadRequest),
        (r#"{"topics":[]}"#, 400, Code::BadRequest),
        (r#"{"topics":"a"}"#, 400, Code::BadRequest),
        (r#"{"topics":["a..b"]}"#, 422, Code::InvalidPattern),
        (r#"{"topics":["a","b","c","d"]}"#, 429, Code::TooMany),
        (r#"{"topics":["a"],"since":"x"}"#, 400, Code::InvalidCursor),
        (r#"{"topics":["a"],"mode":"all","max_rate":1}"#, 400, Code::BadRequest),
        (r#"{"topics":["a"],"format":"xml"}"#, 400, Code::BadRequest),
        (r#"{"topics":["a"],"topics":["b"]}"#, 400, Code::BadRequest),
        (r#"{"topics":["a"],"colour":"red"}"#, 400, Code::BadRequest),
        (r#"{"op":"subscribe","topics":["a"]}"#, 400, Code::BadRequest),
        (r#"{"topics":["a"],"ref":1}"#, 400, Code::BadRequest),
    ] {
        let request = server.post("/v1/sse").header("accept", "text/event-stream");
        assert_eq!(problem(request.body(body)).await, (status, code.as_str().to_owned()), "{body}");
    }
    let body = json!({"topics": ["a"]});
    let long = json!({"topics": ["a"], "since": "x".repeat(5_000)});
    let refused = asked(&server, &long).send().await.expect("an answer");
    let refused = expect_status(refused, reqwest::StatusCode::PAYLOAD_TOO_LARGE).await;
    assert!(refused["detail"].as_str().expect("text").contains("limits.message_bytes"));
    let query = server.post("/v1/sse?topic=a").json(&body);
    assert_eq!(problem(query).await.0, 400);
    let xml = server.post("/v1/sse").header("content-type", "text/xml").body("<a/>");
    assert_eq!(problem(xml).await.0, 415);
    let stream = open(asked(&server, &body)).await;
    let one_more = reqwest::Client::new().post(server.url("/v1/sse"));
    let one_more = one_more.header("accept", "text/event-stream").json(&body);
    let (status, code) = problem(one_more).await;
    assert!(status == 503 || status == 429, "{status} {code}");
    drop(stream);
}

#[tokio::test]
async fn rights_and_origins_are_those_of_every_path() {
    let server = TestServer::with(|config| {
        close(config);
        config.server.allowed_origins = vec!["https://dash.example".to_owned()];
    });
    let body = json!({"topics": ["a.x"]});
    let as_one = |credential: &str| asked(&server, &body).bearer_auth(credential);
    assert_eq!(problem(asked(&server, &body)).await, (401, "unauthorized".to_owned()));
    assert_eq!(problem(as_one("nonsense")).await.0, 401);
    assert_eq!(problem(as_one(&token("ada", &["a.x"], &[], -60))).await.0, 401);
    assert_eq!(problem(as_one(&token("bob", &["b"], &[], 60))).await.0, 403);
    let granted = token("ada", &["a.x"], &[], 60);
    let foreign = as_one(&granted).header("origin", "https://evil.example");
    assert_eq!(problem(foreign).await, (403, "origin_not_allowed".to_owned()));
    let listed = as_one(&granted).header("origin", "https://dash.example");
    let answer = listed.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://dash.example");
    let mut stream = open(as_one(&granted)).await;
    assert_eq!(stream.next().await.expect("live").event, "fanfare.live");
}

#[tokio::test]
async fn a_ticket_opens_one_and_is_not_used_up_by_a_wrong_body() {
    let server = TestServer::closed();
    let wanted = json!({"user": "ada", "subscribe": ["a"]});
    let made = server.post("/v1/tickets").bearer_auth(API_KEY).json(&wanted);
    let made =
        expect_status(made.send().await.expect("an answer"), reqwest::StatusCode::CREATED).await;
    let path = format!("/v1/sse?ticket={}", made["ticket"].as_str().expect("a ticket"));
    assert_eq!(problem(server.post(&path).body("{}")).await.0, 400);
    let body = json!({"topics": ["a"]});
    let mut stream = open(server.post(&path).json(&body)).await;
    assert_eq!(stream.next().await.expect("live").event, "fanfare.live");
    assert_eq!(problem(server.post(&path).json(&body)).await.0, 401);
}

#[tokio::test]
async fn over_http_2_it_is_the_same() {
    let server = TestServer::encrypted(|_| {});
    let http = Http2::connect(&server).await;
    let mut stream = http.sse_of(&json!({"topics": ["a"], "format": "data"})).await;
    assert_eq!(stream.next().await.expect("live").event, "fanfare.live");
    server.publish("a", &json!(1)).await;
    assert_eq!(stream.next().await.expect("an event").data, "1");
    let refused = http.post("/v1/sse", &json!({"topics": []})).await;
    assert_eq!((refused.status, &refused.json()["code"]), (400, &json!("bad_request")));
}

#[tokio::test]
async fn who_hangs_up_is_gone_and_who_stays_is_listed_and_told_of_the_end() {
    let mut server = TestServer::open();
    let body = json!({"topics": ["a"]});
    let sessions = async || {
        let answer = server.get("/v1/sessions").send().await.expect("an answer");
        answer.json::<Value>().await.expect("JSON")["sessions"].as_array().expect("some").clone()
    };
    let mut stays = open(asked(&server, &body)).await;
    let leaves = open(asked(&server, &body)).await;
    assert_eq!(stays.next().await.expect("live").event, "fanfare.live");
    assert!(sessions().await.iter().all(|session| session["transport"] == "sse"));
    drop(leaves);
    eventually("one is left", async || sessions().await.len() == 1).await;
    server.begin_stop();
    let bye = stays.next().await.expect("a bye");
    assert_eq!((bye.event.as_str(), bye.json()["code"].clone()), ("fanfare.bye", json!("restart")));
    assert_eq!(stays.next().await, None);
}

#[tokio::test]
async fn who_may_subscribe_to_nothing_is_refused_before_the_body_comes() {
    let server = TestServer::with(close);
    let mut client = Raw::connect(server.addr).await;
    let head = "POST /v1/sse HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    client.send(head).await;
    assert_eq!(client.status().await, 401);
}
