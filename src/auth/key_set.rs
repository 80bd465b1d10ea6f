//! Published keys: a JSON Web Key Set (RFC 7517), read with suspicion.
//!
//! A set is taken from the network, so it says less than an operator does: symmetric keys, keys for
//! encryption and keys of unknown kinds are left out, each with its reason, and a key that names its
//! algorithm is for that one alone.

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse};
use serde::Deserialize;
use serde_json::Value;

use crate::config::TokenKey;

/// The most keys of a set.
const MAX_KEYS: usize = 64;

/// The longest text out of a set that is repeated, in characters.
const MAX_REPEATED: usize = 64;

/// The usable keys of a set, and what is to be said of the others.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<(Option<String>, TokenKey)>,
    left_out: Vec<String>,
}

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
    /// Nothing in it can check a token; with the reason for each key.
    #[error("it has no key for RS256 to RS512, PS256 to PS512, ES256, ES384 or EdDSA{}", reasons(.0))]
    NoneUsable(Vec<String>),
}

impl KeySet {
    /// Reads a document.
    pub fn parse(document: &[u8]) -> Result<Self, KeySetError> {
        let document: Document = serde_json::from_slice(document)
            .map_err(|error| KeySetError::Malformed(error.to_string()))?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(document.keys.len()));
        }
        let mut set = Self::default();
        for (index, value) in document.keys.into_iter().enumerate() {
            let name = called(index, &value);
            match usable(value) {
                Ok(key) => set.keys.push(key),
                Err(reason) => set.left_out.push(format!("{name} {reason}")),
            }
        }
        if set.keys.is_empty() { Err(KeySetError::NoneUsable(set.left_out)) } else { Ok(set) }
    }

    /// Each key that can't check a token, and why.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The keys that a token with this `kid` may be signed with: that one, or any where it names
    /// none.
    pub fn named<'a>(&'a self, kid: Option<&'a str>) -> impl Iterator<Item = &'a TokenKey> {
        let fits = move |name: &Option<String>| kid.is_none() || name.as_deref() == kid;
        self.keys.iter().filter(move |(name, _)| fits(name)).map(|(_, key)| key)
    }
}

fn reasons(left_out: &[String]) -> String {
    if left_out.is_empty() { String::new() } else { format!(": {}", left_out.join("; ")) }
}

/// What a key is called where something is said of it.
fn called(index: usize, value: &Value) -> String {
    match value.get("kid").and_then(Value::as_str) {
        Some(kid) => format!("the key {:?}", kid.chars().take(MAX_REPEATED).collect::<String>()),
        None => format!("keys[{index}]"),
    }
}

/// A key with its name, or why it can't check a token.
fn usable(value: Value) -> Result<(Option<String>, TokenKey), String> {
    let text = |name: &str| {
        let text = value.get(name).and_then(Value::as_str).unwrap_or_default();
        text.chars().take(MAX_REPEATED).collect::<String>()
    };
    let (kind, curve) = (text("kty"), text("crv"));
    let known = match (kind.as_str(), curve.as_str()) {
        ("RSA", _) | ("EC", "P-256" | "P-384") | ("OKP", "Ed25519") => true,
        ("EC" | "OKP", curve) => return Err(format!("is of the curve {curve:?}")),
        _ => false,
    };
    if !known {
        return Err(format!("is of the kind {kind:?}"));
    }
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| "is no key of RFC 7517".to_owned())?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Err("is not for signatures (`use`)".to_owned());
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "is not whole".to_owned())?;
    let mut key = TokenKey::of_public(key).map_err(|why| format!("can't be used: {why}"))?;
    if let Some(only) = jwk.common.key_algorithm {
        key.algorithms.retain(|algorithm| KeyAlgorithm::from(*algorithm) == only);
    }
    match key.algorithms.is_empty() {
        true => Err("is not for the algorithm that it names (`alg`)".to_owned()),
        false => Ok((jwk.common.key_id, key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::Algorithm;
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
            let alone = parse(std::slice::from_ref(&useless)).unwrap_err();
            assert!(matches!(&alone, KeySetError::NoneUsable(of) if of.len() == 1), "{useless}");
            let set = parse(&[useless, ed(json!({}))]).unwrap();
            assert_eq!((set.keys.len(), set.left_out().len()), (1, 1));
        }
    }

    #[test]
    fn a_key_that_is_left_out_is_named_with_its_reason() {
        let point = "A".repeat(43);
        let short =
            json!({"kid": "short", "kty": "RSA", "n": "A".repeat(100) + "AQAB", "e": "AQAB"});
        let set = parse(&[
            json!({"kid": "curve", "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
            json!({"kty": "EC", "crv": "secp256k1", "x": point, "y": point}),
            json!({"kid": "off", "kty": "EC", "crv": "P-256", "x": point, "y": point}),
            short,
            ed(json!({})),
        ]);
        let said = [
            "the key \"curve\" is of the curve \"P-521\"",
            "keys[1] is of the curve \"secp256k1\"",
            "the key \"off\" can't be used: it is no point of P-256 or P-384",
            "the key \"short\" can't be used: it is of RSA with 17 bits",
        ];
        assert_eq!(set.unwrap().left_out(), said);
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
