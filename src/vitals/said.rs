//! What a node says of itself, as it is written: `docs/metrics.md` has it member by member.

use std::collections::BTreeMap;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(super) struct Said {
    pub(super) node: String,
    pub(super) version: &'static str,
    pub(super) started: String,
    pub(super) uptime_ms: u64,
    pub(super) number: u64,
    pub(super) period_ms: u64,
    pub(super) ready: bool,
    pub(super) failing: Vec<Failing>,
    pub(super) sessions: Sessions,
    pub(super) subscriptions: i64,
    pub(super) sockets: Sockets,
    pub(super) second: Totals,
    pub(super) total: Totals,
    pub(super) latency_ms: Latencies,
    pub(super) gaps: BTreeMap<String, u64>,
    pub(super) refusals: BTreeMap<String, u64>,
    pub(super) closes: BTreeMap<String, u64>,
    pub(super) queue: Queue,
    pub(super) slowest: Vec<Slowest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) disk: Option<Disk>,
    pub(super) history: Held,
    pub(super) memory: Memory,
    pub(super) process: Process,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) redis: Option<Redis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issuer: Option<Issuer>,
    pub(super) webhooks: Vec<Webhook>,
    pub(super) errors: Vec<Trouble>,
}

impl Said {
    /// How the node is, in a line.
    pub(super) fn summary(&self) -> String {
        match self.failing.first() {
            None => {
                format!("Serving, sessions: {}", self.sessions.websocket + self.sessions.sse)
            }
            Some(Failing { check, detail, .. }) => format!("Not ready: {check}: {detail}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Failing {
    pub(super) check: &'static str,
    pub(super) detail: String,
    pub(super) since_ms: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Sessions {
    pub(super) websocket: i64,
    pub(super) sse: i64,
    pub(super) limit: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Sockets {
    pub(super) open: u64,
    pub(super) limit: u64,
}

/// What came to pass, since the start or within a period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    pub(super) published: u64,
    pub(super) published_bytes: u64,
    pub(super) superseded: u64,
    pub(super) repeated: u64,
    pub(super) delivered: u64,
    pub(super) written_bytes: u64,
    pub(super) replayed: u64,
    pub(super) conflated: u64,
    pub(super) skipped: u64,
    pub(super) gaps: u64,
    pub(super) refused: u64,
    pub(super) connected: u64,
    pub(super) closed: u64,
}

impl Totals {
    /// What came to pass since an earlier moment.
    pub(super) fn since(&self, before: &Self) -> Self {
        let since = |of: fn(&Self) -> u64| of(self).saturating_sub(of(before));
        Self {
            published: since(|it| it.published),
            published_bytes: since(|it| it.published_bytes),
            superseded: since(|it| it.superseded),
            repeated: since(|it| it.repeated),
            delivered: since(|it| it.delivered),
            written_bytes: since(|it| it.written_bytes),
            replayed: since(|it| it.replayed),
            conflated: since(|it| it.conflated),
            skipped: since(|it| it.skipped),
            gaps: since(|it| it.gaps),
            refused: since(|it| it.refused),
            connected: since(|it| it.connected),
            closed: since(|it| it.closed),
        }
    }
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Latencies {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) commit: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delivery: Option<Latency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) relay: Option<Latency>,
}

#[derive(Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) count: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Queue {
    pub(super) bytes: u64,
    pub(super) largest_bytes: u64,
    pub(super) limit_bytes: u64,
    pub(super) inbox: u64,
    pub(super) inbox_limit: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Slowest {
    pub(super) session: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    pub(super) transport: &'static str,
    pub(super) queued_bytes: u64,
    pub(super) lag_ms: u64,
    pub(super) skipped: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Disk {
    pub(super) used_bytes: u64,
    pub(super) limit_bytes: u64,
    pub(super) free_bytes: u64,
    #[serde(skip)]
    pub(super) wal_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Held {
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) events: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) topics: Option<u64>,
    pub(super) bytes: u64,
    pub(super) limit_bytes: u64,
    pub(super) pending_bytes: u64,
    pub(super) pending_limit_bytes: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Memory {
    pub(super) rss_bytes: u64,
    pub(super) limit_bytes: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Process {
    pub(super) cpu_ms: u64,
    pub(super) threads: u64,
    pub(super) descriptors: u64,
    pub(super) descriptors_limit: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Redis {
    pub(super) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    pub(super) since_ms: u64,
    pub(super) reconnects: u64,
    pub(super) nodes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Issuer {
    pub(super) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    pub(super) since_ms: u64,
    pub(super) has_keys: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keys_age_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Webhook {
    pub(super) name: String,
    pub(super) turn: bool,
    pub(super) lag_ms: u64,
    pub(super) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outcome_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Trouble {
    pub(super) time: String,
    pub(super) level: &'static str,
    pub(super) message: String,
}
