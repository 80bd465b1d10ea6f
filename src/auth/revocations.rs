//! What is accepted no longer, as this node knows it.
//!
//! Looked at for each token that is shown; kept for a stated time, which is to be longer than tokens
//! live. A revocation that is known already changes nothing, so that it may be heard of twice.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::model::{Bearer, Revocation, Revoked, Timestamp};

/// What is accepted no longer.
#[derive(Debug)]
pub struct Revocations {
    window: Duration,
    max: usize,
    since: Mutex<HashMap<Revoked, Timestamp>>,
}

/// As much is revoked as may be at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are as many revocations as auth.revocations allows")]
pub struct TooManyRevocations;

impl Revocations {
    /// None yet. Each is kept for `window`, and at most `max` of them.
    pub(super) fn new(window: Duration, max: usize) -> Self {
        Self { window, max, since: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Revoked, Timestamp>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Whether there is room for one more.
    pub fn check_room(&self, revocation: &Revocation) -> Result<(), TooManyRevocations> {
        self.make_room(&mut self.lock(), &revocation.what)
    }

    fn make_room(
        &self,
        since: &mut HashMap<Revoked, Timestamp>,
        what: &Revoked,
    ) -> Result<(), TooManyRevocations> {
        if since.len() < self.max || since.contains_key(what) {
            return Ok(());
        }
        let oldest = self.oldest();
        since.retain(|_, at| *at >= oldest);
        if since.len() < self.max { Ok(()) } else { Err(TooManyRevocations) }
    }

    /// Takes one more; false if it says nothing new.
    pub fn add(&self, revocation: &Revocation) -> Result<bool, TooManyRevocations> {
        if revocation.at < self.oldest() {
            return Ok(false);
        }
        let mut since = self.lock();
        if since.get(&revocation.what).is_some_and(|known| *known >= revocation.at) {
            return Ok(false);
        }
        self.make_room(&mut since, &revocation.what)?;
        since.insert(revocation.what.clone(), revocation.at);
        Ok(true)
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

    fn now() -> i64 {
        Timestamp::from(SystemTime::now()).millis()
    }

    fn token(id: &str, at: i64) -> Revocation {
        Revocation { what: Revoked::Token(id.to_owned()), at: Timestamp::from_millis(at) }
    }

    fn bearer(token: &str) -> Bearer {
        Bearer { user: "ada".to_owned(), token: token.to_owned(), issued: None }
    }

    #[test]
    fn what_was_revoked_is_covered_and_heard_of_once() {
        let revocations = Revocations::new(Duration::from_secs(60), 10);
        assert!(!revocations.cover(&bearer("a")));
        assert_eq!(revocations.add(&token("a", now())), Ok(true));
        assert_eq!(revocations.add(&token("a", now() - 5)), Ok(false));
        assert!(revocations.cover(&bearer("a")) && !revocations.cover(&bearer("b")));
        let what = Revoked::User("ada".to_owned());
        let all = Revocation { what, at: Timestamp::from_millis(now()) };
        assert_eq!(revocations.add(&all), Ok(true));
        assert!(revocations.cover(&bearer("b")));
    }

    #[test]
    fn one_too_many_is_refused_until_old_ones_are_forgotten() {
        let revocations = Revocations::new(Duration::from_secs(60), 2);
        revocations.lock().insert(Revoked::Token("old".to_owned()), Timestamp::from_millis(0));
        assert_eq!(revocations.add(&token("a", now())), Ok(true));
        assert_eq!(revocations.add(&token("b", now())), Ok(true));
        assert_eq!(revocations.add(&token("c", now())), Err(TooManyRevocations));
        assert_eq!(revocations.add(&token("a", now() + 5)), Ok(true));
        assert_eq!(revocations.list().len(), 2);
        assert_eq!(revocations.add(&token("ancient", 0)), Ok(false));
    }
}
