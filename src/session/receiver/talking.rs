//! What the client of a session says, and what it is told beside events.

use actix::Recipient;

use super::super::ear::{Ear, Hear};
use super::Receiver;
use crate::broker::Transport;
use crate::model::{Close, Code, Problem};
use crate::protocol::{ClientMessage, ParseLimits, Refused, Reply, Request, Token};

impl Receiver {
    /// Says the first word, behind what the transport sends before it.
    pub fn welcome(&mut self, before: &[u8], welcome: &Reply<'_>) {
        self.intake.voice_mut().welcome(before, welcome);
    }

    /// What a message of the client asks.
    pub fn hear(
        &mut self,
        message: ClientMessage<'_>,
        limits: &ParseLimits,
    ) -> Result<Vec<Request>, Refused> {
        self.intake.voice_mut().hear(message, limits)
    }

    /// Has somebody hear what is said over other requests by who knows the secret.
    pub fn overhear_by(&mut self, secret: Token, session: Recipient<Hear>) {
        self.ear = Some(Box::new(Ear::new(secret, session)));
    }

    /// Says what became of an event that it published: it is of use without a credential.
    pub fn published(&mut self, receipt: &Reply<'_>) {
        self.has_published = true;
        self.watch_idleness();
        self.reply(receipt);
    }

    /// Says something that is not an event.
    pub fn reply(&mut self, reply: &Reply<'_>) {
        self.intake.voice_mut().reply(reply);
    }

    /// Says that a request is refused.
    pub fn refuse(&mut self, reference: Option<u64>, problem: &Problem) {
        self.intake.voice_mut().refuse(reference, problem);
    }

    /// Says that a subscribe is refused. An event stream has nothing else to live for.
    pub fn refuse_subscribe(&mut self, reference: Option<u64>, problem: &Problem) {
        self.refuse(reference, problem);
        if self.transport == Transport::Sse {
            self.ends = Some(match problem.code {
                Code::TooMany => Close::TooMany,
                Code::Unauthorized => Close::Unauthorized,
                _ => Close::Forbidden,
            });
        }
    }
}
