//! The claims of a token (RFC 7519, section 4), and who it is that they are about.
//!
//! A refusal names the claim that is wrong and never repeats what it says. Grants that are not patterns make
//! the token invalid, so that a typo grants nothing instead of something.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::Value;

use super::caller::User;
use super::proof::Proof;
use crate::model::{Bearer, Info, Pattern, Problem, Timestamp};

/// The longest `jti` that is looked at, in bytes.
const MAX_ID_BYTES: usize = 255;

/// The claims as they came. None of them may be there twice.
#[derive(Deserialize)]
pub(super) struct Said {
    sub: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    iat: Option<Value>,
    jti: Option<Value>,
    fanfare: Option<Value>,
}

/// What the claims say. Times are in seconds since 1970, whole or not (RFC 7519, section 2).
pub(super) struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    jti: Option<String>,
    subscribe: Vec<String>,
    publish: Vec<String>,
    info: Option<Info>,
}

impl Claims {
    /// Reads the claims, or names the one that is wrong. Its value is never repeated.
    pub(super) fn read(said: Said) -> Result<Self, String> {
        let Said { sub, exp, nbf, iat, jti, fanfare } = said;
        let missing = |name| format!("`{name}` is missing");
        let mut grants = match fanfare {
            None => serde_json::Map::new(),
            Some(Value::Object(grants)) => grants,
            Some(_) => return Err("`fanfare` must be an object".to_owned()),
        };
        let subscribe = texts("fanfare.subscribe", grants.remove("subscribe"))?;
        let publish = texts("fanfare.publish", grants.remove("publish"))?;
        let info = Info::of(&grants.remove("info").unwrap_or_default());
        let info = info.map_err(|why| format!("`fanfare.info` {why}"))?;
        if let Some(unknown) = grants.keys().next() {
            let unknown: String = unknown.chars().take(64).collect();
            return Err(format!(
                "`fanfare.{unknown}` is not known to this version of the broker, and might restrict the token"
            ));
        }
        Ok(Self {
            sub: text("sub", sub)?.ok_or_else(|| missing("sub"))?,
            exp: seconds("exp", exp)?.ok_or_else(|| missing("exp"))?,
            nbf: seconds("nbf", nbf)?,
            iat: seconds("iat", iat)?,
            jti: text("jti", jti)?,
            subscribe,
            publish,
            info,
        })
    }

    /// Who `token`, which says so and was checked with what `proof` is of, is about at this time of day.
    pub(super) fn user(
        mut self,
        token: &str,
        proof: Proof,
        now: SystemTime,
        leeway: Duration,
    ) -> Result<User, Problem> {
        self.believe_no_future(now, leeway);
        let expires = Duration::try_from_secs_f64(self.exp)
            .ok()
            .and_then(|exp| SystemTime::UNIX_EPOCH.checked_add(exp)?.checked_add(leeway))
            .ok_or_else(|| invalid("`exp` is out of range"))?;
        if expires <= now {
            return Err(Problem::bad_credential("the token has expired"));
        }
        if self.nbf.is_some_and(|begins| begins > since_1970(now) + leeway.as_secs_f64()) {
            return Err(invalid("it is not valid yet (`nbf`)"));
        }
        if self.jti.as_ref().is_some_and(|id| id.is_empty() || id.len() > MAX_ID_BYTES) {
            let detail = format!("`jti` is empty or has more than {MAX_ID_BYTES} bytes");
            return Err(invalid(detail));
        }
        let bearer = Bearer {
            user: self.sub,
            token: self.jti.unwrap_or_else(|| fingerprint(token)),
            issued: self.iat.map(|seconds| Timestamp::from_millis((seconds * 1e3) as i64)),
            info: self.info,
        };
        let subscribe = patterns(&self.subscribe)?;
        let publish = patterns(&self.publish)?;
        Ok(User { bearer, proof, expires, subscribe, publish })
    }

    /// Takes an `iat` that lies further ahead of `now` than clocks may differ as not said: a token that
    /// was not issued yet would be younger than every revocation of its user. (RFC 7519, section 4.1.6,
    /// leaves it to us.)
    fn believe_no_future(&mut self, now: SystemTime, leeway: Duration) {
        self.iat = self.iat.filter(|issued| *issued <= since_1970(now) + leeway.as_secs_f64());
    }
}

fn text(name: &str, value: Option<Value>) -> Result<Option<String>, String> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` must be a string")),
    }
}

fn seconds(name: &str, value: Option<Value>) -> Result<Option<f64>, String> {
    let Some(value) = value else { return Ok(None) };
    let number = value.as_f64().filter(|seconds| seconds.is_finite());
    number.map(Some).ok_or_else(|| format!("`{name}` must be a number of seconds"))
}

fn texts(name: &str, value: Option<Value>) -> Result<Vec<String>, String> {
    let value = value.unwrap_or_default();
    let texts = serde_json::from_value::<Option<Vec<String>>>(value);
    let texts = texts.map_err(|_| format!("`{name}` must be an array of strings"))?;
    Ok(texts.unwrap_or_default())
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// What a token without a `jti` is called: so many bits of its hash that no two are alike, and too few
/// to be of any use.
fn fingerprint(token: &str) -> String {
    let hash = digest(&SHA256, token.as_bytes());
    let hex: String = hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, Problem> {
    let parsed = texts.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>();
    parsed.map_err(|error| {
        Problem::bad_credential(format!("the token grants what is not a pattern: {error}"))
    })
}

/// The refusal of a token that is not valid.
pub(super) fn invalid(detail: impl fmt::Display) -> Problem {
    Problem::bad_credential(format!("the token is not valid: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LEEWAY: Duration = Duration::from_secs(5);

    fn user(claims: Value, now: u64) -> Result<User, Problem> {
        let claims = Claims::read(serde_json::from_value(claims).unwrap()).map_err(invalid)?;
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        claims.user("a.b.c", Proof::default(), now, LEEWAY)
    }

    #[test]
    fn a_token_from_the_future_does_not_say_when_it_was_issued() {
        let now = 1_700_000_000;
        let issued = |iat: u64| {
            let claims = json!({"sub": "ada", "exp": now + 60, "iat": iat});
            user(claims, now).unwrap().bearer.issued
        };
        assert_eq!(issued(now), Some(Timestamp::from_millis(now as i64 * 1_000)));
        assert!(issued(now + 4).is_some(), "clocks differ");
        assert_eq!([now + 3_600, now * 1_000, u64::MAX].map(issued), [None; 3]);
    }

    #[test]
    fn a_token_holds_as_long_at_its_end_as_at_the_door() {
        let now = 1_700_000_000;
        let ends = |exp: u64| user(json!({"sub": "ada", "exp": exp}), now).map(|user| user.expires);
        let exp = SystemTime::UNIX_EPOCH + Duration::from_secs(now - 3);
        assert_eq!(ends(now - 3), Ok(exp + LEEWAY));
        assert!(ends(now - 5).is_err(), "it has ended");
    }
}
