//! How much may come in a time.

use std::time::{Duration, Instant};

/// What may come at once, as the time in which it might have come one by one.
const BURST: Duration = Duration::from_secs(1);

/// Counts what comes against a rate: so much a second, and as much again at once (the generic cell rate
/// algorithm of ITU-T I.371). Pure state; whoever asks brings the clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowance {
    /// When all that came would have come at the rate.
    paid: Option<Instant>,
}

impl Allowance {
    /// Takes `amount`, of which `per_second` may come, 0 for any; false if too much came before. What is
    /// more than a burst by itself may come when nothing did for long enough, and keeps others waiting.
    pub fn take(&mut self, amount: usize, per_second: usize, now: Instant) -> bool {
        if per_second == 0 {
            return true;
        }
        let paid = self.paid.map_or(now, |paid| paid.max(now));
        // Rounded down, so that a burst has room for all of a second's.
        let cost =
            Duration::from_nanos((amount as u64).saturating_mul(1_000_000_000) / per_second as u64);
        if paid.duration_since(now) + cost.min(BURST) > BURST {
            return false;
        }
        self.paid = Some(paid + cost);
        true
    }

    /// Whether nothing is remembered that could matter.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.paid.is_none_or(|paid| paid <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_a_second_is_allowed_and_then_the_rate() {
        let (mut allowance, start) = (Allowance::default(), Instant::now());
        let taken = (0..100).filter(|_| allowance.take(1, 10, start)).count();
        assert_eq!(taken, 10);
        let at = |ms| start + Duration::from_millis(ms);
        assert!(allowance.take(1, 10, at(100)) && !allowance.take(1, 10, at(150)));
        assert!(!allowance.is_idle(at(1_000)) && allowance.is_idle(at(2_000)));
        let later = (0..100).filter(|_| allowance.take(1, 10, at(60_000))).count();
        assert_eq!(later, 10, "what was not used is not saved up");
    }

    #[test]
    fn one_large_thing_is_allowed_and_paid_for() {
        let (mut allowance, start) = (Allowance::default(), Instant::now());
        assert!(allowance.take(500, 100, start));
        assert!(!allowance.take(1, 100, start + Duration::from_secs(3)));
        assert!(allowance.take(1, 100, start + Duration::from_secs(5)));
    }

    #[test]
    fn without_a_rate_everything_is_allowed() {
        let mut allowance = Allowance::default();
        assert!((0..1_000).all(|_| allowance.take(usize::MAX, 0, Instant::now())));
    }
}
