//! The actor of one client that may say something: what it asks is done here.
//!
//! Identify, subscribe, publish, ping. It owns nothing of the session but its manners: who the client is, what
//! it receives and how long it may stay belongs to its [`Receiver`], which its worker owns; each request
//! ends in a call to the worker. What still waits when the client has gone finds no session and is done with it.

use std::rc::Rc;
use std::time::Instant;

use actix::prelude::*;

use super::ear::Hear;
use super::house::House;
use super::publishes::Publishes;
use super::receiver::Receiver;
use super::request::Requester;
use super::runner::alone;
use super::socket::Said;
use crate::broker::{SessionKey, WorkerHandle};
use crate::config::Limits;
use crate::metrics::{GUARD, Rate};
use crate::model::{Allowance, Close};
use crate::panics::contain;
use crate::protocol::{ClientMessage, Op, Refused, Reply, Request, Token};

/// The actor of one client.
pub struct Session {
    requester: Requester,
    /// None while something is done for the client, and before anything was. In a box: an actor is a task, whose
    /// size goes up in steps of 128 bytes.
    manners: Option<Box<Manners>>,
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

/// What becomes of a message that asks for nothing that is done.
struct Unheard {
    refused: Option<Refused>,
    /// How the session ends for it, if it does.
    close: Option<Close>,
}

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
    type Result = AtomicResponse<Self, ()>;

    /// One thing is done after the other, however it came: an actor does what it waits for in no order otherwise.
    fn handle(&mut self, Hear(said): Hear, _: &mut Self::Context) -> Self::Result {
        let Requester { worker, key, .. } = self.requester.clone();
        let (requester, mut manners) =
            (self.requester.clone(), self.manners.take().unwrap_or_default());
        let work = alone(worker, key, async move {
            requester.hear(&mut manners, &said).await;
            manners
        });
        let done = work.into_actor(self).map(|manners, session, _| session.manners = manners);
        AtomicResponse::new(Box::pin(done))
    }
}

impl Session {
    /// The actor of the client of a session.
    pub fn new(key: SessionKey, worker: WorkerHandle<Receiver>, house: Rc<House>) -> Self {
        Self { requester: Requester { key, worker, house }, manners: None }
    }
}

impl Requester {
    /// Does what messages ask, one thing after the other.
    async fn hear(&self, manners: &mut Manners, said: &[Said]) {
        let mut publishes = Publishes::default();
        for said in said {
            match self.understand(manners, said) {
                Ok(requests) => {
                    for request in requests {
                        self.act(request, &mut publishes).await;
                    }
                }
                Err(Unheard { refused, close }) => {
                    // Behind what the client is told of what it said before.
                    publishes.finish(self).await;
                    if let Some(Refused { reference, problem }) = refused {
                        self.refuse(reference, &problem);
                    }
                    if let Some(close) = close {
                        return self.worker.end(self.key, close);
                    }
                }
            }
        }
        publishes.finish(self).await;
    }

    /// Does what is asked, behind what was asked before.
    async fn act(&self, Request { reference, op }: Request, publishes: &mut Publishes) {
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

    /// What a message asks.
    fn understand(&self, manners: &mut Manners, said: &Said) -> Result<Vec<Request>, Unheard> {
        let limits = &self.house.limits;
        let ends = |close| Unheard { refused: None, close: Some(close) };
        if !manners.may_send(said.len(), limits) {
            return Err(ends(Close::TooMany));
        }
        let message = match said {
            Said::Text(text) => ClientMessage::Text(text),
            Said::Binary(bytes) => ClientMessage::Binary(bytes),
        };
        let of_messages = limits.of_messages();
        // A panic within a call to the worker would end all of its sessions.
        let hear = |receiver: &mut Receiver| contain(|| receiver.hear(message, &of_messages));
        match self.with(hear).flatten() {
            Some(Ok(requests)) => {
                manners.bad_messages = 0;
                let may_ask = manners.may_ask(requests.len().saturating_sub(1), limits);
                if may_ask { Ok(requests) } else { Err(ends(Close::TooMany)) }
            }
            Some(Err(refused)) => {
                manners.bad_messages += 1;
                let is_over = manners.bad_messages >= limits.bad_messages;
                let close = is_over.then_some(Close::BadMessage);
                Err(Unheard { refused: Some(refused), close })
            }
            // It is over already, or it panicked.
            None => Err(ends(Close::Internal)),
        }
    }
}

impl Manners {
    /// Whether the client may send a message of so many bytes already.
    fn may_send(&mut self, bytes: usize, limits: &Limits) -> bool {
        let max = limits.bytes_per_second;
        self.may_ask(1, limits) && limited(Rate::Bytes, self.bytes.take(bytes, max, Instant::now()))
    }

    /// Whether it may ask for so many things already.
    fn may_ask(&mut self, requests: usize, limits: &Limits) -> bool {
        let max = limits.messages_per_second;
        let mut take = || self.requests.take(requests, max, Instant::now());
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
