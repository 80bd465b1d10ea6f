//! How many sessions have room for more, asked of every worker behind all that waits for it.

use tokio::sync::mpsc::UnboundedSender;

/// A question to one worker; it answers when it has handled what came before.
pub(super) type Asked = UnboundedSender<Census>;

/// One session in so many may be without room for most to have it.
const FEW: usize = 10;

/// What workers say of their sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Census {
    pub(super) sessions: usize,
    pub(super) without_room: usize,
}

impl Census {
    /// This and another, as one.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            sessions: self.sessions + other.sessions,
            without_room: self.without_room + other.without_room,
        }
    }

    /// Whether so few are without room that the others should not wait for them.
    pub(super) fn most_have_room(self) -> bool {
        self.without_room * FEW <= self.sessions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_without_room_hold_nobody_up_and_many_do() {
        for (sessions, without_room, is_room) in [
            (0, 0, true),
            (1, 0, true),
            (1, 1, false),
            (9, 1, false),
            (10, 1, true),
            (10, 2, false),
        ] {
            let half = Census { sessions: 0, without_room: 0 };
            let census = half.and(Census { sessions, without_room });
            assert_eq!(census.most_have_room(), is_room, "{census:?}");
        }
    }
}
