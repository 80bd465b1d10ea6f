//! What the writer does to the database: one transaction for a group of publishes and whatever
//! retention is due with it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::super::clock_steps::ClockSteps;
use super::convert;
use super::open::{COPY, Directory, OpenError, pragma};
use super::retention::{Expiry, REMOVED_AT_A_TIME, Removal, State, Topics, collect, millis};
use super::rows::{Epochs, EventRow, LogRow, Place, ReceiptRow, RowError, RowResult, TopicRow};
use super::rows::{read_steps, write_steps};
use super::verify::{corrupt, verify};
use crate::config::{self, Rules, Storage};
use crate::model::{Event, LogName, Topic};

/// How many numbers are reserved ahead, so that those of events that are kept in memory alone are
/// not given again after a restart.
pub(super) const RESERVED_AHEAD: u64 = 1 << 20;

/// How many topics without events keep the number of their last removed event to themselves.
const EMPTIED_TOPICS: u32 = 10_000;

/// Why nothing, or perhaps something, was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Certainly nothing: there is no space.
    Full,
    /// Certainly nothing.
    NotStored(String),
    /// All of it or nothing.
    Unknown(String),
}

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
}

/// The database, as its one writer has it.
pub(super) struct Store {
    db: Connection,
    log: LogRow,
    epochs: Epochs,
    steps: ClockSteps,
    rules: Rules,
    max_bytes: u64,
    receipts_window: Duration,
    expiries: Vec<Expiry>,
    /// Of what is kept up to here, all is state of the broker's own.
    spared: u64,
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
        let (log, epochs) = load_or_create(&mut db, rules).map_err(damaged)?;
        let steps = read_steps(&db).map_err(damaged)?;
        let ages = rules.ages().into_iter();
        let expiries = ages.map(|max_age| Expiry { max_age, looked_at: 0 }).collect();
        Ok(Self {
            db,
            log,
            epochs,
            steps,
            rules: rules.clone(),
            max_bytes: config.disk_bytes as u64,
            receipts_window: config.idempotency_window,
            expiries,
            spared: 0,
        })
    }

    /// Whether this is a copy that has not been used yet: another one may have been, or what was copied
    /// is in use itself, so what is numbered from here on is not what they number.
    pub(super) fn is_copy(&self) -> RowResult<bool> {
        Ok(pragma(&self.db, "application_id")? == COPY as u64)
    }

    /// Lets the file shrink from now on, where an older release made it and there is room for that.
    pub(super) fn convert(&self, directory: &Directory) -> RowResult<()> {
        convert::convert(&self.db, directory)
    }

    pub(super) fn log(&self) -> &LogRow {
        &self.log
    }

    pub(super) fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Where the clock went back, as far as that is stored.
    pub(super) fn steps(&self) -> &ClockSteps {
        &self.steps
    }

    /// Begins to give numbers above all that were ever given; in a new epoch where acknowledged
    /// events are missing. Where topics were kept elsewhere before, whoever has a cursor from then
    /// gets a gap, for what was kept in memory then is gone.
    /// Returns the number above which new ones begin.
    pub(super) fn begin(&mut self, lost_up_to: Option<u64>) -> Result<u64, Failure> {
        let mut log = self.log.clone();
        let mut epochs = self.epochs.clone();
        if let Some(lost) = lost_up_to {
            log.reserved = log.reserved.max(lost);
            log.committed = log.committed.max(lost);
            log.floor = log.reserved;
            epochs.begin(log.reserved);
        }
        let rules = rules_checksum(&self.rules);
        if log.rules != rules {
            log.rules = rules;
            log.floor = log.reserved;
        }
        let begins_after = log.reserved;
        log.reserved += RESERVED_AHEAD;
        let new_epoch = epochs != self.epochs;
        self.transact(|transaction, current, _, _| {
            if new_epoch {
                epochs.write_newest(transaction)?;
                // A copy is used now, and is none any more.
                transaction.pragma_update(None, "application_id", 0)?;
            }
            *current = log.clone();
            Ok(())
        })?;
        self.epochs = epochs;
        Ok(begins_after)
    }

    /// Stores a group, with some of the retention that is due.
    pub(super) fn commit(&mut self, group: &Group, now: SystemTime) -> Result<(), Failure> {
        let budget = REMOVED_AT_A_TIME + 2 * group.events.len();
        let (mut expiries, mut spared) = (self.expiries.clone(), self.spared);
        let (steps, window) = (&group.steps, self.receipts_window);
        let are_new_steps = *steps != self.steps;
        self.transact(|transaction, log, topics, bounds| {
            if are_new_steps {
                write_steps(transaction, steps)?;
            }
            for event in &group.events {
                add(transaction, log, topics, event)?;
            }
            for receipt in &group.receipts {
                receipt.write(transaction)?;
            }
            log.committed = log.committed.max(group.last);
            if log.reserved < group.last + RESERVED_AHEAD / 2 {
                log.reserved = group.last + RESERVED_AHEAD;
            }
            let mut removal = Removal { transaction, log, topics, left: budget };
            removal.over_bounds(bounds.rules)?;
            removal.over_all(bounds.max_bytes, &mut spared)?;
            for expiry in &mut expiries {
                removal.too_old(bounds.rules, expiry, steps, now)?;
            }
            forget_receipts(transaction, window, steps, now, budget)
        })?;
        (self.expiries, self.spared) = (expiries, spared);
        self.steps.clone_from(&group.steps);
        Ok(())
    }

    /// Does some of the retention that is due; whether there may be more to do.
    pub(super) fn tidy(&mut self, now: SystemTime) -> Result<bool, Failure> {
        if !self.is_untidy(now).map_err(|error| Failure::NotStored(error.to_string()))? {
            return Ok(false);
        }
        self.forget_topics()?;
        let (last, steps) = (self.log.committed, self.steps.clone());
        self.commit(&Group { last, steps, ..Group::default() }, now)?;
        Ok(true)
    }

    /// Whether retention has something to do.
    fn is_untidy(&self, now: SystemTime) -> RowResult<bool> {
        if self.log.bytes > self.max_bytes {
            let state = State::read(&self.db, &Topics::default())?;
            if self.log.bytes > self.max_bytes + state.bytes {
                return Ok(true);
            }
        }
        for expiry in &self.expiries {
            if expiry.is_due(&self.db, &self.steps, now)? {
                return Ok(true);
            }
        }
        let old = old_receipts(&self.db, self.receipts_window, &self.steps, now, 1)?;
        Ok(!old.is_empty() || self.emptied_topics()? > EMPTIED_TOPICS)
    }

    fn emptied_topics(&self) -> rusqlite::Result<u32> {
        self.db
            .prepare_cached("SELECT COUNT(*) FROM topics WHERE retained = 0")?
            .query_row((), |row| row.get(0))
    }

    /// Forgets topics that have had no events for longest, where there are very many.
    fn forget_topics(&mut self) -> Result<(), Failure> {
        let emptied =
            self.emptied_topics().map_err(|error| Failure::NotStored(error.to_string()))?;
        let surplus = emptied.saturating_sub(EMPTIED_TOPICS).min(REMOVED_AT_A_TIME as u32);
        if surplus == 0 {
            return Ok(());
        }
        self.transact(|transaction, log, _, _| {
            let sql = format!(
                "SELECT {} FROM topics WHERE retained = 0 ORDER BY last LIMIT ?1",
                TopicRow::COLUMNS
            );
            let emptied = collect(transaction, &sql, (surplus,), TopicRow::read)?;
            for topic in emptied {
                log.floor = log.floor.max(topic.last);
                transaction
                    .prepare_cached("DELETE FROM topics WHERE id = ?1")?
                    .execute((topic.id,))?;
            }
            Ok(())
        })
    }

    /// Removes some of the oldest events of a topic, up to a number; how many it removed.
    pub(super) fn forget(&mut self, topic: &Topic, upto: u64) -> Result<usize, Failure> {
        let mut removed = 0;
        self.transact(|transaction, log, topics, _| {
            let mut removal = Removal { transaction, log, topics, left: REMOVED_AT_A_TIME };
            removal.forget(topic, upto)?;
            removed = REMOVED_AT_A_TIME - removal.left;
            Ok(())
        })?;
        Ok(removed)
    }

    /// The results that are remembered, oldest first. A damaged one is reported and left out.
    pub(super) fn receipts(&self) -> RowResult<Vec<ReceiptRow>> {
        let sql = format!("SELECT {} FROM receipts ORDER BY time", ReceiptRow::COLUMNS);
        let mut statement = self.db.prepare(&sql)?;
        let mut rows = statement.query(())?;
        let mut receipts = Vec::new();
        while let Some(row) = rows.next()? {
            match ReceiptRow::read(row) {
                Ok(receipt) => receipts.push(receipt),
                Err(error) => tracing::error!(%error, "an idempotency key was dropped"),
            }
        }
        Ok(receipts)
    }

    /// Does something to the database, whole or not at all.
    fn transact(
        &mut self,
        act: impl FnOnce(&Transaction<'_>, &mut LogRow, &mut Topics, &Bounds<'_>) -> RowResult<()>,
    ) -> Result<(), Failure> {
        let (mut log, mut topics) = (self.log.clone(), Topics::default());
        let bounds = Bounds { rules: &self.rules, max_bytes: self.max_bytes };
        let not_stored = |error: RowError| match &error {
            RowError::Sqlite(error) if is_full(error) => Failure::Full,
            _ => Failure::NotStored(error.to_string()),
        };
        let begun = self.db.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = begun.map_err(|error| not_stored(error.into()))?;
        let prepare = || -> RowResult<()> {
            act(&transaction, &mut log, &mut topics, &bounds)?;
            for topic in topics.rows.values() {
                topic.write(&transaction)?;
            }
            log.write(&transaction)?;
            Ok(())
        };
        // Dropped unless committed, which rolls back.
        prepare().map_err(not_stored)?;
        transaction.commit().map_err(|error| match is_full(&error) {
            true => Failure::Full,
            false => Failure::Unknown(error.to_string()),
        })?;
        self.log = log;
        Ok(())
    }
}

/// What retention goes by.
struct Bounds<'a> {
    rules: &'a Rules,
    max_bytes: u64,
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// A checksum of where events are kept, by which a change of the rules is known.
fn rules_checksum(rules: &Rules) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for rule in rules.all() {
        let on_disk = rule.storage == Storage::Disk;
        hasher.update(format!("{} {on_disk}\n", rule.pattern).as_bytes());
    }
    hasher.finalize()
}

fn load_or_create(db: &mut Connection, rules: &Rules) -> RowResult<(LogRow, Epochs)> {
    let found = db.prepare(LogRow::SELECT)?.query_and_then((), LogRow::read)?.next().transpose()?;
    if let Some(log) = found {
        let epochs = Epochs::read(db)?;
        return Ok((log, epochs));
    }
    let events: i64 = db.query_row("SELECT COUNT(*) FROM topics", (), |row| row.get(0))?;
    if events > 0 {
        return Err(corrupt("the record of the log is missing"));
    }
    let log = LogRow {
        name: LogName::random(),
        rules: rules_checksum(rules),
        committed: 0,
        reserved: 0,
        floor: 0,
        time: 0,
        bytes: 0,
    };
    let epochs = Epochs::first();
    let transaction = db.transaction()?;
    log.write(&transaction)?;
    epochs.write_newest(&transaction)?;
    transaction.commit()?;
    Ok((log, epochs))
}

fn add(
    transaction: &Transaction<'_>,
    log: &mut LogRow,
    topics: &mut Topics,
    event: &Event,
) -> RowResult<()> {
    let Some(cursor) = event.cursor else { return Ok(()) };
    let topic = match topics.named(transaction, &event.topic)? {
        Some(topic) => topic,
        None => {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO topics (name, last, last_removed, retained, bytes, checksum) \
                 VALUES (?1, 0, 0, 0, 0, 0)",
            )?;
            let id = insert.insert((event.topic.as_str(),))?;
            let name = event.topic.clone();
            // What was known of it may have been forgotten.
            let (last, last_removed) = (log.floor, log.floor);
            topics.insert(TopicRow { id, name, last, last_removed, retained: 0, bytes: 0 })
        }
    };
    let place = Place { sequence: cursor.sequence, topic: topic.id, previous: topic.last };
    EventRow::write(transaction, place, event)?;
    topic.last = cursor.sequence;
    topic.retained += 1;
    topic.bytes += event.cost() as u64;
    log.bytes += event.cost() as u64;
    log.time = event.time.millis();
    Ok(())
}

/// Scopes of receipts whose window is over. Those whose date says so are looked at, and those that are
/// dated after the clock.
fn old_receipts(
    db: &Connection,
    window: Duration,
    steps: &ClockSteps,
    now: SystemTime,
    limit: usize,
) -> RowResult<Vec<[u8; 32]>> {
    let now = millis(now);
    let oldest = now - window.as_millis() as i64;
    let sql = format!(
        "SELECT {} FROM receipts WHERE time < ?1 OR time > ?2 ORDER BY time LIMIT ?3",
        ReceiptRow::COLUMNS
    );
    let is_old = |receipt: &ReceiptRow| receipt.aged(steps) < oldest;
    let found = collect(db, &sql, (oldest, now, limit as i64), |row| {
        let scope = row.get(0)?;
        // A damaged one goes by its date.
        Ok((scope, ReceiptRow::read(row).map_or(true, |receipt| is_old(&receipt))))
    })?;
    Ok(found.into_iter().filter(|(_, is_old)| *is_old).map(|(scope, _)| scope).collect())
}

fn forget_receipts(
    db: &Connection,
    window: Duration,
    steps: &ClockSteps,
    now: SystemTime,
    limit: usize,
) -> RowResult<()> {
    for scope in old_receipts(db, window, steps, now, limit)? {
        db.prepare_cached("DELETE FROM receipts WHERE scope = ?1")?.execute((scope,))?;
    }
    Ok(())
}
