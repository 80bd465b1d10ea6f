//! One node of a log in Redis, and what it heard.

use std::sync::{Arc, Mutex};

use fanfare::config::{self, Config, Rules};
use fanfare::history::redis::Joined;
use fanfare::history::{Feed, History, Loss, Removal};
use fanfare::model::{Cursor, Event, Topic};
use tokio::time::{Instant, sleep};

use crate::chronicle::{Fault, id};
use crate::reading::{PATIENCE, POLL};
use crate::shelf::Shelf;
use crate::support::proxy::Proxy;

/// Hears what the log tells.
#[derive(Default)]
struct NodeFeed {
    since_asked: Mutex<SinceAsked>,
    shelf: Mutex<Shelf>,
}

/// What a node was told since it was asked last.
#[derive(Debug, Clone, Default)]
struct SinceAsked {
    /// Which kept events.
    ids: Vec<usize>,
    /// Whether some of them were said to be lost.
    is_broken: bool,
}

impl Feed for NodeFeed {
    fn committed(&self, events: Vec<Arc<Event>>) {
        self.shelf.lock().expect("nobody panics with it").add(&events);
        let kept = events.iter().filter(|event| event.cursor.is_some());
        self.since_asked
            .lock()
            .expect("nobody panics with it")
            .ids
            .extend(kept.map(|event| id(event)));
    }

    fn skip(&self, _: &Topic, _: Option<Cursor>) -> bool {
        false
    }

    fn removed(&self, removals: &[Removal]) {
        self.shelf.lock().expect("nobody panics with it").remove(removals);
    }

    fn broken(&self, loss: Loss) {
        if loss.topics.is_none() {
            // What is kept of what came before may have been brought back.
            let mut shelf = self.shelf.lock().expect("nobody panics with it");
            shelf.begin_after(loss.position.sequence);
        }
        self.since_asked.lock().expect("nobody panics with it").is_broken = true;
    }
}

/// A node that runs.
pub struct Node {
    pub history: Arc<dyn History>,
    heard: Arc<NodeFeed>,
    /// The kept events that it has to hear of.
    due: Vec<usize>,
    /// What is between it and Redis.
    pub network: Option<Proxy>,
}

impl Node {
    /// Joins the log of a Redis.
    pub fn join(url: &str, rules: Rules) -> Result<Self, Fault> {
        let joined = Joined::open(&config::Redis::at(url)).map_err(|e| Fault(e.to_string()))?;
        let heard = Arc::new(NodeFeed::default());
        heard.shelf.lock().expect("nobody panics with it").begin = joined.head().sequence;
        let history = joined.start(&Config::default().history, rules, heard.clone());
        Ok(Self { history: Arc::new(history), heard, due: Vec::new(), network: None })
    }

    /// The same over a network that can be cut.
    pub fn join_over(network: Proxy, rules: Rules) -> Result<Self, Fault> {
        let mut node = Self::join(&format!("redis://127.0.0.1:{}", network.port), rules)?;
        node.network = Some(network);
        Ok(node)
    }

    /// Events were acknowledged.
    pub fn owe(&mut self, ids: impl Iterator<Item = usize>) {
        self.due.extend(ids);
    }

    /// What is at hand to who keeps what it tells.
    pub fn at_hand(&self) -> Shelf {
        self.heard.shelf.lock().expect("nobody panics with it").clone()
    }

    /// What was acknowledged since the last time was heard, once and in order, or it was said that some is
    /// lost; the last of it was heard.
    pub async fn hear(&mut self) -> Result<(), Fault> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let SinceAsked { ids, is_broken } =
                self.heard.since_asked.lock().expect("nobody panics with it").clone();
            let mut due = self.due.iter();
            // Behind a loss comes also what was brought back, which this node had not heard of.
            let mut known = ids.iter().filter(|id| !is_broken || self.due.contains(id));
            if let Some(strange) = known.find(|id| !due.any(|due| due == *id)) {
                let due = &self.due;
                return Err(Fault(format!("{strange} was heard out of order: {ids:?} of {due:?}")));
            }
            if ids == self.due || is_broken && ids.last() == self.due.last() {
                break;
            }
            if Instant::now() > give_up {
                return Err(Fault(format!("{:?} was not heard, only {ids:?}", self.due)));
            }
            sleep(POLL).await;
        }
        *self.heard.since_asked.lock().expect("nobody panics with it") = SinceAsked::default();
        self.due.clear();
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.history.stop();
    }
}
