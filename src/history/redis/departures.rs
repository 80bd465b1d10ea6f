//! Sessions of this node that have left lately, to be told of again where Redis may have forgotten it.
//!
//! What a server lost that was replaced, or brought back, begins a new epoch. A value whose session has left would stay
//! for ever if that were lost with it. Pure state; who tells brings the clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// For how long it is remembered: much longer than what a server loses that is replaced by another.
const REMEMBERED: Duration = Duration::from_secs(600);

/// A session that has left, as the server lists it, and for how long its values stay.
pub(super) type Left = (String, Duration);

/// Who has left lately, and the epoch in which all of it was told.
#[derive(Debug, Default)]
pub(super) struct Departures {
    epoch: u64,
    recent: VecDeque<(Instant, String)>,
}

impl Departures {
    /// Notes who was told of now.
    pub(super) fn note_told(&mut self, left: Vec<Left>, now: Instant) {
        let is_old =
            |(ends, _): &(Instant, String)| now.saturating_duration_since(*ends) > REMEMBERED;
        while self.recent.front().is_some_and(is_old) {
            self.recent.pop_front();
        }
        self.recent.extend(left.into_iter().map(|(holder, stays)| (now + stays, holder)));
    }

    /// Those that are to be told of again, for the log is in another epoch than when they were.
    pub(super) fn forgotten(&self, epoch: u64, now: Instant) -> Vec<Left> {
        if epoch == self.epoch {
            return Vec::new();
        }
        let again = |(ends, holder): &(Instant, String)| {
            (holder.clone(), ends.saturating_duration_since(now))
        };
        self.recent.iter().map(again).collect()
    }

    /// All of it was told in this epoch.
    pub(super) fn known_in(&mut self, epoch: u64) {
        self.epoch = epoch;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_lately_is_told_of_again_in_each_new_epoch_and_has_what_is_left_of_its_time() {
        let (mut departures, now) = (Departures::default(), Instant::now());
        let second = Duration::from_secs(1);
        departures.known_in(1);
        departures.note_told(vec![("n one".to_owned(), second * 5)], now);
        assert!(departures.forgotten(1, now).is_empty());
        let again = departures.forgotten(2, now + second);
        assert_eq!(again, [("n one".to_owned(), second * 4)]);
        departures.known_in(2);
        assert!(departures.forgotten(2, now).is_empty());
        let later = now + REMEMBERED + second * 6;
        departures.note_told(vec![("n two".to_owned(), Duration::ZERO)], later);
        assert_eq!(departures.forgotten(3, later), [("n two".to_owned(), Duration::ZERO)]);
    }
}
