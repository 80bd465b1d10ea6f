//! The kept events of all topics, within their bounds.
//!
//! Pure state. Every removal leaves its number behind: on the topic while the topic is known, and
//! in one floor once it is forgotten, so that a reader whose place lies before a removed event is
//! told of a gap. A needless gap is possible, a missing one is not.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::ops::Bound;
use std::sync::Arc;

use super::super::clock_steps::ClockSteps;
use super::super::terms::Standing;
use super::super::{FoundBack, NewestPage, Removal, TopicSummary};
use super::stays::{MaxStays, Stays};
use super::topic_log::{Bounds, TopicLog};
use crate::model::{Event, Pattern, Timestamp, Topic};

/// How many topics without events are remembered for the number of their last removed event.
const EMPTIED_TOPICS: usize = 10_000;

/// How many events or topics one page looks at; what it finds less often than that comes in several
/// pages, so that no reader holds the log for long.
const LOOKED_AT: usize = 4_096;

/// The kept events of all topics.
#[derive(Debug)]
pub(in crate::history) struct Kept {
    topics: BTreeMap<Topic, TopicLog>,
    topic_by_sequence: BTreeMap<u64, Topic>,
    /// Topics that lost their last event, oldest loss first; some may have events again.
    emptied: VecDeque<Topic>,
    /// Nothing up to here is known of topics that are not in `topics`.
    floor: u64,
    /// The number of the newest event that was removed.
    last_removed: u64,
    /// What all events cost, but for the broker's own state.
    bytes: usize,
    max_bytes: usize,
    /// Of what is kept up to here, all is state of the broker's own, or stays.
    spared: u64,
    /// The newest events that stay beyond their age or the bytes of all.
    stays: Stays,
    /// The number of the last removed event of each topic, where that is to be told.
    removed: HashMap<Topic, u64>,
}

/// Events found, and the place up to which everything was looked at.
#[derive(Debug)]
pub(in crate::history) struct Found {
    pub(in crate::history) events: Vec<Arc<Event>>,
    pub(in crate::history) upto: u64,
}

impl Kept {
    /// Nothing kept, and room for `max_bytes` beside what may stay.
    pub(in crate::history) fn new(max_bytes: usize, max_stays: MaxStays) -> Self {
        Self {
            topics: BTreeMap::new(),
            topic_by_sequence: BTreeMap::new(),
            emptied: VecDeque::new(),
            floor: 0,
            last_removed: 0,
            bytes: 0,
            max_bytes,
            spared: 0,
            stays: Stays::new(max_stays),
            removed: HashMap::new(),
        }
    }

    /// How much is kept.
    pub(in crate::history) fn stock(&self) -> super::super::Kept {
        super::super::Kept {
            bytes: self.bytes as u64,
            limit: self.max_bytes as u64,
            events: Some(self.topic_by_sequence.len() as u64),
            topics: Some(self.topics.len() as u64),
        }
    }

    /// Tells what was removed since this was last done.
    pub(in crate::history) fn tell_removed(&mut self, tell: impl FnOnce(&[Removal])) {
        if self.removed.is_empty() {
            return;
        }
        let topics = &self.topics;
        let removals = self.removed.drain().map(|(topic, upto)| {
            let is_superseded = topics.get(&topic).is_some_and(|log| !log.is_empty());
            Removal { topic: Some(topic), upto, is_superseded }
        });
        tell(&removals.collect::<Vec<_>>());
    }

    /// The number of the newest event before a moment, in milliseconds since 1970.
    pub(in crate::history) fn newest_before(
        &self,
        steps: &ClockSteps,
        moment: i64,
        head: u64,
    ) -> u64 {
        let next = |from: u64| -> Result<_, Infallible> {
            let event = |(sequence, topic): (&u64, &Topic)| {
                let event = self.topics.get(topic)?.event(*sequence)?;
                Some((*sequence, event.time.millis()))
            };
            Ok(self.topic_by_sequence.range(from..).find_map(event))
        };
        let Ok(newest) = steps.newest_before(moment, head, next);
        newest
    }

    /// Keeps an event, which must have the highest number so far, and removes what is then over a
    /// bound, oldest first.
    pub(in crate::history) fn keep(&mut self, sequence: u64, event: Arc<Event>, bounds: &Bounds) {
        let topic = event.topic.clone();
        let cost = event.cost();
        let floor = self.floor;
        let log = self.topics.entry(topic.clone()).or_insert_with(|| TopicLog::new(floor));
        let newest = log.staying().map(|(sequence, _)| *sequence);
        log.push(sequence, event, bounds);
        if !topic.is_state() {
            self.bytes += cost;
        }
        self.topic_by_sequence.insert(sequence, topic.clone());
        if newest.is_some_and(|replaced| self.stays.contains(replaced)) {
            self.remove_oldest(&topic);
        }
        while self.topics.get(&topic).is_some_and(|log| log.is_over(bounds)) {
            self.remove_oldest(&topic);
        }
        // The newest event of all is kept however large it is.
        while self.bytes - self.stays.bytes() > self.max_bytes
            && let Some(oldest) = self.oldest_of_others()
            && oldest < sequence
            && let Some(topic) = self.topic_by_sequence.get(&oldest).cloned()
        {
            self.let_go(&topic);
        }
        self.bound_stays();
    }

    /// The oldest event that is neither state of the broker's own nor stays.
    fn oldest_of_others(&mut self) -> Option<u64> {
        let left = (Bound::Excluded(self.spared), Bound::Unbounded);
        for (sequence, topic) in self.topic_by_sequence.range(left) {
            if !topic.is_state() && !self.stays.contains(*sequence) {
                return Some(*sequence);
            }
            self.spared = *sequence;
        }
        None
    }

    /// Removes the oldest event of `topic`, unless it is its newest and stays; whether it did.
    fn let_go(&mut self, topic: &Topic) -> bool {
        if let Some((sequence, event)) = self.topics.get(topic).and_then(TopicLog::staying) {
            self.stays.add(*sequence, event.cost());
            return false;
        }
        self.remove_oldest(topic)
    }

    /// Removes the oldest of what stays where that is too much.
    fn bound_stays(&mut self) {
        while let Some(oldest) = self.stays.surplus()
            && let Some(topic) = self.topic_by_sequence.get(&oldest).cloned()
        {
            self.remove_oldest(&topic);
        }
    }

    /// Removes every event of `topic`; returns how many.
    pub(in crate::history) fn forget(&mut self, topic: &Topic) -> usize {
        std::iter::repeat_with(|| self.remove_oldest(topic)).take_while(|removed| *removed).count()
    }

    /// Removes events that came before `oldest(topic)`, in milliseconds since 1970, but for what stays, from up to
    /// `limit` topics after `from`; returns where to go on, or nothing at the end. `aged` tells from when
    /// the age of an event counts, by its number and its date.
    pub(in crate::history) fn expire(
        &mut self,
        from: Option<&Topic>,
        limit: usize,
        oldest: impl Fn(&Topic) -> i64,
        aged: impl Fn(u64, Timestamp) -> i64,
    ) -> Option<Topic> {
        let looked_at: Vec<Topic> =
            self.after(from).take(limit).map(|(topic, _)| topic.clone()).collect();
        for topic in &looked_at {
            let oldest = oldest(topic);
            while let Some((sequence, event)) = self.topics.get(topic).and_then(TopicLog::oldest)
                && aged(*sequence, event.time) < oldest
                && self.let_go(topic)
            {}
        }
        self.bound_stays();
        if looked_at.len() < limit { None } else { looked_at.last().cloned() }
    }

    /// The newest number after `sequence` under which an event that one of `patterns` matches was,
    /// or may have been, removed.
    pub(in crate::history) fn lost_after(
        &self,
        sequence: u64,
        patterns: &[Pattern],
    ) -> Option<u64> {
        let lost = self.last_removed(sequence, patterns, |_| true);
        (lost > sequence).then_some(lost)
    }

    /// Whether that is so of a topic that keeps none which is newer.
    pub(in crate::history) fn has_lost_newest(&self, sequence: u64, patterns: &[Pattern]) -> bool {
        self.last_removed(sequence, patterns, TopicLog::is_empty) > sequence
    }

    /// The number of the last event that was, or may have been, removed of a topic that one of `patterns` matches; of the
    /// known ones, of those that count. It is not looked for where nothing was removed after `sequence`.
    fn last_removed(
        &self,
        sequence: u64,
        patterns: &[Pattern],
        counts: impl Fn(&TopicLog) -> bool,
    ) -> u64 {
        if self.last_removed <= sequence {
            return self.last_removed;
        }
        let last = |log: &TopicLog| if counts(log) { log.last_removed() } else { 0 };
        let removed = patterns.iter().map(|pattern| match pattern.as_topic() {
            Some(topic) => self.topics.get(&topic).map_or(self.floor, last),
            None => {
                let removed = self.matching(pattern, None).map(|(_, log)| last(log));
                removed.fold(self.floor, u64::max)
            }
        });
        removed.max().unwrap_or(0)
    }

    /// Events after `after` and up to `upto`, oldest first, until a limit is reached.
    pub(in crate::history) fn read(
        &self,
        patterns: &[Pattern],
        after: u64,
        upto: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> Found {
        let mut events = Vec::new();
        let mut bytes = 0;
        for (looked_at, (sequence, event)) in self.candidates(patterns, after, upto).enumerate() {
            if let Some(event) = event {
                bytes += event.cost();
                events.push(event.clone());
            }
            if events.len() >= max_events || bytes >= max_bytes || looked_at + 1 >= LOOKED_AT {
                return Found { events, upto: sequence };
            }
        }
        Found { events, upto: upto.max(after) }
    }

    /// Events up to `upto`, newest first, until a limit is reached.
    pub(in crate::history) fn read_back(
        &self,
        patterns: &[Pattern],
        upto: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> FoundBack {
        let (mut found, mut bytes) = (FoundBack::default(), 0);
        let mut candidates = self.candidates(patterns, 0, upto).rev().peekable();
        while let Some((sequence, event)) = candidates.next() {
            found.looked_at += 1;
            if let Some(event) = event {
                bytes += event.cost();
                found.events.push(event.clone());
            }
            let is_full = found.events.len() >= max_events || bytes >= max_bytes;
            if (is_full || found.looked_at >= LOOKED_AT) && candidates.peek().is_some() {
                found.downto = sequence;
                break;
            }
        }
        found
    }

    /// Numbers after `after` and up to `upto` in order, with their events where a pattern matches.
    /// One topic is read from its own list, anything else along the whole log.
    fn candidates<'a>(
        &'a self,
        patterns: &'a [Pattern],
        after: u64,
        upto: u64,
    ) -> Box<dyn DoubleEndedIterator<Item = (u64, Option<&'a Arc<Event>>)> + 'a> {
        if after >= upto {
            return Box::new(std::iter::empty());
        }
        if let [pattern] = patterns
            && let Some(topic) = pattern.as_topic()
        {
            let Some(log) = self.topics.get(&topic) else { return Box::new(std::iter::empty()) };
            let events = log.between(after, upto);
            return Box::new(events.map(|(sequence, event)| (*sequence, Some(event))));
        }
        let places = self.topic_by_sequence.range((Bound::Excluded(after), Bound::Included(upto)));
        Box::new(places.map(|(sequence, topic)| {
            let wanted = patterns.iter().any(|pattern| pattern.matches(topic));
            let log = if wanted { self.topics.get(topic) } else { None };
            (*sequence, log.and_then(|log| log.event(*sequence)))
        }))
    }

    /// The newest event of each topic that one of `patterns` matches, in order of topics.
    pub(in crate::history) fn newest(
        &self,
        patterns: &[Pattern],
        after: Option<&Topic>,
        max_events: usize,
        max_bytes: usize,
    ) -> NewestPage {
        let exact: Option<Vec<Topic>> = patterns.iter().map(Pattern::as_topic).collect();
        let (mut events, mut bytes) = (Vec::new(), 0);
        let topics: Box<dyn Iterator<Item = (&Topic, &TopicLog)>> = match exact {
            Some(mut exact) => {
                exact.sort_unstable();
                exact.dedup();
                exact.retain(|topic| after.is_none_or(|after| topic > after));
                Box::new(exact.into_iter().filter_map(|topic| self.topics.get_key_value(&topic)))
            }
            None => Box::new(self.after(after)),
        };
        for (looked_at, (topic, log)) in topics.enumerate() {
            if patterns.iter().any(|pattern| pattern.matches(topic)) {
                let newest = log.newest().cloned();
                bytes += newest.as_ref().map_or(0, |event| event.cost());
                events.extend(newest);
            }
            let is_full = events.len() >= max_events || bytes >= max_bytes;
            if is_full || looked_at + 1 >= LOOKED_AT {
                return NewestPage { events, gap: false, next: Some(topic.clone()) };
            }
        }
        NewestPage { events, gap: false, next: None }
    }

    /// Topics with events that `pattern` matches, by name.
    pub(in crate::history) fn topics(
        &self,
        pattern: &Pattern,
        after: Option<&Topic>,
        limit: usize,
    ) -> Vec<TopicSummary> {
        let with_events = self.matching(pattern, after).filter(|(_, log)| !log.is_empty());
        with_events.take(limit).map(|(topic, log)| log.summary(topic.clone())).collect()
    }

    /// What is kept of one topic.
    pub(in crate::history) fn topic(&self, topic: Topic) -> TopicSummary {
        match self.topics.get(&topic) {
            Some(log) => log.summary(topic),
            None => TopicSummary::empty(topic),
        }
    }

    /// How a topic stands, as far as terms go by it.
    pub(in crate::history) fn standing(&self, topic: &Topic) -> Standing {
        self.topics.get(topic).map(TopicLog::standing).unwrap_or_default()
    }

    fn after(&self, topic: Option<&Topic>) -> impl Iterator<Item = (&Topic, &TopicLog)> {
        let from = topic.map_or(Bound::Unbounded, Bound::Excluded);
        self.topics.range::<Topic, _>((from, Bound::Unbounded))
    }

    /// Known topics that `pattern` matches, after `after`, by name. Costs by the topics that begin
    /// as the pattern does.
    fn matching<'a>(
        &'a self,
        pattern: &'a Pattern,
        after: Option<&'a Topic>,
    ) -> impl Iterator<Item = (&'a Topic, &'a TopicLog)> {
        let prefix = pattern.literal_prefix();
        let from = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        self.topics
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(move |(topic, _)| topic.as_str().starts_with(prefix))
            .filter(|(topic, _)| pattern.matches(topic))
    }

    /// Removes the oldest event of `topic`; false if there was none.
    fn remove_oldest(&mut self, topic: &Topic) -> bool {
        let Some(log) = self.topics.get_mut(topic) else { return false };
        let Some((sequence, event)) = log.pop() else { return false };
        let is_emptied = log.is_empty();
        self.stays.remove(sequence, event.cost());
        if !topic.is_state() {
            self.bytes -= event.cost();
        }
        self.topic_by_sequence.remove(&sequence);
        self.last_removed = self.last_removed.max(sequence);
        match self.removed.get_mut(topic) {
            Some(last) => *last = sequence,
            None => _ = self.removed.insert(topic.clone(), sequence),
        }
        if is_emptied {
            self.emptied.push_back(topic.clone());
            self.forget_emptied();
        }
        true
    }

    fn forget_emptied(&mut self) {
        while self.emptied.len() > EMPTIED_TOPICS
            && let Some(topic) = self.emptied.pop_front()
        {
            if let Some(log) = self.topics.get(&topic)
                && log.is_empty()
            {
                self.floor = self.floor.max(log.last_removed());
                self.topics.remove(&topic);
            }
        }
    }
}

#[cfg(test)]
mod tests;
