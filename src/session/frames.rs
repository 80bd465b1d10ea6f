//! WebSocket messages out of bytes, as RFC 6455 says, with nothing buffered that is not wanted.
//!
//! A frame is judged by its header as soon as that is there, before its payload is waited for.
//! Fragments are put together under the same limit as a frame; a compressed message (RFC 7692) is
//! inflated when it is whole, under that limit too.

use bytes::{Buf, Bytes, BytesMut};

use super::deflate::{ClientContext, RSV1, inflate};
use crate::model::Close;

/// What one message may be, and cost.
#[derive(Debug, Clone, Copy)]
pub struct FrameLimits {
    /// The longest message, in bytes, as it comes and as it is inflated.
    pub message_bytes: usize,
    /// The most frames a message may come in.
    pub message_fragments: usize,
    /// Whether messages may come compressed.
    pub deflate: bool,
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
    /// What compressed messages may refer back to. In a box, for most have none.
    context: Option<Box<ClientContext>>,
}

/// A message whose last fragment has not come yet.
#[derive(Debug)]
struct Partial {
    text: bool,
    deflated: bool,
    payload: BytesMut,
    fragments: usize,
}

/// The header of a frame that may come.
struct Header {
    finished: bool,
    deflated: bool,
    op: u8,
    mask: [u8; 4],
    /// Where the payload begins and ends, counted from the header's first byte.
    payload: std::ops::Range<usize>,
}

/// The opcodes of RFC 6455, section 11.8.
mod op {
    pub const CONTINUATION: u8 = 0;
    pub const TEXT: u8 = 1;
    pub const BINARY: u8 = 2;
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;
}

impl FrameReader {
    /// A reader at the start of a connection.
    pub fn new(limits: FrameLimits) -> Self {
        Self { limits, partial: None, context: None }
    }

    /// The same, for a client whose compressed messages may refer back to those before.
    pub fn remembering(self, context: Option<ClientContext>) -> Self {
        Self { context: context.map(Box::new), ..self }
    }

    /// Takes the next message out of `bytes`; nothing where more bytes are needed. After an error
    /// the connection can only be closed.
    pub fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Incoming>, Close> {
        loop {
            let Some(header) = self.header(bytes)? else { return Ok(None) };
            if bytes.len() < header.payload.end {
                return Ok(None);
            }
            let mut payload = bytes.split_to(header.payload.end);
            payload.advance(header.payload.start);
            unmask(&mut payload, header.mask);
            let message = match header.op {
                op::PING => Some(Incoming::Ping(payload.freeze())),
                op::PONG => Some(Incoming::Pong),
                op::CLOSE => Some(Incoming::Close(close_code(&payload)?)),
                _ => self.add(&header, payload)?,
            };
            if message.is_some() {
                return Ok(message);
            }
        }
    }

    /// The header at the start of `bytes` (RFC 6455, section 5.2), once it is there; a frame that
    /// may not come is refused by its first bytes.
    fn header(&self, bytes: &[u8]) -> Result<Option<Header>, Close> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let (finished, reserved, op) = (first & 0x80 != 0, first & 0x70, first & 0x0f);
        let (masked, short_length) = (second & 0x80 != 0, second & 0x7f);
        let is_legal = match op {
            op::CONTINUATION => self.partial.is_some(),
            op::TEXT | op::BINARY => self.partial.is_none(),
            op::CLOSE | op::PING | op::PONG => finished && short_length <= 125,
            _ => false,
        };
        // Only the first frame of a message says that it is compressed.
        let may_deflate = self.limits.deflate && matches!(op, op::TEXT | op::BINARY);
        let deflated = reserved == RSV1 && may_deflate;
        if !is_legal || !masked || (reserved != 0 && !deflated) {
            return Err(Close::ProtocolError);
        }
        let (length, rest) = match short_length {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        let length = self.permit(op, length)?;
        let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let start = bytes.len() - rest.len();
        Ok(Some(Header { finished, deflated, op, mask: *mask, payload: start..start + length }))
    }

    /// The length of a frame, if there is room for so much.
    fn permit(&self, op: u8, length: u64) -> Result<usize, Close> {
        let (bytes, fragments) = match &self.partial {
            Some(partial) => (partial.payload.len(), partial.fragments),
            None => (0, 0),
        };
        let room = self.limits.message_bytes.saturating_sub(bytes);
        let is_control = op >= op::CLOSE;
        match usize::try_from(length) {
            Ok(length) if is_control => Ok(length),
            Ok(length) if length <= room && fragments < self.limits.message_fragments => Ok(length),
            _ => Err(Close::TooLarge),
        }
    }

    /// Adds a data frame; returns the message if that was its last.
    fn add(&mut self, header: &Header, payload: BytesMut) -> Result<Option<Incoming>, Close> {
        let whole = match self.partial.take() {
            None => {
                let (text, deflated) = (header.op == op::TEXT, header.deflated);
                Partial { text, deflated, payload, fragments: 1 }
            }
            Some(mut partial) => {
                partial.payload.extend_from_slice(&payload);
                partial.fragments += 1;
                partial
            }
        };
        if !header.finished {
            self.partial = Some(whole);
            return Ok(None);
        }
        let payload = match whole.deflated {
            true => inflate(whole.payload, self.limits.message_bytes, self.context.as_deref_mut())?,
            false => whole.payload,
        };
        if !whole.text {
            return Ok(Some(Incoming::Binary(payload.freeze())));
        }
        match String::from_utf8(payload.into()) {
            Ok(text) => Ok(Some(Incoming::Text(text))),
            Err(_) => Err(Close::InvalidText),
        }
    }
}

/// Takes the mask off a payload (RFC 6455, section 5.3).
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let (words, rest) = payload.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask) {
        *byte ^= mask;
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
    use actix_http::ws::{OpCode, Parser};
    use proptest::prelude::*;

    const LIMITS: FrameLimits =
        FrameLimits { message_bytes: 1_000, message_fragments: 3, deflate: false };

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

    fn read_all_deflated(frames: &[BytesMut]) -> Result<Vec<Incoming>, Close> {
        let mut reader = FrameReader::new(FrameLimits { deflate: true, ..LIMITS });
        let (mut bytes, mut messages) = (joined(frames), Vec::new());
        while let Some(message) = reader.next(&mut bytes)? {
            messages.push(message);
        }
        Ok(messages)
    }

    /// The same frame with the bit of compression set.
    fn deflated(op: OpCode, finished: bool, stream: &[u8]) -> BytesMut {
        let mut frame = frame(op, finished, stream);
        frame[0] |= RSV1;
        frame
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

    /// "Hello" (RFC 7692, section 7.2.3.1).
    const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";

    #[test]
    fn a_compressed_message_may_come_in_fragments_and_between_plain_ones() {
        let frames = [
            deflated(OpCode::Text, true, HELLO),
            frame(OpCode::Text, true, b"plain"),
            deflated(OpCode::Binary, false, &HELLO[..3]),
            frame(OpCode::Ping, true, b"p"),
            frame(OpCode::Continue, true, &HELLO[3..]),
            deflated(OpCode::Text, false, HELLO),
            frame(OpCode::Continue, true, b""),
            deflated(OpCode::Text, true, b"\x00"),
        ];
        let expected = [
            Incoming::Text("Hello".into()),
            Incoming::Text("plain".into()),
            Incoming::Ping("p".into()),
            Incoming::Binary("Hello".into()),
            Incoming::Text("Hello".into()),
            Incoming::Text(String::new()),
        ];
        assert_eq!(read_all_deflated(&frames), Ok(expected.into()));
    }

    #[test]
    fn the_bit_of_compression_is_for_the_first_frame_of_a_message_where_it_was_agreed_upon() {
        let begun = frame(OpCode::Text, false, b"a");
        for (what, frames) in [
            ("on a continuation", vec![begun, deflated(OpCode::Continue, true, HELLO)]),
            ("on a ping", vec![deflated(OpCode::Ping, true, b"")]),
            ("on a close", vec![deflated(OpCode::Close, true, b"")]),
            ("with another bit", vec![[0xe1, 0x80][..].into()]),
            ("instead of another bit", vec![[0xa1, 0x80][..].into()]),
        ] {
            assert_eq!(read_all_deflated(&frames), Err(Close::ProtocolError), "{what}");
        }
        let not_agreed = deflated(OpCode::Text, true, HELLO);
        assert_eq!(read_all(not_agreed), Err(Close::ProtocolError));
    }

    #[test]
    fn what_is_inflated_is_held_to_the_same_rules() {
        // A fixed block: "\xff" and its end.
        let not_text = deflated(OpCode::Text, true, b"\xfa\x0f\x00");
        assert_eq!(read_all_deflated(&[not_text]), Err(Close::InvalidText));
        let broken = deflated(OpCode::Text, true, b"\xff\xff");
        assert_eq!(read_all_deflated(&[broken]), Err(Close::ProtocolError));
        // 2,000 zeros.
        let mut compressor = flate2::Compress::new(flate2::Compression::fast(), false);
        let mut stream = Vec::with_capacity(100);
        let flush = flate2::FlushCompress::Sync;
        compressor.compress_vec(&[0; 2_000], &mut stream, flush).unwrap();
        stream.truncate(stream.len() - 4);
        let bomb = deflated(OpCode::Binary, true, &stream);
        assert_eq!(read_all_deflated(&[bomb]), Err(Close::TooLarge));
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
