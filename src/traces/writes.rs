//! Events that are traced and on their way to the sockets of one worker.

use super::handle::{Onward, Traces};
use super::span::{Parent, Span, Step, Times, within};
use crate::clock::Instant;
use crate::model::{Cursor, Event, SpanContext, Topic};

/// How many events may be on their way and be traced; of more the rest is not.
const FOLLOWED: usize = 1_024;

/// Events that are traced and on their way to the sockets of one worker.
#[derive(Debug, Default)]
pub struct Writes(Vec<Write>);

#[derive(Debug)]
struct Write {
    after: SpanContext,
    topic: Topic,
    event: Option<Cursor>,
    sessions: u64,
    taken: Instant,
}

impl Writes {
    /// An event was given to so many sessions.
    #[inline]
    pub fn taken(&mut self, onward: &Onward, event: &Event, sessions: u64, taken: Instant) {
        if let Some(after) = onward.as_deref()
            && self.0.len() < FOLLOWED
        {
            let (topic, event) = (event.topic.clone(), event.cursor);
            self.0.push(Write { after: *after, topic, event, sessions, taken });
        }
    }

    /// All of them are written, as far as sockets take them.
    #[inline]
    pub fn written(&mut self, traces: &Traces, now: Instant) {
        if !self.0.is_empty() {
            self.record(traces, now);
        }
    }

    fn record(&mut self, traces: &Traces, now: Instant) {
        let times = Times::now();
        for Write { after, topic, event, sessions, taken } in self.0.drain(..) {
            if let Some(recorder) = traces.recorder() {
                recorder.record(Span {
                    step: Step::Write { sessions },
                    context: within(after.trace),
                    parent: Some(Parent { id: after.span, is_remote: false }),
                    topic,
                    event,
                    begin: times.of(taken),
                    end: times.of(now),
                });
            }
        }
    }
}
