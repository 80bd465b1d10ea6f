//! What repeats are known by.

use std::time::Duration;

use rand::RngExt;

use super::Asked;

/// For how long a key is remembered at least, where its window is not shorter. The window becomes no shorter than that,
/// however many keys come: one more is refused.
pub(in crate::history) const LEAST_KEY_WINDOW: Duration = Duration::from_secs(600);

/// What a repeated request is known by: who asked and the key they gave, and what they asked, by which another
/// request under the same key is told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// A digest of the credential and the key, whichever way they came.
    pub scope: [u8; 32],
    /// What was asked.
    pub asked: Asked,
    /// Whether it is of a [`Series`], so that a later one takes its place.
    pub is_in_series: bool,
}

/// The keys of one who appends one thing after the other, each until it is stored. All of them take the room of
/// one, for a number that is not above the last one is a repeat, however late it comes.
#[derive(Debug)]
pub struct Series {
    scope: [u8; 32],
    next: u64,
}

impl Series {
    /// A series of nobody else.
    pub fn new() -> Self {
        Self { scope: rand::rng().random(), next: 0 }
    }

    /// The key of the next append.
    pub fn next_key(&mut self) -> IdempotencyKey {
        self.next += 1;
        // Digits, whose order is that of the numbers in every language that compares them.
        let mut number = [b'0'; 32];
        for (digit, power) in number.iter_mut().rev().zip(0..20) {
            *digit += (self.next / 10_u64.pow(power) % 10) as u8;
        }
        IdempotencyKey { scope: self.scope, asked: Asked::as_it_came(number), is_in_series: true }
    }
}

impl Default for Series {
    fn default() -> Self {
        Self::new()
    }
}
