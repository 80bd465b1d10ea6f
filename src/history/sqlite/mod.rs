//! The durable log: on disk, in an embedded SQLite, beside what is kept in memory.
//!
//! One sequence numbers both. Who publishes to a topic on disk waits for a group commit; who
//! publishes to one in memory waits only while a commit runs, so that nothing overtakes it. Reads
//! join both, each from its own place, in the order of the log.

mod back_page;
pub mod backup;
mod checkpoints;
mod convert;
mod epochs;
mod legacy;
mod open;
mod page;
mod past;
mod reader;
mod readers;
mod retention;
mod room;
mod rows;
mod space;
mod group_commit;
mod stays;
mod store;
mod strangers;
mod verify;
mod writer;

use std::cmp::Reverse;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::{error, info};

use self::epochs::Epochs;
use self::group_commit::{Admission, Forget, Shared, Trouble, Withdrawn};
pub use self::open::OpenError;
use self::open::{Directory, Noted};
use self::past::{Memories, Past};
use self::reader::Wanted;
use self::readers::Readers;
use self::room::Room;
use self::rows::{Outcome, ReceiptRow};
use self::space::{Bounds, Reserve};
use self::store::{Failure, Store};
use self::writer::Writer;
use super::clock_steps::Dating;
use super::memory::log::Log;
use super::{
    Append, AppendError, BackPage, Departure, Ending, EventReceipt, Feed, History, IdempotencyKey,
    ListTopics, Moment, Newest, NewestPage, Page, Read, ReadBack, Receipt, Since, TopicSummary,
    upto,
};
use crate::clock::{Clock, within};
use crate::config::{self, Rules, Storage};
use crate::model::{Code, Cursor, Event, Pattern, Problem, Timestamp, Topic};
use crate::panics::lock;

/// A history that is open and not yet written to.
pub struct Opened {
    directory: Arc<Directory>,
    store: Store,
    log: Log,
    reserve: Reserve,
    config: config::History,
    clock: Clock,
}

/// The durable log.
pub struct SqliteHistory {
    shared: Arc<Shared>,
    readers: Arc<Readers>,
    directory: Arc<Directory>,
    rules: Rules,
    epochs: Epochs,
    memories: Memories,
    commit_timeout: Duration,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Opened {
    /// Opens the data directory, checks what is in it, and begins an epoch, which numbers above all that any
    /// client may have seen. Where acknowledged events are proven to be missing, whoever comes with an older
    /// cursor is told of a gap.
    pub fn open(config: &config::History, rules: Rules, clock: Clock) -> Result<Self, OpenError> {
        let directory = Arc::new(Directory::open(&config.path)?);
        let reserve = Reserve::new(&directory, config);
        let mut store = Store::open(&directory, config, &rules)?;
        let committed = store.log().committed;
        let lost = match directory.head() {
            Noted::Number(noted) if noted > committed => {
                error!(noted, committed, "acknowledged events are missing from the history");
                Some(noted)
            }
            Noted::Damaged => {
                error!(committed, "what the history should hold is not known: head is damaged");
                Some(committed)
            }
            Noted::Nothing if committed > 0 => {
                info!(committed, "this is taken for a copy of a history, for it has no head");
                None
            }
            Noted::Nothing | Noted::Number(_) => None,
        };
        store.convert(&directory).map_err(|error| directory.unusable(error))?;
        let mut growth = 0;
        let sequence = match store.begin(lost) {
            Err(Failure::Full) => {
                reserve.give_up();
                store.empty_log();
                growth = directory.growth(&store.db).unwrap_or(0);
                store.begin(lost)
            }
            begun => begun,
        };
        let failed = |failure| match failure {
            Failure::Full => directory.full(growth),
            Failure::Busy(_) => OpenError::Locked(config.path.clone()),
            Failure::NotStored(reason) | Failure::Unknown(reason) => directory.damaged(reason),
        };
        let sequence = sequence.map_err(failed)?;
        let synced = directory.set_head(store.log().committed).and_then(|()| directory.sync());
        synced.map_err(|error| directory.damaged(error))?;
        let head = Cursor { log: store.log().name, epoch: store.past().epochs.newest(), sequence };
        let dating = Dating::new(store.log().time, store.past().steps.clone());
        let mut log = Log::new(head, dating, config, rules, clock);
        let receipts = store.receipts().map_err(|error| directory.damaged(error))?;
        for receipt in receipts {
            remember(&mut log, receipt, head, &store.past().epochs, clock);
        }
        let endings = store.endings().map_err(|error| directory.damaged(error))?;
        let now = Timestamp::from(clock.time()).millis();
        for row in endings {
            let left = row.left(now, log.steps());
            let position = row.cursor(head, &store.past().epochs);
            log.restore(row.topic, position, row.envelope, left);
        }
        Ok(Self { directory, store, log, reserve, config: config.clone(), clock })
    }

    /// The place above which new events are numbered.
    pub fn head(&self) -> Cursor {
        self.log.head()
    }

    /// Starts to write, and to tell `feed`.
    pub fn start(self, feed: Arc<dyn Feed>) -> std::io::Result<SqliteHistory> {
        let Self { directory, store, log, reserve, config, clock } = self;
        let rules = log.rules().clone();
        let readers = Arc::new(Readers::start(directory.clone())?);
        let bounds = Bounds::new(&config);
        checkpoints::start(Arc::downgrade(&readers), config.fsync, reserve.bound(bounds.moved))?;
        let reserved = store.log().reserved;
        let has_strays = store.has_strays().map_err(std::io::Error::other)?;
        let shared = Shared::new(log, reserved, has_strays, config.pending_bytes, feed);
        let shared = Arc::new(shared);
        let commit_timeout = config.commit_timeout;
        let Past { epochs, memories, .. } = store.past().clone();
        let writer = Writer {
            shared: shared.clone(),
            directory: directory.clone(),
            readers: readers.clone(),
            acknowledged: store.log().committed,
            store: Some(store),
            rules: rules.clone(),
            room: Room::new(reserve, bounds),
            is_failing: false,
            config,
            clock,
        };
        let thread = thread::Builder::new().name("history-writer".to_owned());
        let writer = Mutex::new(Some(thread.spawn(move || writer.run())?));
        Ok(SqliteHistory {
            shared,
            readers,
            directory,
            rules,
            epochs,
            memories,
            commit_timeout,
            writer,
        })
    }
}

/// Remembers the result of a publish from before a restart.
fn remember(log: &mut Log, row: ReceiptRow, head: Cursor, epochs: &Epochs, clock: Clock) {
    let time = Timestamp::from_millis(row.time);
    let now = Timestamp::from(clock.time()).millis();
    let age = now.saturating_sub(row.aged(log.steps()));
    let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
    let events = row.events.into_iter().map(|Outcome { topic, number, superseded }| {
        let cursor =
            number.map(|sequence| Cursor { log: head.log, epoch: epochs.of(sequence), sequence });
        EventReceipt { cursor, topic, time, superseded }
    });
    let asked = row.request.into();
    let key = IdempotencyKey { scope: row.scope, asked, is_in_series: false };
    log.remember(key, events.collect(), age);
}

impl SqliteHistory {
    /// Where reading after a cursor begins, and whether events after it are known to be missing.
    fn resolve(&self, head: Cursor, after: Option<Cursor>) -> (u64, bool) {
        match after {
            None => (0, false),
            Some(cursor) if cursor.log != head.log => (0, true),
            Some(cursor) => self.epochs.resolve(cursor, head.sequence),
        }
    }

    async fn read_page(&self, read: Read) -> Result<Page, Problem> {
        let head = self.head();
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
        let mut end = disk.upto.min(memory.upto);
        let mut events = disk.events;
        events.extend(memory.events);
        events.sort_unstable_by_key(|event| sequence(event));
        events.retain(|event| sequence(event) <= end);
        if events.len() > max_events {
            events.truncate(max_events);
            end = events.last().map_or(end, |event| sequence(event));
        }
        let gap = lost.filter(|_| read.after.is_some()).map(|lost| self.position(head, lost));
        Ok(Page { events, gap, next: self.position(head, end.max(after)), done: end >= upto })
    }

    /// The place of a number, which is of the epoch in which it was given.
    fn position(&self, head: Cursor, sequence: u64) -> Cursor {
        Cursor { epoch: self.epochs.of(sequence), ..head.at(sequence) }
    }

    async fn page_back(&self, read: ReadBack) -> Result<BackPage, Problem> {
        let head = self.head();
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
        let mut downto = disk.downto.max(memory.downto);
        let mut events = disk.events;
        events.extend(memory.events);
        events.sort_unstable_by_key(|event| Reverse(sequence(event)));
        events.retain(|event| sequence(event) >= downto);
        if events.len() > max_events {
            events.truncate(max_events);
            downto = events.last().map_or(downto, |event| sequence(event));
        }
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

    async fn newest_page(&self, newest: Newest) -> Result<NewestPage, Problem> {
        let head = self.head();
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

    async fn list(&self, list: ListTopics) -> Result<Vec<TopicSummary>, Problem> {
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

    async fn summary(&self, topic: Topic) -> Result<TopicSummary, Problem> {
        let head = self.head();
        let memory = self.shared.lock().log.topic(topic.clone());
        let disk = self.readers.read(move |reader| reader.summary(&topic, head));
        let (retained, latest) = disk.await?.unwrap_or_default();
        let newest = latest.into_iter().chain(memory.latest).max_by_key(|event| sequence(event));
        let retained = retained + memory.retained;
        Ok(TopicSummary::new(memory.topic, retained, newest))
    }
}

fn sequence(event: &Event) -> u64 {
    event.cursor.map_or(0, |cursor| cursor.sequence)
}

impl History for SqliteHistory {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Receipt, AppendError>> {
        let admission = self.shared.admit(append);
        Box::pin(async move {
            let (ticket, receiver) = match admission {
                Admission::Done(result) => return result,
                Admission::Waiting(ticket, receiver) => (ticket, receiver),
            };
            match within(self.commit_timeout, receiver).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => {
                    let reason = "the writer of the history has ended".to_owned();
                    Err(AppendError::OutcomeUnknown(reason))
                }
                Err(_) => {
                    let reason = format!("the disk did not answer in {:?}", self.commit_timeout);
                    Err(match self.shared.withdraw(ticket) {
                        Withdrawn::Unbegun => AppendError::Unavailable(reason),
                        Withdrawn::Repeat => AppendError::InProgress,
                        Withdrawn::TooLate => AppendError::OutcomeUnknown(reason),
                    })
                }
            }
        })
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, Problem>> {
        Box::pin(self.read_page(read))
    }

    fn read_back(&self, read: ReadBack) -> BoxFuture<'_, Result<BackPage, Problem>> {
        Box::pin(self.page_back(read))
    }

    fn position_before(&self, since: Since) -> BoxFuture<'_, Result<Moment, Problem>> {
        Box::pin(async move {
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
        })
    }

    fn newest(&self, newest: Newest) -> BoxFuture<'_, Result<NewestPage, Problem>> {
        Box::pin(self.newest_page(newest))
    }

    fn topics(&self, list: ListTopics) -> BoxFuture<'_, Result<Vec<TopicSummary>, Problem>> {
        Box::pin(self.list(list))
    }

    fn topic(&self, topic: Topic) -> BoxFuture<'_, Result<TopicSummary, Problem>> {
        Box::pin(self.summary(topic))
    }

    fn forget(&self, topic: Topic) -> BoxFuture<'_, Result<usize, Problem>> {
        let (answer, receiver) = oneshot::channel();
        self.shared.forget(Forget { topic, upto: None, removed: 0, answer });
        Box::pin(async move {
            let closed = |_| Problem::new(Code::Unavailable, "the history is closed");
            receiver.await.map_err(closed)?
        })
    }

    fn depart(&self, departures: Vec<Departure>) -> BoxFuture<'_, Result<(), Problem>> {
        self.shared.lock().log.depart(departures);
        Box::pin(ready(Ok(())))
    }

    fn due(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Ending>, Problem>> {
        let due = self.shared.lock().log.due(limit);
        Box::pin(ready(Ok(due)))
    }

    fn head(&self) -> Cursor {
        self.shared.lock().log.head()
    }

    fn trouble(&self) -> Option<String> {
        let state = self.shared.lock();
        match &state.trouble {
            Some(Trouble::Full) => Some(
                "there is no space left for the history, or less than history.reserve_bytes"
                    .to_owned(),
            ),
            Some(Trouble::Busy(reason)) => Some(reason.clone()),
            Some(Trouble::Broken(reason)) => Some(format!("the disk has failed: {reason}")),
            None => state
                .slow_commit()
                .map(|elapsed| format!("the disk has not answered for {} s", elapsed.as_secs())),
        }
    }

    fn sweep(&self) {
        self.shared.remove(Log::sweep);
    }

    fn stop(&self) {
        self.shared.stop();
        let writer = lock(&self.writer).take();
        if let Some(writer) = writer {
            if writer.join().is_err() {
                error!("the writer of the history has panicked");
            }
            self.directory.unlock();
        }
    }
}

impl Drop for SqliteHistory {
    fn drop(&mut self) {
        self.stop();
    }
}
