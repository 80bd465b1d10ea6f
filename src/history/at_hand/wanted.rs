//! Which topics a reader wants: those that it names are looked up, those that it describes are compared.

use std::collections::HashSet;

use crate::model::{Pattern, Topic};

/// The topics that some patterns match.
#[derive(Debug, Default)]
pub(super) struct Wanted<'a> {
    names: HashSet<&'a str>,
    wildcards: Vec<&'a Pattern>,
}

impl<'a> Wanted<'a> {
    /// What these patterns match.
    pub(super) fn of(patterns: &'a [Pattern]) -> Self {
        let mut wanted = Self::default();
        for pattern in patterns {
            match pattern.literal_prefix().len() == pattern.as_str().len() {
                true => _ = wanted.names.insert(pattern.as_str()),
                false => wanted.wildcards.push(pattern),
            }
        }
        wanted
    }

    /// The names of all of them, where they have names.
    pub(super) fn names(&self) -> Option<&HashSet<&'a str>> {
        self.wildcards.is_empty().then_some(&self.names)
    }

    /// Whether a topic is one of them.
    pub(super) fn has(&self, topic: &Topic) -> bool {
        let is_matched = |pattern: &&Pattern| pattern.matches(topic);
        self.wildcards.iter().any(is_matched) || self.names.contains(topic.as_str())
    }
}

/// The same, to be kept.
#[derive(Debug)]
pub(super) struct Patterns {
    names: HashSet<Topic>,
    wildcards: Vec<Pattern>,
}

impl Patterns {
    /// What these patterns match.
    pub(super) fn of(patterns: &[Pattern]) -> Self {
        let (mut names, mut wildcards) = (HashSet::new(), Vec::new());
        for pattern in patterns {
            match pattern.as_topic() {
                Some(topic) => _ = names.insert(topic),
                None => wildcards.push(pattern.clone()),
            }
        }
        Self { names, wildcards }
    }

    /// Whether a topic is one of them.
    pub(super) fn have(&self, topic: &Topic) -> bool {
        self.wildcards.iter().any(|pattern| pattern.matches(topic)) || self.names.contains(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_wanted_where_a_pattern_matches_it_named_or_not() {
        let patterns = ["a.b", "$sys.x", "c.*"].map(|text| Pattern::parse(text).unwrap());
        let wanted = Wanted::of(&patterns);
        assert!(wanted.names().is_none());
        for (name, is_wanted) in
            [("a.b", true), ("$sys.x", true), ("c.d", true), ("a", false), ("c.d.e", false)]
        {
            let topic = Topic::from_stored(name).unwrap();
            assert_eq!(wanted.has(&topic), is_wanted, "{name}");
            let one_matches = patterns.iter().any(|pattern| pattern.matches(&topic));
            assert_eq!(one_matches, is_wanted, "{name}");
            let kept = Patterns::of(&patterns);
            assert_eq!(kept.have(&topic), is_wanted, "{name}");
        }
        assert_eq!(Wanted::of(&patterns[..2]).names().map(HashSet::len), Some(2));
    }
}
