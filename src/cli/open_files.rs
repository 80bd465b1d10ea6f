//! Room for as many open files as connections are configured.

use crate::config::Limits;

/// Files that the broker needs beside its connections: listeners, epoll instances, logs.
const BESIDE: u64 = 100;

/// Raises the limit on open files (`ulimit -n`) as far as the system lets this process, and answers
/// with a warning where that is too low for `connections`.
pub fn make_room(connections: usize) -> Option<String> {
    let wanted = (Limits::with_spare(connections) as u64).saturating_add(BESIDE);
    let limit = rlimit::increase_nofile_limit(wanted).ok()?;
    (limit < wanted).then(|| {
        format!(
            "the system lets this process open {limit} files (ulimit -n), too few for \
             limits.connections = {connections}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_connections_than_the_system_allows_are_warned_of() {
        assert!(make_room(usize::MAX).is_none_or(|warning| warning.contains("ulimit -n")));
        assert_eq!(make_room(0), None);
    }
}
