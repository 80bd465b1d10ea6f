//! The steps of an event's road, each alone, to be timed and to be counted.

use std::hint::black_box;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use fanfare::broker::Topics;
use fanfare::clock::Clock;
use fanfare::config::Config;
use fanfare::history::memory::MemoryHistory;
use fanfare::history::{Append, Feed, History, Loss};
use fanfare::model::{Cursor, Data, Event, LogName, NewEvent, Pattern, Timestamp, Topic};
use fanfare::protocol::{Annotations, Form, NATIVE, SSE};
use fanfare::session::{Outgoing, Sink};
use futures_util::FutureExt;

/// What a publisher sends: 128 bytes of JSON.
const DATA: &str = concat!(
    r#"{"symbol":"FNFR","price":123.45,"volume":1000,"bid":123.44,"ask":123.46,"#,
    r#""open":120.10,"high":125.00,"low":119.50,"halted":false}"#
);

/// Does a step once.
pub type Step = Box<dyn FnMut()>;

/// A step's name, and how to get ready for it.
pub type NamedStep = (&'static str, fn() -> Step);

/// Every step.
pub const STEPS: &[NamedStep] = &[
    ("read the data of a publish", read_data),
    ("append to the history in memory", append),
    ("match one of 100,000 topics", || match_topic(100_000, 0, 1)),
    ("match one of 100,000 topics and 1,000 wildcards", || match_topic(100_000, 1_000, 1)),
    ("match the 1,000 sessions of a topic", || match_topic(1, 0, 1_000)),
    ("encode an event as JSON", || encode(NATIVE.entries[0].dialects[0].form)),
    ("encode an event as CBOR", || encode(NATIVE.entries[0].dialects[1].form)),
    ("encode an event for an event stream", || encode(&SSE)),
    ("push and write a message", || write_messages(1)),
    ("push 100 messages and write them together", || write_messages(100)),
];

/// The step of this name, ready to be done.
pub fn step(name: &str) -> Option<Step> {
    STEPS.iter().find(|(other, _)| *other == name).map(|(_, make)| make())
}

struct Nobody;

impl Feed for Nobody {
    fn committed(&self, events: Vec<Arc<Event>>) {
        black_box(events);
    }

    fn skip(&self, _: &Topic, _: Option<Cursor>) -> bool {
        false
    }

    fn broken(&self, _: Loss) {}
}

/// Takes whatever is written.
struct Abyss;

impl Sink for Abyss {
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }
}

fn topic(text: &str) -> Topic {
    Topic::parse(text).expect("a topic")
}

fn read_data() -> Step {
    Box::new(|| _ = black_box(Data::from_json(black_box(DATA.as_bytes()), 64)))
}

fn append() -> Step {
    let config = Config::default();
    let start = MemoryHistory::new_start();
    let history = MemoryHistory::new(
        start,
        &config.history,
        config.rules,
        Clock::default(),
        Arc::new(Nobody),
    );
    let data = Data::from_json(DATA.as_bytes(), 64).expect("JSON");
    let event = NewEvent::new(topic("orders.eu.42"), None, data);
    Box::new(move || {
        let append = Append { events: vec![event.clone()], key: None };
        _ = black_box(history.append(append).now_or_never());
    })
}

/// `topics` topics with `sessions` subscribers each, beside `wildcards` patterns of which one matches.
fn match_topic(topics: u32, wildcards: u32, sessions: u32) -> Step {
    let mut subscriptions = Topics::default();
    let mut session = 0;
    let mut subscribe = |text: String| {
        session += 1;
        subscriptions.subscribe(session, Pattern::parse(&text).expect("a pattern"));
    };
    for number in 0..topics {
        (0..sessions).for_each(|_| subscribe(format!("shop.{number}.price")));
    }
    (0..wildcards).for_each(|number| subscribe(format!("shop.{number}.*")));
    let asked = topic("shop.0.price");
    // As a worker does, for whom a topic may have thousands.
    Box::new(move || {
        subscriptions.each_subscriber(black_box(&asked), |session| _ = black_box(session));
    })
}

fn encode(form: &'static Form) -> Step {
    let event = Event {
        cursor: Some(Cursor {
            log: LogName::parse("abcdefgh").expect("a name"),
            epoch: 1,
            sequence: 1_234_567,
        }),
        topic: topic("orders.eu.42"),
        kind: None,
        time: Timestamp::from(SystemTime::UNIX_EPOCH),
        data: Data::from_json(DATA.as_bytes(), 64).expect("JSON"),
        envelope: None,
    };
    Box::new(move || _ = black_box((form.event)(black_box(&event), &Annotations::default())))
}

fn write_messages(count: usize) -> Step {
    let outgoing = Outgoing::new(1 << 20);
    outgoing.set_sink(Some(Arc::new(Abyss)));
    let message = Bytes::from_static(DATA.as_bytes());
    Box::new(move || {
        for _ in 0..count {
            _ = black_box(outgoing.push_quietly(message.clone()));
        }
        outgoing.flush();
    })
}
