//! What is kept of every topic's history together.

use std::path::PathBuf;
use std::time::Duration;

/// What is kept of every topic's history together; what is kept of one topic is in its [`Rule`](super::Rule).
#[derive(Debug, Clone)]
pub struct History {
    /// The data directory.
    pub path: PathBuf,
    /// Whether a publish waits until the disk itself has it, and survives a power failure.
    pub fsync: bool,
    /// The most bytes kept on disk of all topics: data, addresses and a flat charge an event.
    pub disk_bytes: usize,
    /// Bytes of the disk that are kept back for removals.
    pub reserve_bytes: usize,
    /// The most bytes of SQLite's log while another process holds it.
    pub wal_bytes: usize,
    /// The most bytes kept in memory of all topics, counted alike.
    pub memory_bytes: usize,
    /// The most bytes kept in Redis of all topics, counted alike.
    pub redis_bytes: usize,
    /// The most bytes of the newest events and of current values that are at hand in memory beside all that,
    /// counted alike with what is noted of them.
    pub at_hand_bytes: usize,
    /// The most values that stay beyond their age or the bytes of all topics.
    pub newest_topics: usize,
    /// The most bytes of them, counted alike.
    pub newest_bytes: usize,
    /// The most bytes of events that wait for the disk or for Redis, counted alike.
    pub pending_bytes: usize,
    /// How long a publish waits for the disk.
    pub commit_timeout: Duration,
    /// How long an idempotency key is remembered.
    pub idempotency_window: Duration,
    /// The most idempotency keys remembered at once.
    pub idempotency_keys: usize,
    /// The most values that are bound to one session: `limits.bound_topics`.
    pub bound_topics: usize,
    /// How long they stay after it was cut: `limits.bound_linger`.
    pub bound_linger: Duration,
}
