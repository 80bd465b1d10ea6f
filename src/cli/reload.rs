//! Looking for another configuration while the broker serves.
//!
//! On SIGHUP, and when a file of the configuration changes, all its sources are read again. A configuration
//! with an error is not put in force: the log says why, and the old one stays.

use std::fs::metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::config::{Loaded, Sources, load_with_origins, needs_restart};
use crate::server::Reload;
use crate::supervisor::Supervisor;

/// How often files are looked at. One that is being written is read when it has been left alone for as
/// long.
const LOOK: Duration = Duration::from_secs(1);

/// What shows that a file is another one, or has other content: its place, its size and its time.
type Stamp = Option<(u64, u64, i64, i64)>;

/// What changed though no key did: the certificate in the files that are named.
fn renewed(new: &Loaded, old: &Loaded) -> Option<String> {
    let [new, old] = [new, old].map(|loaded| loaded.config.server.certificate.as_ref());
    let [new, old] = [new?, old?];
    let is_other = new.files == old.files && new.key.cert != old.key.cert;
    is_other.then(|| format!("the certificate in {}", new.files[0].display()))
}

/// The watch over the configuration of a broker that serves.
pub struct Watch {
    sources: Sources,
    at_start: Loaded,
    in_force: Loaded,
    reload: Reload,
    supervisor: Supervisor,
    hangup: Signal,
    /// The files as they were when they were last read.
    read: Vec<Stamp>,
    /// The files as they were when they were last looked at.
    seen: Vec<Stamp>,
}

impl Watch {
    /// A watch over what was loaded from `sources`. SIGHUP no longer ends the process once this exists.
    pub fn new(
        sources: Sources,
        loaded: Loaded,
        reload: Reload,
        supervisor: Supervisor,
    ) -> io::Result<Self> {
        let hangup = signal(SignalKind::hangup())?;
        reload.tell(&loaded, Vec::new());
        let at_start = loaded.clone();
        let mut watch = Self {
            sources,
            at_start,
            in_force: loaded,
            reload,
            supervisor,
            hangup,
            read: Vec::new(),
            seen: Vec::new(),
        };
        watch.read = watch.stamps();
        watch.seen = watch.read.clone();
        Ok(watch)
    }

    /// Watches for good.
    pub async fn run(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                heard = self.hangup.recv() => {
                    if heard.is_none() {
                        return;
                    }
                }
                _ = looks.tick() => {
                    if !self.has_changed() {
                        continue;
                    }
                }
            }
            self.read = self.stamps();
            self.supervisor.reloading();
            self.load().await;
            self.supervisor.reloaded();
        }
    }

    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |path: &Path| {
            let file = metadata(path).ok()?;
            Some((file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
        };
        let certificate = self.in_force.config.server.certificate.iter();
        let files = certificate.flat_map(|certificate| &certificate.files);
        files.chain(&self.sources.file).map(|path| stamp(path)).collect()
    }

    /// Whether a file is another than when it was read, and has been left alone since the last look.
    fn has_changed(&mut self) -> bool {
        let now = self.stamps();
        let is_settled = now == self.seen;
        self.seen = now;
        is_settled && self.seen != self.read
    }

    /// Reads everything again.
    async fn load(&mut self) {
        let loaded = match load_with_origins(&self.sources) {
            Ok(loaded) => loaded,
            Err(problems) => {
                for problem in problems.problems() {
                    error!(
                        "the configuration was not reloaded, the old one is in force: {problem}"
                    );
                }
                return;
            }
        };
        if let Err(reason) = self.reload.apply(&loaded.config).await {
            error!("the configuration was not reloaded, the old one is in force: {reason}");
            return;
        }
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        let waiting = loaded.changes(&self.at_start).into_iter();
        let waiting: Vec<_> = waiting.filter(|key| needs_restart(key)).collect();
        for key in &waiting {
            warn!("{key} is not what the broker was started with: that needs a restart");
        }
        self.reload.tell(&loaded, waiting);
        let changed = loaded.changes(&self.in_force);
        let changed = changed.into_iter().filter(|key| !needs_restart(key));
        let changed: Vec<_> = changed.chain(renewed(&loaded, &self.in_force)).collect();
        match changed[..] {
            [] => info!("the configuration was read again, and is as it was"),
            _ => info!(changed = changed.join(", "), "the configuration was reloaded"),
        }
        self.in_force = loaded;
        self.read = self.stamps();
    }
}
