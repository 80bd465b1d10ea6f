//! HTTP/2 as clients really speak it, over TLS and without: who sends a body before looking at the answer, who
//! asks before sending it, who knows beforehand what is spoken, and who means to be a burden.

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::poll_fn;
use h2::{Reason, SendStream};
use http::Method;
use serde_json::{Value, json};
use support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, fields, frame,
};
use support::http2::{Http2, whole};
use support::tls::Issuer;
use support::{API_KEY, PATIENCE, TestServer, close, eventually};
use tokio::time::timeout;

/// `ENHANCE_YOUR_CALM` (RFC 9113, section 7).
const CALM: u32 = 11;

/// `PROTOCOL_ERROR`.
const PROTOCOL: u32 = 1;

/// A broker with credentials that speaks TLS.
fn closed(change: impl FnOnce(&mut fanfare::config::Config)) -> TestServer {
    let issuer = Issuer::new();
    TestServer::with(|config| {
        close(config);
        config.server.certificate = Some(issuer.certificate());
        change(config);
    })
}

/// Sends so much of a body as the broker takes it, and how much that was.
async fn send_body(body: &mut SendStream<Bytes>, bytes: usize) -> usize {
    let mut sent = 0;
    while sent < bytes {
        body.reserve_capacity((bytes - sent).min(16_384));
        let room = timeout(PATIENCE, poll_fn(|cx| body.poll_capacity(cx))).await;
        let Some(Ok(room)) = room.expect("room or an end in time") else { return sent };
        if body.send_data(vec![b' '; room].into(), false).is_err() {
            return sent;
        }
        sent += room;
    }
    sent
}

#[tokio::test]
async fn a_refusal_over_http_2_is_seen_by_who_sends_a_whole_body_before_looking() {
    let server = closed(|_| {});
    let http = Http2::connect(&server).await;
    for (path, key, status) in [
        ("/v1/events", None, 401),
        ("/v1/topics/a/events", None, 401),
        ("/v1/topics/a/events", Some(API_KEY), 413),
        ("/nowhere", Some(API_KEY), 404),
    ] {
        let key = key.map(|key| format!("Bearer {key}"));
        let headers = key.as_ref().map(|key| ("authorization", key.as_str()));
        let (answer, mut body) = http.begin(path, headers.as_slice());
        assert_eq!(send_body(&mut body, 1_000_000).await, 1_000_000, "{path}");
        body.send_data(Bytes::new(), true).expect("it is taken to its end");
        let answer = timeout(PATIENCE, whole(answer)).await.expect("an answer in time");
        assert_eq!((answer.status, &answer.json()["status"]), (status, &json!(status)), "{path}");
    }
}

#[tokio::test]
async fn a_refusal_over_http_2_is_seen_by_who_sends_slowly_too() {
    let server = closed(|_| {});
    let http = Http2::connect(&server).await;
    let (answer, mut body) = http.begin("/v1/events", &[]);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        assert_eq!(send_body(&mut body, 1_000).await, 1_000);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    body.send_data(Bytes::new(), true).expect("it is taken to its end");
    assert_eq!(timeout(PATIENCE, whole(answer)).await.expect("in time").status, 401);
}

#[tokio::test]
async fn a_refused_body_over_http_2_is_not_read_without_end() {
    let server = closed(|config| {
        config.limits.batch_bytes = 200_000;
        config.limits.event_bytes = 10_000;
    });
    let http = Http2::connect(&server).await;
    let (answer, mut body) = http.begin("/v1/events", &[]);
    let sent = send_body(&mut body, 1 << 30).await;
    // Up to a window more than is read, and what is on its way.
    assert!(sent < 400_000, "{sent} bytes");
    let reason = timeout(PATIENCE, poll_fn(|cx| body.poll_reset(cx))).await.expect("in time");
    assert_eq!(reason.expect("a reason"), Reason::NO_ERROR);
    assert_eq!(whole(answer).await.status, 401);
    // Nor for ever, where nothing more comes.
    let (answer, mut body) = http.begin("/v1/events", &[]);
    assert_eq!(send_body(&mut body, 10).await, 10);
    assert_eq!(whole(answer).await.status, 401);
    let reason = timeout(PATIENCE, poll_fn(|cx| body.poll_reset(cx))).await.expect("in time");
    assert_eq!(reason.expect("a reason"), Reason::NO_ERROR);
}

#[tokio::test]
async fn who_asks_before_it_sends_a_body_is_told_at_once_over_http_2() {
    let server = closed(|_| {});
    let http = Http2::connect(&server).await;
    let (key, ask) = (format!("Bearer {API_KEY}"), ("expect", "100-continue"));
    let json = ("content-type", "application/json");
    for (path, text, status) in [
        ("/v1/topics/a/events", "1", 201),
        ("/v1/events", r#"{"topic":"a","data":1}"#, 201),
        ("/v1/tickets", r#"{"user":"bob"}"#, 201),
        ("/v1/revocations", r#"{"user":"bob"}"#, 201),
    ] {
        let (mut answer, mut body) =
            http.begin(path, &[("authorization", key.as_str()), ask, json]);
        let go_on = timeout(PATIENCE, poll_fn(|cx| answer.poll_informational(cx))).await;
        let go_on = go_on.expect("in time").expect("an answer before that").expect("a head");
        assert_eq!(go_on.status(), 100, "{path}");
        body.send_data(text.into(), true).expect("sent");
        assert_eq!(whole(answer).await.status, status, "{path}");
    }
    // So is who is refused: Java's client, up to version 18, waits for nothing else.
    for (path, key, status) in [
        ("/v1/events", None, 401),
        ("/v1/tickets", None, 401),
        ("/health/live", Some(&key), 405),
        ("/nowhere", Some(&key), 404),
    ] {
        let key = key.map(|key| ("authorization", key.as_str()));
        let headers: Vec<_> = key.into_iter().chain([ask]).collect();
        let (mut answer, _body) = http.begin(path, &headers);
        let go_on = timeout(PATIENCE, poll_fn(|cx| answer.poll_informational(cx))).await;
        assert!(go_on.expect("in time").is_some(), "{path}");
        let answer = timeout(PATIENCE, whole(answer)).await.expect("an answer in time");
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test]
async fn http_2_is_spoken_without_tls_with_who_knows_it_beforehand() {
    let server = TestServer::with(|config| {
        config.limits.http2_streams = 3;
        config.limits.event_bytes = 30_000;
        config.limits.message_bytes = 30_000;
    });
    let http = Http2::in_the_clear(server.addr).await;
    let mut stream = http.sse("?topic=a").await;
    assert_eq!(stream.next().await.expect("an event").event, "fanfare.live");
    let answer = http.post("/v1/topics/a/events", &json!(7)).await;
    assert_eq!(answer.status, 201);
    assert_eq!(stream.next().await.expect("an event").json()["data"], 7);
    // The refusals and limits of all others.
    let answer = http.post("/v1/topics/a/events", &json!("x".repeat(30_000))).await;
    assert_eq!((answer.status, &answer.json()["code"]), (413, &json!("too_large")));
    let answer = http.get("/v1/ws").await;
    assert_eq!((answer.status, &answer.json()["code"]), (426, &json!("upgrade_required")));
    let origin = format!("http://{}", server.addr);
    for (origin, status) in [(origin.as_str(), 200), ("https://evil.example", 403)] {
        let answer = whole(http.ask(Method::GET, "/v1/topics", &[("origin", origin)])).await;
        assert_eq!(answer.status, status, "{origin}");
    }
    let _others = [http.sse("?topic=a").await, http.sse("?topic=a").await];
    let mut waiting = http.ask(Method::GET, "/health/live", &[]);
    timeout(Duration::from_millis(300), &mut waiting).await.expect_err("it has to wait");
    // And HTTP/1.1 goes on beside it.
    assert_eq!(server.get("/health/live").send().await.expect("an answer").status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_event_streams_over_http_2_without_tls_in_order() {
    let server = TestServer::open();
    let mut stream = Http2::in_the_clear(server.addr).await.sse("?topic=a").await;
    assert_eq!(stream.next().await.expect("an event").event, "fanfare.live");
    let stopping = tokio::task::spawn_blocking(move || server.stop());
    assert_eq!(stream.next().await.expect("an event").event, "fanfare.bye");
    assert_eq!(stream.next().await, None);
    stopping.await.expect("the broker stops");
}

#[tokio::test]
async fn a_preface_may_come_in_pieces_and_a_head_of_http_1_too() {
    let server = TestServer::open();
    let mut frames = Frames(tokio::net::TcpStream::connect(server.addr).await.expect("connected"));
    let head = fields("GET", "/health/live", &[]);
    let all =
        [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)]
            .concat();
    for piece in [&all[..1], &all[1..5], &all[5..20], &all[20..]] {
        frames.send(piece).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(frames.next_of(DATA).await.text(), r#"{"status":"ok"}"#);
    let mut raw = support::raw::Raw::connect(server.addr).await;
    for piece in ["P", "U", "T /v1/events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"] {
        raw.send(piece).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(raw.status().await, 405);
}

#[tokio::test]
async fn a_pattern_as_everybody_types_it_is_understood_over_http_2() {
    let server = TestServer::open();
    let mut frames = Frames::connect(server.addr).await;
    frames.ask(1, "GET", "/v1/sse?topic=demo.>").await;
    frames.data_until("fanfare.live").await;
    server.publish("demo.a", &json!(7)).await;
    frames.data_until(r#""topic":"demo.a""#).await;
    // Only where it was typed: what stands for it is not taken for it elsewhere.
    let mut frames = Frames::connect(server.addr).await;
    frames.ask(1, "GET", r"/v1/sse?topic=demo.\").await;
    frames.data_until("invalid_pattern").await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_in_words_over_http_2() {
    let server = TestServer::encrypted(|_| {});
    let http = Http2::connect(&server).await;
    for bytes in [17_000, 30_000, 60_000] {
        let long = "x".repeat(bytes);
        let answer = whole(http.ask(Method::GET, "/health/live", &[("x-long", &long)])).await;
        assert_eq!((answer.status, &answer.json()["code"]), (431, &json!("head_too_large")));
        assert!(answer.json()["detail"].to_string().contains("16384 bytes"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_host_that_is_told_twice_and_differently_is_refused_over_http_2() {
    let server = TestServer::encrypted(|_| {});
    let http = Http2::connect(&server).await;
    let own = server.addr.to_string();
    for (host, status) in [(own.as_str(), 200), ("evil.example", 400)] {
        for path in ["/health/live", "/metrics", "/nowhere"] {
            let answer = whole(http.ask(Method::GET, path, &[("host", host)])).await;
            assert_eq!(answer.status == 400, status == 400, "{host} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn trailers_with_a_pseudo_header_field_publish_nothing() {
    let server = TestServer::open();
    for (trailers, is_right) in [
        (&[0, 7, b'x', b'-', b'c', b'h', b'e', b'c', b'k', 1, b'1'][..], true),
        (&[0x84], false),
        (&[0, 7, b':', b's', b't', b'a', b't', b'u', b's', 3, b'2', b'0', b'0'], false),
    ] {
        let mut frames = Frames::connect(server.addr).await;
        let head = fields("POST", "/v1/topics/a/events", &[]);
        frames.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
        frames.send(&frame(DATA, 0, 1, b"1")).await;
        frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, trailers)).await;
        match is_right {
            true => assert!(frames.next_of(DATA).await.text().contains("\"id\"")),
            false => assert_eq!(frames.end().await, Some(PROTOCOL)),
        }
    }
    let topic = server.get("/v1/topics/a").send().await.expect("an answer");
    let topic: Value = topic.json().await.expect("JSON");
    assert_eq!(topic["retained"], 1);
}

#[tokio::test]
async fn a_flood_of_frames_that_ask_for_nothing_ends_its_connection_alone() {
    let server = TestServer::open();
    let mut calm = Http2::in_the_clear(server.addr).await.sse("?topic=a").await;
    assert_eq!(calm.next().await.expect("an event").event, "fanfare.live");
    let window = [0, 0, 0, 1];
    for flood in [
        frame(SETTINGS, 0, 0, &[]),
        frame(PING, 0, 0, &[0; 8]),
        frame(2, 0, 1, &[0, 0, 0, 3, 7]),
        frame(WINDOW_UPDATE, 0, 0, &window),
        frame(0x77, 0, 0, b"nobody knows this"),
    ] {
        let mut frames = Frames::connect(server.addr).await;
        // It may be cut before all of it is sent.
        _ = tokio::io::AsyncWriteExt::write_all(&mut frames.0, &flood.repeat(20_000)).await;
        let reason = frames.end().await;
        // The reset that follows may have overtaken it.
        assert!(reason.is_none_or(|reason| reason == CALM), "{reason:?} {:?}", &flood[..9]);
    }
    server.publish("a", &json!(1)).await;
    assert_eq!(calm.next().await.expect("an event").json()["data"], 1);
}

#[tokio::test]
async fn heads_over_http_2_have_their_time() {
    let server =
        TestServer::with(|config| config.limits.request_timeout = Duration::from_millis(500));
    let begun = Instant::now();
    // None at all, one that is cut off, and one that goes on in frames that do not come.
    for frames in [
        Vec::new(),
        frame(HEADERS, END_HEADERS, 1, &fields("GET", "/", &[]))[..20].to_vec(),
        frame(HEADERS, 0, 1, &fields("GET", "/", &[])),
    ] {
        let mut slow = Frames::connect(server.addr).await;
        slow.send(&frames).await;
        slow.end().await;
    }
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    // Once there was one, the connection is kept for the next.
    let kept = Http2::in_the_clear(server.addr).await;
    assert_eq!(kept.get("/health/live").await.status, 200);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(kept.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn an_idle_connection_of_http_2_is_kept_for_as_long_as_the_setting_says() {
    let server = TestServer::with(|config| config.server.keep_alive = Duration::from_secs(1));
    let mut frames = Frames::connect(server.addr).await;
    frames.ask(1, "GET", "/health/live").await;
    frames.next_of(DATA).await;
    assert_eq!(frames.end().await, Some(0), "it ends in order");
}

#[tokio::test]
async fn who_takes_a_byte_now_and_then_is_given_up() {
    let server = TestServer::with(|config| {
        config.limits.stall_timeout = Duration::from_secs(1);
        config.limits.outbox_bytes = 1 << 20;
    });
    let mut frames = Frames::with_window(server.addr, 0).await;
    frames.ask(1, "GET", "/v1/sse?topic=a").await;
    frames.next_of(HEADERS).await;
    server.publish("a", &json!("x".repeat(30_000))).await;
    let dripping = async {
        loop {
            frames.send(&frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])).await;
            // There is always a byte more that waits.
            let came = frames.next().await.expect("the connection goes on");
            assert_ne!(came.kind, GOAWAY);
            if came.kind == RST_STREAM {
                return came.reason();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let reason = timeout(PATIENCE, dripping).await.expect("it is given up");
    assert_eq!(reason, u32::from(Reason::CANCEL));
    eventually("its session ends", async || {
        let list = server.get("/v1/sessions").send().await.expect("an answer");
        let list: Value = list.json().await.expect("JSON");
        list["sessions"].as_array().expect("a list").is_empty()
    })
    .await;
}
