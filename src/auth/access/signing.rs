//! What an event says of who sent it: what a caller may say itself, and what the broker says for it.

use super::{Access, Caller};
use crate::config::{Rule, Storage};
use crate::model::{Code, Envelope, Member, NewEvent, Problem};

impl Access {
    /// Refuses what of an event the caller may not say, or its topic can't have, and says who sent it where a client
    /// publishes: `session` is the one over which the event came.
    pub fn sign(&self, event: &mut NewEvent, session: Option<&str>) -> Result<(), Problem> {
        // Where nobody has a credential, whoever comes over a WebSocket has all rights, and is a client all the same.
        let is_signed = self.is_client() || self.policy.open && session.is_some();
        if !is_signed && event.envelope.is_none() && event.terms.is_none() {
            return Ok(());
        }
        let rule = self.policy.rules.of(&event.topic);
        if let Some(envelope) = &event.envelope {
            self.require_said(envelope, session)?;
        }
        bind(event, session)?;
        require_kept(event, rule)?;
        if !rule.from {
            event.envelope = event.envelope.take().and_then(|envelope| envelope.without_sender());
        } else if is_signed {
            self.say_sender(event, session);
        }
        require_size(event)
    }

    /// Whether the caller is one whose word on who sent an event is not taken, nor on who is not to get it.
    fn is_client(&self) -> bool {
        matches!(self.caller, Caller::User(_) | Caller::Anonymous)
    }

    /// Refuses what of an envelope the caller may not say.
    fn require_said(&self, envelope: &Envelope, session: Option<&str>) -> Result<(), Problem> {
        if envelope.sender().is_some() && !matches!(self.caller, Caller::Application(_)) {
            let detail =
                "`from` is said by the broker; an API key with full rights may say it for others";
            return Err(self.refusal(detail));
        }
        if envelope.except().is_some_and(|except| self.is_client() && Some(except) != session) {
            let detail = "a client may keep an event from its own session alone (`except`)";
            return Err(self.refusal(detail));
        }
        Ok(())
    }

    /// Says who sent an event, where it does not say so itself and that is known.
    fn say_sender(&self, event: &mut NewEvent, session: Option<&str>) {
        let user = self.caller.user().map(|user| user.bearer.user.as_str());
        let is_said = event.envelope.as_ref().is_some_and(|envelope| envelope.sender().is_some());
        if is_said || (user.is_none() && session.is_none()) {
            return;
        }
        let envelope = event.envelope.get_or_insert_default();
        user.into_iter().for_each(|user| envelope.push(Member::User(user)));
        session.into_iter().for_each(|session| envelope.push(Member::Session(session)));
    }
}

/// Binds a value that is to end with its session to that session, and refuses one that has none.
fn bind(event: &mut NewEvent, session: Option<&str>) -> Result<(), Problem> {
    let bound = event.envelope.as_mut().filter(|envelope| envelope.holder().is_some());
    match (bound, session) {
        (None, _) => Ok(()),
        (Some(envelope), Some(session)) => {
            envelope.bind(session);
            Ok(())
        }
        (Some(_), None) => {
            let detail = "`bound` is of WebSocket clients: there is no session here that the value could end with";
            Err(Problem::new(Code::InvalidEvent, detail))
        }
    }
}

/// Refuses what only events that are kept can have, where none are.
fn require_kept(event: &NewEvent, rule: &Rule) -> Result<(), Problem> {
    match event.kept_member().filter(|_| rule.storage == Storage::None) {
        None => Ok(()),
        Some(member) => {
            let detail =
                format!("`{member}` is of events that are kept, and {} keeps none", event.topic);
            Err(Problem::new(Code::InvalidEvent, detail))
        }
    }
}

/// Refuses an event that carries too much beside its data.
fn require_size(event: &NewEvent) -> Result<(), Problem> {
    let bytes = event.envelope.as_ref().map_or(0, |envelope| envelope.bytes().len());
    let most = Envelope::MAX_BYTES;
    if bytes <= most {
        return Ok(());
    }
    let detail = format!("what the event carries has {bytes} bytes, and the limit is {most}");
    Err(Problem::new(Code::InvalidEvent, detail))
}
