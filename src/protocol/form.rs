//! The form of events on the wire: what is stateless, made once and shared by every session that has it.

use crate::model::Event;

/// A wire form of events. One value that stands still: by where it stands, what was made in it is known and shared.
pub struct Form {
    /// Whether its messages are binary ones, where a connection tells these from text.
    pub is_binary: bool,
    /// An event as one message.
    pub event: fn(&Event, &Annotations) -> Vec<u8>,
}

/// What is said of an event beside the event itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Annotations {
    /// It belongs to the replay of the subscribe with this `ref`.
    pub replay: Option<u64>,
    /// It is a current value.
    pub snapshot: bool,
    /// It came under [`Mode::Latest`](super::Mode::Latest).
    pub conflated: bool,
    /// How many events of its topic were conflated before it.
    pub skipped: u64,
}
