//! How what a client says is heard, over its connection or over requests beside it.

use actix::dev::SendError;
use actix::{Message, Recipient};
use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::socket::Said;
use crate::broker::Overheard;
use crate::protocol::Token;

/// What the client said, in its order; answered when all of it is done.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Hear(pub Vec<Said>);

/// What knows the client of one session, and who hears it.
pub struct Ear {
    secret: Token,
    session: Recipient<Hear>,
}

impl Ear {
    /// Hears for `session` whoever knows the secret.
    pub fn new(secret: Token, session: Recipient<Hear>) -> Self {
        Self { secret, session }
    }

    /// Takes a message, which is done when it is its turn.
    pub fn hear(&self, secret: &str, message: &str) -> Overheard {
        if verify_slices_are_equal(self.secret.0.as_bytes(), secret.as_bytes()).is_err() {
            return Overheard::Nobody;
        }
        match self.session.try_send(Hear(vec![Said::Text(message.to_owned())])) {
            Ok(()) => Overheard::Heard,
            Err(SendError::Full(_)) => Overheard::Busy,
            Err(SendError::Closed(_)) => Overheard::Nobody,
        }
    }
}
