//! What sessions are told of a broker that can't do its whole job: one table, which every protocol translates.

/// A state of the broker that its subscribers hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The log, on the disk or in Redis, is away.
    Unavailable,
    /// It is back.
    Over,
}

impl Trouble {
    /// The stable name, as in the `code` of `trouble`.
    pub fn name(self) -> &'static str {
        match self {
            Trouble::Unavailable => "unavailable",
            Trouble::Over => "over",
        }
    }

    /// One sentence for a person. What exactly is wrong is for operators (`/health/ready`).
    pub fn message(self) -> &'static str {
        match self {
            Trouble::Unavailable => {
                "the broker can't reach or write its log: what is published comes late, or is refused"
            }
            Trouble::Over => "the broker can do its whole job again",
        }
    }
}
