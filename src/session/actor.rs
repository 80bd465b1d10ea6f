//! The actor of one WebSocket client: what it asks is done here.
//!
//! Identify, subscribe, publish, ping. It owns nothing of the session but its manners: who the client is, what
//! it receives and how long it may stay belongs to its [`Receiver`], which its worker owns; each request
//! ends in a call to the worker. What is under way for a client ends with the actor.

use std::rc::Rc;
use std::time::Instant;

use actix::prelude::*;

use super::errand::{alone, subscribe_when_there};
use super::house::House;
use super::parse_limits;
use super::receiver::{Becoming, Receiver, application};
use super::socket::Said;
use super::wish::Wish;
use crate::broker::{SessionKey, WorkerHandle};
use crate::history::{Append, Receipt};
use crate::metrics::{GUARD, Rate, Way};
use crate::model::{Allowance, Close, Code, NewEvent, Problem, PublishKey, Topic};
use crate::panics::contain;
use crate::protocol::{ClientMessage, Op, Protocol, Reply, Request};

/// The actor of one WebSocket client.
pub struct Session {
    key: SessionKey,
    worker: WorkerHandle<Receiver>,
    protocol: &'static dyn Protocol,
    house: Rc<House>,
    /// In a box: an actor is a task, whose size goes up in steps of 128 bytes.
    manners: Box<Manners>,
}

/// How a client has behaved so far.
#[derive(Default)]
struct Manners {
    /// Messages in a row that were no requests.
    bad_messages: usize,
    /// How many messages it may send.
    messages: Allowance,
    /// How many bytes.
    bytes: Allowance,
}

/// What is left to do for a request.
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

/// The client said something; answered when the next thing may be said.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Hear(pub Said);

impl Handler<Hear> for Session {
    type Result = Work;

    fn handle(&mut self, Hear(said): Hear, _: &mut Self::Context) -> Work {
        contain(|| self.hear(&said)).unwrap_or_else(|| {
            self.worker.end(self.key, Close::Internal);
            self.done()
        })
    }
}

impl Session {
    /// The actor of the client of a session that speaks `protocol`.
    pub fn new(
        key: SessionKey,
        worker: WorkerHandle<Receiver>,
        protocol: &'static dyn Protocol,
        house: Rc<House>,
    ) -> Self {
        Self { key, worker, protocol, house, manners: Box::default() }
    }

    fn hear(&mut self, said: &Said) -> Work {
        let message = match said {
            Said::Text(text) => ClientMessage::Text(text),
            Said::Binary(bytes) => ClientMessage::Binary(bytes),
        };
        if !self.may_say(message) {
            self.worker.end(self.key, Close::TooMany);
            return self.done();
        }
        let limits = parse_limits(&self.house.limits);
        match self.protocol.parse(message, &limits) {
            Ok(request) => {
                self.manners.bad_messages = 0;
                self.act(request)
            }
            Err(refused) => {
                self.manners.bad_messages += 1;
                self.refuse(refused.reference, &refused.problem);
                if self.manners.bad_messages >= self.house.limits.bad_messages {
                    self.worker.end(self.key, Close::BadMessage);
                }
                self.done()
            }
        }
    }

    fn act(&mut self, Request { reference, op }: Request) -> Work {
        match op {
            Op::Ping => {
                self.reply(&Reply::Pong { reference });
                self.done()
            }
            Op::Auth { token } => self.identify(reference, token.0),
            Op::Subscribe(subscribe) => {
                let wish = Wish::new(reference, subscribe);
                match subscribe_when_there(&self.worker, self.key, wish) {
                    Some(subscribing) => self.work(subscribing),
                    None => self.done(),
                }
            }
            Op::Unsubscribe { patterns } => {
                self.worker.unsubscribe(self.key, &patterns);
                self.reply(&Reply::done(reference));
                self.done()
            }
            Op::Publish { event, key } => self.publish(reference, event, key),
        }
    }

    /// Finds out whose a token is, which may take a look at published keys.
    fn identify(&self, reference: Option<u64>, token: String) -> Work {
        let (house, worker, key) = (self.house.clone(), self.worker.clone(), self.key);
        let identifying = async move {
            match house.auth.identify(Some(&token)).await {
                Ok(caller) => {
                    let credential = application(&caller, Some(&token));
                    worker.identify(key, Becoming { reference, caller, credential });
                }
                Err(problem) => {
                    worker.with(key, |receiver| receiver.refuse(reference, &problem));
                }
            }
        };
        self.work(identifying)
    }

    fn publish(
        &self,
        reference: Option<u64>,
        mut event: NewEvent,
        name: Option<PublishKey>,
    ) -> Work {
        let (worker, key) = (self.worker.clone(), self.key);
        if !worker.recheck_rights(key) {
            return self.done();
        }
        let taken = worker.with(key, |receiver| {
            receiver.access().require_publish(&event.topic)?;
            // As it was given: who sent it is no part of what is repeated.
            let named = name.map(|name| receiver.key_of(&name, &event));
            receiver.sign(&mut event)?;
            receiver.access().require_rate(1)?;
            Ok(named)
        });
        let idempotency = match taken {
            Some(Ok(named)) => named,
            Some(Err(problem)) => {
                self.refuse(reference, &problem);
                return self.done();
            }
            None => return self.done(),
        };
        let house = self.house.clone();
        let publishing = async move {
            let topic = event.topic.clone();
            // What was true before the wait may not be true now.
            let allowed = |_: &Append| match worker.recheck_rights(key) {
                true => worker.with(key, |receiver| receiver.access().require_publish(&topic)),
                false => None,
            };
            let gone = || Problem::new(Code::Unauthorized, "the session has ended");
            let append = Append { events: vec![event], key: idempotency };
            let allowed = |append: &Append| allowed(append).unwrap_or_else(|| Err(gone()));
            let published = match house.broker.publish(append, Way::WebSocket, allowed).await {
                Ok(receipt) => Ok(receipt),
                Err(problem) => {
                    let may_read = |topic: &Topic| {
                        worker.recheck_rights(key)
                            && worker.with(key, |receiver| receiver.access().may_subscribe(topic))
                                == Some(true)
                    };
                    Err(house.broker.explained(problem, may_read).await)
                }
            };
            worker.with(key, |receiver| match published {
                Ok(receipt) => receiver.published(&acknowledged(reference, &receipt)),
                Err(problem) => receiver.refuse(reference, &problem),
            });
        };
        self.work(publishing)
    }

    fn reply(&self, reply: &Reply<'_>) {
        self.worker.with(self.key, |receiver| receiver.reply(reply));
    }

    fn refuse(&self, reference: Option<u64>, problem: &Problem) {
        self.worker.with(self.key, |receiver| receiver.refuse(reference, problem));
    }

    fn work(&self, work: impl Future<Output = ()> + 'static) -> Work {
        Box::pin(alone(self.worker.clone(), self.key, work).into_actor(self))
    }

    fn done(&self) -> Work {
        Box::pin(fut::ready(()))
    }

    /// Whether the client may say this much more already.
    fn may_say(&mut self, message: ClientMessage<'_>) -> bool {
        let length = match message {
            ClientMessage::Text(text) => text.len(),
            ClientMessage::Binary(bytes) => bytes.len(),
        };
        let (limits, now) = (&self.house.limits, Instant::now());
        let rate = if !self.manners.messages.take(1, limits.messages_per_second, now) {
            Rate::Messages
        } else if !self.manners.bytes.take(length, limits.bytes_per_second, now) {
            Rate::Bytes
        } else {
            return true;
        };
        GUARD.limited(rate);
        false
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
