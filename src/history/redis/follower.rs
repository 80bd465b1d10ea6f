//! The road out of Redis: what one node hears of the log, in the order of the log.
//!
//! Each message carries the number before its first event, so one comparison finds a hole; nothing later
//! is delivered until the hole is filled from the streams. Once a second the head of the log is looked
//! at, which finds a lost last message. Events that nobody here wants are passed by their topic.

use std::collections::HashMap;
use std::mem;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use redis::RedisResult;
use tokio::join;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tracing::{info, warn};

use super::super::clock_steps::{Step, span};
use super::super::{Feed, Loss, Removal};
use super::assurance::{Assurance, Told};
use super::away::away;
use super::ear::Ear;
use super::entry::{self, Announcement, Mention, Removals, Standing};
use super::link::{Link, Server};
use super::log_state::LogState;
use super::losses::ToldLosses;
use super::pace::Pace;
use super::reads::{IndexEntry, Losses, Reads};
use crate::metrics::LOG;
use crate::model::Cursor;

/// How often the head of the log is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long until the next attempt to hear or to catch up.
const RETRY: Duration = Duration::from_millis(200);

/// How often it is looked whether there is room at a node that had none.
const FULL_STEP: Duration = Duration::from_millis(5);

/// How long a backlog waits, in all, for those who listen to have room.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many entries of the index the first page of a hole looks at.
const PAGE: usize = 512;

/// How many a later one does, by how large the events are.
const PAGES: RangeInclusive<usize> = 16..=2_048;

/// Of how many topics it is looked up how far they were removed.
const LOSSES: usize = 10_000;

/// How large a page should be, in bytes of entries.
const PAGE_BYTES: RangeInclusive<usize> = 64 * 1024..=256 * 1024;

/// One node's place in the log.
pub(super) struct Follower {
    pub(super) server: Arc<Server>,
    pub(super) feed: Arc<dyn Feed>,
    assurance: Arc<Assurance>,
    /// All up to here has been told.
    pub(super) at: Cursor,
    breach: u64,
    /// The last step of the clock that was logged.
    step: Option<Step>,
    pace: Pace,
    /// The head when it was last looked at, and how often nodes had been told of removals.
    seen: (u64, u64),
    /// Of what was removed, as much was told as of so many tellings.
    pub(super) removals: u64,
    /// What comes after this number is told by this node.
    begun: u64,
    /// Something was missed, so that the next thing to do is to catch up.
    is_behind: bool,
    deaf: Arc<Notify>,
}

/// A stretch of the log, as Redis has it.
struct Stretch {
    index: Vec<IndexEntry>,
    /// By number; not of what nobody here wants, nor of what was removed.
    entries: HashMap<u64, Vec<u8>>,
    /// What had been removed after its beginning.
    losses: Losses,
    /// All up to here was looked at.
    end: u64,
}

impl Stretch {
    fn mentions(&self, state: &LogState) -> impl Iterator<Item = Mention<'_>> {
        self.index.iter().map(|entry| Mention {
            cursor: Some(state.at(entry.sequence)),
            topic: entry.topic.clone(),
            time: entry.time,
            entry: self.entries.get(&entry.sequence).map(|entry| &entry[..]),
        })
    }

    fn bytes(&self) -> usize {
        self.entries.values().map(Vec::len).sum()
    }
}

impl Follower {
    /// A follower of a log that stands like this. `deaf` tells it to hear over another connection.
    pub(super) fn new(
        server: Arc<Server>,
        feed: Arc<dyn Feed>,
        assurance: Arc<Assurance>,
        state: &LogState,
        deaf: Arc<Notify>,
    ) -> Self {
        let (at, breach, removals) = (state.head, state.breach, state.removals);
        let (begun, seen) = (at.sequence, (at.sequence, removals));
        let step = state.steps.all().last().copied();
        let (pace, is_behind) = (Pace::default(), false);
        Self {
            server,
            feed,
            assurance,
            at,
            breach,
            step,
            pace,
            seen,
            removals,
            begun,
            is_behind,
            deaf,
        }
    }

    /// Follows for good, first over `ear`.
    pub(super) async fn run(mut self, mut ear: Ear) {
        loop {
            self.follow(&mut ear).await;
            warn!("the channel of the log is not heard");
            self.server.nodes.lose_hearing();
            ear = loop {
                if let Some(link) = self.server.linked().await
                    && let Ok(ear) = Ear::open(&self.server, &link).await
                {
                    break ear;
                }
                sleep(RETRY).await;
            };
            info!("the channel of the log is heard again");
            self.is_behind = true;
        }
    }

    /// Follows until nothing more is heard over this connection.
    async fn follow(&mut self, ear: &mut Ear) {
        let deaf = self.deaf.clone();
        let run = ear.run.clone();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.is_behind {
                self.is_behind = self.catch_up().await.is_none();
                if self.is_behind {
                    sleep(RETRY).await;
                }
            }
            tokio::select! {
                messages = ear.next() => match messages {
                    // While something is missed, the streams will have it.
                    Some(_) if self.is_behind => {}
                    Some(messages) => self.is_behind = self.hear(&messages).await.is_none(),
                    None => return,
                },
                _ = looks.tick() => {
                    if ear.is_outdated(&self.server) {
                        info!("nodes of an earlier release have come, or have gone");
                        return;
                    }
                    self.is_behind |= self.look(ear).await.is_none();
                }
                () = deaf.notified() => return,
                // What runs elsewhere is not heard here.
                () = self.server.moved_from(&run) => return,
            }
        }
    }

    /// Waits while too much waits at this node: what it does not take yet waits in bounds with the ear, or
    /// is dropped there and lies in Redis.
    async fn keep_back(&self) {
        while self.feed.is_full() {
            sleep(FULL_STEP).await;
        }
    }

    /// Delivers what messages tell of, together what follows each other; none where something was missed.
    async fn hear(&mut self, messages: &[Vec<u8>]) -> Option<()> {
        self.keep_back().await;
        let (mut mentions, mut removed, mut end) = (Vec::new(), Vec::new(), self.at);
        for message in messages {
            let message = Announcement::read(message);
            let step = message.as_ref().map_or(Standing::Elsewhere, |it| it.step(end, self.breach));
            if let Standing::Elsewhere | Standing::Hole = step {
                self.deliver(&mentions).await?;
                mentions.clear();
            }
            let message = message.filter(|_| step != Standing::Elsewhere)?;
            if step == Standing::Hole {
                LOG.holes.inc();
                self.fill(message.previous.sequence, Instant::now()).await?;
            }
            if step != Standing::Old {
                mentions.extend(message.mentions());
                end = mentions.iter().rev().find_map(|mention| mention.cursor).unwrap_or(self.at);
                let is_value_gone = self.note_removals(&message, &mut removed)?;
                if is_value_gone {
                    self.deliver(&mentions).await?;
                    mentions.clear();
                    self.tell_kept_no_longer(mem::take(&mut removed));
                }
            }
        }
        self.deliver(&mentions).await?;
        self.tell_kept_no_longer(removed);
        self.note_told();
        Some(())
    }

    /// Says how far all is told: each event, what was removed of them, and what was lost.
    fn note_told(&self) {
        let Self { at, breach, removals, .. } = *self;
        self.assurance.note(Told { at, breach, removals });
    }

    /// Takes what a message tells of removals; whether the newest event of a topic is among them, or none where some were
    /// missed.
    fn note_removals(
        &mut self,
        message: &Announcement<'_>,
        all: &mut Vec<Removal>,
    ) -> Option<bool> {
        let Some(Removals { before, removed }) = message.removals() else { return Some(false) };
        if before > self.removals {
            return None;
        }
        // What was learned already may have been of events that were not told then.
        self.removals = self.removals.max(before + 1);
        let is_value_gone = removed.iter().any(|removed| !removed.is_superseded);
        all.extend(removed);
        Some(is_value_gone)
    }

    /// Looks for a last message that was lost; none where something was missed.
    async fn look(&mut self, ear: &Ear) -> Option<()> {
        let link = self.server.link().ok()?;
        let state = self.judge(&link, self.reads(&link).state().await)??;
        self.log_step(&state);
        self.look_at_clock(&link).await?;
        if state.head.at(0) != self.at.at(0) || state.breach != self.breach {
            return None;
        }
        // What was there a moment ago should have been heard by now. While messages wait they say it
        // better: what they bring may be gone from the streams.
        let (head, removals) = self.seen;
        let is_late = (head > self.at.sequence || removals > self.removals) && ear.is_quiet();
        self.seen = (state.head.sequence, state.removals);
        if self.server.nodes.without(entry::TELLS_REMOVALS).is_some() {
            self.learn_removals(&link).await?;
            self.note_told();
        }
        if is_late { None } else { Some(()) }
    }

    /// Says where the clock by which events are dated went back.
    fn log_step(&mut self, state: &LogState) {
        let last = state.steps.all().last().copied();
        let number = |step: Option<Step>| step.map(|step| step.after);
        if let Some(Step { after, from, to, .. }) =
            last.filter(|_| number(last) != number(self.step))
        {
            let (by, until) = (span(from - to), state.at(after));
            warn!(?by, %until, "the clock of Redis went back: new events carry the time it shows now");
        }
        self.step = last;
    }

    /// Says where that clock went ahead; none where Redis did not answer.
    async fn look_at_clock(&mut self, link: &Arc<Link>) -> Option<()> {
        let asked = Instant::now();
        let time = self.judge(link, self.reads(link).clock().await)?;
        if let Some(by) = self.pace.look(asked, Instant::now(), time) {
            warn!(?by, "the clock of Redis went ahead, or this system stood still");
        }
        Some(())
    }

    /// Presents what was seen, tells of what was lost, and delivers all that was missed.
    async fn catch_up(&mut self) -> Option<()> {
        let link = self.server.link().ok()?;
        let joined = self.server.join(&link).await;
        let state = self.judge(&link, joined)?;
        let resolved = state.resolve(self.at);
        // Numbers rise over all epochs, so what is above this one is new to whoever is connected here.
        let position = match state.head.log == self.at.log {
            true => state.position_from(self.at.sequence),
            false => state.head,
        };
        if state.head.epoch != self.at.epoch {
            LOG.epochs.inc();
        }
        if resolved.is_lost || state.breach != self.breach {
            warn!(since = %self.at, "events were lost with Redis");
            self.feed.broken(Loss { since: self.at, position, topics: None });
            // Whoever has a place before it may have missed what was lost, also one that is told only now.
            self.feed.removed(&[Removal::of_any(state.breach)]);
        }
        self.at = position;
        self.breach = state.breach;
        let (begin, since) = (Instant::now(), self.at);
        let patience = begin + PATIENCE;
        let mut head = state.head.sequence;
        loop {
            self.fill(head, patience).await?;
            self.server.saw(self.at);
            // What was published meanwhile is as good as missed, where it is much.
            let link = self.server.link().ok()?;
            let state = self.judge(&link, self.reads(&link).state().await)??;
            head = state.head.sequence;
            if state.head.at(0) != self.at.at(0) || head < self.at.sequence + PAGE as u64 {
                self.learn_removals(&link).await?;
                self.note_told();
                let (upto, took) = (self.at.sequence, begin.elapsed());
                info!(since = since.sequence, upto, ?took, "caught up with the log");
                return Some(());
            }
        }
    }

    /// Learns what was removed of all that this node has told, where it may not have heard of that.
    async fn learn_removals(&mut self, link: &Arc<Link>) -> Option<()> {
        // How often it was told is read first: what is removed meanwhile is both learned and heard.
        let state = self.judge(link, self.reads(link).state().await)??;
        let losses = self.judge(link, self.reads(link).losses(self.begun, LOSSES).await)?;
        let topics: Vec<_> = losses.topics.iter().map(|(topic, _)| topic.clone()).collect();
        let are_kept = self.judge(link, self.reads(link).are_kept(&topics).await)?;
        let of_topics = losses.topics.iter().zip(are_kept);
        let of_topics = of_topics.map(|((topic, upto), is_superseded)| {
            let topic = Some(topic.clone());
            Removal { topic, upto: *upto, is_superseded }
        });
        let unknown = losses.unknown();
        let of_any = (unknown > self.begun).then(|| Removal::of_any(unknown));
        self.tell_kept_no_longer(of_topics.chain(of_any).collect());
        self.removals = state.removals;
        Some(())
    }

    /// Delivers events up to a number from their streams, until `patience` no faster than clients take
    /// them; none where that failed.
    async fn fill(&mut self, upto: u64, patience: Instant) -> Option<()> {
        if self.at.sequence >= upto {
            return Some(());
        }
        let (mut told, mut page) = (ToldLosses::default(), PAGE);
        let mut stretch = self.stretch(self.at.sequence, upto, page).await?;
        loop {
            self.keep_back().await;
            let since = self.at;
            let Stretch { losses, end, .. } = &stretch;
            let state = losses.state.as_ref().filter(|now| self.is_whole(now))?;
            self.tell_removed(losses, since, &mut told).await?;
            let mentions: Vec<_> = stretch.mentions(state).collect();
            self.deliver(&mentions).await?;
            self.at = state.at(*end);
            // For who has subscribed since the page was read.
            self.tell_removed(losses, since, &mut told).await?;
            if *end >= upto {
                return Some(());
            }
            page = next_page(page, stretch.bytes());
            // What comes next is read while clients take this.
            let room = timeout_at(patience, self.feed.room());
            let (next, _) = join!(self.stretch(*end, upto, page), room);
            stretch = next?;
        }
    }

    /// Reads what comes after a number, up to another, of so many entries of the index at most.
    async fn stretch(&self, after: u64, upto: u64, page: usize) -> Option<Stretch> {
        let link = self.server.link().ok()?;
        let mut reads = self.reads(&link);
        let read = reads.index_page_and_losses(after, upto, page, LOSSES).await;
        let (index, losses) = self.judge(&link, read)?;
        let end = if index.len() < page { upto } else { index.last()?.sequence };
        let wanted = |entry: &&IndexEntry| !self.feed.skip(&entry.topic, None);
        let fetch: Vec<_> = index.iter().filter(wanted).cloned().collect();
        let found = self.judge(&link, self.reads(&link).events(&fetch).await)?;
        let entries = found.into_iter().flatten().map(|found| (found.sequence, found.entry));
        Some(Stretch { index, entries: entries.collect(), losses, end })
    }

    /// All up to an event was passed by.
    pub(super) fn pass_up_to(&mut self, cursor: Option<Cursor>) {
        if let Some(cursor) = cursor {
            self.at = cursor;
            self.server.saw(cursor);
        }
    }

    /// Whether Redis has lost nothing that this node has not told of yet.
    pub(super) fn is_whole(&self, now: &LogState) -> bool {
        now.head.log == self.at.log && now.breach == self.breach
    }

    pub(super) fn reads(&self, link: &Link) -> Reads<'_> {
        self.server.reads(link)
    }

    pub(super) fn judge<T>(&self, link: &Arc<Link>, answer: RedisResult<T>) -> Option<T> {
        let answer = self.server.judge(link, answer);
        answer.inspect_err(|error| warn!(reason = %away(error), "the log can't be read")).ok()
    }
}

/// How many entries to look at after a page of so many that had so many bytes.
fn next_page(page: usize, bytes: usize) -> usize {
    let next = match bytes {
        few if few < *PAGE_BYTES.start() => page * 2,
        many if many > *PAGE_BYTES.end() => page / 2,
        _ => page,
    };
    next.clamp(*PAGES.start(), *PAGES.end())
}
