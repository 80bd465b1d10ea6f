//! What every backend of the history promises, tried on each of them.

#[path = "history/bound.rs"]
mod bound;
#[path = "history/envelope.rs"]
mod envelope;
#[path = "history/removals.rs"]
mod removals;
mod support;

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fanfare::clock::Clock;
use fanfare::config::{self, Config, Storage};
use fanfare::history::memory::MemoryHistory;
use fanfare::history::redis::Joined;
use fanfare::history::sqlite::Opened;
use fanfare::history::{
    Append, AppendError, Asked, Feed, Hand, History, IdempotencyKey, ListTopics, Loss, Newest,
    Page, Read, ReadBack, Receipt, Removal, Since,
};
use fanfare::model::{Code, Cursor, Data, Event, NewEvent, Pattern, Timestamp, Topic};
use futures_util::future::maybe_done;
use futures_util::poll;

use self::bound::*;
use self::envelope::*;
use self::removals::*;
use self::support::redis::Redis;

/// Hears what a log commits.
#[derive(Default)]
struct RecordingFeed {
    events: Mutex<Vec<Arc<Event>>>,
    shelf: Mutex<Shelf>,
    is_full: AtomicBool,
    /// Whether it is told of a loss, and may be.
    is_losing: AtomicBool,
    /// How often it is full after each time it has heard something.
    slowness: AtomicUsize,
    rests: AtomicUsize,
}

impl Feed for RecordingFeed {
    fn skip(&self, _: &Topic, _: Option<Cursor>) -> bool {
        false
    }

    fn broken(&self, Loss { since, .. }: Loss) {
        assert!(self.is_losing.load(Ordering::SeqCst), "nothing was lost after {since}");
    }

    fn removed(&self, removals: &[Removal]) {
        self.shelf.lock().unwrap().remove(removals);
    }

    fn committed(&self, events: Vec<Arc<Event>>) {
        self.shelf.lock().unwrap().add(&events);
        self.events.lock().unwrap().extend(events);
        self.rests.store(self.slowness.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn is_full(&self) -> bool {
        let rest = |rests: usize| rests.checked_sub(1);
        let rests = self.rests.fetch_update(Ordering::SeqCst, Ordering::SeqCst, rest).is_ok();
        rests || self.is_full.load(Ordering::SeqCst)
    }
}

/// A log under test.
struct Log {
    history: Arc<dyn History>,
    heard: Arc<RecordingFeed>,
    clock: Clock,
    is_at_hand: bool,
    _directory: tempfile::TempDir,
    _redis: Option<Redis>,
}

/// How a backend opens a new log.
type Open = fn(&Config, Clock, Arc<dyn Feed>) -> Arc<dyn History>;

/// A backend, and what its rules keep events in.
struct Backend {
    storage: Storage,
    open: Open,
    /// Whether what is at hand stands before it.
    is_at_hand: bool,
}

/// In memory.
const MEMORY: Backend = Backend {
    storage: Storage::Memory,
    open: |config, clock, feed| memory(config, MemoryHistory::new_start(), clock, feed),
    is_at_hand: false,
};

/// In memory, with what is at hand of it.
const MEMORY_AT_HAND: Backend = Backend {
    open: |config, clock, feed| {
        let start = MemoryHistory::new_start();
        let hand = Hand::new(start, config.history.at_hand_bytes);
        hand.over(memory(config, start, clock, hand.before(feed)))
    },
    is_at_hand: true,
    ..MEMORY
};

/// On disk.
const DISK: Backend = Backend { storage: Storage::Disk, open: sqlite, is_at_hand: false };

/// On disk, with what is at hand of it.
const DISK_AT_HAND: Backend = Backend { open: sqlite_at_hand, is_at_hand: true, ..DISK };

/// In memory, beside a disk.
const MEMORY_BESIDE_DISK: Backend = Backend { storage: Storage::Memory, ..DISK };

/// In memory, beside a disk, with what is at hand of both.
const BESIDE_DISK_AT_HAND: Backend = Backend { storage: Storage::Memory, ..DISK_AT_HAND };

/// In Redis.
const REDIS: Backend = Backend {
    storage: Storage::Redis,
    open: |config, _, feed| {
        let joined = Joined::open(config.redis.as_ref().expect("a Redis")).expect("it is joined");
        Arc::new(joined.start(&config.history, config.rules.clone(), feed))
    },
    is_at_hand: false,
};

/// In Redis, with what is at hand of it.
const REDIS_AT_HAND: Backend =
    Backend { open: |config, _, feed| redis_at_hand(config, feed), is_at_hand: true, ..REDIS };

fn redis_at_hand(config: &Config, feed: Arc<dyn Feed>) -> Arc<dyn History> {
    let redis = config.redis.as_ref().expect("a Redis");
    let joined = Joined::open(redis).expect("it is joined");
    let at_hand_bytes = config.history.at_hand_bytes;
    let hand = Hand::with_events(joined.head(), redis.recent_bytes, at_hand_bytes);
    let told = hand.before(feed);
    hand.over(Arc::new(joined.start(&config.history, config.rules.clone(), told)))
}

fn memory(config: &Config, start: Cursor, clock: Clock, feed: Arc<dyn Feed>) -> Arc<dyn History> {
    Arc::new(MemoryHistory::new(start, &config.history, config.rules.clone(), clock, feed))
}

fn sqlite(config: &Config, clock: Clock, feed: Arc<dyn Feed>) -> Arc<dyn History> {
    let opened =
        Opened::open(&config.history, config.rules.clone(), clock).expect("the history opens");
    Arc::new(opened.start(feed).expect("the history starts"))
}

fn sqlite_at_hand(config: &Config, clock: Clock, feed: Arc<dyn Feed>) -> Arc<dyn History> {
    let opened =
        Opened::open(&config.history, config.rules.clone(), clock).expect("the history opens");
    let hand = Hand::new(opened.head(), config.history.at_hand_bytes);
    let history = opened.start(hand.before(feed)).expect("the history starts");
    hand.fill(|upto, max_bytes, take| history.read_earlier(upto, max_bytes, take));
    hand.over(Arc::new(history))
}

fn open(backend: Backend, change: impl FnOnce(&mut Config)) -> Log {
    open_by(backend, Clock::default(), Redis::start, change)
}

/// A log whose clock is moved by [`Log::pass`] alone.
fn open_with_hands(backend: Backend, change: impl FnOnce(&mut Config)) -> Log {
    open_by(backend, Clock::by_hand(SystemTime::now()), || Redis::ahead_by(0), change)
}

fn open_by(
    backend: Backend,
    clock: Clock,
    start: impl FnOnce() -> Redis,
    change: impl FnOnce(&mut Config),
) -> Log {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = Config::default();
    config.history.path = directory.path().join("data");
    config.rules.default.storage = backend.storage;
    let redis = (backend.storage == Storage::Redis).then(start);
    config.redis = redis.as_ref().map(|redis| config::Redis {
        prefix: "contract".to_owned(),
        ..config::Redis::at(&redis.url())
    });
    change(&mut config);
    let heard = Arc::new(RecordingFeed::default());
    let history = (backend.open)(&config, clock, heard.clone());
    let is_at_hand = backend.is_at_hand;
    Log { history, heard, clock, is_at_hand, _directory: directory, _redis: redis }
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn patterns(texts: &[&str]) -> Arc<[Pattern]> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

fn event(name: &str, data: impl ToString) -> NewEvent {
    let data = Data::from_json(data.to_string().as_bytes(), 9).unwrap();
    NewEvent::new(topic(name), None, data)
}

fn data(events: &[Arc<Event>]) -> Vec<String> {
    events.iter().map(|event| event.data.json().get().to_owned()).collect()
}

fn sequences(receipt: &Receipt) -> Vec<u64> {
    receipt.events.iter().map(|event| event.cursor.unwrap().sequence).collect()
}

impl Log {
    async fn append(&self, events: Vec<NewEvent>) -> Receipt {
        self.history.append(Append { events, key: None }).await.unwrap()
    }

    /// What the feed has heard, once that is so many events or more.
    async fn heard(&self, count: usize) -> Vec<Arc<Event>> {
        let is_enough = async || self.heard.events.lock().unwrap().len() >= count;
        support::eventually("enough is heard", is_enough).await;
        let heard = self.heard.events.lock().unwrap().clone();
        assert_eq!(heard.len(), count);
        heard
    }

    /// Appends one event and returns its place.
    async fn put(&self, name: &str, data: impl ToString) -> Cursor {
        self.append(vec![event(name, data)]).await.events[0].cursor.unwrap()
    }

    /// Lets so much time pass, after as much has passed in all before.
    fn pass(&self, seconds: u64, before: u64) {
        self.clock.pass(Duration::from_secs(seconds));
        if let Some(redis) = &self._redis {
            redis.set_ahead((before + seconds) as i64);
        }
        self.history.sweep();
    }

    async fn keyed(&self, scope: u8, request: u8) -> Result<Receipt, AppendError> {
        let events = vec![event("keyed", request)];
        let asked = Asked::of_events(&events).with_raw([request; 32]);
        self.append_as(scope, asked, events).await
    }

    /// Appends under a key what is asked in some form.
    async fn append_as(
        &self,
        scope: u8,
        asked: Asked,
        events: Vec<NewEvent>,
    ) -> Result<Receipt, AppendError> {
        let key = Some(IdempotencyKey { scope: [scope; 32], asked, is_in_series: false });
        self.history.append(Append { events, key }).await
    }

    /// How many events a topic has.
    async fn retained(&self, name: &str) -> usize {
        self.history.topic(topic(name)).await.unwrap().retained
    }

    /// The current values of all that matches.
    async fn values(&self, texts: &[&str]) -> Vec<String> {
        let newest = Newest {
            patterns: patterns(texts),
            after: None,
            since: None,
            max_events: 100,
            max_bytes: usize::MAX,
        };
        let asked = async || data(&self.history.newest(newest.clone()).await.unwrap().events);
        let first = asked().await;
        if self.is_at_hand {
            // What is asked for again is at hand, and what the disk removed by itself is told a moment later.
            let is_same = async || asked().await == first && asked().await == first;
            support::eventually("what is at hand is the same", is_same).await;
        }
        first
    }

    /// All that matches after a place; up to the head it is the same, which a log may have at hand.
    async fn page(&self, texts: &[&str], after: Option<Cursor>) -> Page {
        let (max_events, max_bytes) = (10_000, usize::MAX);
        let read = Read { patterns: patterns(texts), after, upto: None, max_events, max_bytes };
        let upto = Some(self.history.head());
        let what = |page: &Page| (data(&page.events), page.gap, page.next, page.done);
        let both = async || {
            let page = self.history.read(read.clone()).await.unwrap();
            let same = self.history.read(Read { upto, ..read.clone() }).await.unwrap();
            (page, same)
        };
        if self.is_at_hand {
            // What the disk removed by itself is told a moment later.
            let agree = async || {
                let (page, same) = both().await;
                what(&page) == what(&same)
            };
            support::eventually("what is at hand is what is kept", agree).await;
        }
        let (page, same) = both().await;
        assert_eq!(what(&page), what(&same), "{texts:?} after {after:?}");
        page
    }

    /// All that matches after a place, read in pages of so many events.
    async fn all(&self, texts: &[&str], after: Option<Cursor>, max_events: usize) -> Vec<String> {
        let (mut after, mut all) = (after, Vec::new());
        loop {
            let read = Read {
                patterns: patterns(texts),
                after,
                upto: None,
                max_events,
                max_bytes: usize::MAX,
            };
            let page = self.history.read(read).await.unwrap();
            assert!(page.events.len() <= max_events);
            all.extend(data(&page.events));
            assert!(after < Some(page.next) || page.done, "no progress");
            after = Some(page.next);
            if page.done {
                return all;
            }
        }
    }
}

impl Log {
    /// All that matches before a place, newest first, read in pages; and whether one had a gap.
    async fn all_back(
        &self,
        texts: &[&str],
        mut before: Option<Cursor>,
        max_events: usize,
        max_bytes: usize,
    ) -> (Vec<String>, bool) {
        let (mut all, mut gap) = (Vec::new(), false);
        loop {
            let read = ReadBack { patterns: patterns(texts), before, max_events, max_bytes };
            let page = self.history.read_back(read).await.unwrap();
            assert!(page.events.len() <= max_events && page.events.len() <= page.looked_at);
            all.extend(data(&page.events));
            gap |= page.gap;
            assert!(before.is_none() || page.next < before || page.gap, "no progress");
            before = page.next;
            if before.is_none() {
                return (all, gap);
            }
        }
    }
}

async fn one_sequence_numbers_all_topics(backend: Backend) {
    let log = open(backend, |_| {});
    let head = log.history.head();
    let receipt = log.append(vec![event("a", 1), event("b", 2), event("a", 3)]).await;
    let first = sequences(&receipt)[0];
    assert!(first > head.sequence);
    assert_eq!(sequences(&receipt), [first, first + 1, first + 2]);
    let next = log.put("c", 4).await;
    assert!(next > receipt.events[2].cursor.unwrap());
    assert_eq!(log.history.head(), next);
    assert_eq!(
        receipt.events.iter().map(|event| event.topic.as_str()).collect::<Vec<_>>(),
        ["a", "b", "a"]
    );
    assert!(!receipt.repeated);
}

async fn what_is_appended_has_its_place_behind_what_was_polled_before(backend: Backend) {
    let log = open(backend, |_| {});
    let mut appends: Vec<_> = (0..20)
        .map(|n| log.history.append(Append { events: vec![event("a", n)], key: None }))
        .map(maybe_done)
        .collect();
    for append in &mut appends {
        _ = poll!(append);
    }
    // Whichever is waited for first.
    for append in appends.iter_mut().rev() {
        append.await;
    }
    let receipts = appends.iter_mut().map(|append| Pin::new(append).take_output());
    let places = receipts.map(|receipt| sequences(&receipt.expect("done").expect("stored"))[0]);
    let places: Vec<_> = places.collect();
    assert!(places.is_sorted_by(|before, after| before < after), "{places:?}");
}

async fn what_was_stored_is_read_byte_for_byte(backend: Backend) {
    let log = open(backend, |_| {});
    let texts = ["1.10", "{\"b\":1, \"a\" :[ ]}", "\"\\u00e4 ä\"", "null", "1e400"];
    for text in texts {
        log.put("a", text).await;
    }
    let kind = Some(fanfare::model::EventType::parse("changed").unwrap());
    let typed = NewEvent::new(topic("a"), kind, Data::from_binary(&[0, 255]));
    let receipt = log.append(vec![typed]).await;
    let page = log.page(&["a"], None).await;
    assert_eq!(data(&page.events)[..5], texts);
    let last = &page.events[5];
    assert_eq!(last.cursor, receipt.events[0].cursor);
    assert_eq!(last.time, receipt.events[0].time);
    assert_eq!(last.kind.as_ref().unwrap().as_str(), "changed");
    assert_eq!(last.data.binary(), Some(vec![0, 255]));
    assert!(last.data.is_base64() && !page.events[0].data.is_base64());
}

async fn the_feed_hears_everything_in_order_whoever_appends(backend: Backend) {
    let log = Arc::new(open(backend, |_| {}));
    let appending = (0..8).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut last = None;
            for n in 0..50 {
                let name = format!("w.{writer}");
                let receipt = log.append(vec![event(&name, n), event("all", n)]).await;
                let cursors: Vec<_> = receipt.events.iter().map(|event| event.cursor).collect();
                assert!(last < cursors[0] && cursors[0] < cursors[1]);
                assert_eq!(cursors[0].unwrap().sequence + 1, cursors[1].unwrap().sequence);
                last = cursors[1];
            }
        })
    });
    for appending in appending.collect::<Vec<_>>() {
        appending.await.unwrap();
    }
    let cursors = log.heard(800).await.iter().map(|event| event.cursor).collect::<Vec<_>>();
    assert!(cursors.is_sorted_by(|before, after| before < after));
    // And what it heard is what is kept, in the same order.
    let kept = log.page(&[">"], None).await.events;
    assert_eq!(kept.iter().map(|event| event.cursor).collect::<Vec<_>>(), cursors);
}

async fn pages_hold_each_matching_event_once_and_in_order(backend: Backend) {
    let log = open(backend, |_| {});
    let names = ["a", "a.b", "a.c", "b.b", "a.b.c"];
    let mut places = Vec::new();
    for n in 0..60 {
        places.push(log.put(names[n * 7 % 5], n).await);
    }
    for texts in [&["a.b"][..], &["a.*"], &["a.>", "b.b"], &[">"], &["*.b", "a.b"], &["nobody"]] {
        for (after, from) in [(None, 0), (Some(places[17]), 18), (Some(places[59]), 60)] {
            let wanted = patterns(texts);
            let expected: Vec<_> = (from..60)
                .filter(|n| {
                    let topic = topic(names[n * 7 % 5]);
                    wanted.iter().any(|pattern| pattern.matches(&topic))
                })
                .map(|n| n.to_string())
                .collect();
            for max_events in [1, 4, 100] {
                assert_eq!(log.all(texts, after, max_events).await, expected, "{texts:?}");
            }
        }
    }
}

async fn a_read_ends_where_it_was_told_to(backend: Backend) {
    let log = open(backend, |_| {});
    let mut places = Vec::new();
    for n in 0..10 {
        places.push(log.put("a", n).await);
    }
    let read = |after: usize, upto: usize, max_bytes: usize| Read {
        patterns: patterns(&["a"]),
        after: Some(places[after]),
        upto: Some(places[upto]),
        max_events: 100,
        max_bytes,
    };
    let page = log.history.read(read(2, 5, usize::MAX)).await.unwrap();
    assert_eq!((data(&page.events), page.done), (vec!["3".into(), "4".into(), "5".into()], true));
    assert_eq!((page.next, page.gap), (places[5], None));
    let page = log.history.read(read(2, 5, 1)).await.unwrap();
    assert_eq!((page.events.len(), page.done, page.next), (1, false, places[3]));
    let page = log.history.read(read(5, 5, usize::MAX)).await.unwrap();
    assert_eq!((page.events.len(), page.done, page.next), (0, true, places[5]));
}

async fn pages_back_hold_each_matching_event_once_and_the_newest_first(backend: Backend) {
    let log = open(backend, |_| {});
    let names = ["a", "a.b", "a.c", "b.b", "a.b.c"];
    let mut places = Vec::new();
    for n in 0..60 {
        places.push(log.put(names[n * 7 % 5], n).await);
    }
    let behind_the_newest = places[59].at(places[59].sequence + 1);
    for texts in [&["a.b"][..], &["a.*"], &["a.>", "b.b"], &[">"], &["*.b", "a.b"], &["nobody"]] {
        let befores = [(None, 60), (Some(behind_the_newest), 60), (Some(places[17]), 17)];
        for (before, below) in befores.into_iter().chain([(Some(places[0]), 0)]) {
            let wanted = patterns(texts);
            let mut expected: Vec<_> = (0..below)
                .filter(|n| {
                    let topic = topic(names[n * 7 % 5]);
                    wanted.iter().any(|pattern| pattern.matches(&topic))
                })
                .map(|n| n.to_string())
                .collect();
            expected.reverse();
            for (max_events, max_bytes) in [(1, usize::MAX), (4, usize::MAX), (100, 700)] {
                let (all, gap) = log.all_back(texts, before, max_events, max_bytes).await;
                assert_eq!((all, gap), (expected.clone(), false), "{texts:?} before {before:?}");
            }
        }
    }
    let read = ReadBack {
        patterns: patterns(&["a.b"]),
        before: None,
        max_events: 12,
        max_bytes: usize::MAX,
    };
    let page = log.history.read_back(read.clone()).await.unwrap();
    assert_eq!((page.events.len(), page.next), (12, None), "the last page is known as such");
    let page = log.history.read_back(ReadBack { max_bytes: 1, ..read }).await.unwrap();
    assert_eq!((page.events.len(), page.next), (1, page.events[0].cursor));
}

async fn at_the_end_of_reading_back_it_is_told_whether_older_events_were_removed(backend: Backend) {
    let log = open(backend, |config| config.rules.default.max_events = 3);
    for n in 0..6 {
        log.put("a", n).await;
        log.put("b.c", n).await;
    }
    let other = log.put("b.d", 6).await;
    let back = async |texts: &[&str], before| log.all_back(texts, before, 2, usize::MAX).await;
    let words = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(back(&["a"], None).await, (words(&["5", "4", "3"]), true));
    assert_eq!(back(&["b.d"], None).await, (words(&["6"]), false));
    assert_eq!(back(&["b.*"], None).await, (words(&["6", "5", "4", "3"]), true));
    assert_eq!(back(&["b.d"], Some(other)).await, (Vec::new(), false));
    log.history.forget(topic("b.d")).await.unwrap();
    assert_eq!(back(&["b.d"], None).await, (Vec::new(), true));
}

async fn a_place_of_no_log_is_read_back_from_as_the_newest_and_a_gap(backend: Backend) {
    let log = open(backend, |_| {});
    let nothing = log.history.head();
    let first = log.put("a", 1).await;
    let place = log.put("a", 2).await;
    let foreign = Cursor { log: fanfare::model::LogName::random(), ..place };
    let future = place.at(place.sequence + 1_000_000_000);
    let epoch = Cursor { epoch: place.epoch + 1, ..first };
    let all = vec!["2".to_owned(), "1".to_owned()];
    for cursor in [foreign, future, epoch] {
        let (found, gap) = log.all_back(&["a"], Some(cursor), 9, usize::MAX).await;
        assert_eq!((&found, gap), (&all, true), "{cursor}");
    }
    for before in [nothing, first] {
        assert_eq!(log.all_back(&["a"], Some(before), 9, usize::MAX).await, (Vec::new(), false));
    }
}

async fn a_cursor_is_retained_until_something_later_is_removed(backend: Backend) {
    let log = open(backend, |config| config.rules.default.max_events = 3);
    let mut places = Vec::new();
    for n in 0..6 {
        places.push(log.put("a", n).await);
    }
    let other = log.put("b", "\"b\"").await;
    for (at, is_gap) in [(0, true), (1, true), (2, false), (5, false)] {
        let page = log.page(&["a"], Some(places[at])).await;
        assert_eq!(page.gap.is_some(), is_gap, "after {at}");
        let from = at.max(2) + 1;
        assert_eq!(data(&page.events), (from..6).map(|n| n.to_string()).collect::<Vec<_>>());
    }
    assert_eq!(log.page(&["b"], Some(places[0])).await.gap, None);
    assert!(log.page(&["*"], Some(places[0])).await.gap.is_some());
    assert_eq!(log.page(&["a"], Some(other)).await.gap, None);
    // Who asks for all that is kept misses nothing.
    assert_eq!(log.page(&["a"], None).await.gap, None);
}

async fn cursors_of_no_place_in_the_log_are_a_gap(backend: Backend) {
    let log = open(backend, |_| {});
    let place = log.put("a", 1).await;
    let foreign = Cursor { log: fanfare::model::LogName::random(), ..place };
    let future = place.at(place.sequence + 1_000_000_000);
    let epoch = Cursor { epoch: place.epoch + 1, ..place };
    for cursor in [foreign, future, epoch] {
        let page = log.page(&["a"], Some(cursor)).await;
        assert!(page.gap.is_some(), "{cursor}");
        assert_eq!((data(&page.events), page.next), (vec!["1".to_owned()], place));
    }
}

async fn what_is_forgotten_is_gone_and_a_gap(backend: Backend) {
    let log = open(backend, |_| {});
    let first = log.put("a", 1).await;
    let last = log.put("a", 2).await;
    log.put("b", 3).await;
    assert_eq!(log.history.forget(topic("a")).await, Ok(2));
    assert_eq!(log.history.forget(topic("a")).await, Ok(0));
    let page = log.page(&["a"], Some(first)).await;
    assert!(page.gap.is_some() && page.events.is_empty());
    assert_eq!(log.page(&["a"], Some(last)).await.gap, None);
    assert_eq!(data(&log.page(&[">"], None).await.events), ["3"]);
    let summary = log.history.topic(topic("a")).await.unwrap();
    assert!(summary.retained == 0 && summary.latest.is_none());
    // It is used again as if nothing had been.
    log.put("a", 4).await;
    assert_eq!(log.all(&["a"], Some(last), 10).await, ["4"]);
}

async fn the_bytes_of_one_topic_and_of_all_are_bounded(backend: Backend) {
    let cost = 1_000;
    let log = open(backend, |config| {
        config.rules.default.max_bytes = 5 * cost;
        bound_all(config, 12 * cost);
    });
    let text = text_that_costs(cost);
    for name in ["a", "b", "c"] {
        for _ in 0..8 {
            log.put(name, &text).await;
        }
    }
    let mut retained = BTreeMap::new();
    for name in ["a", "b", "c"] {
        retained.insert(name, log.history.topic(topic(name)).await.unwrap().retained);
    }
    assert_eq!(retained, BTreeMap::from([("a", 2), ("b", 5), ("c", 5)]));
}

/// A log for no more than 12 events of this many bytes, beside what the broker keeps for itself.
async fn crowded(backend: Backend, cost: usize) -> (Log, String) {
    let storage = backend.storage;
    let log = open(backend, |config| {
        config.rules.revocations.storage = storage;
        config.rules.webhook_offsets.storage = storage;
        bound_all(config, 12 * cost);
    });
    (log, text_that_costs(cost))
}

/// No more than so many bytes of all topics, wherever they are.
fn bound_all(config: &mut Config, bytes: usize) {
    config.history.disk_bytes = bytes;
    config.history.memory_bytes = bytes;
    config.history.redis_bytes = bytes;
}

/// Data with which an event costs so much whose topic is one letter.
fn text_that_costs(cost: usize) -> String {
    format!("\"{}\"", "x".repeat(cost - 2 - Event::OVERHEAD_BYTES - 1))
}

async fn no_amount_of_other_events_removes_what_the_broker_keeps_for_itself(backend: Backend) {
    let (log, text) = crowded(backend, 1_000).await;
    for n in 0..40 {
        log.put("$sys.revoked", n).await;
        log.put("$sys.webhooks.a", n).await;
        log.put("a", &text).await;
    }
    for _ in 0..20 {
        log.put("b", &text).await;
    }
    let kept: Vec<_> = (0..40).map(|n: i32| n.to_string()).collect();
    assert_eq!(log.all(&["$sys.revoked"], None, 100).await, kept);
    let place = log.history.topic(topic("$sys.webhooks.a")).await.unwrap().latest;
    assert_eq!(place.unwrap().data.json().get(), "39");
    // And it takes none of their room, nor do they get more than theirs.
    let retained = log.history.topic(topic("b")).await.unwrap().retained;
    assert_eq!(retained, 12);
    assert_eq!(log.history.topic(topic("a")).await.unwrap().retained, 1, "its current value");
}

async fn what_the_broker_keeps_for_itself_is_removed_by_its_own_age_alone(backend: Backend) {
    let storage = backend.storage;
    let log = open(backend, |config| {
        config.rules.revocations.storage = storage;
        config.rules.webhook_offsets.storage = storage;
        config.rules.revocations.max_age = Duration::from_millis(50);
        config.rules.notices.max_age = Duration::from_millis(50);
    });
    for name in ["$sys.revoked", "$sys.webhooks.a", "a"] {
        log.put(name, 1).await;
    }
    let retained = async |name| log.history.topic(topic(name)).await.unwrap().retained;
    support::eventually("it is swept", || async {
        log.history.sweep();
        retained("$sys.revoked").await == 0
    })
    .await;
    assert_eq!((retained("$sys.webhooks.a").await, retained("a").await), (1, 1));
}

async fn what_is_too_old_is_swept_and_is_a_gap(backend: Backend) {
    let log = open(backend, |config| {
        config.rules.default.max_age = Duration::from_millis(50);
        config.rules.default.keep_newest = false;
    });
    let first = log.put("a", 1).await;
    log.put("a", 2).await;
    tokio::time::sleep(Duration::from_millis(80)).await;
    let waiting = async {
        loop {
            log.history.sweep();
            if log.history.topic(topic("a")).await.unwrap().retained == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it is swept");
    assert!(log.page(&["a"], Some(first)).await.gap.is_some());
}

async fn a_current_value_stays_beyond_its_age_until_it_is_replaced_or_removed(backend: Backend) {
    let log = open(backend, |config| config.rules.default.max_age = Duration::from_millis(50));
    let begin = log.history.head();
    let first = log.put("a", 1).await;
    let second = log.put("a", 2).await;
    let third = log.put("b", 3).await;
    support::eventually("what was replaced is swept", async || {
        log.history.sweep();
        log.retained("a").await == 1
    })
    .await;
    // Again and again, whatever is swept meanwhile.
    for n in 4..8 {
        log.put("other", n).await;
        log.history.sweep();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(log.values(&["a", "b"]).await, ["2", "3"]);
    let latest = log.history.topic(topic("a")).await.unwrap().latest;
    assert_eq!(latest.unwrap().cursor, Some(second));
    // Nothing that came after the first is gone, and the first is.
    let page = log.page(&["a"], Some(first)).await;
    assert_eq!((data(&page.events), page.gap), (vec!["2".to_owned()], None));
    assert!(log.page(&["a"], Some(begin)).await.gap.is_some());
    assert_eq!(log.page(&["b"], Some(begin)).await.gap, None);
    log.put("a", 9).await;
    assert_eq!(log.all(&["a"], None, 10).await, ["9"], "what stayed goes with the next one");
    assert_eq!(log.page(&["a"], Some(second)).await.gap, None);
    assert!(log.page(&["a"], Some(first)).await.gap.is_some());
    assert_eq!(log.history.forget(topic("b")).await, Ok(1));
    assert_eq!(log.values(&["a", "b"]).await, ["9"]);
    assert_eq!(log.page(&["b"], Some(third)).await.gap, None);
    assert!(log.page(&["b"], Some(begin)).await.gap.is_some());
}

async fn current_values_stay_beyond_the_bytes_of_all_and_take_no_room(backend: Backend) {
    let (log, text) = crowded(backend, 1_000).await;
    let begin = log.history.head();
    for name in ["u", "v", "v", "w"] {
        log.put(name, &text).await;
    }
    for _ in 0..30 {
        log.put("b", &text).await;
    }
    for (name, retained) in [("u", 1), ("v", 1), ("w", 1), ("b", 12)] {
        assert_eq!(log.retained(name).await, retained, "{name}");
    }
    assert_eq!(log.page(&["u"], Some(begin)).await.gap, None);
    assert!(log.page(&["v"], Some(begin)).await.gap.is_some());
    // What is replaced goes, and its place is not another's.
    log.put("u", &text).await;
    for (name, retained) in [("u", 1), ("v", 1), ("w", 1), ("b", 11)] {
        assert_eq!(log.retained(name).await, retained, "{name}");
    }
    assert!(log.page(&["u"], Some(begin)).await.gap.is_some());
}

async fn where_too_many_current_values_stay_the_oldest_go_and_are_a_gap(backend: Backend) {
    for (newest_topics, newest_bytes) in [(2, usize::MAX), (1_000, 2_000)] {
        let log = open(Backend { ..backend }, |config| {
            bound_all(config, 12_000);
            config.history.newest_topics = newest_topics;
            config.history.newest_bytes = newest_bytes;
        });
        let begin = log.history.head();
        let text = text_that_costs(1_000);
        for name in ["u", "v", "w"] {
            log.put(name, &text).await;
        }
        for _ in 0..30 {
            log.put("b", &text).await;
        }
        for (name, retained) in [("u", 0), ("v", 1), ("w", 1), ("b", 12)] {
            assert_eq!(log.retained(name).await, retained, "{name}");
        }
        assert!(log.page(&["u"], Some(begin)).await.gap.is_some());
        assert_eq!(log.page(&["v", "w"], Some(begin)).await.gap, None);
        // There is room for another, once one is removed.
        log.history.forget(topic("v")).await.unwrap();
        log.put("x", &text).await;
        for _ in 0..30 {
            log.put("b", &text).await;
        }
        for (name, retained) in [("w", 1), ("x", 1), ("b", 12)] {
            assert_eq!(log.retained(name).await, retained, "{name}");
        }
    }
}

async fn a_rule_may_say_that_no_current_value_stays(backend: Backend) {
    let storage = backend.storage;
    let log = open(backend, |config| {
        bound_all(config, 12_000);
        let mut rule = config.rules.default.clone();
        (rule.pattern, rule.storage) = (Pattern::parse("u").unwrap(), storage);
        rule.keep_newest = false;
        config.rules.listed.push(rule);
    });
    let text = text_that_costs(1_000);
    for name in ["u", "v"].into_iter().chain(["b"; 30]) {
        log.put(name, &text).await;
    }
    for (name, retained) in [("u", 0), ("v", 1), ("b", 12)] {
        assert_eq!(log.retained(name).await, retained, "{name}");
    }
}

async fn the_newest_of_each_topic_comes_once_by_topic(backend: Backend) {
    let log = open(backend, |_| {});
    for n in 0..30 {
        log.put(&format!("s.{}", n % 6), n).await;
    }
    log.put("t", 99).await;
    for (texts, expected) in [
        (&["s.*"][..], &["24", "25", "26", "27", "28", "29"][..]),
        (&["s.3", "s.1", "s.3", "s.9"], &["25", "27"]),
        (&["s.2", "*"], &["26", "99"]),
        (&["nobody.>"], &[]),
    ] {
        for (max_events, max_bytes) in [(1, usize::MAX), (4, usize::MAX), (100, 1), (100, 100_000)]
        {
            let (mut after, mut all) = (None, Vec::new());
            loop {
                let newest =
                    Newest { patterns: patterns(texts), after, since: None, max_events, max_bytes };
                let page = log.history.newest(newest).await.unwrap();
                assert!(page.events.len() <= max_events);
                all.extend(data(&page.events));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(all, expected, "{texts:?}");
        }
    }
}

async fn current_values_are_paged_by_their_bytes(backend: Backend) {
    let log = open(backend, |_| {});
    let text = text_that_costs(50_000);
    for n in 0..100 {
        log.put(&format!("s.{n}"), &text).await;
    }
    let (mut after, mut count) = (None, 0);
    loop {
        let (patterns, max_events, max_bytes) = (patterns(&["s.*"]), 1_000, 200_000);
        let newest = Newest { patterns, after, since: None, max_events, max_bytes };
        let page = log.history.newest(newest).await.unwrap();
        let bytes: usize = page.events.iter().map(|event| event.cost()).sum();
        assert!(bytes < 2_000_000, "{bytes} bytes in a page");
        count += page.events.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(count, 100);
}

async fn topics_are_listed_by_name_in_pages(backend: Backend) {
    let log = open(backend, |_| {});
    let mut times = HashMap::new();
    for name in ["b", "a.2", "a.1", "c", "a.3", "a.1"] {
        log.put(name, 1).await;
        let newest = log.history.topic(topic(name)).await.unwrap();
        assert_eq!(newest.latest_time, newest.latest.map(|event| event.time));
        times.insert(topic(name), newest.latest_time);
    }
    log.history.forget(topic("a.3")).await.unwrap();
    let list = async |pattern: &str, after: Option<&str>, limit| {
        let pattern = Pattern::parse(pattern).unwrap();
        let list = ListTopics { pattern, after: after.map(topic), limit };
        let topics = log.history.topics(list).await.unwrap();
        assert!(topics.iter().all(|summary| summary.latest_time == times[&summary.topic]));
        topics.into_iter().map(|summary| (summary.topic.to_string(), summary.retained)).collect()
    };
    let names = |names: &[(&str, usize)]| -> Vec<(String, usize)> {
        names.iter().map(|(name, retained)| ((*name).to_owned(), *retained)).collect()
    };
    let all: Vec<_> = list(">", None, 100).await;
    assert_eq!(all, names(&[("a.1", 2), ("a.2", 1), ("b", 1), ("c", 1)]));
    assert_eq!(list(">", None, 2).await, all[..2]);
    assert_eq!(list(">", Some("a.2"), 2).await, all[2..]);
    assert_eq!(list("a.*", Some("a.1"), 2).await, all[1..2]);
}

async fn a_repeat_under_its_key_stores_nothing_and_gets_the_first_result(backend: Backend) {
    let log = open(backend, |_| {});
    let first = log.keyed(1, 1).await.unwrap();
    let again = log.keyed(1, 1).await.unwrap();
    assert!(!first.repeated && again.repeated);
    assert_eq!(first.events, again.events);
    assert_eq!(log.keyed(1, 2).await, Err(AppendError::Mismatch));
    assert!(!log.keyed(2, 2).await.unwrap().repeated);
    assert_eq!(log.all(&["keyed"], None, 10).await, ["1", "2"]);
    assert_eq!(log.heard(2).await.len(), 2);
}

async fn a_repeat_is_known_by_its_events_and_one_of_an_earlier_release_by_how_it_came(
    backend: Backend,
) {
    let log = open(backend, |_| {});
    let events = || vec![event("keyed", "{\"n\":1}")];
    let (spaced, others) = (vec![event("keyed", "{ \"n\" : 1 }")], vec![event("keyed", 2)]);
    let live = Asked::of_events(&events());
    let first = log.append_as(1, live.with_raw([1; 32]), events()).await.unwrap();
    for asked in [live, live.with_raw([2; 32]), Asked::of_events(&spaced).with_raw([3; 32])] {
        let again = log.append_as(1, asked, events()).await.unwrap();
        assert_eq!((again.repeated, again.events), (true, first.events.clone()));
    }
    for asked in [Asked::of_events(&others), Asked::of_events(&others).with_raw([1; 32])] {
        let refused = log.append_as(1, asked, others.clone()).await;
        assert_eq!(refused, Err(AppendError::Mismatch), "it is another event");
    }
    // As a release left it that looks at requests alone.
    log.append_as(2, Asked::as_it_came([1; 32]), events()).await.unwrap();
    assert!(log.append_as(2, live.with_raw([1; 32]), events()).await.unwrap().repeated);
    for asked in [live.with_raw([2; 32]), live] {
        assert_eq!(log.append_as(2, asked, events()).await, Err(AppendError::Mismatch));
    }
    assert_eq!(log.retained("keyed").await, 2);
}

async fn of_repeats_that_race_one_is_stored(backend: Backend) {
    let log = Arc::new(open(backend, |_| {}));
    let racing: Vec<_> = (0..16)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move { log.keyed(1, 1).await.unwrap() })
        })
        .collect();
    let mut receipts = Vec::new();
    for racing in racing {
        receipts.push(racing.await.unwrap());
    }
    assert_eq!(receipts.iter().filter(|receipt| !receipt.repeated).count(), 1);
    assert!(receipts.iter().all(|receipt| receipt.events == receipts[0].events));
    assert_eq!(log.all(&["keyed"], None, 10).await, ["1"]);
}

async fn a_key_is_known_for_its_window_and_no_key_is_forgotten_early(backend: Backend) {
    let log = open(backend, |config| {
        config.history.idempotency_window = Duration::from_millis(300);
        config.history.idempotency_keys = 2;
    });
    log.keyed(1, 1).await.unwrap();
    log.keyed(2, 1).await.unwrap();
    assert_eq!(log.keyed(3, 1).await, Err(AppendError::TooManyKeys));
    assert!(log.keyed(1, 1).await.unwrap().repeated);
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert!(!log.keyed(1, 1).await.unwrap().repeated);
}

async fn where_keys_are_many_the_oldest_go_early_but_none_within_ten_minutes(backend: Backend) {
    let log = open_with_hands(backend, |config| {
        assert_eq!(config.history.idempotency_window, Duration::from_secs(86_400));
        config.history.idempotency_keys = 2;
    });
    log.keyed(1, 1).await.unwrap();
    log.pass(300, 0);
    log.keyed(2, 1).await.unwrap();
    log.pass(200, 300);
    assert_eq!(log.keyed(3, 1).await, Err(AppendError::TooManyKeys));
    assert!(log.keyed(1, 1).await.unwrap().repeated);
    log.pass(110, 500);
    assert!(!log.keyed(3, 1).await.unwrap().repeated);
    assert!(log.keyed(2, 1).await.unwrap().repeated && log.keyed(3, 1).await.unwrap().repeated);
    assert_eq!(log.keyed(1, 1).await, Err(AppendError::TooManyKeys), "the others are too new");
    log.pass(300, 610);
    assert!(!log.keyed(1, 1).await.unwrap().repeated, "it was forgotten");
    assert!(log.keyed(3, 1).await.unwrap().repeated && log.keyed(1, 1).await.unwrap().repeated);
    // Where there is room, a key is known for a day.
    log.pass(80_000, 910);
    assert!(log.keyed(1, 1).await.unwrap().repeated);
}

async fn ephemeral_events_are_heard_in_their_place_and_not_kept(backend: Backend) {
    let log = open(backend, |config| {
        let mut rule = config.rules.default.clone();
        rule.pattern = Pattern::parse("now.>").unwrap();
        rule.storage = Storage::None;
        config.rules.listed.push(rule);
    });
    let first = log.put("a", 1).await;
    let receipt = log.append(vec![event("now.x", 2), event("a", 3), event("now.x", 4)]).await;
    assert_eq!(receipt.events[0].cursor, None);
    assert_eq!(receipt.events[1].cursor, Some(first.at(first.sequence + 1)));
    let heard = log.heard(4).await;
    assert_eq!(data(&heard), ["1", "2", "3", "4"]);
    let page = log.page(&[">"], Some(first)).await;
    assert_eq!((data(&page.events), page.gap), (vec!["3".to_owned()], None));
}

async fn what_is_kept_of_a_topic_that_is_reserved_now_is_still_read(backend: Backend) {
    let log = open(backend, |_| {});
    let old = Topic::from_stored("old.^^a.b").unwrap();
    let first = log.put("before", 0).await;
    let data_of_it = Data::from_json(b"1", 9).unwrap();
    log.append(vec![NewEvent::new(old.clone(), None, data_of_it)]).await;
    log.heard(2).await;
    let page = log.page(&["old.>"], Some(first)).await;
    assert_eq!((data(&page.events), page.gap), (vec!["1".to_owned()], None));
    assert_eq!(log.values(&["old.>"]).await, ["1"]);
    assert_eq!(log.history.topic(old.clone()).await.unwrap().retained, 1);
    let list = ListTopics { pattern: Pattern::parse("old.>").unwrap(), after: None, limit: 9 };
    assert_eq!(log.history.topics(list).await.unwrap()[0].topic, old);
    assert_eq!(log.history.forget(old).await.unwrap(), 1);
}

async fn a_moment_is_the_place_before_what_happened_since(backend: Backend) {
    let log = open(backend, |_| {});
    let mut moments = Vec::new();
    for n in 0..5 {
        log.put(&format!("t.{}", n % 2), n).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        moments.push(Timestamp::from(SystemTime::now()));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (n, moment) in moments.iter().enumerate() {
        let place = log.history.position_before(Since::Time(*moment)).await.unwrap().position;
        let since: Vec<_> = (n + 1..5).map(|n| n.to_string()).collect();
        assert_eq!(log.all(&["t.*"], Some(place), 10).await, since);
    }
    let epoch = Since::Time(Timestamp::from(SystemTime::UNIX_EPOCH));
    for since in [epoch, Since::Ago(Duration::from_secs(60)), Since::Ago(Duration::MAX)] {
        let place = log.history.position_before(since).await.unwrap().position;
        assert_eq!(log.all(&["t.*"], Some(place), 10).await.len(), 5);
        assert_eq!(log.page(&["t.*"], Some(place)).await.gap, None);
    }
}

async fn what_is_kept_of_a_topic_is_told_as_of_one_moment(backend: Backend) {
    let log = open(backend, |config| config.rules.default.max_events = 1);
    log.put("a", 0).await;
    let is_written = AtomicBool::new(false);
    let writing = async {
        for n in 1..300 {
            log.put("a", n).await;
        }
        is_written.store(true, Ordering::SeqCst);
    };
    let reading = async {
        while !is_written.load(Ordering::SeqCst) {
            let summary = log.history.topic(topic("a")).await.expect("nothing is damaged");
            assert!(summary.latest.is_some());
            // Whoever writes has a turn, too, where nothing is waited for.
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(writing, reading);
}

/// The suite, for one backend.
macro_rules! contract {
    ($module:ident, $backend:ident: $($promise:ident)+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    super::$promise(super::$backend).await;
                }
            )+
        }
    };
}

/// The suite, for every backend.
macro_rules! contracts {
    ($($promise:ident)+) => {
        contract!(memory, MEMORY: $($promise)+);
        contract!(disk, DISK: $($promise)+);
        contract!(memory_beside_disk, MEMORY_BESIDE_DISK: $($promise)+);
        contract!(redis, REDIS: $($promise)+);
        contract!(memory_at_hand, MEMORY_AT_HAND: $($promise)+);
        contract!(disk_at_hand, DISK_AT_HAND: $($promise)+);
        contract!(beside_disk_at_hand, BESIDE_DISK_AT_HAND: $($promise)+);
        contract!(redis_at_hand, REDIS_AT_HAND: $($promise)+);
    };
}

contracts! {
    one_sequence_numbers_all_topics
    what_is_appended_has_its_place_behind_what_was_polled_before
    what_was_stored_is_read_byte_for_byte
    the_feed_hears_everything_in_order_whoever_appends
    pages_hold_each_matching_event_once_and_in_order
    pages_back_hold_each_matching_event_once_and_the_newest_first
    at_the_end_of_reading_back_it_is_told_whether_older_events_were_removed
    a_place_of_no_log_is_read_back_from_as_the_newest_and_a_gap
    a_read_ends_where_it_was_told_to
    a_cursor_is_retained_until_something_later_is_removed
    cursors_of_no_place_in_the_log_are_a_gap
    what_is_forgotten_is_gone_and_a_gap
    the_bytes_of_one_topic_and_of_all_are_bounded
    no_amount_of_other_events_removes_what_the_broker_keeps_for_itself
    what_the_broker_keeps_for_itself_is_removed_by_its_own_age_alone
    what_is_too_old_is_swept_and_is_a_gap
    a_current_value_stays_beyond_its_age_until_it_is_replaced_or_removed
    current_values_stay_beyond_the_bytes_of_all_and_take_no_room
    where_too_many_current_values_stay_the_oldest_go_and_are_a_gap
    a_rule_may_say_that_no_current_value_stays
    the_newest_of_each_topic_comes_once_by_topic
    current_values_are_paged_by_their_bytes
    topics_are_listed_by_name_in_pages
    a_repeat_under_its_key_stores_nothing_and_gets_the_first_result
    a_repeat_is_known_by_its_events_and_one_of_an_earlier_release_by_how_it_came
    of_repeats_that_race_one_is_stored
    a_key_is_known_for_its_window_and_no_key_is_forgotten_early
    where_keys_are_many_the_oldest_go_early_but_none_within_ten_minutes
    ephemeral_events_are_heard_in_their_place_and_not_kept
    what_is_kept_of_a_topic_that_is_reserved_now_is_still_read
    a_moment_is_the_place_before_what_happened_since
    what_is_kept_of_a_topic_is_told_as_of_one_moment
    what_an_event_carries_is_read_and_heard_byte_for_byte
    a_tombstone_takes_the_value_away_and_is_read_as_any_event
    a_tombstone_is_kept_until_it_is_too_old_and_no_longer
    an_older_version_changes_nothing_and_is_told_what_stays
    a_repeat_is_told_that_it_was_superseded
    what_has_to_be_the_newest_is_so_or_nothing_is_stored
    of_two_who_follow_the_same_event_one_is_stored
    what_is_passed_on_is_heard_in_its_place_and_not_kept
    a_value_ends_once_its_time_is_over_unless_something_follows_it
    a_value_that_was_removed_by_its_age_ends_all_the_same
    a_clock_that_leaps_ends_nothing_early
    what_is_at_hand_without_what_was_removed_is_what_is_kept
    to_who_wants_the_newest_alone_what_is_superseded_is_no_gap
    what_is_bound_ends_when_its_session_has_left_unless_something_follows_it
    what_is_bound_stays_a_while_after_a_cut_and_what_replaced_it_does_for_good
    a_repeat_binds_the_value_to_the_session_that_repeats_it
    no_session_holds_more_values_than_it_may
    what_a_session_published_last_ends_though_it_is_stored_once_it_has_left
    a_value_with_a_time_and_a_session_ends_by_whichever_comes_first
    many_values_of_many_sessions_end_in_pages
    a_clock_that_leaps_ends_nothing_bound_early
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_never_ends_at_a_place_that_redis_lost_before_any_node_told_it() {
    let log = open(REDIS, |_| {});
    let first = log.put("a", 1).await;
    log.put("a", 2).await;
    let third = log.put("a", 3).await;
    log.heard.is_losing.store(true, Ordering::SeqCst);
    // As Redis comes back with less, until the first node presents what it has seen.
    let redis = log._redis.as_ref().expect("a Redis");
    let _: i64 = redis.run(&["HSET", "{contract}:log", "seq", "2"]);
    let _: i64 = redis.run(&["XDEL", "{contract}:t:a", "3-0"]);
    let _: i64 = redis.run(&["XDEL", "{contract}:order", "3-0"]);
    let (patterns, upto) = (patterns(&["a"]), Some(third));
    let read = Read { patterns, after: Some(first), upto, max_events: 9, max_bytes: 9_999 };
    let problem = log.history.read(read.clone()).await.unwrap_err();
    assert_eq!(problem.code, Code::Unavailable);
    log.put("a", 4).await;
    let page = log.history.read(read).await.unwrap();
    assert_eq!((data(&page.events), page.gap.is_some()), (vec!["2".to_owned()], true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_redis_forgot_to_have_left_is_told_of_again() {
    let log = open(REDIS, |_| {});
    log.bind(&["a", "b"], "s-1").await;
    log.bind(&["c"], "s-2").await;
    log.depart("s-1", false).await;
    // As a replica takes over that has not heard of it.
    let redis = log._redis.as_ref().expect("a Redis");
    let _: i64 = redis.run(&["DEL", "{contract}:left"]);
    let _: i64 = redis.run(&["HSET", "{contract}:log", "run", "another"]);
    log.put("d", 1).await;
    log.until_due(&["a", "b"]).await;
    log.end_all().await;
    assert!(log.due().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_from_redis_waits_while_a_node_is_full_and_is_heard_in_order_after() {
    let log = open(REDIS, |_| {});
    log.put("a", 0).await;
    log.heard(1).await;
    log.heard.is_full.store(true, Ordering::SeqCst);
    // It may be waiting for this one already.
    log.put("a", 1).await;
    for n in 2..300 {
        log.put("a", n).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(log.heard.events.lock().unwrap().len() <= 2);
    log.heard.is_full.store(false, Ordering::SeqCst);
    let expected: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    assert_eq!(data(&log.heard(300).await), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_behind_hears_what_waits_for_it_and_not_what_the_streams_have_left_of_it() {
    const COUNT: usize = 300;
    let log = open(REDIS, |config| config.rules.default.max_events = 1);
    log.heard.slowness.store(50, Ordering::SeqCst);
    let text = "x".repeat(10_000);
    for n in 0..COUNT {
        log.put("a", format!("[{n},\"{text}\"]")).await;
    }
    let heard = log.heard(COUNT).await;
    assert!(heard.iter().map(|event| event.cursor.unwrap().sequence).eq(1..=COUNT as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stays_on_disk_is_known_at_a_start_and_takes_no_room_of_the_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = || {
        let mut config = Config::default();
        config.history.path = directory.path().join("data");
        bound_all(&mut config, 12_100);
        let mut rule = config.rules.default.clone();
        (rule.pattern, rule.max_age) = (Pattern::parse("*.v").unwrap(), Duration::from_millis(50));
        config.rules.listed.push(rule);
        config
    };
    let start = || sqlite(&config(), Clock::default(), Arc::new(RecordingFeed::default()));
    let history = start();
    let put = async |history: &dyn History, name: &str| {
        let events = vec![event(name, text_that_costs(1_000))];
        history.append(Append { events, key: None }).await.unwrap();
    };
    // Old values among and behind newer events that stay within their age.
    for name in ["b", "1.v", "b", "2.v", "b", "3.v", "b", "b", "b", "b", "4.v"] {
        put(&*history, name).await;
    }
    let stays = || {
        let path = directory.path().join("data/history.db");
        let db = rusqlite::Connection::open(path).expect("opened");
        db.query_row("SELECT COUNT(*) FROM stays", (), |row| row.get::<_, u32>(0)).unwrap()
    };
    support::eventually("all of them are too old", async || stays() == 4).await;
    for _ in 0..5 {
        put(&*history, "b").await;
    }
    history.stop();
    drop(history);
    let history = start();
    put(&*history, "b").await;
    let retained = async |name| history.topic(topic(name)).await.unwrap().retained;
    assert_eq!(retained("b").await, 12);
    put(&*history, "1.v").await;
    assert_eq!((retained("b").await, retained("1.v").await), (11, 1));
    history.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_of_an_earlier_release_removed_in_redis_does_not_count_for_long() {
    let log = open(REDIS, |config| {
        bound_all(config, 12_000);
        config.history.newest_topics = 2;
    });
    let text = text_that_costs(1_000);
    for name in ["u", "v"].into_iter().chain(["b"; 30]) {
        log.put(name, &text).await;
    }
    let redis = log._redis.as_ref().expect("a Redis");
    let stays = || redis.run::<Vec<String>>(&["ZRANGE", "{contract}:stays", "0", "-1"]);
    assert_eq!(stays(), ["1000 u", "1000 v"]);
    // As its script does, which knows of no such list.
    let script = "redis.call('DEL', KEYS[1] .. ':t:u')
        redis.call('XDEL', KEYS[1] .. ':order', '1-0')
        redis.call('HDEL', KEYS[1] .. ':bytes', 'u')
        redis.call('ZREM', KEYS[1] .. ':topics', 'u')
        redis.call('ZADD', KEYS[1] .. ':lost', 1, 'u')
        return redis.call('HINCRBY', KEYS[1] .. ':log', 'bytes', -1000)";
    let _: i64 = redis.run(&["EVAL", script, "1", "{contract}"]);
    log.put("w", &text).await;
    for _ in 0..30 {
        log.put("b", &text).await;
    }
    assert_eq!(stays(), ["1000 v", "1000 w"]);
    assert_eq!((log.retained("v").await, log.retained("b").await), (1, 12));
    let count: String = redis.run(&["HGET", "{contract}:log", "stays_bytes"]);
    assert_eq!(count, "2000");
}
