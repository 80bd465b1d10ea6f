//! What differs between two configurations, by name, and what of it needs a restart.

use super::schema::{API_KEY_KEYS, KEYS, Key, REDIS_SOURCE_KEYS, RULE_KEYS, WEBHOOK_KEYS};
use super::{Loaded, Rule, Rules};

/// Keys, and all keys of entries, whose change comes into force while the broker serves.
const RELOADED: [&str; 15] = [
    "auth.api_keys",
    "auth.audience",
    "auth.cookie",
    "auth.issuer",
    "auth.jwks_keep",
    "auth.jwks_refresh",
    "auth.jwks_url",
    "auth.jwt_public_key",
    "auth.jwt_secret",
    "auth.keys",
    "auth.leeway",
    "server.allowed_origins",
    "server.tls_certificate",
    "server.tls_key",
    "server.tls_resumption_secret",
];

impl Loaded {
    /// The keys whose values differ from those of `other`, in the order of the reference.
    pub fn changes(&self, other: &Self) -> Vec<String> {
        let (ours, theirs) = (&self.typed, &other.typed);
        let sections = KEYS.iter().filter(|key| !(key.same)(ours, theirs)).map(Key::path);
        let rules = of_entries("topics", RULE_KEYS, &ours.topics, &theirs.topics);
        let sources = (&ours.ingress_redis, &theirs.ingress_redis);
        let sources = of_entries("ingress.redis", REDIS_SOURCE_KEYS, sources.0, sources.1);
        let keys = of_entries("auth.keys", API_KEY_KEYS, &ours.auth_keys, &theirs.auth_keys);
        let hooks = of_entries("webhooks", WEBHOOK_KEYS, &ours.webhooks, &theirs.webhooks);
        sections.chain(rules).chain(sources).chain(keys).chain(hooks).collect()
    }
}

fn of_entries<T>(name: &str, keys: &[Key<T>], ours: &[T], theirs: &[T]) -> Vec<String> {
    if ours.len() != theirs.len() {
        return vec![name.to_owned()];
    }
    let pairs = ours.iter().zip(theirs).enumerate();
    let changed = pairs.flat_map(|(index, (our, their))| {
        let changed = keys.iter().filter(move |key| !(key.same)(our, their));
        changed.map(move |key| format!("{name}[{index}].{}", key.name))
    });
    changed.collect()
}

/// Whether a change of this key comes into force only with a restart. A change of rules about topics may
/// be refused as a whole: see [`Rules::keeps_like`].
pub fn needs_restart(key: &str) -> bool {
    let name = key.split('[').next().unwrap_or_default();
    name != "topics" && !RELOADED.contains(&name)
}

/// A rule under which events of some topic would be kept in another way than before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the rule {before:?} was in force for what {after:?} matches, and keeps events in another way"
)]
pub struct KeptOtherwise {
    /// The pattern of the rule before.
    before: String,
    /// That of the rule now.
    after: String,
}

impl Rules {
    /// Refuses rules under which events of some topic might be kept in another way than under these.
    pub fn keeps_like(&self, other: &Self) -> Result<(), KeptOtherwise> {
        let (before, after): (Vec<_>, Vec<_>) = (self.all().collect(), other.all().collect());
        for (b, old) in before.iter().enumerate() {
            for (a, new) in after.iter().enumerate() {
                let hides = |rule: &&Rule| {
                    rule.pattern.covers(&old.pattern) || rule.pattern.covers(&new.pattern)
                };
                let decide = old.pattern.overlaps(&new.pattern)
                    && !before[..b].iter().any(hides)
                    && !after[..a].iter().any(hides);
                if decide && !is_kept_like(old, new) {
                    let (before, after) = (old.pattern.to_string(), new.pattern.to_string());
                    return Err(KeptOtherwise { before, after });
                }
            }
        }
        Ok(())
    }
}

fn is_kept_like(one: &Rule, other: &Rule) -> bool {
    let kept = |rule: &Rule| {
        (rule.storage, rule.max_events, rule.max_bytes, rule.max_age, rule.keep_newest)
    };
    kept(one) == kept(other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Sources, load_with_origins};
    use super::*;
    use crate::model::Topic;

    fn loaded(sets: &[&str]) -> Loaded {
        let sets = sets.iter().map(|&set| set.to_owned()).collect();
        load_with_origins(&Sources { sets, ..Sources::default() }).unwrap()
    }

    fn rules(topics: &str) -> Rules {
        loaded(&[&format!("topics=[{topics}]")]).config.rules
    }

    #[test]
    fn what_differs_is_named_and_so_is_what_needs_a_restart() {
        let before = loaded(&[r#"topics=[{match="a"}, {match="b"}]"#, "redis.url=redis://:a@h"]);
        let after = loaded(&[
            r#"topics=[{match="a"}, {match="b", subscribe="anyone"}]"#,
            "redis.url=redis://:b@h",
            "limits.connections=7",
            "auth.api_keys=a-key-of-sixteen-bytes",
        ]);
        let changed = ["auth.api_keys", "redis.url", "limits.connections", "topics[1].subscribe"];
        assert_eq!(after.changes(&before), changed);
        assert_eq!(after.changes(&after), [""; 0]);
        let restart: Vec<_> = changed.into_iter().filter(|key| needs_restart(key)).collect();
        assert_eq!(restart, ["redis.url", "limits.connections"]);
        let fewer = loaded(&[r#"topics=[{match="a"}]"#, "redis.url=redis://:a@h"]);
        assert_eq!(fewer.changes(&before), ["topics"]);
    }

    #[test]
    fn every_name_of_the_list_is_a_key() {
        for name in RELOADED.iter().filter(|name| **name != "auth.keys") {
            assert!(KEYS.iter().any(|key| key.path() == *name), "{name}");
        }
    }

    #[test]
    fn rules_may_change_their_rights_and_their_order_but_not_what_is_kept() {
        let none = r#"{match="cursors.*", history="none"}"#;
        let disk = r#"{match="orders.>"}"#;
        for (before, after, fits) in [
            (none.to_owned(), none.to_owned(), true),
            (
                none.to_owned(),
                r#"{match="cursors.*", history="none", subscribe="anyone"}"#.into(),
                true,
            ),
            (none.to_owned(), format!("{disk}, {none}"), true),
            (format!("{disk}, {none}"), format!("{none}, {disk}"), true),
            (none.to_owned(), format!(r#"{none}, {{match="*.x", presence=true}}"#), true),
            (none.to_owned(), format!(r#"{{match="*.x", presence=true}}, {none}"#), false),
            (none.to_owned(), String::new(), false),
            (String::new(), none.to_owned(), false),
            (disk.to_owned(), r#"{match="orders.>", max_events=7}"#.into(), false),
            (disk.to_owned(), r#"{match="orders.>", max_age="7d"}"#.into(), false),
            (disk.to_owned(), r#"{match="orders.>", keep_newest=false}"#.into(), false),
        ] {
            let kept = rules(&before).keeps_like(&rules(&after));
            assert_eq!(kept.is_ok(), fits, "{before} and then {after}");
        }
        let refused = rules(none).keeps_like(&rules("")).unwrap_err().to_string();
        assert!(refused.contains("\"cursors.*\""), "{refused}");
    }

    proptest! {
        #[test]
        fn where_rules_keep_alike_every_topic_is_kept_alike(
            before in prop::collection::vec(("(a|b|[*])([.](a|b|[*]|>))?", any::<bool>()), 0..4),
            after in prop::collection::vec(("(a|b|[*])([.](a|b|[*]|>))?", any::<bool>()), 0..4),
            topic in "(a|b|c)([.](a|b|c)){0,2}",
        ) {
            let of = |listed: &[(String, bool)]| {
                let rule = |(pattern, kept): &(String, bool)| {
                    let history = if *kept { "disk" } else { "none" };
                    format!("{{match={pattern:?}, history={history:?}}}")
                };
                rules(&listed.iter().map(rule).collect::<Vec<_>>().join(", "))
            };
            let (before, after) = (of(&before), of(&after));
            prop_assert!(before.keeps_like(&before).is_ok());
            let topic = Topic::parse(&topic).unwrap();
            if before.keeps_like(&after).is_ok() {
                prop_assert!(is_kept_like(before.of(&topic), after.of(&topic)));
            }
        }
    }
}
