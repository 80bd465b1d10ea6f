//! A set that is small where most are.
//!
//! Most topics have a handful of subscribers and most sessions a handful of patterns, but a few have
//! thousands. Up to [`FEW`] members are a plain vector, which is smaller and faster than a hash set;
//! beyond that it is an index set, which still iterates as fast as a vector.

use std::hash::Hash;

use indexmap::IndexSet;

/// The most members that are looked for one by one.
const FEW: usize = 16;

/// A set of sessions, workers or patterns, in no order that anyone may rely on.
#[derive(Debug, Clone)]
pub enum Members<T> {
    /// One behind the other.
    Few(Vec<T>),
    /// Hashed.
    Many(Box<IndexSet<T>>),
}

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<T: Eq + Hash> Members<T> {
    /// Returns false if it was a member already.
    pub fn insert(&mut self, member: T) -> bool {
        match self {
            Self::Few(few) if few.contains(&member) => false,
            Self::Few(few) if few.len() < FEW => {
                if few.is_empty() {
                    // Most sets have one member and stay that way.
                    few.reserve_exact(1);
                }
                few.push(member);
                true
            }
            Self::Few(few) => {
                let mut many: IndexSet<T> = std::mem::take(few).into_iter().collect();
                many.insert(member);
                *self = Self::Many(Box::new(many));
                true
            }
            Self::Many(many) => many.insert(member),
        }
    }

    /// Returns false if it was no member.
    pub fn remove(&mut self, member: &T) -> bool {
        match self {
            Self::Few(few) => match few.iter().position(|other| other == member) {
                Some(at) => {
                    few.swap_remove(at);
                    true
                }
                None => false,
            },
            Self::Many(many) => {
                let removed = many.swap_remove(member);
                // Half of the threshold, so that one member coming and going does not convert it
                // each time.
                if many.len() <= FEW / 2 {
                    *self = Self::Few(std::mem::take(&mut **many).into_iter().collect());
                }
                removed
            }
        }
    }

    /// Whether it is a member.
    pub fn contains(&self, member: &T) -> bool {
        match self {
            Self::Few(few) => few.contains(member),
            Self::Many(many) => many.contains(member),
        }
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Visits each member.
    pub fn each(&self, visit: impl FnMut(&T)) {
        match self {
            Self::Few(few) => few.iter().for_each(visit),
            Self::Many(many) => many.iter().for_each(visit),
        }
    }

    /// The members.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few.iter()), None),
            Self::Many(many) => (None, Some(many.iter())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn it_behaves_as_a_hash_set_across_the_threshold(steps in prop::collection::vec((any::<bool>(), 0..40_u8), 0..300)) {
            let (mut members, mut model) = (Members::default(), HashSet::new());
            for (insert, value) in steps {
                if insert {
                    prop_assert_eq!(members.insert(value), model.insert(value));
                } else {
                    prop_assert_eq!(members.remove(&value), model.remove(&value));
                }
                prop_assert_eq!(members.len(), model.len());
                prop_assert_eq!(members.iter().copied().collect::<HashSet<_>>(), model.clone());
            }
        }
    }
}
