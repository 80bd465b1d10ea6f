//! What was typed of the limits on what comes from outside.

use std::time::Duration;

use super::super::limits::Limits;
use super::super::schema;
use super::super::value::{Size, Span};
use super::complaints::{Complaints, HOUR};

/// The limits, none of which may be zero where that would let nothing through.
#[expect(clippy::too_many_lines, reason = "a list: each limit, as it was given")]
pub(super) fn limits(typed: &schema::Limits, complaints: &mut Complaints) -> Limits {
    let mut count = |name: &str, value: usize| {
        complaints.at_least_one(&format!("limits.{name}"), value);
        value
    };
    let event_bytes = count("event_bytes", typed.event_bytes.0);
    let batch_bytes = count("batch_bytes", typed.batch_bytes.0);
    let message_bytes = count("message_bytes", typed.message_bytes.0);
    let http2_streams = count("http2_streams", typed.http2_streams);
    let limits = Limits {
        connections: count("connections", typed.connections),
        connections_per_address: typed.connections_per_address,
        connections_per_user: typed.connections_per_user,
        connects_per_second: typed.connects_per_second,
        messages_per_second: typed.messages_per_second,
        bytes_per_second: typed.bytes_per_second.0,
        subscriptions: count("subscriptions", typed.subscriptions),
        replays: count("replays", typed.replays),
        last_events: count("last_events", typed.last_events),
        event_bytes,
        batch_bytes,
        batch_events: count("batch_events", typed.batch_events),
        json_depth: count("json_depth", typed.json_depth),
        message_bytes,
        message_fragments: count("message_fragments", typed.message_fragments),
        message_requests: count("message_requests", typed.message_requests),
        inflate_bytes: typed.inflate_bytes.0,
        bad_messages: count("bad_messages", typed.bad_messages),
        outbox_bytes: count("outbox_bytes", typed.outbox_bytes.0),
        catchup_bytes: count("catchup_bytes", typed.catchup_bytes.0),
        conflated_bytes: count("conflated_bytes", typed.conflated_bytes.0),
        inbox_events: count("inbox_events", typed.inbox_events),
        send_buffer_bytes: count("send_buffer_bytes", typed.send_buffer_bytes.0),
        auth_timeout: timeout(complaints, "auth_timeout", typed.auth_timeout),
        close_timeout: timeout(complaints, "close_timeout", typed.close_timeout),
        stall_timeout: timeout(complaints, "stall_timeout", typed.stall_timeout),
        request_timeout: timeout(complaints, "request_timeout", typed.request_timeout),
        body_timeout: timeout(complaints, "body_timeout", typed.body_timeout),
        // One body at a time is always taken.
        bodies_bytes: typed.bodies_bytes.0.max(batch_bytes),
        bodies_bytes_per_address: typed.bodies_bytes_per_address.0.max(batch_bytes),
        handshake_timeout: timeout(complaints, "handshake_timeout", typed.handshake_timeout),
        http2_streams,
    };
    for (key, bytes) in
        [("limits.batch_bytes", batch_bytes), ("limits.message_bytes", message_bytes)]
    {
        if bytes < event_bytes {
            let message = format!("must be at least limits.event_bytes, {}", Size(event_bytes));
            complaints.add(key, message);
        }
    }
    limits
}

/// Checks a time that somebody is given.
fn timeout(complaints: &mut Complaints, name: &str, Span(value): Span) -> Duration {
    let most = Span(Duration::from_secs(HOUR));
    if value.is_zero() || value > most.0 {
        let message = format!("must be more than 0s, and at most {most}");
        complaints.add(&format!("limits.{name}"), message);
    }
    value
}

/// Warns of an outbox that the largest event does not fit into.
pub(super) fn too_small(limits: &Limits) -> Vec<String> {
    let is_too_small = limits.outbox_bytes < limits.event_bytes;
    let warning = "limits.outbox_bytes is less than limits.event_bytes: an event of the largest size \
                   would close its subscribers' connections";
    is_too_small.then(|| warning.to_owned()).into_iter().collect()
}
