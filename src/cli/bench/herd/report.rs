//! What became of a herd.

use std::fmt;

use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;

/// What became of a herd.
#[derive(Debug, Clone, Default, Serialize)]
pub struct HerdReport {
    /// How many clients came.
    pub clients: usize,
    /// How many events they were to get, all of them together.
    pub events: usize,
    /// Events that did not come, or came and were not to.
    pub wrong: u64,
    /// Why the first client failed, if one did.
    pub reason: Option<String>,
    /// Seconds from the moment at which all asked until all were live.
    pub live_seconds: f64,
    /// Bytes from the server, of one event and all that comes beside it.
    pub bytes: f64,
    /// Microseconds of the server's processor time an event.
    pub cpu_us_per_event: Option<f64>,
    /// The same a client.
    pub cpu_us_per_client: Option<f64>,
    /// Resident bytes before the clients came.
    pub memory_before: u64,
    /// Resident bytes once all were live.
    pub memory_after: u64,
    /// The share of one processor that the bench itself used.
    pub client_cpu: f64,
}

impl HerdReport {
    /// What is wrong with it, if something is.
    pub fn fault(&self) -> Option<String> {
        let reason = self.reason.iter().map(|reason| format!(": {reason}")).collect::<String>();
        let is_wrong = self.wrong > 0 || self.reason.is_some();
        is_wrong.then(|| format!("{} events are missing or too many{reason}", self.wrong))
    }
}

impl fmt::Display for HerdReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (clients, events) = (HumanCount(self.clients as u64), HumanCount(self.events as u64));
        writeln!(f, "herd         {clients} clients, {events} events in all")?;
        writeln!(f, "live         all after {:.2} s", self.live_seconds)?;
        writeln!(f, "wrong        {} events", HumanCount(self.wrong))?;
        writeln!(f, "bytes        {:.0} an event", self.bytes)?;
        if let (Some(event), Some(client)) = (self.cpu_us_per_event, self.cpu_us_per_client) {
            writeln!(f, "server       {event:.2} µs an event, {client:.0} µs a client")?;
            let (before, after) = (HumanBytes(self.memory_before), HumanBytes(self.memory_after));
            writeln!(f, "memory       {before} before, {after} after")?;
        }
        write!(f, "client       {:.0} % CPU", self.client_cpu * 100.0)
    }
}
