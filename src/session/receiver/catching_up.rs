//! What is read of the history for a session, on its way to the client.

use std::sync::Arc;

use super::super::catchups::Running;
use super::super::reading::Kind;
use super::Receiver;
use crate::broker::BarrierId;
use crate::model::{Cursor, Event, Topic};

impl Receiver {
    /// Has the history of a subscribe read by a task, which ends with it.
    pub fn read_by(&mut self, barrier: BarrierId, task: Running) {
        self.intake.read_by(barrier, task);
    }

    /// Says that events after a place are gone, of these topics or of any, for the subscribe of `barrier`; false once there
    /// is none.
    pub fn replay_gap(
        &mut self,
        barrier: BarrierId,
        reference: Option<u64>,
        since: Cursor,
        topics: &[Topic],
    ) -> bool {
        self.intake.replay_gap(barrier, reference, since, topics)
    }

    /// Sends events out of the history for the subscribe of `barrier`, those that are still wanted, for as long as there is
    /// room, and one in any case; how many of them are done with, none once there is no such subscribe.
    pub fn replay(
        &mut self,
        barrier: BarrierId,
        events: &[Arc<Event>],
        kind: Kind,
    ) -> Option<usize> {
        let done = self.intake.replay(barrier, events, kind)?;
        if let Some(resumed) = self.resumed.as_mut().filter(|_| kind == Kind::Replayed) {
            events.iter().take(done).for_each(|event| resumed.note(event));
        }
        Some(done)
    }

    /// Sends events that wait for the subscribe of `barrier` while there is room; none once so few
    /// wait that the rest may go at once, else how many bytes the next one needs.
    pub fn drain_held(&mut self, barrier: BarrierId) -> Option<usize> {
        self.intake.drain_held(barrier)
    }

    /// What `Intake::begin_past` does.
    pub fn begin_past(&mut self, barrier: BarrierId) -> bool {
        self.intake.begin_past(barrier)
    }
}
