//! A client of HTTP/2 without TLS that writes its frames itself.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame (RFC 9113, section 4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, carried: &[u8]) -> Vec<u8> {
    let length = u32::try_from(carried.len()).expect("a length").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), carried].concat()
}

/// The fields of a request (RFC 7541), each written out.
pub fn fields(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        assert!(text.len() < 127, "a short text");
        [&[text.len() as u8], text.as_bytes()].concat()
    };
    let pseudo = [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path)];
    let all = pseudo.iter().chain(more);
    all.flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// A frame that came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub carried: Vec<u8>,
}

impl Frame {
    /// The reason that a reset or a last frame gives.
    pub fn reason(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let reason = self.carried[at..].first_chunk().expect("a reason");
        u32::from_be_bytes(*reason)
    }

    /// What it carries, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.carried).into_owned()
    }
}

/// One connection.
pub struct Frames(pub TcpStream);

impl Frames {
    /// A connection that has said how it begins.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::with_window(address, 65_535).await
    }

    /// One on which each answer may send so many bytes before more are asked for.
    pub async fn with_window(address: SocketAddr, bytes: u32) -> Self {
        let mut frames = Self(TcpStream::connect(address).await.expect("a connection"));
        let window = [&[0, 4][..], &bytes.to_be_bytes()].concat();
        frames.send(&[PREFACE, &frame(SETTINGS, 0, 0, &window)].concat()).await;
        frames
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("it is sent");
    }

    /// Sends a request without a body.
    pub async fn ask(&mut self, stream: u32, method: &str, path: &str) {
        let head = fields(method, path, &[]);
        self.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)).await;
    }

    /// The next frame; nothing at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        timeout(PATIENCE, self.read()).await.expect("a frame in time")
    }

    async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, _, s @ ..] = head;
        let mut carried = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut carried).await.ok()?;
        Some(Frame { kind, stream: u32::from_be_bytes(s), carried })
    }

    /// The next frame of this kind, and the end of a wait for one.
    pub async fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            match self.next().await {
                Some(frame) if frame.kind == kind => return frame,
                Some(frame) => assert_ne!(frame.kind, GOAWAY, "{frame:?}"),
                None => panic!("the connection ended"),
            }
        }
    }

    /// Reads what is sent of an answer until it says this.
    pub async fn data_until(&mut self, words: &str) {
        let mut came = String::new();
        while !came.contains(words) {
            came.push_str(&self.next_of(DATA).await.text());
        }
    }

    /// The reason why the broker ends the connection, once it has.
    pub async fn end(&mut self) -> Option<u32> {
        let mut reason = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                reason = Some(frame.reason());
            }
        }
        reason
    }
}
