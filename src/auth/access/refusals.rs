//! What a caller may not do, and why.
//!
//! Each refusal says which right is wanting and who could give it; without a credential it is 401, for
//! one might do.

use super::coverage::Coverage;
use super::{Access, Caller, Right};
use crate::config::{Lack, Who};
use crate::metrics::{GUARD, Rate};
use crate::model::{Code, Pattern, Problem, Topic};

impl Access {
    /// Refuses who may subscribe to nothing, whatever it is: those without a credential, where no rule opens
    /// anything to anyone.
    pub fn require_some_subscription(&self) -> Result<(), Problem> {
        let may = match &self.caller {
            Caller::Anonymous => self.policy.rules.all().any(|rule| rule.subscribe == Who::Anyone),
            Caller::Application(_) | Caller::Key(_) | Caller::User(_) => true,
        };
        match may {
            true => Ok(()),
            false => Err(self.refusal("no right to subscribe to any topic")),
        }
    }

    /// Refuses callers that may neither subscribe nor publish to any topic, whatever it is.
    pub fn require_some_right(&self) -> Result<(), Problem> {
        match self.may_somewhere(Right::Subscribe) || self.may_somewhere(Right::Publish) {
            true => Ok(()),
            false => Err(self.refusal("no right to subscribe or to publish to any topic")),
        }
    }

    /// Refuses callers that may not do what is for operators.
    pub fn require_admin(&self) -> Result<(), Problem> {
        match &self.caller {
            Caller::Application(_) => Ok(()),
            Caller::Key(key) if key.admin => Ok(()),
            Caller::Key(_) => Err(self.refusal("this needs an API key with admin = true")),
            Caller::User(_) | Caller::Anonymous if !self.policy.has_operators() => {
                Err(self.refusal("this is off until there is an API key with admin rights"))
            }
            Caller::User(_) | Caller::Anonymous => Err(self.refusal("this needs an API key")),
        }
    }

    /// Refuses callers that may not hear how nodes are.
    fn require_operator(&self) -> Result<(), Problem> {
        self.require_admin()?;
        match self.is_operator() {
            true => Ok(()),
            false => Err(self.refusal("this is served at server.internal_listen alone")),
        }
    }

    /// Refuses callers that may not have the events of `topic` forgotten. Nobody may where the broker
    /// keeps what it has to know: a revocation that is forgotten makes its tokens good again.
    pub fn require_forget(&self, topic: &Topic) -> Result<(), Problem> {
        self.require_admin()?;
        match topic.is_state() {
            true => {
                let detail =
                    format!("{topic} is what the broker has to know, and is not forgotten");
                Err(Problem::new(Code::Forbidden, detail))
            }
            false => Ok(()),
        }
    }

    /// Refuses callers that may not receive events of `topic`.
    pub fn require_subscribe(&self, topic: &Topic) -> Result<(), Problem> {
        match self.may_subscribe(topic) {
            true => Ok(()),
            false if topic.is_metrics() => self.require_operator(),
            false => Err(self.want_of_right(Right::Subscribe, &Pattern::from(topic))),
        }
    }

    /// Refuses callers that may receive nothing of what `pattern` matches.
    pub fn require_some_of(&self, pattern: &Pattern) -> Result<(), Problem> {
        match self.coverage(pattern) {
            Coverage::Whole | Coverage::Part => Ok(()),
            Coverage::None if pattern.is_metrics() => self.require_operator(),
            Coverage::None => Err(self.want_of_right(Right::Subscribe, pattern)),
        }
    }

    /// Refuses callers that may not publish to `topic`.
    pub fn require_publish(&self, topic: &Topic) -> Result<(), Problem> {
        if topic.is_reserved() {
            return Err(Problem::new(
                Code::Forbidden,
                format!("{topic} is the broker's own topic"),
            ));
        }
        match self.may_publish(topic) {
            true => Ok(()),
            false => Err(self.want_of_right(Right::Publish, &Pattern::from(topic))),
        }
    }

    /// Refuses callers that may not publish to any topic, whatever it is.
    pub fn require_publish_somewhere(&self) -> Result<(), Problem> {
        match self.may_publish_somewhere() {
            true => Ok(()),
            false => Err(self.refusal("no right to publish to any topic")),
        }
    }

    /// Refuses callers that have published too much lately to publish so many events more.
    pub fn require_rate(&self, events: usize) -> Result<(), Problem> {
        if self.policy.may_publish_more(&self.caller, events) {
            return Ok(());
        }
        GUARD.limited(Rate::Publishes);
        let detail = "this credential publishes more than auth.publishes_per_second allows";
        Err(Problem::new(Code::TooMany, detail))
    }

    /// Refuses callers that may not give these rights to others.
    pub fn require_grant(&self, subscribe: &[Pattern], publish: &[Pattern]) -> Result<(), Problem> {
        let beyond = |scope: &[Pattern], given: &[Pattern]| {
            let covered = |given: &Pattern| scope.iter().any(|of| of.covers(given));
            given.iter().find(|given| !covered(given)).cloned()
        };
        let beyond = match &self.caller {
            Caller::Application(_) => return Ok(()),
            Caller::Key(key) => {
                beyond(&key.subscribe, subscribe).or_else(|| beyond(&key.publish, publish))
            }
            Caller::User(_) | Caller::Anonymous => {
                return Err(self.refusal("giving rights to others needs an API key"));
            }
        };
        match beyond {
            None => Ok(()),
            Some(pattern) => Err(self.refusal(format!("the API key has no right to {pattern}"))),
        }
    }

    /// A refusal for want of a right, which says so where a rule would give it to a token with another `sub`.
    fn want_of_right(&self, right: Right, pattern: &Pattern) -> Problem {
        let mut rules = self.policy.rules.listed.iter();
        let rule = rules.find(|rule| rule.pattern.overlaps(pattern));
        let rule = rule.filter(|rule| right.by_rule(rule) == Who::Own);
        let own = rule.and_then(|rule| rule.own.as_ref());
        let why = match (&self.caller, own.and_then(|own| own.lacks(self.owner()))) {
            (Caller::User(_), Some(Lack::Sub)) => {
                ": the token's `sub` is not one plain segment of a topic, so it owns none of {sub}"
            }
            (Caller::User(_) | Caller::Key(_), Some(Lack::Session)) => {
                ": topics of {session} are a WebSocket session's own, and this is none"
            }
            _ => "",
        };
        let gives = match &self.caller {
            Caller::Anonymous => {
                "; a credential may (`Authorization: Bearer`), or a rule of [[topics]]"
            }
            Caller::User(_) => {
                "; the claim `fanfare` of a token may give it, or a rule of [[topics]]"
            }
            Caller::Key(_) => "; its entry of [[auth.keys]] would have to give it",
            Caller::Application(_) => "",
        };
        let verb = right.verb();
        self.refusal(format!("no right to {verb} {pattern}{why}{gives}"))
    }

    /// A refusal for want of rights: of a better credential, or of any.
    pub fn refusal(&self, detail: impl Into<String>) -> Problem {
        let code = match self.caller {
            Caller::Anonymous => Code::Unauthorized,
            Caller::Application(_) | Caller::Key(_) | Caller::User(_) => Code::Forbidden,
        };
        Problem::new(code, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{access, pattern, policy, user};
    use super::*;
    use crate::auth::Proof;

    #[test]
    fn the_brokers_own_topics_are_nobodys_to_publish() {
        let topic = Topic::parse("$sys.x").unwrap();
        let problem =
            access(Caller::Application(Proof::default())).require_publish(&topic).unwrap_err();
        assert_eq!(problem.code, Code::Forbidden);
    }

    #[test]
    fn what_the_broker_has_to_know_is_nobodys_to_forget() {
        let access = access(Caller::Application(Proof::default()));
        for (topic, is_allowed) in [
            ("$sys.revoked", false),
            ("$sys.webhooks.a", false),
            ("$sys.topics", true),
            ("a", true),
        ] {
            let allowed = access.require_forget(&Topic::parse(topic).unwrap());
            assert_eq!(allowed.is_ok(), is_allowed, "{topic}");
        }
    }

    #[test]
    fn a_sub_that_can_own_nothing_is_named_where_a_rule_would_give_the_right() {
        let policy = policy("{match = \"users.{sub}.>\", publish = \"own\"}");
        let refusals = |name: &str, of: &str| {
            let Caller::User(mut user) = user(&[]).caller().clone() else { panic!("no user") };
            user.bearer.user = name.to_owned();
            let access = Access::new(policy.clone(), Caller::User(user));
            let (topic, pattern) = (Topic::parse(of).unwrap(), pattern(of));
            [
                access.require_subscribe(&topic).unwrap_err(),
                access.require_some_of(&pattern).unwrap_err(),
                access.require_publish(&topic).unwrap_err(),
            ]
        };
        for (name, of, is_named) in [
            ("ada@a.example", "users.ada.x", true),
            ("", "users.ada.x", true),
            ("bob", "users.ada.x", false),
            ("ada@a.example", "other", false),
        ] {
            for problem in refusals(name, of) {
                assert_eq!(problem.code, Code::Forbidden);
                assert_eq!(problem.detail.contains("`sub`"), is_named, "{name} {problem}");
                assert!(name.is_empty() || !problem.detail.contains(name), "{problem}");
            }
        }
    }

    #[test]
    fn want_of_a_credential_is_told_apart_from_want_of_a_right() {
        let topic = Topic::parse("c").unwrap();
        let code = |access: Access| access.require_subscribe(&topic).unwrap_err().code;
        assert_eq!(code(access(Caller::Anonymous)), Code::Unauthorized);
        assert_eq!(code(user(&["d"])), Code::Forbidden);
    }
}
