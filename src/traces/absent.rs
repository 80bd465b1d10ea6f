//! No traces: what a binary without the feature `otlp` has in their place, of no size, and nothing to do.

use super::Outcome;
use crate::clock::Instant;
use crate::config;
use crate::metrics::{TraceNumbers, Way};
use crate::model::{Event, NewEvent, Topic};

/// Where spans would be recorded.
#[derive(Debug, Clone, Default)]
pub struct Traces(());

/// What would export them.
#[derive(Debug)]
pub struct Exporter;

/// A publish that is not traced.
#[derive(Debug)]
pub struct Publishing(());

/// No span after which a trace goes on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Onward(());

/// No events whose writing is traced.
#[derive(Debug, Default)]
pub struct Writes(());

impl Traces {
    /// Nothing.
    pub fn open(_: Option<&config::Traces>, _: &TraceNumbers) -> (Self, Option<Exporter>) {
        (Self(()), None)
    }

    /// The same.
    #[must_use]
    pub fn of_one_of_many(&self) -> Self {
        Self(())
    }

    /// They are not.
    #[inline]
    pub const fn are_recorded(&self) -> bool {
        false
    }

    /// Traces no publish.
    #[inline]
    pub fn begin(&self, _: Way, _: &mut [NewEvent]) -> Publishing {
        Publishing(())
    }

    /// Goes on with no trace.
    #[inline]
    pub fn follow(&self, _: &Event, _: Instant) -> Onward {
        Onward(())
    }

    /// Has nothing to wait for.
    pub async fn flush(&self) {}
}

impl Exporter {
    /// Exports nothing.
    pub async fn run(self, _: String, _: impl Fn(&Topic) -> Option<String>) {}
}

impl Publishing {
    /// Notes nothing.
    #[inline]
    pub fn commits(&mut self) {}

    /// Notes nothing.
    #[inline]
    pub fn committed(&mut self) {}

    /// Notes nothing.
    #[inline]
    pub fn ended(&mut self, _: impl FnOnce() -> Outcome) {}
}

impl Writes {
    /// Notes nothing.
    #[inline]
    pub fn taken(&mut self, _: &Onward, _: &Event, _: u64, _: Instant) {}

    /// Records nothing.
    #[inline]
    pub fn written(&mut self, _: &Traces, _: Instant) {}
}
