//! What events of a life carry, the terms they come under, and the values that end by themselves.

use std::collections::HashMap;

use fanfare::clock::Instant;
use fanfare::history::Ending;
use fanfare::model::{Cursor, Data, Latest, Member, NewEvent, Removed, Terms, Topic};

use super::Book;
use crate::chronicle::Fault;

/// For how long values last that end by themselves, in milliseconds.
const TTLS: [u64; 4] = [1, 20_000, 100_000, 4_000_000];

/// Where that is real time.
const SHORT_TTLS: [u64; 3] = [1, 20, 100_000_000];

/// A value that ends by itself.
#[derive(Debug, Clone)]
pub struct EndsAt {
    pub id: usize,
    pub born: Instant,
    pub at: Instant,
}

impl Book {
    /// Gives an event something to carry, or terms to come under; often nothing.
    pub(super) fn load(&mut self, line: usize, event: &mut NewEvent) {
        let (mut members, mut terms) = (Vec::new(), Terms::default());
        match self.dice.below(100) {
            0..12 => {
                members.push(Member::Version(self.dice.below(9) as u64));
                let epoch = self.dice.pick(&[None, None, Some("run-1"), Some("run-2")]);
                members.extend(epoch.map(Member::Epoch));
                if self.dice.percent(20) {
                    members.push(Member::Removed(Removed::Publisher));
                }
            }
            12..24 => members.push(Member::Removed(Removed::Publisher)),
            24..38 => members.push(Member::Ttl(match self.is_in_real_time {
                true => self.dice.pick(&SHORT_TTLS),
                false => self.dice.pick(&TTLS),
            })),
            38..48 => terms.if_latest = Some(self.some_latest(line, &event.topic)),
            48..56 => terms.passes = true,
            56..64 => members.extend([Member::User("ann"), Member::Except("a-session")]),
            _ => {}
        }
        event.envelope = (!members.is_empty()).then(|| Box::new(members.into_iter().collect()));
        event.terms = (terms != Terms::default()).then(|| Box::new(terms));
    }

    fn some_latest(&mut self, line: usize, topic: &Topic) -> Latest {
        let of_topic = self.chronicles[line].all().iter().rev().filter(|it| it.topic == *topic);
        let newest = of_topic.map(|entry| entry.cursor).nth(usize::from(self.dice.percent(20)));
        let newest = newest.map_or(Latest::Absent, Latest::Is);
        self.dice.pick(&[Latest::Absent, Latest::Present, newest, newest])
    }

    /// The place of the last event that a log ever had of each topic.
    pub fn last_places(&self, line: usize) -> HashMap<Topic, Cursor> {
        let all = self.chronicles[line].all().iter();
        all.map(|entry| (entry.topic.clone(), entry.cursor)).collect()
    }

    /// Judges which values of a log have ended by now; those that it says of which something is known.
    pub fn judge_due(&self, line: usize, due: &[Ending], now: Instant) -> Result<(), Fault> {
        let Some(ends) = self.ends.get(&line) else { return Ok(()) };
        for (topic, EndsAt { id, at, .. }) in ends {
            let is_due = due.iter().any(|ending| ending.topic == *topic);
            match *at <= now {
                true if !is_due => {
                    return Err(Fault(format!("{id} of {topic} has ended, and is not said to")));
                }
                false if is_due => {
                    return Err(Fault(format!("{id} of {topic} is said to have ended early")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The tombstones by which values end, as events of this life.
    pub fn tombstones(&mut self, due: Vec<Ending>) -> Vec<NewEvent> {
        let tombstones = due.into_iter().map(|ending| {
            self.events += 1;
            let data = Data::from_json(format!("[{}]", self.events).as_bytes(), 4);
            NewEvent { data: data.expect("JSON"), ..ending.tombstone() }
        });
        tombstones.collect()
    }

    /// A log on a disk goes on after a stop or a kill: what ends by itself does so, but for what it kept in memory, or may keep
    /// elsewhere now, and what the clock was set after.
    pub fn went_on(&mut self, line: usize, disturbed: Instant) {
        let is_on_disk =
            |topic: &Topic| ["d.", "old.", "few."].iter().any(|it| topic.as_str().starts_with(it));
        if let Some(ends) = self.ends.get_mut(&line) {
            ends.retain(|topic, ends| is_on_disk(topic) && ends.born > disturbed);
        }
    }
}
