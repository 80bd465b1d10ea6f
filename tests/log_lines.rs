//! A log that can't be written costs its lines, and nobody anything else.

mod support;

use std::fs::{self, File};
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};
use serde_json::json;
use support::process::{Process, free_port, without_settings};
use support::ws::WsClient;
use support::{API_KEY, eventually};
use tempfile::TempDir;

/// A key that comes with the reload.
const LATER: &str = "an-api-key-that-comes-later";

/// A broker that logs much, to somewhere that does not take it.
struct Scene {
    broker: Process,
    clients: Vec<WsClient>,
    published: usize,
    directory: TempDir,
}

fn configure(directory: &Path, keys: &[&str]) {
    let text = format!("[auth]\napi_keys = {}\n", json!(keys));
    fs::write(directory.join("fanfare.toml"), text).expect("written");
}

impl Scene {
    async fn new(stderr: impl Into<Stdio>, filter: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        configure(directory.path(), &[API_KEY]);
        let filter = format!("log.filter={filter}");
        let arguments = ["--config", "fanfare.toml", "--set", &filter];
        let command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        let broker = Process::saying(stderr, command, directory.path(), 0, &arguments);
        let mut scene = Self { broker, clients: Vec::new(), published: 0, directory };
        for _ in 0..8 {
            let query = format!("?topic=a.%3E&access_token={API_KEY}");
            scene.clients.push(WsClient::live_at(&scene.broker.address, &query).await);
        }
        scene
    }

    /// Publishes some events, and has every client get them.
    async fn publish(&mut self, events: usize) {
        let http = reqwest::Client::new();
        for number in 0..events {
            let url = self.broker.url(&format!("/v1/topics/a.{number}/events"));
            let request = http.post(url).bearer_auth(API_KEY).json(&json!(number));
            let answer = request.timeout(support::PATIENCE).send().await.expect("an answer");
            assert_eq!(answer.status(), 201);
            self.published += 1;
        }
        for client in &mut self.clients {
            client.events(events).await;
        }
    }

    async fn lines_lost(&self) -> u64 {
        let request = reqwest::Client::new().get(self.broker.url("/metrics")).bearer_auth(API_KEY);
        let text = request.send().await.expect("an answer").text().await.expect("a text");
        let line = text.lines().find_map(|line| line.strip_prefix("fanfare_log_lines_lost_total "));
        line.expect("the metric").parse().expect("a number")
    }

    /// Publishes until lines have been lost.
    async fn lose(&mut self) {
        let begun = Instant::now();
        while self.lines_lost().await == 0 {
            self.publish(50).await;
            assert!(begun.elapsed() < 3 * support::PATIENCE, "{} published", self.published);
        }
    }

    /// Another configuration comes into force.
    async fn reload(&self) {
        configure(self.directory.path(), &[API_KEY, LATER]);
        self.broker.signal("-HUP");
        let http = reqwest::Client::new();
        eventually("the new key is known", async || {
            let request = http.get(self.broker.url("/v1/topics")).bearer_auth(LATER);
            request.send().await.expect("an answer").status() == 200
        })
        .await;
    }

    /// Everybody is told, and the broker ends in order and in time.
    async fn stop(mut self) {
        let begun = Instant::now();
        self.broker.signal("-TERM");
        for mut client in self.clients {
            let (bye, code) = client.closed().await;
            let bye = bye.expect("a bye");
            assert_eq!((&bye["code"], code), (&json!("restart"), Some(1012)));
        }
        let status = self.broker.wait();
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }
}

/// A pipe that takes nothing any more, and who could read it.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().expect("a pipe");
    fcntl_setfl(&writer, OFlags::NONBLOCK).expect("it does not block");
    loop {
        match writer.write(&[b'\n'; 4_096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    fcntl_setfl(&writer, OFlags::empty()).expect("it blocks again");
    (reader, writer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_on_a_full_disk_loses_its_lines_and_counts_them() {
    let full = File::options().write(true).open("/dev/full").expect("a full disk");
    let mut scene = Scene::new(full, "debug").await;
    scene.publish(100).await;
    scene.reload().await;
    scene.publish(100).await;
    assert!(scene.lines_lost().await > 0);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_reader_has_left_loses_its_lines_and_counts_them() {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    let mut scene = Scene::new(writer, "debug").await;
    scene.publish(100).await;
    scene.reload().await;
    scene.publish(100).await;
    assert!(scene.lines_lost().await > 0);
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_log_that_nobody_reads_nor_does_the_stop() {
    let (_reader, writer) = full_pipe();
    let mut scene = Scene::new(writer, "trace").await;
    scene.lose().await;
    scene.reload().await;
    scene.publish(50).await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_a_log_is_read_again_it_says_how_many_lines_were_lost() {
    let (mut reader, writer) = full_pipe();
    let mut scene = Scene::new(writer, "trace").await;
    scene.lose().await;
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("a log");
        text
    });
    scene.publish(50).await;
    scene.stop().await;
    let log = reading.join().expect("it was read");
    let said: Vec<_> = log.lines().filter(|line| line.contains("log lines were lost")).collect();
    assert!(!said.is_empty() && said[0].contains(" lost="), "{said:?}");
    // What is said last is still written, for now there is room.
    assert!(log.contains("SIGTERM: stopping"), "{}", &log[log.len().saturating_sub(2_000)..]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_output_nobody_takes_serves_all_the_same() {
    let full = || File::options().write(true).open("/dev/full").expect("a full disk");
    let directory = tempfile::tempdir().expect("a directory");
    let port = free_port();
    let mut broker = without_settings(&mut Command::new(env!("CARGO_BIN_EXE_fanfare")))
        .args(["serve", "--set", &format!("server.listen=127.0.0.1:{port}")])
        .current_dir(directory.path())
        .stdout(full())
        .stderr(full())
        .spawn()
        .expect("the broker starts");
    let url = format!("http://127.0.0.1:{port}/health/ready");
    eventually("it is ready", async || {
        reqwest::get(&url).await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let pid = broker.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    assert_eq!(broker.wait().expect("it ends").code(), Some(0));
}
