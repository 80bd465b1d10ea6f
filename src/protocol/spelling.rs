//! The broker's own language, however it is spelled.

use std::marker::PhantomData;

use super::request::Frame;
use super::{Annotations, ClientMessage, Out, ParseLimits, Refused, Reply, Requests, Talk};
use crate::clock::Instant;
use crate::model::Event;

/// How the messages of the broker's own language are spelled.
pub(super) trait Spelling {
    /// An event as one message.
    fn event(event: &Event, annotations: &Annotations) -> Vec<u8>;

    /// Anything else as one message.
    fn reply(reply: &Reply<'_>) -> Vec<u8>;

    /// The members of a client's message.
    fn read<'a>(message: ClientMessage<'a>, limits: &ParseLimits) -> Result<Frame<'a>, Refused>;
}

/// Who talks in the broker's own language: each message is one request, each reply is one message, and nothing is remembered.
pub(super) struct Plain<S>(PhantomData<S>);

impl<S> Plain<S> {
    /// One that has said nothing yet.
    pub(super) const NEW: Self = Self(PhantomData);
}

impl<S: Spelling> Talk for Plain<S> {
    fn hear(
        &mut self,
        message: ClientMessage<'_>,
        limits: &ParseLimits,
        _: Instant,
        requests: &mut Requests,
    ) -> Result<(), Refused> {
        requests.ask(S::read(message, limits)?.request(limits)?)
    }

    fn say(&mut self, reply: &Reply<'_>, _: Instant, out: Out<'_>) {
        out(S::reply(reply));
    }
}
