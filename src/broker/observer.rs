//! Who hears who comes and goes, and what is listened to.

use super::SessionInfo;
use crate::model::Pattern;

/// Hears what happens at the broker of one node, in its order. Called where it happens: must not block.
pub trait Observer: Send + Sync {
    /// A session began, or ended.
    fn session(&self, info: &SessionInfo, is_there: bool);

    /// A pattern has its first subscriber on this node, or none any more.
    fn wanted(&self, pattern: &Pattern, is_wanted: bool);

    /// A session subscribed to a pattern, or does so no longer.
    fn member(&self, pattern: &Pattern, info: &SessionInfo, is_there: bool);
}

/// Whom it does not interest.
#[derive(Debug, Clone, Copy)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn session(&self, _: &SessionInfo, _: bool) {}

    fn wanted(&self, _: &Pattern, _: bool) {}

    fn member(&self, _: &Pattern, _: &SessionInfo, _: bool) {}
}
