//! A Redis that lacks a command, or refuses one, is not relied on, and what is missing is said by name.

mod support;

use std::process::Command;
use std::thread;
use std::time::Duration;

use fanfare::config::{Redis as RedisConfig, Storage};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::process::without_settings;
use support::redis::Redis;
use support::{TestServer, eventually};

/// What a start says that is refused.
fn refusal(redis: &Redis, user: &str, settings: &[&str]) -> String {
    let url = format!("redis.url=redis://{user}127.0.0.1:{}", redis.port);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    without_settings(&mut command);
    command.args(["serve", "--set", "server.listen=127.0.0.1:0", "--set", &url]);
    settings.iter().for_each(|setting| _ = command.args(["--set", setting]));
    let output = command.output().expect("it runs");
    assert!(!output.status.success(), "it started");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_redis_without_a_command_is_refused_at_the_start_with_its_name() {
    let all = [
        (&["SPUBLISH"][..], &[][..]),
        (&["SSUBSCRIBE"], &[]),
        (&["EVALSHA"], &[]),
        (&["XADD", "ZADD"], &[]),
        (&["WAIT"], &["redis.wait_replicas=1"]),
    ];
    at_once(all, |_, (names, settings)| {
        let renamed = names.iter().flat_map(|name| ["--rename-command", name, ""]);
        let redis = Redis::with(&renamed.collect::<Vec<_>>());
        let said = refusal(&redis, "", settings);
        assert!(names.iter().all(|name| said.contains(name)), "{names:?}: {said}");
        assert!(said.contains("does not have"), "{said}");
    });
}

/// Tries each of them at the same time, for a start waits for a while before it is refused.
fn at_once<T: Send + Copy>(all: impl IntoIterator<Item = T>, attempt: impl Fn(usize, T) + Sync) {
    let attempt = &attempt;
    thread::scope(|scope| {
        for (number, one) in all.into_iter().enumerate() {
            scope.spawn(move || attempt(number, one));
        }
    });
}

/// A user who may do everything but this.
fn user_without(redis: &Redis, user: &str, rules: &[&str]) {
    let all = ["ACL", "SETUSER", user, "reset", "on", ">hunter2", "+@all", "~*", "&*"];
    let _: String = redis.run(&[&all, rules].concat());
}

#[test]
fn a_user_who_may_not_run_a_command_is_refused_at_the_start_with_its_name() {
    let redis = Redis::start();
    let all = [
        ("-xadd", "does not allow this user XADD"),
        ("-hset", "does not allow this user HSET"),
        ("-zmscore", "does not allow this user ZMSCORE"),
        ("-evalsha", "does not allow this user EVALSHA"),
        ("-script|load", "does not allow this user SCRIPT LOAD"),
        ("-info", "does not allow this user INFO"),
        ("-ssubscribe", "does not allow this user SSUBSCRIBE"),
        ("resetchannels", "does not allow this user SPUBLISH"),
        ("resetkeys", "does not allow this user the keys"),
    ];
    at_once(all, |number, (rule, said)| {
        let user = format!("app{number}");
        user_without(&redis, &user, &[rule]);
        let output = refusal(&redis, &format!("{user}:hunter2@"), &[]);
        assert!(output.contains(said), "{rule}: {output}");
    });
}

async fn readiness(node: &TestServer) -> (u16, String) {
    let response = node.get("/health/ready").send().await.expect("an answer");
    let status = response.status().as_u16();
    let body: Value = response.json().await.expect("JSON");
    (status, body["checks"]["history"].as_str().expect("a check").to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_user_loses_a_right_is_not_ready_before_anybody_publishes() {
    let redis = Redis::start();
    user_without(&redis, "app", &[]);
    let node = TestServer::with(|config| {
        config.rules.default.storage = Storage::Redis;
        let url = format!("redis://app:hunter2@127.0.0.1:{}", redis.port);
        config.redis = Some(RedisConfig::at(&url));
    });
    eventually("it is ready", async || readiness(&node).await.0 == 200).await;
    for (taken, given, name) in [("-xadd", "+xadd", "XADD"), ("-zmscore", "+zmscore", "ZMSCORE")] {
        let _: String = redis.run(&["ACL", "SETUSER", "app", taken]);
        eventually("it says what is refused", async || {
            let (status, reason) = readiness(&node).await;
            status == 503 && reason.contains(&format!("does not allow this user {name}"))
        })
        .await;
        let publish = node.post("/v1/topics/a/events").body("1").send().await.expect("an answer");
        let (status, body): (_, Value) = (publish.status(), publish.json().await.expect("JSON"));
        assert_eq!(
            (status, &body["code"]),
            (StatusCode::SERVICE_UNAVAILABLE, &json!("unavailable"))
        );
        assert!(body["detail"].as_str().expect("a reason").contains(name), "{body}");
        let _: String = redis.run(&["ACL", "SETUSER", "app", given]);
        eventually("it is ready again", async || readiness(&node).await.0 == 200).await;
        node.publish("a", &json!(name)).await;
    }
    // And it stays so.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(readiness(&node).await.0, 200);
}
