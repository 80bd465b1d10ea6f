//! The listening socket, and what every accepted one needs.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tracing::debug;

use super::ServeError;
use crate::config::Limits;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;

/// Binds an address.
pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    listen(address).map_err(|source| ServeError::Listen { address, source })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted broker takes its address back at once.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets what an accepted socket needs: what is written leaves at once, and a peer that vanished
/// without a word is found by the kernel, also while data waits for it. What the kernel takes for a peer
/// that does not read is bounded: by itself it takes megabytes, and hides who is slow.
pub(super) fn prepare(stream: &TcpStream, limits: &Limits) {
    let (socket, stall_timeout) = (SockRef::from(stream), limits.stall_timeout);
    // The kernel counts these in whole seconds, and takes no 0.
    let seconds = |time: Duration| time.max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new()
        .with_time(seconds(stall_timeout))
        .with_interval(seconds(stall_timeout / 3));
    // Each for itself: what one of them can't do must not cost the others.
    let set = [
        socket.set_tcp_nodelay(true),
        socket.set_tcp_keepalive(&keepalive),
        socket.set_send_buffer_size(limits.send_buffer_bytes),
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(stall_timeout)),
    ];
    for error in set.into_iter().filter_map(Result::err) {
        debug!(%error, "a socket could not be prepared");
    }
}
