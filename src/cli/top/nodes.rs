//! What each node said of itself last, and which are silent.
//!
//! Pure state: whoever hears brings the clock. What a node does not say (an earlier release, a later one) is nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

/// A node that has said nothing for so long is away.
const SILENT: Duration = Duration::from_secs(5);

/// A node that has said nothing for so long is not shown any more.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The nodes, by name.
#[derive(Debug, Default)]
pub(super) struct Nodes(BTreeMap<String, Heard>);

#[derive(Debug)]
struct Heard {
    said: Said,
    at: Instant,
}

/// What is shown of what a node says. It is not the type that is written, for nodes of other releases say more or less.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    pub(super) node: String,
    pub(super) version: String,
    pub(super) uptime_ms: u64,
    pub(super) period_ms: u64,
    pub(super) ready: bool,
    pub(super) failing: Vec<Failing>,
    pub(super) sessions: Sessions,
    pub(super) second: Second,
    pub(super) latency_ms: Latencies,
    pub(super) queue: Queue,
    pub(super) slowest: Vec<Slow>,
    pub(super) disk: Option<Disk>,
    pub(super) memory: Memory,
    pub(super) process: Process,
    pub(super) webhooks: Vec<Webhook>,
    pub(super) errors: Vec<Trouble>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Failing {
    pub(super) check: String,
    pub(super) detail: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sessions {
    pub(super) websocket: u64,
    pub(super) sse: u64,
    pub(super) limit: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Second {
    pub(super) published: u64,
    pub(super) delivered: u64,
    pub(super) conflated: u64,
    pub(super) gaps: u64,
    pub(super) refused: u64,
    pub(super) connected: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latencies {
    pub(super) delivery: Option<Latency>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Queue {
    pub(super) bytes: u64,
    pub(super) largest_bytes: u64,
    pub(super) limit_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Slow {
    pub(super) session: String,
    pub(super) user: String,
    pub(super) queued_bytes: u64,
    pub(super) lag_ms: u64,
    pub(super) skipped: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Disk {
    pub(super) used_bytes: u64,
    pub(super) limit_bytes: u64,
    pub(super) free_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    pub(super) rss_bytes: u64,
    pub(super) limit_bytes: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) cpu_ms: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Webhook {
    pub(super) name: String,
    pub(super) outcome: String,
    pub(super) detail: String,
    pub(super) lag_ms: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Trouble {
    pub(super) time: String,
    pub(super) level: String,
    pub(super) message: String,
}

impl Nodes {
    /// Takes what a node said now; what can't be read is nothing.
    pub(super) fn hear(&mut self, data: &str, now: Instant) {
        if let Ok(said) = serde_json::from_str::<Said>(data) {
            self.0.retain(|_, heard| now.saturating_duration_since(heard.at) < FORGOTTEN);
            self.0.insert(said.node.clone(), Heard { said, at: now });
        }
    }

    /// Whether none was heard.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are not silent.
    pub(super) fn there(&self, now: Instant) -> impl Iterator<Item = &Said> {
        self.all(now).filter(|(_, silent_for)| silent_for.is_none()).map(|(said, _)| said)
    }

    /// All of them, and for how long those that are silent have been that.
    pub(super) fn all(&self, now: Instant) -> impl Iterator<Item = (&Said, Option<Duration>)> {
        self.0.values().map(move |heard| {
            let silent_for = now.saturating_duration_since(heard.at);
            (&heard.said, (silent_for >= SILENT).then_some(silent_for))
        })
    }

    /// How many are silent, or say that they are not ready.
    pub(super) fn not_ready(&self, now: Instant) -> usize {
        self.all(now).filter(|(said, silent_for)| !said.ready || silent_for.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_that_is_silent_is_away_and_then_forgotten() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        nodes.hear(r#"{"node":"a","ready":true,"later":{"more":1}}"#, now);
        nodes.hear(r#"{"node":"b","ready":false}"#, now);
        nodes.hear("nonsense", now);
        assert_eq!((nodes.there(now).count(), nodes.not_ready(now)), (2, 1));
        let later = now + SILENT;
        nodes.hear(r#"{"node":"b","ready":true}"#, later);
        assert_eq!((nodes.there(later).count(), nodes.not_ready(later)), (1, 1));
        nodes.hear(r#"{"node":"b","ready":true}"#, now + FORGOTTEN);
        assert_eq!(nodes.all(now + FORGOTTEN).count(), 1);
    }
}
