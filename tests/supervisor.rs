//! What systemd is told: that the broker serves once it does, reloads, stops, and lives for as long as all of it does.

#[allow(dead_code, reason = "one of its commands is needed here")]
#[path = "parrot/client.rs"]
mod client;
#[allow(dead_code, reason = "one of its commands is needed here")]
#[path = "parrot/language.rs"]
mod language;
mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fanfare::config::{Config, Redis as RedisConfig, Storage};
use fanfare::server::Server;
use fanfare::supervisor::Supervisor;
use serde_json::json;
use support::process::Process;
use support::redis::Redis;
use support::room;
use support::{PATIENCE, TestServer, eventually};
use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use crate::client::ParrotClient;
use crate::language::{FROZEN, THAW, WITH_PARROT};

/// A service manager.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    _directory: TempDir,
}

impl Manager {
    fn listen() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Self { socket, path, _directory: directory }
    }

    /// The next that it is told.
    async fn next(&self) -> String {
        let mut some = [0; 4_096];
        let count = timeout(PATIENCE, self.socket.recv(&mut some)).await;
        let count = count.expect("something is told in time").expect("a datagram");
        String::from_utf8(some[..count].to_vec()).expect("text")
    }

    /// Waits until it is told something that begins so, and tells what that was.
    async fn until(&self, begin: &str) -> String {
        loop {
            let told = self.next().await;
            if told.starts_with(begin) {
                return told;
            }
            assert!(told.starts_with("WATCHDOG=1\n"), "before {begin}: {told}");
        }
    }

    /// How often it was told something by now.
    fn waiting(&self) -> usize {
        let mut some = [0; 4_096];
        std::iter::from_fn(|| self.socket.try_recv(&mut some).ok()).count()
    }

    /// A broker that this manager starts.
    fn start(&self, arguments: &[&str]) -> (Process, TempDir) {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", "1000000");
        let broker = Process::run(command, directory.path(), 0, arguments);
        (broker, directory)
    }
}

/// Runs `systemd-analyze`, if it is installed, on the unit as it is installed; what it says, once it finds it good.
fn analyzed(arguments: &[&str]) -> Option<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let unit = include_str!("../deploy/systemd/fanfare.service");
    let file = directory.path().join("fanfare.service");
    let unit = unit.replace("/usr/bin/fanfare", env!("CARGO_BIN_EXE_fanfare"));
    std::fs::write(&file, unit).expect("written");
    let more = directory.path().join("fanfare.service.d");
    std::fs::create_dir(&more).expect("a directory");
    let credentials = include_str!("../deploy/systemd/credentials.conf");
    std::fs::write(more.join("credentials.conf"), credentials).expect("written");
    let mut command = Command::new("systemd-analyze");
    let path = format!("{}:", directory.path().display());
    let output = match command.env("SYSTEMD_UNIT_PATH", path).args(arguments).arg(&file).output() {
        Err(_) => {
            eprintln!("systemd-analyze is not installed: left out");
            return None;
        }
        Ok(output) => output,
    };
    let [out, err] = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
    assert!(output.status.success() && err.is_empty(), "{arguments:?}: {err}{out}");
    Some(out.into_owned())
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit_and_little_that_it_exposes() {
    analyzed(&["verify", "--man=no"]);
    // Of 10; what is left is the network.
    let said = analyzed(&["security", "--offline=true", "--no-pager", "--threshold=20"]);
    let is_judged = said.as_deref().is_none_or(|said| said.contains("Overall exposure level"));
    assert!(is_judged, "{said:?}");
}

#[test]
fn the_unit_waits_longer_than_a_stop_may_take_and_asks_for_beats_that_come() {
    let unit = include_str!("../deploy/systemd/fanfare.service");
    let seconds = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let value = line.and_then(|value| value.strip_suffix('s'));
        value.and_then(|value| value.parse::<u64>().ok()).expect(key)
    };
    let config = Config::default();
    let stop = config.server.shutdown_grace + config.limits.close_timeout;
    // Half a minute is for `server.shutdown_delay`.
    assert!(Duration::from_secs(seconds("TimeoutStopSec")) > stop + Duration::from_secs(33));
    assert!(seconds("WatchdogSec") >= 10, "a beat comes once a second, of a busy machine later");
}

/// The value of a member of what is told.
fn member<'a>(told: &'a str, name: &str) -> &'a str {
    let member = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    member.unwrap_or_else(|| panic!("{name} in {told:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_of_the_whole_life_of_a_broker() {
    let manager = Manager::listen();
    let (mut broker, _directory) = manager.start(&["--set", "server.shutdown_delay=1s"]);
    let ready = manager.next().await;
    assert_eq!(ready, "READY=1\nSTATUS=Serving, sessions: 0");
    let answer = reqwest::get(broker.url("/health/ready")).await.expect("an answer at once");
    assert_eq!(answer.status(), 200);
    manager.until("WATCHDOG=1\n").await;
    broker.signal("-HUP");
    let reloading = manager.until("RELOADING=1\n").await;
    let micros: u64 = member(&reloading, "MONOTONIC_USEC").parse().expect("a number");
    let uptime = std::fs::read_to_string("/proc/uptime").expect("the age of the machine");
    let uptime: f64 = uptime.split(' ').next().and_then(|age| age.parse().ok()).expect("an age");
    assert!(micros as f64 <= uptime * 1e6 + 1e6, "{micros} µs, and the machine is {uptime} s old");
    assert_eq!(manager.until("READY=1").await, "READY=1");
    broker.signal("-TERM");
    manager.until("STOPPING=1\n").await;
    // It serves on for a while, and lives.
    let living = manager.until("WATCHDOG=1\n").await;
    assert_eq!(member(&living, "STATUS"), "Not ready: serving: the broker is stopping");
    assert!(broker.wait().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_with_an_error_ends_the_reload_all_the_same() {
    let manager = Manager::listen();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("fanfare.toml");
    std::fs::write(&file, "").expect("written");
    let (broker, _home) = manager.start(&["--config", file.to_str().expect("text")]);
    manager.until("READY=1\n").await;
    std::fs::write(&file, "[server]\nno_such_key = 1\n").expect("written");
    broker.signal("-HUP");
    manager.until("RELOADING=1\n").await;
    assert_eq!(manager.until("READY=1").await, "READY=1");
}

#[tokio::test]
async fn a_broker_that_does_not_start_says_nothing() {
    let manager = Manager::listen();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let home = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    support::process::without_settings(&mut command).current_dir(home.path());
    command.env("NOTIFY_SOCKET", &manager.path).args(["serve", "--listen", &address]);
    let ended = command.output().expect("it runs");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(manager.waiting(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_is_not_there_or_can_not_be_reached_holds_nobody_up() {
    for name in ["/nowhere/notify", "vsock:2:1234", "", "@fanfare-nobody"] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.env("NOTIFY_SOCKET", name).env("WATCHDOG_USEC", "often");
        let mut broker = Process::run(command, directory.path(), 0, &[]);
        let answer = reqwest::get(broker.url("/health/ready")).await.expect("an answer");
        assert_eq!(answer.status(), 200, "{name:?}");
        broker.signal("-TERM");
        assert!(broker.wait().success(), "{name:?}");
    }
}

#[tokio::test]
async fn it_hears_nothing_while_one_worker_of_several_hangs() {
    let server = TestServer::speaking(WITH_PARROT, |config| config.server.workers = 3);
    let manager = Manager::listen();
    // So often that each beat is told.
    let often = Some(Duration::from_micros(4));
    let supervisor = Supervisor::at(manager.path.as_os_str(), often).expect("a supervisor");
    LocalSet::new()
        .run_until(async {
            spawn_local(supervisor.attend(server.beats.clone()));
            manager.until("READY=1\n").await;
            manager.until("WATCHDOG=1\n").await;
            let mut client = ParrotClient::greeted(&server, "reds", "").await;
            client.send(&[json!({ "freeze": true })]).await;
            eventually("a worker hangs", async || FROZEN.load(Ordering::Relaxed) == 1).await;
            // One beat may have been under way. What never comes can but be waited for for a while.
            sleep(Duration::from_secs(4)).await;
            assert!(manager.waiting() <= 1);
            THAW.store(true, Ordering::Relaxed);
            manager.until("WATCHDOG=1\n").await;
        })
        .await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_is_said_and_is_no_hang_of_the_broker() {
    let redis = Redis::start();
    let node = room::node(&redis, 0);
    let mut beats = node.beats.clone();
    let mut until = async |begin: &str| {
        while !beats.borrow_and_update().starts_with(begin) {
            let beat = timeout(PATIENCE, beats.changed()).await.expect("it lives");
            beat.expect("it beats");
        }
        timeout(PATIENCE, beats.changed()).await.expect("it goes on").expect("it beats");
    };
    // A start waits for Redis, and gives up without it.
    until("Serving").await;
    let _still = redis.stop();
    until("Not ready: history: ").await;
    until("Not ready: history: ").await;
}

#[test]
fn nothing_is_heard_of_a_broker_that_listens_and_does_not_serve_yet() {
    let redis = Redis::start();
    let mut config = Config::default();
    config.server.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.redis = Some(RedisConfig::at(&redis.url()));
    config.rules.default.storage = Storage::Redis;
    actix_web::rt::System::new().block_on(async {
        let server = Server::build(config).expect("it listens");
        let beats = server.beats();
        // It may not let anyone in before it knows who was revoked, and gives that up after a while.
        let _still = redis.stop();
        server.run_until(std::future::pending()).await.expect_err("it never serves");
        assert_eq!(*beats.borrow(), "");
    });
}
