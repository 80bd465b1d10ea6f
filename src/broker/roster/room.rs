//! Who is in one topic, as all nodes say, and what a notice changes in that.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Folded;
use crate::model::{Attendee, Change, Event, NoticeKind, Present};

/// What all nodes say of one topic.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) parts: BTreeMap<String, Part>,
    sessions_by_user: HashMap<String, usize>,
    /// All that are in it, once somebody has asked since the last change.
    list: Option<Arc<[Listed]>>,
    /// Nobody has come or gone since it was looked at.
    pub(super) is_quiet: bool,
}

/// What one node says of one topic.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// The newest change that is known.
    pub(super) number: u64,
    pub(super) members: BTreeMap<String, Arc<Present>>,
}

/// What one notice says.
#[derive(Debug, Clone)]
pub(super) struct Word {
    present: Arc<Present>,
    change: Change,
    is_there: bool,
}

/// A member, and how many sessions its user has in the topic.
#[derive(Debug, Clone)]
pub struct Listed {
    pub(super) present: Arc<Present>,
    pub(super) user_sessions: Option<usize>,
}

impl Listed {
    /// The event that tells of it.
    pub fn event(&self) -> Option<Event> {
        let Present { joined, member, .. } = &*self.present;
        let member = Attendee { user_sessions: self.user_sessions, ..member.clone() };
        member.event(NoticeKind::PresenceJoined, *joined)
    }
}

impl Word {
    pub(super) fn read(event: &Event) -> Option<Self> {
        let (member, is_there) = Attendee::of(event)?;
        let change = member.change?;
        let member = Attendee { user_sessions: None, change: None, ..member };
        let present = Present { joined: event.time, change: change.number, member };
        Some(Self { present: Arc::new(present), change, is_there })
    }

    pub(super) fn node(&self) -> &str {
        &self.present.member.node
    }
}

/// What a list makes of a notice.
pub(super) enum Taken {
    New,
    Old,
    Missing,
}

impl Room {
    /// A topic that nobody was in when nodes had told so many changes.
    pub(super) fn nobody<'a>(changes_by_node: impl Iterator<Item = (&'a String, &'a u64)>) -> Self {
        let part = |number| Part { number, ..Part::default() };
        let parts = changes_by_node.map(|(node, changes)| (node.clone(), part(*changes)));
        Self { parts: parts.collect(), ..Self::default() }
    }

    pub(super) fn take(&mut self, word: &Word) -> Taken {
        let Word { present, change, is_there } = word;
        let part = self.parts.entry(word.node().to_owned()).or_default();
        if change.number <= part.number {
            return Taken::Old;
        }
        if change.after > part.number || (change.after == 0 && !part.members.is_empty()) {
            return Taken::Missing;
        }
        part.number = change.number;
        let session = &present.member.session;
        let left = match is_there {
            true => part.members.insert(session.clone(), present.clone()),
            false => part.members.remove(session),
        };
        let came = is_there.then_some(present);
        if let Some(user) = left.as_ref().and_then(|left| left.member.user.as_deref()) {
            self.uncount(user);
        }
        if let Some(user) = came.and_then(|came| came.member.user.as_ref()) {
            *self.sessions_by_user.entry(user.clone()).or_default() += 1;
        }
        (self.list, self.is_quiet) = (None, false);
        Taken::New
    }

    fn uncount(&mut self, user: &str) {
        if let Some(sessions) = self.sessions_by_user.get_mut(user) {
            *sessions = sessions.saturating_sub(1);
            if *sessions == 0 {
                self.sessions_by_user.remove(user);
            }
        }
    }

    /// The event that says of a change how many sessions its user has with it.
    pub(super) fn tell(&self, event: &Arc<Event>, word: Word) -> Folded {
        let user_sessions = self.user_sessions(&word.present.member);
        let (member, change) = (word.present.member.clone(), Some(word.change));
        let told = Attendee { user_sessions, change, ..member };
        match told.data() {
            Some(data) => Folded::As(Arc::new(Event { data, ..Event::clone(event) })),
            None => Folded::AsItIs,
        }
    }

    fn user_sessions(&self, member: &Attendee) -> Option<usize> {
        let user = member.user.as_ref()?;
        Some(self.sessions_by_user.get(user).copied().unwrap_or(0))
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Arc<Present>> {
        self.parts.values().flat_map(|part| part.members.values())
    }

    pub(super) fn len(&self) -> usize {
        self.parts.values().map(|part| part.members.len()).sum()
    }

    pub(super) fn sessions(&self) -> BTreeMap<String, Attendee> {
        let named =
            |present: &Arc<Present>| (present.member.session.clone(), present.member.clone());
        self.members().map(named).collect()
    }

    pub(super) fn count(&mut self) {
        let mut sessions_by_user = HashMap::new();
        for user in self.members().filter_map(|present| present.member.user.clone()) {
            *sessions_by_user.entry(user).or_default() += 1;
        }
        (self.sessions_by_user, self.list) = (sessions_by_user, None);
    }

    /// All that are in it, by nodes, and there in the order in which they came.
    pub(super) fn list(&mut self) -> Arc<[Listed]> {
        if let Some(list) = &self.list {
            return list.clone();
        }
        let listed = |present: &Arc<Present>| Listed {
            present: present.clone(),
            user_sessions: self.user_sessions(&present.member),
        };
        let mut list: Vec<_> = self.members().map(listed).collect();
        let place = |Listed { present, .. }: &Listed| (present.member.node.clone(), present.change);
        list.sort_by_cached_key(place);
        let list: Arc<[_]> = list.into();
        self.list = Some(list.clone());
        list
    }
}
