//! What is left to do once a call to the worker has returned.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::catchups::{Progress, Running};
use super::receiver::{Receiver, Wish};
use super::replay::Replay;
use crate::broker::{MarkId, SessionKey, WorkerHandle};
use crate::model::{Close, Cursor, Pattern};
use crate::panics::contained;
use crate::protocol::Subscribe;

/// The number of what a client subscribed to at connect.
pub const AT_CONNECT: u64 = 0;

/// What is to be done once a call has returned.
pub enum Errand {
    /// Read a history.
    Read(Reading),
    /// Subscribe to what was asked for at connect.
    Subscribe(Box<Subscribe>),
}

/// What is to be read for a subscribe.
pub struct Reading {
    /// Which of its subscribes.
    pub mark: MarkId,
    /// The number the client gave it.
    pub reference: Option<u64>,
    /// What is subscribed to.
    pub patterns: Arc<[Pattern]>,
    /// Of that, what current values are wanted of.
    pub snapshots: Arc<[Pattern]>,
    /// The place up to which the client has everything.
    pub since: Option<Cursor>,
    /// Whether current values are wanted where there is no usable `since`.
    pub snapshot: bool,
    /// Whether the newest event of each topic is enough.
    pub is_conflated: bool,
    /// What the session says of how far to read.
    pub progress: UnboundedReceiver<Progress>,
}

impl Errand {
    /// Does it, or has it done by a task that the session owns.
    pub fn run(self, worker: &WorkerHandle<Receiver>, session: SessionKey) {
        match self {
            Errand::Read(reading) => {
                let mark = reading.mark;
                let parts = worker.with(session, |receiver| {
                    (receiver.broker().clone(), receiver.outgoing().clone())
                });
                let Some((broker, outgoing)) = parts else { return };
                let replay = Replay { outgoing, broker, worker: worker.clone(), session, reading };
                let reading = alone(worker.clone(), session, replay.run());
                let task = Running(actix::spawn(reading).abort_handle());
                worker.with(session, |receiver| receiver.read_by(mark, task));
            }
            Errand::Subscribe(subscribe) => {
                let wish = Wish { reference: Some(AT_CONNECT), subscribe: *subscribe };
                if let Some(subscribing) = subscribe_when_there(worker, session, wish) {
                    let subscribing = alone(worker.clone(), session, subscribing);
                    let task = Running(actix::spawn(subscribing).abort_handle());
                    worker.with(session, |receiver| receiver.wait_in(task));
                }
            }
        }
    }
}

/// Does something for a session alone: if it panics, the session ends, for it is not what its client takes it
/// for any more, and its client comes back with its cursor.
pub async fn alone(
    worker: WorkerHandle<Receiver>,
    session: SessionKey,
    work: impl Future<Output = ()>,
) {
    if contained(Box::pin(work)).await.is_none() {
        worker.end(session, Close::Internal);
    }
}

/// Subscribes a session, as soon as this node is where its client is already; what is left to wait for, if
/// there is something. All that was looked at before is looked at again then.
pub fn subscribe_when_there(
    worker: &WorkerHandle<Receiver>,
    session: SessionKey,
    wish: Wish,
) -> Option<impl Future<Output = ()> + use<>> {
    let broker = worker.with(session, |receiver| receiver.broker().clone())?;
    let Some(since) = wish.subscribe.since.filter(|since| !broker.has_reached(*since)) else {
        worker.subscribe(session, wish);
        return None;
    };
    let checked = worker.with(session, |receiver| {
        let checked = receiver.check(&wish.subscribe);
        checked.inspect_err(|problem| receiver.refuse_subscribe(wish.reference, problem)).is_ok()
    });
    let worker = worker.clone();
    checked?.then_some(async move {
        match broker.reach(since).await {
            Ok(()) => worker.subscribe(session, wish),
            Err(problem) => {
                worker.with(session, |receiver| receiver.refuse(wish.reference, &problem));
                worker.end(session, Close::Unavailable);
            }
        }
    })
}
