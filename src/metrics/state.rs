//! How things stand: what is looked at once a second, and is as of then where it is scraped.

use prometheus_client::registry::{Registry, Unit};

use super::table::{Copied, Level, Table};

/// Where a history may be kept.
pub const KINDS: [&str; 3] = ["memory", "disk", "redis"];

/// What has to be well for the broker to be ready.
pub const CHECKS: [&str; 3] = ["history", "serving", "redis"];

/// How things stand.
#[derive(Debug)]
pub struct State {
    /// Whether all checks pass.
    pub ready: Level,
    failing: Table<Level>,
    /// Open connections of all kinds.
    pub sockets: Level,
    /// How many there may be.
    pub sockets_limit: Level,
    /// How many sessions there may be.
    pub sessions_limit: Level,
    /// What waits for all clients, in bytes.
    pub queue: Level,
    /// What waits for the client for which most does.
    pub queue_largest: Level,
    /// What may wait for one.
    pub queue_limit: Level,
    /// The longest inbox of a worker.
    pub inbox: Level,
    /// How long one may be.
    pub inbox_limit: Level,
    history_bytes: Table<Level>,
    history_limit: Table<Level>,
    history_events: Table<Level>,
    /// What waits for the disk or for Redis.
    pub pending: Level,
    /// What may.
    pub pending_limit: Level,
    /// What the files of the history take.
    pub disk_used: Level,
    /// What they may.
    pub disk_limit: Level,
    /// What is free on their file system.
    pub disk_free: Level,
    /// What of them is SQLite's log.
    pub wal: Level,
    /// What of the history is at hand.
    pub at_hand: Level,
    /// The memory that the process may use.
    pub memory_limit: Level,
    /// Nodes that are there, this one included.
    pub nodes: Level,
    /// How long ago the keys were fetched that tokens are checked with.
    pub keys_age: Level,
}

impl State {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let level = Level::default;
        let by_kind = || Table::by("kind", KINDS, Level::default);
        let state = Self {
            ready: level(),
            failing: Table::by("check", CHECKS, Level::default),
            sockets: level(),
            sockets_limit: level(),
            sessions_limit: level(),
            queue: level(),
            queue_largest: level(),
            queue_limit: level(),
            inbox: level(),
            inbox_limit: level(),
            history_bytes: by_kind(),
            history_limit: by_kind(),
            history_events: by_kind(),
            pending: level(),
            pending_limit: level(),
            disk_used: level(),
            disk_limit: level(),
            disk_free: level(),
            wal: level(),
            at_hand: level(),
            memory_limit: level(),
            nodes: level(),
            keys_age: level(),
        };
        state.register(registry);
        state.register_history(registry);
        state
    }

    fn register(&self, to: &mut Registry) {
        to.register("ready", "1 where all checks pass, as GET /health/ready", self.ready.clone());
        to.register("check_failing", "1 where a check fails, by check", self.failing.clone());
        to.register("sockets", "Open connections of all kinds", self.sockets.clone());
        let help = "How many connections there may be";
        to.register("sockets_limit", help, self.sockets_limit.clone());
        let help = "How many sessions there may be (limits.connections)";
        to.register("sessions_limit", help, self.sessions_limit.clone());
        let help = "What waits for all clients";
        to.register_with_unit("queue", help, Unit::Bytes, self.queue.clone());
        let help = "What waits for the client for which most does";
        to.register_with_unit("queue_largest", help, Unit::Bytes, self.queue_largest.clone());
        let help = "What may wait for one client (limits.outbox_bytes)";
        to.register_with_unit("queue_limit", help, Unit::Bytes, self.queue_limit.clone());
        let help = "What waits in the longest inbox of a worker thread";
        to.register("inbox_events", help, self.inbox.clone());
        let help = "How much may wait in one (limits.inbox_events)";
        to.register("inbox_limit_events", help, self.inbox_limit.clone());
        let help = "The memory that the process may use: of its control group, or of the machine";
        to.register_with_unit("memory_limit", help, Unit::Bytes, self.memory_limit.clone());
        let help = "Nodes that are there, this one included";
        to.register("nodes", help, self.nodes.clone());
        let help =
            "How long ago the keys were fetched that tokens are checked with (auth.jwks_url)";
        to.register_with_unit("published_keys_age", help, Unit::Seconds, self.keys_age.clone());
    }

    fn register_history(&self, to: &mut Registry) {
        let help = "What is kept, by where, as every bound on a history counts it";
        to.register_with_unit("history", help, Unit::Bytes, self.history_bytes.clone());
        let help = "What may be kept, by where";
        to.register_with_unit("history_limit", help, Unit::Bytes, self.history_limit.clone());
        let help = "Events that are kept, by where, as far as they are counted";
        to.register("history_events", help, self.history_events.clone());
        let help = "What waits for the disk or for Redis";
        to.register_with_unit("history_pending", help, Unit::Bytes, self.pending.clone());
        let help = "What may wait for them (history.pending_bytes)";
        to.register_with_unit(
            "history_pending_limit",
            help,
            Unit::Bytes,
            self.pending_limit.clone(),
        );
        let help = "What the files of the history take";
        to.register_with_unit("disk_used", help, Unit::Bytes, self.disk_used.clone());
        let help = "What the files of the history may take";
        to.register_with_unit("disk_limit", help, Unit::Bytes, self.disk_limit.clone());
        let help = "What is free on the file system of the history";
        to.register_with_unit("disk_free", help, Unit::Bytes, self.disk_free.clone());
        let help = "What SQLite's log takes of the files of the history";
        to.register_with_unit("history_wal", help, Unit::Bytes, self.wal.clone());
        let help = "Copies in memory of what the history has, for clients that come back";
        to.register_with_unit("history_at_hand", help, Unit::Bytes, self.at_hand.clone());
    }

    /// A check passes or fails.
    pub fn check(&self, name: &str, is_failing: bool) {
        let row = CHECKS.iter().position(|check| *check == name);
        if let Some(level) = row.and_then(|row| self.failing.at(row)) {
            level.set(if is_failing { 1.0 } else { 0.0 });
        }
    }

    /// What is kept at a place, how much may be, and how many events that are.
    pub fn kept(&self, kind: &str, bytes: u64, limit: u64, events: u64) {
        let Some(row) = KINDS.iter().position(|known| *known == kind) else { return };
        for (table, value) in [
            (&self.history_bytes, bytes),
            (&self.history_limit, limit),
            (&self.history_events, events),
        ] {
            if let Some(level) = table.at(row) {
                level.set(value as f64);
            }
        }
    }
}

/// The process, in the words that all exporters have for it.
#[derive(Debug, Default)]
pub struct Process {
    /// Seconds of processor time, of all threads.
    pub cpu: Copied,
    /// Memory in use, in bytes.
    pub rss: Level,
    /// Open descriptors.
    pub descriptors: Level,
    /// How many there may be.
    pub descriptors_limit: Level,
    /// Threads.
    pub threads: Level,
    /// When it started, in seconds since 1970.
    pub started: Level,
}

impl Process {
    pub(super) fn register(&self, to: &mut Registry) {
        let help = "Processor time of all threads";
        to.register_with_unit("process_cpu", help, Unit::Seconds, self.cpu.clone());
        let help = "Memory in use";
        to.register_with_unit("process_resident_memory", help, Unit::Bytes, self.rss.clone());
        to.register("process_open_fds", "Open descriptors", self.descriptors.clone());
        let help = "How many descriptors there may be";
        to.register("process_max_fds", help, self.descriptors_limit.clone());
        to.register("process_threads", "Threads", self.threads.clone());
        let help = "When the process started, since 1970";
        to.register_with_unit("process_start_time", help, Unit::Seconds, self.started.clone());
    }
}
