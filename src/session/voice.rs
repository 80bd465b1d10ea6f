//! What is said to one client: in its wire form, into its outbox.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::encoding::Encoding;
use super::outbox::Full;
use super::outgoing::Outgoing;
use crate::broker::{Delivered, Delivery};
use crate::clock::Instant;
use crate::metrics::{Asker, Gap, Metrics};
use crate::model::{Close, Event, Problem};
use crate::protocol::{Annotations, Reply};

/// How far a reconnect may be delayed beyond what the table of closes says, as a factor, so that
/// not all clients come back at once.
const JITTER: std::ops::Range<f64> = 1.0..2.0;

/// What speaks to one client.
pub struct Voice {
    encoding: Encoding,
    outgoing: Arc<Outgoing>,
    metrics: Arc<Metrics>,
    /// Heartbeats are messages, for the program behind the connection to see.
    shows_heartbeats: bool,
    /// Something could not be said, for too much waits already.
    is_full: bool,
    /// How many events it did not get, for newer ones took their place.
    skipped: u64,
}

impl Voice {
    /// Speaks in a wire form into an outbox.
    pub fn new(encoding: Encoding, outgoing: Arc<Outgoing>, metrics: Arc<Metrics>) -> Self {
        Self { encoding, outgoing, metrics, shows_heartbeats: false, is_full: false, skipped: 0 }
    }

    /// Has heartbeats be messages, or not.
    pub fn show_heartbeats(&mut self, shown: bool) {
        self.shows_heartbeats = shown;
    }

    /// The outbox that it fills.
    pub fn outgoing(&self) -> &Arc<Outgoing> {
        &self.outgoing
    }

    /// Whether something could not be said.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Says the first word, behind the transport's own first bytes, if it has any. It leaves even
    /// where the session ends at once.
    pub fn welcome(&self, before: &[u8], welcome: &Reply<'_>) {
        let mut first = BytesMut::from(before);
        first.extend_from_slice(&self.encoding.reply(welcome).unwrap_or_default());
        self.outgoing.begin(first.freeze());
    }

    /// Says something that is not an event.
    pub fn reply(&mut self, reply: &Reply<'_>) {
        if let Some(message) = self.encoding.reply(reply) {
            self.push(message);
        }
    }

    /// Says that there is a gap, which is there for a reason.
    pub fn gap(&mut self, why: Gap, gap: &Reply<'_>) {
        self.metrics.road.gap(why);
        self.reply(gap);
    }

    /// The subscribe that began then is live.
    pub fn note_live(&self, begun: Instant) {
        self.metrics.road.subscribe.observe(begun.elapsed());
    }

    /// How many events the client did not get, for newer ones took their place.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Says that a request is refused.
    pub fn refuse(&mut self, reference: Option<u64>, problem: &Problem) {
        self.metrics.refusals.note(problem, Asker::default());
        let (code, message) = (problem.code, &problem.detail);
        self.reply(&Reply::Error { reference, code, message, event: problem.newest() });
    }

    /// Says that the connection is alive. A message has no answer, so where the client is to be heard too, it
    /// comes beside what does.
    pub fn heartbeat(&mut self) {
        if self.shows_heartbeats {
            self.reply(&Reply::Heartbeat);
        }
        if !self.shows_heartbeats || self.encoding.is_answered() {
            self.push(self.encoding.heartbeat());
        }
    }

    /// Sends an event out of the history.
    pub fn replay(&mut self, event: &Event, annotations: &Annotations) {
        self.metrics.events_replayed.inc();
        self.event(event, annotations);
    }

    /// Sends an event with annotations.
    pub fn event(&mut self, event: &Event, annotations: &Annotations) {
        self.push(self.encoding.event(event, annotations));
    }

    /// Sends a live event, in bytes that sessions share.
    #[inline]
    pub fn live(&mut self, delivery: &Delivery) -> Delivered {
        self.push_quietly(self.encoding.live(delivery))
    }

    /// Sends an event that took the place of `skipped` others of its topic.
    pub fn conflated(&mut self, delivery: &Delivery, skipped: u64) -> Delivered {
        self.note_skipped(skipped);
        self.push_quietly(self.in_place_of(delivery, skipped))
    }

    /// The same, where nothing that came with it asks for a flush.
    pub fn conflated_at_once(&mut self, delivery: &Delivery, skipped: u64) {
        self.note_skipped(skipped);
        self.push(self.in_place_of(delivery, skipped));
    }

    fn note_skipped(&mut self, skipped: u64) {
        if skipped > 0 {
            self.skipped += skipped;
            self.metrics.road.conflated.inc();
            self.metrics.road.skipped.add(skipped);
        }
    }

    fn in_place_of(&self, delivery: &Delivery, skipped: u64) -> Bytes {
        match skipped {
            0 => self.encoding.conflated(delivery),
            skipped => {
                let annotations =
                    Annotations { conflated: true, skipped, ..Annotations::default() };
                self.encoding.event(&delivery.event, &annotations)
            }
        }
    }

    /// Says good-bye, once. Who lost the right to be here, or does not read, gets nothing else that
    /// still waits.
    pub fn good_bye(&self, close: Close) {
        if self.outgoing.is_closing() {
            return;
        }
        let jitter = |after: u32| (f64::from(after) * rand::random_range(JITTER)) as u32;
        let good_bye =
            self.encoding.good_bye(close, close.message(), close.retry_after_ms().map(jitter));
        let drop_waiting = matches!(
            close,
            Close::Policy | Close::Unauthorized | Close::Forbidden | Close::SlowConsumer
        );
        self.outgoing.close(good_bye, drop_waiting);
    }

    fn push(&mut self, message: Bytes) {
        if self.outgoing.push(message).is_err() {
            self.is_full = true;
        }
    }

    #[inline]
    fn push_quietly(&mut self, message: Bytes) -> Delivered {
        match self.outgoing.push_quietly(message) {
            Ok(true) => Delivered::ToFlush,
            Ok(false) => Delivered::Quietly,
            Err(Full) => {
                self.is_full = true;
                Delivered::Full
            }
        }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        // Where nobody speaks any more, the transport ends too.
        self.outgoing.close([], false);
    }
}
