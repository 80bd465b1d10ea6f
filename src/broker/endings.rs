//! Ends the values whose time is over: a tombstone each, which is an event as any other.
//!
//! Each is stored only where nothing newer of its topic stands, so that more than one node may try.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use super::BrokerHandle;
use crate::history::{Append, Ending};

/// How often it is looked for values whose time is over.
const LOOK: Duration = Duration::from_millis(250);

/// How many are ended together.
const TOGETHER: usize = 1_000;

impl BrokerHandle {
    /// Ends values as long as the broker runs.
    pub async fn end_values(&self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            while self.end_some().await {}
        }
    }

    /// Ends some; whether there may be more. What could not be ended now is so the next time.
    async fn end_some(&self) -> bool {
        let due = match self.history().due(TOGETHER).await {
            Ok(due) => due,
            Err(problem) => {
                debug!(%problem, "it is not known which values have ended");
                return false;
            }
        };
        let is_more = due.len() == TOGETHER;
        if due.is_empty() {
            return false;
        }
        let events = due.into_iter().map(Ending::tombstone).collect();
        match self.publish(Append { events, key: None }, |_| Ok(())).await {
            Ok(_) => is_more,
            Err(problem) => {
                debug!(%problem, "values could not be ended");
                false
            }
        }
    }
}
