//! What a session is subscribed to, once it has been brought up to it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::conflation::Conflation;
use super::filters::Filters;
use crate::auth::{Access, Coverage};
use crate::broker::Members;
use crate::model::{Event, Pattern, Topic};
use crate::protocol::Filter;

/// The live subscriptions of one session. Pure state.
#[derive(Debug, Default)]
pub struct Live {
    patterns: Members<Pattern>,
    /// Of those, the ones whose current values are wanted after a gap.
    snapshots: Members<Pattern>,
    /// Of those, how many of the newest events of each topic, where it is more than one.
    counts: BTreeMap<Pattern, usize>,
    /// What is asked of each event of a pattern, where something is.
    filters: Filters,
    /// How many of the patterns match topics that may not be seen.
    partial: usize,
}

impl Live {
    /// Adds a pattern, or changes whether its current values are wanted, and how many of each topic, and which of its
    /// events.
    pub fn add(
        &mut self,
        pattern: &Pattern,
        values: Option<usize>,
        filter: Option<Filter>,
        access: &Access,
    ) {
        self.filters.set(pattern, filter);
        if self.patterns.insert(pattern.clone()) {
            self.partial += usize::from(is_partial(pattern, access));
        }
        match values {
            Some(_) => self.snapshots.insert(pattern.clone()),
            None => self.snapshots.remove(pattern),
        };
        match values.filter(|count| *count > 1) {
            Some(count) => self.counts.insert(pattern.clone(), count),
            None => self.counts.remove(pattern),
        };
    }

    /// Adds a pattern again that had been taken, with what is wanted of it.
    pub fn restore(&mut self, pattern: &Pattern, access: &Access) {
        let values = self.snapshots.contains(pattern).then(|| self.count(pattern));
        self.add(pattern, values, self.filters.get(pattern).cloned(), access);
    }

    /// Removes a pattern, if it is there.
    pub fn remove(&mut self, pattern: &Pattern, access: &Access) {
        self.snapshots.remove(pattern);
        self.counts.remove(pattern);
        self.filters.remove(pattern);
        if self.patterns.remove(pattern) {
            self.partial -= usize::from(is_partial(pattern, access));
        }
    }

    /// Takes all patterns; what is wanted of them is remembered.
    pub fn take(&mut self) -> Vec<Pattern> {
        self.partial = 0;
        std::mem::take(&mut self.patterns).iter().cloned().collect()
    }

    /// The rights are others now.
    pub fn recheck_coverage(&mut self, access: &Access) {
        self.partial = self.patterns.iter().filter(|pattern| is_partial(pattern, access)).count();
    }

    /// Whether all that the patterns match may be seen, and is wanted.
    pub fn is_whole(&self) -> bool {
        self.partial == 0 && self.filters.is_empty()
    }

    /// Whether one of the patterns matches an event and wants it.
    pub fn wants(&self, event: &Event) -> bool {
        let mut matching = self.patterns.iter().filter(|pattern| pattern.matches(&event.topic));
        matching.any(|pattern| self.filters.wants(pattern, event))
    }

    /// What is asked of each event.
    pub fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Whether a topic is matched.
    pub fn matches(&self, topic: &Topic) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether this very pattern is there.
    pub fn contains(&self, pattern: &Pattern) -> bool {
        self.patterns.contains(pattern)
    }

    /// The patterns, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.patterns.iter()
    }

    fn count(&self, pattern: &Pattern) -> usize {
        self.counts.get(pattern).copied().unwrap_or(1)
    }

    /// The patterns whose current values are wanted after a gap, and how many of each topic.
    pub fn values(&self) -> impl Iterator<Item = (Pattern, usize)> {
        self.snapshots.iter().map(|pattern| (pattern.clone(), self.count(pattern)))
    }

    /// How many patterns there are.
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The shortest time between two events of a topic: none where one of the patterns that match it
    /// wants every event, else the shortest that any of them wants.
    pub fn interval(&self, conflation: &Conflation, topic: &Topic) -> Option<Duration> {
        let mut matching = self.patterns.iter().filter(|pattern| pattern.matches(topic));
        let first = conflation.interval(matching.next()?)?;
        matching.try_fold(first, |least, pattern| Some(least.min(conflation.interval(pattern)?)))
    }
}

fn is_partial(pattern: &Pattern, access: &Access) -> bool {
    access.coverage(pattern) != Coverage::Whole
}
