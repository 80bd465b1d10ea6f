//! The body of an event stream: what waits in the outbox, as it comes.
//!
//! The transport of Server-Sent Events (WHATWG HTML, section 9.2). It takes everything that waits in
//! one chunk; while actix-web does not poll it, because the client is slow, the outbox fills and
//! gives its verdict.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use super::Place;
use super::outgoing::Outgoing;
use super::receiver::Receiver;
use crate::broker::Seat;

/// The body of one event stream. Dropped when the connection is gone, which ends the session.
pub struct EventStream {
    pub(super) outgoing: Arc<Outgoing>,
    pub(super) seat: Seat<Receiver>,
    pub(super) _place: Place,
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
