//! Subscribers' tokens: JSON Web Tokens (RFC 7519), signed as RFC 7518 and RFC 8037 say.
//!
//! Only algorithms that a configured key is for are accepted, whatever the token's header says, and
//! `exp` is required. Grants that are not patterns make the token invalid, so that a typo grants
//! nothing instead of something.

use std::time::{Duration, SystemTime};

use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;

use super::{User, unauthorized};
use crate::config::{self, TokenKey};
use crate::model::{Pattern, Problem};

/// Checks tokens.
pub(super) struct TokenCheck {
    checks: Vec<(DecodingKey, Validation)>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
    #[serde(default)]
    fanfare: Grants,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grants {
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    publish: Vec<String>,
}

impl TokenCheck {
    pub(super) fn new(config: &config::Jwt) -> Self {
        let check = |key: &TokenKey| (key.key.clone(), validation(config, &key.algorithms));
        Self { checks: config.keys.iter().map(check).collect() }
    }

    pub(super) fn check(&self, token: &str) -> Result<User, Problem> {
        let claims = self
            .claims(token)
            .map_err(|error| unauthorized(format!("the token is not valid: {error}")))?;
        let expires = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(claims.exp))
            .ok_or_else(|| unauthorized("the token is not valid: exp is out of range"))?;
        let subscribe = patterns(&claims.fanfare.subscribe)?;
        let publish = patterns(&claims.fanfare.publish)?;
        Ok(User { name: claims.sub, expires, subscribe, publish })
    }

    /// The claims, if one of the keys fits. The error is that of the key which came furthest.
    fn claims(&self, token: &str) -> Result<Claims, Error> {
        let mut refusal = ErrorKind::InvalidAlgorithm.into();
        for (key, validation) in &self.checks {
            match decode::<Claims>(token, key, validation) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) if *error.kind() == ErrorKind::InvalidAlgorithm => {}
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => refusal = error,
                // Signed by this key, and not valid for another reason; or not a token at all.
                Err(error) => return Err(error),
            }
        }
        Err(refusal)
    }
}

/// What a token must be like. `algorithms` are all of one family.
fn validation(config: &config::Jwt, algorithms: &[Algorithm]) -> Validation {
    let mut validation = Validation::new(Algorithm::default());
    validation.algorithms = algorithms.to_vec();
    validation.leeway = config.leeway.as_secs();
    validation.validate_nbf = true;
    validation.set_required_spec_claims(&["exp", "sub"]);
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

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, Problem> {
    let parsed = texts.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>();
    parsed.map_err(|error| unauthorized(format!("the token grants what is not a pattern: {error}")))
}

impl std::fmt::Debug for TokenCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenCheck(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Code;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
    const FAR: u64 = 4_000_000_000;

    fn config() -> config::Jwt {
        let (algorithms, key) = (vec![Algorithm::HS256], DecodingKey::from_secret(SECRET));
        let keys = vec![TokenKey { algorithms, key }];
        config::Jwt { keys, issuer: None, audience: None, leeway: Duration::from_secs(5) }
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
        let user = TokenCheck::new(&config()).check(&token(&claims)).unwrap();
        assert_eq!(user.name, "ada");
        assert_eq!(user.subscribe, [Pattern::parse("a.>").unwrap()]);
        assert_eq!(user.publish, [Pattern::parse("b").unwrap()]);
    }

    #[test]
    fn hostile_and_broken_tokens_are_refused() {
        let good = json!({"sub": "ada", "exp": FAR});
        let unsigned = {
            use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
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
            let problem = TokenCheck::new(&config()).check(&token).expect_err(what);
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
        TokenCheck::new(&config::load(&sources).unwrap().auth.jwt.unwrap())
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
                assert!(all.check(&token).is_ok(), "{algorithm:?} among all keys");
                for (other, ((_, public), _)) in families.iter().enumerate() {
                    let taken = check(public).check(&token).is_ok();
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
                assert!(check.check(&token).is_err(), "{algorithm:?}");
            }
        }
    }

    #[test]
    fn issuer_and_audience_must_be_those_configured_and_be_there() {
        let jwt =
            config::Jwt { issuer: Some("me".into()), audience: Some("us".into()), ..config() };
        let check = TokenCheck::new(&jwt);
        let claims = |iss: Value, aud: Value| {
            let mut claims = json!({"sub": "ada", "exp": FAR, "iss": iss, "aud": aud});
            claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            token(&claims)
        };
        assert!(check.check(&claims(json!("me"), json!("us"))).is_ok());
        assert!(check.check(&claims(json!("me"), json!(["them", "us"]))).is_ok());
        for (iss, aud) in [
            (json!("you"), json!("us")),
            (json!("me"), json!("them")),
            (Value::Null, json!("us")),
            (json!("me"), Value::Null),
        ] {
            assert!(check.check(&claims(iss.clone(), aud.clone())).is_err(), "{iss} {aud}");
        }
    }
}
