//! The members of a small JSON body, each read by its name.
//!
//! A refusal names the member that is wrong and what it must be, and never its value. What nobody knows or is
//! there twice is refused, so that no wish is passed over in silence; null counts as absent.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::model::{Code, Problem, unmarked, whole_number};

/// The longest name that a refusal repeats, in characters.
const MAX_NAME_CHARS: usize = 64;

/// The members that are left to be read.
pub(super) struct Members<'a>(Vec<(&'static str, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads an object that may have the members `known`.
    pub(super) fn read(body: &'a [u8], known: &'static [&'static str]) -> Result<Self, Problem> {
        let mut reader = serde_json::Deserializer::from_slice(unmarked(body));
        let read = reader.deserialize_map(Known(known));
        let read = read.and_then(|read| reader.end().map(|()| read));
        let read = read.map_err(|error| match error.classify() {
            Category::Data => bad("the body must be an object"),
            Category::Syntax | Category::Eof | Category::Io => {
                Problem::new(Code::BadRequest, format!("the body is not JSON: {error}"))
            }
        });
        read?.map(Self)
    }

    fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.0.iter().position(|(member, _)| *member == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// The text `name`, if it is there.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let text = self.take(name).map(|raw| serde_json::from_str(raw.get()));
        text.transpose().map_err(|_| bad(format!("`{name}` must be a string")))
    }

    /// The value `name`, whatever it is; null where it is not there.
    pub(super) fn value(&mut self, name: &str) -> Result<Value, Problem> {
        let value = self.take(name).map(|raw| serde_json::from_str(raw.get()));
        let value = value.transpose().map_err(|_| bad(format!("`{name}` is nested too deep")))?;
        Ok(value.unwrap_or_default())
    }

    /// The texts of the array `name`; none where it is not there.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, Problem> {
        let texts = self.take(name).map(|raw| serde_json::from_str(raw.get()));
        let texts = texts.transpose();
        let texts = texts.map_err(|_| bad(format!("`{name}` must be an array of strings")))?;
        Ok(texts.unwrap_or_default())
    }

    /// The whole number `name`, however it is written; `default` where it is not there.
    pub(super) fn whole(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, Problem> {
        let Some(raw) = self.take(name) else { return Ok(default) };
        whole_number(raw.get()).filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            bad(format!(
                "`{name}` must be a whole number from {least} to {most}; leave it out for {default}"
            ))
        })
    }
}

/// Collects known members; the first fault counts, and the rest is read all the same, for it may be no JSON.
struct Known(&'static [&'static str]);

impl<'de> Visitor<'de> for Known {
    type Value = Result<Vec<(&'static str, &'de RawValue)>, Problem>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut given: A) -> Result<Self::Value, A::Error> {
        let (mut members, mut fault) = (Vec::new(), None);
        let mut seen = Vec::new();
        while let Some((name, value)) = given.next_entry::<Cow<'_, str>, &RawValue>()? {
            match self.0.iter().find(|known| **known == name) {
                None => fault = fault.or_else(|| Some(self.unknown(&name))),
                Some(known) if seen.contains(known) => {
                    fault = fault.or_else(|| Some(bad(format!("`{known}` is there twice"))));
                }
                Some(known) => {
                    seen.push(*known);
                    if value.get() != "null" {
                        members.push((*known, value));
                    }
                }
            }
        }
        Ok(fault.map_or(Ok(members), Err))
    }
}

impl Known {
    fn unknown(&self, name: &str) -> Problem {
        let name: String = name.chars().take(MAX_NAME_CHARS).collect();
        bad(format!("{name:?} is not known; these are: {}", self.0.join(", ")))
    }
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Code::BadRequest, detail)
}
