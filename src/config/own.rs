//! Topics that belong to somebody each: `users.{sub}.>` is about all of `users.*.>`, and of these the ones
//! with a user's `sub` in that place are that user's own; so it is with `{session}` and the id of a session.

use crate::model::{Pattern, Topic};

/// What stands for a user's `sub`.
const SUB: &str = "{sub}";

/// What stands for the id of a WebSocket session.
const SESSION: &str = "{session}";

/// The longest name that may stand for one of them, in bytes.
const MAX_NAME_BYTES: usize = Topic::MAX_BYTES;

/// By which names topics are somebody's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Owner<'a> {
    /// A user's `sub`.
    pub sub: Option<&'a str>,
    /// The id of a WebSocket session that shows a credential.
    pub session: Option<&'a str>,
}

/// What somebody would have to have to own topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// A `sub` that is one plain segment.
    Sub,
    /// A session.
    Session,
}

impl<'a> Owner<'a> {
    /// What stands for somebody in a segment, and the owner's name there, if it has one.
    fn placeholder(&self, segment: &str) -> Option<(Lack, Option<&'a str>)> {
        match segment {
            SUB => Some((Lack::Sub, self.sub)),
            SESSION => Some((Lack::Session, self.session)),
            _ => None,
        }
    }

    /// Whether a pattern is about what is somebody's own.
    pub fn is_named_in(pattern: &Pattern) -> bool {
        let is_placeholder = |segment: &str| Owner::default().placeholder(segment).is_some();
        pattern.as_str().contains('{') && pattern.segments().any(is_placeholder)
    }

    /// A pattern with the owner's names in their places; none where it has no name for one of them, or no plain one.
    pub fn fill(&self, pattern: &Pattern) -> Option<Pattern> {
        let fill = |segment| match self.placeholder(segment) {
            Some((_, name)) => name.filter(|name| is_segment(name)),
            None => Some(segment),
        };
        let segments: Option<Vec<&str>> = pattern.segments().map(fill).collect();
        Pattern::parse(&segments?.join(".")).ok()
    }
}

/// Whether a name is exactly one segment of a topic, and no wildcard.
pub fn is_segment(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b".*>\"\\".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.starts_with("^^")
}

/// A pattern with `{sub}` or `{session}` in at least one of its segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own(Pattern);

impl Own {
    /// The topics that some rule is about, and whose own they are where that is said.
    pub(super) fn split(pattern: Pattern) -> (Pattern, Option<Self>) {
        if !Owner::is_named_in(&pattern) {
            return (pattern, None);
        }
        let anybody =
            |segment| if Owner::default().placeholder(segment).is_some() { "*" } else { segment };
        let all: Vec<_> = pattern.segments().map(anybody).collect();
        let all = Pattern::parse(&all.join(".")).unwrap_or_else(|_| Pattern::everything());
        (all, Some(Self(pattern)))
    }

    /// Whether `topic`, which the rule is about, belongs to `owner`. A name that is not exactly one segment owns
    /// nothing.
    pub fn is_of(&self, topic: &Topic, owner: Owner<'_>) -> bool {
        let mut places = self.0.segments().zip(topic.segments());
        places.all(|(segment, of_topic)| {
            owner.placeholder(segment).is_none_or(|(_, name)| name == Some(of_topic))
        })
    }

    /// The pattern of the topics that belong to `owner`, if any can.
    pub fn of(&self, owner: Owner<'_>) -> Option<Pattern> {
        owner.fill(&self.0)
    }

    /// What `owner` lacks to own any of these topics.
    pub fn lacks(&self, owner: Owner<'_>) -> Option<Lack> {
        self.0.segments().find_map(|segment| {
            let (what, name) = owner.placeholder(segment)?;
            (!name.is_some_and(is_segment)).then_some(what)
        })
    }

    /// Whether a user's `sub` has a place in it.
    pub fn is_by_sub(&self) -> bool {
        self.0.segments().any(|segment| segment == SUB)
    }

    /// The pattern as the operator wrote it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub(sub: &str) -> Owner<'_> {
        Owner { sub: Some(sub), session: None }
    }

    fn split(text: &str) -> (Pattern, Option<Own>) {
        Own::split(Pattern::parse(text).unwrap())
    }

    #[test]
    fn a_rule_is_about_the_topics_of_all_and_owned_by_one() {
        let (pattern, own) = split("users.{sub}.inbox.>");
        assert_eq!(pattern.as_str(), "users.*.inbox.>");
        let own = own.unwrap();
        assert_eq!(own.of(sub("ada")).unwrap().as_str(), "users.ada.inbox.>");
        let topic = |text| Topic::parse(text).unwrap();
        assert!(own.is_of(&topic("users.ada.inbox.1"), sub("ada")));
        assert!(!own.is_of(&topic("users.bob.inbox.1"), sub("ada")));
        assert_eq!(split("users.>"), (Pattern::parse("users.>").unwrap(), None));
        assert_eq!(split("a{sub}.x").1, None, "a whole segment or nothing");
    }

    #[test]
    fn every_place_is_the_same_users() {
        let own = split("{sub}.to.{sub}").1.unwrap();
        assert!(own.is_of(&Topic::parse("ada.to.ada").unwrap(), sub("ada")));
        assert!(!own.is_of(&Topic::parse("ada.to.bob").unwrap(), sub("ada")));
    }

    #[test]
    fn a_name_that_is_not_one_plain_segment_owns_nothing() {
        let own = split("users.{sub}.>").1.unwrap();
        let topics =
            ["users.ada.x", "users.a.b", "users.{sub}.x"].map(|t| Topic::parse(t).unwrap());
        for name in ["", "*", ">", "a.b", "ada.x", "a b", "ä", "ada\n", "\"", &"x".repeat(256)] {
            assert_eq!(own.of(sub(name)), None, "{name:?}");
            assert!(!topics.iter().any(|topic| own.is_of(topic, sub(name))), "{name:?}");
        }
    }
}
