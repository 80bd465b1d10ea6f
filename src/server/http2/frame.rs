//! Frames and heads of HTTP/2 as they are on the wire (RFC 9113, sections 4 and 6). Pure: what is read is told
//! and nothing is remembered.

use std::ops::Range;

use super::fields::{Field, Fields, Text};

/// The bytes of a frame before what it carries (RFC 9113, section 4.1).
const FRAME_HEAD: usize = 9;

/// The most that a frame carries here, as we never announced more.
const MAX_FRAME: usize = 16_384;

/// The most bytes and frames of a head that are held until it is whole. `h2` refuses longer ones.
const MAX_HELD: usize = 64 * 1024;
const MAX_FRAMES_OF_HEAD: usize = 6;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The letter that stands for a `>`: no topic, pattern or URL has it.
pub(super) const STAND_IN: u8 = b'\\';

/// The head of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// Its length, with its head.
    pub(super) bytes: usize,
    pub(super) kind: u8,
    flags: u8,
    pub(super) stream: u32,
}

impl Frame {
    /// Reads it; nothing where it is not whole.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *bytes.first_chunk::<FRAME_HEAD>()?;
        let carried = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        Some(Self { bytes: FRAME_HEAD + carried, kind, flags, stream })
    }

    /// What a frame of a head has of its fields, by its place.
    fn fields(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let (mut from, mut to) = (FRAME_HEAD, self.bytes);
        if self.kind == HEADERS && self.flags & PADDED != 0 {
            to = to.checked_sub(usize::from(*bytes.get(from)?))?;
            from += 1;
        }
        if self.kind == HEADERS && self.flags & PRIORITY != 0 {
            from += 5;
        }
        (from <= to).then_some(from..to)
    }
}

/// How long the head is that `bytes` begin with; nothing where it is not whole. One that `h2` will refuse is
/// as long as what is there of it.
pub(super) fn head_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    for nth in 0.. {
        let frame = Frame::read(bytes.get(at..)?)?;
        let goes_on = nth == 0 || frame.kind == CONTINUATION;
        if !goes_on || nth == MAX_FRAMES_OF_HEAD || at > MAX_HELD {
            break;
        }
        if frame.bytes > FRAME_HEAD + MAX_FRAME {
            return Some(at + frame.bytes.min(bytes.len() - at));
        }
        at += frame.bytes;
        if frame.flags & END_HEADERS != 0 {
            return (at <= bytes.len()).then_some(at);
        }
    }
    Some(at)
}

/// The fields of a whole head, put together.
pub(super) fn fields_of(head: &[u8]) -> Vec<u8> {
    let (mut fields, mut rest) = (Vec::new(), head);
    while let Some(frame) = Frame::read(rest).filter(|frame| frame.bytes <= rest.len()) {
        let place = frame.fields(rest).unwrap_or_default();
        fields.extend_from_slice(&rest[place]);
        rest = &rest[frame.bytes..];
    }
    fields
}

/// A head of one frame whose path was typed with a `>`, with another letter in its place. As long a text is what
/// both ends remember alike.
pub(super) fn amended(head: &[u8]) -> Option<Vec<u8>> {
    let frame = Frame::read(head).filter(|frame| frame.bytes == head.len())?;
    let fields = frame.fields(head)?;
    let path = Fields::of(head.get(fields.clone())?).find(Field::is_path)?.value?;
    let mut text = path.read()?;
    if !text.contains(&b'>') || text.contains(&STAND_IN) {
        return None;
    }
    text.iter_mut().filter(|byte| **byte == b'>').for_each(|byte| *byte = STAND_IN);
    let Range { start, end } = path.place;
    let (before, behind) = (head.get(..fields.start + start)?, head.get(fields.start + end..)?);
    let mut amended = [before, &Text::write(&text), behind].concat();
    let carried = u32::try_from(amended.len() - FRAME_HEAD).ok()?;
    amended.get_mut(..3)?.copy_from_slice(&carried.to_be_bytes()[1..]);
    (amended.len() <= FRAME_HEAD + MAX_FRAME).then_some(amended)
}
