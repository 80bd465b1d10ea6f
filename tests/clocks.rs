//! A clock that was wrong and is set right, under a log in memory and one on disk.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fanfare::clock::Clock;
use fanfare::config::{Config, Storage};
use fanfare::history::memory::MemoryHistory;
use fanfare::history::sqlite::Opened;
use fanfare::history::{Append, Asked, Feed, History, IdempotencyKey, Loss, Read, Since};
use fanfare::model::{Cursor, Data, Event, NewEvent, Pattern, Timestamp, Topic};

/// How long events are kept.
const AGE: Duration = Duration::from_secs(3_600);

/// By how much the clock is ahead.
const AHEAD: [Duration; 2] = [Duration::from_secs(120), Duration::from_secs(10 * 365 * 24 * 3_600)];

/// Wants nothing.
struct Nobody;

impl Feed for Nobody {
    fn committed(&self, _: Vec<Arc<Event>>) {}

    fn skip(&self, _: &Topic, _: Option<Cursor>) -> bool {
        false
    }

    fn broken(&self, _: Loss) {}
}

fn clock() -> Clock {
    Clock::by_hand(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000))
}

fn config(path: &Path, storage: Storage) -> Config {
    let mut config = Config::default();
    config.history.path = path.to_owned();
    config.rules.default.storage = storage;
    config.rules.default.max_age = AGE;
    config.history.idempotency_window = Duration::from_secs(600);
    config
}

fn open(path: &Path, storage: Storage, clock: Clock) -> Arc<dyn History> {
    let Config { history, rules, .. } = config(path, storage);
    if storage == Storage::Memory {
        let start = MemoryHistory::new_start();
        return Arc::new(MemoryHistory::new(start, &history, rules, clock, Arc::new(Nobody)));
    }
    let opened = Opened::open(&history, rules, clock).expect("it opens");
    Arc::new(opened.start(Arc::new(Nobody)).expect("it starts"))
}

async fn put(history: &dyn History, key: u8) -> (Cursor, Timestamp) {
    let data = Data::from_json(b"1", 1).expect("JSON");
    let events = vec![NewEvent::new(Topic::parse("a").expect("a topic"), None, data)];
    let asked = Asked::of_events(&events);
    let key = Some(IdempotencyKey { scope: [key; 32], asked, is_in_series: false });
    let receipt = history.append(Append { events, key }).await.expect("it is stored");
    (receipt.events[0].cursor.expect("it is kept"), receipt.events[0].time)
}

async fn kept(history: &dyn History) -> Vec<Cursor> {
    let (patterns, after, upto) = (Arc::new([Pattern::everything()]), None, None);
    let read = Read { patterns, after, upto, max_events: 100, max_bytes: usize::MAX };
    let page = history.read(read).await.expect("it is read");
    page.events.iter().filter_map(|event| event.cursor).collect()
}

/// Lets time pass as a broker does, which looks at its clock every second.
fn pass(history: &dyn History, clock: Clock, time: Duration) {
    clock.pass(time);
    history.sweep();
}

#[tokio::test]
async fn after_a_clock_that_was_ahead_is_set_right_dates_are_true_and_everything_expires() {
    for (storage, ahead) in [Storage::Memory, Storage::Disk].into_iter().zip(AHEAD.repeat(2)) {
        for ahead in [ahead, AHEAD[1]] {
            let (directory, clock) = (tempfile::tempdir().expect("a directory"), clock());
            let history = open(directory.path(), storage, clock);
            put(&*history, 1).await;
            clock.set(clock.time() + ahead);
            history.sweep();
            let (wrong, _) = put(&*history, 2).await;
            clock.set(clock.time() - ahead);
            pass(&*history, clock, Duration::from_secs(1));
            let (right, date) = put(&*history, 3).await;
            assert_eq!(date, Timestamp::from(clock.time()));
            assert!(right > wrong);
            // All of it is old enough, and goes with what comes next.
            pass(&*history, clock, AGE + Duration::from_secs(2));
            let (last, _) = put(&*history, 4).await;
            history.sweep();
            assert_eq!(kept(&*history).await, [last], "{storage:?} {ahead:?}");
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_set_right_while_the_broker_is_down_is_noticed_at_the_start() {
    for ahead in AHEAD {
        let (directory, clock) = (tempfile::tempdir().expect("a directory"), clock());
        let history = open(directory.path(), Storage::Disk, clock);
        clock.set(clock.time() + ahead);
        put(&*history, 1).await;
        drop(history);
        clock.set(clock.time() - ahead);
        let history = open(directory.path(), Storage::Disk, clock);
        let (_, date) = put(&*history, 2).await;
        assert_eq!(date, Timestamp::from(clock.time()));
        drop(history);
        // What was noticed once is known for good. Nobody knows whether the clock went ahead meanwhile, so
        // what was dated after it may be kept for as much longer as it was ahead.
        clock.pass(AGE + AHEAD[0] + Duration::from_secs(2));
        let history = open(directory.path(), Storage::Disk, clock);
        let (last, _) = put(&*history, 3).await;
        assert_eq!(kept(&*history).await, [last], "{ahead:?}");
    }
}

#[tokio::test]
async fn results_of_publishes_that_are_dated_after_the_clock_go_with_their_window() {
    let (directory, clock) = (tempfile::tempdir().expect("a directory"), clock());
    let history = open(directory.path(), Storage::Disk, clock);
    clock.set(clock.time() + AHEAD[1]);
    history.sweep();
    put(&*history, 1).await;
    clock.set(clock.time() - AHEAD[1]);
    history.sweep();
    let results = || {
        let db = rusqlite::Connection::open(directory.path().join("history.db")).expect("opened");
        let count = db.query_row("SELECT COUNT(*) FROM receipts", (), |row| row.get::<_, u32>(0));
        count.expect("a number")
    };
    pass(&*history, clock, Duration::from_secs(500));
    put(&*history, 2).await;
    assert_eq!(results(), 2, "the window of the first is not over");
    pass(&*history, clock, Duration::from_secs(200));
    put(&*history, 3).await;
    assert_eq!(results(), 2, "it is over");
}

#[tokio::test]
async fn a_moment_that_a_step_back_hides_events_from_is_a_gap_and_one_after_it_is_not() {
    for storage in [Storage::Memory, Storage::Disk] {
        let (directory, clock) = (tempfile::tempdir().expect("a directory"), clock());
        let history = open(directory.path(), storage, clock);
        clock.set(clock.time() + AHEAD[0]);
        history.sweep();
        put(&*history, 1).await;
        clock.set(clock.time() - AHEAD[0]);
        pass(&*history, clock, Duration::from_secs(1));
        let (right, _) = put(&*history, 2).await;
        pass(&*history, clock, Duration::from_secs(600));
        let moment = async |ago| {
            let time = Timestamp::from(clock.time() - Duration::from_secs(ago));
            history.position_before(Since::Time(time)).await.expect("a place")
        };
        // The first is dated two minutes after the second.
        let between = moment(590).await;
        assert_eq!((between.position, between.gap), (right, true), "{storage:?}");
        let after = moment(60).await;
        assert_eq!((after.position, after.gap), (right, false), "{storage:?}");
    }
}
