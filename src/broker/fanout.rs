//! The broker actor of one worker thread.
//!
//! A shell around [`Topics`]: it knows the sessions of its thread, hands them the events of its
//! inbox in order, and answers what others ask about them. Sessions live on the same thread, so a
//! delivery is a push into a queue, without a lock that anyone else wants.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use slab::Slab;
use tracing::debug;

use super::alarms::Alarms;
use super::census::Census;
use super::flush::{Flush, Round};
use super::inbox::{Inbox, InboxStream, Item};
use super::router::{Router, WorkerId};
use super::topics::{Subscribed, Topics};
use super::{MarkId, Observer, SessionInfo, SessionKey, Subscriber, Timing};
use crate::history::{Loss, LostTopic};
use crate::metrics::{Metrics, TransportLabel};
use crate::model::{Bearer, Close, Cursor, Pattern, Revocation, Topic};

/// How often sessions whose heartbeat is due are looked at.
const TICK: Duration = Duration::from_secs(1);

/// How often a drain ends a share of the sessions.
const DRAIN_STEP: Duration = Duration::from_millis(50);

/// How many sessions write in one turn.
const TURN: usize = 64;

/// The broker actor of one worker thread.
pub struct Fanout {
    worker: WorkerId,
    router: Arc<Router>,
    observer: Arc<dyn Observer>,
    inbox: Arc<Inbox>,
    metrics: Arc<Metrics>,
    heartbeat: Duration,
    topics: Topics<SessionKey>,
    sessions: Slab<Entry>,
    flush: Flush,
    alarms: Alarms,
    /// When it is looked at the alarms next.
    timer: Option<(Instant, SpawnHandle)>,
    next_mark: u64,
    ticks: u64,
}

struct Entry {
    info: SessionInfo,
    subscriber: Arc<dyn Subscriber>,
    /// The tick, modulo a heartbeat's ticks, at which its heartbeat is due: the one it came in, so
    /// that heartbeats spread as connections did.
    beat: u64,
    /// When it last wrote.
    wrote: Round,
}

impl Fanout {
    /// Starts the actor on the current thread.
    pub(super) fn start(
        router: Arc<Router>,
        observer: Arc<dyn Observer>,
        metrics: Arc<Metrics>,
        Timing { heartbeat, flush_interval }: Timing,
    ) -> Addr<Self> {
        let inbox = Arc::new(Inbox::default());
        let worker = router.enter(inbox.clone());
        let fanout = Self {
            worker,
            router,
            observer,
            inbox,
            metrics,
            heartbeat,
            topics: Topics::default(),
            sessions: Slab::new(),
            flush: Flush::new(flush_interval),
            alarms: Alarms::default(),
            timer: None,
            next_mark: 0,
            ticks: 0,
        };
        Actor::start(fanout)
    }

    fn deliver(&mut self, delivery: &Arc<super::Delivery>) {
        let mut delivered = 0;
        for session in self.topics.subscribers(&delivery.event.topic) {
            if let Some(entry) = self.sessions.get(session.0) {
                if entry.subscriber.deliver(delivery) {
                    self.flush.add(session, entry.wrote);
                }
                delivered += 1;
            }
        }
        self.metrics.events_delivered.inc_by(delivered);
    }

    /// Tells of a loss to those who want one of its topics, or to everybody where these are unknown.
    fn broken(&mut self, loss: &Loss) {
        let mark = self.new_mark();
        let concerned = loss.topics.as_ref().map(|topics| {
            let mut concerned = HashSet::new();
            for LostTopic { topic, is_superseded } in topics.iter() {
                concerned.extend(self.topics.subscribers(topic).filter(|session| {
                    let entry = self.sessions.get(session.0);
                    entry.is_some_and(|it| !is_superseded || it.subscriber.wants_each(topic))
                }));
            }
            concerned
        });
        for (session, entry) in &self.sessions {
            if concerned.as_ref().is_none_or(|them| them.contains(&SessionKey(session))) {
                entry.subscriber.broken(loss.since, loss.place, mark);
            }
        }
    }

    /// Has what was delivered written, now or in the next round.
    fn flush(&mut self, now: Instant, ctx: &mut Context<Self>) {
        let sessions = self.flush.take();
        self.write_in_turns(sessions, ctx);
        if let Some(time) = self.flush.wait(now) {
            ctx.run_later(time, |fanout, ctx| {
                let now = Instant::now();
                fanout.flush.awaited();
                fanout.flush.begin(now);
                fanout.flush(now, ctx);
            });
        }
    }

    /// Has sessions write, a few at a time, so that whatever else this thread has to do comes in
    /// between.
    fn write_in_turns(&mut self, mut sessions: VecDeque<SessionKey>, ctx: &mut Context<Self>) {
        let round = self.flush.round();
        for session in sessions.drain(..TURN.min(sessions.len())) {
            if let Some(entry) = self.sessions.get_mut(session.0) {
                entry.wrote = round;
                let more_at = entry.subscriber.flush();
                if more_at.is_some() {
                    self.alarms.set(session, more_at);
                }
            }
        }
        self.watch_alarms(ctx);
        if !sessions.is_empty() {
            let others = tokio::task::yield_now().into_actor(self);
            ctx.spawn(others.map(|(), fanout, ctx| fanout.write_in_turns(sessions, ctx)));
        }
    }

    /// Looks at the alarms when the first one is due: one timer, however many there are.
    fn watch_alarms(&mut self, ctx: &mut Context<Self>) {
        let Some(next) = self.alarms.next() else { return };
        match self.timer {
            Some((at, _)) if at <= next => return,
            Some((_, timer)) => _ = ctx.cancel_future(timer),
            None => {}
        }
        let timer = ctx.run_later(next.saturating_duration_since(Instant::now()), |fanout, ctx| {
            fanout.timer = None;
            let now = Instant::now();
            fanout.flush.begin(now);
            for session in fanout.alarms.take(now) {
                fanout.add_to_flush(session);
            }
            fanout.flush(now, ctx);
            fanout.watch_alarms(ctx);
        });
        self.timer = Some((next, timer));
    }

    fn add_to_flush(&mut self, session: SessionKey) {
        if let Some(entry) = self.sessions.get(session.0) {
            self.flush.add(session, entry.wrote);
        }
    }

    fn beat(&mut self, position: Cursor) {
        let due = self.ticks % self.heartbeat.as_secs().max(1);
        for (_, entry) in self.sessions.iter().filter(|(_, entry)| entry.beat == due) {
            entry.subscriber.beat(position);
        }
        self.ticks += 1;
    }

    fn census(&self) -> Census {
        let without = self.sessions.iter().filter(|(_, entry)| !entry.subscriber.has_room());
        Census { sessions: self.sessions.len(), without_room: without.count() }
    }

    fn new_mark(&mut self) -> MarkId {
        self.next_mark += 1;
        MarkId(self.next_mark)
    }
}

impl Actor for Fanout {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.add_stream(InboxStream::new(self.inbox.clone()));
        ctx.run_interval(TICK, |fanout, _| fanout.router.beat(fanout.worker));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.router.leave(self.worker);
    }
}

impl StreamHandler<Vec<Item>> for Fanout {
    fn handle(&mut self, items: Vec<Item>, ctx: &mut Self::Context) {
        let now = Instant::now();
        self.flush.begin(now);
        for item in items {
            match item {
                Item::Event(delivery) => self.deliver(&delivery),
                Item::Beat { position } => self.beat(position),
                // Nobody waits for it any more where it can't be sent.
                Item::Census(asked) => _ = asked.send(self.census()),
                Item::Broken(loss) => self.broken(&loss),
                Item::Mark { session, mark, position } => {
                    if let Some(entry) = self.sessions.get(session.0) {
                        entry.subscriber.marked(mark, position);
                    }
                }
            }
        }
        self.flush(now, ctx);
    }
}

/// Adds a session to this worker.
#[derive(Message)]
#[rtype(result = "SessionKey")]
pub(super) struct Enter {
    pub(super) info: SessionInfo,
    pub(super) subscriber: Arc<dyn Subscriber>,
}

impl Handler<Enter> for Fanout {
    type Result = MessageResult<Enter>;

    fn handle(&mut self, enter: Enter, _: &mut Self::Context) -> Self::Result {
        let label = TransportLabel { transport: enter.info.transport.name() };
        self.metrics.sessions.get_or_create(&label).inc();
        debug!(session = %enter.info.id, "session entered");
        self.observer.session(&enter.info, true);
        let beat = self.ticks % self.heartbeat.as_secs().max(1);
        let entry =
            Entry { info: enter.info, subscriber: enter.subscriber, beat, wrote: Round::default() };
        MessageResult(SessionKey(self.sessions.insert(entry)))
    }
}

/// Subscribes a session to patterns; a mark follows where that begins.
#[derive(Message)]
#[rtype(result = "MarkId")]
pub(super) struct Join {
    pub(super) session: SessionKey,
    pub(super) patterns: Vec<Pattern>,
}

impl Handler<Join> for Fanout {
    type Result = MessageResult<Join>;

    fn handle(&mut self, join: Join, _: &mut Self::Context) -> Self::Result {
        let mark = self.new_mark();
        let mut wanted = Vec::new();
        let entry = self.sessions.get(join.session.0);
        for pattern in join.patterns {
            let subscribed = self.topics.subscribe(join.session, pattern.clone());
            if subscribed == Subscribed::Already {
                continue;
            }
            self.metrics.subscriptions.inc();
            if let Some(entry) = entry {
                self.observer.member(&pattern, &entry.info, true);
            }
            if subscribed == Subscribed::First {
                wanted.push(pattern);
            }
        }
        if let Some(entry) = entry {
            entry.subscriber.joined(mark);
        }
        self.router.want(self.worker, &wanted, join.session, mark);
        MessageResult(mark)
    }
}

/// Asks for a mark behind all that waits now.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Mark {
    pub(super) session: SessionKey,
    pub(super) mark: MarkId,
}

impl Handler<Mark> for Fanout {
    type Result = ();

    fn handle(&mut self, mark: Mark, _: &mut Self::Context) {
        self.router.want(self.worker, &[], mark.session, mark.mark);
    }
}

/// Unsubscribes a session from patterns.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Part {
    pub(super) session: SessionKey,
    pub(super) patterns: Vec<Pattern>,
}

impl Handler<Part> for Fanout {
    type Result = ();

    fn handle(&mut self, part: Part, _: &mut Self::Context) {
        let (session, topics) = (part.session, &mut self.topics);
        let entry = self.sessions.get(session.0);
        let mut unwanted = Vec::new();
        for pattern in part.patterns {
            if !topics.patterns(session).any(|subscribed| *subscribed == pattern) {
                continue;
            }
            self.metrics.subscriptions.dec();
            if let Some(entry) = entry {
                self.observer.member(&pattern, &entry.info, false);
            }
            if topics.unsubscribe(session, &pattern) {
                unwanted.push(pattern);
            }
        }
        self.router.unwant(self.worker, &unwanted);
    }
}

/// Has a session flushed.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct More(pub(super) SessionKey);

impl Handler<More> for Fanout {
    type Result = ();

    fn handle(&mut self, More(session): More, ctx: &mut Self::Context) {
        let now = Instant::now();
        self.flush.begin(now);
        self.add_to_flush(session);
        self.flush(now, ctx);
    }
}

/// Removes a session.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Leave(pub(super) SessionKey);

impl Handler<Leave> for Fanout {
    type Result = ();

    fn handle(&mut self, Leave(session): Leave, _: &mut Self::Context) {
        let patterns = self.topics.patterns(session).count();
        self.metrics.subscriptions.dec_by(patterns as i64);
        if let Some(entry) = self.sessions.get(session.0) {
            for pattern in self.topics.patterns(session) {
                self.observer.member(pattern, &entry.info, false);
            }
        }
        self.alarms.set(session, None);
        let unwanted = self.topics.leave(session);
        self.router.unwant(self.worker, &unwanted);
        if let Some(entry) = self.sessions.try_remove(session.0) {
            self.observer.session(&entry.info, false);
            let label = TransportLabel { transport: entry.info.transport.name() };
            self.metrics.sessions.get_or_create(&label).dec();
            debug!(session = %entry.info.id, "session left");
        }
    }
}

/// Changes who a session belongs to.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Identify {
    pub(super) session: SessionKey,
    pub(super) bearer: Bearer,
}

impl Handler<Identify> for Fanout {
    type Result = ();

    fn handle(&mut self, identify: Identify, _: &mut Self::Context) {
        if let Some(entry) = self.sessions.get_mut(identify.session.0) {
            entry.info.bearer = Some(Box::new(identify.bearer));
        }
    }
}

/// Asks for the sessions of this worker.
#[derive(Message, Clone)]
#[rtype(result = "Vec<super::SessionView>")]
pub(super) struct Sessions {
    pub(super) user: Option<String>,
}

impl Handler<Sessions> for Fanout {
    type Result = MessageResult<Sessions>;

    fn handle(&mut self, asked: Sessions, _: &mut Self::Context) -> Self::Result {
        let wanted =
            |entry: &Entry| asked.user.is_none() || entry.info.user() == asked.user.as_deref();
        let views = self.sessions.iter().filter(|(_, entry)| wanted(entry)).map(|(key, entry)| {
            let mut subscriptions: Vec<_> =
                self.topics.patterns(SessionKey(key)).cloned().collect();
            subscriptions.sort_unstable();
            super::SessionView {
                info: entry.info.clone(),
                subscriptions,
                queued_bytes: entry.subscriber.queued_bytes(),
            }
        });
        MessageResult(views.collect())
    }
}

/// Ends sessions of this worker; returns how many.
#[derive(Message, Clone)]
#[rtype(result = "usize")]
pub(super) enum End {
    /// The one with this id.
    Session(String),
    /// All of this user.
    User(String),
    /// Those that came in with what is accepted no longer.
    Revoked(Revocation),
}

impl Handler<End> for Fanout {
    type Result = usize;

    fn handle(&mut self, end: End, _: &mut Self::Context) -> usize {
        let meant = |info: &SessionInfo| match &end {
            End::Session(id) => info.id == *id,
            End::User(user) => info.user() == Some(user),
            End::Revoked(revocation) => {
                info.bearer.as_ref().is_some_and(|bearer| revocation.covers(bearer))
            }
        };
        let ended = self.sessions.iter().filter(|(_, entry)| meant(&entry.info));
        let close = match &end {
            End::Revoked(_) => Close::Unauthorized,
            End::Session(_) | End::User(_) => Close::Policy,
        };
        ended.map(|(_, entry)| entry.subscriber.end(close)).count()
    }
}

/// Tells every session of this worker that rights may be others now.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(super) struct LookAgain;

impl Handler<LookAgain> for Fanout {
    type Result = ();

    fn handle(&mut self, _: LookAgain, _: &mut Self::Context) {
        self.sessions.iter().for_each(|(_, entry)| entry.subscriber.look_again());
    }
}

/// Asks who is subscribed to a topic.
#[derive(Message, Clone)]
#[rtype(result = "Vec<SessionInfo>")]
pub(super) struct Presence(pub(super) Topic);

impl Handler<Presence> for Fanout {
    type Result = MessageResult<Presence>;

    fn handle(&mut self, Presence(topic): Presence, _: &mut Self::Context) -> Self::Result {
        let sessions = self.topics.subscribers(&topic);
        let infos =
            sessions.filter_map(|key| self.sessions.get(key.0).map(|entry| entry.info.clone()));
        MessageResult(infos.collect())
    }
}

/// Asks how many are subscribed to each of some topics, by name or by pattern.
#[derive(Message, Clone)]
#[rtype(result = "Vec<usize>")]
pub(super) struct Count(pub(super) Arc<[Topic]>);

impl Handler<Count> for Fanout {
    type Result = MessageResult<Count>;

    fn handle(&mut self, Count(topics): Count, _: &mut Self::Context) -> Self::Result {
        MessageResult(topics.iter().map(|topic| self.topics.subscribers(topic).count()).collect())
    }
}

/// Asks for topics that are subscribed to by name, by name.
#[derive(Message, Clone)]
#[rtype(result = "Vec<Topic>")]
pub(super) struct TopicNames {
    pub(super) pattern: Pattern,
    pub(super) after: Option<Topic>,
    pub(super) limit: usize,
}

impl Handler<TopicNames> for Fanout {
    type Result = MessageResult<TopicNames>;

    fn handle(&mut self, asked: TopicNames, _: &mut Self::Context) -> Self::Result {
        let subscribed = self.topics.exact().filter_map(Pattern::as_topic);
        let after = |topic: &Topic| asked.after.as_ref().is_none_or(|after| topic > after);
        let matching = subscribed.filter(|topic| asked.pattern.matches(topic) && after(topic));
        let mut topics: Vec<_> = matching.collect();
        topics.sort_unstable();
        topics.truncate(asked.limit);
        MessageResult(topics)
    }
}

/// Ends every session of this worker, evenly over some time.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(super) struct Drain {
    pub(super) over: Duration,
}

impl Handler<Drain> for Fanout {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, drain: Drain, _: &mut Self::Context) -> Self::Result {
        let sessions = self.sessions.iter().map(|(_, entry)| entry.subscriber.clone());
        let mut sessions: VecDeque<_> = sessions.collect();
        let steps = (drain.over.as_millis() / DRAIN_STEP.as_millis()).max(1);
        let share = sessions.len().div_ceil(steps as usize);
        let ending = async move {
            while !sessions.is_empty() {
                for session in sessions.drain(..share.min(sessions.len())) {
                    session.end(Close::Restart);
                }
                tokio::time::sleep(DRAIN_STEP).await;
            }
        };
        Box::pin(ending.into_actor(self))
    }
}
