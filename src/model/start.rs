//! Where a reader begins: behind a place of the log, or since a time.

use std::time::Duration;

use super::{Code, Cursor, Problem, Timestamp};

/// Where a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Behind a place.
    After(Cursor),
    /// Behind what is older than a time.
    Since(Since),
}

/// Since when something has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Since {
    /// A moment.
    Time(Timestamp),
    /// So long ago, by the clock that dates the events, which need not be that of who asks.
    Ago(Duration),
}

impl Start {
    /// Reads a cursor, a moment as RFC 3339 writes it, or as long ago as `-15m`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let since = match text.strip_prefix('-') {
            Some(ago) => span(ago).map(Since::Ago),
            // A `+` in an offset from UTC that was not encoded in a query has become a space.
            None => Timestamp::parse(&text.replace(' ', "+")).map(Since::Time),
        };
        let start = since.map(Self::Since).or_else(|| Cursor::parse(text).ok().map(Self::After));
        start.ok_or_else(|| {
            let detail = "since is neither a cursor given by this broker, nor a moment as RFC 3339 \
                          writes it, nor as long ago as -15m";
            Problem::new(Code::InvalidCursor, detail)
        })
    }
}

impl Since {
    /// The moment, where it is `now` by the clock that dates the events.
    pub fn time(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Time(time) => time,
            Self::Ago(ago) => {
                let millis = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                Timestamp::from_millis(now.millis().saturating_sub(millis))
            }
        }
    }
}

/// The units of time, in milliseconds.
pub const TIME_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a time with its unit: `250ms`, `25s`, `10m`, `24h`, `7d`.
pub fn span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, millis) = TIME_UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_a_moment_and_an_ago_are_told_apart() {
        let time = |text| Timestamp::parse(text).unwrap();
        for (text, expected) in [
            ("abcdefgh-1-7", Start::After(Cursor::parse("abcdefgh-1-7").unwrap())),
            ("-15m", Start::Since(Since::Ago(Duration::from_secs(900)))),
            ("-0s", Start::Since(Since::Ago(Duration::ZERO))),
            ("2026-11-23T08:00:00Z", Start::Since(Since::Time(time("2026-11-23T08:00:00Z")))),
            ("2026-11-23T10:00:00 02:00", Start::Since(Since::Time(time("2026-11-23T08:00:00Z")))),
        ] {
            assert_eq!(Start::parse(text), Ok(expected), "{text}");
        }
        for text in ["", "-", "-15", "15m", "-15y", "-1.5h", "--5m", "2026-11-23", "abcdefgh-1"] {
            assert_eq!(Start::parse(text).unwrap_err().code, Code::InvalidCursor, "{text}");
        }
    }
}
