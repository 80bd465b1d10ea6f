//! The newest lines of the log that an operator should read, kept for who looks at the broker instead.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::SystemTime;

use crate::model::Timestamp;
use crate::panics::lock;

/// How many are kept.
const KEPT: usize = 8;

/// The most characters of one.
const MAX_CHARACTERS: usize = 240;

/// Those of the process, which has one log.
pub static TROUBLES: Troubles = Troubles(Mutex::new(VecDeque::new()));

/// The newest warnings and errors.
#[derive(Debug)]
pub struct Troubles(Mutex<VecDeque<Logged>>);

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// When it was written.
    pub time: Timestamp,
    /// `error` or `warn`.
    pub level: &'static str,
    /// What it says, cut short.
    pub message: String,
}

impl Troubles {
    /// Keeps a line.
    pub fn note(&self, level: &'static str, message: &str) {
        let time = Timestamp::from(SystemTime::now());
        let tame = |c: char| if c.is_control() { ' ' } else { c };
        let message = message.chars().take(MAX_CHARACTERS).map(tame).collect();
        let mut kept = lock(&self.0);
        kept.truncate(KEPT - 1);
        kept.push_front(Logged { time, level, message });
    }

    /// The newest lines, the newest first.
    pub fn newest(&self) -> Vec<Logged> {
        lock(&self.0).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_cut_short() {
        let troubles = Troubles(Mutex::default());
        for number in 0..20 {
            troubles.note("warn", &format!("{number}\n{}", "x".repeat(1_000)));
        }
        let newest = troubles.newest();
        assert_eq!(newest.len(), KEPT);
        assert_eq!(newest[0].message.chars().count(), MAX_CHARACTERS);
        assert!(newest[0].message.starts_with("19 x") && newest[7].message.starts_with("12 "));
    }
}
