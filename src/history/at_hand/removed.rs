//! What is missing of a stretch of the log: of each topic the number of the last event that is kept no longer, or
//! that nobody read.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::mem;

use super::wanted::Wanted;
use crate::model::Topic;

/// How many topics are looked at for a reader who does not name his; of more, one may be his.
const LOOKED_AT: usize = 4_096;

/// What one noted topic takes of memory, about, beside its name, which is shared.
const COST: usize = 128;

/// The last missing number of each topic.
#[derive(Debug, Default)]
pub(super) struct Removed {
    numbers: HashMap<Topic, u64>,
    topics: BTreeMap<u64, Vec<Topic>>,
    /// Up to here events of any topic may be missing.
    floor: u64,
}

impl Removed {
    /// Notes that events of a topic up to a number are missing.
    pub(super) fn note(&mut self, topic: &Topic, upto: u64) {
        match self.numbers.get_mut(topic) {
            Some(last) if *last >= upto => return,
            Some(last) => {
                if let Entry::Occupied(mut topics) = self.topics.entry(mem::replace(last, upto)) {
                    topics.get_mut().retain(|other| other != topic);
                    if topics.get().is_empty() {
                        topics.remove();
                    }
                }
            }
            None => _ = self.numbers.insert(topic.clone(), upto),
        }
        self.topics.entry(upto).or_default().push(topic.clone());
    }

    /// Notes that events of any topic up to a number may be missing; what comes after them may be whole.
    pub(super) fn note_any(&mut self, upto: u64) {
        self.floor = self.floor.max(upto);
    }

    /// Forgets what is missing up to a number, from before which nobody reads.
    pub(super) fn forget(&mut self, upto: u64) {
        while let Some(first) = self.topics.first_entry()
            && *first.key() <= upto
        {
            for topic in first.remove() {
                self.numbers.remove(&topic);
            }
        }
    }

    /// Whether something that came after a number and is wanted is missing, or may be.
    pub(super) fn lacks(&self, wanted: &Wanted<'_>, after: u64) -> bool {
        self.last(wanted, after) > after
    }

    /// The last number under which something that is wanted is missing, or may be; at least this one.
    pub(super) fn last(&self, wanted: &Wanted<'_>, after: u64) -> u64 {
        let later = self.topics.range(after + 1..).rev();
        let mut later =
            later.flat_map(|(last, topics)| topics.iter().map(move |topic| (*last, topic)));
        let last = match wanted.names() {
            Some(names) if names.len() < self.numbers.len() => match later.next() {
                Some(_) => names.iter().filter_map(|name| self.numbers.get(*name)).max().copied(),
                None => None,
            },
            _ => (1..)
                .zip(later)
                .find(|(looked_at, (_, topic))| wanted.has(topic) || *looked_at == LOOKED_AT)
                .map(|(_, (last, _))| last),
        };
        last.unwrap_or(0).max(self.floor).max(after)
    }

    /// Whether it is known of which topics all is that is missing after a number.
    pub(super) fn knows_topics(&self, after: u64) -> bool {
        self.floor <= after
    }

    /// Whether something is so of each topic that is wanted and of which events after a number are missing, and of the
    /// last of these.
    pub(super) fn all_after(
        &self,
        wanted: &Wanted<'_>,
        after: u64,
        is_so: impl Fn(&Topic, u64) -> bool,
    ) -> bool {
        let later = self.topics.range(after + 1..);
        let later = later.flat_map(|(last, topics)| topics.iter().map(move |topic| (*last, topic)));
        (1..).zip(later).all(|(looked_at, (last, topic))| {
            looked_at < LOOKED_AT && (!wanted.has(topic) || is_so(topic, last))
        })
    }

    /// What all of it takes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.numbers.len() * COST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pattern;

    fn lacks(removed: &Removed, text: &str, after: u64) -> bool {
        removed.lacks(&Wanted::of(&[Pattern::parse(text).unwrap()]), after)
    }

    fn note(removed: &mut Removed, name: &str, upto: u64) {
        removed.note(&Topic::parse(name).unwrap(), upto);
    }

    #[test]
    fn of_each_topic_the_last_number_counts_in_whatever_order_they_come() {
        let mut removed = Removed::default();
        for (name, upto) in [("a.x", 5), ("b", 7), ("a.x", 9), ("a.x", 3)] {
            note(&mut removed, name, upto);
        }
        for (text, last) in [("a.x", 9), ("a.*", 9), ("b", 7), (">", 9), ("c", 0), ("c.>", 0)] {
            assert!(last == 0 || lacks(&removed, text, last - 1), "{text}");
            assert!(!lacks(&removed, text, last), "{text}");
            let wanted = [Pattern::parse(text).unwrap()];
            assert_eq!(removed.last(&Wanted::of(&wanted), 2), last.max(2), "{text}");
        }
        removed.note_any(8);
        assert!(lacks(&removed, "c", 7) && !lacks(&removed, "c", 8));
        removed.forget(8);
        assert!(lacks(&removed, "a.x", 8) && !lacks(&removed, "b", 8));
        assert_eq!(removed.bytes(), COST);
    }

    #[test]
    fn two_topics_of_one_number_are_told_apart() {
        let mut removed = Removed::default();
        note(&mut removed, "a", 5);
        note(&mut removed, "b", 5);
        note(&mut removed, "a", 6);
        assert!(lacks(&removed, "a", 5) && lacks(&removed, "b", 4) && !lacks(&removed, "b", 5));
        removed.forget(5);
        assert!(lacks(&removed, "a", 5) && !lacks(&removed, "b", 4) && !lacks(&removed, "c", 4));
    }

    #[test]
    fn among_very_many_one_is_taken_to_be_wanted() {
        let mut removed = Removed::default();
        for number in 1..=LOOKED_AT as u64 {
            assert!(!lacks(&removed, "b.*", 0), "{number}");
            note(&mut removed, &format!("a.{number}"), number);
        }
        assert!(
            lacks(&removed, "b.*", 0) && !lacks(&removed, "b.*", 1) && !lacks(&removed, "b", 0)
        );
    }
}
