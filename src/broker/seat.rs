//! A session's place at its worker, and the way to it for whoever is on the worker's thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;

use super::subscriber::Subscriber;
use super::worker::Worker;
use super::{BarrierId, SessionInfo, SessionKey};
use crate::clock::Instant;
use crate::model::{Close, Ended, Pattern, Trouble};
use crate::panics::vital;

/// The sessions of the current worker thread. Each call has happened when it returns, and what it has set
/// off too.
pub struct WorkerHandle<S: Subscriber>(Rc<Desk<S>>);

/// A worker and the way to the actor around it. Each session has handles to both, which therefore are one pointer.
struct Desk<S: Subscriber> {
    worker: RefCell<Worker<S>>,
    actor: Recipient<Wake>,
    /// When the actor looks at the clock next.
    looks_at: Cell<Option<Instant>>,
    run: Runner<S>,
}

/// Does what a call to a worker has left to do for a session.
pub type Runner<S> = fn(&WorkerHandle<S>, SessionKey, <S as Subscriber>::Errand);

/// What the actor around a worker is woken for.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum Wake {
    /// Something is due earlier than before: look at the clock anew.
    Earlier,
    /// A session has more to send, and is to be flushed.
    More(SessionKey),
}

impl<S: Subscriber> Clone for WorkerHandle<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Subscriber> WorkerHandle<S> {
    pub(super) fn new(worker: Worker<S>, actor: Recipient<Wake>, run: Runner<S>) -> Self {
        let (worker, looks_at) = (RefCell::new(worker), Cell::default());
        Self(Rc::new(Desk { worker, actor, looks_at, run }))
    }

    /// The actor looks at the clock then.
    pub(super) fn look_at(&self, next: Option<Instant>) {
        self.0.looks_at.set(next);
    }

    /// Calls the worker, then does what that has set off.
    pub(super) fn call<R>(&self, call: impl FnOnce(&mut Worker<S>) -> R) -> R {
        // What panics in here leaves all sessions of the thread half done, whoever called.
        let (answer, next_alarm) = vital(|| {
            let mut worker = self.0.worker.borrow_mut();
            (call(&mut worker), worker.next_alarm())
        });
        while let Some((session, errand)) = self.next_errand() {
            (self.0.run)(self, session, errand);
        }
        if next_alarm.is_some_and(|next| self.0.looks_at.get().is_none_or(|at| next < at)) {
            self.look_at(next_alarm);
            self.0.actor.do_send(Wake::Earlier);
        }
        answer
    }

    fn next_errand(&self) -> Option<(SessionKey, S::Errand)> {
        self.0.worker.borrow_mut().next_errand()
    }

    /// Lets a session in; it is gone when its seat is dropped. A reason why it may not be here otherwise.
    pub fn enter(&self, info: SessionInfo, subscriber: S) -> Result<Seat<S>, Close> {
        let subscriber = Box::new(subscriber);
        let session = self.call(|worker| worker.enter(info, subscriber))?;
        Ok(Seat { worker: self.clone(), session })
    }

    /// Lets `ask` have a session as it stands, if it is there. For what concerns neither its patterns nor
    /// its rights.
    pub fn with<R>(&self, session: SessionKey, ask: impl FnOnce(&mut S) -> R) -> Option<R> {
        self.call(|worker| worker.with(session, ask))
    }

    /// What who comes now is to be told of the log.
    pub fn trouble(&self) -> Option<Trouble> {
        self.call(|worker| worker.trouble())
    }

    /// Looks whether a session may still be there, and at its rights; false where it is gone.
    pub fn recheck_rights(&self, session: SessionKey) -> bool {
        self.call(|worker| worker.recheck_rights(session))
    }

    /// Has a session become somebody, unless it is refused, which it is told then.
    pub fn identify(&self, session: SessionKey, caller: S::Caller) {
        self.call(|worker| worker.identify(session, caller));
    }

    /// Subscribes a session, unless it is refused, which it is told then. [`Subscriber::barrier_reached`] hears where
    /// the subscription begins.
    pub fn subscribe(&self, session: SessionKey, subscribe: S::Subscribe) {
        self.call(|worker| worker.subscribe(session, subscribe));
    }

    /// Unsubscribes a session.
    pub fn unsubscribe(&self, session: SessionKey, patterns: &[Pattern]) {
        self.call(|worker| worker.unsubscribe(session, patterns));
    }

    /// Asks for `barrier` once more, behind everything that waits now.
    pub fn set_barrier(&self, session: SessionKey, barrier: BarrierId) {
        self.call(|worker| worker.set_barrier(session, barrier));
    }

    /// Asks who is in the topics of these patterns, at the end of everything that waits now;
    /// [`Subscriber::called`] hears it.
    pub fn call_roll(&self, session: SessionKey, barrier: BarrierId, patterns: Arc<[Pattern]>) {
        self.call(|worker| worker.call_roll(session, barrier, patterns));
    }

    /// How much of what nodes say of themselves was delivered here: the number of the last of it.
    pub fn heard(&self) -> u64 {
        self.call(|worker| worker.heard())
    }

    /// Ends a session: it gets the good-bye and nothing else.
    pub fn end(&self, session: SessionKey, close: Close) {
        self.call(|worker| worker.end(session, close));
    }

    /// Has a session flushed in its turn, for it has more to send and there is room.
    pub fn flush(&self, session: SessionKey) {
        self.0.actor.do_send(Wake::More(session));
    }
}

/// A session's place at its worker. Whoever holds it holds the connection; dropping it undoes all that the
/// session is there, once, wherever that happens.
pub struct Seat<S: Subscriber> {
    worker: WorkerHandle<S>,
    session: SessionKey,
}

impl<S: Subscriber> Seat<S> {
    /// Which session sits there.
    pub fn session(&self) -> SessionKey {
        self.session
    }

    /// Undoes all that the session is there, which ended so, unless that is done already.
    pub fn leave(&self, ended: Ended) {
        self.worker.call(|worker| worker.leave(self.session, ended));
    }

    /// Where it sits.
    pub fn worker(&self) -> &WorkerHandle<S> {
        &self.worker
    }
}

impl<S: Subscriber> Drop for Seat<S> {
    fn drop(&mut self) {
        // Nothing is left to do where somebody has said how it ended.
        self.leave(Ended::Gone);
    }
}
