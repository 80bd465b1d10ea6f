//! How a log stands in Redis: its head, its epochs, and what is known to be lost.
//!
//! Pure state. Numbers rise over all epochs, so that a place is one number; which epoch it is of
//! follows from where the epochs began and ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::{FromRedisValue, ParsingError, Value};

use super::super::clock_steps::{ClockSteps, Step};
use crate::model::{Cursor, LogName, Timestamp};

/// The fields of the log's record that a node reads, in order.
pub(super) const FIELDS: [&str; 11] = [
    "name", "epoch", "start", "seq", "breach", "floor", "ended", "steps", "form", "dated",
    "removals",
];

/// How many ended epochs the record names.
const NAMED_EPOCHS: usize = 32;

/// How a log stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogState {
    /// The newest committed event, or the place where the epoch begins.
    pub(super) head: Cursor,
    /// The place where the epoch began.
    pub(super) start: u64,
    /// Acknowledged events were lost before this place, whatever the topic.
    pub(super) breach: u64,
    /// Nothing up to here is known of topics whose removed events are not listed.
    pub(super) floor: u64,
    /// Epochs that have ended, oldest first.
    pub(super) ended: Arc<[Ended]>,
    /// Where the clock of the server went back.
    pub(super) steps: ClockSteps,
    /// The highest form of its entries.
    pub(super) form: u8,
    /// The dates that events before such places have.
    pub(super) dated: Arc<[Dated]>,
    /// How often nodes were told of what was removed.
    pub(super) removals: u64,
}

/// Dates that events up to a number may have, which stand before a place where the clock went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dated {
    after: u64,
    first: i64,
    last: i64,
}

/// An epoch that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    epoch: u64,
    start: u64,
    end: u64,
}

/// Where reading after a cursor begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resolved {
    /// After this number.
    pub(super) after: u64,
    /// Whether events between the cursor and that number, or some after it, were lost.
    pub(super) is_lost: bool,
}

impl LogState {
    /// The log that the server has, from the values of [`FIELDS`]; none where it has none.
    pub(super) fn read(values: &[Option<String>]) -> Option<Self> {
        let text = |at: usize| values.get(at).and_then(Option::as_deref);
        let number = |at: usize| text(at).and_then(|text| text.parse::<u64>().ok());
        let log = text(0).and_then(LogName::parse)?;
        let head = Cursor { log, epoch: number(1)?, sequence: number(3)? };
        let ended = text(6)?.split_terminator(';').map(Ended::read).collect::<Option<_>>()?;
        // Earlier releases noted none.
        let steps = text(7).unwrap_or_default().split_terminator(';').map(step);
        let steps = ClockSteps::new(steps.collect::<Option<_>>()?);
        let form = number(8).map_or(1, |form| u8::try_from(form).unwrap_or(u8::MAX));
        let dated = text(9).unwrap_or_default().split_terminator(';').map(Dated::read);
        let dated = dated.collect::<Option<_>>()?;
        let (start, breach, floor) = (number(2)?, number(4)?, number(5)?);
        // Earlier releases told of none.
        let removals = number(10).unwrap_or(0);
        Some(Self { head, start, breach, floor, ended, steps, form, dated, removals })
    }

    /// Whether events before a place may be dated between a moment and now, for the clock went back.
    pub(super) fn hides_some(&self, place: u64, time: Timestamp, now: Timestamp) -> bool {
        let (time, now) = (time.millis(), now.millis());
        let mut before = self.dated.iter().filter(|dated| dated.after < place);
        before.any(|dated| dated.first <= now && time <= dated.last)
    }

    /// Whether the record may not name all epochs that have ended.
    pub(super) fn is_cut(&self) -> bool {
        self.ended.len() >= NAMED_EPOCHS
    }

    /// The epochs that have ended, by what the record names and what is listed beside it, which also says how
    /// far back those reach that took in older ones; and whether all that the record names was listed.
    pub(super) fn all_ended(&self, listed: &[String]) -> (Arc<[Ended]>, bool) {
        let listed = listed.iter().filter_map(|text| Ended::read(text));
        let listed: BTreeMap<_, _> = listed
            .filter(|ended| ended.epoch < self.head.epoch)
            .map(|ended| (ended.epoch, ended))
            .collect();
        let is_whole = self.ended.iter().all(|ended| listed.contains_key(&ended.epoch));
        let mut all: BTreeMap<_, _> =
            self.ended.iter().map(|ended| (ended.epoch, *ended)).collect();
        all.extend(listed);
        (all.into_values().collect(), is_whole)
    }

    /// The cursor of a number.
    pub(super) fn at(&self, sequence: u64) -> Cursor {
        let of = |ended: &&Ended| ended.start <= sequence && sequence <= ended.end;
        let epoch = match self.ended.iter().rev().find(of) {
            Some(ended) if sequence < self.start => ended.epoch,
            Some(_) | None => self.head.epoch,
        };
        Cursor { epoch, ..self.head.at(sequence) }
    }

    /// The first place of the log that is not below a number.
    pub(super) fn position_from(&self, sequence: u64) -> Cursor {
        let is_within = |start, end| start <= sequence && sequence <= end;
        let is_place = is_within(self.start, self.head.sequence)
            || self.ended.iter().any(|ended| is_within(ended.start, ended.end));
        if is_place {
            return self.at(sequence);
        }
        let starts = self.ended.iter().map(|ended| ended.start).chain([self.start]);
        self.at(starts.filter(|start| *start > sequence).min().unwrap_or(self.head.sequence))
    }

    /// Where reading after `cursor` begins.
    pub(super) fn resolve(&self, cursor: Cursor) -> Resolved {
        let lost = |after| Resolved { after, is_lost: true };
        if cursor.log != self.head.log || cursor.epoch > self.head.epoch {
            return lost(0);
        }
        let is_lost = cursor.sequence < self.breach;
        if cursor.epoch == self.head.epoch {
            // Before the first event of a log anything may be asked for.
            let begins = if self.ended.is_empty() && self.start == 0 { 0 } else { self.start };
            return match cursor.sequence {
                sequence if sequence > self.head.sequence => lost(0),
                sequence if sequence < begins => lost(0),
                after => Resolved { after, is_lost },
            };
        }
        match self.ended.iter().find(|ended| ended.epoch == cursor.epoch) {
            Some(ended) if cursor.sequence < ended.start => lost(0),
            Some(ended) if cursor.sequence > ended.end => lost(ended.end),
            Some(_) => Resolved { after: cursor.sequence, is_lost },
            None => lost(0),
        }
    }
}

impl Ended {
    /// The place where it began.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// `epoch start end …`
    fn read(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ').map(|number| number.parse().ok());
        Some(Self { epoch: numbers.next()??, start: numbers.next()??, end: numbers.next()?? })
    }
}

impl Dated {
    /// `number first last`
    fn read(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ').map(|number| number.parse::<i64>().ok());
        let after = u64::try_from(numbers.next()??).ok()?;
        Some(Self { after, first: numbers.next()??, last: numbers.next()?? })
    }
}

/// `number from to`
fn step(text: &str) -> Option<Step> {
    let mut numbers = text.split(' ').map(|number| number.parse::<i64>().ok());
    let after = u64::try_from(numbers.next()??).ok()?;
    let (from, to) = (numbers.next()??, numbers.next()??);
    Some(Step { after, from, to, ages_from: to })
}

impl FromRedisValue for LogState {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let values: Vec<Option<String>> = FromRedisValue::from_redis_value(value)?;
        Self::read(&values).ok_or_else(|| ParsingError::from("not the record of a log"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(values: [&str; 7]) -> LogState {
        let values = values.into_iter().map(|value| Some(value.to_owned()));
        LogState::read(&values.chain([None]).collect::<Vec<_>>()).unwrap()
    }

    fn cursor(text: &str) -> Cursor {
        Cursor::parse(text).unwrap()
    }

    #[test]
    fn a_number_is_of_the_epoch_in_which_it_was_given() {
        let state = state(["abcdefgh", "3", "900", "905", "0", "0", "1 0 50 0;2 400 420 1;"]);
        assert_eq!(state.head, cursor("abcdefgh-3-905"));
        for (sequence, text) in [
            (1, "abcdefgh-1-1"),
            (50, "abcdefgh-1-50"),
            (400, "abcdefgh-2-400"),
            (420, "abcdefgh-2-420"),
            (900, "abcdefgh-3-900"),
            (905, "abcdefgh-3-905"),
        ] {
            assert_eq!(state.at(sequence), cursor(text));
            assert_eq!(state.position_from(sequence), cursor(text));
        }
        for (sequence, text) in
            [(51, "abcdefgh-2-400"), (421, "abcdefgh-3-900"), (906, "abcdefgh-3-905")]
        {
            assert_eq!(state.position_from(sequence), cursor(text));
        }
    }

    #[test]
    fn a_cursor_up_to_the_end_of_its_epoch_goes_on_and_one_above_is_a_gap() {
        let state = state(["abcdefgh", "3", "900", "905", "0", "0", "1 0 50 0;2 400 420 0;"]);
        for (text, after, is_lost) in [
            ("abcdefgh-3-905", 905, false),
            ("abcdefgh-3-900", 900, false),
            ("abcdefgh-3-906", 0, true),
            ("abcdefgh-3-899", 0, true),
            ("abcdefgh-2-420", 420, false),
            ("abcdefgh-2-421", 420, true),
            ("abcdefgh-2-399", 0, true),
            ("abcdefgh-1-50", 50, false),
            ("abcdefgh-1-0", 0, false),
            ("abcdefgh-1-51", 50, true),
            ("abcdefgh-4-1", 0, true),
            ("zzzzzzzz-3-905", 0, true),
        ] {
            assert_eq!(state.resolve(cursor(text)), Resolved { after, is_lost }, "{text}");
        }
    }

    #[test]
    fn a_place_before_a_breach_is_a_gap_and_one_after_it_is_not() {
        let state = state(["abcdefgh", "2", "900", "905", "903", "0", "1 0 50 1;"]);
        let lost = |text| state.resolve(cursor(text)).is_lost;
        assert!(lost("abcdefgh-1-50") && lost("abcdefgh-1-7") && lost("abcdefgh-2-902"));
        assert!(!lost("abcdefgh-2-903") && !lost("abcdefgh-2-905"));
    }

    #[test]
    fn what_is_listed_says_how_far_back_an_epoch_reaches_that_took_in_older_ones() {
        let mut state =
            state(["abcdefgh", "4", "900", "905", "0", "0", "2 400 420 0;3 500 520 0;"]);
        let listed = ["2 0 420 0", "3 500 520 0", "4 900 930 0"].map(str::to_owned);
        let (ended, is_whole) = state.all_ended(&listed);
        assert!(is_whole, "the epoch that lasts is not among them");
        state.ended = ended;
        assert_eq!(
            (state.at(7), state.at(905)),
            (cursor("abcdefgh-2-7"), cursor("abcdefgh-4-905"))
        );
        assert_eq!(state.resolve(cursor("abcdefgh-2-7")), Resolved { after: 7, is_lost: false });
        assert!(state.resolve(cursor("abcdefgh-1-7")).is_lost);
        assert_eq!(state.position_from(7), cursor("abcdefgh-2-7"));
        let (_, is_whole) = state.all_ended(&listed[1..]);
        assert!(!is_whole);
    }

    #[test]
    fn steps_of_the_clock_are_read_from_the_record() {
        let mut values = ["abcdefgh", "1", "0", "9", "0", "0", "", "5 9000 1000;"];
        let read = |values: [&str; 8]| LogState::read(&values.map(|value| Some(value.to_owned())));
        let step = Step { after: 5, from: 9_000, to: 1_000, ages_from: 1_000 };
        assert_eq!(read(values).unwrap().steps.all(), [step]);
        values[7] = "5 x 1000;";
        assert_eq!(read(values), None);
    }

    #[test]
    fn dates_before_a_step_are_hidden_from_who_begins_behind_it_and_asks_since_one_of_them() {
        let mut values = ["abcdefgh", "1", "0", "9", "0", "0", "", "", "1", "5 100 200;5 900 950;"];
        let read = |values: [&str; 10]| LogState::read(&values.map(|value| Some(value.to_owned())));
        let state = read(values).unwrap();
        let hides = |place, time, now| {
            let at = Timestamp::from_millis;
            state.hides_some(place, at(time), at(now))
        };
        assert!(hides(6, 150, 300) && hides(6, 200, 300), "since a date before it");
        assert!(!hides(5, 150, 300), "who begins before it is told by the page");
        assert!(!hides(6, 201, 300), "what is dated after now is not asked for");
        assert!(hides(6, 201, 900));
        values[9] = "5 100;";
        assert_eq!(read(values), None);
    }

    #[test]
    fn what_is_no_record_is_none() {
        assert_eq!(LogState::read(&[const { None }; 10]), None);
        assert_eq!(LogState::read(&["x"; 10].map(|value| Some(value.to_owned()))), None);
    }
}
