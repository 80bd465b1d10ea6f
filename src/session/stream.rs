//! The body of an event stream: what waits in the outbox, as it comes.
//!
//! The transport of Server-Sent Events (WHATWG HTML, section 9.2). It takes everything that waits in
//! one chunk; while actix-web does not poll it, because the client is slow, the outbox fills and
//! gives its verdict.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use super::outgoing::Outgoing;
use super::receiver::Receiver;
use super::socket::lost;
use super::{Hearing, Permit};
use crate::broker::Seat;
use crate::model::Ended;

/// Why a connection was lost: what the body of a response is not told, for it is dropped then.
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

/// The body of one event stream. Dropped when the connection is gone, which ends the session.
pub struct EventStream {
    pub(super) outgoing: Arc<Outgoing>,
    pub(super) seat: Seat<Receiver>,
    /// Of the connection, where it is told.
    pub(super) loss: Option<Rc<Loss>>,
    /// Of what its client says over other requests, if it can.
    pub(super) _hearing: Option<Hearing>,
    pub(super) _permit: Permit,
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let is_stalled = self.loss.as_ref().is_some_and(|loss| loss.0.get());
        self.seat.leave(if is_stalled { Ended::Stalled } else { Ended::Gone });
    }
}

impl MessageBody for EventStream {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let chunk = self.outgoing.poll_chunk(cx);
        if self.outgoing.wants_more() {
            self.seat.worker().flush(self.seat.session());
        }
        chunk.map(|chunk| chunk.map(Ok))
    }
}
