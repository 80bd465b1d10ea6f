//! A publish that is traced, until its answer is known.

use std::sync::Arc;

use super::Outcome;
use super::recorder::Recorder;
use super::span::{Parent, Span, Step, Times, trace_id, within};
use crate::clock::Instant;
use crate::metrics::Way;
use crate::model::{NewEvent, SpanContext, Topic};

/// Of one publish so many events, the first ones, are followed on their way to sessions.
const FOLLOWED: usize = 100;

/// What becomes of a publish whose client left before it was known.
const ABANDONED: Outcome = Outcome::Failed("abandoned");

/// A publish that may be traced. One that nobody says the end of was given up by its client.
pub struct Publishing(Option<Box<Begun>>);

/// A publish that is traced.
struct Begun {
    recorder: Arc<Recorder>,
    publish: SpanContext,
    commit: SpanContext,
    parent: Option<Parent>,
    way: Way,
    topic: Topic,
    events: usize,
    bytes: usize,
    at: Instant,
    commits: Option<Instant>,
    committed: Option<Instant>,
}

impl Publishing {
    /// One that is not traced.
    pub(super) fn untraced() -> Self {
        Self(None)
    }

    /// Traces a publish, after a span of its publisher or as a trace of its own.
    pub(super) fn begin(
        recorder: Arc<Recorder>,
        joined: Option<SpanContext>,
        way: Way,
        events: &mut [NewEvent],
    ) -> Self {
        let Some(topic) = events.first().map(|event| event.topic.clone()) else {
            return Self::untraced();
        };
        let trace = joined.map_or_else(trace_id, |span| span.trace);
        let (publish, commit) = (within(trace), within(trace));
        for event in events.iter_mut().take(FOLLOWED) {
            let envelope = event.envelope.take().unwrap_or_default();
            event.envelope = envelope.with_span(Some(commit));
        }
        Self(Some(Box::new(Begun {
            recorder,
            publish,
            commit,
            parent: joined.map(|span| Parent { id: span.span, is_remote: true }),
            way,
            topic,
            events: events.len(),
            bytes: events.iter().map(|event| event.data.json().get().len()).sum(),
            at: Instant::now(),
            commits: None,
            committed: None,
        })))
    }

    /// The history is asked.
    #[inline]
    pub fn commits(&mut self) {
        if let Some(begun) = &mut self.0 {
            begun.commits = Some(Instant::now());
        }
    }

    /// The history has answered.
    #[inline]
    pub fn committed(&mut self) {
        if let Some(begun) = &mut self.0 {
            begun.committed = Some(Instant::now());
        }
    }

    /// It is known what became of it.
    #[inline]
    pub fn ended(&mut self, outcome: impl FnOnce() -> Outcome) {
        if let Some(begun) = self.0.take() {
            begun.record(outcome());
        }
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.ended(|| ABANDONED);
    }
}

impl Begun {
    fn record(&self, outcome: Outcome) {
        let times = Times::now();
        let span = |step, context, parent, begin, end| Span {
            step,
            context,
            parent,
            topic: self.topic.clone(),
            event: match outcome {
                Outcome::Stored(event) => event,
                _ => None,
            },
            begin: times.of(begin),
            end,
        };
        let Self { way, events, bytes, .. } = *self;
        let publish = Step::Publish { way, events, bytes, outcome };
        self.recorder.record(span(publish, self.publish, self.parent, self.at, times.time()));
        if let Some(commits) = self.commits {
            let end = self.committed.map_or(times.time(), |committed| times.of(committed));
            let parent = Some(Parent { id: self.publish.span, is_remote: false });
            let commit = Step::Commit { outcome };
            self.recorder.record(span(commit, self.commit, parent, commits, end));
        }
    }
}
