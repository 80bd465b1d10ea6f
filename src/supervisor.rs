//! The service manager that started us (systemd), and what it is told: when we serve, reload, stop, and that we live.
//!
//! The protocol is that of sd_notify(3): lines of `NAME=VALUE` in datagrams to the socket that `NOTIFY_SOCKET` names.
//! That we live is said behind a [`Beat`] alone, for which all workers and the log have answered: a broker of which a
//! part hangs says it no more, and is ended and started anew.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::rc::Rc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

/// How often it is told how we are where it watches nobody.
const USUAL: Duration = Duration::from_secs(10);

/// How long it may take to take what it is told.
const PATIENCE: Duration = Duration::from_secs(1);

/// That every part of the broker has just answered, and how it is, in a line.
pub type Beat = String;

/// Who started this process, and what it knows of us; nobody where nobody wants to.
#[derive(Clone, Default)]
pub struct Supervisor(Option<Rc<Told>>);

struct Told {
    socket: UnixDatagram,
    address: SocketAddr,
    /// How often it is to hear that we live.
    every: Duration,
    phase: Cell<Phase>,
}

/// What it was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Reloading,
    Stopping,
}

impl Supervisor {
    /// That of this process, as its environment names it.
    pub fn of_process() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        // A variable of another process may have been passed on.
        let is_ours = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|_| is_ours).map(Duration::from_micros);
        Self::at(&name, watchdog).unwrap_or_else(|error| {
            warn!("NOTIFY_SOCKET={}: {error}: nobody is told when we serve", name.display());
            Self::default()
        })
    }

    /// One that listens there, `@` for an abstract name, and ends us where it has heard nothing for this long.
    pub fn at(name: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let (address, socket) = (address(name)?, UnixDatagram::unbound()?);
        socket.set_write_timeout(Some(PATIENCE))?;
        // Of four one may be late and one be lost.
        let every = watchdog.map_or(USUAL, |limit| limit / 4);
        let phase = Cell::new(Phase::Starting);
        Ok(Self(Some(Rc::new(Told { socket, address, every, phase }))))
    }

    /// Tells it that we serve, behind the first beat, and behind others that we live, for as long as there are any.
    pub async fn attend(self, mut beats: watch::Receiver<Beat>) {
        let Some(told) = self.0 else { return };
        let mut next = Instant::now();
        while beats.changed().await.is_ok() {
            let beat = beats.borrow_and_update().clone();
            if told.phase.get() == Phase::Starting {
                told.go(Phase::Serving, &format!("READY=1\nSTATUS={}", line(&beat)));
            } else if Instant::now() >= next {
                told.say(&format!("WATCHDOG=1\nSTATUS={}", line(&beat)));
            } else {
                continue;
            }
            next = Instant::now() + told.every;
        }
    }

    /// Tells it that another configuration is being put in force, until [`Self::reloaded`].
    pub fn reloading(&self) {
        let Some(told) = self.in_phase(Phase::Serving) else { return };
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        told.go(Phase::Reloading, &format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// Tells it that we serve as before, whatever became of the other configuration.
    pub fn reloaded(&self) {
        if let Some(told) = self.in_phase(Phase::Reloading) {
            told.go(Phase::Serving, "READY=1");
        }
    }

    /// Tells it that we are about to end.
    pub fn stopping(&self) {
        if let Some(told) = &self.0 {
            told.go(Phase::Stopping, "STOPPING=1\nSTATUS=Stopping");
        }
    }

    fn in_phase(&self, phase: Phase) -> Option<&Told> {
        self.0.as_deref().filter(|told| told.phase.get() == phase)
    }
}

impl Told {
    fn go(&self, phase: Phase, message: &str) {
        self.phase.set(phase);
        if let Err(error) = self.send(message) {
            warn!("the service manager could not be told {message:?}: {error}");
        }
    }

    /// What is said again soon.
    fn say(&self, message: &str) {
        if let Err(error) = self.send(message) {
            debug!("the service manager could not be told {message:?}: {error}");
        }
    }

    fn send(&self, message: &str) -> io::Result<()> {
        self.socket.send_to_addr(message.as_bytes(), &self.address).map(drop)
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok().filter(|number| *number > 0)
}

/// The text as one line: each has a meaning of its own.
fn line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)
        }
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service manager and what it hears.
    fn listening() -> (tempfile::TempDir, UnixDatagram, Supervisor) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let supervisor = Supervisor::at(path.as_os_str(), Some(Duration::from_secs(4))).unwrap();
        (directory, socket, supervisor)
    }

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut some = [0; 4_096];
        let mut heard = Vec::new();
        while let Ok(count) = socket.recv(&mut some) {
            heard.push(String::from_utf8(some[..count].to_vec()).unwrap());
        }
        heard
    }

    /// Has a supervisor attend to beats, each in its turn.
    async fn beat(beats: &watch::Sender<Beat>, text: &str) {
        beats.send_replace(text.to_owned());
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_hears_that_we_serve_once_and_that_we_live_no_oftener_than_it_asked() {
        let (_directory, socket, supervisor) = listening();
        let (beats, beating) = watch::channel(Beat::new());
        tokio::task::LocalSet::new()
            .run_until(async {
                tokio::task::spawn_local(supervisor.attend(beating));
                beat(&beats, "").await;
                assert_eq!(heard(&socket), ["READY=1\nSTATUS="]);
                beat(&beats, "at once").await;
                assert!(heard(&socket).is_empty());
                tokio::time::advance(Duration::from_secs(1)).await;
                assert!(heard(&socket).is_empty(), "a second alone is no beat");
                beat(&beats, "a\nREADY=1").await;
                assert_eq!(heard(&socket), ["WATCHDOG=1\nSTATUS=a READY=1"]);
            })
            .await;
    }

    #[tokio::test]
    async fn a_reload_is_told_only_while_we_serve_and_a_stop_is_the_last_word() {
        let (_directory, socket, supervisor) = listening();
        supervisor.reloading();
        supervisor.reloaded();
        assert!(heard(&socket).is_empty(), "it would take us for one that serves");
        let (beats, beating) = watch::channel(Beat::new());
        beats.send_replace("fine".to_owned());
        drop(beats);
        supervisor.clone().attend(beating).await;
        assert_eq!(heard(&socket), ["READY=1\nSTATUS=fine"]);
        supervisor.reloading();
        supervisor.stopping();
        supervisor.reloaded();
        let heard = heard(&socket);
        assert!(heard[0].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{heard:?}");
        assert_eq!(heard[1..], ["STOPPING=1\nSTATUS=Stopping"]);
    }

    #[test]
    fn what_stopped_before_it_served_does_not_say_that_it_serves() {
        let (_directory, socket, supervisor) = listening();
        supervisor.stopping();
        let (beats, beating) = watch::channel(Beat::new());
        beats.send_replace("fine".to_owned());
        drop(beats);
        futures_util::future::FutureExt::now_or_never(supervisor.attend(beating)).unwrap();
        let heard = heard(&socket);
        assert!(heard.iter().all(|said| !said.contains("READY")), "{heard:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_may_have_an_abstract_name_and_no_other_kind_of_address() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("fanfare-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        Supervisor::at(OsStr::new(&format!("@{name}")), None).unwrap().stopping();
        assert_eq!(heard(&socket), ["STOPPING=1\nSTATUS=Stopping"]);
        for other in ["vsock:2:1234", "notify", "@\0", &format!("/{}", "x".repeat(200))] {
            let refused = Supervisor::at(OsStr::new(other), None).is_err();
            assert_eq!(refused, other != "@\0", "{other:?}");
        }
        // Whoever is not there any more holds nobody up.
        drop(socket);
        Supervisor::at(OsStr::new(&format!("@{name}")), None).unwrap().stopping();
    }
}
