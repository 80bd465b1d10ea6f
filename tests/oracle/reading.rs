//! The ways of reading a log, each to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fanfare::history::{History, Newest, Read, ReadBack};
use fanfare::model::{Code, Cursor, Event, Pattern, Problem, Topic};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use crate::chronicle::{Fault, Given};

/// How long a log may be away, and what follows from something may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long until it is looked again whether something has come about.
pub const POLL: Duration = Duration::from_millis(10);

/// Patterns, as readers give them.
pub fn patterns(texts: &[&str]) -> Arc<[Pattern]> {
    texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect()
}

/// An answer, which may be waited for where the log is away for a moment.
pub async fn answer<'a, T>(
    mut ask: impl FnMut() -> BoxFuture<'a, Result<T, Problem>>,
) -> Result<T, Fault> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(problem) if problem.code == Code::Unavailable && Instant::now() < give_up => {
                sleep(POLL).await;
            }
            Err(problem) => return Err(Fault(format!("it could not be read: {problem}"))),
        }
    }
}

/// Reads on after a place and up to another, or to the end of the log, in pages or so many pages; where it
/// stopped.
pub async fn pages(
    history: &dyn History,
    patterns: &Arc<[Pattern]>,
    after: Option<Cursor>,
    upto: Option<Cursor>,
    max_events: usize,
    max_pages: usize,
) -> Result<(Given, Option<Cursor>), Fault> {
    let (mut given, mut after) = (Given::default(), after);
    for _ in 0..max_pages {
        let (patterns, max_bytes) = (patterns.clone(), 100_000);
        let read = Read { patterns, after, upto, max_events, max_bytes };
        let page = answer(|| history.read(read.clone())).await?;
        given.take(page.events, page.gap.is_some());
        after = Some(page.next);
        if page.done {
            break;
        }
    }
    Ok((given, after))
}

/// Reads back from a place to the beginning, in pages.
pub async fn pages_back(
    history: &dyn History,
    patterns: &Arc<[Pattern]>,
    before: Option<Cursor>,
    max_events: usize,
) -> Result<Given, Fault> {
    to_the_end(before, async |before, given| {
        let (patterns, max_bytes) = (patterns.clone(), 100_000);
        let read = ReadBack { patterns, before, max_events, max_bytes };
        let page = answer(|| history.read_back(read.clone())).await?;
        given.take(page.events, page.gap);
        Ok(page.next)
    })
    .await
}

/// What has changed of current values since a place, in pages.
pub async fn changed(
    history: &dyn History,
    patterns: &Arc<[Pattern]>,
    since: Cursor,
    max_events: usize,
) -> Result<Given, Fault> {
    to_the_end(None, async |after, given| {
        let (patterns, since, max_bytes) = (patterns.clone(), Some(since), 100_000);
        let newest = Newest { patterns, after, since, max_events, max_bytes };
        let page = answer(|| history.newest(newest.clone())).await?;
        given.take(page.events, page.gap);
        Ok(page.next)
    })
    .await
}

/// Reads page by page, each of which says where the next begins, until one says that there is none.
async fn to_the_end<P>(
    mut place: Option<P>,
    mut page: impl AsyncFnMut(Option<P>, &mut Given) -> Result<Option<P>, Fault>,
) -> Result<Given, Fault> {
    let mut given = Given::default();
    loop {
        place = page(place, &mut given).await?;
        if place.is_none() {
            return Ok(given);
        }
    }
}

/// The current values, in pages.
pub async fn newest(
    history: &dyn History,
    patterns: &Arc<[Pattern]>,
    max_events: usize,
) -> Result<BTreeMap<Topic, Arc<Event>>, Fault> {
    let (mut after, mut values) = (None, BTreeMap::new());
    loop {
        let (patterns, max_bytes) = (patterns.clone(), usize::MAX);
        let newest = Newest { patterns, after, since: None, max_events, max_bytes };
        let page = answer(|| history.newest(newest.clone())).await?;
        for event in page.events {
            if values.last_key_value().is_some_and(|(topic, _)| *topic >= event.topic) {
                return Err(Fault(format!("{} is out of order, or twice", event.topic)));
            }
            values.insert(event.topic.clone(), event);
        }
        after = page.next;
        if after.is_none() {
            return Ok(values);
        }
    }
}
