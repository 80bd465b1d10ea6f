//! The forms of values: how each is typed, in TOML or as plain text, and how it is shown again.
//!
//! Environment variables and `--set` give text, a file gives TOML; both end in the same types, so
//! that a value means the same wherever it was typed. Units live in the types, secrets show
//! themselves nowhere.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeValue;

use crate::model::{TIME_UNITS, span};

/// A form that the value of a key may have.
pub trait Value: Sized {
    /// The form in a word or two, for the reference.
    const WORD: &'static str;
    /// What is expected, for an error.
    const FORM: &'static str;
    /// Whether the value must never be shown.
    const SECRET: bool = false;

    /// Reads what an environment variable or a flag holds.
    fn from_text(text: &str) -> Option<Self>;

    /// Reads what a file holds.
    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        text(value).and_then(Self::from_text)
    }

    /// The value as TOML, with secrets blotted out; `None` where it is not set.
    fn to_toml(&self) -> Option<String>;
}

/// A value as it was given.
#[derive(Debug, Clone, Copy)]
pub enum Given<'a> {
    /// In a file, or in a list that was written as TOML.
    Toml(&'a DeValue<'a>),
    /// In an environment variable or a flag.
    Text(&'a str),
}

impl Given<'_> {
    /// Reads the value as the form that the receiver wants.
    pub fn read<V: Value>(self) -> Option<V> {
        match self {
            Given::Toml(value) => V::from_toml(value),
            Given::Text(text) => V::from_text(text.trim()),
        }
    }

    /// Whether something was left out at an end of the text, or of one of a list.
    pub fn is_trimmed(self) -> bool {
        let differs = |text: &str| text.trim().len() < text.len();
        match self {
            Given::Text(text) => differs(text),
            Given::Toml(DeValue::Array(items)) => {
                items.iter().any(|item| Given::Toml(item.get_ref()).is_trimmed())
            }
            Given::Toml(value) => value.as_str().is_some_and(differs),
        }
    }
}

/// The text of a TOML value, without white space at its ends: no text of a configuration has any that is
/// meant, and one that is pasted or read from a file with a line break at its end does what it looks like.
fn text<'a>(value: &'a DeValue<'_>) -> Option<&'a str> {
    value.as_str().map(str::trim)
}

/// A duration: `"250ms"`, `"25s"`, `"10m"`, `"24h"`, `"7d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// The text is not a duration with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {}", <Span as Value>::FORM)]
pub struct SpanError;

impl Span {
    const UNITS: [(&'static str, u64); 5] = TIME_UNITS;
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        span(text).map(Self).ok_or(SpanError)
    }
}

impl fmt::Display for Span {
    /// In the largest unit below a day that gives a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let whole = |(_, unit): &&(&str, u64)| millis.is_multiple_of(*unit) && millis > 0;
        let (name, unit) = Self::UNITS[..4].iter().rev().find(whole).unwrap_or(&("s", 1_000));
        write!(f, "{}{name}", millis / unit)
    }
}

impl Value for Span {
    const WORD: &'static str = "duration";
    const FORM: &'static str = r#"a duration such as "250ms", "25s", "10m", "24h" or "7d""#;

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_toml(&self) -> Option<String> {
        Some(format!("\"{self}\""))
    }
}

/// A number of bytes: `65536`, `"64KiB"`, `"1MiB"`, `"1GiB"`, `"64KB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub usize);

/// The text is not a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {}", <Size as Value>::FORM)]
pub struct SizeError;

impl Size {
    const UNITS: [(&'static str, usize); 8] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("KB", 1_000),
        ("B", 1),
        ("", 1),
    ];
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let (number, unit) = split_unit(text).ok_or(SizeError)?;
        let named = |(name, _): &&(&str, usize)| name.eq_ignore_ascii_case(unit);
        let unit = Self::UNITS.iter().find(named).ok_or(SizeError)?;
        let bytes = usize::try_from(number).ok().and_then(|number| number.checked_mul(unit.1));
        bytes.map(Self).ok_or(SizeError)
    }
}

impl fmt::Display for Size {
    /// In the largest binary unit that gives a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, unit): &&(&str, usize)| self.0.is_multiple_of(*unit) && self.0 > 0;
        let (name, unit) = Self::UNITS[..3].iter().find(whole).unwrap_or(&("B", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl Value for Size {
    const WORD: &'static str = "size";
    const FORM: &'static str = r#"a number of bytes such as 65536, "64KiB", "1MiB" or "64KB""#;

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        whole_number(value).map(Self).or_else(|| text(value).and_then(Self::from_text))
    }

    fn to_toml(&self) -> Option<String> {
        Some(format!("\"{self}\""))
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

pub(super) fn whole_number(value: &DeValue<'_>) -> Option<usize> {
    let number = value.as_integer()?;
    usize::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

impl Value for Hidden {
    const WORD: &'static str = "secret text";
    const FORM: &'static str = "a text";
    const SECRET: bool = true;

    fn from_text(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }

    fn to_toml(&self) -> Option<String> {
        Some("\"…\"".to_owned())
    }
}

impl Value for String {
    const WORD: &'static str = "text";
    const FORM: &'static str = "a text";

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn to_toml(&self) -> Option<String> {
        Some(toml::Value::String(self.clone()).to_string())
    }
}

impl Value for PathBuf {
    const WORD: &'static str = "path";
    const FORM: &'static str = "a path";

    fn from_text(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.into())
    }

    fn to_toml(&self) -> Option<String> {
        self.display().to_string().to_toml()
    }
}

impl Value for SocketAddr {
    const WORD: &'static str = "address";
    const FORM: &'static str = r#"an IP address with a port, such as "127.0.0.1:8080""#;

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_toml(&self) -> Option<String> {
        Some(format!("\"{self}\""))
    }
}

impl Value for usize {
    const WORD: &'static str = "number";
    const FORM: &'static str = "a whole number";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        whole_number(value)
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for bool {
    const WORD: &'static str = "true or false";
    const FORM: &'static str = "true or false";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }

    fn to_toml(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl<V: Value> Value for Vec<V> {
    const WORD: &'static str = if V::SECRET { "list of secret texts" } else { "list of texts" };
    const FORM: &'static str = "a list of texts";
    const SECRET: bool = V::SECRET;

    /// A TOML array, or items between commas.
    fn from_text(text: &str) -> Option<Self> {
        if text.trim_start().starts_with('[') {
            return Self::from_toml(DeValue::parse(text).ok()?.get_ref());
        }
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(V::from_text).collect()
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        value.as_array()?.iter().map(|item| V::from_toml(item.get_ref())).collect()
    }

    fn to_toml(&self) -> Option<String> {
        let items: Vec<_> = self.iter().filter_map(V::to_toml).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

impl<V: Value> Value for Option<V> {
    const WORD: &'static str = V::WORD;
    const FORM: &'static str = V::FORM;
    const SECRET: bool = V::SECRET;

    /// An empty text is an unset value: an environment variable can't always be taken away.
    fn from_text(text: &str) -> Option<Self> {
        if text.is_empty() { Some(None) } else { V::from_text(text).map(Some) }
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        V::from_toml(value).map(Some)
    }

    fn to_toml(&self) -> Option<String> {
        self.as_ref().and_then(V::to_toml)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, millis) in [
            ("250ms", 250),
            ("25s", 25_000),
            ("10m", 600_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
            ("0s", 0),
            ("3 s", 3_000),
        ] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "s", "25", "-1s", "1.5s", "1w", "1s ", "99999999999999999999s", "9e9s"] {
            assert_eq!(text.parse::<Span>(), Err(SpanError), "{text}");
        }
        assert_eq!(format!("{}d", u64::MAX).parse::<Span>(), Err(SpanError));
    }

    #[test]
    fn sizes_are_binary_with_an_i_and_decimal_without() {
        for (text, bytes) in [
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("64KB", 64_000),
            ("64kB", 64_000),
            ("1MiB", 1 << 20),
            ("1 GiB", 1 << 30),
            ("2GB", 2_000_000_000),
            ("7B", 7),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "KiB", "1.5MiB", "-1", "1Kib/s", "99999999999999999999", "1TiB"] {
            assert_eq!(text.parse::<Size>(), Err(SizeError), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        for text in ["0s", "250ms", "90s", "10m", "24h"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["0B", "1000B", "64KiB", "1MiB", "256MiB", "3GiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn white_space_at_the_ends_of_a_text_is_no_part_of_it() {
        fn toml(text: &str) -> DeValue<'_> {
            DeValue::parse(text).unwrap().into_inner()
        }
        let text = Some("me".to_owned());
        assert_eq!(Given::Text(" me\n").read(), text);
        assert_eq!(Given::Toml(&toml("\"\\tme \\r\\n\"")).read(), text);
        assert_eq!(Given::Toml(&toml("[' me', 'me\t']")).read(), Some(vec!["me".to_owned(); 2]));
        assert_eq!(Given::Text("[' me', 'me\t']\n").read(), Some(vec!["me".to_owned(); 2]));
        assert_eq!(Given::Text(" me ").read(), Some(Hidden("me".to_owned())));
        assert_eq!(Given::Text("./data\n").read(), Some(PathBuf::from("./data")));
        assert_eq!(Given::Text(" 7\n").read(), Some(7_usize));
        assert_eq!(Given::Toml(&toml("' 7KiB '")).read(), Some(Size(7 << 10)));
        assert_eq!(Given::Text("\n").read::<Option<Hidden>>(), Some(None));
        assert!(
            Given::Toml(&toml("['me', ' me']")).is_trimmed() && Given::Text("me\n").is_trimmed()
        );
        assert!(!Given::Toml(&toml("['me', 'm e']")).is_trimmed());
    }

    #[test]
    fn a_list_is_toml_or_items_between_commas() {
        let list = |text| Vec::<String>::from_text(text);
        let items = |items: &[&str]| Some(items.iter().map(|&item| item.to_owned()).collect());
        assert_eq!(list("a, b,"), items(&["a", "b"]));
        assert_eq!(list(r#"["a,b", "c"]"#), items(&["a,b", "c"]));
        assert_eq!(list(""), items(&[]));
        assert_eq!(list("[1]"), None);
        assert_eq!(list("[a"), None);
    }
}
