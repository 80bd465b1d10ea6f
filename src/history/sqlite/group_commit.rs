//! Between those who publish and the one who writes: what waits for the disk, and the log in order.
//!
//! Everything that gives numbers, moves the head or feeds does so under one lock. While the writer
//! commits a group, its numbers are given and not committed, so nothing later-numbered may pass;
//! otherwise what needs no disk is done at once, as in memory.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::memory::log::Log;
use super::super::terms::{Apart, Judged, Standing, Standings, is_free};
use super::super::{Append, AppendError, Feed, IdempotencyKey, Receipt, Removal};
use super::failure::{Failure, Trouble};
use super::queue::{Answer, Forget, Pending, Queue, Waiting, Withdrawn};
use super::store::RESERVED_AHEAD;
use crate::config::Storage;
use crate::metrics::LOG;
use crate::model::{Event, NewEvent, Topic};
use crate::panics::{lock, wait_at_most};

/// The most events of one group, but for those of its last publish.
const GROUP_EVENTS: usize = 10_000;

/// The most bytes of one group, counted by [`Event::cost`], but for those of its last publish.
const GROUP_BYTES: usize = 8 << 20;

/// A commit that runs for so long is told of as trouble.
const SLOW_COMMIT: Duration = Duration::from_secs(5);

/// What publishers and the writer share.
pub(super) struct Shared {
    state: Mutex<Pipeline>,
    work: Condvar,
    feed: Arc<dyn Feed>,
    /// What is kept on the disk.
    pub(super) kept_bytes: AtomicU64,
}

pub(super) struct Pipeline {
    pub(super) log: Log,
    /// No number above this one may be given.
    pub(super) reserved: u64,
    /// Topics that rules keep in memory now may have events on the disk.
    has_strays: bool,
    pub(super) trouble: Option<Trouble>,
    /// What was to go to the disk with a commit of unknown outcome.
    doubtful: Vec<Vec<Arc<Event>>>,
    queue: Queue,
    committing: Option<Instant>,
    /// The keys of what is being committed, by their scope.
    scopes: HashSet<[u8; 32]>,
    stopping: bool,
}

/// One publish of a group.
pub(super) struct Numbered {
    pub(super) events: Vec<Arc<Event>>,
    /// What of it is not stored, for newer values stand there.
    pub(super) apart: Apart,
    pub(super) key: Option<IdempotencyKey>,
    answer: Answer,
}

/// What the writer is to do next.
pub(super) enum Work {
    /// Store these, and say what became of them with [`Shared::committed`].
    Group(Vec<Numbered>),
    Forget(Forget),
    /// There is nothing to store; reserve numbers if need be, and tidy up.
    Idle,
    /// Nothing more will come.
    Stop,
}

/// What became of a publish, now or later.
pub(super) enum Admission {
    Done(Result<Receipt, AppendError>),
    /// With a ticket for [`Shared::withdraw`].
    Waiting(u64, oneshot::Receiver<Result<Receipt, AppendError>>),
}

impl Shared {
    pub(super) fn new(
        log: Log,
        reserved: u64,
        has_strays: bool,
        max_queued_bytes: usize,
        feed: Arc<dyn Feed>,
    ) -> Self {
        let state = Pipeline {
            log,
            reserved,
            has_strays,
            trouble: None,
            doubtful: Vec::new(),
            queue: Queue::new(max_queued_bytes),
            committing: None,
            scopes: HashSet::new(),
            stopping: false,
        };
        let kept_bytes = AtomicU64::new(0);
        Self { state: Mutex::new(state), work: Condvar::new(), feed, kept_bytes }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Pipeline> {
        lock(&self.state)
    }

    /// Stores events that need no disk, or lets them wait for the writer.
    pub(super) fn admit(&self, append: Append) -> Admission {
        let mut state = self.lock();
        match state.admit(append) {
            Ok(Ready::Now(append)) => {
                let Judged { events, apart } =
                    match state.log.judge(append.events, &Standings::new()) {
                        Ok(judged) => judged,
                        Err(error) => return Admission::Done(Err(error)),
                    };
                let events = state.log.number(events);
                let receipt = state.log.commit(&events, apart, append.key);
                self.feed.committed(events);
                state.log.tell_removed(&*self.feed);
                if state.is_low() {
                    self.work.notify_one();
                }
                Admission::Done(Ok(receipt))
            }
            Ok(Ready::Known(receipt)) => Admission::Done(Ok(receipt)),
            Ok(Ready::Later(ticket, receiver)) => {
                self.work.notify_one();
                Admission::Waiting(ticket, receiver)
            }
            Err(error) => Admission::Done(Err(error)),
        }
    }

    /// Takes back a publish that the writer has not begun with.
    pub(super) fn withdraw(&self, ticket: u64) -> Withdrawn {
        let mut state = self.lock();
        let Pipeline { queue, scopes, .. } = &mut *state;
        queue.withdraw(ticket, scopes)
    }

    /// Lets the writer forget a topic.
    pub(super) fn forget(&self, forget: Forget) {
        self.lock().queue.forget(forget);
        self.work.notify_one();
    }

    /// Waits for something to do, but not for longer than `patience`. `standing` tells how a topic stands on the
    /// disk, or nothing where that can't be read.
    pub(super) fn next_work(
        &self,
        patience: Duration,
        standing: impl Fn(&Topic) -> Option<Standing>,
    ) -> Work {
        let mut state = self.lock();
        if state.queue.is_empty() && !state.stopping && !state.is_low() {
            state = wait_at_most(patience, &self.work, state);
        }
        let asked = state.asked();
        if asked.is_empty() {
            return state.take(&HashMap::new());
        }
        // Only the writer, who waits here, changes how a topic stands on the disk.
        drop(state);
        let known = asked.into_iter().map(|topic| {
            let standing = standing(&topic);
            (topic, standing)
        });
        let known = known.collect();
        self.lock().take(&known)
    }

    /// Does something that removes events from memory, and tells which.
    pub(super) fn remove<T>(&self, act: impl FnOnce(&mut Log) -> T) -> T {
        let mut state = self.lock();
        let done = act(&mut state.log);
        state.log.tell_removed(&*self.feed);
        done
    }

    /// Tells what was removed from the disk.
    pub(super) fn removed(&self, removed: &[Removal]) {
        if !removed.is_empty() {
            let _state = self.lock();
            LOG.removals.add(removed.len() as u64);
            self.feed.removed(removed);
        }
    }

    /// Takes a group as stored or not, tells whoever waits for it, and lets the events out, and then what was removed
    /// with it.
    pub(super) fn committed(
        &self,
        group: Vec<Numbered>,
        outcome: Result<(), Failure>,
        reserved: u64,
        removed: &[Removal],
    ) {
        let mut state = self.lock();
        state.committing = None;
        state.scopes.clear();
        // What could not be stored reserved nothing either.
        let were_reserved = mem::replace(&mut state.reserved, reserved);
        state.trouble = outcome.as_ref().err().map(Failure::trouble);
        let mut out = Vec::new();
        let mut answers = Vec::new();
        for Numbered { events, apart, key, answer } in group {
            let needs_disk = state.needs_disk(events.iter().map(|event| &event.topic));
            let is_reserved = events
                .iter()
                .filter_map(|event| event.cursor)
                .all(|cursor| cursor.sequence <= were_reserved);
            let result = match &outcome {
                Ok(()) => Ok(state.log.commit(&events, apart, key)),
                // What is numbered among events that may yet turn up can't go out before them.
                Err(Failure::Unknown(reason)) if !needs_disk => {
                    Err(AppendError::Unavailable(reason.clone()))
                }
                Err(_) if !needs_disk && is_reserved => Ok(state.log.commit(&events, apart, key)),
                Err(failure) => Err(failure.into()),
            };
            if result.is_ok() {
                out.extend(events);
            } else if needs_disk && outcome.as_ref().is_err_and(Failure::is_unknown) {
                state.doubtful.push(events);
            }
            answers.push((answer, result));
        }
        if outcome.is_err_and(|failure| !failure.is_unknown()) {
            state.log.take_back();
        }
        if !out.is_empty() {
            LOG.group.note(out.len() as u64);
            self.feed.committed(out);
        }
        if !removed.is_empty() {
            LOG.removals.add(removed.len() as u64);
            self.feed.removed(removed);
        }
        state.log.tell_removed(&*self.feed);
        drop(state);
        for (answer, result) in answers {
            // Whoever gave up waiting was told that the outcome is unknown.
            _ = answer.send(result);
        }
    }

    /// Takes the history as mended. Where the group of unknown outcome turned up on the disk after all, its
    /// publishes are let out whole, with what of them is kept in memory.
    pub(super) fn mended(&self, has_turned_up: bool, reserved: u64) {
        let mut state = self.lock();
        let doubtful = mem::take(&mut state.doubtful);
        let recovered: Vec<_> =
            if has_turned_up { doubtful.into_iter().flatten().collect() } else { Vec::new() };
        state.log.commit(&recovered, Vec::new(), None);
        state.trouble = None;
        state.reserved = reserved;
        if !recovered.is_empty() {
            self.feed.committed(recovered);
        }
        // Nor is it known what was removed with it.
        self.feed.removed(&[Removal::of_any(state.log.head().sequence)]);
        state.log.tell_removed(&*self.feed);
    }

    /// Takes no more, and refuses what waits: nobody is left to write it.
    pub(super) fn abandon(&self, reason: &str) {
        let mut state = self.lock();
        state.trouble = Some(Trouble::Broken(reason.to_owned()));
        state.queue.refuse_all();
    }

    /// Takes no more, and lets the writer stop once everything is stored.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.work.notify_all();
    }
}

/// A publish that may be done.
enum Ready {
    Now(Append),
    Known(Receipt),
    Later(u64, oneshot::Receiver<Result<Receipt, AppendError>>),
}

impl Pipeline {
    /// What waits for the disk, in bytes.
    pub(super) fn pending_bytes(&self) -> u64 {
        self.queue.bytes() as u64
    }

    fn admit(&mut self, append: Append) -> Result<Ready, AppendError> {
        if let Some(receipt) = self.log.known(&append)? {
            return Ok(Ready::Known(receipt));
        }
        let storages = append.events.iter().map(|event| self.log.rules().of(&event.topic).storage);
        let is_ephemeral = storages.clone().all(|storage| storage == Storage::None);
        // They have no number, so nothing can be out of order.
        if is_ephemeral && append.key.is_none() {
            return Ok(Ready::Now(append));
        }
        let needs_disk = storages.clone().any(|storage| storage == Storage::Disk);
        if self.stopping {
            return Err(AppendError::Unavailable("the broker is stopping".to_owned()));
        }
        if let Some(Trouble::Broken(reason)) = &self.trouble {
            return Err(AppendError::Unavailable(reason.clone()));
        }
        let numbers = append.events.len() as u64;
        // How a topic stands that was kept on the disk before is for the writer to ask.
        let needs_disk = needs_disk || self.has_strays && !append.events.iter().all(is_free);
        let is_free = self.committing.is_none() && self.queue.is_empty();
        if !needs_disk && is_free && self.log.last() + numbers <= self.reserved {
            return Ok(Ready::Now(append));
        }
        let (ticket, receiver) = self.queue.push(append)?;
        Ok(Ready::Later(ticket, receiver))
    }

    /// Whether any of these topics is kept on disk.
    pub(super) fn needs_disk<'a>(&self, mut topics: impl Iterator<Item = &'a Topic>) -> bool {
        topics.any(|topic| self.log.rules().of(topic).storage == Storage::Disk)
    }

    /// Whether numbers should be reserved before they run out.
    pub(super) fn is_low(&self) -> bool {
        self.trouble.is_none() && self.log.last() + RESERVED_AHEAD / 2 > self.reserved
    }

    /// For how long a commit has been running, where that is too long.
    pub(super) fn slow_commit(&self) -> Option<Duration> {
        self.committing.map(|since| since.elapsed()).filter(|elapsed| *elapsed > SLOW_COMMIT)
    }

    /// Topics that may be on disk of which it has to be known how they stand before what waits can be numbered.
    fn asked(&self) -> HashSet<Topic> {
        let events = self.queue.appends().flat_map(|append| &append.events);
        let bound = events.filter(|event| !is_free(event));
        let is_on_disk = |topic: &Topic| self.has_strays || self.needs_disk([topic].into_iter());
        let on_disk = bound.filter(|event| is_on_disk(&event.topic));
        on_disk.map(|event| event.topic.clone()).collect()
    }

    /// Takes as much of what waits as goes into one group; `known` is how topics stand on the disk.
    fn take(&mut self, known: &HashMap<Topic, Option<Standing>>) -> Work {
        let is_broken = matches!(self.trouble, Some(Trouble::Broken(_)));
        if is_broken {
            self.queue.refuse_all();
            return if self.stopping { Work::Stop } else { Work::Idle };
        }
        let mut group: Vec<Numbered> = Vec::new();
        let mut scopes = HashSet::new();
        let (mut events, mut bytes) = (0, 0);
        while events < GROUP_EVENTS
            && bytes < GROUP_BYTES
            && let Some(next) = self.queue.pop()
        {
            let waiting = match next {
                Pending::Append(waiting) => waiting,
                Pending::Forget(forget) if group.is_empty() => return Work::Forget(forget),
                forget @ Pending::Forget(_) => {
                    self.queue.put_back(forget);
                    break;
                }
            };
            // A repeat of a publish in this group waits for its result.
            if waiting.scope().is_some_and(|scope| !scopes.insert(scope)) {
                self.queue.put_back(Pending::Append(waiting));
                break;
            }
            let Waiting { append, bytes: cost, answer, .. } = waiting;
            match self.log.known(&append) {
                Ok(Some(receipt)) => _ = answer.send(Ok(receipt)),
                Err(error) => _ = answer.send(Err(error)),
                Ok(None) => {
                    let (count, key) = (append.events.len(), append.key);
                    match self.judge(append.events, known, &group) {
                        Ok(Judged { events: judged, apart }) => {
                            events += count;
                            bytes += cost;
                            let numbered = self.log.number(judged);
                            group.push(Numbered { events: numbered, apart, key, answer });
                        }
                        Err(error) => _ = answer.send(Err(error)),
                    }
                }
            }
        }
        if !group.is_empty() {
            self.committing = Some(Instant::now());
            self.scopes = scopes;
            return Work::Group(group);
        }
        if self.stopping && self.queue.is_empty() { Work::Stop } else { Work::Idle }
    }

    /// Which events of a publish are to be stored behind those of a group that is not committed yet.
    fn judge(
        &self,
        events: Vec<NewEvent>,
        known: &HashMap<Topic, Option<Standing>>,
        group: &[Numbered],
    ) -> Result<Judged, AppendError> {
        let mut standings = Standings::new();
        for topic in events.iter().filter(|event| !is_free(event)).map(|event| &event.topic) {
            match known.get(topic) {
                Some(Some(standing)) => _ = standings.insert(topic.clone(), standing.clone()),
                Some(None) => {
                    let reason = "how its topic stands can't be read".to_owned();
                    return Err(AppendError::Unavailable(reason));
                }
                None => {}
            }
        }
        if !standings.is_empty() {
            let before = group.iter().flat_map(|numbered| &numbered.events);
            for event in before {
                if let Some(standing) = standings.get_mut(&event.topic) {
                    standing.follow(event);
                }
            }
        }
        self.log.judge(events, &standings)
    }
}

#[cfg(test)]
mod tests;
