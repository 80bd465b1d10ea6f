//! WebSocket messages out of bytes, as RFC 6455 says, with nothing buffered that is not wanted.
//!
//! A guard looks at each frame's header as soon as it is there and refuses it before its payload is
//! waited for; only then does the parser of actix-http see it, which would otherwise buffer
//! whatever a header declares. Fragments are put together here, under the same limit as a frame.

use actix_http::ws::{OpCode, Parser};
use bytes::{Bytes, BytesMut};

use crate::model::Close;

/// What one message may cost.
#[derive(Debug, Clone, Copy)]
pub struct FrameLimits {
    /// The longest message, in bytes.
    pub message_bytes: usize,
    /// The most frames a message may come in.
    pub message_fragments: usize,
}

/// Something a client sent, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
    /// To be answered with the same bytes.
    Ping(Bytes),
    /// Answers a ping.
    Pong,
    /// The client hangs up, with its code if it gave one.
    Close(Option<u16>),
}

/// Puts messages together from the bytes of one client.
#[derive(Debug)]
pub struct FrameReader {
    limits: FrameLimits,
    partial: Option<Partial>,
}

/// A message whose last fragment has not come yet.
#[derive(Debug)]
struct Partial {
    text: bool,
    payload: BytesMut,
    fragments: usize,
}

impl FrameReader {
    /// A reader at the start of a connection.
    pub fn new(limits: FrameLimits) -> Self {
        Self { limits, partial: None }
    }

    /// Takes the next message out of `bytes`; nothing where more bytes are needed. After an error
    /// the connection can only be closed.
    pub fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Incoming>, Close> {
        loop {
            if !self.guard(bytes)? {
                return Ok(None);
            }
            let parsed = Parser::parse(bytes, true, self.limits.message_bytes);
            let Some((finished, op, payload)) = parsed.map_err(|_| Close::ProtocolError)? else {
                return Ok(None);
            };
            let payload = payload.unwrap_or_default();
            let message = match op {
                OpCode::Ping => Some(Incoming::Ping(payload.freeze())),
                OpCode::Pong => Some(Incoming::Pong),
                OpCode::Close => Some(Incoming::Close(close_code(&payload)?)),
                OpCode::Text | OpCode::Binary | OpCode::Continue => {
                    self.add(op, finished, payload)?
                }
                OpCode::Bad => return Err(Close::ProtocolError),
            };
            if message.is_some() {
                return Ok(message);
            }
        }
    }

    /// Refuses a frame by its header (RFC 6455, section 5.2), before its payload is there; true
    /// once the header is.
    fn guard(&self, bytes: &[u8]) -> Result<bool, Close> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(false) };
        let (finished, reserved, op) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
        let (masked, short_length) = (second & 0x80 != 0, second & 0x7f);
        let legal = match op {
            0 => self.partial.is_some(),
            1 | 2 => self.partial.is_none(),
            8..=10 => finished && short_length <= 125,
            _ => false,
        };
        if !legal || reserved != 0 || !masked {
            return Err(Close::ProtocolError);
        }
        let length = match short_length {
            126 => rest.first_chunk().map(|length| u64::from(u16::from_be_bytes(*length))),
            127 => rest.first_chunk().map(|length| u64::from_be_bytes(*length)),
            short => Some(u64::from(short)),
        };
        let Some(length) = length else { return Ok(false) };
        let is_control = op >= 8;
        let (bytes, fragments) = match &self.partial {
            Some(partial) => (partial.payload.len(), partial.fragments),
            None => (0, 0),
        };
        let room = self.limits.message_bytes.saturating_sub(bytes) as u64;
        if !is_control && (length > room || fragments >= self.limits.message_fragments) {
            return Err(Close::TooLarge);
        }
        Ok(true)
    }

    /// Adds a data frame; returns the message if that was its last.
    fn add(
        &mut self,
        op: OpCode,
        finished: bool,
        payload: BytesMut,
    ) -> Result<Option<Incoming>, Close> {
        let whole = match self.partial.take() {
            None => Partial { text: op == OpCode::Text, payload, fragments: 1 },
            Some(mut partial) => {
                partial.payload.extend_from_slice(&payload);
                partial.fragments += 1;
                partial
            }
        };
        if !finished {
            self.partial = Some(whole);
            return Ok(None);
        }
        if !whole.text {
            return Ok(Some(Incoming::Binary(whole.payload.freeze())));
        }
        match String::from_utf8(whole.payload.into()) {
            Ok(text) => Ok(Some(Incoming::Text(text))),
            Err(_) => Err(Close::InvalidText),
        }
    }
}

/// The code of a close frame (RFC 6455, section 7.4), where it gives one that may be sent.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Close> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Close::ProtocolError) };
    };
    match u16::from_be_bytes(*code) {
        code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => match std::str::from_utf8(reason) {
            Ok(_) => Ok(Some(code)),
            Err(_) => Err(Close::InvalidText),
        },
        _ => Err(Close::ProtocolError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: FrameLimits = FrameLimits { message_bytes: 1_000, message_fragments: 3 };

    fn frame(op: OpCode, finished: bool, payload: &[u8]) -> BytesMut {
        let mut bytes = BytesMut::new();
        Parser::write_message(&mut bytes, payload, op, finished, true);
        bytes
    }

    fn read_all(mut bytes: BytesMut) -> Result<Vec<Incoming>, Close> {
        let mut reader = FrameReader::new(LIMITS);
        let mut messages = Vec::new();
        while let Some(message) = reader.next(&mut bytes)? {
            messages.push(message);
        }
        Ok(messages)
    }

    fn joined(frames: &[BytesMut]) -> BytesMut {
        frames.concat().as_slice().into()
    }

    #[test]
    fn control_frames_may_stand_between_fragments() {
        let bytes = joined(&[
            frame(OpCode::Text, false, "gr".as_bytes()),
            frame(OpCode::Ping, true, b"p"),
            frame(OpCode::Continue, false, &"ö".as_bytes()[..1]),
            frame(OpCode::Pong, true, b""),
            frame(OpCode::Continue, true, &"ö".as_bytes()[1..]),
        ]);
        let expected = [Incoming::Ping("p".into()), Incoming::Pong, Incoming::Text("grö".into())];
        assert_eq!(read_all(bytes), Ok(expected.into()));
    }

    #[test]
    fn a_header_that_declares_too_much_is_refused_before_its_payload_comes() {
        let declared = |length: u64| {
            let mut bytes = vec![0x82, 0xff];
            bytes.extend(length.to_be_bytes());
            read_all(bytes.as_slice().into())
        };
        assert_eq!(declared(1_001), Err(Close::TooLarge));
        assert_eq!(declared(1 << 40), Err(Close::TooLarge));
        assert_eq!(declared(u64::MAX), Err(Close::TooLarge));
    }

    #[test]
    fn fragments_count_together_in_bytes_and_in_number() {
        let half = [0; 501];
        let two = [frame(OpCode::Binary, false, &half), frame(OpCode::Continue, true, &half)];
        assert_eq!(read_all(joined(&two)), Err(Close::TooLarge));
        let empty = frame(OpCode::Continue, false, b"");
        let mut endless = vec![frame(OpCode::Text, false, b"")];
        endless.extend(std::iter::repeat_n(empty, 3));
        assert_eq!(read_all(joined(&endless)), Err(Close::TooLarge));
    }

    #[test]
    fn what_rfc_6455_forbids_is_a_protocol_error() {
        let unmasked = {
            let mut bytes = BytesMut::new();
            Parser::write_message(&mut bytes, b"x", OpCode::Text, true, false);
            bytes
        };
        for (what, bytes) in [
            ("not masked", unmasked),
            ("reserved bit", [0xc1, 0x80][..].into()),
            ("unknown op", [0x83, 0x80][..].into()),
            ("unknown control op", [0x8b, 0x80][..].into()),
            ("fragmented ping", [0x09, 0x80][..].into()),
            ("long ping", [0x89, 0xfe][..].into()),
            ("continues nothing", frame(OpCode::Continue, true, b"x")),
            (
                "text within a message",
                joined(&[frame(OpCode::Text, false, b"a"), frame(OpCode::Text, true, b"b")]),
            ),
            ("close with one byte", frame(OpCode::Close, true, &[3])),
            ("close with 1005", frame(OpCode::Close, true, &1005_u16.to_be_bytes())),
        ] {
            assert_eq!(read_all(bytes), Err(Close::ProtocolError), "{what}");
        }
    }

    #[test]
    fn text_that_is_not_utf_8_is_an_invalid_text() {
        assert_eq!(read_all(frame(OpCode::Text, true, b"\xff")), Err(Close::InvalidText));
        let close = frame(OpCode::Close, true, b"\x03\xe8\xff");
        assert_eq!(read_all(close), Err(Close::InvalidText));
    }

    #[test]
    fn a_close_gives_its_code() {
        let close = frame(OpCode::Close, true, &4001_u16.to_be_bytes());
        assert_eq!(read_all(close), Ok(vec![Incoming::Close(Some(4001))]));
        assert_eq!(read_all(frame(OpCode::Close, true, b"")), Ok(vec![Incoming::Close(None)]));
    }

    proptest! {
        #[test]
        fn any_cut_of_the_stream_gives_the_same_messages(texts in prop::collection::vec("[a-zä]{0,40}", 1..8), cut in 1..20_usize) {
            let frames: Vec<_> = texts.iter().map(|text| frame(OpCode::Text, true, text.as_bytes())).collect();
            let (mut reader, mut bytes, mut read) = (FrameReader::new(LIMITS), BytesMut::new(), Vec::new());
            for chunk in joined(&frames).chunks(cut) {
                bytes.extend_from_slice(chunk);
                while let Some(message) = reader.next(&mut bytes).unwrap() {
                    read.push(message);
                }
            }
            prop_assert_eq!(read, texts.into_iter().map(Incoming::Text).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _verdict = read_all(bytes.as_slice().into());
        }
    }
}
