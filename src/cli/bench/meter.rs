//! What was counted and timed on one thread of subscribers.
//!
//! Its thread holds the lock for the events of one read; everyone else only to take a look, a few
//! times a second.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;

/// A meter that a thread of subscribers writes and the bench reads.
#[derive(Debug, Clone)]
pub struct SharedMeter(Arc<Mutex<Meter>>);

/// The counts of one thread of subscribers.
#[derive(Debug)]
pub struct Meter {
    /// Connections that have all their subscriptions.
    pub live: usize,
    /// Connections that were to stay and have ended, slow ones apart.
    pub ended: usize,
    /// Slow connections that have ended.
    pub slow_ended: usize,
    /// Why the first connection ended, or was never live.
    pub reason: Option<String>,
    /// Events that arrived at connections that are not slow.
    pub delivered: u64,
    /// Bytes that arrived.
    pub bytes: u64,
    /// Events by connection, in the order of this thread's seats.
    pub received: Vec<u64>,
    /// The moment from which on the latency of events counts.
    pub since: u64,
    /// From when an event was due until it arrived, in nanoseconds.
    pub latency: Histogram<u64>,
}

impl SharedMeter {
    /// A meter for so many connections.
    pub fn new(connections: usize) -> Result<Self, String> {
        Ok(Self(Arc::new(Mutex::new(Meter {
            live: 0,
            ended: 0,
            slow_ended: 0,
            reason: None,
            delivered: 0,
            bytes: 0,
            received: vec![0; connections],
            since: 0,
            latency: histogram()?,
        }))))
    }

    /// The meter itself.
    pub fn lock(&self) -> MutexGuard<'_, Meter> {
        // Counts are whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter {
    /// Counts the events of one read at a connection.
    pub fn deliver(&mut self, seat: usize, now: u64, due: impl Iterator<Item = u64>) {
        let mut events = 0;
        for at in due {
            events += 1;
            if at >= self.since {
                self.latency.saturating_record(now.saturating_sub(at));
            }
        }
        self.delivered += events;
        self.received[seat] += events;
    }
}

/// Nanoseconds up to ten minutes, in three digits.
pub fn histogram() -> Result<Histogram<u64>, String> {
    Histogram::new_with_bounds(1_000, 600_000_000_000, 3).map_err(|error| error.to_string())
}
