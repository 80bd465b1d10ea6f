//! Server-Sent Events, as `EventSource` reads them (WHATWG HTML, section 9.2).
//!
//! Events come under the default name, so that `onmessage` gets them; with `format=data` they come
//! bare, under their own type. Only what may move a client's place carries `id:`, since a browser
//! sends the last one it saw when it reconnects.
//!
//! Every block has data: many readers hand one out that has none as an empty event. What comes without is
//! lines, which belong to the block that follows.

use super::heads::{brings, heartbeat, last_event_id, subscription};
use super::json::Object;
use super::members::read;
use super::query::LAST_EVENT_ID_PARAMETER;
use super::reply::{self, Map};
use super::request::StreamRequest;
use super::{
    Annotations, ByBody, Carrier, ClientMessage, Dialect, Entry, Form, Knock, Known, Out,
    ParseLimits, Protocol, Refused, Reply, Requests, Talk, Wants,
};
use crate::clock::Instant;
use crate::model::{Code, Event, Problem};

/// The broker's own language as an event stream.
pub static STREAM: Protocol = Protocol {
    name: "fanfare.v1 event stream",
    entries: &[Entry {
        path: "/v1/sse",
        carrier: Carrier::Stream { media_type: "text/event-stream" },
        query: Known::Only(&[
            "topic",
            "since",
            "snapshot",
            "last",
            "tail",
            "mode",
            "max_rate",
            "format",
            "heartbeat",
            "access_token",
            "ticket",
            LAST_EVENT_ID_PARAMETER,
        ]),
        dialects: &DIALECTS,
        brings,
        wants,
        by_body: Some(ByBody {
            query: Known::Only(&["access_token", "ticket"]),
            wants: |body, limits| {
                let not_utf8 = |_| Problem::new(Code::InvalidJson, "the body is not UTF-8");
                let members = read(std::str::from_utf8(body).map_err(not_utf8)?)?;
                let StreamRequest { subscribe, format, heartbeat } = members.stream(limits)?;
                let dialect = dialect_of_format(format.as_deref())?;
                let (talk, subscribe) = ((dialect.talk)(), Some(subscribe));
                Ok(Wants { dialect, talk, subscribe, heartbeat })
            },
        }),
        has_way_back: false,
    }],
    way_back: None,
};

static DIALECTS: [Dialect; 2] = [
    Dialect { name: "", form: &SSE, talk: || Box::new(Listened) },
    Dialect { name: "data", form: &SSE_DATA, talk: || Box::new(Listened) },
];

/// Events as objects, like on WebSocket but without `op`.
pub static SSE: Form = Form { is_binary: false, event: |event, how| block_of(event, how, false) };

/// `format=data`: the bare data of each event, under its type.
pub static SSE_DATA: Form =
    Form { is_binary: false, event: |event, how| block_of(event, how, true) };

/// The dialect of event streams that is asked for: the one with everything, or `data`.
fn dialect_of_format(format: Option<&str>) -> Result<&'static Dialect, Problem> {
    match format {
        None => Ok(&DIALECTS[0]),
        Some("data") => Ok(&DIALECTS[1]),
        Some(_) => Err(Problem::new(Code::BadRequest, "format must be data; else leave it out")),
    }
}

fn wants(knock: &Knock<'_>) -> Result<Wants, Problem> {
    let dialect = dialect_of_format(knock.query.one("format")?)?;
    let subscribe = subscription(knock.query, last_event_id(knock)?, knock.limits)?;
    if subscribe.is_none() {
        return Err(Problem::new(Code::BadRequest, "at least one topic is needed"));
    }
    let heartbeat = heartbeat(knock.query)?;
    Ok(Wants { dialect, talk: (dialect.talk)(), subscribe, heartbeat })
}

/// Who talks on an event stream, and hears nothing.
struct Listened;

impl Talk for Listened {
    fn hear(
        &mut self,
        _: ClientMessage<'_>,
        _: &ParseLimits,
        _: Instant,
        _: &mut Requests,
    ) -> Result<(), Refused> {
        Ok(())
    }

    fn say(&mut self, reply: &Reply<'_>, _: Instant, out: Out<'_>) {
        block_of_reply(reply).into_iter().for_each(out);
    }
}

/// An event as one block.
fn block_of(event: &Event, annotations: &Annotations, is_bare: bool) -> Vec<u8> {
    let object;
    let is_removed = event.is_tombstone();
    let data = if is_bare && !is_removed {
        event.data.json().get().as_bytes()
    } else {
        let mut map = Object::for_event(event);
        if is_bare {
            // Bare data can't tell what is gone.
            map.ascii("topic", &event.topic);
        } else {
            reply::event(event, &mut map);
            reply::annotations(annotations, &mut map);
        }
        object = map.finish();
        &object
    };
    let mut block = Block::with_capacity(data.len());
    if let Some(cursor) = event.cursor.filter(|_| !annotations.snapshot && !annotations.conflated) {
        block.shown("id", cursor);
    }
    match &event.kind {
        _ if is_bare && is_removed => block.field("event", b"fanfare.removed"),
        Some(kind) if is_bare => block.field("event", kind.as_str().as_bytes()),
        Some(_) | None => {}
    }
    block.field("data", data);
    block.finish()
}

/// A reply as one block; nothing where it answers what nobody can ask here.
fn block_of_reply(reply: &Reply<'_>) -> Option<Vec<u8>> {
    let mut block = Block::with_capacity(0);
    match *reply {
        Reply::Welcome { session, heartbeat, retry_after_ms, secret: _ } => {
            block.comment(&format!("welcome {session} heartbeat={heartbeat}"));
            block.shown("retry", retry_after_ms);
            // The block with the first data ends this one.
            return Some(block.bytes);
        }
        Reply::Cursor(cursor) | Reply::Live { cursor, .. } => {
            block.shown("id", cursor);
            block.control(reply);
        }
        // What answers nothing: a right that the stream has lost, or why it can't begin.
        Reply::Error { reference: None, .. }
        | Reply::Lost { .. }
        | Reply::Subscribed { .. }
        | Reply::Unsubscribed { .. }
        | Reply::Gap { .. }
        | Reply::Warn { .. }
        | Reply::Heartbeat
        | Reply::Trouble(_)
        | Reply::GoAway { .. } => block.control(reply),
        Reply::Bye { retry_after_ms, .. } => {
            if let Some(millis) = retry_after_ms {
                block.shown("retry", millis);
            }
            block.control(reply);
        }
        // They answer what a client asked, and here it can ask nothing.
        Reply::Ack { .. } | Reply::Error { .. } | Reply::Pong { .. } => return None,
    }
    Some(block.finish())
}

/// One block of the stream: fields on lines of their own, ended by an empty line.
struct Block {
    bytes: Vec<u8>,
}

impl Block {
    /// Room for field names, an id and a type.
    const AROUND_THE_DATA: usize = 96;

    fn with_capacity(data: usize) -> Self {
        Self { bytes: Vec::with_capacity(Self::AROUND_THE_DATA + data) }
    }

    /// A field, with as many lines as its value has: the one place where a line ends, so that no
    /// value can begin a field of its own. (None of ours has a line break; `EventSource` would put
    /// those of `data` together again.)
    fn field(&mut self, name: &str, value: &[u8]) {
        let mut rest = Some(value);
        while let Some(value) = rest {
            let end = value.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            let line = &value[..end.unwrap_or(value.len())];
            rest = end.map(|end| {
                let after = &value[end..];
                after.strip_prefix(b"\r\n").unwrap_or(&after[1..])
            });
            self.bytes.extend_from_slice(name.as_bytes());
            self.bytes.extend_from_slice(b": ");
            self.bytes.extend_from_slice(line);
            self.bytes.push(b'\n');
        }
    }

    fn shown(&mut self, name: &str, value: impl std::fmt::Display) {
        self.field(name, value.to_string().as_bytes());
    }

    /// A line that clients skip.
    fn comment(&mut self, text: &str) {
        self.field("", text.as_bytes());
    }

    /// A reply as an event of the broker's own.
    fn control(&mut self, said: &Reply<'_>) {
        let mut object = Object::new();
        reply::reply(said, &mut object);
        self.shown("event", format_args!("fanfare.{}", reply::op(said)));
        self.field("data", &object.finish());
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.push(b'\n');
        self.bytes
    }
}

#[cfg(test)]
mod tests;
