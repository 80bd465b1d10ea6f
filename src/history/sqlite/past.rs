//! What a log on disk knows of its past: its epochs, what was kept in memory, and where its clock went back.
//!
//! A few rows, read at a start and written when they change, under one checksum in the record of the log: a
//! row that is lost would make a loss unknown.

use rusqlite::{Connection, Row};

use super::super::clock_steps::{ClockSteps, Step};
use super::super::rules::InMemory;
use super::epochs::{Epoch, Epochs};
use super::rows::{Checksum, RowResult, damaged, integer, number};
use crate::model::Pattern;

/// How many different rules are remembered; of more, any topic may have been in memory.
const RULES: usize = 32;

/// What was kept in memory under some rules, and went with the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Memory {
    rules: InMemory,
    /// The newest number that may have been given meanwhile.
    upto: u64,
}

/// What was kept in memory, oldest first; the last are the rules of now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Memories(Vec<Memory>);

impl Memories {
    /// Whether the log is of a release that remembered none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes it that numbers up to `upto` were given under some rules.
    pub(super) fn add(&mut self, rules: InMemory, upto: u64) {
        self.0.retain(|memory| memory.rules != rules);
        self.0.push(Memory { rules, upto });
    }

    /// A process begins to give numbers after `upto`, under its rules; what the last one had in memory is
    /// gone.
    pub(super) fn begin(&mut self, rules: InMemory, upto: u64) {
        if let Some(last) = self.0.last_mut() {
            last.upto = upto;
        }
        let before =
            self.0.iter().find(|memory| memory.rules == rules).map_or(0, |memory| memory.upto);
        self.add(rules, before);
        if self.0.len() > RULES {
            let oldest: Vec<_> = self.0.drain(..2).collect();
            let upto = oldest.iter().map(|memory| memory.upto).max().unwrap_or(0);
            self.0.insert(0, Memory { rules: InMemory::everything(), upto });
        }
    }

    /// The newest number after `after` under which something that matches may have been lost.
    pub(super) fn lost(&self, patterns: &[Pattern], after: u64) -> Option<u64> {
        let may_match = |memory: &&Memory| {
            memory.upto > after && patterns.iter().any(|pattern| memory.rules.may_match(pattern))
        };
        self.0.iter().filter(may_match).map(|memory| memory.upto).max()
    }
}

impl Past {
    /// Of what came after this number it is known by topic what is missing: nothing of it was in memory, or is proven to be
    /// lost.
    pub(super) fn known_after(&self) -> u64 {
        let in_memory = self.memories.0.iter().filter(|memory| !memory.rules.is_nothing());
        let lost = self.epochs.all().iter().map(|epoch| epoch.lost);
        in_memory.map(|memory| memory.upto).chain(lost).max().unwrap_or(0)
    }
}

/// What a log knows of its past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) epochs: Epochs,
    pub(super) memories: Memories,
    pub(super) steps: ClockSteps,
}

impl Past {
    /// That of a new log.
    pub(super) fn none() -> Self {
        let (epochs, steps) = (Epochs::first(), ClockSteps::default());
        Self { epochs, memories: Memories::default(), steps }
    }

    /// Reads it, and checks that it is what the record of the log says. An earlier release wrote epochs
    /// alone, one by one, and its record says something else.
    pub(super) fn read(db: &Connection, checksum: u32) -> RowResult<Self> {
        let past = Self {
            epochs: read_epochs(db)?,
            memories: Memories(read(
                db,
                "SELECT rules, upto FROM memories ORDER BY place",
                |row| {
                    let text: String = row.get(0)?;
                    let rules = InMemory::parse(&text).ok_or_else(|| damaged("record of rules"))?;
                    Ok(Memory { rules, upto: number(row, 1)? })
                },
            )?),
            steps: ClockSteps::new(read(
                db,
                "SELECT after, was, became, ages_from FROM clock_steps ORDER BY step",
                |row| {
                    let [from, to, ages_from] = [row.get(1)?, row.get(2)?, row.get(3)?];
                    Ok(Step { after: number(row, 0)?, from, to, ages_from })
                },
            )?),
        };
        let is_whole = match past.memories.is_empty() {
            true => past.epochs.all().iter().zip(1..).all(|(epoch, number)| epoch.number == number),
            false => past.checksum() == checksum,
        };
        if is_whole { Ok(past) } else { Err(damaged("record of the log's past")) }
    }

    /// Writes all of it anew: it is little.
    pub(super) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        db.execute_batch("DELETE FROM epochs; DELETE FROM memories; DELETE FROM clock_steps;")?;
        let mut write = db.prepare(
            "INSERT INTO epochs (epoch, begins_after, checksum, ended_at, lost) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for epoch in self.epochs.all() {
            let Epoch { number, begins_after, ended_at, lost } = *epoch;
            let checksum = checksum_of(number, begins_after);
            let [number, begins_after] = [integer(number), integer(begins_after)];
            write.execute((number, begins_after, checksum, integer(ended_at), integer(lost)))?;
        }
        let mut write = db.prepare("INSERT INTO memories (rules, upto) VALUES (?1, ?2)")?;
        for memory in &self.memories.0 {
            write.execute((memory.rules.to_string(), integer(memory.upto)))?;
        }
        let sql = "INSERT INTO clock_steps (after, was, became, ages_from) VALUES (?1, ?2, ?3, ?4)";
        let mut write = db.prepare(sql)?;
        for step in self.steps.all() {
            write.execute((integer(step.after), step.from, step.to, step.ages_from))?;
        }
        Ok(())
    }

    /// What all of it is known by.
    pub(super) fn checksum(&self) -> u32 {
        let mut sum = Checksum::default();
        for Epoch { number, begins_after, ended_at, lost } in self.epochs.all() {
            sum = sum.number(*number).number(*begins_after).number(*ended_at).number(*lost);
        }
        for Memory { rules, upto } in &self.memories.0 {
            sum = sum.text(rules.to_string().as_bytes()).number(*upto);
        }
        for Step { after, from, to, ages_from } in self.steps.all() {
            let times = [from, to, ages_from].map(|time| *time as u64);
            sum = times.into_iter().fold(sum.number(*after), Checksum::number);
        }
        sum.finish()
    }
}

fn read<T>(
    db: &Connection,
    sql: &str,
    row: impl FnMut(&Row<'_>) -> RowResult<T>,
) -> RowResult<Vec<T>> {
    db.prepare(sql)?.query_and_then((), row)?.collect()
}

fn read_epochs(db: &Connection) -> RowResult<Epochs> {
    let sql = "SELECT epoch, begins_after, checksum, ended_at, lost FROM epochs ORDER BY epoch";
    let epochs = read(db, sql, |row| {
        let [number, begins_after] = [number(row, 0)?, number(row, 1)?];
        if checksum_of(number, begins_after) != row.get::<_, u32>(2)? {
            return Err(damaged("record of an epoch"));
        }
        // An earlier release began one only where something was lost.
        let otherwise = if number == 1 { 0 } else { begins_after };
        let or = |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(|n| n as u64));
        let ended_at = or(3)?.unwrap_or(otherwise);
        Ok(Epoch { number, begins_after, ended_at, lost: or(4)?.unwrap_or(otherwise) })
    })?;
    Epochs::new(epochs).ok_or_else(|| damaged("list of epochs"))
}

fn checksum_of(epoch: u64, begins_after: u64) -> u32 {
    Checksum::default().number(epoch).number(begins_after).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(text: &str) -> [Pattern; 1] {
        [Pattern::parse(text).unwrap()]
    }

    fn rules(topic: &str) -> InMemory {
        InMemory::parse(&format!("memory {topic}\n")).unwrap()
    }

    #[test]
    fn what_was_in_memory_under_rules_of_once_is_lost_however_they_have_changed_since() {
        let (disk, memory) = (InMemory::parse("").unwrap(), rules("a"));
        let mut memories = Memories::default();
        memories.begin(disk.clone(), 0);
        memories.begin(memory, 100);
        assert_eq!(memories.lost(&patterns("a"), 0), None);
        memories.begin(disk.clone(), 200);
        memories.begin(disk, 300);
        for text in ["a", ">"] {
            assert_eq!(memories.lost(&patterns(text), 0), Some(200), "{text}");
            assert_eq!(memories.lost(&patterns(text), 200), None, "{text}");
        }
        assert_eq!(memories.lost(&patterns("b"), 0), None);
    }

    #[test]
    fn rules_that_come_back_lose_what_was_in_memory_both_times() {
        let (disk, memory) = (InMemory::parse("").unwrap(), rules("a"));
        let mut memories = Memories::default();
        for (said, upto) in [(&memory, 0), (&disk, 100), (&memory, 200), (&disk, 300)] {
            memories.begin(said.clone(), upto);
        }
        assert_eq!(memories.lost(&patterns("a"), 150), Some(300));
        assert_eq!(memories.0.len(), 2);
    }

    #[test]
    fn what_was_in_memory_or_is_proven_to_be_lost_is_not_known_by_topic() {
        let mut past = Past::none();
        past.memories.begin(InMemory::parse("").unwrap(), 0);
        past.memories.begin(InMemory::parse("").unwrap(), 100);
        assert_eq!(past.known_after(), 0);
        past.epochs.begin(200, 110, Some(120));
        assert_eq!(past.known_after(), 120);
        past.memories.begin(rules("a"), 200);
        assert_eq!(past.known_after(), 120, "what is in memory now is not lost yet");
        past.memories.begin(InMemory::parse("").unwrap(), 300);
        assert_eq!(past.known_after(), 300);
    }

    #[test]
    fn of_more_rules_than_are_remembered_nothing_is_silent() {
        let mut memories = Memories::default();
        for n in 0..200 {
            memories.begin(rules(&format!("t.{n}")), n * 100);
        }
        assert!(memories.0.len() <= RULES + 1);
        for n in 0..199 {
            let lost = memories.lost(&patterns(&format!("t.{n}")), n * 100);
            assert!(lost >= Some((n + 1) * 100), "{n}: {lost:?}");
        }
    }

    #[test]
    fn a_row_of_the_past_that_is_lost_or_changed_is_found() {
        let mut past = Past::none();
        past.epochs.begin(100, 10, None);
        past.memories.begin(rules("a"), 0);
        past.memories.begin(rules("b"), 100);
        past.steps =
            ClockSteps::new(vec![Step { after: 7, from: 2_000, to: 1_000, ages_from: 1_000 }]);
        let db = Connection::open_in_memory().unwrap();
        for migration in super::super::open::MIGRATIONS {
            db.execute_batch(migration).unwrap();
        }
        past.write(&db).unwrap();
        let sum = past.checksum();
        assert_eq!(Past::read(&db, sum).unwrap(), past);
        for damage in [
            "DELETE FROM epochs WHERE epoch > 1",
            "DELETE FROM memories WHERE upto = 100",
            "DELETE FROM clock_steps",
            "UPDATE epochs SET lost = 5",
            "UPDATE memories SET upto = 5",
            "UPDATE clock_steps SET became = 5",
        ] {
            past.write(&db).unwrap();
            assert!(db.execute(damage, ()).is_ok_and(|rows| rows > 0), "{damage}");
            assert!(Past::read(&db, sum).is_err(), "{damage}");
        }
    }
}
