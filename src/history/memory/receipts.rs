//! Results of publishes that may be repeated, by idempotency key.
//!
//! Pure state. A key is forgotten when its window is over and never earlier: where as many results
//! are remembered as there may be, a new key is refused, for forgetting one could store a repeat
//! twice. A batch has a result an event.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::super::{EventReceipt, IdempotencyKey};

/// The results of the keys of one window.
#[derive(Debug)]
pub(super) struct Receipts {
    window: Duration,
    max_results: usize,
    results: usize,
    by_scope: HashMap<[u8; 32], Remembered>,
    oldest_first: VecDeque<(Instant, [u8; 32])>,
}

#[derive(Debug)]
struct Remembered {
    request: [u8; 32],
    events: Vec<EventReceipt>,
    since: Instant,
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing, and there is room for it.
    New,
    /// Nothing, and there is no room for it.
    Full,
    /// The result of the same request.
    Same(Vec<EventReceipt>),
    /// That it was another request.
    Other,
}

impl Receipts {
    /// No results, for so long and at most so many.
    pub(super) fn new(window: Duration, max_results: usize) -> Self {
        let (by_scope, oldest_first) = (HashMap::new(), VecDeque::new());
        Self { window, max_results, results: 0, by_scope, oldest_first }
    }

    /// What is known of `key` at this moment.
    pub(super) fn find(&mut self, key: &IdempotencyKey, now: Instant) -> Known {
        self.expire(now);
        match self.by_scope.get(&key.scope) {
            Some(known) if known.request == key.request => Known::Same(known.events.clone()),
            // One of a series that was there before, or the next one.
            Some(known) if key.is_in_series && known.request > key.request => {
                Known::Same(known.events.clone())
            }
            Some(_) | None if key.is_in_series => Known::New,
            Some(_) => Known::Other,
            None if self.results >= self.max_results => Known::Full,
            None => Known::New,
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
        let remembered = Remembered { request: key.request, events, since: now };
        match self.by_scope.insert(key.scope, remembered) {
            // It stands among the oldest already.
            Some(replaced) => self.results -= replaced.events.len(),
            None => self.oldest_first.push_back((now, key.scope)),
        }
    }

    /// Forgets the keys whose window is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(&(since, scope)) = self.oldest_first.front()
            && now.duration_since(since) >= self.window
        {
            self.oldest_first.pop_front();
            let is_over = |known: &Remembered| now.duration_since(known.since) >= self.window;
            if self.by_scope.get(&scope).is_some_and(is_over) {
                let forgotten = self.by_scope.remove(&scope);
                self.results -= forgotten.map_or(0, |known| known.events.len());
            } else {
                // In a series a later one has taken its place.
                self.oldest_first.push_back((now, scope));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Series;
    use super::*;
    use crate::model::{Timestamp, Topic};
    use std::time::SystemTime;

    fn key(scope: u8, request: u8) -> IdempotencyKey {
        IdempotencyKey { scope: [scope; 32], request: [request; 32], is_in_series: false }
    }

    fn result() -> Vec<EventReceipt> {
        let topic = Topic::parse("a").unwrap();
        vec![EventReceipt { cursor: None, topic, time: Timestamp::from(SystemTime::UNIX_EPOCH) }]
    }

    #[test]
    fn a_key_is_known_for_its_window_and_told_apart_by_its_request() {
        let now = Instant::now();
        let mut receipts = Receipts::new(Duration::from_secs(10), 9);
        assert_eq!(receipts.find(&key(1, 1), now), Known::New);
        receipts.remember(key(1, 1), result(), now);
        let later = now + Duration::from_secs(9);
        assert_eq!(receipts.find(&key(1, 1), later), Known::Same(result()));
        assert_eq!(receipts.find(&key(1, 2), later), Known::Other);
        assert_eq!(receipts.find(&key(2, 1), later), Known::New);
        assert_eq!(receipts.find(&key(1, 1), now + Duration::from_secs(10)), Known::New);
    }

    #[test]
    fn in_a_series_each_takes_the_place_of_the_last_and_what_comes_late_is_a_repeat() {
        let (mut series, start) = (Series::new(), Instant::now());
        let keys: Vec<_> = (0..12).map(|_| series.next_key()).collect();
        let mut receipts = Receipts::new(Duration::from_secs(10), 1);
        for (key, second) in keys.iter().zip(0..) {
            let now = start + Duration::from_secs(second);
            assert_eq!(receipts.find(key, now), Known::New, "{second}");
            receipts.remember(key.clone(), result(), now);
            assert_eq!(receipts.find(&keys[0], now), Known::Same(result()), "{second}");
            assert_eq!((receipts.results, receipts.oldest_first.len()), (1, 1));
        }
        receipts.expire(start + Duration::from_secs(30));
        assert_eq!((receipts.results, receipts.oldest_first.len()), (0, 0));
    }

    #[test]
    fn no_key_is_forgotten_early_to_make_room() {
        let now = Instant::now();
        let mut receipts = Receipts::new(Duration::from_secs(10), 1);
        receipts.remember(key(1, 1), result(), now);
        assert_eq!(receipts.find(&key(2, 1), now), Known::Full);
        assert_eq!(receipts.find(&key(1, 1), now), Known::Same(result()));
        assert_eq!(receipts.find(&key(2, 1), now + Duration::from_secs(10)), Known::New);
    }
}
