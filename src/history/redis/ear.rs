//! What a node hears on the log's channel, in bounded memory.
//!
//! The client library would queue without end while the node is busy, so a task drains it at once. What
//! is over the bound is dropped: the hole shows by its number and is filled from the streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::StreamExt;
use redis::aio::PubSub;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::debug;

use super::link::{Away, Server};

/// The most bytes of messages that wait.
const WAITING_BYTES: usize = 32 << 20;

/// A connection that hears the log's channel.
pub(super) struct Ear {
    messages: UnboundedReceiver<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    draining: JoinHandle<()>,
}

impl Ear {
    /// Subscribes; from here on nothing is missed but what is over the bound. `probed` is set when
    /// the node hears itself.
    pub(super) async fn open(
        server: &Server,
        probed: watch::Sender<Option<Instant>>,
    ) -> Result<Self, Away> {
        let heard = server.subscribe().await?;
        probed.send_replace(Some(Instant::now()));
        let (sender, messages) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let drain = drain(heard, server.probe(), probed, sender, waiting.clone());
        Ok(Self { messages, waiting, draining: tokio::spawn(drain) })
    }

    /// The next message; none once the connection is gone.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        let message = self.messages.recv().await?;
        self.waiting.fetch_sub(message.len(), Ordering::Relaxed);
        Some(message)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.draining.abort();
    }
}

async fn drain(
    mut heard: PubSub,
    probe: String,
    probed: watch::Sender<Option<Instant>>,
    sender: UnboundedSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
) {
    let mut messages = heard.on_message();
    while let Some(message) = messages.next().await {
        if message.get_channel_name() == probe {
            probed.send_replace(Some(Instant::now()));
            continue;
        }
        let bytes = message.get_payload_bytes();
        if waiting.load(Ordering::Relaxed) + bytes.len() > WAITING_BYTES {
            debug!("a message is dropped, for too many wait");
            continue;
        }
        waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        if sender.send(bytes.to_vec()).is_err() {
            return;
        }
    }
}
