//! The broker as a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;

/// A running broker; killed when dropped.
pub struct Process {
    pub child: Child,
    pub address: String,
    /// Where it keeps its data, if that is its own; without it, it could not read what it stored.
    directory: Option<TempDir>,
}

impl Process {
    /// Starts a broker on a free port, with more arguments, in a directory of its own.
    pub fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        let mut process = Self::run(command, directory.path(), 0, arguments);
        process.directory = Some(directory);
        process
    }

    /// Starts a broker that keeps its data in a directory, on a port.
    pub fn durable(directory: &Path, port: u16, arguments: &[&str]) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_fanfare")), directory, port, arguments)
    }

    /// Starts a broker through another command, such as `strace`.
    pub fn run(command: Command, directory: &Path, port: u16, arguments: &[&str]) -> Self {
        let log = File::options().create(true).append(true).open(directory.join("broker.log"));
        Self::saying(log.expect("a log"), command, directory, port, arguments)
    }

    /// Starts a broker with this standard error.
    pub fn saying(
        stderr: impl Into<Stdio>,
        mut command: Command,
        directory: &Path,
        port: u16,
        arguments: &[&str],
    ) -> Self {
        without_settings(&mut command);
        let child = command
            .args(["serve", "--set", &format!("server.listen=127.0.0.1:{port}")])
            .args(["--set", &format!("history.path={}", directory.display())])
            .args(arguments)
            .current_dir(directory)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the broker starts");
        Self::greeting(child)
    }

    /// A broker that is about to say where it serves.
    pub fn greeting(mut child: Child) -> Self {
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let address = lines.find_map(|line| {
            let line = line.expect("text");
            line.split_once("://").map(|(_, address)| address.to_owned())
        });
        Self { address: address.expect("an address"), child, directory: None }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it ends")
    }

    /// What it holds in memory, in bytes.
    pub fn memory(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.child.id());
        let text = std::fs::read_to_string(path).expect("it runs");
        let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
        pages.expect("a number") * 4_096
    }

    /// The most it ever held in memory, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("a number") * 1_024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // `strace` would leave the broker behind.
        let pid = self.child.id().to_string();
        _ = Command::new("pkill").args(["-KILL", "-P", &pid]).status();
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Takes away what the environment says to the tests: it is not meant for what they start.
pub fn without_settings(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") {
            command.env_remove(name);
        }
    }
    command
}

/// A port that is free now. Not one of those that are given to who asks for any: somebody else may have been given it by
/// the time that it is used, or while a server that comes back to it is down.
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(10_000..30_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
