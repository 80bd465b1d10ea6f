//! Which topics rules keep in memory, in a form that outlives them.
//!
//! Pure state. What is kept in memory is gone with the process, and so are the rules that said so: a log on
//! disk remembers them, or a topic that is kept there since would hide the loss.

use std::fmt;

use crate::config::{Rules, Storage};
use crate::model::Pattern;

/// Which topics are kept in memory: the first pattern that matches a topic decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::history) struct InMemory {
    rules: Vec<(Pattern, bool)>,
    /// Whether topics of the broker's own may be.
    own: bool,
}

impl InMemory {
    const MEMORY: &str = "memory ";
    const ELSEWHERE: &str = "elsewhere ";
    const OWN: &str = "memory of the broker's own";

    /// What these rules say.
    pub(in crate::history) fn of(rules: &Rules) -> Self {
        let own = [&rules.revocations, &rules.webhook_offsets, &rules.notices];
        let is_in_memory = |storage| storage == Storage::Memory;
        let mut said = Self {
            rules: rules
                .all()
                .map(|rule| (rule.pattern.clone(), is_in_memory(rule.storage)))
                .collect(),
            own: own.iter().any(|rule| is_in_memory(rule.storage)),
        };
        // What no later rule is an exception of says nothing.
        while said.rules.pop_if(|(_, in_memory)| !*in_memory).is_some() {}
        said
    }

    /// That any topic may be.
    pub(in crate::history) fn everything() -> Self {
        Self { rules: vec![(Pattern::everything(), true)], own: true }
    }

    /// Whether no topic is.
    pub(in crate::history) fn is_nothing(&self) -> bool {
        !self.own && self.rules.iter().all(|(_, in_memory)| !in_memory)
    }

    /// Reads what was written.
    pub(in crate::history) fn parse(text: &str) -> Option<Self> {
        let mut said = Self { rules: Vec::new(), own: false };
        for line in text.lines() {
            let (pattern, in_memory) = match line.strip_prefix(Self::ELSEWHERE) {
                Some(pattern) => (pattern, false),
                None if line == Self::OWN => {
                    said.own = true;
                    continue;
                }
                None => (line.strip_prefix(Self::MEMORY)?, true),
            };
            said.rules.push((Pattern::from_stored(pattern).ok()?, in_memory));
        }
        Some(said)
    }

    /// Whether a topic that is kept in memory may match.
    pub(in crate::history) fn may_match(&self, pattern: &Pattern) -> bool {
        for (of, in_memory) in self.rules.iter().filter(|(of, _)| of.overlaps(pattern)) {
            if *in_memory {
                return true;
            }
            if of.covers(pattern) {
                return false;
            }
        }
        self.own && pattern.as_str().starts_with('$')
    }
}

impl fmt::Display for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (pattern, in_memory) in &self.rules {
            let place = if *in_memory { Self::MEMORY } else { Self::ELSEWHERE };
            writeln!(f, "{place}{}", pattern.as_str())?;
        }
        if self.own { writeln!(f, "{}", Self::OWN) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn rules(listed: &[(&str, Storage)]) -> Rules {
        let mut rules = Config::default().rules;
        for (pattern, storage) in listed {
            let mut rule = rules.default.clone();
            (rule.pattern, rule.storage) = (Pattern::parse(pattern).unwrap(), *storage);
            rules.listed.push(rule);
        }
        rules
    }

    #[test]
    fn what_is_kept_in_memory_is_known_from_the_text_as_from_the_rules() {
        let memory = Storage::Memory;
        let said = rules(&[("a.x", Storage::Disk), ("a.>", memory), ("b", Storage::None)]);
        let text = InMemory::of(&said).to_string();
        assert_eq!(text, "elsewhere a.x\nmemory a.>\n");
        let read = InMemory::parse(&text).unwrap();
        assert_eq!(read, InMemory::of(&said));
        for (pattern, expected) in [
            ("a.x", false),
            ("a.y", true),
            ("a.*", true),
            (">", true),
            ("b", false),
            ("$sys.a", false),
        ] {
            assert_eq!(read.may_match(&Pattern::parse(pattern).unwrap()), expected, "{pattern}");
        }
        assert_eq!(InMemory::parse("memory"), None);
    }

    #[test]
    fn a_rule_of_rights_alone_changes_nothing() {
        let (none, some) = (rules(&[]), rules(&[("a", Storage::Disk), ("b.>", Storage::None)]));
        assert_eq!(InMemory::of(&none), InMemory::of(&some));
        assert_eq!(InMemory::of(&none).to_string(), "");
    }

    #[test]
    fn where_nobody_knows_any_topic_may_have_been() {
        let text = InMemory::everything().to_string();
        let read = InMemory::parse(&text).unwrap();
        for pattern in ["a", ">", "$sys.revoked", "$presence.>"] {
            assert!(read.may_match(&Pattern::parse(pattern).unwrap()), "{pattern}");
        }
    }
}
