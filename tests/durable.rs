//! What is kept on disk outlives the broker; what is kept in memory is missed out loud; what is
//! damaged is never served.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fanfare::clock::Clock;
use fanfare::config::Config;
use fanfare::history::sqlite::Opened;
use fanfare::history::{Append, AppendError, Feed, History, Loss};
use fanfare::model::{Cursor, Data, Event, NewEvent, Topic};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::process::Process;
use support::ws::{WsClient, resumed};
use support::{TestServer, expect_status, in_memory, numbered};

#[tokio::test]
async fn a_restarted_broker_has_everything_and_every_cursor_is_good() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("made/for/it");
    let server = TestServer::durable(&path, |_| {});
    let ids = server.publish_all(&numbered("a", 0..5)).await;
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    server.stop();

    let server = TestServer::durable(&path, |_| {});
    assert_eq!(resumed(&server, "topic=a", &ids[1]).await, (0, vec![json!(2), json!(3), json!(4)]));
    assert_eq!(resumed(&server, "topic=*", &ids[4]).await, (0, vec![]));
    let next = server.publish("a", &json!(5)).await;
    let id = next["id"].as_str().expect("an id");
    assert_eq!(resumed(&server, "topic=*", &ids[3]).await, (0, vec![json!(4), json!(5)]));
    // The number is one that nobody can have seen.
    let number = |id: &str| id.rsplit('-').next().and_then(|n| n.parse::<u64>().ok());
    assert!(number(id) > number(&ids[4]));
    server.stop();
}

#[tokio::test]
async fn a_slow_screen_comes_back_over_a_restart_from_any_place_that_it_was_given() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = TestServer::durable(directory.path(), |_| {});
    for (topic, n) in [("z.1", 1), ("z.2", 2), ("z.1", 3)] {
        server.publish(topic, &json!(n)).await;
    }
    server.stop();

    let server = TestServer::durable(directory.path(), |_| {});
    let page = server.get("/v1/events?match=z.*&since=-10m&limit=1").send().await;
    let page: Value = page.expect("an answer").json().await.expect("JSON");
    // As earlier releases gave it: the number of an event from before the restart in the epoch of now.
    let head = server.get("/v1/cursor").send().await.expect("an answer");
    let head: Value = head.json().await.expect("JSON");
    let head = head["cursor"].as_str().expect("a cursor");
    let earlier = format!("{}-1", head.rsplit_once('-').expect("a number").0);
    let next = page["next"].as_str().expect("a cursor");
    assert_eq!(next, page["events"][0]["id"], "a place is of the epoch in which its event came");
    for since in ["-5m", next, &earlier] {
        for (mode, values) in [("all", vec![2, 3]), ("latest", vec![3, 2])] {
            let query = format!("topic=z.*&mode={mode}");
            let (gaps, mut seen) = resumed(&server, &query, since).await;
            seen.retain(|value| *value != json!(1));
            assert_eq!((gaps, json!(seen)), (0, json!(values)), "{mode} since {since}");
        }
    }
    server.stop();
}

#[tokio::test]
async fn what_a_client_publishes_at_once_is_committed_together_and_in_its_order() {
    const COUNT: u64 = 60;
    let broker = Process::start(&[]);
    let mut reader = WsClient::live_at(&broker.address, "?topic=a").await;
    let mut client = WsClient::live_at(&broker.address, "?topic=none").await;
    // A key that comes again is told of what it repeats; what is asked in between has its turn.
    let publish = |n: u64| match n {
        7 => json!({"op": "ping", "ref": n + 1}),
        30 => json!({"op": "publish", "ref": n + 1, "topic": "a", "data": 29, "key": "29"}),
        _ => json!({"op": "publish", "ref": n + 1, "topic": "a", "data": n, "key": n.to_string()}),
    };
    client.send_together((0..COUNT).map(publish)).await;
    for n in 0..COUNT {
        let answer = client.next().await;
        assert_eq!(answer["ref"], n + 1, "{answer}");
        assert_eq!(answer["op"], if n == 7 { "pong" } else { "ack" }, "{answer}");
        assert_eq!(answer["repeated"] == true, n == 30, "{answer}");
    }
    let stored: Vec<_> = (0..COUNT).filter(|n| ![7, 30].contains(n)).collect();
    let events = reader.events(stored.len()).await;
    assert!(events.iter().map(|event| &event["data"]).eq(&stored), "{events:?}");
    let metrics = reqwest::get(broker.url("/metrics")).await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    let count = |line: &str| line.strip_prefix("fanfare_commit_group_events_count ")?.parse().ok();
    let groups: u64 = metrics.lines().find_map(count).expect("how many commits there were");
    assert!(groups < COUNT / 2, "{groups}");
}

#[tokio::test]
async fn a_second_broker_on_the_same_directory_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = TestServer::durable(directory.path(), |_| {});
    let mut config = Config::default();
    config.history.path = directory.path().to_owned();
    let refused = Opened::open(&config.history, config.rules.clone(), Clock::default())
        .err()
        .expect("refused");
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    server.stop();
    assert!(Opened::open(&config.history, config.rules, Clock::default()).is_ok());
}

#[tokio::test]
async fn a_restart_is_a_gap_for_topics_in_memory_and_only_for_those() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = |config: &mut Config| in_memory(config, "mem.>");
    let server = TestServer::durable(directory.path(), rules);
    let first = server.publish("disk.a", &json!(1)).await;
    server.publish("mem.a", &json!(2)).await;
    server.publish("disk.a", &json!(3)).await;
    let last = server.publish("mem.a", &json!(4)).await;
    let since = first["id"].as_str().expect("an id");
    let all = (0, vec![json!(2), json!(3), json!(4)]);
    assert_eq!(resumed(&server, "topic=%3E", since).await, all);
    server.stop();

    let server = TestServer::durable(directory.path(), rules);
    assert_eq!(resumed(&server, "topic=disk.a", since).await, (0, vec![json!(3)]));
    assert_eq!(resumed(&server, "topic=disk.%3E", since).await, (0, vec![json!(3)]));
    assert_eq!(resumed(&server, "topic=mem.a", since).await, (1, vec![]));
    assert_eq!(resumed(&server, "topic=%3E", since).await, (1, vec![json!(3)]));
    // A cursor that only a topic in memory gave is one of the log all the same.
    let last = last["id"].as_str().expect("an id");
    assert_eq!(resumed(&server, "topic=disk.a", last).await, (0, vec![]));
    // And nothing that is published now is below it.
    server.publish("disk.a", &json!(5)).await;
    assert_eq!(resumed(&server, "topic=disk.a", last).await, (0, vec![json!(5)]));
    server.stop();
}

#[tokio::test]
async fn what_a_start_kept_in_memory_is_missed_out_loud_though_the_record_of_the_start_is_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let server = TestServer::durable(path, |_| {});
    let ids = server.publish_all(&numbered("a", 0..2)).await;
    server.stop();
    let before = fs::read(path.join("history.db")).expect("the database");

    let server = TestServer::durable(path, |config| in_memory(config, "a"));
    server.publish("a", &json!(2)).await;
    // What a kill would leave of it.
    let head = fs::read(path.join("head")).expect("the head");
    server.stop();
    fs::write(path.join("history.db"), before).expect("written");
    fs::write(path.join("head"), head).expect("written");
    _ = fs::remove_file(path.join("history.db-wal"));

    let server = TestServer::durable(path, |_| {});
    let (gaps, _) = resumed(&server, "topic=a", &ids[1]).await;
    assert_eq!(gaps, 1);
    server.stop();
}

#[tokio::test]
async fn a_rule_that_moves_topics_from_memory_to_disk_hides_no_loss() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = TestServer::durable(directory.path(), |config| in_memory(config, "a"));
    let first = server.publish("a", &json!(1)).await;
    server.publish("a", &json!(2)).await;
    server.stop();
    let server = TestServer::durable(directory.path(), |_| {});
    let since = first["id"].as_str().expect("an id");
    assert_eq!(resumed(&server, "topic=a", since).await, (1, vec![]));
    server.publish("a", &json!(3)).await;
    assert_eq!(resumed(&server, "topic=a", since).await, (1, vec![json!(3)]));
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_and_memory_come_in_one_order_while_commits_run() {
    const ROUNDS: usize = 60;
    let directory = tempfile::tempdir().expect("a directory");
    let server = TestServer::durable(directory.path(), |config| in_memory(config, "mem.>"));
    let mut watcher = WsClient::live(&server, "?topic=%3E").await;
    let publish = async |topic: &str| {
        let mut ids = Vec::new();
        for n in 0..ROUNDS {
            let receipt = server.publish(topic, &json!(n)).await;
            ids.push(receipt["id"].as_str().expect("an id").to_owned());
        }
        ids
    };
    let mixed = async {
        let mut ids = Vec::new();
        for n in 0..ROUNDS {
            let topics = ["mem.mixed", "disk.mixed", "mem.mixed"];
            let events: Vec<_> =
                topics.iter().map(|topic| ((*topic).to_owned(), json!(n))).collect();
            ids.extend(server.publish_all(&events).await);
        }
        ids
    };
    let (a, b, c, d) = tokio::join!(publish("mem.a"), publish("disk.b"), publish("mem.c"), mixed);
    let mut published: Vec<_> = [a, b, c, d].concat();
    let number = |id: &String| id.rsplit('-').next().and_then(|n| n.parse::<u64>().ok());
    published.sort_by_key(number);
    let seen = watcher.events(published.len()).await;
    let seen: Vec<_> = seen.iter().map(|event| event["id"].as_str().unwrap_or_default()).collect();
    assert_eq!(seen, published);
    // A replay has the same order.
    let (gaps, replayed) = resumed(&server, "topic=%3E", &published[0]).await;
    assert_eq!((gaps, replayed.len()), (0, published.len() - 1));
    server.stop();
}

#[tokio::test]
async fn an_idempotency_key_is_known_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let publish = async |server: &TestServer, data: i32| {
        let request = server.post("/v1/topics/a/events").header("idempotency-key", "k");
        request.json(&data).send().await.expect("an answer")
    };
    let server = TestServer::durable(directory.path(), |_| {});
    let first = expect_status(publish(&server, 1).await, StatusCode::CREATED).await;
    server.stop();
    let server = TestServer::durable(directory.path(), |_| {});
    assert_eq!(expect_status(publish(&server, 1).await, StatusCode::OK).await, first);
    let batch = server.post("/v1/events").header("idempotency-key", "k");
    let batch = batch.body(r#"{"events":[{"topic":"a","data":1}]}"#).send().await;
    let again = expect_status(batch.expect("an answer"), StatusCode::OK).await;
    assert_eq!(again["events"], json!([first]), "the other way");
    let other = expect_status(publish(&server, 2).await, StatusCode::CONFLICT).await;
    assert_eq!(other["code"], "idempotency_mismatch");
    let topic = server.get("/v1/topics/a").send().await.expect("an answer");
    assert_eq!(expect_status(topic, StatusCode::OK).await["retained"], 1);
    server.stop();
}

#[tokio::test]
async fn retention_on_disk_goes_on_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = TestServer::durable(directory.path(), |_| {});
    let ids = server.publish_all(&numbered("a", 0..2_000)).await;
    server.stop();
    let server = TestServer::durable(directory.path(), |config| {
        config.rules.default.max_age = Duration::from_millis(1);
        config.rules.default.keep_newest = false;
    });
    let retained = async || {
        let topic = server.get("/v1/topics/a").send().await.expect("an answer");
        expect_status(topic, StatusCode::OK).await["retained"].as_u64().expect("a number")
    };
    support::eventually("all is too old", async || retained().await == 0).await;
    assert_eq!(resumed(&server, "topic=a", &ids[1_998]).await, (1, vec![]));
    assert_eq!(resumed(&server, "topic=a", &ids[1_999]).await, (0, vec![]));
    server.stop();
}

/// Some history in a directory: its files as a broker that is killed leaves them, and what was
/// acknowledged of each topic.
struct Kept {
    directory: tempfile::TempDir,
    ids: Vec<String>,
}

const TOPICS: usize = 4;
const EVENTS: usize = 400;

impl Kept {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let server = TestServer::durable(directory.path(), |_| {});
        let mut ids = Vec::new();
        for n in (0..EVENTS).step_by(20) {
            let events: Vec<_> = (n..n + 20)
                .map(|n| (format!("t.{}", n % TOPICS), json!([n, "x".repeat(n)])))
                .collect();
            ids.extend(server.publish_all(&events).await);
        }
        // A clean stop would leave SQLite's log empty.
        let running = Self { directory, ids };
        let killed = running.copy();
        server.stop();
        Self { directory: killed, ids: running.ids }
    }

    /// A copy of which half of SQLite's log is lost.
    fn copy_without_its_end(&self) -> tempfile::TempDir {
        let copy = self.copy();
        let path = copy.path().join("history.db-wal");
        let length = fs::metadata(&path).expect("its length").len();
        let cut = File::options().write(true).open(&path).and_then(|file| file.set_len(length / 2));
        cut.expect("cut");
        copy
    }

    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().expect("a directory");
        for name in ["history.db", "history.db-wal", "head"] {
            fs::copy(self.directory.path().join(name), copy.path().join(name)).expect("a copy");
        }
        copy
    }

    /// Whether a broker on `path` either refuses to start or, of every topic and by every way of
    /// reading, serves exactly what was acknowledged or says that it does not.
    async fn is_never_silently_wrong(&self, path: &Path) {
        let mut config = Config::default();
        config.history.path = path.to_owned();
        match Opened::open(&config.history, config.rules, Clock::default()) {
            Ok(opened) => drop(opened),
            Err(error) => {
                assert!(error.to_string().contains("can't be used"), "{error}");
                return;
            }
        }
        let server = TestServer::durable(path, |_| {});
        for topics in ["t.0", "t.1", "t.2", "t.3", "t.*"] {
            let expected =
                (0..EVENTS).filter(|n| topics == "t.*" || topics == format!("t.{}", n % TOPICS));
            // The first event is the cursor itself.
            let expected: Vec<_> =
                expected.filter(|n| *n > 0).map(|n| json!([n, "x".repeat(n)])).collect();
            self.check(&server, topics, &expected).await;
        }
        server.stop();
    }

    async fn check(&self, server: &TestServer, topics: &str, expected: &[Value]) {
        let mut query = server.get("/v1/sse").query(&[("topic", topics), ("since", &self.ids[0])]);
        query = query.timeout(Duration::from_secs(5));
        let mut response = query.send().await.expect("an answer");
        let mut text = String::new();
        while !text.contains("event: fanfare.live") {
            match response.chunk().await {
                Ok(Some(chunk)) => text.push_str(&String::from_utf8_lossy(&chunk)),
                // It ended with a reason.
                Ok(None) if text.contains("fanfare.bye") => return,
                other => panic!("{topics}: {other:?} after {text}"),
            }
        }
        let is_gap = text.contains("event: fanfare.gap");
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let objects = lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let got: Vec<_> = objects.filter_map(|object| object.get("data").cloned()).collect();
        if is_gap {
            let mut rest = expected.iter();
            assert!(got.iter().all(|event| rest.any(|other| other == event)), "{topics}: wrong");
        } else {
            assert_eq!(got.len(), expected.len(), "{topics}: missing without a gap");
            assert!(got == *expected, "{topics}: wrong without a gap");
        }
    }
}

/// Numbers that are the same on each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        // xorshift64 (Marsaglia, 2003)
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_and_truncated_files_are_found_and_never_served() {
    let kept = Kept::new().await;
    let seed = std::env::var("FANFARE_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut random = Random(seed.unwrap_or(0x5eed));
    let rounds = std::env::var("FANFARE_TEST_DAMAGES").ok().and_then(|n| n.parse().ok());
    for round in 0..rounds.unwrap_or(100) {
        let mut copy = kept.copy();
        // What could not be served as it should is left to be looked at.
        copy.disable_cleanup(true);
        // A copy whose log has been moved into the database takes the damage there.
        if round % 2 == 0 {
            let db = rusqlite::Connection::open(copy.path().join("history.db")).expect("opened");
            let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
            db.query_row(checkpoint, (), |_| Ok(())).expect("a checkpoint");
        }
        let name = ["history.db", "history.db-wal", "head"][random.below(12) as usize * 3 / 14 % 3];
        let name = if round % 2 == 0 && name == "history.db-wal" { "history.db" } else { name };
        let path = copy.path().join(name);
        let file = File::options().read(true).write(true).open(&path).expect("opened");
        let length = file.metadata().expect("its length").len();
        let at = random.below(length);
        if round % 5 == 4 {
            file.set_len(at).expect("truncated");
        } else {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("read");
            byte[0] ^= 1 << random.below(8);
            file.write_all_at(&byte, at).expect("written");
        }
        drop(file);
        println!("round {round}: {name} at {at} of {length} in {}", copy.path().display());
        kept.is_never_silently_wrong(copy.path()).await;
        copy.disable_cleanup(false);
    }
}

#[tokio::test]
async fn a_log_file_that_is_lost_is_a_gap_for_every_cursor_from_before() {
    let kept = Kept::new().await;
    let copy = kept.copy_without_its_end();
    let server = TestServer::durable(copy.path(), |_| {});
    let (gaps, _) = resumed(&server, "topic=t.0", &kept.ids[0]).await;
    assert_eq!(gaps, 1);
    let (gaps, _) = resumed(&server, "topic=never.used", kept.ids.last().expect("an id")).await;
    assert_eq!(gaps, 1);
    // What is published from here on is of a new epoch, and resumes exactly.
    let new = server.publish("t.0", &json!("new")).await;
    let new = new["id"].as_str().expect("an id").to_owned();
    assert!(!new.contains("-1-"), "{new}");
    server.publish("t.0", &json!("newer")).await;
    server.stop();
    let server = TestServer::durable(copy.path(), |_| {});
    assert_eq!(resumed(&server, "topic=t.0", &new).await, (0, vec![json!("newer")]));
    server.stop();
}

/// A feed that can't take what is committed.
struct Broken;

impl Feed for Broken {
    fn committed(&self, _: Vec<Arc<Event>>) {
        panic!("a part of a test");
    }

    fn skip(&self, _: &Topic, _: Option<Cursor>) -> bool {
        true
    }

    fn broken(&self, _: Loss) {}
}

#[tokio::test]
async fn a_writer_that_panics_leaves_no_publisher_waiting_and_can_be_stopped() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = Config::default();
    config.history.path = directory.path().to_owned();
    config.history.commit_timeout = Duration::from_secs(3_600);
    let opened =
        Opened::open(&config.history, config.rules.clone(), Clock::default()).expect("it opens");
    let history = Arc::new(opened.start(Arc::new(Broken)).expect("it starts"));
    let append = || {
        let data = Data::from_json(b"1", 8).expect("JSON");
        let topic = Topic::parse("a").expect("a topic");
        history.append(Append { events: vec![NewEvent::new(topic, None, data)], key: None })
    };
    // It is stored, and the one who was to say so is gone.
    assert!(matches!(append().await, Err(AppendError::OutcomeUnknown(_))));
    // Nothing is left waiting for it, nor taken any more.
    assert!(matches!(append().await, Err(AppendError::Unavailable(_))));
    assert!(history.trouble().is_some_and(|trouble| trouble.contains("writer")));
    assert!(fanfare::panics::is_broken(), "what it was about is half done");
    let stopping = history.clone();
    tokio::task::spawn_blocking(move || stopping.stop()).await.expect("it stops");
}

#[tokio::test]
async fn a_time_before_a_proven_loss_is_a_gap_page_by_page() {
    let kept = Kept::new().await;
    let copy = kept.copy_without_its_end();
    let server = TestServer::durable(copy.path(), |_| {});
    let page = async |since: &str| {
        let request =
            server.get("/v1/topics/t.0/events").query(&[("since", since), ("limit", "10")]);
        expect_status(request.send().await.expect("an answer"), StatusCode::OK).await
    };
    let first = page("-1h").await;
    assert_eq!(first["gap"], true);
    let second = page(first["next"].as_str().expect("a cursor")).await;
    assert_eq!(second["gap"], true);
    // Of what came since nothing is missing.
    let new = server.publish("t.0", &json!("new")).await;
    assert_eq!(page(new["id"].as_str().expect("an id")).await["gap"], false);
    server.stop();
}
