//! The newest events of their topics in memory that stay beyond their age or the bytes of all topics, within
//! bounds of their own.

use std::collections::BTreeSet;

/// What may stay of all topics together.
#[derive(Debug, Clone, Copy)]
pub(in crate::history) struct MaxStays {
    pub(in crate::history) topics: usize,
    pub(in crate::history) bytes: usize,
}

/// The numbers of the events that stay, and what they cost.
#[derive(Debug)]
pub(super) struct Stays {
    numbers: BTreeSet<u64>,
    bytes: usize,
    max: MaxStays,
}

impl Stays {
    /// Nothing stays yet.
    pub(super) fn new(max: MaxStays) -> Self {
        Self { numbers: BTreeSet::new(), bytes: 0, max }
    }

    /// Notes that an event stays; nothing new where that is noted.
    pub(super) fn add(&mut self, sequence: u64, bytes: usize) {
        if self.numbers.insert(sequence) {
            self.bytes += bytes;
        }
    }

    /// Notes that an event is gone, whether it stayed or not.
    pub(super) fn remove(&mut self, sequence: u64, bytes: usize) {
        if self.numbers.remove(&sequence) {
            self.bytes -= bytes;
        }
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.numbers.contains(&sequence)
    }

    /// What they cost.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The oldest, where more stays than may.
    pub(super) fn surplus(&self) -> Option<u64> {
        let is_over = self.numbers.len() > self.max.topics || self.bytes > self.max.bytes;
        self.numbers.first().copied().filter(|_| is_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_surplus_where_there_are_too_many_or_too_large_ones() {
        let mut stays = Stays::new(MaxStays { topics: 2, bytes: 100 });
        stays.add(3, 40);
        stays.add(5, 40);
        assert_eq!(stays.surplus(), None);
        stays.add(7, 10);
        assert_eq!(stays.surplus(), Some(3));
        stays.remove(3, 40);
        assert_eq!((stays.surplus(), stays.bytes()), (None, 50));
        stays.remove(5, 40);
        stays.add(9, 95);
        assert_eq!(stays.surplus(), Some(7));
    }

    #[test]
    fn what_is_noted_twice_or_never_stayed_counts_once_or_not_at_all() {
        let mut stays = Stays::new(MaxStays { topics: 2, bytes: 100 });
        stays.add(3, 40);
        stays.add(3, 40);
        stays.remove(4, 40);
        assert_eq!((stays.bytes(), stays.contains(3), stays.contains(4)), (40, true, false));
    }
}
