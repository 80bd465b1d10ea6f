//! Sessions that values are bound to, and which of them have left.
//!
//! Pure state. Who has left is remembered for a while, because what it published last may be stored only then: it
//! ends all the same.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::Topic;

/// For how long who has left is remembered: much longer than anything is on its way to be stored.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The sessions that hold values of a log.
#[derive(Debug, Default)]
pub(in crate::history) struct Holders {
    topics_by_session: HashMap<Arc<str>, HashSet<Topic>>,
    /// When the values end of those that have left.
    left: HashMap<Arc<str>, Instant>,
    /// Those of them that hold some.
    leaving: BTreeSet<(Instant, Arc<str>)>,
    /// In the order in which they left, and when.
    departures: VecDeque<(Instant, Arc<str>)>,
}

impl Holders {
    /// Binds the value of a topic to a session.
    pub(in crate::history) fn bind(&mut self, session: &Arc<str>, topic: Topic) {
        self.topics_by_session.entry(session.clone()).or_default().insert(topic);
        if let Some(ends) = self.left.get(session) {
            self.leaving.insert((*ends, session.clone()));
        }
    }

    /// The value of a topic is bound to a session no longer.
    pub(in crate::history) fn release(&mut self, session: &Arc<str>, topic: &Topic) {
        let Some(topics) = self.topics_by_session.get_mut(session) else { return };
        topics.remove(topic);
        if topics.is_empty() {
            self.topics_by_session.remove(session);
            if let Some(ends) = self.left.get(session) {
                self.leaving.remove(&(*ends, session.clone()));
            }
        }
    }

    /// Whether a session that may hold so many values may hold that of a topic.
    pub(in crate::history) fn may_bind(&self, session: &str, topic: &Topic, most: usize) -> bool {
        let held = self.topics_by_session.get(session);
        held.is_none_or(|topics| topics.len() < most || topics.contains(topic))
    }

    /// A session has left: its values end at a moment.
    pub(in crate::history) fn leave(&mut self, session: Arc<str>, ends: Instant, now: Instant) {
        if self.left.contains_key(&session) {
            return;
        }
        if self.topics_by_session.contains_key(&session) {
            self.leaving.insert((ends, session.clone()));
        }
        self.left.insert(session.clone(), ends);
        self.departures.push_back((now, session));
    }

    /// The topics whose values have ended with their session; those whose session left first before others.
    pub(in crate::history) fn due(&self, now: Instant) -> impl Iterator<Item = &Topic> {
        let over = self.leaving.iter().take_while(move |(ends, _)| *ends <= now);
        over.filter_map(|(_, session)| self.topics_by_session.get(session)).flatten()
    }

    /// Forgets who left long ago and holds nothing.
    pub(in crate::history) fn forget(&mut self, now: Instant) {
        while let Some((at, _)) = self.departures.front()
            && now.saturating_duration_since(*at) >= REMEMBERED
            && let Some((_, session)) = self.departures.pop_front()
        {
            match self.topics_by_session.contains_key(&session) {
                // It can't be stored yet that its values have ended.
                true => self.departures.push_back((now, session)),
                false => _ = self.left.remove(&session),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::parse(name).unwrap()
    }

    fn due(holders: &Holders, now: Instant) -> Vec<String> {
        let mut due: Vec<_> = holders.due(now).map(ToString::to_string).collect();
        due.sort();
        due
    }

    #[test]
    fn what_a_session_holds_ends_with_it_also_what_comes_late_and_nothing_else_does() {
        let (mut holders, now) = (Holders::default(), Instant::now());
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let later = now + Duration::from_secs(5);
        holders.bind(&one, topic("a"));
        holders.bind(&one, topic("b"));
        holders.bind(&other, topic("c"));
        holders.leave(one.clone(), later, now);
        assert!(due(&holders, now).is_empty());
        holders.release(&one, &topic("a"));
        assert_eq!(due(&holders, later), ["b"]);
        holders.release(&one, &topic("b"));
        assert!(due(&holders, later).is_empty());
        holders.bind(&one, topic("late"));
        assert_eq!(due(&holders, later), ["late"]);
    }

    #[test]
    fn who_left_is_forgotten_once_nothing_can_come_of_it_and_it_holds_nothing() {
        let (mut holders, now) = (Holders::default(), Instant::now());
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        holders.bind(&one, topic("a"));
        holders.leave(one.clone(), now, now);
        holders.leave(other, now, now);
        let after = now + REMEMBERED;
        holders.forget(after);
        assert_eq!((holders.left.len(), due(&holders, after)), (1, vec!["a".to_owned()]));
        holders.release(&one, &topic("a"));
        holders.forget(after + REMEMBERED);
        assert!(holders.left.is_empty() && holders.departures.is_empty());
        assert!(holders.topics_by_session.is_empty() && holders.leaving.is_empty());
    }

    #[test]
    fn a_session_holds_no_more_than_it_may_and_may_replace_each() {
        let mut holders = Holders::default();
        let one: Arc<str> = "one".into();
        holders.bind(&one, topic("a"));
        holders.bind(&one, topic("b"));
        assert!(!holders.may_bind("one", &topic("c"), 2));
        assert!(holders.may_bind("one", &topic("b"), 2) && holders.may_bind("x", &topic("c"), 2));
    }
}
