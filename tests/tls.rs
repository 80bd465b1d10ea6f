//! Over TLS everything is as without: HTTP/1.1, HTTP/2, WebSocket, and the patience with each.

mod support;

use std::time::{Duration, Instant};

use fanfare::config::{Certificate, Config, ResumptionSecret, Sources, Storage, load};
use futures_util::StreamExt;
use futures_util::future::{join_all, poll_fn};
use futures_util::stream::FuturesUnordered;
use http::Method;
use rustls::version::TLS12;
use rustls::{ClientConfig, HandshakeKind};
use serde_json::{Value, json};
use support::http2::{Http2, whole};
use support::raw::Raw;
use support::tls::{Issuer, shake, trusting};
use support::ws::WsClient;
use support::{API_KEY, PATIENCE, TestServer, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How many sessions are open.
async fn sessions(server: &TestServer) -> usize {
    let list: Value =
        server.get("/v1/sessions").send().await.expect("an answer").json().await.expect("JSON");
    list["sessions"].as_array().expect("a list").len()
}

/// What a client of HTTP/1.1 reads until the broker closes.
async fn exchange(server: &TestServer, protocols: &[&str], request: &str) -> String {
    let mut tls = server.tls.clone().expect("TLS");
    tls.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(server.addr).await.expect("connected");
    let mut stream = shake(stream, tls).await.expect("a handshake");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.expect("it ends in time").expect("it ends with a notice");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn http_1_and_http_2_are_both_spoken_as_the_client_offers() {
    let server = TestServer::encrypted(|_| {});
    let request = "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for protocols in [&["http/1.1"][..], &[]] {
        let answer = exchange(&server, protocols, request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    let http = Http2::connect(&server).await;
    let answer = http.get("/health/live").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok"})));
    assert_eq!(answer.headers["content-length"], "15");
    assert!(answer.headers.contains_key("date"));
    let head = whole(http.ask(Method::HEAD, "/health/live", &[])).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], "15");
    // A WebSocket has a connection to itself.
    let answer = http.get("/v1/ws").await;
    assert_eq!((answer.status, &answer.json()["code"]), (426, &json!("upgrade_required")));
}

#[test]
fn a_certificate_that_can_not_be_used_is_refused_with_the_file_and_the_reason() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let nothing = issuer.chain().with_file_name("nothing.pem");
    let text = issuer.chain().with_file_name("text.pem");
    std::fs::write(&text, "-----BEGIN PRIVATE KEY-----\nno key at all\n").expect("written");
    for (chain, key, said) in [
        (issuer.chain(), other.key(), "server.tls_key: does not belong to the certificate"),
        (nothing.clone(), issuer.key(), "nothing.pem: No such file"),
        (issuer.chain(), nothing, "nothing.pem: No such file"),
        (issuer.key(), issuer.key(), "key.pem does not hold certificates, as PEM"),
        (issuer.chain(), issuer.chain(), "cert.pem does not hold a private key"),
        (issuer.chain(), text.clone(), "text.pem does not hold a private key"),
        (text, issuer.key(), "text.pem does not hold certificates"),
    ] {
        let sets = vec![
            format!("server.tls_certificate={}", chain.display()),
            format!("server.tls_key={}", key.display()),
        ];
        let refused = load(&Sources { sets, ..Sources::default() }).expect_err(said).to_string();
        assert!(refused.contains(said) && !refused.contains("no key at all"), "{refused}");
    }
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_to() {
    let server = TestServer::encrypted(|_| {});
    for request in
        ["GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut raw = Raw::connect(server.addr).await;
        raw.send(request).await;
        let answer = raw.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer:?}");
        assert!(answer.contains("application/problem+json") && answer.contains("https://"));
    }
    let other = Issuer::new().certificate();
    let stream = TcpStream::connect(server.addr).await.expect("connected");
    shake(stream, trusting(&other.key.cert[0])).await.expect_err("another certificate");
}

/// A node that speaks TLS with a certificate, and a secret of such bytes.
fn node(certificate: &Certificate, secret: Option<u8>) -> TestServer {
    TestServer::with(|config| resume_by(config, certificate, secret))
}

/// The configuration of such a node, but for its TLS.
fn typed() -> Config {
    let mut config = Config::default();
    config.rules.default.storage = Storage::Memory;
    config
}

fn resume_by(config: &mut Config, certificate: &Certificate, secret: Option<u8>) {
    config.server.certificate = Some(certificate.clone());
    config.server.resumption_secret = secret.map(|byte| ResumptionSecret(vec![byte; 32]));
}

/// Asks something over a new connection, and says whether that resumed a session of TLS.
async fn resumes(server: &TestServer, client: &ClientConfig) -> bool {
    let stream = TcpStream::connect(server.addr).await.expect("connected");
    let mut stream = shake(stream, client.clone()).await.expect("a handshake");
    let request = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.expect("it ends in time").expect("it ends with a notice");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

#[tokio::test]
async fn sessions_are_resumed_after_a_restart_and_by_all_nodes_with_the_secret() {
    let certificate = Issuer::new().certificate();
    let client = trusting(&certificate.key.cert[0]);
    let one = node(&certificate, Some(1));
    assert!(!resumes(&one, &client).await && resumes(&one, &client).await);
    let other = node(&certificate, Some(1));
    assert!(resumes(&other, &client).await && resumes(&one, &client).await);
    one.stop();
    assert!(resumes(&node(&certificate, Some(1)), &client).await);
    // What another brought is as good as garbage, and costs a full handshake.
    let stranger = node(&certificate, Some(2));
    assert!(!resumes(&stranger, &client).await && resumes(&stranger, &client).await);
    assert!(!resumes(&other, &client).await && resumes(&other, &client).await);
}

#[tokio::test]
async fn without_a_secret_sessions_are_resumed_where_they_were_over_reloads_too() {
    let issuer = Issuer::new();
    let certificate = issuer.certificate();
    let client = trusting(&certificate.key.cert[0]);
    let server = node(&certificate, None);
    assert!(!resumes(&server, &client).await && resumes(&server, &client).await);
    let mut config = typed();
    for (secret, expected) in [(None, true), (Some(1), false), (Some(1), true)] {
        resume_by(&mut config, &certificate, secret);
        server.reload.apply(&config).await.expect("it is in force");
        assert_eq!(resumes(&server, &client).await, expected, "{secret:?}");
    }
    assert!(!resumes(&node(&certificate, None), &client).await);
}

#[tokio::test]
async fn a_new_certificate_is_seen_by_who_comes_back() {
    let issuer = Issuer::new();
    let first = issuer.certificate();
    let client = trusting(&first.key.cert[0]);
    let server = node(&first, Some(1));
    assert!(!resumes(&server, &client).await && resumes(&server, &client).await);
    issuer.issue("second");
    let mut config = typed();
    resume_by(&mut config, &issuer.certificate(), Some(1));
    server.reload.apply(&config).await.expect("it is in force");
    let stream = TcpStream::connect(server.addr).await.expect("connected");
    shake(stream, client).await.expect_err("a certificate that it does not trust");
}

#[tokio::test]
async fn no_session_of_tls_1_2_is_kept_by_its_client() {
    let certificate = Issuer::new().certificate();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.key.cert[0].clone()).expect("a certificate");
    let provider = rustls::crypto::aws_lc_rs::default_provider().into();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS12])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (one, other) = (node(&certificate, Some(1)), node(&certificate, Some(1)));
    assert!(!resumes(&one, &client).await && !resumes(&other, &client).await);
}

#[tokio::test]
async fn a_client_may_change_its_keys_and_is_told_where_it_sends_garbage() {
    let server = TestServer::encrypted(|_| {});
    let stream = TcpStream::connect(server.addr).await.expect("connected");
    let mut stream = shake(stream, server.tls.clone().expect("TLS")).await.expect("a handshake");
    for _ in 0..3 {
        stream.get_mut().1.refresh_traffic_keys().expect("TLS 1.3");
        let request = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request).await.expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await;
            assert!(read.expect("in time").expect("an answer") > 0);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
    let (mut raw, _) = stream.into_inner();
    raw.write_all(&[&[0x17, 3, 3, 0, 32][..], &[0; 32]].concat()).await.expect("sent");
    let mut alert = Vec::new();
    let read = timeout(PATIENCE, raw.read_to_end(&mut alert)).await;
    read.expect("it ends in time").expect("it ends in order");
    assert!(alert.starts_with(&[0x17, 3, 3]), "{alert:?}");
}

#[tokio::test]
async fn requests_over_http_2_have_the_limits_and_refusals_of_all_others() {
    let issuer = Issuer::new();
    let server = TestServer::with(|config| {
        config.server.certificate = Some(issuer.certificate());
        config.limits.event_bytes = 30_000;
        config.limits.message_bytes = 30_000;
    });
    let http = Http2::connect(&server).await;
    let answer = http.post("/v1/topics/a/events", &json!("x".repeat(20_000))).await;
    assert_eq!(answer.status, 201);
    let answer = http.post("/v1/topics/a/events", &json!("x".repeat(30_000))).await;
    assert_eq!((answer.status, &answer.json()["code"]), (413, &json!("too_large")));
    let answer = http.get("/v1/topics/a/events").await;
    assert_eq!(answer.json()["events"][0]["data"].as_str().map(str::len), Some(20_000));
    let answer = http.get("/nowhere").await;
    assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("not_found")));
    let long = "x".repeat(10 * 1024);
    let headers = [("x-long", long.as_str()), ("x-longer", long.as_str())];
    let answer = whole(http.ask(Method::GET, "/health/live", &headers)).await;
    assert_eq!(answer.status, 431);
    assert_eq!(http.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn pages_of_the_brokers_own_origin_are_those_over_tls() {
    let server = TestServer::encrypted(support::close);
    let http = Http2::connect(&server).await;
    let bearer = format!("Bearer {API_KEY}");
    for (scheme, status) in [("https", 200), ("http", 403)] {
        let origin = format!("{scheme}://{}", server.addr);
        let headers = [("origin", origin.as_str()), ("authorization", bearer.as_str())];
        let answer = whole(http.ask(Method::GET, "/v1/topics", &headers)).await;
        assert_eq!(answer.status, status, "{origin}");
        let joined = WsClient::connect_with(&server, "?topic=a", &headers).await;
        assert_eq!(joined.is_ok(), status == 200, "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_over_tls_gets_all_in_order_and_is_told_at_the_end() {
    let server = TestServer::encrypted(|_| {});
    let mut client = WsClient::live(&server, "?topic=a").await;
    let events: Vec<_> = (0..500).map(|n| ("a".to_owned(), json!(n))).collect();
    let ids = server.publish_all(&events).await;
    let got = client.events(500).await;
    assert!(got.iter().zip(&ids).all(|(event, id)| event["id"] == json!(id)));
    assert_eq!(client.ask(1, json!({"op": "ping"})).await["op"], "pong");
    // More than TLS and the kernel hold at once, both ways.
    let large: Vec<_> = (0..100).map(|_| ("b".to_owned(), json!("x".repeat(50_000)))).collect();
    let first = server.publish_all(&large).await.swap_remove(0);
    let request = json!({"op": "subscribe", "topics": ["b"], "since": first});
    assert_eq!(client.ask(2, request).await["op"], "ack");
    let replayed = client.events(99).await;
    assert!(replayed.iter().all(|event| event["data"].as_str().is_some_and(|x| x.len() == 50_000)));
    let stopping = tokio::task::spawn_blocking(move || server.stop());
    let (bye, code) = client.closed().await;
    assert_eq!((bye.expect("a bye")["code"].as_str(), code), (Some("restart"), Some(1012)));
    stopping.await.expect("the broker stops");
}

#[tokio::test]
async fn a_websocket_over_tls_that_takes_nothing_is_given_up() {
    let server = TestServer::encrypted(|config| {
        config.limits.outbox_bytes = 64 * 1024;
        config.limits.close_timeout = Duration::from_millis(300);
    });
    let mut client = WsClient::live(&server, "?topic=a").await;
    for _ in 0..40 {
        let events: Vec<_> = (0..8).map(|_| ("a".to_owned(), json!("x".repeat(50_000)))).collect();
        server.publish_all(&events).await;
    }
    eventually("it is given up", async || sessions(&server).await == 0).await;
    // What was on its way comes; then the connection ends, and nothing is silently left out.
    let mut last = 0;
    while let Ok(message) = client.message().await {
        last += message.len();
    }
    assert!(last > 0);
}

#[tokio::test]
async fn many_event_streams_share_one_connection_of_http_2() {
    let server = TestServer::encrypted(|config| config.limits.http2_streams = 50);
    let http = &Http2::connect(&server).await;
    let open = |n: usize| async move { http.sse(&format!("?topic=t.{n}")).await };
    let mut streams = join_all((0..50).map(open)).await;
    for (n, stream) in streams.iter_mut().enumerate() {
        assert_eq!(stream.next().await.expect("an event").event, "fanfare.live");
        server.publish(&format!("t.{n}"), &json!(n)).await;
    }
    for (n, stream) in streams.iter_mut().enumerate() {
        assert_eq!(stream.next().await.expect("an event").json()["data"], n);
    }
    assert_eq!(sessions(&server).await, 50);
}

#[tokio::test]
async fn a_connection_of_http_2_has_no_more_open_requests_than_its_limit() {
    let server = TestServer::encrypted(|config| config.limits.http2_streams = 3);
    let http = Http2::connect(&server).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(http.ask(Method::GET, "/v1/sse?topic=a", &[]).await.expect("an answer"));
    }
    let mut waiting = http.ask(Method::GET, "/health/live", &[]);
    timeout(Duration::from_millis(300), &mut waiting).await.expect_err("it has to wait");
    streams.pop();
    // It may come before the broker knows that the other has ended, and is refused then.
    _ = waiting.await;
    eventually("there is room", async || http.ask(Method::GET, "/health/live", &[]).await.is_ok())
        .await;
}

#[tokio::test]
async fn an_event_stream_over_http_2_that_its_client_ends_leaves_at_once() {
    let server = TestServer::encrypted(|_| {});
    let http = Http2::connect(&server).await;
    let kept = http.ask(Method::GET, "/v1/sse?topic=a", &[]).await.expect("an answer");
    let ended = http.ask(Method::GET, "/v1/sse?topic=a", &[]).await.expect("an answer");
    assert_eq!(sessions(&server).await, 2);
    // No event comes by which the broker could notice it, and the next heartbeat is 25 s away.
    drop(ended);
    let begun = Instant::now();
    eventually("one has left", async || sessions(&server).await == 1).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop((kept, http));
    eventually("all have left", async || sessions(&server).await == 0).await;
}

#[tokio::test]
async fn an_event_stream_over_http_2_that_takes_nothing_is_given_up() {
    let server = TestServer::encrypted(|config| {
        config.limits.outbox_bytes = 64 * 1024;
        config.limits.stall_timeout = Duration::from_secs(1);
    });
    let http = Http2::with_window(&server, 0).await;
    let mut stalled = http.ask(Method::GET, "/v1/sse?topic=a", &[]).await.expect("an answer");
    assert_eq!(stalled.status(), 200);
    for n in 0..10 {
        server.publish("a", &json!("x".repeat(30_000))).await;
        assert!(n > 5 || sessions(&server).await <= 1);
    }
    eventually("it is given up", async || sessions(&server).await == 0).await;
    let error = stalled.body_mut().data().await.expect("an end").expect_err("a reset");
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
    // Its connection goes on.
    let answer = http.ask(Method::GET, "/health/live", &[]).await.expect("an answer");
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_event_streams_over_http_2_in_order() {
    let server = TestServer::encrypted(|_| {});
    let mut stream = Http2::connect(&server).await.sse("?topic=a").await;
    assert_eq!(stream.next().await.expect("an event").event, "fanfare.live");
    let begun = Instant::now();
    let stopping = tokio::task::spawn_blocking(move || server.stop());
    assert_eq!(stream.next().await.expect("an event").event, "fanfare.bye");
    assert_eq!(stream.next().await, None);
    stopping.await.expect("the broker stops");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_handshake_that_does_not_come_to_an_end_is_cut() {
    let server = TestServer::encrypted(|config| {
        config.limits.handshake_timeout = Duration::from_millis(500);
    });
    let mut slow = Vec::new();
    for _ in 0..100 {
        slow.push(TcpStream::connect(server.addr).await.expect("connected"));
    }
    let begun = Instant::now();
    let ends = slow.into_iter().map(async |mut stream| {
        // The head of a record that announces 512 bytes, and then a byte now and then.
        _ = stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await;
        let mut answer = [0; 64];
        loop {
            match timeout(Duration::from_millis(50), stream.read(&mut answer)).await {
                Ok(Ok(0) | Err(_)) => return begun.elapsed(),
                Ok(Ok(_)) => {}
                Err(_) => _ = stream.write_all(&[0]).await,
            }
        }
    });
    let served = async {
        let http = Http2::connect(&server).await;
        assert_eq!(http.get("/health/live").await.status, 200);
        begun.elapsed()
    };
    let (ends, served) = tokio::join!(join_all(ends), served);
    assert!(served < Duration::from_secs(5), "{served:?}");
    assert!(ends.iter().all(|end| *end < Duration::from_secs(5)), "{ends:?}");
}

#[tokio::test]
async fn bodies_over_http_2_have_their_time_and_are_refused_from_the_head() {
    let issuer = Issuer::new();
    let server = TestServer::with(|config| {
        support::close(config);
        config.server.certificate = Some(issuer.certificate());
        config.limits.body_timeout = Duration::from_millis(300);
    });
    let http = Http2::connect(&server).await;
    let key = format!("Bearer {API_KEY}");
    for (headers, status) in [(&[("authorization", key.as_str())][..], 408), (&[][..], 401)] {
        let (answer, mut body) = http.begin("/v1/events", headers);
        body.send_data("1".into(), false).expect("sent");
        let answer = timeout(PATIENCE, whole(answer)).await.expect("an answer in time");
        assert_eq!(answer.status, status);
        let reset = timeout(PATIENCE, poll_fn(|cx| body.poll_reset(cx))).await;
        assert!(reset.expect("it ends").is_ok(), "no more of the body is taken");
    }
    assert_eq!(http.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn bodies_over_http_2_are_bounded_together() {
    let issuer = Issuer::new();
    let server = TestServer::with(|config| {
        config.server.certificate = Some(issuer.certificate());
        config.limits.batch_bytes = 60_000;
        config.limits.event_bytes = 1_000;
        config.limits.bodies_bytes_per_address = 150_000;
    });
    let http = Http2::connect(&server).await;
    let mut held = Vec::new();
    for _ in 0..10 {
        let (answer, mut body) = http.begin("/v1/events", &[]);
        body.send_data(vec![b' '; 50_000].into(), false).expect("sent");
        held.push((answer, body));
    }
    // Those that are too many are refused, whichever they are.
    let (answers, _bodies): (Vec<_>, Vec<_>) = held.into_iter().unzip();
    let refused = FuturesUnordered::from_iter(answers.into_iter().map(whole)).take(8);
    let statuses = timeout(PATIENCE, refused.map(|answer| answer.status).collect::<Vec<_>>());
    assert_eq!(statuses.await.expect("in time"), [429; 8]);
}

#[tokio::test]
async fn a_head_of_many_small_references_is_refused_over_http_2() {
    let server = TestServer::encrypted(|_| {});
    let http = Http2::connect(&server).await;
    for (fields, status) in [(90, 200), (120, 431), (350, 431), (450, 431)] {
        let headers = vec![("x", "1"); fields];
        let answer = whole(http.ask(Method::GET, "/health/live", &headers)).await;
        assert_eq!(answer.status, status, "{fields} fields");
        if fields == 120 {
            assert_eq!(answer.json()["code"], "head_too_large");
        }
    }
    assert_eq!(http.get("/health/live").await.status, 200);
}

#[tokio::test]
async fn idle_connections_over_tls_make_room_and_who_waits_for_an_answer_stays() {
    let issuer = Issuer::new();
    let server = TestServer::with(|config| {
        config.server.certificate = Some(issuer.certificate());
        config.limits.connections = 10;
    });
    let busy = Http2::connect(&server).await;
    let mut stream = busy.sse("?topic=a").await;
    assert_eq!(stream.next().await.expect("an event").event, "fanfare.live");
    let idle = Http2::connect(&server).await;
    assert_eq!(idle.get("/health/live").await.status, 200);
    let mut silent = TcpStream::connect(server.addr).await.expect("a connection");
    let mut others = Vec::new();
    for _ in 0..20 {
        let other = Http2::connect(&server).await;
        assert_eq!(other.get("/health/live").await.status, 200);
        others.push(other);
    }
    let mut nothing = Vec::new();
    let ended = timeout(PATIENCE, silent.read_to_end(&mut nothing)).await;
    _ = ended.expect("who says nothing makes room");
    eventually("the idle one makes room", || async {
        idle.requests.clone().ready().await.is_err()
    })
    .await;
    busy.post("/v1/topics/a/events", &json!(1)).await;
    assert_eq!(stream.next().await.expect("an event").json()["data"], 1);
}
