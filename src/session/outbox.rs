//! What waits for one client.
//!
//! Pure state, the same for WebSocket and SSE: encoded messages in order, bounded in bytes, and at
//! the end of them, perhaps, a good-bye. A transport writes from the front, as much as its socket
//! takes. The verdict when it is full is the caller's to speak; the outbox only refuses.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// What a small message costs beside its bytes, so that a million empty ones are not free.
const MESSAGE_OVERHEAD: usize = 64;

/// How many messages an empty outbox keeps room for.
const KEPT_ROOM: usize = 4;

/// The messages that wait for one client.
#[derive(Debug)]
pub struct Outbox {
    messages: VecDeque<Bytes>,
    bytes: usize,
    /// What is held back by who talks, which counts as well.
    held_bytes: usize,
    max_bytes: usize,
    /// The first message can't be taken back, for part of it was written, or has to be.
    begun: bool,
    closing: bool,
}

/// More waits than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Outbox {
    /// An empty outbox that holds up to `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        let (messages, bytes, held_bytes) = (VecDeque::new(), 0, 0);
        Self { messages, bytes, held_bytes, max_bytes, begun: false, closing: false }
    }

    /// Adds the first message, which can't be taken back: what answers a handshake leaves even where the
    /// session ends with it.
    pub fn begin(&mut self, first: Bytes) {
        if self.messages.is_empty() && !self.closing && !first.is_empty() {
            self.bytes += first.len() + MESSAGE_OVERHEAD;
            self.messages.push_back(first);
            self.begun = true;
        }
    }

    /// Adds a message; one is taken however large it is. After a good-bye it is dropped, for nobody
    /// will read it.
    pub fn push(&mut self, message: Bytes) -> Result<(), Full> {
        if self.closing {
            return Ok(());
        }
        let cost = message.len() + MESSAGE_OVERHEAD;
        if self.bytes + self.held_bytes + cost > self.max_bytes && !self.messages.is_empty() {
            return Err(Full);
        }
        self.bytes += cost;
        self.messages.push_back(message);
        Ok(())
    }

    /// Counts so much as held back, instead of what was before.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Full> {
        self.held_bytes = bytes;
        if self.bytes + bytes > self.max_bytes { Err(Full) } else { Ok(()) }
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

    /// Drops what waits, but for a message that is half written: for a client that would not read it
    /// anyway.
    pub fn clear(&mut self) {
        self.messages.truncate(usize::from(self.begun));
        self.bytes = self.messages.iter().map(|message| message.len() + MESSAGE_OVERHEAD).sum();
    }

    /// The first messages that wait, as many as `slices` has room for; returns how many.
    pub fn front<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let messages = self.messages.iter().zip(slices);
        messages.map(|(message, slice)| *slice = IoSlice::new(message)).count()
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Takes away the first `written` bytes.
    pub fn advance(&mut self, mut written: usize) {
        while let Some(message) = self.messages.front_mut() {
            if written < message.len() {
                message.advance(written);
                self.bytes -= written;
                self.begun |= written > 0;
                break;
            }
            written -= message.len();
            self.pop();
        }
        self.give_back_room();
    }

    /// Takes messages of about `max_bytes` in all as one, at least one if any waits.
    pub fn take(&mut self, max_bytes: usize) -> Option<Bytes> {
        let first = self.pop()?;
        let mut chunk = BytesMut::new();
        while first.len() + chunk.len() < max_bytes
            && let Some(message) = self.pop()
        {
            if chunk.is_empty() {
                chunk.extend_from_slice(&first);
            }
            chunk.extend_from_slice(&message);
        }
        self.give_back_room();
        Some(if chunk.is_empty() { first } else { chunk.freeze() })
    }

    fn pop(&mut self) -> Option<Bytes> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len() + MESSAGE_OVERHEAD;
        self.begun = false;
        Some(message)
    }

    /// An idle session gives its queue back.
    fn give_back_room(&mut self) {
        if self.messages.is_empty() && self.messages.capacity() > KEPT_ROOM {
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
        self.messages.is_empty() || self.bytes + self.held_bytes + bytes <= self.max_bytes / 2
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

    fn take_all(outbox: &mut Outbox) -> Bytes {
        outbox.take(usize::MAX).unwrap_or_default()
    }

    fn outbox(texts: &[&'static str]) -> Outbox {
        let mut outbox = Outbox::new(10_000);
        for text in texts {
            outbox.push((*text).into()).unwrap();
        }
        outbox
    }

    #[test]
    fn messages_leave_in_order_in_chunks_of_about_the_size_asked_for() {
        let mut outbox = outbox(&["aaaa", "bbbb", "cccc"]);
        assert_eq!(outbox.take(5).unwrap(), "aaaabbbb");
        assert_eq!(outbox.take(5).unwrap(), "cccc");
        assert_eq!(outbox.take(5), None);
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn what_was_written_leaves_from_the_front_wherever_that_ends() {
        for step in 1..=12 {
            let mut outbox = outbox(&["aaaa", "bbb", "", "ccccc"]);
            let mut written = Vec::new();
            while outbox.bytes() > 0 {
                let mut slices = [IoSlice::new(&[]); 2];
                let count = outbox.front(&mut slices);
                let all: Vec<u8> =
                    slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                let taken = step.min(all.len());
                written.extend_from_slice(&all[..taken]);
                outbox.advance(taken);
            }
            assert_eq!(written, b"aaaabbbccccc", "in steps of {step}");
        }
    }

    #[test]
    fn a_message_that_is_half_written_is_not_taken_back() {
        for (written, left) in [(0, ""), (3, "a"), (4, ""), (5, "bbb")] {
            let mut outbox = outbox(&["aaaa", "bbbb"]);
            outbox.advance(written);
            outbox.clear();
            assert_eq!(take_all(&mut outbox), left, "after {written}");
            assert_eq!(outbox.bytes(), 0);
        }
    }

    #[test]
    fn over_its_bound_it_refuses_and_keeps_what_it_has() {
        let mut outbox = Outbox::new(2 * (MESSAGE_OVERHEAD + 1));
        assert!(outbox.has_room(9));
        assert_eq!(outbox.push("a".into()), Ok(()));
        assert!(!outbox.has_room(1));
        assert_eq!(outbox.push("b".into()), Ok(()));
        assert_eq!(outbox.push("c".into()), Err(Full));
        assert_eq!(take_all(&mut outbox), "ab");
        assert!(outbox.has_room(9));
    }

    #[test]
    fn what_is_held_back_counts_as_what_waits() {
        let mut outbox = Outbox::new(2 * (MESSAGE_OVERHEAD + 1));
        assert_eq!(outbox.push("a".into()), Ok(()));
        assert_eq!(outbox.hold(MESSAGE_OVERHEAD), Ok(()));
        assert_eq!(outbox.push("b".into()), Err(Full));
        assert_eq!(outbox.hold(MESSAGE_OVERHEAD + 2), Err(Full));
        assert_eq!(outbox.hold(0), Ok(()));
        assert_eq!(outbox.push("b".into()), Ok(()));
    }

    #[test]
    fn one_message_is_taken_however_large() {
        let mut outbox = Outbox::new(100);
        assert_eq!(outbox.push(Bytes::from_static(&[0; 1_000])), Ok(()));
        assert_eq!(outbox.push("a".into()), Err(Full));
    }

    #[test]
    fn the_answer_to_a_handshake_leaves_even_where_nothing_else_does() {
        let mut outbox = Outbox::new(1_000);
        outbox.begin("101".into());
        outbox.push("event".into()).unwrap();
        outbox.clear();
        outbox.close(["bye".into()]);
        assert_eq!(take_all(&mut outbox), "101bye");
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
        assert_eq!(take_all(&mut outbox), "byeclose");
        assert!(outbox.is_finished());
    }
}
