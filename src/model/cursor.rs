//! A place in the history of one log: `<log>-<epoch>-<sequence>`.
//!
//! Opaque to clients. One log numbers the events of all its topics with one sequence, so that one
//! cursor resumes any set of topics and patterns. An epoch is a stretch of the log within which
//! numbers were never rolled back.

use std::fmt;

/// The name of a log: 8 characters of `a`-`z` and `0`-`9`, given at random when the log is created,
/// so that a wiped data directory is known as another log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogName([u8; Self::LENGTH]);

impl LogName {
    /// The length of every name, in bytes.
    pub const LENGTH: usize = 8;
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

    /// A new name, unlike any other (36^8 possible ones).
    pub fn random() -> Self {
        Self(std::array::from_fn(|_| Self::ALPHABET[rand::random_range(0..Self::ALPHABET.len())]))
    }

    /// Reads a name.
    pub fn parse(text: &str) -> Option<Self> {
        let name: [u8; Self::LENGTH] = text.as_bytes().try_into().ok()?;
        name.iter().all(|byte| Self::ALPHABET.contains(byte)).then_some(Self(name))
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogName({self})")
    }
}

/// A place in a log. Cursors of one log order by epoch, then sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cursor {
    /// Which log.
    pub log: LogName,
    /// Which stretch of the log, from 1.
    pub epoch: u64,
    /// The number of the event, from 1; 0 is the place before the first.
    pub sequence: u64,
}

/// The text is not a cursor that any log could have given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a cursor given by this broker")]
pub struct CursorError;

impl Cursor {
    /// The longest text of a cursor, in bytes: a log name and two 64-bit numbers.
    pub const MAX_BYTES: usize = LogName::LENGTH + 2 * (1 + 20);

    /// Reads a cursor exactly as it was given: numbers have no sign and no leading zeros.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        let mut parts = text.split('-');
        let log = parts.next().and_then(LogName::parse).ok_or(CursorError)?;
        let epoch = parts.next().and_then(number).ok_or(CursorError)?;
        let sequence = parts.next().and_then(number).ok_or(CursorError)?;
        match parts.next() {
            None => Ok(Self { log, epoch, sequence }),
            Some(_) => Err(CursorError),
        }
    }

    /// The same place in the log with another number.
    pub fn at(self, sequence: u64) -> Self {
        Self { sequence, ..self }
    }
}

fn number(text: &str) -> Option<u64> {
    let canonical =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // From its end, as the digits of numbers come: an event is written with its place each time.
        let mut text = [b'-'; Self::MAX_BYTES];
        let mut start = text.len();
        for mut number in [self.sequence, self.epoch] {
            loop {
                start -= 1;
                text[start] = b'0' + (number % 10) as u8;
                number /= 10;
                if number == 0 {
                    break;
                }
            }
            start -= 1;
        }
        start -= LogName::LENGTH;
        text[start..start + LogName::LENGTH].copy_from_slice(&self.log.0);
        f.write_str(std::str::from_utf8(&text[start..]).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_cursors_are_refused() {
        for text in [
            "",
            "1",
            "abcdefgh",
            "abcdefgh-1",
            "abcdefgh-1-",
            "abcdefgh--1",
            "abcdefgh-1-1-1",
            "ABCDEFGH-1-1",
            "abcdefg-1-1",
            "abcdefgh-01-1",
            "abcdefgh-1-+1",
            "abcdefgh-1-1 ",
            "abcdefgh-1-18446744073709551616",
            "äbcdefg-1-1",
        ] {
            assert_eq!(Cursor::parse(text), Err(CursorError), "{text:?}");
        }
    }

    #[test]
    fn cursors_of_one_log_order_by_epoch_then_sequence() {
        let cursor = |text| Cursor::parse(text).unwrap();
        assert!(cursor("abcdefgh-1-9") < cursor("abcdefgh-2-1"));
        assert!(cursor("abcdefgh-2-9") < cursor("abcdefgh-2-10"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(epoch in any::<u64>(), sequence in any::<u64>()) {
            let cursor = Cursor { log: LogName::random(), epoch, sequence };
            let text = cursor.to_string();
            prop_assert!(text.len() <= Cursor::MAX_BYTES);
            prop_assert_eq!(Cursor::parse(&text), Ok(cursor));
        }

        #[test]
        fn parsing_never_panics(text in ".{0,60}") {
            if let Ok(cursor) = Cursor::parse(&text) {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
