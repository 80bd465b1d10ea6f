//! A connection of HTTP/1.1 on which a test writes what it likes, when it likes.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// One connection.
pub struct Raw(pub TcpStream);

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.expect("a connection"))
    }

    /// Sends the head of a `POST`, and returns once the broker has it and waits for the body.
    pub async fn begin(address: SocketAddr, path: &str, key: &str, body: &str) -> Self {
        let mut raw = Self::connect(address).await;
        let length = body.len();
        raw.send(&format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\
             Content-Length: {length}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        ))
        .await;
        assert!(raw.head().await.starts_with("HTTP/1.1 100"), "it waits for the body");
        raw
    }

    pub async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("it is sent");
    }

    /// Sends what may not be taken.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// The next head that comes.
    pub async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = timeout(PATIENCE, self.0.read_u8()).await.expect("a head in time");
            head.push(byte.expect("a whole head"));
        }
        String::from_utf8(head).expect("text")
    }

    /// Passes over so many bytes.
    pub async fn skip(&mut self, bytes: usize) {
        let mut passed = vec![0; bytes];
        let read = self.0.read_exact(&mut passed);
        timeout(PATIENCE, read).await.expect("bytes in time").expect("as many");
    }

    /// All that comes until the broker ends the connection.
    pub async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        // What was sent in vain makes an end that is a reset.
        _ = read.expect("the connection ends");
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// The status of the one response that is left.
    pub async fn status(&mut self) -> u16 {
        let rest = self.rest().await;
        let status = rest.get(9..12).and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no response: {rest:?}"))
    }
}

/// What one request of HTTP/1.1 is answered, written as it is: `|` stands for an end of a line.
pub async fn knock(address: SocketAddr, request: &str) -> (u16, String) {
    let mut raw = Raw::connect(address).await;
    raw.send(&request.replace('|', "\r\n")).await;
    let rest = raw.rest().await;
    (rest[9..12].parse().expect("a status"), rest)
}
