//! What an operator decided: credentials, rules and origins, replaced as a whole.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use super::jwks::Jwks;
use super::token::{Checked, TokenCheck};
use super::{Caller, unauthorized};
use crate::config::{self, ApiKey, KeyHash, Rules};
use crate::model::Problem;

/// The longest credential that is looked at, in bytes.
const MAX_CREDENTIAL_BYTES: usize = 8 * 1024;

/// What an operator decided.
#[derive(Debug)]
pub struct Policy {
    pub(super) open: bool,
    api_keys: Vec<KeyHash>,
    scoped_keys: Vec<Arc<ApiKey>>,
    tokens: Option<TokenCheck>,
    pub(super) rules: Rules,
    pub(super) allowed_origins: Vec<String>,
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
        let (open, api_keys) = (config.is_open(), config.api_keys.clone());
        let scoped_keys = config.scoped_keys.clone();
        Self { open, api_keys, scoped_keys, tokens, rules, allowed_origins }
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
    pub(super) fn look(&self, credential: Option<&str>) -> Look {
        if self.open {
            return Look::Settled(Ok(Caller::Application));
        }
        let Some(credential) = credential else { return Look::Settled(Ok(Caller::Anonymous)) };
        if credential.len() > MAX_CREDENTIAL_BYTES {
            return Look::Settled(Err(unauthorized("the credential is too long")));
        }
        if let Some(caller) = self.application(credential) {
            return Look::Settled(Ok(caller));
        }
        let Some(tokens) = &self.tokens else {
            return Look::Settled(Err(unauthorized("the credential is not a known API key")));
        };
        match tokens.check(credential) {
            Checked::Settled(user) => Look::Settled(user.map(|user| Caller::User(Box::new(user)))),
            Checked::KeyMissing(jwks) => Look::KeyMissing(jwks),
        }
    }

    /// Looks at every key in constant time, so that timing tells nothing of how near a guess was.
    fn application(&self, credential: &str) -> Option<Caller> {
        let hash = digest(&SHA256, credential.as_bytes());
        let equal = |key: &KeyHash| verify_slices_are_equal(&key.0, hash.as_ref()).is_ok();
        let is_full = self.api_keys.iter().fold(false, |known, key| known | equal(key));
        let scoped = self
            .scoped_keys
            .iter()
            .fold(None, |known, key| if equal(&key.hash) { Some(key) } else { known });
        match (is_full, scoped) {
            (true, _) => Some(Caller::Application),
            (false, scoped) => scoped.map(|key| Caller::Key(key.clone())),
        }
    }
}
