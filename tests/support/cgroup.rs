//! Processes that may use no more than they are given: a control group of either version.

use std::fs;
use std::path::{Path, PathBuf};

const GROUPS: &str = "/sys/fs/cgroup";

/// The time over which use of the processor is counted, in microseconds.
const PERIOD: u32 = 10_000;

/// A group with a limit; gone when it is dropped after its processes.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// At most so many bytes of memory; none where this may not make a group.
    pub fn of_memory(bytes: usize) -> Option<Self> {
        let limit = bytes.to_string();
        Self::new("memory", &[("memory.max", &limit)], &[("memory.limit_in_bytes", &limit)])
    }

    /// At most so much of one processor; none where this may not make a group.
    pub fn of_processor(share: f64) -> Option<Self> {
        let (quota, period) = ((share * f64::from(PERIOD)) as u32, PERIOD.to_string());
        Self::new(
            "cpu",
            &[("cpu.max", &format!("{quota} {period}"))],
            &[("cpu.cfs_period_us", &period), ("cpu.cfs_quota_us", &quota.to_string())],
        )
    }

    fn new(controller: &str, unified: &[(&str, &str)], own: &[(&str, &str)]) -> Option<Self> {
        let root = Path::new(GROUPS);
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let (parent, limits) = match controllers.split_whitespace().any(|name| name == controller) {
            true => (root.to_owned(), unified),
            false => (root.join(controller), own),
        };
        let path = parent.join(format!("fanfare-test-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let group = Self(path);
        for (name, limit) in limits {
            fs::write(group.0.join(name), limit).ok()?;
        }
        Some(group)
    }

    /// Moves a process in.
    pub fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("the process is moved");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        _ = fs::remove_dir(&self.0);
    }
}
