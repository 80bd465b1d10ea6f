//! What an operator decided: credentials, rules and origins, replaced as a whole.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use tracing::warn;

use super::caller::Caller;
use super::jwks::Jwks;
use super::origin::is_of_this_machine;
use super::proof::Proof;
use super::token::{Checked, TokenCheck};
use crate::config::{self, ApiKey, KeyHash, Own, Rules, is_segment};
use crate::model::{Allowance, Problem};
use crate::panics::lock;

/// The longest credential that is looked at, in bytes.
const MAX_CREDENTIAL_BYTES: usize = 8 * 1024;

/// What some editors put before a text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// How many publishers are remembered before those that are idle are forgotten.
const FEW_PUBLISHERS: usize = 1_024;

/// What an operator decided.
#[derive(Debug)]
pub struct Policy {
    pub(super) open: bool,
    /// With what who has them is known by.
    api_keys: Vec<(KeyHash, Proof)>,
    scoped_keys: Vec<(Arc<ApiKey>, Proof)>,
    tokens: Option<TokenCheck>,
    pub(super) rules: Rules,
    pub(super) allowed_origins: Vec<String>,
    /// The name of the cookie that may hold a token.
    pub(super) cookie: Option<String>,
    publishes_per_second: usize,
    published: Mutex<HashMap<Publisher, Allowance>>,
    /// A rule that gives users what is their own, if there is one.
    rule_by_sub: Option<Own>,
    /// It was said that somebody owns nothing.
    warned: AtomicBool,
}

/// Whose publishes are counted together.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Publisher {
    Key(Proof),
    User(String),
    Anonymous,
}

/// What a look at a credential tells.
pub(super) enum Look {
    /// Whose it is, or why it is nobody's.
    Settled(Result<Caller, Problem>),
    /// It may be signed by a key that is not known yet.
    KeyMissing(Arc<Jwks>),
}

impl Policy {
    /// Takes the credentials of a checked configuration, its rules, and the origins of pages that
    /// may come in beside our own. What is known of published keys already is kept.
    pub(super) fn new(
        config: &config::Auth,
        rules: Rules,
        allowed_origins: Vec<String>,
        before: Option<&Self>,
    ) -> Self {
        let known = before.and_then(|policy| policy.jwks());
        let tokens = config.jwt.as_ref().map(|jwt| TokenCheck::new(jwt, known));
        let api_keys = config.api_keys.iter().map(|key| (*key, Proof::of_api_key(key))).collect();
        let scoped_keys = config.scoped_keys.iter();
        let scoped_keys =
            scoped_keys.map(|key| (key.clone(), Proof::of_api_key(&key.hash))).collect();
        let mut own = rules.listed.iter().filter_map(|rule| rule.own.as_ref());
        let rule_by_sub = own.find(|own| own.is_by_sub()).cloned();
        Self {
            open: config.is_open(),
            api_keys,
            scoped_keys,
            tokens,
            rules,
            allowed_origins,
            cookie: config.cookie.clone(),
            publishes_per_second: config.publishes_per_second,
            published: Mutex::default(),
            rule_by_sub,
            warned: AtomicBool::new(false),
        }
    }

    /// Counts events that a caller is about to publish; false where it published too many lately.
    pub(super) fn may_publish_more(&self, caller: &Caller, events: usize) -> bool {
        if self.publishes_per_second == 0 {
            return true;
        }
        let publisher = match caller {
            Caller::Application(proof) => Publisher::Key(*proof),
            Caller::Key(key) => Publisher::Key(Proof::of_api_key(&key.hash)),
            Caller::User(user) => Publisher::User(user.bearer.user.clone()),
            Caller::Anonymous => Publisher::Anonymous,
        };
        let mut published = lock(&self.published);
        let now = Instant::now();
        if published.len() >= FEW_PUBLISHERS && published.len().is_power_of_two() {
            published.retain(|_, allowance| !allowance.is_idle(now));
        }
        published.entry(publisher).or_default().take(events, self.publishes_per_second, now)
    }

    /// Whether no credential is configured.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The rules of topics.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Where keys are published, if tokens are checked with such.
    pub(super) fn jwks(&self) -> Option<&Arc<Jwks>> {
        self.tokens.as_ref().and_then(TokenCheck::jwks)
    }

    /// Whose credential this is: an application's key, or a token. A credential that is shown must
    /// be valid; an open broker asks for none and looks at none.
    pub(super) fn look(&self, credential: Option<&str>, now: SystemTime) -> Look {
        if self.open {
            return Look::Settled(Ok(Caller::Application(Proof::default())));
        }
        let Some(credential) = credential else { return Look::Settled(Ok(Caller::Anonymous)) };
        if credential.len() > MAX_CREDENTIAL_BYTES {
            return Look::Settled(Err(Problem::bad_credential("the credential is too long")));
        }
        if credential.starts_with(BYTE_ORDER_MARK) {
            let detail = "the credential begins with a byte order mark (U+FEFF), which is no part of it: \
                          the file that it was read from has one";
            return Look::Settled(Err(Problem::bad_credential(detail)));
        }
        if let Some(caller) = self.application(credential) {
            return Look::Settled(Ok(caller));
        }
        let Some(tokens) = &self.tokens else {
            return Look::Settled(Err(Problem::bad_credential(
                "the credential is not a known API key",
            )));
        };
        match tokens.check(credential, now) {
            Checked::Settled(user) => Look::Settled(user.map(|user| Caller::User(Box::new(user)))),
            Checked::KeyMissing(jwks) => Look::KeyMissing(jwks),
        }
    }

    /// Looks at every key in constant time, so that timing tells nothing of how near a guess was.
    fn application(&self, credential: &str) -> Option<Caller> {
        let hash = digest(&SHA256, credential.as_bytes());
        self.with_key(|key, _| verify_slices_are_equal(&key.0, hash.as_ref()).is_ok())
    }

    /// The application whose key it is; looks at all of them.
    fn with_key(&self, is_it: impl Fn(&KeyHash, Proof) -> bool) -> Option<Caller> {
        let full =
            self.api_keys.iter().fold(
                None,
                |known, (hash, proof)| {
                    if is_it(hash, *proof) { Some(*proof) } else { known }
                },
            );
        let scoped = self.scoped_keys.iter().fold(None, |known, (key, proof)| {
            if is_it(&key.hash, *proof) { Some(key) } else { known }
        });
        match (full, scoped) {
            (Some(proof), _) => Some(Caller::Application(proof)),
            (None, scoped) => scoped.map(|key| Caller::Key(key.clone())),
        }
    }

    /// A caller who came in before this policy, as it is under this one; nobody if what it is known by
    /// is known no longer.
    pub(super) fn revalidated(&self, caller: &Caller) -> Option<Caller> {
        if self.open {
            return Some(Caller::Application(Proof::default()));
        }
        let with = |proof: Proof| self.with_key(|_, known| known == proof);
        match caller {
            Caller::Anonymous => Some(Caller::Anonymous),
            Caller::Application(proof) => with(*proof),
            Caller::Key(key) => self.with_key(|hash, _| *hash == key.hash),
            Caller::User(user) => {
                let by_token = self.tokens.as_ref().is_some_and(|tokens| tokens.knows(user.proof));
                // A ticket is known by the key of the application that asked for it.
                (by_token || with(user.proof).is_some()).then(|| caller.clone())
            }
        }
    }

    /// Warns, once under each configuration, of a user to whom no rule with `{sub}` can give anything, because of
    /// what the user is called.
    pub(super) fn warn_of_owning_nothing(&self, user: &str) {
        let Some(rule) = self.rule_by_sub.as_ref().filter(|_| !is_segment(user)) else { return };
        if !self.warned.swap(true, Ordering::Relaxed) {
            let rule = rule.as_str();
            warn!(
                rule,
                "the `sub` of a token is not one plain segment of a topic, so its user owns none of the topics \
                 of a rule; `fanfare token explain` says which"
            );
        }
    }

    /// Whether some key may do what is for operators, or everyone may.
    pub fn has_operators(&self) -> bool {
        self.open || !self.api_keys.is_empty() || self.scoped_keys.iter().any(|(key, _)| key.admin)
    }

    /// Whether pages of any origin but our own are let in.
    pub fn lists_origins(&self) -> bool {
        self.open || !self.allowed_origins.is_empty()
    }

    /// Whether pages of this origin, if it is not our own, may read what they are answered.
    pub fn lists_origin(&self, origin: &[u8]) -> bool {
        self.allowed_origins.iter().any(|listed| listed.as_bytes() == origin)
            || self.open && str::from_utf8(origin).is_ok_and(is_of_this_machine)
    }
}
