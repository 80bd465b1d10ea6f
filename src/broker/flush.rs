//! When what was delivered is written.
//!
//! Writing to a socket is the dearest step of an event's road, so what comes together leaves
//! together. After a pause an event leaves at once; for an interval behind it, more gathers. Pure
//! state: the worker brings the clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::SessionKey;

/// The sessions of one worker that have something to write.
#[derive(Debug)]
pub(super) struct Flush {
    waiting: VecDeque<SessionKey>,
    interval: Duration,
    /// Until then they gather more.
    held_until: Option<Instant>,
    /// Somebody will look again then.
    is_awaited: bool,
}

/// What to do about the sessions that wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing: none waits, or somebody will look again.
    Nothing,
    /// Have them write now.
    Now,
    /// Look again after this time.
    After(Duration),
}

impl Flush {
    /// Lets events gather for at most `interval`.
    pub(super) fn new(interval: Duration) -> Self {
        Self { waiting: VecDeque::new(), interval, held_until: None, is_awaited: false }
    }

    /// Adds a session that has something to write.
    pub(super) fn add(&mut self, session: SessionKey) {
        self.waiting.push_back(session);
    }

    /// What is to be done at `now`.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        if self.waiting.is_empty() {
            return Due::Nothing;
        }
        match self.held_until.map(|until| until.saturating_duration_since(now)) {
            None | Some(Duration::ZERO) => Due::Now,
            Some(_) if self.is_awaited => Due::Nothing,
            Some(left) => {
                self.is_awaited = true;
                Due::After(left)
            }
        }
    }

    /// Takes the sessions, to have them write at `now`.
    pub(super) fn take(&mut self, now: Instant) -> VecDeque<SessionKey> {
        self.held_until = Some(now + self.interval);
        self.is_awaited = false;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn after_a_pause_an_event_leaves_at_once_and_what_follows_leaves_together() {
        let (mut flush, start) = (Flush::new(10 * MS), Instant::now());
        assert_eq!(flush.due(start), Due::Nothing);
        flush.add(SessionKey(1));
        assert_eq!(flush.due(start), Due::Now);
        assert_eq!(flush.take(start).len(), 1);
        flush.add(SessionKey(1));
        assert_eq!(flush.due(start + 4 * MS), Due::After(6 * MS));
        flush.add(SessionKey(1));
        assert_eq!(flush.due(start + 5 * MS), Due::Nothing);
        assert_eq!(flush.due(start + 10 * MS), Due::Now);
        assert_eq!(flush.take(start + 10 * MS).len(), 2);
        flush.add(SessionKey(1));
        assert_eq!(flush.due(start + 21 * MS), Due::Now);
    }

    #[test]
    fn without_an_interval_nothing_is_held_back() {
        let (mut flush, now) = (Flush::new(Duration::ZERO), Instant::now());
        for _ in 0..3 {
            flush.add(SessionKey(1));
            assert_eq!(flush.due(now), Due::Now);
            flush.take(now);
        }
    }
}
