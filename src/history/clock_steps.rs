//! Where the clock of a log stepped, and what that makes of the dates of its events.
//!
//! Pure state, shared by the backends. A clock may be wrong and be set right: dates rise from one step
//! to the next and no further, while numbers rise always. So a moment is looked for in each such stretch, and an
//! event's age goes by its place among the steps as well as by its date. A step ahead leaves dates that rise;
//! it is kept only once the clock goes back, for then it tells what was dated wrongly.

use std::time::{Duration, Instant};

/// A clock that is off by less is not said to have stepped, in milliseconds; where it went back by less,
/// dates stand still until it has caught up.
const NOTICED: i64 = 1_000;

/// How many steps a log tells apart; at one more its dates stand still.
const MAX_STEPS: usize = 256;

/// How many of the last steps ahead are remembered until the clock goes back.
const AHEAD: usize = 16;

/// One time that the clock stepped. Times are in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::history) struct Step {
    /// The newest number that was given before.
    pub(in crate::history) after: u64,
    /// The date of the newest event before: none has a later one since the step before this.
    pub(in crate::history) from: i64,
    /// What time it was when that was noticed: no event has an earlier date until the next step.
    pub(in crate::history) to: i64,
    /// What stands before it ages from then at the latest, for it can't have been later.
    pub(in crate::history) ages_from: i64,
}

/// The steps of the clock of one log, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::history) struct ClockSteps(Vec<Step>);

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
        let since = self.0.iter().filter(|step| step.after >= number).map(|step| step.ages_from);
        since.fold(date, i64::min)
    }

    /// The number of the newest event up to number `head` that is older than a moment, or 0; `next` tells the
    /// number and the date of the first event from a number on. Halves each stretch within which dates
    /// rise, the newest first.
    pub(in crate::history) fn newest_before<E>(
        &self,
        moment: i64,
        head: u64,
        mut next: impl FnMut(u64) -> Result<Option<(u64, i64)>, E>,
    ) -> Result<u64, E> {
        let mut end = head;
        let begins = self.0.iter().rev().map(|step| step.after).chain([0]);
        for begin in begins.filter(|begin| *begin <= head) {
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
                return Ok(low);
            }
            end = begin;
        }
        Ok(0)
    }

    /// Whether an event before `place`, the newest older one, may be dated between a moment and now.
    pub(in crate::history) fn hides_some(&self, place: u64, moment: i64, now: i64) -> bool {
        let begins = std::iter::once(i64::MIN).chain(self.0.iter().map(|step| step.to));
        let stretches = begins.zip(&self.0).filter(|(_, step)| step.after < place);
        let mut dates = stretches.map(|(first, step)| (first, step.from));
        dates.any(|(first, last)| first <= now && last >= moment)
    }
}

/// Gives events their dates, and notices where the clock steps.
#[derive(Debug, Clone)]
pub(in crate::history) struct Dating {
    steps: ClockSteps,
    /// The date of the newest event, in milliseconds since 1970; not below what time it was when the log began
    /// to run, for what it lost by then has no later date.
    newest: i64,
    /// When the clock was looked at last, and what it said.
    seen: Option<(Instant, i64)>,
    /// The last steps ahead since the clock went back.
    ahead: Vec<Step>,
}

impl Dating {
    /// Goes on where the newest event has this date, in milliseconds since 1970.
    pub(in crate::history) fn new(newest: i64, steps: ClockSteps) -> Self {
        Self { steps, newest, seen: None, ahead: Vec::new() }
    }

    /// The steps that are kept.
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
        let stepped = self.seen.map_or(0, went);
        let is_first = self.seen.replace((now, time)).is_none();
        self.right_ages(is_first, stepped, time);
        // While the log was away, nobody knows what the clock did.
        if stepped >= NOTICED || (is_first && time - self.newest >= NOTICED) {
            if self.ahead.len() == AHEAD {
                self.ahead.remove(0);
            }
            self.ahead.push(Step { after: last, from: self.newest, to: time, ages_from: i64::MAX });
        }
        let behind = self.newest - time;
        if self.is_ahead_of(time) {
            self.go_back(last, time);
        }
        if is_first {
            self.newest = self.newest.max(time);
        }
        let stepped = if is_first && behind >= NOTICED { -behind } else { stepped };
        (stepped.abs() >= NOTICED).then_some(stepped)
    }

    /// What was right before the clock went back, or may have been, is no older for that.
    fn right_ages(&mut self, is_first: bool, stepped: i64, time: i64) {
        for step in self.steps.0.iter_mut().filter(|step| step.ages_from < step.from) {
            if is_first && self.newest < step.from && step.from <= time {
                step.ages_from = step.from;
            } else if stepped >= NOTICED && stepped >= (step.from - step.to) / 2 {
                step.ages_from = step.ages_from.saturating_add(stepped).min(step.from);
            }
        }
        // A step ahead that was one back to the truth, it seemed, may be undone.
        for step in &mut self.steps.0 {
            step.ages_from = step.ages_from.min(time);
        }
    }

    fn go_back(&mut self, after: u64, time: i64) {
        let wrong = std::mem::take(&mut self.ahead).into_iter().filter(|step| step.to > time);
        let mut steps: Vec<_> = wrong.collect();
        steps.push(Step { after, from: self.newest, to: time, ages_from: time });
        if self.steps.0.len() + steps.len() <= MAX_STEPS {
            self.steps.0.extend(steps);
            self.newest = time;
        }
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

        /// The place before a moment, and whether events are hidden by it.
        fn position_before(&self, moment: i64) -> (u64, bool) {
            let next = |from: u64| -> Result<_, ()> {
                Ok(self.events.iter().find(|(number, _)| *number >= from).copied())
            };
            let steps = self.dating.steps();
            let place = steps.newest_before(moment, self.last(), next).unwrap();
            (place, steps.hides_some(place, moment, self.time))
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
        let step = Step { after: 7, from: 1_000_000, to: 400_000, ages_from: 400_000 };
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
    fn a_clock_that_is_ahead_again_for_a_moment_keeps_nothing_for_years() {
        let mut log = Log::new();
        log.pass(1_000, 10 * YEAR);
        log.publish();
        log.pass(1_000, -20 * YEAR);
        log.publish();
        log.pass(1_000, 10 * YEAR);
        assert_eq!(log.aged(1), log.time - 1_000);
        log.pass(1_000, 10 * YEAR);
        log.pass(1_000, -10 * YEAR);
        assert_eq!(log.aged(1), log.time);
    }

    #[test]
    fn a_clock_that_was_lost_until_a_restart_makes_nothing_old() {
        let lost = Step { after: 7, from: 50 * YEAR, to: 1_000, ages_from: 1_000 };
        let mut dating = Dating::new(9_000, ClockSteps::new(vec![lost]));
        dating.look(9, Instant::now(), 50 * YEAR + 60_000);
        assert_eq!(dating.steps().aged(7, 50 * YEAR), 50 * YEAR);
        // While one that was ahead by ten years, and is right since, is not taken for that.
        let ahead = Step { after: 7, from: 60 * YEAR, to: 50 * YEAR, ages_from: 50 * YEAR };
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
        assert_eq!(log.position_before(true_time - 90_000), (3, false));
        // After it, while the event of the clock that was ahead may be dated later still.
        assert_eq!(log.position_before(true_time + 10_000), (7, true));
        // After that as well.
        assert_eq!(log.position_before(true_time + 150_000), (7, false));
    }

    #[test]
    fn a_clock_that_was_ahead_by_years_hides_nothing_from_who_asks_for_what_came_later() {
        for is_noticed in [true, false] {
            let mut log = Log::new();
            log.pass(1_000, 0);
            log.publish();
            if !is_noticed {
                // The log was away meanwhile.
                log.dating = Dating::new(log.time, ClockSteps::default());
            }
            log.pass(1_000, 10 * YEAR);
            log.publish();
            log.pass(60_000, -10 * YEAR);
            log.publish();
            log.pass(60_000, 0);
            log.publish();
            assert_eq!(log.position_before(log.time - 30_000), (3, false));
        }
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
            let (place, hides_some) = log.position_before(moment);
            let newest = log.events.iter().filter(|(_, date)| *date < moment).map(|(n, _)| *n).max();
            prop_assert_eq!(place, newest.unwrap_or(0));
            let hidden = |(number, date): &(u64, i64)| {
                *number < place && *date >= moment && *date <= log.time
            };
            prop_assert!(hides_some || !log.events.iter().any(hidden));
        }
    }
}
