//! How the messages of one session become bytes: a wire form, its framing, and compression.
//!
//! Frames from a server are not masked (RFC 6455, section 5.1), and compressed each by itself, so a
//! framed event is the same bytes for every session of its wire form and is made once.

use std::io::Write;

use actix_http::ws::{OpCode, Parser};
use actix_ws::{CloseCode, CloseReason};
use bytes::{Bytes, BytesMut};

use super::deflate::Deflate;
use super::shared_forms::SharedForms;
use crate::broker::{Delivery, FormKey};
use crate::metrics::{Counter, Metrics};
use crate::model::Event;
use crate::protocol::{Annotations, Form};

/// A line of an event stream that means nothing (WHATWG HTML, section 9.2.6). No empty line follows, for that
/// would end a block without data.
const COMMENT: &[u8] = b":\n";

/// The same as a chunk.
const COMMENT_CHUNK: &[u8] = b"2\r\n:\n\r\n";

/// What ends a body that comes in chunks (RFC 9112, section 7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// How messages become bytes on the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// WebSocket text frames.
    Text,
    /// WebSocket binary frames.
    Binary,
    /// Nothing around them, as in an event stream.
    Bare,
    /// Each is a chunk (RFC 9112, section 7.1), as in an event stream over HTTP/1.1.
    Chunked,
}

/// The wire form of one session, framed and perhaps compressed.
#[derive(Clone)]
pub struct Encoding {
    form: &'static Form,
    framing: Framing,
    compression: Option<Compression>,
}

/// How the messages of a session are made smaller.
#[derive(Clone)]
struct Compression {
    deflate: Deflate,
    /// Counts each message that was compressed, however many sessions share it.
    compressed: Counter,
}

impl Encoding {
    /// A wire form whose messages leave as they are, but for their framing.
    pub fn new(form: &'static Form, framing: Framing) -> Self {
        Self { form, framing, compression: None }
    }

    /// The same, compressed as was agreed upon, if it was.
    pub fn compressed(self, agreed: Option<Deflate>, metrics: &Metrics) -> Self {
        let compressed = &metrics.messages_compressed;
        let compression =
            agreed.map(|deflate| Compression { deflate, compressed: compressed.clone() });
        Self { compression, ..self }
    }

    /// A live event, shared with every session of this wire form.
    pub fn live(&self, delivery: &Delivery) -> Bytes {
        let uncompressed = || {
            delivery.encoded(self.key(None), |event| {
                self.frame((self.form.event)(event, &Annotations::default()))
            })
        };
        match &self.compression {
            None => uncompressed(),
            compression @ Some(it) => {
                delivery.encoded(self.key(compression.as_ref()), |_| it.shrink(uncompressed()))
            }
        }
    }

    /// By what the bytes are known that the messages of this form become. A form stands where nothing else does, and
    /// those of WebSocket have one framing each.
    fn key(&self, compression: Option<&Compression>) -> FormKey {
        let around = match (self.framing, compression) {
            (Framing::Chunked, _) => u8::MAX,
            (_, Some(compression)) => 1 + compression.deflate.window() as u8,
            (_, None) => 0,
        };
        FormKey(std::ptr::from_ref(self.form).addr(), around)
    }

    /// A live event for a session that conflates, shared likewise.
    pub fn conflated(&self, delivery: &Delivery) -> Bytes {
        let annotations = Annotations { conflated: true, ..Annotations::default() };
        let key = self.key(self.compression.as_ref());
        delivery.conflated(key, |event| self.event(event, &annotations))
    }

    /// An event out of the history, shared with who asked for it before.
    pub fn told(&self, event: &Event, annotations: &Annotations, forms: &mut SharedForms) -> Bytes {
        let key = self.key(self.compression.as_ref());
        forms.get(event, key, annotations, || self.event(event, annotations))
    }

    /// An event with annotations.
    pub fn event(&self, event: &Event, annotations: &Annotations) -> Bytes {
        self.message((self.form.event)(event, annotations))
    }

    /// What shows that the connection is alive to who reads it, and to no program behind.
    pub fn heartbeat(&self) -> Bytes {
        match self.framing {
            Framing::Bare => Bytes::from_static(COMMENT),
            Framing::Chunked => Bytes::from_static(COMMENT_CHUNK),
            Framing::Text | Framing::Binary => ping(),
        }
    }

    /// Whether clients have to say something now and then.
    pub fn is_answered(&self) -> bool {
        matches!(self.framing, Framing::Text | Framing::Binary)
    }

    /// What ends the connection on the wire, where the transport has that.
    pub fn end(&self, (code, reason): (u16, &str)) -> Option<Bytes> {
        match self.framing {
            Framing::Bare => None,
            Framing::Chunked => Some(Bytes::from_static(LAST_CHUNK)),
            Framing::Text | Framing::Binary => Some(close_frame(code, reason)),
        }
    }

    /// A message of this payload.
    pub fn message(&self, payload: Vec<u8>) -> Bytes {
        let frame = self.frame(payload);
        match &self.compression {
            None => frame,
            Some(compression) => compression.shrink(frame),
        }
    }

    fn frame(&self, payload: Vec<u8>) -> Bytes {
        match self.framing {
            Framing::Bare => payload.into(),
            Framing::Chunked => chunk(&payload),
            Framing::Text => message_frame(payload, OpCode::Text),
            Framing::Binary => message_frame(payload, OpCode::Binary),
        }
    }
}

impl Compression {
    /// The message of `frame` in as few bytes as may be.
    fn shrink(&self, frame: Bytes) -> Bytes {
        match self.deflate.shrink(&frame) {
            None => frame,
            Some(small) => {
                self.compressed.inc();
                small
            }
        }
    }
}

/// A payload as one chunk; none where it is empty, for an empty one ends the body.
fn chunk(payload: &[u8]) -> Bytes {
    if payload.is_empty() {
        return Bytes::new();
    }
    let mut chunk = Vec::with_capacity(payload.len() + 12);
    // Writing to a vector does not fail.
    _ = write!(chunk, "{:x}\r\n", payload.len());
    chunk.extend_from_slice(payload);
    chunk.extend_from_slice(b"\r\n");
    chunk.into()
}

/// A whole message as one frame.
pub fn message_frame(payload: impl AsRef<[u8]>, op: OpCode) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.as_ref().len() + 10);
    Parser::write_message(&mut frame, payload, op, true, false);
    frame.freeze()
}

/// A close frame that says why.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let reason = CloseReason::from((CloseCode::from(code), reason));
    let mut frame = BytesMut::new();
    Parser::write_close(&mut frame, Some(reason), false);
    frame.freeze()
}

/// The close frame that answers a client's, with the code it gave.
pub fn close_echo(code: Option<u16>) -> Bytes {
    let reason = code.map(|code| CloseReason::from(CloseCode::from(code)));
    let mut frame = BytesMut::new();
    Parser::write_close(&mut frame, reason, false);
    frame.freeze()
}

fn ping() -> Bytes {
    message_frame([], OpCode::Ping)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_says_how_long_it_is_and_an_empty_one_ends_nothing() {
        assert_eq!(chunk(b"data: 1\n\n"), "9\r\ndata: 1\n\n\r\n");
        assert_eq!(chunk(&[b'a'; 300])[..5], *b"12c\r\n");
        assert_eq!(chunk(b""), "");
        assert_eq!(COMMENT_CHUNK, chunk(COMMENT));
    }
}
