//! All that a caller may do, in the patterns that say it.

use super::{Access, Right};
use crate::auth::Caller;
use crate::config::{Lack, Who};
use crate::model::Pattern;

/// What a caller may do. Patterns are what gives a right; an earlier rule may take some of their topics away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// What it may receive.
    pub subscribe: Vec<Pattern>,
    /// What it may publish to.
    pub publish: Vec<Pattern>,
    /// What is its own, by its user's name.
    pub own: Vec<Pattern>,
    /// Rules that could give it topics of its own, were its user called otherwise.
    pub not_own: Vec<String>,
}

impl Access {
    /// What the caller may do.
    pub fn rights(&self) -> Rights {
        let rules = self.policy.rules.listed.iter().filter_map(|rule| rule.own.as_ref());
        let owner = self.owner();
        let lacks_name = |own: &&_| matches!(self.caller, Caller::User(_)) && is_unnamed(own, self);
        Rights {
            subscribe: self.patterns(Right::Subscribe),
            publish: self.patterns(Right::Publish),
            own: rules.clone().filter_map(|own| own.of(owner)).collect(),
            not_own: rules.filter(lacks_name).map(|own| own.as_str().to_owned()).collect(),
        }
    }

    fn patterns(&self, right: Right) -> Vec<Pattern> {
        if let Caller::Application(_) = self.caller {
            return vec![Pattern::everything()];
        }
        let ruled = self.policy.rules.all().filter_map(|rule| match right.by_rule(rule) {
            Who::Anyone => Some(rule.pattern.clone()),
            Who::Own => self.owned(rule),
            Who::Token | Who::Nobody => None,
        });
        let mut patterns: Vec<_> = self.given(right).iter().cloned().chain(ruled).collect();
        patterns.sort_unstable();
        patterns.dedup();
        patterns
    }

    /// Whether the caller may do what is for operators.
    pub fn is_admin(&self) -> bool {
        self.require_admin().is_ok()
    }

    /// Whether credentials are asked for at all.
    pub fn is_of_open_broker(&self) -> bool {
        self.policy.open
    }
}

fn is_unnamed(own: &crate::config::Own, access: &Access) -> bool {
    own.lacks(access.owner()) == Some(Lack::Sub)
}
