//! The log in memory: fast, bounded, and gone when the broker stops.
//!
//! Storing is immediate, so both halves of an event's road run in one go under the lock that
//! numbers it. Each start is another log, which makes every older cursor a `gap`.

mod kept;
pub(super) mod log;
mod receipts;
mod stays;
mod topic_log;

use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::{BoxFuture, ready};

use self::log::Log;
use super::clock_steps::{ClockSteps, Dating};
use super::terms::{Judged, Standings};
use super::{
    Append, AppendError, BackPage, Departure, Ending, Feed, FoundBack, History, ListTopics, Moment,
    Newest, NewestPage, Page, Read, ReadBack, Receipt, Since, Stock, TopicSummary, upto,
};
use crate::clock::Clock;
use crate::config::{self, Rules};
use crate::model::{Cursor, LogName, Problem, Topic};
use crate::panics::lock;

/// The log in memory.
pub struct MemoryHistory {
    log: Mutex<Log>,
    start: Cursor,
    feed: Arc<dyn Feed>,
}

impl MemoryHistory {
    /// A new, empty log. `feed` is called with the log locked.
    pub fn new(
        start: Cursor,
        config: &config::History,
        rules: Rules,
        clock: Clock,
        feed: Arc<dyn Feed>,
    ) -> Self {
        let dating = Dating::new(0, ClockSteps::default());
        let log = Log::new(start, dating, config, rules, clock);
        Self { log: Mutex::new(log), start, feed }
    }

    /// Where a new log begins.
    pub fn new_start() -> Cursor {
        Cursor { log: LogName::random(), epoch: 1, sequence: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }

    fn append_now(&self, append: Append) -> Result<Receipt, AppendError> {
        let mut log = self.lock();
        if let Some(receipt) = log.known(&append)? {
            return Ok(receipt);
        }
        let Judged { events, apart } = log.judge(append.events, &Standings::new())?;
        let events = log.number(events);
        let receipt = log.commit(&events, apart, append.key);
        self.feed.committed(events);
        log.tell_removed(&*self.feed);
        Ok(receipt)
    }

    /// Does something that removes events, and tells which.
    fn remove<T>(&self, act: impl FnOnce(&mut Log) -> T) -> T {
        let mut log = self.lock();
        let done = act(&mut log);
        log.tell_removed(&*self.feed);
        done
    }

    /// Where reading begins, and whether `after` is a place in this log at all.
    fn resolve(&self, log: &Log, after: Option<Cursor>) -> (u64, bool) {
        match after {
            None => (self.start.sequence, false),
            Some(cursor) if cursor.at(0) == self.start.at(0) && cursor <= log.head() => {
                (cursor.sequence, false)
            }
            Some(_) => (self.start.sequence, true),
        }
    }

    fn read_now(&self, read: &Read) -> Page {
        let log = self.lock();
        let (after, foreign) = self.resolve(&log, read.after);
        let upto = read.upto.map_or(log.head(), |upto| upto.min(log.head())).sequence;
        let lost = match read.after {
            Some(_) => log.lost_after(after, &read.patterns),
            None => None,
        };
        let gap = lost.or(foreign.then_some(after)).map(|lost| self.start.at(lost));
        let found = log.read(&read.patterns, after, upto, read.max_events, read.max_bytes);
        let next = self.start.at(found.upto.max(after));
        Page { events: found.events, gap, next, done: found.upto >= upto }
    }

    fn read_back_now(&self, read: &ReadBack) -> BackPage {
        let log = self.lock();
        let resolve = |cursor| self.resolve(&log, Some(cursor));
        let (upto, foreign) = match read.before {
            Some(before) => upto(before, log.head(), resolve),
            None => (log.head().sequence, false),
        };
        let found = log.read_back(&read.patterns, upto, read.max_events, read.max_bytes);
        let FoundBack { events, downto, looked_at } = found;
        let next = (downto > 0).then(|| self.start.at(downto));
        let removed = || next.is_none() && log.lost_after(0, &read.patterns).is_some();
        BackPage { events, next, gap: foreign || removed(), looked_at }
    }
}

impl History for MemoryHistory {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Receipt, AppendError>> {
        Box::pin(ready(self.append_now(append)))
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, Problem>> {
        Box::pin(ready(Ok(self.read_now(&read))))
    }

    fn read_back(&self, read: ReadBack) -> BoxFuture<'_, Result<BackPage, Problem>> {
        Box::pin(ready(Ok(self.read_back_now(&read))))
    }

    fn position_before(&self, since: Since) -> BoxFuture<'_, Result<Moment, Problem>> {
        let log = self.lock();
        let time = since.time(log.time());
        let newest = log.newest_before(time);
        let gap = log.hides_some(newest, time);
        Box::pin(ready(Ok(Moment { position: self.start.at(newest), gap })))
    }

    fn newest(&self, newest: Newest) -> BoxFuture<'_, Result<NewestPage, Problem>> {
        let log = self.lock();
        let mut page = log.newest(&newest);
        page.events.retain(|event| newest.wants(event));
        if newest.since.is_some() {
            let (after, foreign) = self.resolve(&log, newest.since);
            page.gap = foreign || log.has_lost_newest(after, &newest.patterns);
        }
        Box::pin(ready(Ok(page)))
    }

    fn topics(&self, list: ListTopics) -> BoxFuture<'_, Result<Vec<TopicSummary>, Problem>> {
        Box::pin(ready(Ok(self.lock().topics(&list))))
    }

    fn topic(&self, topic: Topic) -> BoxFuture<'_, Result<TopicSummary, Problem>> {
        Box::pin(ready(Ok(self.lock().topic(topic))))
    }

    fn forget(&self, topic: Topic) -> BoxFuture<'_, Result<usize, Problem>> {
        Box::pin(ready(Ok(self.remove(|log| log.forget(&topic)))))
    }

    fn depart(&self, departures: Vec<Departure>) -> BoxFuture<'_, Result<(), Problem>> {
        self.lock().depart(departures);
        Box::pin(ready(Ok(())))
    }

    fn due(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Ending>, Problem>> {
        Box::pin(ready(Ok(self.lock().due(limit))))
    }

    fn head(&self) -> Cursor {
        self.lock().head()
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    fn stock(&self) -> Stock {
        Stock { memory: Some(self.lock().stock()), ..Stock::default() }
    }

    fn sweep(&self) {
        self.remove(Log::sweep);
    }

    fn stop(&self) {}
}
