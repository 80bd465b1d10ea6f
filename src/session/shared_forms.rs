//! The bytes of events out of the history, kept for whoever comes back next: of a crowd that does, the first has an event
//! encoded, and compressed, and the others have the bytes.
//!
//! Pure state, and one for each worker thread, so that nobody waits for another. An event is known by its place in the log, for
//! nothing else ever stands there; what is said of it beside that (`replay`, `snapshot`, `conflated`) makes other bytes. Who may
//! see an event was decided before it is asked for here. Of two generations the older goes where both are too much.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::mem;

use bytes::Bytes;

use crate::broker::FormKey;
use crate::model::{Cursor, Event};
use crate::protocol::Annotations;

/// What is kept of an event costs so much beside its bytes, about.
const COST: usize = 192;

/// Who begins to number its requests at each connection has lower ones; replays of others are their own.
const SHARED_NUMBERS: u64 = 16;

/// Wire forms of events out of the history.
#[derive(Debug, Default)]
pub struct SharedForms {
    max_bytes: usize,
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    forms: HashMap<Key, Bytes, BuildHasherDefault<BySequence>>,
    bytes: usize,
}

/// By what bytes are known.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    place: Cursor,
    form: FormKey,
    annotations: Annotations,
}

impl SharedForms {
    /// Nothing yet; later about so many bytes.
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }

    /// The bytes of an event in a form, made now unless they are here.
    pub fn get(
        &mut self,
        event: &Event,
        form: FormKey,
        annotations: &Annotations,
        encode: impl FnOnce() -> Bytes,
    ) -> Bytes {
        let Some(key) = Key::of(event, form, annotations) else { return encode() };
        if let Some(bytes) = self.young.forms.get(&key) {
            return bytes.clone();
        }
        let bytes = self.old.forms.remove(&key).unwrap_or_else(encode);
        self.keep(key, bytes.clone());
        bytes
    }

    fn keep(&mut self, key: Key, bytes: Bytes) {
        let (cost, most) = (bytes.len() + COST, self.max_bytes / 2);
        if cost > most {
            return;
        }
        if self.young.bytes + cost > most {
            self.old = mem::take(&mut self.young);
        }
        self.young.bytes += cost;
        self.young.forms.insert(key, bytes);
    }
}

impl Key {
    /// None where others would not ask for the same, or what is told of the topic depends on who is there.
    fn of(event: &Event, form: FormKey, annotations: &Annotations) -> Option<Self> {
        let Annotations { replay, skipped, .. } = annotations;
        let is_own = *skipped > 0 || replay.is_some_and(|number| number >= SHARED_NUMBERS);
        let place = event.cursor.filter(|_| !is_own && !event.topic.is_reserved())?;
        Some(Self { place, form, annotations: *annotations })
    }
}

/// Events are told apart by their number, which no client chooses; few have the same.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.place.sequence);
    }
}

/// Spreads numbers that follow each other over the whole range.
#[derive(Debug, Default)]
struct BySequence(u64);

impl BySequence {
    /// 2^64 divided by the golden ratio, as Knuth has it for multiplicative hashing.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
}

impl Hasher for BySequence {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let product = (self.0 ^ number).wrapping_mul(Self::FACTOR);
        self.0 = product ^ (product >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Data, LogName, Timestamp, Topic};

    fn event(topic: &str, sequence: u64) -> Event {
        let log = LogName::parse("abcdefgh").unwrap();
        Event {
            cursor: Some(Cursor { log, epoch: 1, sequence }),
            topic: Topic::from_stored(topic).unwrap(),
            kind: None,
            time: Timestamp::from_millis(0),
            data: Data::from_text("x"),
            envelope: None,
        }
    }

    fn replay(number: u64) -> Annotations {
        Annotations { replay: Some(number), ..Annotations::default() }
    }

    /// Whether an event had to be encoded.
    fn is_made(
        forms: &mut SharedForms,
        event: &Event,
        form: FormKey,
        annotations: &Annotations,
    ) -> bool {
        let mut is_made = false;
        let text = format!("{:?} {form:?} {annotations:?}", event.cursor);
        let bytes = forms.get(event, form, annotations, || {
            is_made = true;
            text.clone().into()
        });
        assert_eq!(bytes, text);
        is_made
    }

    #[test]
    fn what_is_the_same_to_several_is_made_once_and_what_is_not_is_never_taken_for_it() {
        let (plain, small) = (FormKey(1, 0), FormKey(1, 1));
        let snapshot = Annotations { snapshot: true, ..Annotations::default() };
        let conflated = Annotations { conflated: true, ..Annotations::default() };
        let other_epoch = Event {
            cursor: event("a", 1).cursor.map(|cursor| Cursor { epoch: 2, ..cursor }),
            ..event("a", 1)
        };
        let mut forms = SharedForms::new(1 << 20);
        for is_first in [true, false] {
            for event in [event("a", 1), event("a", 2), other_epoch.clone()] {
                for form in [plain, small] {
                    for how in [replay(0), replay(1), snapshot, conflated] {
                        assert_eq!(is_made(&mut forms, &event, form, &how), is_first, "{how:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_only_one_session_is_told_so_is_not_kept() {
        let mut forms = SharedForms::new(1 << 20);
        let skipped = Annotations { conflated: true, skipped: 3, ..Annotations::default() };
        let ephemeral = Event { cursor: None, ..event("a", 1) };
        for _ in 0..2 {
            for (event, how) in [
                (event("a", 1), replay(SHARED_NUMBERS)),
                (event("a", 1), skipped),
                (event("$presence.a", 1), replay(0)),
                (ephemeral.clone(), replay(0)),
            ] {
                assert!(is_made(&mut forms, &event, FormKey(1, 0), &how), "{how:?}");
            }
        }
    }

    #[test]
    fn it_holds_no_more_than_it_may_and_keeps_what_is_asked_for_again() {
        let max_bytes = 40 * (COST + 200);
        let mut forms = SharedForms::new(max_bytes);
        let (form, how) = (FormKey(1, 0), replay(0));
        let mut made = 0;
        for number in 1..1_000 {
            made += usize::from(is_made(&mut forms, &event("a", 0), form, &how));
            assert!(is_made(&mut forms, &event("a", number), form, &how), "{number}");
            let Generation { forms: young, bytes } = &forms.young;
            let counted: usize = young.values().map(|bytes| bytes.len() + COST).sum();
            assert_eq!(*bytes, counted);
            assert!(bytes + forms.old.bytes <= max_bytes);
        }
        assert_eq!(made, 1, "it was asked for all the time");
        assert!(is_made(&mut forms, &event("a", 1), form, &how), "that is long ago");
        let mut none = SharedForms::new(0);
        assert!((0..2).all(|_| is_made(&mut none, &event("a", 1), form, &how)));
    }
}
