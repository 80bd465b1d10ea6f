//! The names of everything in Redis, all in one slot.
//!
//! The prefix stands in braces, which makes it the hash tag of each key and of the channel, so that one
//! script may use them all on a Redis Cluster too. Keys are apart by database, channels are not: those of every
//! database but the first have its number. `docs/cluster.md` says what each holds.

use std::fmt::Write;

use crate::model::{LogName, Topic};

/// A digest in hexadecimal.
pub(super) fn hex(digest: &[u8; 32]) -> String {
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing into a String can't fail.
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// The names of one log.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    tag: String,
    database: i64,
}

impl Keys {
    /// The names that begin with `prefix`, in a database.
    pub(super) fn new(prefix: &str, database: i64) -> Self {
        Self { tag: format!("{{{prefix}}}"), database }
    }

    /// The number of the database.
    pub(super) fn database(&self) -> i64 {
        self.database
    }

    fn named(&self, name: &str) -> String {
        format!("{}:{name}", self.tag)
    }

    /// What every script works with, in its order.
    pub(super) fn of_every_script(&self) -> [String; 13] {
        let names = [
            "log", "order", "topics", "lost", "bytes", "receipts", "epochs", "stays", "versions",
            "ends", "endings", "bound", "left",
        ];
        names.map(|name| self.named(name))
    }

    /// What the script of plain publishes works with, in its order, beside the streams of topics.
    pub(super) fn of_plain_publishes(&self) -> [String; 5] {
        ["log", "order", "topics", "bytes", "endings"].map(|name| self.named(name))
    }

    /// The record of the log: a hash.
    pub(super) fn log(&self) -> String {
        self.named("log")
    }

    /// The topic of every kept event, by number: a stream.
    pub(super) fn order(&self) -> String {
        self.named("order")
    }

    /// Topics with events, by name: a sorted set.
    pub(super) fn topics(&self) -> String {
        self.named("topics")
    }

    /// The number of the last removed event by topic: a sorted set.
    pub(super) fn lost(&self) -> String {
        self.named("lost")
    }

    /// The epochs that have ended, by number: a sorted set.
    pub(super) fn epochs(&self) -> String {
        self.named("epochs")
    }

    /// The events of a topic, by number: a stream.
    pub(super) fn stream(&self, topic: &Topic) -> String {
        format!("{}:t:{topic}", self.tag)
    }

    /// How many bytes of that stand before the topic.
    pub(super) fn before_topic(&self) -> usize {
        self.tag.len() + ":t:".len()
    }

    /// The result of a publish under an idempotency key.
    pub(super) fn receipt(&self, scope: &[u8; 32]) -> String {
        self.named(&format!("k:{}", hex(scope)))
    }

    /// A name under which nothing is kept, and then one of each kind under which something is.
    pub(super) fn of_all_kinds(&self) -> Vec<String> {
        let other = ["nothing", "t:", "k:", "sweep", "turn:"].map(|name| self.named(name));
        other.into_iter().chain(self.of_every_script()).collect()
    }

    /// Which node makes room. Not `sweeper`, which a node of an earlier release holds, who does less.
    pub(super) fn sweep(&self) -> String {
        self.named("sweep")
    }

    /// Which node does what goes by this name.
    pub(super) fn turn(&self, name: &str) -> String {
        self.named(&format!("turn:{name}"))
    }

    /// The channel of the log.
    pub(super) fn channel(&self) -> String {
        match self.database {
            0 => self.channel_of_all(),
            database => self.named(&format!("feed:{database}")),
        }
    }

    /// The channel that earlier releases have, whatever the database.
    pub(super) fn channel_of_all(&self) -> String {
        self.named("feed")
    }

    /// The channel on which nodes of all databases say that they are there, and in which, and ask.
    pub(super) fn nodes(&self) -> String {
        self.named("nodes")
    }

    /// The channel on which a node hears answers.
    pub(super) fn node(&self, node: LogName) -> String {
        format!("{}{node}", self.node_channels())
    }

    /// What the names of all such channels begin with.
    pub(super) fn node_channels(&self) -> String {
        self.named("node:")
    }
}
