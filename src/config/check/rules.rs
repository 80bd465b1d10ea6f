//! What was typed of which topics: who may do what with them, and what is kept.

use std::time::Duration;

use super::super::own::Own;
use super::super::rules::{Rule, Rules, Storage, Who};
use super::super::schema::{self, Typed};
use super::super::value::{Size, Span};
use super::super::words::Medium;
use super::complaints::{CENTURY, Complaints, DAY};
use crate::model::{Pattern, Topic};

/// The rules of topics, in their order, and those of the broker's own.
pub(super) fn rules(typed: &Typed, complaints: &mut Complaints) -> Rules {
    let history = &typed.history;
    let is_cluster = typed.redis.url.is_some();
    let usual = if is_cluster { Medium::Redis } else { Medium::Disk };
    let kept = Kept {
        is_cluster,
        storage: history.storage.unwrap_or(usual),
        max_events: history.max_events,
        max_bytes: history.max_bytes,
        max_age: history.max_age,
        keep_newest: history.keep_newest,
    };
    let storage_key = "history.storage";
    let default = kept.rule("history", storage_key, Pattern::everything(), complaints);
    let listed = typed.topics.iter().enumerate();
    let listed: Vec<_> = listed.map(|(at, rule)| kept.listed(at, rule, complaints)).collect();
    let is_on_disk = listed.iter().chain([&default]).any(|rule| rule.storage == Storage::Disk);
    let safest = match (is_cluster, is_on_disk) {
        (true, _) => Storage::Redis,
        (false, true) => Storage::Disk,
        (false, false) => Storage::Memory,
    };
    Rules {
        listed,
        revocations: revocations(&default, safest, &typed.auth),
        webhook_offsets: webhook_offsets(&default, safest),
        notices: notices(&default, safest, !typed.webhooks.is_empty()),
        default,
    }
}

/// What is kept of notices: enough for webhooks to be away for a while, and nothing where there are none.
fn notices(default: &Rule, safest: Storage, are_posted: bool) -> Rule {
    Rule {
        pattern: Pattern::everything(),
        storage: if are_posted { safest } else { Storage::None },
        max_events: 100_000,
        max_bytes: 64 << 20,
        max_age: Duration::from_secs(DAY),
        keep_newest: false,
        ..default.clone()
    }
}

/// What is kept of revocations: in the safest place there is, and as long as they are remembered. How many
/// there may be is looked at where they are made, for none that is in force may be removed.
fn revocations(default: &Rule, storage: Storage, auth: &schema::Auth) -> Rule {
    Rule {
        pattern: Pattern::from(&Topic::revocations()),
        storage,
        max_events: usize::MAX,
        max_bytes: usize::MAX,
        max_age: auth.revocation_window.0.max(Duration::from_secs(1)),
        keep_newest: false,
        subscribe: Who::Nobody,
        publish: Who::Nobody,
        ..default.clone()
    }
}

/// What is kept of how far webhooks got: the last steps of each, for good, in the safest place there is.
fn webhook_offsets(default: &Rule, storage: Storage) -> Rule {
    Rule {
        pattern: Pattern::everything(),
        storage,
        max_events: 1_000,
        max_bytes: usize::MAX,
        max_age: Duration::MAX,
        keep_newest: false,
        ..default.clone()
    }
}

/// What is kept of a topic, before it is checked.
#[derive(Clone, Copy)]
struct Kept {
    is_cluster: bool,
    storage: Medium,
    max_events: usize,
    max_bytes: Size,
    max_age: Span,
    keep_newest: bool,
}

impl Kept {
    /// A rule with these bounds, whose keys begin with `path`.
    fn rule(
        self,
        path: &str,
        storage_key: &str,
        pattern: Pattern,
        complaints: &mut Complaints,
    ) -> Rule {
        complaints.at_least_one(&format!("{path}.max_events"), self.max_events);
        complaints.at_least_one(&format!("{path}.max_bytes"), self.max_bytes.0);
        let max_age = complaints.between(&format!("{path}.max_age"), self.max_age, 1, CENTURY);
        let (pattern, own) = Own::split(pattern);
        Rule {
            pattern,
            own,
            storage: self.storage(storage_key, complaints),
            max_events: self.max_events,
            max_bytes: self.max_bytes.0,
            max_age,
            keep_newest: self.keep_newest,
            presence: false,
            from: true,
            subscribe: Who::Token,
            publish: Who::Token,
        }
    }

    fn storage(self, key: &str, complaints: &mut Complaints) -> Storage {
        match (self.storage, self.is_cluster) {
            (Medium::None, _) => return Storage::None,
            (Medium::Redis, true) => return Storage::Redis,
            (Medium::Disk, false) => return Storage::Disk,
            (Medium::Memory, false) => return Storage::Memory,
            (Medium::Redis, false) => complaints.add(key, "\"redis\" needs redis.url"),
            (Medium::Disk | Medium::Memory, true) => {
                let message = "with redis.url, events are kept in Redis for all nodes: use \"redis\" \
                               or \"none\"";
                complaints.add(key, message);
            }
        }
        Storage::None
    }

    /// A rule of `[[topics]]`, for which these are the defaults.
    fn listed(self, index: usize, typed: &schema::Rule, complaints: &mut Complaints) -> Rule {
        let path = format!("topics[{index}]");
        let pattern = match &typed.pattern {
            None => Err("is missing: a rule needs the pattern it is about".to_owned()),
            Some(text) => Pattern::parse(text).map_err(|error| format!("not a pattern: {error}")),
        };
        let pattern = pattern.unwrap_or_else(|message| {
            complaints.add(&format!("{path}.match"), message);
            Pattern::everything()
        });
        let kept = Self {
            is_cluster: self.is_cluster,
            storage: typed.history.unwrap_or(self.storage),
            max_events: typed.max_events.unwrap_or(self.max_events),
            max_bytes: typed.max_bytes.unwrap_or(self.max_bytes),
            max_age: typed.max_age.unwrap_or(self.max_age),
            keep_newest: typed.keep_newest.unwrap_or(self.keep_newest),
        };
        let rule = kept.rule(&path, &format!("{path}.history"), pattern, complaints);
        for (key, who) in [("subscribe", typed.subscribe), ("publish", typed.publish)] {
            if who == Some(Who::Own) && rule.own.is_none() {
                let message = "\"own\" needs a segment {sub} or {session} in match";
                complaints.add(&format!("{path}.{key}"), message);
            }
        }
        let usual = if rule.own.is_some() { Who::Own } else { Who::Token };
        let subscribe = typed.subscribe.unwrap_or(usual);
        let publish = typed.publish.unwrap_or(Who::Token);
        Rule { presence: typed.presence, from: typed.from, subscribe, publish, ..rule }
    }
}

/// What earlier releases took for something else in a rule about topics that belong to users.
fn meant_otherwise(index: usize, typed: &schema::Rule) -> Vec<String> {
    let mut warnings = Vec::new();
    if typed.publish.is_none() {
        warnings.push(format!(
            "topics[{index}] does not say who may publish: users may no longer do so to topics of their own \
             without a grant; publish = \"own\" lets them, \"token\" or \"nobody\" does not"
        ));
    }
    for (key, who) in [("subscribe", typed.subscribe), ("publish", typed.publish)] {
        if who == Some(Who::Token) {
            warnings.push(format!(
                "topics[{index}].{key} = \"token\" asks for a grant of the user to whom the topic belongs, too; \
                 \"own\" does not"
            ));
        }
    }
    warnings
}

/// Warns of rules that do something else than they seem to.
pub(super) fn warnings(typed: &Typed, rules: &Rules) -> Vec<String> {
    let mut warnings = Vec::new();
    let listed = &rules.listed;
    for (index, (rule, typed)) in listed.iter().zip(&typed.topics).enumerate() {
        warnings.extend(rule.own.iter().flat_map(|_| meant_otherwise(index, typed)));
        let covered = |before: &Rule| before.pattern.covers(&rule.pattern);
        if let Some(before) = listed[..index].iter().position(covered) {
            let warning = format!(
                "topics[{index}] never applies: topics[{before}] stands before it and matches all \
                 of its topics"
            );
            warnings.push(warning);
        }
    }
    warnings
}
