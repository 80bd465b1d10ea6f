//! What is kept no longer is told: whoever keeps what was told has what is kept, without asking.

use fanfare::model::Latest;

use super::*;

/// Keeps at hand what a log tells, and nothing of what it tells to be removed.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    events: BTreeMap<u64, Arc<Event>>,
    removed: HashMap<Topic, u64>,
    /// What was said last of each topic.
    superseded: HashMap<Topic, bool>,
    floor: u64,
}

impl Shelf {
    pub(super) fn add(&mut self, events: &[Arc<Event>]) {
        for event in events {
            let Some(cursor) = event.cursor else { continue };
            let removed = self.removed.get(&event.topic).copied().unwrap_or(0).max(self.floor);
            assert!(cursor.sequence > removed, "{cursor} was removed before it was told");
            self.events.insert(cursor.sequence, event.clone());
        }
    }

    pub(super) fn remove(&mut self, removals: &[Removal]) {
        for Removal { topic, upto, is_superseded } in removals {
            let Some(topic) = topic else {
                self.floor = self.floor.max(*upto);
                self.events.retain(|number, _| number > upto);
                continue;
            };
            self.events.retain(|number, event| event.topic != *topic || number > upto);
            let is_followed = self.events.values().any(|event| event.topic == *topic);
            // What follows may be on its way.
            assert!(*is_superseded || !is_followed, "of {topic} up to {upto}");
            self.superseded.insert(topic.clone(), *is_superseded);
            let last = self.removed.entry(topic.clone()).or_default();
            *last = (*last).max(*upto);
        }
    }

    /// Whether an event after a number was removed that a pattern matches.
    fn lacks(&self, pattern: &Pattern, after: u64) -> bool {
        let mut removed = self.removed.iter();
        self.floor > after || removed.any(|(topic, last)| *last > after && pattern.matches(topic))
    }
}

impl Log {
    /// What is at hand is what is kept, and of each place it is known whether something that came after it is gone.
    async fn is_at_hand(&self, places: &[Cursor]) {
        let kept = data(&self.page(&[">"], None).await.events);
        let is_told = async || {
            let shelf = self.heard.shelf.lock().unwrap();
            data(&shelf.events.values().cloned().collect::<Vec<_>>()) == kept
        };
        support::eventually(&format!("{kept:?} is at hand"), is_told).await;
        for text in [">", "a.*", "b.x", "c"] {
            for place in places.iter().rev().step_by(2).take(9) {
                let page = self.page(&[text], Some(*place)).await;
                let pattern = Pattern::parse(text).unwrap();
                let lacks = self.heard.shelf.lock().unwrap().lacks(&pattern, place.sequence);
                assert_eq!(page.gap.is_some(), lacks, "{text} after {place}");
            }
        }
    }
}

pub(super) async fn what_is_at_hand_without_what_was_removed_is_what_is_kept(backend: Backend) {
    let log = open_with_hands(backend, |config| {
        let mut rule = config.rules.default.clone();
        (rule.pattern, rule.max_events) = (Pattern::parse("a.*").unwrap(), 2);
        config.rules.listed.push(rule.clone());
        (rule.pattern, rule.max_events) = (Pattern::parse("b.*").unwrap(), 9);
        (rule.max_age, rule.keep_newest) = (Duration::from_secs(60), false);
        config.rules.listed.push(rule);
        bound_all(config, 20_000);
    });
    let mut places = vec![log.history.head()];
    for n in 0..4 {
        for name in ["a.x", "b.x", "c"] {
            places.push(log.put(name, n).await);
        }
        log.is_at_hand(&places).await;
    }
    // One call, of which some goes with what comes.
    let batch = log.append(["a.x", "a.y", "a.x", "a.x"].map(|name| event(name, name.len())).into());
    places.extend(batch.await.events.iter().filter_map(|event| event.cursor));
    log.is_at_hand(&places).await;
    assert_eq!(log.history.forget(topic("c")).await.unwrap(), 4);
    log.is_at_hand(&places).await;
    for (name, is_superseded) in [("a.x", true), ("c", false)] {
        let shelf = log.heard.shelf.lock().unwrap();
        assert_eq!(shelf.superseded.get(&topic(name)), Some(&is_superseded), "{name}");
    }
    places.push(log.put("c", 5).await);
    log.append(vec![removed("a.y")]).await;
    log.is_at_hand(&places).await;
    log.pass(61, 0);
    support::eventually("it is too old", async || log.retained("b.x").await == 0).await;
    log.is_at_hand(&places).await;
    // Over the bytes of all.
    let text = text_that_costs(2_000);
    for name in ["c", "d", "e", "f", "g"].into_iter().cycle().take(20) {
        places.push(log.put(name, &text).await);
    }
    support::eventually("it is within its bounds", async || log.retained("c").await < 4).await;
    log.is_at_hand(&places).await;
}

impl Log {
    /// The data of what has changed of current values since a place, `null` for what was removed, and whether there is
    /// a gap.
    async fn changed(&self, texts: &[&str], since: Cursor) -> (Vec<String>, bool) {
        let (mut after, mut all, mut gap) = (None, Vec::new(), false);
        loop {
            let (patterns, since) = (patterns(texts), Some(since));
            let (max_events, max_bytes) = (2, usize::MAX);
            let newest = Newest { patterns, after, since, max_events, max_bytes };
            let page = self.history.newest(newest).await.unwrap();
            let texts = page.events.iter().map(|event| match event.is_tombstone() {
                true => "gone".to_owned(),
                false => event.data.json().get().to_owned(),
            });
            all.extend(texts);
            gap |= page.gap;
            after = page.next;
            if after.is_none() {
                return (all, gap);
            }
        }
    }
}

fn changes(data: &[&str], gap: bool) -> (Vec<String>, bool) {
    (data.iter().map(ToString::to_string).collect(), gap)
}

pub(super) async fn to_who_wants_the_newest_alone_what_is_superseded_is_no_gap(backend: Backend) {
    let log = open(backend, |config| config.rules.default.max_events = 1);
    for name in ["a.x", "a.y", "a.z", "c"] {
        log.put(name, 0).await;
    }
    let since = log.history.head();
    assert_eq!(log.changed(&["a.*", "c"], since).await, changes(&[], false));
    for n in 1..=3 {
        log.put("a.x", n).await;
    }
    assert!(log.page(&["a.*"], Some(since)).await.gap.is_some());
    assert_eq!(log.changed(&["a.*"], since).await, changes(&["3"], false));
    // That a value was removed is a change of it.
    log.append(vec![removed("a.y")]).await;
    log.put("a.z", 4).await;
    assert_eq!(log.changed(&[">"], since).await, changes(&["3", "gone", "4"], false));
    assert_eq!(log.values(&["a.*"]).await, ["3", "4"]);
    log.history.forget(topic("a.x")).await.unwrap();
    for texts in [["a.*"], ["a.x"], [">"]] {
        assert!(log.changed(&texts, since).await.1, "nothing is left of what came: {texts:?}");
    }
    assert_eq!(log.changed(&["a.y", "a.z", "c"], since).await, changes(&["gone", "4"], false));
    let since_then = log.history.head();
    assert_eq!(log.changed(&[">"], since_then).await, changes(&[], false));
    log.put("a.x", 5).await;
    assert_eq!(log.changed(&["a.*"], since).await, changes(&["5", "gone", "4"], false));
    let foreign = Cursor::parse("zzzzzzzz-1-3").unwrap();
    assert_eq!(log.changed(&["a.x", "c"], foreign).await, changes(&["5", "0"], true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_a_rule_moves_between_disk_and_memory_stands_by_what_is_left_of_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let start = |storage| {
        let mut config = Config::default();
        config.history.path = directory.path().join("data");
        config.rules.default.storage = storage;
        sqlite(&config, Clock::default(), Arc::new(RecordingFeed::default()))
    };
    let put = async |history: &dyn History, new: NewEvent| {
        let receipt = history.append(Append { events: vec![new], key: None }).await;
        receipt.map(|receipt| receipt.events[0].clone())
    };
    let history = start(Storage::Disk);
    let first = put(&*history, version("a", 7)).await.unwrap().cursor.unwrap();
    history.stop();
    drop(history);
    let history = start(Storage::Memory);
    let older = put(&*history, version("a", 5)).await.unwrap().superseded;
    assert_eq!(older.expect("a newer one is on the disk").version, Some(7));
    put(&*history, after("a", Latest::Is(first))).await.expect("it is the newest");
    assert!(put(&*history, after("a", Latest::Is(first))).await.is_err(), "it was followed");
    history.stop();
    drop(history);
    // What was in memory is gone, and what is on the disk is older.
    let history = start(Storage::Disk);
    let newest = |since| Newest {
        patterns: patterns(&["a"]),
        after: None,
        since: Some(since),
        max_events: 9,
        max_bytes: usize::MAX,
    };
    assert!(history.newest(newest(first)).await.unwrap().gap);
    put(&*history, event("a", 3)).await.unwrap();
    let page = history.newest(newest(first)).await.unwrap();
    assert_eq!((data(&page.events), page.gap), (vec!["3".to_owned()], false));
    history.stop();
}

/// A second node of the same log.
fn second(log: &Log) -> (Arc<dyn History>, Arc<RecordingFeed>) {
    let redis = log._redis.as_ref().expect("a Redis");
    let config = config::Redis { prefix: "contract".to_owned(), ..config::Redis::at(&redis.url()) };
    let heard = Arc::new(RecordingFeed::default());
    let joined = Joined::open(&config).expect("it is joined");
    let config = Config::default();
    (Arc::new(joined.start(&config.history, config.rules, heard.clone())), heard)
}

/// A second node, and what is at hand of the log there.
fn second_at_hand(log: &Log) -> Arc<dyn History> {
    let redis = log._redis.as_ref().expect("a Redis");
    let redis = config::Redis { prefix: "contract".to_owned(), ..config::Redis::at(&redis.url()) };
    let heard = Arc::new(RecordingFeed::default());
    heard.is_losing.store(true, Ordering::SeqCst);
    redis_at_hand(&Config { redis: Some(redis), ..Config::default() }, heard)
}

impl Log {
    /// Appends once nothing is in the way, such as a node that has just come and not said what it reads; the places.
    async fn append_once_taken(&self, events: Vec<NewEvent>) -> Vec<Cursor> {
        let append = Append { events, key: None };
        let receipt = answered(async || self.history.append(append.clone()).await).await;
        receipt.events.iter().filter_map(|event| event.cursor).collect()
    }
}

/// A small choice after another, the same for one seed.
struct Choices(u64);

impl Choices {
    fn below(&mut self, count: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }
}

/// What Redis answers once it does.
async fn answered<T, E>(ask: impl AsyncFn() -> Result<T, E>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Whatever a node says of places that it may have at hand is what the log itself says at that moment.
async fn says_what_the_log_says(
    node: &dyn History,
    log: &dyn History,
    places: &[Cursor],
    choices: &mut Choices,
) {
    let texts = [">", "a.*", "a.x", "b"][choices.below(4) as usize];
    let (patterns, max_events, max_bytes) = (patterns(&[texts]), 10_000, usize::MAX);
    let after = Some(places[choices.below(places.len() as u64) as usize]);
    let upto = places.last().copied();
    let read = Read { patterns: patterns.clone(), after, upto, max_events, max_bytes };
    let page = async |history: &dyn History| {
        let page = answered(async || history.read(read.clone()).await).await;
        (data(&page.events), page.gap.is_some(), page.next, page.done)
    };
    assert_eq!(page(node).await, page(log).await, "{read:?}");
    let since = after.filter(|_| choices.below(2) == 0);
    let newest = Newest { patterns, after: None, since, max_events, max_bytes };
    let values = async |history: &dyn History| {
        let page = answered(async || history.newest(newest.clone()).await).await;
        (data(&page.events), page.gap, page.next)
    };
    assert_eq!(values(node).await, values(log).await, "{newest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_at_one_node_is_so_at_another_once_it_is_answered() {
    for seed in 0..6 {
        let change = |config: &mut Config| {
            let mut rule = config.rules.default.clone();
            (rule.pattern, rule.max_events) = (Pattern::parse("a.*").unwrap(), 3);
            config.rules.listed.push(rule);
        };
        let mut log = open_by(REDIS_AT_HAND, Clock::default(), Redis::durable, change);
        log.heard.is_losing.store(true, Ordering::SeqCst);
        let (other, (plain, heard)) = (second_at_hand(&log), second(&log));
        heard.is_losing.store(true, Ordering::SeqCst);
        let (mut choices, mut places) = (Choices(seed), vec![log.history.head()]);
        for n in 0..150 {
            let name = ["a.x", "a.y", "a.z", "b", "c"][choices.below(5) as usize];
            match choices.below(40) {
                0 => _ = answered(async || log.history.forget(topic(name)).await).await,
                1 => _ = answered(async || other.forget(topic(name)).await).await,
                2 => places.extend(log.append_once_taken(vec![removed(name)]).await),
                3 => {
                    let redis = log._redis.as_ref().expect("a Redis");
                    let _: i64 = redis.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                }
                4 if choices.below(4) == 0 => {
                    let redis = log._redis.as_mut().expect("a Redis");
                    redis.kill();
                    redis.restart();
                    let is_there =
                        async || log.history.trouble().is_none() && other.trouble().is_none();
                    support::eventually("Redis is there again", is_there).await;
                }
                5..12 => {
                    let names = [name, "a.x", "b", name];
                    let batch = names.map(|name| event(name, n)).into();
                    places.extend(log.append_once_taken(batch).await);
                }
                _ => places.extend(log.append_once_taken(vec![event(name, n)]).await),
            }
            for node in [&*other, &*log.history] {
                says_what_the_log_says(node, &*plain, &places, &mut choices).await;
            }
        }
        other.stop();
        plain.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_there_before_a_start_is_at_hand_as_it_is_kept() {
    for seed in 0..6 {
        let directory = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.history.path = directory.path().join("data");
        let mut rule = config.rules.default.clone();
        (rule.pattern, rule.max_events) = (Pattern::parse("a.*").unwrap(), 3);
        config.rules.listed.push(rule.clone());
        if seed == 5 {
            (rule.pattern, rule.storage) = (Pattern::parse("c").unwrap(), Storage::Memory);
            config.rules.listed.push(rule);
        }
        let (mut choices, mut places) = (Choices(seed), Vec::new());
        for _ in 0..6 {
            let feed = Arc::new(RecordingFeed::default());
            let history = sqlite_at_hand(&config, Clock::default(), feed);
            places.push(history.head());
            for n in 0..25 {
                let name = ["a.x", "a.y", "a.z", "b", "c"][choices.below(5) as usize];
                match choices.below(20) {
                    0 => _ = history.forget(topic(name)).await.unwrap(),
                    _ => {
                        let events = vec![event(name, n), event("a.x", n)];
                        let receipt = history.append(Append { events, key: None }).await.unwrap();
                        places.extend(receipt.events.iter().filter_map(|event| event.cursor));
                    }
                }
                // A place that was never one, too.
                let from = places[choices.below(places.len() as u64) as usize];
                let from = from.at(from.sequence + choices.below(9) / 8);
                let texts = [">", "a.*", "a.x", "b", "c"][choices.below(5) as usize];
                let said = async |upto| {
                    let (patterns, max_events, max_bytes) =
                        (patterns(&[texts]), 10_000, usize::MAX);
                    let read = Read { patterns, after: Some(from), upto, max_events, max_bytes };
                    let page = history.read(read).await.unwrap();
                    (data(&page.events), page.gap.is_some(), page.next, page.done)
                };
                // What the disk removed by itself is told a moment later.
                let is_same = async || said(Some(history.head())).await == said(None).await;
                support::eventually(&format!("{texts} after {from} is the same"), is_same).await;
            }
            history.stop();
        }
    }
}

/// The second node has at hand what is kept.
async fn has_at_hand(heard: &RecordingFeed, log: &Log) {
    let kept = data(&log.page(&[">"], None).await.events);
    let is_told = async || {
        let shelf = heard.shelf.lock().unwrap();
        data(&shelf.events.values().cloned().collect::<Vec<_>>()) == kept
    };
    support::eventually(&format!("{kept:?} is at hand at another node"), is_told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_removed_is_told_at_all_of_them() {
    let log = open(REDIS, |config| config.rules.default.max_events = 2);
    let (other, heard) = second(&log);
    for (n, name) in ["a", "b", "a", "a", "b", "c", "c", "c", "c"].into_iter().enumerate() {
        log.put(name, n).await;
    }
    has_at_hand(&heard, &log).await;
    log.history.forget(topic("a")).await.unwrap();
    has_at_hand(&heard, &log).await;
    assert_eq!(heard.shelf.lock().unwrap().events.len(), 4);
    other.forget(topic("c")).await.unwrap();
    has_at_hand(&heard, &log).await;
    has_at_hand(&log.heard, &log).await;
    other.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_did_not_hear_of_removals_it_learns_from_redis() {
    let log = open(REDIS, |_| {});
    let (other, heard) = second(&log);
    for name in ["a", "b", "c", "d", "d"] {
        log.put(name, 1).await;
    }
    has_at_hand(&heard, &log).await;
    let redis = log._redis.as_ref().expect("a Redis");
    // The message is lost with the connection that hears.
    let _: i64 = redis.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    log.history.forget(topic("a")).await.unwrap();
    has_at_hand(&heard, &log).await;
    // The message alone is lost.
    let remove = |name: &str, number: u64| {
        let script = "redis.call('DEL', KEYS[1] .. ':t:' .. ARGV[1])
            redis.call('XDEL', KEYS[1] .. ':order', ARGV[2] .. '-0')
            redis.call('HDEL', KEYS[1] .. ':bytes', ARGV[1])
            redis.call('ZREM', KEYS[1] .. ':topics', ARGV[1])
            redis.call('ZADD', KEYS[1] .. ':lost', ARGV[2], ARGV[1])
            return redis.call('HINCRBY', KEYS[1] .. ':log', 'removals', 1)";
        let number = number.to_string();
        redis.run::<i64>(&["EVAL", script, "1", "{contract}", name, &number])
    };
    remove("b", 2);
    has_at_hand(&heard, &log).await;
    remove("c", 3);
    // The next one tells that it was.
    log.history.forget(topic("d")).await.unwrap();
    has_at_hand(&heard, &log).await;
    assert!(heard.shelf.lock().unwrap().events.is_empty());
    other.stop();
}
