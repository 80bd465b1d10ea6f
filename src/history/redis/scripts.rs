//! The scripts that run in Redis. Each of the log's is the common part and its own, and begins by looking whether
//! the log is still the one that the node knows.
//!
//! `allow-oom` lets a script write where the server is at its `maxmemory`: it is for what makes room, and for what
//! the broker itself has to know.

use std::sync::LazyLock;

use redis::Script;

/// What a script does to the log, behind what all of these share.
macro_rules! script {
    ($head:literal, $act:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                $head,
                "\n",
                include_str!("lua/log.lua"),
                include_str!("lua/retention.lua"),
                include_str!($act),
            ))
        })
    };
}

/// Numbers, stores and tells a group of publishes. Refused whole where memory is out.
pub(super) static PUBLISH: LazyLock<Script> = script!("#!lua", "lua/publish.lua");

/// The same for publishes that ask for no more, where nothing has to be removed. Does nothing where something does.
pub(super) static PUBLISH_PLAIN: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!("#!lua\n", include_str!("lua/plain.lua"))));

/// The same as [`PUBLISH`] for state of the broker's own, such as what is revoked: little, and bounded by count. Runs where
/// memory is out too.
pub(super) static PUBLISH_STATE: LazyLock<Script> =
    script!("#!lua flags=allow-oom", "lua/publish.lua");

/// Removes events of some topics. Runs where memory is out too, for it makes room.
pub(super) static REMOVE: LazyLock<Script> = script!("#!lua flags=allow-oom", "lua/remove.lua");

/// Makes room without a publish, and says what time it is.
pub(super) static SWEEP: LazyLock<Script> = script!("#!lua flags=allow-oom", "lua/sweep.lua");

/// Says which values have ended.
pub(super) static DUE: LazyLock<Script> = script!("#!lua flags=allow-oom", "lua/due.lua");

/// Notes that sessions have left.
pub(super) static DEPART: LazyLock<Script> = script!("#!lua flags=allow-oom", "lua/depart.lua");

/// Tries commands without effect.
pub(super) static NEEDS: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/needs.lua")));

/// Takes or keeps a turn.
pub(super) static TURN: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/turn.lua")));

/// Presents what a node has seen, and says how the log stands. Writes little, and must not wait for room.
pub(super) static JOIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        "#!lua flags=allow-oom\n",
        include_str!("lua/log.lua"),
        include_str!("lua/join.lua"),
    ))
});
