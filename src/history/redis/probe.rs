//! The proof that what a node sends comes back to it.
//!
//! Once a second a node publishes to a channel of its own and hears it over the connection that hears
//! the log. A connection that hears nothing is given up and replaced, even where it still stands; until
//! then the node is not ready.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::cmd;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::link::Server;

/// How often the path is tried.
const EVERY: Duration = Duration::from_secs(1);

/// Silence for so long means that the connection is dead.
const SILENCE: Duration = Duration::from_millis(2_500);

/// How many probes pass between two looks at the server's settings.
const LOOK: u32 = 5;

/// Tries the path from a node to itself.
pub(super) struct Probe {
    pub(super) server: Arc<Server>,
    pub(super) heard: watch::Receiver<Option<Instant>>,
    pub(super) deaf: Arc<Notify>,
}

impl Probe {
    /// Probes for good.
    pub(super) async fn run(self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for turn in 0_u32.. {
            ticks.tick().await;
            if is_silent(&self.heard) {
                self.deaf.notify_one();
            }
            let Ok(link) = self.server.link() else { continue };
            let mut connection = link.commands.clone();
            let mut publish = cmd("PUBLISH");
            let publish = publish.arg(self.server.probe()).arg("");
            let sent = publish.query_async::<usize>(&mut connection).await;
            if self.server.judge(&link, sent).is_ok()
                && turn.is_multiple_of(LOOK)
                && let Err(away) = self.server.look_at(&mut connection).await
            {
                self.server.give_up(&link, &away.to_string());
            }
        }
    }
}

/// Whether a node has heard itself at some time and does no longer.
fn is_silent(heard: &watch::Receiver<Option<Instant>>) -> bool {
    heard.borrow().is_some_and(|heard| heard.elapsed() > SILENCE)
}

/// Why the path can't be relied on, where that is so.
pub(super) fn trouble(heard: &watch::Receiver<Option<Instant>>) -> Option<String> {
    let is_proved = heard.borrow().is_some_and(|heard| heard.elapsed() <= SILENCE);
    (!is_proved).then(|| "what this node publishes does not come back to it".to_owned())
}
