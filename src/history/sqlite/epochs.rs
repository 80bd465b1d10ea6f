//! The stretches of a log: which events are of which, and which places are places in it.
//!
//! Pure state. Each start begins an epoch. Its number is drawn, so that no other start has it: what is opened
//! may be a copy that is in use elsewhere, or one that was restored before, and no file can tell. A cursor
//! is a place in this log where its epoch is one of it and had come so far when the next one began.

use crate::model::Cursor;

/// How far the number of an epoch is from the one before, at most: two starts on the same copy have the
/// same one once in so many times.
const STRIDE: u64 = 1 << 24;

/// How many epochs are kept apart, beside those that have events.
pub(super) const KEPT_APART: usize = 1_024;

/// One stretch of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch {
    /// Its number.
    pub(super) number: u64,
    /// The newest number of an event that belongs to an earlier one.
    pub(super) begins_after: u64,
    /// The newest place of earlier ones that is known to be one of this log.
    pub(super) ended_at: u64,
    /// Up to here something that was acknowledged is proven to be missing.
    pub(super) lost: u64,
}

/// The stretches of the log, oldest first; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Epochs(Vec<Epoch>);

impl Epochs {
    /// The epochs of a new log.
    pub(super) fn first() -> Self {
        Self(vec![Epoch { number: 1, begins_after: 0, ended_at: 0, lost: 0 }])
    }

    /// These epochs, oldest first; nothing where there are none or they are out of order.
    pub(super) fn new(epochs: Vec<Epoch>) -> Option<Self> {
        let rises =
            epochs.is_sorted_by(|a, b| a.number < b.number && a.begins_after <= b.begins_after);
        (!epochs.is_empty() && rises).then_some(Self(epochs))
    }

    /// All of them, oldest first.
    pub(super) fn all(&self) -> &[Epoch] {
        &self.0
    }

    /// Begins a new one behind a number, where events up to `committed` are known, and where all up to `lost`
    /// should be.
    pub(super) fn begin(&mut self, begins_after: u64, committed: u64, lost: Option<u64>) {
        let (number, began, was_lost) = self
            .0
            .last()
            .map_or((0, 0, 0), |newest| (newest.number, newest.begins_after, newest.lost));
        self.0.push(Epoch {
            number: number + rand::random_range(1..=STRIDE),
            begins_after,
            // Where nothing was stored, its beginning is a place all the same.
            ended_at: committed.max(began),
            lost: lost.map_or(was_lost, |lost| lost.max(was_lost)),
        });
    }

    /// Forgets the oldest epoch but the newest two for which `has_events` says no of the numbers after one
    /// place and up to another: its cursors are a gap from then on. Returns whether there was one.
    pub(super) fn forget_one<E>(
        &mut self,
        mut has_events: impl FnMut(u64, u64) -> Result<bool, E>,
    ) -> Result<bool, E> {
        for at in 0..self.0.len().saturating_sub(2) {
            let [Epoch { begins_after, ended_at, .. }, next] = [self.0[at], self.0[at + 1]];
            if !has_events(begins_after, next.begins_after)? {
                self.0.remove(at);
                // Who comes from before has nothing that came later.
                self.0[at].ended_at = ended_at;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The number of the newest.
    pub(super) fn newest(&self) -> u64 {
        self.0.last().map_or(1, |epoch| epoch.number)
    }

    /// The epoch in which a number was given.
    pub(super) fn of(&self, sequence: u64) -> u64 {
        let begun = self.0.partition_point(|epoch| epoch.begins_after < sequence);
        let epoch = begun.checked_sub(1).or(Some(0)).and_then(|at| self.0.get(at));
        epoch.map_or(1, |epoch| epoch.number)
    }

    /// The place of a number, in the log whose head is given.
    pub(super) fn position(&self, head: Cursor, sequence: u64) -> Cursor {
        Cursor { epoch: self.of(sequence), ..head.at(sequence) }
    }

    /// The number after which one reads on who comes with a cursor of a log of this name, and whether
    /// events after that cursor are known to be missing, or it is no place here.
    pub(super) fn resolve(&self, cursor: Cursor, head: u64) -> (u64, bool) {
        let Some(at) = self.0.iter().position(|epoch| epoch.number == cursor.epoch) else {
            return (0, true);
        };
        let lost = self.0.last().map_or(0, |epoch| epoch.lost);
        match self.0.get(at + 1) {
            Some(next) if cursor.sequence > next.ended_at => (next.ended_at, true),
            None if cursor.sequence > head => (0, true),
            Some(_) | None => (cursor.sequence, cursor.sequence < lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LogName;

    fn cursor(epoch: u64, sequence: u64) -> Cursor {
        Cursor { log: LogName::parse("abcdefgh").unwrap(), epoch, sequence }
    }

    #[test]
    fn a_place_up_to_where_its_epoch_came_is_one_and_any_other_is_a_gap() {
        let mut epochs = Epochs::first();
        epochs.begin(100, 10, None);
        let second = epochs.newest();
        epochs.begin(200, 110, None);
        let third = epochs.newest();
        for (epoch, sequence, expected) in [
            (1, 0, (0, false)),
            (1, 10, (10, false)),
            (1, 11, (10, true)),
            (1, 150, (10, true)),
            (second, 5, (5, false)),
            (second, 110, (110, false)),
            (second, 111, (110, true)),
            (third, 200, (200, false)),
            (third, 207, (207, false)),
            (third, 208, (0, true)),
            (third + 1, 5, (0, true)),
            (second - 1, 5, (if second == 2 { 5 } else { 0 }, second != 2)),
        ] {
            assert_eq!(
                epochs.resolve(cursor(epoch, sequence), 207),
                expected,
                "{epoch} {sequence}"
            );
        }
        assert_eq!([1, 100, 101, 200, 201].map(|n| epochs.of(n)), [1, 1, second, second, third]);
    }

    #[test]
    fn no_two_starts_on_the_same_copy_have_one_epoch() {
        let copy = Epochs::first();
        let mut numbers: Vec<_> = (0..100)
            .map(|_| {
                let mut epochs = copy.clone();
                epochs.begin(100, 10, None);
                epochs.newest()
            })
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 100);
    }

    #[test]
    fn the_place_at_which_an_idle_epoch_began_is_one_after_the_next_start() {
        let mut epochs = Epochs::first();
        epochs.begin(100, 10, None);
        let idle = epochs.newest();
        epochs.begin(200, 10, None);
        assert_eq!(epochs.resolve(cursor(idle, 100), 200), (100, false));
    }

    #[test]
    fn a_proven_loss_is_a_gap_for_every_place_before_it_for_good() {
        let mut epochs = Epochs::first();
        epochs.begin(100, 10, Some(20));
        let second = epochs.newest();
        epochs.begin(200, 150, None);
        assert_eq!(epochs.resolve(cursor(1, 9), 200), (9, true));
        assert_eq!(epochs.resolve(cursor(second, 19), 200), (19, true));
        assert_eq!(epochs.resolve(cursor(second, 120), 200), (120, false));
    }

    #[test]
    fn an_epoch_without_events_is_forgotten_and_its_places_are_a_gap() {
        let mut epochs = Epochs::first();
        for n in 1..6 {
            epochs.begin(n * 100, n * 100 - 90, None);
        }
        let all: Vec<_> = epochs.all().iter().map(|epoch| epoch.number).collect();
        // Of the first and the third there are events.
        let has_events = |after: u64, _| Ok::<_, ()>(after == 0 || after == 200);
        assert_eq!(epochs.forget_one(has_events), Ok(true));
        let left: Vec<_> = epochs.all().iter().map(|epoch| epoch.number).collect();
        assert_eq!(left, [&all[..1], &all[2..]].concat());
        assert_eq!(epochs.resolve(cursor(all[1], 105), 600), (0, true));
        // Places of the first go as far as before, and no further.
        assert_eq!(epochs.resolve(cursor(all[0], 10), 600), (10, false));
        assert_eq!(epochs.resolve(cursor(all[0], 105), 600), (10, true));
        assert_eq!(epochs.forget_one(has_events), Ok(true));
        assert_eq!(epochs.forget_one(has_events), Ok(false));
    }
}
