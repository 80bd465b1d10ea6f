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
    others: HashMap<LogName, Other>,
}

/// Another node.
#[derive(Debug)]
struct Other {
    heard: Instant,
    /// The highest form of entries that it says it reads.
    reads: u8,
}

impl Leases {
    /// This node hears itself.
    pub(super) fn hear_myself(&mut self, now: Instant) {
        if self.is_deaf(now) {
            self.others.values_mut().for_each(|other| other.heard = now);
        }
        self.heard_myself = Some(now);
    }

    /// This node does not hear any more.
    pub(super) fn lose_hearing(&mut self) {
        self.heard_myself = None;
    }

    /// Another node is there. Until it says what it reads, that is the first form.
    pub(super) fn hear(&mut self, node: LogName, now: Instant) {
        self.others.entry(node).or_insert(Other { heard: now, reads: 1 }).heard = now;
    }

    /// Another node is there, and says up to which form it reads entries; one of an earlier release says nothing.
    pub(super) fn hear_form(&mut self, node: LogName, reads: Option<u8>, now: Instant) {
        self.others.insert(node, Other { heard: now, reads: reads.unwrap_or(1) });
    }

    /// A node that does not read entries of a form.
    pub(super) fn without(&mut self, form: u8, now: Instant) -> Option<LogName> {
        self.end_leases(now);
        let less = self.others.iter().filter(|(_, other)| other.reads < form);
        less.map(|(node, _)| *node).min()
    }

    /// Another node has said good-bye.
    pub(super) fn end(&mut self, node: LogName) {
        self.others.remove(&node);
    }

    /// The other nodes whose lease runs.
    pub(super) fn others(&mut self, now: Instant) -> Vec<LogName> {
        self.end_leases(now);
        self.others.keys().copied().collect()
    }

    fn end_leases(&mut self, now: Instant) {
        if !self.is_deaf(now) {
            self.others.retain(|_, other| now.saturating_duration_since(other.heard) <= LEASE);
        }
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

    #[test]
    fn the_form_that_all_read_is_that_of_the_node_that_says_least() {
        let (mut leases, now) = (Leases::default(), Instant::now());
        let (old, new, unknown) = (node("aaaaaaaa"), node("bbbbbbbb"), node("cccccccc"));
        leases.hear_myself(now);
        assert_eq!(leases.without(2, now), None, "nobody else is there");
        leases.hear_form(new, Some(2), now);
        assert_eq!((leases.without(2, now), leases.without(3, now)), (None, Some(new)));
        // Who asks or answers has not said what it reads.
        leases.hear(new, now);
        leases.hear(unknown, now);
        assert_eq!((leases.without(1, now), leases.without(2, now)), (None, Some(unknown)));
        leases.hear_form(unknown, Some(2), now);
        assert_eq!(leases.without(2, now), None);
        leases.hear_form(old, None, now);
        assert_eq!(leases.without(2, now), Some(old));
        leases.end(old);
        assert_eq!(leases.without(2, now), None);
    }
}
