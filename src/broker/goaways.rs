//! When sessions are told to go elsewhere, while the broker goes and still serves.

use std::sync::Arc;
use std::time::Duration;

use super::SessionKey;
use super::alarms::Alarms;
use super::outlook::Outlook;
use crate::clock::Instant;

/// The share of the time there is to go elsewhere over which sessions are told so: the last ones need some too.
const TOLD_WITHIN: f64 = 0.9;

/// The sessions of a worker that are to be told. Pure state; the worker brings the clock.
pub(super) struct Goaways {
    outlook: Arc<Outlook>,
    times: Alarms,
}

impl Goaways {
    pub(super) fn new(outlook: Arc<Outlook>) -> Self {
        Self { outlook, times: Alarms::default() }
    }

    /// Has these told, evenly over the time there is for that.
    pub(super) fn begin(&mut self, sessions: &[SessionKey], now: Instant) {
        for (turn, session) in sessions.iter().enumerate() {
            self.add(*session, turn as f64 / sessions.len() as f64, now);
        }
    }

    /// Has one told that came while the broker goes; not at once, for its client may come back to this very
    /// broker for as long as there is no other.
    pub(super) fn enter(&mut self, session: SessionKey, now: Instant) {
        if self.outlook.is_leaving() {
            self.add(session, rand::random(), now);
        }
    }

    /// Has one told when such a share of the time is over, if there is any.
    fn add(&mut self, session: SessionKey, share: f64, now: Instant) {
        if let Some(left) = self.outlook.left(now) {
            self.times.set(session, Some(now + left.mul_f64(TOLD_WITHIN * share)));
        }
    }

    /// Tells one nothing any more.
    pub(super) fn leave(&mut self, session: SessionKey) {
        self.times.set(session, None);
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.times.next()
    }

    /// Those whose turn it is, and how long they have; nobody where it is too late for that.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Vec<SessionKey>, Duration)> {
        let due = self.times.take(now);
        self.outlook.left(now).map(|left| (due, left))
    }
}
