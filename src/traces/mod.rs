//! Where an event's time went: spans of its road, for a collector of OpenTelemetry.
//!
//! A publish that is traced has a span of its own and one of its commit; the event then carries the latter along
//! ([`Member::Span`](crate::model::Member::Span)), also through Redis, so that the nodes that get it and the workers that
//! write it add theirs. Whoever records a span waits for nobody: it is put into a bounded queue, out of which a task
//! of its own exports. Without the feature `otlp` all of this is nothing, under the same names.

#[cfg(not(feature = "otlp"))]
mod absent;
#[cfg(feature = "otlp")]
mod export;
#[cfg(feature = "otlp")]
mod handle;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(feature = "otlp")]
mod publishing;
#[cfg(feature = "otlp")]
mod recorder;
#[cfg(feature = "otlp")]
mod span;
#[cfg(feature = "otlp")]
mod writes;

#[cfg(not(feature = "otlp"))]
pub use self::absent::{Exporter, Onward, Publishing, Traces, Writes};
#[cfg(feature = "otlp")]
pub use self::export::Exporter;
#[cfg(feature = "otlp")]
pub use self::handle::{Onward, Traces};
#[cfg(feature = "otlp")]
pub use self::publishing::Publishing;
#[cfg(feature = "otlp")]
pub use self::writes::Writes;
use crate::model::Cursor;

/// What became of a publish that is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was stored, or passed on: the place of its one event, where it is one and has a place.
    Stored(Option<Cursor>),
    /// It had been stored before, under the same key.
    Repeated,
    /// Newer values stand there.
    Superseded,
    /// It was not, for a reason of this name.
    Failed(&'static str),
}
