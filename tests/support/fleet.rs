//! Several nodes behind one Redis, with publishers and clients that use any of them.
//!
//! Clients drop and resume on random nodes and note everything they receive; publishers repeat what was
//! not acknowledged under the same key, on another node, keep some of it from one session or another, and one of them has
//! its topic forgotten and its value removed now and then. What they saw is for the checker.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fanfare::model::{Cursor, Topic};
use futures_util::StreamExt;
use rand::RngExt;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::checker::{Client, Fault, Frame, History, Published, Received};
use super::process::Process;

/// Events of one publish.
const BATCH: usize = 5;

/// How many batches are published between two times that the topic of publisher 0 is forgotten.
const FORGETS: usize = 8;

/// The topic of events that everybody gets.
const MARK: &str = "fleet.mark";

/// A node that listens on the port it had before, or on a free one.
pub fn node(settings: &[String], port: u16) -> Process {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings.iter().flat_map(|setting| ["--set", setting.as_str()]);
    let arguments: Vec<_> = ["--set", "server.workers=1"].into_iter().chain(settings).collect();
    Process::durable(directory.path(), port, &arguments)
}

fn topic(number: usize) -> Topic {
    Topic::parse(&format!("fleet.{}.{number}", number % 4)).expect("a topic")
}

/// Whether a publisher's `n`th event is kept from a session.
fn is_kept_from_one(n: usize) -> bool {
    n % 17 == 9
}

fn cursor(id: &Value) -> Cursor {
    Cursor::parse(id.as_str().expect("an id")).expect("a cursor")
}

/// What all parts of a run share.
pub struct Fleet {
    pub addresses: Vec<String>,
    history: Mutex<History>,
    publishing: AtomicBool,
    ending: AtomicBool,
    clients: Mutex<Vec<JoinHandle<Client>>>,
    publishers: Mutex<Vec<JoinHandle<()>>>,
    /// How far each client has come.
    cursors: Vec<Mutex<Option<Cursor>>>,
    /// The session of each client, while it has one.
    sessions: Vec<Mutex<Option<String>>>,
    connections: AtomicUsize,
    gaps: AtomicUsize,
    /// How long the slowest refused or failed publish took.
    slowest_refusal: Mutex<Duration>,
}

/// How long each client stays on one connection, in events.
pub struct Load {
    pub publishers: usize,
    pub clients: usize,
    /// Events a second, all publishers together.
    pub rate: usize,
    pub stay: Range<usize>,
}

impl Fleet {
    /// Starts publishers and clients on these nodes.
    pub async fn start(addresses: Vec<String>, load: &Load) -> Arc<Self> {
        let fleet = Arc::new(Self {
            addresses,
            history: Mutex::default(),
            publishing: AtomicBool::new(true),
            ending: AtomicBool::new(false),
            clients: Mutex::default(),
            publishers: Mutex::default(),
            cursors: (0..load.clients).map(|_| Mutex::default()).collect(),
            sessions: (0..load.clients).map(|_| Mutex::default()).collect(),
            connections: AtomicUsize::new(0),
            gaps: AtomicUsize::new(0),
            slowest_refusal: Mutex::default(),
        });
        let since = fleet.mark().await;
        let pause = Duration::from_secs_f64((load.publishers * BATCH) as f64 / load.rate as f64);
        let publishers = (0..load.publishers)
            .map(|number| tokio::spawn(fleet.clone().publish(number, pause)))
            .collect();
        *fleet.publishers.lock().expect("publishers") = publishers;
        let clients = (0..load.clients).map(|number| {
            let mut patterns = match number % 3 {
                0 => [number, number + 7].map(|n| topic(n % load.publishers).into()).to_vec(),
                1 => vec![format!("fleet.{}.*", number % 4)],
                _ => vec!["fleet.>".to_owned()],
            };
            patterns.push(MARK.to_owned());
            patterns.dedup();
            let client = Client::new(number, patterns, since);
            tokio::spawn(fleet.clone().follow(number, client, load.stay.clone()))
        });
        *fleet.clients.lock().expect("clients") = clients.collect();
        fleet
    }

    fn any(&self) -> &str {
        &self.addresses[rand::random_range(0..self.addresses.len())]
    }

    /// Publishes an event that everybody gets, until a node takes it; its id.
    pub async fn mark(&self) -> Cursor {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().expect("one");
        loop {
            let url = format!("http://{}/v1/topics/{MARK}/events", self.any());
            let answer = http.post(url).body("{}").send().await;
            if let Ok(answer) = answer
                && answer.status().is_success()
                && let Ok(receipt) = answer.json::<Value>().await
            {
                return cursor(&receipt["id"]);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many gaps clients were told of.
    pub fn gaps(&self) -> usize {
        self.gaps.load(Ordering::Relaxed)
    }

    /// How long it takes until an event published now has reached every client.
    pub async fn flow(&self) -> Duration {
        let begin = Instant::now();
        let id = self.mark().await;
        let is_behind = |cursor: &&Mutex<Option<Cursor>>| *cursor.lock().expect("it") < Some(id);
        let behind = || self.cursors.iter().filter(is_behind).count();
        while behind() > 0 {
            assert!(begin.elapsed() < Duration::from_secs(120), "{} are behind {id}", behind());
            sleep(Duration::from_millis(10)).await;
        }
        begin.elapsed()
    }

    /// Lets everybody come to their end; what is wrong with what they saw. Where Redis lost events, a
    /// gap is right, and so is the loss of what it does not have, for whoever was told.
    pub async fn finish(&self, is_lossy: bool) -> Vec<Fault> {
        self.publishing.store(false, Ordering::Relaxed);
        let publishers = std::mem::take(&mut *self.publishers.lock().expect("publishers"));
        for publisher in publishers {
            publisher.await.expect("the publisher ends");
        }
        self.flow().await;
        self.ending.store(true, Ordering::Relaxed);
        let clients = std::mem::take(&mut *self.clients.lock().expect("clients"));
        let mut seen = Vec::new();
        for client in clients {
            seen.push(client.await.expect("the client ends"));
        }
        let kept = self.kept().await;
        let history = self.history.lock().expect("the history");
        let received: usize = seen.iter().map(|client| client.received.len()).sum();
        println!(
            "{} events acknowledged, {} kept; {received} received by {} clients over {} connections; \
             slowest refusal {:?}",
            history.len(),
            kept.len(),
            seen.len(),
            self.connections.load(Ordering::Relaxed),
            self.slowest_refusal.lock().expect("it"),
        );
        assert!(history.len() > 100, "only {} events", history.len());
        let is_passing = |received: &&Received| matches!(received, Received::Passing { .. });
        let passed = seen.iter().flat_map(|client| &client.received).filter(is_passing).count();
        assert!(passed > 0, "nothing came that is not kept");
        let slowest = *self.slowest_refusal.lock().expect("it");
        assert!(slowest < Duration::from_secs(2), "a publisher was refused after {slowest:?}");
        let was_told = |name: &str| {
            let client = seen.iter().find(|client| client.name == name);
            client.is_some_and(|client| {
                client.received.iter().any(|received| matches!(received, Received::Gap { .. }))
            })
        };
        let mut faults = history.check(&seen);
        faults.retain(|fault| match fault {
            Fault::Gap { .. } => !is_lossy,
            Fault::Lost { client, id } => !is_lossy || kept.contains(id) || !was_told(client),
            _ => true,
        });
        faults
    }

    /// The ids of all that is kept now.
    async fn kept(&self) -> BTreeSet<Cursor> {
        let http = reqwest::Client::new();
        let list = format!("http://{}/v1/topics?match=fleet.%3E&limit=1000", self.any());
        let topics: Value = http.get(list).send().await.expect("one").json().await.expect("JSON");
        let mut kept = BTreeSet::new();
        for topic in topics["topics"].as_array().expect("topics") {
            let topic = topic["topic"].as_str().expect("a topic");
            let mut since = String::new();
            loop {
                let path = format!("/v1/topics/{topic}/events?limit=1000{since}");
                let url = format!("http://{}{path}", self.any());
                let page: Value =
                    http.get(url).send().await.expect("a page").json().await.expect("JSON");
                let events = page["events"].as_array().expect("events");
                if events.is_empty() {
                    break;
                }
                kept.extend(events.iter().map(|event| cursor(&event["id"])));
                since = format!("&since={}", page["next"].as_str().expect("a cursor"));
            }
        }
        kept
    }

    /// Publishes batches to one topic, each until it is acknowledged.
    async fn publish(self: Arc<Self>, number: usize, pause: Duration) {
        let http =
            reqwest::Client::builder().timeout(Duration::from_secs(5)).build().expect("a client");
        let name = topic(number);
        for batch in 0.. {
            if !self.publishing.load(Ordering::Relaxed) {
                break;
            }
            let from = batch * BATCH;
            let excepted = self.some_session();
            let events = (from..from + BATCH).map(|n| {
                let mut event = Published::to_publish(number, n, &name);
                if is_kept_from_one(n) {
                    event["except"] = excepted.as_deref().into();
                }
                event
            });
            let (body, key) =
                (json!({ "events": events.collect::<Vec<_>>() }), format!("{number}-{from}"));
            let receipt = self
                .persist(|any| {
                    let url = format!("http://{any}/v1/events");
                    http.post(url).header("idempotency-key", &key).json(&body)
                })
                .await;
            self.acknowledged(&receipt, &name, number, from, excepted.as_deref());
            if number == 0 && batch % FORGETS == FORGETS - 1 {
                self.forget(&http, &name, batch).await;
            }
            sleep(pause).await;
        }
    }

    /// Has a topic forgotten, and the value that it gets afterwards removed.
    async fn forget(&self, http: &reqwest::Client, topic: &Topic, batch: usize) {
        self.history.lock().expect("the history").forgotten(topic);
        self.persist(|any| http.delete(format!("http://{any}/v1/topics/{topic}/events"))).await;
        let url = |any: &str| format!("http://{any}/v1/topics/{topic}");
        let key = format!("remove-{batch}");
        let removal =
            self.persist(|any| http.delete(url(any)).header("idempotency-key", &key)).await;
        let mut history = self.history.lock().expect("the history");
        history.acknowledged(cursor(&removal["id"]), Published::removal(topic));
    }

    /// Asks one node or another, until it is done.
    async fn persist(&self, request: impl Fn(&str) -> RequestBuilder) -> Value {
        loop {
            let begin = Instant::now();
            match request(self.any()).send().await {
                Ok(response) if response.status().is_success() => {
                    if let Ok(answer) = response.json::<Value>().await {
                        return answer;
                    }
                }
                Ok(response) => {
                    // 409 is for a key whose first publish is still under way.
                    assert!([503, 409].contains(&response.status().as_u16()), "{response:?}");
                    assert!(response.headers().contains_key("retry-after"), "{response:?}");
                    let mut slowest = self.slowest_refusal.lock().expect("it");
                    *slowest = begin.elapsed().max(*slowest);
                }
                Err(_) => {}
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The session of a client that is connected.
    fn some_session(&self) -> Option<String> {
        let at = rand::random_range(0..self.sessions.len());
        self.sessions[at].lock().expect("it").clone()
    }

    fn acknowledged(
        &self,
        receipt: &Value,
        topic: &Topic,
        number: usize,
        from: usize,
        excepted: Option<&str>,
    ) {
        let mut history = self.history.lock().expect("the history");
        for (event, n) in receipt["events"].as_array().expect("events").iter().zip(from..) {
            let published = Published::by(number, n, topic);
            if published.carried.passes {
                assert!(event["id"].is_null(), "{event}");
                continue;
            }
            let id = cursor(&event["id"]);
            history.acknowledged(id, published);
            if let Some(session) = excepted.filter(|_| is_kept_from_one(n)) {
                history.kept_from(id, session);
            }
        }
    }

    /// Follows to the end, on one connection after the other, each to any node.
    async fn follow(
        self: Arc<Self>,
        number: usize,
        mut client: Client,
        stay: Range<usize>,
    ) -> Client {
        while !self.ending.load(Ordering::Relaxed) {
            let leave_after = client.received.len() + rand::rng().random_range(stay.clone());
            let url = format!("ws://{}/v1/ws?{}", self.any(), client.query());
            let Ok(Ok((mut socket, _))) =
                timeout(Duration::from_secs(2), tokio_tungstenite::connect_async(url)).await
            else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            self.connections.fetch_add(1, Ordering::Relaxed);
            while client.received.len() < leave_after && !self.ending.load(Ordering::Relaxed) {
                match timeout(Duration::from_millis(200), socket.next()).await {
                    Ok(Some(Ok(Message::Text(text)))) => {
                        let frame = Frame::parse(&text);
                        match frame.op {
                            "welcome" => {
                                client.connected(frame.session);
                                let session = frame.session.map(str::to_owned);
                                *self.sessions[number].lock().expect("it") = session;
                            }
                            "event" => client.event(&frame),
                            "gap" => {
                                self.gaps.fetch_add(1, Ordering::Relaxed);
                                client.gap(&frame);
                            }
                            _ => client.progress(&frame),
                        }
                        *self.cursors[number].lock().expect("it") = Some(client.cursor);
                    }
                    Ok(Some(Ok(_))) | Err(_) => {}
                    Ok(Some(Err(_)) | None) => break,
                }
            }
        }
        client
    }
}
