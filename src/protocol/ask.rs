//! What clients ask for.

use std::fmt;
use std::rc::Rc;

use crate::model::{Event, NewEvent, Pattern, PublishKey, Start};

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

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    /// A token that grants these topics, which must be named, to the session without making it somebody. Never logged.
    pub proof: Option<Token>,
    /// Which of the events are wanted, where the language asks of each; replays are asked, too.
    pub filter: Option<Filter>,
}

impl Subscribe {
    /// An interest in every event of these that comes.
    pub fn to(patterns: Vec<Pattern>) -> Self {
        let (since, opening, mode, max_rate, proof, filter) = Default::default();
        Self { patterns, since, opening, mode, max_rate, proof, filter }
    }
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

/// A subscription's own question about each event of its topics, where the language has one: whether it is wanted. Pure,
/// for it is asked on the way of events.
#[derive(Clone)]
pub struct Filter(Rc<dyn Fn(&Event) -> bool>);

impl Filter {
    /// Wants the events of which this says so.
    pub fn new(wants: impl Fn(&Event) -> bool + 'static) -> Self {
        Self(Rc::new(wants))
    }

    /// Whether an event is wanted.
    pub fn wants(&self, event: &Event) -> bool {
        (self.0)(event)
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter(…)")
    }
}
