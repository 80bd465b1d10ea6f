//! What a client asks, and what is done about it.

use std::rc::Rc;

use super::application::application;
use super::house::House;
use super::publishes::Publishes;
use super::receiver::{Becoming, Receiver};
use super::runner::subscribe_when_there;
use super::wish::Wish;
use crate::broker::{SessionKey, WorkerHandle};
use crate::model::Problem;
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

impl Requester {
    /// Does what is asked, behind what was asked before.
    pub async fn act(&self, Request { reference, op }: Request, publishes: &mut Publishes) {
        if !matches!(op, Op::Publish { .. }) {
            publishes.finish(self).await;
        }
        match op {
            Op::Publish { event, key } => publishes.begin(self, reference, event, key).await,
            Op::Ping => self.reply(&Reply::Pong { reference }),
            Op::Auth { token: Token(token) } => self.identify(reference, &token).await,
            Op::Subscribe(subscribe) if subscribe.proof.is_some() => {
                self.prove(reference, subscribe).await;
            }
            Op::Subscribe(subscribe) => self.subscribe(reference, subscribe).await,
            Op::Unsubscribe { patterns } => {
                self.worker.unsubscribe(self.key, &patterns);
                self.reply(&Reply::done(reference));
            }
        }
    }

    async fn subscribe(&self, reference: Option<u64>, subscribe: Subscribe) {
        let wish = Wish::new(reference, subscribe);
        if let Some(waiting) = subscribe_when_there(&self.worker, self.key, wish) {
            waiting.await;
        }
    }

    /// Finds out whose a token is, which may take a look at published keys.
    async fn identify(&self, reference: Option<u64>, token: &str) {
        match self.house.auth.identify(Some(token)).await {
            Ok(caller) => {
                let credential = application(&caller, Some(token));
                let becoming = Becoming { reference, caller, credential, is_commanded: false };
                self.worker.identify(self.key, becoming);
            }
            Err(problem) => self.refuse(reference, &problem),
        }
    }

    /// Adds what a token grants to the rights of the session, and subscribes it.
    async fn prove(&self, reference: Option<u64>, mut subscribe: Subscribe) {
        let Some(Token(token)) = subscribe.proof.take() else { return };
        let proven = match self.house.auth.identify(Some(&token)).await {
            Ok(caller) => self.with(|receiver| receiver.prove(caller, &subscribe)),
            Err(problem) => Some(Err(problem)),
        };
        match proven {
            Some(Ok(())) => self.subscribe(reference, subscribe).await,
            Some(Err(problem)) => self.refuse(reference, &problem),
            None => {}
        }
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
