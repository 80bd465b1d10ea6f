//! What waits for one worker thread, in the order of the log.
//!
//! Any thread puts in; the worker's fan-out takes out as a stream. Barriers travel in the same queue as
//! events, so that whoever finds a barrier knows that every event before it has been handled. The
//! queue itself does not refuse: publishers look at [`Inbox::len`] before they store an event.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::task::AtomicWaker;

use super::census::Asked;
use super::delivery::Delivery;
use super::roster::Roll;
use super::{BarrierId, SessionKey};
use crate::history::Loss;
use crate::model::Cursor;
use crate::panics::lock;

/// How much a worker takes at a time, so that a busy one still does other things.
const BATCH: usize = 64;

/// One thing for a worker to do.
#[derive(Debug, Clone)]
pub(super) enum Item {
    /// Deliver an event.
    Event(Arc<Delivery>),
    /// Deliver what a node said of itself, the so many-th that was heard.
    Said { number: u64, delivery: Arc<Delivery> },
    /// Tell a session that all before this has been handled, up to the place given.
    Barrier { session: SessionKey, barrier: BarrierId, position: Cursor },
    /// Tell a session who is in the topics that it asked about, at this place of the feed.
    Roll { session: SessionKey, barrier: BarrierId, roll: Option<Roll> },
    /// Heartbeats are due; all up to the place given has been handled.
    Beat { position: Cursor },
    /// Say how many sessions have room.
    Census(Asked),
    /// Tell those whom it concerns that events were lost.
    Broken(Loss),
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
        let mut queue = lock(&self.items);
        queue.extend(items);
        self.waiting.store(queue.len(), Ordering::Relaxed);
        drop(queue);
        self.waker.wake();
    }

    /// How much waits.
    pub(super) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes what came first, at most [`BATCH`] items.
    fn take(&self) -> Vec<Item> {
        let mut queue = lock(&self.items);
        let batch = queue.len().min(BATCH);
        let items = queue.drain(..batch).collect();
        self.waiting.store(queue.len(), Ordering::Relaxed);
        items
    }
}

/// The worker's end of an [`Inbox`]: what waits, a batch at a time.
pub(super) struct InboxStream {
    inbox: Arc<Inbox>,
    /// The last batch was full: others of this thread go first.
    yields: bool,
}

impl InboxStream {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, yields: false }
    }
}

impl Stream for InboxStream {
    type Item = Vec<Item>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<Item>>> {
        if std::mem::take(&mut self.yields) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut items = self.inbox.take();
        if items.is_empty() {
            self.inbox.waker.register(cx.waker());
            // An item may have come between the look and the registration.
            items = self.inbox.take();
        }
        self.yields = items.len() == BATCH;
        if items.is_empty() { Poll::Pending } else { Poll::Ready(Some(items)) }
    }
}
