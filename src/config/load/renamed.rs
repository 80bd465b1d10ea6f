//! Keys that have another name by now: the old one is read for one release more, with a warning.
//!
//! One line a key, with its section, in [`RENAMED`]; whoever begins a release removes the lines of the one
//! before. Where both names are set in one source, the new one counts.

use super::super::schema::{KEYS, Key, Typed};
use super::{Origin, Reader};

/// A key that got another name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renamed {
    /// What it was called: `section.key`, or `topics.key` for a key of a rule.
    pub(super) old: &'static str,
    /// What it is called now.
    pub(super) new: &'static str,
}

/// Every key that got another name in this release.
pub(super) const RENAMED: &[Renamed] = &[];

/// What a name is the name of.
pub(super) enum Named {
    /// Of this key.
    Key(&'static Key<Typed>),
    /// Of one that is set under its new name already.
    Superseded,
    /// Of nothing.
    Unknown,
}

impl Reader {
    /// The key of a path, or of a variable of the environment.
    pub(super) fn named(&mut self, name: &str, origin: &Origin) -> Named {
        let is_env = matches!(origin, Origin::Env(_));
        let called = |path: &str| if is_env { env(path) == name } else { path == name };
        if let Some(key) = KEYS.iter().find(|key| called(&key.path())) {
            return Named::Key(key);
        }
        let Some(renamed) = self.renamed.iter().find(|renamed| called(renamed.old)) else {
            return Named::Unknown;
        };
        let Some(key) = KEYS.iter().find(|key| key.path() == renamed.new) else {
            return Named::Unknown;
        };
        self.warn_of_old_name(*renamed, origin);
        let set = self.origins.get(renamed.new);
        match set.is_some_and(|set| set.is_of_one_source_with(origin)) {
            true => Named::Superseded,
            false => Named::Key(key),
        }
    }

    /// The new name of a key of an entry, where it has one.
    pub(super) fn renamed_in(
        &mut self,
        entries: &str,
        name: &str,
        origin: &Origin,
    ) -> Option<&'static str> {
        let mut all = self.renamed.iter();
        let renamed = *all.find(|renamed| renamed.old.strip_prefix(entries) == Some(name))?;
        self.warn_of_old_name(renamed, origin);
        renamed.new.strip_prefix(entries)
    }

    fn warn_of_old_name(&mut self, Renamed { old, new }: Renamed, origin: &Origin) {
        let warning = format!(
            "{old} is called {new} by now; the old name is read in this release and not in the next ({origin})"
        );
        self.warnings.push(warning);
    }
}

impl Origin {
    fn is_of_one_source_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Origin::File(one, _), Origin::File(other, _)) => one == other,
            (Origin::Env(_), Origin::Env(_)) => true,
            // Of flags the last one counts.
            _ => false,
        }
    }
}

/// The variable of a path.
fn env(path: &str) -> String {
    format!("FANFARE_{}", path.replace('.', "_")).to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::super::{ConfigError, Loaded, Sources, load_renaming};
    use super::*;

    const MADE_UP: &[Renamed] = &[
        Renamed { old: "limits.clients", new: "limits.connections" },
        Renamed { old: "topics.most", new: "topics.max_events" },
    ];

    fn load(
        file: Option<&str>,
        env: &[(&str, &str)],
        sets: &[&str],
    ) -> Result<Loaded, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fanfare.toml");
        std::fs::write(&path, file.unwrap_or_default()).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        let sources = Sources { file: Some(path), env: env.collect(), sets };
        load_renaming(&sources, MADE_UP)
    }

    #[test]
    fn an_old_name_sets_its_key_with_a_warning_wherever_it_is_typed() {
        for loaded in [
            load(Some("[limits]\nclients = 7"), &[], &[]),
            load(None, &[("FANFARE_LIMITS_CLIENTS", "7")], &[]),
            load(None, &[], &["limits.clients=7"]),
        ] {
            let loaded = loaded.unwrap();
            assert_eq!(loaded.config.limits.connections, 7);
            let warned =
                |warning: &&String| warning.starts_with("limits.clients is called limits.conn");
            assert_eq!(loaded.warnings.iter().filter(warned).count(), 1, "{:?}", loaded.warnings);
            assert_eq!(loaded.settings[0].key, "limits.connections");
        }
        let rule = load(Some("[[topics]]\nmatch = \"a\"\nmost = 7"), &[], &[]).unwrap();
        assert_eq!(rule.config.rules.listed[0].max_events, 7);
        assert!(rule.warnings[0].starts_with("topics.most is called topics.max_events"));
    }

    #[test]
    fn the_new_name_counts_beside_the_old_one_and_a_later_source_over_an_earlier() {
        let connections = |loaded: Result<Loaded, _>| loaded.unwrap().config.limits.connections;
        let (old, new) = ("FANFARE_LIMITS_CLIENTS", "FANFARE_LIMITS_CONNECTIONS");
        assert_eq!(connections(load(Some("[limits]\nclients = 7\nconnections = 8"), &[], &[])), 8);
        assert_eq!(connections(load(Some("[limits]\nconnections = 8\nclients = 7"), &[], &[])), 8);
        assert_eq!(connections(load(None, &[(old, "7"), (new, "8")], &[])), 8);
        assert_eq!(connections(load(None, &[(new, "8"), (old, "7")], &[])), 8);
        assert_eq!(connections(load(Some("[limits]\nconnections = 8"), &[(old, "7")], &[])), 7);
        assert_eq!(connections(load(None, &[(new, "8")], &["limits.clients=7"])), 7);
    }

    #[test]
    fn a_value_that_is_wrong_is_refused_under_an_old_name_too() {
        let error = load(Some("[limits]\nclients = \"many\""), &[], &[]).unwrap_err();
        assert!(
            error.to_string().contains("limits.connections: expected a whole number"),
            "{error}"
        );
        assert!(load(Some("[limits]\nclient = 7"), &[], &[]).is_err());
    }

    #[test]
    fn every_new_name_is_that_of_a_key_and_no_old_one_is() {
        for Renamed { old, new } in RENAMED {
            let is_key = |name: &str| KEYS.iter().any(|key| key.path() == name);
            assert!(!is_key(old), "{old}");
            assert!(
                is_key(new) || new.split('.').count() > 2 || new.starts_with("topics."),
                "{new}"
            );
        }
    }
}
