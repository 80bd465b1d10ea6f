//! What the system says of the process: its memory, its processor time, its descriptors and threads.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::said::{Memory, Process};

/// What limits the memory of the process: its control group, of either version, or what the machine has.
const LIMITS: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Processor time of all threads so far.
pub(super) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

/// The memory of the process, and its limit; 0 where the system does not say.
pub(super) fn memory() -> Memory {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let rss_bytes = kibibytes(&status, "VmRSS:");
    let machine = || fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let machine = kibibytes(&machine(), "MemTotal:");
    let read = |path: &&str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limit = LIMITS.iter().find_map(read).filter(|limit| *limit < machine || machine == 0);
    Memory { rss_bytes, limit_bytes: limit.unwrap_or(machine) }
}

/// Descriptors and threads; the processor time of a period, that there is more of now than before it.
pub(super) fn process(used: Duration) -> Process {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let threads = field(&status, "Threads:").and_then(|text| text.trim().parse().ok());
    let limit = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(0, |(soft, _)| soft);
    Process {
        cpu_ms: u64::try_from(used.as_millis()).unwrap_or(u64::MAX),
        threads: threads.unwrap_or(0),
        descriptors: descriptors(),
        descriptors_limit: limit,
    }
}

/// How many descriptors are open: since Linux 6.2 the directory has that as its length.
fn descriptors() -> u64 {
    let length = fs::metadata("/proc/self/fd").map_or(0, |directory| directory.len());
    if length > 0 {
        return length;
    }
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

fn kibibytes(text: &str, name: &str) -> u64 {
    let number = |text: &str| text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok();
    field(text, name).and_then(number).unwrap_or(0) * 1024
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_all_of_it() {
        let (memory, process) = (memory(), process(Duration::from_millis(7)));
        assert!(memory.rss_bytes > 1 << 20 && memory.limit_bytes > memory.rss_bytes, "{memory:?}");
        assert!(process.threads > 0 && process.descriptors > 2, "{process:?}");
        assert_eq!(process.cpu_ms, 7);
        assert!(cpu() > Duration::ZERO);
        assert_eq!(kibibytes("VmRSS:\t  12 kB\n", "VmRSS:"), 12_288);
    }
}
