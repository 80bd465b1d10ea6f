//! Which sessions of many are listed, and in which order.
//!
//! A worker looks at all of its sessions for that, on the thread that delivers. So it chooses by what costs no copy,
//! and copies those that are chosen: no more than one page has, however many there are.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{SessionInfo, SessionView};

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
    /// Whose they are, by name; those that are nobody's last.
    User,
    /// Where they come from, as text; those of which that is unknown last.
    Address,
}

/// What a session is listed by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value<'a> {
    /// The bytes that wait for it, or the milliseconds from 1970 to when it came.
    Number(u64),
    /// Its user or its address, if it has one.
    Name(Option<Cow<'a, str>>),
}

/// Where a session stands in a list: by a value, then by its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rank {
    /// What it is listed by.
    pub value: Value<'static>,
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

impl<'a> Value<'a> {
    fn of_name(name: Option<&'a str>) -> Self {
        Self::Name(name.map(Cow::Borrowed))
    }

    fn into_owned(self) -> Value<'static> {
        match self {
            Self::Number(number) => Value::Number(number),
            Self::Name(name) => Value::Name(name.map(|name| Cow::Owned(name.into_owned()))),
        }
    }
}

/// A number, a name behind `=`, or nothing.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(Some(name)) => write!(f, "={name}"),
            Self::Name(None) => Ok(()),
        }
    }
}

impl Sort {
    /// What a session is listed by, for which so much waits.
    pub(super) fn value(self, info: &SessionInfo, queued_bytes: usize) -> Value<'_> {
        match self {
            Sort::QueuedBytes => Value::Number(queued_bytes as u64),
            Sort::Since => Value::Number(info.since_millis()),
            Sort::User => Value::of_name(info.user()),
            Sort::Address => Value::of_name(info.address.as_deref()),
        }
    }

    /// Where a session stands in the list.
    pub fn rank(self, view: &SessionView) -> Rank {
        let value = self.value(&view.info, view.queued_bytes).into_owned();
        Rank { value, id: view.info.id.to_string() }
    }

    /// Reads a value of this list as it is written.
    pub fn parse_value(self, text: &str) -> Option<Value<'static>> {
        match self {
            Sort::QueuedBytes | Sort::Since => text.parse().ok().map(Value::Number),
            Sort::User | Sort::Address if text.is_empty() => Some(Value::Name(None)),
            Sort::User | Sort::Address => {
                text.strip_prefix('=').map(|name| Value::Name(Some(Cow::Owned(name.to_owned()))))
            }
        }
    }

    /// What is listed first has the least of this.
    fn key<'a>(self, value: Value<'a>, id: &'a str) -> (bool, Value<'a>, &'a str) {
        let has_none = value == Value::Name(None);
        match value {
            Value::Number(number) if self == Sort::QueuedBytes => {
                (has_none, Value::Number(!number), id)
            }
            value => (has_none, value, id),
        }
    }
}

impl FromStr for Sort {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "queued_bytes" => Ok(Sort::QueuedBytes),
            "since" => Ok(Sort::Since),
            "user" => Ok(Sort::User),
            "address" => Ok(Sort::Address),
            _ => Err(()),
        }
    }
}

impl Ranking {
    /// Those that are meant, in their order, of what comes with its value and its id.
    pub(super) fn pick<'a, T>(&self, all: impl Iterator<Item = (Value<'a>, &'a str, T)>) -> Vec<T> {
        let after = self.after.as_ref();
        let after = after.map(|rank| self.sort.key(rank.value.clone(), &rank.id));
        let all = all.map(|(value, id, one)| (self.sort.key(value, id), one));
        first(all.filter(|(key, _)| after.as_ref().is_none_or(|after| key > after)), self.limit)
    }

    /// Those of `all` that are meant, in their order.
    pub(super) fn of(&self, all: Vec<SessionView>) -> Vec<SessionView> {
        let ranks: Vec<_> = all.iter().map(|view| self.sort.rank(view)).collect();
        let ranked = ranks.iter().zip(all);
        self.pick(ranked.map(|(rank, view)| (rank.value.clone(), rank.id.as_str(), view)))
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

    fn value(sort: Sort, number: u64) -> Value<'static> {
        match sort {
            Sort::QueuedBytes | Sort::Since => Value::Number(number),
            Sort::User | Sort::Address => {
                Value::Name(number.checked_sub(1).map(|n| n.to_string().into()))
            }
        }
    }

    proptest! {
        #[test]
        fn pages_of_a_ranking_are_the_whole_in_order(
            values in prop::collection::btree_map("[a-f]{3}", 0..5_u64, 0..40),
            limit in 1..8_usize,
            sort in prop::sample::select(vec![Sort::QueuedBytes, Sort::Since, Sort::User, Sort::Address]),
        ) {
            let mut expected: Vec<_> = values.iter().map(|(id, value)| (*value, id.clone())).collect();
            expected.sort_by(|(a, id), (b, other)| match sort {
                Sort::QueuedBytes => b.cmp(a).then(id.cmp(other)),
                Sort::Since => a.cmp(b).then(id.cmp(other)),
                // Nobody's are last.
                Sort::User | Sort::Address => (*a == 0, a, id).cmp(&(*b == 0, b, other)),
            });
            let (mut read, mut after) = (Vec::new(), None);
            loop {
                let ranking = Ranking { sort, after, limit };
                let all = values.iter().map(|(id, number)| {
                    (value(sort, *number), id.as_str(), (*number, id.clone()))
                });
                let page = ranking.pick(all);
                prop_assert!(page.len() <= limit);
                let Some((number, id)) = page.last().cloned() else { break };
                let written = value(sort, number).to_string();
                let value = sort.parse_value(&written).expect("a value");
                // As other nodes are asked for it.
                let rank = serde_json::to_string(&Rank { value, id }).expect("JSON");
                after = Some(serde_json::from_str(&rank).expect("a rank"));
                read.extend(page);
            }
            prop_assert_eq!(read, expected);
        }
    }
}
