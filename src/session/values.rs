//! Of which topics how many of their newest events are wanted.

use std::sync::Arc;

use crate::model::{Pattern, Topic};

/// Patterns, and how many of the newest events of each topic that they match are wanted.
#[derive(Debug, Clone)]
pub struct Values {
    /// The patterns.
    pub patterns: Arc<[Pattern]>,
    /// For each of them.
    counts: Arc<[usize]>,
}

impl Values {
    /// The same number of each topic.
    pub fn each(patterns: Arc<[Pattern]>, count: usize) -> Self {
        let counts = patterns.iter().map(|_| count).collect();
        Self { patterns, counts }
    }

    /// These numbers, by patterns.
    pub fn of(wanted: impl IntoIterator<Item = (Pattern, usize)>) -> Self {
        let (patterns, counts): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
        Self { patterns: patterns.into(), counts: counts.into() }
    }

    /// What is wanted of some topics.
    pub fn of_topics(&self, topics: &[Topic]) -> Self {
        let wanted = topics.iter().map(|topic| (Pattern::from(topic), self.count(topic)));
        Self::of(wanted.filter(|(_, count)| *count > 0))
    }

    /// The current values alone.
    pub fn alone(&self) -> Self {
        Self::each(self.patterns.clone(), 1)
    }

    /// How many events of a topic are wanted: the most that any of the patterns says.
    pub fn count(&self, topic: &Topic) -> usize {
        let matching = self.patterns.iter().zip(&*self.counts);
        let counts =
            matching.filter(|(pattern, _)| pattern.matches(topic)).map(|(_, count)| *count);
        counts.max().unwrap_or(0)
    }

    /// How many events of one topic are wanted at most.
    pub fn most(&self) -> usize {
        self.counts.iter().copied().max().unwrap_or(0)
    }

    /// How many events that may come to at most, where that is known without asking which topics there are.
    pub fn bound(&self) -> Option<usize> {
        let is_exact = self.patterns.iter().all(|pattern| pattern.as_topic().is_some());
        is_exact.then(|| self.counts.iter().fold(0, |sum: usize, count| sum.saturating_add(*count)))
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_topic_as_many_are_wanted_as_the_most_asking_pattern_says() {
        let wanted = [("a.*", 3), ("a.b", 5), ("*.c", 1)];
        let values = Values::of(wanted.map(|(text, n)| (Pattern::parse(text).unwrap(), n)));
        let topic = |name| Topic::parse(name).unwrap();
        for (name, count) in [("a.b", 5), ("a.c", 3), ("b.c", 1), ("b", 0)] {
            assert_eq!(values.count(&topic(name)), count, "{name}");
        }
        assert_eq!((values.most(), values.alone().most(), values.bound()), (5, 1, None));
        let some = values.of_topics(&["b", "a.c", "a.b"].map(topic));
        assert_eq!((some.bound(), some.count(&topic("a.b"))), (Some(8), 5));
    }
}
