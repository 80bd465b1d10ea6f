//! What the broker says about itself, and to whom that is posted.

use std::fmt;

use super::value::Hidden;
use crate::model::{NoticeKind, Pattern};

/// What the broker says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notices {
    /// Sessions that begin and end.
    pub sessions: bool,
    /// Topics that are listened to, or no longer.
    pub topics: bool,
    /// Who subscribes to a topic, where its rule has presence.
    pub presence: bool,
}

/// An application that notices are posted to.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// What it is called.
    pub name: String,
    /// Where it is; it may hold a secret.
    pub url: Hidden,
    /// What notices are signed with.
    pub secret: WebhookSecret,
    /// Which are posted.
    pub events: Vec<NoticeKind>,
    /// About which topics.
    pub topics: Vec<Pattern>,
}

/// What notices are signed with: 24 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(pub Vec<u8>);

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}
