//! The durable log: on disk, in an embedded SQLite, beside what is kept in memory.
//!
//! One sequence numbers both. Who publishes to a topic on disk waits for a group commit; who
//! publishes to one in memory waits only while a commit runs, so that nothing overtakes it. Reads
//! join both, each from its own place, in the order of the log.

mod adding;
mod back_page;
pub mod backup;
mod checkpoints;
mod convert;
mod disk;
mod earlier;
mod epochs;
mod failure;
mod group_commit;
mod joined;
mod legacy;
mod open;
mod opened;
mod page;
mod paging;
mod past;
mod queue;
mod reader;
mod readers;
mod recall;
mod removable;
mod retention;
mod rows;
mod space;
mod stays;
mod store;
mod strangers;
mod verify;
mod writer;

use std::future::ready;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tracing::{error, warn};

use self::failure::Trouble;
use self::group_commit::{Admission, Shared};
use self::joined::Joined;
use self::open::Directory;
pub use self::open::OpenError;
pub use self::opened::Opened;
use self::queue::{Forget, Withdrawn};
use super::memory::log::Log;
use super::{
    Append, AppendError, BackPage, Departure, Ending, History, Kept, ListTopics, Moment, Newest,
    NewestPage, Page, Read, ReadBack, Receipt, Since, Stock, TakeEarlier, TopicSummary,
};
use crate::clock::within;
use crate::model::{Code, Cursor, Problem, Topic};
use crate::panics::lock;

/// The durable log.
pub struct SqliteHistory {
    shared: Arc<Shared>,
    joined: Joined,
    directory: Arc<Directory>,
    commit_timeout: Duration,
    disk_bytes: u64,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteHistory {
    /// Has the newest read that is on the disk from before `upto`, where the log was opened at, of about so many bytes.
    pub fn read_earlier(&self, upto: Cursor, max_bytes: usize, take: TakeEarlier) {
        self.joined.readers.begin(move |reader| {
            let earlier = reader.and_then(|reader| reader.earlier(upto, max_bytes));
            take(earlier.unwrap_or_else(|error| {
                warn!(%error, "what is kept is not at hand: it could not be read");
                None
            }));
        });
    }
}

// A table: each word of the trait, and who does it here. Each history has its own.
impl History for SqliteHistory {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Receipt, AppendError>> {
        let admission = self.shared.admit(append);
        Box::pin(async move {
            let (ticket, receiver) = match admission {
                Admission::Done(result) => return result,
                Admission::Waiting(ticket, receiver) => (ticket, receiver),
            };
            match within(self.commit_timeout, receiver).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => {
                    let reason = "the writer of the history has ended".to_owned();
                    Err(AppendError::OutcomeUnknown(reason))
                }
                Err(_) => {
                    let reason = format!("the disk did not answer in {:?}", self.commit_timeout);
                    Err(match self.shared.withdraw(ticket) {
                        Withdrawn::Unbegun => AppendError::Unavailable(reason),
                        Withdrawn::Repeat => AppendError::InProgress,
                        Withdrawn::TooLate => AppendError::OutcomeUnknown(reason),
                    })
                }
            }
        })
    }

    fn read(&self, read: Read) -> BoxFuture<'_, Result<Page, Problem>> {
        Box::pin(self.joined.read(read))
    }

    fn read_back(&self, read: ReadBack) -> BoxFuture<'_, Result<BackPage, Problem>> {
        Box::pin(self.joined.read_back(read))
    }

    fn position_before(&self, since: Since) -> BoxFuture<'_, Result<Moment, Problem>> {
        Box::pin(self.joined.position_before(since))
    }

    fn newest(&self, newest: Newest) -> BoxFuture<'_, Result<NewestPage, Problem>> {
        Box::pin(self.joined.newest(newest))
    }

    fn topics(&self, list: ListTopics) -> BoxFuture<'_, Result<Vec<TopicSummary>, Problem>> {
        Box::pin(self.joined.topics(list))
    }

    fn topic(&self, topic: Topic) -> BoxFuture<'_, Result<TopicSummary, Problem>> {
        Box::pin(self.joined.topic(topic))
    }

    fn forget(&self, topic: Topic) -> BoxFuture<'_, Result<usize, Problem>> {
        let (answer, receiver) = oneshot::channel();
        self.shared.forget(Forget { topic, upto: None, removed: 0, answer });
        Box::pin(async move {
            let closed = |_| Problem::new(Code::Unavailable, "the history is closed");
            receiver.await.map_err(closed)?
        })
    }

    fn depart(&self, departures: Vec<Departure>) -> BoxFuture<'_, Result<(), Problem>> {
        self.shared.lock().log.depart(departures);
        Box::pin(ready(Ok(())))
    }

    fn due(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Ending>, Problem>> {
        let due = self.shared.lock().log.due(limit);
        Box::pin(ready(Ok(due)))
    }

    fn head(&self) -> Cursor {
        self.shared.lock().log.head()
    }

    fn trouble(&self) -> Option<String> {
        let state = self.shared.lock();
        let slow = || {
            let elapsed = state.slow_commit()?;
            Some(format!("the disk has not answered for {} s", elapsed.as_secs()))
        };
        state.trouble.as_ref().map(Trouble::said).or_else(slow)
    }

    fn stock(&self) -> Stock {
        let disk = Kept {
            bytes: self.shared.kept_bytes.load(Ordering::Relaxed),
            limit: self.disk_bytes,
            ..Kept::default()
        };
        let state = self.shared.lock();
        let (memory, pending_bytes) = (Some(state.log.stock()), state.pending_bytes());
        Stock { memory, disk: Some(disk), pending_bytes, ..Stock::default() }
    }

    fn sweep(&self) {
        self.shared.remove(Log::sweep);
    }

    fn stop(&self) {
        self.shared.stop();
        let writer = lock(&self.writer).take();
        if let Some(writer) = writer {
            if writer.join().is_err() {
                error!("the writer of the history has panicked");
            }
            self.directory.unlock();
        }
    }
}

impl Drop for SqliteHistory {
    fn drop(&mut self) {
        self.stop();
    }
}
