//! Pages of a list: how many items one has, and where the next one begins.

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

/// Reads where a page begins, `<first>.<second>`, which is opaque to clients and came as `next` of what `list` names.
pub fn read_next<T>(
    text: &str,
    list: &str,
    read: impl FnOnce(&str, &str) -> Option<T>,
) -> Result<T, Problem> {
    let place = text.split_once('.').and_then(|(first, second)| read(first, second));
    place.ok_or_else(|| bad(format!("after is not the `next` of {list}")))
}
