//! When the clock that dates events went back.
//!
//! Pure state, kept beside the epochs of a log. Times rise along the log but where the clock was set back by
//! more than a moment, so a log is stretches in which they rise. What is dated ahead of such a step happened
//! before it, and is never older than the step.

use crate::model::Timestamp;

/// One step back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClockStep {
    /// The newest number that was given before it.
    pub(super) after: u64,
    /// The time that the log had come to.
    pub(super) from: Timestamp,
    /// The time that it was.
    pub(super) to: Timestamp,
}

/// The steps of one log, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ClockSteps(Vec<ClockStep>);

impl ClockSteps {
    /// How many are remembered. Where there are as many, times may have gone back before the first one too.
    pub(super) const MOST: usize = 32;

    /// These steps.
    pub(super) fn new(steps: Vec<ClockStep>) -> Self {
        Self(steps)
    }

    /// The newest one.
    pub(super) fn last(&self) -> Option<ClockStep> {
        self.0.last().copied()
    }

    /// The time from which the age of an event counts: its own, or that of the first step back below it, by
    /// which it was there. Rises along the log.
    pub(super) fn age_from(&self, sequence: u64, time: Timestamp) -> Timestamp {
        let later = self.0.iter().filter(|step| sequence <= step.after);
        later.map(|step| step.to).fold(time, Timestamp::min)
    }

    /// The stretches of a log up to its head in which times rise, newest first: after one number, up to another.
    pub(super) fn stretches(&self, head: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut upto = head;
        let ends = self.0.iter().rev().map(|step| step.after).chain([0]);
        ends.map(move |after| (after, std::mem::replace(&mut upto, after)))
    }

    /// Up to which number it is not known whether times rise.
    pub(super) fn unknown_upto(&self) -> u64 {
        self.0.first().filter(|_| self.0.len() >= Self::MOST).map_or(0, |step| step.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn steps(steps: &[(u64, i64, i64)]) -> ClockSteps {
        let step = |&(after, from, to)| ClockStep { after, from: at(from), to: at(to) };
        ClockSteps::new(steps.iter().map(step).collect())
    }

    #[test]
    fn what_is_dated_ahead_of_a_step_ages_from_when_it_was_found() {
        let steps = steps(&[(10, 900_000, 100_000), (20, 950_000, 105_000)]);
        for (sequence, time, expected) in [
            (9, 99_000, 99_000),
            (10, 900_000, 100_000),
            (11, 100_000, 100_000),
            (20, 950_000, 105_000),
            (21, 105_000, 105_000),
        ] {
            assert_eq!(steps.age_from(sequence, at(time)), at(expected), "{sequence}");
        }
    }

    #[test]
    fn a_log_is_stretches_in_which_times_rise() {
        let stretches = |steps: ClockSteps| steps.stretches(30).collect::<Vec<_>>();
        assert_eq!(stretches(ClockSteps::default()), [(0, 30)]);
        let two = steps(&[(10, 9, 1), (20, 9, 5)]);
        assert_eq!(stretches(two), [(20, 30), (10, 20), (0, 10)]);
    }

    #[test]
    fn where_steps_were_forgotten_nothing_is_known_before_the_first() {
        let few = steps(&[(10, 9, 1)]);
        assert_eq!(few.unknown_upto(), 0);
        let many: Vec<_> = (1..=32).map(|n| (10 * n, 9, 1)).collect();
        assert_eq!(steps(&many).unknown_upto(), 10);
    }
}
