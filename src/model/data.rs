//! The data of an event, and how it is taken from outside.
//!
//! It is JSON text that is passed through byte for byte: no number is parsed again and no key
//! reordered. Only CR and LF, which JSON allows between tokens alone, become spaces, so that an
//! event always fits one line of SSE and NDJSON.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::value::RawValue;

/// The data of an event: one JSON value as text, without line breaks.
#[derive(Debug, Clone)]
pub struct Data {
    json: Box<RawValue>,
    base64: bool,
}

/// Why a body can't be the data of an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The text is not one JSON value (RFC 8259); the message says where.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// Arrays and objects are nested deeper than the limit.
    #[error("it is nested more than {0} deep (limits.json_depth)")]
    TooDeep(usize),
    /// `"encoding":"base64"` with data that is not a string of base64.
    #[error("its encoding is base64, but the data is not a base64 string")]
    NotBase64,
}

impl Data {
    /// Takes a JSON text (RFC 8259) as it is, nested at most `max_depth` deep.
    pub fn from_json(text: &[u8], max_depth: usize) -> Result<Self, DataError> {
        let raw: &RawValue =
            serde_json::from_slice(text).map_err(|error| DataError::NotJson(error.to_string()))?;
        Self::from_raw(raw, max_depth)
    }

    /// Takes a JSON value that was parsed out of a larger text.
    pub fn from_raw(raw: &RawValue, max_depth: usize) -> Result<Self, DataError> {
        let text = raw.get();
        // Most data is far too short of brackets to be too deep, which is quick to see.
        if count(text, |byte| matches!(byte, b'[' | b'{')) > max_depth && depth(text) > max_depth {
            return Err(DataError::TooDeep(max_depth));
        }
        let json = if count(text, |byte| matches!(byte, b'\r' | b'\n')) > 0 {
            let line = text.replace(['\r', '\n'], " ");
            RawValue::from_string(line).map_err(|error| DataError::NotJson(error.to_string()))?
        } else {
            raw.to_owned()
        };
        Ok(Self { json, base64: false })
    }

    /// Takes data back as [`Data::json`] and [`Data::is_base64`] gave it to a history.
    pub fn from_stored(json: &str, base64: bool) -> Result<Self, DataError> {
        let json = RawValue::from_string(json.to_owned());
        let json = json.map_err(|error| DataError::NotJson(error.to_string()))?;
        Ok(Self { json, base64 })
    }

    /// No data.
    pub fn null() -> Self {
        Self { json: RawValue::NULL.to_owned(), base64: false }
    }

    /// Wraps a text as a JSON string.
    pub fn from_text(text: &str) -> Self {
        Self { json: json_string(text), base64: false }
    }

    /// Wraps bytes as a JSON string of base64 (RFC 4648, section 4).
    pub fn from_binary(bytes: &[u8]) -> Self {
        Self { json: json_string(&BASE64_STANDARD.encode(bytes)), base64: true }
    }

    /// Marks data that already is a JSON string of base64 as such.
    pub fn marked_as_base64(self) -> Result<Self, DataError> {
        let marked = Self { base64: true, ..self };
        match marked.binary() {
            Some(_) => Ok(marked),
            None => Err(DataError::NotBase64),
        }
    }

    /// The JSON text.
    pub fn json(&self) -> &RawValue {
        &self.json
    }

    /// Whether the JSON text is a string that holds base64.
    pub fn is_base64(&self) -> bool {
        self.base64
    }

    /// The bytes behind the base64, where the data is binary.
    pub fn binary(&self) -> Option<Vec<u8>> {
        if !self.base64 {
            return None;
        }
        let text: String = serde_json::from_str(self.json.get()).ok()?;
        BASE64_STANDARD.decode(text).ok()
    }
}

/// A text without the byte order mark that some editors and libraries put before it: where JSON is expected
/// it means nothing (RFC 8259, section 8.1).
pub fn unmarked(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

fn json_string(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// How many bytes of a text count. Without a branch in the loop, so that it is done many at a time.
fn count(text: &str, counts: impl Fn(u8) -> bool) -> usize {
    text.bytes().map(|byte| usize::from(counts(byte))).sum()
}

/// How deep the arrays and objects of a JSON text are nested.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut impl Iterator<Item = u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_is_kept_byte_for_byte_but_for_line_breaks() {
        for (given, kept) in [
            (r#"{"b":1.10,"a":1e400,"c":"\u00e4"}"#, r#"{"b":1.10,"a":1e400,"c":"\u00e4"}"#),
            (" 12345678901234567890.0 ", "12345678901234567890.0"),
            ("{\r\n\"a\":\n1}", "{  \"a\": 1}"),
            ("null", "null"),
        ] {
            assert_eq!(Data::from_json(given.as_bytes(), 8).unwrap().json().get(), kept);
        }
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        for text in ["", "{", "1 2", "nul", "{\"a\":\"\n\"}", "'a'", "NaN"] {
            let result = Data::from_json(text.as_bytes(), 8);
            assert!(matches!(result, Err(DataError::NotJson(_))), "{text:?}");
        }
        assert!(matches!(Data::from_json(b"\"\xff\"", 8), Err(DataError::NotJson(_))));
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert!(Data::from_json(br#"[["[[[[\"[[[["]]"#, 2).is_ok());
        assert_eq!(Data::from_json(b"[[[1]]]", 2).unwrap_err(), DataError::TooDeep(2));
        let bomb = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(Data::from_json(bomb.as_bytes(), 64).unwrap_err(), DataError::TooDeep(64));
    }

    #[test]
    fn binary_data_comes_back_as_the_same_bytes() {
        let data = Data::from_binary(&[0, 255, 7]);
        assert!(data.is_base64());
        assert_eq!(data.binary(), Some(vec![0, 255, 7]));
        assert_eq!(Data::from_text("no").marked_as_base64().unwrap_err(), DataError::NotBase64);
        assert_eq!(Data::from_text("AP8H").marked_as_base64().unwrap().binary(), data.binary());
    }

    proptest! {
        #[test]
        fn any_text_survives_as_a_json_string_on_one_line(text in any::<String>()) {
            let data = Data::from_text(&text);
            prop_assert!(!data.json().get().contains(['\r', '\n']));
            prop_assert_eq!(serde_json::from_str::<String>(data.json().get()).unwrap(), text);
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(data) = Data::from_json(&bytes, 4) {
                prop_assert!(!data.json().get().contains(['\r', '\n']));
            }
        }
    }
}
