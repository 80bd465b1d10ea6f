//! HTTP/2 on one connection (RFC 9113): many event streams at once, where browsers open no more than
//! six connections of HTTP/1.1 to a host.
//!
//! The frames are those of the `h2` crate. actix-http would serve them too, but without a limit on open
//! requests, and without seeing that a client ended a silent stream or takes nothing of a full one.

mod heads;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::error::PayloadError;
use actix_http::{BoxedPayloadStream, HttpMessage, Payload, Request, Response};
use actix_service::Service;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::http::Method;
use actix_web::rt;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::poll_fn;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::course::Course;
use super::line::MAX_HEAD_BYTES;
use super::sockets::Socket;
use crate::clock::within;
use crate::config::Limits;
use crate::panics::contained;
use crate::session::Loss;

/// The most bytes of one response that wait for the connection.
const MAX_WAITING_BYTES: usize = 64 * 1024;

/// The most bytes of all requests' bodies on a connection that nobody has read yet.
const MAX_UNREAD_BYTES: u32 = 1024 * 1024;

/// How long a connection may be without an open request; then it is closed.
const IDLE: Duration = Duration::from_secs(60);

/// How long a connection may take to end once it is to end.
const LAST_FRAMES: Duration = Duration::from_millis(700);

/// Serves a connection until it ends.
pub(super) async fn serve<IO, S, B>(
    io: IO,
    peer: Option<SocketAddr>,
    app: Rc<S>,
    socket: Socket,
    limits: &Limits,
    stopping: impl Future<Output = ()>,
) -> Result<(), h2::Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request> + 'static,
    S::Response: Into<Response<B>>,
    S::Error: Into<Response<BoxBody>>,
    B: MessageBody + 'static,
{
    let handshake = Builder::new()
        .max_concurrent_streams(u32::try_from(limits.http2_streams).unwrap_or(u32::MAX))
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_send_buffer_size(MAX_WAITING_BYTES)
        .initial_connection_window_size(MAX_UNREAD_BYTES)
        .handshake(io);
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
    let open = Rc::new(Cell::new(0_usize));
    loop {
        let accepted = tokio::select! {
            accepted = within(IDLE, connection.accept()) => accepted,
            () = &mut stopping, if !is_stopping => {
                is_stopping = true;
                connection.graceful_shutdown();
                continue;
            }
            () = socket.closing() => return end(connection).await,
        };
        match accepted {
            Ok(Some(request)) => {
                let (request, mut respond) = request?;
                let Ok(request) = received(request, peer, course.clone()) else {
                    respond.send_reset(Reason::PROTOCOL_ERROR);
                    continue;
                };
                let exchange = Exchange::new(respond, limits.stall_timeout, &open);
                rt::spawn(contained(Box::pin(exchange.run(app.clone(), request))));
            }
            Ok(None) => return Ok(()),
            Err(_idle) if open.get() == 0 => return end(connection).await,
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

/// A request as the application knows it.
fn received(
    request: http::Request<RecvStream>,
    peer: Option<SocketAddr>,
    course: Rc<Course>,
) -> Result<Request, heads::Untold> {
    let (parts, body) = request.into_parts();
    let payload: BoxedPayloadStream = Box::pin(Incoming(body));
    let mut request = Request::with_payload(Payload::Stream { payload });
    request.extensions_mut().insert(course);
    request.extensions_mut().insert(Rc::<Loss>::default());
    heads::read(request.head_mut(), &parts)?;
    request.head_mut().peer_addr = peer;
    Ok(request)
}

/// The body of a request.
struct Incoming(RecvStream);

impl Stream for Incoming {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let failed = |error| PayloadError::Incomplete(Some(io::Error::other(error)));
        self.0.poll_data(cx).map(|data| {
            data.map(|data: Result<Bytes, h2::Error>| {
                let bytes = data.map_err(failed)?;
                // Taken: the client may send as much more.
                self.0.flow_control().release_capacity(bytes.len()).map_err(failed)?;
                Ok(bytes)
            })
        })
    }
}

/// One request that is answered.
struct Exchange {
    respond: SendResponse<Bytes>,
    stall_timeout: Duration,
    open: Rc<Cell<usize>>,
    /// Why its stream was lost.
    loss: Rc<Loss>,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.open.set(self.open.get() - 1);
    }
}

impl Exchange {
    fn new(respond: SendResponse<Bytes>, stall_timeout: Duration, open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self { respond, stall_timeout, open: open.clone(), loss: Rc::default() }
    }

    async fn run<S, B>(mut self, app: Rc<S>, request: Request)
    where
        S: Service<Request>,
        S::Response: Into<Response<B>>,
        S::Error: Into<Response<BoxBody>>,
        B: MessageBody + 'static,
    {
        let is_head = request.method() == Method::HEAD;
        self.loss = request.extensions().get::<Rc<Loss>>().cloned().unwrap_or_default();
        let answered = tokio::select! {
            response = app.call(request) => match response {
                Ok(response) => self.answer(response.into(), is_head).await,
                Err(error) => self.answer(error.into(), is_head).await,
            },
            // The client has lost interest.
            _ = poll_fn(|cx| self.respond.poll_reset(cx)) => Ok(()),
        };
        if let Err(error) = answered {
            debug!(%error, "a response over HTTP/2 was cut short");
        }
    }

    async fn answer<B>(&mut self, response: Response<B>, is_head: bool) -> Result<(), h2::Error>
    where
        B: MessageBody + 'static,
    {
        let (response, body) = response.into_parts();
        let size = body.size();
        let ends = is_head || size.is_eof();
        let Ok(head) = heads::written(response.head(), size) else {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        };
        let mut stream = self.respond.send_response(head, ends)?;
        if ends {
            return Ok(());
        }
        let mut body = pin!(body);
        loop {
            let chunk = tokio::select! {
                chunk = poll_fn(|cx| body.as_mut().poll_next(cx)) => chunk,
                // A client that ends a stream in which nothing happens shows here alone.
                _ = poll_fn(|cx| stream.poll_reset(cx)) => return Ok(()),
            };
            match chunk {
                None => return stream.send_data(Bytes::new(), true),
                Some(Ok(chunk)) => {
                    let sent = self.send(&mut stream, chunk).await;
                    if let Err(error) = sent.as_ref().map_err(h2::Error::get_io)
                        && let Some(error) = error
                    {
                        self.loss.note(error);
                    }
                    if !sent? {
                        stream.send_reset(Reason::CANCEL);
                        return Ok(());
                    }
                }
                Some(Err(_)) => {
                    stream.send_reset(Reason::INTERNAL_ERROR);
                    return Ok(());
                }
            }
        }
    }

    /// Sends a chunk as the client takes it; false where it takes nothing for too long.
    async fn send(
        &self,
        stream: &mut SendStream<Bytes>,
        mut chunk: Bytes,
    ) -> Result<bool, h2::Error> {
        while !chunk.is_empty() {
            stream.reserve_capacity(chunk.len());
            while stream.capacity() == 0 {
                let room = poll_fn(|cx| stream.poll_capacity(cx));
                match within(self.stall_timeout, room).await {
                    Ok(Some(room)) => _ = room?,
                    Ok(None) => return Ok(false),
                    Err(_) => {
                        self.loss.stalled();
                        return Ok(false);
                    }
                }
            }
            let part = chunk.split_to(chunk.len().min(stream.capacity()));
            stream.send_data(part, false)?;
        }
        Ok(true)
    }
}
