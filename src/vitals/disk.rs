//! What the history takes of its disk: looked at beside, for a disk that hangs must hold up nobody.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::task::{JoinHandle, spawn_blocking};

use super::said::Disk;
use crate::config;
use crate::panics::lock;

/// The files of a history.
const FILES: [&str; 4] = ["history.db", "history.db-wal", "history.db-shm", "reserve"];

/// A disk that is looked at.
#[derive(Debug)]
pub(super) struct DiskWatch {
    path: PathBuf,
    limit: u64,
    seen: Arc<Mutex<Option<Disk>>>,
    look: Option<JoinHandle<()>>,
}

impl DiskWatch {
    /// That of a history.
    pub(super) fn of(history: &config::History) -> Self {
        let beside = history.newest_bytes.saturating_add(history.reserve_bytes);
        let limit = history.disk_bytes.saturating_add(beside) as u64;
        Self { path: history.path.clone(), limit, seen: Arc::default(), look: None }
    }

    /// How it was when it was last seen; it is looked at again, unless it has not answered yet.
    pub(super) fn look(&mut self) -> Option<Disk> {
        if self.look.as_ref().is_none_or(JoinHandle::is_finished) {
            let (path, limit, seen) = (self.path.clone(), self.limit, self.seen.clone());
            self.look = Some(spawn_blocking(move || {
                *lock(&seen) = Some(measure(&path, limit));
            }));
        }
        *lock(&self.seen)
    }
}

fn measure(path: &std::path::Path, limit_bytes: u64) -> Disk {
    // What is sparse takes no more than what was written of it.
    let taken = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path.join(name)).map_or(0, |file| file.blocks() * 512)
    };
    let used_bytes = FILES.iter().map(|name| taken(name)).sum();
    let free = |room: rustix::fs::StatVfs| room.f_bavail.saturating_mul(room.f_frsize);
    let free_bytes = rustix::fs::statvfs(path).map_or(0, free);
    Disk { used_bytes, limit_bytes, free_bytes, wal_bytes: taken("history.db-wal") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_files_of_a_history_are_added_up_and_what_is_free_is_known() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("history.db"), vec![1; 100_000]).unwrap();
        std::fs::write(directory.path().join("other"), vec![1; 900_000]).unwrap();
        let mut history = config::Config::default().history;
        history.path = directory.path().to_owned();
        let mut watch = DiskWatch::of(&history);
        assert_eq!(watch.look(), None, "nobody waits for it");
        let disk = loop {
            tokio::task::yield_now().await;
            if let Some(disk) = watch.look() {
                break disk;
            }
        };
        assert!((100_000..200_000).contains(&disk.used_bytes), "{disk:?}");
        assert!(disk.free_bytes > 0 && disk.limit_bytes >= history.disk_bytes as u64);
    }
}
