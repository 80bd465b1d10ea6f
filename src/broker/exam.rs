//! How sessions keep up: what waits for them, since when, and what they did not get.

use std::cmp::Reverse;
use std::sync::Arc;

use super::Transport;
use super::subscriber::Strain;

/// How many of the slowest sessions are named.
pub(super) const SLOWEST: usize = 5;

/// One of the slowest sessions.
#[derive(Debug, Clone)]
pub struct Slow {
    /// Its id.
    pub session: Arc<str>,
    /// Who it belongs to.
    pub user: Option<String>,
    /// How it is connected.
    pub transport: Transport,
    /// How it keeps up.
    pub strain: Strain,
}

/// How all sessions of a worker, or of a node, keep up.
#[derive(Debug, Clone, Default)]
pub struct Examined {
    /// How many workers have answered.
    pub workers: usize,
    /// What waits for all of them, in bytes.
    pub queued_bytes: u64,
    /// Those for which most waits, most first; none for which nothing does.
    pub slowest: Vec<Slow>,
}

impl Examined {
    /// How the sessions of both keep up.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.workers += other.workers;
        self.queued_bytes += other.queued_bytes;
        self.slowest.extend(other.slowest);
        self.slowest.sort_by_key(|slow| Reverse(slow.strain.queued_bytes));
        self.slowest.truncate(SLOWEST);
        self
    }
}
