//! What waits for one worker thread, in the order of the log.
//!
//! Any thread puts in; the worker's fan-out takes out as a stream. Barriers travel in the same queue as
//! events, so that whoever finds a barrier knows that every event before it has been handled. The
//! queue itself does not refuse: publishers look at [`Fullness`] before they store an event.

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

/// Whether some worker is behind, for whoever asks without a lock.
#[derive(Debug)]
pub(super) struct Fullness {
    /// An inbox in which so much waits is full.
    limit: usize,
    /// How many inboxes are.
    full: AtomicUsize,
}

impl Fullness {
    /// Inboxes in which `limit` items wait are full.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, full: AtomicUsize::new(0) }
    }

    /// Whether some inbox is full.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed) > 0
    }

    /// What waits in an inbox has become more or less.
    fn note(&self, before: usize, now: usize) {
        match (before >= self.limit, now >= self.limit) {
            (false, true) => _ = self.full.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = self.full.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }
}

/// The queue of one worker.
#[derive(Debug)]
pub(super) struct Inbox {
    items: Mutex<VecDeque<Item>>,
    waiting: AtomicUsize,
    fullness: Arc<Fullness>,
    waker: AtomicWaker,
}

impl Inbox {
    /// An empty one.
    pub(super) fn new(fullness: Arc<Fullness>) -> Self {
        let (items, waiting, waker) = (Mutex::default(), AtomicUsize::new(0), AtomicWaker::new());
        Self { items, waiting, fullness, waker }
    }

    /// Puts items in and wakes the worker.
    pub(super) fn put(&self, items: impl IntoIterator<Item = Item>) {
        let mut queue = lock(&self.items);
        queue.extend(items);
        self.note(queue.len());
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
        self.note(queue.len());
        items
    }

    /// So much waits now. Called with the queue locked, so that nobody comes in between.
    fn note(&self, now: usize) {
        self.fullness.note(self.waiting.swap(now, Ordering::Relaxed), now);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.note(0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LogName;

    #[test]
    fn publishers_wait_for_as_long_as_some_inbox_is_full() {
        let log = LogName::parse("abcdefgh").unwrap();
        let beat = || Item::Beat { position: Cursor { log, epoch: 1, sequence: 1 } };
        let fullness = Arc::new(Fullness::new(BATCH + 1));
        let [one, other] = [(); 2].map(|()| Inbox::new(fullness.clone()));
        one.put((0..BATCH).map(|_| beat()));
        assert!(!fullness.is_full());
        one.put([beat()]);
        other.put((0..2 * BATCH).map(|_| beat()));
        one.take();
        assert!(fullness.is_full(), "the other one still is");
        drop(other);
        assert!(!fullness.is_full(), "its worker is gone");
        one.put((0..BATCH).map(|_| beat()));
        assert!(fullness.is_full());
    }
}
