//! The events that go in one request.
//!
//! Pure: bounded in number and bytes; when it is sent is for others to say. What a broker refuses for the sake of
//! one event is sent again in halves, so that the others are kept and the one is found.

use bytes::{Bytes, BytesMut};

/// Events as lines of JSON, with the numbers of the lines they came from.
#[derive(Debug, Default)]
pub struct Batch {
    body: BytesMut,
    lines: Vec<Line>,
}

/// Where an event came from, and where it ends in the body.
#[derive(Debug, Clone, Copy)]
struct Line {
    number: u64,
    end: usize,
}

impl Batch {
    /// The most events a batch, far below what a broker takes by default.
    const MAX_EVENTS: usize = 1_000;
    /// The most bytes a batch, unless a single event has more.
    const MAX_BYTES: usize = 1 << 20;

    /// Adds the event of a line.
    pub fn push(&mut self, number: u64, event: &str) {
        self.body.extend_from_slice(event.as_bytes());
        self.body.extend_from_slice(b"\n");
        self.lines.push(Line { number, end: self.body.len() });
    }

    /// Takes everything out.
    pub fn take(&mut self) -> Part {
        Part { body: self.body.split().freeze(), lines: std::mem::take(&mut self.lines), begin: 0 }
    }

    /// Whether the event still fits; anything fits an empty batch.
    pub fn has_room_for(&self, event: &str) -> bool {
        self.is_empty() || self.body.len() + event.len() < Self::MAX_BYTES
    }

    /// Whether no more should come in.
    pub fn is_full(&self) -> bool {
        self.lines.len() >= Self::MAX_EVENTS || self.body.len() >= Self::MAX_BYTES
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// Events that go in one request: a batch, or what is left of one that was refused.
#[derive(Debug)]
pub struct Part {
    body: Bytes,
    lines: Vec<Line>,
    /// Where the body begins in that of the batch.
    begin: usize,
}

impl Part {
    /// The events, one a line.
    pub fn body(&self) -> Bytes {
        self.body.clone()
    }

    /// How many events are in it.
    pub fn events(&self) -> u64 {
        self.lines.len() as u64
    }

    /// The lines that it came from, for a message.
    pub fn place(&self) -> String {
        match &self.lines[..] {
            [] => "no line".to_owned(),
            [only] => format!("line {}", only.number),
            [first, .., last] => format!("lines {} to {}", first.number, last.number),
        }
    }

    /// Its first and its second half, in their order; itself where it is of one event.
    pub fn halves(mut self) -> Result<(Self, Self), Self> {
        let half = self.lines.len() / 2;
        if half == 0 {
            return Err(self);
        }
        let lines = self.lines.split_off(half);
        let begin = self.lines.last().map_or(self.begin, |line| line.end);
        let body = self.body.split_off(begin - self.begin);
        Ok((self, Self { body, lines, begin }))
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
        let part = batch.take();
        assert_eq!((part.events(), part.place().as_str()), (1_000, "lines 1 to 1000"));
        assert_eq!(part.body().len(), 3_000);
        assert!(batch.is_empty() && !batch.is_full());

        batch.push(1_001, &"x".repeat(1 << 19));
        assert!(batch.has_room_for("{}") && !batch.has_room_for(&"x".repeat(1 << 19)));
        assert_eq!(batch.take().place(), "line 1001");
    }

    #[test]
    fn halves_of_halves_are_the_events_one_by_one_and_in_order() {
        let mut batch = Batch::default();
        let events = ["{}", "[1]", "", "{\"a\":1}", "2"];
        for (line, event) in (10..).step_by(5).zip(events) {
            batch.push(line, event);
        }
        let (mut parts, mut single) = (vec![batch.take()], Vec::new());
        while let Some(part) = parts.pop() {
            match part.halves() {
                Ok((first, second)) => parts.extend([second, first]),
                Err(only) => single.push((only.place(), only.body())),
            }
        }
        let expected = (10..).step_by(5).zip(events);
        let expected =
            expected.map(|(line, event)| (format!("line {line}"), format!("{event}\n").into()));
        assert_eq!(single, expected.collect::<Vec<(String, Bytes)>>());
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
