//! Channels of an application: heard while this node listens, as channels are.
//!
//! Nobody keeps what is said while nobody listens, so a change of turns or a lost connection can lose
//! messages; a stream can't.

use redis::aio::{MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value, cmd};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::interval;

use super::{ANSWER, RETRY, Source, TOGETHER};
use crate::broker::BrokerHandle;
use crate::history::redis::Away;
use crate::metrics::Why;

/// How many messages wait; what is over is lost.
const WAITING: usize = 1_024;

/// What is heard on channels.
enum Heard {
    Message {
        channel: Vec<u8>,
        data: Vec<u8>,
    },
    /// Nothing more will be heard.
    End,
}

impl Source {
    /// Hears channels while it is this node's turn.
    pub(super) async fn hear(&mut self, name: &str) -> Result<(), Away> {
        let (sender, mut heard) = channel(WAITING);
        let (broker, max_bytes) = (self.broker.clone(), self.limits.event_bytes);
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(ANSWER))
            .set_push_sender(move |push| sort(push, &sender, &broker, max_bytes));
        let mut connection = self.connect(config).await?;
        self.wait_for_turn(&mut connection).await?;
        let subscribe = if self.from.tap.is_pattern() { "PSUBSCRIBE" } else { "SUBSCRIBE" };
        () = cmd(subscribe).arg(name).query_async(&mut connection).await?;
        let mut turns = interval(RETRY);
        loop {
            tokio::select! {
                first = heard.recv() => {
                    let Some(Heard::Message { channel, data }) = first else {
                        return Err(Away("the connection is gone".to_owned()));
                    };
                    if !self.pass_on(&mut connection, (channel, data), &mut heard).await? {
                        return Ok(());
                    }
                }
                // Also the proof that the connection still stands.
                _ = turns.tick() => if !self.turn.take(&mut connection).await? {
                    return Ok(());
                }
            }
        }
    }

    /// Publishes a message and those that wait behind it.
    async fn pass_on(
        &mut self,
        connection: &mut MultiplexedConnection,
        first: (Vec<u8>, Vec<u8>),
        heard: &mut Receiver<Heard>,
    ) -> Result<bool, Away> {
        let mut messages = vec![first];
        while messages.len() < TOGETHER
            && let Ok(Heard::Message { channel, data }) = heard.try_recv()
        {
            messages.push((channel, data));
        }
        let events = messages.iter().filter_map(|(channel, data)| {
            let name = std::str::from_utf8(channel).ok()?;
            self.event(name, &name, data)
        });
        self.publish(connection, events.collect(), None).await
    }
}

/// Puts what the connection hears into the queue, as far as there is room.
fn sort(
    push: PushInfo,
    sender: &Sender<Heard>,
    broker: &BrokerHandle,
    max_bytes: usize,
) -> Result<(), SendError> {
    let mut parts = push.data.into_iter();
    let message = match push.kind {
        PushKind::Message => (parts.next(), parts.next()),
        PushKind::PMessage => (parts.nth(1), parts.next()),
        PushKind::Disconnection => {
            // A full queue ends all the same, with the sender.
            _ = sender.try_send(Heard::End);
            return Ok(());
        }
        _ => return Ok(()),
    };
    let (Some(Value::BulkString(channel)), Some(Value::BulkString(data))) = message else {
        return Ok(());
    };
    let bytes = data.len();
    let of = |channel: &[u8]| String::from_utf8_lossy(channel).into_owned();
    if bytes > max_bytes {
        let example = || format!("{}: {bytes} bytes, over limits.event_bytes", of(&channel));
        broker.passed_by().note(Why::TooLarge, 1, example);
    } else if let Err(lost) = sender.try_send(Heard::Message { channel, data })
        && let Heard::Message { channel, .. } = lost.into_inner()
    {
        let example = || format!("{}: {WAITING} messages wait already", of(&channel));
        broker.passed_by().note(Why::NoRoom, 1, example);
    }
    Ok(())
}
