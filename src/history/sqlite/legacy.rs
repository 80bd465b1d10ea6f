//! What only earlier releases wrote, and this one has to read.

use crate::config::{Rules, Storage};

/// A checksum of where events are kept, which schema 1 knew a change of the rules by.
pub(super) fn rules_checksum(rules: &Rules) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for rule in rules.all() {
        let on_disk = rule.storage == Storage::Disk;
        hasher.update(format!("{} {on_disk}\n", rule.pattern).as_bytes());
    }
    hasher.finalize()
}
