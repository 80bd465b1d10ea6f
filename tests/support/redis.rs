//! A real Redis of a test's own.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Connection, FromRedisValue, RedisResult, cmd};
use tempfile::TempDir;

use super::process::free_port;

/// A running `redis-server`; killed when dropped.
pub struct Redis {
    pub port: u16,
    arguments: Vec<String>,
    directory: TempDir,
    /// Where its clock is, if that is its own.
    clock: Option<TempDir>,
    child: Child,
}

impl Redis {
    /// A server that keeps nothing on disk.
    pub fn start() -> Self {
        Self::with(&["--appendonly", "no"])
    }

    /// A server whose acknowledged writes are on the disk.
    pub fn durable() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// A server that speaks TLS alone, with a certificate of its own making in its directory.
    pub fn with_tls() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
            .args(["-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .current_dir(directory.path())
            .stderr(Stdio::null())
            .status();
        assert!(made.expect("openssl is installed").success());
        let port = free_port();
        let tls = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"];
        let (tls_port, ca) = (port.to_string(), "cert.pem".to_owned());
        let mut arguments: Vec<_> = tls.iter().map(ToString::to_string).collect();
        arguments.extend(["--tls-ca-cert-file".to_owned(), ca, "--tls-auth-clients".to_owned()]);
        arguments.extend(["no".to_owned(), "--tls-port".to_owned(), tls_port]);
        let child = spawn(0, &arguments, directory.path(), None);
        let redis = Self { port, arguments, directory, clock: None, child };
        redis.wait();
        redis
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// A server that copies the one on a port.
    pub fn replica_of(port: u16) -> Self {
        let replica =
            Self::with(&["--appendonly", "no", "--replicaof", "127.0.0.1", &port.to_string()]);
        let give_up = Instant::now() + Duration::from_secs(10);
        while !replica.run::<String>(&["INFO", "replication"]).contains("master_link_status:up") {
            assert!(Instant::now() < give_up, "the replica does not reach its master");
            std::thread::sleep(Duration::from_millis(20));
        }
        replica
    }

    /// A sentinel that watches the master on a port.
    pub fn sentinel(name: &str, master: u16) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let file = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {name} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 5000\n",
        );
        std::fs::write(directory.path().join("sentinel.conf"), file).expect("it is written");
        let child = Command::new("redis-server")
            .args(["sentinel.conf", "--sentinel"])
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let sentinel = Self { port, arguments: Vec::new(), directory, clock: None, child };
        sentinel.wait();
        sentinel
    }

    /// What tells a node of it.
    pub fn settings(&self) -> Vec<String> {
        vec![format!("redis.url={}", self.url())]
    }

    pub fn with(arguments: &[&str]) -> Self {
        Self::by_clock(arguments, None)
    }

    /// A durable server whose clock is its own: ahead by so many seconds.
    pub fn ahead_by(seconds: i64) -> Self {
        let clock = tempfile::tempdir().expect("a directory");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/clock.c");
        let library = clock.path().join("clock.so");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .status();
        assert!(built.expect("cc is installed").success());
        set_clock(&clock, seconds);
        Self::by_clock(&["--appendonly", "yes", "--appendfsync", "always"], Some(clock))
    }

    /// Sets its clock ahead by so many seconds.
    pub fn set_ahead(&self, seconds: i64) {
        set_clock(self.clock.as_ref().expect("a clock of its own"), seconds);
    }

    fn by_clock(arguments: &[&str], clock: Option<TempDir>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (port, arguments) = (free_port(), arguments.iter().map(ToString::to_string).collect());
        let child = spawn(port, &arguments, directory.path(), clock.as_ref());
        let redis = Self { port, arguments, directory, clock, child };
        redis.wait();
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn wait(&self) {
        let give_up = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < give_up, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn connect(&self) -> Connection {
        let client = redis::Client::open(self.url()).expect("a URL");
        let give_up = Instant::now() + Duration::from_secs(5);
        loop {
            match client.get_connection() {
                Ok(connection) => return connection,
                // One that has just started may yet turn away who comes.
                Err(_) if Instant::now() < give_up => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => panic!("no connection: {error}"),
            }
        }
    }

    /// Runs one command: its words.
    pub fn run<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.ask(words).expect("an answer")
    }

    /// The same where it may be cut off: a sentinel does that to every client of a server that it makes a
    /// replica.
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let mut command = cmd(words[0]);
        words[1..].iter().for_each(|word| _ = command.arg(*word));
        command.query(&mut self.connect())
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Has it stand still until what this returns is dropped.
    pub fn stop(&self) -> StandsStill {
        self.signal("-STOP");
        StandsStill { pid: self.child.id() }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.signal("-KILL");
        self.child.wait().expect("it ends");
    }

    /// Starts it again on the same port and data, after it was killed.
    pub fn restart(&mut self) {
        let (directory, clock) = (self.directory.path(), self.clock.as_ref());
        self.child = spawn(self.port, &self.arguments, directory, clock);
        self.wait();
        // It may yet have to read what is on the disk.
        let give_up = Instant::now() + Duration::from_secs(10);
        while self.ask::<String>(&["PING"]).is_err_and(|error| error.code() == Some("LOADING")) {
            assert!(Instant::now() < give_up, "redis-server does not read what it has");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Copies what is on the disk.
    pub fn copy(&self) -> TempDir {
        let copied = tempfile::tempdir().expect("a directory");
        copy(self.directory.path(), copied.path());
        copied
    }

    /// Kills it, and starts it again on what was copied.
    pub fn bring_back(&mut self, copied: &TempDir) {
        self.kill();
        self.wipe();
        copy(copied.path(), self.directory.path());
        self.restart();
    }

    /// Forgets what is on the disk, while it is killed.
    pub fn wipe(&self) {
        for entry in std::fs::read_dir(self.directory.path()).expect("a directory") {
            let path = entry.expect("an entry").path();
            let removed = match path.is_dir() {
                true => std::fs::remove_dir_all(path),
                false => std::fs::remove_file(path),
            };
            removed.expect("it is removed");
        }
    }
}

/// Copies what a directory holds.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let from = entry.expect("an entry").path();
        let to = to.join(from.file_name().expect("its name"));
        if from.is_dir() {
            std::fs::create_dir(&to).expect("a directory");
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a copy");
        }
    }
}

fn set_clock(clock: &TempDir, seconds: i64) {
    // Whole or not at all, for it is read at any moment.
    let (new, file) = (clock.path().join("new"), clock.path().join("ahead"));
    std::fs::write(&new, seconds.to_string()).expect("it is written");
    std::fs::rename(new, file).expect("it is there");
}

fn spawn(port: u16, arguments: &Vec<String>, directory: &Path, clock: Option<&TempDir>) -> Child {
    let mut command = Command::new("redis-server");
    if let Some(clock) = clock {
        command.env("LD_PRELOAD", clock.path().join("clock.so"));
        command.env("CLOCK_AHEAD", clock.path().join("ahead"));
    }
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0"])
        .args(arguments)
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

/// A server stands still.
pub struct StandsStill {
    pid: u32,
}

impl Drop for StandsStill {
    fn drop(&mut self) {
        _ = Command::new("kill").args(["-CONT", &self.pid.to_string()]).status();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // One that was stopped takes no other signal.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
