//! Smaller messages: permessage-deflate (RFC 7692).
//!
//! What is sent is compressed each message by itself: so a compressed event is the same bytes for every session
//! that agreed upon it, and is compressed once. A client may refer back to what it sent, as libraries do
//! that can't or won't do without: that is kept for it, in a bounded [`ClientContext`]. Compressors and the
//! inflater belong to the thread. Inflating stops at the limit, so a small message can't become a large one.

mod context;
mod offers;

use std::cell::RefCell;

use actix_http::ws::{OpCode, Parser};
use actix_web::http::header::{HeaderMap, HeaderValue};
use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

pub use self::context::{ClientContext, Contexts};
use self::offers::Inbound;
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

/// The most blocks of a message that call themselves the last one, where each means to look back anew. No known
/// compressor makes more than one.
const MAX_LAST_BLOCKS: usize = 16;

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
    /// How the client compresses.
    inbound: Inbound,
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
    /// Takes the first acceptable offer of an upgrade request, if there is one, with what the client's messages
    /// will refer to, if they may; messages of `min_bytes` or more are then compressed. Where `contexts` have no
    /// room for an offer, it is not acceptable.
    pub fn negotiate(
        headers: &HeaderMap,
        min_bytes: usize,
        contexts: &Contexts,
    ) -> Result<Option<(Self, Option<ClientContext>)>, Problem> {
        let agree = |offers::Terms { asked, inbound }| {
            let context = match inbound.bits() {
                Some(bits) => Some(contexts.take(bits)?),
                None => None,
            };
            Some((Self { asked, inbound, min_bytes }, context))
        };
        Ok(offers::acceptable(headers)?.into_iter().find_map(agree))
    }

    /// The `Sec-WebSocket-Extensions` that tells the client.
    pub fn answer(&self) -> HeaderValue {
        macro_rules! answer {
            ($($more:literal)*) => {
                concat!("permessage-deflate; server_no_context_takeover", $($more),*)
            };
        }
        HeaderValue::from_static(match (self.inbound, self.asked) {
            (Inbound::Alone, None) => answer!("; client_no_context_takeover"),
            (Inbound::Alone, Some(Window::Full)) => {
                answer!("; client_no_context_takeover" "; server_max_window_bits=15")
            }
            (Inbound::Alone, Some(Window::Small)) => {
                answer!("; client_no_context_takeover" "; server_max_window_bits=9")
            }
            (Inbound::Asked, None) => answer!("; client_max_window_bits=10"),
            (Inbound::Asked, Some(Window::Full)) => {
                answer!("; client_max_window_bits=10" "; server_max_window_bits=15")
            }
            (Inbound::Asked, Some(Window::Small)) => {
                answer!("; client_max_window_bits=10" "; server_max_window_bits=9")
            }
            (Inbound::Own(_), None) => answer!(),
            (Inbound::Own(_), Some(Window::Full)) => answer!("; server_max_window_bits=15"),
            (Inbound::Own(_), Some(Window::Small)) => answer!("; server_max_window_bits=9"),
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

/// A received message as it was before it was compressed. It may refer back to the messages of its `context`,
/// if it has one, and is one of them from here on.
pub fn inflate(
    mut stream: BytesMut,
    max_bytes: usize,
    mut context: Option<&mut ClientContext>,
) -> Result<BytesMut, Close> {
    let mut message = BytesMut::new();
    if stream.is_empty() {
        // What some compressors make of an empty message.
        return Ok(message);
    }
    stream.extend_from_slice(&END);
    let mut rest = &stream[..];
    let mut step = [0; STEP];
    // How much of the message its context knows, and how often that was put before the inflater.
    let (mut known, mut begun) = (0, 1);
    INFLATER.with_borrow_mut(|inflater| {
        begin(inflater, context.as_deref())?;
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
                Status::StreamEnd => {
                    if let Some(context) = &mut context {
                        context.remember(&message[known..]);
                        (known, begun) = (message.len(), begun + 1);
                    }
                    if rest.is_empty() {
                        return Ok(message);
                    }
                    // A block may call itself the last one without being it (section 7.2.3.4).
                    if begun > MAX_LAST_BLOCKS {
                        return Err(Close::ProtocolError);
                    }
                    begin(inflater, context.as_deref())?;
                }
                Status::Ok | Status::BufError if inflated.is_empty() => {
                    return Err(Close::ProtocolError);
                }
                Status::Ok | Status::BufError => {}
            }
        }
    })
}

/// Has an inflater read a stream that may refer back to `context`.
fn begin(inflater: &mut Decompress, context: Option<&ClientContext>) -> Result<(), Close> {
    inflater.reset(false);
    match context.map(ClientContext::past) {
        None | Some([]) => Ok(()),
        Some(past) => inflater.set_dictionary(past).map(|_| ()).map_err(|_| Close::Internal),
    }
}

#[cfg(test)]
mod tests;
