//! A connection in memory, with bounded buffers towards the client, which can be cut at any moment.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use fanfare::session::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::seed::Dice;

/// What both ends share.
#[derive(Debug)]
struct Buffers {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    capacity: usize,
    /// The client sends no more.
    is_finished: bool,
    /// The server sends no more.
    is_shut: bool,
    /// Nobody sends or gets anything any more.
    is_cut: bool,
    /// How often the server may touch its end before the connection is cut.
    touches: Option<usize>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    client: Option<Waker>,
    dice: Dice,
}

impl Buffers {
    fn cut(&mut self) {
        self.is_cut = true;
        self.to_client.clear();
        for waker in [&mut self.reader, &mut self.writer, &mut self.client] {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether the server's end works; it may end with this touch.
    fn touch(&mut self) -> io::Result<()> {
        match &mut self.touches {
            Some(0) => self.cut(),
            Some(touches) => *touches -= 1,
            None => {}
        }
        if self.is_cut { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    fn take_in(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.touch()?;
        let mut taken = 0;
        for slice in slices {
            let room = self.capacity.saturating_sub(self.to_client.len()).min(slice.len());
            self.to_client.extend(&slice[..room]);
            taken += room;
        }
        if taken == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if let Some(client) = self.client.take() {
            client.wake();
        }
        Ok(taken)
    }
}

#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Buffers>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Buffers> {
        self.0.lock().expect("nobody panics with it")
    }
}

/// The end that the broker has.
#[derive(Debug)]
pub struct ServerEnd {
    shared: Shared,
    /// Whether others may write beside the connection, as with bare TCP.
    has_sink: bool,
}

/// The end that a client has; cut when dropped.
#[derive(Debug)]
pub struct ClientEnd(Shared);

/// A connection that holds `capacity` bytes for its client, and is cut when the server touches it for
/// the last of so many times.
pub fn connection(
    capacity: usize,
    touches: Option<usize>,
    mut dice: Dice,
) -> (ServerEnd, ClientEnd) {
    let has_sink = dice.percent(70);
    let state = Buffers {
        to_server: VecDeque::new(),
        to_client: VecDeque::new(),
        capacity,
        is_finished: false,
        is_shut: false,
        is_cut: false,
        touches,
        reader: None,
        writer: None,
        client: None,
        dice,
    };
    let shared = Shared(Arc::new(Mutex::new(state)));
    (ServerEnd { shared: shared.clone(), has_sink }, ClientEnd(shared))
}

impl ClientEnd {
    /// Sends bytes.
    pub fn send(&self, bytes: &[u8]) {
        let mut state = self.0.lock();
        state.to_server.extend(bytes);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// Sends no more.
    pub fn finish(&self) {
        let mut state = self.0.lock();
        state.is_finished = true;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    /// Cuts the connection, as by a RST.
    pub fn cut(&self) {
        self.0.lock().cut();
    }

    /// What has come, at most `most` bytes; nothing at the end.
    pub async fn read(&self, most: usize) -> Vec<u8> {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if state.to_client.is_empty() && !state.is_cut && !state.is_shut {
                state.client = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let count = state.to_client.len().min(most);
            let bytes = state.to_client.drain(..count).collect();
            if let Some(writer) = state.writer.take() {
                writer.wake();
            }
            Poll::Ready(bytes)
        })
        .await
    }
}

impl Drop for ClientEnd {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_shut = true;
        if let Some(client) = state.client.take() {
            client.wake();
        }
    }
}

impl AsyncRead for ServerEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        state.touch()?;
        if state.dice.percent(10) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if state.to_server.is_empty() && !state.is_finished {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut count = state.to_server.len().min(buffer.remaining());
        if state.dice.percent(10) {
            count = count.min(1 + state.dice.below(40));
        }
        let bytes: Vec<u8> = state.to_server.drain(..count).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

// What the trait has one spell out, as every connection that writes vectored does (`session/tcp.rs`).
impl AsyncWrite for ServerEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.shared.lock();
        match state.take_in(slices) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                state.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            taken => Poll::Ready(taken),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        state.is_shut = true;
        if let Some(client) = state.client.take() {
            client.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink for Shared {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.lock().take_in(slices)
    }
}

impl Stream for ServerEnd {
    fn sink(&self) -> Option<Arc<dyn Sink>> {
        self.has_sink.then(|| Arc::new(self.shared.clone()) as Arc<dyn Sink>)
    }
}
