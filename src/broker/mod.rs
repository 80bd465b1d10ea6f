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
mod exam;
mod fanout;
mod flush;
mod gathering;
mod goaways;
mod inbox;
mod keys;
mod listing;
mod looks;
mod members;
mod observer;
mod orders;
mod outlook;
mod past;
mod publishing;
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
pub use self::exam::{Examined, Slow};
use self::fanout::{Fanout, WorkerAddress};
pub use self::gathering::Gathered;
pub use self::keys::{BarrierId, SessionKey};
pub use self::listing::{Range, Rank, Ranking, Sort, Value};
pub use self::members::Members;
pub use self::observer::{NoObserver, Observer};
pub use self::orders::{Commanded, Obedience, Order, Overhear, Overheard};
use self::outlook::Outlook;
pub use self::past::SAID_BY_NODE;
pub use self::questions::{Answer, Answers, NoRelay, Question, Relay};
pub use self::roster::{Listed, Roll};
pub use self::router::Router;
pub use self::seat::{Runner, Seat, WorkerHandle};
pub use self::session_info::{SessionInfo, SessionView, Transport};
pub use self::subscriber::{Changed, Delivered, Joined, Strain, Subscriber};
pub use self::tickets::TICKET_LIFE;
use self::tickets::Tickets;
pub use self::topics::{Subscribed, Topics};
use crate::clock::{Clock, Instant};
use crate::history::{History, Read};
use crate::metrics::{Metrics, PassedBy, WebhookNumbers};
use crate::model::{Code, Cursor, Event, Problem, Topic, Trouble};
use crate::panics::lock;

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

    /// Delivers what a node says of itself to the sessions of this one. It is not stored, and needs no log.
    pub fn say(&self, node: &str, event: Event) {
        self.shared.router.say(node, Arc::new(event), self.now());
    }

    /// Delivers what this node says of itself to the sessions of all nodes, as far as these are heard.
    pub async fn say_to_all(&self, event: Event) {
        self.say(self.node(), event.clone());
        self.shared.relay.say(event).await;
    }

    /// What nodes said of themselves after one number and up to another, at most the newest so many of each.
    pub fn said(&self, after: u64, upto: u64, count: usize) -> Vec<Arc<Event>> {
        self.shared.router.said(after, upto, count)
    }

    /// What this node is called.
    pub fn node(&self) -> &str {
        self.shared.observer.node()
    }

    /// How many events of a topic were superseded by what is kept, at this node and as far as it remembers.
    pub fn superseded(&self, topic: &Topic) -> u64 {
        self.shared.metrics.superseded.of(topic)
    }

    /// How a webhook fares, by its name.
    pub fn webhook(&self, name: &str) -> Option<Arc<WebhookNumbers>> {
        self.shared.metrics.webhooks.get(name)
    }

    /// Whether publishes may be traced.
    pub fn is_traced(&self) -> bool {
        self.shared.router.traces().are_recorded()
    }

    /// What came to be published and did not become an event.
    pub fn passed_by(&self) -> &PassedBy {
        &self.shared.metrics.passed_by
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
