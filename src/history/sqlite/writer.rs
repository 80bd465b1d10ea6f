//! The one thread that writes: group commit, retention between groups, and what to do when the disk
//! fails.
//!
//! While one group is on its way to the disk the next one gathers, so that many publishers share
//! each fsync. After a commit of unknown outcome nothing is believed that is only in a cache: the
//! database is closed, what the system has cached of it is dropped, and it is opened, checked and
//! written to again before anyone may publish.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::super::Removal;
use super::super::clock_steps::ClockSteps;
use super::super::memory::log::results;
use super::disk::Disk;
use super::failure::{Failure, Trouble};
use super::group_commit::{Numbered, Shared, Work};
use super::queue::Forget;
use super::reader::{Reader, Wanted};
use super::recall::remember;
use super::rows::{Outcome, ReceiptRow, RowResult};
use super::store::{Group, Store};
use super::strangers;
use crate::clock::Clock;
use crate::config::{self, Rules, Storage};
use crate::model::Cursor;

/// How long the writer waits for something to write before it tidies up, and how often it tries a
/// disk that has failed.
const IDLE: Duration = Duration::from_secs(1);

/// How long it waits where there is more to tidy up.
const SOON: Duration = Duration::from_millis(10);

/// How long it tidies up before it looks whether someone wants to write.
const TIDY: Duration = Duration::from_millis(50);

/// The writer of one database.
pub(super) struct Writer {
    shared: Arc<Shared>,
    disk: Disk,
    config: config::History,
    rules: Rules,
    clock: Clock,
    /// Whether the last thing that was written failed, and the log said so.
    is_failing: bool,
    /// The newest number of an acknowledged publish.
    acknowledged: u64,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        disk: Disk,
        config: config::History,
        rules: Rules,
        clock: Clock,
    ) -> Self {
        let acknowledged = disk.store.as_ref().map_or(0, |store| store.log().committed);
        Self { shared, disk, config, rules, clock, is_failing: false, acknowledged }
    }

    /// Writes until the history stops.
    pub(super) fn run(mut self) {
        let mut patience = Duration::ZERO;
        loop {
            let work = self.shared.next_work(patience, |topic| {
                let standing = self.disk.store.as_ref()?.standing(topic);
                standing.inspect_err(|error| error!(%error, "a topic can't be read")).ok()
            });
            patience = IDLE;
            match work {
                Work::Group(group) => self.commit(group),
                Work::Forget(forget) => self.forget(forget),
                Work::Idle if self.idle() => patience = SOON,
                Work::Idle => {}
                Work::Stop => break,
            }
            self.tell_removed();
            self.note_kept();
        }
        self.finish();
        // What nobody has verified stays as it is.
        self.disk.checkpoint("TRUNCATE");
        if let Err(error) = self.disk.directory.sync() {
            warn!(%error, "the head of the history was not synced");
        }
    }

    fn note_kept(&self) {
        if let Some(store) = &self.disk.store {
            self.shared.kept_bytes.store(store.log().bytes, Ordering::Relaxed);
        }
    }

    /// Notes the newest number that was given, so that places of events in memory alone are known to be
    /// some after the next start.
    fn finish(&mut self) {
        let (last, steps) = {
            let state = self.shared.lock();
            (state.log.last(), state.log.steps().clone())
        };
        let Some(store) = &mut self.disk.store else { return };
        if last > store.log().committed || steps != store.past().steps {
            let group = Group { last, steps, ..Group::default() };
            let outcome = store.commit(&group, self.clock.time());
            self.note(&outcome);
        }
    }

    fn commit(&mut self, numbered: Vec<Numbered>) {
        let group = self.group(&numbered);
        let outcome = match &mut self.disk.store {
            // Numbers in memory alone need the disk only to be reserved.
            Some(store) if group.events.is_empty() && group.receipts.is_empty() => {
                match store.log().reserved >= group.last {
                    true => Ok(()),
                    false => store.commit(&group, self.clock.time()),
                }
            }
            Some(_) => self.disk.make_room(&group).and_then(|()| self.store(&group)),
            None => Err(Failure::NotStored("the disk has failed".to_owned())),
        };
        self.note(&outcome);
        let (reserved, removed) = (self.reserved(), self.take_removed());
        self.shared.committed(numbered, outcome, reserved, &removed);
        if let Err(failure) = self.disk.shrink_now_and_then() {
            self.fail(&failure);
        }
    }

    fn store(&mut self, group: &Group) -> Result<(), Failure> {
        self.disk.trusted()?.commit(group, self.clock.time())
    }

    /// What of these publishes goes to the disk.
    fn group(&self, numbered: &[Numbered]) -> Group {
        let (steps, window) = {
            let state = self.shared.lock();
            (state.log.steps().clone(), state.log.shorter_window())
        };
        let mut group = Group { steps, window, ..Group::default() };
        let on_disk = |storage| storage == Storage::Disk;
        for publish in numbered {
            let storages = publish.events.iter().map(|event| self.rules.of(&event.topic).storage);
            let events = publish.events.iter().zip(storages);
            let kept: Vec<_> = events.filter(|(_, storage)| on_disk(*storage)).collect();
            let newest = publish.events.iter().filter_map(|event| event.cursor).max();
            group.last = group.last.max(newest.map_or(0, |cursor| cursor.sequence));
            if kept.is_empty() {
                continue;
            }
            group.events.extend(kept.into_iter().map(|(event, _)| event.clone()));
            group.receipts.extend(publish.key.as_ref().map(|key| {
                ReceiptRow {
                    scope: key.scope,
                    request: key.asked.digest(),
                    time: publish.events.first().map_or(0, |event| event.time.millis()),
                    events: results(&publish.events, publish.apart.clone())
                        .into_iter()
                        .map(Outcome::from)
                        .collect(),
                }
            }));
        }
        group
    }

    /// Where the clock went back so far.
    fn steps(&self) -> ClockSteps {
        self.shared.lock().log.steps().clone()
    }

    /// What was removed from the disk and is to be told.
    fn take_removed(&mut self) -> Vec<Removal> {
        self.disk.store.as_mut().map(Store::take_removed).unwrap_or_default()
    }

    fn tell_removed(&mut self) {
        let removed = self.take_removed();
        self.shared.removed(&removed);
    }

    fn reserved(&self) -> u64 {
        self.disk.store.as_ref().map_or(0, |store| store.log().reserved)
    }

    /// Notes beside the database what was committed, or that the disk can't be trusted.
    fn note(&mut self, outcome: &Result<(), Failure>) {
        match outcome {
            Ok(()) => {
                self.is_failing = false;
                let Some(store) = &self.disk.store else { return };
                self.acknowledged = store.log().committed;
                if let Err(error) = self.disk.directory.set_head(self.acknowledged) {
                    warn!(%error, "the head of the history was not noted");
                }
            }
            // Whoever publishes is told each time; the log is told once.
            Err(Failure::Full | Failure::Busy(_)) if self.is_failing => {}
            Err(Failure::Full) => {
                self.is_failing = true;
                let (free, needed) = (self.disk.directory.free(), self.disk.needed());
                warn!(
                    free,
                    needed,
                    "there is no space left for the history: events are refused until there is; DELETE, \
                     retention and a smaller history.disk_bytes make some"
                );
            }
            Err(Failure::Busy(reason)) => {
                self.is_failing = true;
                let who = strangers::named(&self.disk.directory);
                warn!(%reason, "{who} is in the way of the history: events are refused until it ends");
            }
            Err(Failure::NotStored(reason) | Failure::Unknown(reason)) => {
                error!(%reason, "the history can't be written to");
                self.disk.store = None;
            }
        }
    }

    /// Forgets some of a topic's events, and queues for the rest, so that whoever publishes meanwhile
    /// does not wait for the whole of a long history.
    fn forget(&mut self, mut forget: Forget) {
        let upto = match forget.upto {
            Some(upto) => upto,
            None => {
                let (removed, last) =
                    self.shared.remove(|log| (log.forget(&forget.topic), log.last()));
                forget.removed += removed;
                *forget.upto.insert(last)
            }
        };
        let removed = self.disk.remove(|store, events| store.forget(&forget.topic, upto, events));
        let result = match removed {
            Ok(0) => Ok(forget.removed),
            Ok(more) => {
                forget.removed += more;
                return self.shared.forget(forget);
            }
            Err(failure) => {
                self.fail(&failure);
                Err(failure.into())
            }
        };
        // Who is answered finds it told.
        self.tell_removed();
        _ = forget.answer.send(result);
    }

    /// Takes a failure without a group as [`Shared::committed`] takes one with it.
    fn fail(&mut self, failure: &Failure) {
        self.note(&Err(failure.clone()));
        let (reserved, removed) = (self.reserved(), self.take_removed());
        self.shared.committed(Vec::new(), Err(failure.clone()), reserved, &removed);
    }

    /// Does what is to be done when nobody publishes; whether there is more of it.
    fn idle(&mut self) -> bool {
        let trouble = self.shared.lock().trouble.clone();
        if let Some(Trouble::Broken(_)) = trouble {
            self.mend();
            return false;
        }
        let tidied = self.tidy();
        let more = *tidied.as_ref().unwrap_or(&false);
        match tidied.and_then(|_| self.disk.keep_reserve()) {
            Ok(()) if trouble.is_some() => self.retry_commit(),
            Ok(()) if more => {}
            Ok(()) => self.disk.rest(),
            Err(failure) => self.fail(&failure),
        }
        more
    }

    /// Tries whether the disk can be written to again.
    fn retry_commit(&mut self) {
        let last = self.disk.store.as_ref().map_or(0, |store| store.log().committed);
        let steps = self.steps();
        let outcome = self.store(&Group { last, steps, ..Group::default() });
        self.note(&outcome);
        let (reserved, removed) = (self.reserved(), self.take_removed());
        self.shared.committed(Vec::new(), outcome, reserved, &removed);
    }

    /// Reserves numbers and does what retention is due, as long as nobody wants to write; whether there is
    /// more to do.
    fn tidy(&mut self) -> Result<bool, Failure> {
        let (since, now) = (Instant::now(), self.clock.time());
        let (last, steps) = {
            let state = self.shared.lock();
            (state.log.last(), state.log.steps().clone())
        };
        let group = Group { last, steps, ..Group::default() };
        let is_stored = |store: &Store| store.past().steps == group.steps;
        loop {
            let is_due =
                !self.disk.store.as_ref().is_none_or(is_stored) || self.shared.lock().is_low();
            let more = if is_due {
                self.store(&group)?;
                false
            } else {
                self.disk.remove(|store, events| store.tidy(events, now))? || self.disk.shrink()?
            };
            if self.disk.store.is_some() {
                self.shared.lock().reserved = self.reserved();
            }
            if !more || since.elapsed() > TIDY {
                return Ok(more);
            }
        }
    }

    /// Tries to trust the disk again.
    fn mend(&mut self) {
        match self.reopen() {
            Ok(()) => info!("the history can be written to again"),
            Err(reason) => {
                error!(%reason, "the history still can't be written to");
                self.disk.store = None;
                self.shared.lock().trouble = Some(Trouble::Broken(reason));
            }
        }
    }

    fn reopen(&mut self) -> Result<(), String> {
        self.disk.store = None;
        // Nobody may have the database open, so that its log is read anew from the disk.
        let closed = self.disk.readers.close();
        self.disk.directory.drop_caches().map_err(|error| error.to_string())?;
        let mut store = Store::open(&self.disk.directory, &self.config, &self.rules)
            .map_err(|error| error.to_string())?;
        if store.log().committed < self.acknowledged {
            return Err(format!(
                "acknowledged events are missing: the newest on the disk is {}, the newest \
                 acknowledged {}; restart the broker to go on without them",
                store.log().committed,
                self.acknowledged
            ));
        }
        // Proves that it can be written to.
        store.reserve().map_err(|failure| format!("{failure:?}"))?;
        let head = self.shared.lock().log.head();
        // A group of unknown outcome is there, or nothing of it.
        let has_turned_up = self.has_any_after(head).map_err(|error| error.to_string())?;
        for row in ReceiptRow::all(&store.db).map_err(|error| error.to_string())? {
            let log = &mut self.shared.lock().log;
            remember(log, row, head, &store.past().epochs, self.clock);
        }
        let reserved = store.log().reserved;
        self.acknowledged = store.log().committed;
        self.disk.store = Some(store);
        drop(closed);
        self.shared.mended(has_turned_up, reserved);
        Ok(())
    }

    /// Whether the disk has events that were not let out, each as it was written.
    fn has_any_after(&self, head: Cursor) -> RowResult<bool> {
        let reader = Reader::new(self.disk.directory.reader()?)?;
        let wanted = Wanted {
            patterns: Arc::new([]),
            after: head.sequence,
            upto: u64::MAX >> 1,
            max_events: usize::MAX,
            max_bytes: usize::MAX,
            head,
        };
        Ok(!reader.committed_after(&wanted)?.is_empty())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if thread::panicking() {
            self.shared.abandon("the writer of the history has ended");
        }
    }
}
