//! One request of HTTP/2 and its answer.
//!
//! Whoever asks whether it may send a body is told so at once, as actix-http does over HTTP/1.1, and whoever was
//! answered before it had sent everything is still read from for a moment: many clients look at the answer only
//! then.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::error::PayloadError;
use actix_http::{BoxedPayloadStream, HttpMessage, Payload, Request, RequestHead, Response};
use actix_service::Service;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::poll_fn;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use tracing::debug;

use super::heads;
use crate::clock::{Instant, within};
use crate::config::Limits;
use crate::server::line::HANG_UP;
use crate::session::Loss;

/// The fewest bytes a second that a client takes of what waits for it.
const LOWEST_RATE: usize = 1_024;

/// The requests that are open on a connection.
pub(super) struct Open {
    count: Cell<usize>,
    idle_since: Cell<Instant>,
    /// How long there may be none.
    patience: Cell<Duration>,
    keep_alive: Duration,
}

impl Open {
    /// A connection on which the first request has its time, and the next another.
    pub(super) fn new(request_timeout: Duration, keep_alive: Duration) -> Rc<Self> {
        Rc::new(Self {
            count: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            patience: Cell::new(request_timeout),
            keep_alive,
        })
    }

    /// How long it may still be without an open request, as things are.
    pub(super) fn time_left(&self) -> Duration {
        match self.count.get() {
            0 => self.patience.get().saturating_sub(self.idle_since.get().elapsed()),
            _ => self.keep_alive,
        }
    }

    fn begin(&self) {
        self.count.set(self.count.get() + 1);
        self.patience.set(self.keep_alive);
    }

    fn end(&self) {
        self.count.set(self.count.get() - 1);
        self.idle_since.set(Instant::now());
    }
}

/// What comes of the body of a request: for its handler first, and then for nobody.
pub(super) struct Incoming(RefCell<RecvStream>);

impl Incoming {
    pub(super) fn new(stream: RecvStream) -> Rc<Self> {
        Rc::new(Self(RefCell::new(stream)))
    }

    /// The body as handlers read it.
    pub(super) fn payload(self: &Rc<Self>) -> Payload {
        let payload: BoxedPayloadStream = Box::pin(Reading(self.clone()));
        Payload::Stream { payload }
    }

    /// The next piece, for which the client may send as much more.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let mut stream = self.0.borrow_mut();
        stream.poll_data(cx).map(|data| {
            data.map(|data| {
                let bytes = data?;
                stream.flow_control().release_capacity(bytes.len())?;
                Ok(bytes)
            })
        })
    }

    /// Whether all of it came.
    fn is_over(&self) -> bool {
        self.0.borrow().is_end_stream()
    }

    /// Throws away what comes of it, up to its end, to so many bytes or until nothing comes for a moment.
    async fn throw_away(&self, most: usize) {
        let mut came = 0;
        while let Ok(Some(Ok(bytes))) = within(HANG_UP, poll_fn(|cx| self.poll(cx))).await
            && came < most
        {
            came += bytes.len();
        }
    }
}

/// The body of a request, as its handler reads it.
struct Reading(Rc<Incoming>);

impl Stream for Reading {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let failed = |error| PayloadError::Incomplete(Some(io::Error::other(error)));
        self.0.poll(cx).map(|data| data.map(|data| data.map_err(failed)))
    }
}

/// One request that is answered.
pub(super) struct Exchange {
    respond: SendResponse<Bytes>,
    incoming: Rc<Incoming>,
    stall_timeout: Duration,
    body_timeout: Duration,
    max_unread: usize,
    open: Rc<Open>,
    /// Why its stream was lost.
    loss: Rc<Loss>,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.open.end();
    }
}

impl Exchange {
    pub(super) fn new(
        respond: SendResponse<Bytes>,
        incoming: Rc<Incoming>,
        limits: &Limits,
        open: &Rc<Open>,
    ) -> Self {
        open.begin();
        Self {
            respond,
            incoming,
            stall_timeout: limits.stall_timeout,
            body_timeout: limits.body_timeout,
            max_unread: limits.batch_bytes,
            open: open.clone(),
            loss: Rc::default(),
        }
    }

    pub(super) async fn run<S, B>(mut self, app: Rc<S>, request: Request)
    where
        S: Service<Request>,
        S::Response: Into<Response<B>>,
        S::Error: Into<Response<BoxBody>>,
        B: MessageBody + 'static,
    {
        let is_head = request.method() == Method::HEAD;
        self.loss = request.extensions().get::<Rc<Loss>>().cloned().unwrap_or_default();
        let answered = match self.response(&app, request).await {
            Some(Ok(response)) => self.answer(response.into(), is_head).await,
            Some(Err(error)) => self.answer(error.into(), is_head).await,
            // The client has lost interest.
            None => Ok(()),
        };
        match answered {
            // Then the stream is dropped, which resets it by `NO_ERROR` (RFC 9113, section 8.1).
            Ok(()) if self.incoming.is_over() => {}
            Ok(()) => {
                let rest = self.incoming.throw_away(self.max_unread);
                _ = within(self.body_timeout, rest).await;
            }
            Err(error) => debug!(%error, "a response over HTTP/2 was cut short"),
        }
    }

    /// Has a request answered; nothing where its client resets it before that.
    async fn response<S: Service<Request>>(
        &mut self,
        app: &S,
        request: Request,
    ) -> Option<Result<S::Response, S::Error>> {
        if asks_to_go_on(request.head()) && !self.incoming.is_over() {
            let go_on = http::Response::builder().status(http::StatusCode::CONTINUE).body(());
            // A stream that takes none is seen to be reset below.
            _ = go_on.map(|go_on| self.respond.send_informational(go_on));
        }
        let mut call = pin!(app.call(request));
        poll_fn(|cx| {
            if self.respond.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            call.as_mut().poll(cx).map(Some)
        })
        .await
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
                reset = poll_fn(|cx| stream.poll_reset(cx)) => {
                    self.note_loss(&reset);
                    return Ok(());
                }
            };
            match chunk {
                None => return stream.send_data(Bytes::new(), true),
                Some(Ok(chunk)) => {
                    let sent = self.send(&mut stream, chunk).await;
                    self.note_loss(&sent);
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

    /// Notes why a connection was lost, where it was.
    fn note_loss<T>(&self, of: &Result<T, h2::Error>) {
        if let Some(error) = of.as_ref().err().and_then(h2::Error::get_io) {
            self.loss.note(error);
        }
    }

    /// Sends a chunk as the client takes it; false where that is too slow: in each `limits.stall_timeout` it
    /// is to take all that is left, or as much as the lowest rate comes to.
    async fn send(
        &self,
        stream: &mut SendStream<Bytes>,
        mut chunk: Bytes,
    ) -> Result<bool, h2::Error> {
        let seconds = usize::try_from(self.stall_timeout.as_secs()).unwrap_or(usize::MAX);
        let least = LOWEST_RATE.saturating_mul(seconds.max(1));
        while !chunk.is_empty() {
            let mut part = chunk.split_to(chunk.len().min(least));
            match within(self.stall_timeout, send_all(stream, &mut part)).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Ok(false),
                Err(_) => {
                    self.loss.stalled();
                    return Ok(false);
                }
                Ok(Err(error)) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Whether a client waits for a word before it sends a body (RFC 9110, section 10.1.1). It gets one also where it is
/// refused next: Java's, up to version 18, waits without end for it, whatever else it is answered.
fn asks_to_go_on(head: &RequestHead) -> bool {
    let is_asked = |expected: &HeaderValue| {
        expected.as_bytes().trim_ascii().eq_ignore_ascii_case(b"100-continue")
    };
    head.headers.get(header::EXPECT).is_some_and(is_asked)
}

/// Sends all of `part`; false where there is no way to.
async fn send_all(stream: &mut SendStream<Bytes>, part: &mut Bytes) -> Result<bool, h2::Error> {
    while !part.is_empty() {
        stream.reserve_capacity(part.len());
        while stream.capacity() == 0 {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(room) => _ = room?,
                None => return Ok(false),
            }
        }
        let taken = part.split_to(part.len().min(stream.capacity()));
        stream.send_data(taken, false)?;
    }
    Ok(true)
}
