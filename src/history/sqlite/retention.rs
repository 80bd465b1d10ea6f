//! Removing what is over the bounds of a topic's rule or of all topics together, some with each
//! transaction, oldest first.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::super::Removal;
use super::super::clock_steps::ClockSteps;
use super::removable::Removable;
use super::rows::{LogRow, RowResult, TopicRow, collect, integer};
use super::stays::Spared;
use crate::config::{Rule, Rules};
use crate::model::{Timestamp, Topic};

/// How many events one transaction removes beside as many as it adds.
pub(super) const REMOVED_AT_A_TIME: usize = 512;

/// The topics that one transaction has to do with, written at its end.
#[derive(Default)]
pub(super) struct Topics {
    pub(super) rows: HashMap<i64, TopicRow>,
    pub(super) ids: HashMap<Topic, i64>,
    /// Those of which events were removed.
    shortened: HashSet<i64>,
}

impl Topics {
    /// The row of a topic; none where nobody used it.
    pub(super) fn named(
        &mut self,
        db: &Connection,
        name: &Topic,
    ) -> RowResult<Option<&mut TopicRow>> {
        if let Some(id) = self.ids.get(name) {
            return Ok(self.rows.get_mut(id));
        }
        Ok(TopicRow::named(db, name)?.map(|row| self.insert(row)))
    }

    /// The row of the topic with this id.
    pub(super) fn numbered(
        &mut self,
        db: &Connection,
        id: i64,
    ) -> RowResult<Option<&mut TopicRow>> {
        if !self.rows.contains_key(&id) {
            return Ok(TopicRow::numbered(db, id)?.map(|row| self.insert(row)));
        }
        Ok(self.rows.get_mut(&id))
    }

    /// What was removed, as it is to be told.
    pub(super) fn removed(&self) -> impl Iterator<Item = Removal> + '_ {
        let rows = self.shortened.iter().filter_map(|id| self.rows.get(id));
        rows.map(|row| Removal {
            topic: Some(row.name.clone()),
            upto: row.last_removed,
            is_superseded: row.retained > 0,
        })
    }

    pub(super) fn insert(&mut self, row: TopicRow) -> &mut TopicRow {
        self.ids.insert(row.name.clone(), row.id);
        self.rows.entry(row.id).insert_entry(row).into_mut()
    }
}

/// How far the events of all rules with one age have been looked at.
#[derive(Debug, Clone)]
pub(super) struct Expiry {
    pub(super) max_age: Duration,
    pub(super) looked_at: u64,
}

impl Expiry {
    /// Events from before this moment are too old.
    fn before(&self, now: SystemTime) -> i64 {
        Timestamp::from(now).millis() - i64::try_from(self.max_age.as_millis()).unwrap_or(i64::MAX)
    }

    /// Whether the next event to look at is old enough for that.
    pub(super) fn is_due(
        &self,
        db: &Connection,
        steps: &ClockSteps,
        now: SystemTime,
    ) -> rusqlite::Result<bool> {
        let mut next = db.prepare_cached(
            "SELECT sequence, time FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT 1",
        )?;
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?));
        let next: Option<(u64, i64)> = next.query_row((self.looked_at as i64,), read).optional()?;
        let aged = next.map(|(sequence, date)| steps.aged(sequence, date));
        Ok(aged.is_some_and(|aged| aged < self.before(now)))
    }
}

/// What is kept of the broker's own state, outside the bound on all topics together.
pub(super) struct OwnTopics {
    topics: Vec<i64>,
    /// What it costs.
    pub(super) bytes: u64,
}

impl OwnTopics {
    /// As the database has it; `topics` are those that a transaction has yet to write.
    pub(super) fn read(db: &Connection, topics: &Topics) -> RowResult<Self> {
        let mut rows = TopicRow::all_where(db, "name >= '$sys.' AND name < '$sys/'", ())?;
        rows.retain(|row| row.name.is_state());
        let bytes = rows.iter().map(|row| topics.rows.get(&row.id).unwrap_or(row).bytes);
        Ok(Self { bytes: bytes.sum(), topics: rows.iter().map(|row| row.id).collect() })
    }
}

/// The removing side of one transaction.
pub(super) struct Removing<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) log: &'a mut LogRow,
    pub(super) topics: &'a mut Topics,
    pub(super) spared: &'a mut Spared,
    /// How many events may still be removed.
    pub(super) left: usize,
}

impl Removing<'_> {
    /// Removes what is over the bounds of the topics that were added to.
    pub(super) fn over_bounds(&mut self, rules: &Rules) -> RowResult<()> {
        let names: Vec<_> = self.topics.ids.iter().map(|(name, id)| (name.clone(), *id)).collect();
        for (name, id) in names {
            let rule = rules.of(&name);
            while self.left > 0
                && let Some(surplus) = self.topics.rows.get(&id).and_then(|row| surplus(row, rule))
            {
                if self.remove_oldest(id, surplus.min(self.left))? == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Removes the oldest events of all until they cost no more than their bound and `excess` bytes of them
    /// are gone; the broker's own state is not among them, nor what stays. For an excess no more than three
    /// quarters of the bound go: what else the database has may be keys, which are never forgotten early.
    pub(super) fn over_all(&mut self, rules: &Rules, max_bytes: u64, excess: u64) -> RowResult<()> {
        if self.others() <= max_bytes && excess == 0 {
            return Ok(());
        }
        let state = OwnTopics::read(self.transaction, self.topics)?;
        let (before, least) = (self.others(), max_bytes / 4);
        let excess = excess.saturating_sub(state.bytes);
        let is_over = |bytes: u64| {
            bytes > max_bytes + state.bytes || (before - bytes < excess && bytes > least)
        };
        while self.left > 0 && is_over(self.others()) {
            self.spared.skip(self.transaction)?;
            let sql = format!(
                "SELECT {} FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT 2",
                Removable::COLUMNS
            );
            let spared = integer(self.spared.upto);
            let oldest = collect(self.transaction, &sql, (spared,), Removable::read)?;
            // The newest event of all is kept however large it is.
            let [oldest, _] = &oldest[..] else { return Ok(()) };
            if state.topics.contains(&oldest.topic) || self.lets_stay(oldest, rules)? {
                self.spared.upto = oldest.sequence;
                self.left -= 1;
            } else {
                self.remove(oldest)?;
            }
        }
        Ok(())
    }

    /// Removes what is older than its topic's rule says, along the log.
    pub(super) fn too_old(
        &mut self,
        rules: &Rules,
        expiry: &mut Expiry,
        steps: &ClockSteps,
        now: SystemTime,
    ) -> RowResult<()> {
        if !expiry.is_due(self.transaction, steps, now)? {
            return Ok(());
        }
        let before = expiry.before(now);
        let sql = format!(
            "SELECT {} FROM events WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
            Removable::COLUMNS
        );
        let parameters = (expiry.looked_at as i64, REMOVED_AT_A_TIME as i64);
        let candidates = collect(self.transaction, &sql, parameters, Removable::read)?;
        for event in candidates {
            let aged = steps.aged(event.sequence, event.time);
            if self.left == 0 || aged >= before {
                break;
            }
            let topic = self.topics.numbered(self.transaction, event.topic)?;
            if topic.is_some_and(|topic| rules.of(&topic.name).max_age == expiry.max_age)
                && !self.lets_stay(&event, rules)?
            {
                self.remove(&event)?;
            }
            expiry.looked_at = event.sequence;
        }
        Ok(())
    }

    /// Removes events of one topic up to a number.
    pub(super) fn forget(&mut self, name: &Topic, upto: u64) -> RowResult<()> {
        let Some(topic) = self.topics.named(self.transaction, name)? else { return Ok(()) };
        let sql = format!(
            "SELECT {} FROM events WHERE topic = ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3",
            Removable::COLUMNS
        );
        let parameters = (topic.id, upto as i64, self.left as i64);
        for event in collect(self.transaction, &sql, parameters, Removable::read)? {
            self.remove(&event)?;
        }
        Ok(())
    }

    fn remove_oldest(&mut self, topic: i64, count: usize) -> RowResult<usize> {
        let sql = format!(
            "SELECT {} FROM events WHERE topic = ?1 ORDER BY sequence LIMIT ?2",
            Removable::COLUMNS
        );
        let oldest = collect(self.transaction, &sql, (topic, count as i64), Removable::read)?;
        for event in &oldest {
            self.remove(event)?;
        }
        Ok(oldest.len())
    }

    /// Lets an event stay where its topic's rule says so; whether it does.
    fn lets_stay(&mut self, event: &Removable, rules: &Rules) -> RowResult<bool> {
        let Self { transaction, topics, spared, .. } = self;
        match topics.numbered(transaction, event.topic)? {
            Some(topic) => spared.lets_stay(transaction, event, topic, rules),
            None => Ok(false),
        }
    }

    /// Removes what stayed for being the newest of its topic, and is that no longer.
    pub(super) fn replaced(&mut self, sequence: u64) -> RowResult<()> {
        if self.spared.has(self.transaction, sequence)?
            && let Some(event) = Removable::at(self.transaction, sequence)?
        {
            self.remove(&event)?;
        }
        Ok(())
    }

    /// Removes the oldest of what stays where that is too much.
    pub(super) fn over_stays(&mut self) -> RowResult<()> {
        while self.left > 0
            && let Some(sequence) = self.spared.surplus(self.transaction)?
        {
            match Removable::at(self.transaction, sequence)? {
                Some(event) => self.remove(&event)?,
                None => self.spared.is_gone(self.transaction, sequence)?,
            }
        }
        Ok(())
    }

    /// What is kept beside what stays costs.
    fn others(&self) -> u64 {
        self.log.bytes.saturating_sub(self.spared.bytes)
    }

    fn remove(&mut self, event: &Removable) -> RowResult<()> {
        self.spared.is_gone(self.transaction, event.sequence)?;
        let deleted = self
            .transaction
            .prepare_cached("DELETE FROM events WHERE sequence = ?1")?
            .execute((event.sequence as i64,))?;
        self.left = self.left.saturating_sub(1);
        if deleted == 0 {
            return Ok(());
        }
        let Some(topic) = self.topics.numbered(self.transaction, event.topic)? else {
            return Ok(());
        };
        let cost = event.cost(topic);
        topic.last_removed = topic.last_removed.max(event.sequence);
        topic.retained = topic.retained.saturating_sub(1);
        topic.bytes = topic.bytes.saturating_sub(cost);
        self.log.bytes = self.log.bytes.saturating_sub(cost);
        self.topics.shortened.insert(event.topic);
        Ok(())
    }
}

/// How many of a topic's oldest events to remove next; none where it is within its bounds. One event
/// is kept however large it is, and where bytes decide they go one by one.
fn surplus(topic: &TopicRow, rule: &Rule) -> Option<usize> {
    let is_over = topic.retained > rule.max_events as u64 || topic.bytes > rule.max_bytes as u64;
    let retained = topic.retained as usize;
    (is_over && retained > 1)
        .then(|| retained.saturating_sub(rule.max_events).clamp(1, retained - 1))
}
