//! Who asks: an application with a key, a user with a token, or someone without a credential.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::proof::Proof;
use crate::config::ApiKey;
use crate::model::{Bearer, Pattern};

/// Who asks.
#[derive(Debug, Clone)]
pub enum Caller {
    /// An application with an API key, or anyone where the broker is open: every right.
    Application(Proof),
    /// An application whose API key has some rights.
    Key(Arc<ApiKey>),
    /// A subscriber with a valid token.
    User(Box<User>),
    /// Someone without a credential.
    Anonymous,
}

impl Caller {
    /// What the caller's token says of the caller.
    pub fn user(&self) -> Option<&User> {
        match self {
            Caller::User(user) => Some(user),
            Caller::Application(_) | Caller::Key(_) | Caller::Anonymous => None,
        }
    }
}

/// What a valid token says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// Whose it is.
    pub bearer: Bearer,
    /// What it was checked with.
    pub proof: Proof,
    /// When it ends to hold: its `exp`, and as much later as clocks may differ (`auth.leeway`).
    pub expires: SystemTime,
    /// Patterns that it may subscribe to.
    pub subscribe: Vec<Pattern>,
    /// Patterns that it may publish to.
    pub publish: Vec<Pattern>,
}
