//! HTTP/2 on one connection (RFC 9113): many event streams at once, where browsers open no more than
//! six connections of HTTP/1.1 to a host.
//!
//! The frames are those of the `h2` crate. actix-http would serve them too, but without a limit on open
//! requests, and without seeing that a client ended a silent stream or takes nothing of a full one.

mod exchange;
mod fields;
mod frame;
mod frames;
mod heads;
mod huffman;

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use actix_http::{HttpMessage, Request, Response};
use actix_service::Service;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::rt;
use bytes::Bytes;
use futures_util::future::poll_fn;
use h2::Reason;
use h2::server::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use self::exchange::{Exchange, Incoming, Open};
use self::frames::{Conduct, Frames};
use super::course::Course;
use super::line::MAX_HEAD_BYTES;
use super::sockets::Socket;
use crate::clock::within;
use crate::config::Limits;
use crate::panics::contained;
use crate::session::Loss;

/// The most bytes of a head that is refused in words, as `h2` counts them; it refuses longer ones with a bare 431, or
/// ends the connection.
const MAX_READ_HEAD: u32 = 4 * MAX_HEAD_BYTES as u32;

/// The most bytes of one response that wait for the connection.
const MAX_WAITING_BYTES: usize = 64 * 1024;

/// The most bytes of all requests' bodies on a connection that nobody has read yet.
const MAX_UNREAD_BYTES: u32 = 1024 * 1024;

/// How long a connection may take to end once it is to end.
const LAST_FRAMES: Duration = Duration::from_millis(700);

/// Serves a connection until it ends. Each request may come as late as `keep_alive` after the one before.
pub(super) async fn serve<IO, S, B>(
    io: IO,
    peer: Option<SocketAddr>,
    app: Rc<S>,
    socket: Socket,
    (limits, keep_alive): (&Limits, Duration),
    stopping: impl Future<Output = ()>,
) -> Result<(), h2::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Response<BoxBody>>,
    B: MessageBody + 'static,
{
    let conduct = Rc::<Conduct>::default();
    let handshake = Builder::new()
        .max_concurrent_streams(u32::try_from(limits.http2_streams).unwrap_or(u32::MAX))
        .max_header_list_size(MAX_READ_HEAD)
        .max_send_buffer_size(MAX_WAITING_BYTES)
        .initial_connection_window_size(MAX_UNREAD_BYTES)
        .handshake(Frames::new(io, conduct.clone(), limits.request_timeout));
    let mut connection = tokio::select! {
        connection = within(limits.request_timeout, handshake) => match connection {
            Ok(connection) => connection?,
            Err(_) => return Ok(()),
        },
        () = socket.closing() => return Ok(()),
    };
    let course = Course::new(socket.activity().clone());
    let mut stopping = pin!(stopping);
    let mut is_stopping = false;
    let open = Open::new(limits.request_timeout, keep_alive);
    loop {
        let accepted = tokio::select! {
            accepted = within(open.time_left(), connection.accept()) => accepted,
            () = &mut stopping, if !is_stopping => {
                is_stopping = true;
                connection.graceful_shutdown();
                continue;
            }
            () = socket.closing() => return end(connection).await,
            reason = poll_fn(|cx| conduct.poll_verdict(cx)) => return cut(connection, reason).await,
        };
        match accepted {
            Ok(Some(request)) => {
                let (request, mut respond) = request?;
                let (head, body) = request.into_parts();
                let incoming = Incoming::new(body);
                let request = received(&head, peer, &incoming, &conduct, course.clone());
                let Ok(request) = request else {
                    respond.send_reset(Reason::PROTOCOL_ERROR);
                    continue;
                };
                let exchange = Exchange::new(respond, incoming, limits, &open);
                rt::spawn(contained(Box::pin(exchange.run(app.clone(), request))));
            }
            Ok(None) => return Ok(()),
            Err(_) if open.time_left().is_zero() => return end(connection).await,
            Err(_busy) => {}
        }
    }
}

/// Says that a connection ends, and ends it.
async fn end<IO>(mut connection: Connection<IO, Bytes>) -> Result<(), h2::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    connection.graceful_shutdown();
    let ended = poll_fn(|cx| connection.poll_closed(cx));
    within(LAST_FRAMES, ended).await.unwrap_or(Ok(()))
}

/// Ends a connection at once, and says why.
async fn cut<IO>(mut connection: Connection<IO, Bytes>, reason: Reason) -> Result<(), h2::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    debug!(%reason, "a connection of HTTP/2 is ended for what it sends");
    connection.abrupt_shutdown(reason);
    let ended = poll_fn(|cx| connection.poll_closed(cx));
    within(LAST_FRAMES, ended).await.unwrap_or(Ok(()))
}

/// A request as the application takes it; nothing where it can't be told.
fn received(
    head: &http::request::Parts,
    peer: Option<SocketAddr>,
    incoming: &Rc<Incoming>,
    conduct: &Conduct,
    course: Rc<Course>,
) -> Result<Request, heads::Untold> {
    let mut request = Request::with_payload(incoming.payload());
    request.extensions_mut().insert(course);
    request.extensions_mut().insert(Rc::<Loss>::default());
    heads::read(request.head_mut(), head, conduct.has_stand_ins())?;
    request.head_mut().peer_addr = peer;
    Ok(request)
}
