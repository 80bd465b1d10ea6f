//! What is said to one client: by who talks its language, into its outbox.

use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::encoding::Encoding;
use super::house::House;
use super::outbox::Full;
use super::outgoing::Outgoing;
use crate::broker::{Delivered, Delivery};
use crate::clock::Instant;
use crate::metrics::{Asker, Gap};
use crate::model::{Close, Code, Event, Pattern, Problem, Topic};
use crate::protocol::{
    Annotations, Beats, ClientMessage, Out, ParseLimits, Refused, Reply, Request, Requests, Said,
    Talk,
};

/// How far a reconnect may be delayed beyond what the table of closes says, as a factor, so that
/// not all clients come back at once.
const JITTER: std::ops::Range<f64> = 1.0..2.0;

/// What speaks to one client.
pub struct Voice {
    talk: Box<dyn Talk>,
    encoding: Encoding,
    outgoing: Arc<Outgoing>,
    house: Rc<House>,
    /// Heartbeats are messages, for the program behind the connection to see.
    shows_heartbeats: bool,
    /// Live events are shown to who talks.
    claims: bool,
    /// Something could not be said, for too much waits already.
    is_full: bool,
    /// What is held back, in bytes.
    held_bytes: usize,
    /// How many events it did not get, for newer ones took their place.
    skipped: u64,
}

impl Voice {
    /// Speaks as `talk` does, in a form, into an outbox.
    pub fn new(
        talk: Box<dyn Talk>,
        encoding: Encoding,
        outgoing: Arc<Outgoing>,
        house: Rc<House>,
    ) -> Self {
        let claims = talk.claims();
        Self {
            talk,
            encoding,
            outgoing,
            house,
            shows_heartbeats: false,
            claims,
            is_full: false,
            held_bytes: 0,
            skipped: 0,
        }
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

    /// What a message of the client asks.
    pub fn hear(
        &mut self,
        message: ClientMessage<'_>,
        limits: &ParseLimits,
    ) -> Result<Vec<Request>, Refused> {
        let mut requests = Requests::new(limits.requests);
        self.talk.hear(message, limits, self.house.clock.now(), &mut requests)?;
        Ok(requests.into_vec())
    }

    /// Says the first word, behind the transport's own first bytes, if it has any. It leaves even
    /// where the session ends at once.
    pub fn welcome(&mut self, before: &[u8], welcome: &Reply<'_>) {
        let mut first = BytesMut::from(before);
        let encoding = &self.encoding;
        let now = self.house.clock.now();
        self.talk.say(welcome, now, &mut |payload| {
            first.extend_from_slice(&encoding.message(payload));
        });
        self.outgoing.begin(first.freeze());
    }

    /// Says something that is not an event.
    pub fn reply(&mut self, reply: &Reply<'_>) {
        let now = self.house.clock.now();
        self.utter(|talk, out| talk.say(reply, now, out));
    }

    /// Has who talks say something.
    fn utter<R>(&mut self, say: impl FnOnce(&mut dyn Talk, Out<'_>) -> R) -> R {
        let Self { talk, encoding, outgoing, is_full, .. } = self;
        let said = say(&mut **talk, &mut |payload| {
            *is_full |= outgoing.push(encoding.message(payload)).is_err();
        });
        let held_bytes = talk.held_bytes();
        if held_bytes != self.held_bytes {
            self.held_bytes = held_bytes;
            self.is_full |= outgoing.hold(held_bytes).is_err();
        }
        said
    }

    /// Keeps, of what is held back, events of topics of which this says so.
    pub fn retain(&mut self, keeps: impl Fn(&Topic) -> bool) {
        if self.held_bytes > 0 {
            self.utter(|talk, _| talk.retain(&keeps));
        }
    }

    /// Says that the right to what a pattern matches is lost.
    pub fn lose(&mut self, pattern: &Pattern) {
        let detail = format!("no right to subscribe to {pattern} any more");
        self.house.metrics.refusals.note(&Problem::new(Code::Forbidden, detail), Asker::default());
        self.reply(&Reply::Lost { pattern });
    }

    /// Says that there is a gap, which is there for a reason.
    pub fn gap(&mut self, why: Gap, gap: &Reply<'_>) {
        self.house.metrics.road.gap(why);
        self.reply(gap);
    }

    /// The subscribe that began then is live.
    pub fn note_live(&self, begun: Instant) {
        self.house.metrics.road.subscribe.observe(begun.elapsed());
    }

    /// How many events the client did not get, for newer ones took their place.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Says that a request is refused.
    pub fn refuse(&mut self, reference: Option<u64>, problem: &Problem) {
        self.house.metrics.refusals.note(problem, Asker::default());
        let (code, message) = (problem.code, &problem.detail);
        self.reply(&Reply::Error { reference, code, message, event: problem.newest() });
    }

    /// Says that the connection is alive. Where a message has no answer, and the client is to be heard too, it
    /// comes beside what does.
    pub fn heartbeat(&mut self) {
        let is_message = self.talk.beats() == Beats::Messages;
        if self.shows_heartbeats || is_message {
            self.reply(&Reply::Heartbeat);
        }
        if !is_message && (!self.shows_heartbeats || self.encoding.is_answered()) {
            self.push(self.encoding.heartbeat());
        }
    }

    /// So many events out of the history were sent.
    pub fn note_replayed(&self, events: u64) {
        self.house.metrics.events_replayed.inc_by(events);
    }

    /// Sends an event with annotations, in bytes that those share who come back.
    pub fn event(&mut self, event: &Event, annotations: &Annotations) {
        if self.utter(|talk, out| talk.event(event, annotations, out)) == Said::InItsForm {
            let mut forms = self.house.forms.borrow_mut();
            let message = self.encoding.told(event, annotations, &mut forms);
            drop(forms);
            self.push(message);
        }
    }

    /// Sends a live event, in bytes that sessions share.
    #[inline]
    pub fn live(&mut self, delivery: &Delivery) -> Delivered {
        match self.claims && self.is_claimed(delivery, &Annotations::default()) {
            true => self.claimed(),
            false => self.push_quietly(self.encoding.live(delivery)),
        }
    }

    /// Shows a live event to who talks; whether it was said otherwise than in its form.
    #[cold]
    fn is_claimed(&mut self, delivery: &Delivery, annotations: &Annotations) -> bool {
        self.utter(|talk, out| talk.event(&delivery.event, annotations, out)) == Said::Otherwise
    }

    fn claimed(&self) -> Delivered {
        if self.is_full { Delivered::Full } else { Delivered::ToFlush }
    }

    /// Sends an event that took the place of `skipped` others of its topic.
    pub fn conflated(&mut self, delivery: &Delivery, skipped: u64) -> Delivered {
        self.note_skipped(skipped);
        match self.in_place_of(delivery, skipped) {
            Some(message) => self.push_quietly(message),
            None => self.claimed(),
        }
    }

    /// The same, where nothing that came with it asks for a flush.
    pub fn conflated_at_once(&mut self, delivery: &Delivery, skipped: u64) {
        self.note_skipped(skipped);
        if let Some(message) = self.in_place_of(delivery, skipped) {
            self.push(message);
        }
    }

    fn note_skipped(&mut self, skipped: u64) {
        if skipped > 0 {
            self.skipped += skipped;
            self.house.metrics.road.conflated.inc();
            self.house.metrics.road.skipped.add(skipped);
        }
    }

    fn in_place_of(&mut self, delivery: &Delivery, skipped: u64) -> Option<Bytes> {
        let annotations = Annotations { conflated: true, skipped, ..Annotations::default() };
        if self.claims && self.is_claimed(delivery, &annotations) {
            return None;
        }
        Some(match skipped {
            0 => self.encoding.conflated(delivery),
            _ => self.encoding.event(&delivery.event, &annotations),
        })
    }

    /// Says good-bye, once. Who lost the right to be here, or does not read, gets nothing else that
    /// still waits.
    pub fn good_bye(&mut self, close: Close) {
        if self.outgoing.is_closing() {
            return;
        }
        let jitter = |after: u32| (f64::from(after) * rand::random_range(JITTER)) as u32;
        let retry_after_ms = close.retry_after_ms().map(jitter);
        let good_bye = good_bye(
            &mut *self.talk,
            &self.encoding,
            (close, close.message()),
            retry_after_ms,
            self.house.clock.now(),
        );
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

/// The last messages before the broker hangs up. `retry_after_ms` has its jitter already.
pub fn good_bye(
    talk: &mut dyn Talk,
    encoding: &Encoding,
    (close, message): (Close, &str),
    retry_after_ms: Option<u32>,
    now: Instant,
) -> Vec<Bytes> {
    let mut last = Vec::new();
    let bye = Reply::Bye { close, message, retry_after_ms };
    talk.say(&bye, now, &mut |payload| last.push(encoding.message(payload)));
    last.extend(encoding.end(talk.close(close)));
    last
}

impl Drop for Voice {
    fn drop(&mut self) {
        // Where nobody speaks any more, the transport ends too.
        self.outgoing.close([], false);
    }
}
