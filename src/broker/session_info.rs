//! What is told of a session: to other threads and nodes, to administrators, in notices.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Bearer, Info, Pattern, Timestamp};

/// How a session is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// RFC 6455.
    WebSocket,
    /// Server-Sent Events.
    Sse,
}

impl Transport {
    /// The name in listings and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Transport::WebSocket => "websocket",
            Transport::Sse => "sse",
        }
    }
}

/// What is known of a session from its start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its id, which nobody can guess.
    pub id: Arc<str>,
    /// Whose token it shows, if any.
    pub bearer: Option<Box<Bearer>>,
    /// When it connected.
    pub since: Timestamp,
    /// How it is connected.
    pub transport: Transport,
    /// Where it connects from.
    pub address: Option<String>,
    /// The node that it is connected to, where one of several says who would receive an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl SessionInfo {
    /// Who it belongs to.
    pub fn user(&self) -> Option<&str> {
        self.bearer.as_ref().map(|bearer| bearer.user.as_str())
    }

    /// What the issuer of its token lets others see.
    pub fn info(&self) -> Option<&Info> {
        self.bearer.as_ref()?.info.as_ref()
    }

    /// When it connected, in milliseconds since 1970.
    pub(super) fn since_millis(&self) -> u64 {
        u64::try_from(self.since.millis()).unwrap_or_default()
    }
}

/// A session as administrators see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionView {
    /// What is known of it.
    pub info: SessionInfo,
    /// What it is subscribed to, in order.
    pub subscriptions: Vec<Pattern>,
    /// How much waits for it, in bytes.
    pub queued_bytes: usize,
    /// For how long something has, without a pause, in milliseconds. Nodes of an earlier release do not say.
    #[serde(default)]
    pub lag_ms: Option<u64>,
    /// How many events it did not get, for newer ones took their place.
    #[serde(default)]
    pub skipped: Option<u64>,
}
