//! An event stream: a client that is written to and not listened to.
//!
//! The transport of Server-Sent Events (WHATWG HTML, section 9.2). Over HTTP/1.1 it takes over the socket once the head of
//! its answer has left, as a WebSocket does, so that nothing of HTTP is kept for it. Over HTTP/2, where others use the
//! same connection, it is the body of an answer: what waits goes in one chunk, and while nobody asks for that, because the
//! client is slow, the outbox fills and gives its verdict.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::{Bytes, BytesMut};

use super::Conversation;
use super::outgoing::Outgoing;
use super::socket::{Listener, Socket, SocketLimits, Stream, lost};
use crate::model::Ended;
use crate::panics::contained;

/// An event stream that has not begun to be written.
pub struct EventStream {
    pub(super) outgoing: Arc<Outgoing>,
    pub(super) conversation: Conversation,
    pub(super) limits: SocketLimits,
}

impl EventStream {
    /// Goes on over a socket on which the head of its answer was the last that was written, in a task of its own.
    pub fn take_over<IO: Stream + 'static>(self, io: IO) {
        let Self { outgoing, conversation, limits } = self;
        let socket = Socket::new(io, BytesMut::new(), outgoing, limits, conversation).one_way();
        actix_web::rt::spawn(contained(socket));
    }
}

/// The place where an event stream waits for the socket of its connection of HTTP/1.1.
#[derive(Default)]
pub struct Handover(Cell<Option<EventStream>>);

impl Handover {
    /// The stream that waits, if one does: the head of its answer has been encoded.
    pub fn take(&self) -> Option<EventStream> {
        self.0.take()
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        if let Some(mut stream) = self.take() {
            stream.conversation.left(Ended::Gone);
        }
    }
}

/// The body of an answer over HTTP/1.1, which has nothing in it: when it is asked for, the head of the answer has been
/// encoded, and the stream waits for the socket.
pub(super) struct HandedOver {
    stream: Option<EventStream>,
    handover: Rc<Handover>,
}

impl HandedOver {
    pub(super) fn new(stream: EventStream, handover: Rc<Handover>) -> Self {
        Self { stream: Some(stream), handover }
    }
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            stream.conversation.left(Ended::Gone);
        }
    }
}

impl MessageBody for HandedOver {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        if let Some(stream) = self.stream.take() {
            self.handover.0.set(Some(stream));
        }
        // Whoever asks writes what is encoded, and is dropped when the socket goes.
        Poll::Pending
    }
}

/// Why a stream of HTTP/2 was lost: what the body of a response is not told, for it is dropped then.
#[derive(Debug, Default)]
pub struct Loss(Cell<bool>);

impl Loss {
    /// Notes that the client took nothing for too long.
    pub fn stalled(&self) {
        self.0.set(true);
    }

    /// Notes what an error of the connection says.
    pub fn note(&self, error: &std::io::Error) {
        if lost(error) == Ended::Stalled {
            self.stalled();
        }
    }
}

/// The body of an answer over HTTP/2. Dropped when the connection is gone, which ends the session.
pub(super) struct Streamed {
    pub(super) stream: EventStream,
    pub(super) loss: Rc<Loss>,
}

impl Drop for Streamed {
    fn drop(&mut self) {
        let is_stalled = self.loss.0.get();
        self.stream.conversation.left(if is_stalled { Ended::Stalled } else { Ended::Gone });
    }
}

impl MessageBody for Streamed {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let EventStream { outgoing, conversation, .. } = &mut self.stream;
        let chunk = outgoing.poll_chunk(cx);
        if outgoing.wants_more() {
            conversation.more();
        }
        chunk.map(|chunk| chunk.map(Ok))
    }
}
