//! What a session does about events that were lost: it says so, and has current values read anew.

use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;

use super::super::catchup::Catchup;
use super::super::catchups::{Active, Progress, Reader};
use super::super::reading::{First, MAX_NAMED, Reading};
use super::super::topic_set::TopicSet;
use super::super::values::Values;
use super::Intake;
use crate::broker::BarrierId;
use crate::history::Loss;
use crate::metrics::Gap;
use crate::model::{Cursor, Topic};
use crate::protocol::Reply;

impl Intake {
    /// Hears that events were lost; what is to be read again because of that, which may have `barrier`.
    pub fn lose(&mut self, loss: &Loss, barrier: BarrierId) -> Option<Reading> {
        self.change(|intake| intake.hear_of(loss, barrier))
    }

    fn hear_of(&mut self, loss: &Loss, barrier: BarrierId) -> Option<Reading> {
        // A subscribe that has not begun reads up to a place that comes after the loss.
        let is_told = !self.live.is_empty() || self.catchups.begun().next().is_some();
        let lost = self.missed_topics(loss);
        if !is_told || lost.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let lost = lost.as_deref();
        let topics = lost.filter(|lost| lost.len() <= MAX_NAMED).unwrap_or_default();
        let gap = Reply::Gap { reference: None, since: loss.since, topics };
        self.voice.gap(Gap::Loss, &gap);
        self.catchups.lose(lost);
        if self.live.is_empty() {
            return None;
        }
        let values = Values::of(self.live.values());
        let reread = match lost {
            None => TopicSet::All,
            Some(lost) => {
                TopicSet::Of(lost.iter().filter(|topic| values.count(topic) > 0).cloned().collect())
            }
        };
        if values.is_empty() || reread == TopicSet::Of(Vec::new()) {
            self.say_live(None, loss.position);
            return None;
        }
        Some(self.renew(values, reread, loss.position, barrier))
    }

    /// The topics of a loss of which this session misses events; none where it may be of any.
    fn missed_topics(&self, loss: &Loss) -> Option<Vec<Topic>> {
        let lost = loss.topics.as_ref()?;
        let misses = |topic: &Topic, is_superseded: bool| {
            let wants_each = |interval: Option<Duration>| !is_superseded || interval.is_none();
            let misses_live =
                self.live.matches(topic) && wants_each(self.pump.interval(&self.live, topic));
            let mut begun = self.catchups.begun();
            let is_missed = misses_live
                || begun.any(|one| one.catchup.matches(topic) && wants_each(one.interval));
            is_missed && self.access.may_subscribe(topic)
        };
        let missed = lost.iter().filter(|lost| misses(&lost.topic, lost.is_superseded));
        Some(missed.map(|lost| lost.topic.clone()).collect())
    }

    /// Has current values read anew, while what follows them waits. All that are wanted are known, for more may be lost
    /// meanwhile.
    fn renew(
        &mut self,
        values: Values,
        reread: TopicSet,
        boundary: Cursor,
        barrier: BarrierId,
    ) -> Reading {
        let patterns = self.live.take();
        let (sender, progress) = unbounded_channel();
        let reader = Reader::new(sender);
        let max_bytes = self.voice.outgoing().max_bytes();
        let filters = self.live.filters().clone();
        let renewal = Catchup::renewal(patterns.clone(), max_bytes, boundary);
        let mut catchup = renewal.filtered(filters);
        catchup.ask_about(&values.patterns);
        catchup.ask_only_about(&reread);
        let (sent, awaits_roll) = (None, catchup.awaits_roll().clone());
        reader.tell(Progress::Read { boundary, sent, reread, only_reread: true, awaits_roll });
        self.catchups.add(Active {
            barrier,
            catchup,
            values: Some(values.most()),
            interval: None,
            reader: Some(reader),
            reread: TopicSet::Nothing,
        });
        Reading {
            barrier,
            reference: None,
            patterns: patterns.into(),
            first: First::Values(values),
            since: None,
            is_short: false,
            is_conflated: false,
            progress,
        }
    }
}
