//! Published keys: a JSON Web Key Set (RFC 7517), read with suspicion.
//!
//! A set is taken from the network, so it says less than an operator does: symmetric keys, keys for
//! encryption and keys of unknown kinds are passed over, and a key that names its algorithm is for
//! that one alone.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::config::TokenKey;

/// The most keys of a set.
const MAX_KEYS: usize = 64;

/// The usable keys of a set.
#[derive(Debug, Default)]
pub struct KeySet(Vec<(Option<String>, TokenKey)>);

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// Why a document is not a set of keys.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// It is not JSON of that form.
    #[error("it is not a JSON Web Key Set: {0}")]
    Malformed(String),
    /// It is larger than any issuer needs.
    #[error("it has {0} keys, more than {MAX_KEYS}")]
    TooMany(usize),
    /// Nothing in it can check a token.
    #[error("it has no key for RS256 to RS512, PS256 to PS512, ES256, ES384 or EdDSA")]
    NoneUsable,
}

impl KeySet {
    /// Reads a document.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        let document: Document = serde_json::from_slice(document)
            .map_err(|error| KeySetError::Malformed(error.to_string()))?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(document.keys.len()));
        }
        let keys: Vec<_> = document.keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() { Err(KeySetError::NoneUsable) } else { Ok(Self(keys)) }
    }

    /// The keys that a token with this `kid` may be signed with: that one, or any where it names
    /// none.
    pub fn named<'a>(&'a self, kid: Option<&'a str>) -> impl Iterator<Item = &'a TokenKey> {
        let fits = move |name: &Option<String>| kid.is_none() || name.as_deref() == kid;
        self.0.iter().filter(move |(name, _)| fits(name)).map(|(_, key)| key)
    }
}

/// A key with its name, if it can check a token.
fn usable(value: Value) -> Option<(Option<String>, TokenKey)> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let mut algorithms = algorithms(&jwk.algorithm)?.to_vec();
    if let Some(only) = jwk.common.key_algorithm {
        algorithms.retain(|algorithm| KeyAlgorithm::from(*algorithm) == only);
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let is_usable = !algorithms.is_empty();
    is_usable.then_some((jwk.common.key_id, TokenKey { algorithms, key }))
}

/// The algorithms of a public key.
fn algorithms(parameters: &AlgorithmParameters) -> Option<&'static [Algorithm]> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match parameters {
        AlgorithmParameters::RSA(_) => Some(&[RS256, RS384, RS512, PS256, PS384, PS512]),
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => Some(&[ES256]),
            EllipticCurve::P384 => Some(&[ES384]),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(key) => match key.curve {
            EllipticCurve::Ed25519 => Some(&[EdDSA]),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The Ed25519 key of RFC 8037, appendix A.2.
    fn ed(more: Value) -> Value {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    }

    fn parse(keys: &[Value]) -> Result<KeySet, KeySetError> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn a_key_is_found_by_its_name_and_any_where_none_is_named() {
        let set =
            parse(&[ed(json!({"kid": "a"})), ed(json!({"kid": "b"})), ed(json!({}))]).unwrap();
        assert_eq!(set.named(Some("a")).count(), 1);
        assert_eq!(set.named(None).count(), 3);
        for strange in ["", "c", "../a", "a\0", "a' OR 1=1", "https://evil.example/keys"] {
            assert_eq!(set.named(Some(strange)).count(), 0, "{strange}");
        }
    }

    #[test]
    fn a_key_is_for_the_algorithm_it_names() {
        let set = parse(&[ed(json!({"alg": "EdDSA", "use": "sig"}))]).unwrap();
        let algorithms = set.named(None).map(|key| key.algorithms.clone()).collect::<Vec<_>>();
        assert_eq!(algorithms, [[Algorithm::EdDSA]]);
    }

    #[test]
    fn what_can_not_check_a_token_is_passed_over() {
        let rsa_for_hmac = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "HS256"});
        for useless in [
            json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}),
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "none"}),
            json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
            json!({"kty": "RSA", "n": "!", "e": "AQAB"}),
            json!("a key"),
            json!(null),
            rsa_for_hmac,
            ed(json!({"use": "enc"})),
            ed(json!({"alg": "RS256"})),
            ed(json!({"crv": "X25519"})),
        ] {
            assert_eq!(
                parse(std::slice::from_ref(&useless)).unwrap_err(),
                KeySetError::NoneUsable,
                "{useless}"
            );
            assert_eq!(parse(&[useless, ed(json!({}))]).unwrap().0.len(), 1);
        }
    }

    #[test]
    fn a_document_that_is_no_set_is_refused() {
        for document in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
            let refused = KeySet::parse(document.as_bytes()).unwrap_err();
            assert!(matches!(refused, KeySetError::Malformed(_)), "{document}");
        }
        let many = vec![ed(json!({})); MAX_KEYS + 1];
        assert_eq!(parse(&many).unwrap_err(), KeySetError::TooMany(MAX_KEYS + 1));
    }
}
