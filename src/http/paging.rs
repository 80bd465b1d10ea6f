//! Pages of a list: how many items one has, and where the next one begins.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Query, bad};
use crate::model::Problem;

/// How many items a page is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(usize);

impl PageSize {
    /// The most items of one page.
    pub const MAX: usize = 1_000;

    /// The items of a page where no limit is asked for.
    const DEFAULT: usize = 100;

    /// What `limit` asks for.
    pub fn of(query: &Query) -> Result<Self, Problem> {
        query.limit("limit", Self::DEFAULT, Self::MAX).map(Self)
    }

    /// The most items of the page.
    pub fn items(self) -> usize {
        self.0
    }

    /// One item more than the page has, which shows whether there is a next one.
    pub fn and_one(self) -> usize {
        self.0 + 1
    }

    /// Cuts what was found to the page; whether something is left for the next one.
    pub fn cut<T>(self, found: &mut Vec<T>) -> bool {
        let is_cut = found.len() > self.0;
        found.truncate(self.0);
        is_cut
    }
}

/// One page of a list, as it is answered: `{NAME:[…],"next"?,"silent_nodes"?}`.
#[derive(Debug)]
pub struct Page<T> {
    /// What the list is called.
    pub name: &'static str,
    /// Its items, in order.
    pub items: Vec<T>,
    /// Where the next page begins; none where there is no more.
    pub next: Option<String>,
    /// How many nodes are there and did not answer, so that something may be missing.
    pub silent_nodes: usize,
}

impl<T: Serialize> Serialize for Page<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut page = serializer.serialize_map(None)?;
        page.serialize_entry(self.name, &self.items)?;
        if let Some(next) = &self.next {
            page.serialize_entry("next", next)?;
        }
        if self.silent_nodes > 0 {
            page.serialize_entry("silent_nodes", &self.silent_nodes)?;
        }
        page.end()
    }
}

/// Reads where a page begins, `<first>.<second>`, which is opaque to clients and came as `next` of what `list` names.
pub fn read_next<T>(
    text: &str,
    list: &str,
    read: impl FnOnce(&str, &str) -> Option<T>,
) -> Result<T, Problem> {
    let place = text.split_once('.').and_then(|(first, second)| read(first, second));
    place.ok_or_else(|| bad(format!("after is not the `next` of {list}")))
}
