//! The newest events of their topics, which are current values, beyond their age or the bytes of all topics: they
//! stay until they are removed or replaced, within bounds of their own.
//!
//! They are listed in the database, so that a start knows at once what takes no room of the others.

use rusqlite::{Connection, OptionalExtension};

use super::removable::Removable;
use super::rows::{RowResult, TopicRow, integer, number};
use crate::config::{self, Rules, Storage};
use crate::model::Topic;

/// What the bounds on age and on all topics together leave alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spared {
    /// Of what is kept up to here, all is state of the broker's own, or stays.
    pub(super) upto: u64,
    /// What the events that stay cost.
    pub(super) bytes: u64,
    /// How many there are.
    count: u64,
    /// No event above this number stays.
    newest: u64,
    /// The rules are those by which all that is listed stays, so that it need not be looked at one by one.
    is_current: bool,
    max_count: u64,
    max_bytes: u64,
}

impl Spared {
    /// As the database has it.
    pub(super) fn read(
        db: &Connection,
        config: &config::History,
        rules: &Rules,
    ) -> RowResult<Self> {
        let sql = "SELECT COUNT(*), ifnull(SUM(bytes), 0), ifnull(MAX(sequence), 0) FROM stays";
        let read =
            |row: &rusqlite::Row<'_>| Ok((number(row, 0)?, number(row, 1)?, number(row, 2)?));
        let (count, bytes, newest) = db.query_row(sql, (), read)?;
        let (max_count, max_bytes) = (config.newest_topics as u64, config.newest_bytes as u64);
        // Where that can't be read, each is looked at for itself.
        let is_current = are_current(db, rules).unwrap_or(false);
        Ok(Self { upto: 0, bytes, count, newest, is_current, max_count, max_bytes })
    }

    /// Whether more stays than may.
    pub(super) fn is_over(&self) -> bool {
        self.count > self.max_count || self.bytes > self.max_bytes
    }

    /// Goes past what is known to stay, in one step however much that is: after a start, all of it is before what may
    /// be removed.
    pub(super) fn skip(&mut self, db: &Connection) -> RowResult<()> {
        if !self.is_current || self.upto >= self.newest {
            return Ok(());
        }
        let sql = "SELECT sequence FROM events WHERE sequence > ?1 AND NOT EXISTS \
                   (SELECT 1 FROM stays WHERE stays.sequence = events.sequence) ORDER BY sequence LIMIT 1";
        let mut next = db.prepare_cached(sql)?;
        let next = next.query_row((integer(self.upto),), |row| number(row, 0)).optional()?;
        self.upto = next.map_or(self.newest, |next| next - 1);
        Ok(())
    }

    /// Lets an event stay where it is the newest of its topic and its rule says so; whether it does.
    pub(super) fn lets_stay(
        &mut self,
        db: &Connection,
        event: &Removable,
        topic: &TopicRow,
        rules: &Rules,
    ) -> RowResult<bool> {
        let is_newest = topic.last == event.sequence;
        if !is_newest || event.is_tombstone || !rules.of(&topic.name).keeps_newest(Storage::Disk) {
            return Ok(false);
        }
        let bytes = event.cost(topic);
        let sql = "INSERT OR IGNORE INTO stays (sequence, bytes) VALUES (?1, ?2)";
        let mut insert = db.prepare_cached(sql)?;
        if insert.execute((integer(event.sequence), integer(bytes)))? > 0 {
            self.count += 1;
            self.bytes += bytes;
            self.newest = self.newest.max(event.sequence);
        }
        Ok(true)
    }

    /// Whether the event of this number stays.
    pub(super) fn has(&self, db: &Connection, sequence: u64) -> RowResult<bool> {
        if sequence > self.newest {
            return Ok(false);
        }
        let mut select = db.prepare_cached("SELECT 1 FROM stays WHERE sequence = ?1")?;
        Ok(select.exists((integer(sequence),))?)
    }

    /// The oldest of what stays, where that is more than may.
    pub(super) fn surplus(&self, db: &Connection) -> RowResult<Option<u64>> {
        if !self.is_over() {
            return Ok(None);
        }
        let sql = "SELECT sequence FROM stays ORDER BY sequence LIMIT 1";
        Ok(db.prepare_cached(sql)?.query_row((), |row| number(row, 0)).optional()?)
    }

    /// Notes that an event is no longer there, where it stayed.
    pub(super) fn is_gone(&mut self, db: &Connection, sequence: u64) -> RowResult<()> {
        if sequence > self.newest {
            return Ok(());
        }
        let sql = "DELETE FROM stays WHERE sequence = ?1 RETURNING bytes";
        let mut delete = db.prepare_cached(sql)?;
        let bytes = delete.query_row((integer(sequence),), |row| number(row, 0)).optional()?;
        if let Some(bytes) = bytes {
            self.count = self.count.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        Ok(())
    }
}

/// Whether all that is listed would stay by these rules too, which may be others than before the start.
fn are_current(db: &Connection, rules: &Rules) -> RowResult<bool> {
    let sql = "SELECT topics.name FROM stays JOIN events USING (sequence) JOIN topics ON topics.id = events.topic";
    let mut names = db.prepare(sql)?;
    let mut names = names.query(())?;
    while let Some(row) = names.next()? {
        let name: String = row.get(0)?;
        let topic = Topic::parse(&name).ok();
        if !topic.is_some_and(|topic| rules.of(&topic).keeps_newest(Storage::Disk)) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::super::open::Directory;
    use super::super::retention::REMOVED_AT_A_TIME;
    use super::super::store::{Group, Store};
    use super::*;
    use crate::config::Config;
    use crate::model::{Cursor, Data, Event, LogName, Timestamp};

    /// More than one transaction goes past one by one.
    const VALUES: u64 = 3 * REMOVED_AT_A_TIME as u64;

    /// Events of these topics, numbered from `first` on.
    fn group(first: u64, topics: impl Iterator<Item = String>) -> Group {
        let log = LogName::random();
        let event = |(sequence, topic): (u64, String)| {
            Arc::new(Event {
                cursor: Some(Cursor { log, epoch: 1, sequence }),
                topic: Topic::parse(&topic).unwrap(),
                kind: None,
                time: Timestamp::from(SystemTime::now()),
                data: Data::from_text("x"),
                envelope: None,
            })
        };
        let events: Vec<_> = (first..).zip(topics).map(event).collect();
        let last = first + events.len() as u64 - 1;
        Group { events, last, ..Group::default() }
    }

    fn events(store: &Store) -> u64 {
        store.db.query_row("SELECT COUNT(*) FROM events", (), |row| number(row, 0)).unwrap()
    }

    /// A log of which so many values stay, and as many events behind them that don't.
    fn fill(directory: &Directory, config: &Config) {
        let mut store = Store::open(directory, &config.history, &config.rules).unwrap();
        let now = SystemTime::now();
        store.begin(None).unwrap();
        store.commit(&group(1, (0..VALUES).map(|n| format!("a.{n}"))), now).unwrap();
        store.max.cost = 1;
        while store.tidy(REMOVED_AT_A_TIME, now).unwrap() {}
        store.max.cost = u64::MAX;
        let others = (0..VALUES).map(|_| "b".to_owned());
        store.commit(&group(VALUES + 1, others), now).unwrap();
        assert_eq!(events(&store), 2 * VALUES);
    }

    #[test]
    fn what_stays_is_gone_past_in_one_step_after_a_start() {
        let home = tempfile::tempdir().unwrap();
        let directory = Directory::open(home.path()).unwrap();
        let mut config = Config::default();
        fill(&directory, &config);
        let reopened = |config: &Config| {
            let mut store = Store::open(&directory, &config.history, &config.rules).unwrap();
            store.max.cost = 1;
            store
        };
        let mut store = reopened(&config);
        assert!(store.tidy(REMOVED_AT_A_TIME, SystemTime::now()).unwrap());
        assert!(events(&store) < 2 * VALUES, "the first transaction removes something");
        while store.tidy(REMOVED_AT_A_TIME, SystemTime::now()).unwrap() {}
        assert_eq!(events(&store), VALUES + 1);
        drop(store);
        // What is listed by other rules is looked at.
        config.rules.default.keep_newest = false;
        let mut store = reopened(&config);
        while store.tidy(REMOVED_AT_A_TIME, SystemTime::now()).unwrap() {}
        assert_eq!(events(&store), 1);
    }
}
