//! How long to wait before trying again.
//!
//! Pure: the randomness is handed in. Waiting grows from try to try and is spread out, so that many
//! clients that lost one broker do not come back in the same moment.

use std::time::Duration;

/// The waits between tries that failed in a row.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(30);
    /// The longest that anybody is obeyed who asks for more.
    const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);

    /// Something worked: the next wait is a short one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure. `asked` is what the broker asked for: the first time it is
    /// done as asked, after that it is the least. `random` is from 0 to 1.
    pub fn wait(&mut self, asked: Option<Duration>, random: f64) -> Duration {
        let full = Self::FIRST.saturating_mul(1 << self.failures.min(16)).min(Self::LONGEST);
        let spread = full.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        let first = self.failures == 0;
        self.failures = self.failures.saturating_add(1);
        match asked.map(|asked| asked.min(Self::LONGEST_ASKED)) {
            Some(asked) if first => asked,
            Some(asked) => asked.max(spread),
            None => spread,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.wait(None, 1.0).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
        for _ in 0..100 {
            assert_eq!(backoff.wait(None, 0.0), Duration::from_secs(15));
        }
        backoff.reset();
        assert_eq!(backoff.wait(None, 0.0), Duration::from_millis(250));
    }

    #[test]
    fn a_broker_that_keeps_asking_for_no_wait_is_not_hammered() {
        let mut backoff = Backoff::default();
        let none = Some(Duration::ZERO);
        assert_eq!(backoff.wait(none, 1.0), Duration::ZERO);
        assert_eq!(backoff.wait(none, 1.0), Duration::from_secs(1));
        let long = Some(Duration::from_secs(60));
        assert_eq!(backoff.wait(long, 1.0), Duration::from_secs(60));
        // No moment is so far away that it could be waited for.
        let for_good = Some(Duration::from_secs(u64::MAX));
        for _ in 0..2 {
            assert_eq!(backoff.wait(for_good, 1.0), Backoff::LONGEST_ASKED);
            backoff.reset();
        }
    }
}
