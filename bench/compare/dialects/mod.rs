//! How each peer is spoken to: its way to subscribe and to publish, from its published protocol.

mod centrifugo;
mod mercure;
mod nats;
mod nchan;
mod node;
mod pusher;

use std::io::Write;

use fanfare::cli::bench::{Opening, Target, Transport, upgrade};

pub use centrifugo::Centrifugo;
pub use mercure::Mercure;
pub use nats::Nats;
pub use nchan::Nchan;
pub use node::{SocketIo, Ws};
pub use pusher::Pusher;

/// A subscriber that begins with a WebSocket.
fn websocket(target: &Target, path: &str, messages: Vec<Vec<u8>>, lives: usize) -> Opening {
    let mut request = Vec::new();
    target.request(&mut request, "GET", path);
    upgrade(&mut request);
    request.extend_from_slice(b"\r\n");
    Opening { request, transport: Transport::Text, messages, lives }
}

/// A subscriber that begins with an event stream.
fn event_stream(target: &Target, path: &str) -> Opening {
    let mut request = Vec::new();
    target.request(&mut request, "GET", path);
    request.extend_from_slice(b"Accept: text/event-stream\r\n\r\n");
    Opening { request, transport: Transport::EventStream, messages: Vec::new(), lives: 0 }
}

/// A POST, with lines of its own in its head.
fn post(target: &Target, path: &str, lines: &str, body: &[u8], out: &mut Vec<u8>) {
    target.request(out, "POST", path);
    write!(out, "{lines}Content-Length: {}\r\n\r\n", body.len()).expect("room in memory");
    out.extend_from_slice(body);
}
