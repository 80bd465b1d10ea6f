//! What other threads ask of a worker: about its sessions, or of all of them.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::super::exam::Examined;
use super::super::subscriber::Subscriber;
use super::super::{Answer, Question};
use super::{Fanout, end_evenly};
use crate::model::Trouble;

/// What another thread asks about the sessions of this one.
#[derive(Message, Clone)]
#[rtype(result = "Answer")]
pub(in super::super) struct Asked(pub(in super::super) Arc<Question>);

impl<S: Subscriber> Handler<Asked> for Fanout<S> {
    type Result = MessageResult<Asked>;

    fn handle(&mut self, Asked(question): Asked, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.worker.call(|worker| worker.answer(&question)))
    }
}

/// Tells every session of this worker that rights may be others now.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(in super::super) struct RecheckRights;

impl<S: Subscriber> Handler<RecheckRights> for Fanout<S> {
    type Result = ();

    fn handle(&mut self, RecheckRights: RecheckRights, _: &mut Self::Context) {
        self.worker.call(|worker| worker.recheck_all_rights());
    }
}

/// Tells every session of this worker how the log is.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(in super::super) struct Tell(pub(in super::super) Trouble);

impl<S: Subscriber> Handler<Tell> for Fanout<S> {
    type Result = ();

    fn handle(&mut self, Tell(trouble): Tell, _: &mut Self::Context) {
        self.worker.call(|worker| worker.tell_trouble(trouble));
    }
}

/// Asks how the sessions of this worker keep up.
#[derive(Message, Clone)]
#[rtype(result = "Examined")]
pub(in super::super) struct Examine;

impl<S: Subscriber> Handler<Examine> for Fanout<S> {
    type Result = MessageResult<Examine>;

    fn handle(&mut self, Examine: Examine, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.worker.call(|worker| worker.examine()))
    }
}

/// Tells every session of this worker to go elsewhere, evenly over the time there is.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(in super::super) struct Leave;

impl<S: Subscriber> Handler<Leave> for Fanout<S> {
    type Result = ();

    fn handle(&mut self, Leave: Leave, _: &mut Self::Context) {
        self.worker.call(|worker| worker.begin_goaways());
    }
}

/// Ends every session of this worker, evenly over some time.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub(in super::super) struct Drain {
    pub(in super::super) over: Duration,
}

impl<S: Subscriber> Handler<Drain> for Fanout<S> {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, drain: Drain, _: &mut Self::Context) -> Self::Result {
        Box::pin(end_evenly(self.worker.clone(), drain.over).into_actor(self))
    }
}

/// The broker actor of one worker thread, as other threads see it.
#[derive(Clone)]
pub(in super::super) struct WorkerAddress {
    pub(in super::super) asked: Recipient<Asked>,
    pub(in super::super) recheck_rights: Recipient<RecheckRights>,
    pub(in super::super) tell: Recipient<Tell>,
    pub(in super::super) leave: Recipient<Leave>,
    pub(in super::super) drain: Recipient<Drain>,
    pub(in super::super) examine: Recipient<Examine>,
}

impl WorkerAddress {
    pub(in super::super) fn of<S: Subscriber>(fanout: &Addr<Fanout<S>>) -> Self {
        Self {
            asked: fanout.clone().recipient(),
            recheck_rights: fanout.clone().recipient(),
            tell: fanout.clone().recipient(),
            leave: fanout.clone().recipient(),
            drain: fanout.clone().recipient(),
            examine: fanout.clone().recipient(),
        }
    }
}
