//! What a log has from before a start, as far as it is worth having at hand.

use std::sync::Arc;

use super::Removal;
use crate::model::{Cursor, Event};

/// The newest that a log had when it was opened.
#[derive(Debug)]
pub struct Earlier {
    /// All that is kept after this place is among the events, or is said to be missing.
    pub after: Cursor,
    /// Up to where the log was opened at.
    pub upto: Cursor,
    /// In order.
    pub events: Vec<Arc<Event>>,
    /// What is missing of what came after that place: removed, or not to be had.
    pub missing: Vec<Removal>,
}

/// Who takes it; nothing where the log does not know enough of it.
pub type TakeEarlier = Box<dyn FnOnce(Option<Earlier>) + Send>;
