//! How often the same thing is told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long nothing more is told.
pub const QUIET: Duration = Duration::from_secs(60);

/// The quiet after a line of the log: what comes to pass again and again is told at once, and then once a minute
/// with how many there were, for somebody else decides how often it does. What was held back is told when its minute is
/// over, and at the end, although nothing follows: whoever keeps one asks for it. Counting waits for nobody. Pure state;
/// whoever asks brings the clock.
#[derive(Debug)]
pub struct Quiet<E> {
    began: Instant,
    /// How many came to pass since the last line.
    untold: AtomicU64,
    /// When the next line may be, in milliseconds since the beginning.
    due: AtomicU64,
    /// The first that was held back since the last line.
    example: Mutex<Option<E>>,
}

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary<E> {
    /// How many came to pass since the last line.
    pub count: u64,
    /// One of them.
    pub example: E,
}

impl<E> Default for Quiet<E> {
    fn default() -> Self {
        Self::since(Instant::now())
    }
}

impl<E> Quiet<E> {
    /// One whose clock begins at `began`.
    pub fn since(began: Instant) -> Self {
        let (untold, due) = Default::default();
        Self { began, untold, due, example: Mutex::default() }
    }

    /// So many more came to pass, one of which is `example`: what to tell now, if anything.
    pub fn tell(
        &self,
        count: u64,
        now: Instant,
        example: impl FnOnce() -> E,
    ) -> Option<Summary<E>> {
        if count == 0 {
            return None;
        }
        let before = self.untold.fetch_add(count, Ordering::AcqRel);
        if self.take_turn(self.millis(now)) {
            let count = self.untold.swap(0, Ordering::AcqRel);
            return Some(Summary { count, example: example() });
        }
        if before == 0 {
            let example = example();
            self.with_example(|held| *held = Some(example));
        }
        None
    }

    /// What was held back for a minute.
    pub fn held_back(&self, now: Instant) -> Option<Summary<E>> {
        let is_any = self.untold.load(Ordering::Acquire) > 0;
        if is_any && self.take_turn(self.millis(now)) { self.rest() } else { None }
    }

    /// What was held back, for however long.
    pub fn rest(&self) -> Option<Summary<E>> {
        let example = self.with_example(Option::take).flatten();
        let count = self.untold.swap(0, Ordering::AcqRel);
        // Who counts just now puts its example here only then: what it counted is told with the next.
        let Some(example) = example.filter(|_| count > 0) else {
            self.untold.fetch_add(count, Ordering::AcqRel);
            return None;
        };
        Some(Summary { count, example })
    }

    /// Whether a line may be now; then none may be for a minute.
    fn take_turn(&self, now: u64) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        let next = now.saturating_add(QUIET.as_millis() as u64);
        due <= now
            && self.due.compare_exchange(due, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.began).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    /// Nobody waits for an example: one that somebody else looks at just now is left.
    fn with_example<T>(&self, act: impl FnOnce(&mut Option<E>) -> T) -> Option<T> {
        self.example.try_lock().ok().map(|mut held| act(&mut held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(began: Instant, millis: u64) -> Instant {
        began + Duration::from_millis(millis)
    }

    fn summary(count: u64, example: &str) -> Option<Summary<&str>> {
        Some(Summary { count, example })
    }

    #[test]
    fn a_thing_is_told_at_once_and_then_once_a_minute_with_how_many_there_were() {
        let began = Instant::now();
        let quiet = Quiet::since(began);
        let tell = |millis, example| quiet.tell(1, at(began, millis), || example);
        assert_eq!(tell(5, "a"), summary(1, "a"));
        assert_eq!([tell(6, "b"), tell(60_004, "c")], [None, None]);
        assert_eq!(tell(60_005, "d"), summary(3, "d"));
        assert_eq!(tell(120_004, "e"), None);
        assert_eq!(quiet.tell(0, at(began, 900_000), || "f"), None, "none is nothing to tell");
    }

    #[test]
    fn what_was_held_back_is_told_when_its_minute_is_over_though_nothing_follows() {
        let began = Instant::now();
        let quiet = Quiet::since(began);
        let tell = |millis, example| quiet.tell(1, at(began, millis), || example);
        let held_back = |millis| quiet.held_back(at(began, millis));
        assert_eq!(held_back(0), None, "there is nothing");
        assert_eq!(tell(5, "a"), summary(1, "a"));
        assert_eq!(held_back(70_000), None, "there is nothing more");
        assert_eq!(tell(70_001, "b"), summary(1, "b"), "and it took nobody's turn");
        assert_eq!([tell(70_002, "c"), tell(70_003, "d")], [None, None]);
        assert_eq!(held_back(130_000), None);
        assert_eq!(held_back(130_001), summary(2, "c"), "the first of them is the example");
        assert_eq!(tell(130_002, "e"), None, "that was a line, too");
        assert_eq!(held_back(190_001), summary(1, "e"));
    }

    #[test]
    fn at_the_end_all_is_told_that_was_held_back() {
        let began = Instant::now();
        let quiet = Quiet::since(began);
        let tell = |example| quiet.tell(1, began, || example);
        assert_eq!(quiet.rest(), None);
        assert_eq!([tell("a"), tell("b")], [summary(1, "a"), None]);
        assert_eq!(quiet.rest(), summary(1, "b"));
        assert_eq!(quiet.rest(), None);
    }
}
