//! Who gets it: from a publish to the sessions that want it.
//!
//! [`BrokerHandle`] is all that others see. Behind it, the road has two halves that never call each
//! other: `publish` appends to the history and is done; the history's feed drives the [`Router`],
//! the router the `Fanout` actor of each worker thread, and that the sessions of its thread.

mod alarms;
mod attending;
mod census;
mod delivery;
mod endings;
mod fanout;
mod flush;
mod gathering;
mod goaways;
mod inbox;
mod keys;
mod listing;
mod members;
mod observer;
mod orders;
mod outlook;
mod questions;
mod roll_call;
mod roster;
mod router;
mod seat;
mod session_info;
mod subscriber;
mod tickets;
mod topics;
mod worker;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actix::dev::RecipientRequest;
use actix::prelude::*;
use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};

pub use self::attending::{Attending, RoomVersion};
pub use self::delivery::{Delivery, FormKey, Waiting};
use self::endings::Departures;
use self::fanout::{Fanout, WorkerAddress};
pub use self::gathering::Gathered;
pub use self::keys::{BarrierId, SessionKey};
pub use self::listing::{Range, Rank, Ranking, Sort};
pub use self::members::Members;
pub use self::observer::{NoObserver, Observer};
pub use self::orders::{Commanded, Obedience, Overhear, Overheard};
use self::outlook::Outlook;
pub use self::questions::{Answer, Answers, NoRelay, Question, Relay};
pub use self::roster::{Listed, Roll};
pub use self::router::Router;
pub use self::seat::{Runner, Seat, WorkerHandle};
pub use self::session_info::{SessionInfo, SessionView, Transport};
pub use self::subscriber::{Changed, Delivered, Joined, Subscriber};
pub use self::tickets::TICKET_LIFE;
use self::tickets::Tickets;
pub use self::topics::{Subscribed, Topics};
use crate::clock::{Clock, Instant, within};
use crate::history::{Append, AppendError, Feed, History, Read, Receipt};
use crate::metrics::{Metrics, PassedBy};
use crate::model::{Code, Cursor, NewEvent, NotLatest, Problem, Topic, Trouble};
use crate::panics::lock;

/// How long a publisher waits for workers that are behind before it is refused.
const MAX_WAIT: Duration = Duration::from_millis(800);

/// How long a publisher waits for a refusal with all that belongs to it.
const MAX_REFUSAL: Duration = Duration::from_millis(900);

/// How long at least it is looked for what belongs to it.
const LEAST_LOOK: Duration = Duration::from_millis(100);

/// How often a waiting publisher looks again.
const WAIT_STEP: Duration = Duration::from_millis(5);

/// How long one waits for this node to come to where another is already.
const MAX_LAG: Duration = Duration::from_secs(10);

/// How often it looks whether it is there.
const LAG_STEP: Duration = Duration::from_millis(10);

/// How often it is looked whether the log is away.
const LOOK: Duration = Duration::from_secs(1);

/// How often a worker does what it does by the clock.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long what an event brings may be held back while more comes.
    pub flush_interval: Duration,
    /// What it tells the time by.
    pub clock: Clock,
}

/// The broker of this node. Clones are the same broker.
#[derive(Clone)]
pub struct BrokerHandle {
    shared: Arc<Shared>,
}

struct Shared {
    history: Arc<dyn History>,
    relay: Arc<dyn Relay>,
    router: Arc<Router>,
    observer: Arc<dyn Observer>,
    metrics: Arc<Metrics>,
    tickets: Tickets,
    timing: Timing,
    workers: Mutex<Vec<WorkerAddress>>,
    outlook: Arc<Outlook>,
    departures: Departures,
}

impl BrokerHandle {
    /// A broker over a history whose feed is `router`, at which up to `max_tickets` wait to be used.
    pub fn new(
        history: Arc<dyn History>,
        relay: Arc<dyn Relay>,
        router: Arc<Router>,
        observer: Arc<dyn Observer>,
        metrics: Arc<Metrics>,
        max_tickets: usize,
        timing: Timing,
    ) -> Self {
        router.observed_by(observer.clone());
        let (workers, outlook, departures) =
            (Mutex::default(), Arc::default(), Departures::default());
        let shared = Shared {
            history,
            relay,
            router,
            observer,
            metrics,
            tickets: Tickets::new(max_tickets),
            timing,
            workers,
            outlook,
            departures,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Starts the broker actor of the current worker thread; what calls of its sessions leave to do is done by `run`.
    pub fn start_worker<S: Subscriber>(&self, run: Runner<S>) -> WorkerHandle<S> {
        let shared = &self.shared;
        let (router, observer) = (shared.router.clone(), shared.observer.clone());
        let (metrics, outlook) = (shared.metrics.clone(), shared.outlook.clone());
        let (worker, fanout) =
            Fanout::start(router, observer, metrics, outlook, shared.timing, run);
        self.workers().push(WorkerAddress::of(&fanout));
        worker
    }

    /// Stores events, whole or not at all; they reach subscribers through the feed. Waits a moment
    /// where workers are behind, then refuses. Whether it may be done is asked of `allowed` after the
    /// wait, at the last moment before it is.
    pub async fn publish(
        &self,
        append: Append,
        allowed: impl FnOnce(&Append) -> Result<(), Problem>,
    ) -> Result<Receipt, Problem> {
        self.wait_for_room().await?;
        allowed(&append)?;
        // What has terms is refused by name.
        let has_terms = append.events.iter().any(|event| event.terms.is_some());
        let topics = match has_terms {
            true => append.events.iter().map(|event| event.topic.clone()).collect(),
            false => Vec::new(),
        };
        // What ends values is nobody's publish.
        let ends =
            |event: &NewEvent| event.terms.as_ref().is_some_and(|it| it.unless_after.is_some());
        let is_published = !append.events.iter().any(ends);
        let receipt = self.shared.history.append(append).await;
        let receipt = receipt.map_err(|error| refused(error, &topics))?;
        if !receipt.repeated {
            let metrics = &self.shared.metrics;
            for event in &receipt.events {
                match event.superseded {
                    None => _ = metrics.events_published.inc(),
                    Some(by) if is_published => metrics.superseded.note(&event.topic, by.version),
                    Some(_) => {}
                }
            }
        }
        Ok(receipt)
    }

    /// How many events of a topic were superseded by what is kept, at this node and as far as it remembers.
    pub fn superseded(&self, topic: &Topic) -> u64 {
        self.shared.metrics.superseded.of(topic)
    }

    /// The same for a client: a refusal for what the newest event of a topic is comes with that event, where the client
    /// may read it and there is time for that.
    pub async fn publish_for(
        &self,
        append: Append,
        allowed: impl FnOnce(&Append) -> Result<(), Problem>,
        may_read: impl Fn(&Topic) -> bool,
    ) -> Result<Receipt, Problem> {
        let begun = self.now();
        match self.publish(append, allowed).await {
            Ok(receipt) => Ok(receipt),
            Err(problem) => {
                let left = MAX_REFUSAL.saturating_sub(self.now().saturating_duration_since(begun));
                Err(self.explained(problem, left.max(LEAST_LOOK), may_read).await)
            }
        }
    }

    async fn explained(
        &self,
        mut problem: Problem,
        time: Duration,
        may_read: impl Fn(&Topic) -> bool,
    ) -> Problem {
        if let Some(found) = &mut problem.not_latest
            && let Ok(Ok(summary)) =
                within(time, self.shared.history.topic(found.topic.clone())).await
            && may_read(&found.topic)
        {
            found.event = summary.latest;
        }
        problem
    }

    /// What came to be published and did not become an event.
    pub fn passed_by(&self) -> &PassedBy {
        &self.shared.metrics.passed_by
    }

    async fn wait_for_room(&self) -> Result<(), Problem> {
        let give_up = self.now() + MAX_WAIT;
        while self.shared.router.is_full() {
            if self.now() >= give_up {
                return Err(Problem::new(
                    Code::Unavailable,
                    "delivery is behind (limits.inbox_events); try again",
                ));
            }
            tokio::time::sleep(WAIT_STEP).await;
        }
        Ok(())
    }

    /// Waits until this node delivers from `place` on, where that is a place of the log: the client may
    /// have it from another node, which is ahead of this one.
    pub async fn wait_for_position(&self, position: Cursor) -> Result<(), Problem> {
        let give_up = self.now() + MAX_LAG;
        let mut is_position = false;
        while !self.has_delivered_up_to(position) {
            if !is_position {
                is_position = self.is_position(position).await?;
            }
            if !is_position {
                return Ok(());
            }
            if self.now() >= give_up {
                let detail = "this node is behind the others; try again";
                return Err(Problem::new(Code::Unavailable, detail));
            }
            tokio::time::sleep(LAG_STEP).await;
        }
        Ok(())
    }

    /// Whether this node delivers from `place` on already.
    pub fn has_delivered_up_to(&self, position: Cursor) -> bool {
        self.shared.router.head() >= position
    }

    async fn is_position(&self, position: Cursor) -> Result<bool, Problem> {
        let (patterns, upto) = (Arc::new([]), Some(position));
        let read = Read { patterns, after: upto, upto, max_events: 1, max_bytes: 1 };
        let page = self.shared.history.read(read).await?;
        Ok(page.gap.is_none() || page.next == position)
    }

    fn now(&self) -> Instant {
        self.shared.timing.clock.now()
    }

    /// The log, to read from.
    pub fn history(&self) -> &dyn History {
        &*self.shared.history
    }

    /// Whether it is this node's turn to do what goes by this name, where one node of those that would do it does. The
    /// turn is to be asked for again every second.
    pub async fn has_turn(&self, name: &str) -> bool {
        self.shared.relay.has_turn(name).await
    }

    /// Says that this broker goes, and serves on for some time: from here on it is not ready, and every session
    /// is told to go elsewhere, evenly over that time; so is who comes in it.
    pub fn go(&self, within: Duration) {
        self.shared.outlook.leave(self.now() + within);
        self.workers().iter().for_each(|worker| worker.leave.do_send(fanout::Leave));
    }

    /// Whether the broker goes, though it may serve on for some time.
    pub fn is_leaving(&self) -> bool {
        self.shared.outlook.is_leaving()
    }

    /// Has every session hear when the log is away, and when it is back. Never ends.
    pub async fn watch_log(&self) {
        let (mut watch, mut ticks) = (Watch::default(), interval(LOOK));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(trouble) = watch.look(self.history().trouble().is_some()) {
                let tell = |worker: &WorkerAddress| worker.tell.do_send(fanout::Tell(trouble));
                self.workers().iter().for_each(tell);
            }
        }
    }

    /// Takes no new sessions from here on, and ends the others evenly over some time.
    pub async fn drain(&self, over: Duration) {
        self.shared.outlook.drain();
        self.ask_all(|worker| worker.drain.send(fanout::Drain { over })).await;
    }

    /// Tells every session of this node that rights may be others now.
    pub async fn recheck_rights(&self) {
        self.ask_all(|worker| worker.recheck_rights.send(fanout::RecheckRights)).await;
    }

    /// How many hold this broker: each reader of a history does, so that what is left of those that are gone
    /// can be counted.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.shared)
    }

    /// Whether the broker is about to stop, and takes no new sessions.
    pub fn is_draining(&self) -> bool {
        self.shared.outlook.is_draining()
    }

    fn workers(&self) -> MutexGuard<'_, Vec<WorkerAddress>> {
        lock(&self.shared.workers)
    }

    /// Asks every worker the same; one that has stopped does not answer.
    async fn ask_all<M>(
        &self,
        ask: impl Fn(&WorkerAddress) -> RecipientRequest<M>,
    ) -> Vec<M::Result>
    where
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let asked: Vec<_> = self.workers().iter().map(ask).collect();
        join_all(asked).await.into_iter().filter_map(Result::ok).collect()
    }
}

/// What sessions were told of the log. It has to be well for two looks before it counts as back, so that one
/// that comes and goes is not told of each time.
#[derive(Debug, Default)]
struct Watch {
    is_told: bool,
    was_well: bool,
}

impl Watch {
    /// What is to be told now.
    fn look(&mut self, is_away: bool) -> Option<Trouble> {
        let was_well = std::mem::replace(&mut self.was_well, !is_away);
        let told = match (self.is_told, is_away) {
            (false, true) => Some(Trouble::Unavailable),
            (true, false) if was_well => Some(Trouble::Over),
            _ => None,
        };
        self.is_told ^= told.is_some();
        told
    }
}

/// Why events of these topics were not stored.
fn refused(error: AppendError, topics: &[Topic]) -> Problem {
    let code = match error {
        AppendError::Mismatch => Code::IdempotencyMismatch,
        AppendError::InProgress => Code::InProgress,
        AppendError::TooManyKeys | AppendError::TooManyBound { .. } => Code::TooMany,
        AppendError::NotLatest { .. } => Code::NotLatest,
        AppendError::StorageFull => Code::StorageFull,
        AppendError::Unavailable(_) => Code::Unavailable,
        AppendError::OutcomeUnknown(_) => Code::OutcomeUnknown,
    };
    let not_latest = match error {
        AppendError::NotLatest { index } => topics.get(index).cloned(),
        _ => None,
    };
    let not_latest = not_latest.map(|topic| Box::new(NotLatest { topic, event: None }));
    let index = match error {
        AppendError::NotLatest { index } if topics.len() > 1 => format!("events[{index}]: "),
        _ => String::new(),
    };
    Problem { not_latest, ..Problem::new(code, format!("{index}{error}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_at_once_and_its_end_once_it_lasts() {
        let mut watch = Watch::default();
        let looks = [false, true, true, false, true, false, false, false, true];
        let told: Vec<_> = looks.into_iter().map(|is_away| watch.look(is_away)).collect();
        let (away, over) = (Some(Trouble::Unavailable), Some(Trouble::Over));
        assert_eq!(told, [None, away, None, None, None, None, over, None, away]);
    }
}
