//! What somebody has at hand who keeps what a log tells, and nothing of what it tells to be removed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fanfare::history::Removal;
use fanfare::model::{Event, Topic};

use crate::chronicle::id;

/// What is at hand.
#[derive(Debug, Default, Clone)]
pub struct Shelf {
    events: BTreeMap<u64, (Topic, usize)>,
    removed: HashMap<Topic, u64>,
    /// What came up to here is not at hand: nobody kept it, or it was lost.
    pub begin: u64,
    /// What was told in a wrong order.
    pub fault: Option<String>,
}

impl Shelf {
    pub fn add(&mut self, events: &[Arc<Event>]) {
        for event in events {
            let Some(cursor) = event.cursor else { continue };
            if self.removed.get(&event.topic).is_some_and(|last| *last >= cursor.sequence) {
                self.fault = Some(format!("{cursor} was told to be removed before it was told"));
            }
            self.events.insert(cursor.sequence, (event.topic.clone(), id(event)));
        }
    }

    pub fn remove(&mut self, removals: &[Removal]) {
        for Removal { topic, upto, is_superseded } in removals {
            let is_of = |of: &Topic| topic.as_ref().is_none_or(|topic| topic == of);
            self.events.retain(|number, (of, _)| !is_of(of) || number > upto);
            let Some(topic) = topic else {
                self.begin = self.begin.max(*upto);
                continue;
            };
            if !is_superseded && self.events.values().any(|(of, _)| of == topic) {
                self.fault = Some(format!("something newer than {upto} is kept of {topic}"));
            }
            let last = self.removed.entry(topic.clone()).or_default();
            *last = (*last).max(*upto);
        }
    }

    /// Nothing up to a number is at hand from here on.
    pub fn begin_after(&mut self, number: u64) {
        (self.events, self.removed, self.begin) = (BTreeMap::new(), HashMap::new(), number);
    }

    /// Which events are at hand, in order.
    pub fn ids(&self) -> Vec<usize> {
        self.events.values().map(|(_, id)| *id).collect()
    }
}
