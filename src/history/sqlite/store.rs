//! What the writer does to the database: one transaction for a group of publishes and whatever
//! retention is due with it.

mod surplus;

use std::mem;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::super::Removal;
use super::super::clock_steps::ClockSteps;
use super::super::rules::InMemory;
use super::super::terms::Standing;
use super::adding::Adding;
use super::convert;
use super::epochs::KEPT_APART;
use super::failure::Failure;
use super::legacy;
use super::open::{Directory, OpenError};
use super::past::Past;
use super::retention::{Expiry, OwnTopics, REMOVED_AT_A_TIME, Removing, Topics};
use super::rows::{
    EndingRow, EventRow, LogRow, ReceiptRow, RowError, RowResult, TopicRow, collect, integer,
    number,
};
use super::space::Bounds;
use super::stays::Spared;
use super::verify::{corrupt, verify};
use crate::config::{self, Rules, Storage};
use crate::model::{Cursor, Event, LogName, Topic};

/// How many numbers are reserved ahead, so that those of events that are kept in memory alone are
/// not given again after a restart.
pub(super) const RESERVED_AHEAD: u64 = 1 << 20;

/// How many topics without events keep the number of their last removed event to themselves.
const EMPTIED_TOPICS: u32 = 10_000;

/// How much longer a key is on the disk than it is remembered, where it is forgotten early: it is dated a little before.
const DATED_BEFORE: Duration = Duration::from_secs(60);

/// How many events one transaction removes where there is hardly any space for it.
pub(super) const REMOVED_ON_A_FULL_DISK: usize = 32;

/// What one transaction adds.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Events of topics on disk, in order.
    pub(super) events: Vec<Arc<Event>>,
    /// Results to remember.
    pub(super) receipts: Vec<ReceiptRow>,
    /// The newest number given to any event, kept or not.
    pub(super) last: u64,
    /// Where the clock went back so far.
    pub(super) steps: ClockSteps,
    /// For how long keys are remembered now, where that is not their whole window.
    pub(super) window: Option<Duration>,
}

/// The database, as its one writer has it.
pub(super) struct Store {
    pub(super) db: Connection,
    log: LogRow,
    past: Past,
    rules: Rules,
    pub(super) max: Bounds,
    receipts_window: Duration,
    expiries: Vec<Expiry>,
    spared: Spared,
    /// This start made the log, so that no number of it was ever given.
    is_new: bool,
    /// What was removed and is to be told.
    removed: Vec<Removal>,
}

impl Store {
    /// Opens the database, checks it, and makes it ready to be added to.
    pub(super) fn open(
        directory: &Directory,
        config: &config::History,
        rules: &Rules,
    ) -> Result<Self, OpenError> {
        let damaged = |error: RowError| directory.unusable(error);
        let mut db = directory.writer(config.fsync)?;
        verify(&db).map_err(damaged)?;
        let (log, past, is_new) = load_or_create(&mut db).map_err(damaged)?;
        let ages = rules.ages().into_iter();
        let expiries = ages.map(|max_age| Expiry { max_age, looked_at: 0 }).collect();
        let spared = Spared::read(&db, config, rules).map_err(damaged)?;
        Ok(Self {
            db,
            log,
            past,
            rules: rules.clone(),
            max: Bounds::new(config),
            receipts_window: config.idempotency_window,
            expiries,
            spared,
            is_new,
            removed: Vec::new(),
        })
    }

    /// Lets the file shrink from now on, where an older release made it and there is room for that.
    pub(super) fn convert(&self, directory: &Directory) -> RowResult<()> {
        convert::convert(&self.db, directory)
    }

    pub(super) fn log(&self) -> &LogRow {
        &self.log
    }

    /// What the log knows of its past, as far as that is stored.
    pub(super) fn past(&self) -> &Past {
        &self.past
    }

    /// Begins an epoch, and to give numbers above all that were ever given. Where it is proven that events
    /// up to `lost` were acknowledged and are missing, every place before is a gap.
    /// Returns the number above which new ones begin.
    pub(super) fn begin(&mut self, lost: Option<u64>) -> Result<u64, Failure> {
        let (mut log, mut past) = (self.log.clone(), self.past.clone());
        let begins_after = log.reserved.max(lost.unwrap_or(0));
        let rules = InMemory::of(&self.rules);
        if begins_after > 0 || !self.is_new {
            if past.memories.is_empty() {
                // An earlier release knew no more than whether its rules were these, and of those before
                // them only that they had been others.
                past.memories.add(InMemory::everything(), log.floor);
                let same = log.past == legacy::rules_checksum(&self.rules);
                past.memories.add(if same { rules.clone() } else { InMemory::everything() }, 0);
            }
            past.epochs.begin(begins_after, log.committed, lost);
            self.forget_epochs(&mut past).map_err(|error| Failure::NotStored(error.to_string()))?;
        }
        past.memories.begin(rules, begins_after);
        log.past = past.checksum();
        // That this start was is committed too: where the record of it is lost, `head` proves it, for nobody else knows what it
        // keeps in memory.
        log.committed = log.committed.max(begins_after);
        log.reserved = begins_after + RESERVED_AHEAD;
        self.transact(|transaction, current, _, _| {
            past.write(transaction)?;
            *current = log.clone();
            Ok(())
        })?;
        self.past = past;
        Ok(begins_after)
    }

    /// Forgets the oldest epochs that no event is of, where there are very many.
    fn forget_epochs(&self, past: &mut Past) -> RowResult<()> {
        let sql = "SELECT EXISTS (SELECT 1 FROM events WHERE sequence > ?1 AND sequence <= ?2)";
        let mut has_events = self.db.prepare(sql)?;
        while past.epochs.all().len() > KEPT_APART {
            let has_events = |after, upto| -> RowResult<bool> {
                Ok(has_events.query_row((integer(after), integer(upto)), |row| row.get(0))?)
            };
            if !past.epochs.forget_one(has_events)? {
                break;
            }
        }
        Ok(())
    }

    /// Reserves more numbers, which proves that the database can be written to.
    pub(super) fn reserve(&mut self) -> Result<(), Failure> {
        self.transact(|_, log, _, _| {
            log.reserved += RESERVED_AHEAD;
            Ok(())
        })
    }

    /// Stores a group, with some of the retention that is due.
    pub(super) fn commit(&mut self, group: &Group, now: SystemTime) -> Result<(), Failure> {
        self.commit_removing(group, REMOVED_AT_A_TIME, now)
    }

    /// The same, removing as many events and twice those that are added.
    pub(super) fn commit_removing(
        &mut self,
        group: &Group,
        events: usize,
        now: SystemTime,
    ) -> Result<(), Failure> {
        let budget = events + 2 * group.events.len();
        let coming = group.events.iter().map(|event| event.cost() as u64).sum();
        let excess = self.excess(coming).map_err(|error| Failure::before_commit(error.into()))?;
        let (mut expiries, mut spared) = (self.expiries.clone(), self.spared);
        let window = group.window.map(|window| window + DATED_BEFORE);
        let window = window.map_or(self.receipts_window, |window| window.min(self.receipts_window));
        let steps = &group.steps;
        let mut past = self.past.clone();
        past.steps.clone_from(steps);
        let is_new_past = past != self.past;
        let max_bytes = self.max.cost;
        self.transact(|transaction, log, topics, rules| {
            if is_new_past {
                past.write(transaction)?;
                log.past = past.checksum();
            }
            // First, so that what comes finds its place in what is freed.
            let spared = &mut spared;
            let mut removal = Removing { transaction, log, topics, spared, left: budget };
            removal.over_all(rules, max_bytes, excess)?;
            for event in &group.events {
                let (log, topics) = (&mut *removal.log, &mut *removal.topics);
                let before = Adding { transaction, log, topics }.event(event)?;
                removal.replaced(before)?;
            }
            for receipt in &group.receipts {
                receipt.write(transaction)?;
            }
            log.committed = log.committed.max(group.last);
            if log.reserved < group.last + RESERVED_AHEAD / 2 {
                log.reserved = group.last + RESERVED_AHEAD;
            }
            let mut removal = Removing { transaction, log, topics, spared, left: budget };
            removal.over_bounds(rules)?;
            removal.over_all(rules, max_bytes, 0)?;
            for expiry in &mut expiries {
                removal.too_old(rules, expiry, steps, now)?;
            }
            removal.over_stays()?;
            ReceiptRow::forget_old(transaction, window, steps, now, budget)
        })?;
        (self.expiries, self.spared) = (expiries, spared);
        self.past = past;
        Ok(())
    }

    /// Does some of the retention that is due, removing as many events at most; whether there may be more to
    /// do.
    pub(super) fn tidy(&mut self, events: usize, now: SystemTime) -> Result<bool, Failure> {
        if !self.is_untidy(now).map_err(Failure::before_commit)? {
            return Ok(false);
        }
        let before = (self.log.bytes, self.spared.upto);
        self.forget_topics()?;
        let (last, steps) = (self.log.committed, self.past.steps.clone());
        let group = Group { last, steps, ..Group::default() };
        self.commit_removing(&group, events, now)?;
        Ok(self.log.bytes < before.0
            || self.spared.upto > before.1
            || self.is_untidy_but_for_space(now).map_err(Failure::before_commit)?)
    }

    /// Whether retention has something to do.
    fn is_untidy(&self, now: SystemTime) -> RowResult<bool> {
        let excess = self.excess(0)?;
        let others = self.log.bytes.saturating_sub(self.spared.bytes);
        if others > self.max.cost || (excess > 0 && others > self.max.cost / 4) {
            let state = OwnTopics::read(&self.db, &Topics::default())?;
            if others > self.max.cost + state.bytes || excess > state.bytes {
                return Ok(true);
            }
        }
        self.is_untidy_but_for_space(now)
    }

    fn is_untidy_but_for_space(&self, now: SystemTime) -> RowResult<bool> {
        for expiry in &self.expiries {
            if expiry.is_due(&self.db, &self.past.steps, now)? {
                return Ok(true);
            }
        }
        let old = ReceiptRow::old(&self.db, self.receipts_window, &self.past.steps, now, 1)?;
        Ok(!old.is_empty() || self.spared.is_over() || self.emptied_topics()? > EMPTIED_TOPICS)
    }

    fn emptied_topics(&self) -> rusqlite::Result<u32> {
        self.db
            .prepare_cached("SELECT COUNT(*) FROM topics WHERE retained = 0")?
            .query_row((), |row| row.get(0))
    }

    /// Forgets topics that have had no events for longest, where there are very many.
    fn forget_topics(&mut self) -> Result<(), Failure> {
        let emptied =
            self.emptied_topics().map_err(|error| Failure::before_commit(error.into()))?;
        let surplus = emptied.saturating_sub(EMPTIED_TOPICS).min(REMOVED_AT_A_TIME as u32);
        if surplus == 0 {
            return Ok(());
        }
        self.transact(|transaction, log, _, _| {
            let emptied = "retained = 0 ORDER BY last LIMIT ?1";
            for topic in TopicRow::all_where(transaction, emptied, (surplus,))? {
                log.floor = log.floor.max(topic.last);
                for table in ["topics WHERE id", "versions WHERE topic"] {
                    let sql = format!("DELETE FROM {table} = ?1");
                    transaction.prepare_cached(&sql)?.execute((topic.id,))?;
                }
            }
            Ok(())
        })
    }

    /// Removes some of the oldest events of a topic, up to a number; how many it removed.
    pub(super) fn forget(
        &mut self,
        topic: &Topic,
        upto: u64,
        events: usize,
    ) -> Result<usize, Failure> {
        let (mut removed, mut spared) = (0, self.spared);
        self.transact(|transaction, log, topics, _| {
            let spared = &mut spared;
            let mut removal = Removing { transaction, log, topics, spared, left: events };
            removal.forget(topic, upto)?;
            removed = events - removal.left;
            Ok(EndingRow::forget(transaction, topic, upto)?)
        })?;
        self.spared = spared;
        Ok(removed)
    }

    /// Whether events are on the disk of topics that rules keep elsewhere now.
    pub(super) fn has_strays(&self) -> RowResult<bool> {
        let sql = "SELECT name FROM topics WHERE retained > 0";
        let mut statement = self.db.prepare(sql)?;
        let mut names = statement.query(())?;
        while let Some(row) = names.next()? {
            let name: String = row.get(0)?;
            let topic = Topic::from_stored(&name).ok();
            if topic.is_some_and(|topic| self.rules.of(&topic).storage != Storage::Disk) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How a topic stands, as far as terms go by it.
    pub(super) fn standing(&self, name: &Topic) -> RowResult<Standing> {
        let Some(topic) = Topics::default().named(&self.db, name)?.cloned() else {
            return Ok(Standing::default());
        };
        let newest = (topic.retained > 0).then_some(topic.last);
        let newest = newest.map(|number| self.event_of(&topic, number)).transpose()?.flatten();
        let sql = "SELECT sequence FROM versions WHERE topic = ?1";
        let versioned: Option<u64> =
            self.db.prepare_cached(sql)?.query_row((topic.id,), |row| number(row, 0)).optional()?;
        let versioned = versioned.map(|number| self.event_of(&topic, number)).transpose()?;
        Ok(Standing::of(topic.last, newest.as_deref(), versioned.flatten().as_deref()))
    }

    /// The kept event of a topic under a number, to be judged.
    fn event_of(&self, topic: &TopicRow, number: u64) -> RowResult<Option<Arc<Event>>> {
        let head = Cursor { log: self.log.name, epoch: 0, sequence: 0 };
        let epochs = &self.past.epochs;
        let sql = format!("SELECT {} FROM events WHERE sequence = ?1", EventRow::COLUMNS);
        let read = |row: &rusqlite::Row<'_>| EventRow::read_whole(row, &topic.name, head, epochs);
        Ok(collect(&self.db, &sql, (integer(number),), read)?.pop())
    }

    /// What was removed since this was asked last.
    pub(super) fn take_removed(&mut self) -> Vec<Removal> {
        mem::take(&mut self.removed)
    }

    /// Does something to the database, whole or not at all.
    pub(super) fn transact(
        &mut self,
        act: impl FnOnce(&Transaction<'_>, &mut LogRow, &mut Topics, &Rules) -> RowResult<()>,
    ) -> Result<(), Failure> {
        let (mut log, mut topics) = (self.log.clone(), Topics::default());
        let begun = self.db.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = begun.map_err(|error| Failure::before_commit(error.into()))?;
        let prepare = || -> RowResult<()> {
            act(&transaction, &mut log, &mut topics, &self.rules)?;
            for topic in topics.rows.values() {
                topic.write(&transaction)?;
            }
            log.write(&transaction)?;
            Ok(())
        };
        // Dropped unless committed, which rolls back.
        prepare().map_err(Failure::before_commit)?;
        transaction.commit().map_err(|error| Failure::of_commit(&error))?;
        self.log = log;
        self.removed.extend(topics.removed());
        Ok(())
    }
}

/// The record of the log and what it knows of its past, and whether they were made just now.
fn load_or_create(db: &mut Connection) -> RowResult<(LogRow, Past, bool)> {
    if let Some(log) = LogRow::of(db)? {
        let past = Past::read(db, log.past)?;
        return Ok((log, past, false));
    }
    let events: i64 = db.query_row("SELECT COUNT(*) FROM topics", (), |row| row.get(0))?;
    if events > 0 {
        return Err(corrupt("the record of the log is missing"));
    }
    let past = Past::none();
    let log = LogRow {
        name: LogName::random(),
        past: past.checksum(),
        committed: 0,
        reserved: 0,
        floor: 0,
        time: 0,
        bytes: 0,
    };
    let transaction = db.transaction()?;
    log.write(&transaction)?;
    past.write(&transaction)?;
    transaction.commit()?;
    Ok((log, past, true))
}
