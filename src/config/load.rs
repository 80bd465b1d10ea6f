//! Where settings come from: a file, then the environment, then flags; each goes over the one before.
//!
//! Whatever is wrong is said at once, each with its key and the place where it was typed, and with
//! the name that was probably meant. The value is said too, unless the key is a secret.

mod entries;
mod platform;
mod renamed;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::entries::{API_KEYS, ENTRIES_ENV, REDIS_SOURCES, RULES, WEBHOOKS};
use self::renamed::{Named, RENAMED, Renamed};
use super::Config;
use super::check::{Complaint, Complaints, check};
use super::schema::{KEYS, Key, SECTIONS, Typed};
use super::value::Given;

/// What to read a configuration from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The variables of the environment; those without `FANFARE_` are passed over.
    pub env: Vec<(String, String)>,
    /// The values of `--set`: `SECTION.KEY=VALUE`.
    pub sets: Vec<String>,
}

impl Sources {
    /// The file that is read where none is named, if it exists in the working directory.
    pub const DEFAULT_FILE: &str = "fanfare.toml";

    /// The sources of this process. Without `file`, what `FANFARE_CONFIG` names is read, or
    /// [`Self::DEFAULT_FILE`] if it exists.
    pub fn of_process(file: Option<PathBuf>, sets: Vec<String>) -> Self {
        let default = || Some(PathBuf::from(Self::DEFAULT_FILE)).filter(|path| path.exists());
        let named = || std::env::var_os("FANFARE_CONFIG").filter(|path| !path.is_empty());
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self {
            file: file.or_else(|| named().map(PathBuf::from)).or_else(default),
            env: std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect(),
            sets,
        }
    }
}

/// A configuration, and how it came to be.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What was decided.
    pub config: Config,
    /// What was typed, secrets included.
    pub typed: Typed,
    /// The settings that differ from their defaults.
    pub settings: Vec<Setting>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
}

/// A setting that differs from its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its section and key.
    pub key: String,
    /// Its value as TOML, with secrets blotted out.
    pub value: String,
    /// Where it was typed.
    pub origin: Origin,
}

/// Where a setting was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a file, at this line.
    File(PathBuf, usize),
    /// In the environment variable of this name.
    Env(String),
    /// As a flag, for this key.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Origin::Env(name) => f.write_str(name),
            Origin::Flag(key) => write!(f, "--set {key}"),
        }
    }
}

/// All that is wrong with a configuration, a line each. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// What is wrong, one by one.
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

/// Reads and checks a configuration.
pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
    load_with_origins(sources).map(|loaded| loaded.config)
}

/// Reads and checks a configuration, and says where its settings come from.
pub fn load_with_origins(sources: &Sources) -> Result<Loaded, ConfigError> {
    load_renaming(sources, RENAMED)
}

fn load_renaming(sources: &Sources, renamed: &'static [Renamed]) -> Result<Loaded, ConfigError> {
    let mut reader = Reader { renamed, ..Reader::default() };
    if let Some(path) = &sources.file {
        reader.file(path);
    }
    for (name, value) in &sources.env {
        reader.env(name, value);
    }
    for set in &sources.sets {
        reader.flag(set);
    }
    let mut complaints = Complaints::default();
    let (config, warnings) = check(&reader.typed, &mut complaints);
    if reader.problems.is_empty() && complaints.is_empty() {
        let settings = reader.settings();
        let warnings = reader.warnings.into_iter().chain(warnings).collect();
        return Ok(Loaded { config, typed: reader.typed, warnings, settings });
    }
    for complaint in complaints {
        reader.complain(&complaint);
    }
    Err(ConfigError(reader.problems))
}

/// Names that the command line and tests use, which set nothing here.
const OTHER_NAMES: [&str; 6] = [
    "FANFARE_API_KEY",
    "FANFARE_TOKEN",
    "FANFARE_URL",
    "FANFARE_PROXY_LOGIN",
    "FANFARE_CONFIG",
    "FANFARE_BIN",
];

/// What one source is called, and where in it one is.
enum Source<'a> {
    File { path: &'a Path, text: &'a str },
    Env(&'a str),
    Flag(&'a str),
}

impl Source<'_> {
    fn origin(&self, at: &Range<usize>) -> Origin {
        match self {
            Source::File { path, text } => Origin::File(path.to_path_buf(), line(text, at.start)),
            Source::Env(name) => Origin::Env((*name).to_owned()),
            Source::Flag(key) => Origin::Flag((*key).to_owned()),
        }
    }

    /// A TOML value as it was written, short enough for an error.
    fn excerpt(&self, value: &Spanned<DeValue<'_>>) -> String {
        match self {
            Source::File { text, .. } => shorten(text.get(value.span()).unwrap_or_default()),
            Source::Env(_) | Source::Flag(_) => format!("a TOML {}", value.get_ref().type_str()),
        }
    }
}

fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}

fn shorten(text: &str) -> String {
    let short: String =
        text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < text.len() { short + "…" } else { short }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    renamed: &'static [Renamed],
    typed: Typed,
    origins: BTreeMap<String, Origin>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Reader {
    fn file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.problems.push(format!("{}: {error}", path.display())),
        };
        let table = match DeTable::parse(&text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                // The error's own `Display` would show the line, which may hold a secret.
                let line = line(&text, error.span().map_or(0, |span| span.start));
                let problem = format!("{}, line {line}: {}", path.display(), error.message());
                return self.problems.push(problem);
            }
        };
        let source = Source::File { path, text: &text };
        let mut sections: Vec<_> = table.iter().collect();
        sections.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in sections {
            self.section(name, value, &source);
        }
    }

    fn section(
        &mut self,
        name: &Spanned<impl AsRef<str>>,
        value: &Spanned<DeValue<'_>>,
        source: &Source<'_>,
    ) {
        let (section, origin) = (name.get_ref().as_ref(), source.origin(&name.span()));
        if section == RULES.name {
            return self.entries(&RULES, value, source);
        }
        if section == WEBHOOKS.name {
            return self.entries(&WEBHOOKS, value, source);
        }
        if section == "ingress" {
            return self.ingress(value, source, &origin);
        }
        let known = SECTIONS.iter().any(|(name, _)| *name == section);
        match value.get_ref() {
            DeValue::Table(table) if known => self.keys(section, table, source),
            DeValue::Table(_) => {
                let sections = SECTIONS.iter().map(|(name, _)| (*name).to_owned());
                self.unknown(
                    "section",
                    section,
                    sections.chain(["topics", "ingress", "webhooks"].map(str::to_owned)),
                    &origin,
                );
            }
            _ if known => self.problem(section, "expected a section", &origin),
            _ => self.unknown("key", section, KEYS.iter().map(Key::path), &origin),
        }
    }

    fn keys(&mut self, section: &str, table: &DeTable<'_>, source: &Source<'_>) {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let path = format!("{section}.{}", name.get_ref());
            if path == API_KEYS.name {
                self.entries(&API_KEYS, value, source);
                continue;
            }
            let origin = source.origin(&name.span());
            match self.named(&path, &origin) {
                Named::Key(key) => {
                    self.set(key, Given::Toml(value.get_ref()), &source.excerpt(value), origin);
                }
                Named::Superseded => {}
                Named::Unknown => self.unknown("key", &path, KEYS.iter().map(Key::path), &origin),
            }
        }
    }

    fn env(&mut self, name: &str, value: &str) {
        if !name.starts_with("FANFARE_") || OTHER_NAMES.contains(&name) {
            return;
        }
        if self.text_as_entries(name, value, &Source::Env(name)) {
            return;
        }
        let origin = Origin::Env(name.to_owned());
        match self.named(name, &origin) {
            Named::Key(key) => {
                self.set(key, Given::Text(value), &format!("{:?}", shorten(value)), origin);
            }
            Named::Superseded => {}
            Named::Unknown if platform::sets(name, value) => {}
            Named::Unknown => {
                let names = KEYS.iter().map(Key::env).chain(ENTRIES_ENV.map(str::to_owned));
                let meant = nearest(name, names);
                self.problems.push(format!("unknown variable `{name}`{meant}"));
            }
        }
    }

    fn flag(&mut self, set: &str) {
        let Some((path, value)) = set.split_once('=') else {
            let problem = "--set takes SECTION.KEY=VALUE, such as --set limits.connections=1000";
            return self.problems.push(problem.to_owned());
        };
        let path = path.trim();
        if self.text_as_entries(path, value, &Source::Flag(path)) {
            return;
        }
        let origin = Origin::Flag(path.to_owned());
        match self.named(path, &origin) {
            Named::Key(key) => {
                self.set(key, Given::Text(value), &format!("{:?}", shorten(value)), origin);
            }
            Named::Superseded => {}
            Named::Unknown => self.unknown("key", path, KEYS.iter().map(Key::path), &origin),
        }
    }

    fn set(&mut self, key: &Key<Typed>, given: Given<'_>, excerpt: &str, origin: Origin) {
        match (key.set)(&mut self.typed, given) {
            Some(()) => {
                self.warn_of_trimmed(&key.path(), key, given, &origin);
                self.origins.insert(key.path(), origin);
            }
            None => self.wrong_form(&key.path(), key, excerpt, &origin),
        }
    }

    /// Who uses a secret elsewhere as it was typed, to sign for instance, uses another one.
    fn warn_of_trimmed<T>(&mut self, path: &str, key: &Key<T>, given: Given<'_>, origin: &Origin) {
        if key.secret && given.is_trimmed() {
            self.warnings.push(format!(
                "{path}: white space at an end of it was left out; so it must be wherever else the \
                 secret is used ({origin})"
            ));
        }
    }

    fn wrong_form<T>(&mut self, path: &str, key: &Key<T>, excerpt: &str, origin: &Origin) {
        let found = if key.secret { String::new() } else { format!(", found {excerpt}") };
        self.problem(path, &format!("expected {}{found}", key.form), origin);
    }

    fn unknown(
        &mut self,
        what: &str,
        name: &str,
        known: impl Iterator<Item = String> + Clone,
        origin: &Origin,
    ) {
        self.problems.push(format!("unknown {what} `{name}`{} ({origin})", nearest(name, known)));
    }

    fn problem(&mut self, path: &str, message: &str, origin: &Origin) {
        self.problems.push(format!("{path}: {message} ({origin})"));
    }

    /// Adds what is wrong with values that have their form, with where they were typed.
    fn complain(&mut self, Complaint { key, message }: &Complaint) {
        // What a rule lacks was typed nowhere, but the rule was; an item stands where its list does.
        let rule = key.split_inclusive(']').next();
        let list = key.split('[').next();
        let mut places = [Some(key.as_str()), rule, list].into_iter().flatten();
        match places.find_map(|place| self.origins.get(place)).cloned() {
            Some(origin) => self.problem(key, message, &origin),
            None => self.problems.push(format!("{key}: {message}")),
        }
    }

    fn settings(&self) -> Vec<Setting> {
        let setting = |key: String, value: Option<String>, default: Option<String>| {
            let (value, origin) = (value?, self.origins.get(&key)?.clone());
            (Some(&value) != default.as_ref()).then_some(Setting { key, value, origin })
        };
        let sections =
            KEYS.iter().map(|key| setting(key.path(), (key.show)(&self.typed), key.default()));
        let rules = RULES.shown(&self.typed.topics);
        let sources = REDIS_SOURCES.shown(&self.typed.ingress_redis);
        let keys = API_KEYS.shown(&self.typed.auth_keys);
        let webhooks = WEBHOOKS.shown(&self.typed.webhooks);
        let entries = rules.into_iter().chain(sources).chain(keys).chain(webhooks);
        let entries = entries.map(|(key, value, default)| setting(key, value, default));
        sections.chain(entries).flatten().collect()
    }
}

/// How alike two names must be before one is taken for the other, from 0 to 1.
const ALIKE: f64 = 0.6;

/// `; did you mean …?`, where a known name is like `name` or is the same in another section.
fn nearest(name: &str, known: impl Iterator<Item = String> + Clone) -> String {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let elsewhere = known.clone().find(|known| last(known) == last(name));
    let alike = || {
        known
            .map(|known| (strsim::normalized_damerau_levenshtein(&known, name), known))
            .filter(|(likeness, _)| *likeness >= ALIKE)
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, known)| known)
    };
    elsewhere.or_else(alike).map_or(String::new(), |known| format!("; did you mean `{known}`?"))
}

#[cfg(test)]
mod tests;
