//! The WebSocket loop of one connection, over anything that reads and writes bytes.
//!
//! Two halves run side by side in one task: one reads frames and hands messages on, one at a time;
//! the other writes what waits in the outbox, all of it in one go. Neither waits for the other, so a
//! client that only talks or only listens is served; pings are answered and closing is done as RFC
//! 6455 says, within a time limit.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::time::Duration;

use actix_http::ws::OpCode;
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{sleep, timeout};

use super::frames::{FrameLimits, FrameReader, Incoming};
use super::outgoing::Outgoing;
use super::wire::{close_echo, message_frame};
use crate::model::Close;

/// Room that is made for each read, in bytes.
const READ_BYTES: usize = 2 * 1024;

/// The most messages in one system call.
const MAX_SLICES: usize = 64;

/// A client that broke the protocol is read from until it is silent for so long, for cutting it off
/// while it sends could destroy our close frame on its way.
const LINGER: Duration = Duration::from_millis(200);

/// The limits of one connection.
#[derive(Debug, Clone, Copy)]
pub struct SocketLimits {
    /// What one message may cost.
    pub frames: FrameLimits,
    /// How long closing may take.
    pub close_timeout: Duration,
    /// How long one write may take.
    pub stall_timeout: Duration,
}

/// One message from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
}

/// The side of the broker in a conversation.
pub trait Listener {
    /// Takes a message; the next one is read when this is done.
    fn said(&mut self, message: Said) -> impl Future<Output = ()>;

    /// The client broke a rule or a limit: ends the conversation through the outbox.
    fn end(&mut self, close: Close);
}

/// How reading ended.
enum Ended {
    /// By the client's close frame.
    Closed(Option<u16>),
    /// By a violation, after which the client has fallen silent.
    Broken,
    /// By the end of the stream or an error.
    Gone,
}

/// Serves one connection until either side hangs up. What `outgoing` holds is written; what the
/// client says goes to `listener`. `early` are bytes that came behind the upgrade request.
pub async fn serve(
    io: impl AsyncRead + AsyncWrite,
    early: BytesMut,
    outgoing: &Outgoing,
    limits: SocketLimits,
    listener: &mut impl Listener,
) {
    let (mut reader, mut writer) = split(io);
    let conversation = async {
        let mut reading = pin!(read(&mut reader, early, outgoing, limits.frames, listener));
        let mut writing = pin!(write(&mut writer, outgoing, limits.stall_timeout));
        tokio::select! {
            written = &mut writing => if written.is_ok() {
                // Our close frame is out; the client's answer ends the conversation.
                reading.await;
            },
            ended = &mut reading => {
                if let Ended::Closed(code) = ended {
                    outgoing.close([close_echo(code)], false);
                }
                if !matches!(ended, Ended::Gone) {
                    _ = writing.await;
                }
            },
        }
    };
    let deadline = async {
        outgoing.closing().await;
        sleep(limits.close_timeout).await;
    };
    tokio::select! {
        () = conversation => {}
        () = deadline => {}
    }
    // Whoever still pushes is told that nobody will read it.
    outgoing.close([], true);
    _ = timeout(limits.close_timeout, writer.shutdown()).await;
}

async fn read(
    reader: &mut (impl AsyncRead + Unpin),
    mut bytes: BytesMut,
    outgoing: &Outgoing,
    limits: FrameLimits,
    listener: &mut impl Listener,
) -> Ended {
    let mut frames = FrameReader::new(limits);
    loop {
        loop {
            let said = match frames.next(&mut bytes) {
                Ok(None) => break,
                Ok(Some(Incoming::Text(text))) => Said::Text(text),
                Ok(Some(Incoming::Binary(bytes))) => Said::Binary(bytes),
                Ok(Some(Incoming::Ping(payload))) => {
                    if outgoing.push(message_frame(payload, OpCode::Pong)).is_err() {
                        listener.end(Close::SlowConsumer);
                    }
                    continue;
                }
                Ok(Some(Incoming::Pong)) => continue,
                Ok(Some(Incoming::Close(code))) => return Ended::Closed(code),
                Err(close) => {
                    listener.end(close);
                    return linger(reader, bytes).await;
                }
            };
            if !outgoing.is_closing() {
                listener.said(said).await;
            }
        }
        if bytes.is_empty() {
            bytes = BytesMut::new();
        }
        bytes.reserve(READ_BYTES);
        match reader.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return Ended::Gone,
            Ok(_) => outgoing.heard(),
        }
    }
}

/// Reads and throws away what a client sends after a violation, so that it sees our close frame
/// instead of a reset.
async fn linger(reader: &mut (impl AsyncRead + Unpin), mut bytes: BytesMut) -> Ended {
    loop {
        bytes.clear();
        bytes.reserve(READ_BYTES);
        match timeout(LINGER, reader.read_buf(&mut bytes)).await {
            Ok(Ok(0) | Err(_)) => return Ended::Gone,
            Ok(Ok(_)) => {}
            Err(_) => return Ended::Broken,
        }
    }
}

async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    outgoing: &Outgoing,
    stall_timeout: Duration,
) -> io::Result<()> {
    let mut batch = VecDeque::new();
    while poll_fn(|cx| outgoing.poll_batch(cx, &mut batch)).await {
        match timeout(stall_timeout, write_batch(writer, &mut batch)).await {
            Ok(written) => written?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        batch = VecDeque::new();
    }
    Ok(())
}

async fn write_batch(
    writer: &mut (impl AsyncWrite + Unpin),
    batch: &mut VecDeque<Bytes>,
) -> io::Result<()> {
    while !batch.is_empty() {
        let slices: Vec<_> =
            batch.iter().take(MAX_SLICES).map(|message| IoSlice::new(message)).collect();
        let mut written = writer.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(message) = batch.front_mut() {
            if message.len() > written {
                message.advance(written);
                break;
            }
            written -= message.len();
            batch.pop_front();
        }
    }
    writer.flush().await
}
