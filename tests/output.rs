//! What commands print: said where it can't be written, and no matter where nobody reads it any more.

mod support;

use std::fs::File;
use std::io::{Read, Write, pipe};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use support::process::without_settings;
use support::{TestServer, eventually};

/// How long a command may take to notice that nobody reads, on a machine that has much to do.
const SOON: Duration = Duration::from_secs(5);

fn start(arguments: &[&str], input: &str, output: impl Into<Stdio>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    without_settings(&mut command);
    command.args(arguments).stdin(Stdio::piped()).stdout(output).stderr(Stdio::piped());
    let mut child = command.current_dir(std::env::temp_dir()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("its input");
    // It may not want any.
    _ = stdin.write_all(input.as_bytes());
    child
}

/// Runs a command to its end: its exit code, and what it said.
async fn run(arguments: &[&str], input: &str, output: impl Into<Stdio>) -> (Option<i32>, String) {
    ended(start(arguments, input, output)).await
}

async fn ended(child: Child) -> (Option<i32>, String) {
    let ending = tokio::task::spawn_blocking(move || child.wait_with_output().expect("it ends"));
    let output = ending.await.expect("no panic");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn full() -> File {
    File::options().write(true).open("/dev/full").expect("a full disk")
}

/// A pipe whose reader has left.
fn left() -> std::io::PipeWriter {
    pipe().expect("a pipe").1
}

/// A token that nobody signed.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2ln";

const SECRET: &str = "auth.jwt_secret=a secret of at least thirty-two bytes";

/// Every command that prints something, and comes to an end by itself.
fn commands(url: &str) -> Vec<(Vec<&str>, &'static str)> {
    let bench = ["bench", "--url", url, "--warmup", "50ms", "--duration", "100ms"];
    vec![
        (vec!["--help"], ""),
        (vec!["--version"], ""),
        (vec!["help", "serve"], ""),
        (vec!["publish", "--help"], ""),
        (vec!["token", "key"], ""),
        (vec!["token", "make", "--sub", "ada", "--set", SECRET], ""),
        (vec!["token", "explain"], TOKEN),
        (vec!["check"], ""),
        (vec!["health", "--url", url], ""),
        (vec!["completion", "bash"], ""),
        (vec!["man"], ""),
        (vec!["check", "--set", "limits.connections=100"], ""),
        (vec!["publish", "--url", url, "a", "1"], ""),
        (vec!["subscribe", "--url", url, "kept", "--snapshot"], ""),
        (vec!["subscribe", "--url", url, "kept", "--snapshot", "--count", "1"], ""),
        (vec!["history", "--url", url, "kept"], ""),
        (vec!["top", "--once", "--url", url], ""),
        (bench.to_vec(), ""),
        ([&bench[..], &["--json"]].concat(), ""),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_can_not_be_written_is_said_and_fails() {
    let server = TestServer::open();
    server.publish("kept", &json!(1)).await;
    for (arguments, input) in commands(&server.url("")) {
        let (code, said) = run(&arguments, input, full()).await;
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        assert!(said.contains("error: standard output: No space left"), "{arguments:?}: {said}");
        if arguments[0] == "publish" && arguments.len() > 2 {
            assert!(said.contains("the event was published"), "{said}");
        }
    }
    let topic = server.get("/v1/topics/a").send().await.expect("an answer");
    let topic: serde_json::Value = topic.json().await.expect("JSON");
    assert_eq!(topic["retained"], 1, "{topic}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_left_is_a_quiet_end() {
    let server = TestServer::open();
    server.publish("kept", &json!(1)).await;
    for (arguments, input) in commands(&server.url("")) {
        let (code, said) = run(&arguments, input, left()).await;
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
        assert!(!said.contains("error"), "{arguments:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_usage_is_said_whatever_becomes_of_the_output() {
    for output in [Stdio::from(full()), Stdio::from(left()), Stdio::null()] {
        let (code, said) = run(&["--no-such-flag"], "", output).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("--no-such-flag"), "{said}");
    }
}

/// Lets a subscriber's reader leave once it has said something, and waits for its quiet end.
async fn ends_once_unread(url: &str, said: &str) {
    let (reader, output) = pipe().expect("a pipe");
    let mut child = start(&["subscribe", "--url", url, "a"], "", output);
    let mut stderr = child.stderr.take().expect("its words");
    let waiting = tokio::task::spawn_blocking({
        let said = said.to_owned();
        move || {
            let mut heard = Vec::new();
            let mut byte = [0];
            while !String::from_utf8_lossy(&heard).contains(&said) {
                assert_eq!(stderr.read(&mut byte).expect("words"), 1, "it ended too early");
                heard.push(byte[0]);
            }
            stderr
        }
    });
    let _stderr = waiting.await.expect("it said so");
    let left = Instant::now();
    drop(reader);
    assert_eq!(ended(child).await.0, Some(0));
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_notices_that_nobody_reads_while_no_events_come() {
    let server = TestServer::open();
    ends_once_unread(&server.url(""), "live").await;
    eventually("it is gone at the broker", async || {
        let list = server.get("/v1/sessions").send().await.expect("an answer");
        let list: serde_json::Value = list.json().await.expect("JSON");
        list["sessions"].as_array().is_some_and(Vec::is_empty)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_notices_that_nobody_reads_while_it_is_not_connected() {
    let port = support::process::free_port();
    ends_once_unread(&format!("http://127.0.0.1:{port}"), "connecting again in").await;
    // One that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("its address"));
    let (code, said) = run(&["subscribe", "--url", &url, "a"], "", left()).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_that_nobody_takes_keep_no_command_from_its_end() {
    let server = TestServer::open();
    server.publish("kept", &json!(1)).await;
    let url = server.url("");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    let arguments = ["subscribe", "--url", &url, "kept", "--snapshot", "--count", "1"];
    let output =
        without_settings(&mut command).args(arguments).stderr(full()).stdout(Stdio::piped());
    let output = output.output().expect("it runs");
    assert!(output.status.success(), "{}", output.status);
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"topic\":\"kept\""));
}

/// Publishes lines of standard input and gives the exit code, what was said, and what the topic has then.
async fn published(flags: &[&str], input: &str) -> (Option<i32>, String, Vec<i64>) {
    let server = TestServer::open();
    let url = server.url("");
    let arguments = [&["publish", "--url", &url, "--ndjson"], flags].concat();
    let (code, said) = run(&arguments, input, Stdio::null()).await;
    let kept = server.get("/v1/topics/a/events").send().await.expect("an answer");
    let kept: serde_json::Value = kept.json().await.expect("JSON");
    let kept = kept["events"].as_array().expect("events").iter();
    (code, said, kept.map(|event| event["data"].as_i64().expect("a number")).collect())
}

/// Lines of events, with others among them.
fn lines(count: i64, bad: &[(i64, &str)]) -> String {
    let line = |number| match bad.iter().find(|(at, _)| *at == number) {
        Some((_, bad)) => format!("{bad}\n"),
        None => format!("{{\"topic\":\"a\",\"data\":{number}}}\n"),
    };
    (1..=count).map(line).collect()
}

const NO_TOPIC: &str = r#"{"topic":"a..b","data":1}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_before_a_bad_one_are_published_and_it_is_named_by_its_number() {
    for bad in [NO_TOPIC, r#"{"topic":"a"}"#, "no JSON"] {
        let (code, said, kept) = published(&[], &lines(40, &[(23, bad)])).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("error: line 23: ") && !said.contains("line 1:"), "{said}");
        assert!(said.contains("published 22 events before that"), "{said}");
        assert_eq!(kept, (1..=22).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_lines_are_left_out_where_that_is_asked_for_and_counted() {
    let bad = [(1, NO_TOPIC), (7, "no JSON"), (8, NO_TOPIC), (1_200, NO_TOPIC)];
    let (code, said, kept) = published(&["--skip-bad-lines"], &lines(1_200, &bad)).await;
    assert_eq!(code, Some(1), "{said}");
    for (number, _) in bad {
        assert!(said.contains(&format!("line {number}: ")), "{said}");
    }
    assert!(said.contains("published 1196 events, and left out 4 bad lines"), "{said}");
    let good = (1..=1_200).filter(|number| bad.iter().all(|(at, _)| at != number));
    assert!(kept.iter().copied().eq(good.take(kept.len())), "in their order");
    let (code, said, _) = published(&["--skip-bad-lines"], &lines(3, &[])).await;
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_explained_token_that_is_refused_fails() {
    let (code, said) = run(&["token", "explain", "--set", SECRET], TOKEN, Stdio::null()).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the token is refused: "), "{said}");
}

/// Runs a command and gives the lines of its results, and what it said beside them.
async fn lines_of(arguments: &[&str]) -> (Vec<String>, String) {
    let child = start(arguments, "", Stdio::piped());
    let ending = tokio::task::spawn_blocking(move || child.wait_with_output().expect("it ends"));
    let output = ending.await.expect("no panic");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    (lines, said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_read_back_newest_first_and_on_from_where_it_ended() {
    let server = TestServer::open();
    let ids = server.publish_all(&support::numbered("s.a", 0..5)).await;
    server.publish("other", &json!(0)).await;
    let url = server.url("");
    let history = |more: &[&'static str]| {
        let url = url.clone();
        let more = more.to_vec();
        async move {
            lines_of(&[&["history", "--url", &url, "s.*", "--data"], &more[..]].concat()).await
        }
    };
    assert_eq!(history(&[]).await.0, ["4", "3", "2", "1", "0"]);
    let (lines, said) = history(&["--limit", "2"]).await;
    assert_eq!(lines, ["4", "3"]);
    let before = said.split("--before ").nth(1).expect("how to read on").trim();
    assert_eq!(before, ids[3]);
    let (lines, said) = lines_of(&["history", "--url", &url, "s.*", "--before", before]).await;
    let events: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events.iter().map(|event| event["data"].clone()).collect::<Vec<_>>(), [2, 1, 0]);
    assert_eq!((&events[0]["id"], &events[0]["topic"]), (&json!(ids[2]), &json!("s.a")));
    assert_eq!(said, "", "that was all");
    let (_, said) = lines_of(&["history", "--url", &url, "a", "--before", "nonsense"]).await;
    assert!(said.contains("--before"), "{said}");
    let forgotten = server.delete("/v1/topics/s.a/events").send().await.expect("an answer");
    assert!(forgotten.status().is_success());
    let (lines, said) = history(&[]).await;
    assert!(lines.is_empty() && said.contains("older events were removed"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_after_a_place_is_read_on_oldest_first_and_ends() {
    let server = TestServer::open();
    let ids = server.publish_all(&support::numbered("s.a", 0..1_500)).await;
    let url = server.url("");
    let history = async |more: &[&str]| {
        lines_of(&[&["history", "--url", &url, "s.*", "--data", "--since"], more].concat()).await
    };
    let (lines, said) = history(&[&ids[0], "--limit", "2000"]).await;
    let numbers: Vec<_> = (1..1_500).map(|n| n.to_string()).collect();
    assert_eq!((lines, said.as_str()), (numbers, ""), "more than a page");
    let (lines, said) = history(&["-15m", "--limit", "2"]).await;
    assert_eq!(lines, ["0", "1"]);
    let since = said.split("--since ").nth(1).expect("how to read on").trim();
    assert_eq!(since, ids[1]);
    assert_eq!(history(&[since, "--limit", "1"]).await.0, ["2"]);
    let (lines, said) = history(&[ids.last().expect("an id")]).await;
    assert_eq!((lines.len(), said.as_str()), (0, ""));
    server.delete("/v1/topics/s.a/events").send().await.expect("an answer");
    let (lines, said) = history(&[&ids[0]]).await;
    assert!(lines.is_empty() && said.contains("older events were removed"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_under_a_key_is_stored_once_however_often_it_is_run() {
    let server = TestServer::open();
    let url = server.url("");
    let publish = async |more: &[&str]| {
        lines_of(&[&["publish", "--url", &url, "a", "--idempotency-key", "k-1"], more].concat())
            .await
    };
    let (first, _) = publish(&["1"]).await;
    assert_eq!(publish(&["1"]).await.0, first);
    let (_, said) = publish(&["2"]).await;
    assert!(said.contains("idempotency_mismatch"), "{said}");
    let (lines, said) = publish(&[]).await;
    assert!(lines.is_empty() && said.contains("--idempotency-key is for one event"), "{said}");
    assert_eq!(lines_of(&["history", "--url", &url, "a", "--data"]).await.0, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_page_is_read_back_whole() {
    let server = TestServer::open();
    server.publish_all(&support::numbered("a", 0..1_500)).await;
    let url = server.url("");
    let (lines, _) = lines_of(&["history", "--url", &url, "a", "--data", "--limit", "1400"]).await;
    let expected: Vec<_> = (100..1_500).rev().map(|n| n.to_string()).collect();
    assert_eq!(lines, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_event_carries_is_published_from_the_command_line() {
    let server = TestServer::open();
    let url = server.url("");
    let publish = async |more: &[&str]| {
        let (lines, said) = lines_of(&[&["publish", "--url", &url, "a"], more].concat()).await;
        let receipt = lines.first().map(|line| serde_json::from_str(line).expect("JSON"));
        (receipt.unwrap_or(serde_json::Value::Null), said)
    };
    let (first, _) = publish(&["1", "--version", "5", "--epoch", "e", "--ttl", "1h"]).await;
    assert!(first["id"].is_string(), "{first}");
    assert_eq!(publish(&["2", "--version", "4", "--epoch", "e"]).await.0["superseded"], true);
    let (_, said) = publish(&["3", "--if-latest", "absent"]).await;
    assert!(said.contains("not_latest"), "{said}");
    assert_eq!(publish(&["4", "--no-keep"]).await.0.get("id"), None);
    let (kept, _) = lines_of(&["history", "--url", &url, "a"]).await;
    let kept: serde_json::Value = serde_json::from_str(&kept.concat()).expect("one event");
    assert_eq!(
        (&kept["version"], &kept["epoch"], &kept["data"]),
        (&json!(5), &json!("e"), &json!(1))
    );
    assert!(kept["expires"].is_string(), "{kept}");
    let gone = publish(&["--removed", "--if-latest", first["id"].as_str().expect("an id")]).await.0;
    assert!(gone["id"].is_string(), "{gone}");
    let topic = server.get("/v1/topics/a").send().await.expect("an answer");
    let topic: serde_json::Value = topic.json().await.expect("JSON");
    assert_eq!((topic.get("latest"), &topic["retained"]), (None, &json!(2)));
}
