//! Who of this node's sessions is in which topic, and how often that has changed.
//!
//! Pure state. Each change has a number, and says which one of its topic came before it, so that whoever hears
//! of changes knows whether one is missing, and whoever is given a list knows which changes are in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use crate::broker::{Attending, RoomVersion};
use crate::model::{Attendee, Change, Pattern, Present, Timestamp, Topic};

/// The members of the topics that have presence. Topics are known by those where it is told who is in them.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    /// The number of the newest change.
    changes: u64,
    rooms: BTreeMap<Topic, Room>,
}

/// One topic that somebody is in.
#[derive(Debug, Default)]
struct Room {
    change: u64,
    members: BTreeMap<String, Present>,
    sessions_by_user: HashMap<String, usize>,
}

impl Attendance {
    /// Has a member come, or be somebody else than it was; as it is to be told, unless it was there already.
    pub(super) fn join(
        &mut self,
        room: Topic,
        member: Attendee,
        now: Timestamp,
    ) -> Option<Attendee> {
        let known = self.rooms.get(&room).and_then(|room| room.members.get(&member.session));
        if known.is_some_and(|known| known.member == member) {
            return None;
        }
        let joined = known.map_or(now, |known| known.joined);
        let change = self.next_change(&room);
        let room = self.rooms.entry(room).or_default();
        room.remove(&member.session);
        room.change = change.number;
        room.insert(Present { joined, change: change.number, member: member.clone() });
        Some(room.numbered(member, change))
    }

    /// Has a member leave; as it is to be told, unless it was not there.
    pub(super) fn leave(&mut self, room: &Topic, session: &str) -> Option<Attendee> {
        let is_there = self.rooms.get(room)?.members.contains_key(session);
        let change = is_there.then(|| self.next_change(room))?;
        let left = self.rooms.get_mut(room)?;
        let member = left.remove(session)?;
        left.change = change.number;
        let told = left.numbered(member, change);
        if left.members.is_empty() {
            self.rooms.remove(room);
        }
        Some(told)
    }

    fn next_change(&mut self, room: &Topic) -> Change {
        self.changes += 1;
        Change { number: self.changes, after: self.rooms.get(room).map_or(0, |room| room.change) }
    }

    /// The members of the topics that match, in the order of topic and session: those after the one given, and
    /// at most so many.
    pub(super) fn members(
        &self,
        patterns: &[Pattern],
        after: Option<&(Topic, String)>,
        limit: usize,
    ) -> Attending<Present> {
        let mut found = Vec::new();
        for name in self.matching(patterns, after.map(|(topic, _)| topic)) {
            let Some(room) = self.rooms.get(name) else { continue };
            let after = after.filter(|(topic, _)| topic == name).map(|(_, session)| session);
            let rest = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
            let rest = room.members.range::<String, _>(rest).map(|(_, present)| present.clone());
            found.extend(rest.take(limit + 1 - found.len()));
            if found.len() > limit {
                break;
            }
        }
        self.page(found, limit)
    }

    /// The newest change of each topic that matches and that somebody is in, by name: those after the one given, and
    /// at most so many.
    pub(super) fn rooms(
        &self,
        patterns: &[Pattern],
        after: Option<&Topic>,
        limit: usize,
    ) -> Attending<RoomVersion> {
        let matching = self.matching(patterns, after).into_iter();
        let after = matching.filter(|topic| after != Some(*topic));
        let state = |topic: &Topic| {
            let change = self.rooms.get(topic).map_or(0, |room| room.change);
            RoomVersion { room: topic.clone(), change }
        };
        self.page(after.take(limit + 1).map(state).collect(), limit)
    }

    fn page<T>(&self, mut found: Vec<T>, limit: usize) -> Attending<T> {
        let is_cut = found.len() > limit;
        found.truncate(limit);
        Attending { node: String::new(), changes: self.changes, found, is_cut }
    }

    /// The topics from one on that match and that somebody is in.
    fn matching(&self, patterns: &[Pattern], from: Option<&Topic>) -> BTreeSet<&Topic> {
        let (wild, named): (Vec<_>, Vec<_>) =
            patterns.iter().partition(|pattern| pattern.literal_prefix() != pattern.as_str());
        let named = named.into_iter().filter_map(|pattern| {
            let topic = self.rooms.get_key_value(pattern.as_str())?.0;
            from.is_none_or(|from| topic >= from).then_some(topic)
        });
        let mut found: BTreeSet<_> = named.collect();
        if !wild.is_empty() {
            let start = from.map_or(Bound::Unbounded, Bound::Included);
            let rest =
                self.rooms.range::<Topic, _>((start, Bound::Unbounded)).map(|(name, _)| name);
            found.extend(rest.filter(|topic| wild.iter().any(|pattern| pattern.matches(topic))));
        }
        found
    }
}

impl Room {
    fn insert(&mut self, present: Present) {
        if let Some(user) = &present.member.user {
            *self.sessions_by_user.entry(user.clone()).or_default() += 1;
        }
        self.members.insert(present.member.session.clone(), present);
    }

    fn remove(&mut self, session: &str) -> Option<Attendee> {
        let Present { member, .. } = self.members.remove(session)?;
        if let Some(user) = &member.user
            && let Some(sessions) = self.sessions_by_user.get_mut(user)
        {
            *sessions -= 1;
            if *sessions == 0 {
                self.sessions_by_user.remove(user);
            }
        }
        Some(member)
    }

    fn numbered(&self, member: Attendee, change: Change) -> Attendee {
        let sessions = |user: &String| self.sessions_by_user.get(user).copied().unwrap_or(0);
        let user_sessions = member.user.as_ref().map(sessions);
        Attendee { user_sessions, change: Some(change), ..member }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> Topic {
        Topic::parse(name).unwrap().presence().unwrap()
    }

    fn member(topic: &str, session: &str, user: &str) -> Attendee {
        Attendee {
            topic: Topic::parse(topic).unwrap(),
            session: session.to_owned(),
            user: (!user.is_empty()).then(|| user.to_owned()),
            info: None,
            since: Timestamp::from_millis(0),
            transport: "websocket".to_owned(),
            node: "n".to_owned(),
            user_sessions: None,
            change: None,
        }
    }

    fn join(
        attendance: &mut Attendance,
        topic: &str,
        session: &str,
        user: &str,
    ) -> Option<Attendee> {
        let member = member(topic, session, user);
        attendance.join(room(topic), member, Timestamp::from_millis(0))
    }

    fn change(told: Option<Attendee>) -> Option<(u64, u64, Option<usize>)> {
        let told = told?;
        told.change.map(|change| (change.number, change.after, told.user_sessions))
    }

    #[test]
    fn each_change_says_which_one_of_its_topic_came_before_it_and_how_many_sessions_its_user_has() {
        let mut attendance = Attendance::default();
        assert_eq!(change(join(&mut attendance, "a", "1", "ada")), Some((1, 0, Some(1))));
        assert_eq!(change(join(&mut attendance, "b", "1", "ada")), Some((2, 0, Some(1))));
        assert_eq!(change(join(&mut attendance, "a", "2", "ada")), Some((3, 1, Some(2))));
        assert_eq!(change(join(&mut attendance, "a", "3", "")), Some((4, 3, None)));
        assert_eq!(join(&mut attendance, "a", "3", ""), None);
        // It has become somebody.
        assert_eq!(change(join(&mut attendance, "a", "3", "bob")), Some((5, 4, Some(1))));
        assert_eq!(change(attendance.leave(&room("a"), "1")), Some((6, 5, Some(1))));
        assert_eq!(attendance.leave(&room("a"), "1"), None);
        assert_eq!(change(attendance.leave(&room("b"), "1")), Some((7, 2, Some(0))));
        assert_eq!(change(join(&mut attendance, "b", "9", "eve")), Some((8, 0, Some(1))));
    }

    #[test]
    fn pages_hold_each_member_and_each_topic_that_matches_once() {
        let mut attendance = Attendance::default();
        for (topic, session) in [("r.a", "1"), ("r.a", "2"), ("r.b", "1"), ("x", "1"), ("r.c", "3")]
        {
            join(&mut attendance, topic, session, "");
        }
        let patterns = ["$presence.r.*", "$presence.r.a", "$presence.none"];
        let patterns = patterns.map(|text| Pattern::parse(text).unwrap());
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = attendance.members(&patterns, after.as_ref(), 1);
            assert_eq!((page.changes, page.found.len()), (5, 1));
            let member = &page.found[0].member;
            found.push(format!("{} {}", member.topic, member.session));
            after = Some((member.topic.presence().unwrap(), member.session.clone()));
            if !page.is_cut {
                break;
            }
        }
        assert_eq!(found, ["r.a 1", "r.a 2", "r.b 1", "r.c 3"]);
        let states = attendance.rooms(&patterns, Some(&room("r.a")), 1);
        assert_eq!(states.found, [RoomVersion { room: room("r.b"), change: 3 }]);
        assert!(states.is_cut && !attendance.rooms(&patterns, Some(&room("r.b")), 1).is_cut);
    }
}
