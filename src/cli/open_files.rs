//! Whether the system lets this process open as many connections as it is configured for.

use std::fs;

/// Files that the broker needs beside its connections: listeners, epoll instances, logs.
const BESIDE: usize = 100;

/// A warning where the limit on open files (`ulimit -n`) is too low for `connections`.
pub fn warning(connections: usize) -> Option<String> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let limit = soft_limit(&limits)?;
    (limit < connections.saturating_add(BESIDE)).then(|| {
        format!(
            "the system lets this process open {limit} files (ulimit -n), too few for \
             limits.connections = {connections}"
        )
    })
}

/// The soft limit on open files; `None` where there is none.
fn soft_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_the_first_number() {
        let limits = "Limit   Soft Limit  Hard Limit  Units\n\
                      Max processes   7   8   processes\n\
                      Max open files  1024    4096   files\n";
        assert_eq!(soft_limit(limits), Some(1_024));
        assert_eq!(soft_limit("Max open files  unlimited  unlimited  files"), None);
        assert_eq!(soft_limit(""), None);
    }

    #[test]
    fn more_connections_than_files_are_warned_of() {
        assert!(warning(usize::MAX).is_none_or(|warning| warning.contains("ulimit -n")));
        assert_eq!(warning(0), None);
    }
}
