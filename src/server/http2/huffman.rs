//! The code that HPACK shortens texts by (RFC 7541, section 5.2 and appendix B).
//!
//! It is canonical: how long the code of each symbol is says what it is.

use std::sync::LazyLock;

/// How many bits the code of each byte has, and that of the end, which no text contains.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The longest code.
const MAX_BITS: usize = 30;

/// The symbols in the order of their codes, and where those of each length begin.
struct Code {
    symbols: Vec<u16>,
    /// For each length: the first code, how many there are, and where their symbols begin.
    by_length: [(u32, u32, usize); MAX_BITS + 1],
}

static CODE: LazyLock<Code> = LazyLock::new(|| {
    let mut symbols: Vec<u16> = (0..=256).collect();
    symbols.sort_by_key(|symbol| LENGTHS[usize::from(*symbol)]);
    let mut by_length = [(0, 0, 0); MAX_BITS + 1];
    let (mut first, mut begin) = (0, 0);
    for (length, entry) in by_length.iter_mut().enumerate() {
        let count = LENGTHS.iter().filter(|of_symbol| usize::from(**of_symbol) == length).count();
        *entry = (first, count as u32, begin);
        first = (first + count as u32) << 1;
        begin += count;
    }
    Code { symbols, by_length }
});

/// Reads a text; nothing where it is none.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let (code, mut text) = (&*CODE, Vec::with_capacity(bytes.len() * 8 / 5));
    let (mut seen, mut length) = (0_u32, 0);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        (seen, length) = (seen << 1 | u32::from(bit), length + 1);
        let (first, count, begin) = *code.by_length.get(length)?;
        if let Some(at) = seen.checked_sub(first).filter(|at| *at < count) {
            text.push(u8::try_from(*code.symbols.get(begin + at as usize)?).ok()?);
            (seen, length) = (0, 0);
        }
    }
    // What fills the last byte up is the beginning of the end.
    (length < 8 && seen == (1 << length) - 1).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification_are_read() {
        for (code, text) in [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[0xff, 0xbf], ">"),
            (&[], ""),
        ] {
            assert_eq!(decode(code).as_deref(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn what_does_not_end_as_a_text_does_is_none() {
        // A whole byte that fills up, bits that are no beginning of the end, and the end itself.
        for code in [
            &[0xff][..],
            &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xfe],
            &[0xff; 4],
        ] {
            assert_eq!(decode(code), None, "{code:?}");
        }
    }
}
