use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::broker::Strain;
use crate::broker::fanout::Fanout;
use crate::broker::{Answer, Commanded, NoObserver, Overheard, Question, Range, Roll, Transport};
use crate::history::{Feed, Loss, LostTopic};
use crate::model::{Bearer, Cursor, Data, Ended, Event, LogName, Timestamp, Topic};

/// A session that notes what it hears.
struct Fake {
    name: &'static str,
    journal: Journal,
    may_be_here: bool,
    deadline: Option<Instant>,
}

type Journal = Rc<RefCell<Vec<String>>>;

impl Fake {
    fn hears(&self, what: &str) {
        self.journal.borrow_mut().push(format!("{} {what}", self.name));
    }
}

impl Subscriber for Fake {
    type Subscribe = Vec<Pattern>;
    type Caller = ();
    type Errand = ();

    fn recheck_rights(&mut self) -> Result<Changed<()>, Close> {
        if self.may_be_here { Ok(Changed::default()) } else { Err(Close::Unauthorized) }
    }

    fn identify(&mut self, (): ()) -> Changed<()> {
        Changed::default()
    }

    fn bearer(&self) -> Option<&Bearer> {
        None
    }

    fn subscribe(&mut self, _: BarrierId, patterns: Vec<Pattern>) -> Option<Joined<()>> {
        Some(Joined { patterns, errand: Some(()) })
    }

    fn unsubscribe(&mut self, _: &[Pattern]) {}

    fn command(&mut self, command: &str) -> Commanded<()> {
        match command {
            "end" => Commanded::End(Close::Policy),
            "run" => Commanded::Run(()),
            _ => Commanded::Refused,
        }
    }

    fn overhear(&mut self, secret: &str, _: &str) -> Overheard {
        if secret == self.name { Overheard::Heard } else { Overheard::Nobody }
    }

    fn may_receive(&self, topic: &Topic) -> bool {
        !topic.as_str().contains("secret")
    }

    fn deliver(&mut self, delivery: &Arc<Delivery>) -> Delivered {
        assert_ne!(delivery.event.topic.as_str(), "bad", "a part of a test");
        Delivered::Quietly
    }

    fn flush(&mut self) -> Result<Option<Instant>, Close> {
        Ok(None)
    }

    fn barrier_reached(&mut self, _: BarrierId, _: Cursor) {
        self.hears("barrier");
    }

    fn called(&mut self, _: BarrierId, _: Option<Roll>) {
        self.hears("roll");
    }

    fn heartbeat(&self) -> u32 {
        25
    }

    fn tell_trouble(&mut self, trouble: Trouble) {
        self.hears(trouble.name());
    }

    fn go_away(&mut self, _: Duration) {
        self.hears("goaway");
    }

    fn beat(&mut self, _: Cursor) -> Result<(), Close> {
        Ok(())
    }

    fn broken(&mut self, _: &Loss, _: BarrierId) -> Option<()> {
        self.hears("loss");
        None
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn due(&mut self) -> Result<(), Close> {
        Err(Close::Unauthorized)
    }

    fn verdict(&self) -> Option<Close> {
        None
    }

    fn end(&mut self, close: Close) {
        self.hears(close.name());
    }

    fn left(&mut self, _: &SessionInfo, _: Ended) {}

    fn queued_bytes(&self) -> usize {
        0
    }

    fn strain(&self, _: Instant) -> Strain {
        Strain { queued_bytes: 0, lag: Duration::ZERO, skipped: 0 }
    }

    fn has_room(&self) -> bool {
        true
    }
}

struct Room {
    worker: Worker<Fake>,
    journal: Journal,
    outlook: Arc<Outlook>,
}

impl Room {
    fn new() -> Self {
        let head = Cursor { log: LogName::parse("abcdefgh").unwrap(), epoch: 1, sequence: 7 };
        let router = Arc::new(Router::new(head, 10));
        let (id, _) = router.enter();
        let timing = Timing { flush_interval: Duration::ZERO, clock: Clock::default() };
        let (outlook, metrics) = (Arc::new(Outlook::default()), Arc::new(Metrics::default()));
        let observer = Arc::new(NoObserver);
        let worker = Worker::new(id, router, observer, metrics, outlook.clone(), timing);
        Self { worker, journal: Journal::default(), outlook }
    }

    fn enter(&mut self, name: &'static str) -> Result<SessionKey, Close> {
        self.enter_with(name, true, None)
    }

    fn enter_with(
        &mut self,
        name: &'static str,
        may_be_here: bool,
        deadline: Option<Instant>,
    ) -> Result<SessionKey, Close> {
        let journal = self.journal.clone();
        self.worker.enter(info(name), Box::new(Fake { name, journal, may_be_here, deadline }))
    }

    fn names(&mut self) -> Vec<String> {
        let everyone = Question::Sessions(None, Range { after: None, limit: 100 });
        let sessions = self.worker.answer(&everyone);
        let Answer::Sessions(sessions) = sessions else { panic!("{sessions:?}") };
        sessions.into_iter().map(|view| view.info.id.to_string()).collect()
    }

    fn count(&mut self, topic: &str) -> usize {
        let count = self.worker.answer(&Question::Count(vec![Topic::parse(topic).unwrap()]));
        let Answer::Counts(counts) = count else { panic!("{count:?}") };
        counts[0]
    }
}

fn info(name: &str) -> SessionInfo {
    SessionInfo {
        id: name.into(),
        bearer: None,
        since: Timestamp::from_millis(0),
        transport: Transport::Sse,
        address: None,
        node: None,
    }
}

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
}

#[test]
fn what_is_addressed_to_a_session_that_left_is_nobodys() {
    let mut room = Room::new();
    let first = room.enter("first").unwrap();
    room.worker.leave(first, Ended::Gone);
    let second = room.enter("second").unwrap();
    assert_eq!(first.slot, second.slot, "it sits where the other sat");
    room.worker.subscribe(first, patterns(&["a"]));
    room.worker.identify(first, ());
    room.worker.end(first, Close::Policy);
    room.worker.leave(first, Ended::Gone);
    let barrier = room.worker.new_barrier();
    let position = room.worker.router.head();
    room.worker.handle(vec![Item::Barrier { session: first, barrier, position }]);
    assert_eq!(room.worker.with(first, |_| ()), None);
    assert_eq!((room.names(), room.count("a")), (vec!["second".to_owned()], 0));
    assert!(room.journal.borrow().is_empty() && room.worker.next_errand().is_none());
}

#[test]
fn what_was_ended_is_in_no_list_and_in_no_count() {
    let mut room = Room::new();
    let key = room.enter("one").unwrap();
    room.worker.subscribe(key, patterns(&["a", "b.>"]));
    assert_eq!((room.count("a"), room.count("b.x"), room.count("b.secret")), (1, 1, 0));
    let ended = room.worker.answer(&Question::EndSession("one".to_owned()));
    assert!(matches!(ended, Answer::Ended(1)), "{ended:?}");
    assert_eq!((room.count("a"), room.names().len()), (0, 0));
    let again = room.worker.answer(&Question::EndSession("one".to_owned()));
    assert!(matches!(again, Answer::Ended(0)), "{again:?}");
    assert_eq!(*room.journal.borrow(), ["one policy"]);
}

#[test]
fn nobody_comes_in_who_may_not_be_here_or_while_it_drains() {
    let mut room = Room::new();
    assert_eq!(room.enter_with("revoked", false, None), Err(Close::Unauthorized));
    room.outlook.drain();
    assert_eq!(room.enter("late"), Err(Close::Restart));
    assert!(room.names().is_empty());
}

#[test]
fn whose_time_is_up_is_gone_before_anything_else_is_handled() {
    let mut room = Room::new();
    let over = room.enter_with("over", true, Some(Instant::now())).unwrap();
    room.worker.subscribe(over, patterns(&[">"]));
    let since = room.worker.router.head();
    room.worker.handle(vec![Item::Broken(Loss { since, position: since, topics: None })]);
    assert_eq!(*room.journal.borrow(), ["over unauthorized"]);
    assert!(room.worker.next_alarm().is_none());
}

#[test]
fn a_loss_is_told_to_those_whose_topics_it_is_of() {
    let mut room = Room::new();
    for (name, texts) in [("exact", &["a"][..]), ("wild", &["*"]), ("other", &["b"])] {
        let key = room.enter(name).unwrap();
        room.worker.subscribe(key, patterns(texts));
    }
    let since = room.worker.router.head();
    let lost = |topics: &[&str]| {
        let lost = topics
            .iter()
            .map(|topic| LostTopic { topic: Topic::parse(topic).unwrap(), is_superseded: false });
        Item::Broken(Loss { since, position: since, topics: Some(lost.collect()) })
    };
    room.worker.handle(vec![lost(&["a", "c"])]);
    assert_eq!(*room.journal.borrow(), ["exact loss", "wild loss"], "each once");
    room.journal.borrow_mut().clear();
    room.worker.handle(vec![Item::Broken(Loss { since, position: since, topics: None })]);
    assert_eq!(room.journal.borrow().len(), 3);
}

#[actix_web::test]
async fn sessions_whose_worker_panics_are_told() {
    let head = Cursor { log: LogName::parse("abcdefgh").unwrap(), epoch: 1, sequence: 7 };
    let router = Arc::new(Router::new(head, 10));
    let timing = Timing { flush_interval: Duration::ZERO, clock: Clock::default() };
    let (observer, metrics) = (Arc::new(NoObserver), Arc::new(Metrics::default()));
    let run = |_: &_, _, ()| {};
    let (worker, _) = Fanout::start(router.clone(), observer, metrics, Arc::default(), timing, run);
    let journal = Journal::default();
    let seats = ["first", "second"].map(|name| {
        let fake = Fake { name, journal: journal.clone(), may_be_here: true, deadline: None };
        worker.enter(info(name), fake).unwrap_or_else(|close| panic!("{close:?}"))
    });
    worker.subscribe(seats[0].session(), patterns(&["bad"]));
    let data = Data::from_json(b"1", 8).unwrap();
    let (cursor, topic) = (Some(head.at(8)), Topic::parse("bad").unwrap());
    let time = Timestamp::from_millis(0);
    let event = Event { cursor, topic, kind: None, time, data, envelope: None };
    router.committed(vec![Arc::new(event)]);
    let told = async {
        while journal.borrow().iter().filter(|journal| journal.ends_with("restart")).count() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("both are told");
}
