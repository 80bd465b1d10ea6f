//! Reading the log backwards, newest first: a few topics each from its own stream, anything wider along the index of all.

use std::cmp::Reverse;

use redis::RedisResult;

use super::super::{BackPage, FoundBack, ReadBack, upto};
use super::log_state::LogState;
use super::reader::{LOOKED_AT, Reader, VALUES, event, few_topics, never, removed};
use super::reads::{Found, IndexEntry, Reads};
use crate::model::{Problem, Topic};

/// A page while it is put together.
struct Back<'a> {
    read: &'a ReadBack,
    state: &'a LogState,
    upto: u64,
    found: FoundBack,
    bytes: usize,
    /// Whether there is an event that this release can't read.
    is_missing: bool,
}

impl Reader {
    /// Kept events, newest first.
    pub(super) async fn page_back(&self, read: ReadBack) -> Result<BackPage, Problem> {
        self.with(async |mut reads| {
            let Some(state) = reads.state().await? else { return Ok(Err(never())) };
            let resolve = |cursor| {
                let resolved = state.resolve(cursor);
                (resolved.after, resolved.is_lost)
            };
            let (upto, foreign) = match read.before {
                Some(before) => upto(before, state.head, resolve),
                None => (state.head.sequence, false),
            };
            let (found, is_missing) = (FoundBack::default(), foreign);
            let mut back = Back { read: &read, state: &state, upto, found, bytes: 0, is_missing };
            match few_topics(&mut reads, &read.patterns).await? {
                Some(topics) => back.by_topic(&mut reads, &topics).await?,
                None => back.along(&mut reads).await?,
            }
            let Back { found: FoundBack { events, downto, looked_at }, is_missing, .. } = back;
            let next = (downto > 0).then(|| state.at(downto));
            let gap = is_missing
                || next.is_none()
                    && (state.breach > 0
                        || removed(&mut reads, &read.patterns, 0).await?.1.is_some());
            Ok(Ok(BackPage { events, next, gap, looked_at }))
        })
        .await
    }
}

impl Back<'_> {
    fn matches(&self, topic: &Topic) -> bool {
        self.read.patterns.iter().any(|pattern| pattern.matches(topic))
    }

    async fn by_topic(&mut self, reads: &mut Reads<'_>, topics: &[Topic]) -> RedisResult<()> {
        // One more than may be wanted, by which the end is known.
        let count = (self.read.max_events / topics.len().max(1)).clamp(4, 2 * VALUES) + 1;
        let ranges = reads.ranges_back(topics, self.upto, count).await?;
        let full = ranges.iter().filter(|range| range.len() == count);
        let ends = full.filter_map(|range| range.last()).map(|found| found.sequence);
        let end = ends.max().unwrap_or(0);
        let all = topics.iter().zip(&ranges);
        let mut all: Vec<_> =
            all.flat_map(|(topic, range)| range.iter().map(move |found| (topic, found))).collect();
        all.retain(|(_, found)| found.sequence >= end);
        all.sort_unstable_by_key(|(_, found)| Reverse(found.sequence));
        self.found.downto = end;
        let last = all.last().map(|(_, found)| found.sequence);
        for (topic, found) in all {
            self.found.looked_at += 1;
            if self.take(topic, Some(found)) && Some(found.sequence) != last {
                self.found.downto = found.sequence;
                break;
            }
        }
        Ok(())
    }

    async fn along(&mut self, reads: &mut Reads<'_>) -> RedisResult<()> {
        let (mut index, mut end): (Vec<IndexEntry>, _) = (Vec::new(), self.upto.saturating_add(1));
        // As many as are wanted where all match, and more each time where few do.
        let mut count = self.read.max_events.clamp(LOOKED_AT / 16, LOOKED_AT);
        while end > 0 && self.found.looked_at < LOOKED_AT && index.len() < self.read.max_events {
            let step = reads.index_page_back(end - 1, count).await?;
            end = match step.last() {
                Some(last) if step.len() == count => last.sequence,
                Some(_) | None => 0,
            };
            self.found.looked_at += step.len();
            count = LOOKED_AT.min(count * 2);
            index.extend(step.into_iter().filter(|entry| self.matches(&entry.topic)));
        }
        self.found.downto = end;
        let last = index.last().map(|entry| entry.sequence);
        for few in index.chunks_mut(VALUES) {
            few.reverse();
            let found = reads.events(few).await?;
            for (entry, found) in few.iter().zip(&found).rev() {
                if self.take(&entry.topic, found.as_ref()) && Some(entry.sequence) != last {
                    self.found.downto = entry.sequence;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes an event, unless it is gone or can't be read; whether the page is full.
    fn take(&mut self, topic: &Topic, found: Option<&Found>) -> bool {
        let event = found.and_then(|found| event(found, topic, self.state));
        self.is_missing |= found.is_some() && event.is_none();
        self.bytes += event.as_ref().map_or(0, |event| event.cost());
        self.found.events.extend(event);
        let ReadBack { max_events, max_bytes, .. } = *self.read;
        self.found.events.len() >= max_events || self.bytes >= max_bytes
    }
}
