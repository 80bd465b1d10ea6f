//! What nodes said of themselves in the last minutes.
//!
//! Pure state: whoever hears brings the clock. Bounded by age, by number a node, by nodes and by bytes, so that no
//! number of nodes and no odd one of them costs this one more than that.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Instant;
use crate::model::Event;

/// How long it is known what a node said.
const AGE: Duration = Duration::from_secs(15 * 60);

/// The most that is known of one node: one a second.
pub const SAID_BY_NODE: usize = 900;

/// The most nodes of which something is known.
const NODES: usize = 64;

/// The most bytes of all of it, as events count them.
const BYTES: usize = 64 << 20;

/// What was said, in the order in which it was heard here.
#[derive(Debug, Default)]
pub(super) struct Past {
    said: VecDeque<Said>,
    counts: HashMap<Arc<str>, usize>,
    bytes: usize,
    /// How much was ever heard.
    heard: u64,
}

#[derive(Debug)]
struct Said {
    number: u64,
    at: Instant,
    node: Arc<str>,
    event: Arc<Event>,
}

impl Past {
    /// Takes what a node said now; its number among all that was heard.
    pub(super) fn add(&mut self, node: &str, event: Arc<Event>, now: Instant) -> u64 {
        self.heard += 1;
        let node = match self.counts.get_key_value(node) {
            Some((node, _)) => node.clone(),
            None => node.into(),
        };
        *self.counts.entry(node.clone()).or_default() += 1;
        self.bytes += event.cost();
        if self.counts[&node] > SAID_BY_NODE
            && let Some(oldest) = self.said.iter().position(|said| said.node == node)
        {
            self.remove(oldest);
        }
        self.said.push_back(Said { number: self.heard, at: now, node, event });
        let is_old = |said: &Said| now.saturating_duration_since(said.at) > AGE;
        while self.bytes > BYTES
            || self.counts.len() > NODES
            || self.said.front().is_some_and(is_old)
        {
            self.remove(0);
        }
        self.heard
    }

    fn remove(&mut self, at: usize) {
        let Some(Said { node, event, .. }) = self.said.remove(at) else { return };
        self.bytes -= event.cost();
        if let Some(count) = self.counts.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&node);
            }
        }
    }

    /// What was heard after one number and up to another, in order: at most the newest so many of each node.
    pub(super) fn between(&self, after: u64, upto: u64, count: usize) -> Vec<Arc<Event>> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        let newest = self.said.iter().rev().skip_while(|said| said.number > upto);
        let newest = newest.take_while(|said| said.number > after).filter(|said| {
            let of_node = counts.entry(&said.node).or_default();
            *of_node += 1;
            *of_node <= count
        });
        let mut events: Vec<_> = newest.map(|said| said.event.clone()).collect();
        events.reverse();
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Data, Timestamp, Topic};

    fn event(text: &str) -> Arc<Event> {
        Arc::new(Event {
            cursor: None,
            topic: Topic::metrics(),
            kind: None,
            time: Timestamp::from_millis(0),
            data: Data::from_text(text),
            envelope: None,
        })
    }

    fn texts(events: &[Arc<Event>]) -> Vec<&str> {
        events.iter().map(|event| event.data.json().get().trim_matches('"')).collect()
    }

    #[tokio::test]
    async fn of_each_node_as_much_is_known_as_was_asked_for_and_in_the_order_in_which_it_was_heard()
    {
        let (mut past, now) = (Past::default(), Instant::now());
        for (node, text) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("b", "5")] {
            past.add(node, event(text), now);
        }
        assert_eq!(texts(&past.between(0, 5, 9)), ["1", "2", "3", "4", "5"]);
        assert_eq!(texts(&past.between(0, 5, 1)), ["4", "5"]);
        assert_eq!(texts(&past.between(2, 4, 9)), ["3", "4"], "after one number, up to another");
        assert_eq!(past.between(5, 5, 9).len(), 0);
    }

    #[tokio::test]
    async fn there_are_no_more_than_a_second_each_of_a_quarter_of_an_hour_of_no_more_nodes_than_may_be()
     {
        let (mut past, mut now) = (Past::default(), Instant::now());
        for _ in 0..SAID_BY_NODE + 50 {
            past.add("a", event("x"), now);
        }
        past.add("b", event("y"), now);
        assert_eq!(past.said.len(), SAID_BY_NODE + 1);
        now += AGE + Duration::from_millis(1);
        past.add("c", event("z"), now);
        assert_eq!(texts(&past.between(0, u64::MAX, 9)), ["z"]);
        for node in 0..NODES + 10 {
            past.add(&format!("n{node}"), event("x"), now);
        }
        assert_eq!((past.said.len(), past.counts.len()), (NODES, NODES));
        let large = event(&"x".repeat(BYTES / 4));
        for _ in 0..8 {
            past.add("a", large.clone(), now);
        }
        assert_eq!(past.said.len(), 3);
        assert!(past.bytes <= BYTES);
        assert_eq!(past.bytes, past.said.iter().map(|said| said.event.cost()).sum::<usize>());
    }
}
