//! What the processes of the server use: time on the processors, and memory.
//!
//! Read from `/proc`, so on Linux alone; elsewhere there is nothing to report. A server of several
//! processes counts with all its descendants.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::str::FromStr;

/// The processes of a server.
#[derive(Debug, Clone, Default)]
pub struct Server {
    roots: Vec<u32>,
}

/// Processor time used up to a moment, in nanoseconds, by thread: one that ends later must not take
/// its past with it.
#[derive(Debug, Clone, Default)]
pub struct Cpu {
    by_thread: BTreeMap<u32, u64>,
}

impl Cpu {
    /// What was used since.
    pub fn since(&self, before: &Self) -> u64 {
        let used = |(thread, now): (&u32, &u64)| {
            now.saturating_sub(before.by_thread.get(thread).copied().unwrap_or(0))
        };
        self.by_thread.iter().map(used).sum()
    }
}

impl Server {
    /// The processes with these ids and all their descendants.
    pub fn new(roots: Vec<u32>) -> Self {
        Self { roots }
    }

    /// The process of the bench itself.
    pub fn this() -> Self {
        Self::new(vec![std::process::id()])
    }

    /// Whether there is anything to look at.
    pub fn is_known(&self) -> bool {
        !self.roots.is_empty()
    }

    /// The first id that no process has.
    pub fn missing(&self) -> Option<u32> {
        // One that has ended, and whose parent has not asked how, is a zombie.
        let is_there = |id: &u32| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
        };
        self.roots.iter().copied().find(|id| !is_there(id))
    }

    /// The processor time used up to now.
    pub fn cpu(&self) -> Cpu {
        let mut cpu = Cpu::default();
        for process in self.family() {
            for thread in numbers(&format!("/proc/{process}/task")) {
                let folder = format!("/proc/{process}/task/{thread}");
                let used = scheduled(&folder).or_else(|| ticked(&folder));
                cpu.by_thread.insert(thread, used.unwrap_or(0));
            }
        }
        cpu
    }

    /// The bytes of memory held now.
    pub fn memory(&self) -> u64 {
        self.family().into_iter().filter_map(|id| rolled_up(id).or_else(|| paged(id))).sum()
    }

    /// The processes that are there now.
    fn family(&self) -> BTreeSet<u32> {
        let mut family: BTreeSet<_> = self.roots.iter().copied().collect();
        if family.is_empty() {
            return family;
        }
        let parents: Vec<_> = numbers("/proc")
            .into_iter()
            .filter_map(|id| Some((id, field::<u32>(&format!("/proc/{id}"), 4)?)))
            .collect();
        loop {
            let before = family.len();
            let children = parents.iter().filter(|(_, parent)| family.contains(parent));
            let children: Vec<_> = children.map(|(id, _)| *id).collect();
            family.extend(children);
            if family.len() == before {
                return family;
            }
        }
    }
}

/// The names in a folder that are numbers.
fn numbers(folder: &str) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// A field of `stat`, counted from 1 as in proc(5). The name of the program may hold anything, so
/// fields are counted from behind it.
fn field<T: FromStr>(folder: &str, field: usize) -> Option<T> {
    let text = fs::read_to_string(format!("{folder}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(field - 3)?.parse().ok()
}

/// Nanoseconds on a processor, to the nanosecond, where the kernel keeps count.
fn scheduled(folder: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("{folder}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().filter(|nanos| *nanos > 0)
}

/// The same in ticks, of which Linux has a hundred a second for all programs.
fn ticked(folder: &str) -> Option<u64> {
    let ticks = field::<u64>(folder, 14)? + field::<u64>(folder, 15)?;
    Some(ticks * 10_000_000)
}

/// Resident memory, counted page by page.
fn rolled_up(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Resident memory as the kernel roughly knows it.
fn paged(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn work_and_memory_of_this_process_are_seen() {
        let server = Server::this();
        let before = server.cpu();
        let mut sum = 0_u64;
        while server.cpu().since(&before) < 20_000_000 {
            sum = (0..100_000).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
        }
        assert!(server.memory() > 1 << 20);
        assert!(paged(std::process::id()).is_some());
        assert!(field::<u32>("/proc/self", 1_000).is_none());
    }

    #[test]
    fn children_belong_to_the_server() {
        let mut child = std::process::Command::new("sleep").arg("20").spawn().unwrap();
        let family = Server::this().family();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(family.contains(&child.id()));
        assert_eq!(Server::new(vec![child.id()]).missing(), Some(child.id()));
    }

    #[test]
    fn a_thread_that_ended_takes_no_past_with_it() {
        let cpu = |threads: &[(u32, u64)]| Cpu { by_thread: threads.iter().copied().collect() };
        assert_eq!(cpu(&[(1, 15), (3, 2)]).since(&cpu(&[(1, 10), (2, 100)])), 7);
    }
}
