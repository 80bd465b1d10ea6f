//! The events that go in one request.
//!
//! Pure: bounded in number and bytes; when it is sent is for others to say.

use bytes::{Bytes, BytesMut};

/// Events as lines of JSON, with the numbers of the lines they came from.
#[derive(Debug, Default)]
pub struct Batch {
    body: BytesMut,
    events: u64,
    first_line: u64,
    last_line: u64,
}

impl Batch {
    /// The most events a batch, far below what a broker takes by default.
    const MAX_EVENTS: u64 = 1_000;
    /// The most bytes a batch, unless a single event has more.
    const MAX_BYTES: usize = 1 << 20;

    /// Adds the event of a line.
    pub fn push(&mut self, line: u64, event: &str) {
        if self.events == 0 {
            self.first_line = line;
        }
        self.last_line = line;
        self.events += 1;
        self.body.extend_from_slice(event.as_bytes());
        self.body.extend_from_slice(b"\n");
    }

    /// Takes everything out.
    pub fn take(&mut self) -> Bytes {
        self.events = 0;
        self.body.split().freeze()
    }

    /// Whether the event still fits; anything fits an empty batch.
    pub fn has_room_for(&self, event: &str) -> bool {
        self.is_empty() || self.body.len() + event.len() < Self::MAX_BYTES
    }

    /// Whether no more should come in.
    pub fn is_full(&self) -> bool {
        self.events >= Self::MAX_EVENTS || self.body.len() >= Self::MAX_BYTES
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// How many events are in it.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The first and the last line in it.
    pub fn lines(&self) -> (u64, u64) {
        (self.first_line, self.last_line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_bounded_in_events_and_bytes() {
        let mut batch = Batch::default();
        for line in 1..=1_000 {
            assert!(!batch.is_full() && batch.has_room_for("{}"));
            batch.push(line, "{}");
        }
        assert!(batch.is_full());
        assert_eq!((batch.events(), batch.lines()), (1_000, (1, 1_000)));
        assert_eq!(batch.take().len(), 3_000);
        assert!(batch.is_empty() && !batch.is_full());

        batch.push(1_001, &"x".repeat(1 << 19));
        assert!(batch.has_room_for("{}") && !batch.has_room_for(&"x".repeat(1 << 19)));
        assert_eq!(batch.lines(), (1_001, 1_001));
    }

    #[test]
    fn a_large_event_goes_alone() {
        let mut batch = Batch::default();
        let large = "x".repeat(2 << 20);
        assert!(batch.has_room_for(&large));
        batch.push(1, &large);
        assert!(batch.is_full());
    }
}
