//! CBOR to JSON text, as RFC 8949, section 6.1, has it.
//!
//! Nothing is taken at its word: a declared length reserves no memory, nesting is counted and kept
//! in a list, and what is no CBOR ends the reading at once. A value that JSON can't have is only
//! noted, and reading goes on behind it.

use std::borrow::Cow;
use std::io::Write;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::value::RawValue;

use super::{bignum, tag};

const BREAK: u8 = 0xff;

/// Why reading ended.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// It is not CBOR, or not of a message's form.
    #[error("{what} at byte {at}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Behind which byte.
        at: usize,
    },
    /// Arrays and maps are nested deeper than the limit.
    #[error("it is nested too deep")]
    TooDeep,
}

/// One value, read.
#[derive(Debug)]
pub(super) struct Value {
    /// The JSON text, if it has one; else null.
    pub json: Box<RawValue>,
    /// What there is in it that JSON can't have.
    pub unfit: Option<&'static str>,
    /// It is one byte string, and the JSON text is the base64 of it.
    pub is_binary: bool,
    /// It is or holds a byte string.
    pub has_bytes: bool,
}

/// The head of an item; a length that is not declared is `None`.
enum Head {
    Unsigned(u64),
    Negative(u64),
    Bytes(Option<u64>),
    Text(Option<u64>),
    Array(Option<u64>),
    Map(Option<u64>),
    Tag(u64),
    Simple(u8),
    Float(f64),
    Break,
}

/// How a byte string is to become text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BytesAs {
    Unsaid,
    Base64Url,
    Base64,
    Base16,
}

/// What is left of a message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the first byte on.
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message, length: message.len() }
    }

    /// Reads the head of the map that a message is, and returns how many members it has.
    pub(super) fn map(&mut self) -> Result<Option<u64>, Unreadable> {
        loop {
            match self.head()? {
                Head::Map(length) => return Ok(length),
                Head::Tag(_) => {}
                _ => return Err(self.malformed("something other than a map")),
            }
        }
    }

    /// Whether another item follows among those `left`; takes the break that ends them.
    pub(super) fn another(&mut self, left: &mut Option<u64>) -> Result<bool, Unreadable> {
        match left {
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None if self.rest.first() == Some(&BREAK) => self.take(1).map(|_| false),
            None => Ok(true),
        }
    }

    /// Reads the name of a member.
    pub(super) fn name(&mut self) -> Result<Cow<'a, str>, Unreadable> {
        match self.head()? {
            Head::Text(length) => {
                self.text(length)?.ok_or_else(|| self.malformed("a name that is not UTF-8"))
            }
            _ => Err(self.malformed("a name that is not text")),
        }
    }

    /// Reads a whole value, with arrays and maps nested at most `max_depth` deep.
    pub(super) fn value(&mut self, max_depth: usize) -> Result<Value, Unreadable> {
        let mut transcript = Transcript::default();
        loop {
            self.item(&mut transcript)?;
            if transcript.open.len() > max_depth {
                return Err(Unreadable::TooDeep);
            }
            loop {
                let Some(container) = transcript.open.last_mut() else {
                    return Ok(transcript.finish());
                };
                if self.another(&mut container.left)? {
                    transcript.next_item();
                    break;
                }
                if container.at_key {
                    return Err(self.malformed("a key without a value"));
                }
                transcript.close();
            }
        }
    }

    /// Checks that nothing follows.
    pub(super) fn end(&self) -> Result<(), Unreadable> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed("more than one item")) }
    }

    /// Reads one item, or the head of an array or map.
    fn item(&mut self, transcript: &mut Transcript) -> Result<(), Unreadable> {
        let (is_key, mut bytes_as) = transcript.place();
        loop {
            let head = self.head()?;
            if is_key && !matches!(head, Head::Text(_) | Head::Tag(_)) {
                transcript.unfit("a map key that is not text");
            }
            match head {
                Head::Tag(tag::TO_BASE64URL) => bytes_as = BytesAs::Base64Url,
                Head::Tag(tag::TO_BASE64) => bytes_as = BytesAs::Base64,
                Head::Tag(tag::TO_BASE16) => bytes_as = BytesAs::Base16,
                Head::Tag(tag @ (tag::BIG_POSITIVE | tag::BIG_NEGATIVE | tag::DECIMAL)) => {
                    let before = self.rest;
                    if let Some(number) = self.number(tag)?.filter(|_| !is_key) {
                        transcript.show(number);
                        return Ok(());
                    }
                    transcript.unfit("a number that is misshapen or too long");
                    self.rest = before;
                }
                Head::Tag(_) => {}
                head => return self.untagged(head, bytes_as, transcript),
            }
        }
    }

    fn untagged(
        &mut self,
        head: Head,
        bytes_as: BytesAs,
        transcript: &mut Transcript,
    ) -> Result<(), Unreadable> {
        match head {
            Head::Unsigned(n) => transcript.show(n),
            Head::Negative(n) => transcript.show(-1 - i128::from(n)),
            Head::Bytes(length) => transcript.bytes(&self.bytes(length)?, bytes_as),
            Head::Text(length) => match self.text(length)? {
                Some(text) => transcript.text(&text),
                None => transcript.unfit("text that is not UTF-8"),
            },
            Head::Array(length) => transcript.open(false, length, bytes_as),
            Head::Map(length) => transcript.open(true, length, bytes_as),
            Head::Simple(20) => transcript.show(false),
            Head::Simple(21) => transcript.show(true),
            Head::Simple(22) => transcript.show("null"),
            Head::Simple(23) => transcript.unfit("undefined"),
            Head::Simple(_) => transcript.unfit("a simple value"),
            Head::Float(number) => transcript.float(number),
            // Of these two, `item` passes on only a break.
            Head::Break | Head::Tag(_) => return Err(self.malformed("a break out of place")),
        }
        Ok(())
    }

    /// Reads the number behind tag 2, 3 or 4, as JSON text; `None` where none stands.
    fn number(&mut self, tag: u64) -> Result<Option<String>, Unreadable> {
        if tag != tag::DECIMAL {
            return self.bignum(tag);
        }
        let Head::Array(mut left) = self.head()? else { return Ok(None) };
        if !self.another(&mut left)? {
            return Ok(None);
        }
        let exponent = match self.head()? {
            Head::Unsigned(n) => i128::from(n),
            Head::Negative(n) => -1 - i128::from(n),
            _ => return Ok(None),
        };
        if !self.another(&mut left)? {
            return Ok(None);
        }
        let mantissa = match self.head()? {
            Head::Unsigned(n) => Some(n.to_string()),
            Head::Negative(n) => Some((-1 - i128::from(n)).to_string()),
            Head::Tag(tag @ (tag::BIG_POSITIVE | tag::BIG_NEGATIVE)) => self.bignum(tag)?,
            _ => None,
        };
        let is_whole = mantissa.is_some() && !self.another(&mut left)?;
        Ok(mantissa.filter(|_| is_whole).map(|mantissa| format!("{mantissa}e{exponent}")))
    }

    fn bignum(&mut self, tag: u64) -> Result<Option<String>, Unreadable> {
        let Head::Bytes(length) = self.head()? else { return Ok(None) };
        let bytes = self.bytes(length)?;
        Ok((bytes.len() <= bignum::MAX_BYTES).then(|| match tag {
            tag::BIG_NEGATIVE => format!("-{}", bignum::to_digits(&bytes, 1)),
            _ => bignum::to_digits(&bytes, 0),
        }))
    }

    fn bytes(&mut self, length: Option<u64>) -> Result<Cow<'a, [u8]>, Unreadable> {
        if let Some(length) = length {
            return self.take(length).map(Cow::Borrowed);
        }
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk(false)? {
            whole.extend_from_slice(chunk);
        }
        Ok(Cow::Owned(whole))
    }

    /// Reads a text; `None` if it is not UTF-8, which each of its chunks must be.
    fn text(&mut self, length: Option<u64>) -> Result<Option<Cow<'a, str>>, Unreadable> {
        if let Some(length) = length {
            return Ok(std::str::from_utf8(self.take(length)?).ok().map(Cow::Borrowed));
        }
        let mut whole = Some(String::new());
        while let Some(chunk) = self.chunk(true)? {
            let chunk = std::str::from_utf8(chunk).ok();
            whole = whole.zip(chunk).map(|(whole, chunk)| whole + chunk);
        }
        Ok(whole.map(Cow::Owned))
    }

    /// Reads the next chunk of a string without declared length; `None` at its end.
    fn chunk(&mut self, of_text: bool) -> Result<Option<&'a [u8]>, Unreadable> {
        match self.head()? {
            Head::Break => Ok(None),
            Head::Text(Some(length)) if of_text => self.take(length).map(Some),
            Head::Bytes(Some(length)) if !of_text => self.take(length).map(Some),
            _ => Err(self.malformed("something other than a chunk in a string")),
        }
    }

    fn head(&mut self) -> Result<Head, Unreadable> {
        let first = self.take(1)?[0];
        let (major, info) = (first >> 5, first & 0x1f);
        let argument = match info {
            0..=23 => Some(u64::from(info)),
            24..=27 => {
                let bytes = self.take(1 << (info - 24))?;
                Some(bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
            }
            31 => None,
            _ => return Err(self.malformed("a reserved head")),
        };
        Ok(match (major, argument) {
            (0, Some(n)) => Head::Unsigned(n),
            (1, Some(n)) => Head::Negative(n),
            (2, length) => Head::Bytes(length),
            (3, length) => Head::Text(length),
            (4, length) => Head::Array(length),
            (5, length) => Head::Map(length),
            (6, Some(n)) => Head::Tag(n),
            (7, None) => Head::Break,
            (7, Some(bits)) => match info {
                24 if bits < 32 => return Err(self.malformed("a reserved simple value")),
                25 => Head::Float(half(bits as u16)),
                26 => Head::Float(f32::from_bits(bits as u32).into()),
                27 => Head::Float(f64::from_bits(bits)),
                _ => Head::Simple(bits as u8),
            },
            _ => return Err(self.malformed("a reserved head")),
        })
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Unreadable> {
        let split = usize::try_from(length).ok().and_then(|at| self.rest.split_at_checked(at));
        let (taken, rest) = split.ok_or_else(|| self.malformed("an end too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn malformed(&self, what: &'static str) -> Unreadable {
        Unreadable::Malformed { what, at: self.length - self.rest.len() }
    }
}

/// A number in half precision (IEEE 754).
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    sign * match exponent {
        0 => f64::from(fraction) / f64::from(1 << 24),
        31 if fraction == 0 => f64::INFINITY,
        31 => f64::NAN,
        _ => f32::from_bits((exponent + 112) << 23 | fraction << 13).into(),
    }
}

/// An array or map whose end is yet to come.
struct Open {
    is_map: bool,
    /// Items to come, keys and values counted alike; `None` where a break ends it.
    left: Option<u64>,
    /// Whether the item begun last is a key.
    at_key: bool,
    bytes_as: BytesAs,
}

/// The JSON text so far.
#[derive(Default)]
struct Transcript {
    json: Vec<u8>,
    open: Vec<Open>,
    unfit: Option<&'static str>,
    is_binary: bool,
    has_bytes: bool,
}

impl Transcript {
    /// Whether the next item is a key, and how byte strings are to be written here.
    fn place(&self) -> (bool, BytesAs) {
        self.open.last().map_or((false, BytesAs::Unsaid), |open| (open.at_key, open.bytes_as))
    }

    fn open(&mut self, is_map: bool, length: Option<u64>, bytes_as: BytesAs) {
        self.json.push(if is_map { b'{' } else { b'[' });
        let left = if is_map { length.map(|pairs| pairs.saturating_mul(2)) } else { length };
        self.open.push(Open { is_map, left, at_key: false, bytes_as });
    }

    fn next_item(&mut self) {
        let Some(container) = self.open.last_mut() else { return };
        let is_value = container.at_key;
        container.at_key = container.is_map && !is_value;
        if is_value {
            self.json.push(b':');
        } else if !self.json.ends_with(b"[") && !self.json.ends_with(b"{") {
            self.json.push(b',');
        }
    }

    fn close(&mut self) {
        if let Some(container) = self.open.pop() {
            self.json.push(if container.is_map { b'}' } else { b']' });
        }
    }

    // A `Vec` takes whatever is written to it.
    fn show(&mut self, value: impl std::fmt::Display) {
        let _ = write!(self.json, "{value}");
    }

    fn text(&mut self, text: &str) {
        let _ = serde_json::to_writer(&mut self.json, text);
    }

    fn float(&mut self, number: f64) {
        if number.is_finite() {
            let _ = serde_json::to_writer(&mut self.json, &number);
        } else {
            self.unfit("NaN or infinity");
        }
    }

    fn bytes(&mut self, bytes: &[u8], bytes_as: BytesAs) {
        let is_alone = self.open.is_empty();
        self.has_bytes = true;
        self.json.push(b'"');
        match bytes_as {
            BytesAs::Base16 => bytes.iter().for_each(|byte| self.show(format_args!("{byte:02X}"))),
            BytesAs::Base64Url => self.show(BASE64_URL_SAFE_NO_PAD.encode(bytes)),
            BytesAs::Unsaid if !is_alone => self.show(BASE64_URL_SAFE_NO_PAD.encode(bytes)),
            BytesAs::Unsaid | BytesAs::Base64 => {
                self.is_binary = is_alone;
                self.show(BASE64_STANDARD.encode(bytes));
            }
        }
        self.json.push(b'"');
    }

    fn unfit(&mut self, what: &'static str) {
        self.unfit.get_or_insert(what);
    }

    fn finish(self) -> Value {
        let text = if self.unfit.is_none() { String::from_utf8(self.json).ok() } else { None };
        let (json, unfit) = match text.and_then(|text| RawValue::from_string(text).ok()) {
            Some(json) => (json, None),
            None => (RawValue::NULL.to_owned(), self.unfit.or(Some("a value that is not JSON"))),
        };
        Value { json, unfit, is_binary: self.is_binary, has_bytes: self.has_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_what_another_reader_makes_of_them() {
        for bits in 0..=u16::MAX {
            let item = [0xf9, (bits >> 8) as u8, bits as u8];
            let theirs: f64 = ciborium::from_reader(&item[..]).unwrap();
            let ours = half(bits);
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan());
        }
    }
}
