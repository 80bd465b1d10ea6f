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
            Some(_) => Known::Other,
            None if self.results >= self.max_results => Known::Full,
            None => Known::New,
        }
    }

    /// Remembers the result of a new key.
    pub(super) fn remember(
        &mut self,
        key: IdempotencyKey,
        events: Vec<EventReceipt>,
        now: Instant,
    ) {
        self.oldest_first.push_back((now, key.scope));
        self.results += events.len();
        self.by_scope.insert(key.scope, Remembered { request: key.request, events });
    }

    /// Forgets the keys whose window is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((since, scope)) = self.oldest_first.front()
            && now.duration_since(*since) >= self.window
        {
            let forgotten = self.by_scope.remove(scope);
            self.results -= forgotten.map_or(0, |known| known.events.len());
            self.oldest_first.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Timestamp, Topic};
    use std::time::SystemTime;

    fn key(scope: u8, request: u8) -> IdempotencyKey {
        IdempotencyKey { scope: [scope; 32], request: [request; 32] }
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
    fn no_key_is_forgotten_early_to_make_room() {
        let now = Instant::now();
        let mut receipts = Receipts::new(Duration::from_secs(10), 1);
        receipts.remember(key(1, 1), result(), now);
        assert_eq!(receipts.find(&key(2, 1), now), Known::Full);
        assert_eq!(receipts.find(&key(1, 1), now), Known::Same(result()));
        assert_eq!(receipts.find(&key(2, 1), now + Duration::from_secs(10)), Known::New);
    }
}
