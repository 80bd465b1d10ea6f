//! Who gets it: from a publish to the sessions that want it.
//!
//! [`BrokerHandle`] is all that others see. Behind it, the road has two halves that never call each
//! other: `publish` appends to the history and is done; the history's feed drives the [`Router`],
//! the router the `Fanout` actor of each worker thread, and that the sessions of its thread.

mod alarms;
mod census;
mod delivery;
mod fanout;
mod flush;
mod inbox;
mod members;
mod observer;
mod questions;
mod router;
mod tickets;
mod topics;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::dev::ToEnvelope;
use actix::prelude::*;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

pub use self::delivery::Delivery;
use self::fanout::Fanout;
pub use self::members::Members;
pub use self::observer::{NoObserver, Observer};
pub use self::questions::{Answer, Answers, Gathered, NoRelay, Question, Range, Relay};
pub use self::router::Router;
pub use self::tickets::TICKET_LIFE;
use self::tickets::Tickets;
pub use self::topics::{Subscribed, Topics};
use crate::history::{Append, AppendError, Feed, History, Read, Receipt};
use crate::metrics::Metrics;
use crate::model::{Bearer, Close, Code, Cursor, Pattern, Problem, Timestamp};

/// How long a publisher waits for workers that are behind before it is refused.
const MAX_WAIT: Duration = Duration::from_millis(800);

/// How often a waiting publisher looks again.
const WAIT_STEP: Duration = Duration::from_millis(5);

/// How long one waits for this node to come to where another is already.
const MAX_LAG: Duration = Duration::from_secs(10);

/// How often it looks whether it is there.
const LAG_STEP: Duration = Duration::from_millis(10);

/// A session, as its worker knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(usize);

/// A boundary in the order of what a worker handles; no two of a worker are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkId(u64);

/// How a session is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// RFC 6455.
    WebSocket,
    /// Server-Sent Events.
    Sse,
}

impl Transport {
    /// The name in listings and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Transport::WebSocket => "websocket",
            Transport::Sse => "sse",
        }
    }
}

/// What is known of a session from its start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its id, which nobody can guess.
    pub id: String,
    /// Whose token it shows, if any.
    pub bearer: Option<Box<Bearer>>,
    /// When it connected.
    pub since: Timestamp,
    /// How it is connected.
    pub transport: Transport,
    /// Where it connects from.
    pub address: Option<String>,
}

impl SessionInfo {
    /// Who it belongs to.
    pub fn user(&self) -> Option<&str> {
        self.bearer.as_ref().map(|bearer| bearer.user.as_str())
    }
}

/// A session as administrators see it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionView {
    /// What is known of it.
    pub info: SessionInfo,
    /// What it is subscribed to, in order.
    pub subscriptions: Vec<Pattern>,
    /// How much waits for it, in bytes.
    pub queued_bytes: usize,
}

/// The receiving end of a session. Called by its worker in the order of the log; must not block.
pub trait Subscriber: Send + Sync {
    /// Takes an event that one of its patterns matches; true asks for a flush once all that goes out
    /// with it has been taken.
    fn deliver(&self, delivery: &Arc<Delivery>) -> bool;

    /// Has what it took written; says when it has more to send by the clock, if it has.
    fn flush(&self) -> Option<Instant>;

    /// Hears that a subscribe is under way: it begins where `mark` will be found.
    fn joined(&self, mark: MarkId);

    /// Hears that all before `mark` has been delivered, up to `position`.
    fn marked(&self, mark: MarkId, position: Cursor);

    /// Hears that a heartbeat is due; all up to `position` has been delivered.
    fn beat(&self, position: Cursor);

    /// Hears that events after `since` were lost; what follows comes after `position`. What it reads
    /// again because of that may have `mark`.
    fn broken(&self, since: Cursor, position: Cursor, mark: MarkId);

    /// Ends the session.
    fn end(&self, close: Close);

    /// Hears that rights may be others now.
    fn look_again(&self);

    /// How much waits for the client, in bytes.
    fn queued_bytes(&self) -> usize;

    /// Whether a backlog may be added to what waits.
    fn has_room(&self) -> bool;
}

/// How often a worker does what it does by the clock.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// How long what an event brings may be held back while more comes.
    pub flush_interval: Duration,
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
    workers: Mutex<Vec<Addr<Fanout>>>,
    draining: AtomicBool,
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
        let (workers, draining) = (Mutex::default(), AtomicBool::new(false));
        let shared = Shared {
            history,
            relay,
            router,
            observer,
            metrics,
            tickets: Tickets::new(max_tickets),
            timing,
            workers,
            draining,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Starts the broker actor of the current worker thread.
    pub fn start_worker(&self) -> WorkerHandle {
        let shared = &self.shared;
        let (router, observer) = (shared.router.clone(), shared.observer.clone());
        let fanout = Fanout::start(router, observer, shared.metrics.clone(), shared.timing);
        self.workers().push(fanout.clone());
        WorkerHandle { fanout }
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
        let events = append.events.len() as u64;
        let receipt = self.shared.history.append(append).await.map_err(refused)?;
        if !receipt.repeated {
            self.shared.metrics.events_published.inc_by(events);
        }
        Ok(receipt)
    }

    async fn wait_for_room(&self) -> Result<(), Problem> {
        let give_up = Instant::now() + MAX_WAIT;
        while self.shared.router.is_full() {
            if Instant::now() >= give_up {
                return Err(Problem::new(Code::Unavailable, "delivery is behind; try again"));
            }
            tokio::time::sleep(WAIT_STEP).await;
        }
        Ok(())
    }

    /// Waits until this node delivers from `place` on, where that is a place of the log: the client may
    /// have it from another node, which is ahead of this one.
    pub async fn reach(&self, place: Cursor) -> Result<(), Problem> {
        let give_up = Instant::now() + MAX_LAG;
        let mut is_place = false;
        while self.shared.router.head() < place {
            if !is_place {
                is_place = self.is_place(place).await?;
            }
            if !is_place {
                return Ok(());
            }
            if Instant::now() >= give_up {
                let detail = "this node is behind the others; try again";
                return Err(Problem::new(Code::Unavailable, detail));
            }
            tokio::time::sleep(LAG_STEP).await;
        }
        Ok(())
    }

    async fn is_place(&self, place: Cursor) -> Result<bool, Problem> {
        let (patterns, upto) = (Arc::new([]), Some(place));
        let read = Read { patterns, after: upto, upto, max_events: 1, max_bytes: 1 };
        let page = self.shared.history.read(read).await?;
        Ok(page.gap.is_none() || page.next == place)
    }

    /// The log, to read from.
    pub fn history(&self) -> &dyn History {
        &*self.shared.history
    }

    /// Whether this node is the one that does what one of all is to do.
    pub fn is_first(&self) -> bool {
        self.shared.relay.is_first()
    }

    /// Takes no new sessions from here on, and ends the others evenly over some time.
    pub async fn drain(&self, over: Duration) {
        self.shared.draining.store(true, Ordering::Release);
        self.ask_all(fanout::Drain { over }).await;
    }

    /// Tells every session of this node that rights may be others now.
    pub async fn look_again(&self) {
        self.ask_all(fanout::LookAgain).await;
    }

    /// Whether the broker is about to stop.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Acquire)
    }

    fn workers(&self) -> std::sync::MutexGuard<'_, Vec<Addr<Fanout>>> {
        self.shared.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks every worker the same; one that has stopped does not answer.
    async fn ask_all<M>(&self, message: M) -> Vec<M::Result>
    where
        M: Message + Clone + Send + 'static,
        M::Result: Send,
        Fanout: Handler<M>,
        Context<Fanout>: ToEnvelope<Fanout, M>,
    {
        let asked: Vec<_> =
            self.workers().iter().map(|worker| worker.send(message.clone())).collect();
        join_all(asked).await.into_iter().filter_map(Result::ok).collect()
    }
}

fn refused(error: AppendError) -> Problem {
    let code = match error {
        AppendError::Mismatch => Code::IdempotencyMismatch,
        AppendError::TooManyKeys => Code::TooMany,
        AppendError::StorageFull => Code::StorageFull,
        AppendError::Unavailable(_) => Code::Unavailable,
        AppendError::OutcomeUnknown(_) => Code::OutcomeUnknown,
    };
    Problem::new(code, error.to_string())
}

/// The broker actor of one worker thread, as the sessions of that thread see it.
#[derive(Clone)]
pub struct WorkerHandle {
    fanout: Addr<Fanout>,
}

/// The worker has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the worker has stopped")]
pub struct WorkerGone;

impl WorkerHandle {
    /// Adds a session.
    pub async fn enter(
        &self,
        info: SessionInfo,
        subscriber: Arc<dyn Subscriber>,
    ) -> Result<SessionKey, WorkerGone> {
        self.ask(fanout::Enter { info, subscriber }).await
    }

    /// Subscribes a session. Its [`Subscriber::joined`] hears of the mark at once and its
    /// [`Subscriber::marked`] when the subscription begins.
    pub async fn join(
        &self,
        session: SessionKey,
        patterns: Vec<Pattern>,
    ) -> Result<MarkId, WorkerGone> {
        self.ask(fanout::Join { session, patterns }).await
    }

    /// Asks for `mark` once more, behind everything that waits now.
    pub async fn mark(&self, session: SessionKey, mark: MarkId) -> Result<(), WorkerGone> {
        self.ask(fanout::Mark { session, mark }).await
    }

    /// Has a session flushed, for it has more to send and there is room.
    pub fn flush(&self, session: SessionKey) {
        self.fanout.do_send(fanout::More(session));
    }

    /// Unsubscribes a session.
    pub async fn part(
        &self,
        session: SessionKey,
        patterns: Vec<Pattern>,
    ) -> Result<(), WorkerGone> {
        self.ask(fanout::Part { session, patterns }).await
    }

    /// Says whose token a session shows now.
    pub async fn identify(&self, session: SessionKey, bearer: Bearer) -> Result<(), WorkerGone> {
        self.ask(fanout::Identify { session, bearer }).await
    }

    /// Removes a session.
    pub fn leave(&self, session: SessionKey) {
        self.fanout.do_send(fanout::Leave(session));
    }

    async fn ask<M>(&self, message: M) -> Result<M::Result, WorkerGone>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Fanout: Handler<M>,
        Context<Fanout>: ToEnvelope<Fanout, M>,
    {
        self.fanout.send(message).await.map_err(|_| WorkerGone)
    }
}
