//! What one log has acknowledged, in order, and what a reader of it should have.
//!
//! Pure state. A restored copy begins with what had been acknowledged when it was made, so that two logs
//! have a common beginning; what they have in common is known by the events themselves, not by numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use fanfare::clock::Instant;
use fanfare::model::{Cursor, Envelope, Event, Pattern, Timestamp, Topic};

/// An event that was acknowledged.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which of all events of a life it is; its data begins with that.
    pub id: usize,
    pub topic: Topic,
    pub cursor: Cursor,
    pub date: Timestamp,
    /// When it was acknowledged, by a clock that never steps.
    pub born: Instant,
    /// What it carries beside its data.
    pub carried: Option<Envelope>,
}

/// What a log has acknowledged.
#[derive(Debug, Clone, Default)]
pub struct Chronicle {
    entries: Vec<Entry>,
    /// The places at which the log was opened, and how many events there were then.
    opened: Vec<(Cursor, usize)>,
    /// How many events there were when the log was cut off, and what time it was.
    cut_off: Vec<(usize, Timestamp)>,
}

/// What a reader was given.
#[derive(Debug, Clone, Default)]
pub struct Given {
    pub events: Vec<Arc<Event>>,
    pub is_gap: bool,
}

impl Given {
    /// Takes a page.
    pub fn take(&mut self, events: Vec<Arc<Event>>, is_gap: bool) {
        self.events.extend(events);
        self.is_gap |= is_gap;
    }
}

/// What was promised and not kept.
#[derive(Debug)]
pub struct Fault(pub String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a reading that was as promised came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All of it, without a gap.
    Exact,
    /// A gap, where something is gone.
    Told,
    /// A gap, though nothing was missing.
    Needless,
}

/// The number that an event's data begins with.
pub fn id(event: &Event) -> usize {
    let text = event.data.json().get().trim_start_matches('[');
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().expect("events of a life begin with a number")
}

fn matches(patterns: &[Pattern], topic: &Topic) -> bool {
    patterns.iter().any(|pattern| pattern.matches(topic))
}

impl Chronicle {
    /// Whether this is about the log of a place.
    pub fn is_of(&self, place: Cursor) -> bool {
        self.opened.last().is_none_or(|(head, _)| head.log == place.log)
    }

    /// The log is opened, and its newest place is this.
    pub fn open(&mut self, head: Cursor) {
        self.opened.push((head, self.entries.len()));
    }

    /// The log is cut off and loses events. Of those that were dated after the clock nobody can know the date
    /// any more.
    pub fn cut_off(&mut self, now: Timestamp) {
        self.cut_off.push((self.entries.len(), now));
    }

    /// An event is acknowledged.
    pub fn add(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// All events, in order.
    pub fn all(&self) -> &[Entry] {
        &self.entries
    }

    /// What was acknowledged up to a place of the log that runs.
    pub fn until(&self, place: Cursor) -> Self {
        let entries = self.entries[..self.upto(place)].to_vec();
        Self { entries, opened: self.opened.clone(), cut_off: Vec::new() }
    }

    /// How many events there are up to a place of the log that runs. Where its end was lost, numbers of it
    /// may have been given again in a later epoch.
    pub fn upto(&self, place: Cursor) -> usize {
        let is_upto = |entry: &Entry| entry.cursor.sequence <= place.sequence;
        let (head, before) = *self.opened.last().expect("it was opened");
        match place.sequence >= head.sequence {
            true => {
                before + self.entries[before..].iter().take_while(|entry| is_upto(entry)).count()
            }
            false => self.entries[..before].iter().rposition(is_upto).map_or(0, |at| at + 1),
        }
    }

    /// How many events two logs have in common, from the beginning.
    pub fn in_common(&self, other: &Self) -> usize {
        self.entries.iter().zip(&other.entries).take_while(|(a, b)| a.id == b.id).count()
    }

    fn matching(&self, from: usize, patterns: &[Pattern]) -> Vec<&Entry> {
        self.entries.iter().skip(from).filter(|entry| matches(patterns, &entry.topic)).collect()
    }

    /// Whether every event that was given was acknowledged, as that, and in that order.
    fn knows(&self, given: &Given, patterns: &[Pattern]) -> Result<(), Fault> {
        let mut rest = self.entries.iter();
        for event in &given.events {
            let Some(entry) = rest.find(|entry| entry.id == id(event)) else {
                let place = event.cursor.map_or(String::new(), |cursor| cursor.to_string());
                let all: Vec<_> = given.events.iter().map(|event| id(event)).collect();
                let what = format!("{} at {place} is unknown, or out of order", id(event));
                return Err(Fault(format!("{what}: {all:?}")));
            };
            let carried = |envelope: Option<&Envelope>| envelope.map(|it| it.bytes().to_vec());
            if carried(event.envelope.as_deref()) != carried(entry.carried.as_ref()) {
                return Err(Fault(format!("{} carries something else", entry.id)));
            }
            if event.cursor != Some(entry.cursor) || event.time != entry.date {
                return Err(Fault(format!("{} is not what was acknowledged", entry.id)));
            }
            if event.topic != entry.topic || !matches(patterns, &event.topic) {
                return Err(Fault(format!("{} is of another topic", entry.id)));
            }
        }
        Ok(())
    }

    /// Judges what was given to a reader that had seen `seen` events of a log which has `in_common` events
    /// in common with this one.
    pub fn judge(
        &self,
        given: &Given,
        patterns: &[Pattern],
        seen: usize,
        in_common: usize,
    ) -> Result<Verdict, Fault> {
        self.knows(given, patterns)?;
        let expected: Vec<_> =
            self.matching(seen.min(in_common), patterns).iter().map(|entry| entry.id).collect();
        let got: Vec<_> = given.events.iter().map(|event| id(event)).collect();
        match given.is_gap {
            true if got == expected && seen <= in_common => Ok(Verdict::Needless),
            true => Ok(Verdict::Told),
            false if seen > in_common => {
                Err(Fault(format!("no gap for a place above the end: {got:?}")))
            }
            false if got != expected => {
                Err(Fault(format!("no gap, and not all: {got:?} instead of {expected:?}")))
            }
            false => Ok(Verdict::Exact),
        }
    }

    /// Judges what was given to a reader that asked for what happened since a time.
    pub fn judge_since(
        &self,
        given: &Given,
        patterns: &[Pattern],
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Verdict, Fault> {
        self.knows(given, patterns)?;
        let all = self.matching(0, patterns);
        let is_known = |entry: &Entry| {
            let place = self.entries.partition_point(|other| other.id < entry.id);
            self.cut_off.iter().all(|(upto, then)| place >= *upto || entry.date <= *then)
        };
        let got: Vec<_> = given.events.iter().map(|event| id(event)).collect();
        let is_since =
            |entry: &&&Entry| entry.date >= since && entry.date <= now && is_known(entry);
        let missed: Vec<_> =
            all.iter().filter(is_since).map(|e| e.id).filter(|id| !got.contains(id)).collect();
        let newest: Vec<_> =
            all[all.len().saturating_sub(got.len())..].iter().map(|entry| entry.id).collect();
        match given.is_gap {
            true if missed.is_empty() => Ok(Verdict::Needless),
            true => Ok(Verdict::Told),
            false if !missed.is_empty() => {
                Err(Fault(format!("no gap since a time, and {missed:?} are missing: {got:?}")))
            }
            false if newest != got => Err(Fault(format!("a hole since a time: {got:?}"))),
            false => Ok(Verdict::Exact),
        }
    }

    /// Judges what was given to who asked, after `seen` events of a log which has `in_common` events in common with this
    /// one, for what has changed of current values: the newest of each topic, by topic, tombstones too.
    pub fn judge_changed(
        &self,
        given: &Given,
        patterns: &[Pattern],
        seen: usize,
        in_common: usize,
    ) -> Result<Verdict, Fault> {
        let mut by_place = given.clone();
        by_place.events.sort_by_key(|event| event.cursor.map(|cursor| cursor.sequence));
        self.knows(&by_place, patterns)?;
        let changed = self.matching(seen.min(in_common), patterns).into_iter();
        let newest: BTreeMap<_, _> = changed.map(|entry| (&entry.topic, entry.id)).collect();
        let expected: Vec<_> = newest.into_values().collect();
        let got: Vec<_> = given.events.iter().map(|event| id(event)).collect();
        match given.is_gap {
            true if got == expected && seen <= in_common => Ok(Verdict::Needless),
            true => Ok(Verdict::Told),
            false if got != expected || seen > in_common => {
                Err(Fault(format!("no gap, and not what changed: {got:?}, not {expected:?}")))
            }
            false => Ok(Verdict::Exact),
        }
    }

    /// Judges what was given to who read all back from a place, newest first.
    pub fn judge_back(
        &self,
        given: &Given,
        patterns: &[Pattern],
        before: Cursor,
    ) -> Result<Verdict, Fault> {
        let mut forwards = given.clone();
        forwards.events.reverse();
        self.knows(&forwards, patterns)?;
        let all = self.matching(0, patterns).into_iter();
        let expected: Vec<_> =
            all.filter(|it| it.cursor.sequence < before.sequence).map(|entry| entry.id).collect();
        let got: Vec<_> = forwards.events.iter().map(|event| id(event)).collect();
        match given.is_gap {
            true if got == expected => Ok(Verdict::Needless),
            true => Ok(Verdict::Told),
            false if got != expected => {
                Err(Fault(format!("back, no gap, and not all: {got:?} instead of {expected:?}")))
            }
            false => Ok(Verdict::Exact),
        }
    }

    /// Judges what was given to who asked for all that is kept.
    pub fn judge_kept(&self, given: &Given, patterns: &[Pattern]) -> Result<(), Fault> {
        self.knows(given, patterns)?;
        match given.is_gap {
            true => Err(Fault("a gap for who asked for all that is kept".to_owned())),
            false => Ok(()),
        }
    }
}
