//! What comes over a log on disk and loses nothing of it: another process that has locked its database.

use std::collections::BTreeSet;

use fanfare::history::{Append, AppendError};
use fanfare::model::{Code, Topic};
use rusqlite::Connection;
use tokio::time::{Instant, sleep};

use super::Life;
use crate::chronicle::{Fault, id};
use crate::log::TOPICS;
use crate::reading::{PATIENCE, POLL, pages, patterns};

/// What another process does to the database: reads it, or keeps others from writing.
const HOLDS: [&str; 3] = [
    "BEGIN; SELECT COUNT(*) FROM events",
    "BEGIN IMMEDIATE",
    "BEGIN EXCLUSIVE; UPDATE log SET floor = floor",
];

impl Life {
    /// Another process holds the database while something is published, forgotten and read, and ends.
    pub(super) async fn be_locked(&mut self, line: usize) -> Result<(), Fault> {
        let hold = self.book.dice.pick(&HOLDS);
        let topics: Vec<_> = (0..3).map(|_| self.book.dice.pick(&TOPICS)).collect();
        let forgotten = self.book.dice.pick(&TOPICS);
        self.book.trace.step(format!("line {line}: another process says {hold}"));
        let directory = self.log(line).directory.as_ref().expect("it is on a disk").path();
        let other = Connection::open(directory.join("history.db")).expect("a database");
        other.execute_batch(hold).expect("nobody else has locked it");

        let before = self.book.events;
        let append =
            Append { events: self.book.bare_events_of(line, &topics), key: Some(self.book.key()) };
        let first = self.log(line).history.append(append.clone()).await;
        let is_refused = match first {
            Ok(receipt) => {
                self.acknowledged(line, &append, &receipt)?;
                false
            }
            Err(AppendError::Unavailable(_)) => true,
            Err(error) => return Err(Fault(format!("locked, and it is said: {error}"))),
        };
        let topic = Topic::parse(forgotten).expect("a topic");
        self.book.forgotten(line, &topic);
        match self.log(line).history.forget(topic).await {
            Ok(_) => {}
            Err(problem) if problem.code == Code::Unavailable => {}
            Err(problem) => return Err(Fault(format!("locked, and it is said: {problem}"))),
        }
        let texts = patterns(&[">"]);
        let (kept, _) = pages(&*self.log(line).history, &texts, None, None, 50, 1_000).await?;
        let ids: BTreeSet<_> = kept.events.iter().map(|event| id(event)).collect();
        if let Some(stored) = ids.iter().find(|id| is_refused && **id > before) {
            return Err(Fault(format!("{stored} was refused, and is kept")));
        }
        drop(other);

        let give_up = Instant::now() + PATIENCE;
        let again = loop {
            match self.log(line).history.append(append.clone()).await {
                Ok(receipt) => break receipt,
                Err(AppendError::Unavailable(_)) if Instant::now() < give_up => sleep(POLL).await,
                Err(error) => return Err(Fault(format!("no lock any more, and refused: {error}"))),
            }
        };
        match is_refused {
            true => self.acknowledged(line, &append, &again),
            false if again.repeated => Ok(()),
            false => Err(Fault(format!("a repeat came to {again:?}"))),
        }
    }
}
