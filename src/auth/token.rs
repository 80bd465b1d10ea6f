//! Subscribers' tokens: JSON Web Tokens (RFC 7519), signed with HS256 (RFC 7518, section 3.2).
//!
//! Only the algorithm that is configured is accepted, whatever the token's header says, and `exp`
//! is required. Grants that are not patterns make the token invalid, so that a typo grants nothing
//! instead of something.

use std::time::{Duration, SystemTime};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;

use super::{User, unauthorized};
use crate::config;
use crate::model::{Pattern, Problem};

/// Checks tokens.
pub(super) struct TokenCheck {
    key: DecodingKey,
    validation: Validation,
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
        let mut validation = Validation::new(Algorithm::HS256);
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
        Self { key: DecodingKey::from_secret(&config.secret.0), validation }
    }

    pub(super) fn check(&self, token: &str) -> Result<User, Problem> {
        let claims = decode::<Claims>(token, &self.key, &self.validation)
            .map_err(|error| unauthorized(format!("the token is not valid: {error}")))?
            .claims;
        let expires = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(claims.exp))
            .ok_or_else(|| unauthorized("the token is not valid: exp is out of range"))?;
        let subscribe = patterns(&claims.fanfare.subscribe)?;
        let publish = patterns(&claims.fanfare.publish)?;
        Ok(User { name: claims.sub, expires, subscribe, publish })
    }
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
        let secret = config::Secret(SECRET.to_vec());
        let leeway = Duration::from_secs(5);
        config::Jwt { secret, issuer: None, audience: None, leeway }
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
