//! Whether this broker goes, as all its threads see it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::Instant;

/// How far a stop has come. Steps follow each other and none is taken back.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    /// Until when it serves on, once it is known that it goes.
    leaves_at: OnceLock<Instant>,
    /// No session comes in any more.
    is_draining: AtomicBool,
}

impl Outlook {
    /// It goes, and serves on until then. The first word counts.
    pub(super) fn leave(&self, at: Instant) {
        _ = self.leaves_at.set(at);
    }

    /// Nobody comes in from here on.
    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// Whether it goes.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaves_at.get().is_some() || self.is_draining()
    }

    /// Whether nobody comes in any more.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// How long sessions have to go elsewhere; nothing where they need not, or there is no time for that.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.leaves_at.get()?.saturating_duration_since(now);
        (!left.is_zero() && !self.is_draining()).then_some(left)
    }
}
