//! The Redis that the nodes share, and those that feed events.

use super::value::Hidden;
use crate::model::{EventType, Topic, TopicError};

/// What the nodes of a cluster share.
#[derive(Debug, Clone)]
pub struct Redis {
    /// Where it is, and as whom to use it; with sentinels, the name of the master is in the host's place.
    pub url: Hidden,
    /// Sentinels that know where the master is.
    pub sentinels: Vec<Hidden>,
    /// More servers of a cluster that know where the log is.
    pub seeds: Vec<Hidden>,
    /// What the names of all keys and channels begin with.
    pub prefix: String,
    /// How many replicas are waited for at each publish.
    pub wait_replicas: usize,
    /// The most bytes of recent events that a node keeps.
    pub recent_bytes: usize,
}

impl Redis {
    /// One server, used as by default.
    pub fn at(url: &str) -> Self {
        Self {
            url: Hidden(url.to_owned()),
            sentinels: Vec::new(),
            seeds: Vec::new(),
            prefix: "fanfare".to_owned(),
            wait_replicas: 0,
            recent_bytes: 16 << 20,
        }
    }
}

/// A channel or stream of an application's own Redis that feeds events.
#[derive(Debug, Clone)]
pub struct RedisSource {
    /// Where it is.
    pub redis: Redis,
    /// What is read there.
    pub tap: Tap,
    /// The topic, in which [`Self::NAME`] stands for the name of the channel or stream.
    pub topic: String,
    /// The type of the events.
    pub kind: Option<EventType>,
    /// Where they give idempotency keys, if they do.
    pub keys: Option<SourceKeys>,
}

/// Where what is read gives idempotency keys, and whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceKeys {
    /// The field of an entry, or the member of a JSON object.
    pub name: String,
    /// The API key whose they are; none for that of an open broker.
    pub api_key: Option<Hidden>,
}

impl RedisSource {
    /// What stands for a name in a topic.
    pub const NAME: &str = "{name}";

    /// The topic of what comes from the channel or stream of this name.
    pub fn topic_of(&self, name: &str) -> Result<Topic, TopicError> {
        Topic::parse(&self.topic.replace(Self::NAME, &name.replace([':', '/'], ".")))
    }
}

/// What is read of an application's own Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tap {
    /// A channel, or channels by a pattern.
    Channel(String),
    /// A stream.
    Stream {
        /// Its name.
        name: String,
        /// The consumer group that reads it.
        group: String,
        /// The field that is the data; all of them where none is named.
        field: Option<String>,
    },
}

impl Tap {
    /// The name of what is read.
    pub fn name(&self) -> &str {
        match self {
            Self::Channel(name) | Self::Stream { name, .. } => name,
        }
    }

    /// Whether the name stands for many channels.
    pub fn is_pattern(&self) -> bool {
        matches!(self, Self::Channel(name) if name.contains(['*', '?', '[']))
    }
}
