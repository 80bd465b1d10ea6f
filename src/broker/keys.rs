//! What a worker tells its sessions and its barriers by.

/// A session, as its worker knows it: where it sits, and the number of its coming, which tells it from
/// whoever sat there before. What is addressed to a session that left is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    pub(super) slot: u32,
    pub(super) number: u32,
}

/// A boundary in the order of what a worker handles; no two of a worker are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierId(pub(super) u64);

#[cfg(test)]
impl BarrierId {
    /// One of a worker.
    pub const ONE: Self = Self(1);
}
