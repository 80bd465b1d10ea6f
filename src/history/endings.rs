//! Values that end by themselves, and when.
//!
//! Pure state. Of each topic the newest event alone can be about to end; whatever follows it takes its place, and so
//! does the tombstone by which it ends. By a clock that never steps, so that a wrong time of day ends nothing early.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::model::{Cursor, Envelope, Event, Member, NewEvent, Removed, Terms, Topic};

/// A value whose time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Its topic.
    pub topic: Topic,
    /// Its place.
    pub place: Cursor,
    /// What its tombstone carries: its version, so that no older one revives it.
    pub version: Envelope,
}

impl Ending {
    /// What ends with an event at a place.
    pub(in crate::history) fn of(topic: Topic, place: Cursor, envelope: &Envelope) -> Self {
        let is_kept = |member: &Member<'_>| matches!(member, Member::Version(_) | Member::Epoch(_));
        Self { topic, place, version: envelope.members().filter(is_kept).collect() }
    }

    /// The event by which it ends, unless a newer one of its topic stands there.
    pub fn tombstone(self) -> NewEvent {
        let mut envelope = self.version;
        envelope.push(Member::Removed(Removed::Expired));
        let terms = Terms { unless_after: Some(self.place), ..Terms::default() };
        NewEvent {
            envelope: Some(Box::new(envelope)),
            terms: Some(Box::new(terms)),
            ..NewEvent::new(self.topic, None, crate::model::Data::null())
        }
    }
}

/// The values of a log that end by themselves.
#[derive(Debug, Default)]
pub(in crate::history) struct Endings {
    by_topic: HashMap<Topic, (Instant, Ending)>,
    by_time: BTreeMap<(Instant, u64), Topic>,
}

impl Endings {
    /// Notes an event that is committed at a moment.
    pub(in crate::history) fn note(&mut self, event: &Event, now: Instant) {
        let Some(place) = event.cursor else { return };
        let envelope = event.envelope.as_deref();
        match envelope.and_then(|envelope| Some((envelope, envelope.ttl()?))) {
            Some((envelope, ttl)) => {
                self.add(Ending::of(event.topic.clone(), place, envelope), now, ttl);
            }
            None => self.forget(&event.topic),
        }
    }

    /// Has a value end after so long.
    pub(in crate::history) fn add(&mut self, ending: Ending, now: Instant, left: Duration) {
        self.forget(&ending.topic);
        // A year is the longest, which every clock can tell.
        let at = now.checked_add(left).unwrap_or(now);
        self.by_time.insert((at, ending.place.sequence), ending.topic.clone());
        self.by_topic.insert(ending.topic.clone(), (at, ending));
    }

    /// Lets what is there of a topic last.
    pub(in crate::history) fn forget(&mut self, topic: &Topic) {
        if self.by_topic.is_empty() {
            return;
        }
        if let Some((at, ending)) = self.by_topic.remove(topic) {
            self.by_time.remove(&(at, ending.place.sequence));
        }
    }

    /// The values whose time is over, at most so many, those that ended first before others.
    pub(in crate::history) fn due(&self, now: Instant, limit: usize) -> Vec<Ending> {
        let over = self.by_time.iter().take_while(|((at, _), _)| *at <= now).take(limit);
        let ending = |topic: &Topic| self.by_topic.get(topic).map(|(_, ending)| ending.clone());
        over.filter_map(|(_, topic)| ending(topic)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Data, Timestamp, Version};

    fn event(topic: &str, number: u64, members: &[Member<'_>]) -> Event {
        let envelope: Envelope = members.iter().copied().collect();
        Event {
            cursor: Some(Cursor::parse("abcdefgh-1-0").unwrap().at(number)),
            topic: Topic::parse(topic).unwrap(),
            kind: None,
            time: Timestamp::from_millis(0),
            data: Data::null(),
            envelope: (!members.is_empty()).then(|| Box::new(envelope)),
        }
    }

    #[test]
    fn a_value_ends_when_its_time_is_over_unless_something_follows_it() {
        let (mut endings, now) = (Endings::default(), Instant::now());
        let after = |millis| now + Duration::from_millis(millis);
        endings.note(&event("a", 1, &[Member::Ttl(30), Member::Version(7)]), now);
        endings.note(&event("b", 2, &[Member::Ttl(10)]), now);
        endings.note(&event("c", 3, &[Member::Ttl(20)]), now);
        endings.note(&event("d", 4, &[Member::Ttl(20)]), now);
        let due = |endings: &Endings, at| {
            let due = endings.due(at, 9).into_iter();
            due.map(|ending| ending.topic.to_string()).collect::<Vec<_>>()
        };
        assert!(due(&endings, after(9)).is_empty());
        assert_eq!(due(&endings, after(30)), ["b", "c", "d", "a"]);
        assert_eq!(endings.due(after(30), 1).len(), 1);
        endings.note(&event("b", 5, &[]), now);
        endings.note(&event("c", 6, &[Member::Ttl(100)]), now);
        endings.forget(&Topic::parse("d").unwrap());
        assert_eq!(due(&endings, after(30)), ["a"]);
        let ending = endings.due(after(30), 9).pop().unwrap();
        let tombstone = ending.tombstone();
        let envelope = tombstone.envelope.unwrap();
        assert_eq!(envelope.removed(), Some(Removed::Expired));
        assert_eq!(envelope.version(), Some(Version { epoch: None, number: 7 }));
        assert_eq!(
            (envelope.ttl(), tombstone.terms.unwrap().unless_after.unwrap().sequence),
            (None, 1)
        );
    }
}
