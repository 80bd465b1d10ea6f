//! An outbox between those who fill it and the transport that empties it.
//!
//! The session pushes and wakes the transport. The fan-out pushes and, when all that belongs together
//! has been pushed, flushes: where the transport left a [`Sink`], what waits is written there and
//! then, without the transport's task in between. Whoever takes tells replays that there is room
//! again. All of them run on one thread, so the lock is never waited for; it is there because handles
//! travel in actor messages.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::outbox::{Full, Outbox};
use super::permits::Unparted;
use crate::clock::Instant;
use crate::metrics::Sum;
use crate::panics::lock;

/// The most messages in one system call.
const MAX_SLICES: usize = 256;

/// As many as mostly wait; room for more would have to be cleared each time.
const FEW_SLICES: usize = 8;

/// How much leaves in one chunk of an event stream, in bytes, if that much waits.
const CHUNK_BYTES: usize = 64 * 1024;

/// A client for whom more than this waits is behind, in bytes.
const BEHIND_BYTES: usize = 64 * 1024;

/// Where bytes can be written without waiting.
pub trait Sink: Send + Sync {
    /// Writes as much as is taken at once; `WouldBlock` where that is nothing.
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// The shared outbox of one session.
pub struct Outgoing {
    state: Mutex<State>,
    /// Notified when something was taken and when a good-bye was added, if somebody waits for that.
    room: Notify,
    heard: AtomicBool,
}

struct State {
    outbox: Outbox,
    transport: Option<Waker>,
    sink: Option<Arc<dyn Sink>>,
    waits_for: WaitsFor,
    flush: Flush,
    backlog: Backlog,
    /// Somebody waits for room.
    is_room_awaited: bool,
    /// Held until the last message is out.
    unparted: Option<Unparted>,
    /// Since when something waits without a pause, from when that was first asked.
    behind_since: Option<Instant>,
    /// Counts what leaves.
    written: Option<Sum>,
}

/// What the transport waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    /// Something to write.
    Messages,
    /// Its socket to take what is there.
    Socket,
}

/// Whether somebody will have what waits written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flush {
    /// Whoever adds a message has to ask for it.
    NotAskedFor,
    /// It comes once all that belongs together was added.
    AskedFor,
}

/// Whether there is more to send than the outbox holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backlog {
    /// All that is to be sent is here.
    Nothing,
    /// Somebody holds the rest back until all of this is written.
    HeldBack,
}

impl Outgoing {
    /// An empty outbox that holds up to `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        let outbox = Outbox::new(max_bytes);
        let state = State {
            outbox,
            transport: None,
            sink: None,
            waits_for: WaitsFor::Messages,
            flush: Flush::NotAskedFor,
            backlog: Backlog::Nothing,
            is_room_awaited: false,
            unparted: None,
            behind_since: None,
            written: None,
        };
        Self { state: Mutex::new(state), room: Notify::new(), heard: AtomicBool::new(true) }
    }

    /// The same, with what leaves counted.
    pub fn counted_by(self, written: Sum) -> Self {
        self.lock().written = Some(written);
        self
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// From now on a flush writes to `sink`; or nowhere, for the connection is gone.
    pub fn set_sink(&self, sink: Option<Arc<dyn Sink>>) {
        self.lock().sink = sink;
    }

    /// Holds this until the last message is out.
    pub fn owes(&self, farewell: Unparted) {
        self.lock().unparted = Some(farewell);
    }

    /// Adds the first message, which leaves whatever comes after it.
    pub fn begin(&self, first: Bytes) {
        let mut state = self.lock();
        state.outbox.begin(first);
        state.wake();
    }

    /// Adds a message and wakes the transport.
    pub fn push(&self, message: Bytes) -> Result<(), Full> {
        let mut state = self.lock();
        state.outbox.push(message)?;
        if state.waits_for == WaitsFor::Messages {
            state.wake();
        }
        Ok(())
    }

    /// Adds a message that somebody has to flush; true where nobody is about to.
    pub fn push_quietly(&self, message: Bytes) -> Result<bool, Full> {
        let mut state = self.lock();
        state.outbox.push(message)?;
        let is_up_to_the_socket = state.waits_for == WaitsFor::Socket;
        if is_up_to_the_socket || state.flush == Flush::AskedFor {
            return Ok(false);
        }
        state.flush = Flush::AskedFor;
        Ok(true)
    }

    /// Counts so much as waiting that is held back by who talks.
    pub fn hold(&self, bytes: usize) -> Result<(), Full> {
        self.lock().outbox.hold(bytes)
    }

    /// Has what waits written.
    pub fn flush(&self) {
        let mut state = self.lock();
        state.flush = Flush::NotAskedFor;
        let done = match state.sink.clone() {
            Some(sink) => {
                let written = state.write(|slices| Poll::Ready(sink.try_write(slices)));
                self.made_room(&mut state);
                written.is_ready()
            }
            None => true,
        };
        if done {
            // The rest is for the transport: to write, to wait for its socket, or to end with it.
            state.wake();
        }
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
        self.made_room(&mut state);
    }

    /// Has all that waits written by `write`, and waits for more; ready when the last message is
    /// out. Only one transport may poll.
    pub fn poll_write(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&mut Context<'_>, &[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        let had = state.outbox.bytes();
        let written = state.write(|slices| write(cx, slices));
        if state.outbox.bytes() < had {
            self.made_room(&mut state);
        }
        state.waits_for = match written.is_pending() && state.outbox.bytes() > 0 {
            true => WaitsFor::Socket,
            false => WaitsFor::Messages,
        };
        if written.is_pending() {
            state.transport = Some(cx.waker().clone());
        }
        written
    }

    /// Takes what waits as one chunk; ready with nothing when the last message has been taken
    /// before. Only one transport may poll.
    pub fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut state = self.lock();
        if state.outbox.is_finished() {
            state.unparted = None;
            return Poll::Ready(None);
        }
        let chunk = state.outbox.take(CHUNK_BYTES);
        match &chunk {
            Some(chunk) => {
                state.left(chunk.len());
                self.made_room(&mut state);
            }
            None => state.transport = Some(cx.waker().clone()),
        }
        chunk.map_or(Poll::Pending, |chunk| Poll::Ready(Some(chunk)))
    }

    /// Whether the client has not taken what was sent before.
    pub fn is_behind(&self) -> bool {
        let state = self.lock();
        state.waits_for == WaitsFor::Socket
            || state.outbox.bytes() > BEHIND_BYTES.min(state.outbox.max_bytes() / 4)
    }

    /// Says that there is more to send once all of this is written.
    pub fn has_more(&self) {
        self.lock().backlog = Backlog::HeldBack;
    }

    /// Whether all is written and there is more to send; true once.
    pub fn wants_more(&self) -> bool {
        let mut state = self.lock();
        let wants = state.backlog == Backlog::HeldBack && state.outbox.bytes() == 0;
        if wants {
            state.backlog = Backlog::Nothing;
        }
        wants
    }

    /// Whether the transport waits for its socket.
    pub fn is_blocked(&self) -> bool {
        self.lock().waits_for == WaitsFor::Socket
    }

    /// Waits until there is room for about `bytes` of a replay beside what is live; false once the
    /// session closes.
    pub async fn room(&self, bytes: usize) -> bool {
        loop {
            let notified = self.room.notified();
            {
                let mut state = self.lock();
                let closing = state.outbox.is_closing();
                if closing || state.outbox.has_room(bytes) {
                    return !closing;
                }
                state.is_room_awaited = true;
            }
            notified.await;
        }
    }

    /// Says that there may be room now, or never will be, if somebody waits for it: nearly always nobody does.
    fn made_room(&self, state: &mut State) {
        if std::mem::take(&mut state.is_room_awaited) {
            self.room.notify_waiters();
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

    /// How much waits, in bytes, and for how long something has, from when that was first asked.
    pub fn backlog(&self, now: Instant) -> (usize, Duration) {
        let mut state = self.lock();
        let bytes = state.outbox.bytes();
        if bytes == 0 {
            return (0, Duration::ZERO);
        }
        let since = *state.behind_since.get_or_insert(now);
        (bytes, now.saturating_duration_since(since))
    }

    /// Whether a good-bye was added.
    pub fn is_closing(&self) -> bool {
        self.lock().outbox.is_closing()
    }

    /// The transport says that the client was heard.
    pub fn note_heard(&self) {
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

    /// Writes until nothing is left, nothing is taken or the last message is out, which is when it
    /// is ready.
    fn write(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        while !self.outbox.is_finished() {
            let written = if self.outbox.len() <= FEW_SLICES {
                self.write_front::<FEW_SLICES>(&mut write)
            } else {
                self.write_front::<MAX_SLICES>(&mut write)
            };
            if ready!(written)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        self.unparted = None;
        Poll::Ready(Ok(()))
    }

    /// So many bytes have left.
    fn left(&mut self, bytes: usize) {
        if let Some(written) = &self.written {
            written.add(bytes as u64);
        }
        if self.outbox.bytes() == 0 {
            self.behind_since = None;
        }
    }

    /// Writes up to `N` messages; pending where nothing waits, or nothing is taken.
    fn write_front<const N: usize>(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); N];
        let count = self.outbox.front(&mut slices);
        if count == 0 {
            return Poll::Pending;
        }
        let written = ready!(write(&slices[..count]))?;
        self.outbox.advance(written);
        self.left(written);
        Poll::Ready(Ok(written))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    /// Takes everything.
    struct Open;

    impl Sink for Open {
        fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            Ok(slices.iter().map(|slice| slice.len()).sum())
        }
    }

    #[tokio::test]
    async fn all_who_wait_for_room_hear_of_it_and_so_does_who_waits_again() {
        let outgoing = Outgoing::new(1_000);
        outgoing.set_sink(Some(Arc::new(Open)));
        for _ in 0..2 {
            outgoing.push_quietly(Bytes::from(vec![0; 900])).unwrap();
            let (mut one, mut other) = (Box::pin(outgoing.room(500)), Box::pin(outgoing.room(500)));
            assert!(poll!(&mut one).is_pending() && poll!(&mut other).is_pending());
            outgoing.flush();
            assert_eq!(
                (poll!(&mut one), poll!(&mut other)),
                (Poll::Ready(true), Poll::Ready(true))
            );
        }
        outgoing.push_quietly(Bytes::from(vec![0; 900])).unwrap();
        let mut waiting = Box::pin(outgoing.room(500));
        assert!(poll!(&mut waiting).is_pending());
        outgoing.close([], false);
        assert_eq!(poll!(&mut waiting), Poll::Ready(false));
    }
}
