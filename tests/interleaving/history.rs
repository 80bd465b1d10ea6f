//! A log in memory that answers late, out of step, with errors and with gaps, and loses events; and
//! that remembers everything, so that it also knows what clients should have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fanfare::history::{
    Append, AppendError, BackPage, Departure, Ending, EventReceipt, Feed, History, ListTopics,
    Loss, Moment, Newest, NewestPage, Page, Read, ReadBack, Receipt, Removal, Since, Stock,
    Superseded, TopicSummary,
};
use fanfare::model::{Code, Cursor, Event, NewEvent, Problem, Removed, Timestamp, Topic};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::rights::wall;
use crate::seed::Dice;

/// For how long the values of a session stay whose client may come back.
const LINGER: Duration = Duration::from_secs(5);

/// How the log behaves.
#[derive(Debug, Clone, Copy)]
pub struct Temper {
    /// How late it answers at most, in milliseconds.
    pub late: usize,
    /// How many of a hundred answers are errors.
    pub errors: usize,
    /// How many events of a topic it keeps.
    pub kept: usize,
}

/// An event that was stored once.
#[derive(Debug, Clone)]
pub struct Record {
    /// The event.
    pub event: Arc<Event>,
    /// It was committed, and then the log did not have it any more.
    pub is_lost: bool,
    /// When it was forgotten, if it was.
    pub forgotten: Option<Instant>,
}

#[derive(Debug)]
struct Log {
    head: Cursor,
    /// Where each epoch before this one ended.
    ends: Vec<Cursor>,
    kept: Vec<Arc<Event>>,
    /// The newest removed event of each topic.
    removed: BTreeMap<Topic, Cursor>,
    /// What of that is to be told.
    untold: Vec<Removal>,
    records: Vec<Record>,
    /// When the values end of sessions that have left.
    left: BTreeMap<String, Instant>,
    /// Whose values have ended, by the broker's tombstones.
    ended: BTreeSet<String>,
    dice: Dice,
}

/// The log.
pub struct SimulatedHistory {
    log: Mutex<Log>,
    feed: Arc<dyn Feed>,
    temper: Temper,
    /// It answers at once, and well.
    is_calm: AtomicBool,
    /// Answers that somebody waits for.
    waiting: AtomicUsize,
}

/// One answer that is waited for.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SimulatedHistory {
    /// Where the log begins.
    pub fn start() -> Cursor {
        Cursor::parse("mazemaze-1-0").expect("a cursor")
    }

    /// An empty log.
    pub fn new(feed: Arc<dyn Feed>, temper: Temper, dice: Dice) -> Self {
        let log = Log {
            head: Self::start(),
            ends: Vec::new(),
            kept: Vec::new(),
            removed: BTreeMap::new(),
            untold: Vec::new(),
            records: Vec::new(),
            left: BTreeMap::new(),
            ended: BTreeSet::new(),
            dice,
        };
        let (is_calm, waiting) = (AtomicBool::new(false), AtomicUsize::new(0));
        Self { log: Mutex::new(log), feed, temper, is_calm, waiting }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nobody panics with it")
    }

    /// Answers at once, and well, from here on.
    pub fn calm_down(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }

    /// How many answers are waited for.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// All that was ever stored, in order.
    pub fn records(&self) -> Vec<Record> {
        self.lock().records.clone()
    }

    /// When the event of a place was forgotten, if it was.
    pub fn forgotten(&self, id: Cursor) -> Option<Instant> {
        let log = self.lock();
        let record = log.records.iter().rfind(|record| record.event.cursor == Some(id));
        record.and_then(|record| record.forgotten)
    }

    /// The newest kept event of each topic.
    pub fn current(&self) -> BTreeMap<Topic, Arc<Event>> {
        let log = self.lock();
        log.kept.iter().map(|event| (event.topic.clone(), event.clone())).collect()
    }

    /// The values that are bound to a session, with its id.
    pub fn bound(&self) -> Vec<(Topic, String)> {
        let bound = |(topic, event): (Topic, Arc<Event>)| Some((topic, holder(&event)?.to_owned()));
        self.current().into_iter().filter_map(bound).collect()
    }

    /// Whether values of a session were ended.
    pub fn has_ended(&self, session: &str) -> bool {
        self.lock().ended.contains(session)
    }

    /// Loses the newest `count` events, as a Redis does that fails over to a replica which was behind:
    /// a new epoch begins.
    pub fn lose(&self, count: usize) {
        let mut log = self.lock();
        let epoch = log.head.epoch;
        let is_of_epoch = |event: &&Arc<Event>| event.cursor.is_some_and(|at| at.epoch == epoch);
        let lost = log.kept.iter().rev().take(count).take_while(is_of_epoch).count();
        let survivors = log.kept.len() - lost;
        let lost = log.kept.split_off(survivors);
        let Some(first) = lost.first().and_then(|event| event.cursor) else { return };
        let since = first.at(first.sequence - 1);
        for record in &mut log.records {
            record.is_lost |= record.event.cursor >= Some(first);
        }
        log.ends.push(since);
        log.head = Cursor { epoch: epoch + 1, sequence: log.head.sequence + 100, ..since };
        self.feed.broken(Loss { since, position: log.head, topics: None });
    }

    /// Waits as long as it pleases; true where the answer is an error.
    async fn dawdle(&self) -> bool {
        if self.is_calm.load(Ordering::Relaxed) {
            return false;
        }
        let (mut dice, fails) = {
            let mut log = self.lock();
            let dice = log.dice.part();
            (dice, log.dice.percent(self.temper.errors))
        };
        dice.pause(self.temper.late).await;
        fails
    }

    fn begin(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// Answers with what `answer` finds at some moment while the asker waits.
    async fn ask<T>(&self, answer: impl FnOnce(&mut Log) -> T) -> Result<T, Problem> {
        let _waiting = self.begin();
        let away = || Problem::new(Code::Unavailable, "the log is away");
        if self.dawdle().await {
            return Err(away());
        }
        let found = answer(&mut self.lock());
        if self.dawdle().await { Err(away()) } else { Ok(found) }
    }

    fn store(&self, append: Append) -> Receipt {
        let mut log = self.lock();
        let time = Timestamp::from(wall());
        let (mut events, mut receipts) = (Vec::new(), Vec::new());
        for new in append.events {
            let topic = new.topic.clone();
            let ends = new.terms.as_ref().and_then(|terms| terms.unless_after);
            let newest = log.kept.iter().rfind(|event| event.topic == topic).cloned();
            if ends.is_some() && newest.as_ref().and_then(|newest| newest.cursor) > ends {
                let superseded = Some(Superseded { version: None });
                receipts.push(EventReceipt { cursor: None, topic, time, superseded });
                continue;
            }
            if ends.is_some() {
                let holder = newest.as_deref().and_then(holder).map(str::to_owned);
                log.ended.extend(holder);
            }
            log.head.sequence += 1;
            let cursor = Some(log.head);
            receipts.push(EventReceipt { cursor, topic, time, superseded: None });
            let NewEvent { topic, kind, data, envelope, .. } = new;
            events.push(Arc::new(Event { cursor, topic, kind, time, data, envelope }));
        }
        for event in &events {
            log.keep(event.clone(), self.temper.kept);
        }
        self.feed.committed(events);
        log.tell_removed(&*self.feed);
        Receipt { events: receipts, repeated: false }
    }
}

/// The session that a value is bound to.
fn holder(event: &Event) -> Option<&str> {
    event.envelope.as_ref()?.holder()
}

impl Log {
    /// What ends with a session that has left.
    fn due(&self, limit: usize) -> Vec<Ending> {
        let newest: BTreeMap<_, _> = self.kept.iter().map(|event| (&event.topic, event)).collect();
        let is_over =
            |session: &str| self.left.get(session).is_some_and(|at| *at <= Instant::now());
        let ended = newest.into_values().filter(|event| holder(event).is_some_and(is_over));
        let ending = |event: &Arc<Event>| Ending {
            topic: event.topic.clone(),
            position: event.cursor.expect("it was numbered"),
            version: Default::default(),
            reason: Removed::Left,
        };
        ended.take(limit).map(ending).collect()
    }

    fn keep(&mut self, event: Arc<Event>, most: usize) {
        let topic = event.topic.clone();
        self.records.push(Record { event: event.clone(), is_lost: false, forgotten: None });
        self.kept.push(event);
        let of_topic = self.kept.iter().filter(|event| event.topic == topic).count();
        if of_topic > most && !topic.is_reserved() {
            let oldest = self.kept.iter().position(|event| event.topic == topic);
            let oldest = self.kept.remove(oldest.expect("there are some"));
            self.remove(topic, oldest.cursor.expect("it was numbered"), true);
        }
    }

    fn remove(&mut self, topic: Topic, at: Cursor, is_superseded: bool) {
        self.removed.insert(topic.clone(), at);
        self.untold.push(Removal { topic: Some(topic), upto: at.sequence, is_superseded });
    }

    fn tell_removed(&mut self, feed: &dyn Feed) {
        feed.removed(&std::mem::take(&mut self.untold));
    }

    /// Where reading begins, and whether the place is none of this log.
    fn resolve(&self, after: Option<Cursor>) -> (Cursor, bool) {
        let start = SimulatedHistory::start();
        let Some(after) = after else { return (start, false) };
        if after.log != start.log || after > self.head {
            return (start, true);
        }
        // Above the end of its epoch is what was lost.
        match self.ends.iter().find(|end| end.epoch == after.epoch) {
            Some(end) if after > *end => (*end, true),
            _ => (after, false),
        }
    }

    fn read(&mut self, read: &Read) -> Page {
        let (after, is_foreign) = self.resolve(read.after);
        let upto = read.upto.map_or(self.head, |upto| upto.min(self.head));
        let matches = |topic: &Topic| read.patterns.iter().any(|pattern| pattern.matches(topic));
        let lost = self.removed.iter().filter(|(topic, at)| **at > after && matches(topic));
        let lost = lost.map(|(_, at)| *at).max().filter(|_| read.after.is_some());
        let wanted = |event: &&Arc<Event>| {
            let cursor = event.cursor.expect("it was numbered");
            cursor > after && cursor <= upto && matches(&event.topic)
        };
        let most = read.max_events.min(1 + self.dice.below(20));
        let mut events: Vec<_> = self.kept.iter().filter(wanted).take(most + 1).cloned().collect();
        let done = events.len() <= most;
        events.truncate(most);
        let last = events.last().and_then(|event| event.cursor);
        let next = if done { upto.max(after) } else { last.unwrap_or(upto) };
        Page { events, gap: lost.or(is_foreign.then_some(after)), next, done }
    }

    fn read_back(&mut self, read: &ReadBack) -> BackPage {
        let matches = |topic: &Topic| read.patterns.iter().any(|pattern| pattern.matches(topic));
        let is_before =
            |event: &Event| read.before.is_none_or(|before| event.cursor < Some(before));
        let wanted = |event: &&Arc<Event>| matches(&event.topic) && is_before(event);
        let most = read.max_events.min(1 + self.dice.below(20));
        let newest = self.kept.iter().rev().filter(wanted);
        let mut events: Vec<_> = newest.take(most + 1).cloned().collect();
        let is_more = events.len() > most;
        events.truncate(most);
        let next = events.last().and_then(|event| event.cursor).filter(|_| is_more);
        let gap = next.is_none() && self.removed.keys().any(matches);
        BackPage { looked_at: events.len(), events, next, gap }
    }

    fn newest(&mut self, newest: &Newest) -> NewestPage {
        let mut found = BTreeMap::new();
        // Of each topic the newest is kept, so nothing else is a gap to who wants that alone.
        let (since, gap) = self.resolve(newest.since);
        for event in &self.kept {
            let is_after = newest.after.as_ref().is_none_or(|after| event.topic > *after);
            let is_wanted = newest.since.is_none() || event.cursor > Some(since);
            if is_after
                && is_wanted
                && newest.patterns.iter().any(|pattern| pattern.matches(&event.topic))
            {
                found.insert(event.topic.clone(), event.clone());
            }
        }
        let most = newest.max_events.min(1 + self.dice.below(4));
        let is_more = found.len() > most;
        let events: Vec<_> = found.into_values().take(most).collect();
        let next = events.last().filter(|_| is_more).map(|event| event.topic.clone());
        NewestPage { events, gap, next }
    }

    fn summary(&self, topic: Topic) -> TopicSummary {
        let of_topic = self.kept.iter().filter(|event| event.topic == topic);
        let latest = of_topic.clone().next_back().cloned();
        let latest_time = latest.as_ref().map(|event| event.time);
        let is_removed = latest.as_ref().is_some_and(|event| event.is_tombstone());
        TopicSummary { retained: of_topic.count(), latest_time, is_removed, latest, topic }
    }
}

impl History for SimulatedHistory {
    fn depart(&self, departures: Vec<Departure>) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(self.ask(move |log| {
            for Departure { session, lingers } in departures {
                let ends = Instant::now() + if lingers { LINGER } else { Duration::ZERO };
                log.left.entry(session.to_string()).or_insert(ends);
            }
        }))
    }

    fn due(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Ending>, Problem>> {
        if self.lock().left.is_empty() {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        Box::pin(self.ask(move |log| log.due(limit)))
    }

    fn append(&self, append: Append) -> BoxFuture<'_, Result<Receipt, AppendError>> {
        Box::pin(async move {
            let _waiting = self.begin();
            if self.dawdle().await {
                return Err(AppendError::Unavailable("the log is away".to_owned()));
            }
            let receipt = self.store(append);
            match self.dawdle().await {
                true => Err(AppendError::OutcomeUnknown("the log is away".to_owned())),
                false => Ok(receipt),
            }
        })
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, Problem>> {
        Box::pin(self.ask(move |log| log.read(&read)))
    }

    fn read_back(&self, read: ReadBack) -> BoxFuture<'_, Result<BackPage, Problem>> {
        Box::pin(self.ask(move |log| log.read_back(&read)))
    }

    fn position_before(&self, since: Since) -> BoxFuture<'_, Result<Moment, Problem>> {
        let time = since.time(Timestamp::from(wall()));
        Box::pin(self.ask(move |log| {
            let older = log.kept.iter().rfind(|event| event.time < time);
            let position = older.and_then(|event| event.cursor).unwrap_or_else(Self::start);
            Moment { position, gap: false }
        }))
    }

    fn newest(&self, newest: Newest) -> BoxFuture<'_, Result<NewestPage, Problem>> {
        Box::pin(self.ask(move |log| log.newest(&newest)))
    }

    fn topics(&self, list: ListTopics) -> BoxFuture<'_, Result<Vec<TopicSummary>, Problem>> {
        Box::pin(self.ask(move |log| {
            let topics = log.kept.iter().map(|event| event.topic.clone());
            let wanted = |topic: &Topic| {
                list.pattern.matches(topic) && list.after.as_ref().is_none_or(|at| topic > at)
            };
            let topics: BTreeSet<_> = topics.filter(wanted).collect();
            topics.into_iter().take(list.limit).map(|topic| log.summary(topic)).collect()
        }))
    }

    fn topic(&self, topic: Topic) -> BoxFuture<'_, Result<TopicSummary, Problem>> {
        Box::pin(self.ask(move |log| log.summary(topic)))
    }

    fn forget(&self, topic: Topic) -> BoxFuture<'_, Result<usize, Problem>> {
        Box::pin(self.ask(move |log| {
            let had = log.kept.len();
            let newest = log.kept.iter().rfind(|event| event.topic == topic);
            if let Some(cursor) = newest.and_then(|event| event.cursor) {
                log.remove(topic.clone(), cursor, false);
            }
            log.kept.retain(|event| event.topic != topic);
            for record in log.records.iter_mut().filter(|record| record.event.topic == topic) {
                record.forgotten.get_or_insert_with(Instant::now);
            }
            log.tell_removed(&*self.feed);
            had - log.kept.len()
        }))
    }

    fn head(&self) -> Cursor {
        self.lock().head
    }

    fn trouble(&self) -> Option<String> {
        None
    }

    fn stock(&self) -> Stock {
        Stock::default()
    }

    fn sweep(&self) {}

    fn stop(&self) {}
}
