//! What each node says of who is in its topics.

use serde::{Deserialize, Serialize};

use crate::model::Topic;

/// What one node says of who is in its topics.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attending<T> {
    /// What it is called.
    pub node: String,
    /// How many changes it has told.
    pub changes: u64,
    /// What was asked.
    pub found: Vec<T>,
    /// Whether there is more.
    pub is_cut: bool,
}

impl<T> Default for Attending<T> {
    fn default() -> Self {
        Self { node: String::new(), changes: 0, found: Vec::new(), is_cut: false }
    }
}

/// How often who is in a topic has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomVersion {
    /// The topic, known by the one where it is told of it.
    pub room: Topic,
    /// The number of the newest change.
    pub change: u64,
}
