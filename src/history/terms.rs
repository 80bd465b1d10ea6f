//! What events are stored under: whether a newer value stands there already, and what has to be the newest.
//!
//! Pure state. Terms are judged where events are numbered, so that nothing comes between.

use std::collections::HashMap;

use super::{AppendError, EventReceipt, Superseded};
use crate::model::{
    Cursor, Envelope, Event, Latest, LogName, NewEvent, Terms, Timestamp, Topic, Version,
};

/// How a topic stands, as far as terms go by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::history) struct Standing {
    /// The newest number that an event of it ever had, as far as that is known.
    pub(in crate::history) last: u64,
    /// The number of its newest kept event.
    pub(in crate::history) newest: Option<u64>,
    /// Whether that is a current value, and no tombstone.
    pub(in crate::history) has_value: bool,
    /// The version of its newest kept event that carries one: its epoch and its number.
    pub(in crate::history) version: Option<(Option<String>, u64)>,
}

/// How topics stand that are asked for by name.
pub(in crate::history) type Standings = HashMap<Topic, Standing>;

/// What becomes of events that are to be stored together.
#[derive(Debug, Default)]
pub(in crate::history) struct Judged {
    /// Those to store.
    pub(in crate::history) events: Vec<NewEvent>,
    /// Those that are superseded, each with its place among all.
    pub(in crate::history) apart: Apart,
}

/// Results of events that are not stored, each with its place among those that were given.
pub(in crate::history) type Apart = Vec<(usize, EventReceipt)>;

impl Standing {
    /// Of two places where a topic may be kept, the one with its newest event counts.
    pub(in crate::history) fn or(self, other: Self) -> Self {
        if self.newest.max(Some(self.last)) < other.newest.max(Some(other.last)) {
            other
        } else {
            self
        }
    }

    /// The standing of a topic by its newest kept event, and its newest one that carries a version.
    pub(in crate::history) fn of(
        last: u64,
        newest: Option<&Event>,
        versioned: Option<&Event>,
    ) -> Self {
        let version = versioned.and_then(|event| event.envelope.as_ref()?.version());
        Self {
            last,
            newest: newest.and_then(|event| event.cursor).map(|cursor| cursor.sequence),
            has_value: newest.is_some_and(|event| !event.is_tombstone()),
            version: version.map(|version| (version.epoch.map(str::to_owned), version.number)),
        }
    }

    /// Whether an event may be stored; what supersedes it, where it is superseded.
    fn judge(&self, event: &NewEvent, log: LogName) -> Result<Option<Superseded>, Unmet> {
        let terms = event.terms.as_deref();
        if let Some(Terms { unless_after: Some(after), .. }) = terms {
            // It carries the version of what it ends, which is no reason to keep that.
            let is_followed = after.log != log || self.last > after.sequence;
            return Ok(is_followed.then_some(Superseded { version: None }));
        }
        let version = event.envelope.as_ref().and_then(|envelope| envelope.version());
        if let Some(version) = version
            && let Some((epoch, number)) = &self.version
            && version.is_superseded_by(Version { epoch: epoch.as_deref(), number: *number })
        {
            return Ok(Some(Superseded { version: Some(*number) }));
        }
        let is_met = match terms.and_then(|terms| terms.if_latest) {
            None => true,
            Some(Latest::Absent) => !self.has_value,
            Some(Latest::Present) => self.has_value,
            Some(Latest::Is(cursor)) => cursor.log == log && self.newest == Some(cursor.sequence),
        };
        if is_met { Ok(None) } else { Err(Unmet) }
    }

    /// Notes an event that is numbered, and comes next.
    pub(in crate::history) fn follow(&mut self, event: &Event) {
        if let Some(cursor) = event.cursor {
            self.stored(event.envelope.as_deref(), cursor.sequence);
        }
    }

    /// Notes an event that is stored under a number.
    fn stored(&mut self, envelope: Option<&Envelope>, number: u64) {
        self.last = number;
        self.newest = Some(number);
        self.has_value = envelope.is_none_or(|envelope| envelope.removed().is_none());
        if let Some(version) = envelope.and_then(Envelope::version) {
            self.version = Some((version.epoch.map(str::to_owned), version.number));
        }
    }
}

/// What has to be the newest is not.
struct Unmet;

/// Whether an event is stored whatever is there.
pub(in crate::history) fn is_free(event: &NewEvent) -> bool {
    let is_free = |envelope: &Envelope| envelope.version().is_none() && envelope.holder().is_none();
    event.terms.is_none() && event.envelope.as_deref().is_none_or(is_free)
}

/// Judges events that are to be stored together, in their order: each as if those before it were stored. The next
/// one that is kept will have the number after `last`; `standing` tells how a topic stands before that. An
/// event of which a newer value is kept is superseded and changes nothing; where what has to be the newest is
/// not, nothing of all is stored.
pub(in crate::history) fn judge(
    events: Vec<NewEvent>,
    last: Cursor,
    time: Timestamp,
    is_kept: impl Fn(&NewEvent) -> bool,
    standing: impl Fn(&Topic) -> Standing,
) -> Result<Judged, AppendError> {
    let mut standings = Standings::new();
    let (mut judged, mut number) = (Judged::default(), last.sequence);
    for (index, event) in events.into_iter().enumerate() {
        let known = standings.entry(event.topic.clone()).or_insert_with(|| standing(&event.topic));
        let verdict = match is_kept(&event) {
            true => known.judge(&event, last.log).map_err(|_| AppendError::NotLatest { index })?,
            false => None,
        };
        if verdict.is_some() {
            let topic = event.topic;
            judged
                .apart
                .push((index, EventReceipt { cursor: None, topic, time, superseded: verdict }));
            continue;
        }
        if is_kept(&event) {
            number += 1;
            known.stored(event.envelope.as_deref(), number);
        }
        judged.events.push(event);
    }
    Ok(judged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Data, Member, Removed};

    fn event(members: &[Member<'_>], terms: Terms) -> NewEvent {
        let envelope = (!members.is_empty()).then(|| members.iter().copied().collect::<Envelope>());
        NewEvent {
            envelope: envelope.map(Box::new),
            terms: (terms != Terms::default()).then(|| Box::new(terms)),
            ..NewEvent::new(Topic::parse("a").unwrap(), None, Data::from_text("x"))
        }
    }

    fn version(number: u64) -> NewEvent {
        event(&[Member::Version(number)], Terms::default())
    }

    fn if_latest(latest: Latest) -> NewEvent {
        event(&[], Terms { if_latest: Some(latest), ..Terms::default() })
    }

    fn head() -> Cursor {
        Cursor::parse("abcdefgh-1-7").unwrap()
    }

    fn judged(events: Vec<NewEvent>, standing: &Standing) -> Result<Vec<Option<u64>>, usize> {
        let count = events.len();
        let time = Timestamp::from_millis(0);
        match judge(events, head(), time, NewEvent::is_kept, |_| standing.clone()) {
            Ok(Judged { events, apart }) => {
                assert_eq!(events.len() + apart.len(), count);
                let mut all = vec![None; count];
                apart.into_iter().for_each(|(at, receipt)| {
                    all[at] = Some(receipt.superseded.unwrap().version.unwrap_or(0));
                });
                Ok(all)
            }
            Err(AppendError::NotLatest { index }) => Err(index),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_value_gives_way_to_a_version_that_is_not_lower_also_within_one_batch() {
        let none = Standing::default();
        assert_eq!(
            judged(vec![version(1), version(1), version(3), version(2)], &none),
            Ok(vec![None, Some(1), None, Some(3)])
        );
        let kept = Standing { version: Some((None, 5)), ..Standing::default() };
        let other = event(&[Member::Version(1), Member::Epoch("2")], Terms::default());
        assert_eq!(judged(vec![version(5), version(6)], &kept), Ok(vec![Some(5), None]));
        assert_eq!(judged(vec![other, version(9)], &kept), Ok(vec![None, None]));
    }

    #[test]
    fn what_has_to_be_the_newest_is_so_or_nothing_is_stored() {
        let value = Standing { last: 7, newest: Some(7), has_value: true, version: None };
        let tombstone = Standing { has_value: false, ..value.clone() };
        let is = Latest::Is(head());
        let (absent, present) = (Latest::Absent, Latest::Present);
        for (standing, expected) in [
            (&Standing::default(), [true, false, false]),
            (&value, [false, true, true]),
            (&tombstone, [true, false, true]),
        ] {
            for (latest, is_met) in [absent, present, is].into_iter().zip(expected) {
                let expected = if is_met { Ok(vec![None]) } else { Err(0) };
                assert_eq!(judged(vec![if_latest(latest)], standing), expected, "{latest:?}");
            }
        }
        let of_another_log = Latest::Is(Cursor::parse("zzzzzzzz-1-7").unwrap());
        assert_eq!(judged(vec![if_latest(of_another_log)], &value), Err(0));
        // The second follows the first, and a tombstone leaves nothing.
        let gone = event(&[Member::Removed(Removed::Publisher)], Terms::default());
        let next = Latest::Is(head().at(8));
        assert_eq!(judged(vec![if_latest(absent), if_latest(next)], &tombstone), Ok(vec![None; 2]));
        assert_eq!(judged(vec![gone, if_latest(present)], &value), Err(1));
    }

    #[test]
    fn what_follows_a_place_is_superseded_by_whatever_came_after_it() {
        let after = |sequence| {
            event(&[], Terms { unless_after: Some(head().at(sequence)), ..Terms::default() })
        };
        let standing = Standing { last: 7, ..Standing::default() };
        assert_eq!(
            judged(vec![after(6), after(7), after(7)], &standing),
            Ok(vec![Some(0), None, Some(0)])
        );
    }
}
