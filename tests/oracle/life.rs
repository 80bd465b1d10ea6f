//! One life: what is done follows from a seed.

mod troubles;

use std::time::{Duration, SystemTime};

use fanfare::clock::{Clock, Instant};
use fanfare::config::Storage;
use fanfare::history::{Append, AppendError, Receipt};
use fanfare::model::{Timestamp, Topic};
use tempfile::TempDir;

use crate::TROUBLED;
use crate::book::{Book, Bookmark, Tally, fates_of, is_at_hand, too_old};
use crate::chronicle::{Chronicle, Entry, Fault, id};
use crate::log::{self, AGE, Log, TOPICS};
use crate::reading::{pages, patterns};
use crate::terms::{Fate, came_to, judge};
use crate::trace::Trace;

/// How many steps a life has.
const STEPS: usize = 140;

/// The most logs that run at a time.
const RUNNING: usize = 3;

/// When lives begin, in seconds since 1970.
const BEGIN: u64 = 1_800_000_000;

const YEAR: i64 = 365 * 24 * 3_600;

/// A log, running or not; what it has acknowledged is in the book.
struct Line {
    log: Option<Log>,
    /// The last publish under a key, as long as a repeat must be known.
    keyed: Option<(Append, Receipt)>,
}

/// A copy of a data directory, and what had been acknowledged when it was made.
struct Backup {
    directory: TempDir,
    chronicle: Chronicle,
}

/// One life.
pub struct Life {
    book: Book,
    clock: Clock,
    began: Instant,
    /// When the clock was set, or a log opened, by a clock that never steps.
    disturbed: Instant,
    is_on_disk: bool,
    is_troubled: bool,
    lines: Vec<Line>,
    backups: Vec<Backup>,
}

impl Life {
    /// The life that follows from a seed.
    pub fn new(seed: u64, shows_all: bool) -> Self {
        let clock = Clock::by_hand(SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN));
        let mut book = Book::new(seed, shows_all);
        let is_on_disk = !book.dice.percent(20);
        Self {
            book,
            clock,
            began: clock.now(),
            disturbed: clock.now(),
            is_on_disk,
            is_troubled: seed / TROUBLED % 2 == 1,
            lines: Vec::new(),
            backups: Vec::new(),
        }
    }

    /// What was done, and how readings came out.
    pub fn end(self) -> (Trace, Tally) {
        (self.book.trace, self.book.tally)
    }

    /// Lives.
    pub async fn live(&mut self) -> Result<(), Fault> {
        let directory = self.is_on_disk.then(|| tempfile::tempdir().expect("a directory"));
        self.begin(directory, Chronicle::default())?;
        for _ in 0..STEPS {
            self.step().await?;
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<(), Fault> {
        let running: Vec<_> =
            (0..self.lines.len()).filter(|line| self.lines[*line].log.is_some()).collect();
        let line = self.book.dice.pick(&running);
        if self.is_troubled && self.is_on_disk && self.book.dice.percent(1) {
            return self.be_locked(line).await;
        }
        let history = self.log(line).history.clone();
        if self.book.carries && self.book.dice.percent(25) {
            return match self.book.dice.below(4) {
                0 => self.book.read_changed(&history, line).await,
                1 => self.book.read_back(&history, line).await,
                2 => self.end_values(line).await,
                _ => self.look_at_hand(line).await,
            };
        }
        // The odds are of each kind of run.
        match self.book.dice.below(100) {
            0..34 => self.publish(line).await,
            34..36 => self.repeat(line).await,
            36..38 => self.forget(line).await,
            38..60 => self.book.read_after(&history, line).await,
            60..68 => self.book.read_since(&history, line, self.time()).await,
            68..73 => self.book.read_current(&history, line).await,
            73..76 => self.book.read_kept(&history, line).await,
            76..80 => self.pass(),
            80..83 => self.set_clock(),
            83..85 => self.grow_old(line).await,
            85..91 => self.restart(line),
            91..93 => self.kill(line),
            93..95 => self.lose_end(line),
            95..97 => self.back_up(line),
            _ => self.restore(line, running.len()),
        }
    }

    fn storage(&self) -> Storage {
        if self.is_on_disk { Storage::Disk } else { Storage::Memory }
    }

    fn time(&self) -> Timestamp {
        Timestamp::from(self.clock.time())
    }

    fn log(&self, line: usize) -> &Log {
        self.lines[line].log.as_ref().expect("it runs")
    }

    /// Begins a line of its own.
    fn begin(&mut self, directory: Option<TempDir>, chronicle: Chronicle) -> Result<(), Fault> {
        self.lines.push(Line { log: None, keyed: None });
        self.book.chronicles.push(chronicle);
        self.open(self.lines.len() - 1, directory)
    }

    fn open(&mut self, line: usize, directory: Option<TempDir>) -> Result<(), Fault> {
        let storage = self.storage();
        let rules = log::rules(&mut self.book.dice, storage);
        let keep_newest = rules.default.keep_newest;
        let log = Log::open(directory, rules, self.clock).map_err(Fault)?;
        let head = log.history.head();
        // Where nothing was left it is another log, which can know nothing of this one.
        let line = match self.book.chronicles[line].is_of(head) {
            true => line,
            false => {
                self.lines.push(Line { log: None, keyed: None });
                self.book.chronicles.push(Chronicle::default());
                self.lines.len() - 1
            }
        };
        self.book.chronicles[line].open(head);
        self.book.opened(line, keep_newest);
        self.disturbed = self.clock.now();
        self.lines[line].log = Some(log);
        self.lines[line].keyed = None;
        self.see_head(line);
        Ok(())
    }

    /// A reader takes the newest place.
    fn see_head(&mut self, line: usize) {
        let (cursor, seen) =
            (self.log(line).history.head(), self.book.chronicles[line].all().len());
        self.book.bookmarks.push(Bookmark { cursor, line, seen });
    }

    async fn publish(&mut self, line: usize) -> Result<(), Fault> {
        let count = self.book.dice.pick(&[1, 1, 1, 2, 4, 9]);
        let topics: Vec<_> = (0..count).map(|_| self.book.dice.pick(&TOPICS)).collect();
        self.publish_to(line, &topics).await
    }

    async fn publish_to(&mut self, line: usize, topics: &[&str]) -> Result<(), Fault> {
        let events = self.book.events_of(line, topics);
        let key = self.book.dice.percent(20).then(|| self.book.key());
        self.append(line, Append { events, key }).await?;
        if self.book.dice.percent(50) {
            self.see_head(line);
        }
        Ok(())
    }

    async fn append(&mut self, line: usize, append: Append) -> Result<(), Fault> {
        let before = self.fates(line, &append, None).await?;
        let answer = self.log(line).history.append(append.clone()).await;
        let came_to = match &answer {
            Ok(receipt) => Ok(came_to(receipt)),
            Err(AppendError::NotLatest { index }) => Err(*index),
            Err(error) => return Err(Fault(format!("refused: {error}"))),
        };
        if came_to != before {
            let after = self.fates(line, &append, answer.as_ref().ok()).await?;
            judge(&came_to, [before, after])?;
        }
        let Ok(receipt) = answer else { return Ok(()) };
        self.acknowledged(line, &append, &receipt)?;
        if append.key.is_some() {
            self.lines[line].keyed = Some((append, receipt));
        }
        Ok(())
    }

    async fn fates(
        &self,
        line: usize,
        append: &Append,
        stored: Option<&Receipt>,
    ) -> Result<Result<Vec<Fate>, usize>, Fault> {
        let Log { history, rules, .. } = self.log(line);
        fates_of(&**history, rules, append, stored, &self.book.last_places(line)).await
    }

    /// Values whose time is over end, as the broker has them do.
    async fn end_values(&mut self, line: usize) -> Result<(), Fault> {
        self.book.trace.step(format!("line {line}: values end"));
        let due = self.log(line).history.due(10_000).await;
        let due = due.map_err(|problem| Fault(format!("what has ended: {problem}")))?;
        self.book.judge_due(line, &due, self.clock.now())?;
        if due.is_empty() {
            return Ok(());
        }
        let events = self.book.tombstones(due);
        let receipt = self.log(line).history.append(Append { events: events.clone(), key: None });
        let receipt = receipt.await.map_err(|error| Fault(format!("not ended: {error}")))?;
        let known = self.book.ends.get(&line);
        for event in receipt.events.iter().filter(|event| event.cursor.is_none()) {
            if known.is_some_and(|ends| ends.contains_key(&event.topic)) {
                return Err(Fault(format!("{} did not end: {event:?}", event.topic)));
            }
        }
        self.acknowledged(line, &Append { events, key: None }, &receipt)
    }

    /// Somebody who keeps what the log tells has at hand what is kept of it.
    async fn look_at_hand(&mut self, line: usize) -> Result<(), Fault> {
        self.book.trace.step(format!("line {line}: what is at hand"));
        let Log { history, heard, .. } = self.log(line);
        let shelf = || heard.shelf.lock().expect("nobody panics with it").clone();
        is_at_hand(&**history, shelf).await
    }

    fn acknowledged(
        &mut self,
        line: usize,
        append: &Append,
        receipt: &Receipt,
    ) -> Result<(), Fault> {
        let (now, born) = (self.time(), self.clock.now());
        let heard = self.log(line).take_heard();
        let heard_ids: Vec<_> = heard.iter().map(|event| id(event)).collect();
        let first = self.book.events + 1 - append.events.len();
        let stored = (first..).zip(&receipt.events).filter(|(_, event)| event.superseded.is_none());
        if heard_ids != stored.map(|(id, _)| id).collect::<Vec<_>>() {
            return Err(Fault(format!("the feed heard {heard_ids:?}")));
        }
        self.book.acknowledged(line, &append.events, receipt, now, born)
    }

    async fn repeat(&mut self, line: usize) -> Result<(), Fault> {
        let Some((append, first)) = self.lines[line].keyed.clone() else { return Ok(()) };
        self.book.trace.step(format!("line {line}: a repeat"));
        let again = self.log(line).history.append(append).await;
        match again {
            Ok(again) if again.repeated && again.events == first.events => Ok(()),
            other => Err(Fault(format!("a repeat came to {other:?}"))),
        }
    }

    async fn forget(&mut self, line: usize) -> Result<(), Fault> {
        let topic = self.book.dice.pick(&TOPICS);
        self.book.trace.step(format!("line {line}: DELETE {topic}"));
        let topic = Topic::parse(topic).expect("a topic");
        self.book.forgotten(line, &topic);
        let forgotten = self.log(line).history.forget(topic).await;
        forgotten.map(|_| ()).map_err(|problem| Fault(format!("not forgotten: {problem}")))
    }

    fn pass(&mut self) -> Result<(), Fault> {
        let seconds = self.book.dice.pick(&[1, 10, 50, 300, 3_000]);
        self.book.trace.step(format!("{seconds} s pass"));
        self.clock.pass(Duration::from_secs(seconds));
        self.look();
        Ok(())
    }

    /// As each log does every second.
    fn look(&mut self) {
        for line in &mut self.lines {
            line.keyed = None;
            if let Some(log) = &line.log {
                log.history.sweep();
            }
        }
    }

    /// The clock is set: to the true time, or to a wrong one.
    fn set_clock(&mut self) -> Result<(), Fault> {
        let wrong =
            self.book.dice.pick(&[0, 0, 0, 3, -3, 120, -120, 3_600, -3_600, 10 * YEAR, -10 * YEAR]);
        self.book.trace.step(format!("the clock is set {wrong} s off"));
        let passed = self.clock.now() - self.began;
        let true_time = BEGIN as i64 + passed.as_secs() as i64;
        let time = Duration::from_secs((true_time + wrong) as u64);
        self.clock.set(SystemTime::UNIX_EPOCH + time);
        self.disturbed = self.clock.now();
        self.look();
        Ok(())
    }

    /// Everything that has an age has reached it, unless something disturbs that.
    async fn grow_old(&mut self, line: usize) -> Result<(), Fault> {
        self.book.trace.step(format!("line {line}: what has an age grows old"));
        self.clock.pass(AGE + Duration::from_secs(2));
        self.look();
        let due = self.disturbed.max(self.began);
        let is_due = self.clock.now() - due > AGE + Duration::from_secs(1);
        for _ in 0..3 {
            self.publish_to(line, &["d.a"]).await?;
        }
        let texts = patterns(&["old.a", "mold.a"]);
        let (given, _) = pages(&*self.log(line).history, &texts, None, None, 1_000, 100).await?;
        let chronicle = &self.book.chronicles[line];
        let is_late = |entry: &&Entry| self.clock.now() - entry.born > AGE + Duration::from_secs(1);
        let late: Vec<_> = chronicle.all().iter().filter(is_late).map(|entry| entry.id).collect();
        match too_old(&given, &late).filter(|_| is_due) {
            Some(event) => Err(Fault(format!("{} is too old and kept", id(event)))),
            None => Ok(()),
        }
    }

    fn stop(&mut self, line: usize) -> Option<TempDir> {
        let log = self.lines[line].log.take()?;
        log.history.stop();
        log.directory
    }

    fn restart(&mut self, line: usize) -> Result<(), Fault> {
        self.book.trace.step(format!("line {line}: a restart"));
        let directory = self.stop(line);
        self.go_on(line, directory)
    }

    fn cut_off(&mut self, line: usize) {
        let now = self.time();
        self.book.chronicles[line].cut_off(now);
    }

    /// What runs in memory alone is another log afterwards.
    fn reopen(&mut self, line: usize, directory: Option<TempDir>) -> Result<(), Fault> {
        match self.is_on_disk {
            true => self.open(line, directory),
            false => self.begin(None, Chronicle::default()),
        }
    }

    /// As `kill -9`: what was written is there, and nothing was stopped.
    fn kill(&mut self, line: usize) -> Result<(), Fault> {
        self.book.trace.step(format!("line {line}: a kill"));
        let left = self.log(line).directory.as_ref().map(|of| log::copy(of.path()));
        self.stop(line);
        self.cut_off(line);
        self.go_on(line, left)
    }

    /// What was kept on a disk goes on.
    fn go_on(&mut self, line: usize, directory: Option<TempDir>) -> Result<(), Fault> {
        let (ends, disturbed) = (self.book.ends.remove(&line), self.disturbed);
        self.reopen(line, directory)?;
        if self.is_on_disk && self.lines[line].log.is_some() {
            self.book.ends.extend(ends.map(|ends| (line, ends)));
            self.book.went_on(line, disturbed);
        }
        Ok(())
    }

    /// A kill after which the end of the database's log is gone.
    fn lose_end(&mut self, line: usize) -> Result<(), Fault> {
        self.book.trace.step(format!("line {line}: a kill that loses the end"));
        let left = self.log(line).directory.as_ref().map(|of| log::copy(of.path()));
        self.stop(line);
        self.cut_off(line);
        if let Some(left) = &left {
            log::cut(left.path(), &mut self.book.dice);
        }
        match self.reopen(line, left) {
            // It may be refused, loudly.
            Err(fault) if fault.0.contains("can't be used") => {
                let directory = tempfile::tempdir().expect("a directory");
                self.begin(Some(directory), Chronicle::default())
            }
            reopened => reopened,
        }
    }

    fn back_up(&mut self, line: usize) -> Result<(), Fault> {
        let Some(directory) = &self.log(line).directory else { return Ok(()) };
        let directory = log::copy(directory.path());
        if self.book.dice.percent(50) {
            _ = std::fs::remove_file(directory.path().join("head"));
        }
        self.book.trace.step(format!("line {line}: backup {}", self.backups.len()));
        let chronicle = self.book.chronicles[line].clone();
        self.backups.push(Backup { directory, chronicle });
        Ok(())
    }

    /// Restores a backup: beside the logs that run, or in the place of one.
    fn restore(&mut self, line: usize, running: usize) -> Result<(), Fault> {
        if self.backups.is_empty() {
            return Ok(());
        }
        let at = self.book.dice.below(self.backups.len());
        let is_in_place = running == RUNNING || self.book.dice.percent(50);
        self.book
            .trace
            .step(format!("line {line}: backup {at} is restored, in place: {is_in_place}"));
        if is_in_place {
            self.stop(line);
        }
        let directory = log::copy(self.backups[at].directory.path());
        let mut chronicle = self.backups[at].chronicle.clone();
        chronicle.cut_off(self.time());
        self.begin(Some(directory), chronicle)
    }
}
