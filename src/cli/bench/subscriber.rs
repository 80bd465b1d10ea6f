//! One connection that listens: opened, kept alive, and counted on.
//!
//! An idle one holds nothing but its socket. All of a thread read into one buffer, and what lies
//! there is counted in place; only a message that is not whole yet is kept.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::clock::{Clock, Markers};
use super::dialect::{Dialect, Heard, Transport};
use super::frames::{self, Kind, Op};
use super::meter::SharedMeter;
use super::response::Unchunked;
use super::socket::{self, Sources};
use super::stream::Stream;
use super::target::Target;

/// What the subscribers of one thread share.
pub struct Listening {
    /// How the server is spoken to.
    pub dialect: Arc<dyn Dialect>,
    /// Where it is.
    pub target: Target,
    /// Where connections come from.
    pub sources: Sources,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub meter: SharedMeter,
    /// How many bytes a second a slow subscriber reads.
    pub slow_pace: usize,
    /// What all reads go into.
    pub buffer: RefCell<Box<[u8]>>,
    /// How events are found.
    pub markers: Markers,
}

/// A subscriber on its way to a connection.
pub struct Subscriber {
    /// What it shares with others.
    pub listening: Rc<Listening>,
    /// Its place among those of its thread.
    pub seat: usize,
    /// Its place among all.
    pub number: usize,
    /// What it subscribes to.
    pub topics: Vec<String>,
    /// Whether it reads slowly once it is live.
    pub slow: bool,
}

/// An open connection.
struct Connection {
    stream: Stream,
    transport: Transport,
    unchunked: Unchunked,
    /// What came and is not a whole message yet.
    rest: Vec<u8>,
    /// The decoded part of an event stream that is not a whole block yet.
    block: Vec<u8>,
    /// What has to be sent.
    outgoing: Vec<u8>,
    /// How many subscriptions are still to go live.
    lives: usize,
}

impl Subscriber {
    /// Connects, listens until the connection ends, and leaves word of that in the meter. The permit
    /// is held until it is live.
    pub async fn run(self, permit: OwnedSemaphorePermit) {
        let ended = match self.open().await {
            Ok(connection) => self.listen(connection, permit).await,
            Err(reason) => reason,
        };
        let mut meter = self.listening.meter.lock();
        if self.slow {
            meter.slow_ended += 1;
        } else {
            meter.ended += 1;
            meter.reason.get_or_insert(ended);
        }
    }

    async fn open(&self) -> Result<Connection, String> {
        let listening = &self.listening;
        let opening = listening.dialect.opening(&self.topics);
        let mut stream = listening.target.connect(listening.sources, self.number).await?;
        let mut rest = Vec::new();
        let body =
            socket::open(&mut stream, &opening.request, opening.transport, &mut rest).await?;
        let mut connection = Connection {
            stream,
            transport: opening.transport,
            unchunked: Unchunked::new(body),
            rest,
            block: Vec::new(),
            outgoing: Vec::new(),
            lives: opening.lives,
        };
        for message in &opening.messages {
            connection.say(message);
        }
        Ok(connection)
    }

    /// Listens until the connection ends, and returns why it did.
    async fn listen(&self, mut connection: Connection, permit: OwnedSemaphorePermit) -> String {
        let mut permit = Some(permit);
        let first = std::mem::take(&mut connection.rest);
        let mut outcome = self.take(&mut connection, &first);
        loop {
            if let Err(reason) = outcome {
                return reason;
            }
            if let Err(error) = connection.flush().await {
                return format!("the connection broke: {error}");
            }
            if connection.lives == 0 && permit.take().is_some() {
                self.listening.meter.lock().live += 1;
                if self.slow {
                    return self.dawdle(connection).await;
                }
            }
            outcome = poll_fn(|context| self.poll_read(&mut connection, context)).await;
        }
    }

    /// Reads once and counts what came.
    fn poll_read(
        &self,
        connection: &mut Connection,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), String>> {
        let mut buffer = self.listening.buffer.borrow_mut();
        let mut buffer = ReadBuf::new(&mut buffer);
        let read = ready!(Pin::new(&mut connection.stream).poll_read(context, &mut buffer));
        Poll::Ready(match read {
            Err(error) => Err(format!("the connection broke: {error}")),
            Ok(()) if buffer.filled().is_empty() => Err("the server hung up".into()),
            Ok(()) => self.take(connection, buffer.filled()),
        })
    }

    /// Takes what came, together with what was kept of it before.
    fn take(&self, connection: &mut Connection, bytes: &[u8]) -> Result<(), String> {
        self.listening.meter.lock().bytes += bytes.len() as u64;
        if connection.rest.is_empty() {
            let done = self.messages(connection, bytes)?;
            connection.rest.extend_from_slice(&bytes[done..]);
            return Ok(());
        }
        let mut all = std::mem::take(&mut connection.rest);
        all.extend_from_slice(bytes);
        let done = self.messages(connection, &all)?;
        // An idle connection holds no buffer.
        connection.rest = all[done..].to_vec();
        Ok(())
    }

    /// Takes all whole messages and returns how many bytes they were.
    fn messages(&self, connection: &mut Connection, bytes: &[u8]) -> Result<usize, String> {
        if connection.transport == Transport::EventStream {
            let mut stream = std::mem::take(&mut connection.block);
            let done = connection.unchunked.read(bytes, &mut stream)?;
            let whole = memchr::memmem::rfind(&stream, b"\n\n").map_or(0, |end| end + 2);
            if whole > 0 {
                self.message(connection, &stream[..whole])?;
            }
            connection.block = stream[whole..].to_vec();
            return Ok(done);
        }
        let mut done = 0;
        while let Some((frame, length)) = frames::read(&bytes[done..])? {
            done += length;
            match frame.kind {
                Kind::Data => self.message(connection, frame.payload)?,
                Kind::Ping => frames::write(&mut connection.outgoing, Op::Pong, frame.payload),
                Kind::Pong => {}
                Kind::Close => return Err(frames::reason(frame.payload)),
            }
        }
        Ok(done)
    }

    fn message(&self, connection: &mut Connection, message: &[u8]) -> Result<(), String> {
        let listening = &*self.listening;
        let mut due = listening.markers.find(message).peekable();
        if due.peek().is_some() {
            if !self.slow {
                listening.meter.lock().deliver(self.seat, listening.clock.now(), due);
            }
            return Ok(());
        }
        let mut reply = Vec::new();
        let heard = listening.dialect.hear(message, &self.topics, &mut reply);
        if !reply.is_empty() {
            connection.say(&reply);
        }
        match heard {
            Heard::Nothing => {}
            Heard::Live => connection.lives = connection.lives.saturating_sub(1),
            Heard::Ended(reason) => return Err(reason),
        }
        Ok(())
    }

    /// Reads as a slow client does, until the server has had enough.
    async fn dawdle(&self, mut connection: Connection) -> String {
        let mut buffer = vec![0; self.listening.slow_pace];
        loop {
            sleep(Duration::from_secs(1)).await;
            if buffer.is_empty() {
                // Nothing is read, so the end is seen only in a write that fails.
                frames::write(&mut connection.outgoing, Op::Pong, b"");
                if connection.transport != Transport::EventStream
                    && let Err(error) = connection.flush().await
                {
                    return error.to_string();
                }
                continue;
            }
            match connection.stream.try_read(&mut buffer) {
                Ok(0) => return "the server hung up".into(),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    return error.to_string();
                }
                _ => {}
            }
        }
    }
}

impl Connection {
    /// Queues a message to the server.
    fn say(&mut self, message: &[u8]) {
        let op = if self.transport == Transport::Binary { Op::Binary } else { Op::Text };
        frames::write(&mut self.outgoing, op, message);
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.outgoing);
        self.stream.send(&bytes).await
    }
}
