//! How much of a pattern a caller may receive.
//!
//! Rules decide topic by topic, so of a pattern with wildcards it is known beforehand only where one
//! grant or rule covers it whole. What is said of it here never shows more than [`Access::may_subscribe`]
//! would, topic by topic.

use super::{Access, Caller, Right};
use crate::config::{Rule, Who};
use crate::model::{Pattern, Topic};

/// How much of a pattern a caller may receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// All that it matches.
    Whole,
    /// Some of it: each event has to be looked at.
    Part,
    /// Nothing.
    None,
}

impl Access {
    /// How much of `pattern` the caller may receive. `Part` may turn out to be nothing.
    pub fn coverage(&self, pattern: &Pattern) -> Coverage {
        if let Some(topic) = pattern.as_topic() {
            return if self.may_subscribe(&topic) { Coverage::Whole } else { Coverage::None };
        }
        let coverage = self.coverage_by_rules(pattern);
        // What rules and grants say is not said of where nodes say how they are.
        match (coverage, self.is_operator()) {
            (Coverage::Whole, false) | (Coverage::None, true)
                if pattern.matches(&Topic::metrics()) =>
            {
                Coverage::Part
            }
            _ => coverage,
        }
    }

    fn coverage_by_rules(&self, pattern: &Pattern) -> Coverage {
        if let Caller::Application(_) = &self.caller {
            return Coverage::Whole;
        }
        let rules = || {
            let listed = self.policy.rules.listed.iter();
            listed.filter(|rule| rule.pattern.overlaps(pattern))
        };
        let ruled = |who| rules().any(|rule| rule.subscribe == who);
        let given = |test: fn(&Pattern, &Pattern) -> bool| {
            self.given(Right::Subscribe).iter().any(|of| test(of, pattern))
        };
        // No rule takes anything away from a key.
        let is_barred = || matches!(self.caller, Caller::User(_)) && ruled(Who::Nobody);
        let own = |rule: &Rule| match rule.subscribe {
            Who::Own => self.owned(rule),
            Who::Anyone | Who::Token | Who::Nobody => None,
        };
        // What the first rule gives, no later one takes away.
        let owned = rules().next().and_then(own).is_some_and(|own| own.covers(pattern));
        if owned || (given(Pattern::covers) && !is_barred()) {
            Coverage::Whole
        } else if given(Pattern::overlaps)
            || self.grants.topics().any(|topic| pattern.matches(topic))
            || ruled(Who::Anyone)
            || rules().filter_map(own).any(|own| own.overlaps(pattern))
        {
            Coverage::Part
        } else {
            Coverage::None
        }
    }

    /// Patterns within `pattern` that together match each topic that the caller may receive: what is to be read for
    /// it. They may match others too, for a rule may take some away.
    pub fn within(&self, pattern: &Pattern) -> Vec<Pattern> {
        match self.coverage(pattern) {
            Coverage::Whole => return vec![pattern.clone()],
            Coverage::None => return Vec::new(),
            Coverage::Part => {}
        }
        let ruled = self.policy.rules.listed.iter().filter_map(|rule| match rule.subscribe {
            Who::Anyone => Some(rule.pattern.clone()),
            Who::Own => self.owned(rule),
            Who::Token | Who::Nobody => None,
        });
        let granted = self.grants.topics().map(Pattern::from);
        let all = self.given(Right::Subscribe).iter().cloned().chain(ruled).chain(granted);
        let mut within: Vec<_> = all.filter_map(|of| of.intersection(pattern)).collect();
        within.sort_unstable();
        within.dedup();
        within
    }

    /// Whether the caller is nobody in particular, and rules open all of `pattern` to anyone: what it is shown of it
    /// may be shown to all.
    pub fn is_anyones(&self, pattern: &Pattern) -> bool {
        let is_anyone = self.policy.open || matches!(self.caller, Caller::Anonymous);
        is_anyone && self.policy.rules.open_whole(pattern)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::super::tests::{access, bearer, pattern, policy, rules, user};
    use super::*;
    use crate::auth::{Policy, Proof, User};
    use crate::config::Rules;

    #[test]
    fn what_anyone_may_have_is_known_by_the_rules_alone() {
        let anyone = access(Caller::Anonymous);
        for (text, is_anyones) in [
            ("a.public.x", true),
            ("a.public.*", true),
            ("a.public.>", false),
            ("a.*.x", false),
            ("a.secret.x", false),
            ("b.x", false),
            ("c", false),
            (">", false),
            ("$sys.x", false),
        ] {
            assert_eq!(anyone.is_anyones(&pattern(text)), is_anyones, "{text}");
        }
        let public = pattern("a.public.*");
        assert!(!user(&["a.public.*"]).is_anyones(&public), "somebody in particular");
        let barred =
            Rule { pattern: pattern("a.public.x"), subscribe: Who::Token, ..rules().default };
        let config = crate::config::Auth::default();
        let under = |listed: Vec<Rule>| {
            let policy = Policy::new(&config, Rules { listed, ..rules() }, Vec::new(), None);
            Access::new(Arc::new(policy), Caller::Application(Proof::default()))
        };
        assert!(under(rules().listed).is_anyones(&public), "where no credential is configured");
        let listed = [vec![barred], rules().listed].concat();
        assert!(!under(listed).is_anyones(&public), "an earlier rule takes some away");
    }

    #[test]
    fn a_pattern_is_covered_whole_in_part_or_not_at_all() {
        for (access, text, coverage) in [
            (access(Caller::Application(Proof::default())), ">", Coverage::Whole),
            (access(Caller::Anonymous), ">", Coverage::Part),
            (access(Caller::Anonymous), "b.>", Coverage::None),
            (user(&["b.>"]), "b.*", Coverage::Whole),
            (user(&["b.x"]), "b.*", Coverage::Part),
            (user(&["a.>"]), "a.>", Coverage::Part),
            (user(&["c"]), "d.*", Coverage::None),
        ] {
            assert_eq!(access.coverage(&pattern(text)), coverage, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_belongs_to_users_is_shown_to_each_alone(
            asked in "(u|[*])[.](u|v|[*])([.](x|y|[*]|>))?|>",
            topic in "(u|t)[.](u|v|x)([.](x|y))?",
            grant in "u[.]v[.]x|t[.]>|none",
            barred in any::<bool>(),
        ) {
            let policy = policy(&format!(
                "{}{{match = \"u.{{sub}}.>\"}}",
                if barred { "{match = \"u.*.y\", subscribe = \"nobody\"}, " } else { "" },
            ));
            let (expires, granted) = (SystemTime::UNIX_EPOCH, vec![pattern(&grant)]);
            let user = User {
                bearer: bearer(), proof: Proof::default(), expires, subscribe: granted.clone(), publish: granted.clone(),
            };
            let access = Access::new(policy, Caller::User(Box::new(user)));
            let (asked, topic) = (pattern(&asked), Topic::parse(&topic).unwrap());
            let is_barred = barred && pattern("u.*.y").matches(&topic);
            let is_own = pattern("u.u.>").matches(&topic);
            let expected = !is_barred && (is_own || granted[0].matches(&topic));
            prop_assert_eq!(access.may_subscribe(&topic), expected);
            let is_within = access.within(&asked).iter().any(|within| within.matches(&topic));
            prop_assert!(!is_within || asked.matches(&topic));
            if asked.matches(&topic) {
                prop_assert!(is_within || !expected);
                match access.coverage(&asked) {
                    Coverage::Whole => prop_assert!(expected),
                    Coverage::None => prop_assert!(!expected),
                    Coverage::Part => {}
                }
            }
        }

        #[test]
        fn whole_hides_nothing_and_none_shows_nothing(
            grants in prop::collection::vec("[abc]|[*]", 1..4),
            asked in "(a|b|[*])[.](secret|public|[*])([.][*x])?",
            topic in "(a|b|c)[.](secret|public|x)([.]x)?",
        ) {
            let access = user(&[&grants.join("."), "a.>"]);
            let (asked, topic) = (pattern(&asked), Topic::parse(&topic).unwrap());
            if asked.matches(&topic) {
                let within = access.within(&asked);
                let is_within = within.iter().any(|within| within.matches(&topic));
                prop_assert!(is_within || !access.may_subscribe(&topic), "{within:?}");
                match access.coverage(&asked) {
                    Coverage::Whole => prop_assert!(access.may_subscribe(&topic)),
                    Coverage::None => prop_assert!(!access.may_subscribe(&topic)),
                    Coverage::Part => {}
                }
            }
        }
    }
}
