//! JSON text to CBOR, in one pass over the tokens.
//!
//! The length of an array or object is known only at its end, so its head is filled in then: heads
//! stay definite and as short as can be (RFC 8949, section 4.1), for readers that know no others.
//! The text is valid JSON already; nesting is kept in a list, so that none is too deep.

use std::collections::HashSet;
use std::ops::Range;

use super::{Major, bignum, tag};

const FALSE: u8 = 0xf4;
/// The item `true`.
pub(super) const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;
const HALF: u8 = 0xf9;
const SINGLE: u8 = 0xfa;
const DOUBLE: u8 = 0xfb;

/// Writes the head of an item.
pub(super) fn head(out: &mut Vec<u8>, major: Major, argument: u64) {
    let bytes = argument.to_be_bytes();
    let (info, tail) = match argument {
        0..=23 => (bytes[7], &bytes[8..]),
        24..=0xff => (24, &bytes[7..]),
        0x100..=0xffff => (25, &bytes[6..]),
        0x1_0000..=0xffff_ffff => (26, &bytes[4..]),
        _ => (27, &bytes[..]),
    };
    out.push((major as u8) << 5 | info);
    out.extend_from_slice(tail);
}

/// Leaves room for the head of an item whose length is not known yet, and returns where.
pub(super) fn begin(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len() - 1
}

/// Puts the head of an item where room was left for it. One byte does for most; only behind a
/// longer one the content has to move.
pub(super) fn end(out: &mut Vec<u8>, start: usize, major: Major, length: usize) {
    let end = out.len();
    head(out, major, length as u64);
    out[start] = out.remove(end);
    let longer = out.len() - end;
    out[start + 1..].rotate_right(longer);
}

/// Writes a text string.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    head(out, Major::Text, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Writes a byte string.
pub(super) fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, Major::Bytes, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// An array or object whose end is yet to come.
struct Open {
    major: Major,
    start: usize,
    items: usize,
    /// Where the names of a map are.
    names: Vec<Range<usize>>,
}

impl Open {
    /// Whether what comes next is the name of a member.
    fn is_at_name(&self) -> bool {
        self.major == Major::Map && self.items.is_multiple_of(2)
    }
}

/// Writes what a JSON text holds. Of members of one name in one object the last is written, which is the one that
/// JavaScript takes: a map may have it once (RFC 8949, section 5.6).
pub(super) fn json(out: &mut Vec<u8>, json: &str) {
    let mut open: Vec<Open> = Vec::new();
    let mut rest = json;
    while let Some(first) = rest.bytes().next() {
        let length = match first {
            b'"' => string_length(rest),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => scalar_length(rest),
            _ => 1,
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        match first {
            b'[' | b'{' => {
                let major = if first == b'[' { Major::Array } else { Major::Map };
                open.push(Open { major, start: begin(out), items: 0, names: Vec::new() });
                continue;
            }
            b']' | b'}' => {
                if let Some(Open { major, start, items, names }) = open.pop() {
                    let is_map = major == Major::Map;
                    let length = if is_map { keep_last(out, &names) } else { items };
                    end(out, start, major, length);
                }
            }
            b'"' => {
                let before = out.len();
                string(out, token);
                if let Some(map) = open.last_mut().filter(|parent| parent.is_at_name()) {
                    map.names.push(before..out.len());
                }
            }
            b't' => out.push(TRUE),
            b'f' => out.push(FALSE),
            b'n' => out.push(NULL),
            b'-' | b'0'..=b'9' => number(out, token),
            _ => continue,
        }
        if let Some(parent) = open.last_mut() {
            parent.items += 1;
        }
    }
}

/// Takes out of a map at the end of `out` what another member of the same name follows, and says how many members
/// are left.
fn keep_last(out: &mut Vec<u8>, names: &[Range<usize>]) -> usize {
    if names.len() < 2 {
        return names.len();
    }
    let name = |at: usize| names.get(at).and_then(|range| out.get(range.clone()));
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_unstable_by_key(|&at| (name(at), at));
    let pairs = order.windows(2).filter(|pair| name(pair[0]) == name(pair[1]));
    let early: HashSet<usize> = pairs.map(|pair| pair[0]).collect();
    let Some(first) = names.first().filter(|_| !early.is_empty()) else { return names.len() };
    let mut end = first.start;
    for at in (0..names.len()).filter(|at| !early.contains(at)) {
        let next = names.get(at + 1).map_or(out.len(), |next| next.start);
        let member = names[at].start..next;
        out.copy_within(member.clone(), end);
        end += member.len();
    }
    out.truncate(end);
    names.len() - early.len()
}

/// The length of the string token at the start of a text, with its quotes.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    end.map_or(text.len(), |end| end + 2)
}

/// The length of the number or word at the start of a text.
fn scalar_length(text: &str) -> usize {
    let ends = |byte: u8| !(byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    text.bytes().position(ends).unwrap_or(text.len())
}

fn string(out: &mut Vec<u8>, token: &str) {
    let content = token.strip_prefix('"').unwrap_or(token);
    let content = content.strip_suffix('"').unwrap_or(content);
    if content.contains('\\') { text(out, &unescaped(content)) } else { text(out, content) }
}

/// The text behind the escapes. JSON can write half a surrogate pair, which no text in CBOR can
/// hold; it becomes U+FFFD.
fn unescaped(content: &str) -> String {
    let mut units = Vec::with_capacity(content.len());
    let mut rest = content.chars();
    while let Some(char) = rest.next() {
        if char != '\\' {
            units.extend_from_slice(char.encode_utf16(&mut [0; 2]));
            continue;
        }
        units.push(match rest.next() {
            Some('b') => 0x08,
            Some('t') => 0x09,
            Some('n') => 0x0a,
            Some('f') => 0x0c,
            Some('r') => 0x0d,
            Some('u') => rest
                .by_ref()
                .take(4)
                .filter_map(|digit| digit.to_digit(16))
                .fold(0, |unit, digit| unit << 4 | digit as u16),
            Some(other) => other as u16,
            None => break,
        });
    }
    char::decode_utf16(units).map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Writes a number: integers as integers, and others as floats where a float comes near them.
fn number(out: &mut Vec<u8>, token: &str) {
    let (is_negative, magnitude) = match token.strip_prefix('-') {
        Some(magnitude) => (true, magnitude),
        None => (false, token),
    };
    if magnitude.contains(['.', 'e', 'E']) {
        let nearest: f64 = token.parse().unwrap_or(f64::NAN);
        if nearest.is_finite() && (nearest != 0.0 || is_zero(magnitude)) {
            float(out, nearest);
        } else {
            Decimal::parse(magnitude).write(out, is_negative);
        }
    } else if is_negative && magnitude == "0" {
        // No integer has a sign at zero, but JavaScript's numbers do.
        float(out, -0.0);
    } else if magnitude.len() <= bignum::MAX_DIGITS {
        integer(out, is_negative, magnitude);
    } else {
        Decimal::parse(magnitude).write(out, is_negative);
    }
}

/// Whether a number without sign is 0, however that is written.
fn is_zero(magnitude: &str) -> bool {
    magnitude.bytes().take_while(|byte| !b"eE".contains(byte)).all(|byte| b"0.".contains(&byte))
}

/// Writes an integer of at most [`bignum::MAX_DIGITS`] digits.
fn integer(out: &mut Vec<u8>, is_negative: bool, digits: &str) {
    match (is_negative, digits.parse::<u128>()) {
        (false, Ok(n)) if n <= u128::from(u64::MAX) => head(out, Major::Unsigned, n as u64),
        (true, Ok(n @ 1..)) if n - 1 <= u128::from(u64::MAX) => {
            head(out, Major::Negative, (n - 1) as u64);
        }
        (false, _) => {
            head(out, Major::Tag, tag::BIG_POSITIVE);
            bytes(out, &bignum::to_bytes(digits));
        }
        (true, _) => {
            head(out, Major::Tag, tag::BIG_NEGATIVE);
            bytes(out, &bignum::to_bytes(&one_less(digits)));
        }
    }
}

/// The decimal digits of n - 1, for an n above 0.
fn one_less(digits: &str) -> String {
    let kept = digits.trim_end_matches('0');
    let zeros = digits.len() - kept.len();
    match kept.char_indices().next_back() {
        Some((at, last)) => {
            let last = char::from_digit(last.to_digit(10).unwrap_or(1) - 1, 10).unwrap_or('0');
            format!("{}{last}{}", &kept[..at], "9".repeat(zeros))
        }
        None => "0".to_owned(),
    }
}

/// A number that no float comes near: `digits` times ten to the `exponent`.
struct Decimal {
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Reads a number without sign. Of digits beyond what a bignum may have, the lowest are lost,
    /// and an exponent beyond 64 bits is cut to them.
    fn parse(magnitude: &str) -> Self {
        let (number, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let outermost = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
        let exponent = exponent.parse().unwrap_or(outermost);
        let all = format!("{whole}{fraction}");
        let mut digits = all.trim_start_matches('0').to_owned();
        let lost = digits.len().saturating_sub(bignum::MAX_DIGITS);
        digits.truncate(bignum::MAX_DIGITS);
        let shift = lost as i64 - fraction.len() as i64;
        Self { digits, exponent: exponent.saturating_add(shift) }
    }

    fn write(&self, out: &mut Vec<u8>, is_negative: bool) {
        head(out, Major::Tag, tag::DECIMAL);
        head(out, Major::Array, 2);
        match u64::try_from(self.exponent) {
            Ok(exponent) => head(out, Major::Unsigned, exponent),
            Err(_) => head(out, Major::Negative, !self.exponent as u64),
        }
        integer(out, is_negative, &self.digits);
    }
}

/// Writes a float in the fewest bytes that keep it exact.
fn float(out: &mut Vec<u8>, value: f64) {
    let single = value as f32;
    if f64::from(single).to_bits() != value.to_bits() {
        out.push(DOUBLE);
        out.extend_from_slice(&value.to_be_bytes());
    } else if let Some(half) = half(single) {
        out.push(HALF);
        out.extend_from_slice(&half.to_be_bytes());
    } else {
        out.push(SINGLE);
        out.extend_from_slice(&single.to_be_bytes());
    }
}

/// A finite number in half precision (IEEE 754), if it is exact there.
fn half(value: f32) -> Option<u16> {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let exponent = (bits >> 23 & 0xff) as i32 - 127;
    let fraction = bits & 0x7f_ffff;
    let (shifted, lost_bits, base) = match exponent {
        _ if bits << 1 == 0 => return Some(sign),
        -14..=15 => (fraction, 13, ((exponent + 15) as u16) << 10),
        // Below the normal ones, the leading 1 is written too.
        -24..=-15 => (fraction | 0x80_0000, (-1 - exponent) as u32, 0),
        _ => return None,
    };
    let is_exact = shifted.trailing_zeros() >= lost_bits;
    is_exact.then_some(sign | base | (shifted >> lost_bits) as u16)
}
