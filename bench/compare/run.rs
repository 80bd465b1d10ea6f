//! One system given one work once: started, measured, ended.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fanfare::cli::bench::{Bench, Server, measure};

use super::peers::{Peer, Place, Setup};
use super::trial::Trial;
use super::works::Work;

/// How long a system may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a system has to end by itself.
const GOOD_BYE: Duration = Duration::from_secs(10);

/// Gives a system a work.
pub fn run(peer: &Peer, work: &Work) -> Result<Trial, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let ports = [free_port()?, free_port()?];
    let place = Place { directory: directory.path().to_owned(), ports };
    let setup = (peer.prepare)(work, &place)?;
    let Setup { command, target, publish_to, dialect } = setup;
    let binary = fs::metadata(command.get_program()).ok().map(|file| file.len());
    let begun = Instant::now();
    let running = Running::start(command, directory.path())?;
    first_answer(target.address, begun + PATIENCE)
        .map_err(|error| format!("{error}: {}", running.last_words(directory.path())))?;
    let start = begun.elapsed();
    let bench = Bench {
        load: work.load,
        dialect,
        target,
        publish_to,
        server: Server::new(vec![running.child.id()]),
        prefix: "bench".into(),
        watch: Box::new(|_| {}),
    };
    let report = measure(bench.run())
        .map_err(|error| format!("{error}; {}", running.last_words(directory.path())))?;
    Ok(Trial { start, binary, report })
}

/// A system that runs; ended when dropped.
struct Running {
    child: Child,
}

impl Running {
    fn start(mut command: Command, directory: &Path) -> Result<Self, String> {
        let log = File::create(directory.join("output")).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn().map_err(|error| {
            format!("{} can't be started: {error}", command.get_program().display())
        })?;
        Ok(Self { child })
    }

    /// The end of what it wrote.
    fn last_words(&self, directory: &Path) -> String {
        let text = ["output", "error.log"]
            .map(|name| fs::read_to_string(directory.join(name)).unwrap_or_default())
            .join("\n");
        let lines: Vec<_> = text.lines().rev().filter(|line| !line.is_empty()).take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        // Asked first, so that it can end its own children.
        _ = Command::new("kill").args(["-TERM", &id]).status();
        let give_up = Instant::now() + GOOD_BYE;
        while Instant::now() < give_up {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Waits until a server answers anything at all.
fn first_answer(address: SocketAddr, give_up: Instant) -> Result<(), String> {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address) {
            _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            _ = stream
                .write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            if stream.read(&mut [0; 64]).is_ok_and(|length| length > 0) {
                return Ok(());
            }
        }
        if Instant::now() > give_up {
            return Err("it does not answer".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}
