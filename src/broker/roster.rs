//! Who is in the topics that this node's sessions ask about, over all nodes.
//!
//! Pure state. A list is asked of all nodes once somebody wants to know, and from there on kept by the changes
//! that are told in the feed. Each node numbers its own: so what is in a list already is not counted again, and
//! a change that is missing is known. All that is told of a topic comes by here, in the order in which it goes on to sessions.

mod room;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::mem;
use std::sync::Arc;

pub use self::room::Listed;
use self::room::{Part, Room, Taken, Word};
use super::{Attending, RoomVersion};
use crate::model::{Event, Pattern, Present, Topic};

/// How many patterns and topics are asked about at a time.
const ASKED: usize = 1_024;

/// How many changes are noted while it is asked; with more, it is asked again.
const NOTED: usize = 65_536;

/// How many nodes are remembered as gone.
const LOST_NODES: usize = 1_024;

/// How many changes each node has told.
pub(super) type ChangesByNode = HashMap<String, u64>;

/// Who is in which topic. Topics are known by those where it is told who is in them.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// The topics that somebody of this node wants to know of, and whether that is known.
    named: BTreeMap<Pattern, bool>,
    /// The same of patterns with wildcards: how many changes each node had told when it was asked.
    wild: BTreeMap<Pattern, Option<Arc<ChangesByNode>>>,
    rooms: BTreeMap<Topic, Room>,
    /// Topics of which a change is missing.
    broken: HashSet<Topic>,
    /// Nodes that are gone: what is still on its way from them is about nobody.
    lost_nodes: BTreeSet<String>,
    inquiry: Option<Inquiry>,
}

/// A question that is under way.
#[derive(Debug)]
struct Inquiry {
    patterns: Vec<Pattern>,
    /// What was told meanwhile.
    noted: HashMap<Topic, Vec<Word>>,
    count: usize,
}

/// The members of some topics at one place of the feed.
#[derive(Debug, Clone)]
pub struct Roll {
    patterns: Arc<[Pattern]>,
    rooms: Vec<Arc<[Listed]>>,
}

/// What all nodes answered: how many changes each had told when it was asked first, and who is there.
#[derive(Debug, Default)]
pub(super) struct InquiryAnswer {
    pub(super) changes_by_node: ChangesByNode,
    pub(super) members: Vec<Present>,
    /// Whether no node that is there was silent.
    pub(super) is_whole: bool,
}

/// What is to be done with what a notice says.
#[derive(Debug)]
pub(super) enum Folded {
    /// It goes on as it is.
    AsItIs,
    /// This goes on in its place, which says more.
    As(Arc<Event>),
    /// It is in what was told already.
    Known,
    /// It comes after one that is missing.
    Missing,
}

impl Roll {
    /// That nobody is in any of these.
    #[cfg(test)]
    pub fn of_nobody(patterns: Arc<[Pattern]>) -> Self {
        Self { patterns, rooms: Vec::new() }
    }

    /// Whether it was asked for by this very pattern.
    pub fn is_of(&self, pattern: &Pattern) -> bool {
        self.patterns.contains(pattern)
    }

    /// Whether it holds the members of a topic, known by the one where it is told of them.
    pub fn covers(&self, room: &Topic) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(room))
    }

    /// All of them.
    pub fn members(&self) -> impl Iterator<Item = &Listed> {
        self.rooms.iter().flat_map(|room| room.iter())
    }
}

impl Roster {
    /// Somebody wants to know who is in the topics of a pattern.
    pub(super) fn follow(&mut self, pattern: &Pattern) {
        if pattern.is_presence() {
            match is_named(pattern) {
                true => _ = self.named.insert(pattern.clone(), false),
                false => _ = self.wild.insert(pattern.clone(), None),
            }
        }
    }

    /// Nobody does any more; false where nobody did before.
    pub(super) fn unfollow(&mut self, pattern: &Pattern) -> bool {
        let is_gone = self.named.remove(pattern).is_some() || self.wild.remove(pattern).is_some();
        if is_gone {
            let mut rooms = mem::take(&mut self.rooms);
            rooms.retain(|room, _| !pattern.matches(room) || self.follows(room));
            self.rooms = rooms;
            let mut broken = mem::take(&mut self.broken);
            broken.retain(|room| self.rooms.contains_key(room));
            self.broken = broken;
            if let Some(inquiry) = &mut self.inquiry {
                inquiry.patterns.retain(|asked| asked != pattern);
            }
        }
        is_gone
    }

    /// Whether somebody wants to know of anything.
    pub(super) fn is_idle(&self) -> bool {
        self.named.is_empty() && self.wild.is_empty()
    }

    fn follows(&self, room: &Topic) -> bool {
        self.named.contains_key(room.as_str()) || self.wild.keys().any(|one| one.matches(room))
    }

    /// Whether the list of a topic is known, though a change of it may be missing.
    fn is_listed(&self, room: &Topic) -> bool {
        self.named.get(room.as_str()).is_some_and(|is_known| *is_known)
            || self.wild.iter().any(|(one, known)| known.is_some() && one.matches(room))
    }

    /// Whether it is known who is in all topics of these patterns. Of what nobody follows there is nothing to know.
    pub(super) fn knows(&self, patterns: &[Pattern]) -> bool {
        let is_known = |one: &Pattern| {
            self.named.get(one).is_none_or(|is_known| *is_known)
                && self.wild.get(one).is_none_or(Option::is_some)
        };
        patterns.iter().all(is_known)
            && !self.broken.iter().any(|room| patterns.iter().any(|one| one.matches(room)))
    }

    /// Who is in the topics of these patterns; none where that is not known.
    pub(super) fn roll(&mut self, patterns: Arc<[Pattern]>) -> Option<Roll> {
        if !self.knows(&patterns) {
            return None;
        }
        let mut rooms = Vec::new();
        match patterns.iter().all(is_named) {
            true => {
                for pattern in patterns.iter().collect::<BTreeSet<_>>() {
                    rooms.extend(self.rooms.get_mut(pattern.as_str()).map(Room::list));
                }
            }
            false => {
                let is_meant = |room: &Topic| patterns.iter().any(|one| one.matches(room));
                let meant = self.rooms.iter_mut().filter(|(room, _)| is_meant(room));
                rooms.extend(meant.map(|(_, room)| room.list()));
            }
        }
        Some(Roll { patterns, rooms })
    }

    /// Takes what the feed tells of a topic.
    pub(super) fn fold(&mut self, event: &Arc<Event>) -> Folded {
        let room = &event.topic;
        if self.is_idle() || !self.follows(room) {
            return Folded::AsItIs;
        }
        let Some(word) = Word::read(event) else { return Folded::AsItIs };
        if self.lost_nodes.contains(word.node()) {
            return Folded::Known;
        }
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.note(room, &word);
        }
        if !self.is_listed(room) || self.broken.contains(room) {
            return Folded::AsItIs;
        }
        let wild = &self.wild;
        let listed = self.rooms.entry(room.clone()).or_insert_with(|| {
            let mut known = wild.iter().filter(|(one, _)| one.matches(room));
            let known = known.find_map(|(_, known)| known.as_deref());
            Room::nobody(known.into_iter().flatten())
        });
        match listed.take(&word) {
            Taken::Old => Folded::Known,
            Taken::New => listed.tell(event, word),
            Taken::Missing => {
                self.broken.insert(room.clone());
                Folded::Missing
            }
        }
    }

    /// What is to be asked of all nodes; none where nothing is. What is told from here on is noted.
    pub(super) fn begin_inquiry(&mut self) -> Option<Vec<Pattern>> {
        let named = self.named.iter().filter(|(_, is_known)| !**is_known).map(|(one, _)| one);
        let wild = self.wild.iter().filter(|(_, known)| known.is_none()).map(|(one, _)| one);
        let broken = self.broken.iter().map(Pattern::from);
        let patterns = named.chain(wild).cloned().chain(broken).take(ASKED).collect();
        self.inquire(patterns)
    }

    /// The same, about these topics.
    pub(super) fn inquire(&mut self, patterns: Vec<Pattern>) -> Option<Vec<Pattern>> {
        if patterns.is_empty() {
            return None;
        }
        self.inquiry =
            Some(Inquiry { patterns: patterns.clone(), noted: HashMap::new(), count: 0 });
        Some(patterns)
    }

    /// Takes what was answered; the topics of which it turned out that changes were missed, where that is news.
    pub(super) fn end_inquiry(&mut self, heard: InquiryAnswer) -> Vec<Topic> {
        let Some(Inquiry { patterns, mut noted, count }) = self.inquiry.take() else {
            return Vec::new();
        };
        if count > NOTED {
            // Some were not noted.
            return Vec::new();
        }
        self.lost_nodes.retain(|node| !heard.changes_by_node.contains_key(node));
        let mut anew: HashMap<Topic, Room> = HashMap::new();
        for present in heard.members {
            let Some(room) = present.member.topic.presence() else { continue };
            let part = anew.entry(room).or_default().parts.entry(present.member.node.clone());
            part.or_default().members.insert(present.member.session.clone(), Arc::new(present));
        }
        let is_meant = |room: &&Topic| patterns.iter().any(|one| one.matches(room));
        let mut rooms: BTreeSet<_> = self.rooms.keys().filter(is_meant).cloned().collect();
        rooms.extend(anew.keys().chain(noted.keys()).filter(is_meant).cloned());
        rooms.extend(patterns.iter().filter_map(Pattern::as_topic));
        let mut missed = Vec::new();
        for name in rooms {
            if !self.follows(&name) {
                continue;
            }
            let mut room = anew.remove(&name).unwrap_or_default();
            for (node, changes) in &heard.changes_by_node {
                room.parts.entry(node.clone()).or_default().number = *changes;
            }
            let old = self.rooms.remove(&name).unwrap_or_default();
            let was_known = self.is_listed(&name) && !self.broken.remove(&name);
            let was = if was_known { old.sessions() } else { BTreeMap::new() };
            if !heard.is_whole {
                let silent = |(node, _): &(String, Part)| !heard.changes_by_node.contains_key(node);
                room.parts.extend(old.parts.into_iter().filter(silent));
            }
            for word in noted.remove(&name).unwrap_or_default() {
                if let Taken::Missing = room.take(&word) {
                    self.broken.insert(name.clone());
                }
            }
            if was_known && was != room.sessions() {
                missed.push(name.clone());
            }
            room.count();
            self.rooms.insert(name, room);
        }
        self.note_known(&patterns, heard.changes_by_node);
        missed
    }

    /// Notes that what these patterns match is known, as of so many changes of each node.
    fn note_known(&mut self, patterns: &[Pattern], changes_by_node: ChangesByNode) {
        let changes_by_node = Arc::new(changes_by_node);
        for pattern in patterns {
            if let Some(is_known) = self.named.get_mut(pattern) {
                *is_known = true;
            }
            if let Some(known) = self.wild.get_mut(pattern) {
                *known = Some(changes_by_node.clone());
            }
        }
    }

    /// Nothing was answered: it is to be asked again.
    pub(super) fn cancel_inquiry(&mut self) {
        self.inquiry = None;
    }

    /// The nodes of which something is known.
    pub(super) fn nodes(&self) -> BTreeSet<String> {
        self.rooms.values().flat_map(|room| room.parts.keys().cloned()).collect()
    }

    /// Nodes are gone, and whoever was there with them; the topics that this changes.
    pub(super) fn lose_nodes(&mut self, gone: &BTreeSet<String>) -> Vec<Topic> {
        self.lost_nodes.extend(gone.iter().cloned());
        while self.lost_nodes.len() > LOST_NODES {
            self.lost_nodes.pop_first();
        }
        let mut changed = Vec::new();
        for (name, room) in &mut self.rooms {
            let was = room.len();
            room.parts.retain(|node, _| !gone.contains(node));
            if room.len() != was {
                room.count();
                changed.push(name.clone());
            }
        }
        changed
    }

    /// All that is followed, in pieces that are to be asked about together.
    pub(super) fn followed(&self) -> Vec<Vec<Pattern>> {
        let all: Vec<_> = self.named.keys().chain(self.wild.keys()).cloned().collect();
        all.chunks(ASKED).map(<[_]>::to_vec).collect()
    }

    /// How far behind this list is of what nodes say of the topics that they were asked about: by topic and node, the
    /// newest change that is known here where a newer one was told, or where nobody is there any more.
    pub(super) fn behind(
        &self,
        pages: &[Attending<RoomVersion>],
        is_asked: impl Fn(&Topic) -> bool,
    ) -> HashMap<(Topic, String), u64> {
        let mut behind = HashMap::new();
        for Attending { node, found, .. } in pages {
            let known = |room: &Topic| self.rooms.get(room)?.parts.get(node);
            let found = found.iter().filter(|state| is_asked(&state.room));
            let changes: HashMap<_, _> = found.map(|state| (&state.room, state.change)).collect();
            for (room, change) in &changes {
                let number = known(room).map_or(0, |part| part.number);
                if self.is_listed(room) && number < *change {
                    behind.insert(((*room).clone(), node.clone()), number);
                }
            }
            let others = self.rooms.keys().filter(|room| !changes.contains_key(room));
            for room in others.filter(|room| is_asked(room)) {
                if let Some(part) = known(room).filter(|part| !part.members.is_empty()) {
                    behind.insert((room.clone(), node.clone()), part.number);
                }
            }
        }
        behind
    }

    /// Forgets topics that nobody has been in since this was called last, and that nobody names, so that those that
    /// come and go do not pile up.
    pub(super) fn forget_empty(&mut self) {
        let named = &self.named;
        self.rooms.retain(|name, room| {
            let was_quiet = mem::replace(&mut room.is_quiet, true);
            !was_quiet || named.contains_key(name.as_str()) || room.len() > 0
        });
    }
}

impl Inquiry {
    fn note(&mut self, room: &Topic, word: &Word) {
        if self.patterns.iter().any(|pattern| pattern.matches(room)) {
            self.count += 1;
            if self.count <= NOTED {
                self.noted.entry(room.clone()).or_default().push(word.clone());
            }
        }
    }
}

fn is_named(pattern: &Pattern) -> bool {
    pattern.literal_prefix() == pattern.as_str()
}

#[cfg(test)]
mod tests;
