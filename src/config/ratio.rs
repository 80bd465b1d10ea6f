//! A part of all, as it is typed.

use toml::de::DeValue;

use super::value::{Value, whole_number};

/// A part of all: a number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(pub f64);

impl Value for Ratio {
    const WORD: &'static str = "ratio";
    const FORM: &'static str = "a number from 0 to 1 such as 0.01";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).map(Self)
    }

    fn from_toml(value: &DeValue<'_>) -> Option<Self> {
        let float = value.as_float().and_then(|float| Self::from_text(float.as_str()));
        float.or_else(|| match whole_number(value)? {
            0 => Some(Self(0.0)),
            1 => Some(Self(1.0)),
            _ => None,
        })
    }

    fn to_toml(&self) -> Option<String> {
        Some(format!("{:?}", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::Given;
    use super::*;

    #[test]
    fn what_is_shown_is_read_again() {
        for text in ["0.0", "0.01", "0.25", "1.0"] {
            let toml = DeValue::parse(text).unwrap().into_inner();
            assert_eq!(Given::Toml(&toml).read::<Ratio>().unwrap().to_toml().unwrap(), text);
        }
    }

    #[test]
    fn a_ratio_is_a_part_of_all_and_nothing_else() {
        let read = |text: &str| {
            let toml = DeValue::parse(text).unwrap().into_inner();
            let of_file = Given::Toml(&toml).read::<Ratio>();
            assert_eq!(Given::Text(text).read::<Ratio>(), of_file, "{text}");
            of_file.map(|Ratio(ratio)| ratio)
        };
        assert_eq!([read("0"), read("1"), read("0.5")], [Some(0.0), Some(1.0), Some(0.5)]);
        for text in ["2", "-1", "1.01", "-0.5", "nan", "inf", "true", "'a'"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
