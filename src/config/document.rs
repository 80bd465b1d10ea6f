//! What the schema says for people: the annotated example and the reference.
//!
//! Both are committed as `fanfare.example.toml` and `docs/configuration.md`; a test fails where they
//! are not what is written here, and `UPDATE_DOCS=1 cargo test config::document` writes them anew.

use std::fmt::Write;

use super::schema::{
    API_KEY_KEYS, KEYS, Key, REDIS_SOURCE_KEYS, RULE_KEYS, SECTIONS, WEBHOOK_KEYS,
};

/// `fanfare.example.toml`: every key with its meaning, at its default.
pub fn example() -> String {
    let mut text = EXAMPLE_HEAD.to_owned();
    for (section, about) in SECTIONS {
        text.push_str("\n\n");
        comment(&mut text, about);
        _ = writeln!(text, "[{section}]");
        for key in KEYS.iter().filter(|key| key.section == *section) {
            text.push('\n');
            comment(&mut text, key.doc);
            _ = match key.default() {
                Some(default) => writeln!(text, "{} = {default}", key.name),
                None => writeln!(text, "# {} = \"…\"", key.name),
            };
        }
    }
    for (about, sample) in [
        (TOPICS_ABOUT, SAMPLE_RULES),
        (API_KEYS_ABOUT, SAMPLE_API_KEYS),
        (SOURCES_ABOUT, SAMPLE_SOURCES),
        (WEBHOOKS_ABOUT, SAMPLE_WEBHOOKS),
    ] {
        text.push_str("\n\n");
        comment(&mut text, about);
        text.push_str("#\n");
        for line in sample.lines() {
            _ = writeln!(text, "{}", format!("# {line}").trim_end());
        }
    }
    text
}

/// `docs/configuration.md`: every key with its form, default and meaning.
pub fn reference() -> String {
    let mut text = REFERENCE_HEAD.to_owned();
    for (section, about) in SECTIONS {
        _ = writeln!(text, "\n## `[{section}]`\n\n{}\n", about.trim());
        _ = writeln!(text, "| key | form | default | meaning |\n|---|---|---|---|");
        for key in KEYS.iter().filter(|key| key.section == *section) {
            let name = format!("`{}`<br>`{}`", key.name, key.env());
            row(&mut text, &name, key, &default(key, "not set"));
        }
    }
    _ = writeln!(text, "\n## `[[topics]]`\n\n{TOPICS_ABOUT}\n");
    _ = writeln!(text, "| key | form | default | meaning |\n|---|---|---|---|");
    for key in RULE_KEYS {
        let unset = match key.name {
            "match" => "required",
            "subscribe" => r#"`"token"`, or `"own"`"#,
            "publish" => r#"`"token"`"#,
            _ => "as in `[history]`",
        };
        row(&mut text, &format!("`{}`", key.name), key, &default(key, unset));
    }
    _ = writeln!(text, "\n```toml\n{SAMPLE_RULES}```\n\n{TOPICS_AS_TEXT}");
    _ = writeln!(text, "## `[[auth.keys]]`\n\n{API_KEYS_ABOUT}\n");
    _ = writeln!(text, "| key | form | default | meaning |\n|---|---|---|---|");
    for key in API_KEY_KEYS {
        row(&mut text, &format!("`{}`", key.name), key, &default(key, "required"));
    }
    _ = writeln!(text, "\n```toml\n{SAMPLE_API_KEYS}```\n\n{API_KEYS_AS_TEXT}");
    _ = writeln!(text, "## `[[ingress.redis]]`\n\n{SOURCES_ABOUT}\n");
    _ = writeln!(text, "| key | form | default | meaning |\n|---|---|---|---|");
    for key in REDIS_SOURCE_KEYS {
        let unset = if key.name == "topic" { "required" } else { "not set" };
        row(&mut text, &format!("`{}`", key.name), key, &default(key, unset));
    }
    _ = writeln!(text, "\n```toml\n{SAMPLE_SOURCES}```\n\n{SOURCES_AS_TEXT}");
    _ = writeln!(text, "## `[[webhooks]]`\n\n{WEBHOOKS_ABOUT}\n");
    _ = writeln!(text, "| key | form | default | meaning |\n|---|---|---|---|");
    for key in WEBHOOK_KEYS {
        row(&mut text, &format!("`{}`", key.name), key, &default(key, "required"));
    }
    _ = writeln!(text, "\n```toml\n{SAMPLE_WEBHOOKS}```\n\n{WEBHOOKS_AS_TEXT}");
    text
}

fn default<T: Default>(key: &Key<T>, unset: &str) -> String {
    key.default().map_or_else(|| unset.to_owned(), |default| format!("`{default}`"))
}

fn row<T>(text: &mut String, name: &str, key: &Key<T>, default: &str) {
    _ = writeln!(text, "| {name} | {} | {default} | {} |", key.word, key.doc.trim());
}

/// Writes `about` as a comment of lines that fit 80 columns.
fn comment(text: &mut String, about: &str) {
    let mut line = String::from("#");
    for word in about.split_whitespace() {
        if line.len() + 1 + word.len() > 80 {
            _ = writeln!(text, "{line}");
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    _ = writeln!(text, "{line}");
}

const EXAMPLE_HEAD: &str = r#"# The configuration of Fanfare: every key, at its default.
#
# The broker reads the file that --config or FANFARE_CONFIG names, otherwise
# fanfare.toml in its working directory, if there is one. Environment variables
# (FANFARE_SERVER_LISTEN for `listen` in [server]) go over the file, and flags
# (--set server.listen=127.0.0.1:9000) over both. Keep only what you change;
# `fanfare check` says what differs from the defaults and where it was set.
#
# Durations have a unit: "250ms", "25s", "10m", "24h", "7d". Sizes are bytes or
# have one: 65536, "64KiB", "1MiB", "1GiB", "64KB".
"#;

const TOPICS_ABOUT: &str = "Rules about topics: the first rule whose pattern matches a topic decides. \
    What a rule leaves out is kept as `[history]` says; who may subscribe and publish is whoever has \
    a token that grants it, unless the rule says otherwise.";

/// Rules as one might write them.
const SAMPLE_RULES: &str = r#"[[topics]]
match = "public.>"          # `*` is one segment, a final `>` one or more
subscribe = "anyone"
publish = "nobody"          # only applications with an API key

[[topics]]
match = "users.{sub}.>"     # each user's own: `subscribe = "own"` by itself
publish = "nobody"

[[topics]]
match = "cursors.*"
history = "none"            # ephemeral: delivered, but not kept

[[topics]]
match = "orders.>"
max_events = 10000
max_bytes = "4MiB"
max_age = "7d"
presence = true             # one may ask who is subscribed
"#;

const API_KEYS_ABOUT: &str = "API keys with some rights, beside those of `auth.api_keys`, which have all. \
    They may do what stands here and what anyone may, whatever else the rules of topics say; several may \
    be in force at once, so that one can take over from another.";

/// Keys as one might write them.
const SAMPLE_API_KEYS: &str = r#"[[auth.keys]]
name = "shop"
key = "sha256:…"            # `fanfare token key` makes one
publish = ["orders.>", "stock.*"]

[[auth.keys]]
name = "support"
key = "sha256:…"
subscribe = [">"]
admin = true                # sessions, presence, forgetting histories
"#;

const WEBHOOKS_ABOUT: &str = "Applications that hear what the broker says about itself: who comes and goes, and \
    which topics are listened to. See `docs/notices.md`.";

/// Webhooks as one might write them.
const SAMPLE_WEBHOOKS: &str = r#"[[webhooks]]
name = "crm"
url = "https://crm.example/hooks/fanfare"
secret = "whsec_…"          # echo whsec_$(openssl rand -base64 32)
events = ["presence.joined", "presence.left"]
topics = ["room.>"]
"#;

const WEBHOOKS_AS_TEXT: &str = r#"Webhooks can also come as one TOML array of inline tables, which takes the place of those in the file:
`FANFARE_WEBHOOKS='[{name = "crm", url = "https://…", secret = "whsec_…"}]'`.
"#;

const API_KEYS_AS_TEXT: &str = r#"Keys can also come as one TOML array of inline tables, which takes the place of those in the file:
`FANFARE_AUTH_KEYS='[{name = "shop", key = "sha256:…", publish = ["orders.>"]}]'`.
"#;

const SOURCES_ABOUT: &str = "What an application that already publishes to a Redis of its own feeds: \
    each of its channels or streams becomes events of a topic. One node at a time reads each.";

/// Sources as one might write them.
const SAMPLE_SOURCES: &str = r#"[[ingress.redis]]
url = "redis://app.example:6379"
stream = "orders"           # read at least once, in its order
field = "json"              # the field that is the data
topic = "orders.new"

[[ingress.redis]]
url = "redis://app.example:6379"
channel = "prices:*"        # heard while somebody listens, as channels are
topic = "app.{name}"        # app.prices.eur for the channel prices:eur
"#;

const SOURCES_AS_TEXT: &str = r#"Sources can also come as one TOML array of inline tables, which takes the place of those in the file:
`FANFARE_INGRESS_REDIS='[{stream = "orders", topic = "orders"}]'`, or `--set ingress.redis=...`. What is
promised of them is in [cluster.md](cluster.md)."#;

const TOPICS_AS_TEXT: &str = r#"Rules can also come as one TOML array of inline tables, which takes the place of those in the file:
`FANFARE_TOPICS='[{match = "public.>", subscribe = "anyone"}]'`, or `--set topics=...`.
"#;

const REFERENCE_HEAD: &str = r#"<!-- Generated from src/config/schema.rs by: UPDATE_DOCS=1 cargo test config::document -->

# Configuration

Fanfare runs without any configuration: it then serves this machine alone, open to everyone on it.

Settings come from three places, each going over the one before:

1. **A file**: the one that `--config FILE` or `FANFARE_CONFIG` names, otherwise `fanfare.toml` in the
   working directory, if there is one. [`fanfare.example.toml`](../fanfare.example.toml) has every key.
2. **The environment**: `FANFARE_<SECTION>_<KEY>`, such as `FANFARE_SERVER_LISTEN=0.0.0.0:8080`.
3. **Flags**: `--set SECTION.KEY=VALUE`, such as `--set limits.connections=50000`; `--listen ADDRESS` is
   short for `--set server.listen=ADDRESS`.

An unknown section, key or `FANFARE_` variable is an error (but for those that Kubernetes and Docker set beside
a service or container of that name), as is a value that does not have its form: the broker says what is wrong and where, and does not start. `fanfare check` looks without starting,
lists what differs from the defaults with the place it comes from, and warns of what is probably not
meant. Secrets are never shown.

| form | in a file | in the environment or a flag |
|---|---|---|
| text, path, address | `"127.0.0.1:8080"` | `127.0.0.1:8080` |
| number | `1000` | `1000` |
| ratio | `0.01` | `0.01` |
| duration | `"250ms"`, `"25s"`, `"10m"`, `"24h"`, `"7d"` | `25s` |
| size | `65536`, `"64KiB"`, `"1MiB"`, `"1GiB"`, `"64KB"` (64,000) | `64KiB` |
| true or false | `true` | `true` |
| list | `["a", "b"]` | `a,b` or `["a", "b"]` |

An empty variable leaves a key without a default unset, and makes a list empty. White space at the
ends of a text, and of each text of a list, is no part of it; where a secret had some, a warning says so.

All three are read again on SIGHUP and when the file changes: credentials, origins, the rights in rules and the
certificate then change while the broker serves, the rest with a restart. See
[security.md](security.md).
"#;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::load::{Sources, load, load_with_origins};
    use super::*;

    fn is_committed(name: &str, generated: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, generated).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == generated,
            "{name} is not what the schema says; run: UPDATE_DOCS=1 cargo test config::document"
        );
    }

    fn file(text: &str) -> (tempfile::TempDir, Sources) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fanfare.toml");
        std::fs::write(&path, text).unwrap();
        (directory, Sources { file: Some(path), ..Sources::default() })
    }

    #[test]
    fn the_committed_example_is_the_generated_one() {
        is_committed("fanfare.example.toml", &example());
    }

    #[test]
    fn the_committed_reference_is_the_generated_one() {
        is_committed("docs/configuration.md", &reference());
    }

    #[test]
    fn the_example_says_the_defaults() {
        let (_directory, sources) = file(&example());
        assert_eq!(load_with_origins(&sources).unwrap().settings, []);
    }

    #[test]
    fn the_sample_rules_are_rules() {
        let (_directory, sources) = file(SAMPLE_RULES);
        assert_eq!(load(&sources).unwrap().rules.listed.len(), 4);
    }

    #[test]
    fn the_sample_sources_are_sources() {
        let (_directory, sources) = file(SAMPLE_SOURCES);
        let sources = load(&sources).unwrap().sources;
        assert_eq!(sources[0].topic_of("orders").unwrap().as_str(), "orders.new");
        assert_eq!(sources[1].topic_of("prices:eur").unwrap().as_str(), "app.prices.eur");
    }

    #[test]
    fn no_line_of_the_example_is_long() {
        assert!(example().lines().all(|line| line.chars().count() <= 80), "{}", example());
    }
}
