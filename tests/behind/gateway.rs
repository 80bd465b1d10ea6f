//! A real proxy before a broker.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::PATIENCE;
use crate::support::process::free_port;

/// The page whose blocks are tried here.
const PAGE: &str = include_str!("../../docs/behind-a-proxy.md");

/// A running proxy; ended when dropped.
pub struct Gateway {
    /// Where it listens, `127.0.0.1:PORT`.
    pub address: String,
    child: Child,
    directory: TempDir,
}

impl Gateway {
    /// Starts a program in a directory of its own, by what `command` makes of that directory and of the port to listen on.
    pub fn start(program: &str, command: impl FnOnce(&Path, u16, &mut Command)) -> Self {
        let (directory, port) = (tempfile::tempdir().expect("a directory"), free_port());
        let log = File::create(directory.path().join("log")).expect("a log");
        let mut proxy = Command::new(program);
        command(directory.path(), port, &mut proxy);
        let said = log.try_clone().expect("a log");
        proxy.current_dir(directory.path()).stdout(said).stderr(log);
        let child = proxy.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut gateway = Self { address: format!("127.0.0.1:{port}"), child, directory };
        gateway.wait(program);
        gateway
    }

    fn wait(&mut self, program: &str) {
        let give_up = Instant::now() + PATIENCE;
        while TcpStream::connect(&self.address).is_err() {
            let ended = self.child.try_wait().expect("it can be asked").is_some();
            let log = || fs::read_to_string(self.directory.path().join("log")).expect("a log");
            assert!(!ended && Instant::now() < give_up, "{program} does not serve: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // At SIGKILL nginx would leave its workers behind.
        let pid = self.child.id().to_string();
        _ = Command::new("kill").args(["-TERM", &pid]).status();
        let give_up = Instant::now() + Duration::from_secs(3);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < give_up {
            std::thread::sleep(Duration::from_millis(10));
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Whether a program is installed; says so where it is not. `scripts/test` installs those that Debian has.
pub fn is_installed(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&paths).any(|path| path.join(program).is_file());
    if !is_there {
        eprintln!("not tried: {program} is not installed");
    }
    is_there
}

/// The block of the page in a language, with what stands there for the reader's own replaced.
pub fn block(language: &str, own: &[(&str, String)]) -> String {
    let opening = format!("```{language}\n");
    let (_, rest) = PAGE.split_once(&opening).expect("the page has such a block");
    let (block, _) = rest.split_once("\n```").expect("it ends");
    own.iter().fold(block.to_owned(), |block, (reader, ours)| {
        assert!(block.contains(reader), "the block says {reader}: {block}");
        block.replace(reader, ours)
    })
}
