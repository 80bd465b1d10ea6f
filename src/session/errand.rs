//! What is left to do once a call to the worker has returned.

use super::reading::Reading;
use crate::protocol::{Subscribe, Token};

/// What is to be done once a call has returned.
pub enum Errand {
    /// Read a history.
    Read(Reading),
    /// Subscribe to what was asked for at connect.
    Subscribe(Box<Subscribe>),
    /// Subscribe to what its client did not ask for.
    Join(Box<Subscribe>),
    /// Become whom a token says, which its client did not ask for.
    Become(Token),
}
