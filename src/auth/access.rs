//! What one caller may do.
//!
//! The first rule that matches a topic says who may: anyone, whoever has a token that grants it, or
//! nobody but applications. The same questions are asked of every event on every path, so that a
//! wildcard never shows more than the grant behind it.

mod coverage;
mod grants;
mod refusals;
mod rights;
mod signing;

use std::sync::Arc;

pub use self::coverage::Coverage;
pub use self::grants::Grant;
use self::grants::Grants;
pub use self::rights::Rights;
use super::caller::Caller;
use super::policy::Policy;
use super::proof::Proof;
use super::right::Right;
use crate::config::{Owner, Rule, Rules, Who};
use crate::model::{Pattern, Topic};

/// One caller's rights.
#[derive(Debug, Clone)]
pub struct Access {
    policy: Arc<Policy>,
    caller: Caller,
    /// The id of the WebSocket session whose rights they are; none for what comes another way.
    session: Option<Arc<str>>,
    /// Whether it comes in where what is for operators is not served.
    is_outside: bool,
    /// What the caller's token grants, where it names its user or session.
    filled: Option<Arc<Filled>>,
    /// What other tokens add.
    grants: Grants,
}

/// Grants of a token in which names stand for what is the caller's own.
#[derive(Debug)]
struct Filled {
    subscribe: Vec<Pattern>,
    publish: Vec<Pattern>,
}

impl Filled {
    fn of(&self, right: Right) -> &[Pattern] {
        match right {
            Right::Subscribe => &self.subscribe,
            Right::Publish => &self.publish,
        }
    }
}

impl Access {
    /// The rights of `caller` under a policy.
    pub(super) fn new(policy: Arc<Policy>, caller: Caller) -> Self {
        Self::of(policy, caller, None)
    }

    fn of(policy: Arc<Policy>, caller: Caller, session: Option<Arc<str>>) -> Self {
        let grants = Grants::default();
        let access = Self { policy, caller, session, is_outside: false, filled: None, grants };
        let Caller::User(user) = &access.caller else { return access };
        if !user.subscribe.iter().chain(&user.publish).any(Owner::is_named_in) {
            return access;
        }
        let owner = access.owner();
        let fill = |patterns: &[Pattern]| patterns.iter().filter_map(|of| owner.fill(of)).collect();
        let filled = Filled { subscribe: fill(&user.subscribe), publish: fill(&user.publish) };
        Self { filled: Some(Arc::new(filled)), ..access }
    }

    /// The same caller's rights as the WebSocket session of this id, which its own topics are known by.
    pub fn of_session(self, id: Arc<str>) -> Self {
        Self::of(self.policy, self.caller, Some(id)).coming_in(self.is_outside)
    }

    /// The rights of another caller in the same session, if these are rights of one.
    pub fn of_caller(&self, caller: Caller) -> Self {
        let grants = self.grants.clone();
        let access = Self::of(self.policy.clone(), caller, self.session.clone());
        Self { grants, ..access }.coming_in(self.is_outside)
    }

    /// The same rights under another policy, but for what other tokens add.
    pub(super) fn under(&self, policy: Arc<Policy>, caller: Caller) -> Self {
        Self::of(policy, caller, self.session.clone()).coming_in(self.is_outside)
    }

    /// The same rights of who comes in where what is for operators is served, or where it is not.
    pub(super) fn coming_in(self, is_outside: bool) -> Self {
        Self { is_outside, ..self }
    }

    /// By which names topics are the caller's own. Who shows no credential owns nothing.
    fn owner(&self) -> Owner<'_> {
        let session = self.session.as_deref();
        match &self.caller {
            Caller::Anonymous => Owner::default(),
            Caller::Application(_) | Caller::Key(_) => Owner { sub: None, session },
            Caller::User(user) => Owner { sub: Some(&user.bearer.user), session },
        }
    }

    /// Where the caller's key or token gives it a right; that of a key stands whatever the rules say.
    fn given(&self, right: Right) -> &[Pattern] {
        match (&self.filled, &self.caller) {
            (Some(filled), _) => filled.of(right),
            (None, Caller::User(user)) => right.by_token(user),
            (None, Caller::Key(key)) => right.by_key(key),
            (None, Caller::Application(_) | Caller::Anonymous) => &[],
        }
    }

    /// Whether these are rights under this very policy.
    pub(super) fn is_of(&self, policy: &Arc<Policy>) -> bool {
        Arc::ptr_eq(&self.policy, policy)
    }

    /// Whether both are rights under the same policy.
    pub fn has_policy_of(&self, other: &Self) -> bool {
        self.is_of(&other.policy)
    }

    /// Whose rights these are.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What the caller is known by.
    pub fn proof(&self) -> Proof {
        match &self.caller {
            Caller::Application(proof) => *proof,
            Caller::Key(key) => Proof::of_api_key(&key.hash),
            Caller::User(user) => user.proof,
            Caller::Anonymous => Proof::default(),
        }
    }

    /// The rules of topics.
    pub fn rules(&self) -> &Rules {
        &self.policy.rules
    }

    /// Whether the caller may receive events of `topic`.
    pub fn may_subscribe(&self, topic: &Topic) -> bool {
        self.may(Right::Subscribe, topic) || self.grants.give(topic)
    }

    /// Whether the caller may publish to `topic`. The broker's own topics are nobody's to publish.
    pub fn may_publish(&self, topic: &Topic) -> bool {
        !topic.is_reserved() && self.may(Right::Publish, topic)
    }

    /// Whether there may be a topic that the caller may publish to: what is asked before a body is read
    /// that says the topics. Never false where there is one.
    pub fn may_publish_somewhere(&self) -> bool {
        self.may_somewhere(Right::Publish)
    }

    /// Whether there may be a topic on which the caller has a right. Never false where there is one.
    fn may_somewhere(&self, right: Right) -> bool {
        if matches!(self.caller, Caller::Application(_)) || !self.given(right).is_empty() {
            return true;
        }
        self.policy.rules.all().any(|rule| match right.by_rule(rule) {
            Who::Anyone => true,
            Who::Own => self.owned(rule).is_some(),
            Who::Token | Who::Nobody => false,
        })
    }

    /// Whether the caller may do what is for operators. Without credentials that is everybody, where it is served.
    pub(super) fn is_operator(&self) -> bool {
        match &self.caller {
            Caller::Application(_) => !(self.policy.open && self.is_outside),
            Caller::Key(key) => key.admin,
            Caller::User(_) | Caller::Anonymous => false,
        }
    }

    fn may(&self, right: Right, topic: &Topic) -> bool {
        // No rule and no grant opens it.
        if topic.is_metrics() {
            return self.is_operator();
        }
        // No rule is asked about who may whatever it says: applications publish most of what there is.
        if matches!(self.caller, Caller::Application(_)) {
            return true;
        }
        let rule = self.policy.rules.of(topic);
        let given = || self.given(right).iter().any(|pattern| pattern.matches(topic));
        let owns = || rule.own.as_ref().is_some_and(|own| own.is_of(topic, self.owner()));
        match (&self.caller, right.by_rule(rule)) {
            (Caller::Application(_), _) | (_, Who::Anyone) => true,
            (Caller::Key(_) | Caller::User(_), Who::Own) => given() || owns(),
            (Caller::Key(_), Who::Token | Who::Nobody) | (Caller::User(_), Who::Token) => given(),
            (Caller::User(_), Who::Nobody) | (Caller::Anonymous, _) => false,
        }
    }

    /// The topics of a rule that are the caller's own, if any can be.
    fn owned(&self, rule: &Rule) -> Option<Pattern> {
        rule.own.as_ref().and_then(|own| own.of(self.owner()))
    }
}

#[cfg(test)]
mod tests;
