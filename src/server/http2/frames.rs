//! The frames that a client sends, looked at on their way to the `h2` crate.
//!
//! What asks for nothing (settings, pings, windows, frames that nobody knows) may come at a rate, and more of
//! it where much is sent to the client. A head is passed on once it is whole, in time; in one that follows a
//! body no pseudo header field is let through, which `h2` would leave out without a word. And a `>` that
//! was typed as it is into what is asked for, as everybody does with a pattern, becomes another letter that
//! `h2` takes, and back in `heads.rs`.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::fields::Fields;
use super::frame::{
    CONTINUATION, DATA, Frame, HEADERS, PUSH_PROMISE, RST_STREAM, amended, fields_of, head_length,
};
use crate::clock::Timer;
use crate::model::Allowance;

/// What each connection begins with (RFC 9113, section 3.4), in bytes.
const PREFACE_BYTES: usize = 24;

/// The frames a second that ask for nothing, and as many at once.
const IDLE_FRAMES: usize = 200;

/// For so many bytes that were sent to a client it may say one thing more: each of our frames may make two of
/// its windows wider.
const BYTES_A_FRAME: usize = 32;

/// The most of that which is saved up.
const MAX_SENT: usize = 1024 * 1024;

/// What is known of how a client behaves, between its frames and who serves them.
#[derive(Default)]
pub(super) struct Conduct {
    verdict: Cell<Option<Reason>>,
    waker: Cell<Option<Waker>>,
    has_stand_ins: Cell<bool>,
}

impl Conduct {
    /// Waits until the connection is to end, and says why.
    pub(super) fn poll_verdict(&self, cx: &Context<'_>) -> Poll<Reason> {
        self.waker.set(Some(cx.waker().clone()));
        self.verdict.get().map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether the letter that stands for a `>` may be one.
    pub(super) fn has_stand_ins(&self) -> bool {
        self.has_stand_ins.get()
    }

    fn judge(&self, reason: Reason) {
        self.verdict.set(Some(reason));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What `h2` reads from and writes to.
pub(super) struct Frames<IO> {
    io: IO,
    conduct: Rc<Conduct>,
    head_timeout: Duration,
    /// The end of a head that does not come.
    deadline: Option<Timer>,
    /// What is left of the frame that is passed on.
    passing: usize,
    /// What came behind it and is not passed on yet, and how much of it may be.
    held: BytesMut,
    cleared: usize,
    /// The newest stream.
    newest: u32,
    /// The bytes that were sent to the client and are not reckoned with yet.
    sent: usize,
    idle_frames: Allowance,
}

impl<IO> Frames<IO> {
    /// A connection whose heads are to be whole in so much time.
    pub(super) fn new(io: IO, conduct: Rc<Conduct>, head_timeout: Duration) -> Self {
        Self {
            io,
            conduct,
            head_timeout,
            deadline: None,
            passing: PREFACE_BYTES,
            held: BytesMut::new(),
            cleared: 0,
            newest: 0,
            sent: 0,
            idle_frames: Allowance::default(),
        }
    }

    /// How much of `bytes`, which follow what was passed on, may be passed on.
    fn clear(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let some = self.passing.min(bytes.len() - at);
            (at, self.passing) = (at + some, self.passing - some);
            let rest = &bytes[at..];
            let Some(frame) = Frame::read(rest) else { return at };
            let (length, may_pass) = match frame.kind {
                HEADERS => {
                    let Some(length) = head_length(rest) else { return at };
                    if frame.stream > self.newest && amended(&rest[..length]).is_some() {
                        return at;
                    }
                    (length, self.may_begin(frame.stream, &rest[..length]))
                }
                DATA | RST_STREAM | PUSH_PROMISE | CONTINUATION => (frame.bytes, true),
                _ => (frame.bytes, self.may_say()),
            };
            if !may_pass {
                return at;
            }
            self.passing = length.max(frame.bytes);
        }
    }

    /// Refuses what is malformed where it follows a body (RFC 9113, section 8.1).
    fn may_begin(&mut self, stream: u32, head: &[u8]) -> bool {
        let is_first = stream > self.newest;
        self.newest = self.newest.max(stream);
        let is_right = is_first || !Fields::of(&fields_of(head)).any(|field| field.is_pseudo());
        if !is_right {
            self.conduct.judge(Reason::PROTOCOL_ERROR);
        }
        is_right
    }

    /// Counts a frame that asks for nothing.
    fn may_say(&mut self) -> bool {
        if let Some(left) = self.sent.checked_sub(BYTES_A_FRAME) {
            self.sent = left;
            return true;
        }
        let is_allowed = self.idle_frames.take(1, IDLE_FRAMES, Instant::now());
        if !is_allowed {
            self.conduct.judge(Reason::ENHANCE_YOUR_CALM);
        }
        is_allowed
    }

    /// Finds how much of what is held may be passed on.
    fn go_on(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        let is_request = |frame: Frame| frame.kind == HEADERS && frame.stream > self.newest;
        if Frame::read(&held).is_some_and(is_request)
            && let Some(length) = head_length(&held)
            && let Some(amended) = held.get(..length).and_then(amended)
        {
            let behind = held.split_off(length);
            held = BytesMut::from(&amended[..]);
            held.unsplit(behind);
            self.conduct.has_stand_ins.set(true);
        }
        self.cleared = self.clear(&held);
        if self.cleared > 0 {
            self.deadline = None;
        }
        self.held = held;
    }

    /// Gives out what may be passed on of what is held.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let some = self.cleared.min(buffer.remaining());
        buffer.put_slice(&self.held[..some]);
        self.held.advance(some);
        self.cleared -= some;
        if self.held.is_empty() {
            self.held = BytesMut::new();
        } else if self.cleared == 0 {
            self.go_on();
        }
    }
}

impl<IO: AsyncRead + Unpin> Frames<IO> {
    /// Reads what is passed on as it came, but for what has to be held.
    fn poll_fresh(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let fresh = &buffer.filled()[before..];
        let (came, passed) = (fresh.len(), self.clear(fresh));
        if passed < came {
            self.held.extend_from_slice(&fresh[passed..]);
            buffer.set_filled(before + passed);
            self.go_on();
        }
        Poll::Ready(Ok(came))
    }

    /// Reads more of a head that is held, in time.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.held.reserve(1_024);
        if let Poll::Ready(read) = poll_read_buf(Pin::new(&mut self.io), cx, &mut self.held) {
            self.go_on();
            return Poll::Ready(read);
        }
        let deadline = self.deadline.get_or_insert_with(|| Timer::after(self.head_timeout));
        if Pin::new(deadline).poll(cx).is_ready() {
            self.conduct.judge(Reason::ENHANCE_YOUR_CALM);
        }
        Poll::Pending
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Frames<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let frames = self.get_mut();
        let before = buffer.filled().len();
        loop {
            if frames.cleared > 0 {
                frames.give(buffer);
            }
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            if frames.conduct.verdict.get().is_some() {
                return Poll::Pending;
            }
            let came = match frames.held.is_empty() {
                true => ready!(frames.poll_fresh(cx, buffer))?,
                false => ready!(frames.poll_held(cx))?,
            };
            if came == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> Frames<IO> {
    fn reckon(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.sent = (self.sent + bytes).min(MAX_SENT);
        }
        written
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Frames<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let frames = self.get_mut();
        let written = Pin::new(&mut frames.io).poll_write(cx, bytes);
        frames.reckon(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let frames = self.get_mut();
        let written = Pin::new(&mut frames.io).poll_write_vectored(cx, slices);
        frames.reckon(written)
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::task::unconstrained;

    use super::super::fields::Text;
    use super::super::frame::{END_HEADERS, PADDED};
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, stream: u32, carried: &[u8]) -> Vec<u8> {
        let length = (carried.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), carried].concat()
    }

    /// `:method: GET`, `:scheme: http` and a path.
    fn request(path: &str) -> Vec<u8> {
        [&[0x82, 0x86, 0x44][..], &Text::write(path.as_bytes())].concat()
    }

    /// What comes through of what is sent in pieces of so many bytes, and the verdict.
    fn through(sent: &[u8], piece: usize) -> (Vec<u8>, Option<Reason>, bool) {
        let (mut client, server) = duplex(1 << 20);
        let conduct = Rc::<Conduct>::default();
        let mut frames = Frames::new(server, conduct.clone(), Duration::from_secs(10));
        let (mut came, mut buffer) = (Vec::new(), [0; 4_096]);
        for piece in sent.chunks(piece) {
            unconstrained(client.write_all(piece)).now_or_never().unwrap().unwrap();
            while let Some(read) = unconstrained(frames.read(&mut buffer)).now_or_never() {
                came.extend_from_slice(&buffer[..read.unwrap()]);
            }
        }
        (came, conduct.verdict.get(), conduct.has_stand_ins())
    }

    #[actix_web::test]
    async fn what_is_right_comes_through_as_it_is_in_pieces_of_any_size() {
        let whole = request("/v1/topics?match=a");
        let (first, rest) = whole.split_at(5);
        let sent = [
            PREFACE,
            &frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]),
            &frame(HEADERS, END_HEADERS | 1, 1, &request("/health/live")),
            &frame(HEADERS, 0, 3, first),
            &frame(CONTINUATION, END_HEADERS, 3, rest),
            &frame(DATA, 0, 3, &[b'x'; 10_000]),
            // A trailer, and padding around one more.
            &frame(HEADERS, END_HEADERS | 1, 3, &[0, 1, b'a', 1, b'b']),
            &frame(HEADERS, END_HEADERS | PADDED, 5, &[&[2][..], &request("/"), &[0, 0]].concat()),
            &frame(8, 0, 0, &[0, 0, 1, 0]),
        ]
        .concat();
        for piece in [1, 3, 10, 100, 1_000, 100_000] {
            assert_eq!(through(&sent, piece), (sent.clone(), None, false), "{piece}");
        }
    }

    #[actix_web::test]
    async fn a_wildcard_that_was_typed_is_told_by_another_letter() {
        for flags in [END_HEADERS | 1, END_HEADERS | 1 | PADDED] {
            let head = |path: &str| match flags & PADDED {
                0 => frame(HEADERS, flags, 1, &request(path)),
                _ => frame(HEADERS, flags, 1, &[&[1][..], &request(path), &[0]].concat()),
            };
            let next = frame(HEADERS, END_HEADERS | 1, 3, &request("/v1/sse?topic=>"));
            let sent = [PREFACE, &head("/v1/sse?topic=a.>&topic=>"), &next].concat();
            let amended = frame(HEADERS, END_HEADERS | 1, 3, &request("/v1/sse?topic=\\"));
            let expected = [PREFACE, &head("/v1/sse?topic=a.\\&topic=\\"), &amended].concat();
            for piece in [1, 7, 100_000] {
                assert_eq!(through(&sent, piece), (expected.clone(), None, true), "{piece}");
            }
        }
    }

    #[actix_web::test]
    async fn what_follows_a_body_has_no_pseudo_header_field() {
        for trailers in [&[0x84][..], &[0, 5, b':', b'p', b'a', b't', b'h', 1, b'/'], &[0x04, 0]] {
            let before = [PREFACE, &frame(HEADERS, END_HEADERS, 1, &request("/"))].concat();
            let sent = [before.clone(), frame(HEADERS, END_HEADERS | 1, 1, trailers)].concat();
            for piece in [1, 100_000] {
                let expected = (before.clone(), Some(Reason::PROTOCOL_ERROR), false);
                assert_eq!(through(&sent, piece), expected, "{trailers:?}");
            }
        }
    }

    #[actix_web::test]
    async fn frames_that_ask_for_nothing_have_a_rate() {
        for kind in [2, 4, 6, 8, 0x77] {
            let idle = frame(kind, 0, 0, &[0; 8]);
            let sent = [PREFACE, &idle.repeat(IDLE_FRAMES)].concat();
            assert_eq!(through(&sent, 100_000), (sent.clone(), None, false));
            let sent = [PREFACE, &idle.repeat(2 * IDLE_FRAMES)].concat();
            let (came, verdict, _) = through(&sent, 100_000);
            assert!(came.len() < sent.len(), "{kind}");
            assert_eq!(verdict, Some(Reason::ENHANCE_YOUR_CALM));
        }
    }

    #[actix_web::test]
    async fn who_is_sent_much_may_say_more() {
        let (_client, server) = duplex(1 << 20);
        let conduct = Rc::<Conduct>::default();
        let mut frames = Frames::new(server, conduct.clone(), Duration::from_secs(10));
        frames.write_all(&[0; 64_000]).await.unwrap();
        frames.passing = 0;
        let windows = frame(8, 0, 1, &[0, 0, 1, 0]).repeat(64_000 / BYTES_A_FRAME);
        assert_eq!(frames.clear(&windows), windows.len());
        assert_eq!(conduct.verdict.get(), None);
    }
}
