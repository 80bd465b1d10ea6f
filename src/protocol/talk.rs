//! One side of one conversation: what a client's messages ask, and how the broker says what becomes of that.

use super::{Annotations, Reply, Request};
use crate::clock::Instant;
use crate::model::{Close, Code, Event, Problem, Topic};

/// Who talks for the broker on one connection, in its language. Pure state: no clock, no I/O, and nobody else sees it.
///
/// What it numbers a request by comes back with all that becomes of the request, so that a language whose answers need more
/// than that remembers it here.
pub trait Talk {
    /// What a message asks: nothing, one thing or many, which are done in order. Nothing of a message that is refused is done.
    fn hear(
        &mut self,
        message: ClientMessage<'_>,
        limits: &ParseLimits,
        now: Instant,
        requests: &mut Requests,
    ) -> Result<(), Refused>;

    /// Says something that is not an event, in any number of messages: now, later or never.
    fn say(&mut self, reply: &Reply<'_>, now: Instant, out: Out<'_>);

    /// Takes an event out of the history, or of a topic that it claims. It leaves in the form of its dialect where this says so.
    fn event(&mut self, _event: &Event, _annotations: &Annotations, _out: Out<'_>) -> Said {
        Said::InItsForm
    }

    /// Whether live events are shown to [`Talk::event`], too, for the language says some of them otherwise. The same for as long
    /// as the connection is there.
    fn claims(&self) -> bool {
        false
    }

    /// How heartbeats are shown.
    fn beats(&self) -> Beats {
        Beats::OfTheTransport
    }

    /// The code and reason (at most 123 bytes) of the close frame (RFC 6455, section 5.5.1) that ends the connection.
    fn close(&self, close: Close) -> (u16, &'static str) {
        (close.code(), close.message())
    }

    /// Keeps, of the events that it holds back, those of topics of which this says so: the others are not for the client any more.
    fn retain(&mut self, _keeps: &dyn Fn(&Topic) -> bool) {}

    /// How much it holds back, in bytes: it counts as what waits for the client.
    fn held_bytes(&self) -> usize {
        0
    }
}

/// Takes the messages that leave.
pub type Out<'a> = &'a mut dyn FnMut(Vec<u8>);

/// How an event leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// In the form that is shared.
    InItsForm,
    /// Otherwise: it was said, is held back, or is not for the client.
    Otherwise,
}

/// How heartbeats are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beats {
    /// As the transport has them: a ping of RFC 6455, section 5.5.2, or a comment; as messages beside where a client asks for that.
    OfTheTransport,
    /// As messages alone ([`Reply::Heartbeat`]), which clients of the language answer by others.
    Messages,
}

/// What one message asks, in order.
#[derive(Debug)]
pub struct Requests {
    asked: Vec<Request>,
    max: usize,
}

impl Requests {
    /// Nothing yet, and at most `max` (`limits.message_requests`).
    pub fn new(max: usize) -> Self {
        Self { asked: Vec::new(), max }
    }

    /// Takes one more; where that is one too many, the message is refused.
    pub fn ask(&mut self, request: Request) -> Result<(), Refused> {
        if self.asked.len() == self.max {
            let max = self.max;
            let detail = format!("more than {max} requests in a message (limits.message_requests)");
            let problem = Problem::new(Code::TooMany, detail);
            return Err(Refused { reference: None, problem });
        }
        self.asked.push(request);
        Ok(())
    }

    /// All that is asked.
    pub fn into_vec(self) -> Vec<Request> {
        self.asked
    }
}

/// One whole WebSocket message from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// A text message, valid UTF-8.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

/// What a message may hold.
#[derive(Debug, Clone, Copy)]
pub struct ParseLimits {
    /// How deep arrays and objects of an event's data may be nested.
    pub json_depth: usize,
    /// The longest data of an event, in bytes of JSON text.
    pub event_bytes: usize,
    /// The most patterns in one `subscribe` or `unsubscribe`.
    pub patterns: usize,
    /// The most events that `last` or `tail` may ask for.
    pub last_events: usize,
    /// The most requests in one message.
    pub requests: usize,
}

/// A message refused before it became a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The message's `ref`, where it could be read.
    pub reference: Option<u64>,
    /// Why.
    pub problem: Problem,
}
