//! The actor of one connected client.
//!
//! It does what the client asks: identify, subscribe, publish, ping; and ends the session when its
//! right does. Events never pass through it: the fan-out hands them to the session's [`Reception`].
//! Its rights live in the reception too, for every event may be asked for them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix::prelude::*;
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc::unbounded_channel;

use super::catchup::Catchup;
use super::door::require_coverage;
use super::places::{Places, UserPlace};
use super::reception::{Reception, Renew};
use super::replay::Replay;
use super::socket::Said;
use crate::auth::{Auth, Caller};
use crate::broker::{BrokerHandle, SessionKey, Subscriber, WorkerHandle};
use crate::config::Limits;
use crate::history::Append;
use crate::model::{Allowance, Close, Code, NewEvent, Pattern, Problem};
use crate::protocol::{Message, Op, ParseLimits, Protocol, Reply, Request, Subscribe};

/// The number of what a client subscribed to at connect.
pub const AT_CONNECT: u64 = 0;

/// How long before its token expires a client is told, if the token lives that long twice.
const WARNING: Duration = Duration::from_secs(60);

/// The actor of one connected client.
pub struct Session {
    /// Its place in its worker.
    pub key: SessionKey,
    /// The language it speaks; none where it only listens.
    pub protocol: Option<&'static dyn Protocol>,
    /// What it receives through.
    pub reception: Arc<Reception>,
    /// The node's broker.
    pub broker: BrokerHandle,
    /// Its thread's part of the broker.
    pub worker: WorkerHandle,
    /// Who knows credentials.
    pub auth: Arc<Auth>,
    /// What it may do.
    pub limits: Arc<Limits>,
    /// What it subscribed to at connect and has no right to yet.
    pub waiting: Option<Box<Subscribe>>,
    /// Messages in a row that were no requests.
    pub bad_messages: usize,
    /// Ends it when its right does.
    pub expiry: Option<SpawnHandle>,
    /// Where it is counted.
    pub places: Places,
    /// Its place among the sessions of its user.
    pub user_place: Option<UserPlace>,
    /// How many messages it may send.
    pub messages: Allowance,
    /// How many bytes.
    pub bytes: Allowance,
}

/// What is left to do for a request, without the actor.
type Work = LocalBoxFuture<'static, ()>;

impl Actor for Session {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.watch_expiry(ctx);
        if !self.auth.is_current(&self.reception.access()) {
            ctx.notify(LookAgain);
        }
        if matches!(self.reception.access().caller(), Caller::Anonymous) {
            ctx.run_later(self.limits.auth_timeout, |session, _| {
                let caller = session.reception.access();
                let idle = session.reception.count_with(&[]) == 0;
                if idle && matches!(caller.caller(), Caller::Anonymous) {
                    session.reception.end(Close::Unauthorized);
                }
            });
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.worker.leave(self.key);
    }
}

/// The session begins: subscribe to what was asked for at connect.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Begin(pub Option<Subscribe>);

impl Handler<Begin> for Session {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Begin(subscribe): Begin, _: &mut Self::Context) -> Work {
        let Some(subscribe) = subscribe else { return done() };
        self.waiting = Some(Box::new(subscribe));
        self.subscribe_waiting()
    }
}

/// The client said something; answered when the next thing may be said.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Heard(pub Said);

impl Handler<Heard> for Session {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Heard(said): Heard, ctx: &mut Self::Context) -> Work {
        let Some(protocol) = self.protocol else { return done() };
        let message = match &said {
            Said::Text(text) => Message::Text(text),
            Said::Binary(bytes) => Message::Binary(bytes),
        };
        if !self.may_say(message) {
            self.reception.end(Close::TooMany);
            return done();
        }
        let limits = ParseLimits {
            json_depth: self.limits.json_depth,
            event_bytes: self.limits.event_bytes,
            patterns: self.limits.subscriptions,
        };
        match protocol.parse(message, &limits) {
            Ok(request) => {
                self.bad_messages = 0;
                self.act(request, ctx)
            }
            Err(refused) => {
                self.bad_messages += 1;
                self.reception.refuse(refused.reference, &refused.problem);
                if self.bad_messages >= self.limits.bad_messages {
                    self.reception.end(Close::BadMessage);
                }
                done()
            }
        }
    }
}

impl Handler<Renew> for Session {
    type Result = ();

    fn handle(&mut self, renew: Renew, _: &mut Self::Context) {
        let replay = Replay {
            reception: self.reception.clone(),
            broker: self.broker.clone(),
            worker: self.worker.clone(),
            session: self.key,
            mark: renew.mark,
            reference: None,
            patterns: renew.patterns,
            snapshots: renew.snapshots,
            since: None,
            snapshot: true,
            is_conflated: false,
            progress: renew.progress,
        };
        actix::spawn(replay.run());
    }
}

/// Somebody is known by the token they sent, or it was no good.
#[derive(Message)]
#[rtype(result = "()")]
struct Identified {
    reference: Option<u64>,
    caller: Result<Caller, Problem>,
}

impl Handler<Identified> for Session {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, identified: Identified, ctx: &mut Self::Context) -> Work {
        let Identified { reference, caller } = identified;
        let caller = caller.and_then(|caller| {
            self.may_become(&caller)?;
            self.take_place(&caller)?;
            let gone = "the key that the token was checked with is known no longer";
            self.auth.again(&caller).ok_or_else(|| Problem::new(Code::Unauthorized, gone))
        });
        match caller {
            Ok(caller) => {
                self.reception.reply(&Reply::Ack { reference, id: None });
                self.become_caller(caller, ctx)
            }
            Err(problem) => self.refuse(reference, &problem),
        }
    }
}

/// All that waited is written, and there is more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct More;

impl Handler<More> for Session {
    type Result = ();

    fn handle(&mut self, _: More, _: &mut Self::Context) {
        self.worker.flush(self.key);
    }
}

/// Rights may be others now.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LookAgain;

impl Handler<LookAgain> for Session {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: LookAgain, ctx: &mut Self::Context) -> Work {
        match self.auth.again(self.reception.access().caller()) {
            Some(caller) => self.become_caller(caller, ctx),
            None => {
                self.reception.end(Close::Unauthorized);
                done()
            }
        }
    }
}

/// The connection is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Gone;

impl Handler<Gone> for Session {
    type Result = ();

    fn handle(&mut self, _: Gone, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Session {
    fn act(&mut self, Request { reference, op }: Request, ctx: &mut Context<Self>) -> Work {
        match op {
            Op::Ping => {
                self.reception.reply(&Reply::Pong { reference });
                done()
            }
            Op::Auth { token } => self.identify(reference, token.0, ctx),
            Op::Subscribe(subscribe) => self.subscribe(reference, subscribe),
            Op::Unsubscribe { patterns } => self.unsubscribe(reference, patterns),
            Op::Publish(event) => self.publish(reference, event),
        }
    }

    /// Finds out whose a token is, which may take a look at published keys.
    fn identify(&self, reference: Option<u64>, token: String, ctx: &mut Context<Self>) -> Work {
        let (auth, session) = (self.auth.clone(), ctx.address());
        Box::pin(async move {
            let caller = auth.identify(Some(&token)).await;
            // Where the session has ended meanwhile, nobody waits for an answer.
            _ = session.send(Identified { reference, caller }).await;
        })
    }

    fn become_caller(&mut self, caller: Caller, ctx: &mut Context<Self>) -> Work {
        let bearer = caller.user().map(|user| user.bearer.clone());
        let ungranted = self.reception.set_access(self.auth.access(caller));
        self.watch_expiry(ctx);
        for pattern in &ungranted {
            let detail = format!("no right to subscribe to {pattern} any more");
            self.reception.refuse(None, &Problem::new(Code::Forbidden, detail));
        }
        let subscribe = self.subscribe_waiting();
        let (worker, key, reception) = (self.worker.clone(), self.key, self.reception.clone());
        Box::pin(async move {
            if let Some(bearer) = bearer {
                _ = worker.identify(key, bearer).await;
            }
            // The worker first: as long as it brings what is not granted, each event is looked at.
            _ = worker.part(key, ungranted.clone()).await;
            reception.unsubscribe(&ungranted);
            subscribe.await;
        })
    }

    /// Subscribes to what was asked for at connect, unless that is still to wait until the client says
    /// who it is.
    fn subscribe_waiting(&mut self) -> Work {
        let access = self.reception.access();
        let may_identify = self.protocol.is_some() && matches!(access.caller(), Caller::Anonymous);
        let waits = |subscribe: &mut Box<Subscribe>| {
            may_identify && require_coverage(&access, subscribe).is_err()
        };
        match self.waiting.take_if(|subscribe| !waits(subscribe)) {
            Some(subscribe) => self.subscribe(Some(AT_CONNECT), *subscribe),
            None => done(),
        }
    }

    /// Whether the client may say this much more already.
    fn may_say(&mut self, message: Message<'_>) -> bool {
        let length = match message {
            Message::Text(text) => text.len(),
            Message::Binary(bytes) => bytes.len(),
        };
        let (limits, now) = (&self.limits, Instant::now());
        self.messages.take(1, limits.messages_per_second, now)
            && self.bytes.take(length, limits.bytes_per_second, now)
    }

    /// Counts the session among those of its user, once it has one.
    fn take_place(&mut self, caller: &Caller) -> Result<(), Problem> {
        if self.user_place.is_none()
            && let Some(user) = caller.user()
        {
            self.user_place = self.places.take_user(&user.bearer.user, &self.limits)?;
        }
        Ok(())
    }

    /// A session may become someone, and renew, but not become someone else.
    fn may_become(&self, caller: &Caller) -> Result<(), Problem> {
        let name = |caller: &Caller| caller.user().map(|user| user.bearer.user.clone());
        match name(self.reception.access().caller()) {
            Some(user) if name(caller).as_ref() != Some(&user) => {
                Err(Problem::new(Code::Forbidden, "the session belongs to another user"))
            }
            _ => Ok(()),
        }
    }

    fn subscribe(&mut self, reference: Option<u64>, subscribe: Subscribe) -> Work {
        if let Err(problem) = self.check(&subscribe) {
            return self.refuse(reference, &problem);
        }
        let interval = subscribe.interval();
        let Subscribe { patterns, since, snapshot, .. } = subscribe;
        self.reception.reply(&Reply::Ack { reference, id: None });
        let catchup = Catchup::new(reference, patterns.clone(), self.limits.catchup_bytes);
        let reads_history = since.is_some() || snapshot;
        let (progress, receiver) = match reads_history {
            true => {
                let (sender, receiver) = unbounded_channel();
                (Some(sender), Some(receiver))
            }
            false => (None, None),
        };
        self.reception.expect(catchup, snapshot, interval, progress);
        let (reception, broker) = (self.reception.clone(), self.broker.clone());
        let (worker, session) = (self.worker.clone(), self.key);
        Box::pin(async move {
            if let Some(since) = since
                && let Err(problem) = broker.reach(since).await
            {
                reception.refuse(reference, &problem);
                return reception.end(Close::Restart);
            }
            let Ok(mark) = worker.join(session, patterns.clone()).await else {
                return reception.end(Close::Restart);
            };
            if let Some(progress) = receiver {
                let patterns: Arc<[_]> = patterns.into();
                let replay = Replay {
                    reception,
                    broker,
                    worker,
                    session,
                    mark,
                    reference,
                    snapshots: patterns.clone(),
                    patterns,
                    since,
                    snapshot,
                    is_conflated: interval.is_some(),
                    progress,
                };
                actix::spawn(replay.run());
            }
        })
    }

    /// Whether a subscribe may be done as a whole.
    fn check(&self, subscribe: &Subscribe) -> Result<(), Problem> {
        require_coverage(&self.reception.access(), subscribe)?;
        if self.reception.count_with(&subscribe.patterns) > self.limits.subscriptions {
            let detail = format!("more than {} subscriptions", self.limits.subscriptions);
            return Err(Problem::new(Code::TooMany, detail));
        }
        let reads_history = subscribe.since.is_some() || subscribe.snapshot;
        if reads_history && self.reception.replays() >= self.limits.replays {
            let detail = format!("more than {} replays at a time", self.limits.replays);
            return Err(Problem::new(Code::TooMany, detail));
        }
        Ok(())
    }

    fn unsubscribe(&self, reference: Option<u64>, patterns: Vec<Pattern>) -> Work {
        self.reception.unsubscribe(&patterns);
        let (reception, worker, key) = (self.reception.clone(), self.worker.clone(), self.key);
        Box::pin(async move {
            _ = worker.part(key, patterns).await;
            reception.reply(&Reply::Ack { reference, id: None });
        })
    }

    fn publish(&self, reference: Option<u64>, event: NewEvent) -> Work {
        let access = self.reception.access();
        let allowed = access.require_publish(&event.topic).and_then(|()| access.require_rate(1));
        if let Err(problem) = allowed {
            return self.refuse(reference, &problem);
        }
        let (reception, broker) = (self.reception.clone(), self.broker.clone());
        let (auth, topic) = (self.auth.clone(), event.topic.clone());
        Box::pin(async move {
            let append = Append { events: vec![event], key: None };
            let allowed = |_: &Append| auth.still(&reception.access())?.require_publish(&topic);
            match broker.publish(append, allowed).await {
                Ok(receipt) => {
                    let id = receipt.events.first().and_then(|event| event.cursor);
                    reception.reply(&Reply::Ack { reference, id });
                }
                Err(problem) => reception.refuse(reference, &problem),
            }
        })
    }

    fn refuse(&self, reference: Option<u64>, problem: &Problem) -> Work {
        self.reception.refuse(reference, problem);
        done()
    }

    /// Ends the session when its token expires, unless it is renewed before; it is told in time.
    fn watch_expiry(&mut self, ctx: &mut Context<Self>) {
        if let Some(earlier) = self.expiry.take() {
            ctx.cancel_future(earlier);
        }
        if let Some(expires) = self.reception.access().caller().user().map(|user| user.expires) {
            let left = expires.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
            let warning = WARNING.min(left / 2);
            self.expiry = Some(ctx.run_later(left - warning, move |session, ctx| {
                let expires_ms = u64::try_from(warning.as_millis()).unwrap_or(u64::MAX);
                session.reception.reply(&Reply::Warn { expires_ms });
                session.expiry = Some(ctx.run_later(warning, |session, _| {
                    session.reception.end(Close::Unauthorized);
                }));
            }));
        }
    }
}

fn done() -> Work {
    Box::pin(std::future::ready(()))
}
