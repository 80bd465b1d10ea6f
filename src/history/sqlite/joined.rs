//! The log as it is read: what is on the disk and what is in memory, joined.
//!
//! A read asks both for a page and goes no further than both have looked. Whichever a topic is kept in now, it may have been
//! kept in the other before.

use std::cmp::Reverse;
use std::sync::Arc;

use super::super::{
    BackPage, ListTopics, Moment, Newest, NewestPage, Page, Read, ReadBack, Since, TopicSummary,
    upto,
};
use super::epochs::Epochs;
use super::group_commit::Shared;
use super::past::Memories;
use super::reader::{self, Wanted};
use super::readers::Readers;
use crate::config::{Rules, Storage};
use crate::model::{Cursor, Event, Pattern, Problem, Topic};

/// Both halves of a log.
pub(super) struct Joined {
    pub(super) shared: Arc<Shared>,
    pub(super) readers: Arc<Readers>,
    pub(super) rules: Rules,
    pub(super) epochs: Epochs,
    pub(super) memories: Memories,
}

impl Joined {
    /// Where reading after a cursor begins, and whether events after it are known to be missing.
    fn resolve(&self, head: Cursor, after: Option<Cursor>) -> (u64, bool) {
        match after {
            None => (0, false),
            Some(cursor) if cursor.log != head.log => (0, true),
            Some(cursor) => self.epochs.resolve(cursor, head.sequence),
        }
    }

    pub(super) async fn read(&self, read: Read) -> Result<Page, Problem> {
        let head = self.shared.lock().log.head();
        let (after, foreign) = self.resolve(head, read.after);
        let upto = read.upto.map_or(head, |upto| upto.min(head)).sequence;
        let Read { patterns, max_events, max_bytes, .. } = read;
        let wanted =
            Wanted { patterns: patterns.clone(), after, upto, max_events, max_bytes, head };
        let disk = self.readers.read(move |reader| reader.events(&wanted)).await?;
        // What was in memory went with the process; what is there now is lost by topic.
        let went = self.memories.lost(&patterns, after);
        let (memory, forgotten) = {
            let state = self.shared.lock();
            let found = state.log.read(&patterns, after, upto, max_events, max_bytes);
            (found, state.log.lost_after(after, &self.in_memory(&patterns)))
        };
        let lost = disk.lost.max(forgotten).max(went).or(foreign.then_some(after));
        let pages = [(disk.events, disk.upto), (memory.events, memory.upto)];
        let (events, end) = join(pages, max_events, sequence);
        let gap = lost.filter(|_| read.after.is_some()).map(|lost| self.position(head, lost));
        Ok(Page { events, gap, next: self.position(head, end.max(after)), done: end >= upto })
    }

    /// The place of a number, which is of the epoch in which it was given.
    fn position(&self, head: Cursor, sequence: u64) -> Cursor {
        self.epochs.position(head, sequence)
    }

    pub(super) async fn read_back(&self, read: ReadBack) -> Result<BackPage, Problem> {
        let head = self.shared.lock().log.head();
        let resolve = |cursor| self.resolve(head, Some(cursor));
        let (upto, foreign) = match read.before {
            Some(before) => upto(before, head, resolve),
            None => (head.sequence, false),
        };
        let ReadBack { patterns, max_events, max_bytes, .. } = read;
        let wanted =
            Wanted { patterns: patterns.clone(), after: 0, upto, max_events, max_bytes, head };
        let (disk, is_missing) =
            self.readers.read(move |reader| reader.events_back(&wanted)).await?;
        let (memory, forgotten) = {
            let state = self.shared.lock();
            let found = state.log.read_back(&patterns, upto, max_events, max_bytes);
            (found, state.log.lost_after(0, &self.in_memory(&patterns)))
        };
        let pages = [(disk.events, Reverse(disk.downto)), (memory.events, Reverse(memory.downto))];
        let (events, Reverse(downto)) = join(pages, max_events, |event| Reverse(sequence(event)));
        let next = (downto > 0).then(|| self.position(head, downto));
        let was_lost = || {
            let breach = self.epochs.all().iter().any(|epoch| epoch.lost > 0);
            breach || forgotten.is_some() || self.memories.lost(&patterns, 0).is_some()
        };
        let gap = foreign || is_missing || next.is_none() && was_lost();
        Ok(BackPage { events, next, gap, looked_at: disk.looked_at + memory.looked_at })
    }

    /// Those of some patterns that topics in memory may match.
    fn in_memory(&self, patterns: &[Pattern]) -> Vec<Pattern> {
        let in_memory = |pattern: &&Pattern| self.rules.may_match(pattern, Storage::Memory);
        patterns.iter().filter(in_memory).cloned().collect()
    }

    pub(super) async fn newest(&self, newest: Newest) -> Result<NewestPage, Problem> {
        let head = self.shared.lock().log.head();
        let since = newest.since.map(|since| self.resolve(head, Some(since)));
        let after = since.map(|(after, _)| after);
        let memory = self.shared.lock().log.newest(&newest);
        let (asked, max_events) = (newest.clone(), newest.max_events);
        let read = move |reader: &reader::Reader| reader.newest(&asked, after, head);
        let (disk, is_lost) = self.readers.read(read).await?;
        let mut next = match (disk.upto, memory.next) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let mut events: Vec<_> = disk.found.into_iter().map(|(_, event)| event).collect();
        events.extend(memory.events);
        // Where a topic moved from one to the other, its newest event is the one that counts.
        events.sort_unstable_by(|a, b| a.topic.cmp(&b.topic).then(sequence(b).cmp(&sequence(a))));
        events.dedup_by(|b, a| a.topic == b.topic);
        events.retain(|event| next.as_ref().is_none_or(|next| event.topic <= *next));
        let has_lost = |after| self.has_lost_newest(after, &newest.patterns, &events);
        let gap = since.is_some_and(|(after, foreign)| foreign || has_lost(after));
        events.retain(|event| newest.wants(event));
        if events.len() > max_events {
            events.truncate(max_events);
            next = events.last().map(|event| event.topic.clone());
        }
        Ok(NewestPage { events, gap: gap || is_lost, next })
    }

    /// Whether an event that was in memory after a place is gone, and of those that were found none is of its topic and
    /// newer.
    fn has_lost_newest(&self, after: u64, patterns: &[Pattern], found: &[Arc<Event>]) -> bool {
        // What was in memory went with the process, whatever its rule says now.
        let mut went = patterns.iter().filter_map(|pattern| {
            let upto = self.memories.lost(std::slice::from_ref(pattern), after)?;
            Some((pattern.as_topic(), upto))
        });
        let is_followed = |topic: &Topic, upto| {
            found.iter().any(|event| event.topic == *topic && sequence(event) > upto)
        };
        let is_lost = went.any(|(topic, upto)| !topic.is_some_and(|it| is_followed(&it, upto)));
        is_lost || self.shared.lock().log.has_lost_newest(after, &self.in_memory(patterns))
    }

    pub(super) async fn topics(&self, list: ListTopics) -> Result<Vec<TopicSummary>, Problem> {
        let mut topics = self.shared.lock().log.topics(&list);
        let ListTopics { pattern, mut after, limit } = list;
        let mut on_disk = 0;
        while on_disk < limit {
            let (patterns, from) = ([pattern.clone()], after.clone());
            let read =
                move |reader: &reader::Reader| reader.summaries(&patterns, from.as_ref(), limit);
            let page = self.readers.read(read).await?;
            on_disk += page.found.len();
            topics.extend(page.found.into_iter().map(|(_, summary)| summary));
            match page.upto {
                Some(upto) => after = Some(upto),
                None => break,
            }
        }
        // Where a topic moved from one to the other, its newest event is the one that counts.
        topics.sort_by(|a, b| a.topic.cmp(&b.topic).then(b.latest_time.cmp(&a.latest_time)));
        topics.dedup_by(|b, a| {
            let is_same = a.topic == b.topic;
            if is_same {
                a.retained += b.retained;
            }
            is_same
        });
        for summary in &mut topics {
            summary.latest = None;
        }
        topics.truncate(limit);
        Ok(topics)
    }

    pub(super) async fn topic(&self, topic: Topic) -> Result<TopicSummary, Problem> {
        let head = self.shared.lock().log.head();
        let memory = self.shared.lock().log.topic(topic.clone());
        let disk = self.readers.read(move |reader| reader.summary(&topic, head));
        let (retained, latest) = disk.await?.unwrap_or_default();
        let newest = latest.into_iter().chain(memory.latest).max_by_key(|event| sequence(event));
        let retained = retained + memory.retained;
        Ok(TopicSummary::new(memory.topic, retained, newest))
    }

    pub(super) async fn position_before(&self, since: Since) -> Result<Moment, Problem> {
        let (head, time, steps, in_memory) = {
            let state = self.shared.lock();
            let time = since.time(state.log.time());
            (state.log.head(), time, state.log.steps().clone(), state.log.newest_before(time))
        };
        let on_disk = self.readers.read(move |reader| {
            let next = |from| reader.next_date(from);
            steps.newest_before(time.millis(), head.sequence, next)
        });
        let newest = on_disk.await?.max(in_memory);
        let gap = self.shared.lock().log.hides_some(newest, time);
        Ok(Moment { position: self.position(head, newest), gap })
    }
}

/// The events of two pages in the order of `place`, as far as both have looked and so many go; and how far that is.
fn join<P: Ord + Copy>(
    pages: [(Vec<Arc<Event>>, P); 2],
    max_events: usize,
    place: impl Fn(&Event) -> P,
) -> (Vec<Arc<Event>>, P) {
    let [(mut events, end), (others, other_end)] = pages;
    let mut end = end.min(other_end);
    events.extend(others);
    events.sort_unstable_by_key(|event| place(event));
    events.retain(|event| place(event) <= end);
    if events.len() > max_events {
        events.truncate(max_events);
        end = events.last().map_or(end, |event| place(event));
    }
    (events, end)
}

fn sequence(event: &Event) -> u64 {
    event.cursor.map_or(0, |cursor| cursor.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Data, LogName, Timestamp};

    fn events(numbers: &[u64]) -> Vec<Arc<Event>> {
        let log = LogName::parse("abcdefgh").unwrap();
        let event = |number: &u64| {
            let cursor = Some(Cursor { log, epoch: 1, sequence: *number });
            let (topic, data) = (Topic::parse("a").unwrap(), Data::from_text("x"));
            let time = Timestamp::from_millis(0);
            Arc::new(Event { cursor, topic, kind: None, time, data, envelope: None })
        };
        numbers.iter().map(event).collect()
    }

    fn numbers(events: &[Arc<Event>]) -> Vec<u64> {
        events.iter().map(|event| sequence(event)).collect()
    }

    #[test]
    fn two_pages_are_joined_as_far_as_both_have_looked() {
        let pages = || [(events(&[1, 4, 9]), 9), (events(&[2, 6]), 7)];
        let (joined, end) = join(pages(), 9, sequence);
        assert_eq!((numbers(&joined), end), (vec![1, 2, 4, 6], 7));
        let (joined, end) = join(pages(), 3, sequence);
        assert_eq!((numbers(&joined), end), (vec![1, 2, 4], 4));
    }

    #[test]
    fn backwards_they_are_joined_as_far_down_as_both_have_looked() {
        let pages = || [(events(&[9, 4, 1]), Reverse(1)), (events(&[6, 5]), Reverse(5))];
        let back = |event: &Event| Reverse(sequence(event));
        let (joined, Reverse(downto)) = join(pages(), 9, back);
        assert_eq!((numbers(&joined), downto), (vec![9, 6, 5], 5));
        let (joined, Reverse(downto)) = join(pages(), 2, back);
        assert_eq!((numbers(&joined), downto), (vec![9, 6], 6));
    }
}
