//! What nodes said of themselves lately: told behind what the history holds.

use super::super::reading::First;
use super::{Cancelled, Kind, Replay};
use crate::broker::SAID_BY_NODE;
use crate::model::{Pattern, Topic};

impl Replay {
    /// Whether the history holds nothing of what is wanted, and need not be there.
    pub(super) fn wants_past_alone(&self) -> bool {
        self.reading.patterns.iter().all(Pattern::is_metrics)
    }

    /// Sends what nodes said of themselves after `told`, where that is asked; up to where that is. What they say from
    /// here on waits.
    pub(super) async fn send_past(&self, told: u64) -> Result<u64, Cancelled> {
        let First::Values(values) = &self.reading.first else { return Ok(told) };
        let barrier = self.reading.barrier;
        // Nothing is delivered between these two.
        let begins = self.worker.with(self.session, |receiver| receiver.begin_past(barrier));
        let upto = self.worker.heard();
        match begins {
            None => return Err(Cancelled),
            Some(false) => return Ok(told),
            Some(true) => {}
        }
        let count = values.count(&Topic::metrics()).min(SAID_BY_NODE);
        let said = self.broker.said(told, upto, count);
        for page in said.chunks(super::PAGE_EVENTS) {
            self.send(page, Kind::Snapshot).await?;
        }
        Ok(upto)
    }
}
