//! From the log's feed to the workers that have a subscriber.
//!
//! The one place where events cross threads: once a worker, never once a subscriber. What a worker
//! wants is the same pure [`Topics`] as what a session wants, one level up. Barriers are placed under
//! the lock that routes, which is what makes them a boundary: before it, or after it, never both.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{sleep, timeout};

use super::census::Census;
use super::delivery::Delivery;
use super::inbox::{Fullness, Inbox, Item};
use super::observer::{NoObserver, Observer};
use super::past::Past;
use super::roster::{Folded, Roster};
use super::topics::{Subscribed, Topics};
use super::{BarrierId, SessionKey};
use crate::clock::Instant;
use crate::history::{Feed, Loss, LostTopic};
use crate::model::{Cursor, Event, Pattern, Topic};
use crate::panics::lock;
use crate::traces::Traces;

/// How long a backlog waits for room, a piece.
const ROOM: Duration = Duration::from_millis(250);

/// How often it looks again.
const ROOM_STEP: Duration = Duration::from_millis(5);

/// A worker thread, as the router knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WorkerId(usize);

/// Routes events to the workers of one node.
pub struct Router {
    routes: Mutex<Routes>,
    /// What nodes said of themselves lately.
    past: Mutex<Past>,
    /// Whether as much waits for a worker as may.
    fullness: Arc<Fullness>,
    /// It is to be asked who is in some topics.
    asks: Notify,
    /// More is known of that.
    knows: Notify,
    traces: Traces,
}

struct Routes {
    /// The newest event that was routed.
    head: Cursor,
    topics: Topics<WorkerId>,
    inboxes: BTreeMap<WorkerId, Mail>,
    next_worker: usize,
    observer: Arc<dyn Observer>,
    roster: Roster,
}

/// The inbox of one worker, and what is to be put in there together; nothing stays here.
struct Mail {
    inbox: Arc<Inbox>,
    gathered: Vec<Item>,
}

impl Mail {
    /// Puts what was gathered into the inbox, if there is something: its worker is woken once for all of it.
    fn deliver(&mut self) {
        if !self.gathered.is_empty() {
            self.inbox.put(self.gathered.drain(..));
        }
    }
}

impl Router {
    /// A router for a log whose newest event is at `head`; full when `inbox_events` wait for a worker.
    pub fn new(head: Cursor, inbox_events: usize) -> Self {
        let routes = Routes {
            head,
            topics: Topics::default(),
            inboxes: BTreeMap::new(),
            next_worker: 0,
            observer: Arc::new(NoObserver),
            roster: Roster::default(),
        };
        let (asks, knows) = (Notify::new(), Notify::new());
        let (routes, past) = (Mutex::new(routes), Mutex::default());
        let fullness = Arc::new(Fullness::new(inbox_events));
        Self { routes, past, fullness, asks, knows, traces: Traces::default() }
    }

    /// The same, with events traced there.
    pub fn traced_by(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Where events are traced.
    pub(super) fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Says who hears what is listened to.
    pub(super) fn observed_by(&self, observer: Arc<dyn Observer>) {
        self.lock().observer = observer;
    }

    fn lock(&self) -> MutexGuard<'_, Routes> {
        lock(&self.routes)
    }

    /// Adds a worker, which wants nothing yet, with its inbox.
    pub(super) fn enter(&self) -> (WorkerId, Arc<Inbox>) {
        let inbox = Arc::new(Inbox::new(self.fullness.clone()));
        let mut routes = self.lock();
        let worker = WorkerId(routes.next_worker);
        routes.next_worker += 1;
        routes.inboxes.insert(worker, Mail { inbox: inbox.clone(), gathered: Vec::new() });
        (worker, inbox)
    }

    /// Removes a worker and all it wanted.
    pub(super) fn leave(&self, worker: WorkerId) {
        let mut routes = self.lock();
        routes.inboxes.remove(&worker);
        for pattern in routes.topics.leave(worker) {
            routes.observer.wanted(&pattern, false);
            routes.roster.unfollow(&pattern);
        }
    }

    /// Routes events of `patterns` to `worker` too, and sets a barrier where that begins: every
    /// event after the barrier comes, none before it needs to.
    pub(super) fn want(
        &self,
        worker: WorkerId,
        patterns: &[Pattern],
        session: SessionKey,
        barrier: BarrierId,
    ) {
        let mut routes = self.lock();
        for pattern in patterns {
            if let Subscribed::First = routes.topics.subscribe(worker, pattern.clone()) {
                routes.observer.wanted(pattern, true);
                if pattern.is_presence() {
                    routes.roster.follow(pattern);
                    self.asks.notify_one();
                }
            }
        }
        routes.put(worker, |position| Item::Barrier { session, barrier, position });
    }

    /// Routes events of `patterns` to `worker` no longer.
    pub(super) fn unwant(&self, worker: WorkerId, patterns: &[Pattern]) {
        let mut routes = self.lock();
        for pattern in patterns {
            if routes.topics.unsubscribe(worker, pattern) {
                routes.observer.wanted(pattern, false);
                if routes.roster.unfollow(pattern) {
                    self.knows.notify_waiters();
                }
            }
        }
    }

    /// Tells a session who is in the topics of these patterns, at the place of the feed where this is called.
    pub(super) fn call_roll(
        &self,
        worker: WorkerId,
        session: SessionKey,
        barrier: BarrierId,
        patterns: Arc<[Pattern]>,
    ) {
        let mut routes = self.lock();
        let roll = routes.roster.roll(patterns);
        routes.put(worker, |_| Item::Roll { session, barrier, roll });
    }

    /// Waits until it is known who is in the topics of these patterns.
    pub(super) async fn known(&self, patterns: &[Pattern]) {
        loop {
            let more = self.knows.notified();
            if self.lock().roster.knows(patterns) {
                return;
            }
            more.await;
        }
    }

    /// Waits until it is to be asked who is in some topics.
    pub(super) async fn asks(&self) {
        self.asks.notified().await;
    }

    /// Has the list of who is in which topic looked at, or changed where nobody sees it.
    pub(super) fn roster<T>(&self, look: impl FnOnce(&mut Roster) -> T) -> T {
        look(&mut self.lock().roster)
    }

    /// Has that list change; the topics that it gives are those of which sessions missed changes.
    pub(super) fn revise_roster(&self, change: impl FnOnce(&mut Roster) -> Vec<Topic>) {
        let mut routes = self.lock();
        let missed = change(&mut routes.roster);
        if let Some(loss) = routes.loss_of(missed) {
            routes.inboxes().for_each(|inbox| inbox.put([Item::Broken(loss.clone())]));
        }
        self.knows.notify_waiters();
    }

    /// Has every worker hear what a node says of itself, whether a session wants it or not: so each knows at every
    /// moment how much of it was delivered.
    pub(super) fn say(&self, node: &str, event: Arc<Event>, now: Instant) {
        let routes = self.lock();
        let number = lock(&self.past).add(node, event.clone(), now);
        let delivery = Arc::new(Delivery::new(event));
        for inbox in routes.inboxes() {
            inbox.put([Item::Said { number, delivery: delivery.clone() }]);
        }
    }

    /// What nodes said of themselves between two numbers: at most the newest so many of each.
    pub(super) fn said(&self, after: u64, upto: u64, count: usize) -> Vec<Arc<Event>> {
        lock(&self.past).between(after, upto, count)
    }

    /// Places a heartbeat in the worker's queue.
    pub(super) fn beat(&self, worker: WorkerId) {
        self.lock().put(worker, |position| Item::Beat { position });
    }

    /// How much waits in the longest inbox.
    pub(super) fn longest_inbox(&self) -> usize {
        self.lock().inboxes().map(Inbox::len).max().unwrap_or(0)
    }

    /// The newest place that was routed.
    pub(super) fn head(&self) -> Cursor {
        self.lock().head
    }

    async fn census(&self) -> Census {
        let (asked, mut answers) = unbounded_channel();
        self.lock().inboxes().for_each(|inbox| inbox.put([Item::Census(asked.clone())]));
        drop(asked);
        let mut census = Census::default();
        while let Some(answer) = answers.recv().await {
            census = census.and(answer);
        }
        census
    }
}

impl Routes {
    fn put(&self, worker: WorkerId, item: impl FnOnce(Cursor) -> Item) {
        if let Some(Mail { inbox, .. }) = self.inboxes.get(&worker) {
            inbox.put([item(self.head)]);
        }
    }

    fn inboxes(&self) -> impl Iterator<Item = &Inbox> {
        self.inboxes.values().map(|mail| &*mail.inbox)
    }

    /// Gathers an event for the workers that want it.
    fn gather(&mut self, event: Arc<Event>, now: Instant, traces: &Traces) {
        let Self { topics, inboxes, .. } = self;
        let mut shared = None;
        let delivery = || {
            let onward = traces.follow(&event, now);
            Arc::new(Delivery::at(event.clone(), now, onward))
        };
        topics.each_subscriber(&event.topic, |worker| {
            let delivery = shared.get_or_insert_with(delivery).clone();
            if let Some(mail) = inboxes.get_mut(&worker) {
                mail.gathered.push(Item::Event(delivery));
            }
        });
    }

    /// That changes of who is in some topics were missed; these are known by where it is told.
    fn loss_of(&self, rooms: Vec<Topic>) -> Option<Loss> {
        let lost = |topic| LostTopic { topic, is_superseded: false };
        let topics: Vec<_> = rooms.into_iter().map(lost).collect();
        let (since, position) = (self.head, self.head);
        (!topics.is_empty()).then(|| Loss { since, position, topics: Some(topics.into()) })
    }
}

impl Feed for Router {
    fn committed(&self, events: Vec<Arc<Event>>) {
        let mut routes = self.lock();
        let now = Instant::now();
        for mut event in events {
            routes.head = event.cursor.unwrap_or(routes.head);
            if event.topic.is_presence() {
                match routes.roster.fold(&event) {
                    Folded::AsItIs => {}
                    Folded::As(more) => event = more,
                    Folded::Known => continue,
                    Folded::Missing => {
                        self.asks.notify_one();
                        let loss = routes.loss_of(vec![event.topic.clone()]);
                        for (mail, loss) in routes.inboxes.values_mut().zip(loss.iter().cycle()) {
                            mail.gathered.push(Item::Broken(loss.clone()));
                        }
                    }
                }
            }
            routes.gather(event, now, &self.traces);
        }
        routes.inboxes.values_mut().for_each(Mail::deliver);
    }

    fn skip(&self, topic: &Topic, position: Option<Cursor>) -> bool {
        let mut routes = self.lock();
        let is_unwanted = !routes.topics.is_wanted(topic);
        if is_unwanted && let Some(position) = position {
            routes.head = position;
        }
        is_unwanted
    }

    fn broken(&self, loss: Loss) {
        let mut routes = self.lock();
        routes.head = loss.position;
        for inbox in routes.inboxes() {
            inbox.put([Item::Broken(loss.clone())]);
        }
    }

    fn is_full(&self) -> bool {
        self.fullness.is_full()
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        let most_have_it = async {
            while !self.census().await.most_have_room() {
                sleep(ROOM_STEP).await;
            }
        };
        // Who takes nothing must not hold the others up.
        Box::pin(timeout(ROOM, most_have_it).map(|_| ()))
    }
}
