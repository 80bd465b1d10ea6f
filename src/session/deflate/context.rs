//! What clients' compressed messages refer back to: the end of those before, bounded in sum over all connections.
//!
//! An inflater with its state takes 40 KiB; of it only the window is a connection's own, and of that only what
//! the client has sent. So a connection keeps these bytes, and the inflater stays the thread's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Room for what clients' messages refer back to, in bytes over all connections. Copies are the same room.
#[derive(Debug, Clone)]
pub struct Contexts(Arc<AtomicUsize>);

/// What one client's messages refer back to. Its room is taken for as long as it lives, whether it is full or not.
#[derive(Debug)]
pub struct ClientContext {
    room: Contexts,
    window: usize,
    past: Vec<u8>,
}

impl Contexts {
    /// Room for so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// A context of a window of `1 << bits` bytes, if there is room.
    pub fn take(&self, bits: u8) -> Option<ClientContext> {
        let window = 1 << bits;
        let less = |left: usize| left.checked_sub(window);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok()?;
        Some(ClientContext { room: self.clone(), window, past: Vec::new() })
    }
}

impl Drop for ClientContext {
    fn drop(&mut self) {
        self.room.0.fetch_add(self.window, Ordering::Relaxed);
    }
}

impl ClientContext {
    /// The end of what was sent, as far back as the next message may refer.
    pub(super) fn past(&self) -> &[u8] {
        &self.past
    }

    /// Adds what was sent. Room is taken in powers of two, for most clients say little.
    pub(super) fn remember(&mut self, sent: &[u8]) {
        let sent = &sent[sent.len().saturating_sub(self.window)..];
        let length = self.past.len() + sent.len();
        self.past.drain(..length.saturating_sub(self.window));
        let needed = self.past.len() + sent.len();
        if needed > self.past.capacity() {
            self.past.reserve_exact(needed.next_power_of_two().min(self.window) - self.past.len());
        }
        self.past.extend_from_slice(sent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_remembered_and_takes_no_more_than_its_window() {
        let mut context = Contexts::new(1 << 9).take(9).unwrap();
        let all: Vec<u8> = (0..4_000_u32).map(|n| (n % 251) as u8).collect();
        let mut sent = 0;
        for length in [1, 100, 0, 400, 12, 600, 511, 512, 513, 7] {
            context.remember(&all[sent..sent + length]);
            sent += length;
            assert_eq!(context.past(), &all[sent.saturating_sub(512)..sent], "{sent}");
            assert!(context.past.capacity() <= 512);
        }
    }

    #[test]
    fn there_is_room_for_so_much_and_it_comes_back() {
        let room = Contexts::new(3 << 10);
        let [first, _second, _third] = [10, 10, 10].map(|bits| room.take(bits).unwrap());
        assert!(room.take(10).is_none());
        drop(first);
        assert!(room.take(11).is_none() && room.take(10).is_some() && room.take(10).is_some());
    }
}
