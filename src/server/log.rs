//! Which log this node has: in memory, on disk, or that of a cluster.

use std::sync::Arc;

use super::ServeError;
use crate::broker::Router;
use crate::clock::Clock;
use crate::cluster::RedisRelay;
use crate::config::{Config, Storage};
use crate::history::memory::MemoryHistory;
use crate::history::redis::Joined;
use crate::history::sqlite::Opened;
use crate::history::{Hand, History};
use crate::traces::Traces;

/// The log of this node, and the ways out of it.
pub(super) struct Log {
    pub(super) history: Arc<dyn History>,
    /// To the sessions of this node.
    pub(super) router: Arc<Router>,
    /// To the other nodes, where there may be some.
    pub(super) relay: Option<Arc<RedisRelay>>,
}

impl Log {
    /// The log that the configuration asks for. A data directory is used only where a rule keeps events on
    /// disk.
    pub(super) fn open(config: &Config, clock: Clock, traces: &Traces) -> Result<Self, ServeError> {
        let (rules, inbox_events) = (config.rules.clone(), config.limits.inbox_events);
        if let Some(redis) = &config.redis {
            let joined = Joined::open(redis)?;
            let router = Router::new(joined.head(), inbox_events);
            let router = Arc::new(router.traced_by(traces.of_one_of_many()));
            let at_hand_bytes = config.history.at_hand_bytes;
            let hand = Hand::with_events(joined.head(), redis.recent_bytes, at_hand_bytes);
            let history = joined.start(&config.history, rules, hand.before(router.clone()));
            let relay = Some(RedisRelay::new(history.nodes()));
            return Ok(Self { history: hand.over(Arc::new(history)), router, relay });
        }
        if rules.all().any(|rule| rule.storage == Storage::Disk) {
            let opened = Opened::open(&config.history, rules, clock)?;
            let router = Router::new(opened.head(), inbox_events);
            let router = Arc::new(router.traced_by(traces.clone()));
            let hand = Hand::new(opened.head(), config.history.at_hand_bytes);
            let history = opened.start(hand.before(router.clone()))?;
            hand.fill(|upto, max_bytes, take| history.read_earlier(upto, max_bytes, take));
            return Ok(Self { history: hand.over(Arc::new(history)), router, relay: None });
        }
        let start = MemoryHistory::new_start();
        let router = Arc::new(Router::new(start, inbox_events).traced_by(traces.clone()));
        let hand = Hand::new(start, config.history.at_hand_bytes);
        let feed = hand.before(router.clone());
        let history = MemoryHistory::new(start, &config.history, rules, clock, feed);
        Ok(Self { history: hand.over(Arc::new(history)), router, relay: None })
    }
}
