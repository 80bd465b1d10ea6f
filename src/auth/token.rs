//! Subscribers' tokens: JSON Web Tokens (RFC 7519), signed as RFC 7518 and RFC 8037 say.
//!
//! Only algorithms that a key is for are accepted, whatever the token's header says, and `exp` is
//! required. Where keys come from is the operator's to say, never the token's: `jku`, `x5u` and `jwk`
//! in its header are not looked at.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};

use super::caller::User;
use super::claims::{Claims, Said, invalid};
use super::jwks::Jwks;
use super::proof::Proof;
use crate::config::{self, TokenKey};
use crate::model::Problem;

/// Checks tokens.
pub(super) struct TokenCheck {
    keys: Vec<(Proof, TokenKey)>,
    published: Option<(Proof, Arc<Jwks>)>,
    validation: Validation,
    /// How long beyond its `exp` a token holds.
    leeway: Duration,
}

/// What the check of a token tells.
pub(super) enum Checked {
    /// Whose it is, or why it is not valid.
    Settled(Result<User, Problem>),
    /// It may be signed by a key that is not known yet.
    KeyMissing(Arc<Jwks>),
}

/// Why no key has made a token's claims known.
enum Refusal {
    /// A key fits, or none can: the token is not valid.
    Invalid(Error),
    /// Its header asks for what nobody here understands.
    Critical,
    /// None of the keys that are known is the one.
    NoKey,
}

impl TokenCheck {
    /// A check that goes on with what is `known` of the same published keys.
    pub(super) fn new(config: &config::Jwt, known: Option<&Arc<Jwks>>) -> Self {
        let published = config.jwks.as_ref().map(|at| {
            let jwks = match known.filter(|known| known.is_at(at)) {
                Some(known) => known.clone(),
                None => Arc::new(Jwks::new(at.clone())),
            };
            (Proof::of_published(at, config), jwks)
        });
        let proved = |key: &TokenKey| (Proof::of_token_key(&key.key, config), key.clone());
        let keys = config.keys.iter().map(proved).collect();
        Self { keys, published, validation: validation(config), leeway: config.leeway }
    }

    pub(super) fn jwks(&self) -> Option<&Arc<Jwks>> {
        self.published.as_ref().map(|(_, jwks)| jwks)
    }

    /// Whether tokens that were checked so would be checked so again.
    pub(super) fn knows(&self, proof: Proof) -> bool {
        let mut proofs = self.keys.iter().map(|(proof, _)| proof);
        proofs.any(|known| *known == proof)
            || self.published.as_ref().is_some_and(|(known, _)| *known == proof)
    }

    /// What a token says at a time of day.
    pub(super) fn check(&self, token: &str, now: SystemTime) -> Checked {
        let refusal = match self.claims(token) {
            Ok((said, proof)) => {
                let claims = Claims::read(said).map_err(invalid);
                let user = claims.and_then(|claims| claims.user(token, proof, now, self.leeway));
                return Checked::Settled(user);
            }
            Err(refusal) => refusal,
        };
        let error = match (refusal, self.jwks()) {
            (Refusal::NoKey, Some(jwks)) => return Checked::KeyMissing(jwks.clone()),
            (Refusal::NoKey, None) => {
                let detail = "none of the keys that are configured is for the `alg` of its header";
                return Checked::Settled(Err(invalid(detail)));
            }
            (Refusal::Critical, _) => {
                let detail = "its header has `crit`, and nothing that may be there is understood";
                return Checked::Settled(Err(invalid(detail)));
            }
            (Refusal::Invalid(error), _) => error,
        };
        let wrong =
            matches!(error.kind(), ErrorKind::Json(_)).then(|| wrong_claim(token)).flatten();
        Checked::Settled(Err(invalid(wrong.unwrap_or_else(|| why(&error)))))
    }

    /// The claims, and what proves them, if one of the keys fits. The error is that of the key which
    /// came furthest.
    fn claims(&self, token: &str) -> Result<(Said, Proof), Refusal> {
        let header = decode_header(token).map_err(Refusal::Invalid)?;
        if header.crit.is_some() {
            // RFC 7515, section 4.1.11: what is critical and not understood makes it invalid.
            return Err(Refusal::Critical);
        }
        let mut refusal = Refusal::NoKey;
        let mut with = |proof: Proof, key: &TokenKey| {
            if !key.algorithms.contains(&header.alg) {
                return None;
            }
            let mut validation = self.validation.clone();
            validation.algorithms = key.algorithms.clone();
            match decode::<Said>(token, &key.key, &validation) {
                Ok(decoded) => Some(Ok((decoded.claims, proof))),
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => {
                    refusal = Refusal::Invalid(error);
                    None
                }
                // Signed by this key, and not valid for another reason.
                Err(error) => Some(Err(Refusal::Invalid(error))),
            }
        };
        if let Some(found) = self.keys.iter().find_map(|(proof, key)| with(*proof, key)) {
            return found;
        }
        let Some((proof, jwks)) = &self.published else { return Err(refusal) };
        // A key of the issuer's may fit where one of the operator's does not.
        let published = jwks.keys().unwrap_or_default();
        let mut of_that_name = published.named(header.kid.as_deref()).peekable();
        if of_that_name.peek().is_none() {
            return Err(Refusal::NoKey);
        }
        of_that_name.find_map(|key| with(*proof, key)).unwrap_or(Err(refusal))
    }
}

/// What every token must be like.
fn validation(config: &config::Jwt) -> Validation {
    let mut validation = Validation::new(Algorithm::default());
    validation.leeway = config.leeway.as_secs();
    // Times are looked at here, by the broker's clock, and `exp` again for as long as a session lives by it.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    // So are those that are needed, to say what is wrong with them.
    validation.required_spec_claims.clear();
    match &config.audience {
        Some(audience) => {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        None => validation.validate_aud = false,
    }
    if let Some(issuer) = &config.issuer {
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.insert("iss".to_owned());
    }
    validation
}

/// The claim that is wrong in a token that is refused. What it says counts for nothing else.
fn wrong_claim(token: &str) -> Option<String> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    Claims::read(serde_json::from_slice(&claims).ok()?).err()
}

/// What is wrong with a token, by the names of its claims.
fn why(error: &Error) -> String {
    match error.kind() {
        ErrorKind::MissingRequiredClaim(name) => {
            format!("`{name}` must be there, and be a string or an array of strings")
        }
        ErrorKind::InvalidIssuer => "`iss` is not that of auth.issuer".to_owned(),
        ErrorKind::InvalidAudience => "`aud` does not name auth.audience".to_owned(),
        ErrorKind::InvalidSignature => {
            "its signature is not that of a key that is known".to_owned()
        }
        // What serde says of a wrong type would repeat it.
        ErrorKind::Json(error) if error.is_data() => {
            "its header or its claims are no object of RFC 7519, or have a member twice".to_owned()
        }
        ErrorKind::InvalidToken
        | ErrorKind::Base64(_)
        | ErrorKind::Json(_)
        | ErrorKind::Utf8(_) => {
            "it is not HEADER.CLAIMS.SIGNATURE, each in base64url (RFC 7515)".to_owned()
        }
        _ => error.to_string(),
    }
}

impl std::fmt::Debug for TokenCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenCheck(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Code, Pattern};
    use jsonwebtoken::DecodingKey;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
    const FAR: u64 = 4_000_000_000;

    fn config() -> config::Jwt {
        let (algorithms, key) = (vec![Algorithm::HS256], DecodingKey::from_secret(SECRET));
        let keys = vec![TokenKey { algorithms, key }];
        let leeway = Duration::from_secs(5);
        config::Jwt { keys, jwks: None, issuer: None, audience: None, leeway }
    }

    fn settled(check: &TokenCheck, token: &str) -> Result<User, Problem> {
        match check.check(token, SystemTime::now()) {
            Checked::Settled(user) => user,
            Checked::KeyMissing(_) => panic!("no keys are published"),
        }
    }

    fn signed(header: &Header, claims: &Value, secret: &[u8]) -> String {
        encode(header, claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    fn token(claims: &Value) -> String {
        signed(&Header::default(), claims, SECRET)
    }

    #[test]
    fn a_valid_token_names_its_user_and_grants() {
        let grants = json!({"subscribe": ["a.>"], "publish": ["b"]});
        let claims = json!({"sub": "ada", "exp": FAR, "fanfare": grants});
        let user = settled(&TokenCheck::new(&config(), None), &token(&claims)).unwrap();
        assert_eq!(user.bearer.user, "ada");
        assert_eq!(user.subscribe, [Pattern::parse("a.>").unwrap()]);
        assert_eq!(user.publish, [Pattern::parse("b").unwrap()]);
    }

    #[test]
    fn hostile_and_broken_tokens_are_refused() {
        let good = json!({"sub": "ada", "exp": FAR});
        let unsigned = {
            let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
            format!("{}.{}.", part(json!({"alg": "none", "typ": "JWT"})), part(good.clone()))
        };
        for (what, token) in [
            ("none", unsigned),
            ("other algorithm", signed(&Header::new(Algorithm::HS512), &good, SECRET)),
            (
                "other secret",
                signed(&Header::default(), &good, b"another secret, just as long as it"),
            ),
            ("expired", token(&json!({"sub": "ada", "exp": 1}))),
            ("no exp", token(&json!({"sub": "ada"}))),
            ("exp as text", token(&json!({"sub": "ada", "exp": "4000000000"}))),
            ("huge exp", token(&json!({"sub": "ada", "exp": u64::MAX}))),
            ("negative exp", token(&json!({"sub": "ada", "exp": -1}))),
            ("not yet", token(&json!({"sub": "ada", "exp": FAR, "nbf": FAR}))),
            ("no sub", token(&json!({"exp": FAR}))),
            ("sub as number", token(&json!({"sub": 1, "exp": FAR}))),
            (
                "bad grant",
                token(&json!({"sub": "a", "exp": FAR, "fanfare": {"subscribe": ["a..b"]}})),
            ),
            (
                "unknown grant",
                token(&json!({"sub": "a", "exp": FAR, "fanfare": {"subscribes": []}})),
            ),
            ("nothing", String::new()),
            ("dots", "..".to_owned()),
        ] {
            let problem = settled(&TokenCheck::new(&config(), None), &token).expect_err(what);
            assert_eq!(problem.code, Code::Unauthorized, "{what}");
        }
    }

    /// A pair of keys of some family, as PEM: the private one and the public one.
    type Pair = (EncodingKey, String);

    fn pem(label: &str, der: &[u8]) -> String {
        use base64::prelude::{BASE64_STANDARD, Engine};
        let body = BASE64_STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    fn rsa() -> Pair {
        use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
        use aws_lc_rs::rsa::{KeyPair, KeySize};
        use aws_lc_rs::signature::KeyPair as _;
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let private = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes());
        (private.unwrap(), pem("PUBLIC KEY", public.as_ref()))
    }

    fn ec(algorithm: &'static aws_lc_rs::signature::EcdsaSigningAlgorithm) -> Pair {
        use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
        use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair};
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let private = EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref());
        (private, pem("PUBLIC KEY", public.as_ref()))
    }

    fn ed() -> Pair {
        use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
        use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
        let pair = Ed25519KeyPair::generate().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let private = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
        (private, pem("PUBLIC KEY", public.as_ref()))
    }

    /// A check with what an operator would type.
    fn typed(auth: &str) -> TokenCheck {
        let set = |line: &str| line.to_owned();
        let sources =
            config::Sources { sets: auth.split('|').map(set).collect(), ..Default::default() };
        TokenCheck::new(&config::load(&sources).unwrap().auth.jwt.unwrap(), None)
    }

    #[test]
    fn each_algorithm_is_checked_with_a_key_of_its_family_and_no_other() {
        use Algorithm::*;
        use aws_lc_rs::signature::{
            ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
        };
        let secret = "s".repeat(64);
        let hmac = (EncodingKey::from_secret(secret.as_bytes()), String::new());
        let families = [
            (hmac, vec![HS256, HS384, HS512]),
            (rsa(), vec![RS256, RS384, RS512, PS256, PS384, PS512]),
            (ec(&ECDSA_P256_SHA256_FIXED_SIGNING), vec![ES256]),
            (ec(&ECDSA_P384_SHA384_FIXED_SIGNING), vec![ES384]),
            (ed(), vec![EdDSA]),
        ];
        let check = |public: &str| match public {
            "" => typed(&format!("auth.jwt_secret={secret}")),
            pem => typed(&format!("auth.jwt_public_key={pem}")),
        };
        let everything =
            families.iter().map(|((_, public), _)| public.as_str()).collect::<String>();
        let all = typed(&format!("auth.jwt_secret={secret}|auth.jwt_public_key={everything}"));
        let claims = json!({"sub": "ada", "exp": FAR});
        for (at, ((private, _), algorithms)) in families.iter().enumerate() {
            for algorithm in algorithms {
                let token = encode(&Header::new(*algorithm), &claims, private).unwrap();
                assert!(settled(&all, &token).is_ok(), "{algorithm:?} among all keys");
                for (other, ((_, public), _)) in families.iter().enumerate() {
                    let taken = settled(&check(public), &token).is_ok();
                    assert_eq!(taken, other == at, "{algorithm:?} with the key of family {other}");
                }
            }
        }
    }

    #[test]
    fn a_public_key_is_never_taken_for_a_secret() {
        let (_, public) = rsa();
        let check = typed(&format!("auth.jwt_public_key={public}"));
        let claims = json!({"sub": "ada", "exp": FAR});
        for secret in [public.as_str(), public.trim_end()] {
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let token = signed(&Header::new(algorithm), &claims, secret.as_bytes());
                assert!(settled(&check, &token).is_err(), "{algorithm:?}");
            }
        }
    }

    #[test]
    fn issuer_and_audience_must_be_those_configured_and_be_there() {
        let jwt =
            config::Jwt { issuer: Some("me".into()), audience: Some("us".into()), ..config() };
        let check = TokenCheck::new(&jwt, None);
        let claims = |iss: Value, aud: Value| {
            let mut claims = json!({"sub": "ada", "exp": FAR, "iss": iss, "aud": aud});
            claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            token(&claims)
        };
        assert!(settled(&check, &claims(json!("me"), json!("us"))).is_ok());
        assert!(settled(&check, &claims(json!("me"), json!(["them", "us"]))).is_ok());
        for (iss, aud) in [
            (json!("you"), json!("us")),
            (json!("me"), json!("them")),
            (Value::Null, json!("us")),
            (json!("me"), Value::Null),
        ] {
            assert!(settled(&check, &claims(iss.clone(), aud.clone())).is_err(), "{iss} {aud}");
        }
    }
}
