//! Where the clock of a log went back, and what that makes of the dates of its events.
//!
//! Pure state, shared by the backends. A clock may be wrong and be set right: dates rise from one step
//! back to the next and no further, while numbers rise always. So a moment is looked for in each such
//! stretch, and an event's age goes by its place among the steps as well as by its date. A clock that went
//! ahead leaves dates that rise; it is only noticed.

use std::time::{Duration, Instant};

/// A clock that is off by less is not said to have stepped, in milliseconds; where it went back by less,
/// dates stand still until it has caught up.
const NOTICED: i64 = 1_000;

/// How many steps back a log tells apart; at one more its dates stand still.
const MAX_STEPS: usize = 256;

/// One time that the clock went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::history) struct Step {
    /// The newest number that was given before.
    pub(in crate::history) after: u64,
    /// What time it was before, by the date of the newest event; in milliseconds since 1970.
    pub(in crate::history) from: i64,
    /// What time it was when that was noticed, in milliseconds since 1970; later where the clock had been
    /// right before, and went ahead again.
    pub(in crate::history) to: i64,
}

/// Every time that the clock of one log went back, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::history) struct ClockSteps(Vec<Step>);

/// What a log, or a part of it, knows of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::history) struct Survey {
    /// The number of the newest event that is older; 0 where none is.
    pub(in crate::history) place: u64,
    /// The lowest number at which an event is dated between the moment and now.
    pub(in crate::history) dated: Option<u64>,
}

impl Survey {
    /// What two parts of one log know together.
    pub(in crate::history) fn and(self, other: Self) -> Self {
        let dated = [self.dated, other.dated].into_iter().flatten().min();
        Self { place: self.place.max(other.place), dated }
    }

    /// Whether somebody who begins behind the place misses events that are dated since the moment.
    pub(in crate::history) fn hides_some(self) -> bool {
        self.dated.is_some_and(|dated| dated < self.place)
    }
}

impl ClockSteps {
    /// These steps, oldest first.
    pub(in crate::history) fn new(steps: Vec<Step>) -> Self {
        Self(steps)
    }

    /// The steps, oldest first.
    pub(in crate::history) fn all(&self) -> &[Step] {
        &self.0
    }

    /// From when the age of an event counts, by its number and its date, in milliseconds since 1970: what
    /// is dated after the clock ages from when that was noticed.
    pub(in crate::history) fn aged(&self, number: u64, date: i64) -> i64 {
        let since = self.0.iter().filter(|step| step.after >= number).map(|step| step.to);
        since.fold(date, i64::min)
    }

    /// Looks for a moment among the events up to number `head`; `next` tells the number and the date of the
    /// first event from a number on. Halves each stretch within which dates rise.
    pub(in crate::history) fn survey<E>(
        &self,
        moment: i64,
        now: i64,
        head: u64,
        mut next: impl FnMut(u64) -> Result<Option<(u64, i64)>, E>,
    ) -> Result<Survey, E> {
        let ends = self.0.iter().map(|step| step.after).filter(|end| *end < head).chain([head]);
        let (mut place, mut dated, mut begin) = (0, None, 0);
        for end in ends {
            // Everything of this stretch up to `low` is earlier; nothing from `high` on is.
            let (mut low, mut high) = (begin, end + 1);
            while low + 1 < high {
                let middle = low + (high - low) / 2;
                match next(middle)? {
                    Some((number, date)) if date < moment && (middle..high).contains(&number) => {
                        low = number;
                    }
                    _ => high = middle,
                }
            }
            if low > begin {
                place = low;
            }
            let later = next(high)?.filter(|(number, date)| *number <= end && *date <= now);
            dated = dated.or(later.map(|(number, _)| number));
            begin = end;
        }
        Ok(Survey { place, dated })
    }
}

/// Gives events their dates, and notices where the clock steps.
#[derive(Debug, Clone)]
pub(in crate::history) struct Dating {
    steps: ClockSteps,
    /// The date of the newest event, in milliseconds since 1970.
    newest: i64,
    /// When the clock was looked at last, and what it said.
    seen: Option<(Instant, i64)>,
}

impl Dating {
    /// Goes on where the newest event has this date, in milliseconds since 1970.
    pub(in crate::history) fn new(newest: i64, steps: ClockSteps) -> Self {
        Self { steps, newest, seen: None }
    }

    /// Where the clock went back so far.
    pub(in crate::history) fn steps(&self) -> &ClockSteps {
        &self.steps
    }

    /// Looks at the clock: what time it is, and at which moment of a clock that never steps. `last` is the
    /// newest number that was given. Returns by how many milliseconds it stepped, ahead or, below zero,
    /// back. To be called once a second.
    pub(in crate::history) fn look(&mut self, last: u64, now: Instant, time: i64) -> Option<i64> {
        let went = |(then, seen): (Instant, i64)| {
            let passed = now.saturating_duration_since(then);
            time - seen - i64::try_from(passed.as_millis()).unwrap_or(i64::MAX)
        };
        let mut stepped = self.seen.map_or(0, went);
        let is_first = self.seen.replace((now, time)).is_none();
        for step in &mut self.steps.0 {
            // It was right before it went back, or may have been: nothing is older for that.
            if is_first && self.newest < step.from && step.from <= time {
                step.to = step.from;
            } else if stepped >= NOTICED && stepped >= (step.from - step.to) / 2 {
                step.to = step.to.saturating_add(stepped).min(step.from);
            }
        }
        if self.is_ahead_of(time) && self.steps.0.len() < MAX_STEPS {
            self.steps.0.push(Step { after: last, from: self.newest, to: time });
            stepped = stepped.min(time - self.newest);
            self.newest = time;
        }
        (stepped.abs() >= NOTICED).then_some(stepped)
    }

    /// Whether the clock is so far behind the newest date that it must have stepped.
    pub(in crate::history) fn is_ahead_of(&self, time: i64) -> bool {
        self.newest - time >= NOTICED
    }

    /// The date of what happens now, which the clock says is `time`.
    pub(in crate::history) fn date(&mut self, time: i64) -> i64 {
        self.newest = self.newest.max(time);
        self.newest
    }
}

/// So much, as it is said in a log line.
pub(in crate::history) fn span(millis: i64) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const YEAR: i64 = 365 * 24 * 3_600_000;

    /// A log whose clock is moved by hand.
    struct Log {
        dating: Dating,
        now: Instant,
        time: i64,
        events: Vec<(u64, i64)>,
    }

    impl Log {
        fn new() -> Self {
            let (dating, time) = (Dating::new(0, ClockSteps::default()), 50 * YEAR);
            Self { dating, now: Instant::now(), time, events: Vec::new() }
        }

        fn last(&self) -> u64 {
            self.events.last().map_or(0, |(number, _)| *number)
        }

        /// Time goes by, and the clock shows `step` more than that.
        fn pass(&mut self, millis: u64, step: i64) -> Option<i64> {
            self.now += Duration::from_millis(millis);
            self.time += millis as i64 + step;
            self.dating.look(self.last(), self.now, self.time)
        }

        fn publish(&mut self) -> i64 {
            let date = self.dating.date(self.time);
            self.events.push((self.last() + 1, date));
            date
        }

        fn survey(&self, moment: i64) -> Survey {
            let next = |from: u64| -> Result<_, ()> {
                Ok(self.events.iter().find(|(number, _)| *number >= from).copied())
            };
            self.dating.steps().survey(moment, self.time, self.last(), next).unwrap()
        }

        fn aged(&self, number: u64) -> i64 {
            let (_, date) = self.events[number as usize - 1];
            self.dating.steps().aged(number, date)
        }
    }

    #[test]
    fn after_a_step_back_new_events_carry_the_true_time_and_the_step_is_said() {
        for ahead in [120_000, 10 * YEAR] {
            let mut log = Log::new();
            log.pass(1_000, 0);
            log.publish();
            assert_eq!(log.pass(1_000, ahead), Some(ahead));
            log.publish();
            assert_eq!(log.pass(1_000, -ahead), Some(-ahead));
            assert_eq!(log.publish(), log.time);
            assert_eq!(log.dating.steps().all().len(), 1);
            // And what was dated after the clock ages from when that was found.
            assert_eq!((log.aged(2), log.aged(3)), (log.time, log.time));
            assert_eq!(log.aged(1), log.time - 2_000);
            assert_eq!(log.pass(60_000, 0), None);
            assert_eq!(log.aged(2), log.time - 60_000);
        }
    }

    #[test]
    fn a_step_back_while_the_log_was_away_is_noticed_at_the_first_look() {
        let mut dating = Dating::new(1_000_000, ClockSteps::default());
        assert_eq!(dating.look(7, Instant::now(), 400_000), Some(-600_000));
        let step = Step { after: 7, from: 1_000_000, to: 400_000 };
        assert_eq!(dating.steps().all(), [step]);
    }

    #[test]
    fn a_clock_that_trembles_is_waited_out_and_dates_never_fall_by_it() {
        let mut log = Log::new();
        let mut before = 0;
        for step in [300, -900, 600, -700, 700, -999, 999] {
            assert_eq!(log.pass(1_000, step), None);
            let date = log.publish();
            assert!(date >= before);
            before = date;
        }
        assert!(log.dating.steps().all().is_empty());
    }

    #[test]
    fn a_clock_that_was_lost_for_a_while_makes_nothing_old() {
        for was_ahead_by in [0, 30_000] {
            let mut log = Log::new();
            log.pass(1_000, 0);
            log.publish();
            let lost = 50 * YEAR;
            log.pass(1_000, -lost);
            log.publish();
            assert_eq!(log.aged(1), log.time);
            log.pass(2_000, lost - was_ahead_by);
            assert!(log.time - log.aged(1) <= 3_000);
        }
    }

    #[test]
    fn a_clock_that_was_lost_until_a_restart_makes_nothing_old() {
        let lost = Step { after: 7, from: 50 * YEAR, to: 1_000 };
        let mut dating = Dating::new(9_000, ClockSteps::new(vec![lost]));
        dating.look(9, Instant::now(), 50 * YEAR + 60_000);
        assert_eq!(dating.steps().aged(7, 50 * YEAR), 50 * YEAR);
        // While one that was ahead by ten years, and is right since, is not taken for that.
        let ahead = Step { after: 7, from: 60 * YEAR, to: 50 * YEAR };
        let mut dating = Dating::new(50 * YEAR + 9_000, ClockSteps::new(vec![ahead]));
        dating.look(9, Instant::now(), 51 * YEAR);
        assert_eq!(dating.steps().aged(7, 60 * YEAR), 50 * YEAR);
    }

    #[test]
    fn what_is_dated_since_a_moment_and_stands_before_its_place_is_told() {
        let mut log = Log::new();
        for _ in 0..5 {
            log.pass(60_000, 0);
            log.publish();
        }
        log.pass(0, 120_000);
        log.publish();
        log.pass(1_000, -120_000);
        log.publish();
        let true_time = log.time;
        log.pass(180_000, 0);
        log.publish();
        // Before the step: all that came since stands behind the place.
        let before = log.survey(true_time - 90_000);
        assert_eq!((before.place, before.hides_some()), (3, false));
        // After it, while the event of the clock that was ahead is dated later still.
        let after = log.survey(true_time + 10_000);
        assert_eq!((after.place, after.hides_some()), (7, true));
        // After that as well.
        let long_after = log.survey(true_time + 150_000);
        assert_eq!((long_after.place, long_after.hides_some()), (7, false));
    }

    proptest! {
        /// Whatever the clock does, a moment finds every event that is dated since, or says so.
        #[test]
        fn a_moment_hides_nothing(
            moves in prop::collection::vec((0_u64..5_000, -20_000_i64..20_000, any::<bool>()), 1..60),
            back in 0_i64..100_000,
        ) {
            let mut log = Log::new();
            for (millis, step, steps) in moves {
                log.pass(millis, if steps { step } else { 0 });
                log.publish();
            }
            let moment = log.time - back;
            let survey = log.survey(moment);
            let newest = log.events.iter().filter(|(_, date)| *date < moment).map(|(n, _)| *n).max();
            prop_assert_eq!(survey.place, newest.unwrap_or(0));
            let hidden = |(number, date): &(u64, i64)| {
                *number < survey.place && *date >= moment && *date <= log.time
            };
            prop_assert_eq!(survey.hides_some(), log.events.iter().any(hidden));
        }

        /// Two parts of a log know together what the whole does.
        #[test]
        fn parts_know_together_what_the_whole_does(
            moves in prop::collection::vec((0_u64..5_000, -20_000_i64..20_000, any::<bool>()), 1..60),
            back in 0_i64..100_000,
        ) {
            let mut log = Log::new();
            for (millis, step, _) in &moves {
                log.pass(*millis, *step);
                log.publish();
            }
            let moment = log.time - back;
            let part = |of: bool| {
                let events: Vec<_> = log.events.iter().zip(&moves)
                    .filter(|(_, (_, _, side))| *side == of).map(|(event, _)| *event).collect();
                let next = |from: u64| -> Result<_, ()> {
                    Ok(events.iter().find(|(number, _)| *number >= from).copied())
                };
                log.dating.steps().survey(moment, log.time, log.last(), next).unwrap()
            };
            let (whole, parts) = (log.survey(moment), part(true).and(part(false)));
            prop_assert_eq!(parts.place, whole.place);
            prop_assert_eq!(parts.hides_some(), whole.hides_some());
        }
    }
}
