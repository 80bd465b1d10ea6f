//! Channels of an application: heard while this node listens, as channels are.
//!
//! Nobody keeps what is said while nobody listens, so a change of turns or a lost connection can lose
//! messages; a stream can't.

use std::borrow::Cow;
use std::collections::BTreeMap;

use redis::aio::SendError;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value, cmd};
use serde_json::value::RawValue;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::interval;

use super::{ANSWER, KnownBy, RETRY, Source, TOGETHER};
use crate::broker::BrokerHandle;
use crate::history::redis::{Away, Connection};
use crate::metrics::Why;

/// How many messages wait; what is over is lost.
const WAITING: usize = 1_024;

/// What is heard on channels.
enum Pushed {
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
            .set_push_sender(move |push| sort(push, &sender, &broker, max_bytes));
        let mut connection = self.connect(config, ANSWER).await?;
        self.wait_for_turn(&mut connection).await?;
        let subscribe = if self.from.tap.is_pattern() { "PSUBSCRIBE" } else { "SUBSCRIBE" };
        () = cmd(subscribe).arg(name).query_async(&mut connection).await?;
        let mut turns = interval(RETRY);
        loop {
            tokio::select! {
                first = heard.recv() => {
                    let Some(Pushed::Message { channel, data }) = first else {
                        return Err(Away("the connection is gone".to_owned()));
                    };
                    if !self.pass_on(&mut connection, name, (channel, data), &mut heard).await? {
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

    /// Publishes a message and those that wait behind it: each that gives a key by itself, those between together.
    async fn pass_on(
        &mut self,
        connection: &mut Connection,
        name: &str,
        first: (Vec<u8>, Vec<u8>),
        heard: &mut Receiver<Pushed>,
    ) -> Result<bool, Away> {
        let mut messages = vec![first];
        while messages.len() < TOGETHER
            && let Ok(Pushed::Message { channel, data }) = heard.try_recv()
        {
            messages.push((channel, data));
        }
        let key_name = self.key_name().map(str::to_owned);
        let own_key = |(_, data): &(Vec<u8>, Vec<u8>)| own_key(data, key_name.as_deref()?);
        for run in messages.chunk_by(|a, b| own_key(a).is_none() && own_key(b).is_none()) {
            let known = match run.first().and_then(own_key) {
                None => KnownBy::Turn,
                Some(text) => match self.own_key(name, &text) {
                    Some(key) => KnownBy::Key(key),
                    None => continue,
                },
            };
            let events = run.iter().filter_map(|(channel, data)| {
                let name = std::str::from_utf8(channel).ok()?;
                self.event(name, &name, data)
            });
            let events = events.collect();
            if !self.publish(connection, events, known).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The idempotency key that a message gives as a member of its JSON object; null or an empty one is none.
fn own_key(data: &[u8], name: &str) -> Option<String> {
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(data).ok()?;
    let key = members.get(name)?.get();
    let text = serde_json::from_str::<Option<String>>(key);
    // What is no text is shown to be no key.
    text.unwrap_or_else(|_| Some(" ".to_owned())).filter(|key| !key.is_empty())
}

/// Puts what the connection hears into the queue, as far as there is room.
fn sort(
    push: PushInfo,
    sender: &Sender<Pushed>,
    broker: &BrokerHandle,
    max_bytes: usize,
) -> Result<(), SendError> {
    let mut parts = push.data.into_iter();
    let message = match push.kind {
        PushKind::Message => (parts.next(), parts.next()),
        PushKind::PMessage => (parts.nth(1), parts.next()),
        PushKind::Disconnection => {
            // A full queue ends all the same, with the sender.
            _ = sender.try_send(Pushed::End);
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
    } else if let Err(lost) = sender.try_send(Pushed::Message { channel, data })
        && let Pushed::Message { channel, .. } = lost.into_inner()
    {
        let example = || format!("{}: {WAITING} messages wait already", of(&channel));
        broker.passed_by().note(Why::NoRoom, 1, example);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_gives_its_key_as_a_member_of_an_object() {
        let key = |data: &str| own_key(data.as_bytes(), "key");
        assert_eq!(key(r#"{"n":1,"key":"a-1"}"#).as_deref(), Some("a-1"));
        for none in [r#"{"n":1}"#, r#"{"key":null}"#, r#"{"key":""}"#, "5", "text", "[\"key\"]"] {
            assert_eq!(key(none), None, "{none}");
        }
        assert_eq!(key(r#"{"key":5}"#).as_deref(), Some(" "), "which is no key");
    }
}
