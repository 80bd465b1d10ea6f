//! Who a session is: by which right it is there, what it may become, and how what it publishes is signed.

use std::slice;

use super::super::door::require_coverage;
use super::super::errand::Errand;
use super::super::house::House;
use super::super::term::Term;
use super::Receiver;
use crate::auth::{Access, Caller, Publisher};
use crate::broker::Transport;
use crate::history::{Asked, IdempotencyKey};
use crate::model::{Code, NewEvent, Pattern, Problem, PublishKey};
use crate::protocol::Subscribe;

/// Who a session is to become, and the number of the request that says so.
pub struct Becoming {
    /// The client's number.
    pub reference: Option<u64>,
    /// Who it is by its credential.
    pub caller: Caller,
    /// What an application's idempotency keys are known by.
    pub credential: Option<Box<Publisher>>,
    /// Its client did not ask for it, and is not answered.
    pub is_commanded: bool,
}

impl Receiver {
    /// Refuses what of an event this session may not say, and says that it sent it.
    pub fn sign(&mut self, event: &mut NewEvent) -> Result<(), Problem> {
        self.intake.access().sign(event, Some(self.intake.session()))?;
        // From here on, whatever becomes of the publish: it may be stored though nobody hears of it any more.
        self.holds |= event.holder().is_some();
        Ok(())
    }

    /// Adds to its rights what a token grants of the topics of a subscribe, where that may be done then.
    pub fn prove(&mut self, caller: Caller, subscribe: &Subscribe) -> Result<(), Problem> {
        let Caller::User(user) = caller else {
            let detail = "`token` beside `topics` is a token, which names its user";
            return Err(Problem::new(Code::BadRequest, detail));
        };
        let topics: Option<Vec<_>> = subscribe.patterns.iter().map(Pattern::as_topic).collect();
        let topics = topics.ok_or_else(|| {
            let detail = "`token` beside `topics` adds topics by name, without wildcards";
            Problem::new(Code::BadRequest, detail)
        })?;
        let House { auth, limits, .. } = &*self.house;
        let before = self.intake.access().clone();
        let access = before.with(auth.grant(&before, *user, topics)?);
        let max = limits.subscriptions;
        if access.granted_topics() > max {
            let detail = format!("tokens add more than {max} topics (limits.subscriptions)");
            return Err(Problem::new(Code::TooMany, detail));
        }
        self.intake.set_access(access);
        let checked = self.check(subscribe);
        if checked.is_err() {
            self.intake.set_access(before);
        }
        checked
    }

    /// By what a repeat of an event is known that the client gives a key.
    pub fn key_of(&self, key: &PublishKey, event: &NewEvent) -> IdempotencyKey {
        let publisher = match (&self.credential, self.caller()) {
            (Some(credential), Caller::Application(_) | Caller::Key(_)) => (**credential).clone(),
            (_, caller) => Publisher::new(caller, None, self.address),
        };
        let asked = Asked::of_events(slice::from_ref(event));
        IdempotencyKey { scope: publisher.scope(key), asked, is_in_series: false }
    }

    pub(super) fn caller(&self) -> &Caller {
        self.access().caller()
    }

    pub(super) fn may_identify(&self) -> bool {
        self.transport == Transport::WebSocket && matches!(self.caller(), Caller::Anonymous)
    }

    /// What was asked for at connect, unless that is still to wait until the client says who it is.
    pub(super) fn admitted(&mut self) -> Option<Errand> {
        let (may_identify, access) = (self.may_identify(), self.intake.access());
        let waits =
            |subscribe: &Subscribe| may_identify && require_coverage(access, subscribe).is_err();
        self.waiting.take_if(|subscribe| !waits(subscribe)).map(Errand::Subscribe)
    }

    /// A session may become someone, and renew, but not become someone else.
    fn may_become(&self, caller: &Caller) -> Result<(), Problem> {
        let name = |caller: &Caller| caller.user().map(|user| user.bearer.user.clone());
        match name(self.caller()) {
            Some(user) if name(caller).as_ref() != Some(&user) => {
                Err(Problem::new(Code::Forbidden, "the session belongs to another user"))
            }
            _ => Ok(()),
        }
    }

    /// The rights of who the session is to become, as they are at this moment.
    pub(super) fn rights_of(&mut self, caller: &Caller) -> Result<Access, Problem> {
        self.may_become(caller)?;
        let House { auth, permits, limits, .. } = &*self.house;
        let access = auth.still(&self.intake.access().of_caller(caller.clone()))?;
        if self.user_permit.is_none()
            && let Some(user) = caller.user()
        {
            self.user_permit = permits.take_user(&user.bearer.user, limits)?.map(Box::new);
        }
        Ok(access)
    }

    pub(super) fn set_access(&mut self, access: Access) -> Vec<Pattern> {
        self.term = Term::of(access.caller(), &self.house.clock);
        let lost = self.intake.set_access(access);
        self.watch_idleness();
        lost
    }

    pub(super) fn tell_lost(&mut self, lost: &[Pattern]) {
        lost.iter().for_each(|pattern| self.intake.voice_mut().lose(pattern));
    }

    /// A WebSocket client that may say who it is, and wants nothing before that, is waited for some time.
    pub(super) fn watch_idleness(&mut self) {
        // What it could say without a credential, it may not be able to any more.
        let is_of_use = || self.has_published && self.access().may_publish_somewhere();
        let is_idle = self.may_identify() && self.intake.is_empty() && !is_of_use();
        self.term.introduce(is_idle.then_some(self.house.limits.auth_timeout));
    }
}
