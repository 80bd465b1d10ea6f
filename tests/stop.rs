//! A stop: everyone is told, not all at once, and it is over in time.

mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use support::TestServer;
use support::process::Process;
use support::sse::SseClient;
use support::ws::WsClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_are_told_to_come_back_spread_over_the_grace_time() {
    const CLIENTS: usize = 1_000;
    const GRACE: Duration = Duration::from_secs(3);
    let mut server = TestServer::with(|config| config.server.shutdown_grace = GRACE);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(WsClient::live(&server, "?topic=a").await);
    }
    let begun = Instant::now();
    server.begin_stop();
    let ended = join_all(clients.into_iter().map(async |mut client| {
        let (bye, code) = client.closed().await;
        let bye = bye.expect("a bye");
        assert_eq!((&bye["code"], code), (&json!("restart"), Some(1012)));
        let retry = bye["retry_after_ms"].as_u64().expect("a number");
        assert!((1_000..=2_000).contains(&retry), "{retry}");
        begun.elapsed()
    }))
    .await;
    server.stop();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // No more than half of them in any third of the grace time: a thundering herd would be.
    for third in 0..3 {
        let third = GRACE / 3 * third..GRACE / 3 * (third + 1);
        let in_it = ended.iter().filter(|at| third.contains(*at)).count();
        assert!(in_it <= CLIENTS / 2, "{in_it} in {third:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_for_no_connection_on_which_nothing_was_asked_for() {
    let mut server = TestServer::open();
    // A browser opens some of these before it has a use for them.
    let mut silent = TcpStream::connect(server.addr).await.expect("a connection");
    let mut publisher = TcpStream::connect(server.addr).await.expect("a connection");
    let head = "POST /v1/topics/a/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\
                Expect: 100-continue\r\n\r\n";
    publisher.write_all(head.as_bytes()).await.expect("sent");
    let mut going_on = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    publisher.read_exact(&mut going_on).await.expect("it is waited for the body");
    server.begin_stop();
    let ended = silent.read(&mut [0; 16]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "nothing is said");
    // Who is just publishing is waited for, so that was not yet the end of all connections.
    publisher.write_all(b"12").await.expect("sent");
    let mut answer = [0; "HTTP/1.1 201".len()];
    publisher.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 201");
    drop(publisher);
    server.stop();
}

#[tokio::test]
async fn a_broker_that_stops_admits_nobody_and_is_not_ready() {
    let mut server = TestServer::with(|config| {
        config.server.shutdown_grace = Duration::from_secs(2);
    });
    // Someone who stays until the end of the grace time keeps it open.
    let clients = join_all((0..8).map(|_| WsClient::live(&server, "?topic=a"))).await;
    server.begin_stop();
    support::eventually("not ready", async || {
        server.get("/health/ready").send().await.expect("an answer").status() == 503
    })
    .await;
    assert_eq!(server.get("/health/live").send().await.expect("an answer").status(), 200);
    assert_eq!(support::problem(server.get("/v1/sse?topic=a")).await.0, 503);
    drop(clients);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_with_a_thousand_clients_exits_with_0_in_time() {
    let mut broker = Process::start(&[]);
    let url = format!("ws://{}/v1/ws?topic=a", broker.address);
    let mut clients = Vec::new();
    for _ in 0..1_000 {
        clients.push(connect_async(&url).await.expect("a connection").0);
    }
    let begun = Instant::now();
    broker.signal("-TERM");
    let codes = join_all(clients.iter_mut().map(async |client| {
        loop {
            match client.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return u16::from(frame.code),
                Some(Ok(_)) => {}
                other => panic!("no close frame but {other:?}"),
            }
        }
    }))
    .await;
    assert!(codes.iter().all(|code| *code == 1012));
    let status = broker.wait();
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_answer_do_not_hold_up_a_stop() {
    let mut broker = Process::start(&["--set", "server.shutdown_grace=1s"]);
    let mut silent = Vec::new();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n";
    for (path, upgrade) in [("/v1/ws?topic=a", upgrade), ("/v1/sse?topic=a", "")].repeat(50) {
        let mut stream = TcpStream::connect(&broker.address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{upgrade}\r\n", broker.address);
        stream.write_all(request.as_bytes()).await.expect("sent");
        silent.push(stream);
    }
    let sessions = format!("http://{}/v1/sessions?limit=200", broker.address);
    support::eventually("all are connected", async || {
        let sessions = reqwest::get(&sessions).await.expect("an answer");
        let sessions: Value = sessions.json().await.expect("JSON");
        sessions["sessions"].as_array().expect("a list").len() == 100
    })
    .await;
    let begun = Instant::now();
    broker.signal("-INT");
    let status = broker.wait();
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_serves_on_for_its_delay_and_has_everybody_told_to_go_elsewhere() {
    const DELAY: Duration = Duration::from_secs(10);
    let mut server = TestServer::with(|config| config.server.shutdown_delay = DELAY);
    let mut clients = join_all((0..30).map(|_| WsClient::live(&server, "?topic=a"))).await;
    let begun = Instant::now();
    server.begin_stop();
    support::eventually("not ready", async || {
        server.get("/health/ready").send().await.expect("an answer").status() == 503
    })
    .await;
    // Balancers have not noticed yet: everything is as before, but for what says that it ends.
    let published = server.post("/v1/topics/a/events").json(&1).send().await.expect("an answer");
    assert_eq!(
        (published.status().as_u16(), &published.headers()["connection"]),
        (201, &"close".parse().expect("a value"))
    );
    let mut late = WsClient::live(&server, "?topic=a").await;
    let mut stream = SseClient::live(&server, "?topic=a").await;
    let goaways = join_all(clients.iter_mut().map(async |client| {
        // The first of them are told before the event comes.
        let (mut event, mut left) = (None, None);
        while event.is_none() || left.is_none() {
            let frame = client.next().await;
            match frame["op"].as_str() {
                Some("event") => event = frame["data"].as_u64(),
                Some("goaway") => left = frame["within_ms"].as_u64(),
                Some("cursor") => {}
                _ => panic!("{frame}"),
            }
        }
        assert_eq!(event, Some(1));
        left.expect("a number")
    }));
    let of_stream = async {
        let goaway = stream.next().await.expect("an event");
        assert_eq!(goaway.event, "fanfare.goaway");
        goaway.json()["within_ms"].as_u64().expect("a number")
    };
    let (goaways, late_goaway, of_stream) = tokio::join!(goaways, late.until("goaway"), of_stream);
    let late_left = late_goaway["within_ms"].as_u64().expect("a number");
    assert!(late_left <= 10_000 && of_stream <= 10_000);
    assert!(goaways.iter().all(|left| *left <= 10_000), "{goaways:?}");
    for half in 0..2 {
        let half = DELAY / 2 * half..DELAY / 2 * (half + 1);
        let left = |left: u64| DELAY.saturating_sub(Duration::from_millis(left));
        let in_it = goaways.iter().filter(|ms| half.contains(&left(**ms))).count();
        assert!((10..=20).contains(&in_it), "{in_it} of 30 in {half:?}: {goaways:?}");
    }
    let (bye, code) = late.closed().await;
    assert_eq!((&bye.expect("a bye")["code"], code), (&json!("restart"), Some(1012)));
    assert!(begun.elapsed() >= DELAY, "{:?}", begun.elapsed());
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_delay_and_not_the_good_bye() {
    let mut broker = Process::start(&["--set", "server.shutdown_delay=10m"]);
    let mut client = WsClient::live_at(&broker.address, "?topic=a").await;
    broker.signal("-TERM");
    let left = client.until("goaway").await["within_ms"].as_u64().expect("a number");
    assert!((500_000..=600_000).contains(&left), "{left}");
    let ready = reqwest::get(broker.url("/health/ready")).await.expect("an answer");
    assert_eq!(ready.status(), 503);
    let live = reqwest::get(broker.url("/health/live")).await.expect("it still listens");
    assert_eq!(live.status(), 200);
    broker.signal("-INT");
    let (bye, code) = client.closed().await;
    assert_eq!((&bye.expect("a bye")["code"], code), (&json!("restart"), Some(1012)));
    let status = broker.wait();
    assert!(status.success(), "{status}");
}

#[test]
fn a_broker_that_cannot_start_says_why_and_exits_with_an_error() {
    for (set, message) in [
        ("server.listen=0.0.0.0:0", "no credential is configured"),
        ("server.lisen=127.0.0.1:0", "server.listen"),
        ("server.listen=203.0.113.1:80", "listen"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_fanfare"))
            .args(["serve", "--set", set])
            .output()
            .expect("the broker runs");
        assert!(!output.status.success(), "{set}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(message), "{text}");
    }
}
