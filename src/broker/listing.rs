//! Which sessions of many are listed, and in which order.
//!
//! A worker looks at all of its sessions for that, on the thread that delivers. So it chooses by what costs no copy,
//! and copies those that are chosen: no more than one page has, however many there are.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SessionView;

/// Which of many, in the order of their ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Range {
    /// Those after this id.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// What sessions may be listed by, instead of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sort {
    /// How many bytes wait for them, most first.
    QueuedBytes,
    /// When they came, the longest ago first.
    Since,
}

/// Where a session stands in a list: by a number, then by its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rank {
    /// The bytes that wait for it, or the milliseconds from 1970 to when it came.
    pub value: u64,
    /// Its id.
    pub id: String,
}

/// Which of many, in another order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ranking {
    /// The order.
    pub sort: Sort,
    /// Those that come after this rank.
    pub after: Option<Rank>,
    /// At most so many.
    pub limit: usize,
}

impl Range {
    /// Those that are in the range, in the order of their ids, of what comes with its id.
    pub(super) fn pick<'a, T>(&self, all: impl Iterator<Item = (&'a str, T)>) -> Vec<T> {
        let after = self.after.as_deref();
        first(all.filter(|(id, _)| after.is_none_or(|after| *id > after)), self.limit)
    }

    /// Those of `all` that are in the range, in the order of their ids.
    pub(super) fn of<T>(&self, mut all: Vec<T>, id: impl Fn(&T) -> &str) -> Vec<T> {
        all.retain(|one| self.after.as_deref().is_none_or(|after| id(one) > after));
        all.sort_unstable_by(|a, b| id(a).cmp(id(b)));
        all.truncate(self.limit);
        all
    }
}

impl Sort {
    /// The value by which a session is listed.
    pub fn value(self, view: &SessionView) -> u64 {
        match self {
            Sort::QueuedBytes => view.queued_bytes as u64,
            Sort::Since => view.info.since_millis(),
        }
    }

    /// Where a session stands in the list.
    pub fn rank(self, view: &SessionView) -> Rank {
        Rank { value: self.value(view), id: view.info.id.to_string() }
    }

    /// What is listed first has the least of this.
    fn key(self, value: u64, id: &str) -> (u64, &str) {
        let place = match self {
            Sort::QueuedBytes => !value,
            Sort::Since => value,
        };
        (place, id)
    }
}

impl FromStr for Sort {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "queued_bytes" => Ok(Sort::QueuedBytes),
            "since" => Ok(Sort::Since),
            _ => Err(()),
        }
    }
}

impl Ranking {
    /// Those that are meant, in their order, of what comes with its value and its id.
    pub(super) fn pick<'a, T>(&self, all: impl Iterator<Item = (u64, &'a str, T)>) -> Vec<T> {
        let after = self.after.as_ref().map(|rank| self.sort.key(rank.value, &rank.id));
        let all = all.map(|(value, id, one)| (self.sort.key(value, id), one));
        first(all.filter(|(key, _)| after.is_none_or(|after| *key > after)), self.limit)
    }

    /// Those of `all` that are meant, in their order.
    pub(super) fn of(&self, all: Vec<SessionView>) -> Vec<SessionView> {
        let ranks: Vec<_> = all.iter().map(|view| self.sort.rank(view)).collect();
        let ranked = ranks.iter().zip(all);
        self.pick(ranked.map(|(rank, view)| (rank.value, rank.id.as_str(), view)))
    }
}

/// The first `limit` of these by their keys, in order.
fn first<K: Ord, T>(all: impl Iterator<Item = (K, T)>, limit: usize) -> Vec<T> {
    let mut all: Vec<_> = all.collect();
    if all.len() > limit {
        all.select_nth_unstable_by(limit, |(a, _), (b, _)| a.cmp(b));
        all.truncate(limit);
    }
    all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    all.into_iter().map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pages_of_a_ranking_are_the_whole_in_order(
            values in prop::collection::btree_map("[a-f]{3}", 0..5_u64, 0..40),
            limit in 1..8_usize,
            by_bytes in any::<bool>(),
        ) {
            let sort = if by_bytes { Sort::QueuedBytes } else { Sort::Since };
            let mut expected: Vec<_> = values.iter().map(|(id, value)| (*value, id.clone())).collect();
            expected.sort_by(|(a, id), (b, other)| match by_bytes {
                true => b.cmp(a).then(id.cmp(other)),
                false => a.cmp(b).then(id.cmp(other)),
            });
            let (mut read, mut after) = (Vec::new(), None);
            loop {
                let ranking = Ranking { sort, after, limit };
                let all = values.iter().map(|(id, value)| (*value, id.as_str(), (*value, id.clone())));
                let page = ranking.pick(all);
                prop_assert!(page.len() <= limit);
                let Some((value, id)) = page.last().cloned() else { break };
                after = Some(Rank { value, id });
                read.extend(page);
            }
            prop_assert_eq!(read, expected);
        }
    }
}
