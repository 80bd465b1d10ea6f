//! One WebSocket connection, from its opening to its end.
//!
//! The writing half lives in a task of its own, which pings and answers pings, so that the connection
//! stays alive while a slow standard output holds up the reading half.

use std::time::Duration;

use actix_http::ws::{Item, ProtocolError};
use actix_web::http::StatusCode;
use actix_web::rt;
use awc::error::WsClientError;
use awc::ws::{Frame, Message as Outgoing};
use bytes::{Bytes, BytesMut};
use futures_util::stream::LocalBoxStream;
use futures_util::{Sink, SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, timeout};

use super::super::remote::{Refusal, Remote};
use super::ending::{Bye, Ending};
use super::message::Message;

/// What came over the connection.
#[derive(Debug)]
pub enum Incoming {
    /// A message, as text.
    Text(String),
    /// The end.
    End(Ending),
}

/// An open connection to a broker.
pub struct Connection {
    frames: LocalBoxStream<'static, Result<Frame, ProtocolError>>,
    pongs: mpsc::Sender<Bytes>,
    parts: BytesMut,
    silence: Duration,
    bye: Option<Bye>,
    /// What came before anybody asked for it.
    early: Option<Incoming>,
}

impl Connection {
    /// How long the broker may take to say `welcome`.
    const WELCOME: Duration = Duration::from_secs(10);
    /// How long a subscription without a credential may go unanswered before it is asked why: the broker answers
    /// at once, unless it waits for one.
    const UNANSWERED: Duration = Duration::from_secs(1);
    /// The most bytes of a message that comes in parts.
    const MAX_PARTS: usize = 64 << 20;

    /// Connects with this query, and waits for the broker's `welcome`.
    pub async fn open(remote: &Remote, query: &str) -> Result<Self, Ending> {
        let path = format!("/v1/ws?{query}");
        let (_, socket) = match remote.websocket(&path).connect().await {
            Ok(open) => open,
            Err(error) => return Err(unopened(remote, query, error).await),
        };
        let (mut sink, frames) = socket.split();
        if let Some(introduction) = remote.introduction() {
            let sent = sink.send(Outgoing::Text(introduction.into())).await;
            sent.map_err(|error| Ending::lost(error.to_string()))?;
        }
        let (pongs, waiting) = mpsc::channel(8);
        let mut connection = Self {
            frames: frames.boxed_local(),
            pongs,
            parts: BytesMut::new(),
            silence: Self::WELCOME,
            bye: None,
            early: None,
        };
        let text = match connection.next().await {
            Incoming::Text(text) => text,
            Incoming::End(ending) => return Err(ending),
        };
        let welcome = Message::parse(&text).filter(|message| message.op() == "welcome");
        let heartbeat = welcome.and_then(|message| message.number("heartbeat"));
        let Some(heartbeat) = heartbeat.filter(|seconds| (1..=3_600).contains(seconds)) else {
            return Err(Ending::Stop(format!("{} is not a Fanfare broker", remote.url())));
        };
        let heartbeat = Duration::from_secs(heartbeat);
        connection.silence = heartbeat * 5 / 2;
        rt::spawn(keep_alive(sink, waiting, heartbeat));
        if !remote.has_credential() {
            connection.hear_soon(remote, query).await?;
        }
        Ok(connection)
    }

    /// Waits for the first word behind `welcome`. A broker that wants a credential for the subscription says nothing
    /// until one comes, and hangs up some time later.
    async fn hear_soon(&mut self, remote: &Remote, query: &str) -> Result<(), Ending> {
        match timeout(Self::UNANSWERED, self.next()).await {
            Ok(incoming) => self.early = Some(incoming),
            Err(_) => {
                let wanted = refusal(remote, query, StatusCode::UNAUTHORIZED).await;
                if let Some(wanted) = wanted {
                    return Err(wanted);
                }
            }
        }
        Ok(())
    }

    /// The next message, or the end.
    pub async fn next(&mut self) -> Incoming {
        if let Some(early) = self.early.take() {
            return early;
        }
        loop {
            let frame = match timeout(self.silence, self.frames.next()).await {
                Err(_) => {
                    let reason = format!("nothing was heard for {:?}", self.silence);
                    return Incoming::End(Ending::lost(reason));
                }
                Ok(None) => return Incoming::End(Ending::closed(None, self.bye.take())),
                Ok(Some(Err(error))) => {
                    let ending = match self.bye.take() {
                        Some(bye) => Ending::closed(None, Some(bye)),
                        None => Ending::lost(error.to_string()),
                    };
                    return Incoming::End(ending);
                }
                Ok(Some(Ok(frame))) => frame,
            };
            if let Some(incoming) = self.take(frame) {
                return incoming;
            }
        }
    }

    /// Keeps what the broker says of the end that is about to come.
    pub fn said_bye(&mut self, bye: Bye) {
        self.bye = Some(bye);
    }

    /// Deals with one frame; a message may need more of them.
    fn take(&mut self, frame: Frame) -> Option<Incoming> {
        let (part, last) = match frame {
            Frame::Text(bytes) => (bytes, true),
            Frame::Continuation(Item::FirstText(part) | Item::Continue(part)) => (part, false),
            Frame::Continuation(Item::Last(part)) => (part, true),
            Frame::Ping(payload) => {
                // Where several wait, the broker hears of us anyway.
                _ = self.pongs.try_send(payload);
                return None;
            }
            Frame::Pong(_) => return None,
            Frame::Close(reason) => {
                let code = reason.map(|reason| u16::from(reason.code));
                return Some(Incoming::End(Ending::closed(code, self.bye.take())));
            }
            Frame::Binary(_) | Frame::Continuation(Item::FirstBinary(_)) => {
                return Some(Incoming::End(Ending::Stop("the broker sent binary data".into())));
            }
        };
        if self.parts.len() + part.len() > Self::MAX_PARTS {
            return Some(Incoming::End(Ending::Stop("the broker sent too large a message".into())));
        }
        self.parts.extend_from_slice(&part);
        if !last {
            return None;
        }
        Some(match String::from_utf8(self.parts.split().into()) {
            Ok(text) => Incoming::Text(text),
            Err(_) => Incoming::End(Ending::lost("the broker sent text that is not UTF-8")),
        })
    }
}

/// Why a connection with this query could not be opened.
async fn unopened(remote: &Remote, query: &str, error: WsClientError) -> Ending {
    match error {
        WsClientError::InvalidResponseStatus(status) => {
            let wordless = Ending::refused(&Refusal::new(status, b""));
            if !matches!(wordless, Ending::Stop(_)) {
                return wordless;
            }
            refusal(remote, query, status).await.unwrap_or(wordless)
        }
        WsClientError::SendRequest(error) => {
            let why = remote.why(&error).await;
            match why.lasts {
                true => Ending::Stop(format!("{}: {why}", remote.url())),
                false => Ending::lost(why.to_string()),
            }
        }
        error => Ending::lost(format!("not a WebSocket: {error}")),
    }
}

/// Why a connection with this query was, or would be, refused with this status. The answer to a WebSocket comes without
/// its words; SSE takes the same query, and refuses it for the same reasons.
async fn refusal(remote: &Remote, query: &str, status: StatusCode) -> Option<Ending> {
    let head = remote.head(remote.get(&format!("/v1/sse?{query}")).send()).await.ok()?;
    if head.status() != status {
        return None;
    }
    Some(Ending::refused(&remote.refusal(&head.words().await).await))
}

/// Pings each heartbeat and answers pings, until the connection is dropped; then says good-bye.
async fn keep_alive(
    mut sink: impl Sink<Outgoing> + Unpin,
    mut pongs: mpsc::Receiver<Bytes>,
    heartbeat: Duration,
) {
    let mut pings = interval_at(Instant::now() + heartbeat, heartbeat);
    loop {
        let frame = tokio::select! {
            pong = pongs.recv() => match pong {
                Some(payload) => Outgoing::Pong(payload),
                None => break,
            },
            _ = pings.tick() => Outgoing::Ping(Bytes::new()),
        };
        if sink.send(frame).await.is_err() {
            return;
        }
    }
    _ = timeout(Duration::from_secs(1), sink.send(Outgoing::Close(None))).await;
}
