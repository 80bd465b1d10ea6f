//! Tables that may come many times: `[[topics]]`, `[[ingress.redis]]`, `[[auth.keys]]`,
//! `[[webhooks]]`.
//!
//! A later source of settings takes the place of all entries of the one before, for nobody could say which
//! of them it means.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::schema::{
    API_KEY_KEYS, ApiKey, Key, REDIS_SOURCE_KEYS, RULE_KEYS, RedisSource, Rule, Typed,
    WEBHOOK_KEYS, Webhook,
};
use super::super::value::Given;
use super::{Origin, Reader, Source};

/// What may come many times: entries of `T`, each a table.
pub(super) struct Entries<T: 'static> {
    /// What they are called, in a file and on the command line.
    pub(super) name: &'static str,
    /// What they are called in the environment.
    pub(super) env: &'static str,
    /// What one of them is called.
    one: &'static str,
    /// One, as an example.
    example: &'static str,
    keys: &'static [Key<T>],
    of: fn(&mut Typed) -> &mut Vec<T>,
}

/// The rules about topics.
pub(super) const RULES: Entries<Rule> = Entries {
    name: "topics",
    env: "FANFARE_TOPICS",
    one: "rule",
    example: r#"[{match = "a.>", history = "none"}]"#,
    keys: RULE_KEYS,
    of: |typed| &mut typed.topics,
};

/// The sources in an application's own Redis.
pub(super) const REDIS_SOURCES: Entries<RedisSource> = Entries {
    name: "ingress.redis",
    env: "FANFARE_INGRESS_REDIS",
    one: "source",
    example: r#"[{stream = "orders", topic = "orders"}]"#,
    keys: REDIS_SOURCE_KEYS,
    of: |typed| &mut typed.ingress_redis,
};

/// The API keys with some rights.
pub(super) const API_KEYS: Entries<ApiKey> = Entries {
    name: "auth.keys",
    env: "FANFARE_AUTH_KEYS",
    one: "key",
    example: r#"[{name = "shop", key = "sha256:…", publish = ["orders.>"]}]"#,
    keys: API_KEY_KEYS,
    of: |typed| &mut typed.auth_keys,
};

/// The applications that notices are posted to.
pub(super) const WEBHOOKS: Entries<Webhook> = Entries {
    name: "webhooks",
    env: "FANFARE_WEBHOOKS",
    one: "webhook",
    example: r#"[{name = "crm", url = "https://…", secret = "whsec_…"}]"#,
    keys: WEBHOOK_KEYS,
    of: |typed| &mut typed.webhooks,
};

/// What all of them are called in the environment.
pub(super) const ENTRIES_ENV: [&str; 4] =
    [RULES.env, REDIS_SOURCES.env, API_KEYS.env, WEBHOOKS.env];

/// A key of an entry, its value and its default.
type Shown = (String, Option<String>, Option<String>);

impl<T: Default> Entries<T> {
    /// Every key of every entry.
    pub(super) fn shown(&self, entries: &[T]) -> Vec<Shown> {
        let of = |(index, entry): (usize, &T)| {
            let path = |key: &Key<T>| format!("{}[{index}].{}", self.name, key.name);
            let shown = |key: &Key<T>| (path(key), (key.show)(entry), key.default());
            self.keys.iter().map(shown).collect::<Vec<_>>()
        };
        entries.iter().enumerate().flat_map(of).collect()
    }
}

impl Reader {
    /// The section that has nothing but sources.
    pub(super) fn ingress(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        source: &Source<'_>,
        origin: &Origin,
    ) {
        let Some(table) = value.get_ref().as_table() else {
            return self.problem(
                "ingress",
                "expected sources, each under [[ingress.redis]]",
                origin,
            );
        };
        for (name, value) in table {
            match format!("ingress.{}", name.get_ref()) {
                path if path == REDIS_SOURCES.name => self.entries(&REDIS_SOURCES, value, source),
                path => {
                    let known = [REDIS_SOURCES.name.to_owned()].into_iter();
                    self.unknown("key", &path, known, &source.origin(&name.span()));
                }
            }
        }
    }

    /// Takes entries that were given as text under one of their names; false where it is none of
    /// theirs.
    pub(super) fn text_as_entries(&mut self, name: &str, text: &str, source: &Source<'_>) -> bool {
        if [RULES.name, RULES.env].contains(&name) {
            self.entries_as_text(&RULES, text, source);
        } else if [REDIS_SOURCES.name, REDIS_SOURCES.env].contains(&name) {
            self.entries_as_text(&REDIS_SOURCES, text, source);
        } else if [API_KEYS.name, API_KEYS.env].contains(&name) {
            self.entries_as_text(&API_KEYS, text, source);
        } else if [WEBHOOKS.name, WEBHOOKS.env].contains(&name) {
            self.entries_as_text(&WEBHOOKS, text, source);
        } else {
            return false;
        }
        true
    }

    fn entries_as_text<T: Default>(
        &mut self,
        entries: &Entries<T>,
        text: &str,
        source: &Source<'_>,
    ) {
        let text = if text.trim().is_empty() { "[]" } else { text };
        match DeValue::parse(text) {
            Ok(value) => self.entries(entries, &value, source),
            Err(_) => {
                let expected = format!("expected TOML such as {}", entries.example);
                self.problem(entries.name, &expected, &source.origin(&(0..0)));
            }
        }
    }

    pub(super) fn entries<T: Default>(
        &mut self,
        entries: &Entries<T>,
        value: &Spanned<DeValue<'_>>,
        source: &Source<'_>,
    ) {
        let (Entries { name, one, .. }, origin) = (entries, source.origin(&value.span()));
        let Some(tables) = value.get_ref().as_array() else {
            let expected = format!("expected {one}s, each under [[{name}]]");
            return self.problem(name, &expected, &origin);
        };
        self.origins.retain(|key, _| !key.starts_with(&format!("{name}[")));
        (entries.of)(&mut self.typed).clear();
        for (index, table) in tables.iter().enumerate() {
            let (path, origin) = (format!("{name}[{index}]"), source.origin(&table.span()));
            match table.get_ref().as_table() {
                Some(table) => {
                    let entry = self.entry(entries, &path, table, source);
                    (entries.of)(&mut self.typed).push(entry);
                    self.origins.insert(path, origin);
                }
                None => {
                    let expected = format!("expected a {one}, under [[{name}]]");
                    self.problem(&path, &expected, &origin);
                }
            }
        }
    }

    fn entry<T: Default>(
        &mut self,
        Entries { name: entries, one, keys, .. }: &Entries<T>,
        path: &str,
        table: &DeTable<'_>,
        source: &Source<'_>,
    ) -> T {
        let mut entry = T::default();
        let mut values: Vec<_> = table.iter().collect();
        values.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in values {
            let origin = source.origin(&name.span());
            let new = self.renamed_in(&format!("{entries}."), name.get_ref(), &origin);
            if new.is_some_and(|new| table.iter().any(|(name, _)| *name.get_ref() == new)) {
                continue;
            }
            let called = new.unwrap_or(name.get_ref());
            let path = format!("{path}.{called}");
            let Some(key) = keys.iter().find(|key| key.name == called) else {
                let names = keys.iter().map(|key| key.name.to_owned());
                self.unknown(&format!("key of a {one}"), name.get_ref(), names, &origin);
                continue;
            };
            let given = Given::Toml(value.get_ref());
            match (key.set)(&mut entry, given) {
                Some(()) => {
                    self.warn_of_trimmed(&path, key, given, &origin);
                    self.origins.insert(path, origin);
                }
                None => self.wrong_form(&path, key, &source.excerpt(value), &origin),
            }
        }
        entry
    }
}
