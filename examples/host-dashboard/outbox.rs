//! What is still to be published, oldest first.
//!
//! Bounded: when the broker is away for longer than there is room, the oldest sample goes, which is
//! said on stderr. A batch keeps its idempotency key for as long as it waits, so that sending it
//! again can't store it twice.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use tokio::sync::Notify;

/// One request: the events of one sample.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The same each time this batch is sent.
    pub idempotency_key: String,
    /// The body of `POST /v1/events`.
    pub body: String,
}

/// A bounded queue of batches.
#[derive(Debug)]
pub struct Outbox {
    batches: RefCell<VecDeque<Batch>>,
    room: usize,
    dropped: Cell<u64>,
    added: Notify,
}

impl Outbox {
    /// An empty outbox that holds at most `room` batches.
    pub fn with_room_for(room: usize) -> Self {
        Self { batches: RefCell::default(), room, dropped: Cell::new(0), added: Notify::new() }
    }

    /// Adds a batch at the end; where there is no room, the oldest one goes.
    pub fn push(&self, batch: Batch) {
        let mut batches = self.batches.borrow_mut();
        if batches.len() == self.room {
            batches.pop_front();
            self.dropped.set(self.dropped.get() + 1);
        }
        batches.push_back(batch);
        self.added.notify_one();
    }

    /// The oldest batch, once there is one. It stays until it is [removed](Self::remove).
    pub async fn first(&self) -> Batch {
        loop {
            if let Some(batch) = self.batches.borrow().front() {
                return batch.clone();
            }
            self.added.notified().await;
        }
    }

    /// Removes a batch that is done with, unless it had to make room already.
    pub fn remove(&self, done: &Batch) {
        let mut batches = self.batches.borrow_mut();
        if batches.front().is_some_and(|first| first.idempotency_key == done.idempotency_key) {
            batches.pop_front();
        }
    }

    /// How many batches wait.
    pub fn len(&self) -> usize {
        self.batches.borrow().len()
    }

    /// How many had to make room since this was last asked.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.take()
    }
}
