//! The broker actor of one worker thread.
//!
//! A shell around the [`Worker`]: it takes what waits in its inbox, keeps the time for it, and lets it answer
//! what other threads ask. Sessions live on the same thread and call the worker themselves.

mod requests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix::prelude::*;

pub(super) use self::requests::{Asked, Drain, Examine, Leave, RecheckRights, Tell, WorkerAddress};
use super::inbox::{Inbox, InboxStream, Item};
use super::outlook::Outlook;
use super::router::Router;
use super::seat::{Runner, Wake, WorkerHandle};
use super::subscriber::Subscriber;
use super::worker::Worker;
use super::{Observer, SessionKey, Timing};
use crate::clock::{Instant, Pulse, Rounds, TICK};
use crate::metrics::Metrics;
use crate::model::Close;

/// How often a drain ends a share of the sessions.
const DRAIN_STEP: Duration = Duration::from_millis(50);

/// The broker actor of one worker thread.
pub struct Fanout<S: Subscriber> {
    worker: WorkerHandle<S>,
    router: Arc<Router>,
    inbox: Arc<Inbox>,
    /// Looks at the clock when the next session has to.
    timer: Option<(Instant, SpawnHandle)>,
}

impl<S: Subscriber> Fanout<S> {
    /// Starts the actor on the current thread.
    pub(super) fn start(
        router: Arc<Router>,
        observer: Arc<dyn Observer>,
        metrics: Arc<Metrics>,
        outlook: Arc<Outlook>,
        timing: Timing,
        run: Runner<S>,
    ) -> (WorkerHandle<S>, Addr<Self>) {
        let (id, inbox) = router.enter();
        let worker = Worker::new(id, router.clone(), observer, metrics, outlook, timing);
        let ctx = Context::new();
        let handle = WorkerHandle::new(worker, ctx.address().recipient(), run);
        let fanout = Self { worker: handle.clone(), router, inbox, timer: None };
        (handle, ctx.run(fanout))
    }

    /// Looks at the sessions whose heartbeat is due, and does so again and again.
    fn tick_later(&mut self, pulse: Pulse, mut rounds: Rounds, ctx: &mut Context<Self>) {
        pulse.beat();
        let due = Instant::now() + TICK;
        ctx.run_later(TICK, move |fanout, ctx| {
            if rounds.may_judge(due) {
                let id = fanout.worker.call(|worker| worker.id());
                fanout.router.beat(id);
            }
            fanout.tick_later(pulse, rounds, ctx);
        });
    }

    /// Has what was delivered written, now or in the next round.
    fn flush(&mut self, now: Instant, ctx: &mut Context<Self>) {
        let (waiting, next) =
            self.worker.call(|worker| (worker.flush.take(), worker.flush.wait(now)));
        self.write_in_turns(waiting, ctx);
        if let Some(time) = next {
            ctx.run_later(time, |fanout, ctx| {
                let now = fanout.worker.call(|worker| {
                    let now = worker.now();
                    worker.flush.awaited();
                    worker.flush.begin(now);
                    now
                });
                fanout.flush(now, ctx);
            });
        }
    }

    /// Has sessions write, a few at a time, so that whatever else this thread has to do comes in
    /// between.
    fn write_in_turns(&mut self, mut waiting: VecDeque<SessionKey>, ctx: &mut Context<Self>) {
        self.worker.call(|worker| worker.write_turn(&mut waiting));
        if !waiting.is_empty() {
            let others = tokio::task::yield_now().into_actor(self);
            ctx.spawn(others.map(|(), fanout, ctx| fanout.write_in_turns(waiting, ctx)));
        }
    }

    /// Looks at the clock when the first session has to: one timer, however many there are.
    fn watch(&mut self, ctx: &mut Context<Self>) {
        let next = self.worker.call(|worker| worker.next_alarm());
        self.worker.look_at(next);
        let Some(next) = next else { return };
        match self.timer {
            Some((at, _)) if at <= next => return,
            Some((_, timer)) => _ = ctx.cancel_future(timer),
            None => {}
        }
        let left = next.saturating_duration_since(Instant::now());
        let timer = ctx.run_later(left, |fanout, ctx| {
            fanout.timer = None;
            let now = fanout.worker.call(|worker| {
                let now = worker.now();
                worker.pass_deadlines(now);
                worker.pass_goaways(now);
                worker.pass_alarms(now);
                now
            });
            fanout.flush(now, ctx);
            fanout.watch(ctx);
        });
        self.timer = Some((next, timer));
    }
}

impl<S: Subscriber> Actor for Fanout<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.add_stream(InboxStream::new(self.inbox.clone()));
        self.tick_later(Pulse::begin(), Rounds::default(), ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.router.leave(self.worker.call(|worker| worker.id()));
    }
}

impl<S: Subscriber> Drop for Fanout<S> {
    fn drop(&mut self) {
        // The process is about to end, and nobody else could tell these sessions.
        if thread::panicking() {
            actix::spawn(end_evenly(self.worker.clone(), Duration::ZERO));
        }
    }
}

impl<S: Subscriber> StreamHandler<Vec<Item>> for Fanout<S> {
    fn handle(&mut self, items: Vec<Item>, ctx: &mut Self::Context) {
        let now = self.worker.call(|worker| worker.handle(items));
        self.flush(now, ctx);
    }
}

impl<S: Subscriber> Handler<Wake> for Fanout<S> {
    type Result = ();

    fn handle(&mut self, wake: Wake, ctx: &mut Self::Context) {
        match wake {
            Wake::Earlier => self.watch(ctx),
            Wake::More(session) => {
                let now = self.worker.call(|worker| {
                    let now = worker.now();
                    worker.flush.begin(now);
                    worker.add_to_flush(session);
                    now
                });
                self.flush(now, ctx);
            }
        }
    }
}

/// Ends every session of a worker, evenly over some time.
async fn end_evenly<S: Subscriber>(worker: WorkerHandle<S>, over: Duration) {
    let mut waiting = worker.call(|worker| worker.everyone());
    let steps = (over.as_millis() / DRAIN_STEP.as_millis()).max(1);
    let share = waiting.len().div_ceil(steps as usize);
    while !waiting.is_empty() {
        for session in waiting.drain(..share.min(waiting.len())) {
            worker.end(session, Close::Restart);
        }
        tokio::time::sleep(DRAIN_STEP).await;
    }
}
