//! What several nodes behind one Redis cost: a delivery, an event that nobody wants, a publish.
//!
//! Real processes and a real Redis; what a process used comes from the system, what Redis did from Redis.
//! `docs/cluster.md` keeps the results. Run: `cargo bench --bench cluster`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};
use support::cgroup::Cgroup;
use support::fleet::node;
use support::process::Process;
use support::redis::Redis;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::connect_async;

/// Subscribers of the topic whose deliveries are counted.
const SUBSCRIBERS: usize = 200;

/// Events of one request.
const BATCH: usize = 20;

/// The time that a process has used.
fn used(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<_> = text.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

fn micros(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

/// Subscribes so many clients, each of which counts events until so many have come.
async fn subscribers(url: &str, clients: usize, events: usize) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let (mut socket, _) = connect_async(url).await.expect("a connection");
        tasks.push(tokio::spawn(async move {
            let mut seen = 0;
            while seen < events {
                let frame = timeout(Duration::from_secs(120), socket.next()).await;
                let frame = frame.expect("in time").expect("a frame").expect("a frame");
                seen +=
                    usize::from(frame.to_text().is_ok_and(|text| text.contains(r#""op":"event""#)));
            }
        }));
    }
    tasks
}

/// Publishes events in batches, `at_once` requests at a time; each to the topic of its number.
async fn publish(node: &Process, events: usize, batch: usize, at_once: usize, topics: usize) {
    let http = reqwest::Client::new();
    let url = node.url("/v1/events");
    let requests = futures_util::stream::iter(0..events / batch).map(|request| {
        let of =
            |n: usize| json!({"topic": format!("cost.{}", n % topics), "data": "x".repeat(128)});
        let body: Vec<_> = (request * batch..(request + 1) * batch).map(of).collect();
        let request = http.post(&url).json(&json!({ "events": body }));
        async move { assert_eq!(request.send().await.expect("an answer").status(), 201) }
    });
    requests.buffer_unordered(at_once).collect::<Vec<_>>().await;
}

/// Publishes and delivers; what `measured` used a delivery.
async fn deliver(publisher: &Process, measured: &Process, events: usize) -> f64 {
    let url = format!("ws://{}/v1/ws?topic=cost.*", measured.address);
    let subscribers = subscribers(&url, SUBSCRIBERS, events).await;
    sleep(Duration::from_millis(500)).await;
    let before = used(measured.child.id());
    publish(publisher, events, BATCH, 1, 1).await;
    for subscriber in subscribers {
        subscriber.await.expect("all have come");
    }
    micros(used(measured.child.id()) - before, events * SUBSCRIBERS)
}

/// A delivery by the node that took the event, and by another one.
async fn deliveries(events: usize) {
    let memory = node(&["history.storage=memory".to_owned()], 0);
    let local = deliver(&memory, &memory, events).await;
    let before = used(memory.child.id());
    publish(&memory, events, BATCH, 1, 1).await;
    let publishing = micros(used(memory.child.id()) - before, events * SUBSCRIBERS);
    let redis = Redis::start();
    let (publisher, other) = (node(&redis.settings(), 0), node(&redis.settings(), 0));
    let remote = deliver(&publisher, &other, events).await;
    let local = local - publishing;
    println!("a delivery by the node itself, in memory:  {local:.2} µs");
    println!(
        "a delivery by another node, over Redis:    {remote:.2} µs ({:.2} times)",
        remote / local
    );
}

/// Events that a node hears and nobody there wants.
async fn unwanted(events: usize) {
    let redis = Redis::start();
    let (publisher, other) = (node(&redis.settings(), 0), node(&redis.settings(), 0));
    let (before, begin) = (used(other.child.id()), Instant::now());
    publish(&publisher, events, 100, 8, 1_000).await;
    let (cpu, took) = (used(other.child.id()) - before, begin.elapsed());
    let cost = micros(cpu, events);
    let share = |rate: f64| cost * rate / 1e4;
    println!(
        "an event that nobody of a node wants:      {cost:.2} µs, at {:.0} events/s",
        events as f64 / took.as_secs_f64()
    );
    println!("  20,000 events/s:                         {:.1} % of a processor", share(20_000.0));
    println!("  10 nodes with 20,000 events/s each:      {:.1} % of a processor", share(200_000.0));
}

fn stat(redis: &Redis, section: &str, field: &str) -> u64 {
    let info: String = redis.run(&["INFO", section]);
    let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let text: String = line.unwrap_or("0").chars().skip_while(|c| !c.is_ascii_digit()).collect();
    text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

/// What Redis does for publishes of one event each.
async fn commands(events: usize, topics: usize) {
    let redis = Redis::start();
    let nodes =
        [node(&redis.settings(), 0), node(&redis.settings(), 0), node(&redis.settings(), 0)];
    let counted = || {
        let calls = |name: &str| stat(&redis, "commandstats", &format!("cmdstat_{name}"));
        let bytes = |name: &str| stat(&redis, "stats", name);
        [
            calls("evalsha"),
            calls("spublish"),
            calls("xadd"),
            bytes("total_net_input_bytes"),
            bytes("total_net_output_bytes"),
        ]
    };
    let (before, begin) = (counted(), Instant::now());
    publish(&nodes[0], events, 1, 32, topics).await;
    let (after, took) = (counted(), begin.elapsed());
    let of: Vec<_> =
        before.iter().zip(after).map(|(a, b)| (b - a) as f64 / events as f64).collect();
    let connections = stat(&redis, "clients", "connected_clients") - 1;
    println!(
        "{topics:>6} topics: {:.2} script calls, {:.2} messages, {:.2} appends, {:.0} bytes in and {:.0} out a \
         publish; {connections} connections of 3 nodes; {:.0} publishes/s",
        of[0],
        of[1],
        of[2],
        of[3],
        of[4],
        events as f64 / took.as_secs_f64()
    );
}

/// What is given to Redis in a run.
struct Given {
    nodes: usize,
    /// Events of one request.
    batch: usize,
    /// Requests at a time of each node.
    at_once: usize,
    /// How much of a processor Redis may use.
    share: f64,
}

/// How much one Redis takes, and who is busy then.
async fn rate(events: usize, Given { nodes, batch, at_once, share }: Given) {
    let redis = Redis::start();
    let pid = stat(&redis, "server", "process_id") as u32;
    let group = (share < 1.0).then(|| Cgroup::of_processor(share));
    match &group {
        Some(Some(group)) => group.add(pid),
        Some(None) => return println!("Redis could not be held to {share} of a processor"),
        None => {}
    }
    let nodes: Vec<_> = (0..nodes).map(|_| node(&redis.settings(), 0)).collect();
    let all_used = || nodes.iter().map(|node| used(node.child.id())).sum::<Duration>();
    let (before, nodes_before, begin) = (used(pid), all_used(), Instant::now());
    let each = events / nodes.len();
    let publishing = nodes.iter().map(|node| publish(node, each, batch, at_once, 100));
    futures_util::future::join_all(publishing).await;
    let (cpu, took) = (used(pid) - before, begin.elapsed());
    let percent = |used: Duration| 100.0 * used.as_secs_f64() / took.as_secs_f64();
    println!(
        "{} nodes, {batch:>3} events a request, Redis held to {:.0} % of a processor: {:.0} events/s; Redis used \
         {:.0} %, {:.1} µs an event; the nodes {:.0} %",
        nodes.len(),
        100.0 * share,
        events as f64 / took.as_secs_f64(),
        percent(cpu),
        micros(cpu, events),
        percent(all_used() - nodes_before),
    );
    drop(redis);
}

/// What it takes that many clients come back at once, each so many events behind.
async fn resumes(clients: usize, events: usize, recent: &str) {
    let redis = Redis::start();
    let settings = [redis.settings(), vec![format!("redis.recent_bytes={recent}")]].concat();
    let node = node(&settings, 0);
    let first = reqwest::Client::new().post(node.url("/v1/topics/cost.0/events")).body("0").send();
    let receipt: Value = first.await.expect("an answer").json().await.expect("JSON");
    let since = receipt["id"].as_str().expect("an id");
    let url = format!("ws://{}/v1/ws?topic=cost.*&since={since}", node.address);
    // Somebody who was there all the time.
    let stayed = subscribers(&url, 1, events).await;
    publish(&node, events, 100, 4, 100).await;
    futures_util::future::join_all(stayed).await;
    let pids = [stat(&redis, "server", "process_id") as u32, node.child.id()];
    let reads = || stat(&redis, "commandstats", "cmdstat_xrange");
    let (before, reads_before, begin) = (pids.map(used), reads(), Instant::now());
    futures_util::future::join_all(subscribers(&url, clients, events).await).await;
    let took = begin.elapsed();
    let [of_redis, of_node] = [0, 1].map(|at| micros(used(pids[at]) - before[at], clients));
    println!(
        "{clients} clients come back {events} events behind, {recent} of recent events: {took:.1?}; a client: {:.1} \
         reads of streams, {of_redis:.0} µs of Redis, {of_node:.0} µs of the node",
        (reads() - reads_before) as f64 / clients as f64,
    );
}

#[tokio::main]
async fn main() {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine: {}", text.trim());
    deliveries(1_000).await;
    unwanted(100_000).await;
    commands(10_000, 1).await;
    commands(10_000, 10_000).await;
    rate(20_000, Given { nodes: 1, batch: 1, at_once: 64, share: 1.0 }).await;
    rate(20_000, Given { nodes: 2, batch: 1, at_once: 64, share: 1.0 }).await;
    // Few processors are enough to find the limit of a Redis that has little of one.
    for share in [0.1, 0.2] {
        rate(20_000, Given { nodes: 2, batch: 1, at_once: 64, share }).await;
        rate(100_000, Given { nodes: 2, batch: 100, at_once: 4, share }).await;
    }
    for recent in ["16MiB", "0B"] {
        resumes(500, 2_000, recent).await;
    }
    rate(400_000, Given { nodes: 2, batch: 100, at_once: 4, share: 1.0 }).await;
}
