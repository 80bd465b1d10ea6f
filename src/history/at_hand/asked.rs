//! Pages of the log that are being read, for all who ask for the same meanwhile.
//!
//! Of a crowd that wants what is not at hand, the first has it read, and the others wait for that. Whoever comes later stands
//! at a later place, perhaps: behind the end of a page of events the rest is read on; a page of values has no such end, so that
//! nobody joins who asks after something of them was told. What is removed, or lost, while a page is read may be in it
//! or not: nobody joins it after that was told.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::super::{Newest, NewestPage, Page, Read};
use crate::model::{Cursor, Pattern, Problem, Topic};
use crate::panics::lock;

/// A page on its way.
type Reading<T> = BoxFuture<'static, Result<T, Problem>>;

/// The same, for as long as somebody waits for it.
type UnderWay<T> = WeakShared<Reading<T>>;

/// The pages that are being read.
#[derive(Default)]
pub(super) struct Asked {
    events: Mutex<HashMap<Events, (Cursor, UnderWay<Page>)>>,
    values: Mutex<HashMap<Values, UnderWay<NewestPage>>>,
}

/// Which events are read, but for how far.
#[derive(PartialEq, Eq, Hash)]
struct Events {
    patterns: Arc<[Pattern]>,
    after: Option<Cursor>,
    max_events: usize,
    max_bytes: usize,
}

/// Which values are read.
#[derive(PartialEq, Eq, Hash)]
struct Values {
    patterns: Arc<[Pattern]>,
    after: Option<Topic>,
    since: Option<Cursor>,
    max_events: usize,
    max_bytes: usize,
}

/// A page of events that somebody waits for.
pub(super) struct Awaited {
    upto: Cursor,
    page: Shared<Reading<Page>>,
}

impl Asked {
    /// The page that is being read, where it answers this question, too, as far as it goes.
    pub(super) fn events(&self, read: &Read) -> Option<Awaited> {
        let end = read.upto?;
        let asked = lock(&self.events);
        let (upto, page) = asked.get(&Events::of(read))?;
        let is_before =
            (upto.log, upto.epoch) == (end.log, end.epoch) && upto.sequence <= end.sequence;
        let page = under_way(page).filter(|_| is_before)?;
        Some(Awaited { upto: *upto, page })
    }

    /// Has a page read for who asks, and for all who join.
    pub(super) fn read_events(&self, read: &Read, upto: Cursor, reading: Reading<Page>) -> Awaited {
        let page = reading.shared();
        let mut asked = lock(&self.events);
        asked.retain(|_, (_, page)| under_way(page).is_some());
        if let Some(weak) = page.downgrade() {
            asked.insert(Events::of(read), (upto, weak));
        }
        Awaited { upto, page }
    }

    /// The page of values that is being read, where it answers this question, too.
    pub(super) fn values(&self, newest: &Newest) -> Option<Shared<Reading<NewestPage>>> {
        under_way(lock(&self.values).get(&Values::of(newest))?)
    }

    /// Has a page of values read, likewise.
    pub(super) fn read_values(
        &self,
        newest: &Newest,
        reading: Reading<NewestPage>,
    ) -> Shared<Reading<NewestPage>> {
        let page = reading.shared();
        let mut asked = lock(&self.values);
        asked.retain(|_, page| under_way(page).is_some());
        if let Some(weak) = page.downgrade() {
            asked.insert(Values::of(newest), weak);
        }
        page
    }

    /// Hears that something was told of these topics: nobody joins any more who asks for a value of them.
    pub(super) fn tell<'a>(&self, topics: impl IntoIterator<Item = &'a Topic>) {
        let mut asked = lock(&self.values);
        // Nearly always nothing is being read.
        if asked.is_empty() {
            return;
        }
        for topic in topics {
            asked.retain(|of, _| !of.patterns.iter().any(|pattern| pattern.matches(topic)));
        }
    }

    /// Hears that something was removed, or lost: nobody joins any more what is being read now.
    pub(super) fn close(&self) {
        lock(&self.events).clear();
        lock(&self.values).clear();
    }
}

/// A page that has not come yet, and that somebody waits for.
fn under_way<T: Clone>(page: &UnderWay<T>) -> Option<Shared<Reading<T>>> {
    page.upgrade().filter(|page| page.peek().is_none())
}

impl Events {
    fn of(read: &Read) -> Self {
        let Read { patterns, after, max_events, max_bytes, .. } = read.clone();
        Self { patterns, after, max_events, max_bytes }
    }
}

impl Values {
    fn of(newest: &Newest) -> Self {
        let Newest { patterns, after, since, max_events, max_bytes } = newest.clone();
        Self { patterns, after, since, max_events, max_bytes }
    }
}

impl Awaited {
    /// The page, as an answer to this question.
    pub(super) async fn answer(self, read: &Read) -> Result<Page, Problem> {
        let page = self.page.await?;
        Ok(Page { done: page.done && read.upto == Some(self.upto), ..page })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use tokio::sync::oneshot;

    use super::*;

    fn at(sequence: u64) -> Cursor {
        Cursor::parse("abcdefgh-1-0").unwrap().at(sequence)
    }

    fn read(pattern: &str, after: u64, upto: u64) -> Read {
        let patterns = Arc::new([Pattern::parse(pattern).unwrap()]);
        let (after, upto) = (Some(at(after)), Some(at(upto)));
        Read { patterns, after, upto, max_events: 10, max_bytes: 1_000 }
    }

    /// A page up to 9 that comes once this is used.
    fn page() -> (oneshot::Sender<()>, Reading<Page>) {
        let (come, comes) = oneshot::channel();
        let page = Page { events: vec![], gap: None, next: at(9), done: true };
        (come, Box::pin(async move { comes.await.map(|()| page).map_err(|_| unreachable!()) }))
    }

    #[tokio::test]
    async fn who_asks_for_the_same_meanwhile_gets_the_same_page_as_far_as_it_goes() {
        let (asked, first) = (Asked::default(), read("a.*", 3, 9));
        let (come, reading) = page();
        let awaited = asked.read_events(&first, at(9), reading);
        for other in [read("a.*", 3, 8), read("a.*", 4, 9), read("b.*", 3, 9)] {
            assert!(asked.events(&other).is_none(), "{other:?}");
        }
        let (same, later) = (read("a.*", 3, 9), read("a.*", 3, 12));
        let joined = [&same, &later].map(|read| asked.events(read).unwrap());
        let mut answer = Box::pin(awaited.answer(&first));
        assert!(poll!(&mut answer).is_pending());
        // Who had it read goes before it comes.
        drop(answer);
        come.send(()).unwrap();
        for (awaited, (read, is_done)) in joined.into_iter().zip([(same, true), (later, false)]) {
            let page = awaited.answer(&read).await.unwrap();
            assert_eq!((page.next, page.done), (at(9), is_done));
        }
        assert!(asked.events(&first).is_none(), "it has come: what is so now is read anew");
    }

    #[tokio::test]
    async fn nobody_joins_once_something_was_removed_or_everybody_has_gone() {
        let (asked, first) = (Asked::default(), read("a.*", 3, 9));
        let (come, reading) = page();
        let awaited = asked.read_events(&first, at(9), reading);
        asked.close();
        assert!(asked.events(&first).is_none());
        come.send(()).unwrap();
        assert!(awaited.answer(&first).await.is_ok(), "who waited before has it");
        let (_come, reading) = page();
        drop(asked.read_events(&first, at(9), reading));
        assert!(asked.events(&first).is_none());
    }

    #[tokio::test]
    async fn who_asks_for_values_after_one_was_told_has_them_read_anew() {
        let newest = |pattern: &str, since| Newest {
            patterns: Arc::new([Pattern::parse(pattern).unwrap()]),
            after: None,
            since: Some(at(since)),
            max_events: 10,
            max_bytes: 1_000,
        };
        let (asked, first) = (Asked::default(), newest("a.*", 3));
        let (come, comes) = oneshot::channel::<()>();
        let page = NewestPage { events: vec![], gap: false, next: None };
        let reading = async move { comes.await.map(|()| page).map_err(|_| unreachable!()) };
        let awaited = asked.read_values(&first, Box::pin(reading));
        asked.tell([&Topic::parse("b.c").unwrap()]);
        assert!(asked.values(&newest("a.*", 4)).is_none());
        let joined = asked.values(&first).unwrap();
        asked.tell([&Topic::parse("a.c").unwrap()]);
        assert!(asked.values(&first).is_none());
        come.send(()).unwrap();
        assert!(awaited.await.is_ok() && joined.await.is_ok());
    }
}
