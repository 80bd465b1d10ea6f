//! An outbox between those who fill it and the transport that empties it.
//!
//! The fan-out pushes, the session pushes, and one transport takes; whoever pushes wakes the
//! transport, and the transport tells replays when there is room again. Both sides run on one
//! thread, so the lock is never waited for; it is there because handles travel in actor messages.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::Notify;

use super::outbox::{Full, Outbox};

/// How much leaves in one write, in bytes, if that much waits.
const BATCH_BYTES: usize = 64 * 1024;

/// The shared outbox of one session.
#[derive(Debug)]
pub struct Outgoing {
    state: Mutex<State>,
    /// Notified when something was taken and when a good-bye was added.
    room: Notify,
    heard: AtomicBool,
}

#[derive(Debug)]
struct State {
    outbox: Outbox,
    transport: Option<Waker>,
}

impl Outgoing {
    /// An empty outbox that holds up to `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        let state = State { outbox: Outbox::new(max_bytes), transport: None };
        Self { state: Mutex::new(state), room: Notify::new(), heard: AtomicBool::new(true) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message and wakes the transport.
    pub fn push(&self, message: Bytes) -> Result<(), Full> {
        let mut state = self.lock();
        state.outbox.push(message)?;
        state.wake();
        Ok(())
    }

    /// Adds the last messages; with `drop_waiting`, in the place of all that waits.
    pub fn close(&self, good_bye: impl IntoIterator<Item = Bytes>, drop_waiting: bool) {
        let mut state = self.lock();
        if state.outbox.is_closing() {
            return;
        }
        if drop_waiting {
            state.outbox.clear();
        }
        state.outbox.close(good_bye);
        state.wake();
        self.room.notify_waiters();
    }

    /// Waits for messages and moves a batch of them to `batch`; ready with `false` when the last
    /// one has been taken before. Only one transport may poll.
    pub fn poll_batch(&self, cx: &mut Context<'_>, batch: &mut VecDeque<Bytes>) -> Poll<bool> {
        let mut state = self.lock();
        if state.outbox.is_finished() {
            return Poll::Ready(false);
        }
        state.outbox.take(BATCH_BYTES, batch);
        if batch.is_empty() {
            state.transport = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.room.notify_waiters();
        Poll::Ready(true)
    }

    /// Waits until there is room for about `bytes` of a replay beside what is live; false once the
    /// session closes.
    pub async fn room(&self, bytes: usize) -> bool {
        loop {
            let notified = self.room.notified();
            let (closing, room) = {
                let state = self.lock();
                (state.outbox.is_closing(), state.outbox.has_room(bytes))
            };
            if closing || room {
                return !closing;
            }
            notified.await;
        }
    }

    /// Whether there is room for about `bytes` of a replay beside what is live.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.lock().outbox.has_room(bytes)
    }

    /// The most that may wait, in bytes.
    pub fn max_bytes(&self) -> usize {
        self.lock().outbox.max_bytes()
    }

    /// Waits until a good-bye is added.
    pub async fn closing(&self) {
        loop {
            let notified = self.room.notified();
            if self.is_closing() {
                return;
            }
            notified.await;
        }
    }

    /// How much waits, in bytes.
    pub fn bytes(&self) -> usize {
        self.lock().outbox.bytes()
    }

    /// Whether a good-bye was added.
    pub fn is_closing(&self) -> bool {
        self.lock().outbox.is_closing()
    }

    /// The transport says that the client was heard.
    pub fn heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether the client was heard since the last time this was asked.
    pub fn was_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(transport) = self.transport.take() {
            transport.wake();
        }
    }
}
