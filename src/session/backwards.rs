//! The newest events of what a subscribe wants, found backwards and sent forwards.
//!
//! How far back they reach is found first. What fits a page is at hand by then; more is only counted on the way back,
//! and read again on the way here, so that no session ever holds more than that.

use std::sync::Arc;

use super::reading::Kind;
use super::replay::{Cancelled, PAGE_BYTES, PAGE_EVENTS, Replay};
use crate::history::ReadBack;
use crate::model::{Cursor, Event, Pattern, Problem};

/// How many events are looked at on the way back before what was found is sent.
const MOST_LOOKED_AT: usize = 100_000;

/// The newest events that were found.
#[derive(Default)]
struct Stretch {
    /// All of them, newest first, where they are no more than a page.
    events: Vec<Arc<Event>>,
    bytes: usize,
    is_whole: bool,
    count: usize,
    oldest: Option<Arc<Event>>,
}

impl Stretch {
    fn add(&mut self, events: impl Iterator<Item = Arc<Event>>) {
        for event in events {
            self.count += 1;
            self.bytes += event.cost();
            self.is_whole &= self.bytes <= 2 * PAGE_BYTES;
            match self.is_whole {
                true => self.events.push(event.clone()),
                false => self.events.clear(),
            }
            self.oldest = Some(event);
        }
    }
}

impl Replay {
    /// Sends so many of the newest events after `sent` and up to a place, of those that the session may see, oldest
    /// first. What is more than a page is only counted on the way back, and read again on the way here.
    pub(super) async fn newest(
        &self,
        patterns: &Arc<[Pattern]>,
        count: usize,
        (sent, upto): (Option<Cursor>, Cursor),
        kind: Kind,
    ) -> Result<Result<(), Cancelled>, Problem> {
        let found = self.read_back(patterns, count, (sent, upto), kind).await?;
        let Stretch { mut events, oldest: Some(oldest), is_whole, .. } = found else {
            return Ok(Ok(()));
        };
        if is_whole {
            events.reverse();
            return Ok(self.send(&events, kind).await);
        }
        let mut after = oldest.cursor;
        if self.send(&[oldest], kind).await.is_err() {
            return Ok(Err(Cancelled));
        }
        while let Some(position) = after {
            // What was removed meanwhile is no gap: there is no place that it was promised from.
            let mut page = self.read(patterns, position, upto).await?;
            page.events.retain(|event| !event.topic.is_presence());
            if self.send(&page.events, kind).await.is_err() {
                return Ok(Err(Cancelled));
            }
            after = (!page.done).then_some(page.next);
        }
        Ok(Ok(()))
    }

    /// Looks for so many of these events.
    async fn read_back(
        &self,
        patterns: &Arc<[Pattern]>,
        count: usize,
        (sent, upto): (Option<Cursor>, Cursor),
        kind: Kind,
    ) -> Result<Stretch, Problem> {
        let mut found = Stretch { is_whole: true, ..Stretch::default() };
        let mut before = Some(upto.at(upto.sequence.saturating_add(1)));
        let (mut looked_at, mut max_events) = (0, count.min(PAGE_EVENTS));
        while before.is_some() && found.count < count && looked_at < MOST_LOOKED_AT {
            let (patterns, max_bytes) = (patterns.clone(), PAGE_BYTES);
            let read = ReadBack { patterns, before, max_events, max_bytes };
            let mut page = self.patiently(|| self.broker.history().read_back(read.clone())).await?;
            // Of a topic whose value was removed, only what came later is shown; and no replay goes back.
            let is_end = |event: &Arc<Event>| {
                event.cursor <= sent || (kind == Kind::Snapshot && event.is_tombstone())
            };
            if let Some(end) = page.events.iter().position(is_end) {
                page.events.truncate(end);
                page.next = None;
            }
            // Who came to a topic or left it says nothing of who is there.
            page.events.retain(|event| !event.topic.is_presence());
            let sees = |event: &Arc<Event>| self.with(|it| it.may_show(event, kind));
            let seen = page.events.into_iter().filter(|event| sees(event) == Some(true));
            found.add(seen.take(count - found.count));
            looked_at += page.looked_at;
            (before, max_events) = (page.next, PAGE_EVENTS);
            tokio::task::yield_now().await;
        }
        Ok(found)
    }
}
