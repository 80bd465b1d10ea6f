//! Which session sits where, so that what is addressed to one that left is nobody's.

use slab::Slab;

use super::super::flush::Round;
use super::super::subscriber::Subscriber;
use super::super::{SessionInfo, SessionKey};

/// The sessions of a worker, by their keys.
pub(super) struct Slots<S> {
    entries: Slab<Entry<S>>,
    next_number: u32,
}

/// One session, as its worker has it.
pub(super) struct Entry<S> {
    number: u32,
    pub(super) info: SessionInfo,
    pub(super) subscriber: Box<S>,
    /// Ticks between two of its heartbeats.
    every: u32,
    /// The tick, modulo these, at which one is due: the one it came in, so that heartbeats spread as
    /// connections did.
    beat: u32,
    /// When it last wrote.
    pub(super) wrote: Round,
}

impl<S> Default for Slots<S> {
    fn default() -> Self {
        Self { entries: Slab::new(), next_number: 0 }
    }
}

impl<S: Subscriber> Slots<S> {
    /// Has a session sit in a free slot, at this tick.
    pub(super) fn enter(
        &mut self,
        info: SessionInfo,
        subscriber: Box<S>,
        ticks: u64,
    ) -> SessionKey {
        let (number, every) = (self.next_number, subscriber.heartbeat().max(1));
        self.next_number = number.wrapping_add(1);
        let beat = (ticks % u64::from(every)) as u32;
        let entry = Entry { number, info, subscriber, every, beat, wrote: Round::default() };
        // There are fewer sessions than descriptors.
        SessionKey { slot: self.entries.insert(entry) as u32, number }
    }
}

impl<S> Slots<S> {
    /// Takes a session out of its slot.
    pub(super) fn leave(&mut self, key: SessionKey) -> Option<Entry<S>> {
        self.get(key)?;
        self.entries.try_remove(key.slot as usize)
    }

    pub(super) fn get(&self, key: SessionKey) -> Option<&Entry<S>> {
        self.entries.get(key.slot as usize).filter(|entry| entry.number == key.number)
    }

    pub(super) fn get_mut(&mut self, key: SessionKey) -> Option<&mut Entry<S>> {
        self.entries.get_mut(key.slot as usize).filter(|entry| entry.number == key.number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionKey, &Entry<S>)> {
        self.entries.iter().map(|(slot, entry)| (entry.key(slot), entry))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (SessionKey, &mut Entry<S>)> {
        self.entries.iter_mut().map(|(slot, entry)| (entry.key(slot), entry))
    }

    pub(super) fn keys(&self) -> Vec<SessionKey> {
        self.iter().map(|(key, _)| key).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl<S> Entry<S> {
    fn key(&self, slot: usize) -> SessionKey {
        SessionKey { slot: slot as u32, number: self.number }
    }

    /// Whether its heartbeat is due at this tick.
    pub(super) fn is_due(&self, ticks: u64) -> bool {
        ticks % u64::from(self.every) == u64::from(self.beat)
    }
}
