//! Who is known, and by what.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};

use crate::model::Pattern;

/// Who is known.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    /// API keys with full rights, as hashes.
    pub api_keys: Vec<KeyHash>,
    /// API keys with some rights.
    pub scoped_keys: Vec<Arc<ApiKey>>,
    /// How subscribers' tokens are checked, where they are.
    pub jwt: Option<Jwt>,
    /// The name of the cookie that may hold a subscriber's token, for pages whose origin is known.
    pub cookie: Option<String>,
    /// How long revocations are remembered.
    pub revocation_window: Duration,
    /// The most revocations remembered at a time; one more gets 429 `too_many`.
    pub revocations: usize,
    /// Events a second with one credential; more gets 429 `too_many`. 0 for any number.
    pub publishes_per_second: usize,
    /// The most tickets that wait to be used; one more gets 429 `too_many`.
    pub tickets: usize,
}

impl Auth {
    /// Whether no credential is configured: everyone who reaches the broker has every right.
    pub fn is_open(&self) -> bool {
        self.api_keys.is_empty() && self.scoped_keys.is_empty() && self.jwt.is_none()
    }
}

/// An API key with some rights, beside what anyone may, whatever else the rules of topics say.
#[derive(Debug)]
pub struct ApiKey {
    /// What it is called.
    pub name: String,
    /// Its hash.
    pub hash: KeyHash,
    /// Patterns that it may publish to.
    pub publish: Vec<Pattern>,
    /// Patterns that it may subscribe to.
    pub subscribe: Vec<Pattern>,
    /// Whether it may do what is for operators.
    pub admin: bool,
}

/// The SHA-256 hash of an API key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(pub [u8; 32]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// How JSON Web Tokens (RFC 7519) are checked.
#[derive(Debug, Clone)]
pub struct Jwt {
    /// The keys that signatures are checked with; one of them has to fit.
    pub keys: Vec<TokenKey>,
    /// Where more keys are published.
    pub jwks: Option<Jwks>,
    /// The `iss` a token must have.
    pub issuer: Option<String>,
    /// The `aud` a token must have.
    pub audience: Option<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
}

/// Where public keys are published (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwks {
    /// The address of the set.
    pub url: String,
    /// How old keys may become before they are fetched again.
    pub refresh: Duration,
    /// How old they may become while they can't be.
    pub keep: Duration,
}

/// A key that the signatures of tokens are checked with.
#[derive(Clone)]
pub struct TokenKey {
    /// The algorithms it may be used with, all of one family: a token's header chooses among these
    /// and never beyond them.
    pub algorithms: Vec<Algorithm>,
    /// The key itself.
    pub key: DecodingKey,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenKey").field(&self.algorithms).finish()
    }
}
