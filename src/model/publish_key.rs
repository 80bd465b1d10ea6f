//! What a publisher calls one publish, so that a repeat of it is known.

use std::fmt;

/// An idempotency key as a publisher gives it: 1 to 255 characters of visible ASCII. Shown as dots, for it
/// may tell what is published.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishKey(Box<str>);

/// The text is no idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {max} visible ASCII characters", max = PublishKey::MAX_BYTES)]
pub struct PublishKeyError;

impl PublishKey {
    /// The longest legal key, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// Reads a key.
    pub fn parse(text: &str) -> Result<Self, PublishKeyError> {
        let is_key = (1..=Self::MAX_BYTES).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_key { Ok(Self(text.into())) } else { Err(PublishKeyError) }
    }

    /// The key as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PublishKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublishKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii_and_not_too_long() {
        for text in ["a", "order-42-paid", "~", &"x".repeat(255)] {
            assert_eq!(PublishKey::parse(text).expect(text).as_str(), text);
        }
        for text in ["", " ", "a b", "ä", "a\n", &"x".repeat(256)] {
            assert_eq!(PublishKey::parse(text), Err(PublishKeyError), "{text:?}");
        }
    }
}
