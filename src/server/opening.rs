//! What a connection begins with, looked at before anybody reads it.
//!
//! A listener without TLS speaks HTTP/1.1, and HTTP/2 with whoever knows that beforehand (RFC 9113, section
//! 3.3); on one with TLS, who speaks HTTP in the clear is told so.

use std::time::Duration;

use actix_web::rt::net::TcpStream;
use actix_web::rt::time::sleep;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::line::{HANG_UP, written};
use crate::clock::within;
use crate::model::Problem;

/// The first line that a client of HTTP/2 begins with (RFC 9113, section 3.4). No request of HTTP/1.1 has it.
const PREFACE: &[u8; 14] = b"PRI * HTTP/2.0";

/// The first byte of a record of TLS that is part of a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;

/// When to look again at a beginning that is no whole preface yet: there is no sign that more of it came.
const SOON: Duration = Duration::from_millis(10);

/// The most that is read of a client which was turned away.
const MAX_UNREAD: usize = 64 * 1024;

/// What a client begins to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    Tls,
    Http1,
    Http2,
}

impl Opening {
    /// What these first bytes begin; nothing where more have to come.
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [HANDSHAKE, ..] => Some(Self::Tls),
            _ if bytes.starts_with(PREFACE) => Some(Self::Http2),
            _ if PREFACE.starts_with(bytes) => None,
            _ => Some(Self::Http1),
        }
    }

    /// Waits until it shows, and takes nothing. Who says nothing and leaves speaks HTTP/1.1.
    pub(super) async fn look(io: &TcpStream) -> Self {
        let mut bytes = [0; PREFACE.len()];
        let mut pause = SOON;
        loop {
            let came = io.peek(&mut bytes).await.unwrap_or_default();
            if came == 0 {
                return Self::Http1;
            }
            if let Some(opening) = Self::of(&bytes[..came]) {
                return opening;
            }
            // The rest comes at once, or its sender is in no hurry.
            sleep(pause).await;
            pause *= 2;
        }
    }
}

/// Answers who can't be served, in words of HTTP/1.1, and hangs up once that can have been read.
pub(super) async fn turn_away(mut io: TcpStream, problem: &Problem) {
    let telling = async {
        io.write_all(&written(problem)).await?;
        io.shutdown().await?;
        tokio::io::copy(&mut io.take(MAX_UNREAD as u64), &mut tokio::io::sink()).await
    };
    // Who does not listen is not waited for.
    _ = within(HANG_UP, telling).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_say_what_is_spoken() {
        for (bytes, opening) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(Opening::Http1)),
            (b"POST", Some(Opening::Http1)),
            (b"PRO", Some(Opening::Http1)),
            (b"P", None),
            (b"PRI * HTTP/2", None),
            (b"PRI * HTTP/1.1", Some(Opening::Http1)),
            (b"PRI * HTTP/2.0\r\n\r\n", Some(Opening::Http2)),
            (&[0x16, 3, 1], Some(Opening::Tls)),
            (&[0], Some(Opening::Http1)),
        ] {
            assert_eq!(Opening::of(bytes), opening, "{bytes:?}");
        }
    }
}
