//! What the broker says about itself: who comes and goes, and which topics are listened to.
//!
//! Each notice is an event on a topic of the broker's own, with the road, the order and the history of
//! any other: `$sys.sessions`, `$sys.topics`, `$presence.TOPIC`. Webhooks are readers of these topics.

mod attendance;
pub mod webhook;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::RngExt;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::{debug, warn};

use self::attendance::Attendance;
use crate::auth::Auth;
use crate::broker::{Attending, BrokerHandle, Observer, RoomVersion, SessionInfo};
use crate::clock::Clock;
use crate::config;
use crate::history::{Append, Series};
use crate::metrics::{Metrics, Way};
use crate::model::{
    Attendee, Data, EventType, NewEvent, NoticeKind, Pattern, Present, Timestamp, Topic,
};
use crate::panics::lock;

/// How many notices may wait to be stored; one more is lost, counted and logged.
const WAITING: usize = 65_536;

/// How many are stored together.
const TOGETHER: usize = 256;

/// How long until storing is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Where sessions are told of.
const SESSIONS: &str = "$sys.sessions";

/// Where topics are told of.
const TOPICS: &str = "$sys.topics";

/// Takes notice of what happens at this node.
pub struct Notices {
    wanted: config::Notices,
    auth: Arc<Auth>,
    metrics: Arc<Metrics>,
    clock: Clock,
    node: String,
    /// Whether there may be other nodes.
    is_one_of_many: bool,
    /// Held while a change is handed on, so that changes are told in the order of their numbers.
    attendance: Mutex<Attendance>,
    sender: Sender<NewEvent>,
}

/// Notices that are to be stored.
pub struct Noticed(Receiver<NewEvent>);

impl Notices {
    /// Takes notice of what is wanted; `auth` knows which topics have presence. One node of many has a name.
    pub fn new(
        wanted: config::Notices,
        auth: Arc<Auth>,
        metrics: Arc<Metrics>,
        clock: Clock,
        node: Option<String>,
    ) -> (Self, Noticed) {
        let (sender, receiver) = channel(WAITING);
        let is_one_of_many = node.is_some();
        let node = node.unwrap_or_else(|| format!("{:08x}", rand::rng().random::<u32>()));
        let attendance = Mutex::default();
        let notices =
            Self { wanted, auth, metrics, clock, node, is_one_of_many, attendance, sender };
        (notices, Noticed(receiver))
    }

    fn say(&self, topic: &str, kind: NoticeKind, mut data: Value) {
        data["node"] = self.node.as_str().into();
        let data = Data::from_json(data.to_string().as_bytes(), 8);
        let (Ok(topic), Ok(data)) = (Topic::parse(topic), data) else { return };
        self.hand_on(topic, kind, data);
    }

    /// Tells that a member came or left. How many sessions its user has on all nodes is known where it is told; alone,
    /// it is known here.
    fn say_of(&self, member: Attendee, topic: Topic, kind: NoticeKind) {
        let user_sessions = member.user_sessions.filter(|_| !self.is_one_of_many);
        if let Some(data) = (Attendee { user_sessions, ..member }).data() {
            self.hand_on(topic, kind, data);
        }
    }

    fn hand_on(&self, topic: Topic, kind: NoticeKind, data: Data) {
        let Ok(kind) = EventType::parse(kind.name()) else { return };
        if self.sender.try_send(NewEvent::new(topic, Some(kind), data)).is_err() {
            self.metrics.notices_lost.inc();
            warn!("a notice is lost: {WAITING} wait to be stored");
        }
    }

    fn attendance(&self) -> MutexGuard<'_, Attendance> {
        lock(&self.attendance)
    }

    /// What others see of a session in a topic.
    fn seen(&self, topic: Topic, info: &SessionInfo) -> Attendee {
        Attendee {
            topic,
            session: info.id.to_string(),
            user: info.user().map(str::to_owned),
            info: info.info().cloned(),
            since: info.since,
            transport: info.transport.name().to_owned(),
            node: self.node.clone(),
            user_sessions: None,
            change: None,
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
        // A topic that is nearly as long as may be has no topic for its presence.
        let Some(topic) = pattern.as_topic() else { return };
        let Some(room) = topic.presence() else { return };
        let mut attendance = self.attendance();
        if is_there && self.auth.policy().rules().of(&topic).presence {
            let now = Timestamp::from(self.clock.time());
            let seen = self.seen(topic, info);
            if let Some(member) = attendance.join(room.clone(), seen, now) {
                self.say_of(member, room, NoticeKind::PresenceJoined);
            }
        } else if let Some(member) = attendance.leave(&room, &info.id) {
            self.say_of(member, room, NoticeKind::PresenceLeft);
        }
    }

    fn node(&self) -> &str {
        &self.node
    }

    fn present(
        &self,
        patterns: &[Pattern],
        after: Option<&(Topic, String)>,
        limit: usize,
    ) -> Attending<Present> {
        let members = self.attendance().members(patterns, after, limit);
        Attending { node: self.node.clone(), ..members }
    }

    fn rooms(
        &self,
        patterns: &[Pattern],
        after: Option<&Topic>,
        limit: usize,
    ) -> Attending<RoomVersion> {
        let rooms = self.attendance().rooms(patterns, after, limit);
        Attending { node: self.node.clone(), ..rooms }
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
            while let Err(problem) = broker.publish(append.clone(), Way::Broker, |_| Ok(())).await {
                debug!(%problem, "notices can't be stored yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
