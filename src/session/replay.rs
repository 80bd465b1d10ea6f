//! The reader of one subscribe's history.
//!
//! A task beside the session, so that a long replay holds up neither its requests nor its live
//! events. It reads page by page and sends no faster than the client takes it; when it has reached
//! the boundary it asks for a mark, behind which the session goes live.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::UnboundedReceiver;

use super::reception::{Progress, Reception};
use crate::broker::{BrokerHandle, MarkId, SessionKey, Subscriber, WorkerHandle};
use crate::history::{Newest, Page, Read};
use crate::model::{Close, Code, Cursor, Event, Pattern, Problem};
use crate::protocol::Reply;

/// The most events of one page.
const PAGE_EVENTS: usize = 256;

/// The size of a page in bytes, about.
const PAGE_BYTES: usize = 128 * 1024;

/// How often a history that has no trouble is tried.
const TRIES: u32 = 3;

/// How long until a history that can't be read is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// The reader of one subscribe's history.
pub struct Replay {
    /// Where events go.
    pub reception: Arc<Reception>,
    /// Where they come from.
    pub broker: BrokerHandle,
    /// Who places marks.
    pub worker: WorkerHandle,
    /// Whose subscribe it is.
    pub session: SessionKey,
    /// Which of its subscribes.
    pub mark: MarkId,
    /// The number the client gave it.
    pub reference: Option<u64>,
    /// What is subscribed to.
    pub patterns: Arc<[Pattern]>,
    /// Of that, what current values are wanted of.
    pub snapshots: Arc<[Pattern]>,
    /// The place up to which the client has everything.
    pub since: Option<Cursor>,
    /// Whether current values are wanted where there is no usable `since`.
    pub snapshot: bool,
    /// Whether the newest event of each topic is enough.
    pub is_conflated: bool,
    /// What the session says of how far to read.
    pub progress: UnboundedReceiver<Progress>,
}

/// What an event out of the history is to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of all that came after what the client has.
    Replayed,
    /// The newest of its topic, changed since what the client has.
    Changed,
    /// The current value of its topic.
    Snapshot,
}

/// The subscribe or its session is gone.
struct Gone;

impl Replay {
    /// Reads until the subscribe is live or gone. If the history can't be read, the session is told
    /// and ended, so that its client comes back with its cursor.
    pub async fn run(mut self) {
        if let Err(problem) = self.catch_up().await {
            self.reception.refuse(self.reference, &problem);
            self.reception.end(Close::Internal);
        }
    }

    async fn catch_up(&mut self) -> Result<(), Problem> {
        let mut after = self.since;
        while let Some(Progress::Read { boundary, sent }) = self.progress.recv().await {
            let read = match after.max(sent) {
                Some(after) if self.is_conflated => self.changed(after, boundary).await?,
                Some(after) => self.replay(after, boundary).await?,
                None => self.current(&self.snapshots, None, Kind::Snapshot).await?,
            };
            if read.is_err() || self.drain_held().await.is_err() {
                return Ok(());
            }
            after = Some(boundary);
            if self.worker.mark(self.session, self.mark).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn replay(&self, since: Cursor, upto: Cursor) -> Result<Result<(), Gone>, Problem> {
        let mut after = since;
        let mut told_gap = None;
        loop {
            let page = self.read(after, upto).await?;
            if page.gap > told_gap {
                told_gap = page.gap;
                self.reception.reply(&Reply::Gap { reference: self.reference, since: after });
                if self.snapshot {
                    return self.current(&self.snapshots, None, Kind::Snapshot).await;
                }
            }
            if self.send(&page.events, Kind::Replayed).await.is_err() {
                return Ok(Err(Gone));
            }
            after = page.next;
            if page.done {
                return Ok(Ok(()));
            }
        }
    }

    /// Sends the newest event of each topic that has one after a place.
    async fn changed(&self, since: Cursor, upto: Cursor) -> Result<Result<(), Gone>, Problem> {
        // Only to hear of a gap; a page with one is as short as any.
        if self.read(since, upto).await?.gap.is_none() {
            return self.current(&self.patterns, Some(since), Kind::Changed).await;
        }
        self.reception.reply(&Reply::Gap { reference: self.reference, since });
        let kind = if self.snapshot { Kind::Snapshot } else { Kind::Changed };
        self.current(&self.patterns, None, kind).await
    }

    async fn read(&self, after: Cursor, upto: Cursor) -> Result<Page, Problem> {
        let read = Read {
            patterns: self.patterns.clone(),
            after: Some(after),
            upto: Some(upto),
            max_events: PAGE_EVENTS,
            max_bytes: PAGE_BYTES,
        };
        self.patiently(|| self.broker.history().read(read.clone())).await
    }

    /// Reads, and waits while the history is away, for the client loses nothing by that. What fails
    /// again and again without such trouble is damaged.
    async fn patiently<'a, T>(
        &self,
        read: impl Fn() -> BoxFuture<'a, Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let mut tries = TRIES;
        loop {
            let problem = match read().await {
                Err(problem) if problem.code == Code::Unavailable => problem,
                result => return result,
            };
            if self.broker.history().trouble().is_none() {
                tries -= 1;
            }
            if tries == 0 || self.reception.outgoing().is_closing() {
                return Err(problem);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Sends the newest kept event of each topic that `patterns` match, if it came after `since`.
    async fn current(
        &self,
        patterns: &Arc<[Pattern]>,
        since: Option<Cursor>,
        kind: Kind,
    ) -> Result<Result<(), Gone>, Problem> {
        let (mut after, mut newest_place) = (None, None);
        loop {
            let patterns = patterns.clone();
            let newest = Newest { patterns, after, max_events: PAGE_EVENTS };
            let mut page = self.patiently(|| self.broker.history().newest(newest.clone())).await?;
            page.events.retain(|event| event.cursor > since);
            newest_place = newest_place.max(page.events.iter().filter_map(|e| e.cursor).max());
            if self.send(&page.events, kind).await.is_err() {
                return Ok(Err(Gone));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        // Nothing older may follow a value that another node was first to deliver.
        if let Some(place) = newest_place {
            self.broker.reach(place).await?;
        }
        Ok(Ok(()))
    }

    /// Sends a page as the client takes it, and lets others of this thread go first.
    async fn send(&self, events: &[Arc<Event>], kind: Kind) -> Result<(), Gone> {
        for event in events {
            self.room(event.cost()).await?;
            if !self.reception.replay(self.mark, event, kind) {
                return Err(Gone);
            }
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn drain_held(&self) -> Result<(), Gone> {
        while let Some(bytes) = self.reception.drain_held(self.mark) {
            self.room(bytes).await?;
        }
        Ok(())
    }

    async fn room(&self, bytes: usize) -> Result<(), Gone> {
        if self.reception.outgoing().room(bytes).await { Ok(()) } else { Err(Gone) }
    }
}
