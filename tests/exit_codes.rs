//! The exit codes that `docs/operating.md` promises: each of each command.

mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use support::TestServer;
use support::process::{Process, free_port, without_settings};

/// A token that nobody signed.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2ln";

/// Runs a command to its end: its exit code, and what it said.
async fn run(arguments: &[&str], change: impl FnOnce(&mut Command)) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    without_settings(&mut command).args(arguments).current_dir(std::env::temp_dir());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    change(&mut command);
    let ending = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
    let output = ending.await.expect("no panic");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What was tried: which commands ended with which codes.
#[derive(Default)]
struct Tried(BTreeSet<(String, i32)>);

impl Tried {
    async fn ends(&mut self, code: i32, arguments: &[&str]) {
        self.ends_with(code, arguments, |_| {}).await;
    }

    async fn ends_with(
        &mut self,
        code: i32,
        arguments: &[&str],
        change: impl FnOnce(&mut Command),
    ) {
        let (ended, said) = run(arguments, change).await;
        assert_eq!(ended, Some(code), "{arguments:?}: {said}");
        self.0.insert((arguments[0].to_owned(), code));
    }
}

fn full() -> File {
    File::options().write(true).open("/dev/full").expect("a full disk")
}

/// Each code of each command in the docs.
fn promised() -> BTreeSet<(String, i32)> {
    let docs = include_str!("../docs/operating.md");
    let rows = docs.lines().skip_while(|line| *line != "| command | 0 | 1 | 2 |").skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    let commands = rows.filter_map(|row| row.split('`').nth(1));
    commands.flat_map(|command| (0..3).map(|code| (command.to_owned(), code))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_ends_with_the_codes_that_the_docs_promise() {
    let (open, closed) = (TestServer::open(), TestServer::closed());
    open.publish("kept", &json!(1)).await;
    let (open, closed) = (open.url(""), closed.url(""));
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let mut tried = Tried::default();
    of_the_broker(&mut tried).await;
    of_clients(&mut tried, [&open, &closed, &nobody]).await;
    of_the_rest(&mut tried).await;
    assert_eq!(tried.0, promised());
}

async fn of_the_broker(tried: &mut Tried) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut broker = Process::durable(directory.path(), 0, &[]);
    let taken = broker.address.clone();
    let path = format!("history.path={}", directory.path().display());
    let other = format!("history.path={}", directory.path().join("other").display());
    let copy = directory.path().join("copy.db").display().to_string();
    tried.ends(1, &["serve", "--listen", &taken, "--set", &other]).await;
    tried.ends(2, &["serve", "--set", "no.such=1"]).await;
    tried.ends(2, &["serve", "--no-such-flag"]).await;
    tried.ends(0, &["backup", "--set", &path, "--to", &copy]).await;
    tried.ends(1, &["backup", "--set", &path, "--to", &copy]).await;
    tried.ends(2, &["backup", "--set", "redis.url=redis://127.0.0.1:1", "--to", &copy]).await;
    let url = broker.url("");
    tried.ends(0, &["health", "--listen", &taken]).await;
    tried.ends(0, &["health", "--ready", "--url", &url]).await;
    tried.ends(1, &["health", "--url", "http://127.0.0.1:1"]).await;
    tried.ends(2, &["health", "--listen", &taken, "--url", &url]).await;
    tried.ends(2, &["health", "--set", "no.such=1"]).await;
    broker.signal("-TERM");
    assert_eq!(broker.wait().code(), Some(0));
    tried.0.insert(("serve".to_owned(), 0));
    assert!(Path::new(&copy).exists());
    tried.ends(0, &["check"]).await;
    tried.ends(1, &["check", "--url", "http://127.0.0.1:1"]).await;
    tried.ends(2, &["check", "--set", "no.such=1"]).await;
}

async fn of_clients(tried: &mut Tried, [open, closed, nobody]: [&str; 3]) {
    tried.ends(0, &["publish", "--url", open, "a", "1"]).await;
    tried.ends(1, &["publish", "--url", closed, "a", "1"]).await;
    tried.ends(1, &["publish", "--url", nobody, "--retry-for", "1ms", "a", "1"]).await;
    tried.ends(2, &["publish", "--url", open, "a..b", "1"]).await;
    tried.ends(0, &["subscribe", "--url", open, "kept", "--snapshot", "--count", "1"]).await;
    tried.ends_with(1, &["subscribe", "--url", closed, "a"], with_token).await;
    tried.ends(2, &["subscribe", "--url", open]).await;
    tried.ends(0, &["history", "--url", open, "kept"]).await;
    tried.ends(1, &["history", "--url", closed, "kept"]).await;
    tried.ends(1, &["history", "--url", nobody, "kept"]).await;
    tried.ends(2, &["history", "--url", open, "a..b"]).await;
    tried.ends(0, &["top", "--once", "--url", open]).await;
    tried.ends(1, &["top", "--once", "--url", closed]).await;
    tried.ends(1, &["top", "--once", "--url", nobody]).await;
    tried.ends(2, &["top", "--url", "ftp://127.0.0.1"]).await;
    let bench = ["bench", "--warmup", "50ms", "--duration", "100ms", "-s", "2", "--url"];
    tried.ends(0, &[&bench[..], &[open]].concat()).await;
    tried.ends(1, &[&bench[..], &[nobody]].concat()).await;
    tried.ends(2, &["bench", "--rate", "often"]).await;
}

/// A token that no broker takes.
fn with_token(command: &mut Command) {
    command.env("FANFARE_TOKEN", TOKEN);
}

async fn of_the_rest(tried: &mut Tried) {
    tried.ends(0, &["token", "key"]).await;
    let secret = "auth.jwt_secret=a secret of at least thirty-two bytes";
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    std::io::Write::write_all(&mut writer, TOKEN.as_bytes()).expect("written");
    drop(writer);
    tried.ends_with(1, &["token", "explain", "--set", secret], |it| _ = it.stdin(reader)).await;
    tried.ends(2, &["token", "make", "--sub", "ada"]).await;
    for command in ["completion", "man"] {
        let arguments: &[&str] = if command == "man" { &["man"] } else { &["completion", "bash"] };
        tried.ends(0, arguments).await;
        tried.ends_with(1, arguments, |it| _ = it.stdout(full())).await;
        tried.ends(2, &[command, "--no-such-flag"]).await;
    }
}
