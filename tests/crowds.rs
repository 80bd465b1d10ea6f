//! Crowds that mean ill, or nothing: the broker serves others throughout, and returns to what it was.
//!
//! `FANFARE_CROWD=5000` for as many sockets as the largest attack that was tried; fewer by default.

mod support;

use std::cell::Cell;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::cgroup::Cgroup;
use support::process::Process;
use support::{PATIENCE, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long a round trip takes at most while others let theirs last for twice as long, after which they are cut: who had
/// to wait for them would need longer, whatever else the machine has to do.
const NOT_HELD_UP: Duration = Duration::from_secs(5);

type Client = WebSocketStream<MaybeTlsStream<TcpStream>>;

fn crowd(usual: usize) -> usize {
    // Both ends are in processes of their own.
    _ = rlimit::increase_nofile_limit(u64::MAX);
    std::env::var("FANFARE_CROWD").map_or(usual, |crowd| crowd.parse().expect("a number"))
}

async fn subscribe(broker: &Process, query: &str) -> Client {
    let url = format!("ws://{}/v1/ws{query}", broker.address);
    let mut client = connect_async(url).await.expect("a connection").0;
    while next(&mut client).await["op"] != "live" {}
    client
}

async fn next(client: &mut Client) -> Value {
    use futures_util::StreamExt;
    loop {
        let message = timeout(PATIENCE, client.next()).await.expect("in time");
        if let Message::Text(text) = message.expect("a message").expect("no error") {
            return serde_json::from_str(&text).expect("JSON");
        }
    }
}

/// Publishes an event and waits until a client has it; returns how long that took.
async fn round_trip(http: &reqwest::Client, broker: &Process, client: &mut Client) -> Duration {
    let begin = Instant::now();
    let published = http.post(broker.url("/v1/topics/healthy/events")).json(&1).send().await;
    assert_eq!(published.expect("an answer").status(), 201);
    while next(client).await["topic"] != "healthy" {}
    begin.elapsed()
}

async fn connect(broker: &Process) -> TcpStream {
    TcpStream::connect(&broker.address).await.expect("a connection")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_never_end_hold_nobody_up_and_are_cut() {
    let broker = Process::start(&["--set", "limits.request_timeout=10s"]);
    let http = reqwest::Client::new();
    let mut client = subscribe(&broker, "?topic=healthy").await;
    round_trip(&http, &broker, &mut client).await;
    let before = broker.memory();
    let mut slow = Vec::new();
    for _ in 0..crowd(500) {
        let mut stream = connect(&broker).await;
        stream.write_all(b"GET /v1/ws HTTP/1.1\r\nHost: ").await.expect("it is sent");
        slow.push(stream);
    }
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(3) {
        for stream in &mut slow {
            // Each byte in time is not a head in time.
            _ = stream.write_all(b"x").await;
        }
        assert!(round_trip(&http, &broker, &mut client).await < NOT_HELD_UP);
        sleep(Duration::from_millis(200)).await;
    }
    for mut stream in slow {
        let mut answer = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "it was not cut");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{answer:?}");
    }
    // The allocator of other systems keeps the buffers of a crowd for the next one, some 20 KiB each.
    let kept = (crowd(500) as u64 * (24 << 10)).max(24 << 20);
    is_given_back(&broker, before, if GIVES_BACK { SPARE } else { kept }).await;
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crowd_had_in_memory_is_given_back_once_it_is_gone() {
    let broker = Process::start(&["--set", "limits.request_timeout=5s"]);
    let http1 = format!("GET /v1/ws HTTP/1.1\r\nHost: a\r\nX-A: {}", "x".repeat(12_000));
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // A head of 16,000 bytes (0x3e80), of which not all come.
    let begun = [0, 0x3e, 0x80, 1, 4, 0, 0, 0, 1];
    let http2 = [&preface[..], &settings, &begun, &[b'x'; 12_000]].concat();
    let before = broker.memory();
    for beginning in [http1.as_bytes(), &http2] {
        let mut slow = Vec::new();
        for _ in 0..crowd(2_000) {
            let mut stream = connect(&broker).await;
            stream.write_all(beginning).await.expect("it is sent");
            slow.push(stream);
        }
        let held = before + crowd(2_000) as u64 * 12_000;
        eventually("what they sent is held", || async { broker.memory() > held }).await;
        for mut stream in slow {
            let ended = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
            assert!(ended.is_ok(), "it was not cut");
        }
        is_given_back(&broker, before, SPARE).await;
    }
}

/// Whether the program has an allocator that gives back what it does not need.
const GIVES_BACK: bool = cfg!(all(target_os = "linux", target_env = "gnu"));

/// The most that it keeps of what a crowd had, in bytes, with the code that nobody had used before.
const SPARE: u64 = 16 << 20;

/// Waits until the memory of a crowd is given back, for which the allocator takes 10 s, as the next one may be on its way.
async fn is_given_back(broker: &Process, before: u64, spare: u64) {
    let (begin, peak) = (Instant::now(), broker.peak_memory() >> 10);
    while broker.memory() > before + spare {
        let (now, waited) = (broker.memory(), begin.elapsed());
        assert!(waited < Duration::from_secs(40), "{now} bytes, {before} before");
        sleep(Duration::from_millis(100)).await;
    }
    let (before, now) = (before >> 10, broker.memory() >> 10);
    eprintln!(
        "memory: {before} KiB before, {peak} KiB at most, {now} KiB after {:?}",
        begin.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_never_come_hold_nobody_up_and_are_cut() {
    let sockets = crowd(2_040);
    let broker = Process::start(&["--set", "limits.body_timeout=10s"]);
    let http = reqwest::Client::new();
    let mut client = subscribe(&broker, "?topic=healthy").await;
    round_trip(&http, &broker, &mut client).await;
    let mut slow = Vec::new();
    for _ in 0..sockets {
        let mut stream = connect(&broker).await;
        let head = "POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n1";
        stream.write_all(head.as_bytes()).await.expect("it is sent");
        slow.push(stream);
    }
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        assert!(round_trip(&http, &broker, &mut client).await < NOT_HELD_UP);
        // Somebody new is served too.
        let new = reqwest::Client::new();
        assert!(round_trip(&new, &broker, &mut client).await < NOT_HELD_UP);
    }
    for mut stream in slow {
        let mut answer = Vec::new();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "it was not cut");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_sockets_than_there_may_be_files_make_room_for_each_other() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("sh");
    let limited = "ulimit -n 128 && exec \"$0\" \"$@\"";
    command.args(["-c", limited, env!("CARGO_BIN_EXE_fanfare")]);
    let broker = Process::run(command, directory.path(), 0, &["--set", "history.storage=memory"]);
    let mut client = subscribe(&broker, "?topic=healthy").await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(connect(&broker).await);
    }
    // While they still come, whoever is new may have to make room too.
    let in_a_row = &Cell::new(0);
    eventually("the crowd has come in", || {
        let answer = reqwest::Client::new().get(broker.url("/health/live")).send();
        async move {
            let is_served = matches!(answer.await, Ok(answer) if answer.status() == 200);
            in_a_row.set(if is_served { in_a_row.get() + 1 } else { 0 });
            in_a_row.get() == 10
        }
    })
    .await;
    // They stay, and yet somebody new is served.
    for _ in 0..5 {
        let new = reqwest::Client::new();
        assert!(round_trip(&new, &broker, &mut client).await < NOT_HELD_UP);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_who_is_connected_is_served_and_others_are_once_there_are_some() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("sh");
    let limited = "ulimit -n 128 && exec \"$0\" \"$@\"";
    command.args(["-c", limited, env!("CARGO_BIN_EXE_fanfare")]);
    let broker = Process::run(command, directory.path(), 0, &["--set", "history.storage=memory"]);
    let http = reqwest::Client::new();
    let mut client = subscribe(&broker, "?topic=healthy").await;
    round_trip(&http, &broker, &mut client).await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        // The kernel accepts what the broker can't.
        idle.push(connect(&broker).await);
    }
    sleep(Duration::from_millis(500)).await;
    let (before, begin) = (processor_time(&broker), Instant::now());
    for _ in 0..10 {
        // Its publisher stays connected: who never asked for anything makes room before.
        assert!(round_trip(&http, &broker, &mut client).await < NOT_HELD_UP);
        sleep(Duration::from_millis(100)).await;
    }
    let busy = (processor_time(&broker) - before).as_secs_f64() / begin.elapsed().as_secs_f64();
    assert!(busy < 0.8, "it spins: {busy} of a processor");
    drop(idle);
    eventually("new ones are served", || async {
        let answer = reqwest::Client::new().get(broker.url("/health/live")).send();
        let answer = timeout(Duration::from_secs(1), answer).await;
        matches!(answer, Ok(Ok(answer)) if answer.status() == 200)
    })
    .await;
}

/// The time that a process has had a processor.
fn processor_time(broker: &Process) -> Duration {
    let text = fs::read_to_string(format!("/proc/{}/stat", broker.child.id())).expect("it runs");
    let fields: Vec<_> = text.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_subscriptions_of_one_client_are_refused_or_paid_for() {
    use futures_util::SinkExt;
    for (limit, granted) in [(1_000, 1), (100_000, 100)] {
        let broker = Process::start(&["--set", &format!("limits.subscriptions={limit}")]);
        let http = reqwest::Client::new();
        let mut healthy = subscribe(&broker, "?topic=healthy").await;
        let url = format!("ws://{}/v1/ws", broker.address);
        let mut greedy = connect_async(url).await.expect("a connection").0;
        let mut acknowledged = 0;
        for batch in 0..100 {
            let topics: Vec<_> =
                (0..1_000).map(|topic| format!("greedy.{batch}.{topic}")).collect();
            let subscribe = json!({"op": "subscribe", "ref": batch + 1, "topics": topics});
            greedy.send(Message::text(subscribe.to_string())).await.expect("it is sent");
            let answer = loop {
                let answer = next(&mut greedy).await;
                if answer["ref"] == batch + 1 && answer["op"] != "live" {
                    break answer;
                }
            };
            match answer["op"].as_str() {
                Some("ack") => acknowledged += 1,
                _ => assert_eq!(answer["code"], "too_many", "{answer}"),
            }
            if batch % 10 == 0 {
                assert!(round_trip(&http, &broker, &mut healthy).await < NOT_HELD_UP);
            }
        }
        assert_eq!(acknowledged, granted);
        assert!(broker.memory() < 160 << 20, "{} bytes", broker.memory());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_who_never_read_fit_into_a_quarter_of_a_gigabyte_and_are_ended() {
    let group = Cgroup::of_memory(256 << 20);
    if group.is_none() {
        eprintln!("without the right to make a cgroup only the process's own memory is looked at");
    }
    let broker =
        Process::start(&["--set", "history.storage=memory", "--set", "history.memory_bytes=32MiB"]);
    if let Some(group) = &group {
        group.add(broker.child.id());
    }
    let http = reqwest::Client::new();
    let mut healthy = subscribe(&broker, "?topic=%3E").await;
    let mut deaf = Vec::new();
    for _ in 0..200 {
        deaf.push(subscribe(&broker, "?topic=news").await);
    }
    let text = "x".repeat(16_000);
    let mut last = 0;
    for number in 0..600 {
        let data = json!({ "number": number, "text": text });
        let published = http.post(broker.url("/v1/topics/news/events")).json(&data).send().await;
        assert_eq!(published.expect("an answer").status(), 201);
        let event = next(&mut healthy).await;
        if event["op"] == "event" {
            last = event["data"]["number"].as_u64().expect("a number");
        }
    }
    assert!(last >= 590, "{last}");
    assert!(round_trip(&http, &broker, &mut healthy).await < NOT_HELD_UP);
    eventually("those who never read are gone", || async {
        let sessions = http.get(broker.url("/v1/sessions?limit=500")).send().await;
        let sessions: Value = sessions.expect("an answer").json().await.expect("JSON");
        sessions["sessions"].as_array().expect("sessions").len() == 1
    })
    .await;
    assert!(broker.peak_memory() < 256 << 20, "{} bytes", broker.peak_memory());
    drop(broker);
}
