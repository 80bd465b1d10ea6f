//! When what was delivered is written.
//!
//! Writing to a socket is the dearest step of an event's road, so what comes together leaves
//! together. Time goes in rounds of one interval. A session that has not written in the round yet
//! writes at once; what else it gets waits for the next round, all of it together. Pure state: the
//! worker brings the clock.

use std::collections::VecDeque;
use std::time::Duration;

use super::SessionKey;
use crate::clock::Instant;

/// The sessions of one worker that have something to write.
#[derive(Debug)]
pub(super) struct Flush {
    interval: Duration,
    round: Round,
    ends: Option<Instant>,
    now: VecDeque<SessionKey>,
    next: VecDeque<SessionKey>,
    /// Somebody will look when the round ends.
    is_awaited: bool,
}

/// One interval; a session keeps the one in which it wrote last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Round(u32);

impl Flush {
    /// Lets what follows an event gather for at most `interval`.
    pub(super) fn new(interval: Duration) -> Self {
        let (now, next) = (VecDeque::new(), VecDeque::new());
        Self { interval, round: Round::default(), ends: None, now, next, is_awaited: false }
    }

    /// It is `now`: if the round is over, a new one begins, and those that waited for it write.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.ends.is_none_or(|ends| ends <= now) {
            self.ends = Some(now + self.interval);
            self.round.0 = self.round.0.wrapping_add(1);
            self.now.append(&mut self.next);
        }
    }

    /// The round that was begun last.
    pub(super) fn round(&self) -> Round {
        self.round
    }

    /// Adds a session that has something to write, and wrote in round `wrote` last.
    pub(super) fn add(&mut self, session: SessionKey, wrote: Round) {
        let queue = if wrote == self.round { &mut self.next } else { &mut self.now };
        queue.push_back(session);
    }

    /// Takes the sessions that write now.
    pub(super) fn take(&mut self) -> VecDeque<SessionKey> {
        std::mem::take(&mut self.now)
    }

    /// Whether nobody has anything left to write.
    pub(super) fn is_idle(&self) -> bool {
        self.now.is_empty() && self.next.is_empty()
    }

    /// How long until the next round, if sessions wait for it and nobody was told so yet. Who is
    /// told calls [`Flush::awaited`] then.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Duration> {
        if self.next.is_empty() || self.is_awaited {
            return None;
        }
        self.is_awaited = true;
        self.ends.map(|ends| ends.saturating_duration_since(now))
    }

    /// The wait is over.
    pub(super) fn awaited(&mut self) {
        self.is_awaited = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32) -> SessionKey {
        SessionKey { slot, number: 0 }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn after_a_pause_a_session_writes_at_once_and_what_follows_leaves_together() {
        let (mut flush, start) = (Flush::new(10 * MS), Instant::now());
        flush.begin(start);
        let first = flush.round();
        flush.add(key(1), Round::default());
        assert_eq!(flush.take(), [key(1)]);
        assert_eq!(flush.wait(start), None);

        flush.begin(start + 4 * MS);
        assert_eq!(flush.round(), first);
        flush.add(key(1), first);
        assert!(flush.take().is_empty());
        assert_eq!(flush.wait(start + 4 * MS), Some(6 * MS));
        assert_eq!(flush.wait(start + 5 * MS), None, "somebody waits already");

        flush.begin(start + 10 * MS);
        let second = flush.round();
        assert_ne!(second, first);
        flush.awaited();
        assert_eq!(flush.take(), [key(1)]);

        flush.begin(start + 21 * MS);
        flush.add(key(1), second);
        assert_eq!(flush.take(), [key(1)], "after a pause");
    }

    #[test]
    fn a_session_is_not_held_back_for_what_others_get() {
        let (mut flush, start) = (Flush::new(10 * MS), Instant::now());
        flush.begin(start);
        flush.add(key(1), Round::default());
        flush.take();
        flush.begin(start + MS);
        flush.add(key(1), flush.round());
        flush.add(key(2), Round::default());
        assert_eq!(flush.take(), [key(2)]);
    }

    #[test]
    fn without_an_interval_nothing_is_held_back() {
        let (mut flush, now) = (Flush::new(Duration::ZERO), Instant::now());
        let mut wrote = Round::default();
        for _ in 0..3 {
            flush.begin(now);
            flush.add(key(1), wrote);
            assert_eq!(flush.take(), [key(1)]);
            wrote = flush.round();
        }
    }
}
