//! What waits for one client.
//!
//! Pure state, the same for WebSocket and SSE: encoded messages in order, bounded in bytes, and at
//! the end of them, perhaps, a good-bye. The verdict when it is full is the caller's to speak; the
//! outbox only refuses.

use std::collections::VecDeque;

use bytes::Bytes;

/// What a small message costs beside its bytes, so that a million empty ones are not free.
const MESSAGE_OVERHEAD: usize = 64;

/// The messages that wait for one client.
#[derive(Debug)]
pub struct Outbox {
    messages: VecDeque<Bytes>,
    bytes: usize,
    max_bytes: usize,
    closing: bool,
}

/// More waits than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Outbox {
    /// An empty outbox that holds up to `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Self { messages: VecDeque::new(), bytes: 0, max_bytes, closing: false }
    }

    /// Adds a message; one is taken however large it is. After a good-bye it is dropped, for nobody
    /// will read it.
    pub fn push(&mut self, message: Bytes) -> Result<(), Full> {
        if self.closing {
            return Ok(());
        }
        let cost = message.len() + MESSAGE_OVERHEAD;
        if self.bytes + cost > self.max_bytes && !self.messages.is_empty() {
            return Err(Full);
        }
        self.bytes += cost;
        self.messages.push_back(message);
        Ok(())
    }

    /// Adds the last messages, over the bound if need be. The first good-bye counts.
    pub fn close(&mut self, good_bye: impl IntoIterator<Item = Bytes>) {
        if !self.closing {
            self.closing = true;
            for message in good_bye {
                self.bytes += message.len() + MESSAGE_OVERHEAD;
                self.messages.push_back(message);
            }
        }
    }

    /// Drops what waits: for a client that would not read it anyway.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }

    /// Moves messages of about `max_bytes` in all to the end of `batch`, at least one if any waits.
    pub fn take(&mut self, max_bytes: usize, batch: &mut VecDeque<Bytes>) {
        let mut taken = 0;
        while taken < max_bytes
            && let Some(message) = self.messages.pop_front()
        {
            taken += message.len();
            self.bytes -= message.len() + MESSAGE_OVERHEAD;
            batch.push_back(message);
        }
        if self.messages.is_empty() {
            // An idle session gives its queue back.
            self.messages = VecDeque::new();
        }
    }

    /// How much waits, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a replay may add a message of about `bytes`: it leaves half of the outbox to what is
    /// live.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.messages.is_empty() || self.bytes + bytes <= self.max_bytes / 2
    }

    /// The most that may wait, in bytes.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Whether a good-bye was added.
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether a good-bye was added and everything has been taken.
    pub fn is_finished(&self) -> bool {
        self.closing && self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(outbox: &mut Outbox) -> Vec<Bytes> {
        let mut batch = VecDeque::new();
        outbox.take(usize::MAX, &mut batch);
        batch.into()
    }

    #[test]
    fn messages_leave_in_order_in_batches_of_about_the_size_asked_for() {
        let mut outbox = Outbox::new(10_000);
        for text in ["aaaa", "bbbb", "cccc"] {
            outbox.push(text.into()).unwrap();
        }
        let mut batch = VecDeque::new();
        outbox.take(5, &mut batch);
        assert_eq!(batch, ["aaaa", "bbbb"]);
        assert_eq!(take_all(&mut outbox), ["cccc"]);
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn over_its_bound_it_refuses_and_keeps_what_it_has() {
        let mut outbox = Outbox::new(2 * (MESSAGE_OVERHEAD + 1));
        assert!(outbox.has_room(9));
        assert_eq!(outbox.push("a".into()), Ok(()));
        assert!(!outbox.has_room(1));
        assert_eq!(outbox.push("b".into()), Ok(()));
        assert_eq!(outbox.push("c".into()), Err(Full));
        assert_eq!(take_all(&mut outbox), ["a", "b"]);
        assert!(outbox.has_room(9));
    }

    #[test]
    fn one_message_is_taken_however_large() {
        let mut outbox = Outbox::new(100);
        assert_eq!(outbox.push(Bytes::from_static(&[0; 1_000])), Ok(()));
        assert_eq!(outbox.push("a".into()), Err(Full));
    }

    #[test]
    fn empty_messages_are_not_free() {
        let mut outbox = Outbox::new(1_000);
        assert!((0..100).any(|_| outbox.push(Bytes::new()).is_err()));
    }

    #[test]
    fn nothing_follows_the_first_good_bye_which_is_said_even_when_full() {
        let mut outbox = Outbox::new(1);
        outbox.close(["bye".into(), "close".into()]);
        outbox.close(["again".into()]);
        assert_eq!(outbox.push("late".into()), Ok(()));
        assert!(!outbox.is_finished());
        assert_eq!(take_all(&mut outbox), ["bye", "close"]);
        assert!(outbox.is_finished());
    }
}
