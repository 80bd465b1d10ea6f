//! The loop of one connection that was taken over from HTTP, over anything that reads and writes bytes: that of a WebSocket,
//! or of an event stream, whose client is not listened to.
//!
//! One state that is polled, small because thousands of them wait: it reads frames and hands messages
//! on, one at a time, and it writes what waits in the outbox, all of it in one go. Neither waits for
//! the other, so a client that only talks or only listens is served; pings are answered and closing
//! is done as RFC 6455 says, within a time limit. An idle connection has no buffer and no timer.

use std::future::Future;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::ws::OpCode;
use bytes::{Bytes, BytesMut};
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::deflate::ClientContext;
use super::encoding::{close_echo, message_frame};
use super::frames::{FrameLimits, FrameReader, Incoming};
use super::outgoing::{Outgoing, Sink};
use crate::clock::Timer;
use crate::model::{Close, Ended};

/// The most that is read at a time, in bytes.
const READ_BYTES: usize = 8 * 1024;

/// How often is read before others have their turn: among them the timer that ends a client which
/// never stops sending.
const READS_A_TURN: usize = 16;

/// How many messages are heard at a time, before others have their turn and what they are answered is written.
const HEARD_TOGETHER: usize = 64;

/// About how much is read of what a client sends where it is not listened to, in bytes, so that its end is seen at once. That of
/// one which sends more shows where nothing can be written to it any more.
const MAX_IGNORED_BYTES: usize = 64 * 1024;

/// A client that broke the protocol is still read from until it is silent for so long, for cutting it
/// off while it sends could destroy our close frame on its way; but no longer than closing may take.
const LINGER: Duration = Duration::from_millis(300);

/// The limits of one connection.
#[derive(Debug, Clone, Copy)]
pub struct SocketLimits {
    /// What one message may cost.
    pub frames: FrameLimits,
    /// How long closing may take.
    pub close_timeout: Duration,
    /// How long a client may take nothing of what waits for it.
    pub stall_timeout: Duration,
}

/// What a connection runs over.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// Where others may write what can be written at once; nowhere, where only the connection itself
    /// may write.
    fn sink(&self) -> Option<Arc<dyn Sink>> {
        None
    }
}

impl Stream for Box<dyn Stream> {
    fn sink(&self) -> Option<Arc<dyn Sink>> {
        (**self).sink()
    }
}

/// One message from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
}

impl Said {
    /// How long it is, in bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// The side of the broker in a conversation.
pub trait Listener {
    /// Takes messages that came together, in their order; the next ones are heard when this is done.
    fn said(&mut self, messages: Vec<Said>) -> LocalBoxFuture<'static, ()>;

    /// All is written, and somebody said that there is more. Nobody does where nothing is conflated.
    fn more(&mut self) {}

    /// The client broke a rule or a limit: ends the conversation through the outbox.
    fn end(&mut self, close: Close);

    /// The client has said good-bye, or is gone: nothing is for it any more.
    fn left(&mut self, _: Ended) {}
}

/// One connection, served until either side hangs up: a future of its own, because what an async
/// function keeps of its arguments would triple its size.
pub struct Socket<IO, L> {
    io: IO,
    outgoing: Arc<Outgoing>,
    listener: L,
    limits: SocketLimits,
    frames: FrameReader,
    /// What was read and is not a whole frame yet.
    unread: BytesMut,
    /// In a box, for most have none.
    handling: Option<Box<Handling>>,
    reading: Reading,
    /// The last message is out.
    is_written: bool,
    /// Only our half is still to be ended.
    is_over: bool,
    /// When the client is given up, unless something happens before.
    deadline: Option<(Patience, Timer)>,
}

/// Messages that the listener has not done with.
struct Handling {
    work: LocalBoxFuture<'static, ()>,
    /// What came behind them, and is none for the listener.
    next: Option<Result<Incoming, Close>>,
}

/// What is done with what the client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It is listened to.
    Listening,
    /// Nothing that it sends means anything: it is thrown away, so many bytes until now.
    Ignoring(usize),
    /// It broke the protocol: what it sends is thrown away, until then at most.
    Lingering(Instant),
    /// It said good-bye, or nothing more is to be expected.
    Done,
    /// The connection is gone.
    Ended(Ended),
}

/// What a client is waited for to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// To take something of what waits for it.
    Taking,
    /// To fall silent after a violation.
    Silence,
    /// To answer our good-bye.
    Closing,
}

impl<IO: Stream, L: Listener + Unpin> Future for Socket<IO, L> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_over {
            let ended = ready!(self.poll_conversation(cx));
            self.is_over = true;
            // Whoever still pushes is told that nobody will read it.
            self.outgoing.close([], true);
            self.outgoing.set_sink(None);
            self.listener.left(ended);
            self.deadline = None;
        }
        self.poll_shutdown(cx)
    }
}

impl<IO: Stream, L: Listener> Socket<IO, L> {
    /// A connection at its beginning. What `outgoing` holds is written; what the client says goes to
    /// `listener`. `early` are bytes that came behind the upgrade request.
    pub fn new(
        io: IO,
        early: BytesMut,
        outgoing: Arc<Outgoing>,
        limits: SocketLimits,
        listener: L,
    ) -> Self {
        outgoing.set_sink(io.sink());
        Self {
            io,
            outgoing,
            listener,
            limits,
            frames: FrameReader::new(limits.frames),
            unread: early,
            handling: None,
            reading: Reading::Listening,
            is_written: false,
            is_over: false,
            deadline: None,
        }
    }

    /// The same, with a client whose compressed messages may refer back to those before.
    pub fn remembering(self, context: Option<ClientContext>) -> Self {
        Self { frames: self.frames.remembering(context), ..self }
    }

    /// The same, with a client that is only written to.
    pub fn one_way(self) -> Self {
        Self { reading: Reading::Ignoring(0), ..self }
    }

    /// Ready when nothing more is to be heard or said, with what that is by itself: who was told, or has
    /// said good-bye, has left before.
    fn poll_conversation(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let is_read = match self.reading {
                Reading::Listening | Reading::Lingering(_) => true,
                // The rest is left to the kernel, which takes no more than it has room for.
                Reading::Ignoring(bytes) => bytes < MAX_IGNORED_BYTES,
                Reading::Done | Reading::Ended(_) => false,
            };
            if is_read && let Poll::Ready(ended) = self.poll_read(cx) {
                self.reading = ended;
            }
            if let Reading::Ended(ended) = self.reading {
                return Poll::Ready(ended);
            }
            if !self.is_written
                && let Poll::Ready(written) = self.poll_write(cx)
            {
                if let Err(error) = written {
                    return Poll::Ready(lost(&error));
                }
                // Our close frame is out; the client's answer ends the conversation.
                self.is_written = true;
            }
            if self.is_written && matches!(self.reading, Reading::Done | Reading::Ignoring(_)) {
                return Poll::Ready(Ended::Left);
            }
            match ready!(self.poll_deadline(cx)) {
                Patience::Silence => self.reading = Reading::Done,
                Patience::Taking => return Poll::Ready(Ended::Stalled),
                Patience::Closing => return Poll::Ready(Ended::Gone),
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Reading> {
        for _ in 0..READS_A_TURN {
            if let Some(ended) = ready!(self.poll_hear(cx)) {
                return Poll::Ready(ended);
            }
            let is_heard = self.reading == Reading::Listening;
            if self.unread.is_empty() || !is_heard {
                self.unread = BytesMut::new();
            }
            let mut space = [const { MaybeUninit::uninit() }; READ_BYTES];
            let mut bytes = ReadBuf::uninit(&mut space);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut bytes));
            if let Err(error) = read {
                return Poll::Ready(Reading::Ended(lost(&error)));
            }
            if bytes.filled().is_empty() {
                return Poll::Ready(Reading::Ended(Ended::Gone));
            }
            self.outgoing.note_heard();
            match self.reading {
                Reading::Lingering(until) if Instant::now() < until => {
                    // Its silence begins anew.
                    self.deadline = None;
                }
                Reading::Listening => self.unread.extend_from_slice(bytes.filled()),
                Reading::Ignoring(before) => {
                    self.reading = Reading::Ignoring(before + bytes.filled().len());
                }
                _ => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Hears all whole messages that were read; ready when more has to be read, or with what ended
    /// the reading.
    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Option<Reading>> {
        loop {
            let mut next = None;
            if let Some(handling) = &mut self.handling {
                ready!(handling.work.as_mut().poll(cx));
                next = self.handling.take().and_then(|handled| handled.next);
            }
            if self.reading != Reading::Listening {
                return Poll::Ready(None);
            }
            let Some(incoming) = next.or_else(|| self.next()) else { return Poll::Ready(None) };
            match incoming {
                Ok(Incoming::Text(text)) => self.hear(Said::Text(text)),
                Ok(Incoming::Binary(bytes)) => self.hear(Said::Binary(bytes)),
                Ok(Incoming::Ping(payload)) => {
                    if self.outgoing.push(message_frame(payload, OpCode::Pong)).is_err() {
                        self.listener.end(Close::SlowConsumer);
                    }
                }
                Ok(Incoming::Pong) => {}
                Ok(Incoming::Close(code)) => {
                    self.outgoing.close([close_echo(code)], false);
                    self.listener.left(Ended::Left);
                    return Poll::Ready(Some(Reading::Done));
                }
                Err(close) => {
                    self.listener.end(close);
                    self.reading = Reading::Lingering(Instant::now() + self.limits.close_timeout);
                }
            }
        }
    }

    /// The next thing that was read and is whole.
    fn next(&mut self) -> Option<Result<Incoming, Close>> {
        self.frames.next(&mut self.unread).transpose()
    }

    /// Has the listener hear a message, and with it those that came behind it: no more than their number allows and, for
    /// they may have come compressed, hardly more than one of them may hold.
    fn hear(&mut self, first: Said) {
        if self.outgoing.is_closing() {
            return;
        }
        let (mut bytes, mut said, mut next) = (first.len(), vec![first], None);
        while said.len() < HEARD_TOGETHER && bytes < self.limits.frames.message_bytes {
            let message = match self.next() {
                Some(Ok(Incoming::Text(text))) => Said::Text(text),
                Some(Ok(Incoming::Binary(bytes))) => Said::Binary(bytes),
                other => {
                    next = other;
                    break;
                }
            };
            bytes += message.len();
            said.push(message);
        }
        self.handling = Some(Box::new(Handling { work: self.listener.said(said), next }));
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let (io, deadline) = (&mut self.io, &mut self.deadline);
        let written = self.outgoing.poll_write(cx, |cx, slices| {
            let written = ready!(match slices {
                [message] => Pin::new(&mut *io).poll_write(cx, message),
                _ => Pin::new(&mut *io).poll_write_vectored(cx, slices),
            });
            if matches!(deadline, Some((Patience::Taking, _))) {
                *deadline = None;
            }
            Poll::Ready(written)
        });
        if self.outgoing.wants_more() {
            self.listener.more();
        }
        // A stream that buffers, as TLS does, is flushed when nothing more waits.
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        match ready!(written) {
            Ok(()) => flushed,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Ready when the client was waited for long enough.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Patience> {
        let wanted = if let Reading::Lingering(until) = self.reading {
            Some((Patience::Silence, LINGER.min(until.saturating_duration_since(Instant::now()))))
        } else if self.outgoing.is_closing() {
            Some((Patience::Closing, self.limits.close_timeout))
        } else if self.outgoing.is_blocked() {
            Some((Patience::Taking, self.limits.stall_timeout))
        } else {
            None
        };
        let waiting_for = self.deadline.as_ref().map(|(patience, _)| *patience);
        if waiting_for != wanted.map(|(patience, _)| patience) {
            self.deadline = wanted.map(|(patience, time)| (patience, Timer::after(time)));
        }
        let Some((patience, timer)) = &mut self.deadline else { return Poll::Pending };
        Pin::new(timer).poll(cx).map(|()| *patience)
    }

    /// Ready when our half is ended, or the client was waited for long enough.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if Pin::new(&mut self.io).poll_shutdown(cx).is_ready() {
            return Poll::Ready(());
        }
        self.poll_deadline(cx).map(|_| ())
    }
}

/// What became of a client whose connection failed. The kernel gives up one that acknowledges nothing, or has
/// no room for anything, for as long as we would ourselves.
pub(super) fn lost(error: &std::io::Error) -> Ended {
    match error.kind() {
        std::io::ErrorKind::TimedOut => Ended::Stalled,
        _ => Ended::Gone,
    }
}

#[cfg(test)]
mod tests;
