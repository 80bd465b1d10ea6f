//! The scripts that run in Redis. Each is the common part and its own, and begins by looking whether the
//! log is still the one that the node knows.

use std::sync::LazyLock;

use redis::Script;

/// Numbers, stores and tells a group of publishes. Refused whole where memory is out.
pub(super) static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        "#!lua\n",
        include_str!("lua/log.lua"),
        include_str!("lua/retention.lua"),
        include_str!("lua/publish.lua"),
    ))
});

/// Removes events of some topics. Runs where memory is out too, for it makes room.
pub(super) static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        "#!lua flags=allow-oom\n",
        include_str!("lua/log.lua"),
        include_str!("lua/retention.lua"),
        include_str!("lua/remove.lua"),
    ))
});

/// Presents what a node has seen, and says how the log stands. Writes little, and must not wait for room.
pub(super) static JOIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        "#!lua flags=allow-oom\n",
        include_str!("lua/log.lua"),
        include_str!("lua/join.lua"),
    ))
});
