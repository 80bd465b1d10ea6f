//! What waits for one worker thread, in the order of the log.
//!
//! Any thread puts in; the worker's fan-out takes out as a stream. Marks travel in the same queue as
//! events, so that whoever finds a mark knows that every event before it has been handled. The
//! queue itself does not refuse: publishers look at [`Inbox::len`] before they store an event.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::task::AtomicWaker;

use super::delivery::Delivery;
use super::{MarkId, SessionKey};
use crate::model::Cursor;

/// One thing for a worker to do.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// Deliver an event.
    Event(Arc<Delivery>),
    /// Tell a session that all before this has been handled, up to the place given.
    Mark { session: SessionKey, mark: MarkId, position: Cursor },
    /// Heartbeats are due; all up to the place given has been handled.
    Beat { position: Cursor },
    /// Tell every session that events after `since` were lost; what follows comes after `position`.
    Broken { since: Cursor, position: Cursor },
}

/// The queue of one worker.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    items: Mutex<VecDeque<Item>>,
    waiting: AtomicUsize,
    waker: AtomicWaker,
}

impl Inbox {
    /// Puts items in and wakes the worker.
    pub(super) fn put(&self, items: impl IntoIterator<Item = Item>) {
        let mut queue = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        queue.extend(items);
        self.waiting.store(queue.len(), Ordering::Relaxed);
        drop(queue);
        self.waker.wake();
    }

    /// How much waits.
    pub(super) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<Item> {
        let mut queue = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let item = queue.pop_front();
        self.waiting.store(queue.len(), Ordering::Relaxed);
        item
    }
}

/// The worker's end of an [`Inbox`].
pub(super) struct InboxStream(pub(super) Arc<Inbox>);

impl Stream for InboxStream {
    type Item = Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        if let Some(item) = self.0.take() {
            return Poll::Ready(Some(item));
        }
        self.0.waker.register(cx.waker());
        // An item may have come between the look and the registration.
        match self.0.take() {
            Some(item) => Poll::Ready(Some(item)),
            None => Poll::Pending,
        }
    }
}
