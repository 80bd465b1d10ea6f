//! When sessions have something to send by the clock: one timer for all of a worker.

use std::collections::{BTreeSet, HashMap};

use super::SessionKey;
use crate::clock::Instant;

/// The sessions that are to be looked at later. Pure state; the worker brings the clock.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    times: HashMap<SessionKey, Instant>,
    order: BTreeSet<(Instant, SessionKey)>,
}

impl Alarms {
    /// Looks at a session at a time, or at none, and not when it was to before.
    pub(super) fn set(&mut self, session: SessionKey, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.times.insert(session, at),
            None => self.times.remove(&session),
        };
        if let Some(before) = before {
            self.order.remove(&(before, session));
        }
        if let Some(at) = at {
            self.order.insert((at, session));
        }
    }

    /// The sessions whose time has come.
    pub(super) fn take(&mut self, now: Instant) -> Vec<SessionKey> {
        let mut due = Vec::new();
        while let Some(&(at, session)) = self.order.first()
            && at <= now
        {
            self.set(session, None);
            due.push(session);
        }
        due
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn key(slot: u32) -> SessionKey {
        SessionKey { slot, number: 0 }
    }

    #[test]
    fn sessions_come_when_they_are_due_and_the_last_word_counts() {
        let (mut alarms, start) = (Alarms::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        alarms.set(key(1), Some(at(30)));
        alarms.set(key(2), Some(at(20)));
        alarms.set(key(3), Some(at(10)));
        alarms.set(key(3), Some(at(40)));
        alarms.set(key(2), None);
        assert_eq!(alarms.next(), Some(at(30)));
        assert_eq!(alarms.take(at(29)), []);
        assert_eq!(alarms.take(at(30)), [key(1)]);
        assert_eq!(alarms.take(at(50)), [key(3)]);
        assert_eq!((alarms.next(), alarms.times.len()), (None, 0));
    }
}
