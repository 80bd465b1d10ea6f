//! What is at hand of a log: a copy in memory of the newest that it told, so that a crowd which comes back costs
//! as little as it did while it stayed.
//!
//! It stands around any history, on both of its ways: a [`Feed`] in front of the log's own hears all that is
//! committed, in order, and what is kept no longer; a [`History`] before the log answers from that what it can. These
//! hold, whatever happens:
//!
//! - It is only ever a copy of what is committed. Nothing is at hand that the log did not tell, and all that it tells
//!   is at hand before anybody can be told it, so whoever has a place finds here what came up to it.
//! - A page from here is whole: every event of its stretch that matches is in it. Where that is not certain the log
//!   itself is asked, and only the log ever says that there is a gap.
//! - That is certain of a stretch that begins at a place that this log had since it is at hand, ends at one, and of
//!   which nothing after its beginning that matches was removed. Removals are heard as the log tells them (`DELETE`,
//!   bounds, age, on any node): behind the events that they are of, and before whoever asked for one has its answer.
//!   An event that was removed stays in memory until its segment goes, but no page reaches it: whoever begins before
//!   it is sent to the log.
//! - Where the log says that it lost something, or where what it tells does not follow on what it told, nothing from
//!   before is at hand any more. An epoch that begins without such a word has lost nothing.
//! - What was there before a start comes later, from the log, with all that is missing of it: what is removed meanwhile is noted, and
//!   it is taken only where nothing that was told since was let go.
//! - A log that is told elsewhere, too, is asked first whether it has told here all that it has committed, removed and lost by
//!   then: one answer is for all who ask at that moment. Where it does not say so, it is read.
//! - What is not at hand is read once for all who wait for the same, and after the last of them has asked.
//! - It holds no more than `history.at_hand_bytes`: events as [`Event::cost`] counts them, and a flat charge for all
//!   that is noted beside them. Of what is too much the oldest goes. What events become on the wire counts, too, and is kept by
//!   those who encode it.
//! - Current values are at hand as a view of a pattern set, whole or not at all: what a view lacks or has too much would be
//!   one value wrong for good. It hears all that is told from before it is read from the log on, and of what it hears and
//!   what it reads of a topic the later counts, be that a removal. Nothing of its topics is passed by.
//! - Nobody who tells waits for who reads: no lock is held for longer than a page of values takes, and none while one waits.

mod asked;
mod removed;
mod segment;
mod segments;
mod views;
mod wanted;

use std::future::ready;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;

use self::asked::Asked;
use self::segments::{Segments, Stretch};
use self::views::{Answer, Views};
use self::wanted::Wanted;
use super::{
    Append, AppendError, BackPage, Departure, Ending, Feed, History, ListTopics, Loss, Moment,
    Newest, NewestPage, Page, Read, ReadBack, Receipt, Removal, Since, Stock, TakeEarlier,
    TopicSummary,
};
use crate::metrics::LOG;
use crate::model::{Cursor, Event, Pattern, Problem, Topic};
use crate::panics::lock;

/// How many values a view reads at a time.
const FILLED_EVENTS: usize = 1_024;

/// About how many bytes of them.
const FILLED_BYTES: usize = 1 << 20;

/// What is at hand of one log.
pub struct Hand {
    segments: Mutex<Segments>,
    views: Mutex<Views>,
    asked: Asked,
}

impl Hand {
    /// Nothing yet, of a log that stands at `start`; later at most so many bytes.
    pub fn new(start: Cursor, max_bytes: usize) -> Arc<Self> {
        // Half for what happened, a quarter for what is, and the rest for how both are told.
        Self::with_events(start, max_bytes / 2, max_bytes)
    }

    /// The same, with so many bytes for the newest events instead of their half.
    pub fn with_events(start: Cursor, event_bytes: usize, max_bytes: usize) -> Arc<Self> {
        let segments = Mutex::new(Segments::new(start, event_bytes));
        let views = Mutex::new(Views::new(max_bytes / 4));
        Arc::new(Self { segments, views, asked: Asked::default() })
    }

    /// How many of so many bytes are for what events become on the wire, which is kept where it is encoded.
    pub fn forms_bytes(max_bytes: usize) -> usize {
        max_bytes / 4
    }

    /// Has what a log had before it told anything here read, while it is told already: `read` is given the place at which the log
    /// was opened, how many bytes of it are worth having, and who takes it.
    pub fn fill(self: &Arc<Self>, read: impl FnOnce(Cursor, usize, TakeEarlier)) {
        let (upto, max_bytes) = lock(&self.segments).await_earlier();
        let hand = self.clone();
        if max_bytes > 0 {
            read(upto, max_bytes, Box::new(move |earlier| lock(&hand.segments).precede(earlier)));
        }
    }

    /// The feed that a log is to tell, which tells `feed` in turn.
    pub fn before(self: &Arc<Self>, feed: Arc<dyn Feed>) -> Arc<dyn Feed> {
        Arc::new(Told { hand: self.clone(), feed })
    }

    /// A log that tells such a feed, and is asked only for what is not at hand.
    pub fn over(self: &Arc<Self>, history: Arc<dyn History>) -> Arc<dyn History> {
        Arc::new(AtHand { hand: self.clone(), history })
    }

    /// What a page is made of, where that is certain to be whole.
    fn stretch(&self, read: &Read, wanted: &Wanted<'_>) -> Option<Stretch> {
        let (after, upto) = (read.after?, read.upto?);
        lock(&self.segments).stretch(wanted, after, upto)
    }

    /// How much is at hand.
    fn bytes(&self) -> usize {
        let events = lock(&self.segments).bytes();
        events + lock(&self.views).bytes()
    }

    /// A page, where it is certain to be whole.
    fn page(&self, read: &Read) -> Option<Page> {
        let wanted = Wanted::of(&read.patterns);
        let stretch = self.stretch(read, &wanted)?;
        Some(stretch.page(&wanted, read.max_events, read.max_bytes))
    }

    /// Whether there is such a page.
    fn has(&self, read: &Read) -> bool {
        self.stretch(read, &Wanted::of(&read.patterns)).is_some()
    }

    /// A page backwards, where it is certain to be whole.
    fn page_back(&self, read: &ReadBack) -> Option<BackPage> {
        let wanted = Wanted::of(&read.patterns);
        let stretch = lock(&self.segments).stretch_back(&wanted, last_before(read)?)?;
        stretch.page_back(&wanted, read.max_events, read.max_bytes)
    }

    /// What has changed of current values since a place, where that is certain.
    fn changes(&self, newest: &Newest, since: Cursor) -> Option<NewestPage> {
        let wanted = Wanted::of(&newest.patterns);
        let changes = lock(&self.segments).changes(&wanted, since)?;
        Some(changes.page(&wanted, newest))
    }
}

/// Hears what a log tells first, and tells it on.
struct Told {
    hand: Arc<Hand>,
    feed: Arc<dyn Feed>,
}

impl Feed for Told {
    fn committed(&self, events: Vec<Arc<Event>>) {
        lock(&self.hand.segments).add(&events);
        lock(&self.hand.views).add(&events);
        self.feed.committed(events);
    }

    fn skip(&self, topic: &Topic, position: Option<Cursor>) -> bool {
        // A view that is made after this look is filled with what stands at that place.
        if lock(&self.hand.views).hear(topic) {
            return false;
        }
        let is_passed = self.feed.skip(topic, position);
        if let Some(position) = position.filter(|_| is_passed) {
            // Whoever finds the feed there already is not answered from here.
            lock(&self.hand.segments).pass(topic, position);
        }
        is_passed
    }

    fn broken(&self, loss: Loss) {
        lock(&self.hand.segments).lose(&loss);
        lock(&self.hand.views).lose(&loss);
        self.feed.broken(loss);
    }

    fn removed(&self, removed: &[Removal]) {
        lock(&self.hand.segments).remove(removed);
        lock(&self.hand.views).remove(removed);
        self.feed.removed(removed);
    }

    fn is_full(&self) -> bool {
        self.feed.is_full()
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        self.feed.room()
    }
}

/// A log, and what is at hand of it.
struct AtHand {
    hand: Arc<Hand>,
    history: Arc<dyn History>,
}

impl AtHand {
    /// What is at hand, once all is told, else what the log says to `ask`; `may` says whether the first may be.
    fn answer<'a, T: Send + 'a>(
        &'a self,
        may: impl Fn(&Hand) -> bool + Send + 'a,
        find: impl Fn(&Hand) -> Option<T> + Send + 'a,
        ask: impl Future<Output = Result<T, Problem>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Problem>> {
        let Some(told) = self.history.has_told_all() else {
            return match find(&self.hand) {
                Some(page) => Box::pin(ready(Ok(at_hand(page)))),
                None => Box::pin(ask),
            };
        };
        Box::pin(async move {
            let is_told = may(&self.hand) && told.await;
            match is_told.then(|| find(&self.hand)).flatten() {
                Some(page) => Ok(at_hand(page)),
                None => ask.await,
            }
        })
    }

    /// A page from the log.
    async fn ask(&self, read: Read) -> Result<Page, Problem> {
        let (history, of) = (self.history.clone(), read.clone());
        let reading = async move { asked_for(history.read(of).await) };
        self.hand.asked.events(read, Box::pin(reading)).await
    }

    /// A page backwards from the log.
    async fn ask_back(&self, read: ReadBack) -> Result<BackPage, Problem> {
        let (history, of) = (self.history.clone(), read.clone());
        let reading = async move { asked_for(history.read_back(of).await) };
        self.hand.asked.back.answer(read, Box::pin(reading)).await
    }

    /// A page of values from the log.
    async fn ask_newest(&self, newest: Newest) -> Result<NewestPage, Problem> {
        let (history, of) = (self.history.clone(), newest.clone());
        let reading = async move { asked_for(history.newest(of).await) };
        self.hand.asked.values.answer(newest, Box::pin(reading)).await
    }

    /// Whether all is told that the log has by now.
    async fn has_told_all(&self) -> bool {
        match self.history.has_told_all() {
            Some(told) => told.await,
            None => true,
        }
    }

    /// Current values, from the view of their patterns where there is one.
    async fn values(&self, newest: Newest) -> Result<NewestPage, Problem> {
        let mut is_told = false;
        loop {
            if !is_told && lock(&self.hand.views).have(&newest.patterns) {
                is_told = self.has_told_all().await;
                if !is_told {
                    return self.ask_newest(newest).await;
                }
            }
            let answer = lock(&self.hand.views).ask(&newest);
            match answer {
                Answer::Page(page) if is_told => return Ok(at_hand(page)),
                // It has become whole between the two looks.
                Answer::Page(_) => {}
                Answer::Log => return self.ask_newest(newest).await,
                Answer::Fill(turn) => {
                    let _turn = turn.lock().await;
                    self.fill(&newest.patterns).await?;
                }
            }
        }
    }

    /// Fills a view from the log, unless somebody did so meanwhile. Where this is dropped on the way, the next one
    /// begins anew.
    async fn fill(&self, patterns: &Arc<[Pattern]>) -> Result<(), Problem> {
        let views = &self.hand.views;
        let Some(number) = lock(views).begin(patterns) else { return Ok(()) };
        let (patterns, mut after) = (patterns.clone(), None);
        loop {
            let (patterns, since) = (patterns.clone(), None);
            let (max_events, max_bytes) = (FILLED_EVENTS, FILLED_BYTES);
            let newest = Newest { patterns: patterns.clone(), after, since, max_events, max_bytes };
            let page = self.history.newest(newest).await.inspect_err(|_| {
                lock(views).give_up(&patterns, number);
            })?;
            after = page.next.clone();
            if !lock(views).fill(&patterns, number, page) {
                return Ok(());
            }
        }
    }
}

/// The place that is the last one before where somebody reads backwards from.
fn last_before(read: &ReadBack) -> Option<Cursor> {
    let before = read.before?;
    before.sequence.checked_sub(1).map(|sequence| before.at(sequence))
}

/// Counts a page that was at hand.
fn at_hand<T>(page: T) -> T {
    LOG.read(true);
    page
}

/// Counts a page for which the log was asked.
fn asked_for<T>(page: T) -> T {
    LOG.read(false);
    page
}

impl History for AtHand {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Receipt, AppendError>> {
        self.history.append(append)
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, Problem>> {
        let [of, same] = [(); 2].map(|()| read.clone());
        self.answer(move |hand| hand.has(&of), move |hand| hand.page(&same), self.ask(read))
    }

    fn read_back(&self, read: ReadBack) -> BoxFuture<'_, Result<BackPage, Problem>> {
        let of = read.clone();
        let find = move |hand: &Hand| hand.page_back(&of);
        // Of one topic it is no dearer to ask the log than whether all is told, and `last` asks for one after the other.
        let is_of_one = matches!(&*read.patterns, [one] if one.as_topic().is_some());
        let may = find.clone();
        self.answer(move |hand| !is_of_one && may(hand).is_some(), find, self.ask_back(read))
    }

    fn position_before(&self, since: Since) -> BoxFuture<'_, Result<Moment, Problem>> {
        let history = self.history.clone();
        let reading = async move { history.position_before(since).await };
        Box::pin(self.hand.asked.moments.answer(since, Box::pin(reading)))
    }

    fn newest(&self, newest: Newest) -> BoxFuture<'_, Result<NewestPage, Problem>> {
        let Some(since) = newest.since else { return Box::pin(self.values(newest)) };
        let of = newest.clone();
        let find = move |hand: &Hand| hand.changes(&of, since);
        let may = find.clone();
        self.answer(move |hand| may(hand).is_some(), find, self.ask_newest(newest))
    }

    fn topics(&self, list: ListTopics) -> BoxFuture<'_, Result<Vec<TopicSummary>, Problem>> {
        let (history, of) = (self.history.clone(), list.clone());
        let reading = async move { history.topics(of).await };
        Box::pin(self.hand.asked.topics.answer(list, Box::pin(reading)))
    }

    fn topic(&self, topic: Topic) -> BoxFuture<'_, Result<TopicSummary, Problem>> {
        let (history, of) = (self.history.clone(), topic.clone());
        let reading = async move { history.topic(of).await };
        Box::pin(self.hand.asked.topic.answer(topic, Box::pin(reading)))
    }

    fn forget(&self, topic: Topic) -> BoxFuture<'_, Result<usize, Problem>> {
        self.history.forget(topic)
    }

    fn depart(&self, departures: Vec<Departure>) -> BoxFuture<'_, Result<(), Problem>> {
        self.history.depart(departures)
    }

    fn due(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Ending>, Problem>> {
        self.history.due(limit)
    }

    fn head(&self) -> Cursor {
        self.history.head()
    }

    fn has_told_all(&self) -> Option<BoxFuture<'_, bool>> {
        self.history.has_told_all()
    }

    fn trouble(&self) -> Option<String> {
        self.history.trouble()
    }

    fn stock(&self) -> Stock {
        Stock { at_hand_bytes: self.hand.bytes() as u64, ..self.history.stock() }
    }

    fn sweep(&self) {
        lock(&self.hand.views).pass();
        self.hand.asked.pass();
        self.history.sweep();
    }

    fn stop(&self) {
        self.history.stop();
    }
}

#[cfg(test)]
mod tests;
