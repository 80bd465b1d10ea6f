//! A finished span, before it is written as anything.

use std::time::SystemTime;

use super::Outcome;
use crate::clock::Instant;
use crate::metrics::Way;
use crate::model::{Cursor, SpanContext, Topic};

/// A step of an event's road.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// From a publish's arrival at the broker until its answer is known.
    Publish {
        /// The way it came.
        way: Way,
        /// Its events.
        events: usize,
        /// Their data, in bytes.
        bytes: usize,
        /// What became of it.
        outcome: Outcome,
    },
    /// From there until the history has it.
    Commit {
        /// What became of it.
        outcome: Outcome,
    },
    /// From the commit in Redis until a node has the event.
    Relay,
    /// From when a worker took the event until it has written it.
    Write {
        /// To how many sessions.
        sessions: u64,
    },
}

/// A finished span.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) step: Step,
    pub(super) context: SpanContext,
    /// The span that it is part of.
    pub(super) parent: Option<Parent>,
    /// The topic of its event, or of the first.
    pub(super) topic: Topic,
    /// The place of its event, where it is of one that has a place.
    pub(super) event: Option<Cursor>,
    pub(super) begin: SystemTime,
    pub(super) end: SystemTime,
}

/// The span that another is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) id: [u8; 8],
    /// Whether another process records it.
    pub(super) is_remote: bool,
}

/// A new span of the same trace.
pub(super) fn within(trace: [u8; 16]) -> SpanContext {
    SpanContext { trace, span: id(), is_sampled: true }
}

/// An id of a span that is not zero, which stands for none.
fn id() -> [u8; 8] {
    rand::random_range(1..=u64::MAX).to_be_bytes()
}

/// An id of a trace, likewise.
pub(super) fn trace_id() -> [u8; 16] {
    rand::random_range(1..=u128::MAX).to_be_bytes()
}

/// Tells what time of day moments were.
pub(super) struct Times {
    now: Instant,
    time: SystemTime,
}

impl Times {
    pub(super) fn now() -> Self {
        Self { now: Instant::now(), time: SystemTime::now() }
    }

    /// When a moment was that lies behind us.
    pub(super) fn of(&self, moment: Instant) -> SystemTime {
        self.time - self.now.saturating_duration_since(moment)
    }

    /// The time of day now.
    pub(super) fn time(&self) -> SystemTime {
        self.time
    }
}
