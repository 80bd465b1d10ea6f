//! Who asks, and what they may do.
//!
//! [`Auth::identify`] turns a credential into a [`Caller`]; [`Access`] answers every question of
//! right about that caller, for every path alike: live, replay, snapshot, history and listing. A
//! refusal never repeats the credential.

mod access;
mod origin;
mod token;

use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::SystemTime;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpRequest, web};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

pub use self::access::{Access, Coverage};
use self::origin::check_origin;
use self::token::TokenCheck;
use crate::config::{self, ApiKey, KeyHash, Rules};
use crate::http;
use crate::model::{Code, Pattern, Problem};

/// The longest credential that is looked at, in bytes.
const MAX_CREDENTIAL_BYTES: usize = 8 * 1024;

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// An application with an API key, or anyone where the broker is open: every right.
    Application,
    /// An application whose API key has some rights.
    Key(Arc<ApiKey>),
    /// A subscriber with a valid token.
    User(User),
    /// Someone without a credential.
    Anonymous,
}

impl Caller {
    /// The `sub` of the caller's token.
    pub fn user(&self) -> Option<&str> {
        match self {
            Caller::User(user) => Some(&user.name),
            Caller::Application | Caller::Key(_) | Caller::Anonymous => None,
        }
    }

    /// When the caller's right ends.
    pub fn expires(&self) -> Option<SystemTime> {
        match self {
            Caller::User(user) => Some(user.expires),
            Caller::Application | Caller::Key(_) | Caller::Anonymous => None,
        }
    }
}

/// What a valid token says.
#[derive(Debug, Clone)]
pub struct User {
    /// Its `sub`.
    pub name: String,
    /// Its `exp`.
    pub expires: SystemTime,
    /// Patterns that it may subscribe to.
    pub subscribe: Vec<Pattern>,
    /// Patterns that it may publish to.
    pub publish: Vec<Pattern>,
}

/// The keeper of credentials and rules.
#[derive(Debug)]
pub struct Auth {
    open: bool,
    api_keys: Vec<KeyHash>,
    scoped_keys: Vec<Arc<ApiKey>>,
    tokens: Option<TokenCheck>,
    rules: Rules,
    allowed_origins: Vec<String>,
}

impl Auth {
    /// Takes the credentials of a checked configuration, its rules, and the origins of pages that
    /// may come in beside our own.
    pub fn new(config: &config::Auth, rules: Rules, allowed_origins: Vec<String>) -> Self {
        let tokens = config.jwt.as_ref().map(TokenCheck::new);
        let (open, api_keys) = (config.is_open(), config.api_keys.clone());
        let scoped_keys = config.scoped_keys.clone();
        Self { open, api_keys, scoped_keys, tokens, rules, allowed_origins }
    }

    /// Whether no credential is configured.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The rules of topics.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The rights behind a request: refuses pages of foreign origins, then bad credentials.
    pub fn admit(
        self: &Arc<Self>,
        headers: &HeaderMap,
        access_token: Option<&str>,
    ) -> Result<Access, Problem> {
        let origin = http::header(headers, &header::ORIGIN)?;
        let host = http::header(headers, &header::HOST)?;
        check_origin(origin, host, "http", self.open, &self.allowed_origins)?;
        let caller = self.identify(http::credential(headers, access_token)?)?;
        Ok(Access::new(self.clone(), caller))
    }

    /// Who it is that shows this credential: an API key or a token. A credential that is shown must
    /// be valid; an open broker asks for none and looks at none.
    pub fn identify(&self, credential: Option<&str>) -> Result<Caller, Problem> {
        if self.open {
            return Ok(Caller::Application);
        }
        let Some(credential) = credential else { return Ok(Caller::Anonymous) };
        if credential.len() > MAX_CREDENTIAL_BYTES {
            return Err(unauthorized("the credential is too long"));
        }
        if let Some(caller) = self.application(credential) {
            return Ok(caller);
        }
        match &self.tokens {
            Some(tokens) => tokens.check(credential).map(Caller::User),
            None => Err(unauthorized("the credential is not a known API key")),
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

/// Any handler that takes its caller's rights is behind the door.
impl FromRequest for Access {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let access = match request.app_data::<web::Data<Auth>>() {
            Some(auth) => auth.clone().into_inner().admit(request.headers(), None),
            None => Err(Problem::new(Code::Internal, "nobody is at the door")),
        };
        ready(access)
    }
}

fn unauthorized(detail: impl Into<String>) -> Problem {
    Problem::new(Code::Unauthorized, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(keys: &[&str]) -> Auth {
        let hash = |key: &&str| {
            let mut hash = [0; 32];
            hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
            KeyHash(hash)
        };
        let api_keys = keys.iter().map(hash).collect();
        let rules = config::Config::default().rules;
        Auth::new(&config::Auth { api_keys, ..config::Auth::default() }, rules, Vec::new())
    }

    #[test]
    fn an_open_broker_gives_everyone_every_right() {
        assert!(matches!(auth(&[]).identify(None), Ok(Caller::Application)));
        assert!(matches!(auth(&[]).identify(Some("whatever")), Ok(Caller::Application)));
    }

    #[test]
    fn each_of_several_keys_is_known_and_nothing_else_is() {
        let auth = auth(&["first-key-of-two", "second-key-of-two"]);
        assert!(matches!(auth.identify(Some("first-key-of-two")), Ok(Caller::Application)));
        assert!(matches!(auth.identify(Some("second-key-of-two")), Ok(Caller::Application)));
        assert!(matches!(auth.identify(None), Ok(Caller::Anonymous)));
        for wrong in ["", "first-key-of-tw", "first-key-of-twoo", &"x".repeat(9_000)] {
            let problem = auth.identify(Some(wrong)).unwrap_err();
            assert_eq!(problem.code, Code::Unauthorized);
            assert!(wrong.is_empty() || !problem.detail.contains(wrong));
        }
    }
}
