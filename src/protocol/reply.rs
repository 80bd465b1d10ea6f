//! What each message of the broker holds: its members, in their order.
//!
//! Said once for all wire forms. JSON and CBOR only differ in how a member is written, which is what
//! a [`Map`] knows; SSE writes the same members without `op`.

use std::fmt;

use super::{Annotations, Reply};
use crate::model::{Code, Data, Envelope, Event, Timestamp, Version};

/// One map of a wire form, being written member by member.
pub(super) trait Map {
    /// A member that is any text.
    fn text(&mut self, name: &'static str, text: &str);

    /// A member that is text of visible ASCII without quotes and backslashes, so that no wire form
    /// has to escape it.
    fn ascii(&mut self, name: &'static str, text: impl fmt::Display);

    /// A member that is a number.
    fn number(&mut self, name: &'static str, number: u64);

    /// A member that is `true`; what is not so is left out.
    fn flag(&mut self, name: &'static str);

    /// A member that is a map of texts.
    fn texts(&mut self, name: &'static str, members: &[(&'static str, Option<&str>)]);

    /// A member that is a list of texts that need no escapes.
    fn list(&mut self, name: &'static str, texts: &[impl fmt::Display]);

    /// A member that is an event.
    fn event(&mut self, name: &'static str, event: &Event);

    /// The `data` of an event, and where the wire form has no bytes of its own, its `encoding`.
    fn data(&mut self, data: &Data);
}

/// The members of an event.
pub(super) fn event(event: &Event, map: &mut impl Map) {
    if let Some(cursor) = event.cursor {
        map.ascii("id", cursor);
    }
    map.ascii("topic", &event.topic);
    if let Some(kind) = &event.kind {
        map.text("type", kind.as_str());
    }
    map.ascii("time", event.time);
    if let Some(envelope) = &event.envelope {
        carried(envelope, event.time, map);
    }
    map.data(&event.data);
}

/// The members of what an event carries.
fn carried(envelope: &Envelope, time: Timestamp, map: &mut impl Map) {
    if let Some(sender) = envelope.sender() {
        map.texts("from", &[("user", sender.user), ("session", sender.session)]);
    }
    if let Some(Version { epoch, number }) = envelope.version() {
        map.number("version", number);
        if let Some(epoch) = epoch {
            map.text("epoch", epoch);
        }
    }
    if let Some(expires) = envelope.expires(time) {
        map.ascii("expires", expires);
    }
    if let Some(removed) = envelope.removed() {
        map.flag("removed");
        if let Some(reason) = removed.reason() {
            map.ascii("reason", reason);
        }
    }
    if let Some(trace) = envelope.trace() {
        map.ascii("trace", trace);
    }
}

/// The members that say how an event came.
pub(super) fn annotations(annotations: &Annotations, map: &mut impl Map) {
    if let Some(reference) = annotations.replay {
        map.number("replay", reference);
    }
    if annotations.snapshot {
        map.flag("snapshot");
    }
    if annotations.conflated {
        map.flag("conflated");
    }
    if annotations.skipped > 0 {
        map.number("skipped", annotations.skipped);
    }
}

/// The `op` of a reply.
pub(super) fn op(reply: &Reply<'_>) -> &'static str {
    match reply {
        Reply::Welcome { .. } => "welcome",
        Reply::Ack { .. } => "ack",
        Reply::Error { .. } | Reply::Lost { .. } => "error",
        Reply::Subscribed { .. } => "subscribed",
        Reply::Unsubscribed { .. } => "unsubscribed",
        Reply::Gap { .. } => "gap",
        Reply::Cursor(_) => "cursor",
        Reply::Live { .. } => "live",
        Reply::Warn { .. } => "warn",
        Reply::Pong { .. } => "pong",
        Reply::Heartbeat => "heartbeat",
        Reply::Trouble(_) => "trouble",
        Reply::GoAway { .. } => "goaway",
        Reply::Bye { .. } => "bye",
    }
}

/// The members of a reply beside its `op`.
#[expect(clippy::too_many_lines, reason = "a table: the members of each reply")]
pub(super) fn reply(reply: &Reply<'_>, map: &mut impl Map) {
    match *reply {
        Reply::Welcome { session, heartbeat, retry_after_ms: _, secret: _ } => {
            map.text("session", session);
            map.number("heartbeat", heartbeat);
            map.ascii("version", env!("CARGO_PKG_VERSION"));
        }
        Reply::Ack { reference, id, superseded, repeated } => {
            answers(reference, map);
            if let Some(id) = id {
                map.ascii("id", id);
            }
            if repeated {
                map.flag("repeated");
            }
            if let Some(version) = superseded {
                map.flag("superseded");
                version.into_iter().for_each(|version| map.number("version", version));
            }
        }
        Reply::Error { reference, code, message, event } => {
            answers(reference, map);
            map.ascii("code", code.as_str());
            map.text("message", message);
            if let Some(event) = event {
                map.event("event", event);
            }
        }
        Reply::Lost { pattern } => {
            map.ascii("code", Code::Forbidden.as_str());
            map.text("message", &format!("no right to subscribe to {pattern} any more"));
        }
        Reply::Subscribed { patterns } | Reply::Unsubscribed { patterns } => {
            map.list("topics", patterns);
        }
        Reply::Gap { reference, since, topics } => {
            answers(reference, map);
            map.ascii("since", since);
            if !topics.is_empty() {
                map.list("topics", topics);
            }
        }
        Reply::Cursor(cursor) => map.ascii("cursor", cursor),
        Reply::Live { reference, cursor } => {
            answers(reference, map);
            map.ascii("cursor", cursor);
        }
        Reply::Warn { expires_ms } => {
            map.ascii("code", "token_expires");
            map.text("message", "the token expires soon: send `auth` with a new one");
            map.number("expires_ms", expires_ms);
        }
        Reply::Pong { reference } => answers(reference, map),
        Reply::Heartbeat => {}
        Reply::Trouble(trouble) => {
            map.ascii("code", trouble.name());
            map.text("message", trouble.message());
        }
        Reply::GoAway { within_ms } => map.number("within_ms", within_ms),
        Reply::Bye { close, message, retry_after_ms } => {
            map.ascii("code", close.name());
            map.text("message", message);
            if let Some(millis) = retry_after_ms {
                map.number("retry_after_ms", u64::from(millis));
            }
        }
    }
}

fn answers(reference: Option<u64>, map: &mut impl Map) {
    if let Some(reference) = reference {
        map.number("ref", reference);
    }
}
