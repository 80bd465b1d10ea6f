//! The time of one bench, and the marker that carries it through a server.
//!
//! Every event's data holds a marker: a needle and the moment it was due, in digits of fixed width.
//! Finding one is a search for a few bytes, so a delivered event needs no parser, in whatever
//! wire form it comes.

use std::time::Instant;

use memchr::memmem::Finder;

/// What a marker begins with.
pub const NEEDLE: &str = "bench@";
/// The digits behind it: nanoseconds of more than three months.
const DIGITS: usize = 16;
/// The bytes of a marker.
pub const MARKER: usize = NEEDLE.len() + DIGITS;

/// Nanoseconds since the bench began.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A moment as others know it.
    pub fn instant(&self, at: u64) -> Instant {
        self.start + std::time::Duration::from_nanos(at)
    }
}

/// Writes the marker of a moment.
pub fn mark(out: &mut Vec<u8>, at: u64) {
    out.extend_from_slice(NEEDLE.as_bytes());
    let mut digits = [b'0'; DIGITS];
    let mut rest = at;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits);
}

/// Finds markers in what a server sent.
#[derive(Debug)]
pub struct Markers {
    finder: Finder<'static>,
}

impl Default for Markers {
    fn default() -> Self {
        Self { finder: Finder::new(NEEDLE) }
    }
}

impl Markers {
    /// The moments of all whole markers, in their order.
    pub fn find<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = u64> + 'a {
        let digits = |at: usize| bytes.get(at + NEEDLE.len()..at + MARKER).and_then(number);
        self.finder.find_iter(bytes).filter_map(digits)
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number: u64, digit| {
        digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_wherever_they_stand() {
        let mut bytes = b"{\"a\":\"".to_vec();
        mark(&mut bytes, 0);
        bytes.extend_from_slice(b"\"}\n bench@x bench@12 ");
        mark(&mut bytes, 9_876_543_210_123_456);
        assert_eq!(Markers::default().find(&bytes).collect::<Vec<_>>(), [0, 9_876_543_210_123_456]);
        bytes.pop();
        assert_eq!(Markers::default().find(&bytes).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_clock_goes_forward() {
        let clock = Clock::start();
        let first = clock.now();
        assert!(clock.instant(first) <= Instant::now() && clock.now() >= first);
    }
}
