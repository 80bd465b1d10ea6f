//! The promise, under kill -9 and under clients that come and go: nothing acknowledged is lost,
//! nothing comes twice or out of order.
//!
//! Publishers repeat what was not acknowledged under the same key; clients come back with the last
//! cursor they have. The runs are short by default; the environment makes them long:
//!
//! ```sh
//! FANFARE_CRASH_KILLS=20 FANFARE_CRASH_RATE=2000 FANFARE_CRASH_CLIENTS=50 \
//! FANFARE_SEAM_RESUMES=10000 FANFARE_SEAM_RATE=5000 \
//!     cargo test --release --test crash -- --nocapture --test-threads 1
//! ```

mod support;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare::model::{Cursor, Topic};
use futures_util::StreamExt;
use rand::RngExt;
use serde_json::{Value, json};
use support::checker::{Client, Fault, Frame, History, Published, Received};
use support::process::{Process, free_port};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

const TOPICS: usize = 20;
const BATCH: usize = 5;

/// A client that stays until the broker goes.
const FOR_GOOD: Range<usize> = usize::MAX / 4..usize::MAX / 2;

fn parameter(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn topic(number: usize) -> Topic {
    Topic::parse(&format!("crash.{}.{number}", number % 4)).expect("a topic")
}

fn cursor(id: &Value) -> Cursor {
    Cursor::parse(id.as_str().expect("an id")).expect("a cursor")
}

/// What all parts of a run share.
struct Run {
    address: String,
    history: Mutex<History>,
    publishing: AtomicBool,
    /// The event after which everybody may go.
    last: Mutex<Option<Cursor>>,
    /// How often clients have connected.
    connections: AtomicUsize,
}

impl Run {
    fn on(broker: &Process) -> Self {
        Self {
            address: broker.address.clone(),
            history: Mutex::default(),
            publishing: AtomicBool::new(true),
            last: Mutex::default(),
            connections: AtomicUsize::new(0),
        }
    }

    /// Publishes an event that everybody gets; its place.
    async fn mark(&self, data: &str) -> Cursor {
        let url = format!("http://{}/v1/topics/crash.0.end/events", self.address);
        let receipt = reqwest::Client::new().post(url).json(&data).send().await.expect("an answer");
        let receipt: Value = receipt.json().await.expect("JSON");
        cursor(&receipt["id"])
    }

    /// Lets publishers and clients come to their end, and finds what is wrong with what they saw.
    async fn finish(&self, publishers: Vec<JoinHandle<()>>, clients: Vec<JoinHandle<Client>>) {
        self.publishing.store(false, Ordering::Relaxed);
        for publisher in publishers {
            publisher.await.expect("the publisher ends");
        }
        let end = self.mark("end").await;
        *self.last.lock().expect("the last event") = Some(end);
        let mut seen = Vec::new();
        for client in clients {
            let client = timeout(Duration::from_secs(60), client).await.expect("it has seen all");
            seen.push(client.expect("the client ends"));
        }
        let history = self.history.lock().expect("the history");
        let received: usize = seen.iter().map(|client| client.received.len()).sum();
        let connections = self.connections.load(Ordering::Relaxed);
        println!(
            "{} events acknowledged; {received} received by {} clients over {connections} connections",
            history.len(),
            seen.len()
        );
        assert!(history.len() > 100, "only {} events", history.len());
        let faults = history.check(&seen);
        let some = &faults[..faults.len().min(5)];
        assert!(faults.is_empty(), "{} faults, first {some:?}", faults.len());
    }

    fn acknowledged(&self, receipt: &Value, topic: &Topic, number: usize, from: usize) {
        let mut history = self.history.lock().expect("the history");
        for (event, n) in receipt["events"].as_array().expect("events").iter().zip(from..) {
            let published = Published::by(number, n, topic);
            match published.carried.passes {
                true => assert!(event["id"].is_null(), "{event}"),
                false => history.acknowledged(cursor(&event["id"]), published),
            }
        }
    }

    /// Whether a client has seen all there is to see.
    fn is_done(&self, client: &Client) -> bool {
        self.last.lock().expect("the last event").is_some_and(|last| client.cursor >= last)
    }
}

/// Publishes batches to one topic, each until it is acknowledged.
async fn publish(run: Arc<Run>, number: usize, pause: Duration) {
    let http =
        reqwest::Client::builder().timeout(Duration::from_secs(5)).build().expect("a client");
    let url = format!("http://{}/v1/events", run.address);
    let name = topic(number);
    let mut next = 0;
    while run.publishing.load(Ordering::Relaxed) {
        let events: Vec<_> =
            (next..next + BATCH).map(|n| Published::to_publish(number, n, &name)).collect();
        let (body, key) = (json!({ "events": events }), format!("{number}-{next}"));
        let receipt = loop {
            let request = http.post(&url).header("idempotency-key", &key).json(&body);
            match request.send().await {
                Ok(response) if response.status().is_success() => {
                    if let Ok(receipt) = response.json::<Value>().await {
                        break receipt;
                    }
                }
                Ok(response) => assert_eq!(response.status(), 503),
                Err(_) => {}
            }
            sleep(Duration::from_millis(20)).await;
        };
        run.acknowledged(&receipt, &name, number, next);
        next += BATCH;
        sleep(pause).await;
    }
}

/// Follows until all was seen, on one connection after the other, each of them for so many events.
async fn over_websocket(run: Arc<Run>, mut client: Client, stay: Range<usize>) -> Client {
    while !run.is_done(&client) {
        let leave_after = client.received.len() + rand::rng().random_range(stay.clone());
        let url = format!("ws://{}/v1/ws?{}", run.address, client.query());
        let Ok((mut socket, _)) = tokio_tungstenite::connect_async(url).await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        run.connections.fetch_add(1, Ordering::Relaxed);
        client.connected(None);
        while client.received.len() < leave_after && !run.is_done(&client) {
            match timeout(Duration::from_secs(1), socket.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => {
                    let frame = Frame::parse(&text);
                    match frame.op {
                        "event" => client.event(&frame),
                        "gap" => client.gap(&frame),
                        _ => client.progress(&frame),
                    }
                }
                Ok(Some(Ok(_))) | Err(_) => {}
                Ok(Some(Err(_)) | None) => break,
            }
        }
    }
    client
}

async fn over_sse(run: Arc<Run>, mut client: Client) -> Client {
    let http = reqwest::Client::new();
    while !run.is_done(&client) {
        let url = format!("http://{}/v1/sse?{}", run.address, client.query());
        let Ok(response) = http.get(url).header("accept", "text/event-stream").send().await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        client.connected(None);
        let mut chunks = response.bytes_stream();
        let mut buffer = String::new();
        while !run.is_done(&client) {
            match timeout(Duration::from_secs(1), chunks.next()).await {
                Ok(Some(Ok(chunk))) => buffer.push_str(&String::from_utf8_lossy(&chunk)),
                Err(_) => {}
                Ok(Some(Err(_)) | None) => break,
            }
            while let Some((block, rest)) = buffer.split_once("\n\n") {
                let field = |name| block.lines().find_map(|line| line.strip_prefix(name));
                if let Some(data) = field("data: ") {
                    let frame = Frame::parse(data);
                    match field("event: ") {
                        None => client.event(&frame),
                        Some("fanfare.gap") => client.gap(&frame),
                        Some(_) => client.progress(&frame),
                    }
                }
                buffer = rest.to_owned();
            }
        }
    }
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_nothing_that_was_acknowledged_and_doubles_nothing() {
    let kills = parameter("FANFARE_CRASH_KILLS", 4);
    let rate = parameter("FANFARE_CRASH_RATE", 400);
    let subscribers = parameter("FANFARE_CRASH_CLIENTS", 12);
    let directory = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let mut broker = Process::durable(directory.path(), port, &[]);
    let run = Arc::new(Run::on(&broker));
    let since = run.mark("begin").await;

    let mut clients = Vec::new();
    for number in 0..subscribers {
        // Exact topics, wildcards, and everything, over both transports.
        let mut patterns = match number % 3 {
            0 => [number, number + 7].map(|n| topic(n % TOPICS).into()).to_vec(),
            1 => vec![format!("crash.{}.*", number % 4)],
            _ => vec!["crash.>".to_owned()],
        };
        // By which a client knows that it has seen all.
        patterns.push("crash.0.end".to_owned());
        let client = Client::new(number, patterns, since);
        clients.push(match number % 2 {
            0 => tokio::spawn(over_websocket(run.clone(), client, FOR_GOOD)),
            _ => tokio::spawn(over_sse(run.clone(), client)),
        });
    }
    let pause = Duration::from_secs_f64((TOPICS * BATCH) as f64 / rate as f64);
    let publishers: Vec<_> =
        (0..TOPICS).map(|number| tokio::spawn(publish(run.clone(), number, pause))).collect();

    for _ in 0..kills {
        let moment = rand::rng().random_range(200..1_200);
        sleep(Duration::from_millis(moment)).await;
        broker.signal("-KILL");
        broker.wait();
        broker = Process::durable(directory.path(), port, &[]);
    }
    sleep(Duration::from_millis(500)).await;
    run.finish(publishers, clients).await;
}

/// A crowd that was away comes at once, in the midst of that the broker is killed, and all of it comes again: first it is
/// caught up from what is at hand, then from the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_that_returns_at_once_has_everything_once_and_in_order_also_over_kill_9() {
    let herd = parameter("FANFARE_HERD_CLIENTS", 60);
    let behind = parameter("FANFARE_HERD_BEHIND", 1_000);
    let directory = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let mut broker = Process::durable(directory.path(), port, &[]);
    let run = Arc::new(Run::on(&broker));
    let since = run.mark("begin").await;
    let pause = Duration::from_millis(100);
    let publishers: Vec<_> =
        (0..TOPICS).map(|number| tokio::spawn(publish(run.clone(), number, pause))).collect();
    let is_published = |events| run.history.lock().expect("the history").len() >= events;
    let mut clients = Vec::new();
    for round in 1..=2 {
        while !is_published(round * behind) {
            sleep(Duration::from_millis(20)).await;
        }
        for number in clients.len()..round * herd / 2 {
            let mut patterns = match number % 4 {
                0 => vec![topic(number % TOPICS).into()],
                1 => (0..9).map(|n| topic((number + n) % TOPICS).into()).collect(),
                2 => vec![format!("crash.{}.*", number % 3), "crash.*.7".to_owned()],
                _ => vec!["crash.>".to_owned()],
            };
            patterns.push("crash.0.end".to_owned());
            let client = Client::new(number, patterns, since);
            clients.push(match number % 5 {
                0 => tokio::spawn(over_sse(run.clone(), client)),
                // Some don't stay.
                1 => tokio::spawn(over_websocket(run.clone(), client, 1..behind)),
                _ => tokio::spawn(over_websocket(run.clone(), client, FOR_GOOD)),
            });
        }
        let moment = rand::rng().random_range(20..400);
        sleep(Duration::from_millis(moment)).await;
        broker.signal("-KILL");
        broker.wait();
        broker = Process::durable(directory.path(), port, &[]);
    }
    run.finish(publishers, clients).await;
}

/// How many pages of the history were read, from what is at hand and by asking the log.
async fn pages(broker: &Process) -> [u64; 2] {
    let text = reqwest::get(broker.url("/metrics")).await.expect("an answer").text().await;
    let text = text.expect("a text");
    ["at_hand", "asked"].map(|source| {
        let name = format!("fanfare_history_pages_total{{source=\"{source}\"}} ");
        let number = text.lines().find_map(|line| line.strip_prefix(&*name));
        number.expect("it is counted").parse().expect("a number")
    })
}

/// What comes after a place until it is live: how many events, and whether there is a gap.
async fn resumed(broker: &Process, pattern: &str, since: Cursor) -> (usize, bool) {
    let url = format!("ws://{}/v1/ws?topic={pattern}&since={since}", broker.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a WebSocket");
    let (mut count, mut is_gap) = (0, false);
    loop {
        let next = timeout(Duration::from_secs(20), socket.next()).await.expect("a frame in time");
        let Message::Text(text) = next.expect("a frame").expect("a frame") else { continue };
        let frame: Value = serde_json::from_str(&text).expect("JSON");
        match frame["op"].as_str().expect("an op") {
            "event" => count += 1,
            "gap" => is_gap = true,
            "live" => return (count, is_gap),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_9_what_was_there_before_comes_to_hand_but_for_what_was_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut broker = Process::durable(directory.path(), 0, &[]);
    let http = reqwest::Client::new();
    let mut since = Vec::new();
    for _ in 0..3 {
        let events: Vec<_> =
            (0..300).map(|n| json!({ "topic": format!("t.{}", n % 3), "data": n })).collect();
        let request = http.post(broker.url("/v1/events")).json(&json!({ "events": events }));
        let receipt: Value =
            request.send().await.expect("an answer").json().await.expect("a receipt");
        since.push(cursor(&receipt["events"][0]["id"]));
    }
    let forgotten = http.delete(broker.url("/v1/topics/t.2/events")).send().await;
    assert!(forgotten.expect("an answer").status().is_success());
    broker.signal("-KILL");
    broker.wait();
    let broker = Process::durable(directory.path(), 0, &[]);
    let is_at_hand = async || {
        let [at_hand, asked] = pages(&broker).await;
        assert_eq!(resumed(&broker, "t.0", since[1]).await, (199, false));
        let [at_hand_now, asked_now] = pages(&broker).await;
        at_hand_now > at_hand && asked_now == asked
    };
    support::eventually("it is at hand", is_at_hand).await;
    let [at_hand, asked] = pages(&broker).await;
    assert_eq!(resumed(&broker, "t.1", since[2]).await, (100, false));
    assert_eq!(resumed(&broker, "t.0&topic=t.1", since[1]).await, (399, false));
    let [at_hand_now, asked_now] = pages(&broker).await;
    assert_eq!((at_hand_now - at_hand, asked_now - asked), (3, 0));
    for pattern in ["t.2", "t.*"] {
        let (count, is_gap) = resumed(&broker, pattern, since[1]).await;
        assert!(is_gap && count == if pattern == "t.2" { 0 } else { 399 }, "{pattern}: {count}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_come_and_go_at_full_speed_find_no_hole_at_the_seam() {
    let resumes = parameter("FANFARE_SEAM_RESUMES", 300);
    let rate = parameter("FANFARE_SEAM_RATE", 1_000);
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Process::durable(directory.path(), 0, &[]);
    let run = Arc::new(Run::on(&broker));
    let since = run.mark("begin").await;
    let pause = Duration::from_secs_f64((TOPICS * BATCH) as f64 / rate as f64);
    let publishers: Vec<_> =
        (0..TOPICS).map(|number| tokio::spawn(publish(run.clone(), number, pause))).collect();
    let clients = (0..10).map(|number| {
        let patterns = match number % 2 {
            0 => vec![topic(number).into(), "crash.0.end".to_owned()],
            _ => vec![format!("crash.{}.*", number % 4), "crash.0.end".to_owned()],
        };
        let client = Client::new(number, patterns, since);
        tokio::spawn(over_websocket(run.clone(), client, 1..20))
    });
    let clients: Vec<_> = clients.collect();
    while run.connections.load(Ordering::Relaxed) < resumes {
        sleep(Duration::from_millis(50)).await;
    }
    run.finish(publishers, clients).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_events_to_a_slow_reader_cost_little_memory_and_log() {
    const EVENTS: usize = 100_000;
    const AT_A_TIME: usize = 5_000;
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Process::durable(directory.path(), 0, &[]);
    let run = Run::on(&broker);
    let since = run.mark("begin").await;
    let http = reqwest::Client::new();
    let text = "x".repeat(200);
    for from in (0..EVENTS).step_by(AT_A_TIME) {
        let events: Vec<_> = (from..from + AT_A_TIME)
            .map(|n| json!({ "topic": "crash.0.many", "data": [n, text] }))
            .collect();
        let body = json!({ "events": events });
        let receipt = http.post(broker.url("/v1/events")).json(&body).send().await;
        assert_eq!(receipt.expect("an answer").status(), 201);
    }
    let before = broker.memory();
    let url = format!("ws://{}/v1/ws?topic=crash.0.many&since={since}", broker.address);
    let (mut slow, _) = tokio_tungstenite::connect_async(url).await.expect("a connection");
    let mut received = 0;
    let mut most = 0;
    while received < EVENTS {
        // It stops to think now and then, while others go on to publish.
        if received % 10_000 == 0 {
            sleep(Duration::from_millis(200)).await;
            run.mark("meanwhile").await;
            most = most.max(broker.memory());
        }
        match slow.next().await {
            Some(Ok(Message::Text(text))) => {
                let frame: Value = serde_json::from_str(&text).expect("JSON");
                if frame["op"] == "event" {
                    assert_eq!(frame["data"][0], received);
                    received += 1;
                }
            }
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    let grown = most.saturating_sub(before);
    let log =
        std::fs::metadata(directory.path().join("history.db-wal")).map_or(0, |file| file.len());
    println!("{grown} bytes of memory more than before, the log has {log} bytes");
    assert!(grown < 16 << 20, "{grown} bytes more");
    assert!(log < 128 << 20, "the log has {log} bytes");
}

#[test]
fn the_checker_finds_each_fault() {
    let id = |n: usize| Cursor::parse(&format!("abcdefgh-1-{n}")).expect("a cursor");
    let topic = Topic::parse("a").expect("a topic");
    let event = |n: usize| Published::by(0, n, &topic);
    let received = |numbers: &[usize]| {
        let events = numbers.iter().map(|n| Received::Event { id: id(*n), event: event(*n) });
        events.collect::<Vec<_>>()
    };
    let check = |received: Vec<Received>| {
        let mut history = History::default();
        (1..=3).for_each(|n| history.acknowledged(id(n), event(n)));
        let mut client = Client::new(0, vec!["a".to_owned()], id(0));
        client.received = received;
        history.check(&[client])
    };
    let client = || r#"client 0 on ["a"]"#.to_owned();
    assert_eq!(check(received(&[1, 2, 3])), []);
    let mut bare = received(&[1, 2, 3]);
    if let Received::Event { event, .. } = &mut bare[0] {
        event.carried.version = None;
    }
    assert_eq!(check(bare), [Fault::Wrong { client: client(), id: id(1) }]);
    assert_eq!(check(received(&[1, 3])), [Fault::Lost { client: client(), id: id(2) }]);
    assert_eq!(check(received(&[1, 2, 2, 3])), [Fault::Twice { client: client(), id: id(2) }]);
    assert_eq!(check(received(&[2, 1, 3])), [Fault::OutOfOrder { client: client(), id: id(1) }]);
    let mut wrong = received(&[1, 2, 3]);
    wrong[1] = Received::Event { id: id(2), event: event(9) };
    assert_eq!(check(wrong), [Fault::Wrong { client: client(), id: id(2) }]);
    let gap = |topics: &[&str]| {
        let topics = topics.iter().map(ToString::to_string).collect();
        [received(&[1, 2, 3]), vec![Received::Gap { topics }]].concat()
    };
    assert_eq!(check(gap(&[])), [Fault::Gap { client: client() }]);
    assert_eq!(check(gap(&["a"])), [Fault::Gap { client: client() }]);

    // Of what was forgotten a gap must tell who did not get it, and of nothing else.
    let forgetting = |received: Vec<Received>| {
        let mut history = History::default();
        (1..=2).for_each(|n| history.acknowledged(id(n), event(n)));
        history.forgotten(&topic);
        history.acknowledged(id(3), event(3));
        let mut client = Client::new(0, vec!["a".to_owned()], id(0));
        client.received = received;
        history.check(&[client])
    };
    let gap_of_it = || vec![Received::Gap { topics: vec!["a".to_owned()] }];
    let of_any = vec![Received::Gap { topics: Vec::new() }];
    let of_another = vec![Received::Gap { topics: vec!["b".to_owned()] }];
    assert_eq!(forgetting([gap_of_it(), received(&[3])].concat()), []);
    assert_eq!(forgetting([of_any, received(&[3])].concat()), []);
    let gap = Fault::Gap { client: client() };
    assert_eq!(forgetting([of_another, received(&[1, 2, 3])].concat()), [gap]);
    assert_eq!(forgetting(received(&[1, 3])), [Fault::Lost { client: client(), id: id(2) }]);
    assert_eq!(forgetting(gap_of_it()), [Fault::Lost { client: client(), id: id(3) }]);

    // What is kept from a session may be missing there, and must not come.
    let excepting = |received: Vec<Received>| {
        let mut history = History::default();
        (1..=3).for_each(|n| history.acknowledged(id(n), event(n)));
        history.kept_from(id(2), "s");
        let mut client = Client::new(0, vec!["a".to_owned()], id(0));
        client.received = received;
        history.check(&[client])
    };
    let over = |session: &str| vec![Received::Connection { session: Some(session.to_owned()) }];
    assert_eq!(excepting([over("s"), received(&[1, 3])].concat()), []);
    assert_eq!(excepting([over("t"), received(&[1, 2, 3])].concat()), []);
    let lost = Fault::Lost { client: client(), id: id(2) };
    assert_eq!(excepting([over("t"), received(&[1, 3])].concat()), [lost]);
    let shown = Fault::Shown { client: client(), id: id(2) };
    assert_eq!(excepting([over("s"), received(&[1, 2, 3])].concat()), [shown]);

    // What passes comes at most once over one connection, and in its order.
    let passing = |numbers: &[usize]| {
        let events = numbers.iter().map(|n| Received::Passing { event: event(*n) });
        [received(&[1, 2, 3]), events.collect()].concat()
    };
    let fault = |n: usize| [Fault::Passing { client: client(), data: json!([0, n]).to_string() }];
    assert!(event(19).carried.passes && event(32).carried.passes);
    assert_eq!(check(passing(&[19, 32])), []);
    assert_eq!(check([passing(&[19]), over("s"), vec![passing(&[19]).remove(3)]].concat()), []);
    assert_eq!(check(passing(&[19, 19])), fault(19));
    assert_eq!(check(passing(&[32, 19])), fault(19));
    assert_eq!(check(passing(&[20])), fault(20));

    let mut history = History::default();
    history.acknowledged(id(1), event(1));
    history.acknowledged(id(1), event(2));
    assert_eq!(history.check(&[]), [Fault::SameNumber { id: id(1) }]);
}
