//! What sessions are told of the log: that events were lost, and that it is away.

use std::collections::BTreeMap;

use super::super::subscriber::Subscriber;
use super::super::{BarrierId, SessionKey};
use super::Worker;
use crate::history::{Loss, LostTopic};
use crate::model::Trouble;

impl<S: Subscriber> Worker<S> {
    pub(super) fn broken(&mut self, loss: &Loss) {
        let barrier = self.new_barrier();
        let Some(topics) = &loss.topics else {
            let all = self.sessions.keys();
            return all.into_iter().for_each(|key| self.tell_loss(key, loss, barrier));
        };
        let mut lost_by_session: BTreeMap<SessionKey, Vec<LostTopic>> = BTreeMap::new();
        for lost in topics.iter() {
            for key in self.topics.subscribers(&lost.topic) {
                lost_by_session.entry(key).or_default().push(lost.clone());
            }
        }
        for (key, theirs) in lost_by_session {
            let loss = Loss { topics: Some(theirs.into()), ..*loss };
            self.tell_loss(key, &loss, barrier);
        }
    }

    fn tell_loss(&mut self, key: SessionKey, loss: &Loss, barrier: BarrierId) {
        let errand = self.with(key, |subscriber| subscriber.broken(loss, barrier)).flatten();
        self.errands.extend(errand.map(|errand| (key, errand)));
    }

    /// Tells every session how the log is.
    pub(in super::super) fn tell_trouble(&mut self, trouble: Trouble) {
        self.trouble = (trouble != Trouble::Over).then_some(trouble);
        for key in self.sessions.keys() {
            self.with(key, |subscriber| subscriber.tell_trouble(trouble));
        }
    }

    /// What who comes now is to be told of the log.
    pub(in super::super) fn trouble(&self) -> Option<Trouble> {
        self.trouble
    }
}
