//! The road out of Redis: what one node hears of the log, in the order of the log.
//!
//! Each message carries the number before its first event, so one comparison finds a hole; nothing later
//! is delivered until the hole is filled from the streams. Once a second the head of the log is looked
//! at, which finds a lost last message. Events that nobody here wants are passed by their topic.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use redis::RedisResult;
use tokio::join;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tracing::{info, warn};

use super::super::{Feed, Loss};
use super::ear::Ear;
use super::entry::{self, Mention, Message};
use super::link::{Link, Server, away};
use super::reads::{Placed, Reads};
use super::recent::Recent;
use super::state::State;
use crate::model::{Cursor, Event, Topic};

/// How often the head of the log is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long until the next attempt to hear or to catch up.
const RETRY: Duration = Duration::from_millis(200);

/// How often it is looked whether there is room at a node that had none.
const FULL_STEP: Duration = Duration::from_millis(5);

/// How long a backlog waits, in all, for those who listen to have room.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many places of the log the first page of a hole looks at.
const PAGE: usize = 512;

/// How many a later one does, by how large the events are.
const PAGES: RangeInclusive<usize> = 16..=2_048;

/// How large a page should be, in bytes of entries.
const PAGE_BYTES: RangeInclusive<usize> = 64 * 1024..=256 * 1024;

/// One node's place in the log.
pub(super) struct Follower {
    server: Arc<Server>,
    feed: Arc<dyn Feed>,
    recent: Arc<Recent>,
    /// All up to here has been delivered.
    at: Cursor,
    breach: u64,
    /// The head when it was last looked at.
    head: u64,
    /// Something was missed, so that the next thing to do is to catch up.
    is_behind: bool,
    deaf: Arc<Notify>,
}

/// A stretch of the log, as Redis has it.
struct Stretch {
    places: Vec<Placed>,
    /// By number; not of what nobody here wants, nor of what was removed.
    entries: HashMap<u64, Vec<u8>>,
    /// All up to here was looked at.
    end: u64,
}

impl Stretch {
    fn mentions(&self, state: &State) -> impl Iterator<Item = Mention<'_>> {
        self.places.iter().map(|place| Mention {
            cursor: Some(state.at(place.sequence)),
            topic: place.topic.clone(),
            time: place.time,
            entry: self.entries.get(&place.sequence).map(|entry| &entry[..]),
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
        recent: Arc<Recent>,
        state: &State,
        deaf: Arc<Notify>,
    ) -> Self {
        let (at, breach, head) = (state.head, state.breach, state.head.sequence);
        Self { server, feed, recent, at, breach, head, is_behind: false, deaf }
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
            self.keep_back().await;
            tokio::select! {
                message = ear.next() => match message {
                    // While something is missed, the streams will have it.
                    Some(_) if self.is_behind => {}
                    Some(message) => self.is_behind = self.hear(&message).await.is_none(),
                    None => return,
                },
                _ = looks.tick() => self.is_behind |= self.look().await.is_none(),
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

    /// Delivers what a message tells of; none where something was missed.
    async fn hear(&mut self, bytes: &[u8]) -> Option<()> {
        let message = Message::read(bytes)?;
        let previous = message.previous;
        if previous.log == self.at.log && previous.epoch < self.at.epoch {
            return Some(());
        }
        if previous.at(0) != self.at.at(0) || message.breach > self.breach {
            return None;
        }
        if previous.sequence > self.at.sequence {
            self.fill(previous.sequence, Instant::now()).await?;
        }
        self.deliver(message.mentions()).await
    }

    /// Looks for a last message that was lost; none where something was missed.
    async fn look(&mut self) -> Option<()> {
        let link = self.server.link().ok()?;
        let state = self.judge(&link, self.reads(&link).state().await)??;
        if state.head.at(0) != self.at.at(0) || state.breach != self.breach {
            return None;
        }
        // What was there a moment ago should have been heard by now.
        let is_late = self.head > self.at.sequence;
        self.head = state.head.sequence;
        if is_late { None } else { Some(()) }
    }

    /// Presents what was seen, tells of what was lost, and delivers all that was missed.
    async fn catch_up(&mut self) -> Option<()> {
        let link = self.server.link().ok()?;
        let joined = self.server.join(&link).await;
        let state = self.judge(&link, joined)?;
        let position = state.position(self.at);
        // Numbers rise over all epochs, so what is above this one is new to whoever is connected here.
        let place = match state.head.log == self.at.log {
            true => state.place_from(self.at.sequence),
            false => state.head,
        };
        if position.is_lost || state.breach != self.breach {
            warn!(since = %self.at, "events were lost with Redis");
            self.feed.broken(Loss { since: self.at, place, topics: None });
        }
        if place != self.at {
            self.recent.restart(place);
        }
        self.at = place;
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
                let (upto, took) = (self.at.sequence, begin.elapsed());
                info!(since = since.sequence, upto, ?took, "caught up with the log");
                return Some(());
            }
        }
    }

    /// Delivers events up to a number from their streams, until `patience` no faster than clients take
    /// them; none where that failed.
    async fn fill(&mut self, upto: u64, patience: Instant) -> Option<()> {
        if self.at.sequence >= upto {
            return Some(());
        }
        let since = self.at;
        let (mut is_told, mut page) = (false, PAGE);
        let mut stretch = self.stretch(since.sequence, upto, page).await?;
        loop {
            self.keep_back().await;
            let state;
            (is_told, state) = self.tell_losses(since, is_told).await?;
            self.deliver(stretch.mentions(&state)).await?;
            self.at = state.at(stretch.end);
            if stretch.end >= upto {
                break;
            }
            page = next_page(page, stretch.bytes());
            // What comes next is read while clients take this.
            let room = timeout_at(patience, self.feed.room());
            let (next, _) = join!(self.stretch(stretch.end, upto, page), room);
            stretch = next?;
        }
        // For who has subscribed since the last page was looked at.
        self.tell_losses(since, is_told).await?;
        Some(())
    }

    /// Reads what comes after a number, up to another, of so many places at most.
    async fn stretch(&self, after: u64, upto: u64, page: usize) -> Option<Stretch> {
        let link = self.server.link().ok()?;
        let places = self.judge(&link, self.reads(&link).places(after, upto, page).await)?;
        let end = if places.len() < page { upto } else { places.last()?.sequence };
        let wanted = |place: &&Placed| !self.feed.skip(&place.topic, None);
        let fetch: Vec<_> = places.iter().filter(wanted).cloned().collect();
        let found = self.judge(&link, self.reads(&link).events(&fetch).await)?;
        let entries = found.into_iter().flatten().map(|found| (found.sequence, found.entry));
        Some(Stretch { places, entries: entries.collect(), end })
    }

    /// Tells of a gap where events that somebody here wants were removed before they could be
    /// delivered, unless it is told; whether it is now, and how the log stands.
    async fn tell_losses(&self, since: Cursor, is_told: bool) -> Option<(bool, State)> {
        let link = self.server.link().ok()?;
        let losses = self.judge(&link, self.reads(&link).losses(since.sequence).await)?;
        let now =
            losses.state.filter(|now| now.head.log == since.log && now.breach == self.breach)?;
        let is_wanted = |(topic, _): &(Topic, u64)| !self.feed.skip(topic, None);
        let is_lost =
            losses.is_cut || now.floor > since.sequence || losses.topics.iter().any(is_wanted);
        if is_lost && !is_told {
            warn!(%since, "retention has removed events that were not delivered yet");
            self.feed.broken(Loss { since, place: self.at, topics: None });
        }
        Some((is_lost || is_told, now))
    }

    /// Delivers events in order, those that have been already left out; none where one could not be
    /// fetched.
    async fn deliver<'a>(&mut self, mentions: impl Iterator<Item = Mention<'a>>) -> Option<()> {
        let mut run = Vec::new();
        for mention in mentions {
            let Mention { cursor, topic, time, entry } = mention;
            if cursor.is_some_and(|cursor| cursor.sequence <= self.at.sequence) {
                continue;
            }
            if self.feed.skip(&topic, None) {
                self.flush(&mut run);
                // Noted first: who finds the feed here reads what came before.
                cursor.inspect(|cursor| self.recent.pass(&topic, *cursor));
                if self.feed.skip(&topic, cursor) {
                    self.passed(cursor);
                    continue;
                }
            }
            let fetched;
            let entry = match (entry, cursor) {
                (Some(entry), _) => Some(entry),
                (None, Some(cursor)) => {
                    self.flush(&mut run);
                    let place = Placed { sequence: cursor.sequence, topic: topic.clone(), time };
                    fetched = self.fetch(place).await?;
                    fetched.as_deref()
                }
                (None, None) => None,
            };
            match entry.and_then(|entry| entry::decode(entry, &topic, time, cursor)) {
                Some(event) => run.push(event),
                None => {
                    self.flush(&mut run);
                    warn!(%topic, "an event is gone before it was delivered");
                    let place = cursor.unwrap_or(self.at);
                    self.recent.restart(place);
                    self.feed.broken(Loss { since: self.at, place, topics: None });
                }
            }
            self.at = cursor.unwrap_or(self.at);
        }
        self.flush(&mut run);
        Some(())
    }

    async fn fetch(&self, place: Placed) -> Option<Option<Vec<u8>>> {
        let link = self.server.link().ok()?;
        let found = self.reads(&link).events(&[place]).await;
        let found = self.judge(&link, found)?.into_iter().next().flatten();
        Some(found.map(|found| found.entry))
    }

    fn flush(&mut self, run: &mut Vec<Arc<Event>>) {
        if !run.is_empty() {
            self.recent.add(run);
            self.feed.committed(std::mem::take(run));
            self.server.saw(self.at);
        }
    }

    fn passed(&mut self, cursor: Option<Cursor>) {
        if let Some(cursor) = cursor {
            self.at = cursor;
            self.server.saw(cursor);
        }
    }

    fn reads(&self, link: &Link) -> Reads<'_> {
        Reads { connection: link.reads.clone(), keys: &self.server.keys }
    }

    fn judge<T>(&self, link: &Arc<Link>, answer: RedisResult<T>) -> Option<T> {
        let answer = self.server.judge(link, answer);
        answer.inspect_err(|error| warn!(reason = %away(error), "the log can't be read")).ok()
    }
}

/// How many places to look at after a page of so many that had so many bytes.
fn next_page(page: usize, bytes: usize) -> usize {
    let next = match bytes {
        few if few < *PAGE_BYTES.start() => page * 2,
        many if many > *PAGE_BYTES.end() => page / 2,
        _ => page,
    };
    next.clamp(*PAGES.start(), *PAGES.end())
}
