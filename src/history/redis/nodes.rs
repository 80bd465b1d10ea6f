//! What a node says to others beside the log: that it is there, what it asks, what it answers.
//!
//! A question goes to all nodes, an answer to the one that asked; both are lost with the connection,
//! so who asks must ask again. All of it is heard in every database of a Redis, for channels are not apart by that;
//! a node says which is its own.

use std::sync::Arc;

use redis::{RedisResult, cmd};

use super::away::away;
use super::entry;
use super::leases::Word;
use super::link::{Link, Server};
use super::neighbours::{ANSWER, GOOD_BYE, HEARTBEAT, Letter, NEWS, QUESTION};
use super::turn::Turn;
use crate::model::{LogName, Problem};

impl Server {
    /// Says to all nodes, this one included, that this one is there, which form of entries it reads, and in which
    /// database its log is.
    pub(super) async fn say_hello(&self, link: &Link) -> RedisResult<()> {
        let word = Word { reads: entry::READS, database: Some(self.keys.database()) };
        self.say(link, &self.keys.nodes(), HEARTBEAT, &word.write()).await
    }

    /// Says to all nodes that this one ends.
    pub(super) async fn say_good_bye(&self) {
        if let Ok(link) = self.link() {
            // Where it is not heard, the lease ends by itself.
            _ = self.say(&link, &self.keys.nodes(), GOOD_BYE, &[]).await;
        }
    }

    async fn say(&self, link: &Link, channel: &str, kind: u8, body: &[u8]) -> RedisResult<()> {
        let mut said = vec![kind];
        said.extend(self.node.to_string().as_bytes());
        said.extend(body);
        let mut connection = link.commands.clone();
        cmd("SPUBLISH").arg(channel).arg(said).query_async(&mut connection).await
    }
}

/// The other nodes of a log: who is there, and what they say.
#[derive(Clone)]
pub struct Nodes {
    pub(super) server: Arc<Server>,
}

impl Nodes {
    /// Whether it is this node's turn to do what goes by this name. It is nobody's while Redis is away.
    pub async fn has_turn(&self, name: String) -> bool {
        let Ok(link) = self.server.link() else { return false };
        let turn = Turn::new(self.server.keys.turn(&name), self.server.node.to_string());
        let taken = turn.take(&mut link.commands.clone()).await;
        self.server.judge(&link, taken).unwrap_or(false)
    }

    /// The database of the log. Who asks says it, for questions are heard in all of them.
    pub fn database(&self) -> i64 {
        self.server.keys.database()
    }

    /// What this node is called.
    pub fn me(&self) -> LogName {
        self.server.node
    }

    /// The other nodes that are there.
    pub fn others(&self) -> Vec<LogName> {
        self.server.nodes.others()
    }

    /// Asks all of them. Some may not hear it.
    pub async fn ask(&self, body: &[u8]) -> Result<(), Problem> {
        self.send(&self.server.keys.nodes(), QUESTION, body).await
    }

    /// Tells all of them how this node is. Some may not hear it.
    pub async fn tell(&self, body: &[u8]) -> Result<(), Problem> {
        self.send(&self.server.keys.nodes(), NEWS, body).await
    }

    /// Answers one of them. It may not hear it.
    pub async fn answer(&self, node: LogName, body: &[u8]) -> Result<(), Problem> {
        self.send(&self.server.keys.node(node), ANSWER, body).await
    }

    async fn send(&self, channel: &str, kind: u8, body: &[u8]) -> Result<(), Problem> {
        let link = self.server.link()?;
        let said = self.server.say(&link, channel, kind, body).await;
        Ok(self.server.judge(&link, said).map_err(|error| away(&error))?)
    }

    /// The next thing that another node says.
    pub async fn next(&self) -> Option<Letter> {
        self.server.nodes.next_letter().await
    }
}
