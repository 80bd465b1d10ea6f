//! Which other nodes are there.
//!
//! A node renews its lease by each heartbeat that others hear; one that is silent for a whole lease is gone.
//! While a node does not hear itself it can't judge others: then no lease ends, and when it hears itself
//! again each begins anew. Nodes of all databases of a Redis hear each other; a neighbour is one that does not say
//! that it is of another. Pure state: who hears brings the clock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::model::LogName;

/// How long a node counts as there without a word from it.
pub(super) const LEASE: Duration = Duration::from_secs(5);

/// How long it is remembered when a lease ended.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// Silence for so long means that a connection is dead.
pub(super) const SILENCE: Duration = Duration::from_millis(2_500);

/// The other nodes, as one node hears them.
#[derive(Debug, Default)]
pub(super) struct Leases {
    database: i64,
    heard_myself: Option<Instant>,
    /// Since when it does without a break.
    hears_since: Option<Instant>,
    others: HashMap<LogName, Other>,
    /// When the leases of those ended that were here.
    ended: HashMap<LogName, Instant>,
}

/// Another node.
#[derive(Debug)]
struct Other {
    heard: Instant,
    /// None until it has said something of itself.
    word: Option<Word>,
}

/// What a node says of itself, once a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    /// The highest form of entries that it reads.
    pub(super) reads: u8,
    /// The database of its log; one of an earlier release does not say.
    pub(super) database: Option<i64>,
}

impl Word {
    /// What follows the name of a node: a byte of the form, which the earliest releases leave out, for they read
    /// the first, and the digits of the database.
    pub(super) fn read(body: &[u8]) -> Self {
        let (reads, digits) = body.split_first().unwrap_or((&1, &[]));
        let database = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        Self { reads: *reads, database }
    }

    /// The same, to be sent.
    pub(super) fn write(self) -> Vec<u8> {
        let digits = self.database.map_or(String::new(), |database| database.to_string());
        [&[self.reads], digits.as_bytes()].concat()
    }
}

impl Leases {
    /// Nobody yet, for a node whose log is in a database.
    pub(super) fn in_database(database: i64) -> Self {
        Self { database, ..Self::default() }
    }

    /// This node hears itself.
    pub(super) fn hear_myself(&mut self, now: Instant) {
        if self.is_deaf(now) {
            self.others.values_mut().for_each(|other| other.heard = now);
            self.hears_since = Some(now);
        }
        self.heard_myself = Some(now);
    }

    /// This node does not hear any more.
    pub(super) fn lose_hearing(&mut self) {
        self.heard_myself = None;
    }

    /// Another node is there. Until it says what it reads, that is the first form.
    pub(super) fn hear(&mut self, node: LogName, now: Instant) {
        self.others.entry(node).or_insert(Other { heard: now, word: None }).heard = now;
    }

    /// Another node is there, and says something of itself.
    pub(super) fn hear_word(&mut self, node: LogName, word: Word, now: Instant) {
        self.others.insert(node, Other { heard: now, word: Some(word) });
    }

    /// A neighbour that does not read entries of a form.
    pub(super) fn without(&mut self, form: u8, now: Instant) -> Option<LogName> {
        self.end_leases(now);
        let reads = |other: &Other| other.word.map_or(1, |word| word.reads);
        let less = self.neighbours().filter(|(_, other)| reads(other) < form);
        less.map(|(node, _)| *node).min()
    }

    /// Whether a node is there that does not say in which database its log is, so that it may be a neighbour which
    /// hears the channel of all alone. That is the channel of the first.
    pub(super) fn has_earlier(&mut self, now: Instant) -> bool {
        self.end_leases(now);
        let is_earlier = |other: &Other| other.word.is_some_and(|word| word.database.is_none());
        self.database != 0 && self.others.values().any(is_earlier)
    }

    /// Whether a node has said that its log is in another database.
    pub(super) fn is_stranger(&self, node: LogName) -> bool {
        self.others.get(&node).is_some_and(|other| !self.is_neighbour(other))
    }

    fn is_neighbour(&self, other: &Other) -> bool {
        let database = other.word.and_then(|word| word.database);
        database.is_none_or(|database| database == self.database)
    }

    fn neighbours(&self) -> impl Iterator<Item = (&LogName, &Other)> {
        self.others.iter().filter(|(_, other)| self.is_neighbour(other))
    }

    /// Another node has said good-bye.
    pub(super) fn end(&mut self, node: LogName, now: Instant) {
        self.others.remove(&node);
        self.ended.insert(node, now);
    }

    /// Since when a node is not there any more, as far as this one can tell. One of which nothing was ever heard, for a whole
    /// lease, was gone before this one began to hear.
    pub(super) fn absent_since(&mut self, node: LogName, now: Instant) -> Option<Instant> {
        self.end_leases(now);
        if self.is_deaf(now) || self.others.contains_key(&node) {
            return None;
        }
        let never_heard =
            self.hears_since.filter(|since| now.saturating_duration_since(*since) > LEASE);
        self.ended.get(&node).copied().or(never_heard)
    }

    /// The neighbours whose lease runs.
    pub(super) fn others(&mut self, now: Instant) -> Vec<LogName> {
        self.end_leases(now);
        self.neighbours().map(|(node, _)| *node).collect()
    }

    fn end_leases(&mut self, now: Instant) {
        if self.is_deaf(now) {
            return;
        }
        let Self { others, ended, .. } = self;
        let over = others.extract_if(|_, other| now.saturating_duration_since(other.heard) > LEASE);
        ended.extend(over.map(|(node, other)| (node, other.heard + LEASE)));
        // Who ended long ago is one of which nothing is heard.
        ended.retain(|_, at| now.saturating_duration_since(*at) < REMEMBERED);
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
        leases.end(node("bbbbbbbb"), start);
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
    fn a_node_is_gone_since_its_lease_ended_or_since_before_this_one_began_to_hear() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        let (killed, stopped, unknown) = (node("aaaaaaaa"), node("bbbbbbbb"), node("cccccccc"));
        assert_eq!(leases.absent_since(unknown, start), None, "nothing is heard yet");
        leases.hear_myself(start);
        leases.hear(killed, start);
        leases.hear(stopped, start);
        for second in 1..=5 {
            leases.hear_myself(start + second * SECOND);
        }
        let now = start + 5 * SECOND;
        leases.end(stopped, now);
        assert_eq!(leases.absent_since(stopped, now), Some(now));
        assert_eq!(
            (leases.absent_since(killed, now), leases.absent_since(unknown, now)),
            (None, None)
        );
        let now = start + 6 * SECOND;
        leases.hear_myself(now);
        assert_eq!(leases.absent_since(killed, now), Some(start + LEASE));
        assert_eq!(leases.absent_since(unknown, now), Some(start));
        leases.hear(killed, now);
        assert_eq!(leases.absent_since(killed, now), None, "it stood still");
        // Who hears nothing judges nobody, and not before a whole lease after that.
        leases.lose_hearing();
        assert_eq!(leases.absent_since(unknown, now), None);
        leases.hear_myself(now);
        assert_eq!(leases.absent_since(unknown, now), None);
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
        let word = |reads| Word { reads, database: Some(0) };
        leases.hear_word(new, word(2), now);
        assert_eq!((leases.without(2, now), leases.without(3, now)), (None, Some(new)));
        // Who asks or answers has not said what it reads.
        leases.hear(new, now);
        leases.hear(unknown, now);
        assert_eq!((leases.without(1, now), leases.without(2, now)), (None, Some(unknown)));
        leases.hear_word(unknown, word(2), now);
        assert_eq!(leases.without(2, now), None);
        leases.hear_word(old, Word::read(b""), now);
        assert_eq!(leases.without(2, now), Some(old));
        leases.end(old, now);
        assert_eq!(leases.without(2, now), None);
    }

    #[test]
    fn a_node_of_another_database_is_no_neighbour_once_it_says_so_whatever_else_it_says() {
        let now = Instant::now();
        let mut leases = Leases::in_database(1);
        let (stranger, earlier, neighbour) = (node("aaaaaaaa"), node("bbbbbbbb"), node("cccccccc"));
        leases.hear_myself(now);
        leases.hear(stranger, now);
        assert!(!leases.is_stranger(stranger), "nobody knows yet");
        leases.hear_word(stranger, Word { reads: 1, database: Some(0) }, now);
        leases.hear(stranger, now);
        leases.hear_word(neighbour, Word { reads: 2, database: Some(1) }, now);
        assert_eq!((leases.others(now), leases.without(2, now)), (vec![neighbour], None));
        assert!(leases.is_stranger(stranger) && !leases.has_earlier(now));
        leases.hear_word(earlier, Word { reads: 2, database: None }, now);
        assert!(leases.has_earlier(now), "it may be of this log");
        assert!(leases.others(now).contains(&earlier) && !leases.is_stranger(earlier));
        (1..=6).for_each(|seconds| leases.hear_myself(now + seconds * SECOND));
        assert!(!leases.has_earlier(now + 6 * SECOND), "it is gone");
        let mut first = Leases::in_database(0);
        first.hear_word(earlier, Word { reads: 2, database: None }, now);
        assert!(!first.has_earlier(now), "there is one channel");
    }

    #[test]
    fn a_word_is_read_as_it_was_written_and_those_of_earlier_releases_too() {
        for database in [None, Some(0), Some(15)] {
            let word = Word { reads: 2, database };
            assert_eq!(Word::read(&word.write()), word);
        }
        assert_eq!(Word::read(b""), Word { reads: 1, database: None });
        assert_eq!(Word::read(b"\x02"), Word { reads: 2, database: None });
        assert_eq!(Word { reads: 2, database: Some(0) }.write(), b"\x020");
    }
}
