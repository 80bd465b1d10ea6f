//! The ways of reading a log, each to its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use fanfare::history::{History, Newest, Read};
use fanfare::model::{Cursor, Event, Pattern, Topic};

use crate::chronicle::{Fault, Given};

/// Patterns, as readers give them.
pub fn patterns(texts: &[&str]) -> Arc<[Pattern]> {
    texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect()
}

fn failed(problem: impl std::fmt::Display) -> Fault {
    Fault(format!("it could not be read: {problem}"))
}

/// Reads on after a place, in pages, to the end or for so many pages; where it stopped.
pub async fn pages(
    history: &dyn History,
    patterns: &Arc<[Pattern]>,
    after: Option<Cursor>,
    max_events: usize,
    max_pages: usize,
) -> Result<(Given, Option<Cursor>), Fault> {
    let (mut given, mut after) = (Given::default(), after);
    let upto = Some(history.head());
    for _ in 0..max_pages {
        let (patterns, max_bytes) = (patterns.clone(), 100_000);
        let read = Read { patterns, after, upto, max_events, max_bytes };
        let page = history.read(read).await.map_err(failed)?;
        given.is_gap |= page.gap.is_some();
        given.events.extend(page.events);
        after = Some(page.next);
        if page.done {
            break;
        }
    }
    Ok((given, after))
}

/// The current values, in pages.
pub async fn newest(
    history: &dyn History,
    patterns: &Arc<[Pattern]>,
    max_events: usize,
) -> Result<BTreeMap<Topic, Arc<Event>>, Fault> {
    let (mut after, mut values) = (None, BTreeMap::new());
    loop {
        let newest = Newest { patterns: patterns.clone(), after, max_events };
        let page = history.newest(newest).await.map_err(failed)?;
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
