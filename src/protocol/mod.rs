//! Bytes to meaning and back: what clients say and what they are told.
//!
//! Each protocol is one file of pure functions, without state, clock or I/O. A new one is a file, a
//! line in [`PROTOCOLS`] and a test table; broker and session stay as they are.

mod cbor;
mod given;
mod json;
mod native;
mod reply;
mod request;
#[cfg(test)]
mod samples;
mod sse;
mod stream;

pub use given::{Given, keep_from, put_trace};
pub use json::{event_object, receipt_object};
pub use sse::{SSE, SSE_DATA};
pub use stream::{MAX_HEARTBEAT_SECONDS, StreamRequest, stream_form};

use crate::model::{
    Close, Code, Cursor, Event, NewEvent, Pattern, Problem, PublishKey, Start, Topic, Trouble,
};

/// The protocols spoken over WebSocket; of those at one path the first is spoken where the client names none.
pub static PROTOCOLS: &[&dyn Protocol] = &[&native::Native, &cbor::Cbor];

/// Where a WebSocket can be opened: each path once, in the order of [`PROTOCOLS`].
pub fn websocket_paths() -> impl Iterator<Item = &'static str> {
    let all = PROTOCOLS.iter().enumerate();
    let is_first =
        |(at, path): &(usize, &str)| PROTOCOLS[..*at].iter().all(|it| it.path() != *path);
    all.map(|(at, protocol)| (at, protocol.path())).filter(is_first).map(|(_, path)| path)
}

/// The protocols that are spoken over a WebSocket at this path; none, where there is none.
pub fn protocols_at(path: &str) -> impl Iterator<Item = &'static dyn Protocol> + Clone {
    PROTOCOLS.iter().copied().filter(move |protocol| protocol.path() == path)
}

/// How many wire forms there are: the forms that exist, WebSocket and SSE together.
pub const WIRE_FORMS: usize = 4;

/// A wire form: what the broker says, as bytes. It has no state, so what it makes of an event is shared.
pub trait Form: Send + Sync {
    /// Which of the [`WIRE_FORMS`] this is; each has a number of its own.
    fn wire_form(&self) -> usize;

    /// An event as one message.
    fn event(&self, event: &Event, annotations: &Annotations) -> Vec<u8>;

    /// Anything else as one message; `None` where this wire form has no words for it.
    fn reply(&self, reply: &Reply<'_>) -> Option<Vec<u8>>;
}

/// A language spoken over WebSocket: a wire form, and what is read from clients.
pub trait Protocol: Form {
    /// The path at which a WebSocket that speaks it is opened.
    fn path(&self) -> &'static str;

    /// The name in `Sec-WebSocket-Protocol` (RFC 6455, section 1.9).
    fn name(&self) -> &'static str;

    /// Whether the messages it sends are binary ones.
    fn is_binary(&self) -> bool;

    /// What the client asks with one message.
    fn parse(&self, message: ClientMessage<'_>, limits: &ParseLimits) -> Result<Request, Refused>;
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
}

/// What a client asks.
#[derive(Debug, Clone)]
pub struct Request {
    /// The client's own number for it, 1 to 2^53-1, echoed in what answers it.
    pub reference: Option<u64>,
    /// What it wants done.
    pub op: Op,
}

/// The things a client can ask for.
#[derive(Debug, Clone)]
pub enum Op {
    /// Identify, or renew before expiry.
    Auth {
        /// The credential. Never logged.
        token: Token,
    },
    /// Receive what matches.
    Subscribe(Subscribe),
    /// Receive it no longer.
    Unsubscribe {
        /// The patterns as they were subscribed.
        patterns: Vec<Pattern>,
    },
    /// Publish an event.
    Publish {
        /// What to publish.
        event: NewEvent,
        /// By which a repeat is known.
        key: Option<PublishKey>,
    },
    /// Answer with a pong.
    Ping,
}

/// A credential as it was sent; shown as dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// An interest in patterns, with its options.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscribe {
    /// What to receive; at least one.
    pub patterns: Vec<Pattern>,
    /// First everything after this place, or since this time.
    pub since: Option<Start>,
    /// What comes first where there is no `since`, or what came after it is gone.
    pub opening: Opening,
    /// What to do when the client can't keep up.
    pub mode: Mode,
    /// At most so many events a second of each topic; implies [`Mode::Latest`].
    pub max_rate: Option<f64>,
}

/// What of the history a subscription begins with where it is not to go on from somewhere, or can't.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Opening {
    /// None of it.
    #[default]
    Nothing,
    /// The newest kept event of each matching topic.
    Snapshot,
    /// So many of the newest kept events of each matching topic.
    Last(usize),
    /// So many of the newest kept events of all that matches.
    Tail(usize),
}

/// What a subscription wants when its client can't keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Every event, or the connection is closed.
    #[default]
    All,
    /// The newest event of each topic.
    Latest,
}

/// A message refused before it became a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The message's `ref`, where it could be read.
    pub reference: Option<u64>,
    /// Why.
    pub problem: Problem,
}

/// What is said of an event beside the event itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Annotations {
    /// It belongs to the replay of the subscribe with this `ref`.
    pub replay: Option<u64>,
    /// It is a current value.
    pub snapshot: bool,
    /// It came under [`Mode::Latest`].
    pub conflated: bool,
    /// How many events of its topic were conflated before it.
    pub skipped: u64,
}

/// What the broker says beside events.
#[derive(Debug, Clone, Copy)]
pub enum Reply<'a> {
    /// Always first.
    Welcome {
        /// The session's id.
        session: &'a str,
        /// Seconds between heartbeats.
        heartbeat: u64,
        /// How long to wait before reconnecting when the connection is lost, in milliseconds, with
        /// jitter; for the wire forms that say so at the start.
        retry_after_ms: u32,
    },
    /// Done.
    Ack {
        /// The request's number.
        reference: Option<u64>,
        /// For a publish, the event's place in the log (none on ephemeral topics).
        id: Option<Cursor>,
        /// For a publish, that a newer value stands there and nothing was stored; and its version, if that was it.
        superseded: Option<Option<u64>>,
        /// That is the result of an earlier publish under the same key.
        repeated: bool,
    },
    /// Refused.
    Error {
        /// The request's number.
        reference: Option<u64>,
        /// The stable code.
        code: Code,
        /// Why, for a person.
        message: &'a str,
        /// The newest event of the topic, where that is why.
        event: Option<&'a Event>,
    },
    /// Events after `since` are gone; what follows is what is left.
    Gap {
        /// The subscribe it belongs to; none while live.
        reference: Option<u64>,
        /// The last place up to which the client has everything.
        since: Cursor,
        /// The topics that the events were of; empty where they may be of any.
        topics: &'a [Topic],
    },
    /// All that the session was to get up to here has been sent or superseded.
    Cursor(Cursor),
    /// Snapshot and replay are done; from here it is live.
    Live {
        /// The subscribe it belongs to.
        reference: Option<u64>,
        /// Where live begins.
        cursor: Cursor,
    },
    /// The token expires soon, and the session with it unless it is renewed.
    Warn {
        /// Until then, in milliseconds.
        expires_ms: u64,
    },
    /// Answers a ping.
    Pong {
        /// The request's number.
        reference: Option<u64>,
    },
    /// The connection is alive, in a message, for clients that asked to see that.
    Heartbeat,
    /// The broker can't do its whole job for now, or can again.
    Trouble(Trouble),
    /// A planned stop: the client is to connect anew within that time, and then to close this connection.
    GoAway {
        /// How much of it is left, in milliseconds.
        within_ms: u64,
    },
    /// Before the broker hangs up.
    Bye {
        /// Why.
        close: Close,
        /// The same for a person: [`Close::message`], where there is nothing closer.
        message: &'a str,
        /// How long to wait before coming back, in milliseconds, with jitter.
        retry_after_ms: Option<u32>,
    },
}

impl Reply<'_> {
    /// A request is done, and there is nothing else to say of it.
    pub fn done(reference: Option<u64>) -> Self {
        Reply::Ack { reference, id: None, superseded: None, repeated: false }
    }
}
