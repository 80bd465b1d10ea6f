//! A topic with wildcards, as in NATS: `orders.*.42`, `orders.>`.
//!
//! `*` stands for exactly one segment and `>`, only at the end, for one or more. A leading wildcard
//! does not match the broker's own `$...` topics, so that `>` never shows them by accident.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::text::text;
use super::topic::{check_address, check_reserved};
use super::{Topic, TopicError};

/// A pattern that matches topics; a topic is a pattern that matches itself alone. Cloning shares
/// the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Arc<str>);

/// What is wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct PatternError(#[from] TopicError);

impl Pattern {
    /// Whether it is the name of where nodes say how they are.
    pub fn is_metrics(&self) -> bool {
        self.as_str() == Topic::METRICS
    }

    /// Reads a pattern that comes from outside, or says what is wrong and where. `*` must be a whole segment; `>` must
    /// be the whole last one.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        check_reserved(text)?;
        Self::from_stored(text)
    }

    /// Reads a pattern as this or an earlier release keeps it, which may have segments that are reserved now.
    pub fn from_stored(text: &str) -> Result<Self, PatternError> {
        check_address(text, |segment, last| match segment {
            "*" => Ok(()),
            ">" if last => Ok(()),
            _ => segment.find(['*', '>']).map_or(Ok(()), Err),
        })?;
        Ok(Self(text.into()))
    }

    /// The pattern that matches every topic that is not the broker's own.
    pub fn everything() -> Self {
        Self(">".into())
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between the dots, in order.
    pub fn segments(&self) -> std::str::Split<'_, char> {
        self.0.split('.')
    }

    /// The one topic this pattern matches, if it has no wildcard.
    pub fn as_topic(&self) -> Option<Topic> {
        Topic::from_stored(&self.0).ok()
    }

    /// The text before the first wildcard: every topic that matches begins with it.
    pub fn literal_prefix(&self) -> &str {
        let wildcard = self.0.find(['*', '>']).unwrap_or(self.0.len());
        &self.0[..wildcard]
    }

    /// Whether `topic` is one of those this pattern stands for.
    pub fn matches(&self, topic: &Topic) -> bool {
        if topic.is_reserved() && !self.0.starts_with('$') {
            return false;
        }
        // Byte by byte, for this is asked of every event of a replay: a wildcard is a segment of its own,
        // and no topic has one in it.
        let (mut pattern, mut topic) = (self.0.as_bytes(), topic.as_str().as_bytes());
        loop {
            match (pattern, topic) {
                ([], []) | ([b'>'], [_, ..]) => return true,
                ([b'*', rest @ ..], [_, ..]) => {
                    let end = topic.iter().position(|byte| *byte == b'.').unwrap_or(topic.len());
                    (pattern, topic) = (rest, &topic[end..]);
                }
                ([a, their @ ..], [b, our @ ..]) if a == b => (pattern, topic) = (their, our),
                _ => return false,
            }
        }
    }

    /// Whether every topic that `other` matches is matched by this pattern too.
    pub fn covers(&self, other: &Pattern) -> bool {
        if other.0.starts_with('$') && !self.0.starts_with('$') {
            return false;
        }
        let mut theirs = other.segments();
        for part in self.segments() {
            match (part, theirs.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                (_, Some(">")) => return false,
                ("*", Some(_)) => {}
                (literal, Some(segment)) => {
                    if literal != segment {
                        return false;
                    }
                }
            }
        }
        theirs.next().is_none()
    }

    /// Whether there is a topic that both patterns match.
    pub fn overlaps(&self, other: &Pattern) -> bool {
        let wild = |pattern: &Pattern| pattern.0.starts_with(['*', '>']);
        let reserved = |pattern: &Pattern| pattern.0.starts_with('$');
        if (reserved(self) && wild(other)) || (reserved(other) && wild(self)) {
            return false;
        }
        let (mut ours, mut theirs) = (self.segments(), other.segments());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (None, Some(_)) | (Some(_), None) => return false,
                (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
                (Some(a), Some(b)) => {
                    if a != b {
                        return false;
                    }
                }
            }
        }
    }

    /// What both patterns match, as one pattern; none where that is nothing.
    pub fn intersection(&self, other: &Pattern) -> Option<Pattern> {
        if !self.overlaps(other) {
            return None;
        }
        let (mut ours, mut theirs, mut both) = (self.segments(), other.segments(), Vec::new());
        loop {
            match (ours.next(), theirs.next()) {
                (Some(">"), Some(first)) => {
                    both.extend([first].into_iter().chain(theirs));
                    break;
                }
                (Some(first), Some(">")) => {
                    both.extend([first].into_iter().chain(ours));
                    break;
                }
                (Some("*"), Some(segment)) | (Some(segment), Some(_)) => both.push(segment),
                _ => break,
            }
        }
        // What is longer than a topic may be matches none.
        Self::parse(&both.join(".")).ok()
    }
}

impl From<&Topic> for Pattern {
    fn from(topic: &Topic) -> Self {
        Self(topic.as_str().into())
    }
}

text!(Pattern, PatternError);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect(text)
    }

    fn topic(text: &str) -> Topic {
        Topic::parse(text).expect(text)
    }

    #[test]
    fn wildcards_match_as_in_nats() {
        for (text, matching, other) in [
            ("a.b", vec!["a.b"], vec!["a", "a.b.c", "a.c"]),
            ("a.*", vec!["a.b", "a.c"], vec!["a", "a.b.c", "b.a"]),
            ("*.b", vec!["a.b"], vec!["b", "$sys.b"]),
            ("a.>", vec!["a.b", "a.b.c"], vec!["a", "b.a"]),
            ("a.*.>", vec!["a.b.c", "a.b.c.d"], vec!["a.b"]),
            (">", vec!["a", "a.b.c"], vec!["$sys", "$sys.a"]),
            ("$sys.>", vec!["$sys.a"], vec!["sys.a"]),
        ] {
            for hit in matching {
                assert!(pattern(text).matches(&topic(hit)), "{text} should match {hit}");
            }
            for miss in other {
                assert!(!pattern(text).matches(&topic(miss)), "{text} should not match {miss}");
            }
        }
    }

    /// The same, as the module says it.
    fn matches_by_segments(pattern: &Pattern, topic: &Topic) -> bool {
        let (parts, segments): (Vec<_>, Vec<_>) =
            (pattern.segments().collect(), topic.segments().collect());
        let is_open = parts.last() == Some(&">");
        let is_long_enough = match is_open {
            true => segments.len() >= parts.len(),
            false => segments.len() == parts.len(),
        };
        let is_own = topic.is_reserved() && !pattern.as_str().starts_with('$');
        let mut pairs = parts.iter().zip(&segments);
        is_long_enough
            && !is_own
            && pairs.all(|(part, segment)| part == segment || ["*", ">"].contains(part))
    }

    #[test]
    fn a_wildcard_that_is_not_a_whole_segment_is_refused_with_its_place() {
        for (text, at, found) in
            [("a*.b", 1, '*'), ("a.b>", 3, '>'), (">.a", 0, '>'), ("a.>.b", 2, '>'), ("**", 0, '*')]
        {
            let error = TopicError::BadCharacter { at, found };
            assert_eq!(Pattern::parse(text), Err(PatternError(error)), "{text}");
        }
    }

    #[test]
    fn the_literal_prefix_ends_where_the_first_wildcard_begins() {
        assert_eq!(pattern("a.b.*.c").literal_prefix(), "a.b.");
        assert_eq!(pattern("a.b").literal_prefix(), "a.b");
        assert_eq!(pattern(">").literal_prefix(), "");
    }

    fn any_topic() -> impl Strategy<Value = Topic> {
        prop::collection::vec("[ab]|ab|[$]s", 1..5).prop_map(|parts| topic(&parts.join(".")))
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        (prop::collection::vec("[ab]|ab|[*]|[$]s", 1..4), any::<bool>()).prop_map(
            |(mut parts, tail)| {
                if tail {
                    parts.push(">".to_owned());
                }
                pattern(&parts.join("."))
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn matching_byte_by_byte_is_matching_by_segments(a in any_pattern(), t in any_topic()) {
            prop_assert_eq!(a.matches(&t), matches_by_segments(&a, &t));
        }

        #[test]
        fn an_intersection_matches_what_both_match(a in any_pattern(), b in any_pattern(), t in any_topic()) {
            let both = a.intersection(&b);
            let matches = both.as_ref().is_some_and(|both| both.matches(&t));
            prop_assert_eq!(matches, a.matches(&t) && b.matches(&t), "{} and {} are {:?}", a, b, both);
        }

        #[test]
        fn covering_means_matching_whatever_the_other_matches(a in any_pattern(), b in any_pattern(), t in any_topic()) {
            if a.covers(&b) && b.matches(&t) {
                prop_assert!(a.matches(&t), "{a} covers {b} but misses {t}");
            }
        }

        #[test]
        fn a_common_topic_means_that_the_patterns_overlap(a in any_pattern(), b in any_pattern(), t in any_topic()) {
            prop_assert_eq!(a.overlaps(&b), b.overlaps(&a));
            if a.matches(&t) && b.matches(&t) {
                prop_assert!(a.overlaps(&b), "{a} and {b} share {t}");
            }
        }

        #[test]
        fn a_match_begins_with_the_literal_prefix(p in any_pattern(), t in any_topic()) {
            if p.matches(&t) {
                prop_assert!(t.as_str().starts_with(p.literal_prefix()));
            }
        }

        #[test]
        fn a_topic_as_pattern_matches_itself_alone(a in any_topic(), b in any_topic()) {
            prop_assert_eq!(Pattern::from(&a).matches(&b), a == b);
        }
    }
}
