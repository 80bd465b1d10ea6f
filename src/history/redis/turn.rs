//! Whose turn it is, where one node at a time is to do a thing.
//!
//! A key that ends by itself holds the name of the node; who has it goes on to have it by asking again in
//! time. Two may think so for a moment where one of them stood still, so what is done must bear that.

use std::time::Duration;

use redis::RedisResult;

use super::away::Away;
use super::connection::Connection;
use super::{needs, scripts};

/// How long a turn lasts without a word from its holder.
const LEASE: Duration = Duration::from_secs(5);

/// A thing that one node at a time does.
#[derive(Debug, Clone)]
pub struct Turn {
    key: String,
    node: String,
}

impl Turn {
    /// What this node does while `key` says so.
    pub fn new(key: String, node: String) -> Self {
        Self { key, node }
    }

    /// Says by name what the server does not have, or does not allow this user, of what a turn needs.
    pub async fn ask(&self, connection: &mut Connection) -> Result<(), Away> {
        needs::ask_for(&needs::OF_A_TURN, std::slice::from_ref(&self.key), connection).await
    }

    /// Takes or keeps the turn; false while it is another node's. Also where the server is out of memory, for
    /// what is done in turns may be what makes room.
    pub async fn take(&self, connection: &mut Connection) -> RedisResult<bool> {
        let mut take = scripts::TURN.key(&self.key);
        take.arg(&self.node).arg(LEASE.as_millis() as u64);
        take.invoke_async(connection).await
    }
}
