//! When publishes are due, and which events each one holds.
//!
//! At a given rate every publish has its moment, whatever the server does: latency is measured from
//! there, so that a server that makes publishers wait does not look faster for it. A thread of its
//! own keeps the time, as timers of an async runtime are too coarse.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;

use super::clock::Clock;

/// The publishes of one run, claimed one after the other by whoever is free.
#[derive(Debug)]
pub struct Schedule {
    clock: Clock,
    due: Arc<Semaphore>,
    timing: Timing,
    claimed: Cell<u64>,
    /// How many there will be; unknown as long as bursts go on.
    total: Cell<u64>,
    burst_at: Cell<u64>,
    /// Enough for all who wait to find that there is no more.
    claimants: usize,
}

/// When publishes are due.
#[derive(Debug, Clone, Copy)]
pub enum Timing {
    /// Each at its moment.
    Rate {
        /// The moment of the first.
        begin: u64,
        /// Nanoseconds between two.
        interval: f64,
        /// How many.
        total: u64,
    },
    /// At once, until a moment.
    Until(u64),
    /// Whenever they are released.
    Released,
}

/// A publish that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Which one.
    pub number: u64,
    /// When it was due.
    pub at: u64,
}

impl Schedule {
    /// A schedule for so many claimants at a time.
    pub fn new(clock: Clock, timing: Timing, claimants: usize) -> Result<Self, String> {
        let due = Arc::new(Semaphore::new(0));
        let mut all = u64::MAX;
        if let Timing::Rate { begin, interval, total } = timing {
            all = total;
            let due = due.clone();
            std::thread::Builder::new()
                .name("schedule".into())
                .spawn(move || {
                    release_each(&due, total, |number| {
                        clock.instant(begin + (number as f64 * interval) as u64)
                    });
                    due.add_permits(claimants);
                })
                .map_err(|error| format!("can't start a thread: {error}"))?;
        }
        let (claimed, total, burst_at) = (Cell::new(0), Cell::new(all), Cell::new(0));
        Ok(Self { clock, due, timing, claimed, total, burst_at, claimants })
    }

    /// The next publish once it is due; `None` when there are no more.
    pub async fn next(&self) -> Option<Slot> {
        if let Timing::Until(end) = self.timing {
            let now = self.clock.now();
            return (now < end).then(|| self.claim(now));
        }
        // The semaphore is never closed.
        self.due.acquire().await.ok()?.forget();
        self.take()
    }

    /// The next publish if it is due already, so that it can go with one before it.
    pub fn next_now(&self) -> Option<Slot> {
        if let Timing::Until(end) = self.timing {
            let now = self.clock.now();
            return (now < end).then(|| self.claim(now));
        }
        self.due.try_acquire().ok()?.forget();
        // Whoever waits still has to learn of the end.
        self.take().or_else(|| {
            self.due.add_permits(1);
            None
        })
    }

    fn take(&self) -> Option<Slot> {
        if self.claimed.get() >= self.total.get() {
            return None;
        }
        let at = match self.timing {
            Timing::Rate { begin, interval, .. } => {
                begin + (self.claimed.get() as f64 * interval) as u64
            }
            _ => self.burst_at.get(),
        };
        Some(self.claim(at))
    }

    /// Makes so many publishes due now.
    pub fn release(&self, publishes: usize) {
        self.burst_at.set(self.clock.now());
        self.due.add_permits(publishes);
    }

    /// Says that no more will be released.
    pub fn finish(&self, released: u64) {
        self.total.set(released);
        self.due.add_permits(self.claimants);
    }

    fn claim(&self, at: u64) -> Slot {
        let number = self.claimed.get();
        self.claimed.set(number + 1);
        Slot { number, at }
    }
}

/// Releases each of `total` publishes at its moment, several at once where the thread was late.
fn release_each(due: &Semaphore, total: u64, moment: impl Fn(u64) -> Instant) {
    let mut number = 0;
    while number < total {
        std::thread::sleep(moment(number).saturating_duration_since(Instant::now()));
        let now = Instant::now();
        let first = number;
        while number < total && moment(number) <= now {
            number += 1;
        }
        due.add_permits((number - first) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn at_a_rate_each_publish_has_its_own_moment_however_late_it_is_claimed() {
        let clock = Clock::start();
        let timing = Timing::Rate { begin: 1_000, interval: 500.0, total: 3 };
        let schedule = Schedule::new(clock, timing, 2).unwrap();
        let mut slots = Vec::new();
        while let Some(slot) = schedule.next().await {
            slots.push((slot.number, slot.at));
        }
        assert_eq!(slots, [(0, 1_000), (1, 1_500), (2, 2_000)]);
        assert_eq!(schedule.next_now(), None);
        assert_eq!(schedule.next().await, None);
    }

    #[tokio::test]
    async fn what_is_released_is_due_at_once_until_it_is_finished() {
        let clock = Clock::start();
        let schedule = Schedule::new(clock, Timing::Released, 1).unwrap();
        schedule.release(2);
        let first = schedule.next().await.unwrap();
        let second = schedule.next_now().unwrap();
        assert_eq!(schedule.next_now(), None);
        assert_eq!((first.number, second.number, first.at), (0, 1, second.at));
        schedule.finish(2);
        assert_eq!(schedule.next().await, None);
    }

    #[tokio::test]
    async fn without_a_rate_publishes_are_due_until_the_end() {
        let clock = Clock::start();
        let end = clock.now() + 50_000_000;
        let schedule = Schedule::new(clock, Timing::Until(end), 1).unwrap();
        assert!(schedule.next().await.is_some());
        std::thread::sleep(std::time::Duration::from_millis(60));
        assert_eq!(schedule.next().await, None);
    }
}
