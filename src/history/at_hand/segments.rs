//! The newest events of a log, in segments, and what of them is missing.
//!
//! Pure state. Who wants much walks along the segments, who names few topics follows each of them; both get the same.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::ops::Bound;
use std::sync::Arc;

use super::super::{BackPage, Earlier, Loss, Newest, NewestPage, Page, Removal};
use super::removed::Removed;
use super::segment::{EVENTS, Segment};
use super::wanted::Wanted;
use crate::model::{Cursor, Event, Topic};

/// How many looks one page takes at most, but for those at its last segment.
const LOOKS: usize = 4_096;

/// The most segments of one page.
const MOST_SEGMENTS: usize = 256;

/// The most segments that are looked at for what has changed.
const MOST_CHANGES: usize = 64;

/// How many beginnings of epochs are known at most.
const TURNS: usize = 64;

/// In how many segments the bytes go, at least: with the oldest one no more than such a part of them goes.
const PARTS: usize = 16;

/// The newest events of a log.
#[derive(Debug)]
pub(super) struct Segments {
    max_bytes: usize,
    /// Everything after this place is here or noted as missing.
    start: Cursor,
    /// Nothing after this place is.
    end: Cursor,
    /// Where an epoch began in between, oldest first.
    turns: VecDeque<Turn>,
    segments: VecDeque<Arc<Segment>>,
    /// What the segments take.
    bytes: usize,
    removed: Removed,
    /// What was there before the start may still come, so that what is removed of it is noted.
    awaits_earlier: bool,
}

/// The end of an epoch and the beginning of the next one, with nothing lost: no place in between is one that the log
/// has told.
#[derive(Debug, Clone, Copy)]
struct Turn {
    last: Cursor,
    first: Cursor,
}

/// What a page is made of, as of one moment.
#[derive(Debug)]
pub(super) struct Stretch {
    after: Cursor,
    upto: Cursor,
    segments: Vec<Arc<Segment>>,
    /// There are more.
    is_cut: bool,
}

/// What has come after a place, up to the last one.
#[derive(Debug)]
pub(super) struct Changes(Stretch);

impl Segments {
    /// Nothing yet, of a log that stands at `start`; later at most so many bytes.
    pub(super) fn new(start: Cursor, max_bytes: usize) -> Self {
        let (segments, turns, removed) = (VecDeque::new(), VecDeque::new(), Removed::default());
        let (end, awaits_earlier) = (start, false);
        Self { max_bytes, start, end, turns, segments, bytes: 0, removed, awaits_earlier }
    }

    /// Forgets everything, and goes on after `start`.
    pub(super) fn restart(&mut self, start: Cursor) {
        *self = Self::new(start, self.max_bytes);
    }

    /// Adds events that come next in the log; those without a place are nobody's to read again.
    pub(super) fn add(&mut self, events: &[Arc<Event>]) {
        for event in events {
            if let Some(place) = event.cursor {
                self.come_to(place);
                self.push(place, event.clone());
            }
        }
        self.bound();
    }

    /// Notes an event that comes next in the log and was not read.
    pub(super) fn pass(&mut self, topic: &Topic, place: Cursor) {
        self.come_to(place);
        self.removed.note(topic, place.sequence);
        self.bound();
    }

    /// Notes that events were lost.
    pub(super) fn lose(&mut self, Loss { position, topics, .. }: &Loss) {
        let Some(topics) = topics else { return self.restart(*position) };
        // The last of them may stand where the log is already.
        if *position != self.end {
            self.reach(*position, *position);
        }
        topics.iter().for_each(|lost| self.removed.note(&lost.topic, position.sequence));
        self.bound();
    }

    /// Hears what is kept no longer.
    pub(super) fn remove(&mut self, removals: &[Removal]) {
        for Removal { topic, upto, .. } in removals {
            match topic {
                None => self.removed.note_any(*upto),
                Some(topic) if self.awaits_earlier || *upto > self.start.sequence => {
                    self.removed.note(topic, *upto);
                }
                Some(_) => {}
            }
        }
        self.bound();
    }

    /// From here on what was there before the start may come; up to which place, and how many bytes of it at most.
    pub(super) fn await_earlier(&mut self) -> (Cursor, usize) {
        self.awaits_earlier = true;
        (self.start, self.max_bytes)
    }

    /// Takes what was there before the start, unless some of what came since is gone already.
    pub(super) fn precede(&mut self, earlier: Option<Earlier>) {
        let is_awaited = mem::take(&mut self.awaits_earlier);
        let earlier = earlier.filter(|earlier| is_awaited && earlier.upto == self.start);
        let Some(Earlier { after, upto, events, missing }) = earlier else {
            return self.removed.forget(self.start.sequence);
        };
        let mut before = Self::new(after, self.max_bytes);
        before.add(&events);
        if before.end != upto {
            before.turns.push_back(Turn { last: before.end, first: upto });
        }
        before.turns.append(&mut self.turns);
        before.segments.append(&mut self.segments);
        (self.turns, self.segments) = (before.turns, before.segments);
        self.bytes += before.bytes;
        self.start = before.start;
        self.remove(&missing);
    }

    /// The log has come to an event.
    fn come_to(&mut self, place: Cursor) {
        self.reach(place.at(place.sequence.saturating_sub(1)), place);
    }

    /// The log has come to a place, which follows on an earlier one; where it does not follow on all that was told, nothing
    /// from before is certain. It does where an epoch begins of which no loss was told, for numbers go on over all of them.
    fn reach(&mut self, first: Cursor, place: Cursor) {
        let end = self.end;
        if place.log != end.log || place.epoch < end.epoch || place.sequence <= end.sequence {
            self.restart(first);
        } else if place.epoch > end.epoch {
            self.turns.push_back(Turn { last: end, first });
            if self.turns.len() > TURNS
                && let Some(oldest) = self.turns.pop_front()
            {
                self.forget_up_to(oldest.first);
            }
        }
        self.end = place;
    }

    /// Whether a place is one that the log has told, and everything after it is here or noted as missing.
    fn knows(&self, place: Cursor) -> bool {
        let is_between = |turn: &Turn| turn.last < place && place < turn.first;
        place.log == self.end.log
            && (self.start..=self.end).contains(&place)
            && !self.turns.iter().any(is_between)
    }

    fn push(&mut self, place: Cursor, event: Arc<Event>) {
        let is_open = |last: &Arc<Segment>| {
            last.len() < EVENTS && last.bytes() < (self.max_bytes / PARTS).max(1)
        };
        if !self.segments.back().is_some_and(is_open) {
            self.segments.push_back(Arc::default());
        }
        if let Some(last) = self.segments.back_mut() {
            let before = last.bytes();
            // Whoever reads it at this moment has it as it was.
            let last = Arc::make_mut(last);
            last.push(place, event);
            self.bytes += last.bytes() - before;
        }
    }

    /// Lets the oldest go where all is too much.
    fn bound(&mut self) {
        while self.bytes() > self.max_bytes {
            let oldest = self.segments.front().and_then(|oldest| oldest.end());
            self.forget_up_to(oldest.unwrap_or(self.end));
            if self.start == self.end && self.removed.bytes() > self.max_bytes {
                self.restart(self.end);
            }
        }
    }

    /// How much it holds, with what is noted of removals.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.removed.bytes()
    }

    /// Forgets all that is before a place, at which a segment ends or begins.
    fn forget_up_to(&mut self, place: Cursor) {
        while let Some(oldest) = self.segments.front()
            && oldest.end() <= Some(place)
        {
            self.bytes -= oldest.bytes();
            self.segments.pop_front();
        }
        self.start = place;
        self.turns.retain(|turn| turn.last >= place);
        self.removed.forget(place.sequence);
    }

    /// All that comes after one place and up to another, or the beginning of it; none unless every event there
    /// that is wanted is here.
    pub(super) fn stretch(
        &self,
        wanted: &Wanted<'_>,
        after: Cursor,
        upto: Cursor,
    ) -> Option<Stretch> {
        let is_known = self.knows(after) && self.knows(upto);
        if !is_known || self.removed.lacks(wanted, after.sequence) {
            return None;
        }
        let from = self.segments.partition_point(|one| one.end() <= Some(after));
        let most = if wanted.names().is_some() { MOST_SEGMENTS } else { LOOKS / EVENTS + 1 };
        let segments = self.segments.range(from..).take_while(|one| one.begins_before(upto));
        let mut segments: Vec<_> = segments.take(most + 1).cloned().collect();
        let is_cut = segments.len() > most;
        segments.truncate(most);
        Some(Stretch { after, upto, segments, is_cut })
    }

    /// What comes up to a place and behind the last of it that is missing, or the end of it, the newest segment first; none
    /// unless that place is known.
    pub(super) fn stretch_back(&self, wanted: &Wanted<'_>, upto: Cursor) -> Option<Stretch> {
        if !self.knows(upto) {
            return None;
        }
        let after = upto.at(self.removed.last(wanted, self.start.sequence));
        let most = if wanted.names().is_some() { MOST_SEGMENTS } else { LOOKS / EVENTS + 1 };
        let to = self.segments.partition_point(|one| one.begins_before(upto));
        let segments = self.segments.range(..to).rev().take(most);
        let segments = segments
            .take_while(|one| one.end().is_some_and(|end| end.sequence > after.sequence))
            .cloned()
            .collect();
        Some(Stretch { after, upto, segments, is_cut: true })
    }

    /// What has changed of current values since a place; none unless all of it is here and it is not too much. What was
    /// removed is no matter where something newer of its topic is here.
    pub(super) fn changes(&self, wanted: &Wanted<'_>, since: Cursor) -> Option<Changes> {
        if !self.knows(since) {
            return None;
        }
        let from = self.segments.partition_point(|one| one.end() <= Some(since));
        if self.segments.len() - from > MOST_CHANGES || !self.removed.knows_topics(since.sequence) {
            return None;
        }
        let segments: Vec<_> = self.segments.range(from..).cloned().collect();
        let is_followed = |topic: &Topic, last: u64| {
            let newest = segments.iter().rev().find_map(|one| one.newest(topic));
            newest.is_some_and(|newest| newest > last)
        };
        let is_whole = self.removed.all_after(wanted, since.sequence, is_followed);
        let stretch = Stretch { after: since, upto: self.end, segments, is_cut: false };
        is_whole.then_some(Changes(stretch))
    }
}

impl Changes {
    /// A page of them, by topic.
    pub(super) fn page(&self, wanted: &Wanted<'_>, newest: &Newest) -> NewestPage {
        let mut by_topic = BTreeMap::new();
        for segment in &self.0.segments {
            let (found, _) = segment.find(wanted, self.0.after.sequence, self.0.upto.sequence);
            by_topic.extend(found.into_iter().map(|(_, event)| (&event.topic, event)));
        }
        let from = newest.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut events, mut bytes) = (Vec::new(), 0);
        let mut values = by_topic.range::<Topic, _>((from, Bound::Unbounded)).peekable();
        while let Some((topic, event)) = values.next() {
            bytes += event.cost();
            events.push(Arc::clone(event));
            let is_full = events.len() >= newest.max_events || bytes >= newest.max_bytes;
            if is_full && values.peek().is_some() {
                return NewestPage { events, gap: false, next: Some(Topic::clone(topic)) };
            }
        }
        NewestPage { events, gap: false, next: None }
    }
}

impl Stretch {
    /// As much of it as goes into one page.
    pub(super) fn page(&self, wanted: &Wanted<'_>, max_events: usize, max_bytes: usize) -> Page {
        let (mut events, mut bytes, mut looks) = (Vec::new(), 0, 0);
        let (after, upto) = (self.after.sequence, self.upto.sequence);
        let part = |events, next: Cursor| {
            let next = next.min(self.upto).max(self.after);
            Page { events, gap: None, next, done: next >= self.upto }
        };
        let mut end = self.after;
        for segment in &self.segments {
            let (found, took) = segment.find(wanted, after, upto);
            looks += took;
            for (place, event) in found {
                bytes += event.cost();
                events.push(event.clone());
                if events.len() >= max_events || bytes >= max_bytes {
                    return part(events, *place);
                }
            }
            end = segment.end().unwrap_or(end);
            if looks >= LOOKS {
                return part(events, end);
            }
        }
        part(events, if self.is_cut { end } else { self.upto })
    }

    /// The newest of one that goes backwards, as many as go into one page; none unless there are more than that, for only
    /// the log knows what comes before all that is here.
    pub(super) fn page_back(
        &self,
        wanted: &Wanted<'_>,
        max_events: usize,
        max_bytes: usize,
    ) -> Option<BackPage> {
        let (mut events, mut bytes, mut looked_at) = (Vec::<Arc<Event>>::new(), 0, 0);
        for segment in &self.segments {
            let (found, took) = segment.find(wanted, self.after.sequence, self.upto.sequence);
            looked_at += took;
            for (_, event) in found.into_iter().rev() {
                if events.len() >= max_events || bytes >= max_bytes {
                    let next = events.last().and_then(|oldest| oldest.cursor);
                    return Some(BackPage { events, next, gap: false, looked_at });
                }
                bytes += event.cost();
                events.push(event.clone());
            }
            if looked_at >= LOOKS {
                return None;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
