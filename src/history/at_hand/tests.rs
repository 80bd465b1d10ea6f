use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;

use super::*;
use crate::model::{Code, Data, Pattern, Timestamp};

/// A log that says of everything that it was asked.
struct Asked {
    head: Cursor,
    /// Whether it has told all, where it is asked that; then it has nothing itself.
    told: Option<Arc<AtomicBool>>,
}

/// What it says.
fn asked<T: Send + 'static>() -> BoxFuture<'static, Result<T, Problem>> {
    Box::pin(ready(Err(Problem::new(Code::Unavailable, "the log was asked"))))
}

impl History for Asked {
    fn append(&self, _: Append) -> BoxFuture<'_, Result<Receipt, AppendError>> {
        Box::pin(ready(Err(AppendError::StorageFull)))
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, Problem>> {
        let page =
            Page { events: vec![], gap: None, next: read.upto.unwrap_or(self.head), done: true };
        if self.told.is_some() { Box::pin(ready(Ok(page))) } else { asked() }
    }

    fn read_back(&self, _: ReadBack) -> BoxFuture<'_, Result<BackPage, Problem>> {
        asked()
    }

    fn position_before(&self, _: Since) -> BoxFuture<'_, Result<Moment, Problem>> {
        asked()
    }

    fn newest(&self, _: Newest) -> BoxFuture<'_, Result<NewestPage, Problem>> {
        let page = NewestPage { events: vec![], gap: false, next: None };
        if self.told.is_some() { Box::pin(ready(Ok(page))) } else { asked() }
    }

    fn topics(&self, _: ListTopics) -> BoxFuture<'_, Result<Vec<TopicSummary>, Problem>> {
        asked()
    }

    fn topic(&self, _: Topic) -> BoxFuture<'_, Result<TopicSummary, Problem>> {
        asked()
    }

    fn forget(&self, _: Topic) -> BoxFuture<'_, Result<usize, Problem>> {
        asked()
    }

    fn depart(&self, _: Vec<Departure>) -> BoxFuture<'_, Result<(), Problem>> {
        asked()
    }

    fn due(&self, _: usize) -> BoxFuture<'_, Result<Vec<Ending>, Problem>> {
        asked()
    }

    fn head(&self) -> Cursor {
        self.head
    }

    fn has_told_all(&self) -> Option<BoxFuture<'_, bool>> {
        let told = self.told.as_ref()?.load(Ordering::SeqCst);
        Some(Box::pin(ready(told)))
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

/// Hears what is told on, and finds that it is at hand then.
struct Listener {
    hand: Arc<Hand>,
    wants: Topic,
}

impl Feed for Listener {
    fn committed(&self, events: Vec<Arc<Event>>) {
        for event in events {
            let upto = event.cursor.unwrap();
            let page = self.hand.page(&read(">", upto.at(upto.sequence - 1), upto)).unwrap();
            assert_eq!(page.events.len(), 1);
        }
    }

    fn skip(&self, topic: &Topic, _: Option<Cursor>) -> bool {
        *topic != self.wants
    }

    fn broken(&self, loss: Loss) {
        let (since, upto) = (loss.since, loss.position);
        assert!(self.hand.page(&read(">", since, upto)).is_none());
    }

    fn removed(&self, removed: &[Removal]) {
        for removal in removed {
            let (name, upto) = (removal.topic.as_ref().unwrap().as_str(), at(removal.upto));
            assert!(self.hand.page(&read(name, upto.at(upto.sequence - 1), upto)).is_none());
        }
    }
}

fn at(sequence: u64) -> Cursor {
    Cursor::parse("abcdefgh-1-0").unwrap().at(sequence)
}

fn event(name: &str, sequence: u64) -> Arc<Event> {
    let (data, time) = (Data::from_json(b"1", 9).unwrap(), Timestamp::from_millis(0));
    let (cursor, topic) = (Some(at(sequence)), Topic::parse(name).unwrap());
    Arc::new(Event { cursor, topic, kind: None, time, data, envelope: None })
}

fn read(text: &str, after: Cursor, upto: Cursor) -> Read {
    let patterns = Arc::new([Pattern::parse(text).unwrap()]);
    let (after, upto) = (Some(after), Some(upto));
    Read { patterns, after, upto, max_events: 100, max_bytes: usize::MAX }
}

/// How many events of a page are at hand; none where the log was asked.
fn found(history: &dyn History, text: &str, after: u64, upto: u64) -> Option<usize> {
    let page = history.read(read(text, at(after), at(upto))).now_or_never().unwrap();
    page.ok().map(|page| page.events.len())
}

#[test]
fn the_log_is_asked_only_for_what_is_not_at_hand_and_each_thing_is_at_hand_before_it_is_told_on() {
    let hand = Hand::new(at(0), 1 << 20);
    let wants = Topic::parse("a").unwrap();
    let feed = hand.before(Arc::new(Listener { hand: hand.clone(), wants: wants.clone() }));
    let history = hand.over(Arc::new(Asked { head: at(0), told: None }));
    feed.committed(vec![event("a", 1)]);
    feed.committed(vec![event("a", 2)]);
    assert!(feed.skip(&Topic::parse("b").unwrap(), None));
    assert!(feed.skip(&Topic::parse("b").unwrap(), Some(at(3))));
    assert!(!feed.skip(&wants, Some(at(4))));
    feed.committed(vec![event("a", 4)]);
    assert_eq!(found(&*history, "a", 0, 4), Some(3));
    assert_eq!(found(&*history, "b", 0, 4), None);
    assert_eq!(found(&*history, "a", 0, 5), None, "what is to come");
    let unbounded = Read { upto: None, ..read("a", at(0), at(0)) };
    assert!(history.read(unbounded).now_or_never().unwrap().is_err());
    let topic = Some(wants);
    feed.removed(&[Removal { topic, upto: 2, is_superseded: true }]);
    assert_eq!(found(&*history, "a", 1, 4), None);
    assert_eq!(found(&*history, "a", 2, 4), Some(1));
    let position = Cursor { epoch: 2, ..at(9) };
    feed.broken(Loss { since: at(4), position, topics: None });
    assert_eq!(found(&*history, "a", 2, 4), None);
}

/// The values of a set; none where the log was asked.
fn values(history: &dyn History, text: &str) -> Option<usize> {
    let patterns = Arc::new([Pattern::parse(text).unwrap()]);
    let (max_events, max_bytes) = (100, usize::MAX);
    let newest = Newest { patterns, after: None, since: None, max_events, max_bytes };
    let page = history.newest(newest).now_or_never()?;
    page.ok().map(|page| page.events.len())
}

#[test]
fn what_a_view_is_of_is_not_passed_by_though_nobody_listens() {
    let hand = Hand::new(at(0), 1 << 20);
    let wants = Topic::parse("a").unwrap();
    let feed = hand.before(Arc::new(Listener { hand: hand.clone(), wants }));
    let history = hand.over(Arc::new(Asked { head: at(0), told: Some(Arc::default()) }));
    let (of_view, other) = (Topic::parse("v.x").unwrap(), Topic::parse("w").unwrap());
    assert!(feed.skip(&of_view, None), "nothing is at hand of it yet");
    assert_eq!((values(&*history, "v.*"), values(&*history, "v.*")), (Some(0), Some(0)));
    assert!(!feed.skip(&of_view, None) && !feed.skip(&of_view, Some(at(1))));
    assert!(feed.skip(&other, Some(at(1))));
}

#[test]
fn before_what_is_at_hand_is_told_the_log_has_said_that_all_is() {
    let is_told = Arc::new(AtomicBool::new(false));
    let hand = Hand::new(at(0), 1 << 20);
    let wants = Topic::parse("a").unwrap();
    let feed = hand.before(Arc::new(Listener { hand: hand.clone(), wants }));
    let history = hand.over(Arc::new(Asked { head: at(0), told: Some(is_told.clone()) }));
    feed.committed(vec![event("a", 1)]);
    // It has none, and said so itself.
    let asked = || (found(&*history, "a", 0, 1), values(&*history, "a"));
    assert_eq!((asked(), asked()), ((Some(0), Some(0)), (Some(0), Some(0))));
    feed.committed(vec![event("a", 2)]);
    is_told.store(true, Ordering::SeqCst);
    let asked = || (found(&*history, "a", 0, 2), values(&*history, "a"));
    assert_eq!((asked(), asked()), ((Some(2), Some(1)), (Some(2), Some(1))));
}
