//! A moment, as everything that the broker says shows it.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// A moment in UTC, in milliseconds since 1970; shown as RFC 3339 with three decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// So many milliseconds after 1970-01-01T00:00:00Z.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Reads a moment as RFC 3339 writes it, with its offset from UTC.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|time| Self(time.as_millisecond()))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.written() {
            return f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?);
        }
        let time = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{time:.3}")
    }
}

impl Timestamp {
    /// The digits of a time from 1970 to 9999, for each event and each receipt has one. The date follows from the days
    /// as in Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    fn written(self) -> Option<[u8; 24]> {
        let millis = u64::try_from(self.0).ok().filter(|millis| *millis < YEAR_10000)?;
        let (day, of_day) = (millis / DAY + 719_468, millis % DAY);
        let (era, of_era) = (day / 146_097, day % 146_097);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        // Years begin in March here, so that a leap day is the last.
        let month = (5 * of_year + 2) / 153;
        let date = of_year - (153 * month + 2) / 5 + 1;
        let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = year + era * 400 + next;
        let mut text = *b"0000-00-00T00:00:00.000Z";
        for (at, digits, number) in [
            (0, 4, year),
            (5, 2, month),
            (8, 2, date),
            (11, 2, of_day / 3_600_000),
            (14, 2, of_day / 60_000 % 60),
            (17, 2, of_day / 1_000 % 60),
            (20, 3, of_day % 1_000),
        ] {
            let mut left = number;
            for digit in text[at..at + digits].iter_mut().rev() {
                *digit += (left % 10) as u8;
                left /= 10;
            }
        }
        Some(text)
    }
}

/// Milliseconds of a day.
const DAY: u64 = 86_400_000;

/// Milliseconds from 1970 to the year 10000, which has a digit more.
const YEAR_10000: u64 = 253_402_300_800_000;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_shown_in_utc_with_milliseconds() {
        assert_eq!(Timestamp(1_700_000_000_007).to_string(), "2023-11-14T22:13:20.007Z");
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn a_time_is_written_as_a_library_writes_it(millis in -90_000_000_000_000_i64..300_000_000_000_000) {
            let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
            prop_assert_eq!(Timestamp(millis).to_string(), format!("{time:.3}"));
        }
    }
}
