//! A WebSocket client that sees frames as they are, and may offer compression (RFC 7692).

use bytes::{Buf, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// What browsers offer.
pub const OFFER: &str = "permessage-deflate; client_max_window_bits";

/// The bit of a frame's first byte that says that its message is compressed.
pub const RSV1: u8 = 0x40;

/// One connected client.
pub struct DeflateClient {
    stream: TcpStream,
    received: BytesMut,
    /// The `Sec-WebSocket-Extensions` of the answer.
    pub extensions: Option<String>,
}

/// One frame from the broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub first: u8,
    /// As it came.
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn is_compressed(&self) -> bool {
        self.first & RSV1 != 0
    }

    /// The message, inflated if need be.
    pub fn message(&self) -> Vec<u8> {
        if self.is_compressed() { inflate(&self.payload) } else { self.payload.clone() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.message()).expect("JSON")
    }
}

impl DeflateClient {
    /// Connects to `/v1/ws` of a broker with a query and more request headers; else the status.
    pub async fn connect(
        address: &str,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, String> {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let headers: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "GET /v1/ws{query} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut received = BytesMut::new();
        let end = loop {
            if let Some(at) = received.windows(4).position(|end| end == b"\r\n\r\n") {
                break at + 4;
            }
            stream.read_buf(&mut received).await.expect("a response");
        };
        let head = String::from_utf8(received.split_to(end).into()).expect("a head");
        if !head.starts_with("HTTP/1.1 101") {
            return Err(head.lines().next().unwrap_or_default().to_owned());
        }
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("sec-websocket-extensions").then(|| value.to_owned())
        };
        Ok(Self { stream, received, extensions: head.lines().find_map(header) })
    }

    /// Sends a masked frame.
    pub async fn send(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..=125 => frame.push(0x80 | short as u8),
            medium @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend((medium as u16).to_be_bytes());
            }
            long => {
                frame.push(0x80 | 127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame).await.expect("sent");
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.take_frame() {
                return frame;
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
            assert_ne!(read.expect("a frame in time").expect("a frame"), 0, "the broker hung up");
        }
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let &[first, length, ref rest @ ..] = &self.received[..] else { return None };
        let (start, length) = match length {
            126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (10, u64::from_be_bytes(*rest.first_chunk()?) as usize),
            short => (2, usize::from(short)),
        };
        if self.received.len() < start + length {
            return None;
        }
        self.received.advance(start);
        Some(Frame { first, payload: self.received.split_to(length).into() })
    }

    /// The next frame that holds a JSON message with this `op`.
    pub async fn until(&mut self, op: &str) -> Frame {
        loop {
            let frame = self.frame().await;
            if frame.first & 0x0f == 1 && frame.json()["op"] == op {
                return frame;
            }
        }
    }

    /// Reads to the close frame and returns its code.
    pub async fn close_code(&mut self) -> u16 {
        loop {
            let frame = self.frame().await;
            if frame.first == 0x88 {
                return u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
            }
        }
    }
}

/// A message as it is sent compressed.
pub fn deflate(message: &[u8]) -> Vec<u8> {
    let mut stream = Vec::with_capacity(message.len() + 1_024);
    let mut compressor = Compress::new(Compression::default(), false);
    compressor.compress_vec(message, &mut stream, FlushCompress::Sync).expect("compressed");
    stream.truncate(stream.len() - 4);
    stream
}

/// A message as it was before it was compressed.
pub fn inflate(stream: &[u8]) -> Vec<u8> {
    let whole = [stream, &[0, 0, 0xff, 0xff]].concat();
    let mut message = Vec::with_capacity(1 << 20);
    let mut inflater = Decompress::new(false);
    inflater.decompress_vec(&whole, &mut message, FlushDecompress::Sync).expect("a whole stream");
    assert_eq!(inflater.total_in() as usize, whole.len());
    message
}

/// What compresses messages one after the other, each of which may refer to those before.
pub struct Deflater(Compress);

impl Deflater {
    /// One with a window of `1 << bits` bytes.
    pub fn new(bits: u8) -> Self {
        Self(Compress::new_with_window_bits(Compression::default(), false, bits))
    }

    /// The next message as it is sent.
    pub fn message(&mut self, message: &[u8]) -> Vec<u8> {
        let mut stream = Vec::with_capacity(message.len() + 1_024);
        self.0.compress_vec(message, &mut stream, FlushCompress::Sync).expect("compressed");
        stream.truncate(stream.len() - 4);
        stream
    }
}
