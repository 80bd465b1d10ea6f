//! Who decides what is traced, and takes the spans.
//!
//! A `traceparent` decides by itself; what comes without is traced by chance. Both are bounded by a rate, so that
//! nobody who may publish can have the broker do nothing but trace.

use std::sync::Mutex;
use std::time::{Duration, Instant as Moment, SystemTime};

use tokio::sync::mpsc::Sender;
use tokio::sync::watch;

use super::span::{Parent, Span, Step, Times, within};
use crate::clock::Instant;
use crate::config;
use crate::metrics::{SpanFate, TraceNumbers};
use crate::model::{Allowance, Event, SpanContext};
use crate::panics::lock;

/// Who decides what is traced, and takes the spans.
pub(super) struct Recorder {
    sample: f64,
    per_second: usize,
    traced: Mutex<Allowance>,
    finished: Sender<Span>,
    stopping: watch::Sender<bool>,
    numbers: TraceNumbers,
}

impl Recorder {
    pub(super) fn new(
        config: &config::Traces,
        finished: Sender<Span>,
        stopping: watch::Sender<bool>,
        numbers: TraceNumbers,
    ) -> Self {
        let (sample, per_second) = (config.sample, config.per_second);
        Self { sample, per_second, traced: Mutex::default(), finished, stopping, numbers }
    }

    /// Whether a publish is traced that may be part of a trace already.
    pub(super) fn admits(&self, joined: Option<SpanContext>) -> bool {
        joined.map_or_else(|| self.picks(), |span| span.is_sampled) && self.has_room()
    }

    /// Whether chance has a publish traced.
    fn picks(&self) -> bool {
        self.sample > 0.0 && rand::random::<f64>() < self.sample
    }

    fn has_room(&self) -> bool {
        let has_room = lock(&self.traced).take(1, self.per_second, Moment::now());
        self.numbers.begun(has_room);
        has_room
    }

    /// Takes a span, unless too many wait.
    pub(super) fn record(&self, span: Span) {
        if self.finished.try_send(span).is_err() {
            self.numbers.ended(SpanFate::Dropped, 1);
        }
    }

    /// The span of an event's way from its commit through Redis.
    pub(super) fn relayed(&self, event: &Event, from: SpanContext, at: Instant) -> SpanContext {
        let context = within(from.trace);
        let end = Times::now().of(at);
        // By the clock of Redis, which may be ahead of ours.
        let millis = u64::try_from(event.time.millis()).unwrap_or(0);
        let begin = end.min(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        self.record(Span {
            step: Step::Relay,
            context,
            parent: Some(Parent { id: from.span, is_remote: true }),
            topic: event.topic.clone(),
            event: event.cursor,
            begin,
            end,
        });
        context
    }

    /// Has what is left exported, and waits until that is over.
    pub(super) async fn finish(&self) {
        self.stopping.send_replace(true);
        self.finished.closed().await;
    }
}
