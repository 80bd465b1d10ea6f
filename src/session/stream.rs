//! The body of an event stream: what waits in the outbox, as it comes.
//!
//! The transport of Server-Sent Events (WHATWG HTML, section 9.2). It takes everything that waits in
//! one chunk; while actix-web does not poll it, because the client is slow, the outbox fills and
//! gives its verdict.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix::Addr;
use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use super::Place;
use super::actor::{Gone, More, Session};
use super::outgoing::Outgoing;

/// The body of one event stream. Dropped when the connection is gone, which ends the session.
pub struct EventStream {
    pub(super) outgoing: Arc<Outgoing>,
    pub(super) session: Addr<Session>,
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
            self.session.do_send(More);
        }
        chunk.map(|chunk| chunk.map(Ok))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.outgoing.close([], true);
        self.session.do_send(Gone);
    }
}
