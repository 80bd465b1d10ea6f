//! Smaller messages: permessage-deflate (RFC 7692), each message by itself.
//!
//! Without context takeover a compressed event is the same bytes for every session that agreed upon
//! it, so it is compressed once, and a connection keeps no state: compressors and the inflater
//! belong to the thread. Inflating stops at the limit, so a small message can't become a large one.

mod offers;

use std::cell::RefCell;

use actix_http::ws::{OpCode, Parser};
use actix_web::http::header::{HeaderMap, HeaderValue};
use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::model::{Close, Problem};

/// The bit of a frame's first byte that says that its message is compressed (RFC 7692, section 6).
pub const RSV1: u8 = 0x40;

/// How hard to try: the next levels save a fiftieth more and take up to three times as long.
const LEVEL: u32 = 2;

/// What ends a flushed stream and is not sent (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// What follows a received message: the tail, and an empty last block, for only a stream that was
/// whole comes to its end there.
const END: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];

/// How much is inflated at a time, in bytes.
const STEP: usize = 8 * 1024;

/// How far back a compressed message may refer to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// 32 KiB.
    Full,
    /// 512 bytes: for clients that ask for anything less than the full one.
    Small,
}

/// What was agreed upon with one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deflate {
    /// The window that the client asked for, if it asked.
    asked: Option<Window>,
    /// The shortest message that is compressed, in bytes.
    min_bytes: usize,
}

thread_local! {
    static FULL: RefCell<Compress> = RefCell::new(Window::Full.compressor());
    static SMALL: RefCell<Compress> = RefCell::new(Window::Small.compressor());
    static INFLATER: RefCell<Decompress> = RefCell::new(Decompress::new(false));
}

impl Window {
    fn bits(self) -> u8 {
        match self {
            Window::Full => 15,
            Window::Small => 9,
        }
    }

    fn compressor(self) -> Compress {
        Compress::new_with_window_bits(Compression::new(LEVEL), false, self.bits())
    }

    /// The part of a flushed stream that is sent; `None` where it is not shorter than `message`.
    fn compress(self, message: &[u8]) -> Option<Vec<u8>> {
        let compressor = match self {
            Window::Full => &FULL,
            Window::Small => &SMALL,
        };
        compressor.with_borrow_mut(|compressor| {
            compressor.reset();
            // A stream that fills this room has not become shorter, or is not whole.
            let room = message.len() + TAIL.len();
            let mut stream = Vec::with_capacity(room);
            compressor.compress_vec(message, &mut stream, FlushCompress::Sync).ok()?;
            let sent = stream.strip_suffix(&TAIL)?.len();
            stream.truncate(sent);
            (sent < message.len()).then_some(stream)
        })
    }
}

impl Deflate {
    /// Takes the first acceptable offer of an upgrade request, if there is one; messages of
    /// `min_bytes` or more are then compressed.
    pub fn negotiate(headers: &HeaderMap, min_bytes: usize) -> Result<Option<Self>, Problem> {
        let accepted = offers::accept(headers)?;
        Ok(accepted.map(|asked| Self { asked, min_bytes }))
    }

    /// The `Sec-WebSocket-Extensions` that tells the client.
    pub fn answer(&self) -> HeaderValue {
        HeaderValue::from_static(match self.asked {
            None => "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            Some(Window::Full) => {
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=15"
            }
            Some(Window::Small) => {
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=9"
            }
        })
    }

    /// The window of what is sent.
    pub fn window(&self) -> Window {
        self.asked.unwrap_or(Window::Full)
    }

    /// A message in one frame as a smaller frame; `None` where it would not be smaller, or is too
    /// short to try.
    pub fn shrink(&self, frame: &[u8]) -> Option<Bytes> {
        let (&first, payload) = (frame.first()?, payload(frame)?);
        if payload.len() < self.min_bytes {
            return None;
        }
        let stream = self.window().compress(payload)?;
        let mut small = BytesMut::with_capacity(stream.len() + 10);
        Parser::write_message(&mut small, stream, OpCode::from(first & 0x0f), true, false);
        small[0] |= RSV1;
        Some(small.freeze())
    }
}

/// The payload of a frame that is not masked (RFC 6455, section 5.2).
fn payload(frame: &[u8]) -> Option<&[u8]> {
    let start = match frame.get(1)? {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    frame.get(start..)
}

/// A received message as it was before it was compressed.
pub fn inflate(mut stream: BytesMut, max_bytes: usize) -> Result<BytesMut, Close> {
    let mut message = BytesMut::new();
    if stream.is_empty() {
        // What some compressors make of an empty message.
        return Ok(message);
    }
    stream.extend_from_slice(&END);
    let mut rest = &stream[..];
    let mut step = [0; STEP];
    INFLATER.with_borrow_mut(|inflater| {
        inflater.reset(false);
        loop {
            let (read, written) = (inflater.total_in(), inflater.total_out());
            let status = inflater.decompress(rest, &mut step, FlushDecompress::Sync);
            let status = status.map_err(|_| Close::ProtocolError)?;
            rest = &rest[(inflater.total_in() - read) as usize..];
            let inflated = &step[..(inflater.total_out() - written) as usize];
            if message.len() + inflated.len() > max_bytes {
                return Err(Close::TooLarge);
            }
            message.extend_from_slice(inflated);
            match status {
                Status::StreamEnd if rest.is_empty() => return Ok(message),
                // A block may call itself the last one without being it (section 7.2.3.4).
                Status::StreamEnd => inflater.reset(false),
                Status::Ok | Status::BufError if inflated.is_empty() => {
                    return Err(Close::ProtocolError);
                }
                Status::Ok | Status::BufError => {}
            }
        }
    })
}

#[cfg(test)]
mod tests;
