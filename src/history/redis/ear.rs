//! What a node hears on the channels of the log, in bounded memory.
//!
//! The channels are sharded ones, which are the same on one server and in a cluster. The client library
//! calls for each message as it comes; what waits over the bound is dropped: the hole shows by its number
//! and is filled from the streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redis::aio::SendError;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisResult, Value, cmd};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tracing::debug;

use super::away::{Away, away};
use super::connection::Connection;
use super::link::{CONNECT, Link, Server};
use crate::clock::within;
use crate::model::LogName;

/// The most bytes of messages that wait.
const WAITING_BYTES: usize = 32 << 20;

/// About how many bytes of messages are taken together.
const RUN_BYTES: usize = 256 << 10;

/// A connection that hears the log's channel.
pub(super) struct Ear {
    messages: UnboundedReceiver<Pushed>,
    waiting: Arc<AtomicUsize>,
    has_ended: bool,
    /// The run of the server that it hears.
    pub(super) run: String,
    /// Whether it hears the channel of all databases too.
    hears_all: bool,
    /// Hears as long as it is there.
    _connection: Connection,
}

/// What is heard of the log.
enum Pushed {
    Message(Vec<u8>),
    /// Nothing more will be heard.
    End,
}

/// Puts what is heard where it belongs.
struct Sorter {
    server: Arc<Server>,
    feeds: Vec<String>,
    messages: UnboundedSender<Pushed>,
    waiting: Arc<AtomicUsize>,
}

impl Ear {
    /// Subscribes; from here on nothing is missed but what is over the bound.
    pub(super) async fn open(server: &Arc<Server>, link: &Link) -> Result<Self, Away> {
        let opened = Self::try_open(server, link).await;
        server.note_hearing(opened.as_ref().err());
        opened
    }

    async fn try_open(server: &Arc<Server>, link: &Link) -> Result<Self, Away> {
        let (sender, messages) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let hears_all = server.nodes.has_earlier();
        let mut feeds = vec![server.keys.channel()];
        feeds.extend(hears_all.then(|| server.keys.channel_of_all()));
        let sorter =
            Sorter { server: server.clone(), feeds, messages: sender, waiting: waiting.clone() };
        let subscribing = within(CONNECT, subscribe(server, link, sorter));
        let connection = match subscribing.await {
            Ok(connection) => connection.map_err(|error| away(&error))?,
            Err(_) => return Err(Away("it does not answer".to_owned())),
        };
        server.nodes.hear_myself();
        let (run, has_ended) = (link.run.clone(), false);
        Ok(Self { messages, waiting, has_ended, run, hears_all, _connection: connection })
    }

    /// Whether the log is told on other channels by now.
    pub(super) fn is_outdated(&self, server: &Server) -> bool {
        self.hears_all != server.nodes.has_earlier()
    }

    /// Whether no message waits.
    pub(super) fn is_quiet(&self) -> bool {
        self.messages.is_empty()
    }

    /// The messages that are there, in order and not many bytes, or else the next one; none once the
    /// connection is gone.
    pub(super) async fn next(&mut self) -> Option<Vec<Vec<u8>>> {
        if self.has_ended {
            return None;
        }
        let (mut run, mut bytes) = (Vec::new(), 0);
        // What was taken is given: there is nothing to wait for once something was.
        let mut next = self.messages.recv().await;
        while let Some(Pushed::Message(message)) = next {
            self.waiting.fetch_sub(message.len(), Ordering::Relaxed);
            bytes += message.len();
            run.push(message);
            if bytes >= RUN_BYTES {
                return Some(run);
            }
            next = match self.messages.try_recv() {
                Ok(heard) => Some(heard),
                Err(TryRecvError::Empty) => return Some(run),
                Err(TryRecvError::Disconnected) => None,
            };
        }
        self.has_ended = true;
        (!run.is_empty()).then_some(run)
    }
}

async fn subscribe(server: &Server, link: &Link, sorter: Sorter) -> RedisResult<Connection> {
    let feeds = sorter.feeds.clone();
    let config = AsyncConnectionConfig::new().set_push_sender(move |heard| sorter.sort(heard));
    let mut connection = Connection::open(&link.client, config, CONNECT, CONNECT).await?;
    let own = server.keys.node(server.node);
    for channel in feeds.iter().chain(&[server.keys.nodes(), own]) {
        () = cmd("SSUBSCRIBE").arg(channel).query_async(&mut connection).await?;
    }
    // Who is there already says so within a second; this is to know it at once.
    let channels = server.keys.node_channels();
    let mut ask = cmd("PUBSUB");
    let ask = ask.arg("SHARDCHANNELS").arg(format!("{channels}*"));
    let nodes: Vec<String> = ask.query_async(&mut connection).await?;
    let names = nodes.iter().filter_map(|name| LogName::parse(name.strip_prefix(&channels)?));
    names.for_each(|node| server.nodes.meet(node));
    Ok(connection)
}

impl Sorter {
    fn sort(&self, heard: PushInfo) -> Result<(), SendError> {
        match heard.kind {
            PushKind::SMessage => {
                let mut parts = heard.data.into_iter();
                if let (Some(Value::BulkString(channel)), Some(Value::BulkString(message))) =
                    (parts.next(), parts.next())
                {
                    return self.take(&channel, message);
                }
                Ok(())
            }
            // The slot has gone elsewhere, or the connection has.
            PushKind::SUnsubscribe | PushKind::Disconnection => self.pass(Pushed::End),
            _ => Ok(()),
        }
    }

    fn take(&self, channel: &[u8], message: Vec<u8>) -> Result<(), SendError> {
        if !self.feeds.iter().any(|feed| feed.as_bytes() == channel) {
            self.server.nodes.hear(&message);
            return Ok(());
        }
        if self.waiting.load(Ordering::Relaxed) + message.len() > WAITING_BYTES {
            debug!("a message is dropped, for too many wait");
            return Ok(());
        }
        self.waiting.fetch_add(message.len(), Ordering::Relaxed);
        self.pass(Pushed::Message(message))
    }

    fn pass(&self, heard: Pushed) -> Result<(), SendError> {
        self.messages.send(heard).map_err(|_| SendError)
    }
}
