//! All that can go wrong where nothing dies, one after the other, while events flow: a log that nobody reads, a
//! process that stands still, a stranger in the database, a full disk, a topic that is forgotten, and an end.
//!
//! Needs root, for the disk is a file system of its own. The long form, as `docs/durability.md` tells of it:
//!
//! ```text
//! FANFARE_DRILL_RATE=2000 FANFARE_DRILL_CLIENTS=100 FANFARE_DRILL_TURNS=10 \
//!     cargo test --release --test drill -- --nocapture
//! ```

mod support;

use std::fs::{self, File};
use std::io::{Write, pipe};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rusqlite::Connection;
use serde_json::Value;
use support::fleet::{Fleet, Load};
use support::process::{Process, free_port};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

fn parameter(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A disk of its own, so that it can be filled; unmounted when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=512m", "tmpfs"])
            .arg(directory.path())
            .output();
        match mount.is_ok_and(|mounted| mounted.status.success()) {
            true => Some(Self(directory)),
            false => {
                eprintln!("not tried: this test needs root");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all space that is left.
    fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).expect("a file");
        for size in [1 << 20, 4_096, 1] {
            while file.write_all(&vec![7; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.path().join("filler")).expect("it is removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// Where the broker runs, and who uses it.
struct Drill {
    disk: Disk,
    port: u16,
    broker: Process,
    fleet: Arc<Fleet>,
}

fn start(disk: &Disk, port: u16, stderr: impl Into<Stdio>) -> Process {
    let settings = ["log.filter=debug", "server.shutdown_grace=500ms"];
    let arguments: Vec<_> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    Process::saying(stderr, command, disk.path(), port, &arguments)
}

impl Drill {
    async fn new(disk: Disk) -> Self {
        let port = free_port();
        let broker = start(&disk, port, Stdio::null());
        let load = Load {
            publishers: 10,
            clients: parameter("FANFARE_DRILL_CLIENTS", 20),
            rate: parameter("FANFARE_DRILL_RATE", 400),
            stay: 500..5_000,
        };
        let fleet = Fleet::start(vec![broker.address.clone()], &load).await;
        Self { disk, port, broker, fleet }
    }

    fn url(&self, path: &str) -> String {
        self.broker.url(path)
    }

    /// Nobody is deaf: what is published now reaches everybody.
    async fn expect_flow(&self, after: &str) {
        let took = self.fleet.flow().await;
        println!("after {after} everything flows within {took:?}");
    }

    /// Has the broker end, which it must do in order, and begin again.
    async fn restart(&mut self, stderr: impl Into<Stdio>, while_what: &str) {
        let url = format!("ws://{}/v1/ws?topic=quiet", self.broker.address);
        let (mut witness, _) = connect_async(url).await.expect("a socket");
        let begun = Instant::now();
        self.broker.signal("-TERM");
        let mut said_good_bye = false;
        while let Ok(Some(Ok(message))) = timeout(support::PATIENCE, witness.next()).await {
            said_good_bye |= matches!(message, Message::Text(text) if text.contains("\"bye\""));
        }
        assert!(said_good_bye, "no bye with {while_what}");
        let status = self.broker.wait();
        assert!(status.success(), "{status} with {while_what}");
        println!("with {while_what} it ends after {:?}", begun.elapsed());
        self.broker = start(&self.disk, self.port, stderr);
    }

    /// Nobody reads what it says, and then nobody can.
    async fn deaf_log(&mut self) {
        let (reader, writer) = pipe().expect("a pipe");
        self.restart(writer, "nothing wrong").await;
        sleep(Duration::from_secs(2)).await;
        self.expect_flow("a log that nobody reads").await;
        drop(reader);
        sleep(Duration::from_secs(1)).await;
        self.expect_flow("a log that is closed").await;
        let full = File::options().write(true).open("/dev/full").expect("it is there");
        self.restart(full, "a log that is closed").await;
        self.expect_flow("a log on a full disk").await;
    }

    async fn stand_still(&self) {
        self.broker.signal("-STOP");
        sleep(Duration::from_secs(4)).await;
        self.broker.signal("-CONT");
        self.expect_flow("standing still").await;
    }

    /// Another process reads in the database, and then would write.
    async fn stranger(&self) {
        let path = self.disk.path().join("history.db");
        let stranger = Connection::open(path).expect("it opens");
        stranger.execute_batch("BEGIN; SELECT count(*) FROM events;").expect("it reads");
        sleep(Duration::from_secs(3)).await;
        self.expect_flow("a stranger that reads").await;
        stranger.execute_batch("COMMIT").expect("it ends");
        stranger.busy_timeout(support::PATIENCE).expect("it waits");
        stranger.execute_batch("BEGIN IMMEDIATE").expect("it gets the lock");
        sleep(Duration::from_secs(2)).await;
        stranger.execute_batch("ROLLBACK").expect("it ends");
        self.expect_flow("a stranger that holds the lock").await;
    }

    async fn full_disk(&self) {
        self.disk.fill();
        let http = reqwest::Client::new();
        let publish = async || {
            let body = "\"".to_owned() + &"x".repeat(30_000) + "\"";
            let request = http.post(self.url("/v1/topics/big/events")).body(body);
            let answer = request.header("content-type", "application/json").send().await;
            let answer: Value = answer.expect("an answer").json().await.expect("JSON");
            answer["code"] == "storage_full"
        };
        support::eventually("it is full", publish).await;
        let forgotten = http.delete(self.url("/v1/topics/big/events")).send().await;
        assert_eq!(forgotten.expect("an answer").status(), 200, "the way out works");
        self.disk.free();
        self.expect_flow("a full disk").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_and_nobody_deaf_whatever_goes_wrong_where_nothing_dies() {
    let Some(disk) = Disk::new() else { return };
    let mut drill = Drill::new(disk).await;
    for _ in 0..parameter("FANFARE_DRILL_TURNS", 1) {
        drill.deaf_log().await;
        drill.stand_still().await;
        drill.stranger().await;
        drill.full_disk().await;
        drill.restart(Stdio::null(), "a log on a full disk").await;
        drill.expect_flow("a restart").await;
    }
    let faults = drill.fleet.finish(false).await;
    let some = &faults[..faults.len().min(5)];
    assert!(faults.is_empty(), "{} faults, first {some:?}", faults.len());
}
