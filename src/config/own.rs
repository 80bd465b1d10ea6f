//! Topics that belong to a user each: `users.{sub}.>` is about all of `users.*.>`, and of these the ones
//! with a user's `sub` in that place are that user's own.

use crate::model::{Pattern, Topic};

/// What stands for a user's `sub`.
const PLACE: &str = "{sub}";

/// A pattern with `{sub}` in at least one of its segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own(Pattern);

impl Own {
    /// The topics that some rule is about, and whose own they are where that is said.
    pub(super) fn split(pattern: Pattern) -> (Pattern, Option<Self>) {
        if !pattern.segments().any(|segment| segment == PLACE) {
            return (pattern, None);
        }
        let own = Self(pattern);
        (own.filled("*").unwrap_or_else(Pattern::everything), Some(own))
    }

    /// Whether `topic`, which the rule is about, belongs to the user called `sub`. A name that is
    /// not exactly one segment owns nothing.
    pub fn is_of(&self, topic: &Topic, sub: &str) -> bool {
        let mut places = self.0.segments().zip(topic.segments());
        places.all(|(segment, of_topic)| segment != PLACE || of_topic == sub)
    }

    /// The pattern of the topics that belong to the user called `sub`, if any can.
    pub fn of(&self, sub: &str) -> Option<Pattern> {
        let is_segment = !sub.contains(['.', '*', '>']) && Topic::parse(sub).is_ok();
        if is_segment { self.filled(sub) } else { None }
    }

    /// The pattern as the operator wrote it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    fn filled(&self, with: &str) -> Option<Pattern> {
        let segments =
            self.0.segments().map(|segment| if segment == PLACE { with } else { segment });
        Pattern::parse(&segments.collect::<Vec<_>>().join(".")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> (Pattern, Option<Own>) {
        Own::split(Pattern::parse(text).unwrap())
    }

    #[test]
    fn a_rule_is_about_the_topics_of_all_and_owned_by_one() {
        let (pattern, own) = split("users.{sub}.inbox.>");
        assert_eq!(pattern.as_str(), "users.*.inbox.>");
        let own = own.unwrap();
        assert_eq!(own.of("ada").unwrap().as_str(), "users.ada.inbox.>");
        let topic = |text| Topic::parse(text).unwrap();
        assert!(own.is_of(&topic("users.ada.inbox.1"), "ada"));
        assert!(!own.is_of(&topic("users.bob.inbox.1"), "ada"));
        assert_eq!(split("users.>"), (Pattern::parse("users.>").unwrap(), None));
        assert_eq!(split("a{sub}.x").1, None, "a whole segment or nothing");
    }

    #[test]
    fn every_place_is_the_same_users() {
        let own = split("{sub}.to.{sub}").1.unwrap();
        assert!(own.is_of(&Topic::parse("ada.to.ada").unwrap(), "ada"));
        assert!(!own.is_of(&Topic::parse("ada.to.bob").unwrap(), "ada"));
    }

    #[test]
    fn a_name_that_is_not_one_plain_segment_owns_nothing() {
        let own = split("users.{sub}.>").1.unwrap();
        let topics =
            ["users.ada.x", "users.a.b", "users.{sub}.x"].map(|t| Topic::parse(t).unwrap());
        for sub in ["", "*", ">", "a.b", "ada.x", "a b", "ä", "ada\n", "\"", &"x".repeat(256)] {
            assert_eq!(own.of(sub), None, "{sub:?}");
            assert!(!topics.iter().any(|topic| own.is_of(topic, sub)), "{sub:?}");
        }
    }
}
