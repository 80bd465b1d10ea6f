//! What is to become of events by what they carry and by the terms they come under, told from what is kept.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare::history::Receipt;
use fanfare::model::{Cursor, Envelope, Event, Latest, NewEvent, Terms, Topic};

use crate::chronicle::Fault;

/// What is to become of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Stored,
    PassedOn,
    /// A newer version is there, or something that came after what it ends.
    Superseded(Option<u64>),
}

/// How a topic stands before the next event of those that come together.
#[derive(Debug, Clone, Default)]
struct Standing {
    /// Its newest kept event; no place where it comes with the others.
    newest: Option<Option<Cursor>>,
    has_value: bool,
    version: Option<(Option<String>, u64)>,
}

impl Standing {
    fn follow(&mut self, envelope: Option<&Envelope>, place: Option<Cursor>) {
        self.newest = Some(place);
        self.has_value = envelope.is_none_or(|envelope| envelope.removed().is_none());
        if let Some(version) = envelope.and_then(Envelope::version) {
            self.version = Some((version.epoch.map(str::to_owned), version.number));
        }
    }

    /// Whether what has to be the newest is.
    fn meets(&self, latest: Latest) -> bool {
        match latest {
            Latest::Absent => !self.has_value,
            Latest::Present => self.has_value,
            Latest::Is(cursor) => {
                // A number is given once, whatever its epoch is called.
                let number = |place: Cursor| (place.log, place.sequence);
                self.newest.flatten().map(number) == Some(number(cursor))
            }
        }
    }

    fn fate(&self, event: &NewEvent, last: Option<&Cursor>) -> Result<Fate, ()> {
        let terms = event.terms.as_deref().cloned().unwrap_or_default();
        if let Some(after) = terms.unless_after {
            let is_followed = last.is_some_and(|last| last.sequence > after.sequence);
            return Ok(if is_followed { Fate::Superseded(None) } else { Fate::Stored });
        }
        let version = event.envelope.as_ref().and_then(|envelope| envelope.version());
        if let (Some(version), Some((epoch, number))) = (version, &self.version)
            && version.epoch == epoch.as_deref()
            && version.number <= *number
        {
            return Ok(Fate::Superseded(Some(*number)));
        }
        match terms.if_latest {
            Some(latest) if !self.meets(latest) => Err(()),
            _ => Ok(Fate::Stored),
        }
    }
}

/// What is to become of events that come together: of each, or the first whose terms are not met. `kept` is all that is kept
/// of their topics, `last` the place of the last event that ever was of each.
pub fn fates(
    kept: &[Arc<Event>],
    events: &[NewEvent],
    is_kept: impl Fn(&Topic) -> bool,
    last: &HashMap<Topic, Cursor>,
) -> Result<Vec<Fate>, usize> {
    let mut standings: HashMap<&Topic, Standing> = HashMap::new();
    for event in kept {
        let standing = standings.entry(&event.topic).or_default();
        standing.follow(event.envelope.as_deref(), event.cursor);
    }
    let mut fates = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let passes = event.terms.as_deref().is_some_and(|Terms { passes, .. }| *passes);
        if passes || !is_kept(&event.topic) {
            fates.push(Fate::PassedOn);
            continue;
        }
        let standing = standings.entry(&event.topic).or_default();
        let fate = standing.fate(event, last.get(&event.topic)).map_err(|()| index)?;
        if fate == Fate::Stored {
            standing.follow(event.envelope.as_deref(), None);
        }
        fates.push(fate);
    }
    Ok(fates)
}

/// What became of events that came together.
pub fn came_to(receipt: &Receipt) -> Vec<Fate> {
    let fate = |event: &fanfare::history::EventReceipt| match (event.cursor, event.superseded) {
        (Some(_), _) => Fate::Stored,
        (None, Some(superseded)) => Fate::Superseded(superseded.version),
        (None, None) => Fate::PassedOn,
    };
    receipt.events.iter().map(fate).collect()
}

/// What became of events is what was to become of them by what was kept before, or by what is kept of that now: some of it
/// may have grown too old meanwhile.
pub fn judge(
    came_to: &Result<Vec<Fate>, usize>,
    expected: [Result<Vec<Fate>, usize>; 2],
) -> Result<(), Fault> {
    match expected.contains(came_to) {
        true => Ok(()),
        false => Err(Fault(format!("it came to {came_to:?}, and should to one of {expected:?}"))),
    }
}
