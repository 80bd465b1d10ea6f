//! `fanfare top`: what it says of one node and of several, and how it ends.

mod support;

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::json;
use support::process::without_settings;
use support::redis::Redis;
use support::room;
use support::ws::WsClient;
use support::{API_KEY, TestServer, close, token};

/// Runs `fanfare top` to its end, with a credential.
async fn top(server: &TestServer, credential: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    without_settings(&mut command);
    command.args(["top", "--once", "--url", &server.url("")]).stdin(Stdio::null());
    if !credential.is_empty() {
        command.env("FANFARE_TOKEN", credential);
    }
    let ending = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
    ending.await.expect("no panic")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until it says something.
async fn says(server: &TestServer, what: &str) -> Output {
    for _ in 0..40 {
        let output = top(server, API_KEY).await;
        if text(&output.stdout).contains(what) {
            return output;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("it never says {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_the_nodes_and_ends_with_0_while_all_are_ready() {
    let server = TestServer::open();
    let _client = WsClient::live(&server, "?topic=a").await;
    server.publish("a", &json!(1)).await;
    let output = top(&server, "").await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.starts_with("nodes 1  sessions "), "{said}");
    assert!(said.contains(env!("CARGO_PKG_VERSION")) && !said.contains('\x1b'), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_operator_is_told_so() {
    let server = TestServer::with(close);
    for (credential, code) in [("", 1), (&token("ada", &[">", "$sys.>"], &[], 60)[..], 1)] {
        let output = top(&server, credential).await;
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(text(&output.stderr).contains("error: "), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    assert_eq!(top(&server, API_KEY).await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_named_and_ends_it_with_1() {
    let mut redis = Redis::start();
    let nodes = [room::node(&redis, 0), room::node(&redis, 0)];
    let output = says(&nodes[0], "nodes 2").await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    redis.kill();
    let output = says(&nodes[0], " redis: ").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("not ready"), "{output:?}");
}
