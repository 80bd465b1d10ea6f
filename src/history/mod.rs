//! What was said before: the log, behind one trait.
//!
//! A log numbers the events of all its topics with one sequence, stores them, and hands what is
//! committed to its ordered [`Feed`]; the publish call itself never delivers. [`memory`], [`sqlite`]
//! and [`redis`] are its backends, and each passes the one contract suite in
//! `tests/history_contract.rs`.

mod asked;
mod at_hand;
mod clock_steps;
mod earlier;
mod endings;
mod holders;
mod keys;
pub mod memory;
pub mod redis;
mod rules;
mod stock;
pub mod sqlite;
mod terms;

use std::future::ready;
use std::sync::Arc;

pub use endings::{Departure, Ending};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use self::asked::{Asked, digest};
pub use self::at_hand::Hand;
pub use self::earlier::{Earlier, TakeEarlier};
use self::keys::LEAST_KEY_WINDOW;
pub use self::keys::{IdempotencyKey, Series};
pub use self::stock::{Kept, Stock};
pub use crate::model::Since;
use crate::model::{Cursor, Event, NewEvent, Pattern, Problem, Timestamp, Topic};

/// The way out of a log: hears every event once it is stored, in the order of the log.
pub trait Feed: Send + Sync {
    /// Takes events that are numbered and committed, or that are ephemeral. Called by one thread at
    /// a time, never out of order, and must not block.
    fn committed(&self, events: Vec<Arc<Event>>);

    /// Passes an event by without its data where nobody wants its topic; false where somebody does,
    /// and nothing was done. Without a place it only asks, or the event is ephemeral.
    fn skip(&self, topic: &Topic, position: Option<Cursor>) -> bool;

    /// Tells those whom it concerns that events were lost.
    fn broken(&self, loss: Loss);

    /// Hears which events are kept no longer, whoever removed them: after each of those events, and where a topic's
    /// newest went, before whatever comes after that. Who keeps nothing at hand has nothing to do. Must not block.
    fn removed(&self, _removed: &[Removal]) {}

    /// Whether so much waits to be handled that whoever can should keep the rest back.
    fn is_full(&self) -> bool {
        false
    }

    /// Waits until most of those who listen have room for more, or for a moment. For who has a backlog
    /// to tell, which comes faster than clients take it; what is live does not wait.
    fn room(&self) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
}

/// Events that went by unheard.
#[derive(Debug, Clone)]
pub struct Loss {
    /// All up to here was heard.
    pub since: Cursor,
    /// What is heard next comes after this place.
    pub position: Cursor,
    /// The topics that they were of; none where nobody knows.
    pub topics: Option<Arc<[LostTopic]>>,
}

/// Events that are kept no longer: by `DELETE`, by a bound of what is kept, or by their age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Their topic; none where it may be any.
    pub topic: Option<Topic>,
    /// The number of the last of them, which rise over all epochs. What came before it counts as removed, too.
    pub upto: u64,
    /// A newer event of it is kept, or on its way: nothing is gone to who wants the newest alone.
    pub is_superseded: bool,
}

impl Removal {
    /// That nobody knows of which topics events up to a number are gone.
    fn of_any(upto: u64) -> Self {
        Self { topic: None, upto, is_superseded: false }
    }
}

/// A topic of which events were lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostTopic {
    /// Its name.
    pub topic: Topic,
    /// A newer event of it is kept, or on its way: nothing is lost to who wants the newest alone.
    pub is_superseded: bool,
}

/// One log of events over all topics.
///
/// The contract: a sequence number is given once and never again; `append` answers only when what
/// it took is stored as its topic's rule says, whole or not at all; [`Feed::committed`] hears each
/// event before any later-numbered one; `read` and `newest` see an event no later than the feed.
pub trait History: Send + Sync {
    /// Numbers and stores events, in their order, whole or not at all. Under an idempotency key
    /// that was seen within its window nothing is stored and the first result is returned; what it bound and still
    /// stands there is bound to the session that repeats it. What is polled for the first time later is stored behind it, if
    /// both are.
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Receipt, AppendError>>;

    /// Kept events, oldest first, a page at a time.
    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, Problem>>;

    /// Kept events, newest first, a page at a time.
    fn read_back(&self, read: ReadBack) -> BoxFuture<'_, Result<BackPage, Problem>>;

    /// Where what has happened since then begins.
    fn position_before(&self, since: Since) -> BoxFuture<'_, Result<Moment, Problem>>;

    /// The newest kept event of each matching topic, by topic, a page at a time.
    fn newest(&self, newest: Newest) -> BoxFuture<'_, Result<NewestPage, Problem>>;

    /// Topics with kept events that match, by name, a page at a time.
    fn topics(&self, list: ListTopics) -> BoxFuture<'_, Result<Vec<TopicSummary>, Problem>>;

    /// What is kept of one topic; zeros for a topic that nobody used.
    fn topic(&self, topic: Topic) -> BoxFuture<'_, Result<TopicSummary, Problem>>;

    /// Forgets the kept events of a topic; returns how many there were.
    fn forget(&self, topic: Topic) -> BoxFuture<'_, Result<usize, Problem>>;

    /// Notes that sessions have left: the values that are bound to each of them end, and those that are about to be.
    fn depart(&self, departures: Vec<Departure>) -> BoxFuture<'_, Result<(), Problem>>;

    /// Values that have ended, at most so many. Each is so until its tombstone is stored, or another event.
    fn due(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Ending>, Problem>>;

    /// The place of the newest committed event.
    fn head(&self) -> Cursor;

    /// Whether the feed has heard all that was committed, removed or lost before this was called, once it has; not for long,
    /// and false where that can't be known. None where it always has.
    fn has_told_all(&self) -> Option<BoxFuture<'_, bool>> {
        None
    }

    /// Why nothing can be stored at the moment, where that is so.
    fn trouble(&self) -> Option<String>;

    /// How much is kept and waits, as far as that is known at once.
    fn stock(&self) -> Stock;

    /// Removes what is too old, in a small step; called once a second.
    fn sweep(&self);

    /// Stores what was taken and takes no more. Blocks until that is done.
    fn stop(&self);
}

/// Events to store together.
#[derive(Debug, Clone)]
pub struct Append {
    /// At least one event.
    pub events: Vec<NewEvent>,
    /// Under which a repeat is known.
    pub key: Option<IdempotencyKey>,
}

/// What became of an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// One for each event, in the order given.
    pub events: Vec<EventReceipt>,
    /// Whether this is the result of an earlier request under the same key.
    pub repeated: bool,
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventReceipt {
    /// Its place in the log; none on ephemeral topics.
    pub cursor: Option<Cursor>,
    /// Its address.
    pub topic: Topic,
    /// When the broker took it.
    pub time: Timestamp,
    /// What stays instead, where it was not stored for that.
    pub superseded: Option<Superseded>,
}

/// What stands there instead of an event that was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superseded {
    /// The version of the value that stays, where it was that which superseded the event.
    pub version: Option<u64>,
}

/// Why nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    Mismatch,
    /// The first request under the idempotency key is still running.
    #[error("the first request under this idempotency key is still running; repeat it later")]
    InProgress,
    /// As many idempotency keys are remembered as there may be, each for too short a time to be forgotten.
    #[error("too many idempotency keys are remembered at the moment")]
    TooManyKeys,
    /// As many values are bound to the session as may be.
    #[error("{most} values are bound to the session, as many as may be (limits.bound_topics)")]
    TooManyBound {
        /// How many.
        most: usize,
    },
    /// The newest event of a topic is not what it has to be, by the event of this index.
    #[error("the newest event of the topic is not what `if_latest` says")]
    NotLatest {
        /// The index of the event among those that were to be stored together.
        index: usize,
    },
    /// Certainly not stored: there is no space.
    #[error("the event was not stored: there is no space left for the history")]
    StorageFull,
    /// Certainly not stored.
    #[error("the event was not stored: {0}")]
    Unavailable(String),
    /// Stored whole or not at all.
    #[error("whether the event was stored is not known: {0}; repeat with the same Idempotency-Key")]
    OutcomeUnknown(String),
}

/// Which events to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Read {
    /// Of topics that one of these matches.
    pub patterns: Arc<[Pattern]>,
    /// After this place; from the oldest where none is given.
    pub after: Option<Cursor>,
    /// Up to and with this place; to the newest where none is given.
    pub upto: Option<Cursor>,
    /// At most so many events.
    pub max_events: usize,
    /// Not many more than so many bytes, counted by [`Event::cost`].
    pub max_bytes: usize,
}

/// A page of kept events.
#[derive(Debug, Clone)]
pub struct Page {
    /// The events, oldest first.
    pub events: Vec<Arc<Event>>,
    /// Events after `after` that match are gone, up to about this place, or `after` is not a place
    /// in this log.
    pub gap: Option<Cursor>,
    /// The place up to which this page is whole; read on after it.
    pub next: Cursor,
    /// Whether `next` is the end of what was asked for.
    pub done: bool,
}

/// Which events to read, newest first. (Much as [`Read`], but for the way and its two ends, which are what matters.)
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReadBack {
    /// Of topics that one of these matches.
    pub patterns: Arc<[Pattern]>,
    /// Before this place, which may be the one behind the newest; from the newest where none is given.
    pub before: Option<Cursor>,
    /// At most so many events.
    pub max_events: usize,
    /// Not many more than so many bytes, counted by [`Event::cost`].
    pub max_bytes: usize,
}

/// A page of kept events, read backwards.
#[derive(Debug, Clone)]
pub struct BackPage {
    /// The events, newest first.
    pub events: Vec<Arc<Event>>,
    /// Read on before this place; none where nothing older is kept.
    pub next: Option<Cursor>,
    /// Events that match are missing: on the last page, older ones may have been removed; on any, some could not
    /// be read, or `before` is not a place in this log and was read as the newest or as the last one before it.
    pub gap: bool,
    /// How many events were looked at, whether they match or not.
    pub looked_at: usize,
}

/// Events found backwards, newest first, and down to where everything was looked at; 0 at the end.
#[derive(Debug, Default)]
struct FoundBack {
    events: Vec<Arc<Event>>,
    downto: u64,
    looked_at: usize,
}

/// Up to which number one reads who reads what is before a place, and whether that is no place. `resolve` says of a
/// place of the log after which number one reads on from it, and whether something is missing there.
fn upto(before: Cursor, head: Cursor, resolve: impl Fn(Cursor) -> (u64, bool)) -> (u64, bool) {
    let below = before.sequence.saturating_sub(1);
    let is_place = |number: u64| match resolve(before.at(number)) {
        (0, is_lost) => number == 0 && !is_lost,
        (after, _) => after == number,
    };
    if is_place(before.sequence) || is_place(below) {
        return (below.min(head.sequence), false);
    }
    match resolve(before) {
        (0, _) => (head.sequence, true),
        (after, _) => (after, true),
    }
}

/// Where what has happened since a time begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The place of the newest kept event, by number, that is older; read on after it.
    pub position: Cursor,
    /// Events up to that place are dated between the time and now, for the clock went back.
    pub gap: bool,
}

/// Which current values to read, or what became of them since a place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Newest {
    /// Of topics that one of these matches.
    pub patterns: Arc<[Pattern]>,
    /// Of topics after this one by name.
    pub after: Option<Topic>,
    /// What has changed since this place, where one is given: a value's removal has, too.
    pub since: Option<Cursor>,
    /// At most so many events.
    pub max_events: usize,
    /// Not many more than so many bytes, counted by [`Event::cost`].
    pub max_bytes: usize,
}

impl Newest {
    /// Whether an event, the newest of its topic, is asked for.
    fn wants(&self, event: &Event) -> bool {
        match self.since {
            // By number: epochs of one log go on counting, and what went back is told by a gap.
            Some(since) => event.cursor.is_some_and(|position| {
                position.log != since.log || position.sequence > since.sequence
            }),
            None => !event.is_tombstone(),
        }
    }
}

/// A page of current values.
#[derive(Debug, Clone)]
pub struct NewestPage {
    /// The newest kept event of each topic, by topic.
    pub events: Vec<Arc<Event>>,
    /// Of a topic that matches nothing is kept that is newer than an event after `since` which is gone, or `since` is
    /// not a place in this log; as of when the page was read.
    pub gap: bool,
    /// Where to read on, unless this was the last page.
    pub next: Option<Topic>,
}

/// Which topics to list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ListTopics {
    /// Those that match this.
    pub pattern: Pattern,
    /// Those after this one by name.
    pub after: Option<Topic>,
    /// At most so many.
    pub limit: usize,
}

/// What is kept of one topic.
#[derive(Debug, Clone)]
pub struct TopicSummary {
    /// The topic.
    pub topic: Topic,
    /// How many events are kept.
    pub retained: usize,
    /// When the newest of them came.
    pub latest_time: Option<Timestamp>,
    /// Whether that is a tombstone, so that there is no current value.
    pub is_removed: bool,
    /// The newest of them, be it a tombstone; left out of lists.
    pub latest: Option<Arc<Event>>,
}

impl TopicSummary {
    /// That nothing is kept of a topic.
    pub fn empty(topic: Topic) -> Self {
        Self { topic, retained: 0, latest_time: None, is_removed: false, latest: None }
    }

    /// Of so many events, this is the newest.
    fn new(topic: Topic, retained: usize, latest: Option<Arc<Event>>) -> Self {
        let latest_time = latest.as_ref().map(|event| event.time);
        let is_removed = latest.as_ref().is_some_and(|event| event.is_tombstone());
        Self { topic, retained, latest_time, is_removed, latest }
    }

    /// The current value.
    pub fn value(&self) -> Option<&Event> {
        self.latest.as_deref().filter(|event| !event.is_tombstone())
    }
}
