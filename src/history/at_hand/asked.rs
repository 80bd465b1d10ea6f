//! What is being read of the log, for all who ask for the same meanwhile.
//!
//! Of a crowd that wants what is not at hand, the first has it read. Who asks while that is read may have to be told what it
//! no longer finds, and waits for the next reading, which begins when this one ends and is for all who asked by then. So each
//! answer was read after its question, whatever was published, removed or lost meanwhile, and of a crowd however large no more
//! than two readings are on their way or waited for at a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::super::{
    BackPage, ListTopics, Moment, Newest, NewestPage, Page, Read, ReadBack, Since, TopicSummary,
};
use crate::model::{Code, Cursor, Problem, Topic};
use crate::panics::{contained, lock};

/// What the log will say.
pub(super) type Reading<T> = BoxFuture<'static, Result<T, Problem>>;

/// How many readings of a kind may be held though they are over.
const FEW: usize = 16;

/// What is being read, and what will be next.
#[derive(Default)]
pub(super) struct Asked {
    events: Readings<Read, Page>,
    pub(super) back: Readings<ReadBack, BackPage>,
    pub(super) moments: Readings<Since, Moment>,
    pub(super) values: Readings<Newest, NewestPage>,
    pub(super) topics: Readings<ListTopics, Vec<TopicSummary>>,
    pub(super) topic: Readings<Topic, TopicSummary>,
}

impl Asked {
    /// Lets go of what nobody waits for any more.
    pub(super) fn pass(&self) {
        let Self { events, back, moments, values, topics, topic } = self;
        events.pass();
        back.pass();
        moments.pass();
        values.pass();
        topics.pass();
        topic.pass();
    }

    /// A page, read by `reading` unless another that goes no further is about to be.
    pub(super) async fn events(&self, read: Read, reading: Reading<Page>) -> Result<Page, Problem> {
        let upto = read.upto;
        let (end, page) = self.events.join(Read { upto: None, ..read }, upto, reading);
        let page = page.await?;
        // Behind that it is read on.
        Ok(Page { done: page.done && end == upto, ..page })
    }
}

/// The readings of one kind: of each question the last one.
pub(super) struct Readings<Q, T: Clone> {
    last: Mutex<HashMap<Q, Last<T>>>,
}

/// A reading, for as long as somebody waits for it, and up to where it goes.
struct Last<T: Clone> {
    upto: Option<Cursor>,
    has_begun: Arc<AtomicBool>,
    answer: WeakShared<Reading<T>>,
}

impl<Q, T: Clone> Default for Readings<Q, T> {
    fn default() -> Self {
        Self { last: Mutex::default() }
    }
}

impl<Q: Eq + Hash, T: Clone + Send + Sync + 'static> Readings<Q, T> {
    /// An answer, read by `reading` unless another that answers the same is about to be.
    pub(super) async fn answer(&self, question: Q, reading: Reading<T>) -> Result<T, Problem> {
        self.join(question, None, reading).1.await
    }

    /// The next reading, and up to where it goes: that which waits already, unless it goes further, else this one.
    fn join(
        &self,
        question: Q,
        upto: Option<Cursor>,
        reading: Reading<T>,
    ) -> (Option<Cursor>, Shared<Reading<T>>) {
        let mut last = lock(&self.last);
        let before = match last.get(&question).and_then(Last::stage) {
            Some(Stage::Waits(end, answer)) if goes_no_further(end, upto) => return (end, answer),
            Some(Stage::Waits(..)) => return (upto, answered(reading).shared()),
            Some(Stage::Runs(answer)) => Some(answer),
            None => None,
        };
        let has_begun = Arc::<AtomicBool>::default();
        let begins = has_begun.clone();
        let answer = answered(Box::pin(async move {
            if let Some(before) = before {
                // Whatever that comes to, it was asked before.
                _ = before.await;
            }
            begins.store(true, Ordering::SeqCst);
            reading.await
        }));
        let answer = answer.shared();
        if last.len() == last.capacity() {
            last.retain(|_, last| last.stage().is_some());
            // The next look is once as many more have come, however few have gone.
            let more = last.len().max(FEW);
            last.reserve(more);
        }
        if let Some(answer) = answer.downgrade() {
            last.insert(question, Last { upto, has_begun, answer });
        }
        (upto, answer)
    }
}

impl<Q: Eq + Hash, T: Clone> Readings<Q, T> {
    fn pass(&self) {
        let mut last = lock(&self.last);
        last.retain(|_, last| last.stage().is_some());
        last.shrink_to(FEW);
    }
}

fn goes_no_further(end: Option<Cursor>, upto: Option<Cursor>) -> bool {
    let (Some(end), Some(upto)) = (end, upto) else { return end == upto };
    (end.log, end.epoch) == (upto.log, upto.epoch) && end.sequence <= upto.sequence
}

/// How far a reading is that somebody waits for.
enum Stage<T: Clone> {
    /// It begins later than now, and goes up to there.
    Waits(Option<Cursor>, Shared<Reading<T>>),
    /// It may have passed what is new.
    Runs(Shared<Reading<T>>),
}

impl<T: Clone> Last<T> {
    /// How far it is; none where it has ended, or nobody waits for it.
    fn stage(&self) -> Option<Stage<T>> {
        let answer = self.answer.upgrade().filter(|answer| answer.peek().is_none())?;
        Some(match self.has_begun.load(Ordering::SeqCst) {
            true => Stage::Runs(answer),
            false => Stage::Waits(self.upto, answer),
        })
    }
}

/// A reading that all who wait for it are told of as a failure where it panics: it belongs to none of them.
fn answered<T: Send + 'static>(reading: Reading<T>) -> Reading<T> {
    let failed = || Err(Problem::new(Code::Internal, "the broker failed to read this"));
    Box::pin(contained(reading).map(move |page| page.unwrap_or_else(failed)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::poll;
    use tokio::sync::oneshot;

    use super::*;
    use crate::model::Pattern;

    fn at(sequence: u64) -> Cursor {
        Cursor::parse("abcdefgh-1-0").unwrap().at(sequence)
    }

    fn read(pattern: &str, after: u64, upto: u64) -> Read {
        let patterns = Arc::new([Pattern::parse(pattern).unwrap()]);
        let (after, upto) = (Some(at(after)), Some(at(upto)));
        Read { patterns, after, upto, max_events: 10, max_bytes: 1_000 }
    }

    /// A reading up to 9 that ends once this is used, and whether it has begun.
    fn reading() -> (oneshot::Sender<Result<(), Problem>>, Arc<AtomicUsize>, Reading<Page>) {
        let (end, ends) = oneshot::channel();
        let begun = Arc::<AtomicUsize>::default();
        let begins = begun.clone();
        let page = Page { events: vec![], gap: None, next: at(9), done: true };
        let reading = async move {
            begins.fetch_add(1, Ordering::SeqCst);
            ends.await.unwrap_or(Ok(())).map(|()| page)
        };
        (end, begun, Box::pin(reading))
    }

    /// A reading that is not needed.
    fn none() -> Reading<Page> {
        Box::pin(async { panic!("it is read for another already") })
    }

    #[tokio::test]
    async fn who_asks_while_it_is_read_gets_the_next_reading_with_all_who_ask_by_then() {
        let (asked, first) = (Asked::default(), read("a.*", 3, 9));
        let ((end, _, one), (end_next, next_begun, next)) = (reading(), reading());
        let mut answer = Box::pin(asked.events(first.clone(), one));
        assert!(poll!(&mut answer).is_pending());
        let (same, later) = (read("a.*", 3, 9), read("a.*", 3, 12));
        let mut second = Box::pin(asked.events(same.clone(), next));
        let mut third = Box::pin(asked.events(later.clone(), none()));
        assert!(poll!(&mut second).is_pending() && poll!(&mut third).is_pending());
        assert_eq!(next_begun.load(Ordering::SeqCst), 0, "what began before they asked is running");
        end.send(Ok(())).unwrap();
        assert!(answer.await.unwrap().done);
        // Who had it read goes before it comes.
        assert!(poll!(&mut second).is_pending());
        assert_eq!(next_begun.load(Ordering::SeqCst), 1);
        drop(second);
        assert!(poll!(&mut third).is_pending());
        end_next.send(Ok(())).unwrap();
        let page = third.await.unwrap();
        assert_eq!((page.next, page.done), (at(9), false), "it goes on behind that");
        let (end, begun, anew) = reading();
        end.send(Ok(())).unwrap();
        assert!(asked.events(first.clone(), anew).await.is_ok());
        assert_eq!(begun.load(Ordering::SeqCst), 1, "what is so now is read anew");
    }

    #[tokio::test]
    async fn who_asks_for_something_else_or_for_less_has_it_read_at_once() {
        let (asked, first) = (Asked::default(), read("a.*", 3, 9));
        let (_end, _, one) = reading();
        let mut answer = Box::pin(asked.events(first.clone(), one));
        let mut next = Box::pin(asked.events(first.clone(), reading().2));
        assert!(poll!(&mut answer).is_pending() && poll!(&mut next).is_pending());
        for other in [read("a.*", 3, 8), read("a.*", 4, 9), read("b.*", 3, 9)] {
            let (end, _, its_own) = reading();
            end.send(Ok(())).unwrap();
            assert!(asked.events(other.clone(), its_own).await.is_ok(), "{other:?}");
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_joined_by_nobody() {
        let (asked, first) = (Asked::default(), read("a.*", 3, 9));
        let (_end, _, one) = reading();
        let mut answer = Box::pin(asked.events(first.clone(), one));
        assert!(poll!(&mut answer).is_pending());
        drop(answer);
        let (end, _, anew) = reading();
        end.send(Ok(())).unwrap();
        assert!(asked.events(first.clone(), anew).await.is_ok());
    }

    #[tokio::test]
    async fn what_fails_or_panics_is_a_failure_for_all_who_wait_and_the_end_of_none() {
        let panics = || -> Reading<Page> { Box::pin(async { panic!("one of a test") }) };
        let fails = || -> Reading<Page> {
            Box::pin(async { Err(Problem::new(Code::Unavailable, "one of a test")) })
        };
        let readings = [(panics(), Code::Internal), (fails(), Code::Unavailable)];
        for (reading, code) in readings {
            let (asked, first) = (Asked::default(), read("a.*", 3, 9));
            let (end, _, slow) = self::reading();
            let mut running = Box::pin(asked.events(first.clone(), slow));
            assert!(poll!(&mut running).is_pending());
            let mut waiting = Box::pin(asked.events(first.clone(), reading));
            let mut joined = Box::pin(asked.events(first.clone(), none()));
            assert!(poll!(&mut waiting).is_pending() && poll!(&mut joined).is_pending());
            end.send(Ok(())).unwrap();
            running.await.unwrap();
            for answer in [waiting.await, joined.await] {
                assert_eq!(answer.unwrap_err().code, code);
            }
        }
    }

    #[tokio::test]
    async fn a_reading_that_fails_is_no_answer_for_who_asked_while_it_ran() {
        let (asked, first) = (Asked::default(), read("a.*", 3, 9));
        let ((end, _, one), (end_next, _, next)) = (reading(), reading());
        let mut running = Box::pin(asked.events(first.clone(), one));
        assert!(poll!(&mut running).is_pending());
        let mut waiting = Box::pin(asked.events(first.clone(), next));
        assert!(poll!(&mut waiting).is_pending());
        end.send(Err(Problem::new(Code::Unavailable, "one of a test"))).unwrap();
        end_next.send(Ok(())).unwrap();
        assert_eq!(running.await.unwrap_err().code, Code::Unavailable);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn what_was_read_is_let_go_of_and_what_is_read_stays() {
        let (asked, first) = (Asked::default(), read("a.*", 3, 9));
        let (_end, _, one) = reading();
        let mut running = Box::pin(asked.events(first.clone(), one));
        assert!(poll!(&mut running).is_pending());
        let held = || lock(&asked.events.last).len();
        for n in 0..100_000 {
            let other = Read { max_events: 11 + n, ..first.clone() };
            let (end, _, its_own) = reading();
            end.send(Ok(())).unwrap();
            assert!(asked.events(other, its_own).await.is_ok());
            assert!(held() <= 4 * FEW, "{}", held());
        }
        asked.pass();
        assert_eq!(held(), 1);
        let mut next = Box::pin(asked.events(first.clone(), reading().2));
        assert!(poll!(&mut next).is_pending(), "it waits for the one that runs");
        assert!(poll!(&mut running).is_pending());
    }
}
