//! What one may have a right to: to receive the events of topics, or to publish them.
//!
//! A rule, an API key and a token each say both, in the same words; every question of right is asked of
//! one of the two.

use super::caller::User;
use crate::config::{ApiKey, Rule, Who};
use crate::model::Pattern;

/// What one may do with topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// Receive their events, whether live or kept.
    Subscribe,
    /// Publish to them.
    Publish,
}

impl Right {
    /// The right in words: to do what with a topic.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe to",
            Self::Publish => "publish to",
        }
    }

    /// Who has it on the topics of a rule.
    pub(super) fn by_rule(self, rule: &Rule) -> Who {
        match self {
            Self::Subscribe => rule.subscribe,
            Self::Publish => rule.publish,
        }
    }

    /// Where an API key gives it.
    pub(super) fn by_key(self, key: &ApiKey) -> &[Pattern] {
        match self {
            Self::Subscribe => &key.subscribe,
            Self::Publish => &key.publish,
        }
    }

    /// Where a token gives it.
    pub(super) fn by_token(self, user: &User) -> &[Pattern] {
        match self {
            Self::Subscribe => &user.subscribe,
            Self::Publish => &user.publish,
        }
    }
}
