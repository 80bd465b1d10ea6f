//! How many events a call to Redis waits for.
//!
//! A call costs Redis several times what one more event in it does. So where publishes come one behind the other faster
//! than once a moment, a few of them go together: as many as lately came within that moment. Whoever publishes
//! when nobody did for a moment is not held up, nor is one who publishes alone, each time after the last answer:
//! that others may come is tried ever more seldom while nobody does. Pure state.

use std::time::Duration;

use tokio::time::Instant;

/// For how long after a call began the next one may wait.
const MOMENT: Duration = Duration::from_millis(1);

/// The most events that a call waits for.
const MOST: usize = 4;

/// After how many calls it is tried whether one more comes, at first and at last.
const FIRST_TRY: u32 = 4;
const LAST_TRY: u32 = 1_024;

/// How publishes came lately.
#[derive(Debug)]
pub(super) struct Gathering {
    begun: Option<Instant>,
    worth: usize,
    is_tried: bool,
    calls: u32,
    next_try: u32,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { begun: None, worth: 1, is_tried: false, calls: 0, next_try: FIRST_TRY }
    }
}

impl Gathering {
    /// How many events begin a call at once.
    pub(super) fn worth(&self) -> usize {
        self.worth
    }

    /// Until when a call waits for others where so many events wait; none where it begins.
    pub(super) fn waits(&self, waiting: usize, now: Instant) -> Option<Instant> {
        let until = self.begun? + MOMENT;
        (waiting < self.worth && now < until).then_some(until)
    }

    /// Notes that a call begins, with so many events.
    pub(super) fn begin(&mut self, waiting: usize, now: Instant) {
        let in_time = self.begun.replace(now).is_some_and(|begun| now < begun + MOMENT);
        if waiting >= self.worth && in_time {
            if self.is_tried {
                self.next_try = FIRST_TRY;
            }
            self.calls += 1;
            self.is_tried = self.calls >= self.next_try && self.worth < MOST;
            if self.is_tried {
                (self.calls, self.worth) = (0, self.worth + 1);
            }
        } else {
            if self.is_tried {
                self.next_try = (self.next_try * 2).min(LAST_TRY);
            }
            (self.calls, self.is_tried) = (0, false);
            self.worth = waiting.min(self.worth - 1).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets publishes come at a pace; how many calls that makes, and how long a publish waited at most.
    fn run(gathering: &mut Gathering, publishes: u32, pace: Duration) -> (u32, Duration) {
        let (mut calls, mut longest) = (0, Duration::ZERO);
        let begin = gathering.begun.map_or_else(Instant::now, |begun| begun + MOMENT);
        let (mut waiting, mut first) = (0, None);
        for publish in 0..publishes {
            let now = begin + pace * publish;
            // Whatever waits by then begins first.
            let until = first.and_then(|_| gathering.waits(waiting, now - pace));
            if let Some((until, since)) = until.zip(first).filter(|(until, _)| *until <= now) {
                longest = longest.max(until - since);
                gathering.begin(waiting, until);
                (waiting, first, calls) = (0, None, calls + 1);
            }
            waiting += 1;
            let since = *first.get_or_insert(now);
            if gathering.waits(waiting, now).is_none() {
                longest = longest.max(now - since);
                gathering.begin(waiting, now);
                (waiting, first, calls) = (0, None, calls + 1);
            }
        }
        (calls, longest)
    }

    #[test]
    fn publishes_that_come_less_often_than_once_a_moment_never_wait() {
        let mut gathering = Gathering::default();
        let (calls, longest) = run(&mut gathering, 1_000, Duration::from_micros(1_001));
        assert_eq!((calls, longest), (1_000, Duration::ZERO));
    }

    #[test]
    fn publishes_that_come_faster_go_together_and_wait_no_longer_than_a_moment() {
        let mut gathering = Gathering::default();
        let (calls, longest) = run(&mut gathering, 4_000, Duration::from_micros(250));
        assert!(calls < 1_500, "{calls}");
        assert!(longest <= MOMENT, "{longest:?}");
        assert_eq!(run(&mut gathering, 1_000, Duration::from_millis(10)).1, Duration::ZERO);
    }

    #[test]
    fn one_who_publishes_alone_is_held_up_ever_more_seldom() {
        let (mut gathering, mut now, mut held_up) = (Gathering::default(), Instant::now(), 0);
        for _ in 0..10_000 {
            now += Duration::from_micros(300);
            if let Some(until) = gathering.waits(1, now) {
                (now, held_up) = (until, held_up + 1);
            }
            gathering.begin(1, now);
        }
        assert!(held_up < 20, "{held_up}");
    }
}
