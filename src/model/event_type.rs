//! The type of an event, in the publisher's words.

use std::sync::Arc;

/// The `type` of an event: 1 to 200 characters of visible ASCII, other than the names that SSE and
/// the broker use for themselves. Cloning shares the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventType(Arc<str>);

/// What is wrong with an event type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventTypeError {
    /// The text is empty.
    #[error("it is empty; leave it out where there is none")]
    Empty,
    /// The text is longer than [`EventType::MAX_BYTES`].
    #[error("it has {0} bytes, and the limit is {max}", max = EventType::MAX_BYTES)]
    TooLong(usize),
    /// A byte outside visible ASCII, at this offset.
    #[error("the character at byte {0} is not visible ASCII")]
    BadCharacter(usize),
    /// A name that `EventSource` or the broker gives a meaning of its own.
    #[error("`error`, `open` and names beginning with `fanfare.` are reserved")]
    Reserved,
}

impl EventType {
    /// The longest legal type, in bytes.
    pub const MAX_BYTES: usize = 200;

    /// Reads a type, or says what is wrong.
    pub fn parse(text: &str) -> Result<Self, EventTypeError> {
        match text {
            "" => Err(EventTypeError::Empty),
            _ if text.len() > Self::MAX_BYTES => Err(EventTypeError::TooLong(text.len())),
            "error" | "open" => Err(EventTypeError::Reserved),
            _ if text.starts_with("fanfare.") => Err(EventTypeError::Reserved),
            _ => match text.bytes().position(|byte| !byte.is_ascii_graphic()) {
                Some(at) => Err(EventTypeError::BadCharacter(at)),
                None => Ok(Self(text.into())),
            },
        }
    }

    /// The type as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_types_that_would_fool_an_event_source_are_refused() {
        use EventTypeError::{BadCharacter, Empty, Reserved, TooLong};
        for (text, error) in [
            ("", Empty),
            ("error", Reserved),
            ("open", Reserved),
            ("fanfare.live", Reserved),
            ("a b", BadCharacter(1)),
            ("a\nb", BadCharacter(1)),
            ("é", BadCharacter(0)),
        ] {
            assert_eq!(EventType::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(EventType::parse(&"x".repeat(201)), Err(TooLong(201)));
        assert!(EventType::parse(&"x".repeat(200)).is_ok());
        assert_eq!(EventType::parse("order.created").unwrap().as_str(), "order.created");
    }
}
