//! The search for the highest rate that a server sustains.
//!
//! The rate doubles until it does not hold, and then the gap between what held and what did not is
//! halved a few times. Each rate is tried on connections of its own, so that the backlog or the lost
//! connections of one try do not count against the next.

use std::time::Duration;

use super::load::Pace;
use super::measure::Running;
use super::report::{Report, Step};
use super::work::Bench;

/// The rate of the first try, in deliveries a second.
const FIRST: f64 = 20_000.0;
/// Tries at which the gap is halved after the doubling.
const HALVINGS: usize = 4;
/// More tries than any doubling needs.
const MOST: usize = 24;

/// The report of the highest rate whose 99th percentile stays within `limit`.
pub(super) async fn run(bench: &Bench, limit: Duration) -> Result<Report, String> {
    let listeners = bench.load.connections() as f64 * bench.load.topics_per_connection as f64;
    let mut range = Range::new((FIRST * bench.load.topics as f64 / listeners).max(1.0));
    let mut steps = Vec::new();
    let mut best = None;
    while let Some(rate) = range.next() {
        let report =
            Running::start(bench).await?.run(Pace::Rate(rate), bench.load.duration).await?;
        let p99_ms = report.delivery.latency.p99;
        let in_time = p99_ms <= limit.as_secs_f64() * 1e3 && report.delivery.latency.count > 0;
        let held = in_time && report.faults().is_empty();
        let delivered_per_second = report.delivery.per_second;
        steps.push(Step { rate, delivered_per_second, p99_ms, held });
        range.tried(rate, held);
        if held {
            best = Some(report);
        } else if best.is_none() && rate <= 1.0 {
            return Err(format!("no rate holds: p99 is {p99_ms:.1} ms at {rate} events a second"));
        }
    }
    let mut report = best.ok_or("no rate holds")?;
    report.search = steps;
    Ok(report)
}

/// What is known of the rate that is looked for.
#[derive(Debug)]
struct Range {
    next: f64,
    held: Option<f64>,
    failed: Option<f64>,
    halvings: usize,
    tries: usize,
}

impl Range {
    fn new(first: f64) -> Self {
        Self { next: first, held: None, failed: None, halvings: 0, tries: 0 }
    }

    fn next(&self) -> Option<f64> {
        (self.halvings <= HALVINGS && self.tries < MOST).then_some(self.next)
    }

    fn tried(&mut self, rate: f64, held: bool) {
        self.tries += 1;
        if held {
            self.held = Some(rate);
        } else {
            self.failed = Some(rate);
        }
        self.next = match (self.held, self.failed) {
            (Some(held), None) => held * 2.0,
            (None, Some(failed)) => (failed / 4.0).max(1.0),
            (Some(held), Some(failed)) => {
                self.halvings += 1;
                (held + failed) / 2.0
            }
            (None, None) => rate,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(first: f64, limit: f64) -> (f64, usize) {
        let mut range = Range::new(first);
        while let Some(rate) = range.next() {
            range.tried(rate, rate <= limit);
        }
        (range.held.unwrap_or(0.0), range.tries)
    }

    #[test]
    fn the_highest_rate_is_found_from_below_and_from_above() {
        for (first, limit) in [(20.0, 777.0), (5_000.0, 777.0), (1.0, 100_000.0)] {
            let (rate, tries) = found(first, limit);
            assert!(rate <= limit && rate > 0.85 * limit, "{first} {limit}: {rate}");
            assert!(tries <= MOST);
        }
    }

    #[test]
    fn a_search_for_what_is_not_there_ends() {
        assert_eq!(found(100.0, 0.0), (0.0, MOST));
    }
}
