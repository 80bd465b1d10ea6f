//! What the durable history costs: `cargo bench --bench history [-- EVENTS [TOPICS]]`.
//!
//! Fills a new data directory in the system's place for temporary files, then prints how fast events
//! were stored, how long a start takes on what is there, and what a resume from far back costs on
//! topics that are a few among very many.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use fanfare::clock::Clock;
use fanfare::config::Config;
use fanfare::history::sqlite::Opened;
use fanfare::history::{Append, Feed, History, Loss, Read};
use fanfare::model::{Cursor, Data, Event, NewEvent, Pattern, Topic};

/// Events of one publish.
const BATCH: usize = 1_000;

struct Nobody;

impl Feed for Nobody {
    fn skip(&self, _: &Topic, _: Option<Cursor>) -> bool {
        true
    }

    fn broken(&self, _: Loss) {}

    fn committed(&self, events: Vec<Arc<Event>>) {
        black_box(events);
    }
}

fn event(topic: &str) -> NewEvent {
    let data = Data::from_text(&"x".repeat(100));
    NewEvent::new(Topic::parse(topic).expect("a topic"), None, data)
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap_or("unknown").trim().to_owned()
}

async fn replay(history: &dyn History, pattern: &str, since: Cursor) -> (usize, usize) {
    let patterns: Arc<[Pattern]> = Arc::new([Pattern::parse(pattern).expect("a pattern")]);
    let (mut after, mut events, mut pages) = (since, 0, 0);
    loop {
        let read = Read {
            patterns: patterns.clone(),
            after: Some(after),
            upto: None,
            max_events: 256,
            max_bytes: 128 * 1024,
        };
        let page = history.read(read).await.expect("a page");
        events += page.events.len();
        pages += 1;
        after = page.next;
        if page.done {
            return (events, pages);
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse::<usize>().ok());
    let events = numbers.next().unwrap_or(1_000_000);
    let topics = numbers.next().unwrap_or(10_000);
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = Config::default();
    config.history.path = directory.path().to_owned();
    let open =
        || Opened::open(&config.history, config.rules.clone(), Clock::default()).expect("it opens");

    let history = open().start(Arc::new(Nobody)).expect("it starts");
    let rare = history.append(Append { events: vec![event("rare.0")], key: None }).await;
    let since = rare.expect("stored").events[0].cursor.expect("a number");
    let begun = Instant::now();
    for batch in 0..events / BATCH {
        let number = |n| batch * BATCH + n;
        let mut batch: Vec<_> =
            (0..BATCH).map(|n| event(&format!("busy.{}.x", number(n) % topics))).collect();
        if has_a_rare_one(batch.len(), events, number(0)) {
            batch.push(event(&format!("rare.{}", number(0) % 7)));
        }
        history.append(Append { events: batch, key: None }).await.expect("stored");
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("stored       {events} events of {topics} topics, {BATCH} a publish, one publisher");
    println!("             {:.0} events a second; {} resident", events as f64 / seconds, memory());

    for pattern in ["rare.0", "rare.*", "*.0", "busy.7.x", "busy.*.x"] {
        let begun = Instant::now();
        let (found, pages) = replay(&history, pattern, since).await;
        let elapsed = begun.elapsed();
        println!("resumed      {pattern:9} {found:8} events, {pages:5} pages, {elapsed:.1?}");
    }
    history.stop();
    drop(history);

    let begun = Instant::now();
    let opened = open();
    println!("started      in {:.1?}; {} resident", begun.elapsed(), memory());
    drop(opened);
}

/// Whether a batch also has an event of a rare topic: about 100 of all batches.
fn has_a_rare_one(batch: usize, events: usize, number: usize) -> bool {
    (number / batch).is_multiple_of((events / batch / 100).max(1))
}
