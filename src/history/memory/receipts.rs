//! Results of publishes that may be repeated, by idempotency key.
//!
//! Pure state. A key is forgotten when its window is over. Where as many results are remembered as there may be
//! the window becomes shorter: the oldest keys go, but none within [`LEAST_KEY_WINDOW`], for forgetting one
//! could store a repeat twice; then a new key is refused. A batch has a result an event.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::super::asked::Digest;
use super::super::{EventReceipt, IdempotencyKey, LEAST_KEY_WINDOW};

/// The results of the keys of one window.
#[derive(Debug)]
pub(super) struct Receipts {
    window: Duration,
    max_results: usize,
    results: usize,
    by_scope: HashMap<[u8; 32], Remembered>,
    oldest_first: VecDeque<(Instant, [u8; 32])>,
    /// Since when the newest key was remembered that was forgotten early.
    forgotten: Option<Instant>,
    /// How many were since that was asked last.
    early: u64,
}

#[derive(Debug)]
struct Remembered {
    request: Digest,
    events: Vec<EventReceipt>,
    since: Instant,
}

/// What somebody who asks under a key asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// Something new, and there is room for its result.
    New,
    /// Something new, and there is no room for its result.
    Full,
    /// What was done before, with this result.
    Repeat(Vec<EventReceipt>),
    /// Something else than what was done under the key.
    Mismatch,
}

impl Receipts {
    /// No results, for so long and at most so many.
    pub(super) fn new(window: Duration, max_results: usize) -> Self {
        let (by_scope, oldest_first) = (HashMap::new(), VecDeque::new());
        Self { window, max_results, results: 0, by_scope, oldest_first, forgotten: None, early: 0 }
    }

    /// What is asked for under `key` at this moment. Where it is new and there is no room for it, the oldest go.
    pub(super) fn find(&mut self, key: &IdempotencyKey, now: Instant) -> Asking {
        self.expire(now);
        let Some(known) = self.by_scope.get(&key.scope) else {
            let has_room = key.is_in_series || self.make_room(now);
            return if has_room { Asking::New } else { Asking::Full };
        };
        let is_repeat = match (known.request, key.asked.raw) {
            // One of a series that was there before, or the next one.
            (Digest::Raw(last), Some(number)) if key.is_in_series => last >= number,
            (request, _) => key.asked.is(&request),
        };
        match is_repeat {
            true => Asking::Repeat(known.events.clone()),
            false if key.is_in_series => Asking::New,
            false => Asking::Mismatch,
        }
    }

    /// Remembers the result of a new key; in a series, instead of the last one.
    pub(super) fn remember(
        &mut self,
        key: IdempotencyKey,
        events: Vec<EventReceipt>,
        now: Instant,
    ) {
        self.results += events.len();
        let remembered = Remembered { request: key.asked.digest(), events, since: now };
        match self.by_scope.insert(key.scope, remembered) {
            // It stands among the oldest already.
            Some(replaced) => self.results -= replaced.events.len(),
            None => self.oldest_first.push_back((now, key.scope)),
        }
    }

    /// Forgets the keys whose window is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.forget_oldest(now, self.window) {}
    }

    /// For how long keys are remembered now; none where that is their whole window.
    pub(super) fn shorter_window(&self, now: Instant) -> Option<Duration> {
        let age = self.forgotten.map(|since| now.duration_since(since));
        age.filter(|age| *age < self.window)
    }

    /// How many keys were forgotten early since this was asked last.
    pub(super) fn take_early(&mut self) -> u64 {
        std::mem::take(&mut self.early)
    }

    /// Forgets the oldest keys where there is no room for another, as far as they may be; whether there is then.
    fn make_room(&mut self, now: Instant) -> bool {
        let least = self.window.min(LEAST_KEY_WINDOW);
        while self.results >= self.max_results {
            let (known, since) = (self.by_scope.len(), self.oldest_first.front().map(|key| key.0));
            if !self.forget_oldest(now, least) {
                return false;
            }
            if self.by_scope.len() < known {
                self.forgotten = self.forgotten.max(since);
                self.early += 1;
            }
        }
        true
    }

    /// Forgets the oldest key if it has this age; false where none may have.
    fn forget_oldest(&mut self, now: Instant, age: Duration) -> bool {
        let is_old = |since: Instant| now.duration_since(since) >= age;
        let Some(&(_, scope)) = self.oldest_first.front().filter(|(since, _)| is_old(*since))
        else {
            return false;
        };
        self.oldest_first.pop_front();
        if self.by_scope.get(&scope).is_some_and(|known| is_old(known.since)) {
            let forgotten = self.by_scope.remove(&scope);
            self.results -= forgotten.map_or(0, |known| known.events.len());
        } else {
            // In a series a later one has taken its place.
            self.oldest_first.push_back((now, scope));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Asked, Series};
    use super::*;
    use crate::model::{Timestamp, Topic};
    use std::time::SystemTime;

    fn key(scope: u8, request: u8) -> IdempotencyKey {
        let asked = Asked { events: Some([request; 32]), raw: None };
        IdempotencyKey { scope: [scope; 32], asked, is_in_series: false }
    }

    fn result() -> Vec<EventReceipt> {
        let topic = Topic::parse("a").unwrap();
        let time = Timestamp::from(SystemTime::UNIX_EPOCH);
        vec![EventReceipt { cursor: None, topic, time, superseded: None }]
    }

    #[test]
    fn a_key_is_known_for_its_window_and_told_apart_by_its_request() {
        let now = Instant::now();
        let mut receipts = Receipts::new(Duration::from_secs(10), 9);
        assert_eq!(receipts.find(&key(1, 1), now), Asking::New);
        receipts.remember(key(1, 1), result(), now);
        let later = now + Duration::from_secs(9);
        assert_eq!(receipts.find(&key(1, 1), later), Asking::Repeat(result()));
        assert_eq!(receipts.find(&key(1, 2), later), Asking::Mismatch);
        assert_eq!(receipts.find(&key(2, 1), later), Asking::New);
        assert_eq!(receipts.find(&key(1, 1), now + Duration::from_secs(10)), Asking::New);
    }

    #[test]
    fn in_a_series_each_takes_the_place_of_the_last_and_what_comes_late_is_a_repeat() {
        let (mut series, start) = (Series::new(), Instant::now());
        let keys: Vec<_> = (0..12).map(|_| series.next_key()).collect();
        let mut receipts = Receipts::new(Duration::from_secs(10), 1);
        for (key, second) in keys.iter().zip(0..) {
            let now = start + Duration::from_secs(second);
            assert_eq!(receipts.find(key, now), Asking::New, "{second}");
            receipts.remember(key.clone(), result(), now);
            assert_eq!(receipts.find(&keys[0], now), Asking::Repeat(result()), "{second}");
            assert_eq!((receipts.results, receipts.oldest_first.len()), (1, 1));
        }
        receipts.expire(start + Duration::from_secs(30));
        assert_eq!((receipts.results, receipts.oldest_first.len()), (0, 0));
    }

    #[test]
    fn where_there_is_no_room_the_oldest_go_but_none_within_the_least_window() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut receipts = Receipts::new(Duration::from_secs(86_400), 2);
        receipts.remember(key(1, 1), result(), start);
        receipts.remember(key(2, 1), result(), at(100));
        assert_eq!(receipts.find(&key(3, 1), at(599)), Asking::Full);
        assert_eq!((receipts.take_early(), receipts.shorter_window(at(599))), (0, None));
        assert_eq!(receipts.find(&key(3, 1), at(600)), Asking::New);
        receipts.remember(key(3, 1), result(), at(600));
        assert_eq!(receipts.find(&key(2, 1), at(600)), Asking::Repeat(result()));
        assert_eq!(receipts.shorter_window(at(650)), Some(Duration::from_secs(650)));
        assert_eq!((receipts.take_early(), receipts.take_early()), (1, 0));
        // It is asked for again as if it were new, and a day later the window is whole again.
        assert_eq!(receipts.find(&key(1, 1), at(650)), Asking::Full);
        assert_eq!(receipts.shorter_window(at(86_400)), None);
    }

    #[test]
    fn no_key_is_forgotten_early_to_make_room() {
        let now = Instant::now();
        let mut receipts = Receipts::new(Duration::from_secs(10), 1);
        receipts.remember(key(1, 1), result(), now);
        assert_eq!(receipts.find(&key(2, 1), now), Asking::Full);
        assert_eq!(receipts.find(&key(1, 1), now), Asking::Repeat(result()));
        assert_eq!(receipts.find(&key(2, 1), now + Duration::from_secs(10)), Asking::New);
    }
}
