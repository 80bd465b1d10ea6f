//! What is accepted no longer, as this node knows it.
//!
//! Looked at for each token that is shown; kept for a stated time, which is to be longer than tokens
//! live. A revocation that is known already changes nothing, so that it may be heard of twice. How many
//! there may be is asked before one is made: what was made is in force, whoever made it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use tracing::warn;

use crate::model::{Bearer, Quiet, Revocation, Revoked, Timestamp};
use crate::panics::lock;

/// What is accepted no longer.
#[derive(Debug)]
pub struct Revocations {
    window: Duration,
    max: usize,
    since: Mutex<HashMap<Revoked, Timestamp>>,
    /// Since it was warned of a token that outlives its revocation.
    quiet: Quiet<()>,
}

/// How many revocations are stored at most for each that may be in force: who is revoked again and again is
/// stored each time.
const STORED_OF_EACH: usize = 4;

/// A token that is good for longer than this is hardly meant to be.
const A_CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

/// As much is revoked as may be at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are as many revocations as auth.revocations allows")]
pub struct TooManyRevocations;

impl Revocations {
    /// None yet. Each is kept for `window`; one more is refused where `max` of them are in force.
    pub(super) fn new(window: Duration, max: usize) -> Self {
        Self { window, max, since: Mutex::default(), quiet: Quiet::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Revoked, Timestamp>> {
        lock(&self.since)
    }

    /// Whether one of them is about this token.
    pub fn cover(&self, bearer: &Bearer) -> bool {
        let since = self.lock();
        if since.is_empty() {
            return false;
        }
        let names = [Revoked::Token(bearer.token.clone()), Revoked::User(bearer.user.clone())];
        names.into_iter().any(|what| {
            let at = since.get(&what).copied();
            at.is_some_and(|at| Revocation { what, at }.covers(bearer))
        })
    }

    /// Warns, once a minute at most, of a token that is good for longer than it would be remembered that
    /// it was revoked. Returns whether it did; says nothing of the token itself.
    pub(super) fn warn_of_outliving(&self, bearer: &Bearer, expires: SystemTime) -> bool {
        self.warn_of_outliving_at(bearer, expires, Instant::now())
    }

    fn warn_of_outliving_at(&self, bearer: &Bearer, expires: SystemTime, at: Instant) -> bool {
        let now = SystemTime::now();
        let issued = bearer.issued.map_or(now, |issued| {
            let since = Duration::from_millis(u64::try_from(issued.millis()).unwrap_or(0));
            SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(now)
        });
        let lifetime = expires.duration_since(issued).unwrap_or_default();
        if lifetime <= self.window {
            return false;
        }
        if self.quiet.tell(1, at, || ()).is_none() {
            return false;
        }
        let (lifetime, window) = (lifetime.as_secs(), self.window.as_secs());
        let hint = match lifetime > A_CENTURY.as_secs() {
            true => "; exp is in seconds (RFC 7519), and this one looks like milliseconds",
            false => "",
        };
        warn!(
            lifetime,
            window,
            "a token lives longer than auth.revocation_window, in seconds: once revoked, it is good \
             again when that is over{hint}"
        );
        true
    }

    /// Whether there is room for one more where so many are stored, those of the same among them.
    pub fn check_room(
        &self,
        revocation: &Revocation,
        stored: usize,
    ) -> Result<(), TooManyRevocations> {
        let mut since = self.lock();
        self.forget(&mut since);
        let has_room = since.len() < self.max || since.contains_key(&revocation.what);
        let is_stored = stored < self.max.saturating_mul(STORED_OF_EACH);
        if has_room && is_stored { Ok(()) } else { Err(TooManyRevocations) }
    }

    /// Forgets those that are in force no longer, where there are many.
    fn forget(&self, since: &mut HashMap<Revoked, Timestamp>) {
        if since.len() >= self.max {
            let oldest = self.oldest();
            since.retain(|_, at| *at >= oldest);
        }
    }

    /// Takes one more; false if it says nothing new.
    pub fn add(&self, revocation: &Revocation) -> bool {
        if revocation.at < self.oldest() {
            return false;
        }
        let mut since = self.lock();
        if since.get(&revocation.what).is_some_and(|known| *known >= revocation.at) {
            return false;
        }
        self.forget(&mut since);
        since.insert(revocation.what.clone(), revocation.at);
        true
    }

    /// All that are in force, the newest first.
    pub fn list(&self) -> Vec<Revocation> {
        let oldest = self.oldest();
        let since = self.lock();
        let all = since.iter().filter(|(_, at)| **at >= oldest);
        let mut all: Vec<_> =
            all.map(|(what, at)| Revocation { what: what.clone(), at: *at }).collect();
        all.sort_unstable_by_key(|revocation| std::cmp::Reverse(revocation.at));
        all
    }

    /// The moment before which revocations are forgotten.
    fn oldest(&self) -> Timestamp {
        Timestamp::from(
            SystemTime::now().checked_sub(self.window).unwrap_or(SystemTime::UNIX_EPOCH),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::QUIET;

    fn now() -> i64 {
        Timestamp::from(SystemTime::now()).millis()
    }

    fn token(id: &str, at: i64) -> Revocation {
        Revocation { what: Revoked::Token(id.to_owned()), at: Timestamp::from_millis(at) }
    }

    fn bearer(token: &str) -> Bearer {
        Bearer { user: "ada".to_owned(), token: token.to_owned(), issued: None, info: None }
    }

    #[test]
    fn what_was_revoked_is_covered_and_heard_of_once() {
        let revocations = Revocations::new(Duration::from_secs(60), 10);
        assert!(!revocations.cover(&bearer("a")));
        assert!(revocations.add(&token("a", now())));
        assert!(!revocations.add(&token("a", now() - 5)));
        assert!(revocations.cover(&bearer("a")) && !revocations.cover(&bearer("b")));
        let what = Revoked::User("ada".to_owned());
        let all = Revocation { what, at: Timestamp::from_millis(now()) };
        assert!(revocations.add(&all));
        assert!(revocations.cover(&bearer("b")));
    }

    #[test]
    fn one_too_many_is_refused_until_old_ones_are_forgotten() {
        let revocations = Revocations::new(Duration::from_secs(60), 2);
        revocations.lock().insert(Revoked::Token("old".to_owned()), Timestamp::from_millis(0));
        let room = |id, stored| revocations.check_room(&token(id, now()), stored);
        assert_eq!(room("a", 1), Ok(()));
        assert!(revocations.add(&token("a", now())) && revocations.add(&token("b", now())));
        assert_eq!(room("c", 2), Err(TooManyRevocations));
        assert_eq!(room("a", 2), Ok(()), "what is revoked already may be again");
        assert_eq!(room("a", 8), Err(TooManyRevocations), "but not without end");
        assert!(!revocations.add(&token("ancient", 0)));
        assert_eq!(revocations.list().len(), 2);
    }

    #[test]
    fn what_another_node_has_revoked_is_in_force_though_there_is_no_room() {
        let revocations = Revocations::new(Duration::from_secs(60), 1);
        assert!(revocations.add(&token("a", now())) && revocations.add(&token("b", now())));
        assert!(revocations.cover(&bearer("a")) && revocations.cover(&bearer("b")));
    }

    #[test]
    fn a_token_that_outlives_its_revocation_is_warned_of_once_a_minute() {
        let revocations = Revocations::new(Duration::from_secs(60), 1);
        let warned = |issued: Option<i64>, seconds: u64, later: Duration| {
            let issued = issued.map(Timestamp::from_millis);
            let expires = SystemTime::now() + Duration::from_secs(seconds);
            let bearer = Bearer { issued, ..bearer("a") };
            revocations.warn_of_outliving_at(&bearer, expires, Instant::now() + later)
        };
        let at_once = Duration::ZERO;
        assert!(!warned(None, 59, at_once) && !warned(Some(now()), 59, at_once));
        assert!(warned(Some(now() - 30_000), 45, at_once), "the whole of its life counts");
        assert!(!warned(None, 3_600, at_once), "a minute is not over");
        assert!(warned(None, 1_800_000_000_000, QUIET));
    }
}
