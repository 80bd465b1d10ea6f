//! Who hears who comes and goes, and what is listened to.

use super::{Attending, RoomVersion, SessionInfo};
use crate::model::{Pattern, Present, Topic};

/// Hears what happens at the broker of one node, in its order. Called where it happens: must not block.
pub trait Observer: Send + Sync {
    /// A session began, or ended.
    fn session(&self, info: &SessionInfo, is_there: bool);

    /// A pattern has its first subscriber on this node, or none any more.
    fn wanted(&self, pattern: &Pattern, is_wanted: bool);

    /// A session subscribed to a pattern, or does so no longer.
    fn member(&self, pattern: &Pattern, info: &SessionInfo, is_there: bool);

    /// What this node is called where it says who is in a topic.
    fn node(&self) -> &str;

    /// Who of this node is in the topics that match, in the order of topic and session: those after the one given, and
    /// at most so many. Topics are known by those where it is told who is in them.
    fn present(
        &self,
        patterns: &[Pattern],
        after: Option<&(Topic, String)>,
        limit: usize,
    ) -> Attending<Present>;

    /// The newest change that was told of each topic that matches and that somebody of this node is in, by name: those
    /// after the one given, and at most so many.
    fn rooms(
        &self,
        patterns: &[Pattern],
        after: Option<&Topic>,
        limit: usize,
    ) -> Attending<RoomVersion>;
}

/// Whom it does not interest.
#[derive(Debug, Clone, Copy)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn session(&self, _: &SessionInfo, _: bool) {}

    fn wanted(&self, _: &Pattern, _: bool) {}

    fn member(&self, _: &Pattern, _: &SessionInfo, _: bool) {}

    fn node(&self) -> &str {
        ""
    }

    fn present(&self, _: &[Pattern], _: Option<&(Topic, String)>, _: usize) -> Attending<Present> {
        Attending::default()
    }

    fn rooms(&self, _: &[Pattern], _: Option<&Topic>, _: usize) -> Attending<RoomVersion> {
        Attending::default()
    }
}
