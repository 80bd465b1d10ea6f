//! What was typed of what is kept of all topics together.

use super::super::Config;
use super::super::history::History;
use super::super::rules::Storage;
use super::super::schema;
use super::complaints::{Complaints, WEEK};

/// What is kept of all topics together.
pub(super) fn history(
    typed: &schema::History,
    limits: &schema::Limits,
    complaints: &mut Complaints,
) -> History {
    for (key, bytes) in [
        ("history.disk_bytes", typed.disk_bytes),
        ("history.wal_bytes", typed.wal_bytes),
        ("history.memory_bytes", typed.memory_bytes),
        ("history.redis_bytes", typed.redis_bytes),
        ("history.newest_bytes", typed.newest_bytes),
        ("history.pending_bytes", typed.pending_bytes),
    ] {
        complaints.at_least_one(key, bytes.0);
    }
    complaints.at_least_one("history.newest_topics", typed.newest_topics);
    complaints.at_least_one("history.idempotency_keys", typed.idempotency_keys);
    complaints.at_least_one("limits.bound_topics", limits.bound_topics);
    History {
        path: typed.path.clone(),
        fsync: typed.fsync,
        disk_bytes: typed.disk_bytes.0,
        reserve_bytes: typed.reserve_bytes.0,
        wal_bytes: typed.wal_bytes.0,
        memory_bytes: typed.memory_bytes.0,
        redis_bytes: typed.redis_bytes.0,
        at_hand_bytes: typed.at_hand_bytes.0,
        newest_topics: typed.newest_topics,
        newest_bytes: typed.newest_bytes.0,
        pending_bytes: typed.pending_bytes.0,
        commit_timeout: complaints.between("history.commit_timeout", typed.commit_timeout, 1, 600),
        idempotency_window: complaints.between(
            "history.idempotency_window",
            typed.idempotency_window,
            1,
            WEEK,
        ),
        idempotency_keys: typed.idempotency_keys,
        bound_topics: limits.bound_topics,
        bound_linger: complaints.between("limits.bound_linger", limits.bound_linger, 0, 3_600),
    }
}

/// Warns of events on disk that may be lost with the power.
pub(super) fn unsynced(config: &Config) -> Vec<String> {
    let is_on_disk = config.rules.all().any(|rule| rule.storage == Storage::Disk);
    let is_unsynced = !config.history.fsync && is_on_disk;
    let warning = "history.fsync is off: acknowledged events may be lost with the power";
    is_unsynced.then(|| warning.to_owned()).into_iter().collect()
}
