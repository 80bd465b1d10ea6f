//! Whom a command is for.

use serde::{Deserialize, Serialize};

/// The sessions that a command is for, on whatever node they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    /// The one with this id.
    Session(String),
    /// Every one of this user.
    User(String),
    /// Every one.
    All,
}
