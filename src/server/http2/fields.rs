//! The fields of a head as HPACK writes them (RFC 7541), as far as they can be told without the table that
//! both ends of a connection build up: what refers to that table is known to be there, and no more.

use std::ops::Range;

use super::huffman;

/// The static table has the pseudo header fields first, up to this one (RFC 7541, appendix A).
const LAST_PSEUDO: usize = 14;

/// Where `:path` stands there, with each of two values.
const PATHS: [usize; 2] = [4, 5];

/// One field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    name: Name<'a>,
    /// Its value, where that is written out.
    pub(super) value: Option<Text<'a>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Name<'a> {
    /// By its place in one of the tables.
    Indexed(usize),
    Written(Text<'a>),
}

/// A string literal (RFC 7541, section 5.2).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Text<'a> {
    /// Where it is, with its length before it.
    pub(super) place: Range<usize>,
    bytes: &'a [u8],
    is_huffman: bool,
}

impl Text<'_> {
    /// What it says; nothing where that can't be read.
    pub(super) fn read(&self) -> Option<Vec<u8>> {
        match self.is_huffman {
            true => huffman::decode(self.bytes),
            false => Some(self.bytes.to_vec()),
        }
    }

    /// Writes a text as a literal of its own bytes.
    pub(super) fn write(text: &[u8]) -> Vec<u8> {
        let mut written = Vec::with_capacity(text.len() + 4);
        let mut left = text.len();
        match left {
            0..0x7f => written.push(left as u8),
            _ => {
                written.push(0x7f);
                left -= 0x7f;
                while left >= 0x80 {
                    written.push((left & 0x7f) as u8 | 0x80);
                    left >>= 7;
                }
                written.push(left as u8);
            }
        }
        written.extend_from_slice(text);
        written
    }
}

impl Field<'_> {
    /// Whether it is a pseudo header field, as far as one can tell.
    pub(super) fn is_pseudo(&self) -> bool {
        match &self.name {
            Name::Indexed(at) => *at <= LAST_PSEUDO,
            Name::Written(name) => name.read().is_some_and(|name| name.starts_with(b":")),
        }
    }

    /// Whether it is what a request asks for.
    pub(super) fn is_path(&self) -> bool {
        match &self.name {
            Name::Indexed(at) => PATHS.contains(at),
            Name::Written(name) => name.read().is_some_and(|name| name == b":path"),
        }
    }
}

/// The fields of a block, up to its end or to what can't be read.
pub(super) struct Fields<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn of(block: &'a [u8]) -> Self {
        Self { block, at: 0 }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.block.get(self.at).copied();
        self.at += 1;
        byte
    }

    /// An integer that begins with so many bits of the next byte (RFC 7541, section 5.1).
    fn integer(&mut self, bits: u32) -> Option<usize> {
        let most = (1_usize << bits) - 1;
        let mut value = usize::from(self.byte()?) & most;
        if value < most {
            return Some(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn text(&mut self) -> Option<Text<'a>> {
        let (from, is_huffman) = (self.at, self.block.get(self.at)? & 0x80 != 0);
        let length = self.integer(7)?;
        let bytes = self.block.get(self.at..)?.get(..length)?;
        self.at += length;
        Some(Text { place: from..self.at, bytes, is_huffman })
    }

    fn literal(&mut self, bits: u32) -> Option<Field<'a>> {
        let name = match self.integer(bits)? {
            0 => Name::Written(self.text()?),
            at => Name::Indexed(at),
        };
        Some(Field { name, value: Some(self.text()?) })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            match self.block.get(self.at)? {
                0x80.. => {
                    return Some(Field { name: Name::Indexed(self.integer(7)?), value: None });
                }
                0x40.. => return self.literal(6),
                // Another size of the table.
                0x20.. => _ = self.integer(5)?,
                _ => return self.literal(4),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter(|c| !c.is_whitespace()).collect();
        let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn the_examples_of_the_specification_are_read() {
        // RFC 7541, appendices C.2.1, C.2.2, C.2.4 and C.4.1.
        for (hex, pseudo, path) in [
            ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", "0", None),
            ("040c 2f73 616d 706c 652f 7061 7468", "1", Some("/sample/path")),
            ("82", "1", None),
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", "1111", None),
        ] {
            let block = bytes(hex);
            let kinds = Fields::of(&block).map(|field| u8::from(field.is_pseudo()).to_string());
            assert_eq!(kinds.collect::<String>(), pseudo, "{hex}");
            let mut written = Fields::of(&block).filter(Field::is_path);
            let written = written.find_map(|field| field.value?.read());
            assert_eq!(written.as_deref(), path.map(str::as_bytes), "{hex}");
        }
    }

    #[test]
    fn a_text_that_is_written_is_read_again() {
        for length in [0, 1, 126, 127, 128, 254, 255, 300, 20_000] {
            let text = vec![b'x'; length];
            let block = [&[0x04][..], &Text::write(&text)].concat();
            let field = Fields::of(&block).next().unwrap();
            let value = field.value.unwrap();
            assert_eq!((value.place.clone(), value.read()), (1..block.len(), Some(text)));
        }
    }

    #[test]
    fn what_is_cut_off_or_beyond_all_ends_the_fields() {
        let whole = bytes("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff");
        for end in 0..whole.len() {
            assert!(Fields::of(&whole[..end]).count() < 4);
        }
        assert_eq!(Fields::of(&bytes("04ff ffff ffff ffff ffff 7f")).count(), 0);
    }
}
