//! Looks for what must never be, in what publishers were acknowledged and what clients received.
//!
//! The history of a run is the acknowledged events and, for each client, everything it received in
//! the order in which it did, across all of its connections. From these alone it finds events that
//! were lost, came twice, came out of order, came changed, or are missing without a gap.

use std::collections::BTreeMap;
use std::fmt;

use fanfare::model::{Cursor, Pattern, Topic};
use serde_json::Value;

/// What was published under one number.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    pub topic: String,
    pub data: Value,
}

/// What one client received.
#[derive(Debug, Default)]
pub struct Client {
    pub name: String,
    pub patterns: Vec<String>,
    /// Everything after this is to come.
    pub since: String,
    pub received: Vec<Received>,
}

/// One thing that a client received.
#[derive(Debug, Clone)]
pub enum Received {
    Event { id: String, event: Published },
    Gap,
}

/// What must never be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An acknowledged event did not come, and no gap was told.
    Lost { client: String, id: String },
    /// An event came again.
    Twice { client: String, id: String },
    /// An event came after a later one.
    OutOfOrder { client: String, id: String },
    /// An event came that differs from what was acknowledged, or that nobody asked for.
    Wrong { client: String, id: String },
    /// Two publishers were acknowledged the same number.
    SameNumber { id: String },
    /// A gap was told where nothing had to be missing.
    Gap { client: String },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The acknowledged events of a run.
#[derive(Debug, Default)]
pub struct History {
    acknowledged: BTreeMap<Cursor, Published>,
    faults: Vec<Fault>,
}

fn cursor(id: &str) -> Cursor {
    Cursor::parse(id).expect("a cursor")
}

impl History {
    /// Notes an acknowledgement.
    pub fn acknowledged(&mut self, id: &str, event: Published) {
        let before = self.acknowledged.insert(cursor(id), event.clone());
        if before.is_some_and(|before| before != event) {
            self.faults.push(Fault::SameNumber { id: id.to_owned() });
        }
    }

    pub fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// The newest acknowledged event.
    pub fn newest(&self) -> Option<String> {
        self.acknowledged.keys().next_back().map(ToString::to_string)
    }

    /// Everything that is wrong, each fault once.
    pub fn check(&self, clients: &[Client]) -> Vec<Fault> {
        let mut faults = self.faults.clone();
        let mut contents: BTreeMap<Cursor, Published> = self.acknowledged.clone();
        for client in clients {
            self.check_client(client, &mut contents, &mut faults);
        }
        faults.sort();
        faults.dedup();
        faults
    }

    fn check_client(
        &self,
        client: &Client,
        contents: &mut BTreeMap<Cursor, Published>,
        faults: &mut Vec<Fault>,
    ) {
        let name = || client.name.clone();
        let patterns: Vec<_> =
            client.patterns.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect();
        let wants = |event: &Published| {
            let topic = Topic::parse(&event.topic).expect("a topic");
            patterns.iter().any(|pattern| pattern.matches(&topic))
        };
        let mut last = cursor(&client.since);
        let mut got = BTreeMap::new();
        for received in &client.received {
            let Received::Event { id, event } = received else {
                faults.push(Fault::Gap { client: name() });
                continue;
            };
            let place = cursor(id);
            if got.insert(place, ()).is_some() {
                faults.push(Fault::Twice { client: name(), id: id.clone() });
            } else if place <= last {
                faults.push(Fault::OutOfOrder { client: name(), id: id.clone() });
            }
            last = last.max(place);
            // Whoever sees a number first decides for all what it stands for, acknowledged or not.
            let same = contents.entry(place).or_insert_with(|| event.clone()) == event;
            if !same || !wants(event) {
                faults.push(Fault::Wrong { client: name(), id: id.clone() });
            }
        }
        let since = cursor(&client.since);
        for (place, event) in &self.acknowledged {
            if *place > since && wants(event) && !got.contains_key(place) {
                faults.push(Fault::Lost { client: name(), id: place.to_string() });
            }
        }
    }
}
