//! An outbox between those who fill it and the transport that empties it.
//!
//! The fan-out pushes, the session pushes, and one transport takes; whoever pushes wakes the
//! transport, or takes its waker to do so later, with those of others. The transport tells replays
//! when there is room again. Both sides run on one thread, so the lock is never waited for; it is
//! there because handles travel in actor messages.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::sync::Notify;

use super::outbox::{Full, Outbox};

/// The most messages in one system call.
const MAX_SLICES: usize = 64;

/// How much leaves in one chunk of an event stream, in bytes, if that much waits.
const CHUNK_BYTES: usize = 64 * 1024;

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
    /// The transport waits for its socket, not for messages.
    blocked: bool,
}

impl Outgoing {
    /// An empty outbox that holds up to `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        let state = State { outbox: Outbox::new(max_bytes), transport: None, blocked: false };
        Self { state: Mutex::new(state), room: Notify::new(), heard: AtomicBool::new(true) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message and wakes the transport.
    pub fn push(&self, message: Bytes) -> Result<(), Full> {
        let transport = self.push_quietly(message)?;
        transport.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Adds a message and leaves the waking to the caller: returns the transport if it sleeps.
    pub fn push_quietly(&self, message: Bytes) -> Result<Option<Waker>, Full> {
        let mut state = self.lock();
        state.outbox.push(message)?;
        Ok(if state.blocked { None } else { state.transport.take() })
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
        state.transport.take().into_iter().for_each(Waker::wake);
        self.room.notify_waiters();
    }

    /// Has all that waits written by `write`, and waits for more; ready when the last message is
    /// out. Only one transport may poll.
    pub fn poll_write(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut Context<'_>, &[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        while !state.outbox.is_finished() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = state.outbox.front(&mut slices);
            let written = match count {
                0 => Poll::Pending,
                _ => write(cx, &slices[..count]),
            };
            state.blocked = count > 0 && written.is_pending();
            if written.is_pending() {
                state.transport = Some(cx.waker().clone());
            }
            let written = ready!(written)?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            state.outbox.advance(written);
            self.room.notify_waiters();
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what waits as one chunk; ready with nothing when the last message has been taken
    /// before. Only one transport may poll.
    pub fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.lock();
        if state.outbox.is_finished() {
            return Poll::Ready(None);
        }
        let chunk = state.outbox.take(CHUNK_BYTES);
        match chunk {
            Some(_) => self.room.notify_waiters(),
            None => state.transport = Some(cx.waker().clone()),
        }
        chunk.map_or(Poll::Pending, |chunk| Poll::Ready(Some(chunk)))
    }

    /// Whether the transport waits for its socket.
    pub fn is_blocked(&self) -> bool {
        self.lock().blocked
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
