//! What the log does beneath the broker: groups that are committed together, what is removed, and the road over Redis.
//!
//! Of the process, which has one log.

use std::sync::LazyLock;

use prometheus_client::registry::{Registry, Unit};

use super::histogram::Histogram;
use super::sum::Sum;
use super::table::{Level, Table};

/// Those of the process.
pub static LOG: LazyLock<LogNumbers> = LazyLock::new(LogNumbers::default);

const COMMANDS: [&str; 2] = ["done", "failed"];

const PAGES: [&str; 2] = ["at_hand", "asked"];

/// What the log does.
#[derive(Debug)]
pub struct LogNumbers {
    /// Events that were committed together.
    pub group: Histogram,
    /// Times that events of a topic were removed, by whatever bound.
    pub removals: Sum,
    commands: Table<Sum>,
    /// How long calls to Redis took that store events.
    pub command: Histogram,
    /// Times that the connection to Redis was made.
    pub connections: Sum,
    /// From an event's commit, by the clock of Redis, until it was heard here.
    pub relay: Histogram,
    /// Messages of the log that were missing and read from its streams.
    pub holes: Sum,
    /// Epochs that began.
    pub epochs: Sum,
    pages: Table<Sum>,
    /// What Redis keeps of the log, by the count of the log.
    pub redis_bytes: Level,
}

impl Default for LogNumbers {
    fn default() -> Self {
        Self {
            group: Histogram::of_numbers(),
            removals: Sum::default(),
            commands: Table::by("outcome", COMMANDS, Sum::default),
            command: Histogram::of_times(),
            connections: Sum::default(),
            relay: Histogram::of_times(),
            holes: Sum::default(),
            epochs: Sum::default(),
            pages: Table::by("source", PAGES, Sum::default),
            redis_bytes: Level::default(),
        }
    }
}

impl LogNumbers {
    pub(super) fn register(&self, to: &mut Registry) {
        let help = "Events that were committed together";
        to.register("commit_group_events", help, self.group.clone());
        let help = "Times that kept events of a topic were removed";
        to.register("history_removals", help, self.removals.clone());
        let help = "Calls to Redis that store events, by outcome";
        to.register("redis_commands", help, self.commands.clone());
        let help = "How long calls to Redis took that store events";
        to.register_with_unit("redis_command", help, Unit::Seconds, self.command.clone());
        let help = "Times that the connection to Redis was made";
        to.register("redis_connections", help, self.connections.clone());
        let help = "From an event's commit, by the clock of Redis, until this node heard it";
        to.register_with_unit("relay", help, Unit::Seconds, self.relay.clone());
        let help = "Messages of the log that were missing and read from its streams";
        to.register("relay_holes", help, self.holes.clone());
        let help = "Epochs of the log that this node saw begin";
        to.register("history_epochs", help, self.epochs.clone());
        let help = "Pages of the history that were read, by whether they were at hand or the log was asked";
        to.register("history_pages", help, self.pages.clone());
    }

    /// A call to Redis ended.
    pub fn called(&self, is_done: bool) {
        if let Some(sum) = self.commands.at(usize::from(!is_done)) {
            sum.inc();
        }
    }

    /// A page was read, from what is at hand or not.
    pub fn read(&self, is_at_hand: bool) {
        if let Some(sum) = self.pages.at(usize::from(!is_at_hand)) {
            sum.inc();
        }
    }
}
