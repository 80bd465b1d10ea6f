//! A TCP stream over which TLS is spoken, and which holds no buffer while nothing is under way.
//!
//! Thousands of them wait. What rustls offers with buffers of its own keeps 4 KiB of what came last for each of them, and
//! copies what is sent once more; here both lie in vectors that are given back once they are empty.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::rt::net::TcpStream;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, ReadTraffic, UnbufferedStatus, WriteTraffic,
};
use rustls::{Error, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::session::Stream;

/// How much is read at a time.
const READ_BYTES: usize = 8 * 1024;

/// The most that waits for the rest of a record or of a message of a handshake: rustls takes no longer ones.
const MAX_UNREAD_BYTES: usize = 128 * 1024;

/// How much is encrypted at a time: as much as a record may hold (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 * 1024;

/// What a record has beside what it holds, where nothing else has to leave with it.
const RECORD_OVERHEAD: usize = 32;

/// A TCP stream with its TLS.
pub(in crate::server) struct EncryptedTcp {
    io: TcpStream,
    /// In a box, for what is waited for on the way to a session would keep room for it several times.
    tls: Box<UnbufferedServerConnection>,
    /// What came and is not a whole record yet.
    unread: Vec<u8>,
    /// What was said to us, as far as nobody has read it.
    plain: Vec<u8>,
    /// What is encrypted and has not left.
    unsent: Vec<u8>,
    /// The client has said that it says no more.
    is_ended: bool,
    /// We have said so.
    is_closed: bool,
    /// TLS has failed, and the client is told why: nothing goes on.
    is_broken: bool,
}

/// What is to be done once TLS waits for nothing else.
#[derive(Clone, Copy)]
enum Then<'a> {
    Nothing,
    /// Encrypt this.
    Say(&'a [u8]),
    /// Tell the client that nothing more comes.
    Close,
}

/// Nobody else may write, for who writes has to hold the state of TLS.
impl Stream for EncryptedTcp {}

impl EncryptedTcp {
    /// Shakes hands with a client.
    pub(in crate::server) async fn accept(
        io: TcpStream,
        config: Arc<ServerConfig>,
    ) -> io::Result<Self> {
        let tls = Box::new(UnbufferedServerConnection::new(config).map_err(invalid)?);
        let (unread, plain, unsent) = Default::default();
        let mut stream = Self {
            io,
            tls,
            unread,
            plain,
            unsent,
            is_ended: false,
            is_closed: false,
            is_broken: false,
        };
        loop {
            let gone_on = stream.go_on(Then::Nothing);
            // Where that failed, the client is told why.
            let sent = poll_fn(|cx| stream.poll_unsent(cx)).await;
            gone_on?;
            sent?;
            if !stream.tls.is_handshaking() {
                return Ok(stream);
            }
            poll_fn(|cx| stream.poll_more(cx)).await?;
        }
    }

    /// What was agreed upon to be spoken (RFC 7301).
    pub(in crate::server) fn protocol(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// Takes what came as far as it goes, and then does what is to be done. What that has TLS say waits to be sent.
    fn go_on(&mut self, then: Then<'_>) -> io::Result<()> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut failed: Option<Error> = None;
        let done = loop {
            let UnbufferedStatus { mut discard, state } =
                self.tls.process_tls_records(&mut self.unread);
            let mut done = None;
            match state {
                Err(error) => {
                    // The next turn says what the client is to hear of it, and must meet nothing else that is wrong.
                    discard = self.unread.len();
                    if failed.replace(error).is_some() {
                        done = Some(Ok(()));
                    }
                }
                Ok(ConnectionState::ReadTraffic(traffic)) => {
                    discard += read(traffic, &mut self.plain)?;
                }
                Ok(ConnectionState::EncodeTlsData(mut encode)) => {
                    append(&mut self.unsent, 0, |room| {
                        encode.encode(room).map_err(room_to_encode)
                    })?;
                }
                // It leaves before anything that comes behind it.
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed) => self.is_ended = true,
                Ok(ConnectionState::WriteTraffic(traffic)) => {
                    let then = if failed.is_some() { Then::Nothing } else { then };
                    done = Some(say(traffic, then, &mut self.unsent));
                }
                Ok(ConnectionState::BlockedHandshake) => done = Some(Ok(())),
                Ok(_) => {
                    done = Some(match then {
                        Then::Say(_) => Err(io::ErrorKind::BrokenPipe.into()),
                        Then::Nothing | Then::Close => Ok(()),
                    });
                }
            }
            self.unread.drain(..discard);
            if let Some(done) = done {
                break done;
            }
        };
        if self.unread.is_empty() {
            self.unread = Vec::new();
        }
        self.is_broken = failed.is_some();
        failed.map_or(done, |error| Err(invalid(error)))
    }

    /// Reads more of what is encrypted.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unread.len() > MAX_UNREAD_BYTES {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        loop {
            // An idle connection is to hold no buffer.
            ready!(self.io.poll_read_ready(cx))?;
            self.unread.reserve(READ_BYTES);
            match self.io.try_read_buf(&mut self.unread) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                read => return Poll::Ready(read.map(|_| ())),
            }
            if self.unread.is_empty() {
                self.unread = Vec::new();
            }
        }
    }

    /// Sends what is encrypted.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            ready!(self.io.poll_write_ready(cx))?;
            match self.io.try_write(&self.unsent) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.unsent = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Encrypts this, once all before it has left, and sends as much as is taken at once.
    fn poll_say(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_unsent(cx))?;
        self.go_on(Then::Say(bytes))?;
        if let Poll::Ready(sent) = self.poll_unsent(cx) {
            sent?;
        }
        Poll::Ready(Ok(bytes.len()))
    }
}

impl AsyncRead for EncryptedTcp {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        while stream.plain.is_empty() {
            if stream.is_ended {
                return Poll::Ready(Ok(()));
            }
            ready!(stream.poll_more(cx))?;
            let gone_on = stream.go_on(Then::Nothing);
            // Such as an answer to new keys, or why this ends.
            if let Poll::Ready(sent) = stream.poll_unsent(cx) {
                gone_on.and(sent)?;
            } else {
                gone_on?;
            }
        }
        let some = stream.plain.len().min(buffer.remaining());
        buffer.put_slice(&stream.plain[..some]);
        stream.plain.drain(..some);
        if stream.plain.is_empty() {
            stream.plain = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for EncryptedTcp {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_say(cx, &bytes[..bytes.len().min(RECORD_BYTES)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        if let [slice] = slices {
            return stream.poll_say(cx, &slice[..slice.len().min(RECORD_BYTES)]);
        }
        ready!(stream.poll_unsent(cx))?;
        // One record costs less than many.
        let mut together = Vec::new();
        for slice in slices {
            let room = RECORD_BYTES - together.len();
            together.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        stream.poll_say(cx, &together)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_unsent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if !stream.is_closed {
            stream.is_closed = true;
            stream.go_on(Then::Close)?;
        }
        ready!(stream.poll_unsent(cx))?;
        Pin::new(&mut stream.io).poll_shutdown(cx)
    }
}

/// Adds what the client said to `plain`; how much of what came is done with.
fn read(
    mut traffic: ReadTraffic<'_, '_, ServerConnectionData>,
    plain: &mut Vec<u8>,
) -> io::Result<usize> {
    let mut discard = 0;
    while let Some(record) = traffic.next_record() {
        let record = record.map_err(invalid)?;
        discard += record.discard;
        plain.extend_from_slice(record.payload);
    }
    Ok(discard)
}

/// Adds what is to be said to what is to be sent.
fn say(
    mut traffic: WriteTraffic<'_, ServerConnectionData>,
    then: Then<'_>,
    unsent: &mut Vec<u8>,
) -> io::Result<()> {
    match then {
        Then::Nothing => Ok(()),
        Then::Say(bytes) => append(unsent, bytes.len() + RECORD_OVERHEAD, |room| {
            traffic.encrypt(bytes, room).map_err(room_to_encrypt)
        }),
        Then::Close => {
            append(unsent, 0, |room| traffic.queue_close_notify(room).map_err(room_to_encrypt))
        }
    }
}

/// Appends what `write` writes, which says how much room that needs where it is more than a guess.
fn append(
    out: &mut Vec<u8>,
    guess: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Room>,
) -> io::Result<()> {
    let (start, mut room) = (out.len(), guess);
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(Room::Needed(needed)) if needed > room => room = needed,
            Err(_) => {
                out.truncate(start);
                return Err(io::Error::other("TLS can encrypt no more"));
            }
        }
    }
}

/// Why something was not written.
enum Room {
    /// It needs so much room.
    Needed(usize),
    /// It can't be written at all.
    InVain,
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn room_to_encode(error: EncodeError) -> Room {
    match error {
        EncodeError::InsufficientSize(size) => Room::Needed(size.required_size),
        EncodeError::AlreadyEncoded => Room::InVain,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn room_to_encrypt(error: EncryptError) -> Room {
    match error {
        EncryptError::InsufficientSize(size) => Room::Needed(size.required_size),
        EncryptError::EncryptExhausted => Room::InVain,
    }
}

fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
