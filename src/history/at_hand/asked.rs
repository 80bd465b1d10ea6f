//! Pages of the log that are being read, for all who ask for the same meanwhile.
//!
//! Of a crowd that wants what is not at hand, the first has it read, and the others wait for that. Whoever comes later stands
//! at a later place, perhaps: up to that the rest is read on. What is removed, or lost, while a page is read may be in it or
//! not; so nobody joins who asks after that was told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::super::{Page, Read};
use crate::model::{Cursor, Pattern, Problem};
use crate::panics::lock;

/// A page on its way.
type Reading = BoxFuture<'static, Result<Page, Problem>>;

/// The pages that are being read.
#[derive(Default)]
pub(super) struct Asked(Mutex<HashMap<What, Asking>>);

/// What is read, but for how far.
#[derive(PartialEq, Eq, Hash)]
struct What {
    patterns: Arc<[Pattern]>,
    after: Option<Cursor>,
    max_events: usize,
    max_bytes: usize,
}

/// A page that is being read, for as long as somebody waits for it.
struct Asking {
    upto: Cursor,
    page: WeakShared<Reading>,
}

/// A page that somebody waits for.
pub(super) struct Awaited {
    upto: Cursor,
    page: Shared<Reading>,
}

impl Asked {
    /// The page that is being read, where it answers this question, too, as far as it goes.
    pub(super) fn find(&self, read: &Read) -> Option<Awaited> {
        let upto = read.upto?;
        let asked = lock(&self.0);
        let asking = asked.get(&What::of(read)).filter(|asking| {
            let place = asking.upto;
            (place.log, place.epoch) == (upto.log, upto.epoch) && place.sequence <= upto.sequence
        })?;
        let page = asking.page.upgrade().filter(|page| page.peek().is_none())?;
        Some(Awaited { upto: asking.upto, page })
    }

    /// Has a page read for who asks, and for all who join.
    pub(super) fn begin(&self, read: &Read, upto: Cursor, reading: Reading) -> Awaited {
        let page = reading.shared();
        let mut asked = lock(&self.0);
        asked.retain(|_, asking| asking.page.upgrade().is_some_and(|page| page.peek().is_none()));
        if let Some(weak) = page.downgrade() {
            asked.insert(What::of(read), Asking { upto, page: weak });
        }
        Awaited { upto, page }
    }

    /// Nobody joins any more what is being read now.
    pub(super) fn close(&self) {
        lock(&self.0).clear();
    }
}

impl What {
    fn of(read: &Read) -> Self {
        let Read { patterns, after, max_events, max_bytes, .. } = read.clone();
        Self { patterns, after, max_events, max_bytes }
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
    fn page() -> (oneshot::Sender<()>, Reading) {
        let (come, comes) = oneshot::channel();
        let page = Page { events: vec![], gap: None, next: at(9), done: true };
        (come, Box::pin(async move { comes.await.map(|()| page).map_err(|_| unreachable!()) }))
    }

    #[tokio::test]
    async fn who_asks_for_the_same_meanwhile_gets_the_same_page_as_far_as_it_goes() {
        let (asked, first) = (Asked::default(), read("a.*", 3, 9));
        let (come, reading) = page();
        let awaited = asked.begin(&first, at(9), reading);
        for other in [read("a.*", 3, 8), read("a.*", 4, 9), read("b.*", 3, 9)] {
            assert!(asked.find(&other).is_none(), "{other:?}");
        }
        let (same, later) = (read("a.*", 3, 9), read("a.*", 3, 12));
        let joined = [&same, &later].map(|read| asked.find(read).unwrap());
        let mut answer = Box::pin(awaited.answer(&first));
        assert!(poll!(&mut answer).is_pending());
        // Who had it read goes before it comes.
        drop(answer);
        come.send(()).unwrap();
        for (awaited, (read, is_done)) in joined.into_iter().zip([(same, true), (later, false)]) {
            let page = awaited.answer(&read).await.unwrap();
            assert_eq!((page.next, page.done), (at(9), is_done));
        }
        assert!(asked.find(&first).is_none(), "it has come: what is so now is read anew");
    }

    #[tokio::test]
    async fn nobody_joins_once_something_was_removed_or_everybody_has_gone() {
        let (asked, first) = (Asked::default(), read("a.*", 3, 9));
        let (come, reading) = page();
        let awaited = asked.begin(&first, at(9), reading);
        asked.close();
        assert!(asked.find(&first).is_none());
        come.send(()).unwrap();
        assert!(awaited.answer(&first).await.is_ok(), "who waited before has it");
        let (_come, reading) = page();
        drop(asked.begin(&first, at(9), reading));
        assert!(asked.find(&first).is_none());
    }
}
