//! What is allowed on which topics, and what is kept of them.

use std::time::Duration;

use super::own::Own;
use crate::model::{Pattern, Topic};

/// What is allowed on different topics: the first rule that matches a topic decides.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The rules in their order.
    pub listed: Vec<Rule>,
    /// For topics that no listed rule matches.
    pub default: Rule,
    /// For what is accepted no longer, which only applications may see.
    pub revocations: Rule,
    /// For how far webhooks got.
    pub webhook_offsets: Rule,
    /// For what the broker says about itself, where no listed rule says otherwise.
    pub notices: Rule,
}

impl Rules {
    /// The rule that decides about `topic`.
    pub fn of(&self, topic: &Topic) -> &Rule {
        if topic.is_state() {
            let is_revocations = self.revocations.pattern.matches(topic);
            return if is_revocations { &self.revocations } else { &self.webhook_offsets };
        }
        let other = if topic.is_reserved() { &self.notices } else { &self.default };
        self.listed.iter().find(|rule| rule.pattern.matches(topic)).unwrap_or(other)
    }

    /// The different ages that events are kept for, where they are not kept for good.
    pub fn ages(&self) -> Vec<Duration> {
        let own = [&self.revocations, &self.webhook_offsets, &self.notices];
        let mut ages: Vec<_> = self.all().chain(own).map(|rule| rule.max_age).collect();
        ages.retain(|age| *age != Duration::MAX);
        ages.sort_unstable();
        ages.dedup();
        ages
    }

    /// Every rule for events of others, in the order in which they decide.
    pub fn all(&self) -> impl Iterator<Item = &Rule> {
        self.listed.iter().chain([&self.default])
    }

    /// Whether anyone may subscribe to all that `pattern` matches, as far as one rule after the other says so; never true
    /// where it is not so.
    pub fn open_whole(&self, pattern: &Pattern) -> bool {
        // Of the broker's own topics some have rules of their own.
        if pattern.as_str().starts_with('$') {
            return false;
        }
        let mut deciding = self.listed.iter().filter(|rule| rule.pattern.overlaps(pattern));
        let end =
            deciding.find(|rule| rule.subscribe != Who::Anyone || rule.pattern.covers(pattern));
        end.is_some_and(|rule| rule.subscribe == Who::Anyone)
    }

    /// Whether `pattern` may match a topic whose events are kept so.
    pub fn may_match(&self, pattern: &Pattern, storage: Storage) -> bool {
        for rule in self.all().filter(|rule| rule.pattern.overlaps(pattern)) {
            if rule.storage == storage {
                return true;
            }
            if rule.pattern.covers(pattern) {
                return false;
            }
        }
        let others = [&self.default, &self.revocations, &self.webhook_offsets, &self.notices];
        others.iter().any(|rule| rule.storage == storage)
    }
}

/// What is allowed on the topics of one pattern, and what is kept of each.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The topics it is about.
    pub pattern: Pattern,
    /// Whose they are, where each belongs to a user.
    pub own: Option<Own>,
    /// Where events are kept.
    pub storage: Storage,
    /// The most events kept a topic.
    pub max_events: usize,
    /// The most bytes kept a topic, counted as for [`History::disk_bytes`](super::History::disk_bytes).
    pub max_bytes: usize,
    /// The oldest event kept.
    pub max_age: Duration,
    /// Whether the newest event of a topic stays beyond that, and beyond the bytes of all topics.
    pub keep_newest: bool,
    /// Whether one may ask who is subscribed.
    pub presence: bool,
    /// Whether readers are told who sent what clients publish.
    pub from: bool,
    /// Who may subscribe.
    pub subscribe: Who,
    /// Which clients may publish.
    pub publish: Who,
}

impl Rule {
    /// Whether the newest event of a topic stays where it is kept so: not where events are kept elsewhere now.
    pub fn keeps_newest(&self, storage: Storage) -> bool {
        self.keep_newest && self.storage == storage
    }
}

/// Where the events of a topic are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// On disk, for good.
    Disk,
    /// In memory, until the broker stops.
    Memory,
    /// In Redis, for all nodes.
    Redis,
    /// Nowhere: the topic is ephemeral.
    None,
}

/// Who may do a thing, beside applications with an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Everyone.
    Anyone,
    /// Whoever has a token that grants it, and the user whose own it is.
    Own,
    /// Whoever has a token that grants it.
    Token,
    /// No one.
    Nobody,
}
