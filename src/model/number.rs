//! Whole numbers, however they are written.
//!
//! JSON has one kind of number (RFC 8259, section 6): `3600`, `3600.0` and `3.6e3` are the same, and which
//! of them a client writes is its library's to say.

/// The greatest whole number that every reader of JSON tells from its neighbours: 2^53 - 1 (RFC 8259,
/// section 6).
pub const MAX_WHOLE: u64 = (1 << 53) - 1;

/// The whole number, from 0 to [`MAX_WHOLE`], that a JSON number is; `None` where it is another, or the text
/// is none.
pub fn whole_number(json: &str) -> Option<u64> {
    // Rust takes more for a number than JSON does: a sign, names.
    if !json.starts_with(|c: char| c.is_ascii_digit()) && !json.starts_with("-0") {
        return None;
    }
    if let Ok(number) = json.parse::<u64>() {
        return Some(number).filter(|number| *number <= MAX_WHOLE);
    }
    let number: f64 = json.parse().ok()?;
    let is_whole = number.fract() == 0.0 && (0.0..=MAX_WHOLE as f64).contains(&number);
    is_whole.then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("-0.0", Some(0)),
            ("3600", Some(3_600)),
            ("3600.0", Some(3_600)),
            ("3.6e3", Some(3_600)),
            ("36000E-1", Some(3_600)),
            ("9007199254740991", Some(MAX_WHOLE)),
            ("9007199254740991.0", Some(MAX_WHOLE)),
            ("9007199254740992", None),
            ("9007199254740992.0", None),
            ("1e400", None),
            ("0.5", None),
            ("-1", None),
            ("-0.5", None),
            ("+1", None),
            ("inf", None),
            ("nan", None),
            (".5", None),
            ("", None),
            ("\"1\"", None),
            ("true", None),
            (" 1", None),
        ] {
            assert_eq!(whole_number(text), expected, "{text:?}");
        }
    }
}
