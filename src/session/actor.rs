//! The actor of one client that may say something: what it asks is done here.
//!
//! Identify, subscribe, publish, ping. It owns nothing of the session but its manners: who the client is, what
//! it receives and how long it may stay belongs to its [`Receiver`], which its worker owns; each request
//! ends in a call to the worker. What is under way for a client ends with the actor.

use std::rc::Rc;
use std::time::Instant;

use actix::prelude::*;

use super::ear::Hear;
use super::house::House;
use super::receiver::Receiver;
use super::request::Requester;
use super::runner::alone;
use super::socket::Said;
use crate::broker::{SessionKey, WorkerHandle};
use crate::metrics::{GUARD, Rate};
use crate::model::{Allowance, Close};
use crate::panics::contain;
use crate::protocol::{ClientMessage, Refused, Request};

/// The actor of one client.
pub struct Session {
    requester: Requester,
    /// In a box: an actor is a task, whose size goes up in steps of 128 bytes.
    manners: Box<Manners>,
}

/// How a client has behaved so far.
#[derive(Default)]
struct Manners {
    /// Messages in a row that were no requests.
    bad_messages: usize,
    /// How many requests it may make; a message is one at least.
    requests: Allowance,
    /// How many bytes it may send.
    bytes: Allowance,
}

/// What is left to do for a message.
type Work = ResponseActFuture<Session, ()>;

impl Actor for Session {
    type Context = Context<Self>;
}

/// The connection is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stop;

impl Handler<Stop> for Session {
    type Result = ();

    fn handle(&mut self, Stop: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Handler<Hear> for Session {
    type Result = Work;

    fn handle(&mut self, Hear(said): Hear, _: &mut Self::Context) -> Work {
        contain(|| self.hear(&said)).unwrap_or_else(|| self.end(Close::Internal))
    }
}

impl Session {
    /// The actor of the client of a session.
    pub fn new(key: SessionKey, worker: WorkerHandle<Receiver>, house: Rc<House>) -> Self {
        Self { requester: Requester { key, worker, house }, manners: Box::default() }
    }

    fn hear(&mut self, said: &Said) -> Work {
        let (message, bytes) = match said {
            Said::Text(text) => (ClientMessage::Text(text), text.len()),
            Said::Binary(bytes) => (ClientMessage::Binary(bytes), bytes.len()),
        };
        if !self.may_send(bytes) {
            return self.end(Close::TooMany);
        }
        let limits = self.requester.house.limits.of_messages();
        // A panic within a call to the worker would end all of its sessions.
        let hear = |receiver: &mut Receiver| contain(|| receiver.hear(message, &limits));
        match self.requester.with(hear) {
            Some(Some(Ok(requests))) => self.act(requests),
            Some(Some(Err(refused))) => self.refuse(&refused),
            Some(None) => self.end(Close::Internal),
            None => self.done(),
        }
    }

    /// Does what a message asks, one thing after the other.
    fn act(&mut self, requests: Vec<Request>) -> Work {
        self.manners.bad_messages = 0;
        if !self.may_ask(requests.len().saturating_sub(1)) {
            return self.end(Close::TooMany);
        }
        let mut requests = requests.into_iter();
        let waits = requests.by_ref().find_map(|request| self.requester.act(request));
        let Some(first) = waits else { return self.done() };
        let requester = self.requester.clone();
        let work = async move {
            first.await;
            for request in requests {
                if let Some(work) = requester.act(request) {
                    work.await;
                }
            }
        };
        let Requester { worker, key, .. } = self.requester.clone();
        Box::pin(alone(worker, key, work).into_actor(self))
    }

    fn refuse(&mut self, Refused { reference, problem }: &Refused) -> Work {
        self.manners.bad_messages += 1;
        self.requester.refuse(*reference, problem);
        if self.manners.bad_messages >= self.requester.house.limits.bad_messages {
            return self.end(Close::BadMessage);
        }
        self.done()
    }

    fn end(&self, close: Close) -> Work {
        self.requester.worker.end(self.requester.key, close);
        self.done()
    }

    fn done(&self) -> Work {
        Box::pin(fut::ready(()))
    }

    /// Whether the client may send a message of so many bytes already.
    fn may_send(&mut self, bytes: usize) -> bool {
        let max = self.requester.house.limits.bytes_per_second;
        self.may_ask(1) && limited(Rate::Bytes, self.manners.bytes.take(bytes, max, Instant::now()))
    }

    /// Whether it may ask for so many things already.
    fn may_ask(&mut self, requests: usize) -> bool {
        let max = self.requester.house.limits.messages_per_second;
        let mut take = || self.manners.requests.take(requests, max, Instant::now());
        requests == 0 || limited(Rate::Messages, take())
    }
}

/// Counts what is refused because there is too much of it.
fn limited(rate: Rate, is_allowed: bool) -> bool {
    if !is_allowed {
        GUARD.limited(rate);
    }
    is_allowed
}
