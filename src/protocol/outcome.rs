//! What the broker says to a client, beside events.

use super::Token;
use crate::model::{Close, Code, Cursor, Event, Pattern, Topic, Trouble};

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
        /// jitter; for the languages that say so at the start.
        retry_after_ms: u32,
        /// By what its client is known when it says something over another request, where the language has that.
        secret: Option<&'a Token>,
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
    /// The right to what a pattern matches is lost, and the subscription with it.
    Lost {
        /// The pattern.
        pattern: &'a Pattern,
    },
    /// The broker has subscribed the session to these by itself.
    Subscribed {
        /// The patterns.
        patterns: &'a [Pattern],
    },
    /// The broker has taken these subscriptions from the session.
    Unsubscribed {
        /// The patterns.
        patterns: &'a [Pattern],
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
