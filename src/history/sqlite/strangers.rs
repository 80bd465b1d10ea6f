//! Other processes that have the database open, for the log to name them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process;

use super::open::Directory;

/// Who else has locks on the files of the database, as far as the system says: `process 17 (sqlite3)`.
pub(super) fn named(directory: &Directory) -> String {
    let pids = pids(directory);
    let name = |pid: &u32| match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("process {pid} ({})", name.trim_end()),
        Err(_) => format!("process {pid}"),
    };
    match &pids[..] {
        [] => "another process".to_owned(),
        pids => pids.iter().map(name).collect::<Vec<_>>().join(", "),
    }
}

/// Only Linux lists them: `1: POSIX  ADVISORY  READ 17 fe:00:1234 124 124` (proc(5), /proc/locks).
fn pids(directory: &Directory) -> Vec<u32> {
    let files = ["history.db", "history.db-shm"].map(|name| directory.path().join(name));
    let inodes: Vec<_> = files.iter().flat_map(fs::metadata).map(|file| file.ino()).collect();
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let holder = |line: &str| -> Option<u32> {
        let mut words =
            line.split_whitespace().skip_while(|word| !["READ", "WRITE"].contains(word));
        let pid = words.nth(1)?.parse().ok()?;
        let inode = words.next()?.rsplit(':').next()?.parse().ok()?;
        (pid != process::id() && inodes.contains(&inode)).then_some(pid)
    };
    let mut pids: Vec<_> = locks.lines().filter_map(holder).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}
