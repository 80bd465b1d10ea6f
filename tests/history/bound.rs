//! Values that are bound to a session and end with it.

use std::time::Instant;

use fanfare::history::Departure;
use fanfare::model::{Member, Removed, Terms};

use super::envelope::{carrying, removed};
use super::*;

fn bound(name: &str, session: &str, members: &[Member<'_>]) -> NewEvent {
    let members = [&[Member::Holder(session)], members].concat();
    carrying(name, &members, Terms::default())
}

impl Log {
    pub(super) async fn bind(&self, names: &[&str], session: &str) {
        self.append(names.iter().map(|name| bound(name, session, &[])).collect()).await;
    }

    pub(super) async fn depart(&self, session: &str, lingers: bool) {
        let departure = Departure { session: session.into(), lingers };
        self.history.depart(vec![departure]).await.expect("it is noted");
    }

    /// Waits until these are the topics whose values have ended.
    pub(super) async fn until_due(&self, expected: &[&str]) {
        support::eventually("they have ended", async || {
            let mut due = self.due().await;
            due.sort();
            due == expected
        })
        .await;
    }

    async fn is_too_many(&self, event: NewEvent) -> bool {
        match self.history.append(Append { events: vec![event], key: None }).await {
            Ok(_) => false,
            Err(AppendError::TooManyBound { most }) => most == 2,
            Err(other) => panic!("{other}"),
        }
    }
}

pub(super) async fn what_is_bound_ends_when_its_session_has_left_unless_something_follows_it(
    backend: Backend,
) {
    let log = open(backend, |_| {});
    log.append(vec![bound("a", "s-1", &[Member::Version(7)])]).await;
    log.bind(&["b", "c", "d", "e"], "s-1").await;
    log.put("b", 2).await;
    log.bind(&["c", "f"], "s-2").await;
    log.history.forget(topic("d")).await.unwrap();
    log.append(vec![removed("e")]).await;
    assert!(log.due().await.is_empty());
    log.depart("s-1", false).await;
    log.until_due(&["a"]).await;
    log.end_all().await;
    assert!(log.due().await.is_empty());
    let page = log.page(&["a"], None).await;
    let ended = page.events[1].envelope.as_ref().unwrap();
    assert_eq!(ended.removed(), Some(Removed::Left));
    assert_eq!((ended.version().unwrap().number, ended.holder()), (7, None));
    assert_eq!(
        log.superseded(vec![carrying("a", &[Member::Version(7)], Terms::default())]).await,
        [Some(7)]
    );
    log.depart("s-2", false).await;
    log.until_due(&["c", "f"]).await;
}

pub(super) async fn what_is_bound_stays_a_while_after_a_cut_and_what_replaced_it_does_for_good(
    backend: Backend,
) {
    let log = open(backend, |config| config.history.bound_linger = Duration::from_millis(300));
    log.bind(&["a", "b"], "s-1").await;
    let cut = Instant::now();
    log.depart("s-1", true).await;
    assert!(log.due().await.is_empty());
    log.bind(&["b"], "s-2").await;
    log.until_due(&["a"]).await;
    assert!(cut.elapsed() >= Duration::from_millis(300), "not early");
    log.end_all().await;
    assert!(log.due().await.is_empty());
    assert_eq!(log.values(&["*"]).await, ["1"]);
}

pub(super) async fn a_repeat_binds_the_value_to_the_session_that_repeats_it(backend: Backend) {
    let log = open(backend, |_| {});
    let key = IdempotencyKey {
        scope: [1; 32],
        asked: Asked::of_events(&[bound("a", "", &[])]),
        is_in_series: false,
    };
    let publish = async |session: &str| {
        let events = vec![bound("a", session, &[])];
        log.history.append(Append { events, key: Some(key.clone()) }).await.unwrap()
    };
    let first = publish("s-1").await;
    log.bind(&["b"], "s-1").await;
    log.depart("s-1", false).await;
    let again = publish("s-2").await;
    assert!(again.repeated && again.events == first.events);
    log.until_due(&["b"]).await;
    log.end_all().await;
    log.depart("s-2", false).await;
    log.until_due(&["a"]).await;
    log.end_all().await;
    // What has ended is not there to be bound.
    assert!(publish("s-3").await.repeated);
    log.depart("s-3", false).await;
    assert!(log.due().await.is_empty() && log.retained("a").await == 2);
}

pub(super) async fn no_session_holds_more_values_than_it_may(backend: Backend) {
    let log = open(backend, |config| config.history.bound_topics = 2);
    log.bind(&["a", "b"], "s-1").await;
    assert!(log.is_too_many(bound("c", "s-1", &[])).await);
    assert_eq!(log.retained("c").await, 0);
    assert!(!log.is_too_many(bound("b", "s-1", &[])).await, "it replaces its own");
    assert!(!log.is_too_many(bound("c", "s-2", &[])).await, "another has room");
    // What is removed, or taken by another, is not held any more.
    log.append(vec![removed("a")]).await;
    assert!(!log.is_too_many(bound("d", "s-1", &[])).await);
    log.bind(&["b"], "s-2").await;
    assert!(!log.is_too_many(bound("e", "s-1", &[])).await);
    assert!(log.is_too_many(bound("f", "s-1", &[])).await);
}

pub(super) async fn what_a_session_published_last_ends_though_it_is_stored_once_it_has_left(
    backend: Backend,
) {
    let log = open(backend, |_| {});
    log.bind(&["a"], "s-1").await;
    log.depart("s-1", false).await;
    log.until_due(&["a"]).await;
    log.end_all().await;
    assert!(log.due().await.is_empty());
    log.bind(&["late"], "s-1").await;
    log.until_due(&["late"]).await;
    log.end_all().await;
    assert!(log.due().await.is_empty());
}

pub(super) async fn a_value_with_a_time_and_a_session_ends_by_whichever_comes_first(
    backend: Backend,
) {
    let log = open(backend, |_| {});
    let (short, long) = (Member::Ttl(1), Member::Ttl(60_000));
    log.append(vec![bound("a", "s-1", &[short]), bound("b", "s-1", &[long])]).await;
    log.until_due(&["a"]).await;
    log.depart("s-1", false).await;
    log.until_due(&["a", "b"]).await;
    log.end_all().await;
    let reason = async |name: &str| {
        let page = log.page(&[name], None).await;
        page.events[1].envelope.as_ref().and_then(|envelope| envelope.removed())
    };
    assert_eq!(reason("a").await, Some(Removed::Expired));
    assert_eq!(reason("b").await, Some(Removed::Left));
    assert!(log.due().await.is_empty());
}

pub(super) async fn many_values_of_many_sessions_end_in_pages(backend: Backend) {
    let log = open(backend, |_| {});
    for session in 0..12 {
        let names: Vec<_> = (0..30).map(|n| format!("t.{session}.{n}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        log.bind(&names, &format!("s-{session}")).await;
    }
    let depart =
        |session: usize| Departure { session: format!("s-{session}").into(), lingers: false };
    log.history.depart((0..10).map(depart).collect()).await.expect("it is noted");
    let mut ended = 0;
    while ended < 300 {
        let due = log.history.due(70).await.unwrap();
        assert!(due.len() <= 70);
        ended += due.len();
        if !due.is_empty() {
            log.append(due.into_iter().map(fanfare::history::Ending::tombstone).collect()).await;
        }
    }
    assert!(log.due().await.is_empty());
    assert_eq!(log.values(&["t.10.*", "t.11.*"]).await.len(), 60);
    // Those that hold nothing are in nobody's way.
    log.history.depart((20..90).map(depart).collect()).await.expect("it is noted");
    log.history.depart(vec![depart(10)]).await.expect("it is noted");
    support::eventually("it has ended", async || log.history.due(30).await.unwrap().len() == 30)
        .await;
}

pub(super) async fn a_clock_that_leaps_ends_nothing_bound_early(backend: Backend) {
    let log = open_with_hands(backend, |config| {
        config.history.bound_linger = Duration::from_secs(60);
    });
    log.bind(&["a"], "s-1").await;
    log.bind(&["b"], "s-2").await;
    assert!(log.due().await.is_empty());
    log.depart("s-1", true).await;
    log.clock.set(SystemTime::now() + Duration::from_secs(3_600));
    if let Some(redis) = &log._redis {
        redis.set_ahead(3_600);
    }
    for _ in 0..3 {
        log.history.sweep();
        assert!(log.due().await.is_empty());
    }
    log.depart("s-2", false).await;
    log.until_due(&["b"]).await;
}
