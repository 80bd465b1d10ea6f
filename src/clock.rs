//! The broker's one clock.
//!
//! Deadlines are moments of a clock that never steps ([`Clock::now`]); what is written into events and
//! compared with tokens is the time of day ([`Clock::time`]), which may. Whoever waits does so by tokio's timers,
//! which go by the same clock, so that a test that holds time still holds all of it still. How long
//! others are waited for is a [`Deadline`].

mod deadline;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

pub use tokio::time::Instant;

pub use deadline::{Deadline, Pulse, Rounds, TICK, Timer, within};

/// Tells the time. Copies are the same clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock(Source);

/// Where a clock has it from.
#[derive(Debug, Clone, Copy, Default)]
enum Source {
    /// The system.
    #[default]
    System,
    /// What the time of day was at a moment, from which it goes on.
    Since(Instant, SystemTime),
    /// Hands that somebody moves.
    Hands(&'static Hands),
}

/// A clock that is moved by hand.
#[derive(Debug)]
struct Hands {
    began: Instant,
    /// How much has passed since, in nanoseconds.
    passed: AtomicU64,
    /// The time of day, in nanoseconds since 1970.
    time: AtomicU64,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Clock {
    /// A clock whose time of day is `time` now and goes on as [`Clock::now`] does.
    pub fn starting_at(time: SystemTime) -> Self {
        Self(Source::Since(Instant::now(), time))
    }

    /// A clock that stands until it is moved, for tests: no timer goes by it, and it is there for good.
    pub fn by_hand(time: SystemTime) -> Self {
        let hands =
            Hands { began: Instant::now(), passed: AtomicU64::new(0), time: AtomicU64::new(0) };
        let clock = Self(Source::Hands(Box::leak(Box::new(hands))));
        clock.set(time);
        clock
    }

    /// This moment, to measure from and to wait for.
    pub fn now(&self) -> Instant {
        match self.0 {
            Source::System | Source::Since(..) => Instant::now(),
            Source::Hands(hands) => {
                hands.began + Duration::from_nanos(hands.passed.load(Ordering::SeqCst))
            }
        }
    }

    /// The time of day.
    pub fn time(&self) -> SystemTime {
        match self.0 {
            Source::System => SystemTime::now(),
            Source::Since(began, time) => time + began.elapsed(),
            Source::Hands(hands) => {
                SystemTime::UNIX_EPOCH + Duration::from_nanos(hands.time.load(Ordering::SeqCst))
            }
        }
    }

    /// Lets so much time pass on a clock that stands.
    pub fn pass(&self, time: Duration) {
        if let Source::Hands(hands) = self.0 {
            hands.passed.fetch_add(nanos(time), Ordering::SeqCst);
            hands.time.fetch_add(nanos(time), Ordering::SeqCst);
        }
    }

    /// Sets the time of day, after 1970, on a clock that stands, as if somebody had found it wrong.
    pub fn set(&self, time: SystemTime) {
        if let Source::Hands(hands) = self.0 {
            let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            hands.time.store(nanos(since_1970), Ordering::SeqCst);
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
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_time_of_day_goes_on_by_itself() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let clock = Clock::starting_at(begin);
        assert!(clock.time() >= begin && clock.time() < begin + Duration::from_secs(600));
    }

    #[test]
    fn a_clock_that_stands_is_moved_by_hand() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let clock = Clock::by_hand(begin);
        let now = clock.now();
        clock.pass(Duration::from_secs(5));
        assert_eq!(
            (clock.now() - now, clock.time()),
            (Duration::from_secs(5), begin + Duration::from_secs(5))
        );
        clock.set(begin);
        assert_eq!((clock.now() - now, clock.time()), (Duration::from_secs(5), begin));
    }

    #[test]
    fn what_has_been_is_now_and_what_never_comes_is_far() {
        let clock = Clock::default();
        assert!(clock.when(SystemTime::UNIX_EPOCH) <= clock.now());
        let year_9999 = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        assert!(clock.when(year_9999) > clock.now() + FAR / 2);
    }
}
