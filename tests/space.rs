//! What the history takes of its disk: no more than it should, less once less is kept, and a full disk has a
//! way out.
//!
//! These tests mount file systems, so they need root; without it they say so and do nothing.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use support::process::Process;
use support::ws::WsClient;

fn run(command: &str, arguments: &[&str]) -> bool {
    let output = Command::new(command).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// A small file system in memory; unmounted when dropped.
struct Disk {
    path: PathBuf,
    directory: tempfile::TempDir,
}

impl Disk {
    /// Whoever is not root gets none.
    fn new(size: &str) -> Option<Self> {
        let output = Command::new("id").arg("-u").output().expect("id runs");
        if output.stdout.trim_ascii() != b"0" {
            eprintln!("not tried: this test needs root");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("mount");
        fs::create_dir(&path).expect("a directory");
        let options = format!("size={size}");
        let arguments = ["-t", "tmpfs", "-o", &options, "tmpfs", path.to_str().expect("UTF-8")];
        assert!(run("mount", &arguments), "mount {arguments:?}");
        Some(Self { path, directory })
    }

    /// A broker that keeps its data here, and its log elsewhere.
    fn broker(&self, arguments: &[&str]) -> Process {
        let data = format!("history.path={}", self.path.display());
        let arguments = [&["--set", &data][..], arguments].concat();
        Process::durable(self.directory.path(), 0, &arguments)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("broker.log")).expect("a log")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["--lazy", self.path.to_str().expect("UTF-8")]);
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// What the database and its log take, in bytes.
fn taken(data: &Path) -> (u64, u64) {
    (length(&data.join("history.db")), length(&data.join("history.db-wal")))
}

fn client() -> Client {
    Client::builder().timeout(Duration::from_secs(30)).build().expect("a client")
}

/// Publishes texts to a topic in one batch; its status and code.
async fn publish(http: &Client, broker: &Process, topic: &str, texts: &[&str]) -> (u16, String) {
    let events: Vec<_> = texts.iter().map(|text| json!({ "topic": topic, "data": text })).collect();
    let request = http.post(broker.url("/v1/events")).json(&json!({ "events": events }));
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let body: Value = response.json().await.expect("JSON");
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

/// Publishes until the disk is full for good, to two topics in turn.
async fn fill(http: &Client, broker: &Process, text: &str) {
    let mut refused = 0;
    for n in 0.. {
        let topic = if n % 2 == 0 { "a" } else { "b" };
        match publish(http, broker, topic, &vec![text; 200_000 / text.len()]).await {
            (201, _) => {}
            (503, code) if code == "storage_full" => {
                refused += 1;
                // There may be space in a moment.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => panic!("{other:?}"),
        }
        assert!(n < 20_000, "it was never full");
        if refused == 40 {
            return;
        }
    }
}

async fn retained(http: &Client, broker: &Process, topic: &str) -> u64 {
    let url = broker.url(&format!("/v1/topics/{topic}"));
    let answer: Value = http.get(url).send().await.expect("an answer").json().await.expect("JSON");
    answer["retained"].as_u64().expect("a number")
}

/// Whether publishing works by itself, within a minute.
async fn serves_again(http: &Client, broker: &Process) {
    let begun = Instant::now();
    loop {
        match publish(http, broker, "c", &["again"]).await {
            (201, _) => return,
            (503, code) if code == "storage_full" || code == "unavailable" => {}
            other => panic!("{other:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it is full for ever");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_the_history_filled_is_freed_by_forgetting_a_topic() {
    let Some(disk) = Disk::new("48m") else { return };
    let http = client();
    for text in ["x".repeat(20_000), "y".repeat(200)] {
        let broker = disk.broker(&[]);
        fill(&http, &broker, &text).await;
        let forgotten =
            http.delete(broker.url("/v1/topics/a/events")).send().await.expect("an answer");
        assert_eq!(forgotten.status(), 200, "{}", disk.log());
        assert_eq!(retained(&http, &broker, "a").await, 0);
        serves_again(&http, &broker).await;
        let left = retained(&http, &broker, "b").await;
        assert!(left > 100, "{left} of the other topic are left");
        // All that was freed can be used, and it can be filled and freed again.
        fill(&http, &broker, &text).await;
        assert!(retained(&http, &broker, "a").await > 100);
        for topic in ["a", "b", "c"] {
            let url = broker.url(&format!("/v1/topics/{topic}/events"));
            assert_eq!(http.delete(url).send().await.expect("an answer").status(), 200);
        }
        serves_again(&http, &broker).await;
    }
    assert!(disk.log().contains("there is no space left"), "{}", disk.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_the_history_filled_is_freed_by_a_smaller_bound_or_age() {
    let http = client();
    for smaller in ["history.disk_bytes=16MiB", "history.max_age=1s"] {
        let Some(disk) = Disk::new("48m") else { return };
        let mut broker = disk.broker(&[]);
        fill(&http, &broker, &"x".repeat(20_000)).await;
        // As the operator would, or as a supervisor does.
        broker.signal(if smaller.contains("age") { "-KILL" } else { "-TERM" });
        broker.wait();
        let broker = disk.broker(&["--set", smaller]);
        serves_again(&http, &broker).await;
        support::eventually("the files have shrunk", async || {
            let (database, log) = taken(&disk.path);
            database + log < 17 << 20
        })
        .await;
        if smaller.contains("bytes") {
            assert!(retained(&http, &broker, "a").await > 100);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_taken_of_a_disk_than_disk_bytes_whatever_is_published() {
    let Some(disk) = Disk::new("48m") else { return };
    let broker = disk.broker(&["--set", "history.disk_bytes=30MiB"]);
    let http = client();
    // Many small ones, sizes that fill half a page, and large ones: each has its own overhead.
    for (length, batch, rounds) in
        [(10, 1_000, 60), (2_100, 400, 60), (50_000, 16, 60), (10, 1_000, 20)]
    {
        let text = "x".repeat(length);
        let texts = vec![text.as_str(); batch];
        for round in 0..rounds {
            let topic = format!("t.{}", round % 7);
            let (status, code) = publish(&http, &broker, &topic, &texts).await;
            assert_eq!(status, 201, "{code} at {length} bytes, round {round}: {}", disk.log());
            let (database, log) = taken(&disk.path);
            assert!(database + log < 34 << 20, "{database} and {log} bytes are taken");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_is_given_back_to_the_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut broker = Process::durable(directory.path(), 0, &[]);
    let http = client();
    let text = "x".repeat(10_000);
    for _ in 0..70 {
        assert_eq!(publish(&http, &broker, "much", &[text.as_str(); 80]).await.0, 201);
        assert_eq!(publish(&http, &broker, "little", &["x"]).await.0, 201);
    }
    let url = broker.url("/v1/topics/much/events");
    assert_eq!(http.delete(url).send().await.expect("an answer").status(), 200);
    // Somebody publishes all the time.
    support::eventually("the files are as small as what is kept", async || {
        assert_eq!(publish(&http, &broker, "little", &["x"]).await.0, 201);
        let (database, log) = taken(directory.path());
        database < 4 << 20 && log <= 64 << 20
    })
    .await;
    support::eventually("the log is short once nobody publishes", async || {
        taken(directory.path()).1 <= 4 << 20
    })
    .await;
    broker.signal("-TERM");
    assert!(broker.wait().success());
    assert_eq!(taken(directory.path()).1, 0, "the log is empty after a clean stop");
}

/// Another process that has the database open, as a shell of SQLite has it; gone when dropped.
struct Stranger(std::process::Child);

impl Stranger {
    /// Runs statements, and stays in what they began.
    fn new(data: &Path, statements: &str) -> Self {
        let script = format!(
            "import sqlite3, sys\n\
             db = sqlite3.connect({:?}, isolation_level=None)\n\
             for statement in {statements:?}.split(';'): db.execute(statement).fetchall()\n\
             print('there', flush=True)\n\
             sys.stdin.read()\n",
            data.join("history.db")
        );
        let mut command = Command::new("python3");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 runs");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        assert_eq!(line, "there\n");
        Self(child)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Reads a topic's newest events, and says how long that took.
async fn read(http: &Client, broker: &Process, topic: &str) -> Duration {
    let begun = Instant::now();
    let url = broker.url(&format!("/v1/topics/{topic}/events?limit=10"));
    assert_eq!(http.get(url).send().await.expect("an answer").status(), 200);
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_another_process_that_reads_the_database() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Process::durable(
        directory.path(),
        0,
        &["--set", "history.wal_bytes=80MiB", "--set", "history.max_bytes=1GiB"],
    );
    let http = client();
    assert_eq!(publish(&http, &broker, "a", &["first"]).await.0, 201);
    let stranger = Stranger::new(directory.path(), "BEGIN;SELECT * FROM events");
    let log = || fs::read_to_string(directory.path().join("broker.log")).expect("a log");
    let text = "x".repeat(10_000);
    let (mut acknowledged, mut refused) = (1, 0);
    let mut slowest = Duration::ZERO;
    while refused < 20 || !log().contains("has kept its log from being emptied") {
        let begun = Instant::now();
        match publish(&http, &broker, "a", &[text.as_str(); 40]).await {
            (201, _) => acknowledged += 40,
            (503, code) => {
                assert_eq!(code, "unavailable");
                refused += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => panic!("{other:?}"),
        }
        slowest = slowest.max(begun.elapsed()).max(read(&http, &broker, "a").await);
    }
    // A machine that is busy takes its time; 10 s is what a wait for a lock took.
    assert!(slowest < Duration::from_secs(5), "somebody waited for {slowest:?}");
    let (_, log_length) = taken(directory.path());
    assert!(log_length > 64 << 20, "it went on for as long as it may");
    assert!(log_length < 96 << 20, "the log has grown to {log_length} bytes");
    let named = format!("process {} (python3)", stranger.0.id());
    assert!(log().contains(&named), "{named} is not named: {}", log());
    drop(stranger);
    serves_again(&http, &broker).await;
    support::eventually("the log is short again", async || taken(directory.path()).1 <= 64 << 20)
        .await;
    assert_eq!(retained(&http, &broker, "a").await, acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_that_writes_to_the_database_refuses_publishes_and_leaves_none_unknown() {
    let directory = tempfile::tempdir().expect("a directory");
    // Were anyone to wait for the other process, the outcome would soon be unknown.
    let broker = Process::durable(directory.path(), 0, &["--set", "history.commit_timeout=2s"]);
    let broker = Arc::new(broker);
    let http = client();
    assert_eq!(publish(&http, &broker, "a", &["first"]).await.0, 201);
    let mut client = WsClient::live_at(&broker.address, "?topic=b").await;
    for statement in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let stranger = Stranger::new(directory.path(), statement);
        // Many at once, each with a key of its own, so that they don't share one wait.
        let publishes = (0..24).map(|n| {
            let (http, broker) = (http.clone(), broker.clone());
            tokio::spawn(async move { publish(&http, &broker, &format!("t.{n}"), &["x"]).await })
        });
        for publish in publishes.collect::<Vec<_>>() {
            let answer = publish.await.expect("it ran");
            assert_eq!(answer, (503, "unavailable".to_owned()));
        }
        assert!(read(&http, &broker, "a").await < Duration::from_secs(2));
        let log = fs::read_to_string(directory.path().join("broker.log")).expect("a log");
        let named = format!("process {} (python3) is in the way", stranger.0.id());
        assert!(log.contains(&named), "{named} is not named: {log}");
        assert_eq!(client.until("trouble").await["code"], "unavailable");
        drop(stranger);
        serves_again(&http, &broker).await;
        assert_eq!(client.until("trouble").await["code"], "over");
    }
    assert_eq!(retained(&http, &broker, "t.0").await, 0, "what was refused was not stored");
}

#[tokio::test]
async fn a_start_beside_a_process_that_has_locked_the_database_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut broker = Process::durable(directory.path(), 0, &[]);
    broker.signal("-TERM");
    assert!(broker.wait().success());
    let _stranger =
        Stranger::new(directory.path(), "PRAGMA locking_mode = EXCLUSIVE;BEGIN IMMEDIATE");
    let mut config = fanfare::config::Config::default();
    config.history.path = directory.path().to_owned();
    let opened = fanfare::history::sqlite::Opened::open(
        &config.history,
        config.rules,
        fanfare::clock::Clock::default(),
    );
    let refused = opened.err().expect("refused").to_string();
    assert!(refused.contains("is locked by another process"), "{refused}");
}
