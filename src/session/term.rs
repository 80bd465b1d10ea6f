//! How long a session may stay without another word from its client.

use std::time::Duration;

use crate::auth::Caller;
use crate::clock::{Clock, Deadline, Instant};

/// How long before its token expires a client is told, if the token lives that long twice.
const WARNING: Duration = Duration::from_secs(60);

/// The term of one session. Pure state; whoever asks brings the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// It may stay.
    Open,
    /// Until then it is to say who it is, or to subscribe to what needs no credential.
    Introduction(Deadline),
    /// Then it is to be told that it expires.
    Warning {
        /// When it is told.
        at: Instant,
        /// When it expires.
        expires: Instant,
    },
    /// Then it expires.
    Expiry(Instant),
}

/// What comes when a term is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Up {
    /// Nothing.
    Nothing,
    /// The client is to be told that so much is left.
    Warn(Duration),
    /// The session.
    Over,
}

impl Term {
    /// The term of who is known as `caller`.
    pub fn of(caller: &Caller, clock: &Clock) -> Self {
        let Some(user) = caller.user() else { return Self::Open };
        let (now, expires) = (clock.now(), clock.when(user.expires));
        let warning = WARNING.min((expires - now) / 2);
        Self::Warning { at: expires - warning, expires }
    }

    /// Gives who has to introduce itself so much time for that, and who no longer has to all its time.
    pub fn introduce(&mut self, time: Option<Duration>) {
        match (&self, time) {
            (Self::Open, Some(time)) => *self = Self::Introduction(Deadline::after(time)),
            (Self::Introduction(_), None) => *self = Self::Open,
            _ => {}
        }
    }

    /// When it is up.
    pub fn ends(&self) -> Option<Instant> {
        match *self {
            Self::Open => None,
            Self::Introduction(deadline) => Some(deadline.at()),
            Self::Warning { at, .. } | Self::Expiry(at) => Some(at),
        }
    }

    /// It is up: what comes with that, and what the next one is.
    pub fn pass(&mut self, now: Instant) -> Up {
        match self {
            Self::Open => Up::Nothing,
            Self::Introduction(deadline) => match deadline.has_passed() {
                true => Up::Over,
                false => Up::Nothing,
            },
            Self::Warning { expires, .. } => {
                let expires = *expires;
                *self = Self::Expiry(expires);
                Up::Warn(expires.saturating_duration_since(now))
            }
            Self::Expiry(_) => Up::Over,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_to_introduce_itself_has_one_time_for_it_and_then_all() {
        let mut term = Term::Open;
        term.introduce(Some(Duration::ZERO));
        let until = term.ends();
        term.introduce(Some(WARNING));
        assert_eq!(term.ends(), until, "asking again does not prolong it");
        assert_eq!(term.pass(Instant::now()), Up::Over);
        term.introduce(None);
        assert_eq!((term, term.ends()), (Term::Open, None));
    }

    #[test]
    fn who_expires_is_warned_and_then_gone() {
        let (at, expires) = (Instant::now(), Instant::now() + WARNING);
        let mut term = Term::Warning { at, expires };
        term.introduce(Some(Duration::ZERO));
        assert_eq!(term.ends(), Some(at));
        assert_eq!(term.pass(expires - WARNING / 2), Up::Warn(WARNING / 2));
        assert_eq!((term.ends(), term.pass(expires)), (Some(expires), Up::Over));
    }
}
