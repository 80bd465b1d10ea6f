//! Who asks, and what they may do.
//!
//! [`Auth::identify`] turns a credential into a [`Caller`]; [`Access`] answers every question of
//! right about that caller, for every path alike: live, replay, snapshot, history and listing. What
//! an operator decided about both is one [`Policy`], which may be replaced while the broker runs. A
//! refusal never repeats the credential.

mod access;
mod caller;
mod claims;
mod cookie;
mod entrance;
mod jwks;
mod key_set;
mod origin;
mod policy;
mod proof;
mod publisher;
mod revocations;
mod right;
mod token;

use std::sync::{Arc, RwLock};
use std::time::Duration;

use actix_http::RequestHead;
use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;

pub use self::access::{Access, Coverage, Grant, Rights};
pub use self::caller::{Caller, User};
pub use self::entrance::{Client, Entrance, network};
pub use self::jwks::{Issuer, published_keys};
pub use self::key_set::{KeySet, KeySetError};
use self::origin::{Page, check_origin};
use self::policy::Look;
pub use self::policy::Policy;
pub use self::proof::Proof;
pub use self::publisher::Publisher;
pub use self::revocations::{Revocations, TooManyRevocations};
use crate::clock::Clock;
use crate::config::{self, Rules};
use crate::http;
use crate::metrics::{Check, GUARD};
use crate::model::{Code, Problem, Topic};
use crate::panics::{read, write};

/// What a request shows of who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown<'a> {
    Nothing,
    /// Given on purpose: by `Authorization` or `access_token`.
    Credential(&'a str),
    /// Added by a browser.
    Cookie(&'a str),
}

/// The keeper of credentials and rules.
#[derive(Debug)]
pub struct Auth {
    policy: RwLock<Arc<Policy>>,
    revocations: Revocations,
    clock: Clock,
}

impl Auth {
    /// Takes the credentials of a checked configuration, its rules, and the origins of pages that
    /// may come in beside our own.
    pub fn new(config: &config::Auth, rules: Rules, allowed_origins: Vec<String>) -> Self {
        let policy = Policy::new(config, rules, allowed_origins, None);
        let revocations = Revocations::new(config.revocation_window, config.revocations);
        Self { policy: RwLock::new(Arc::new(policy)), revocations, clock: Clock::default() }
    }

    /// The same, by another clock.
    pub fn timed_by(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// What is in force.
    pub fn policy(&self) -> Arc<Policy> {
        read(&self.policy).clone()
    }

    /// Puts another configuration in force, for all who ask from here on.
    pub fn replace(&self, config: &config::Auth, rules: Rules, allowed_origins: Vec<String>) {
        let policy = Policy::new(config, rules, allowed_origins, Some(&self.policy()));
        *write(&self.policy) = Arc::new(policy);
    }

    /// What is accepted no longer.
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The rights behind a request: refuses pages of foreign origins, then bad credentials.
    pub async fn admit(
        &self,
        entrance: &Entrance,
        head: &RequestHead,
        access_token: Option<&str>,
    ) -> Result<Access, Problem> {
        let policy = self.policy();
        let shown = shown(&policy, entrance, head, access_token)?;
        let caller = match shown {
            Shown::Nothing => self.identify(None).await?,
            Shown::Credential(credential) => self.identify(Some(credential)).await?,
            Shown::Cookie(token) => match self.identify(Some(token)).await? {
                user @ Caller::User(_) => user,
                _ => {
                    return Err(Problem::bad_credential(
                        "the cookie of auth.cookie holds no token",
                    ));
                }
            },
        };
        // It may have taken a while, and another configuration be in force.
        let access = Access::new(policy.clone(), caller).coming_in(entrance.is_outside());
        let access = self.still(&access)?;
        if !access.is_of(&policy)
            && self::shown(&self.policy(), entrance, head, access_token)? != shown
        {
            return Err(Problem::bad_credential("the credential is taken no longer"));
        }
        Ok(access)
    }

    /// Refuses a request with a ticket that would be refused whatever its ticket is for: from a page of a
    /// foreign origin, or with a second credential.
    pub fn check_ticket_holder(
        &self,
        entrance: &Entrance,
        head: &RequestHead,
        access_token: Option<&str>,
    ) -> Result<(), Problem> {
        self.check_page(entrance, head)?;
        if http::credential(&head.headers, access_token)?.is_some() {
            let detail = "a ticket is a credential: send no other one beside it";
            return Err(Problem::new(Code::BadRequest, detail));
        }
        Ok(())
    }

    /// The rights of the user that a ticket is for: refuses pages of foreign origins, and whose token was
    /// revoked or has expired since.
    pub fn admit_as(
        &self,
        entrance: &Entrance,
        head: &RequestHead,
        user: User,
    ) -> Result<Access, Problem> {
        // Another configuration may be in force since the ticket was looked for.
        self.check_page(entrance, head)?;
        self.still(&self.access(Caller::User(Box::new(user))).coming_in(entrance.is_outside()))
    }

    /// The rights of a caller who was admitted before, as they are now. Refuses whose token was revoked
    /// or has expired since, and who is known by a key that is known no longer (401).
    pub fn still(&self, access: &Access) -> Result<Access, Problem> {
        let policy = self.policy();
        let gone = "the key that this credential is known by is known no longer";
        let caller =
            policy.revalidated(access.caller()).ok_or_else(|| Problem::bad_credential(gone))?;
        let caller = self.unless_over(&policy, caller)?;
        let now = access.under(policy, caller);
        let held =
            access.grants().filter_map(|grant| Some(grant.under(self.still(grant.access()).ok()?)));
        let held: Vec<_> = held.collect();
        Ok(if held.is_empty() { now } else { now.with_all(held) })
    }

    /// What a token of `user` adds to the rights of a session: these topics, as long as it holds. Refuses those that it does
    /// not grant, and tokens of another user than the session's, if it has one (403).
    pub fn grant(&self, access: &Access, user: User, topics: Vec<Topic>) -> Result<Grant, Problem> {
        let is_other = |own: &User| own.bearer.user != user.bearer.user;
        if access.caller().user().is_some_and(is_other) {
            return Err(Problem::new(Code::Forbidden, "the token belongs to another user"));
        }
        let granted = self.still(&self.access(Caller::User(Box::new(user))))?;
        topics.iter().try_for_each(|topic| granted.require_subscribe(topic))?;
        Ok(Grant::new(topics, granted))
    }

    /// Whether a caller who was admitted before, and passed `check` then, still would: what is asked
    /// after each wait and before what it was asked for.
    pub fn still_may(
        &self,
        access: &Access,
        check: impl FnOnce(&Access) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let now = self.still(access)?;
        // Rights are a matter of the caller and the policy alone.
        if now.has_policy_of(access) { Ok(()) } else { check(&now) }
    }

    /// Refuses requests from pages of foreign origins.
    pub fn check_page(&self, entrance: &Entrance, head: &RequestHead) -> Result<(), Problem> {
        page(&self.policy(), entrance, head).map(drop)
    }

    /// Whether these rights are those of what is in force now.
    pub fn is_current(&self, access: &Access) -> bool {
        let holds = |grant: &Grant| {
            let user = grant.access().caller().user();
            self.is_current(grant.access()) && user.is_some_and(|user| self.holds(user).is_ok())
        };
        access.is_of(&self.policy()) && access.grants().all(holds)
    }

    /// The rights of `caller`.
    pub fn access(&self, caller: Caller) -> Access {
        Access::new(self.policy(), caller)
    }

    /// Who it is that shows this credential: an API key or a token. A credential that is shown must
    /// be valid; an open broker asks for none and looks at none. Waits for published keys where they
    /// are needed.
    pub async fn identify(&self, credential: Option<&str>) -> Result<Caller, Problem> {
        let caller = self.look(credential).await;
        GUARD.checked(match &caller {
            Ok(Caller::Anonymous) => Check::Nothing,
            Ok(Caller::Application(_)) if credential.is_none() => Check::Nothing,
            Ok(Caller::Application(_) | Caller::Key(_)) => Check::Key,
            Ok(Caller::User(_)) => Check::Token,
            Err(problem) if problem.code == Code::Unavailable => Check::NoKeys,
            Err(_) => Check::Refused,
        });
        caller
    }

    async fn look(&self, credential: Option<&str>) -> Result<Caller, Problem> {
        let policy = self.policy();
        let caller = match policy.look(credential, self.clock.time()) {
            Look::Settled(caller) => caller,
            Look::KeyMissing(jwks) => {
                // Rare, and in a box, or all who ask would keep room for it.
                Box::pin(jwks.fetch()).await;
                match policy.look(credential, self.clock.time()) {
                    Look::Settled(caller) => caller,
                    Look::KeyMissing(jwks) if jwks.keys().is_none() => {
                        let detail =
                            "the keys that tokens are checked with can't be had; try again";
                        Err(Problem::new(Code::Unavailable, detail)
                            .passing_in(jwks::LEAST_BETWEEN.as_secs() as u32))
                    }
                    Look::KeyMissing(_) => Err(Problem::bad_credential(
                        "the token is not valid: it is signed with an unknown key",
                    )),
                }
            }
        }?;
        self.unless_over(&policy, caller)
    }

    fn unless_over(&self, policy: &Policy, caller: Caller) -> Result<Caller, Problem> {
        if let Some(user) = caller.user() {
            self.holds(user).map_err(Problem::bad_credential)?;
            self.revocations.warn_of_outliving(&user.bearer, user.expires);
            policy.warn_of_owning_nothing(&user.bearer.user);
        }
        Ok(caller)
    }

    /// Whether a token that was valid once is so at this moment, or why not.
    pub fn holds(&self, user: &User) -> Result<(), &'static str> {
        if user.expires <= self.clock.time() {
            Err("the token has expired")
        } else if self.revocations.cover(&user.bearer) {
            Err("the token was revoked")
        } else {
            Ok(())
        }
    }

    /// How the issuer is that publishes the keys which tokens are checked with, where there is one.
    pub fn issuer(&self) -> Option<Issuer> {
        Some(self.policy().jwks()?.issuer())
    }

    /// Keeps what is known of published keys fresh, for good, so that nobody has to wait for them.
    pub async fn keep_keys(&self) {
        loop {
            let jwks = self.policy().jwks().cloned();
            if let Some(jwks) = jwks.filter(|jwks| jwks.is_old()) {
                jwks.fetch().await;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What a request shows of who asks: refuses pages of foreign origins. What is given on purpose wins
/// over what a browser adds, whatever that is.
fn shown<'a>(
    policy: &Policy,
    entrance: &Entrance,
    head: &'a RequestHead,
    access_token: Option<&'a str>,
) -> Result<Shown<'a>, Problem> {
    let page = page(policy, entrance, head)?;
    if let Some(credential) = http::credential(&head.headers, access_token)? {
        return Ok(Shown::Credential(credential));
    }
    let token = match &policy.cookie {
        Some(name) => cookie::token(head, name, page)?,
        None => None,
    };
    Ok(token.map_or(Shown::Nothing, Shown::Cookie))
}

/// The page that a request comes from; refuses those of foreign origins.
fn page(policy: &Policy, entrance: &Entrance, head: &RequestHead) -> Result<Page, Problem> {
    let origin = http::header(&head.headers, &header::ORIGIN)?;
    let Client { scheme, host, .. } = entrance.client(head)?;
    check_origin(origin, host, scheme, policy.open, &policy.allowed_origins)
}

/// How often it is looked whether published keys are old.
const LOOK: Duration = Duration::from_secs(1);

/// Any handler that takes its caller's rights is behind the door.
impl FromRequest for Access {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let auth = request.app_data::<web::Data<Auth>>();
            match auth.zip(request.app_data::<web::Data<Entrance>>()) {
                Some((auth, entrance)) => {
                    let access = auth.admit(entrance, request.head(), None).await?;
                    require_in_header(&access, request.query_string())?;
                    Ok(access)
                }
                None => Err(Problem::new(Code::Internal, "nobody is at the door")),
            }
        })
    }
}

/// Refuses who shows a credential where it is not looked for: as if there were none, it would be asked for again.
fn require_in_header(access: &Access, query: &str) -> Result<(), Problem> {
    let mut names = query.split('&').filter_map(|pair| pair.split('=').next());
    if matches!(access.caller(), Caller::Anonymous) && names.any(|name| name == "access_token") {
        let detail = "access_token in the URL is looked at by /v1/ws and /v1/sse alone; here a credential is a \
                      header: `Authorization: Bearer`";
        return Err(Problem::new(Code::Unauthorized, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyHash;
    use aws_lc_rs::digest::{SHA256, digest};

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

    #[actix_web::test]
    async fn an_open_broker_gives_everyone_every_right() {
        assert!(matches!(auth(&[]).identify(None).await, Ok(Caller::Application(_))));
        assert!(matches!(auth(&[]).identify(Some("whatever")).await, Ok(Caller::Application(_))));
    }

    #[actix_web::test]
    async fn each_of_several_keys_is_known_and_nothing_else_is() {
        let auth = auth(&["first-key-of-two", "second-key-of-two"]);
        assert!(matches!(
            auth.identify(Some("first-key-of-two")).await,
            Ok(Caller::Application(_))
        ));
        assert!(matches!(
            auth.identify(Some("second-key-of-two")).await,
            Ok(Caller::Application(_))
        ));
        assert!(matches!(auth.identify(None).await, Ok(Caller::Anonymous)));
        for wrong in ["", "first-key-of-tw", "first-key-of-twoo", &"x".repeat(9_000)] {
            let problem = auth.identify(Some(wrong)).await.unwrap_err();
            assert_eq!(problem.code, Code::Unauthorized);
            assert!(wrong.is_empty() || !problem.detail.contains(wrong));
        }
    }
}
