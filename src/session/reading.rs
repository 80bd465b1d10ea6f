//! What is read of the history for a subscribe, and what that is to its client.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::catchups::Progress;
use super::values::Values;
use crate::broker::BarrierId;
use crate::model::{Cursor, Pattern};
use crate::protocol::Opening;

/// The most topics that a gap names.
pub(super) const MAX_NAMED: usize = 100;

/// What is to be read for a subscribe.
pub struct Reading {
    /// Which of its subscribes.
    pub barrier: BarrierId,
    /// The number the client gave it.
    pub reference: Option<u64>,
    /// What is subscribed to.
    pub patterns: Arc<[Pattern]>,
    /// What is wanted where there is no usable `since`.
    pub first: First,
    /// The place up to which the client has everything.
    pub since: Option<Cursor>,
    /// Whether it misses events up to there all the same, which is a gap.
    pub is_short: bool,
    /// Whether the newest event of each topic is enough.
    pub is_conflated: bool,
    /// What the session says of how far to read.
    pub progress: UnboundedReceiver<Progress>,
}

/// What is sent first where there is no place to go on from.
#[derive(Debug, Clone)]
pub enum First {
    /// All that is kept.
    Nothing,
    /// The newest events of each topic.
    Values(Values),
    /// So many of the newest events of all topics together.
    Tail(usize),
}

impl First {
    /// What a subscribe to these patterns asks for.
    pub fn of(opening: Opening, patterns: &Arc<[Pattern]>) -> Self {
        match (opening, opening.of_each()) {
            (_, Some(count)) => Self::Values(Values::each(patterns.clone(), count)),
            (Opening::Tail(count), None) => Self::Tail(count),
            (_, None) => Self::Nothing,
        }
    }
}

/// What an event out of the history is to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of all that came after what the client has.
    Replayed,
    /// The newest of its topic, changed since what the client has.
    Changed,
    /// The current value of its topic.
    Snapshot,
}
