//! Where a session went on, and what its client may not be able to take: some libraries end at a message that is
//! too large for them, come back, and end again.

use tracing::warn;

use super::stumbles::{LARGE_BYTES, Stumble, Stumbles, Verdict};
use crate::broker::SessionInfo;
use crate::clock::Instant;
use crate::metrics::Metrics;
use crate::model::{Cursor, Event};

/// Where a session went on, and the first large event after it.
pub(super) struct Resumed {
    since: Cursor,
    large: Option<(Cursor, usize)>,
    /// All of it was taken, at the last heartbeat.
    is_taken: bool,
}

impl Resumed {
    /// A session that went on from here.
    pub(super) fn at(since: Cursor) -> Self {
        Self { since, large: None, is_taken: false }
    }

    /// Notes an event that is replayed.
    pub(super) fn note(&mut self, event: &Event) {
        let bytes = event.data.json().get().len();
        if bytes >= LARGE_BYTES {
            self.large = self.large.or(event.cursor.map(|cursor| (cursor, bytes)));
        }
    }

    /// Hears at a heartbeat whether all that was replayed is taken, and the client is there: whoever is so a heartbeat
    /// later still stumbles over none of it.
    pub(super) fn is_outlived(&mut self, was_replayed: bool, was_heard: bool) -> bool {
        std::mem::replace(&mut self.is_taken, was_replayed) && was_replayed && was_heard
    }

    /// The client has left: perhaps over a large event, as it did before.
    pub(super) fn stumble(
        &self,
        info: &SessionInfo,
        stumbles: &Stumbles,
        metrics: &Metrics,
        now: Instant,
    ) {
        let Some((event, bytes)) = self.large else { return };
        let stumble = Stumble { address: info.address.clone(), since: self.since, event };
        let stumbled = stumbles.note(stumble, now);
        if stumbled != Verdict::Nothing {
            metrics.stumbles.inc();
        }
        if stumbled == Verdict::CountAndLog {
            let transport = info.transport.name();
            let address = info.address.as_deref().unwrap_or_default();
            warn!(
                address, transport, %event, bytes,
                "a client ends at the same event again and again; its library may take no message of this \
                 size: see \"What clients take\" in docs/limits.md"
            );
        }
    }
}
