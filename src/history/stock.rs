//! How much a history holds, and how much it may.

/// What a history holds, by where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stock {
    /// In memory.
    pub memory: Option<Kept>,
    /// On disk.
    pub disk: Option<Kept>,
    /// In Redis.
    pub redis: Option<Kept>,
    /// What waits for the disk or for Redis, in bytes.
    pub pending_bytes: u64,
    /// Copies in memory of what is kept, for those who come back, in bytes.
    pub at_hand_bytes: u64,
}

/// What is kept at one place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// In bytes, as every bound counts them.
    pub bytes: u64,
    /// How many there may be.
    pub limit: u64,
    /// How many events, where they are counted.
    pub events: Option<u64>,
    /// Of how many topics, where these are counted.
    pub topics: Option<u64>,
}
