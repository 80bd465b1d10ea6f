//! What is wrong with a configuration, gathered while it is checked, and the bounds that many values have.

use std::time::Duration;

use super::super::value::Span;

// Spans of time, in seconds.
pub(super) const HOUR: u64 = 3_600;
pub(super) const DAY: u64 = 24 * HOUR;
pub(super) const WEEK: u64 = 7 * DAY;
pub(super) const YEAR: u64 = 365 * DAY;
pub(super) const CENTURY: u64 = 100 * YEAR;

/// What is wrong with the value of a key. Never holds a secret.
#[derive(Debug)]
pub struct Complaint {
    /// The section and key, and the item of a list.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// The complaints so far.
#[derive(Debug, Default)]
pub struct Complaints(Vec<Complaint>);

impl Complaints {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Says what is wrong with the value of a key.
    pub(super) fn add(&mut self, key: &str, message: impl Into<String>) {
        self.0.push(Complaint { key: key.to_owned(), message: message.into() });
    }

    /// Checks a duration against its bounds in seconds.
    pub(super) fn between(
        &mut self,
        key: &str,
        Span(value): Span,
        least: u64,
        most: u64,
    ) -> Duration {
        let bound = |seconds| Span(Duration::from_secs(seconds));
        if value < bound(least).0 || value > bound(most).0 {
            self.add(key, format!("must be from {} to {}", bound(least), bound(most)));
        }
        value
    }

    /// Checks a number that zero is too few of.
    pub(super) fn at_least_one(&mut self, key: &str, value: usize) {
        if value == 0 {
            self.add(key, "must be at least 1");
        }
    }
}

impl IntoIterator for Complaints {
    type Item = Complaint;
    type IntoIter = std::vec::IntoIter<Complaint>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
