//! Server-Sent Events, as `EventSource` reads them (WHATWG HTML, section 9.2).
//!
//! Events come under the default name, so that `onmessage` gets them; with `format=data` they come
//! bare, under their own type. Only what may move a client's place carries `id:`, since a browser
//! sends the last one it saw when it reconnects.
//!
//! Every block has data: many readers hand one out that has none as an empty event. What comes without is
//! lines, which belong to the block that follows.

use super::json::Object;
use super::reply::{self, Map};
use super::{Annotations, Form, Reply};
use crate::model::Event;

/// Events as objects, like on WebSocket but without `op`.
pub static SSE: Sse = Sse { bare: false };

/// `format=data`: the bare data of each event, under its type.
pub static SSE_DATA: Sse = Sse { bare: true };

/// One of the two forms of the event stream.
pub struct Sse {
    bare: bool,
}

impl Form for Sse {
    fn wire_form(&self) -> usize {
        if self.bare { 3 } else { 2 }
    }

    fn event(&self, event: &Event, annotations: &Annotations) -> Vec<u8> {
        let object;
        let is_removed = event.is_tombstone();
        let data = if self.bare && !is_removed {
            event.data.json().get().as_bytes()
        } else {
            let mut map = Object::for_event(event);
            if self.bare {
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
        if let Some(cursor) =
            event.cursor.filter(|_| !annotations.snapshot && !annotations.conflated)
        {
            block.shown("id", cursor);
        }
        match &event.kind {
            _ if self.bare && is_removed => block.field("event", b"fanfare.removed"),
            Some(kind) if self.bare => block.field("event", kind.as_str().as_bytes()),
            Some(_) | None => {}
        }
        block.field("data", data);
        block.finish()
    }

    fn reply(&self, reply: &Reply<'_>) -> Option<Vec<u8>> {
        let mut block = Block::with_capacity(0);
        match *reply {
            Reply::Welcome { session, heartbeat, retry_after_ms } => {
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
