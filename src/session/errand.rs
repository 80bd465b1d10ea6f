//! What is left to do once a call to the worker has returned.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::catchups::{Progress, Running};
use super::receiver::Receiver;
use super::replay::Replay;
use super::tally::tally;
use super::values::Values;
use super::wish::Wish;
use crate::broker::{BarrierId, BrokerHandle, SessionKey, Subscriber, WorkerHandle};
use crate::history::Moment;
use crate::model::{Close, Code, Cursor, Pattern, Problem, Start, Topic};
use crate::panics::contained;
use crate::protocol::{Opening, Subscribe};

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
    pub barrier: BarrierId,
    /// The number the client gave it.
    pub reference: Option<u64>,
    /// What is subscribed to.
    pub patterns: Arc<[Pattern]>,
    /// What is wanted where there is no usable `since`.
    pub first: First,
    /// The place up to which the client has everything.
    pub since: Option<Cursor>,
    /// Whether it misses events up to there all the same, which is a gap.
    pub is_short: bool,
    /// Whether the newest event of each topic is enough.
    pub is_conflated: bool,
    /// What the session says of how far to read.
    pub progress: UnboundedReceiver<Progress>,
}

/// What is sent first where there is no place to go on from.
#[derive(Debug, Clone)]
pub enum First {
    /// All that is kept.
    Nothing,
    /// The newest events of each topic.
    Values(Values),
    /// So many of the newest events of all topics together.
    Tail(usize),
}

impl First {
    /// What a subscribe to these patterns asks for.
    pub fn of(opening: Opening, patterns: &Arc<[Pattern]>) -> Self {
        match (opening, opening.of_each()) {
            (_, Some(count)) => Self::Values(Values::each(patterns.clone(), count)),
            (Opening::Tail(count), None) => Self::Tail(count),
            (_, None) => Self::Nothing,
        }
    }
}

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
                let wish = Wish::new(Some(AT_CONNECT), *subscribe);
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
