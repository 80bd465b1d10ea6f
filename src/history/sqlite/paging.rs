//! Reading a page of events from the database, forwards or backwards.
//!
//! A page either follows the few topics that match and have changed, each along its own index, or looks
//! along the log where very many have or that is the shorter way.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::FoundBack;
use super::back_page::BackPage;
use super::page::Page;
use super::reader::{Reader, Wanted, after_prefix};
use super::rows::{RowResult, TopicRow};
use crate::model::{Event, Pattern};

/// The most topics that are followed one by one.
const FOLLOWED: usize = 2_048;

/// A page of events.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) events: Vec<Arc<Event>>,
    /// The newest number after `after` that is missing.
    pub(super) lost: Option<u64>,
    /// Where the page ends.
    pub(super) upto: u64,
}

impl Reader {
    /// The events of one page.
    pub(super) fn events(&self, wanted: &Wanted) -> RowResult<Found> {
        // Everything below sees one state of the database.
        let transaction = self.db.unchecked_transaction()?;
        let mut page = Page::new(self, wanted);
        let upto = page.fill()?;
        let lost = page.lost.max(self.floor(&wanted.patterns, wanted.after)?);
        let events = page.events;
        transaction.finish()?;
        Ok(Found { events, lost: (lost > wanted.after).then_some(lost), upto })
    }

    /// The events of one page backwards, from `upto` on and whatever `after` says, and whether some that match are missing.
    pub(super) fn events_back(&self, wanted: &Wanted) -> RowResult<(FoundBack, bool)> {
        let transaction = self.db.unchecked_transaction()?;
        let mut page = BackPage::new(self, wanted);
        match self.changed(wanted)? {
            Some(topics) => page.follow(topics)?,
            None => page.look_along()?,
        }
        let is_last = page.found.downto == 0;
        let is_missing = page.is_missing || is_last && self.has_removed(wanted)?;
        let found = page.found;
        transaction.finish()?;
        Ok((found, is_missing))
    }

    /// Whether an event that matches was, or may have been, removed after a place.
    fn has_removed(&self, wanted: &Wanted) -> RowResult<bool> {
        if self.floor(&wanted.patterns, wanted.after)? > 0 {
            return Ok(true);
        }
        let mut page = Page::new(self, wanted);
        match self.changed(wanted)? {
            Some(topics) => Ok(topics.iter().any(|topic| topic.last_removed > wanted.after)),
            None => page.lose_what_was_removed().map(|()| page.lost > 0),
        }
    }

    /// Topics that match and have had an event after a place; none where there are too many to
    /// follow.
    pub(super) fn changed(&self, wanted: &Wanted) -> RowResult<Option<Vec<TopicRow>>> {
        let mut changed: HashMap<i64, TopicRow> = HashMap::new();
        let mut wildcards = Vec::new();
        for pattern in &*wanted.patterns {
            match pattern.as_topic() {
                Some(topic) => {
                    let row = self.topic(&topic)?.filter(|row| row.last > wanted.after);
                    changed.extend(row.map(|row| (row.id, row)));
                }
                None => wildcards.push(pattern),
            }
        }
        if !wildcards.is_empty() {
            let Some(rows) = self.matching_changed(&wildcards, wanted.after)? else {
                return Ok(None);
            };
            changed.extend(rows.into_iter().map(|row| (row.id, row)));
        }
        Ok(Some(changed.into_values().collect()))
    }

    /// Changed topics that a wildcard matches, found among all that changed or, where those are too
    /// many, among all that begin as the wildcards do.
    fn matching_changed(
        &self,
        wildcards: &[&Pattern],
        after: u64,
    ) -> RowResult<Option<Vec<TopicRow>>> {
        let matches = |row: &TopicRow| wildcards.iter().any(|pattern| pattern.matches(&row.name));
        if self.are_few("last > ?1", (after as i64,))? {
            let recent = self.topics_where("last > ?1", (after as i64,))?;
            return Ok(Some(recent.into_iter().filter(matches).collect()));
        }
        let mut rows = Vec::new();
        for pattern in wildcards {
            let prefix = pattern.literal_prefix();
            let named = (prefix, after_prefix(prefix));
            if prefix.is_empty() || !self.are_few("name >= ?1 AND name < ?2", named.clone())? {
                return Ok(None);
            }
            let named = self.topics_where("name >= ?1 AND name < ?2", named)?;
            rows.extend(named.into_iter().filter(|row| row.last > after && matches(row)));
        }
        Ok(Some(rows))
    }

    /// Whether few enough topics to follow meet a condition that an index knows of.
    pub(super) fn are_few(
        &self,
        condition: &str,
        parameters: impl rusqlite::Params,
    ) -> RowResult<bool> {
        let limit = FOLLOWED + 1;
        let sql =
            format!("SELECT COUNT(*) FROM (SELECT 1 FROM topics WHERE {condition} LIMIT {limit})");
        let mut statement = self.db.prepare_cached(&sql)?;
        let count: u32 = statement.query_row(parameters, |row| row.get(0))?;
        Ok(count as usize <= FOLLOWED)
    }
}
