//! One system given one work once: started, measured, ended.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fanfare::cli::bench::{Bench, Server, measure};

use super::certificate::Certificate;
use super::peers::{Peer, Place, STORE, Setup};
use super::trial::{Outcome, Trial};
use super::works::Work;

/// How long a system may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a system has to end by itself.
const GOOD_BYE: Duration = Duration::from_secs(10);

/// Gives a system a work.
pub fn run(peer: &Peer, work: &Work) -> Result<Trial, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let ports = [free_port()?, free_port()?, free_port()?, free_port()?];
    let certificate = work.is_over_tls.then(|| Certificate::make(directory.path())).transpose()?;
    let place = Place { directory: directory.path().to_owned(), ports, certificate };
    let setup = (peer.prepare)(work, &place)?;
    let Setup { command, others, store, target, publish_to, dialect, ready } = setup;
    let store = store.map(|store| Running::start(store, directory.path())).transpose()?;
    if store.is_some() {
        // It hangs up on HTTP.
        first_answer(place.address(STORE), Instant::now() + PATIENCE, |_| true)?;
    }
    let binary = fs::metadata(command.get_program()).ok().map(|file| file.len());
    // Some hang up on what is not TLS, which is an answer, too.
    let is_answer =
        |read: io::Result<usize>| read.is_ok_and(|length| length > 0 || work.is_over_tls);
    let begun = Instant::now();
    let running = Running::start(command, directory.path())?;
    first_answer(target.address, begun + PATIENCE, is_answer)
        .map_err(|error| format!("{error}: {}", running.last_words(directory.path())))?;
    let start = begun.elapsed();
    let mut nodes = vec![running];
    for (command, address) in others.into_iter().zip(&target.others) {
        nodes.push(Running::start(command, directory.path())?);
        first_answer(*address, Instant::now() + PATIENCE, is_answer)?;
    }
    ready()?;
    let ids = |of: &[Running]| Server::new(of.iter().map(|of| of.child.id()).collect());
    let bench = Bench {
        load: work.load,
        dialect,
        target,
        publish_to,
        server: ids(&nodes),
        store: ids(store.as_slice()),
        prefix: "bench".into(),
        watch: Box::new(|_| {}),
    };
    let outcome = measure(async {
        Ok(match work.herd {
            None => Outcome::Load(Box::new(bench.run().await?)),
            Some(herd) => Outcome::Herd(bench.come_back(herd).await?),
        })
    });
    let outcome =
        outcome.map_err(|error| format!("{error}; {}", nodes[0].last_words(directory.path())))?;
    Ok(Trial { start, binary, outcome })
}

/// A system that runs; ended when dropped.
struct Running {
    child: Child,
}

impl Running {
    fn start(mut command: Command, directory: &Path) -> Result<Self, String> {
        let log = File::options().create(true).append(true).open(directory.join("output"));
        let log = log.map_err(|error| error.to_string())?;
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

/// Waits until a server does what counts as an answer to a request in HTTP.
fn first_answer(
    address: SocketAddr,
    give_up: Instant,
    is_answer: impl Fn(io::Result<usize>) -> bool,
) -> Result<(), String> {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address) {
            _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            _ = stream
                .write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            if is_answer(stream.read(&mut [0; 64])) {
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
