//! Values that end by themselves, and when: after their time, or with the session that they are bound to.
//!
//! Pure state. Of each topic the newest event alone can be about to end; whatever follows it takes its place, and so
//! does the tombstone by which it ends. By a clock that never steps, so that a wrong time of day ends nothing early.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::holders::Holders;
use crate::model::{Cursor, Envelope, Event, Member, NewEvent, Removed, Terms, Topic};

/// A value that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Its topic.
    pub topic: Topic,
    /// Its place.
    pub position: Cursor,
    /// What its tombstone carries: its version, so that no older one revives it.
    pub version: Envelope,
    /// Why.
    pub reason: Removed,
}

/// A session that has left, whose values end with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// Its id.
    pub session: Arc<str>,
    /// Its client may come back, and has `limits.bound_linger` to publish them anew; else they end at once.
    pub lingers: bool,
}

impl Ending {
    /// What ends with an event at a place.
    pub(in crate::history) fn of(
        topic: Topic,
        position: Cursor,
        envelope: &Envelope,
        reason: Removed,
    ) -> Self {
        let is_kept = |member: &Member<'_>| matches!(member, Member::Version(_) | Member::Epoch(_));
        Self { topic, position, version: envelope.members().filter(is_kept).collect(), reason }
    }

    /// The event by which it ends, unless a newer one of its topic stands there.
    pub fn tombstone(self) -> NewEvent {
        let mut envelope = self.version;
        envelope.push(Member::Removed(self.reason));
        let terms = Terms { unless_after: Some(self.position), ..Terms::default() };
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
    by_topic: HashMap<Topic, Mortal>,
    by_time: BTreeMap<(Instant, u64), Topic>,
    holders: Holders,
}

/// A value that ends by itself.
#[derive(Debug)]
struct Mortal {
    position: Cursor,
    envelope: Envelope,
    /// When its time is over, where it has one.
    ends: Option<Instant>,
    /// The session that it is bound to, where it is.
    holder: Option<Arc<str>>,
}

impl Endings {
    /// Notes an event that is committed at a moment.
    pub(in crate::history) fn note(&mut self, event: &Event, now: Instant) {
        let Some(position) = event.cursor else { return };
        match event.envelope.as_deref().filter(|envelope| envelope.is_mortal()) {
            Some(envelope) => {
                self.add(event.topic.clone(), position, envelope.clone(), now, envelope.ttl());
            }
            None => self.forget(&event.topic),
        }
    }

    /// Adds a value whose time, where it has one, is over after so long.
    pub(in crate::history) fn add(
        &mut self,
        topic: Topic,
        position: Cursor,
        envelope: Envelope,
        now: Instant,
        left: Option<Duration>,
    ) {
        self.forget(&topic);
        // A year is the longest, which every clock can tell.
        let ends = left.map(|left| now.checked_add(left).unwrap_or(now));
        if let Some(at) = ends {
            self.by_time.insert((at, position.sequence), topic.clone());
        }
        let holder = envelope.holder().map(Arc::from);
        if let Some(holder) = &holder {
            self.holders.bind(holder, topic.clone());
        }
        self.by_topic.insert(topic, Mortal { position, envelope, ends, holder });
    }

    /// Lets what is there of a topic last.
    pub(in crate::history) fn forget(&mut self, topic: &Topic) {
        if self.by_topic.is_empty() {
            return;
        }
        let Some(Mortal { position, ends, holder, .. }) = self.by_topic.remove(topic) else {
            return;
        };
        if let Some(at) = ends {
            self.by_time.remove(&(at, position.sequence));
        }
        if let Some(holder) = holder {
            self.holders.release(&holder, topic);
        }
    }

    /// Whether a session that may hold so many values may hold that of a topic.
    pub(in crate::history) fn may_bind(&self, session: &str, topic: &Topic, most: usize) -> bool {
        self.holders.may_bind(session, topic, most)
    }

    /// Binds the value of a topic to another session, if it is still the one at a place.
    pub(in crate::history) fn rebind(&mut self, topic: &Topic, position: Cursor, session: &str) {
        let value = self.by_topic.get_mut(topic);
        let Some(value) = value.filter(|value| value.position.sequence == position.sequence) else {
            return;
        };
        let session: Arc<str> = session.into();
        if let Some(holder) = value.holder.replace(session.clone()) {
            self.holders.release(&holder, topic);
        }
        self.holders.bind(&session, topic.clone());
    }

    /// A session has left: its values end after so long.
    pub(in crate::history) fn leave(&mut self, session: Arc<str>, now: Instant, left: Duration) {
        self.holders.leave(session, now.checked_add(left).unwrap_or(now), now);
    }

    /// Forgets sessions that left long ago.
    pub(in crate::history) fn forget_departures(&mut self, now: Instant) {
        self.holders.forget(now);
    }

    /// The values that have ended, at most so many, those that ended first before others.
    pub(in crate::history) fn due(&self, now: Instant, limit: usize) -> Vec<Ending> {
        let over = self.by_time.iter().take_while(|((at, _), _)| *at <= now);
        let over = over.map(|(_, topic)| (topic, Removed::Expired));
        let left = self.holders.due(now).map(|topic| (topic, Removed::Left));
        let mut seen = HashSet::new();
        let all = over.chain(left).filter(|(topic, _)| seen.insert(*topic)).take(limit);
        let ending = |(topic, reason): (&Topic, Removed)| {
            let Mortal { position, envelope, .. } = self.by_topic.get(topic)?;
            Some(Ending::of(topic.clone(), *position, envelope, reason))
        };
        all.filter_map(ending).collect()
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

    fn due(endings: &Endings, at: Instant) -> Vec<(String, Removed)> {
        let due = endings.due(at, 9).into_iter();
        let mut due: Vec<_> = due.map(|it| (it.topic.to_string(), it.reason)).collect();
        due.sort_by(|one, other| one.0.cmp(&other.0));
        due
    }

    #[test]
    fn a_value_ends_with_its_session_or_its_time_whichever_comes_first() {
        let (mut endings, now) = (Endings::default(), Instant::now());
        let after = |millis| now + Duration::from_millis(millis);
        let bound = Member::Holder("s-1");
        endings.note(&event("a", 1, &[bound]), now);
        endings.note(&event("b", 2, &[bound, Member::Ttl(10)]), now);
        endings.note(&event("c", 3, &[bound, Member::Ttl(90)]), now);
        endings.note(&event("d", 4, &[bound]), now);
        endings.note(&event("e", 5, &[Member::Holder("s-2")]), now);
        endings.leave("s-1".into(), now, Duration::from_millis(20));
        endings.note(&event("d", 6, &[Member::Holder("s-2")]), now);
        let named = |name: &str, reason| (name.to_owned(), reason);
        assert_eq!(due(&endings, after(10)), [named("b", Removed::Expired)]);
        let all = ["a", "b", "c"].map(|name| match name {
            "b" => named(name, Removed::Expired),
            _ => named(name, Removed::Left),
        });
        assert_eq!(due(&endings, after(20)), all);
        assert_eq!(endings.due(after(20), 2).len(), 2);
        // What is repeated is bound to who repeats it, if it is still there.
        endings.rebind(&Topic::parse("a").unwrap(), event("a", 1, &[]).cursor.unwrap(), "s-2");
        endings.rebind(&Topic::parse("c").unwrap(), event("c", 9, &[]).cursor.unwrap(), "s-2");
        endings.forget(&Topic::parse("b").unwrap());
        assert_eq!(due(&endings, after(20)), [named("c", Removed::Left)]);
        endings.leave("s-2".into(), now, Duration::ZERO);
        assert_eq!(due(&endings, now).len(), 3);
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
