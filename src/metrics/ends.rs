//! How sessions ended: each is counted by its reason, and those that somebody should look at are logged,
//! one of each reason a minute.

use prometheus_client::registry::Registry;
use tracing::{debug, info};

use super::CodeLabel;
use super::tally::{Held, Tally};
use crate::model::{Close, Ended, Summary};

/// The ends of the sessions of one node.
#[derive(Debug)]
pub struct Ends(Tally<End>);

/// The end of one session.
#[derive(Debug)]
struct End {
    session: String,
    transport: &'static str,
    why: String,
}

impl Ends {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let name = ("closes", "Sessions that ended, by code");
        let codes = Ended::all().map(Ended::name);
        Self(Tally::new(registry, name, codes, |code| CodeLabel { code }))
    }

    /// Counts the end of a session.
    pub fn note(&self, ended: Ended, session: &str, transport: &'static str) {
        debug!(session, code = ended.name(), "session left");
        // Clients come and go, and all of them go when the broker stops.
        if matches!(ended, Ended::Left | Ended::Gone | Ended::Closed(Close::Restart)) {
            return self.0.count(ended.number(), 1);
        }
        let end =
            || End { session: session.to_owned(), transport, why: ended.message().to_string() };
        self.0.tell(ended.number(), 1, end).into_iter().for_each(say);
    }

    /// How many there were, by reason.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.counts()
    }

    pub(super) fn tell_held(&self, held: Held) {
        self.0.held(held).for_each(say);
    }
}

fn say((code, Summary { count, example }): (&'static str, Summary<End>)) {
    let End { session, transport, why } = example;
    info!(code, count, session, transport, "sessions ended: {why}");
}
