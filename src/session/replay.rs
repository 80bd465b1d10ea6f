//! The reader of one subscribe's history.
//!
//! A task beside the session, so that a long replay holds up neither its requests nor its live
//! events. It reads page by page and sends no faster than the client takes it; when it has reached
//! the boundary it asks for a mark, behind which the session goes live.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::catchups::{Again, Progress};
use super::errand::Reading;
use super::intake::MAX_NAMED;
use super::outgoing::Outgoing;
use super::receiver::Receiver;
use crate::broker::{BrokerHandle, Roll, SessionKey, WorkerHandle};
use crate::history::{Newest, Page, Read};
use crate::model::{Close, Code, Cursor, Event, Pattern, Problem, Topic};

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
    /// Says when there is room.
    pub outgoing: Arc<Outgoing>,
    /// Where events come from.
    pub broker: BrokerHandle,
    /// Where they go, and who places marks.
    pub worker: WorkerHandle<Receiver>,
    /// Whose subscribe it is.
    pub session: SessionKey,
    /// What is to be read.
    pub reading: Reading,
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
            let reference = self.reading.reference;
            self.worker.with(self.session, |receiver| receiver.refuse(reference, &problem));
            self.worker.end(self.session, Close::Internal);
        }
    }

    async fn catch_up(&mut self) -> Result<(), Problem> {
        let (mut after, mut asked, mut is_told) = (self.reading.since, Again::Nothing, false);
        loop {
            match self.reading.progress.recv().await {
                Some(Progress::Read { boundary, sent, anew, only_anew, awaits_roll }) => {
                    let is_whole = match anew == Again::All || only_anew {
                        true => true,
                        false => self.read_up_to(boundary, after.max(sent)).await?.is_ok(),
                    };
                    if !is_whole || self.anew(&anew).await?.is_err() {
                        return Ok(());
                    }
                    after = Some(boundary);
                    if awaits_roll != Again::Nothing {
                        asked = awaits_roll;
                        self.call_roll(&asked).await;
                        continue;
                    }
                }
                Some(Progress::Called(None)) => {
                    self.call_roll(&asked).await;
                    continue;
                }
                Some(Progress::Called(Some(roll))) => {
                    // Who has left since the client knew who is there is not among them; where it is told no
                    // members, what was dropped meanwhile may have had no place to be read at.
                    let since = self.reading.since.filter(|_| self.reading.snapshot);
                    let since = since.or(after.filter(|_| is_told));
                    if asked == Again::All && self.forget_members(since).await?.is_err() {
                        return Ok(());
                    }
                    is_told = true;
                    if self.send_members(&roll).await.is_err() {
                        return Ok(());
                    }
                }
                Some(Progress::Live) | None => return Ok(()),
            }
            if self.drain_held().await.is_err() {
                return Ok(());
            }
            self.worker.mark(self.session, self.reading.mark);
        }
    }

    /// Sends what is wanted of the history up to a boundary, where what came up to `after` is there already.
    async fn read_up_to(
        &self,
        boundary: Cursor,
        after: Option<Cursor>,
    ) -> Result<Result<(), Gone>, Problem> {
        match after {
            // What no gap can name begins anew before its members are told.
            Some(_) if self.reading.snapshot && self.named_rooms().is_none() => Ok(Ok(())),
            Some(after) if self.reading.is_conflated => self.changed(after, boundary).await,
            Some(after) => self.replay(after, boundary).await,
            None if self.reading.snapshot => {
                self.current(&self.reading.snapshots, None, Kind::Snapshot).await
            }
            None => Ok(Ok(())),
        }
    }

    /// The topics where it is told who is in others, as the patterns name them; none where they are too many for a
    /// gap, or have no names.
    fn named_rooms(&self) -> Option<Vec<Topic>> {
        let rooms = self.reading.snapshots.iter().filter(|pattern| pattern.is_presence());
        let rooms: Option<Vec<_>> = rooms.map(Pattern::as_topic).collect();
        rooms.filter(|rooms| rooms.len() <= MAX_NAMED)
    }

    /// Asks who is in topics, at the place where this node knows it.
    async fn call_roll(&self, asked: &Again) {
        let Reading { mark, snapshots, .. } = &self.reading;
        let asked: Arc<[_]> = match asked {
            Again::Of(rooms) => rooms.iter().map(Pattern::from).collect(),
            Again::Nothing | Again::All => {
                snapshots.iter().filter(|pattern| pattern.is_presence()).cloned().collect()
            }
        };
        self.broker.presence_known(&asked).await;
        self.worker.call_roll(self.session, *mark, asked);
    }

    /// Has a client that knew who is in topics after a place forget it.
    async fn forget_members(&self, since: Option<Cursor>) -> Result<Result<(), Gone>, Problem> {
        let Some(since) = since else { return Ok(Ok(())) };
        let rooms = self.named_rooms();
        if self.tell_gap(since, rooms.as_deref().unwrap_or_default()).is_err() {
            return Ok(Err(Gone));
        }
        match rooms {
            None if self.reading.snapshot => {
                self.current(&self.reading.snapshots, None, Kind::Snapshot).await
            }
            _ => Ok(Ok(())),
        }
    }

    /// Sends who is in topics, where that is wanted.
    async fn send_members(&self, roll: &Roll) -> Result<(), Gone> {
        if !self.reading.snapshot {
            return Ok(());
        }
        for (at, member) in roll.members().enumerate() {
            let Some(event) = member.event() else { continue };
            self.send_one(&event, Kind::Snapshot).await?;
            if at % PAGE_EVENTS == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Sends current values again that were on their way when events were lost.
    async fn anew(&self, again: &Again) -> Result<Result<(), Gone>, Problem> {
        let Reading { patterns, snapshots, is_conflated, snapshot, .. } = &self.reading;
        let kind = if *is_conflated && !snapshot { Kind::Changed } else { Kind::Snapshot };
        let whole = if *snapshot { snapshots } else { patterns };
        match again {
            Again::Nothing => Ok(Ok(())),
            Again::All => self.current(whole, None, kind).await,
            Again::Of(topics) => {
                let wanted = |topic: &&Topic| whole.iter().any(|pattern| pattern.matches(topic));
                let topics: Vec<_> = topics.iter().filter(wanted).map(Pattern::from).collect();
                self.current(&topics.into(), None, kind).await
            }
        }
    }

    async fn replay(&self, since: Cursor, upto: Cursor) -> Result<Result<(), Gone>, Problem> {
        let mut after = since;
        let mut told_gap = None;
        loop {
            let mut page = self.read(after, upto).await?;
            if page.gap > told_gap {
                told_gap = page.gap;
                if self.tell_gap(after, &[]).is_err() {
                    return Ok(Err(Gone));
                }
                if self.reading.snapshot {
                    return self.current(&self.reading.snapshots, None, Kind::Snapshot).await;
                }
            }
            if self.reading.snapshot {
                // Who is in a topic is told as it is, whatever led to that.
                page.events.retain(|event| !event.topic.is_presence());
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
            return self.current(&self.reading.patterns, Some(since), Kind::Changed).await;
        }
        if self.tell_gap(since, &[]).is_err() {
            return Ok(Err(Gone));
        }
        let kind = if self.reading.snapshot { Kind::Snapshot } else { Kind::Changed };
        self.current(&self.reading.patterns, None, kind).await
    }

    fn tell_gap(&self, since: Cursor, topics: &[Topic]) -> Result<(), Gone> {
        let Reading { mark, reference, .. } = self.reading;
        let told = |receiver: &mut Receiver| receiver.replay_gap(mark, reference, since, topics);
        self.worker.with(self.session, told).filter(|told| *told).map(|_| ()).ok_or(Gone)
    }

    async fn read(&self, after: Cursor, upto: Cursor) -> Result<Page, Problem> {
        let read = Read {
            patterns: self.reading.patterns.clone(),
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
            if tries == 0 || self.outgoing.is_closing() {
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
            // Who is in a topic is no value of the topic where it is told.
            page.events.retain(|event| event.cursor > since && !event.topic.is_presence());
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
            self.send_one(event, kind).await?;
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn send_one(&self, event: &Event, kind: Kind) -> Result<(), Gone> {
        self.room(event.cost()).await?;
        let mark = self.reading.mark;
        let sent = self.worker.with(self.session, |it| it.replay(mark, event, kind));
        if sent == Some(true) { Ok(()) } else { Err(Gone) }
    }

    async fn drain_held(&self) -> Result<(), Gone> {
        let mark = self.reading.mark;
        loop {
            match self.worker.with(self.session, |receiver| receiver.drain_held(mark)) {
                Some(Some(bytes)) => self.room(bytes).await?,
                Some(None) => return Ok(()),
                None => return Err(Gone),
            }
        }
    }

    async fn room(&self, bytes: usize) -> Result<(), Gone> {
        if self.outgoing.room(bytes).await { Ok(()) } else { Err(Gone) }
    }
}
