//! The address of an event: `orders.eu.42`.
//!
//! Legal bytes are chosen so that a topic needs no escaping in JSON, in a log line or in a Redis
//! key, and so that `*` and `>` can only ever mean a wildcard.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::text::text;

/// Where the broker keeps what is accepted no longer.
const REVOCATIONS: &str = "$sys.revoked";

/// Where each node says how it is.
const METRICS: &str = "$sys.metrics";

/// What the topics begin with where the broker keeps how far webhooks got.
const OFFSETS: &str = "$sys.webhooks.";

/// A topic: 1 to 255 bytes of visible ASCII, in non-empty segments joined by `.`, without
/// `*`, `>`, `"`, `\` or space. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Topic(Arc<str>);

impl Topic {
    /// The longest legal topic, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Reads a topic that comes from outside, or says what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_reserved(text)?;
        Self::from_stored(text)
    }

    /// Reads a topic as this or an earlier release keeps it, which may have segments that are reserved now.
    pub fn from_stored(text: &str) -> Result<Self, TopicError> {
        if !is_topic(text) {
            check_address(text, |segment, _| match segment.find(['*', '>']) {
                Some(at) => Err(at),
                None => Ok(()),
            })?;
        }
        Ok(Self(text.into()))
    }

    /// The topic as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between the dots, in order.
    pub fn segments(&self) -> std::str::Split<'_, char> {
        self.0.split('.')
    }

    /// Where the broker keeps what is accepted no longer.
    pub fn revocations() -> Self {
        Self(REVOCATIONS.into())
    }

    /// Where the broker keeps how far a webhook got, whose name is a segment.
    pub fn offset_of_webhook(name: &str) -> Result<Self, TopicError> {
        Self::parse(&format!("{OFFSETS}{name}"))
    }

    /// Where each node says how it is.
    pub const METRICS: &str = METRICS;

    /// That topic.
    pub fn metrics() -> Self {
        Self(METRICS.into())
    }

    /// Whether each node says here how it is.
    pub fn is_metrics(&self) -> bool {
        *self.0 == *METRICS
    }

    /// Whether this topic holds what the broker itself has to know. That is bounded by its own rules and
    /// outside every bound on all topics together, so that no amount of other events removes it, and
    /// nobody can have it forgotten.
    pub fn is_state(&self) -> bool {
        *self.0 == *REVOCATIONS || self.0.starts_with(OFFSETS)
    }

    /// Whether this topic is the broker's own: its first segment begins with `$`.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('$')
    }
}

text!(Topic, TopicError);

/// What is wrong with a topic (or with the part of a pattern that must be as a topic is).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// The text is longer than [`Topic::MAX_BYTES`].
    #[error("it has {0} bytes, and the limit is {max}", max = Topic::MAX_BYTES)]
    TooLong(usize),
    /// Two dots in a row, or a dot at either end.
    #[error("the segment at byte {0} is empty")]
    EmptySegment(usize),
    /// A segment that stands for what another language calls otherwise.
    #[error("the segment at byte {0} begins with `^^`, which is reserved")]
    Reserved(usize),
    /// A byte that no topic may have.
    #[error("{found:?} at byte {at} is not allowed")]
    BadCharacter {
        /// Offset in bytes from the start.
        at: usize,
        /// The character found there.
        found: char,
    },
}

/// What segments begin with that are reserved.
const RESERVED: &str = "^^";

/// Whether a text is a topic, by one look at each byte: each publish names one. What is wrong with one that is none,
/// [`check_address`] says.
fn is_topic(text: &str) -> bool {
    let mut before = b'.';
    let is_legal = text.bytes().all(|byte| {
        let follows = before;
        before = byte;
        match byte {
            b'.' => follows != b'.',
            b'*' | b'>' | b'"' | b'\\' => false,
            _ => byte.is_ascii_graphic(),
        }
    });
    is_legal && before != b'.' && text.len() <= Topic::MAX_BYTES
}

/// Refuses segments that nobody may name from outside.
pub(super) fn check_reserved(text: &str) -> Result<(), TopicError> {
    // Hardly any text has one.
    if !text.bytes().any(|byte| byte == b'^') {
        return Ok(());
    }
    let segments = text.match_indices(RESERVED).map(|(at, _)| at);
    let begins = |at: &usize| *at == 0 || text.as_bytes()[at - 1] == b'.';
    segments.into_iter().find(begins).map_or(Ok(()), |at| Err(TopicError::Reserved(at)))
}

/// Checks what topics and patterns have in common. `wildcards` looks at one segment (and whether it
/// is the last) and answers with the offset of a wildcard that may not stand there.
pub(super) fn check_address(
    text: &str,
    wildcards: impl Fn(&str, bool) -> Result<(), usize>,
) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > Topic::MAX_BYTES {
        return Err(TopicError::TooLong(text.len()));
    }
    let illegal = |c: char| !c.is_ascii_graphic() || c == '"' || c == '\\';
    if let Some((at, found)) = text.char_indices().find(|&(_, c)| illegal(c)) {
        return Err(TopicError::BadCharacter { at, found });
    }
    let mut start = 0;
    for segment in text.split('.') {
        if segment.is_empty() {
            return Err(TopicError::EmptySegment(start));
        }
        let end = start + segment.len();
        if let Err(offset) = wildcards(segment, end == text.len()) {
            let at = start + offset;
            let found = char::from(text.as_bytes()[at]);
            return Err(TopicError::BadCharacter { at, found });
        }
        start = end + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn legal_topics_are_kept_as_written() {
        for text in ["a", "orders.eu.42", "$sys.node", "a/b:c-d_e", &"x".repeat(255)] {
            assert_eq!(Topic::parse(text).expect(text).as_str(), text);
        }
    }

    #[test]
    fn an_illegal_topic_is_refused_with_what_and_where() {
        let bad = |at, found| TopicError::BadCharacter { at, found };
        for (text, error) in [
            ("", TopicError::Empty),
            (".", TopicError::EmptySegment(0)),
            ("a..b", TopicError::EmptySegment(2)),
            ("a.", TopicError::EmptySegment(2)),
            (".a", TopicError::EmptySegment(0)),
            ("a b", bad(1, ' ')),
            ("a.*", bad(2, '*')),
            ("a>", bad(1, '>')),
            ("say\"hi", bad(3, '"')),
            ("a\\b", bad(1, '\\')),
            ("a\nb", bad(1, '\n')),
            ("größe", bad(2, 'ö')),
        ] {
            assert_eq!(Topic::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Topic::parse(&"x".repeat(256)), Err(TopicError::TooLong(256)));
    }

    #[test]
    fn a_segment_beginning_with_two_carets_is_refused_and_read_where_it_is_kept() {
        for (text, at) in [("^^", 0), ("^^a.b", 0), ("a.^^b", 2), ("a^^.b.^^", 6), ("^^^", 0)] {
            assert_eq!(Topic::parse(text), Err(TopicError::Reserved(at)), "{text}");
            assert_eq!(Topic::from_stored(text).expect(text).as_str(), text);
        }
        for text in ["^", "^a", "a^^", "a.b^^c", "a.^.^"] {
            assert!(Topic::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_first_segment_beginning_with_a_dollar_sign_is_reserved() {
        assert!(Topic::parse("$sys.x").unwrap().is_reserved());
        assert!(!Topic::parse("a.$sys").unwrap().is_reserved());
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_accepts_only_the_legal(text in ".{0,300}") {
            if let Ok(topic) = Topic::parse(&text) {
                prop_assert!(text.bytes().all(|b| b.is_ascii_graphic() && !b"*>\"\\".contains(&b)));
                prop_assert!(topic.segments().all(|segment| !segment.is_empty()));
                prop_assert!(text.len() <= Topic::MAX_BYTES);
            }
        }

        #[test]
        fn one_look_at_each_byte_takes_what_all_checks_take(text in "[a-c.*>\"\\\\ ^é]{0,8}") {
            let checked = check_address(&text, |segment, _| match segment.find(['*', '>']) {
                Some(at) => Err(at),
                None => Ok(()),
            });
            prop_assert_eq!(is_topic(&text), checked.is_ok());
        }

        #[test]
        fn joined_segments_parse_and_split_again(segments in prop::collection::vec("[a-z0-9$/_-]{1,8}", 1..20)) {
            let topic = Topic::parse(&segments.join(".")).unwrap();
            prop_assert_eq!(topic.segments().collect::<Vec<_>>(), segments);
        }
    }
}
