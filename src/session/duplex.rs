//! A connection that actix-web has upgraded, as one thing that reads and writes.
//!
//! `actix-ws` does the handshake; its own channel (32 messages, no way to try) and its parser
//! (which buffers whatever a header declares) stay out of the road. The request's payload becomes
//! the reading half and the response's body the writing half, so that the socket loop does not know
//! whether it serves this, a bare TCP stream or TLS.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use futures_util::stream::LocalBoxStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::StreamReader;

/// How much may wait between the two halves, in bytes.
const PIPE_BYTES: usize = 32 * 1024;

/// An upgraded connection.
pub struct Duplex {
    reader: StreamReader<LocalBoxStream<'static, io::Result<Bytes>>, Bytes>,
    pipe: Rc<RefCell<Pipe>>,
}

/// The body of the upgrade's response: what the socket loop writes.
struct PipeBody(Rc<RefCell<Pipe>>);

#[derive(Default)]
struct Pipe {
    bytes: BytesMut,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Answers an upgrade request; the subprotocol is agreed upon if one is given.
pub async fn upgrade(
    request: &HttpRequest,
    payload: web::Payload,
    protocol: Option<&str>,
) -> Result<(HttpResponse, Duplex), actix_web::Error> {
    let nothing = web::Payload::extract(request).await?;
    let protocols: Vec<_> = protocol.into_iter().collect();
    let (response, _, _) = actix_ws::handle_with_protocols(request, nothing, &protocols)?;
    let pipe = Rc::new(RefCell::new(Pipe::default()));
    let body = PipeBody(pipe.clone());
    let response = response.map_body(|_, _| BoxBody::new(body));
    let bytes: LocalBoxStream<_> = Box::pin(payload.map_err(io::Error::other));
    Ok((response, Duplex { reader: StreamReader::new(bytes), pipe }))
}

impl Pipe {
    fn wake(waker: &mut Option<Waker>) {
        if let Some(waker) = waker.take() {
            waker.wake();
        }
    }

    fn close(&mut self) {
        self.closed = true;
        Self::wake(&mut self.reader);
        Self::wake(&mut self.writer);
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.pipe.borrow_mut();
        if pipe.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut room = PIPE_BYTES.saturating_sub(pipe.bytes.len());
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut written = 0;
        for slice in slices {
            let taken = slice.len().min(room);
            pipe.bytes.extend_from_slice(&slice[..taken]);
            room -= taken;
            written += taken;
        }
        Pipe::wake(&mut pipe.reader);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Ready once actix-web has taken everything.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.pipe.borrow_mut();
        if pipe.bytes.is_empty() || pipe.closed {
            return Poll::Ready(Ok(()));
        }
        pipe.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe.borrow_mut().close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        self.pipe.borrow_mut().close();
    }
}

impl MessageBody for PipeBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let mut pipe = self.0.borrow_mut();
        if !pipe.bytes.is_empty() {
            let bytes = std::mem::take(&mut pipe.bytes).freeze();
            Pipe::wake(&mut pipe.writer);
            return Poll::Ready(Some(Ok(bytes)));
        }
        if pipe.closed {
            return Poll::Ready(None);
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        self.0.borrow_mut().close();
    }
}
