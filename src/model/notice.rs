//! What the broker says about itself, each kind with its name.

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// A session began.
    SessionConnected,
    /// A session ended.
    SessionDisconnected,
    /// A topic has its first subscriber by name on a node.
    TopicOccupied,
    /// It has none on that node any more.
    TopicVacated,
    /// A session subscribed to a topic by name.
    PresenceJoined,
    /// It did so no longer.
    PresenceLeft,
}

impl NoticeKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SessionConnected,
        Self::SessionDisconnected,
        Self::TopicOccupied,
        Self::TopicVacated,
        Self::PresenceJoined,
        Self::PresenceLeft,
    ];

    /// The name, which is the `type` of the event that says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SessionConnected => "session.connected",
            Self::SessionDisconnected => "session.disconnected",
            Self::TopicOccupied => "topic.occupied",
            Self::TopicVacated => "topic.vacated",
            Self::PresenceJoined => "presence.joined",
            Self::PresenceLeft => "presence.left",
        }
    }

    /// The kind with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is about a session, and not about a topic.
    pub fn is_about_sessions(self) -> bool {
        matches!(self, Self::SessionConnected | Self::SessionDisconnected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventType;

    #[test]
    fn every_kind_is_found_by_its_name_which_is_a_legal_type() {
        for kind in NoticeKind::ALL {
            assert_eq!(NoticeKind::parse(kind.name()), Some(kind));
            assert!(EventType::parse(kind.name()).is_ok());
        }
        assert_eq!(NoticeKind::parse("session"), None);
    }
}
