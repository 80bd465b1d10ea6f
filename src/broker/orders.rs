//! What sessions are told to do, and what their clients say over requests beside their connections: on any node.

use std::fmt;
use std::iter::Sum;

use serde::{Deserialize, Serialize};

use crate::model::{Audience, Close, Pattern};

/// What becomes of a command.
#[derive(Debug)]
pub enum Commanded<E> {
    /// This is left to do.
    Run(E),
    /// It receives nothing by these patterns any more.
    Unsubscribed(Vec<Pattern>),
    /// It is to end.
    End(Close),
    /// It has no right to that, or there is no room for it.
    Refused,
}

/// What becomes of a message that came over another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overheard {
    /// It is heard.
    Heard,
    /// Too many wait to be heard before it.
    Busy,
    /// There is no session that knows the secret.
    Nobody,
}

/// What sessions are to do.
#[derive(Clone, Serialize, Deserialize)]
pub struct Order {
    /// Which sessions.
    pub audience: Audience,
    /// What, in the words of the wire. Never logged: there may be a token in it.
    pub words: String,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order").field("audience", &self.audience).finish_non_exhaustive()
    }
}

/// What the client of a session says over another request.
#[derive(Clone, Serialize, Deserialize)]
pub struct Overhear {
    /// The id of the session.
    pub session: String,
    /// What was told to it alone. Never logged.
    pub secret: String,
    /// The message. Never logged.
    pub message: String,
}

impl fmt::Debug for Overhear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overhear").field("session", &self.session).finish_non_exhaustive()
    }
}

/// How many sessions did what was commanded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obedience {
    /// So many did it, or are about to.
    pub done: usize,
    /// So many have no right to it, or no room for it.
    pub refused: usize,
}

impl Sum for Obedience {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, it| Self {
            done: sum.done + it.done,
            refused: sum.refused + it.refused,
        })
    }
}

impl Overheard {
    /// What became of a message that several were asked to take: it is for one of them at most.
    pub(super) fn any(all: impl Iterator<Item = Self>) -> Self {
        all.into_iter().find(|one| *one != Self::Nobody).unwrap_or(Self::Nobody)
    }
}
