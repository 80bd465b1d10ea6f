//! A panic ends one connection or, in order, the process: never half a broker.

mod support;

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare::broker::Router;
use fanfare::clock::Clock;
use fanfare::config::Config;
use fanfare::history::memory::MemoryHistory;
use fanfare::history::{
    Append, AppendError, BackPage, History, ListTopics, Moment, Newest, NewestPage, Page,
    Read as ReadEvents, ReadBack, Receipt, Since, Stock, TopicSummary,
};
use fanfare::model::{Cursor, Problem, Topic};
use fanfare::protocol::PROTOCOLS;
use fanfare::server::Local;
use fanfare::session::SharedTcp;
use fanfare::{cli, panics};
use futures_util::future::BoxFuture;
use serde_json::json;
use support::process::{Process, without_settings};
use support::ws::WsClient;
use tokio::net::TcpListener;

/// A log in memory that panics where it is asked about this topic.
struct Frail(MemoryHistory);

const BAD: &str = "bad";

fn bite(topic: &str) {
    assert_ne!(topic, BAD, "a part of a test");
}

impl History for Frail {
    fn depart(&self, _: Vec<fanfare::history::Departure>) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn due(&self, _: usize) -> BoxFuture<'_, Result<Vec<fanfare::history::Ending>, Problem>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Receipt, AppendError>> {
        append.events.iter().for_each(|event| bite(event.topic.as_str()));
        self.0.append(append)
    }

    fn read(&self, read: ReadEvents) -> BoxFuture<'_, Result<Page, Problem>> {
        read.patterns.iter().for_each(|pattern| bite(pattern.as_str()));
        self.0.read(read)
    }

    fn read_back(&self, read: ReadBack) -> BoxFuture<'_, Result<BackPage, Problem>> {
        read.patterns.iter().for_each(|pattern| bite(pattern.as_str()));
        self.0.read_back(read)
    }

    fn position_before(&self, since: Since) -> BoxFuture<'_, Result<Moment, Problem>> {
        self.0.position_before(since)
    }

    fn newest(&self, newest: Newest) -> BoxFuture<'_, Result<NewestPage, Problem>> {
        self.0.newest(newest)
    }

    fn topics(&self, list: ListTopics) -> BoxFuture<'_, Result<Vec<TopicSummary>, Problem>> {
        self.0.topics(list)
    }

    fn topic(&self, topic: Topic) -> BoxFuture<'_, Result<TopicSummary, Problem>> {
        bite(topic.as_str());
        self.0.topic(topic)
    }

    fn forget(&self, topic: Topic) -> BoxFuture<'_, Result<usize, Problem>> {
        self.0.forget(topic)
    }

    fn head(&self) -> Cursor {
        self.0.head()
    }

    fn trouble(&self) -> Option<String> {
        self.0.trouble()
    }

    fn stock(&self) -> Stock {
        Stock::default()
    }

    fn sweep(&self) {
        self.0.sweep();
    }

    fn stop(&self) {
        self.0.stop();
    }
}

/// Serves on this thread, with a log that panics.
async fn serve() -> SocketAddr {
    let (config, start) = (Config::default(), MemoryHistory::new_start());
    let router = Arc::new(Router::new(start, config.limits.inbox_events));
    let mut rules = config.rules.clone();
    rules.default.storage = fanfare::config::Storage::Memory;
    let history =
        Frail(MemoryHistory::new(start, &config.history, rules, Clock::default(), router.clone()));
    let local = Local::build(PROTOCOLS, config, Arc::new(history), router, Clock::default()).await;
    let local = Rc::new(local);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    actix_rt::spawn({
        let local = local.clone();
        async move { local.run().await }
    });
    actix_rt::spawn(async move {
        while let Ok((io, peer)) = listener.accept().await {
            let local = local.clone();
            actix_rt::spawn(async move {
                local.serve(Box::new(SharedTcp::new(io)), Some(peer)).await;
            });
        }
    });
    address
}

#[actix_web::test]
async fn a_panic_for_one_client_ends_its_connection_and_nothing_else() {
    // What panics in this process, this test too, is said by the log from here on.
    tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).init();
    panics::watch(Duration::from_secs(3_600));
    let address = serve().await.to_string();
    let mut other = WsClient::live_at(&address, "?topic=good").await;
    let http = reqwest::Client::new();
    let url = |path: &str| format!("http://{address}/v1/{path}");

    // In a handler.
    assert!(http.get(url("topics/bad")).send().await.is_err(), "there is no answer");
    let publish = http.post(url("topics/bad/events")).json(&json!(1));
    assert!(publish.send().await.is_err(), "there is no answer");
    // In what a WebSocket client asks for.
    let mut client = WsClient::at(&address, "").await;
    client.send(json!({ "op": "publish", "ref": 1, "topic": BAD, "data": 1 })).await;
    let (bye, code) = client.closed().await;
    assert_eq!((&bye.expect("a bye")["code"], code), (&json!("internal"), Some(1011)));
    // In what reads a history for it.
    let published = http.post(url("topics/good/events")).json(&json!(1)).send().await;
    let receipt: serde_json::Value = published.expect("an answer").json().await.expect("JSON");
    let query = format!("?topic=bad&since={}", receipt["id"].as_str().expect("an id"));
    let (bye, code) = WsClient::at(&address, &query).await.closed().await;
    assert_eq!((&bye.expect("a bye")["code"], code), (&json!("internal"), Some(1011)));
    let stream = http.get(url(&format!("sse{query}"))).send().await.expect("an answer");
    let text = stream.text().await.expect("it ends");
    assert!(text.contains("event: fanfare.bye") && text.contains("internal"), "{text}");

    // Nobody else noticed, and nothing is left of those clients.
    assert_eq!(other.until("event").await["data"], 1);
    support::eventually("one session is left", async || {
        let list = http.get(url("sessions")).send().await.expect("an answer");
        let list: serde_json::Value = list.json().await.expect("JSON");
        list["sessions"].as_array().is_some_and(|sessions| sessions.len() == 1)
    })
    .await;
    assert!(!panics::is_broken());
}

/// Runs a test of this file that is none by itself, in a process of its own.
fn child(test: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--ignored", "--nocapture"]).current_dir(directory);
    without_settings(&mut command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Has a thread of this name panic as soon as somebody writes to this process, or no longer can.
fn panic_when_told() {
    let part = std::thread::Builder::new().name("some-part".to_owned());
    let panicking = part.spawn(|| {
        _ = std::io::stdin().read(&mut [0]);
        panic!("a part of a test");
    });
    panicking.expect("a thread");
}

#[test]
#[ignore = "a process that another test starts"]
fn a_broker_of_which_a_part_will_panic() {
    panic_when_told();
    let arguments = ["fanfare", "serve", "--listen", "127.0.0.1:0"];
    let code = cli::run_with(arguments.map(Into::into));
    // As `main` does, but that nothing more is written to where nobody reads.
    std::process::exit(i32::from(code == ExitCode::FAILURE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_panics_ends_the_process_in_order_with_an_exit_code_that_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("broker.log");
    let mut command = child("a_broker_of_which_a_part_will_panic", directory.path());
    let child = command.stderr(fs::File::create(&log).expect("a log")).spawn().expect("it starts");
    let mut broker = Process::greeting(child);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(WsClient::live_at(&broker.address, "?topic=a").await);
    }
    let stored = reqwest::Client::new().post(broker.url("/v1/topics/a/events")).json(&json!(1));
    assert_eq!(stored.send().await.expect("an answer").status(), 201);
    let begun = Instant::now();
    drop(broker.child.stdin.take());
    for mut client in clients {
        let (bye, code) = client.closed().await;
        assert_eq!((&bye.expect("a bye")["code"], code), (&json!("restart"), Some(1012)));
    }
    let status = broker.wait();
    let log = fs::read_to_string(&log).expect("a log");
    assert_eq!(status.code(), Some(1), "{status}: {log}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    for said in [
        "panicked: a part of a test",
        "thread=\"some-part\"",
        "error: a part of the broker has panicked",
    ] {
        assert!(log.contains(said), "{said}: {log}");
    }
    // What was acknowledged is kept.
    let again = Process::durable(&directory.path().join("fanfare-data"), 0, &[]);
    let topic = reqwest::get(again.url("/v1/topics/a")).await.expect("an answer");
    let topic: serde_json::Value = topic.json().await.expect("JSON");
    assert_eq!(topic["retained"], 1, "{topic}");
}

#[test]
#[ignore = "a process that another test starts"]
fn a_process_that_does_not_end_by_itself() {
    panics::watch(Duration::from_millis(50));
    panic_when_told();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_process_that_does_not_end_in_order_after_a_panic_is_ended() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = child("a_process_that_does_not_end_by_itself", directory.path());
    let mut child = command.stderr(Stdio::null()).spawn().expect("it starts");
    drop(child.stdin.take());
    let status: ExitStatus = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(1), "{status}");
}
