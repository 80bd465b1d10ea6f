//! The limits on what comes from outside.

use std::time::Duration;

use crate::protocol::ParseLimits;

/// The limits on what comes from outside. Each has its verdict beside it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open sessions of this node; one more gets 503 `unavailable` (SSE: `fanfare.bye`). At so many
    /// sockets, one that does nothing is closed for each that comes.
    pub connections: usize,
    /// Of both, from one address. 0 for any number, as below.
    pub connections_per_address: usize,
    /// Of those, of one user; one more gets 503, or `unavailable`.
    pub connections_per_user: usize,
    /// Connections a second from one address; one more gets 503.
    pub connects_per_second: usize,
    /// Messages a second of one connection; more closes with 4429.
    pub messages_per_second: usize,
    /// Bytes of them; more closes with 4429.
    pub bytes_per_second: usize,
    /// Patterns a session; one more gets `too_many`.
    pub subscriptions: usize,
    /// Replays of one session at a time; one more gets `too_many`.
    pub replays: usize,
    /// Events that `last` or `tail` of a subscribe come to; more get `too_many`.
    pub last_events: usize,
    /// Data of an event in bytes of JSON; more gets 413 or `too_large`.
    pub event_bytes: usize,
    /// Body of a batch in bytes; more gets 413.
    pub batch_bytes: usize,
    /// Events a batch; more gets 413.
    pub batch_events: usize,
    /// Depth of arrays and objects in data; more gets 422 or `invalid_event`.
    pub json_depth: usize,
    /// WebSocket message in bytes; more closes with 1009.
    pub message_bytes: usize,
    /// Frames a WebSocket message may come in; more closes with 1009.
    pub message_fragments: usize,
    /// Requests in one message, in languages that have several there; more are refused, and none of them is done.
    pub message_requests: usize,
    /// Bytes kept of what clients sent compressed, for all connections; without room a client gets no compression.
    pub inflate_bytes: usize,
    /// Bad messages of a session in a row; more closes with 4400.
    pub bad_messages: usize,
    /// Bytes that wait for one client; more closes with 4409.
    pub outbox_bytes: usize,
    /// Bytes of live events held while a replay runs; more are read from the history again.
    pub catchup_bytes: usize,
    /// Bytes of newest events that wait for one client in mode `latest`; more closes with 4409.
    pub conflated_bytes: usize,
    /// Events that wait for one worker thread; publishers wait, then get 503 `unavailable`.
    pub inbox_events: usize,
    /// Time a session may stay without a credential where one is needed; then closes with 4401.
    pub auth_timeout: Duration,
    /// Time a WebSocket client has to answer our close frame; then the connection is cut.
    pub close_timeout: Duration,
    /// Time data may wait in the kernel without the client's acknowledgement; then it is cut.
    pub stall_timeout: Duration,
    /// Bytes that the kernel takes for a client that does not read yet.
    pub send_buffer_bytes: usize,
    /// Time to send the head of a request; then 408.
    pub request_timeout: Duration,
    /// Time to send the body of a request; then 408.
    pub body_timeout: Duration,
    /// Bytes of all bodies that are being read; more get 503 `unavailable`.
    pub bodies_bytes: usize,
    /// Of those, from one address; more get 429 `too_many`.
    pub bodies_bytes_per_address: usize,
    /// Time to agree upon TLS; then the connection is cut.
    pub handshake_timeout: Duration,
    /// Requests open at a time on one connection of HTTP/2; one more is refused by a reset.
    pub http2_streams: usize,
}

impl Limits {
    /// The sockets that there may be where `limit` are to be used: a tenth more, for who publishes and
    /// who is refused while sessions take all of the others.
    pub fn with_spare(limit: usize) -> usize {
        limit.saturating_add((limit / 10).max(Self::LEAST_SPARE))
    }

    /// The fewest sockets that are spare.
    const LEAST_SPARE: usize = 16;
}

impl Limits {
    /// What a message of a client may hold.
    pub fn of_messages(&self) -> ParseLimits {
        ParseLimits {
            json_depth: self.json_depth,
            event_bytes: self.event_bytes,
            patterns: self.subscriptions,
            last_events: self.last_events,
            requests: self.message_requests,
        }
    }
}
