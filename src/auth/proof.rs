//! What a caller is known by, so that it can be asked later whether that still holds.
//!
//! It is a part of a hash of the key that the credential was checked with: enough to know the key
//! again, and of no other use. Nothing is kept of the credential itself.

use aws_lc_rs::digest::{Context, SHA256};
use jsonwebtoken::{DecodingKey, DecodingKeyKind};
use serde::{Deserialize, Serialize};

use crate::config::{Jwks, Jwt, KeyHash};

/// What a caller is known by; the default is that of an open broker, which asks for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Proof([u8; 16]);

impl Proof {
    /// That of an API key.
    pub(super) fn of_api_key(KeyHash(hash): &KeyHash) -> Self {
        Self::of(&[b"api key", hash])
    }

    /// That of tokens which are checked with `key`.
    pub(super) fn of_token_key(key: &DecodingKey, jwt: &Jwt) -> Self {
        let (issuer, audience) = claims(jwt);
        match key.kind() {
            DecodingKeyKind::SecretOrDer(key) => Self::of(&[b"token key", key, issuer, audience]),
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                Self::of(&[b"token key", n, e, issuer, audience])
            }
        }
    }

    /// That of tokens which are checked with what is published at a place.
    pub(super) fn of_published(place: &Jwks, jwt: &Jwt) -> Self {
        let (issuer, audience) = claims(jwt);
        Self::of(&[b"published keys", place.url.as_bytes(), issuer, audience])
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Context::new(&SHA256);
        for part in parts {
            // With its length, or two lists of parts could look alike.
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut proof = Self::default();
        let bytes = proof.0.len();
        proof.0.copy_from_slice(&hash.finish().as_ref()[..bytes]);
        proof
    }
}

/// What else a token must say: who issued it, and for whom.
fn claims(jwt: &Jwt) -> (&[u8], &[u8]) {
    fn bytes(claim: &Option<String>) -> &[u8] {
        claim.as_deref().unwrap_or_default().as_bytes()
    }
    (bytes(&jwt.issuer), bytes(&jwt.audience))
}
