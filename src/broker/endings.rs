//! Ends values: those whose time is over, and those whose session has left. A tombstone each, which is an event as any
//! other.
//!
//! Each is stored only where nothing newer of its topic stands, so that more than one node may try.

use std::mem;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use super::BrokerHandle;
use crate::history::{Append, Departure, Ending, Receipt};
use crate::metrics::{ReasonLabel, Way};
use crate::model::Removed;
use crate::panics::lock;

/// How often it is looked for values that have ended.
const LOOK: Duration = Duration::from_millis(250);

/// How many are ended together.
const TOGETHER: usize = 1_000;

/// After how many there may well be more.
const MANY: usize = TOGETHER / 4;

/// Sessions that have left, of which the history is to be told.
#[derive(Debug, Default)]
pub(super) struct Departures {
    waiting: Mutex<Vec<Departure>>,
    news: Notify,
}

impl Departures {
    fn lock(&self) -> MutexGuard<'_, Vec<Departure>> {
        lock(&self.waiting)
    }
}

impl BrokerHandle {
    /// Says that a session has left to which values may be bound.
    pub fn depart(&self, departure: Departure) {
        let departures = &self.shared.departures;
        departures.lock().push(departure);
        departures.news.notify_one();
    }

    /// Ends values as long as the broker runs.
    pub async fn end_values(&self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.shared.departures.news.notified() => {}
                _ = looks.tick() => {}
            }
            self.tell_departures().await;
            while self.end_some().await {
                self.tell_departures().await;
            }
        }
    }

    /// Tells the history who has left; who can't be told of now is so the next time.
    async fn tell_departures(&self) {
        let departures = mem::take(&mut *self.shared.departures.lock());
        if departures.is_empty() {
            return;
        }
        if let Err(problem) = self.history().depart(departures.clone()).await {
            debug!(%problem, "it could not be noted that sessions have left");
            self.shared.departures.lock().extend(departures);
        }
    }

    fn count_ended(&self, reasons: &[Removed], receipt: &Receipt) {
        let stored = reasons.iter().zip(&receipt.events).filter(|(_, it)| it.superseded.is_none());
        for reason in stored.filter_map(|(removed, _)| removed.reason()) {
            self.shared.metrics.values_ended.get_or_create(&ReasonLabel { reason }).inc();
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
        let is_more = due.len() >= MANY;
        if due.is_empty() {
            return false;
        }
        let reasons: Vec<_> = due.iter().map(|ending| ending.reason).collect();
        let events = due.into_iter().map(Ending::tombstone).collect();
        match self.publish(Append { events, key: None }, Way::Broker, |_| Ok(())).await {
            Ok(receipt) => {
                self.count_ended(&reasons, &receipt);
                is_more
            }
            Err(problem) => {
                debug!(%problem, "values could not be ended");
                false
            }
        }
    }
}
