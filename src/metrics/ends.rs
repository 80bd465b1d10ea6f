//! How sessions ended: each is counted by its reason, and those that somebody should look at are logged,
//! one of each reason a minute.

use prometheus_client::registry::Registry;
use tracing::{debug, info};

use super::CodeLabel;
use super::tally::Tally;
use crate::model::{Close, Ended};

/// The ends of the sessions of one node.
#[derive(Debug)]
pub struct Ends(Tally);

impl Ends {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let name = ("closes", "Sessions that ended, by code");
        let codes = Ended::all().map(Ended::name);
        Self(Tally::new(registry, name, codes, |code| CodeLabel { code }))
    }

    /// Counts the end of a session.
    pub fn note(&self, ended: Ended, session: &str, transport: &str) {
        let code = ended.name();
        debug!(session, code, "session left");
        let due = self.0.count(ended.number());
        // Clients come and go, and all of them go when the broker stops.
        let is_usual = matches!(ended, Ended::Left | Ended::Gone | Ended::Closed(Close::Restart));
        if let Some(due) = due.filter(|_| !is_usual) {
            let why = ended.message();
            info!(code, count = due.count, session, transport, "sessions ended: {why}");
        }
    }
}
