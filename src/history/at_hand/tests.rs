use futures_util::FutureExt;

use super::*;
use crate::model::{Code, Data, Pattern, Timestamp};

/// A log that says of everything that it was asked.
struct Asked(Cursor);

/// What it says.
fn asked<T: Send + 'static>() -> BoxFuture<'static, Result<T, Problem>> {
    Box::pin(ready(Err(Problem::new(Code::Unavailable, "the log was asked"))))
}

impl History for Asked {
    fn append(&self, _: Append) -> BoxFuture<'_, Result<Receipt, AppendError>> {
        Box::pin(ready(Err(AppendError::StorageFull)))
    }

    fn read(&self, _: Read) -> BoxFuture<'_, Result<Page, Problem>> {
        asked()
    }

    fn read_back(&self, _: ReadBack) -> BoxFuture<'_, Result<BackPage, Problem>> {
        asked()
    }

    fn position_before(&self, _: Since) -> BoxFuture<'_, Result<Moment, Problem>> {
        asked()
    }

    fn newest(&self, _: Newest) -> BoxFuture<'_, Result<NewestPage, Problem>> {
        asked()
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
        self.0
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
    let history = hand.over(Arc::new(Asked(at(0))));
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
