//! TCP connections of the bench, from one address of this machine or from many.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use super::dialect::Transport;
use super::response;
use super::stream::Stream;

/// Where connections come from.
#[derive(Debug, Clone, Copy)]
pub struct Sources {
    count: usize,
}

impl Sources {
    /// Wherever the system likes.
    pub const SYSTEM: Self = Self { count: 0 };

    /// Connections from 127.0.0.1 up to so many addresses beyond it, in turn, each of which has
    /// ports of its own; with 0, or to a server elsewhere, the system chooses.
    pub fn new(count: usize, server: SocketAddr) -> Self {
        Self { count: if server.ip().is_loopback() && server.is_ipv4() { count } else { 0 } }
    }

    /// The address of a connection.
    fn of(self, number: usize) -> Option<IpAddr> {
        let place = number.checked_rem(self.count)?;
        Some(Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + place as u32).into())
    }

    /// Connects, as the connection of this number.
    pub async fn connect(self, server: SocketAddr, number: usize) -> io::Result<TcpStream> {
        let stream = match self.of(number) {
            None => TcpStream::connect(server).await?,
            Some(source) => {
                let socket = TcpSocket::new_v4()?;
                socket.bind(SocketAddr::new(source, 0))?;
                socket.connect(server).await?
            }
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Sends the request that opens a subscriber and waits until the server grants it. Leaves what came
/// behind its answer in `received`.
pub async fn open(
    stream: &mut Stream,
    request: &[u8],
    transport: Transport,
    received: &mut Vec<u8>,
) -> Result<response::Body, String> {
    stream.send(request).await.map_err(lost)?;
    let head = loop {
        if let Some(head) = response::head(received)? {
            break head;
        }
        if stream.read_buf(received).await.map_err(lost)? == 0 {
            return Err("the server hung up".into());
        }
    };
    let granted = if transport == Transport::EventStream { 200 } else { 101 };
    if head.status == granted {
        received.drain(..head.length);
        return Ok(head.body);
    }
    // The reason is usually there already; one that is not is not worth waiting for.
    let reason = String::from_utf8_lossy(&received[head.length..]);
    Err(format!("the server answered HTTP {} {}", head.status, reason.trim()))
}

/// Sends a request, and waits for the whole answer.
pub async fn ask(stream: &mut Stream, request: &[u8]) -> Result<Vec<u8>, String> {
    stream.send(request).await.map_err(lost)?;
    let mut received = Vec::new();
    while response::response(&received)?.is_none() {
        if stream.read_buf(&mut received).await.map_err(lost)? == 0 {
            return Err("the server hung up".into());
        }
    }
    Ok(received)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn lost(error: io::Error) -> String {
    format!("the connection broke: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_take_turns_on_this_machine_alone() {
        let here = SocketAddr::from(([127, 0, 0, 1], 80));
        let sources = Sources::new(3, here);
        let last = |number| sources.of(number).map(|source| source.to_string());
        assert_eq!(last(0).as_deref(), Some("127.0.0.1"));
        assert_eq!(last(5).as_deref(), Some("127.0.0.3"));
        assert_eq!(Sources::new(0, here).of(1), None);
        assert_eq!(Sources::new(3, SocketAddr::from(([192, 0, 2, 1], 80))).of(1), None);
    }
}
