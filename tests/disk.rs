//! When the disk fails: nothing is acknowledged that is not kept, everyone is told why, and service
//! returns by itself.
//!
//! These tests mount file systems and run the broker under `strace`, so they need root; without it
//! they say so and do nothing.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Client;
use serde_json::{Value, json};
use support::process::Process;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

fn run(command: &str, arguments: &[&str]) -> bool {
    let output = Command::new(command).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id runs");
    let is_root = output.stdout.trim_ascii() == b"0";
    if !is_root {
        eprintln!("not tried: this test needs root");
    }
    is_root
}

/// A file system, unmounted when dropped.
struct Mount {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Mount {
    fn new(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("mount");
        fs::create_dir(&path).expect("a directory");
        let path_text = path.to_str().expect("UTF-8");
        assert!(run("mount", &[arguments, &[path_text]].concat()), "mount {arguments:?}");
        Self { path, _directory: directory }
    }

    fn data(&self) -> PathBuf {
        let data = self.path.join("data");
        fs::create_dir_all(&data).expect("a directory");
        data
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &["--lazy", self.path.to_str().expect("UTF-8")]);
    }
}

/// Publishes one event under a key of its own; its status, code and id.
async fn publish(http: &Client, broker: &Process, data: Value) -> (u16, String, String) {
    let request = http.post(broker.url("/v1/topics/a/events")).json(&data);
    let key = if data.is_array() { data[0].to_string() } else { data.to_string() };
    let request = request.header("idempotency-key", key);
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let body: Value = response.json().await.expect("JSON");
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("id"))
}

/// All kept data, oldest first.
async fn kept(http: &Client, broker: &Process) -> Vec<Value> {
    let (mut since, mut data) = (String::new(), Vec::new());
    loop {
        let url = broker.url(&format!("/v1/topics/a/events?limit=1000{since}"));
        let page: Value =
            http.get(url).send().await.expect("an answer").json().await.expect("JSON");
        let events = page["events"].as_array().expect("events");
        if events.is_empty() {
            return data;
        }
        data.extend(events.iter().map(|event| event["data"].clone()));
        since = format!("&since={}", page["next"].as_str().expect("a cursor"));
    }
}

async fn ready(http: &Client, broker: &Process) -> (u16, String) {
    let response = http.get(broker.url("/health/ready")).send().await.expect("an answer");
    let status = response.status().as_u16();
    let body: Value = response.json().await.expect("JSON");
    (status, body["checks"]["history"].as_str().expect("a reason").to_owned())
}

fn client() -> Client {
    Client::builder().timeout(Duration::from_secs(30)).build().expect("a client")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_publishers_keeps_subscribers_and_heals_with_space() {
    if !is_root() {
        return;
    }
    let mount = Mount::new(&["-t", "tmpfs", "-o", "size=8m", "tmpfs"]);
    // The subscriber reads at the end.
    let outbox = ["--set", "limits.outbox_bytes=64MiB"];
    let broker = Process::durable(&mount.data(), 0, &outbox);
    let http = client();
    let url = format!("ws://{}/v1/ws?topic=a", broker.address);
    let (mut subscriber, _) = tokio_tungstenite::connect_async(url).await.expect("connected");
    let text = "x".repeat(20_000);
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    let mut n = 0;
    while refused < 20 {
        let data = json!([n, text]);
        match publish(&http, &broker, data.clone()).await {
            (201, _, _) => acknowledged.push(data),
            (503, code, _) => {
                assert_eq!(code, "storage_full");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
        n += 1;
        assert!(n < 2_000, "8 MiB were never full");
    }
    let (status, reason) = ready(&http, &broker).await;
    assert!(status == 503 && reason.contains("no space left"), "{status} {reason}");
    assert_eq!(kept(&http, &broker).await, acknowledged);

    assert!(run("mount", &["-o", "remount,size=32m", mount.path.to_str().expect("UTF-8")]));
    support::eventually("the broker is ready by itself", async || {
        ready(&http, &broker).await.0 == 200
    })
    .await;
    let data = json!([n, text]);
    assert_eq!(publish(&http, &broker, data.clone()).await.0, 201);
    acknowledged.push(data);
    assert_eq!(kept(&http, &broker).await, acknowledged);
    // The subscriber was there all the time, and has everything that was acknowledged.
    let mut received = Vec::new();
    while received.len() < acknowledged.len() {
        let message = timeout(support::PATIENCE, subscriber.next()).await.expect("in time");
        if let Some(Ok(Message::Text(text))) = message {
            let frame: Value = serde_json::from_str(&text).expect("JSON");
            if frame["op"] == "event" {
                received.push(frame["data"].clone());
            }
            assert_ne!(frame["op"], "bye", "{frame}");
        }
    }
    assert_eq!(received, acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_fsync_nothing_is_acknowledged_until_the_disk_is_proven() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
    // The start takes some; then a stretch of them fails.
    command.args(["-e", "inject=fsync,fdatasync:error=EIO:when=30..40"]);
    command.arg(env!("CARGO_BIN_EXE_fanfare"));
    let broker = Process::run(command, directory.path(), 0, &[]);
    let http = client();
    let url = format!("ws://{}/v1/ws?topic=a", broker.address);
    let (mut subscriber, _) = tokio_tungstenite::connect_async(url).await.expect("connected");
    let (mut acknowledged, mut unknown, mut unavailable) = (Vec::new(), Vec::new(), 0);
    let mut reasons = Vec::new();
    let mut n = 0;
    // Until it has failed, and worked again for a while.
    while unknown.is_empty() || acknowledged.last().is_none_or(|last| *last < unknown[0] + 400) {
        match publish(&http, &broker, json!(n)).await {
            (201, _, _) => acknowledged.push(n),
            (503, code, _) if code == "outcome_unknown" => unknown.push(n),
            (503, code, _) if code == "unavailable" => {
                unavailable += 1;
                reasons.push(ready(&http, &broker).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => panic!("{other:?}"),
        }
        n += 1;
        assert!(n < 20_000, "it never failed, or never worked again");
    }
    assert!(unavailable > 0);
    assert!(reasons.iter().any(|(status, why)| *status == 503 && why.contains("disk has failed")));
    assert_eq!(ready(&http, &broker).await.0, 200);
    let numbers = |data: Vec<Value>| -> Vec<i32> {
        data.iter().map(|number| number.as_i64().expect("a number") as i32).collect()
    };
    let kept = numbers(kept(&http, &broker).await);
    let allowed = |n: &i32| acknowledged.contains(n) || unknown.contains(n);
    assert!(kept.iter().all(allowed), "something was kept that was refused");
    assert!(acknowledged.iter().all(|n| kept.contains(n)), "something acknowledged is gone");
    assert!(kept.is_sorted());
    // Whoever repeats what was unknown under the same key gets one event out of it.
    for n in &unknown {
        let (status, ..) = publish(&http, &broker, json!(n)).await;
        assert_eq!(status, if kept.contains(n) { 200 } else { 201 }, "{n}");
    }
    let mut all = numbers(self::kept(&http, &broker).await);
    let kept = all.clone();
    all.sort_unstable();
    let mut expected = [acknowledged, unknown].concat();
    expected.sort_unstable();
    assert_eq!(all, expected);
    // The subscriber has what is kept, whole and in order.
    let mut received = Vec::new();
    while received.len() < kept.len() {
        let message = timeout(support::PATIENCE, subscriber.next()).await.expect("in time");
        if let Some(Ok(Message::Text(text))) = message {
            let frame: Value = serde_json::from_str(&text).expect("JSON");
            if frame["op"] == "event" {
                received.push(frame["data"].clone());
            }
            assert_ne!(frame["op"], "bye", "{frame}");
        }
    }
    assert_eq!(numbers(received), kept);
}

/// Publishes a number to a topic on disk and one in memory, in one batch under a key of its own.
async fn publish_both(http: &Client, broker: &Process, n: usize) -> (u16, String) {
    let events = json!([{ "topic": "a", "data": n }, { "topic": "mem.a", "data": n }]);
    let request = http.post(broker.url("/v1/events")).json(&json!({ "events": events }));
    let response = request.header("idempotency-key", n.to_string()).send().await;
    let response = response.expect("an answer");
    let status = response.status().as_u16();
    let body: Value = response.json().await.expect("JSON");
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_over_disk_and_memory_is_whole_or_nothing_whatever_becomes_of_its_fsync() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
    command.args(["-e", "inject=fsync,fdatasync:error=EIO:when=30..36"]);
    command.arg(env!("CARGO_BIN_EXE_fanfare"));
    let rules = ["--set", r#"topics=[{match="mem.>", history="memory"}]"#];
    let broker = Process::run(command, directory.path(), 0, &rules);
    let http = client();
    let (mut acknowledged, mut unknown, mut n) = (Vec::new(), Vec::new(), 0);
    while unknown.is_empty() || acknowledged.last().is_none_or(|last| *last < unknown[0] + 50) {
        match publish_both(&http, &broker, n).await {
            (201, _) => acknowledged.push(n),
            (503, code) if code == "outcome_unknown" => unknown.push(n),
            (503, _) => tokio::time::sleep(Duration::from_millis(20)).await,
            other => panic!("{other:?}"),
        }
        n += 1;
        assert!(n < 20_000, "it never failed, or never worked again");
    }
    // A repeat is answered with what became of it, and both topics have the same.
    for n in &unknown {
        let (status, code) = publish_both(&http, &broker, *n).await;
        assert!(status < 300, "{status} {code}");
    }
    let kept = async |topic: &str| {
        let url = broker.url(&format!("/v1/topics/{topic}/events?limit=1000"));
        let page: Value =
            http.get(url).send().await.expect("an answer").json().await.expect("JSON");
        let events = page["events"].as_array().expect("events");
        events.iter().map(|event| event["data"].clone()).collect::<Vec<_>>()
    };
    let on_disk = kept("a").await;
    assert_eq!(on_disk, kept("mem.a").await);
    assert_eq!(on_disk.len(), acknowledged.len() + unknown.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_commits_put_nothing_out_of_order_between_disk_and_memory() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let strace = || {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
        command.args(["-e", "inject=fsync,fdatasync:delay_enter=40000"]);
        command.arg(env!("CARGO_BIN_EXE_fanfare"));
        command
    };
    let rules = ["--set", r#"topics=[{match="mem.*", history="memory"}]"#];
    let broker = Process::run(strace(), directory.path(), 0, &rules);
    let http = client();
    let one = async |broker: &Process, topic: &str, n: usize| {
        let url = broker.url(&format!("/v1/topics/{topic}/events"));
        let receipt = http.post(url).json(&n).send().await.expect("an answer");
        let receipt: Value = receipt.json().await.expect("JSON");
        receipt["id"].as_str().expect("an id").to_owned()
    };
    let since = one(&broker, "disk.start", 0).await;
    let url = |broker: &Process, topics: &str, since: &str| {
        format!("ws://{}/v1/ws?{topics}&since={since}", broker.address)
    };
    let (mut watcher, _) = tokio_tungstenite::connect_async(url(&broker, "topic=*.*", &since))
        .await
        .expect("connected");
    let publish = async |topic: &str, times: usize| {
        let mut ids = Vec::new();
        for n in 0..times {
            ids.push(one(&broker, topic, n).await);
        }
        ids
    };
    let (a, b, c, d) = tokio::join!(
        publish("disk.a", 20),
        publish("mem.b", 60),
        publish("disk.c", 20),
        publish("mem.d", 60)
    );
    let disk = [a, c].concat();
    let mut all = [disk.clone(), b, d].concat();
    let place = |id: &String| fanfare::model::Cursor::parse(id).expect("a cursor");
    all.sort_by_key(place);
    let mut seen = Vec::new();
    while seen.len() < all.len() {
        let message = timeout(support::PATIENCE, watcher.next()).await.expect("in time");
        if let Some(Ok(Message::Text(text))) = message {
            let frame: Value = serde_json::from_str(&text).expect("JSON");
            if frame["op"] == "event" {
                seen.push(frame["id"].as_str().expect("an id").to_owned());
            }
        }
    }
    assert_eq!(seen, all);

    // As with kill -9.
    drop(broker);
    let broker = Process::run(strace(), directory.path(), 0, &rules);
    for (topics, expected, gaps) in [("topic=disk.*", disk.len(), 0), ("topic=mem.b", 0, 1)] {
        let (mut client, _) = tokio_tungstenite::connect_async(url(&broker, topics, &since))
            .await
            .expect("connected");
        let (mut events, mut told) = (0, 0);
        loop {
            let message = timeout(support::PATIENCE, client.next()).await.expect("in time");
            let Some(Ok(Message::Text(text))) = message else { continue };
            let frame: Value = serde_json::from_str(&text).expect("JSON");
            match frame["op"].as_str() {
                Some("event") => events += 1,
                Some("gap") => told += 1,
                Some("live") => break,
                _ => {}
            }
        }
        assert_eq!((events, told), (expected, gaps), "{topics}");
    }
    // What is published now is above all that was seen, also of what is gone.
    let next = one(&broker, "disk.a", 99).await;
    assert!(place(&next) > place(all.last().expect("an id")));
}

/// Publishes on a file system in an image, stops the broker in the middle, takes the image as a
/// power failure would leave it, and returns what was acknowledged and what is left.
async fn after_a_power_failure(fsync: bool) -> (Vec<Value>, Vec<Value>) {
    let directory = tempfile::tempdir().expect("a directory");
    let image = directory.path().join("image");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    assert!(run("truncate", &["-s", "64M", &text(&image)]));
    assert!(run("mkfs.ext4", &["-q", "-F", &text(&image)]));
    let mount = Mount::new(&["-o", "loop", &text(&image)]);
    let setting = format!("history.fsync={fsync}");
    let broker = Process::durable(&mount.data(), 0, &["--set", &setting]);
    let http = client();
    let mut acknowledged = Vec::new();
    for n in 0..300 {
        let (status, code, _) = publish(&http, &broker, json!(n)).await;
        assert_eq!(status, 201, "{code}");
        acknowledged.push(json!(n));
    }
    // Nobody writes while the image is copied; what only the system's cache holds is not in it.
    broker.signal("-STOP");
    let copy = directory.path().join("copy");
    fs::copy(&image, &copy).expect("a copy");
    drop(broker);

    let after = Mount::new(&["-o", "loop", &text(&copy)]);
    let broker = Process::durable(&after.data(), 0, &["--set", &setting]);
    let left = kept(&http, &broker).await;
    (acknowledged, left)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_failure_loses_nothing_that_was_acknowledged() {
    if !is_root() {
        return;
    }
    let (acknowledged, left) = after_a_power_failure(true).await;
    assert_eq!(left, acknowledged);
}

/// The test above would see a loss: without fsync there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_failure_without_fsync_does_lose_something() {
    if !is_root() {
        return;
    }
    let (acknowledged, left) = after_a_power_failure(false).await;
    assert!(left.len() < acknowledged.len(), "all {} were left", left.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_still_waits_when_the_disk_hangs_is_certainly_not_stored() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
    command.args(["-e", "inject=fsync,fdatasync:delay_enter=5000000:when=20"]);
    command.arg(env!("CARGO_BIN_EXE_fanfare"));
    let timeout = ["--set", "history.commit_timeout=1s"];
    let broker = Arc::new(Process::run(command, directory.path(), 0, &timeout));
    let http = client();
    let mut publishes = Vec::new();
    for n in 0..60 {
        let (http, broker) = (http.clone(), broker.clone());
        publishes.push(tokio::spawn(async move { publish(&http, &broker, json!(n)).await }));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut codes = Vec::new();
    for publish in publishes {
        let (status, code, _) = publish.await.expect("it ran");
        codes.push(if status == 201 { "stored".to_owned() } else { code });
    }
    let count = |code: &str| codes.iter().filter(|found| *found == code).count();
    assert!(count("outcome_unknown") <= 2, "one was on its way, and what was beside it: {codes:?}");
    assert!(count("unavailable") >= 5, "many waited behind it: {codes:?}");
    // What the hanging commit becomes is known once a later one was answered.
    while publish(&http, &broker, json!("later")).await.0 != 201 {}
    let kept = kept(&http, &broker).await;
    for (n, code) in codes.iter().enumerate() {
        let is_kept = kept.contains(&json!(n));
        assert_eq!(is_kept, code != "unavailable", "{n} is {code}: {codes:?}");
    }
}
