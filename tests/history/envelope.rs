//! What events carry, and what they are stored under.

use fanfare::history::Superseded;
use fanfare::history::sqlite::backup;
use fanfare::model::{Envelope, Latest, Member, Removed, Terms};

use super::*;

pub(super) fn carrying(name: &str, members: &[Member<'_>], terms: Terms) -> NewEvent {
    let envelope: Envelope = members.iter().copied().collect();
    NewEvent {
        envelope: (!members.is_empty()).then(|| Box::new(envelope)),
        terms: (terms != Terms::default()).then(|| Box::new(terms)),
        ..event(name, 1)
    }
}

pub(super) fn removed(name: &str) -> NewEvent {
    carrying(name, &[Member::Removed(Removed::Publisher)], Terms::default())
}

pub(super) fn version(name: &str, number: u64) -> NewEvent {
    carrying(name, &[Member::Version(number)], Terms::default())
}

pub(super) fn after(name: &str, latest: Latest) -> NewEvent {
    carrying(name, &[], Terms { if_latest: Some(latest), ..Terms::default() })
}

impl Log {
    /// By which versions the events of one append are superseded, each in its place.
    pub(super) async fn superseded(&self, events: Vec<NewEvent>) -> Vec<Option<u64>> {
        let receipt = self.append(events).await;
        let by = |event: &fanfare::history::EventReceipt| {
            assert_eq!(event.cursor.is_none(), event.superseded.is_some());
            event.superseded.map(|Superseded { version }| version.unwrap_or(0))
        };
        receipt.events.iter().map(by).collect()
    }

    async fn unmet(&self, events: Vec<NewEvent>) -> usize {
        match self.history.append(Append { events, key: None }).await {
            Err(AppendError::NotLatest { index }) => index,
            other => panic!("{other:?}"),
        }
    }
}

pub(super) async fn what_an_event_carries_is_read_and_heard_byte_for_byte(backend: Backend) {
    let log = open(backend, |_| {});
    let members = [
        Member::User("ann"),
        Member::Version(7),
        Member::Epoch("run-2"),
        Member::Ttl(60_000),
        Member::Trace("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        Member::Lang(1, b"\0\xff only its own readers"),
        Member::Lang(2, b""),
        Member::Other(99, b"\0later"),
    ];
    let carried: Envelope = members.into_iter().collect();
    let bare = log.put("a", 0).await;
    log.append(vec![carrying("a", &members, Terms::default())]).await;
    let page = log.page(&["a"], Some(bare)).await;
    let heard = log.heard(2).await;
    for event in [&page.events[0], &heard[1]] {
        assert_eq!(event.envelope.as_deref(), Some(&carried));
    }
    assert_eq!(heard[0].envelope, None);
    let (max_events, max_bytes) = (9, usize::MAX);
    let newest =
        Newest { patterns: patterns(&["a"]), after: None, since: None, max_events, max_bytes };
    let newest = log.history.newest(newest).await.unwrap().events;
    assert_eq!(newest[0].envelope.as_deref(), Some(&carried));
}

/// Where a later release has stored what this one does not know; in memory nobody has.
async fn what_is_restricted_is_a_gap_and_judged_all_the_same(backend: Backend) {
    let log = open(backend, |_| {});
    log.heard.is_losing.store(true, Ordering::SeqCst);
    let first = log.put("a", 1).await;
    let members = [Member::Other(0xe3, b"to whom"), Member::Version(7)];
    log.append(vec![carrying("a", &members, Terms::default())]).await;
    log.put("b", 2).await;
    for (topics, left, is_gap) in [("a", "", true), ("*", "2", true), ("b", "2", false)] {
        let page = log.page(&[topics], Some(first)).await;
        assert_eq!((&*data(&page.events).concat(), page.gap.is_some()), (left, is_gap), "{topics}");
    }
    let back = log.all_back(&["*"], None, 9, usize::MAX).await;
    assert_eq!(back, (vec!["2".to_owned(), "1".to_owned()], true));
    assert_eq!(log.values(&["*"]).await, ["2"]);
    let summary = log.history.topic(topic("a")).await.unwrap();
    assert!(summary.value().is_none() && summary.retained == 2);
    assert_eq!(log.superseded(vec![version("a", 7)]).await, [Some(7)]);
    assert_eq!(log.unmet(vec![after("a", Latest::Absent)]).await, 0);
    log.append(vec![after("a", Latest::Present)]).await;
    assert_eq!(log.values(&["a"]).await, ["1"]);
}

#[tokio::test]
async fn what_a_later_release_restricted_on_disk_is_a_gap_and_judged_all_the_same() {
    what_is_restricted_is_a_gap_and_judged_all_the_same(DISK).await;
}

#[tokio::test]
async fn what_a_later_release_restricted_is_backed_up_as_any_event() {
    let log = open(DISK, |_| {});
    let restricted = carrying("a", &[Member::Other(0xe3, b"to whom")], Terms::default());
    log.append(vec![restricted, event("a", 2)]).await;
    let directory = log._directory.path();
    let copied = backup::copy(&directory.join("data"), &directory.join("copy.db"), |_| {});
    assert_eq!(copied.unwrap().events, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_later_release_restricted_in_redis_is_a_gap_and_judged_all_the_same() {
    what_is_restricted_is_a_gap_and_judged_all_the_same(REDIS).await;
}

pub(super) async fn a_tombstone_takes_the_value_away_and_is_read_as_any_event(backend: Backend) {
    let log = open(backend, |_| {});
    let first = log.put("a", 1).await;
    log.put("b", 2).await;
    log.append(vec![removed("a")]).await;
    assert_eq!(log.values(&["*"]).await, ["2"]);
    assert!(log.history.topic(topic("a")).await.unwrap().value().is_none());
    let page = log.page(&["a"], Some(first)).await;
    assert!(page.events[0].is_tombstone() && page.gap.is_none());
    log.put("a", 3).await;
    assert_eq!(log.values(&["*"]).await, ["3", "2"]);
}

pub(super) async fn a_tombstone_is_kept_until_it_is_too_old_and_no_longer(backend: Backend) {
    let log = open(backend, |config| config.rules.default.max_age = Duration::from_millis(50));
    log.put("a", 1).await;
    log.append(vec![removed("a")]).await;
    log.put("b", 2).await;
    support::eventually("the tombstone is swept", async || {
        log.history.sweep();
        log.retained("a").await == 0
    })
    .await;
    assert_eq!(log.values(&["*"]).await, ["2"]);
}

pub(super) async fn an_older_version_changes_nothing_and_is_told_what_stays(backend: Backend) {
    let log = open(backend, |_| {});
    assert_eq!(log.superseded(vec![version("a", 3)]).await, [None]);
    assert_eq!(log.superseded(vec![version("a", 3)]).await, [Some(3)]);
    let batch = vec![version("a", 2), version("a", 5), version("b", 1), version("a", 4)];
    assert_eq!(log.superseded(batch).await, [Some(3), None, None, Some(5)]);
    assert_eq!(log.retained("a").await, 2);
    // 0 is a version as any other.
    assert_eq!(log.superseded(vec![version("zero", 0)]).await, [None]);
    let again = log.append(vec![version("zero", 0)]).await;
    assert_eq!(again.events[0].superseded, Some(Superseded { version: Some(0) }));
    // What carries none goes by, and a tombstone counts.
    log.put("a", "0").await;
    let gone = [Member::Version(9), Member::Removed(Removed::Publisher)];
    assert_eq!(log.superseded(vec![carrying("a", &gone, Terms::default())]).await, [None]);
    assert_eq!(log.superseded(vec![version("a", 8)]).await, [Some(9)]);
    assert_eq!(log.values(&["a"]).await, Vec::<String>::new());
    // Who counts anew says so.
    let anew = [Member::Version(1), Member::Epoch("2")];
    assert_eq!(log.superseded(vec![carrying("a", &anew, Terms::default())]).await, [None]);
    let last = [Member::Version(1 << 53), Member::Epoch("2")];
    assert_eq!(log.superseded(vec![carrying("a", &last, Terms::default())]).await, [None]);
    let not_above =
        carrying("a", &[Member::Version((1 << 53) - 1), Member::Epoch("2")], Terms::default());
    assert_eq!(log.superseded(vec![not_above]).await, [Some(1 << 53)]);
    // What was forgotten supersedes nothing.
    log.history.forget(topic("a")).await.unwrap();
    assert_eq!(log.superseded(vec![version("a", 1)]).await, [None]);
}

pub(super) async fn a_repeat_is_told_that_it_was_superseded(backend: Backend) {
    let log = open(backend, |_| {});
    log.append(vec![version("a", 3)]).await;
    let key =
        IdempotencyKey { scope: [1; 32], asked: Asked::as_it_came([2; 32]), is_in_series: false };
    let append =
        || Append { events: vec![version("a", 2), version("b", 1)], key: Some(key.clone()) };
    let first = log.history.append(append()).await.unwrap();
    log.append(vec![version("b", 9)]).await;
    let again = log.history.append(append()).await.unwrap();
    assert!(again.repeated && !first.repeated);
    let what = |receipt: &Receipt| {
        let events = receipt.events.iter();
        events.map(|event| (event.cursor, event.superseded)).collect::<Vec<_>>()
    };
    assert_eq!(what(&again), what(&first));
    assert_eq!(first.events[0].superseded, Some(Superseded { version: Some(3) }));
}

pub(super) async fn what_has_to_be_the_newest_is_so_or_nothing_is_stored(backend: Backend) {
    let log = open(backend, |_| {});
    let (absent, present) = (Latest::Absent, Latest::Present);
    assert_eq!(log.unmet(vec![event("b", 1), after("a", present)]).await, 1);
    assert_eq!(log.retained("b").await, 0, "nothing of a batch is stored");
    log.append(vec![after("a", absent)]).await;
    assert_eq!(log.unmet(vec![after("a", absent)]).await, 0);
    let second = log.append(vec![after("a", present)]).await.events[0].cursor.unwrap();
    let third = log.append(vec![after("a", Latest::Is(second))]).await.events[0].cursor.unwrap();
    assert_eq!(log.unmet(vec![after("a", Latest::Is(second))]).await, 0);
    let foreign = Cursor { log: fanfare::model::LogName::random(), ..third };
    assert_eq!(log.unmet(vec![after("a", Latest::Is(foreign))]).await, 0);
    let gone = log.append(vec![removed("a")]).await.events[0].cursor.unwrap();
    assert_eq!(log.unmet(vec![after("a", present)]).await, 0);
    log.append(vec![after("a", Latest::Is(gone)), after("a", present)]).await;
    assert_eq!(log.retained("a").await, 6);
}

pub(super) async fn of_two_who_follow_the_same_event_one_is_stored(backend: Backend) {
    let log = open(backend, |_| {});
    let mut newest = log.put("a", 0).await;
    for _ in 0..20 {
        let publish = async || {
            let append = Append { events: vec![after("a", Latest::Is(newest))], key: None };
            log.history.append(append).await
        };
        let (one, other) = tokio::join!(publish(), publish());
        let stored: Vec<_> = [one, other].into_iter().filter_map(Result::ok).collect();
        assert_eq!(stored.len(), 1);
        newest = stored[0].events[0].cursor.unwrap();
    }
}

pub(super) async fn what_is_passed_on_is_heard_in_its_place_and_not_kept(backend: Backend) {
    let log = open(backend, |_| {});
    let passes = || carrying("a", &[], Terms { passes: true, ..Terms::default() });
    log.put("a", 1).await;
    let receipt = log.append(vec![passes(), event("a", 2), passes()]).await;
    let kept: Vec<_> = receipt.events.iter().map(|event| event.cursor.is_some()).collect();
    assert_eq!(kept, [false, true, false]);
    let heard = log.heard(4).await;
    let kept: Vec<_> = heard.iter().map(|event| event.cursor.is_some()).collect();
    assert_eq!(kept, [true, false, true, false]);
    assert_eq!(log.all(&["a"], None, 10).await, ["1", "2"]);
}

fn holding(name: &str, millis: u64) -> NewEvent {
    carrying(name, &[Member::Ttl(millis), Member::Version(millis)], Terms::default())
}

impl Log {
    /// The topics whose values have ended.
    pub(super) async fn due(&self) -> Vec<String> {
        let due = self.history.due(9).await.unwrap().into_iter();
        due.map(|ending| ending.topic.to_string()).collect()
    }

    /// Ends what has ended.
    pub(super) async fn end_all(&self) {
        let due = self.history.due(1_000).await.unwrap();
        let events: Vec<_> = due.into_iter().map(fanfare::history::Ending::tombstone).collect();
        if !events.is_empty() {
            self.append(events).await;
        }
    }
}

pub(super) async fn a_value_ends_once_its_time_is_over_unless_something_follows_it(
    backend: Backend,
) {
    let log = open(backend, |_| {});
    log.append(vec![holding("a", 1), holding("b", 1), holding("c", 60_000), holding("d", 1)]).await;
    log.put("b", 2).await;
    log.history.forget(topic("d")).await.unwrap();
    support::eventually("its time is over", async || log.due().await == ["a"]).await;
    log.end_all().await;
    assert!(log.due().await.is_empty());
    assert_eq!(log.values(&["*"]).await, ["2", "1"]);
    let page = log.page(&["a"], None).await;
    let ended = page.events[1].envelope.as_ref().unwrap();
    assert_eq!(ended.removed(), Some(Removed::Expired));
    assert_eq!(ended.version().unwrap().number, 1, "no older one revives it");
    assert_eq!(log.superseded(vec![version("a", 1)]).await, [Some(1)]);
    // A value that is published anew holds for its own time.
    log.append(vec![holding("a", 60_000)]).await;
    log.append(vec![holding("c", 70_000)]).await;
    assert_eq!(log.due().await, Vec::<String>::new());
}

pub(super) async fn a_value_that_was_removed_by_its_age_ends_all_the_same(backend: Backend) {
    let log = open(backend, |config| {
        config.rules.default.max_age = Duration::from_millis(20);
        config.rules.default.keep_newest = false;
    });
    log.append(vec![holding("a", 400)]).await;
    log.put("b", 2).await;
    support::eventually("it is too old", async || {
        log.history.sweep();
        log.retained("a").await == 0
    })
    .await;
    support::eventually("its time is over", async || log.due().await == ["a"]).await;
    log.end_all().await;
    let heard = log.heard(3).await;
    assert!(heard[2].is_tombstone() && log.due().await.is_empty());
}

pub(super) async fn a_clock_that_leaps_ends_nothing_early(backend: Backend) {
    let log = open_with_hands(backend, |_| {});
    log.append(vec![holding("a", 60_000)]).await;
    assert!(log.due().await.is_empty());
    // An hour ahead, and no time has passed.
    log.clock.set(SystemTime::now() + Duration::from_secs(3_600));
    if let Some(redis) = &log._redis {
        redis.set_ahead(3_600);
    }
    for _ in 0..3 {
        log.history.sweep();
        assert!(log.due().await.is_empty());
    }
    log.append(vec![holding("b", 1)]).await;
    log.clock.pass(Duration::from_millis(2));
    support::eventually("what holds for a moment ends", async || log.due().await == ["b"]).await;
}
