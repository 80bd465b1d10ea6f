//! Publishes that were not stored, for a newer version of the value is kept: counted in all, and by their topics.
//!
//! A publisher that has lost its count and begins at 1 again is superseded for good, and its screens stand still. So
//! one is logged a minute, and a topic says how many of its events came to that.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use tracing::warn;

use super::tally::Held;
use crate::model::{Quiet, Summary, Topic};
use crate::panics::lock;

/// Of how many topics it is known how often; the one that was superseded longest ago is forgotten first.
const TOPICS: usize = 1_000;

/// The superseded publishes of one node, since its start.
#[derive(Debug, Default)]
pub struct Superseded {
    pub(super) counter: Counter,
    topics: Mutex<Topics>,
    quiet: Quiet<(Topic, Option<u64>)>,
}

#[derive(Debug, Default)]
struct Topics {
    /// How many there were of a topic, and which of all was the last of them.
    counts: HashMap<Topic, (u64, u64)>,
    all: u64,
}

impl Superseded {
    /// An event of a topic was superseded by the version that is kept, if it was that.
    pub fn note(&self, topic: &Topic, kept: Option<u64>) {
        self.counter.inc();
        self.lock().note(topic);
        let told = self.quiet.tell(1, Instant::now(), || (topic.clone(), kept));
        told.into_iter().for_each(say);
    }

    /// How many of a topic's events were superseded, as far as that is remembered.
    pub fn of(&self, topic: &Topic) -> u64 {
        self.lock().counts.get(topic).map_or(0, |(count, _)| *count)
    }

    pub(super) fn tell_held(&self, held: Held) {
        let told = match held {
            Held::Due => self.quiet.held_back(Instant::now()),
            Held::Rest => self.quiet.rest(),
        };
        told.into_iter().for_each(say);
    }

    fn lock(&self) -> MutexGuard<'_, Topics> {
        lock(&self.topics)
    }
}

impl Topics {
    fn note(&mut self, topic: &Topic) {
        self.all += 1;
        if let Some((count, last)) = self.counts.get_mut(topic) {
            (*count, *last) = (*count + 1, self.all);
            return;
        }
        if self.counts.len() >= TOPICS {
            let oldest = self.counts.iter().min_by_key(|(_, (_, last))| *last);
            if let Some(oldest) = oldest.map(|(topic, _)| topic.clone()) {
                self.counts.remove(&oldest);
            }
        }
        self.counts.insert(topic.clone(), (1, self.all));
    }
}

fn say(Summary { count, example: (topic, kept) }: Summary<(Topic, Option<u64>)>) {
    warn!(
        events = count,
        %topic,
        kept,
        "what is published is superseded by what is kept: a publisher has lost its count, or is late"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_topic_it_is_known_how_often_and_the_one_of_longest_ago_is_forgotten() {
        let superseded = Superseded::default();
        let topic = |n: usize| Topic::parse(&format!("t{n}")).unwrap();
        (0..TOPICS).for_each(|n| superseded.note(&topic(n), Some(7)));
        superseded.note(&topic(0), None);
        superseded.note(&topic(TOPICS), Some(1));
        let of = |n| superseded.of(&topic(n));
        assert_eq!((of(0), of(1), of(2), of(TOPICS)), (2, 0, 1, 1));
        assert_eq!(superseded.counter.get(), TOPICS as u64 + 2);
    }
}
