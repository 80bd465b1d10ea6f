//! What sends conflated events: at once, when they are due, or when there is room.

use std::sync::Arc;
use std::time::Duration;

use super::conflation::{Conflation, Offered};
use super::live::Live;
use super::voice::Voice;
use crate::auth::Access;
use crate::broker::{Delivered, Delivery};
use crate::clock::Instant;
use crate::model::{Cursor, Pattern, Topic};

/// The conflated subscriptions of one session, on their way out.
pub struct Pump {
    /// In a box, for most sessions want every event.
    conflation: Option<Box<Conflation>>,
    /// All that is live is conflated alike, so that no event has to be asked for its pattern.
    uniform: Option<Duration>,
    max_bytes: usize,
    /// More waits than may.
    is_full: bool,
}

impl Pump {
    /// Nothing is conflated yet. At most `max_bytes` of events will wait.
    pub fn new(max_bytes: usize) -> Self {
        Self { conflation: None, uniform: None, max_bytes, is_full: false }
    }

    /// Conflates what a pattern matches, with at least `interval` between two events of a topic.
    pub fn add(&mut self, pattern: Pattern, interval: Duration) {
        self.conflation().add(pattern, interval);
    }

    fn conflation(&mut self) -> &mut Conflation {
        self.conflation.get_or_insert_with(|| Box::new(Conflation::new(self.max_bytes)))
    }

    /// Whether no subscription is conflated.
    pub fn is_idle(&self) -> bool {
        self.conflation.as_ref().is_none_or(|conflation| conflation.is_empty())
    }

    /// Whether more waits than may.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Notes whether all of `live` subscriptions are conflated alike, and may all be seen.
    pub fn settle(&mut self, live: usize, is_settled: bool) {
        let conflation = self.conflation.as_ref().filter(|_| is_settled);
        self.uniform = conflation.and_then(|conflation| conflation.uniform(live));
    }

    /// The interval of all that is live, if it is one.
    pub fn uniform(&self) -> Option<Duration> {
        self.uniform
    }

    /// The shortest time between two events of a topic; none where every one is wanted.
    pub fn interval(&self, live: &Live, topic: &Topic) -> Option<Duration> {
        live.interval(self.conflation.as_ref()?, topic)
    }

    /// The place up to which everything was sent or superseded, where it was delivered up to `place`.
    pub fn floor(&self, position: Cursor) -> Cursor {
        self.conflation.as_ref().map_or(position, |conflation| conflation.floor(position))
    }

    /// Drops what waits of a topic and is no newer than what was sent of it on another way.
    pub fn supersede(&mut self, topic: &Topic, cursor: Option<Cursor>) {
        if let Some(conflation) = &mut self.conflation {
            conflation.supersede(topic, cursor);
        }
    }

    /// Sends an event of a conflated topic, or has it wait.
    pub fn offer(
        &mut self,
        voice: &mut Voice,
        delivery: &Arc<Delivery>,
        interval: Duration,
        is_behind: bool,
    ) -> Delivered {
        let offered = self.conflation().offer(delivery, interval, Instant::now(), is_behind);
        match offered {
            Offered::Now => voice.conflated(delivery, 0),
            Offered::Waits if is_behind => {
                voice.outgoing().has_more();
                Delivered::Quietly
            }
            Offered::Waits => Delivered::ToFlush,
            Offered::TooMuch => {
                self.is_full = true;
                Delivered::Full
            }
        }
    }

    /// Sends what waits and is due, as long as the client keeps up; says when more is due.
    pub fn send_due(&mut self, voice: &mut Voice, access: &Access, live: &Live) -> Option<Instant> {
        let uniform = self.uniform;
        let conflation = self.conflation.as_mut()?;
        let now = Instant::now();
        while conflation.due().is_some_and(|due| due <= now) {
            if voice.outgoing().is_behind() {
                voice.outgoing().has_more();
                return None;
            }
            let wanted = |conflation: &Conflation, topic: &Topic| {
                uniform.or_else(|| live.interval(conflation, topic))
            };
            let Some((delivery, skipped)) = conflation.next(now, wanted) else { break };
            if access.may_subscribe(&delivery.event.topic) {
                voice.conflated(&delivery, skipped);
            }
        }
        conflation.due()
    }

    /// Conflates what these match no longer. What waits of a topic of which every event is wanted now
    /// goes out before them; what nobody wants any more is dropped.
    pub fn remove(
        &mut self,
        patterns: &[Pattern],
        voice: &mut Voice,
        access: &Access,
        live: &Live,
    ) {
        let Some(conflation) = &mut self.conflation else { return };
        patterns.iter().for_each(|pattern| conflation.remove(pattern));
        self.let_out(voice, access, live);
    }

    /// Sends what waits of topics of which every event is wanted by now, before these come; drops what nobody
    /// wants any more.
    pub fn let_out(&mut self, voice: &mut Voice, access: &Access, live: &Live) {
        let Some(conflation) = &mut self.conflation else { return };
        for topic in conflation.topics() {
            if live.interval(conflation, &topic).is_none()
                && let Some((delivery, skipped)) = conflation.take(&topic)
                && live.matches(&topic)
                && access.may_subscribe(&topic)
            {
                voice.conflated_at_once(&delivery, skipped);
            }
        }
    }
}
