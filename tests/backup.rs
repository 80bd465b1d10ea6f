//! `fanfare backup`: copies that are whole, made beside a broker that goes on.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Client;
use serde_json::{Value, json};
use support::process::Process;

/// Runs `fanfare backup` on a data directory.
fn backup(data: &Path, to: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.arg("backup").arg("--to").arg(to);
    command.args(["--set", &format!("history.path={}", data.display())]);
    command.output().expect("it runs")
}

fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&all).into_owned()
}

/// Publishes events of one topic in one batch; their ids.
async fn publish(http: &Client, broker: &Process, topic: &str, data: &[Value]) -> Vec<String> {
    let events: Vec<_> = data.iter().map(|data| json!({ "topic": topic, "data": data })).collect();
    let request = http.post(broker.url("/v1/events")).json(&json!({ "events": events }));
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 201);
    let receipt: Value = response.json().await.expect("JSON");
    let events = receipt["events"].as_array().expect("events");
    events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
}

/// A page of a topic's events after a cursor.
async fn page(http: &Client, broker: &Process, topic: &str, since: &str) -> Value {
    let since = if since.is_empty() { String::new() } else { format!("&since={since}") };
    let url = broker.url(&format!("/v1/topics/{topic}/events?limit=1000{since}"));
    http.get(url).send().await.expect("an answer").json().await.expect("JSON")
}

fn data_of(page: &Value) -> Vec<Value> {
    let events = page["events"].as_array().expect("events");
    events.iter().map(|event| event["data"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_beside_a_busy_broker_is_whole_keeps_nobody_waiting_and_begins_a_new_epoch() {
    let directory = tempfile::tempdir().expect("a directory");
    // What retention removes while it is copied is as it should be, too.
    let rules = ["--set", r#"topics=[{match="busy.>", max_events=2000}]"#];
    let broker = Arc::new(Process::durable(directory.path(), 0, &rules));
    let http = Client::new();
    let still: Vec<_> = (0..900).map(|n| json!([n, "x".repeat(2_000)])).collect();
    publish(&http, &broker, "still", &still).await;

    let done = Arc::new(AtomicBool::new(false));
    let busy = {
        let (http, broker, done) = (http.clone(), broker.clone(), done.clone());
        tokio::spawn(async move {
            let (mut n, mut last) = (0, String::new());
            while !done.load(Ordering::Relaxed) {
                let batch: Vec<_> = (n..n + 500).map(|n| json!([n, "y".repeat(500)])).collect();
                let ids = publish(&http, &broker, "busy.a", &batch).await;
                n += batch.len();
                last = ids.last().expect("an id").clone();
            }
            (n, last)
        })
    };
    support::eventually("retention has something to do", async || {
        let topic = http.get(broker.url("/v1/topics/busy.a")).send().await.expect("an answer");
        topic.json::<Value>().await.expect("JSON")["retained"] == 2_000
    })
    .await;
    let to = tempfile::tempdir().expect("a directory");
    let output = tokio::task::spawn_blocking({
        let (data, to) = (directory.path().to_owned(), to.path().to_owned());
        move || (0..5).map(|n| backup(&data, &to.join(format!("{n}.db")))).collect::<Vec<_>>()
    });
    let outputs = output.await.expect("it ran");
    done.store(true, Ordering::Relaxed);
    let (published, last) = busy.await.expect("it ran");
    for output in &outputs {
        assert!(output.status.success(), "{}", text(output));
    }
    let wal = fs::metadata(directory.path().join("history.db-wal")).expect("a log").len();
    assert!(wal < 64 << 20, "the log of SQLite has grown to {wal} bytes");
    let names: Vec<_> = fs::read_dir(to.path()).expect("a directory").flatten().collect();
    assert_eq!(names.len(), 5, "only the copies are left");

    for n in 0..5 {
        let restored = tempfile::tempdir().expect("a directory");
        let file = restored.path().join("history.db");
        fs::copy(to.path().join(format!("{n}.db")), file).expect("a copy");
        let broker = Process::durable(restored.path(), 0, &rules);
        let kept = data_of(&page(&http, &broker, "still", "").await);
        assert!(kept == still, "{} of {} events are left", kept.len(), still.len());
        let first = page(&http, &broker, "busy.a", "").await;
        let second = page(&http, &broker, "busy.a", first["next"].as_str().expect("it")).await;
        let numbers: Vec<_> = [data_of(&first), data_of(&second)]
            .concat()
            .iter()
            .map(|data| data[0].as_u64().expect("a number"))
            .collect();
        assert_eq!(numbers.len(), 2_000, "as many as the rule keeps");
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "none is missing");
        assert!(numbers[1_999] < published as u64);
        // Who had seen more is told.
        assert_eq!(page(&http, &broker, "busy.a", &last).await["gap"], true);
        let new = publish(&http, &broker, "still", &[json!(0)]).await;
        assert!(!new[0].contains("-1-"), "{new:?} is of the epoch that was copied");
    }
}

#[tokio::test]
async fn a_copy_of_a_stopped_broker_is_made_into_a_directory_and_overwrites_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut broker = Process::durable(directory.path(), 0, &[]);
    let http = Client::new();
    let all: Vec<_> = (0..10).map(|n| json!(n)).collect();
    publish(&http, &broker, "a", &all).await;
    broker.signal("-TERM");
    assert!(broker.wait().success());
    let to = tempfile::tempdir().expect("a directory");
    let made = backup(directory.path(), to.path());
    assert!(made.status.success() && text(&made).contains("10 events of 1 topics"), "{made:?}");
    let again = backup(directory.path(), to.path());
    assert!(!again.status.success() && text(&again).contains("is not overwritten"), "{again:?}");
    // A copy is a history itself: it is copied, and it is used.
    let second = backup(to.path(), &to.path().join("second.db"));
    assert!(second.status.success(), "{}", text(&second));
    let broker = Process::durable(to.path(), 0, &[]);
    assert_eq!(data_of(&page(&http, &broker, "a", "").await), all);

    let nothing = tempfile::tempdir().expect("a directory");
    let none = backup(nothing.path(), &nothing.path().join("copy.db"));
    assert!(!none.status.success() && text(&none).contains("there is no history"), "{none:?}");
}

#[tokio::test]
async fn what_is_damaged_is_not_copied_as_if_it_were_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut broker = Process::durable(directory.path(), 0, &[]);
    publish(&Client::new(), &broker, "a", &[json!("is whole"), json!("is whole, too")]).await;
    broker.signal("-TERM");
    assert!(broker.wait().success());
    let db = rusqlite::Connection::open(directory.path().join("history.db")).expect("opened");
    let sql = "UPDATE events SET data = '\"is broken\"' WHERE data = '\"is whole\"'";
    assert_eq!(db.execute(sql, ()).expect("changed"), 1);
    let to = tempfile::tempdir().expect("a directory");
    let refused = backup(directory.path(), &to.path().join("copy.db"));
    let is_said = text(&refused).contains("of a is damaged");
    assert!(!refused.status.success() && is_said, "{}", text(&refused));
    assert_eq!(fs::read_dir(to.path()).expect("a directory").count(), 0, "nothing is left of it");
}

#[tokio::test]
async fn a_history_of_a_later_release_is_refused_with_the_way_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut broker = Process::durable(directory.path(), 0, &[]);
    broker.signal("-TERM");
    assert!(broker.wait().success());
    let db = rusqlite::Connection::open(directory.path().join("history.db")).expect("opened");
    db.pragma_update(None, "user_version", 1_000).expect("changed");
    let mut config = fanfare::config::Config::default();
    config.history.path = directory.path().to_owned();
    let opened = fanfare::history::sqlite::Opened::open(
        &config.history,
        config.rules,
        fanfare::clock::Clock::default(),
    );
    let refused = opened.err().expect("refused").to_string();
    assert!(refused.contains("`fanfare backup` made before the upgrade"), "{refused}");
}
