//! What a server has to be told, and what its answers mean: the seam between the bench and a server.
//!
//! Everything else (connections, pace, counting) is the same for every server, so that others can be
//! measured with the same work. A dialect has no state and does no I/O.

use memchr::memmem;

use super::clock::NEEDLE;
use super::demand::Asking;
use super::response;

/// How one kind of server is spoken to.
pub trait Dialect: Send + Sync {
    /// How a subscriber of these topics begins.
    fn opening(&self, topics: &[String]) -> Opening;

    /// What a message without an event means to a subscriber of these topics. What it has to send in
    /// return goes into `reply`.
    fn hear(&self, message: &[u8], topics: &[String], reply: &mut Vec<u8>) -> Heard;

    /// What the connection of a publisher begins with, where that is more than publishing; one
    /// [`Answer::Done`] says it may go on.
    fn greeting(&self) -> Option<Vec<u8>>;

    /// Appends the bytes of one publish, of one event or of several.
    fn publish(&self, posts: &[Post<'_>], out: &mut Vec<u8>);

    /// The first answer in what a publisher has received, and its length, once it is there in full.
    fn answer(&self, received: &[u8]) -> Result<Option<(Answer, usize)>, String>;

    /// How many answers a publish of so many events has.
    fn answers(&self, events: usize) -> usize {
        events
    }

    /// The request for the place that the server has come to, whose answer is handed to those who come back; where
    /// they need not name it, nothing.
    fn place(&self) -> Option<Vec<u8>> {
        None
    }

    /// How a client comes back. Where nothing of what it hears is [`Heard::Live`], it is there once all has come.
    fn comeback(&self, _asking: &Asking<'_>) -> Result<Opening, String> {
        Err("clients can't come back to it".into())
    }

    /// How many events a message brings to a client that came back. Of a compressed one, the beginning is known.
    fn brings(&self, message: &[u8]) -> usize {
        memmem::find_iter(message, NEEDLE).count()
    }

    /// The number of the event that a message brings, by which those that were missed are in order, if it has one.
    fn number(&self, _message: &[u8]) -> Option<u64> {
        None
    }
}

/// How a subscriber begins.
#[derive(Debug)]
pub struct Opening {
    /// The HTTP request that opens the connection.
    pub request: Vec<u8>,
    /// How the server sends then.
    pub transport: Transport,
    /// The messages that are sent at once after that.
    pub messages: Vec<Vec<u8>>,
    /// How often [`Heard::Live`] must come before the subscriber has all its topics.
    pub lives: usize,
}

/// How a server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// WebSocket, and what is said to the server goes in text messages.
    Text,
    /// WebSocket, and what is said to the server goes in binary messages.
    Binary,
    /// Server-Sent Events.
    EventStream,
}

/// What a message without an event means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that matters here.
    Nothing,
    /// A subscription is live.
    Live,
    /// The server refuses, or ends the connection, and this is why.
    Ended(String),
}

/// An event to be published.
#[derive(Debug, Clone, Copy)]
pub struct Post<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its data, as JSON.
    pub data: &'a [u8],
}

/// What a publisher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing that matters here.
    Nothing,
    /// The oldest publish that is not answered yet is acknowledged.
    Done,
    /// Likewise, and the server hangs up now.
    Last,
    /// It is refused, and this is why.
    Refused(String),
    /// These bytes have to be sent in return.
    Reply(Vec<u8>),
}

/// The lines that make a request ask for a WebSocket.
pub fn upgrade(request: &mut Vec<u8>) {
    request.extend_from_slice(
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
          Sec-WebSocket-Key: ZmFuZmFyZS1iZW5jaC1rZQ==\r\n",
    );
}

/// What an HTTP server answers to a publish, or to a request for a WebSocket.
pub fn http_answer(received: &[u8]) -> Result<Option<(Answer, usize)>, String> {
    let Some(response) = response::response(received)? else { return Ok(None) };
    let answer = match response.status {
        101 => Answer::Nothing,
        200..300 if response.is_last => Answer::Last,
        200..300 => Answer::Done,
        status => {
            let body = String::from_utf8_lossy(response.body);
            Answer::Refused(format!("HTTP {status} {}", body.trim()))
        }
    };
    Ok(Some((answer, response.length)))
}
