//! The broker's one clock.
//!
//! Deadlines are moments of a clock that never steps ([`Clock::now`]); what is written into events and
//! compared with tokens is the time of day ([`Clock::time`]), which may. Whoever waits does so by tokio's timers,
//! which go by the same clock, so that a test that holds time still holds all of it still. How long
//! others are waited for is a [`Deadline`].

mod deadline;

use std::time::SystemTime;

pub use tokio::time::Instant;

pub use deadline::{Deadline, TICK, Timer, tick, within};

/// Tells the time. Copies are the same clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    /// Where the time of day is made up: what it was at a moment.
    made_up: Option<(Instant, SystemTime)>,
}

impl Clock {
    /// A clock whose time of day is `time` now and goes on as [`Clock::now`] does.
    pub fn starting_at(time: SystemTime) -> Self {
        Self { made_up: Some((Instant::now(), time)) }
    }

    /// This moment, to measure from and to wait for.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// The time of day.
    pub fn time(&self) -> SystemTime {
        match self.made_up {
            None => SystemTime::now(),
            Some((began, time)) => time + began.elapsed(),
        }
    }

    /// The moment at which the time of day will be `time`, as far as one can tell now; now, where it
    /// has been.
    pub fn when(&self, time: SystemTime) -> Instant {
        let now = self.now();
        let left = time.duration_since(self.time()).unwrap_or_default();
        // What lies too far ahead to be told never comes.
        now.checked_add(left).unwrap_or(now + FAR)
    }
}

/// Further ahead than any process lives.
const FAR: std::time::Duration = std::time::Duration::from_secs(30 * 365 * 24 * 3_600);

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_made_up_time_of_day_goes_on_by_itself() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let clock = Clock::starting_at(begin);
        assert!(clock.time() >= begin && clock.time() < begin + Duration::from_secs(600));
    }

    #[test]
    fn what_has_been_is_now_and_what_never_comes_is_far() {
        let clock = Clock::default();
        assert!(clock.when(SystemTime::UNIX_EPOCH) <= clock.now());
        let year_9999 = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        assert!(clock.when(year_9999) > clock.now() + FAR / 2);
    }
}
