//! The reader of one subscribe's history.
//!
//! A task beside the session, so that a long replay holds up neither its requests nor its live
//! events. It reads page by page and sends no faster than the client takes it; when it has reached
//! the boundary it asks for a barrier, behind which the session goes live.

mod members;
mod past;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::catchups::Progress;
use super::outgoing::Outgoing;
use super::reading::{First, Kind, Reading};
use super::receiver::Receiver;
use super::tally::tally;
use super::topic_set::TopicSet;
use super::values::Values;
use crate::broker::{BrokerHandle, SessionKey, Subscriber, WorkerHandle};
use crate::history::{Newest, NewestPage, Page, Read};
use crate::model::{Close, Code, Cursor, Event, Pattern, Problem, Topic};

/// The most events of one page.
pub(super) const PAGE_EVENTS: usize = 256;

/// The size of a page in bytes, about.
pub(super) const PAGE_BYTES: usize = 128 * 1024;

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
    /// Where they go, and who sets barriers.
    pub worker: WorkerHandle<Receiver>,
    /// Whose subscribe it is.
    pub session: SessionKey,
    /// What is to be read.
    pub reading: Reading,
}

/// The subscribe or its session is gone.
pub(super) struct Cancelled;

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
        let (mut after, mut asked, mut is_told) = (self.reading.since, TopicSet::Nothing, false);
        let mut told_past = 0;
        loop {
            match self.reading.progress.recv().await {
                Some(Progress::Read { boundary, sent, reread, only_reread, awaits_roll }) => {
                    let is_short = mem::take(&mut self.reading.is_short);
                    let is_whole = match reread == TopicSet::All || only_reread {
                        true => true,
                        false => {
                            self.read_up_to(boundary, after.max(sent), is_short).await?.is_ok()
                        }
                    };
                    if !is_whole || self.reread(&reread, boundary).await?.is_err() {
                        return Ok(());
                    }
                    after = Some(boundary);
                    let Ok(upto) = self.send_past(told_past).await else { return Ok(()) };
                    told_past = upto;
                    if awaits_roll != TopicSet::Nothing {
                        asked = awaits_roll;
                        self.call_roll(&asked).await;
                        continue;
                    }
                    // Where nothing is to be asked, the client knows who is there.
                    is_told = true;
                }
                Some(Progress::Called(None)) => {
                    self.call_roll(&asked).await;
                    continue;
                }
                Some(Progress::Called(Some(roll))) => {
                    // Who has left since the client knew who is there is not among them; where it is told no
                    // members, what was dropped meanwhile may have had no place to be read at.
                    let since = self.reading.since.filter(|_| self.tells_members());
                    let since = since.or(after.filter(|_| is_told));
                    if asked == TopicSet::All && self.forget_members(since, after).await?.is_err() {
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
            self.worker.set_barrier(self.session, self.reading.barrier);
        }
    }

    /// Sends what is wanted of the history up to a boundary, where what came up to `after` is there already.
    async fn read_up_to(
        &self,
        boundary: Cursor,
        after: Option<Cursor>,
        is_short: bool,
    ) -> Result<Result<(), Cancelled>, Problem> {
        match after {
            _ if self.wants_past_alone() => Ok(Ok(())),
            // What no gap can name begins anew before its members are told.
            Some(_) if self.tells_members() && self.named_rooms().is_none() => Ok(Ok(())),
            Some(after) => self.go_on(after, boundary, is_short).await,
            None if self.begins_anew() => self.open(None, boundary).await,
            None => Ok(Ok(())),
        }
    }

    /// Sends what came after a place and up to another; `is_short` where events before it are missing, too.
    async fn go_on(
        &self,
        since: Cursor,
        upto: Cursor,
        is_short: bool,
    ) -> Result<Result<(), Cancelled>, Problem> {
        match self.reading.is_conflated {
            true if is_short => self.begin_anew(since, upto).await,
            true => self.changed(since, upto).await,
            false if is_short && self.begins_anew() => self.begin_anew(since, upto).await,
            false if is_short && self.tell_gap(since, &[]).is_err() => Ok(Err(Cancelled)),
            false => self.replay(since, upto).await,
        }
    }

    /// Whether something else than all that is left comes after a gap.
    fn begins_anew(&self) -> bool {
        !matches!(self.reading.first, First::Nothing)
    }

    /// Says that events after a place are gone, and begins anew.
    async fn begin_anew(
        &self,
        position: Cursor,
        upto: Cursor,
    ) -> Result<Result<(), Cancelled>, Problem> {
        if self.tell_gap(position, &[]).is_err() {
            return Ok(Err(Cancelled));
        }
        // The ids of one replay rise: what was sent of it up to here is not sent again.
        let sent = Some(position).filter(|_| self.reading.since != Some(position));
        self.open(sent, upto).await
    }

    /// Sends what comes first where there is no place to go on from; a replay of this subscribe has come up to `sent`.
    async fn open(
        &self,
        sent: Option<Cursor>,
        upto: Cursor,
    ) -> Result<Result<(), Cancelled>, Problem> {
        let patterns = &self.reading.patterns;
        match &self.reading.first {
            First::Values(values) => self.current(values, upto, Kind::Snapshot).await,
            First::Tail(count) => self.newest(patterns, *count, (sent, upto), Kind::Replayed).await,
            First::Nothing => {
                let values = Values::each(patterns.clone(), 1);
                self.current(&values, upto, Kind::Changed).await
            }
        }
    }

    /// Sends current values again that were on their way when events were lost.
    async fn reread(
        &self,
        reread: &TopicSet,
        upto: Cursor,
    ) -> Result<Result<(), Cancelled>, Problem> {
        let Reading { patterns, first, is_conflated, .. } = &self.reading;
        let (values, kind) = match first {
            First::Values(values) => (values.clone(), Kind::Snapshot),
            First::Nothing | First::Tail(_) => {
                let kind = if *is_conflated { Kind::Changed } else { Kind::Snapshot };
                (Values::each(patterns.clone(), 1), kind)
            }
        };
        match reread {
            TopicSet::Nothing => Ok(Ok(())),
            TopicSet::All => self.current(&values, upto, kind).await,
            TopicSet::Of(topics) => self.current(&values.of_topics(topics), upto, kind).await,
        }
    }

    async fn replay(&self, since: Cursor, upto: Cursor) -> Result<Result<(), Cancelled>, Problem> {
        let mut after = since;
        let mut told_gap = None;
        loop {
            let mut page = self.read(&self.reading.patterns, after, upto).await?;
            if page.gap > told_gap {
                told_gap = page.gap;
                if self.begins_anew() {
                    return self.begin_anew(after, upto).await;
                }
                if self.tell_gap(after, &[]).is_err() {
                    return Ok(Err(Cancelled));
                }
            }
            if self.tells_members() {
                // Who is in a topic is told as it is, whatever led to that.
                page.events.retain(|event| !event.topic.is_presence());
            }
            if self.send(&page.events, Kind::Replayed).await.is_err() {
                return Ok(Err(Cancelled));
            }
            after = page.next;
            if page.done {
                return Ok(Ok(()));
            }
        }
    }

    /// Sends the newest event of each topic that has one after a place.
    async fn changed(&self, since: Cursor, upto: Cursor) -> Result<Result<(), Cancelled>, Problem> {
        let (mut after, mut newest_position) = (None, None);
        loop {
            let page = self.values(&self.reading.patterns, after, Some(since)).await?;
            if page.gap {
                return self.begin_anew(since, upto).await;
            }
            newest_position =
                newest_position.max(page.events.iter().filter_map(|it| it.cursor).max());
            if self.send(&page.events, Kind::Changed).await.is_err() {
                return Ok(Err(Cancelled));
            }
            after = page.next;
            if after.is_none() {
                return self.wait_for_newest(newest_position).await.map(Ok);
            }
        }
    }

    /// A page of current values, or of what has changed of them since a place.
    async fn values(
        &self,
        patterns: &Arc<[Pattern]>,
        after: Option<Topic>,
        since: Option<Cursor>,
    ) -> Result<NewestPage, Problem> {
        let (patterns, max_events, max_bytes) = (patterns.clone(), PAGE_EVENTS, PAGE_BYTES);
        let newest = Newest { patterns, after, since, max_events, max_bytes };
        let mut page = self.patiently(|| self.broker.history().newest(newest.clone())).await?;
        // Who is in a topic is no value of the topic where it is told.
        page.events.retain(|event| !event.topic.is_presence());
        Ok(page)
    }

    /// Waits until this node was told of a value: nothing older may follow one that another node was first to deliver.
    async fn wait_for_newest(&self, newest: Option<Cursor>) -> Result<(), Problem> {
        match newest {
            Some(position) => self.broker.wait_for_position(position).await,
            None => Ok(()),
        }
    }

    fn tell_gap(&self, since: Cursor, topics: &[Topic]) -> Result<(), Cancelled> {
        let Reading { barrier, reference, .. } = self.reading;
        let told = |receiver: &mut Receiver| receiver.replay_gap(barrier, reference, since, topics);
        self.worker.with(self.session, told).filter(|told| *told).map(|_| ()).ok_or(Cancelled)
    }

    pub(super) async fn read(
        &self,
        patterns: &Arc<[Pattern]>,
        after: Cursor,
        upto: Cursor,
    ) -> Result<Page, Problem> {
        let read = Read {
            patterns: patterns.clone(),
            after: Some(after),
            upto: Some(upto),
            max_events: PAGE_EVENTS,
            max_bytes: PAGE_BYTES,
        };
        self.patiently(|| self.broker.history().read(read.clone())).await
    }

    /// Reads, and waits while the history is away, for the client loses nothing by that. What fails
    /// again and again without such trouble is damaged.
    pub(super) async fn patiently<'a, T>(
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

    /// Sends as many of the newest kept events of each topic as are wanted. Where more than one is, they are those up to
    /// a place.
    async fn current(
        &self,
        values: &Values,
        upto: Cursor,
        kind: Kind,
    ) -> Result<Result<(), Cancelled>, Problem> {
        let values = &self.within_bounds(values).await?;
        let (mut after, mut newest_position) = (None, None);
        loop {
            let page = self.values(&values.patterns, after, None).await?;
            let sent = match values.most() {
                0 | 1 => {
                    let newest = page.events.iter().filter_map(|event| event.cursor).max();
                    newest_position = newest_position.max(newest);
                    self.send(&page.events, kind).await
                }
                _ => self.last_of(&page.events, values, upto, kind).await?,
            };
            if sent.is_err() {
                return Ok(Err(Cancelled));
            }
            after = page.next;
            if after.is_none() {
                return self.wait_for_newest(newest_position).await.map(Ok);
            }
        }
    }

    /// What is wanted, or the current values alone where that has become too much since the subscribe.
    async fn within_bounds(&self, values: &Values) -> Result<Values, Problem> {
        let most = self.with(Receiver::last_events).unwrap_or_default();
        if values.most() <= 1 || values.bound().is_some_and(|bound| bound <= most) {
            return Ok(values.clone());
        }
        let sees = |topic: &Topic| self.with(|it| it.may_receive(topic)).unwrap_or(false);
        let count = tally(self.broker.history(), values, sees).await?;
        Ok(if count <= most { values.clone() } else { values.alone() })
    }

    /// Sends what is wanted of the topics of some events, up to a place.
    async fn last_of(
        &self,
        events: &[Arc<Event>],
        values: &Values,
        upto: Cursor,
        kind: Kind,
    ) -> Result<Result<(), Cancelled>, Problem> {
        for Event { topic, .. } in events.iter().map(|event| &**event) {
            let sees = self.with(|receiver| receiver.may_receive(topic));
            let topics = Arc::new([Pattern::from(topic)]) as Arc<[_]>;
            let sent = match sees {
                Some(true) => self.newest(&topics, values.count(topic), (None, upto), kind).await?,
                Some(false) => Ok(()),
                None => Err(Cancelled),
            };
            if sent.is_err() {
                return Ok(Err(Cancelled));
            }
        }
        Ok(Ok(()))
    }

    pub(super) fn with<R>(&self, ask: impl FnOnce(&Receiver) -> R) -> Option<R> {
        self.worker.with(self.session, |receiver| ask(receiver))
    }

    /// Sends a page as the client takes it, and lets others of this thread go first.
    pub(super) async fn send(&self, events: &[Arc<Event>], kind: Kind) -> Result<(), Cancelled> {
        self.send_on(events, kind).await?;
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn send_on(&self, events: &[Arc<Event>], kind: Kind) -> Result<(), Cancelled> {
        let (barrier, mut left) = (self.reading.barrier, events);
        while let Some(next) = left.first() {
            self.room(next.cost()).await?;
            let sent = self.worker.with(self.session, |it| it.replay(barrier, left, kind));
            left = sent.flatten().and_then(|sent| left.get(sent..)).ok_or(Cancelled)?;
        }
        Ok(())
    }

    async fn drain_held(&self) -> Result<(), Cancelled> {
        let barrier = self.reading.barrier;
        loop {
            match self.worker.with(self.session, |receiver| receiver.drain_held(barrier)) {
                Some(Some(bytes)) => self.room(bytes).await?,
                Some(None) => return Ok(()),
                None => return Err(Cancelled),
            }
        }
    }

    async fn room(&self, bytes: usize) -> Result<(), Cancelled> {
        if self.outgoing.room(bytes).await { Ok(()) } else { Err(Cancelled) }
    }
}
