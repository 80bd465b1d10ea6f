use super::*;
use crate::clock::Clock;
use crate::config::Config;
use crate::history::clock_steps::{ClockSteps, Dating};
use crate::history::{Asked, ListTopics, Loss};
use crate::model::{Cursor, Data, LogName, NewEvent, Pattern};

/// Hears the topics of what is committed.
#[derive(Default)]
struct RecordingFeed(Mutex<Vec<String>>);

impl Feed for RecordingFeed {
    fn committed(&self, events: Vec<Arc<Event>>) {
        let topics = events.iter().map(|event| event.topic.to_string());
        self.0.lock().unwrap().extend(topics);
    }

    fn skip(&self, _: &Topic, _: Option<Cursor>) -> bool {
        false
    }

    fn broken(&self, _: Loss) {}
}

/// A log of topics on disk, and of `m.>` in memory, for which so many numbers are reserved.
fn shared(reserved: u64) -> (Shared, Arc<RecordingFeed>) {
    let config = Config::default();
    let mut rules = config.rules;
    let mut memory = rules.default.clone();
    (memory.pattern, memory.storage) = (Pattern::parse("m.>").unwrap(), Storage::Memory);
    rules.listed.push(memory);
    let head = Cursor { log: LogName::random(), epoch: 1, sequence: 0 };
    let dating = Dating::new(0, ClockSteps::default());
    let log = Log::new(head, dating, &config.history, rules, Clock::default());
    let heard = Arc::new(RecordingFeed::default());
    (Shared::new(log, reserved, false, 1 << 20, heard.clone()), heard)
}

fn append(topics: &[&str]) -> Append {
    let event =
        |topic: &&str| NewEvent::new(Topic::parse(topic).unwrap(), None, Data::from_text("x"));
    Append { events: topics.iter().map(event).collect(), key: None }
}

type Answered = oneshot::Receiver<Result<Receipt, AppendError>>;

/// Admits what has to wait for the writer.
fn waiting(shared: &Shared, topics: &[&str]) -> Answered {
    match shared.admit(append(topics)) {
        Admission::Waiting(_, receiver) => receiver,
        Admission::Done(result) => panic!("it did not wait: {result:?}"),
    }
}

/// Takes the next group, of which this becomes.
fn commit(shared: &Shared, outcome: Result<(), Failure>, reserved: u64) {
    match shared.next_work(Duration::ZERO, |_| None) {
        Work::Group(group) => shared.committed(group, outcome, reserved, &[]),
        _ => panic!("there is no group"),
    }
}

#[test]
fn where_no_more_numbers_can_be_reserved_none_is_given_and_the_disk_is_said_to_be_full() {
    let (shared, heard) = shared(3);
    for _ in 0..3 {
        assert!(matches!(shared.admit(append(&["m.a"])), Admission::Done(Ok(_))));
    }
    for _ in 0..2 {
        let mut answer = waiting(&shared, &["m.a"]);
        commit(&shared, Err(Failure::Full), 3);
        assert_eq!(answer.try_recv().unwrap(), Err(AppendError::StorageFull));
    }
    assert_eq!((shared.lock().log.last(), heard.0.lock().unwrap().len()), (3, 3));
    let mut answer = waiting(&shared, &["m.a"]);
    commit(&shared, Ok(()), 1_000);
    let receipt = answer.try_recv().unwrap().unwrap();
    assert_eq!(receipt.events[0].cursor.unwrap().sequence, 4);
}

#[test]
fn what_the_disk_refuses_takes_no_numbers_from_topics_in_memory() {
    let (shared, _) = shared(10);
    for _ in 0..100 {
        let mut answer = waiting(&shared, &["d.a", "d.b"]);
        commit(&shared, Err(Failure::Full), 10);
        assert_eq!(answer.try_recv().unwrap(), Err(AppendError::StorageFull));
    }
    for number in 1..=10 {
        let Admission::Done(Ok(receipt)) = shared.admit(append(&["m.a"])) else {
            panic!("{number} was reserved");
        };
        assert_eq!(receipt.events[0].cursor.unwrap().sequence, number);
    }
}

#[test]
fn a_batch_whose_commit_turns_up_after_all_is_let_out_whole_and_one_that_does_not_not_at_all() {
    for has_turned_up in [true, false] {
        let (shared, heard) = shared(1_000);
        let mut both = waiting(&shared, &["m.before", "d.a", "m.a"]);
        let mut memory = waiting(&shared, &["m.alone"]);
        commit(&shared, Err(Failure::Unknown("EIO".to_owned())), 0);
        assert!(matches!(both.try_recv().unwrap(), Err(AppendError::OutcomeUnknown(_))));
        assert!(matches!(memory.try_recv().unwrap(), Err(AppendError::Unavailable(_))));
        assert!(heard.0.lock().unwrap().is_empty());
        shared.mended(has_turned_up, 2_000);
        let whole: &[&str] = if has_turned_up { &["m.before", "d.a", "m.a"] } else { &[] };
        assert_eq!(*heard.0.lock().unwrap(), whole);
        let list = ListTopics { pattern: Pattern::everything(), after: None, limit: 9 };
        let in_memory = shared.lock().log.topics(&list);
        let in_memory: Vec<_> = in_memory.iter().map(|of| of.topic.as_str()).collect();
        assert_eq!(in_memory, if has_turned_up { vec!["m.a", "m.before"] } else { vec![] });
    }
}

#[test]
fn a_repeat_that_gave_up_while_the_first_is_still_running_is_not_told_that_nothing_is_stored() {
    let (shared, _) = shared(1 << 20);
    let asked = Asked { events: Some([1; 32]), raw: None };
    let keyed = |scope: u8| {
        let key = IdempotencyKey { scope: [scope; 32], asked, is_in_series: false };
        match shared.admit(Append { key: Some(key), ..append(&["a"]) }) {
            Admission::Waiting(ticket, receiver) => (ticket, receiver),
            Admission::Done(result) => panic!("it did not wait: {result:?}"),
        }
    };
    let (first, _answer) = keyed(1);
    let (queued, _queued) = keyed(1);
    assert_eq!(shared.withdraw(queued), Withdrawn::Repeat, "it waits behind the first");
    let Work::Group(group) = shared.next_work(Duration::ZERO, |_| None) else {
        panic!("there is a group")
    };
    assert_eq!(shared.withdraw(first), Withdrawn::TooLate);
    let ((repeat, _repeat), (other, _other)) = (keyed(1), keyed(2));
    assert_eq!(shared.withdraw(repeat), Withdrawn::Repeat, "the first is being committed");
    assert_eq!(shared.withdraw(other), Withdrawn::Unbegun);
    shared.committed(group, Ok(()), 1 << 20, &[]);
    let key = IdempotencyKey { scope: [1; 32], asked, is_in_series: false };
    let again = shared.admit(Append { key: Some(key), ..append(&["a"]) });
    assert!(matches!(again, Admission::Done(Ok(Receipt { repeated: true, .. }))));
}
