//! A connection of HTTP/1.1 beneath its dispatcher, which bounds by itself neither how long a head takes
//! that is not the first, nor how much of one is kept, nor what is read of a body that nobody wants.
//!
//! It gives the dispatcher no more than the phase of the connection allows, and ends what takes too
//! long. Once a WebSocket or an event stream takes the connection over, only its count is left of this.

use std::fmt::{self, Write};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_web::ResponseError;
use actix_web::body::MessageBody;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::course::{Course, Phase};
use super::sockets::{Counted, Socket};
use super::targets::{Flaw, escaped, find_bare_refusal, in_words, is_well_formed};
use super::upgrades::ignore_upgrade;
use crate::clock::Timer;
use crate::config::Limits;
use crate::http::secure;
use crate::model::{Code, Problem};
use crate::protocol::Protocols;
use crate::session::{Sink, Stream};

/// The most bytes of the head of a request.
pub(super) const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The most fields that the parser of HTTP/1.1 takes.
const MAX_PARSED_FIELDS: usize = 96;

/// The most bytes that are taken of what comes behind a request while that is being answered.
const MAX_AHEAD_BYTES: usize = 64 * 1024;

/// How long a client that was answered, and has not sent all it announced, is still read from; its
/// connection is cut then. Long enough for it to see the answer.
pub(super) const HANG_UP: Duration = Duration::from_millis(700);

/// One connection.
pub(super) struct Line<IO> {
    /// None once it was taken over.
    wire: Option<Wire<IO>>,
    /// What is spoken where it may go on.
    protocols: Protocols,
    course: Rc<Course>,
    head_timeout: Duration,
    /// The most that is read of a body that nobody wants: as much as any may have, so that whoever sends
    /// one that could have been wanted sees the answer.
    max_unread: usize,
    /// The end of a head that does not come, or of a client that was refused because of that.
    deadline: Option<Timer>,
    /// The kernel took less than there was, so that what is written now would come in between.
    is_clogged: bool,
    stage: Stage,
    /// The requests whose heads were whole when it was looked last: one may be answered before anything
    /// more is read.
    requests: usize,
    /// What came, but had no room in what it was read into once it was written as it has to be.
    held: Vec<u8>,
    /// What is wrong with the newest head, as far as that shows.
    flaw: Option<Flaw>,
}

/// Why the dispatcher has no socket any more: an event stream has taken it over.
#[derive(Debug)]
struct TakenOver;

impl fmt::Display for TakenOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the socket was taken over")
    }
}

impl std::error::Error for TakenOver {}

/// How a connection of HTTP/1.1 ended: to hand its socket over is no error, though that is how the dispatcher ends then.
pub(super) fn ended(served: Result<(), DispatchError>) -> Result<(), DispatchError> {
    match served {
        Err(DispatchError::Io(error)) if is_taken_over(&error) => Ok(()),
        served => served,
    }
}

fn is_taken_over(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<TakenOver>())
}

/// What a connection runs over, and its place among the sockets of the node.
struct Wire<IO> {
    io: IO,
    socket: Socket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing came yet.
    New,
    /// It is used.
    Used,
    /// A whole head could be in what was given out: the dispatcher is to look.
    Full,
    /// It was refused here, and what comes is thrown away.
    Refused,
}

impl<IO: Stream + 'static> Line<IO> {
    /// A connection that was just accepted.
    pub(super) fn new(io: IO, socket: Socket, limits: &Limits, protocols: Protocols) -> Self {
        Self {
            protocols,
            course: Course::new(socket.activity().clone()),
            wire: Some(Wire { io, socket }),
            head_timeout: limits.request_timeout,
            max_unread: limits.batch_bytes,
            deadline: None,
            is_clogged: false,
            stage: Stage::New,
            requests: 0,
            held: Vec::new(),
            flaw: None,
        }
    }

    /// The same, with a first head that is due by then.
    pub(super) fn due(self, deadline: Timer) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// How far it is.
    pub(super) fn course(&self) -> &Rc<Course> {
        &self.course
    }

    /// Takes over the socket, which is busy from here on; it can be taken once.
    pub(super) fn take(&mut self) -> Option<Taken<IO>> {
        let Wire { io, socket } = self.wire.take()?;
        Some(Taken { io, _counted: socket.hand_over() })
    }

    /// What it runs over, until that was taken over.
    fn wire(&mut self) -> io::Result<&mut Wire<IO>> {
        self.wire.as_mut().ok_or_else(|| io::Error::other(TakenOver))
    }

    /// Reads up to `most` bytes.
    fn poll_some(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let mut some = (&mut self.wire()?.io).take(most as u64);
        ready!(Pin::new(&mut some).poll_read(cx, buffer))?;
        match buffer.filled().len() - before {
            0 => self.course.hang_up(),
            came => self.course.came(came),
        }
        Poll::Ready(Ok(()))
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        came: usize,
    ) -> Poll<io::Result<()>> {
        if came >= MAX_HEAD_BYTES {
            if self.stage != Stage::Full {
                self.stage = Stage::Full;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return self.refuse(cx, &head_too_large());
        }
        // What has come in time counts, however late it is looked at.
        let before = buffer.filled().len();
        if let Poll::Ready(read) = self.poll_some(cx, buffer, MAX_HEAD_BYTES - came) {
            if came == 0 {
                self.look_at_head(buffer, before);
            }
            return Poll::Ready(read);
        }
        if came > 0 || self.stage == Stage::New {
            let deadline = self.deadline.get_or_insert_with(|| Timer::after(self.head_timeout));
            if Pin::new(deadline).poll(cx).is_ready() {
                let seconds = self.head_timeout.as_secs_f64();
                let detail =
                    format!("the head did not come in {seconds} s (limits.request_timeout)");
                return self.refuse(cx, &Problem::new(Code::TooSlow, detail));
            }
        }
        Poll::Pending
    }

    /// Has the first bytes of a head, which are what came after `before`, say what they mean.
    fn look_at_head(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        ignore_upgrade(&mut buffer.filled_mut()[before..], self.protocols);
        let head = &buffer.filled()[before..];
        self.flaw = None;
        if is_well_formed(head) {
            return;
        }
        if let Some(escaped) = escaped(head) {
            buffer.set_filled(before);
            let (now, later) = escaped.split_at(escaped.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.held.extend_from_slice(later);
        }
        self.flaw = Flaw::of(&buffer.filled()[before..]);
    }

    /// Answers what the dispatcher never saw, and hangs up.
    fn refuse(&mut self, cx: &mut Context<'_>, problem: &Problem) -> Poll<io::Result<()>> {
        let is_clogged = self.is_clogged;
        let Wire { io, socket } = self.wire()?;
        socket.note_refusal(problem);
        if !is_clogged {
            _ = Pin::new(io).poll_write(cx, &written(problem));
        }
        self.hang_up_soon();
        self.poll_end(cx)
    }

    /// Reads nothing more but to throw it away.
    fn hang_up_soon(&mut self) {
        self.stage = Stage::Refused;
        self.course.enter(Phase::Unread(0));
        self.deadline = Some(Timer::after(HANG_UP));
    }

    /// Throws away what a refused client still sends, until it has seen the answer.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ignored = [0; 4_096];
        loop {
            let is_over =
                self.deadline.as_mut().is_none_or(|end| Pin::new(end).poll(cx).is_ready());
            let Phase::Unread(came) = self.course.phase() else { return Poll::Ready(Ok(())) };
            if is_over || came >= self.max_unread {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut ignored);
            ready!(self.poll_some(cx, &mut buffer, 4_096))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<IO: Stream + 'static> AsyncRead for Line<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        if line.course.activity().is_to_close() {
            return Poll::Ready(Ok(()));
        }
        let read = line.poll_phase(cx, buffer);
        // Only who waits has to hear of it.
        if read.is_pending() && line.course.activity().poll_closing(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl<IO: Stream + 'static> Line<IO> {
    /// Reads as much as the phase of the connection allows.
    fn poll_phase(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let line = self;
        if line.stage == Stage::Refused {
            return line.poll_end(cx);
        }
        if !line.held.is_empty() {
            let some = line.held.len().min(buffer.remaining());
            buffer.put_slice(&line.held[..some]);
            line.held.drain(..some);
            return Poll::Ready(Ok(()));
        }
        if line.requests != line.course.requests() {
            line.requests = line.course.requests();
            (line.stage, line.deadline) = (Stage::Used, None);
        }
        let phase = line.course.phase();
        if let Phase::Head(came) = phase {
            return line.poll_head(cx, buffer, came);
        }
        (line.stage, line.deadline) = (Stage::Used, None);
        match phase {
            Phase::Ahead(came) if came >= MAX_AHEAD_BYTES => {
                line.course.wait(cx);
                Poll::Pending
            }
            // As if the client had hung up: the dispatcher does so then.
            Phase::Unread(came) if came >= line.max_unread => Poll::Ready(Ok(())),
            Phase::Unread(came) => line.poll_some(cx, buffer, line.max_unread - came),
            Phase::Ahead(came) => line.poll_some(cx, buffer, MAX_AHEAD_BYTES - came),
            Phase::Head(_) | Phase::Body => line.poll_some(cx, buffer, usize::MAX),
        }
    }
}

impl<IO: Stream + 'static> AsyncWrite for Line<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let line = self.get_mut();
        let bytes = match find_bare_refusal(bytes) {
            None => bytes,
            // What is before it goes first.
            Some((at @ 1.., _)) => &bytes[..at],
            Some((0, code)) => {
                if line.stage != Stage::Refused {
                    let problem = match code {
                        Code::HeadTooLarge => head_too_large(),
                        _ => in_words(line.flaw),
                    };
                    let Wire { io, socket } = line.wire()?;
                    _ = ready!(Pin::new(io).poll_write(cx, &written(&problem)))?;
                    socket.note_refusal(&problem);
                    line.hang_up_soon();
                }
                // The dispatcher drops the socket once this is written, so that it is only once nothing is left to read.
                _ = ready!(Pin::new(line).poll_shutdown(cx));
                return Poll::Ready(Ok(bytes.len()));
            }
        };
        let written = Pin::new(&mut line.wire()?.io).poll_write(cx, bytes);
        line.is_clogged = !matches!(written, Poll::Ready(Ok(taken)) if taken == bytes.len());
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        // The dispatcher flushes once all that it has encoded was written: of a stream that waits, the head.
        if let Some(stream) = line.course.handover().take()
            && let Some(taken) = line.take()
        {
            stream.take_over(taken);
        }
        // Where there is no socket any more, it ends.
        Pin::new(&mut line.wire()?.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        ready!(Pin::new(&mut line.wire()?.io).poll_shutdown(cx))?;
        match line.stage {
            // What is unread when a socket is closed takes the answer with it.
            Stage::Refused => line.poll_end(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// What to say of a head that neither this nor the parser takes.
fn head_too_large() -> Problem {
    let detail = format!(
        "the head of a request may have {MAX_PARSED_FIELDS} fields and {MAX_HEAD_BYTES} bytes"
    );
    Problem::new(Code::HeadTooLarge, detail)
}

/// A problem as the response that ends a connection of HTTP/1.1.
pub(super) fn written(problem: &Problem) -> Vec<u8> {
    let mut response = problem.error_response();
    secure(response.headers_mut());
    let status = response.status();
    let (response, body) = response.into_parts();
    let body = body.try_into_bytes().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
    for (name, value) in response.headers() {
        // Writing to a string does not fail.
        _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    _ = write!(head, "content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), &body].concat()
}

/// A socket that was taken over from HTTP, counted until it is dropped.
pub(super) struct Taken<IO> {
    io: IO,
    _counted: Counted,
}

impl<IO: Stream> Stream for Taken<IO> {
    fn sink(&self) -> Option<Arc<dyn Sink>> {
        self.io.sink()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Taken<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Taken<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
