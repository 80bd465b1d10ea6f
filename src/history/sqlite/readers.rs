//! The threads that read, each with a connection of its own, so that no reader waits for the writer
//! and none holds up an async thread.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, RwLock, RwLockWriteGuard};
use std::thread;

use tokio::sync::oneshot;
use tracing::error;

use super::open::Directory;
use super::reader::Reader;
use super::rows::RowResult;
use crate::model::{Code, Problem};
use crate::panics::{contain, lock, read, wait, write};

/// How many threads read.
const READERS: usize = 2;

/// The readers of one database.
pub(super) struct Readers {
    pool: Arc<Pool>,
}

struct Pool {
    directory: Arc<Directory>,
    jobs: Mutex<Jobs>,
    ready: Condvar,
    /// Held by whoever uses the database to read or to make a checkpoint; taken whole by whoever
    /// needs nobody to.
    gate: RwLock<()>,
    connections: [Mutex<Option<Reader>>; READERS],
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    stopped: bool,
}

type Job = Box<dyn FnOnce(RowResult<&Reader>) + Send>;

impl Readers {
    /// Starts the threads.
    pub(super) fn start(directory: Arc<Directory>) -> std::io::Result<Self> {
        let pool = Arc::new(Pool {
            directory,
            jobs: Mutex::default(),
            ready: Condvar::new(),
            gate: RwLock::new(()),
            connections: Default::default(),
        });
        for number in 0..READERS {
            let pool = pool.clone();
            let name = format!("history-reader-{number}");
            thread::Builder::new().name(name).spawn(move || pool.work(number))?;
        }
        Ok(Self { pool })
    }

    /// Reads something.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> RowResult<T> + Send + 'static,
    ) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        self.begin(move |reader| _ = reply.send(reader.and_then(read)));
        match answer.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(problem)) => {
                error!(error = %problem, "the history could not be read");
                let detail = format!("the history could not be read: {problem}");
                Err(Problem::new(Code::Unavailable, detail))
            }
            Err(_) => Err(Problem::new(Code::Unavailable, "the history is closed")),
        }
    }

    /// Has something read, and does not wait for it.
    pub(super) fn begin(&self, read: impl FnOnce(RowResult<&Reader>) + Send + 'static) {
        lock(&self.pool.jobs).waiting.push_back(Box::new(read));
        self.pool.ready.notify_one();
    }

    /// Where the database is.
    pub(super) fn directory(&self) -> &Directory {
        &self.pool.directory
    }

    /// Holds the database open against [`Readers::close`], as a reader does.
    pub(super) fn hold(&self) -> std::sync::RwLockReadGuard<'_, ()> {
        read(&self.pool.gate)
    }

    /// Waits until nobody reads, and keeps everyone waiting as long as the guard is held.
    pub(super) fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        write(&self.pool.gate)
    }

    /// As [`Readers::pause`], with every connection closed.
    pub(super) fn close(&self) -> RwLockWriteGuard<'_, ()> {
        let guard = self.pause();
        for connection in &self.pool.connections {
            lock(connection).take();
        }
        guard
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        lock(&self.pool.jobs).stopped = true;
        self.pool.ready.notify_all();
    }
}

impl Pool {
    fn work(&self, number: usize) {
        while let Some(job) = self.next_job() {
            let _gate = read(&self.gate);
            let mut connection = lock(&self.connections[number]);
            if connection.is_none() {
                let opened = self.directory.reader().map_err(Into::into).and_then(Reader::new);
                match opened {
                    Ok(reader) => *connection = Some(reader),
                    Err(error) => {
                        job(Err(error));
                        continue;
                    }
                }
            }
            // Whoever asked sees that no answer comes; the others still have this thread, which changes
            // nothing and opens the database again.
            if let Some(reader) = &*connection
                && contain(|| job(Ok(reader))).is_none()
            {
                *connection = None;
            }
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut jobs = lock(&self.jobs);
        loop {
            if let Some(job) = jobs.waiting.pop_front() {
                return Some(job);
            }
            if jobs.stopped {
                return None;
            }
            jobs = wait(&self.ready, jobs);
        }
    }
}
