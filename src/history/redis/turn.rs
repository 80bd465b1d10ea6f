//! Whose turn it is, where one node at a time is to do a thing.
//!
//! A key that ends by itself holds the name of the node; who has it goes on to have it by asking again in
//! time. Two may think so for a moment where one of them stood still, so what is done must bear that.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, cmd};

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

    /// Takes or keeps the turn; false while it is another node's.
    pub async fn take(&self, connection: &mut MultiplexedConnection) -> RedisResult<bool> {
        let lease = LEASE.as_millis() as u64;
        let mut take = cmd("SET");
        take.arg(&self.key).arg(&self.node).arg("NX").arg("PX").arg(lease);
        if take.query_async::<Option<String>>(connection).await?.is_some() {
            return Ok(true);
        }
        let holder: Option<String> = cmd("GET").arg(&self.key).query_async(connection).await?;
        let is_ours = holder.as_ref() == Some(&self.node);
        if is_ours {
            () = cmd("PEXPIRE").arg(&self.key).arg(lease).query_async(connection).await?;
        }
        Ok(is_ours)
    }
}
