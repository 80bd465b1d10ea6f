//! What the broker says about itself: who comes and goes, and which topics are listened to.
//!
//! Each notice is an event on a topic of the broker's own, with the road, the order and the history of
//! any other: `$sys.sessions`, `$sys.topics`, `$presence.TOPIC`. Webhooks are readers of these topics.

pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::{debug, warn};

use crate::auth::Auth;
use crate::broker::{BrokerHandle, Observer, SessionInfo};
use crate::config;
use crate::history::{Append, Series};
use crate::metrics::Metrics;
use crate::model::{Data, EventType, NewEvent, NoticeKind, Pattern, Topic};

/// How many notices may wait to be stored; one more is lost, counted and logged.
const WAITING: usize = 65_536;

/// How many are stored together.
const TOGETHER: usize = 256;

/// How long until storing is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Where sessions are told of.
const SESSIONS: &str = "$sys.sessions";

/// Where topics are told of.
const TOPICS: &str = "$sys.topics";

/// What the topics begin with that say who is subscribed to another topic.
const PRESENCE: &str = "$presence.";

/// Takes notice of what happens at this node.
pub struct Notices {
    wanted: config::Notices,
    auth: Arc<Auth>,
    metrics: Arc<Metrics>,
    node: String,
    sender: Sender<NewEvent>,
}

/// Notices that are to be stored.
pub struct Noticed(Receiver<NewEvent>);

impl Notices {
    /// Takes notice of what is wanted; `auth` knows which topics have presence.
    pub fn new(wanted: config::Notices, auth: Arc<Auth>, metrics: Arc<Metrics>) -> (Self, Noticed) {
        let (sender, receiver) = channel(WAITING);
        let node = format!("{:08x}", rand::rng().random::<u32>());
        (Self { wanted, auth, metrics, node, sender }, Noticed(receiver))
    }

    fn say(&self, topic: &str, kind: NoticeKind, mut data: Value) {
        data["node"] = self.node.as_str().into();
        let data = Data::from_json(data.to_string().as_bytes(), 8);
        // A topic that is nearly as long as may be has no topic for its presence.
        let (Ok(topic), Ok(kind), Ok(data)) =
            (Topic::parse(topic), EventType::parse(kind.name()), data)
        else {
            return debug!("a notice that can't be an event");
        };
        if self.sender.try_send(NewEvent::new(topic, Some(kind), data)).is_err() {
            self.metrics.notices_lost.inc();
            warn!("a notice is lost: {WAITING} wait to be stored");
        }
    }
}

/// Whose session it is, as notices say it.
fn session(info: &SessionInfo) -> Value {
    let mut said = json!({ "session": info.id, "transport": info.transport.name() });
    if let Some(user) = info.user() {
        said["user"] = user.into();
    }
    said
}

impl Observer for Notices {
    fn session(&self, info: &SessionInfo, is_there: bool) {
        if self.wanted.sessions {
            let kind = match is_there {
                true => NoticeKind::SessionConnected,
                false => NoticeKind::SessionDisconnected,
            };
            self.say(SESSIONS, kind, session(info));
        }
    }

    fn wanted(&self, pattern: &Pattern, is_wanted: bool) {
        if self.wanted.topics
            && let Some(topic) = pattern.as_topic()
        {
            let kind = match is_wanted {
                true => NoticeKind::TopicOccupied,
                false => NoticeKind::TopicVacated,
            };
            self.say(TOPICS, kind, json!({ "topic": topic.as_str() }));
        }
    }

    fn member(&self, pattern: &Pattern, info: &SessionInfo, is_there: bool) {
        if !self.wanted.presence {
            return;
        }
        let Some(topic) = pattern.as_topic() else { return };
        if self.auth.policy().rules().of(&topic).presence {
            let kind = match is_there {
                true => NoticeKind::PresenceJoined,
                false => NoticeKind::PresenceLeft,
            };
            let mut said = session(info);
            said["topic"] = topic.as_str().into();
            self.say(&format!("{PRESENCE}{topic}"), kind, said);
        }
    }
}

impl Noticed {
    /// Stores what was noticed, for good. What can't be stored now is tried again until it is.
    pub async fn store(mut self, broker: BrokerHandle) {
        let (mut events, mut series) = (Vec::new(), Series::new());
        while self.0.recv_many(&mut events, TOGETHER).await > 0 {
            // What could not be known to be stored may be.
            let key = Some(series.next_key());
            let append = Append { events: std::mem::take(&mut events), key };
            while let Err(problem) = broker.publish(append.clone(), |_| Ok(())).await {
                debug!(%problem, "notices can't be stored yet");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
