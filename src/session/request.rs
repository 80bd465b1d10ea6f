//! What a client asks, and what is done about it.

use std::rc::Rc;

use super::application::application;
use super::house::House;
use super::receiver::{Becoming, Receiver};
use super::runner::subscribe_when_there;
use super::wish::Wish;
use crate::broker::{SessionKey, WorkerHandle};
use crate::model::Problem;
use crate::protocol::{Reply, Subscribe, Token};

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
    /// Subscribes the session, and waits where that has to be waited for.
    pub async fn subscribe(&self, reference: Option<u64>, subscribe: Subscribe) {
        let wish = Wish::new(reference, subscribe);
        if let Some(waiting) = subscribe_when_there(&self.worker, self.key, wish) {
            waiting.await;
        }
    }

    /// Finds out whose a token is, which may take a look at published keys.
    pub async fn identify(&self, reference: Option<u64>, token: &str) {
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
    pub async fn prove(&self, reference: Option<u64>, mut subscribe: Subscribe) {
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

    /// Says something that is no event.
    pub fn reply(&self, reply: &Reply<'_>) {
        self.with(|receiver| receiver.reply(reply));
    }

    /// Says that a request is refused.
    pub fn refuse(&self, reference: Option<u64>, problem: &Problem) {
        self.with(|receiver| receiver.refuse(reference, problem));
    }
}
