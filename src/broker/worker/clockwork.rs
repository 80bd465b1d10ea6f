//! What comes with time: heartbeats, deadlines, alarms, and being told to go elsewhere.

use super::super::subscriber::Subscriber;
use super::Worker;
use crate::clock::Instant;
use crate::model::Cursor;

impl<S: Subscriber> Worker<S> {
    /// Has those whose heartbeat is due at this tick show that they are alive; all up to `position` has been delivered.
    pub(super) fn beat(&mut self, position: Cursor) {
        let ticks = self.ticks;
        let due = self.sessions.iter_mut().filter(|(_, entry)| entry.is_due(ticks));
        let beaten: Vec<_> =
            due.map(|(key, entry)| (key, entry.subscriber.beat(position))).collect();
        for (key, beat) in beaten {
            match beat {
                Ok(()) => self.settle(key),
                Err(close) => self.end(key, close),
            }
        }
        self.ticks += 1;
    }

    /// Asks those whose time has come whether they may stay.
    pub(in super::super) fn pass_deadlines(&mut self, now: Instant) {
        for key in self.deadlines.take(now) {
            let Some(entry) = self.sessions.get_mut(key) else { continue };
            match entry.subscriber.due() {
                // A right may be over and the session not.
                Ok(()) => _ = self.recheck_rights(key),
                Err(close) => self.end(key, close),
            }
        }
    }

    /// When something is to be done by the clock.
    pub(in super::super) fn next_alarm(&self) -> Option<Instant> {
        let next = [self.alarms.next(), self.deadlines.next(), self.goaways.next()];
        next.into_iter().flatten().min()
    }

    /// Has every session told to go elsewhere, evenly over the time there is for that.
    pub(in super::super) fn begin_goaways(&mut self) {
        let (now, sessions) = (self.now(), self.sessions.keys());
        self.goaways.begin(&sessions, now);
    }

    /// Tells those whose turn it is to go elsewhere, unless it is too late for that.
    pub(in super::super) fn pass_goaways(&mut self, now: Instant) {
        let Some((due, left)) = self.goaways.take(now) else { return };
        for key in due {
            self.with(key, |subscriber| subscriber.go_away(left));
        }
    }

    /// Has those write whose time has come.
    pub(in super::super) fn pass_alarms(&mut self, now: Instant) {
        self.flush.begin(now);
        for key in self.alarms.take(now) {
            self.add_to_flush(key);
        }
    }
}
