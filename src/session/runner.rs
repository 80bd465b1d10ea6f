//! Doing what calls to the worker have left to do: at once, or by tasks that a session owns.

use super::application::application;
use super::catchups::Running;
use super::errand::Errand;
use super::receiver::{Becoming, Receiver};
use super::replay::Replay;
use super::tally::tally;
use super::wish::Wish;
use crate::broker::{BrokerHandle, SessionKey, Subscriber, WorkerHandle};
use crate::history::Moment;
use crate::model::{Close, Code, Problem, Start, Topic};
use crate::panics::contained;
use crate::protocol::Token;

/// The number of what a client subscribed to at connect.
pub const AT_CONNECT: u64 = 0;

impl Errand {
    /// Does it, or has it done by a task that the session owns.
    pub fn run(self, worker: &WorkerHandle<Receiver>, session: SessionKey) {
        match self {
            Errand::Read(reading) => {
                let barrier = reading.barrier;
                let parts = worker.with(session, |receiver| {
                    (receiver.broker().clone(), receiver.outgoing().clone())
                });
                let Some((broker, outgoing)) = parts else { return };
                let replay = Replay { outgoing, broker, worker: worker.clone(), session, reading };
                let reading = alone(worker.clone(), session, replay.run());
                let task = Running(actix::spawn(reading).abort_handle());
                worker.with(session, |receiver| receiver.read_by(barrier, task));
            }
            Errand::Subscribe(subscribe) => {
                join(worker, session, Wish::new(Some(AT_CONNECT), *subscribe));
            }
            Errand::Join(subscribe) => join(worker, session, Wish::commanded(*subscribe)),
            Errand::Become(token) => become_whom(worker, session, token),
        }
    }
}

fn join(worker: &WorkerHandle<Receiver>, session: SessionKey, wish: Wish) {
    if let Some(subscribing) = subscribe_when_there(worker, session, wish) {
        wait_for(worker, session, subscribing);
    }
}

/// Has a task wait for something that ends with the session.
fn wait_for(
    worker: &WorkerHandle<Receiver>,
    session: SessionKey,
    work: impl Future<Output = ()> + 'static,
) {
    let work = alone(worker.clone(), session, work);
    let task = Running(actix::spawn(work).abort_handle());
    worker.with(session, |receiver| receiver.wait_in(task));
}

/// Has a session become whom a token says, if that is somebody it may be.
fn become_whom(worker: &WorkerHandle<Receiver>, session: SessionKey, Token(token): Token) {
    let Some(house) = worker.with(session, |receiver| receiver.house().clone()) else { return };
    let becoming = worker.clone();
    wait_for(worker, session, async move {
        if let Ok(caller) = house.auth.identify(Some(&token)).await {
            let credential = application(&caller, Some(&token));
            let whom = Becoming { reference: None, caller, credential, is_commanded: true };
            becoming.identify(session, whom);
        }
    });
}

/// Does something for a session alone: if it panics, the session ends, for it is not what its client takes it
/// for any more, and its client comes back with its cursor.
pub async fn alone<T>(
    worker: WorkerHandle<Receiver>,
    session: SessionKey,
    work: impl Future<Output = T>,
) -> Option<T> {
    let done = contained(Box::pin(work)).await;
    if done.is_none() {
        worker.end(session, Close::Internal);
    }
    done
}

/// Subscribes a session, as soon as it is known where that begins, this node is where its client is already, and
/// what is to be sent first is no more than may be; what is left to wait for, if there is something. All that was
/// looked at before is looked at again then.
pub fn subscribe_when_there(
    worker: &WorkerHandle<Receiver>,
    session: SessionKey,
    mut wish: Wish,
) -> Option<impl Future<Output = ()> + use<>> {
    let (broker, most) =
        worker.with(session, |receiver| (receiver.broker().clone(), receiver.last_events()))?;
    if wish.is_ready(&broker, most) {
        worker.subscribe(session, wish);
        return None;
    }
    let checked = worker.with(session, |receiver| {
        let checked = receiver.check(&wish.subscribe);
        checked.inspect_err(|problem| receiver.refuse_subscribe(wish.reference, problem)).is_ok()
    });
    let worker = worker.clone();
    checked?.then_some(async move {
        let Err(problem) = prepare(&worker, session, &broker, &mut wish, most).await else {
            worker.subscribe(session, wish);
            return;
        };
        let reference = wish.reference;
        if problem.code == Code::TooMany {
            worker.with(session, |receiver| receiver.refuse_subscribe(reference, &problem));
        } else {
            worker.with(session, |receiver| receiver.refuse(reference, &problem));
            worker.end(session, Close::Unavailable);
        }
    })
}

/// Finds out where a subscribe begins, waits until this node is there, and counts what is to be sent first.
async fn prepare(
    worker: &WorkerHandle<Receiver>,
    session: SessionKey,
    broker: &BrokerHandle,
    wish: &mut Wish,
    most: usize,
) -> Result<(), Problem> {
    if let Some(Start::Since(since)) = wish.subscribe.since {
        let Moment { position, gap } = broker.history().position_before(since).await?;
        (wish.after, wish.is_short) = (Some(position), gap);
    }
    if let Some(after) = wish.after {
        return broker.wait_for_position(after).await;
    }
    let Some(values) = wish.counted(most) else { return Ok(()) };
    let sees = |topic: &Topic| worker.with(session, |it| it.may_receive(topic)) == Some(true);
    let count = tally(broker.history(), &values, sees).await?;
    if count > most {
        let detail = format!("`last` comes to {count} events, over {most} (limits.last_events)");
        return Err(Problem::new(Code::TooMany, detail));
    }
    Ok(())
}
