//! What a publish is answered that Redis refused, or whose answer can't be read.

use redis::RedisError;
use tracing::error;

use super::super::AppendError;
use super::away::away;

/// What Redis answers where it is at its `maxmemory`, before it runs anything.
pub(super) const OUT_OF_MEMORY: &str = "OOM";

/// Answers that Redis gives before it runs anything.
const NOT_RUN: [&str; 13] = [
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "ASK",
    "TRYAGAIN",
    "NOAUTH",
    "NOPERM",
    "NOREPLICAS",
    "NOSCRIPT",
    "READONLY",
];

/// Whether it was a command of a script that was refused, and not the script.
fn is_within_script(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("@user_script"))
}

/// What a refusal means for a publish.
pub(super) fn refusal(error: &RedisError) -> AppendError {
    let reason = away(error).to_string();
    match error.code() {
        Some(OUT_OF_MEMORY) => AppendError::StorageFull,
        Some(code) if NOT_RUN.contains(&code) && !is_within_script(error) => {
            AppendError::Unavailable(reason)
        }
        Some(_) => {
            error!(detail = error.detail(), "a script has failed");
            AppendError::OutcomeUnknown(reason)
        }
        None => AppendError::OutcomeUnknown(reason),
    }
}

/// What is said where an answer can't be read.
pub(super) fn strange() -> AppendError {
    AppendError::OutcomeUnknown("the answer of Redis is not one".to_owned())
}
