//! What the road of an event knows of traces: whether there are any, and where they are recorded.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::channel;
use tokio::sync::watch;
use tokio::time::timeout;

use super::export::Exporter;
use super::publishing::Publishing;
use super::recorder::Recorder;
use crate::clock::Instant;
use crate::config;
use crate::metrics::{TraceNumbers, Way};
use crate::model::{Event, NewEvent, SpanContext};

/// How long a stop waits for the collector to take what is left.
const LAST_EXPORT: Duration = Duration::from_secs(2);

/// Where spans are recorded, if they are. Clones are the same place.
#[derive(Clone, Default)]
pub struct Traces {
    recorder: Option<Arc<Recorder>>,
    /// Whether events come from other nodes too.
    is_one_of_many: bool,
}

/// The span after which the trace of an event goes on at this node; most events have none.
pub type Onward = Option<Box<SpanContext>>;

impl Traces {
    /// Where spans are recorded, and what exports them, if that is configured.
    pub fn open(
        config: Option<&config::Traces>,
        numbers: &TraceNumbers,
    ) -> (Self, Option<Exporter>) {
        let Some(config) = config else { return (Self::default(), None) };
        let (finished, spans) = channel(config.queue.max(1));
        let (stopping, stop) = watch::channel(false);
        let recorder = Recorder::new(config, finished, stopping, numbers.clone());
        let traces = Self { recorder: Some(Arc::new(recorder)), is_one_of_many: false };
        (traces, Some(Exporter::new(config.clone(), spans, stop, numbers.clone())))
    }

    /// The same at a node that gets its events from Redis.
    #[must_use]
    pub fn of_one_of_many(&self) -> Self {
        Self { is_one_of_many: true, ..self.clone() }
    }

    /// Whether spans are recorded at all.
    pub fn are_recorded(&self) -> bool {
        self.recorder.is_some()
    }

    /// Traces a publish, where that is to be done: its events carry the trace along from here on.
    #[inline]
    pub fn begin(&self, way: Way, events: &mut [NewEvent]) -> Publishing {
        match &self.recorder {
            None => Publishing::untraced(),
            Some(recorder) => begin(recorder, way, events),
        }
    }

    /// Goes on with the trace of an event that this node got at some moment.
    #[inline]
    pub fn follow(&self, event: &Event, at: Instant) -> Onward {
        let recorder = self.recorder.as_deref()?;
        let span = event.envelope.as_ref()?.span().filter(|span| span.is_sampled)?;
        Some(Box::new(match self.is_one_of_many {
            true => recorder.relayed(event, span, at),
            false => span,
        }))
    }

    pub(super) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_deref()
    }

    /// Has what is left exported, as far as the collector takes it within a moment.
    pub async fn flush(&self) {
        if let Some(recorder) = &self.recorder {
            _ = timeout(LAST_EXPORT, recorder.finish()).await;
        }
    }
}

fn begin(recorder: &Arc<Recorder>, way: Way, events: &mut [NewEvent]) -> Publishing {
    let Some(first) = events.first_mut().filter(|_| way != Way::Broker) else {
        return Publishing::untraced();
    };
    let joined = first.envelope.as_ref().and_then(|envelope| envelope.span());
    if recorder.admits(joined) {
        return Publishing::begin(recorder.clone(), joined, way, events);
    }
    if joined.is_some() {
        // Nobody is to go on with what is not recorded here.
        first.envelope = first.envelope.take().and_then(|envelope| envelope.with_span(None));
    }
    Publishing::untraced()
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::super::span::Step;
    use super::*;
    use crate::model::{Data, Member, Topic};

    fn config(sample: f64, queue: usize) -> config::Traces {
        config::Traces {
            endpoint: config::Hidden("http://127.0.0.1:9/".to_owned()),
            headers: Vec::new(),
            sample,
            per_second: 0,
            queue,
            timeout: Duration::from_secs(1),
            service: "fanfare".to_owned(),
            topics: false,
        }
    }

    fn open(sample: f64, queue: usize) -> (Traces, Exporter) {
        let (traces, exporter) =
            Traces::open(Some(&config(sample, queue)), &TraceNumbers::default());
        (traces, exporter.unwrap())
    }

    fn event() -> NewEvent {
        NewEvent::new(Topic::parse("a").unwrap(), None, Data::null())
    }

    fn span(event: &NewEvent) -> Option<SpanContext> {
        event.envelope.as_ref()?.span()
    }

    #[test]
    fn a_publish_that_its_client_gave_up_is_recorded_as_that() {
        let (traces, mut exporter) = open(1.0, 8);
        let mut events = [event()];
        let mut publishing = traces.begin(Way::Http, &mut events);
        publishing.commits();
        drop(publishing);
        let [publish, commit] = [(); 2].map(|()| exporter.spans.try_recv().unwrap());
        let is_abandoned = |outcome| outcome == Outcome::Failed("abandoned");
        assert!(matches!(publish.step, Step::Publish { outcome, .. } if is_abandoned(outcome)));
        assert!(matches!(commit.step, Step::Commit { outcome } if is_abandoned(outcome)));
        assert_eq!(span(&events[0]), Some(commit.context), "what follows comes after the commit");
        let refused = traces.begin(Way::Http, &mut events);
        drop(refused);
        assert!(exporter.spans.try_recv().is_ok() && exporter.spans.try_recv().is_err());
    }

    #[test]
    fn what_the_broker_publishes_and_what_is_not_sampled_carries_no_trace() {
        let (traces, mut exporter) = open(1.0, 8);
        let mut events = [event()];
        drop(traces.begin(Way::Broker, &mut events));
        assert_eq!(span(&events[0]), None);
        let not_sampled = SpanContext { trace: [1; 16], span: [2; 8], is_sampled: false };
        let members = [Member::Span(not_sampled), Member::Version(1)];
        events[0].envelope = Some(Box::new(members.into_iter().collect()));
        drop(traces.begin(Way::Http, &mut events));
        let left = events[0].envelope.as_ref().unwrap();
        assert_eq!(left.members().collect::<Vec<_>>(), [Member::Version(1)]);
        assert!(exporter.spans.try_recv().is_err());
    }

    #[test]
    fn what_was_recorded_before_all_else_was_gone_is_posted_and_nothing_more_is_waited_for() {
        let (said, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let (traces, mut exporter) = open(1.0, 8);
                drop(traces.begin(Way::Http, &mut [event()]));
                drop(traces);
                let counts = [exporter.gather().await, exporter.gather().await];
                _ = said.send(counts.map(|spans| spans.map(|spans| spans.len())));
            });
        });
        // On a thread of its own: who asks for more again and again lets nobody else run.
        let counts = heard.recv_timeout(Duration::from_secs(30));
        assert_eq!(counts, Ok([Some(1), None]));
    }

    #[test]
    fn without_a_configuration_nothing_is_recorded_and_nothing_is_to_be_flushed() {
        let (traces, exporter) = Traces::open(None, &TraceNumbers::default());
        assert!(exporter.is_none() && !traces.are_recorded());
        let mut events = [event()];
        drop(traces.begin(Way::Http, &mut events));
        assert!(events[0].envelope.is_none());
    }
}
