//! The proof that what a node sends comes back to it.
//!
//! Once a second a node says that it is there, and hears it over the connection that hears the log. A
//! connection that hears nothing is given up and replaced, even where it still stands; until then the
//! node is not ready.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::away::Away;
use super::link::Server;
use crate::clock::Rounds;

/// How often the path is tried.
const EVERY: Duration = Duration::from_secs(1);

/// How many probes pass between two looks at the server's settings.
const LOOK: u32 = 5;

/// Tries the path from a node to itself.
pub(super) struct Probe {
    pub(super) server: Arc<Server>,
    pub(super) deaf: Arc<Notify>,
}

impl Probe {
    /// Probes for good.
    pub(super) async fn run(self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Who said nothing has nothing to hear.
        let (mut rounds, mut has_said) = (Rounds::default(), false);
        for turn in 0_u32.. {
            let due = ticks.tick().await;
            if rounds.may_judge(due) && has_said && self.server.nodes.is_silent() {
                self.deaf.notify_one();
            }
            has_said = false;
            let Ok(link) = self.server.link() else { continue };
            let said = self.server.say_hello(&link).await;
            has_said = self.server.judge(&link, said).is_ok();
            if has_said
                && turn.is_multiple_of(LOOK)
                && let Err(away) = self.server.look_at(&mut link.commands.clone()).await
            {
                self.server.give_up(&link, &away.to_string());
            }
        }
    }
}

/// Why the path can't be relied on, where that is so.
pub(super) fn trouble(server: &Server) -> Option<String> {
    let is_deaf = server.nodes.is_deaf();
    is_deaf.then(|| {
        let reason = server.deafness().map_or(String::new(), |Away(reason)| format!(": {reason}"));
        format!("what this node publishes does not come back to it{reason}")
    })
}
