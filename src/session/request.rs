//! What a client asks, and what is done about it.

use std::rc::Rc;

use futures_util::future::LocalBoxFuture;

use super::application::application;
use super::house::House;
use super::receiver::{Becoming, Receiver};
use super::runner::subscribe_when_there;
use super::wish::Wish;
use crate::broker::{SessionKey, WorkerHandle};
use crate::history::{Append, IdempotencyKey, Receipt};
use crate::metrics::Way;
use crate::model::{Code, NewEvent, Problem, PublishKey, Topic};
use crate::protocol::{Op, Reply, Request, Subscribe, Token};

/// Who asks for the client of a session.
#[derive(Clone)]
pub struct Requester {
    /// Which session.
    pub key: SessionKey,
    /// Its worker.
    pub worker: WorkerHandle<Receiver>,
    /// What its thread has in common.
    pub house: Rc<House>,
}

/// What is left to wait for.
type Waiting = LocalBoxFuture<'static, ()>;

impl Requester {
    /// Does what is asked, as far as that needs no waiting.
    pub fn act(&self, Request { reference, op }: Request) -> Option<Waiting> {
        match op {
            Op::Ping => self.reply(&Reply::Pong { reference }),
            Op::Auth { token } => return Some(Box::pin(self.clone().identify(reference, token.0))),
            Op::Subscribe(subscribe) if subscribe.proof.is_some() => {
                return Some(Box::pin(self.clone().prove(reference, subscribe)));
            }
            Op::Subscribe(subscribe) => {
                let wish = Wish::new(reference, subscribe);
                let subscribing = subscribe_when_there(&self.worker, self.key, wish)?;
                return Some(Box::pin(subscribing));
            }
            Op::Unsubscribe { patterns } => {
                self.worker.unsubscribe(self.key, &patterns);
                self.reply(&Reply::done(reference));
            }
            Op::Publish { event, key } => return self.publish(reference, event, key),
        }
        None
    }

    /// Finds out whose a token is, which may take a look at published keys.
    async fn identify(self, reference: Option<u64>, token: String) {
        match self.house.auth.identify(Some(&token)).await {
            Ok(caller) => {
                let credential = application(&caller, Some(&token));
                let becoming = Becoming { reference, caller, credential, is_commanded: false };
                self.worker.identify(self.key, becoming);
            }
            Err(problem) => self.refuse(reference, &problem),
        }
    }

    /// Adds what a token grants to the rights of the session, and subscribes it.
    async fn prove(self, reference: Option<u64>, mut subscribe: Subscribe) {
        let Some(Token(token)) = subscribe.proof.take() else { return };
        let proven = match self.house.auth.identify(Some(&token)).await {
            Ok(caller) => self.with(|receiver| receiver.prove(caller, &subscribe)),
            Err(problem) => Some(Err(problem)),
        };
        match proven {
            Some(Ok(())) => {
                let wish = Wish::new(reference, subscribe);
                if let Some(waiting) = subscribe_when_there(&self.worker, self.key, wish) {
                    waiting.await;
                }
            }
            Some(Err(problem)) => self.refuse(reference, &problem),
            None => {}
        }
    }

    fn publish(
        &self,
        reference: Option<u64>,
        mut event: NewEvent,
        name: Option<PublishKey>,
    ) -> Option<Waiting> {
        if !self.worker.recheck_rights(self.key) {
            return None;
        }
        let taken = self.with(|receiver| {
            receiver.access().require_publish(&event.topic)?;
            // As it was given: who sent it is no part of what is repeated.
            let named = name.map(|name| receiver.key_of(&name, &event));
            receiver.sign(&mut event)?;
            receiver.access().require_rate(1)?;
            Ok(named)
        });
        match taken? {
            Ok(named) => Some(Box::pin(self.clone().store(reference, event, named))),
            Err(problem) => {
                self.refuse(reference, &problem);
                None
            }
        }
    }

    /// Has an event stored that its session may say.
    async fn store(self, reference: Option<u64>, event: NewEvent, key: Option<IdempotencyKey>) {
        let topic = event.topic.clone();
        // What was true before the wait may not be true now.
        let allowed = |_: &Append| match self.worker.recheck_rights(self.key) {
            true => self.with(|receiver| receiver.access().require_publish(&topic)),
            false => None,
        };
        let gone = || Problem::new(Code::Unauthorized, "the session has ended");
        let append = Append { events: vec![event], key };
        let allowed = |append: &Append| allowed(append).unwrap_or_else(|| Err(gone()));
        let may_read = |topic: &Topic| {
            self.worker.recheck_rights(self.key)
                && self.with(|receiver| receiver.access().may_subscribe(topic)) == Some(true)
        };
        let published =
            self.house.broker.publish_for(append, Way::WebSocket, allowed, may_read).await;
        self.with(|receiver| match published {
            Ok(receipt) => receiver.published(&acknowledged(reference, &receipt)),
            Err(problem) => receiver.refuse(reference, &problem),
        });
    }

    /// Lets `ask` have the receiving end, if it is there.
    pub fn with<R>(&self, ask: impl FnOnce(&mut Receiver) -> R) -> Option<R> {
        self.worker.with(self.key, ask)
    }

    fn reply(&self, reply: &Reply<'_>) {
        self.with(|receiver| receiver.reply(reply));
    }

    /// Says that a request is refused.
    pub fn refuse(&self, reference: Option<u64>, problem: &Problem) {
        self.with(|receiver| receiver.refuse(reference, problem));
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
