//! Which other nodes are there.
//!
//! A node renews its lease by each heartbeat that others hear; one that is silent for a whole lease is gone.
//! While a node does not hear itself it can't judge others: then no lease ends, and when it hears itself
//! again each begins anew. Pure state: who hears brings the clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::model::LogName;

/// How long a node counts as there without a word from it.
pub(super) const LEASE: Duration = Duration::from_secs(5);

/// Silence for so long means that a connection is dead.
pub(super) const SILENCE: Duration = Duration::from_millis(2_500);

/// The other nodes, as one node hears them.
#[derive(Debug, Default)]
pub(super) struct Leases {
    heard_myself: Option<Instant>,
    heard_others: HashMap<LogName, Instant>,
}

impl Leases {
    /// This node hears itself.
    pub(super) fn hear_myself(&mut self, now: Instant) {
        if self.is_deaf(now) {
            self.heard_others.values_mut().for_each(|heard| *heard = now);
        }
        self.heard_myself = Some(now);
    }

    /// This node does not hear any more.
    pub(super) fn lose_hearing(&mut self) {
        self.heard_myself = None;
    }

    /// Another node is there.
    pub(super) fn hear(&mut self, node: LogName, now: Instant) {
        self.heard_others.insert(node, now);
    }

    /// Another node has said good-bye.
    pub(super) fn end(&mut self, node: LogName) {
        self.heard_others.remove(&node);
    }

    /// The other nodes whose lease runs.
    pub(super) fn others(&mut self, now: Instant) -> Vec<LogName> {
        if !self.is_deaf(now) {
            self.heard_others.retain(|_, heard| now.saturating_duration_since(*heard) <= LEASE);
        }
        self.heard_others.keys().copied().collect()
    }

    /// Whether this node does not hear itself, or not for long.
    pub(super) fn is_deaf(&self, now: Instant) -> bool {
        self.heard_myself.is_none_or(|heard| now.saturating_duration_since(heard) > SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn node(text: &str) -> LogName {
        LogName::parse(text).unwrap()
    }

    #[test]
    fn a_silent_node_is_there_for_one_lease_and_one_that_says_good_bye_is_gone() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        leases.hear_myself(start);
        leases.hear(node("aaaaaaaa"), start);
        leases.hear(node("bbbbbbbb"), start);
        leases.end(node("bbbbbbbb"));
        for second in 1..=5 {
            leases.hear_myself(start + second * SECOND);
            assert_eq!(leases.others(start + second * SECOND), [node("aaaaaaaa")]);
        }
        leases.hear_myself(start + 6 * SECOND);
        assert_eq!(leases.others(start + 6 * SECOND), []);
    }

    #[test]
    fn no_lease_ends_while_nothing_is_heard_nor_before_one_full_lease_after_that() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        leases.hear_myself(start);
        leases.hear(node("aaaaaaaa"), start);
        assert_eq!(leases.others(start + 30 * SECOND).len(), 1);
        for second in 30..=35 {
            leases.hear_myself(start + second * SECOND);
            assert_eq!(leases.others(start + second * SECOND).len(), 1, "{second}");
        }
        leases.hear_myself(start + 36 * SECOND);
        assert_eq!(leases.others(start + 36 * SECOND), []);
    }

    #[test]
    fn a_connection_that_is_replaced_at_once_renews_leases_too() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        leases.hear_myself(start);
        leases.hear(node("aaaaaaaa"), start);
        leases.hear_myself(start + 2 * SECOND);
        leases.hear_myself(start + 4 * SECOND);
        leases.lose_hearing();
        leases.hear_myself(start + 5 * SECOND);
        leases.hear_myself(start + 7 * SECOND);
        leases.hear_myself(start + 9 * SECOND);
        assert_eq!(leases.others(start + 10 * SECOND).len(), 1);
    }
}
