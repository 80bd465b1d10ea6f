//! What a client publishes: each event waits for its place in the history, and the next one not for that.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;

use futures_util::future::{LocalBoxFuture, MaybeDone, maybe_done};
use futures_util::poll;

use super::request::Requester;
use crate::history::{Append, IdempotencyKey, Receipt};
use crate::metrics::Way;
use crate::model::{Code, NewEvent, Problem, PublishKey, Topic};
use crate::protocol::Reply;

/// Publishes of one client, in the order in which it sent them. They come into the history in that order, many of them with
/// one commit, and in that order it is told what became of them.
#[derive(Default)]
pub struct Publishes {
    under_way: Vec<Publish>,
}

/// One of them.
struct Publish {
    reference: Option<u64>,
    outcome: MaybeDone<LocalBoxFuture<'static, Result<Receipt, Problem>>>,
}

impl Publishes {
    /// Begins with one; whatever comes later is stored behind it.
    pub async fn begin(
        &mut self,
        requester: &Requester,
        reference: Option<u64>,
        event: NewEvent,
        name: Option<PublishKey>,
    ) {
        let (event, key) = match requester.may_publish(event, name) {
            Some(Ok(allowed)) => allowed,
            Some(Err(problem)) => {
                let outcome = MaybeDone::Done(Err(problem));
                return self.under_way.push(Publish { reference, outcome });
            }
            None => return,
        };
        let has_place = Rc::new(Cell::new(false));
        let storing = requester.clone().store(event, key, has_place.clone());
        let storing: LocalBoxFuture<'static, _> = Box::pin(storing);
        let mut outcome = maybe_done(storing);
        let is_stored = poll!(&mut outcome).is_ready();
        self.under_way.push(Publish { reference, outcome });
        if !is_stored && !has_place.get() {
            self.finish(requester).await;
        }
    }

    /// Waits for all of them, and tells the client what became of each.
    pub async fn finish(&mut self, requester: &Requester) {
        for Publish { reference, mut outcome } in self.under_way.drain(..) {
            (&mut outcome).await;
            let outcome = Pin::new(&mut outcome).take_output();
            requester.with(|receiver| match outcome {
                Some(Ok(receipt)) => receiver.published(&acknowledged(reference, &receipt)),
                Some(Err(problem)) => receiver.refuse(reference, &problem),
                None => {}
            });
        }
    }
}

impl Requester {
    /// The event as its session may say it, and what a repeat of it is known by; none where the session is over.
    fn may_publish(
        &self,
        mut event: NewEvent,
        name: Option<PublishKey>,
    ) -> Option<Result<(NewEvent, Option<IdempotencyKey>), Problem>> {
        if !self.worker.recheck_rights(self.key) {
            return None;
        }
        self.with(|receiver| {
            receiver.access().require_publish(&event.topic)?;
            // As it was given: who sent it is no part of what is repeated.
            let key = name.map(|name| receiver.key_of(&name, &event));
            receiver.sign(&mut event)?;
            receiver.access().require_rate(1)?;
            Ok((event, key))
        })
    }

    /// Has an event stored that its session may say. Once it is certain that what comes later is stored behind
    /// it, `has_place` is set.
    async fn store(
        self,
        event: NewEvent,
        key: Option<IdempotencyKey>,
        has_place: Rc<Cell<bool>>,
    ) -> Result<Receipt, Problem> {
        let topic = event.topic.clone();
        // What was true before the wait may not be true now.
        let allowed = |_: &Append| {
            // The history gives it a place in the same turn.
            has_place.set(true);
            match self.worker.recheck_rights(self.key) {
                true => self.with(|receiver| receiver.access().require_publish(&topic)),
                false => None,
            }
        };
        let gone = || Problem::new(Code::Unauthorized, "the session has ended");
        let append = Append { events: vec![event], key };
        let allowed = |append: &Append| allowed(append).unwrap_or_else(|| Err(gone()));
        let may_read = |topic: &Topic| {
            self.worker.recheck_rights(self.key)
                && self.with(|receiver| receiver.access().may_subscribe(topic)) == Some(true)
        };
        self.house.broker.publish_for(append, Way::WebSocket, allowed, may_read).await
    }
}

/// What the publisher of one event is told of it.
fn acknowledged(reference: Option<u64>, receipt: &Receipt) -> Reply<'static> {
    let event = receipt.events.first();
    let id = event.and_then(|event| event.cursor);
    let superseded = event.and_then(|event| event.superseded);
    let superseded = superseded.map(|superseded| superseded.version);
    Reply::Ack { reference, id, superseded, repeated: receipt.repeated }
}
