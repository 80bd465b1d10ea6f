//! What is on the disk at a start and worth having at hand: the newest events, and what is missing of them.
//!
//! Read while the broker serves already, for a crowd may be waiting. Nothing is had of it where not all that is missing is
//! known by its topic, or something is not there that should be: then the log is asked, which finds out what to say.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::{Earlier, Removal};
use super::past::Past;
use super::reader::Reader;
use super::rows::{Coordinates, EventRow, LogRow, RowError, RowResult, TopicRow, integer};
use crate::model::{Cursor, Event, Topic};

/// Of how many topics at most something may be missing.
const MISSING_TOPICS: usize = 4_096;

/// Events of one topic, as they are found backwards.
struct Chain {
    topic: Topic,
    newest: u64,
    /// The number that has to come next.
    next: u64,
}

/// What was found backwards.
#[derive(Default)]
struct Back {
    /// The newest first.
    events: Vec<Arc<Event>>,
    missing: Vec<Removal>,
    chains: HashMap<i64, Chain>,
}

impl Reader {
    /// The newest events up to where the log was opened at, of about so many bytes.
    pub(super) fn earlier(&self, upto: Cursor, max_bytes: usize) -> RowResult<Option<Earlier>> {
        // Everything below sees one state of the database.
        let transaction = self.db.unchecked_transaction()?;
        let Some(log) = LogRow::of(&self.db)? else { return Ok(None) };
        let begin = Past::read(&self.db, log.past)?.known_after().max(log.floor);
        let Some(back) = self.newest_down_to(begin, upto, max_bytes)? else { return Ok(None) };
        let Back { mut events, mut missing, chains } = back;
        // Whoever has the oldest of them reads on behind it.
        let Some(after) = events.pop().and_then(|oldest| oldest.cursor) else { return Ok(None) };
        events.reverse();
        let is_whole = self.is_whole(&chains, after.sequence, upto.sequence, &mut missing)?;
        let most = i64::try_from(MISSING_TOPICS).unwrap_or(i64::MAX);
        let removed =
            self.topics_where("last_removed > ?1 LIMIT ?2", (integer(after.sequence), most))?;
        let is_known = removed.len() < MISSING_TOPICS;
        let of_topic = |row: TopicRow| removal(row.name, row.last_removed);
        missing.extend(removed.into_iter().map(of_topic));
        transaction.finish()?;
        Ok((is_whole && is_known).then_some(Earlier { after, upto, events, missing }))
    }

    /// Events after a number, from the newest on; none where one of a topic does not follow on the one before.
    fn newest_down_to(
        &self,
        begin: u64,
        upto: Cursor,
        max_bytes: usize,
    ) -> RowResult<Option<Back>> {
        let sql = format!(
            "SELECT {} FROM events WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence DESC",
            EventRow::COLUMNS
        );
        let mut statement = self.db.prepare(&sql)?;
        let mut rows = statement.query((integer(begin), integer(upto.sequence)))?;
        let (mut back, mut bytes) = (Back::default(), 0);
        while bytes < max_bytes
            && let Some(row) = rows.next()?
        {
            let coordinates = EventRow::coordinates(row)?;
            let Some(topic) = self.follow_back(&mut back, coordinates)? else { return Ok(None) };
            match EventRow::read(row, &topic, upto, &self.epochs) {
                Ok(event) => {
                    bytes += event.cost();
                    back.events.push(event);
                }
                Err(RowError::Withheld(_)) => {
                    back.missing.push(removal(topic, coordinates.sequence));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(back))
    }

    /// The topic of an event, which has to be the one before what was found of it.
    fn follow_back(&self, back: &mut Back, found: Coordinates) -> RowResult<Option<Topic>> {
        let Coordinates { sequence, topic, previous } = found;
        if let Some(chain) = back.chains.get_mut(&topic) {
            let is_next = chain.next == sequence;
            chain.next = previous;
            return Ok(is_next.then(|| chain.topic.clone()));
        }
        let name = self.topic_of(found)?.name;
        let chain = Chain { topic: name.clone(), newest: sequence, next: previous };
        back.chains.insert(topic, chain);
        Ok(Some(name))
    }

    /// Whether all was found that topics should have after one number and up to another. Of those that have gone on
    /// since, nobody knows here, and all up to there is said to be missing.
    fn is_whole(
        &self,
        chains: &HashMap<i64, Chain>,
        after: u64,
        upto: u64,
        missing: &mut Vec<Removal>,
    ) -> RowResult<bool> {
        for row in self.topics_where("last > ?1", (integer(after),))? {
            let chain = chains.get(&row.id);
            if row.last > upto {
                missing.push(removal(row.name, upto));
            } else if row.retained > 0 && chain.is_none_or(|chain| chain.newest != row.last)
                || chain.is_some_and(|chain| chain.next > after.max(row.last_removed))
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn removal(topic: Topic, upto: u64) -> Removal {
    Removal { topic: Some(topic), upto, is_superseded: true }
}
