//! The bytes of an event in Redis, and of the messages on the log's channel.
//!
//! An entry is what a stream keeps of an event: `flags, length of the type, type, data`. From form 2 on the
//! [`Envelope`] may stand before the data, behind its length in two bytes, where a flag says so. A message is
//! what a script tells of one or more events; a node looks at each topic first, and reads the entry
//! behind it only where somebody wants it. Behind the events may stand what was removed.

use std::sync::Arc;

use super::super::Removal;
use crate::model::{Cursor, Data, Envelope, Event, EventType, LogName, NewEvent, Timestamp, Topic};

/// The highest form that this release reads; nodes tell each other.
pub(super) const READS: u8 = 4;

/// The form from which on a node tells what it removes.
pub(super) const TELLS_REMOVALS: u8 = 4;

/// The form from which on a node looks at what receipts say of the events, and not only at how a request came.
pub(super) const RECEIPTS_OF_EVENTS: u8 = 3;

/// The form from which on a type may be long.
const LONG_TYPES: u8 = 3;

/// The longest type that nodes below that form take, in bytes.
const SHORT_TYPE_BYTES: usize = 128;

const BASE64: u8 = 1;
const ENVELOPE: u8 = 2;

const NUMBERED: u8 = 1;
const LEFT_OUT: u8 = 2;

/// The form of messages; a node hears no other.
const FORM: u8 = 1;

/// The form of the entry of an event.
pub(super) fn form(event: &NewEvent) -> u8 {
    let type_bytes = event.kind.as_ref().map_or(0, |kind| kind.as_str().len());
    match &event.envelope {
        _ if type_bytes > SHORT_TYPE_BYTES => LONG_TYPES,
        Some(_) => 2,
        None => 1,
    }
}

/// The entry of an event.
pub(super) fn encode(event: &NewEvent) -> Vec<u8> {
    let kind = event.kind.as_ref().map_or("", |kind| kind.as_str());
    let data = event.data.json().get();
    let envelope = event.envelope.as_ref().map(|envelope| envelope.bytes());
    let around = 4 + kind.len() + envelope.map_or(0, <[u8]>::len);
    let mut entry = Vec::with_capacity(around + data.len());
    let base64 = if event.data.is_base64() { BASE64 } else { 0 };
    entry.push(base64 | if envelope.is_some() { ENVELOPE } else { 0 });
    // A type has at most 255 bytes, and an envelope `Envelope::MAX_BYTES`.
    entry.push(u8::try_from(kind.len()).unwrap_or(0));
    entry.extend_from_slice(kind.as_bytes());
    if let Some(envelope) = envelope {
        entry.extend_from_slice(&u16::try_from(envelope.len()).unwrap_or(0).to_be_bytes());
        entry.extend_from_slice(envelope);
    }
    entry.extend_from_slice(data.as_bytes());
    entry
}

/// The event of an entry; none where it is damaged, or is not to be delivered by who knows no more than this
/// release does.
pub(super) fn decode(
    entry: &[u8],
    topic: &Topic,
    time: Timestamp,
    cursor: Option<Cursor>,
) -> Option<Arc<Event>> {
    let (&flags, rest) = entry.split_first()?;
    let (&length, rest) = rest.split_first()?;
    if flags & !(BASE64 | ENVELOPE) != 0 {
        return None;
    }
    let (kind, mut data) = rest.split_at_checked(usize::from(length))?;
    let envelope = match flags & ENVELOPE {
        0 => None,
        _ => Some(Box::new(Envelope::read(sized(&mut data)?)?)),
    };
    let kind = match std::str::from_utf8(kind).ok()? {
        "" => None,
        kind => Some(EventType::parse(kind).ok()?),
    };
    let data = Data::from_stored(std::str::from_utf8(data).ok()?, flags & BASE64 != 0).ok()?;
    Some(Arc::new(Event { cursor, topic: topic.clone(), kind, time, data, envelope }))
}

/// Puts a whole event into a message: numbered, or ephemeral; none where it is larger than one can be.
pub(super) fn mention(
    message: &mut Vec<u8>,
    topic: &Topic,
    entry: &[u8],
    is_numbered: bool,
) -> Option<()> {
    let name = topic.as_str().as_bytes();
    message.extend([if is_numbered { NUMBERED } else { 0 }, u8::try_from(name.len()).ok()?]);
    message.extend(u32::try_from(entry.len()).ok()?.to_be_bytes());
    message.extend_from_slice(name);
    message.extend_from_slice(entry);
    Some(())
}

/// A message on the log's channel.
#[derive(Debug)]
pub(super) struct Announcement<'a> {
    /// The number before its first event.
    pub(super) previous: Cursor,
    /// The breach of the log, as in its record.
    pub(super) breach: u64,
    time: Timestamp,
    count: u32,
    rest: &'a [u8],
}

/// What a message tells of removals.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Removals {
    /// How often nodes were told of some before.
    pub(super) before: u64,
    /// Those that it tells of.
    pub(super) removed: Vec<Removal>,
}

/// How a message stands to what was heard before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is of an epoch that has ended.
    Old,
    /// It comes next, or repeats.
    Next,
    /// Something is missing before it.
    Hole,
    /// The log is not the one it was.
    Elsewhere,
}

/// An event in a message.
#[derive(Debug)]
pub(super) struct Mention<'a> {
    /// Its place; none where it is ephemeral.
    pub(super) cursor: Option<Cursor>,
    /// Its address.
    pub(super) topic: Topic,
    /// When the broker took it.
    pub(super) time: Timestamp,
    /// Its entry; none where it has to be fetched from its stream.
    pub(super) entry: Option<&'a [u8]>,
}

impl<'a> Announcement<'a> {
    /// Reads the head of a message; none where it is not one.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        if take(&mut rest, 1)? != [FORM] {
            return None;
        }
        let log = LogName::parse(std::str::from_utf8(take(&mut rest, LogName::LENGTH)?).ok()?)?;
        let (epoch, breach) = (number(&mut rest)?, number(&mut rest)?);
        let sequence = number(&mut rest)?;
        let time = Timestamp::from_millis(i64::try_from(number(&mut rest)?).ok()?);
        let count = u32::from_be_bytes(take(&mut rest, 4)?.try_into().ok()?);
        let previous = Cursor { log, epoch, sequence };
        Some(Self { previous, breach, time, count, rest })
    }

    /// How it stands to a place up to which all was heard, and to the breach that was told.
    pub(super) fn step(&self, end: Cursor, breach: u64) -> Standing {
        let previous = self.previous;
        if previous.log == end.log && previous.epoch < end.epoch {
            Standing::Old
        } else if previous.at(0) != end.at(0) || self.breach > breach {
            Standing::Elsewhere
        } else if previous.sequence > end.sequence {
            Standing::Hole
        } else {
            Standing::Next
        }
    }

    /// Its events in order; ends early where it is damaged.
    pub(super) fn mentions(&self) -> impl Iterator<Item = Mention<'a>> + use<'a> {
        let (mut place, time, mut left, mut rest) =
            (self.previous, self.time, self.count, self.rest);
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let (flags, topic, entry) = part(&mut rest)?;
            let topic = Topic::from_stored(std::str::from_utf8(topic).ok()?).ok()?;
            let is_numbered = flags & NUMBERED != 0;
            if is_numbered {
                place = place.at(place.sequence + 1);
            }
            let cursor = is_numbered.then_some(place);
            let entry = (flags & LEFT_OUT == 0).then_some(entry);
            Some(Mention { cursor, topic, time, entry })
        })
    }

    /// What it tells of removals; none where it tells of none, or is damaged.
    pub(super) fn removals(&self) -> Option<Removals> {
        let mut rest = self.rest;
        for _ in 0..self.count {
            part(&mut rest)?;
        }
        let before = number(&mut rest)?;
        let count = u32::from_be_bytes(take(&mut rest, 4)?.try_into().ok()?);
        let removed = (0..count).map(|_| {
            let &[is_superseded, length] = take(&mut rest, 2)? else { return None };
            let upto = number(&mut rest)?;
            let topic = std::str::from_utf8(take(&mut rest, usize::from(length))?).ok()?;
            let topic = Some(Topic::from_stored(topic).ok()?);
            Some(Removal { topic, upto, is_superseded: is_superseded != 0 })
        });
        Some(Removals { before, removed: removed.collect::<Option<_>>()? })
    }
}

/// The flags, the topic and the entry of an event in a message.
fn part<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8], &'a [u8])> {
    let &[flags, length] = take(rest, 2)? else { return None };
    let size = u32::from_be_bytes(take(rest, 4)?.try_into().ok()?);
    let topic = take(rest, usize::from(length))?;
    Some((flags, topic, take(rest, usize::try_from(size).ok()?)?))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

/// What comes behind its length, of two bytes.
fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u16::from_be_bytes(take(rest, 2)?.try_into().ok()?);
    take(rest, usize::from(length))
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(take(rest, 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(events: &[(u8, &str, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![FORM];
        bytes.extend(b"abcdefgh");
        for number in [2_u64, 3, 40, 1_000] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(u32::try_from(events.len()).unwrap().to_be_bytes());
        for (flags, topic, entry) in events {
            bytes.extend([*flags, u8::try_from(topic.len()).unwrap()]);
            bytes.extend(u32::try_from(entry.len()).unwrap().to_be_bytes());
            bytes.extend(topic.as_bytes());
            bytes.extend(*entry);
        }
        bytes
    }

    #[test]
    fn what_was_removed_stands_behind_the_events_of_a_message() {
        let mut bytes = message(&[(NUMBERED, "a", b"\0\x001")]);
        assert_eq!(Announcement::read(&bytes).unwrap().removals(), None);
        let bare = bytes.len();
        bytes.extend(7_u64.to_be_bytes());
        bytes.extend(2_u32.to_be_bytes());
        for (name, upto, is_superseded) in [("a", 40_u64, 1), ("b.c", 3, 0)] {
            bytes.extend([is_superseded, u8::try_from(name.len()).unwrap()]);
            bytes.extend(upto.to_be_bytes());
            bytes.extend(name.as_bytes());
        }
        let message = Announcement::read(&bytes).unwrap();
        assert_eq!(message.mentions().count(), 1, "as releases see it that know nothing of that");
        let removal = |name, upto, is_superseded| {
            let topic = Some(Topic::parse(name).unwrap());
            Removal { topic, upto, is_superseded }
        };
        let removed = vec![removal("a", 40, true), removal("b.c", 3, false)];
        assert_eq!(message.removals(), Some(Removals { before: 7, removed }));
        for cut in bare..bytes.len() {
            assert_eq!(Announcement::read(&bytes[..cut]).unwrap().removals(), None, "{cut}");
        }
    }

    #[test]
    fn an_entry_holds_an_event_byte_for_byte() {
        let topic = Topic::parse("a").unwrap();
        for (kind, data) in [
            (None, Data::from_json(br#"{"b": 1.10}"#, 9).unwrap()),
            (Some(EventType::parse("changed").unwrap()), Data::from_binary(&[0, 255])),
        ] {
            let new = NewEvent::new(topic.clone(), kind.clone(), data.clone());
            let time = Timestamp::from_millis(5);
            let event = decode(&encode(&new), &topic, time, None).unwrap();
            assert_eq!(event.kind, kind);
            assert_eq!(event.data.json().get(), data.json().get());
            assert_eq!(event.data.is_base64(), data.is_base64());
            assert_eq!(encode(&new).len() + 254 + topic.as_str().len(), event.cost());
        }
    }

    #[test]
    fn an_event_that_carries_nothing_is_stored_in_the_bytes_of_the_first_release() {
        let kind = Some(EventType::parse("changed").unwrap());
        let data = Data::from_json(br#"{"b": 1.10}"#, 9).unwrap();
        let new = NewEvent::new(Topic::parse("a").unwrap(), kind, data);
        assert_eq!(encode(&new), b"\0\x07changed{\"b\": 1.10}");
        assert_eq!(form(&new), 1);
    }

    #[test]
    fn members_of_a_later_release_are_not_shown_and_critical_ones_hold_the_event_back() {
        let topic = Topic::parse("a").unwrap();
        let read = |entry: &[u8]| {
            let event = decode(entry, &topic, Timestamp::from_millis(5), None)?;
            Some((
                event.kind.as_ref().map(|kind| kind.as_str().to_owned()),
                event.data.json().get().to_owned(),
            ))
        };
        let known = |kind: Option<&str>| Some((kind.map(str::to_owned), "17".to_owned()));
        assert_eq!(read(b"\x02\x01k\0\x05\x07\0\x02xy17"), known(Some("k")));
        assert_eq!(read(b"\x02\0\0\x08\x07\0\x02xy\x7f\0\x0017"), known(None));
        assert_eq!(read(b"\x02\0\x00\x0017"), known(None), "no members");
        for (entry, why) in [
            (&b"\x02\0\0\x05\x87\0\x02xy17"[..], "a critical one"),
            (b"\x02\0\0\x08\x07\0\x02xy\x80\0\x0017", "a critical one behind another"),
            (b"\x02\0\0\x05\x07\0\x09xy17", "one that is longer than all"),
            (b"\x02\0\0\x04\x07\0\x02xy17", "one that ends behind all"),
            (b"\x04\x0017", "a flag of a later form"),
        ] {
            assert_eq!(read(entry), None, "{why}");
        }
    }

    #[test]
    fn a_message_numbers_what_is_kept_and_not_what_is_ephemeral() {
        let bytes = message(&[(1, "a", b"xx"), (0, "now", b"y"), (3, "b", b"")]);
        let message = Announcement::read(&bytes).unwrap();
        assert_eq!(message.previous.to_string(), "abcdefgh-2-40");
        assert_eq!(message.breach, 3);
        let read: Vec<_> = message
            .mentions()
            .map(|mention| {
                let sequence = mention.cursor.map(|cursor| cursor.sequence);
                (sequence, mention.topic.to_string(), mention.entry.map(<[u8]>::to_vec))
            })
            .collect();
        let expected = [
            (Some(41), "a".to_owned(), Some(b"xx".to_vec())),
            (None, "now".to_owned(), Some(b"y".to_vec())),
            (Some(42), "b".to_owned(), None),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn a_message_comes_next_or_repeats_or_shows_a_hole_or_another_log() {
        let bytes = message(&[]);
        let message = Announcement::read(&bytes).unwrap();
        let step = |end, breach| message.step(Cursor::parse(end).unwrap(), breach);
        for (end, breach, expected) in [
            ("abcdefgh-2-40", 3, Standing::Next),
            ("abcdefgh-2-41", 3, Standing::Next),
            ("abcdefgh-2-39", 3, Standing::Hole),
            ("abcdefgh-3-40", 3, Standing::Old),
            ("abcdefgh-1-40", 3, Standing::Elsewhere),
            ("zzzzzzzz-2-40", 3, Standing::Elsewhere),
            ("abcdefgh-2-40", 2, Standing::Elsewhere),
        ] {
            assert_eq!(step(end, breach), expected, "{end} {breach}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let topic = Topic::parse("a").unwrap();
            _ = decode(&bytes, &topic, Timestamp::from_millis(0), None);
            if let Some(message) = Announcement::read(&bytes) {
                prop_assert!(message.mentions().count() <= 99);
            }
        }

        #[test]
        fn a_cut_message_gives_what_came_before_the_cut(cut in 0_usize..60) {
            let bytes = message(&[(1, "a", b"xx"), (1, "b", b"yy")]);
            let cut = &bytes[..cut.min(bytes.len())];
            if let Some(message) = Announcement::read(cut) {
                prop_assert!(message.mentions().count() <= 2);
            }
        }
    }
}
