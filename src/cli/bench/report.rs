//! What a bench found out, for people and for programs.

use std::fmt;

use hdrhistogram::Histogram;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

/// The result of one bench.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Connections that listened, slow ones included.
    pub connections: usize,
    /// Seconds until all were live.
    pub setup_seconds: f64,
    /// Seconds that were measured.
    pub seconds: f64,
    /// The way in.
    pub publish: PublishReport,
    /// The way out.
    pub delivery: DeliveryReport,
    /// What the server used, where its processes are known.
    pub server: Option<ServerReport>,
    /// The share of one processor that the bench itself used; near 1 a thread, it measures itself.
    pub client_cpu: f64,
    /// Slow connections, and how many of them the server ended.
    pub slow: SlowReport,
    /// What went on beside.
    pub storm: Option<StormReport>,
    /// The rates that a search tried, in their order. The rest of the report is about the highest one
    /// that held.
    pub search: Vec<Step>,
}

/// What publishers saw.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PublishReport {
    /// Events acknowledged in the time measured.
    pub events: u64,
    /// As many a second.
    pub events_per_second: f64,
    /// Events whose publish failed, from the start on.
    pub failed: u64,
    /// Why the first of them did.
    pub reason: Option<String>,
    /// From when a publish was due until it was acknowledged.
    pub latency: Percentiles,
    /// From when it was due until it was sent.
    pub lateness: Percentiles,
}

/// What subscribers saw.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DeliveryReport {
    /// Deliveries that the acknowledged events were to bring, from the start on.
    pub expected: u64,
    /// Deliveries that came.
    pub delivered: u64,
    /// Deliveries that did not come where they should have.
    pub missing: u64,
    /// Deliveries that came more often than they should have.
    pub extra: u64,
    /// Why the first connection ended, if one did.
    pub reason: Option<String>,
    /// Deliveries a second in the time measured.
    pub per_second: f64,
    /// Bytes from the server, of one delivery.
    pub bytes: f64,
    /// From when an event was due until it arrived.
    pub latency: Percentiles,
}

/// What the server used.
#[derive(Debug, Clone, Serialize)]
pub struct ServerReport {
    /// Microseconds of processor time a delivery.
    pub cpu_us_per_delivery: Option<f64>,
    /// Microseconds of processor time an acknowledged event.
    pub cpu_us_per_event: Option<f64>,
    /// Microseconds of processor time of the store behind it an acknowledged event, where that is another process.
    pub store_cpu_us_per_event: Option<f64>,
    /// Processors kept busy, on average.
    pub cpu: f64,
    /// Resident bytes before there were connections.
    pub memory_before: u64,
    /// Resident bytes with all connections live and idle.
    pub memory_connected: u64,
    /// Resident bytes at the end.
    pub memory_after: u64,
    /// Resident bytes of one idle connection.
    pub memory_per_connection: Option<f64>,
}

/// Connections that read slowly.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct SlowReport {
    /// How many there were.
    pub connections: usize,
    /// How many the server ended.
    pub ended: u64,
}

/// What a storm did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StormReport {
    /// Subscribes and unsubscribes, or connections, that were answered in the time measured.
    pub done: u64,
    /// As many a second.
    pub per_second: f64,
    /// How many failed.
    pub failed: u64,
    /// Why the first of them did.
    pub reason: Option<String>,
    /// From when each was due until it was done.
    pub latency: Percentiles,
}

/// One rate that a search tried.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Step {
    /// Events a second.
    pub rate: f64,
    /// Deliveries a second.
    pub delivered_per_second: f64,
    /// The 99th percentile of their latency, in milliseconds.
    pub p99_ms: f64,
    /// Whether it held: everything delivered, and in time.
    pub held: bool,
}

/// Percentiles of a time, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many times there are.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th.
    pub p99: f64,
    /// The 99.9th.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl From<&Histogram<u64>> for Percentiles {
    /// Of a histogram of nanoseconds.
    fn from(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        let (p50, p90, p99, p999) = (at(0.5), at(0.9), at(0.99), at(0.999));
        Self { count: histogram.len(), p50, p90, p99, p999, max: histogram.max() as f64 / 1e6 }
    }
}

impl Report {
    /// What is wrong with it: a bench that lost anything has failed.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |count: u64, what: &str, reason: &Option<String>| {
            if count > 0 {
                let reason =
                    reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                faults.push(format!("{} {what}{reason}", HumanCount(count)));
            }
        };
        fault(self.publish.failed, "events could not be published", &self.publish.reason);
        fault(self.delivery.missing, "deliveries are missing", &self.delivery.reason);
        fault(self.delivery.extra, "deliveries came twice or uncalled for", &None);
        if let Some(storm) = &self.storm {
            fault(storm.failed, "steps of the storm failed", &storm.reason);
        }
        faults
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "connections  {} live in {:.2} s",
            HumanCount(self.connections as u64),
            self.setup_seconds
        )?;
        if self.slow.connections > 0 {
            writeln!(
                f,
                "slow         {} of them, {} ended by the server",
                self.slow.connections, self.slow.ended
            )?;
        }
        for step in &self.search {
            writeln!(f, "{step}")?;
        }
        let publish = &self.publish;
        writeln!(
            f,
            "published    {} events, {}/s in {:.1} s",
            HumanCount(publish.events),
            whole(publish.events_per_second),
            self.seconds
        )?;
        let delivery = &self.delivery;
        writeln!(
            f,
            "delivered    {} of {}, {}/s",
            HumanCount(delivery.delivered),
            HumanCount(delivery.expected),
            whole(delivery.per_second)
        )?;
        times(f, "latency", &delivery.latency)?;
        times(f, "acknowledge", &publish.latency)?;
        times(f, "sent late", &publish.lateness)?;
        if let Some(storm) = &self.storm {
            write!(f, "{storm}")?;
        }
        if let Some(server) = &self.server {
            writeln!(f, "{server}")?;
        }
        write!(f, "client       {:.0} % CPU", self.client_cpu * 100.0)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.held { "held" } else { "too fast" };
        write!(
            f,
            "search       {:>9} events/s  {:>11} deliveries/s  p99 {:>9.2} ms  {verdict}",
            whole(self.rate),
            whole(self.delivered_per_second),
            self.p99_ms,
        )
    }
}

impl fmt::Display for StormReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "storm        {} done, {}/s", HumanCount(self.done), whole(self.per_second))?;
        times(f, "storm step", &self.latency)
    }
}

impl fmt::Display for ServerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server       {:.0} % CPU", self.cpu * 100.0)?;
        if let Some(us) = self.cpu_us_per_delivery {
            write!(f, ", {us:.2} µs a delivery")?;
        }
        if let Some(us) = self.cpu_us_per_event {
            write!(f, ", {us:.2} µs an event")?;
        }
        write!(
            f,
            "\nmemory       {} before, {} connected, {} after",
            HumanBytes(self.memory_before),
            HumanBytes(self.memory_connected),
            HumanBytes(self.memory_after)
        )?;
        if let Some(bytes) = self.memory_per_connection {
            write!(f, "; {:.1} KiB a connection", bytes / 1024.0)?;
        }
        Ok(())
    }
}

fn whole(number: f64) -> HumanCount {
    HumanCount(number.round() as u64)
}

pub(super) fn times(f: &mut fmt::Formatter<'_>, name: &str, times: &Percentiles) -> fmt::Result {
    if times.count == 0 {
        return Ok(());
    }
    let Percentiles { p50, p90, p99, p999, max, .. } = times;
    writeln!(
        f,
        "{name:<12} p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  p99.9 {p999:.2}  max {max:.2} ms"
    )
}

#[cfg(test)]
mod tests {
    use super::super::meter::histogram;
    use super::*;

    #[test]
    fn percentiles_are_milliseconds() {
        let mut histogram = histogram().unwrap();
        (1..=1_000).for_each(|n| histogram.saturating_record(n * 1_000_000));
        let found = Percentiles::from(&histogram);
        assert_eq!(found.count, 1_000);
        assert!((found.p50 - 500.0).abs() < 1.0 && (found.p99 - 990.0).abs() < 2.0, "{found:?}");
        assert!((found.max - 1_000.0).abs() < 1.0, "{found:?}");
    }
}
