//! A rolling restart: nodes are replaced one after the other, and clients that honour `goaway` never notice.
//!
//! FANFARE_ROLLING_CLIENTS and FANFARE_ROLLING_DELAY (in seconds) make it as large as one likes.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use support::fleet::node;
use support::process::Process;
use support::redis::Redis;
use support::ws::WsClient;
use tokio::time::{sleep, timeout};

const NODES: usize = 3;

/// How often an event is published.
const PAUSE: Duration = Duration::from_millis(200);

fn parameter(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What a balancer knows: which nodes take clients, and how many each has.
struct Balancer {
    addresses: Vec<String>,
    in_service: [AtomicBool; NODES],
    clients: [AtomicUsize; NODES],
    /// When clients moved to another node.
    moves: Mutex<Vec<Instant>>,
    /// The number of the last event, once it was published.
    last: Mutex<Option<u64>>,
}

impl Balancer {
    /// The node that has the fewest clients, with one more.
    fn choose(&self) -> usize {
        let in_service = |node: &usize| self.in_service[*node].load(Ordering::Acquire);
        let count = |node: &usize| self.clients[*node].load(Ordering::Acquire);
        let node = (0..NODES).filter(in_service).min_by_key(count).expect("a node in service");
        self.clients[node].fetch_add(1, Ordering::AcqRel);
        node
    }

    fn leave(&self, node: usize) {
        self.clients[node].fetch_sub(1, Ordering::AcqRel);
    }
}

/// The number of an event.
fn number(frame: &Value) -> u64 {
    frame["data"].as_u64().expect("a number")
}

/// Follows until the last event. Where it is told to go away it opens a new connection, has all on it that came since, and closes
/// the old one then; that must still have been there.
async fn follow(balancer: Arc<Balancer>) -> Result<(), String> {
    let mut at = balancer.choose();
    let mut client = WsClient::at(&balancer.addresses[at], "?topic=rolling").await;
    // Who is told to go before the first event came goes on from there.
    let mut cursor = client.until("live").await["cursor"].as_str().map(str::to_owned);
    let mut next = 0;
    loop {
        let frame = timeout(Duration::from_secs(60), client.next()).await;
        let frame = frame.map_err(|_| format!("nothing came at node {at} behind {next}"))?;
        match frame["op"].as_str() {
            Some("event") => {
                // What came over the old connection comes no more; what lies between is not missing.
                if number(&frame) != next {
                    return Err(format!("{frame} in the place of {next}"));
                }
                next += 1;
                cursor = frame["id"].as_str().map(str::to_owned);
            }
            Some("goaway") => {
                let to = balancer.choose();
                balancer.moves.lock().expect("the moves").push(Instant::now());
                let since = cursor.iter().map(|cursor| format!("&since={cursor}"));
                let query = format!("?topic=rolling{}", since.collect::<String>());
                let mut other = WsClient::at(&balancer.addresses[to], &query).await;
                loop {
                    let frame = other.next().await;
                    match frame["op"].as_str() {
                        Some("event") if number(&frame) == next => {
                            next += 1;
                            cursor = frame["id"].as_str().map(str::to_owned);
                        }
                        Some("event" | "gap" | "bye") => return Err(format!("{frame}: {next}")),
                        Some("live") => break,
                        _ => {}
                    }
                }
                // A node that says good-bye before its clients have gone was too early.
                while let Ok(frame) = timeout(Duration::ZERO, client.next()).await {
                    if frame["op"] == "bye" {
                        return Err(format!("{frame} before there was another connection"));
                    }
                }
                balancer.leave(at);
                (client, at) = (other, to);
            }
            Some("gap" | "bye" | "error") => return Err(frame.to_string()),
            _ => {}
        }
        if *balancer.last.lock().expect("the last") == Some(next) {
            return Ok(());
        }
    }
}

/// Publishes one number after the other at a node in service, each until it is acknowledged; the last one once it `is_over`.
async fn publish(balancer: Arc<Balancer>, is_over: Arc<AtomicBool>) {
    let http = reqwest::Client::new();
    for next in 0_u64.. {
        let is_last = is_over.load(Ordering::Acquire);
        if is_last {
            *balancer.last.lock().expect("the last") = Some(next + 1);
        }
        loop {
            let node = balancer.choose();
            balancer.leave(node);
            let url = format!("http://{}/v1/topics/rolling/events", balancer.addresses[node]);
            let key = format!("rolling-{next}");
            let post = http.post(url).header("idempotency-key", key).json(&next);
            if post.send().await.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
        }
        if is_last {
            return;
        }
        sleep(PAUSE).await;
    }
}

/// The most moves within a second.
fn most_in_a_second(moves: &[Instant]) -> usize {
    let within = |first: &Instant| {
        moves
            .iter()
            .filter(|other| (*first..*first + Duration::from_secs(1)).contains(*other))
            .count()
    };
    moves.iter().map(within).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_moves_clients_evenly_and_leaves_none_without_a_connection() {
    let clients = parameter("FANFARE_ROLLING_CLIENTS", 150);
    let delay = parameter("FANFARE_ROLLING_DELAY", 4);
    let redis = Redis::start();
    let own =
        [format!("server.shutdown_delay={delay}s"), "limits.connections_per_address=0".into()];
    let settings = [&redis.settings()[..], &own].concat();
    let mut nodes: Vec<Process> = (0..NODES).map(|_| node(&settings, 0)).collect();
    let balancer = Arc::new(Balancer {
        addresses: nodes.iter().map(|node| node.address.clone()).collect(),
        in_service: [true; NODES].map(AtomicBool::new),
        clients: Default::default(),
        moves: Mutex::default(),
        last: Mutex::default(),
    });
    let following: Vec<_> = (0..clients).map(|_| tokio::spawn(follow(balancer.clone()))).collect();
    // Nobody may miss the first event.
    let topic = format!("http://{}/v1/topics/rolling", balancer.addresses[0]);
    support::eventually("all are live", async || {
        let topic = reqwest::get(&topic).await.expect("an answer");
        topic.json::<Value>().await.expect("JSON")["subscribers"] == clients
    })
    .await;
    let is_over = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn(publish(balancer.clone(), is_over.clone()));
    for (number, node_of) in nodes.iter_mut().enumerate() {
        // A balancer is told, or sees that the node is not ready, before clients come to it.
        balancer.in_service[number].store(false, Ordering::Release);
        node_of.signal("-TERM");
        support::eventually("all have gone elsewhere", async || {
            balancer.clients[number].load(Ordering::Acquire) == 0
        })
        .await;
        assert!(node_of.wait().success(), "node {number} stops");
        let (_, port) = node_of.address.rsplit_once(':').expect("a port");
        *node_of = node(&settings, port.parse().expect("a number"));
        balancer.in_service[number].store(true, Ordering::Release);
    }
    is_over.store(true, Ordering::Release);
    publishing.await.expect("it publishes to the end");
    for followed in join_all(following).await {
        followed.expect("a client ends").expect("it has seen all, once and in order");
    }
    let moves = balancer.moves.lock().expect("the moves");
    let most = most_in_a_second(&moves);
    println!("{} moves of {clients} clients, at most {most} in a second", moves.len());
    // The node that stops last has half of the clients, who go one behind the other.
    let share = clients / 2 / delay;
    assert!(
        moves.len() >= clients && most <= 2 * share + 5,
        "{most} in a second, a share is {share}"
    );
}
