//! What is asked of a Redis before it is relied on: the commands that will be used, tried without effect.
//!
//! A server of another kind or age lacks some, others were renamed, and a user may not be allowed all of them. Then
//! that is said at once and by name, where else the first publish would fail, or one in the middle of a script.

use redis::cmd;

use super::away::Away;
use super::connection::Connection;
use super::scripts;

/// The commands with which the log is written, told and read.
pub(super) const OF_A_LOG: [&str; 26] = [
    "DEL",
    "GET",
    "HDEL",
    "HGET",
    "HINCRBY",
    "HMGET",
    "HSET",
    "PEXPIRE",
    "PTTL",
    "SET",
    "SPUBLISH",
    "TIME",
    "XADD",
    "XDEL",
    "XLEN",
    "XRANGE",
    "XREVRANGE",
    "ZADD",
    "ZCARD",
    "ZMSCORE",
    "ZPOPMIN",
    "ZRANGE",
    "ZRANGEBYLEX",
    "ZRANGEBYSCORE",
    "ZREM",
    "ZREVRANGEBYSCORE",
];

/// Those with which a turn is taken.
pub(super) const OF_A_TURN: [&str; 4] = ["GET", "PEXPIRE", "PTTL", "SET"];

/// Says by name which of these commands can't be used, or that some of these keys can't; the first of them holds
/// nothing, or a turn.
pub(super) async fn ask_for(
    commands: &[&str],
    keys: &[String],
    connection: &mut Connection,
) -> Result<(), Away> {
    let mut script = scripts::NEEDS.key(keys);
    script.arg(commands);
    // It is there, mostly; what is needed once it is not must be allowed all the same.
    script.load_async(connection).await?;
    let (missing, refused): (Vec<String>, Vec<String>) = script.invoke_async(connection).await?;
    match (missing.join(", "), refused.join(", ")) {
        (missing, _) if !missing.is_empty() => Err(Away::lacking(&missing)),
        (_, refused) if !refused.is_empty() => Err(Away::forbidding(&refused)),
        _ => Ok(()),
    }
}

/// Says whether it may be asked how many replicas have what was written.
pub(super) async fn ask_for_wait(connection: &mut Connection) -> Result<(), Away> {
    let asked = cmd("WAIT").arg(0).arg(1).query_async::<usize>(connection).await;
    Ok(asked.map(|_| ())?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Of the log's scripts.
    const SOURCES: [&str; 7] = [
        include_str!("lua/due.lua"),
        include_str!("lua/join.lua"),
        include_str!("lua/log.lua"),
        include_str!("lua/publish.lua"),
        include_str!("lua/remove.lua"),
        include_str!("lua/retention.lua"),
        include_str!("lua/sweep.lua"),
    ];

    #[test]
    fn every_command_of_a_script_is_asked_for() {
        let calls = |source: &'static str| source.split("call('").skip(1);
        let named = SOURCES.into_iter().flat_map(calls).filter_map(|rest| rest.split('\'').next());
        let named: BTreeSet<_> = named.collect();
        let asked: BTreeSet<_> = OF_A_LOG.into_iter().collect();
        let unasked: Vec<_> = named.difference(&asked).collect();
        assert!(named.len() > 15 && unasked.is_empty(), "{unasked:?}");
        let tried = include_str!("lua/needs.lua");
        let has_form = |name: &&&str| tried.contains(&format!("{name} = {{"));
        assert_eq!(asked.iter().filter(has_form).count(), asked.len());
    }
}
