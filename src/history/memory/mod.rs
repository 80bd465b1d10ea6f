//! The log in memory: fast, bounded, and gone when the broker stops.
//!
//! Storing is immediate, so both halves of an event's road run in one go under the lock that
//! numbers it. Each start is another log, which makes every older cursor a `gap`.

mod kept;
mod receipts;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use futures_util::future::{BoxFuture, ready};

use self::kept::{Bounds, Kept};
use self::receipts::{Known, Receipts};
use super::{
    Append, AppendError, EventReceipt, Feed, History, ListTopics, Newest, NewestPage, Page, Read,
    Receipt, TopicSummary,
};
use crate::config::{self, Rules, Storage};
use crate::model::{Cursor, Event, LogName, NewEvent, Problem, Timestamp, Topic};

/// How many topics one sweep looks at.
const SWEPT_TOPICS: usize = 4_096;

/// The log in memory.
pub struct MemoryHistory {
    log: Mutex<Log>,
    rules: Rules,
    start: Cursor,
    feed: Arc<dyn Feed>,
}

struct Log {
    head: Cursor,
    kept: Kept,
    receipts: Receipts,
    swept: Option<Topic>,
}

impl MemoryHistory {
    /// A new, empty log. `feed` is called with the log locked.
    pub fn new(start: Cursor, config: &config::History, rules: Rules, feed: Arc<dyn Feed>) -> Self {
        let log = Log {
            head: start,
            kept: Kept::new(config.total_bytes),
            receipts: Receipts::new(config.idempotency_window, config.idempotency_keys),
            swept: None,
        };
        Self { log: Mutex::new(log), rules, start, feed }
    }

    /// Where a new log begins.
    pub fn new_start() -> Cursor {
        Cursor { log: LogName::random(), epoch: 1, sequence: 0 }
    }

    /// A panic while the log was locked leaves whole entries behind, so the lock stays usable.
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_now(&self, append: Append) -> Result<Receipt, AppendError> {
        let mut log = self.lock();
        if let Some(key) = &append.key {
            match log.receipts.find(key, Instant::now()) {
                Known::Same(events) => return Ok(Receipt { events, repeated: true }),
                Known::Other => return Err(AppendError::Mismatch),
                Known::Full => return Err(AppendError::TooManyKeys),
                Known::New => {}
            }
        }
        let time = Timestamp::from(SystemTime::now());
        let events: Vec<_> =
            append.events.into_iter().map(|event| self.store(&mut log, event, time)).collect();
        let receipts = events.iter().map(|event| receipt(event));
        let receipt = Receipt { events: receipts.collect(), repeated: false };
        if let Some(key) = append.key {
            log.receipts.remember(key, receipt.events.clone(), Instant::now());
        }
        self.feed.committed(events);
        Ok(receipt)
    }

    fn store(&self, log: &mut Log, event: NewEvent, time: Timestamp) -> Arc<Event> {
        let NewEvent { topic, kind, data } = event;
        let rule = self.rules.of(&topic);
        let event = |cursor| Arc::new(Event { cursor, topic, kind, time, data });
        match rule.storage {
            Storage::None => event(None),
            Storage::Memory => {
                log.head.sequence += 1;
                let event = event(Some(log.head));
                let bounds = Bounds { max_events: rule.max_events, max_bytes: rule.max_bytes };
                log.kept.keep(log.head.sequence, event.clone(), &bounds);
                event
            }
        }
    }

    /// Where reading begins, and whether `after` is a place in this log at all.
    fn position(&self, log: &Log, after: Option<Cursor>) -> (u64, bool) {
        match after {
            None => (self.start.sequence, false),
            Some(cursor) if cursor.at(0) == self.start.at(0) && cursor <= log.head => {
                (cursor.sequence, false)
            }
            Some(_) => (self.start.sequence, true),
        }
    }

    fn read_now(&self, read: &Read) -> Page {
        let log = self.lock();
        let (after, foreign) = self.position(&log, read.after);
        let upto = read.upto.map_or(log.head, |upto| upto.min(log.head)).sequence;
        let lost = match read.after {
            Some(_) => log.kept.lost_after(after, &read.patterns),
            None => None,
        };
        let gap = lost.or(foreign.then_some(after)).map(|lost| self.start.at(lost));
        let found = log.kept.read(&read.patterns, after, upto, read.max_events, read.max_bytes);
        let next = self.start.at(found.upto.max(after));
        Page { events: found.events, gap, next, done: found.upto >= upto }
    }
}

fn receipt(event: &Event) -> EventReceipt {
    EventReceipt { cursor: event.cursor, topic: event.topic.clone(), time: event.time }
}

impl History for MemoryHistory {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Receipt, AppendError>> {
        Box::pin(ready(self.append_now(append)))
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, Problem>> {
        Box::pin(ready(Ok(self.read_now(&read))))
    }

    fn newest(&self, newest: Newest) -> BoxFuture<'_, Result<NewestPage, Problem>> {
        let page =
            self.lock().kept.newest(&newest.patterns, newest.after.as_ref(), newest.max_events);
        Box::pin(ready(Ok(page)))
    }

    fn topics(&self, list: ListTopics) -> BoxFuture<'_, Result<Vec<TopicSummary>, Problem>> {
        let topics = self.lock().kept.topics(&list.pattern, list.after.as_ref(), list.limit);
        Box::pin(ready(Ok(topics)))
    }

    fn topic(&self, topic: Topic) -> BoxFuture<'_, Result<TopicSummary, Problem>> {
        Box::pin(ready(Ok(self.lock().kept.topic(topic))))
    }

    fn forget(&self, topic: Topic) -> BoxFuture<'_, Result<usize, Problem>> {
        Box::pin(ready(Ok(self.lock().kept.forget(&topic))))
    }

    fn head(&self) -> Cursor {
        self.lock().head
    }

    fn sweep(&self) {
        let now = Timestamp::from(SystemTime::now()).millis();
        let mut log = self.lock();
        let oldest = |topic: &Topic| {
            let age = i64::try_from(self.rules.of(topic).max_age.as_millis()).unwrap_or(i64::MAX);
            now.saturating_sub(age)
        };
        let from = log.swept.take();
        log.swept = log.kept.expire(from.as_ref(), SWEPT_TOPICS, oldest);
        log.receipts.expire(Instant::now());
    }
}
