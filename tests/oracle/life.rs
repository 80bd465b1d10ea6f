//! One life: what is done follows from a seed.

mod readers;

use std::collections::HashSet;
use std::ops::AddAssign;
use std::time::{Duration, SystemTime};

use fanfare::clock::{Clock, Instant};
use fanfare::history::{Append, IdempotencyKey, Receipt};
use fanfare::model::{Cursor, Data, NewEvent, Timestamp, Topic};
use tempfile::TempDir;

use crate::chronicle::{Chronicle, Entry, Fault, id};
use crate::log::{self, AGE, Log, TOPICS};
use crate::reading::{pages, patterns};
use crate::seed::Dice;
use crate::trace::Trace;

/// How many steps a life has.
const STEPS: usize = 140;

/// The most logs that run at a time.
const RUNNING: usize = 3;

/// When lives begin, in seconds since 1970.
const BEGIN: u64 = 1_800_000_000;

const YEAR: i64 = 365 * 24 * 3_600;

/// How readings came out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub exact: usize,
    pub told: usize,
    pub needless: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.exact += other.exact;
        self.told += other.told;
        self.needless += other.needless;
    }
}

/// A log, running or not, and what it has acknowledged.
struct Line {
    log: Option<Log>,
    chronicle: Chronicle,
    /// The last publish under a key, as long as a repeat must be known.
    keyed: Option<(Append, Receipt)>,
}

/// A place that a reader was given, and how much of which log it had seen by then.
#[derive(Debug, Clone, Copy)]
struct Place {
    cursor: Cursor,
    line: usize,
    seen: usize,
}

/// A copy of a data directory, and what had been acknowledged when it was made.
struct Backup {
    directory: TempDir,
    chronicle: Chronicle,
}

/// One life.
pub struct Life {
    dice: Dice,
    trace: Trace,
    tally: Tally,
    clock: Clock,
    began: Instant,
    /// When the clock was set, or a log opened, by a clock that never steps.
    disturbed: Instant,
    is_on_disk: bool,
    lines: Vec<Line>,
    places: Vec<Place>,
    backups: Vec<Backup>,
    events: usize,
    /// Every place that an event of any log was given.
    given: HashSet<Cursor>,
}

impl Life {
    /// The life that follows from a seed.
    pub fn new(seed: u64, shows_all: bool) -> Self {
        let clock = Clock::by_hand(SystemTime::UNIX_EPOCH + Duration::from_secs(BEGIN));
        let mut dice = Dice::of(seed);
        let is_on_disk = !dice.percent(20);
        Self {
            dice,
            trace: Trace::new(shows_all),
            tally: Tally::default(),
            clock,
            began: clock.now(),
            disturbed: clock.now(),
            is_on_disk,
            lines: Vec::new(),
            places: Vec::new(),
            backups: Vec::new(),
            events: 0,
            given: HashSet::new(),
        }
    }

    /// What was done, and how readings came out.
    pub fn end(self) -> (Trace, Tally) {
        (self.trace, self.tally)
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
        let line = self.dice.pick(&running);
        match self.dice.below(100) {
            0..34 => self.publish(line).await,
            34..36 => self.repeat(line).await,
            36..38 => self.forget(line).await,
            38..60 => self.read_after(line).await,
            60..68 => self.read_since(line).await,
            68..73 => self.read_current(line).await,
            73..76 => self.read_kept(line).await,
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

    fn time(&self) -> Timestamp {
        Timestamp::from(self.clock.time())
    }

    fn log(&self, line: usize) -> &Log {
        self.lines[line].log.as_ref().expect("it runs")
    }

    /// Begins a line of its own.
    fn begin(&mut self, directory: Option<TempDir>, chronicle: Chronicle) -> Result<(), Fault> {
        self.lines.push(Line { log: None, chronicle, keyed: None });
        self.open(self.lines.len() - 1, directory)
    }

    fn open(&mut self, line: usize, directory: Option<TempDir>) -> Result<(), Fault> {
        let rules = log::rules(&mut self.dice, self.is_on_disk);
        let log = Log::open(directory, rules, self.clock).map_err(Fault)?;
        let head = log.history.head();
        // Where nothing was left it is another log, which can know nothing of this one.
        let line = match self.lines[line].chronicle.is_of(head) {
            true => line,
            false => {
                self.lines.push(Line { log: None, chronicle: Chronicle::default(), keyed: None });
                self.lines.len() - 1
            }
        };
        self.lines[line].chronicle.open(head);
        self.disturbed = self.clock.now();
        self.lines[line].log = Some(log);
        self.lines[line].keyed = None;
        self.see_head(line);
        Ok(())
    }

    /// A reader takes the newest place.
    fn see_head(&mut self, line: usize) {
        let (cursor, seen) =
            (self.log(line).history.head(), self.lines[line].chronicle.all().len());
        self.places.push(Place { cursor, line, seen });
    }

    fn event(&mut self, topic: &str) -> NewEvent {
        self.events += 1;
        let topic = Topic::parse(topic).expect("a topic");
        let text = match self.dice.below(30) {
            0 => "x".repeat(self.dice.below(40_000)),
            1..10 => "x".repeat(self.dice.below(200)),
            _ => String::new(),
        };
        let data = format!("[{},\"{text}\"]", self.events);
        let data = Data::from_json(data.as_bytes(), 4).expect("JSON");
        NewEvent { topic, kind: None, data }
    }

    async fn publish(&mut self, line: usize) -> Result<(), Fault> {
        let count = self.dice.pick(&[1, 1, 1, 2, 4, 9]);
        let topics: Vec<_> = (0..count).map(|_| self.dice.pick(&TOPICS)).collect();
        self.publish_to(line, &topics).await
    }

    async fn publish_to(&mut self, line: usize, topics: &[&str]) -> Result<(), Fault> {
        let events: Vec<_> = topics.iter().map(|topic| self.event(topic)).collect();
        let scope = self.dice.percent(20).then_some(self.events as u8);
        let key = scope.map(|_| {
            let mut scope = [0; 32];
            scope[..8].copy_from_slice(&(self.events as u64).to_le_bytes());
            IdempotencyKey { scope, request: scope, is_in_series: false }
        });
        self.trace.step(format!(
            "line {line}: {} from {} on",
            topics.join(" "),
            self.events + 1 - topics.len()
        ));
        let append = Append { events, key };
        let receipt = self.log(line).history.append(append.clone()).await;
        let receipt = receipt.map_err(|error| Fault(format!("refused: {error}")))?;
        self.acknowledged(line, &append, &receipt)?;
        if append.key.is_some() {
            self.lines[line].keyed = Some((append, receipt));
        }
        if self.dice.percent(50) {
            self.see_head(line);
        }
        Ok(())
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
        let first = self.events + 1 - append.events.len();
        if heard_ids != (first..=self.events).collect::<Vec<_>>() {
            return Err(Fault(format!("the feed heard {heard_ids:?}")));
        }
        let chronicle = &mut self.lines[line].chronicle;
        for (id, receipt) in (first..).zip(&receipt.events) {
            if (receipt.time.millis() - now.millis()).abs() > 60_000 {
                return Err(Fault(format!("{id} is dated {} at {now}", receipt.time)));
            }
            let Some(cursor) = receipt.cursor else { continue };
            if !self.given.insert(cursor) {
                return Err(Fault(format!("{cursor}, the place of {id}, was given before")));
            }
            let (topic, date) = (receipt.topic.clone(), receipt.time);
            chronicle.add(Entry { id, topic, cursor, date, born });
        }
        Ok(())
    }

    async fn repeat(&mut self, line: usize) -> Result<(), Fault> {
        let Some((append, first)) = self.lines[line].keyed.clone() else { return Ok(()) };
        self.trace.step(format!("line {line}: a repeat"));
        let again = self.log(line).history.append(append).await;
        match again {
            Ok(again) if again.repeated && again.events == first.events => Ok(()),
            other => Err(Fault(format!("a repeat came to {other:?}"))),
        }
    }

    async fn forget(&mut self, line: usize) -> Result<(), Fault> {
        let topic = self.dice.pick(&TOPICS);
        self.trace.step(format!("line {line}: DELETE {topic}"));
        let forgotten = self.log(line).history.forget(Topic::parse(topic).expect("a topic")).await;
        forgotten.map(|_| ()).map_err(|problem| Fault(format!("not forgotten: {problem}")))
    }

    fn pass(&mut self) -> Result<(), Fault> {
        let seconds = self.dice.pick(&[1, 10, 50, 300, 3_000]);
        self.trace.step(format!("{seconds} s pass"));
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
            self.dice.pick(&[0, 0, 0, 3, -3, 120, -120, 3_600, -3_600, 10 * YEAR, -10 * YEAR]);
        self.trace.step(format!("the clock is set {wrong} s off"));
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
        self.trace.step(format!("line {line}: what has an age grows old"));
        self.clock.pass(AGE + Duration::from_secs(2));
        self.look();
        let due = self.disturbed.max(self.began);
        let is_due = self.clock.now() - due > AGE + Duration::from_secs(1);
        for _ in 0..3 {
            self.publish_to(line, &["d.a"]).await?;
        }
        let texts = patterns(&["old.a", "mold.a"]);
        let (given, _) = pages(&*self.log(line).history, &texts, None, 1_000, 100).await?;
        let chronicle = &self.lines[line].chronicle;
        let is_late = |entry: &&Entry| self.clock.now() - entry.born > AGE + Duration::from_secs(1);
        let late: Vec<_> = chronicle.all().iter().filter(is_late).map(|entry| entry.id).collect();
        match given.events.iter().find(|event| is_due && late.contains(&id(event))) {
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
        self.trace.step(format!("line {line}: a restart"));
        let directory = self.stop(line);
        self.reopen(line, directory)
    }

    fn cut_off(&mut self, line: usize) {
        let now = self.time();
        self.lines[line].chronicle.cut_off(now);
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
        self.trace.step(format!("line {line}: a kill"));
        let left = self.log(line).directory.as_ref().map(|of| log::copy(of.path()));
        self.stop(line);
        self.cut_off(line);
        self.reopen(line, left)
    }

    /// A kill after which the end of the database's log is gone.
    fn lose_end(&mut self, line: usize) -> Result<(), Fault> {
        self.trace.step(format!("line {line}: a kill that loses the end"));
        let left = self.log(line).directory.as_ref().map(|of| log::copy(of.path()));
        self.stop(line);
        self.cut_off(line);
        if let Some(left) = &left {
            log::cut(left.path(), &mut self.dice);
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
        if self.dice.percent(50) {
            _ = std::fs::remove_file(directory.path().join("head"));
        }
        self.trace.step(format!("line {line}: backup {}", self.backups.len()));
        let chronicle = self.lines[line].chronicle.clone();
        self.backups.push(Backup { directory, chronicle });
        Ok(())
    }

    /// Restores a backup: beside the logs that run, or in the place of one.
    fn restore(&mut self, line: usize, running: usize) -> Result<(), Fault> {
        if self.backups.is_empty() {
            return Ok(());
        }
        let at = self.dice.below(self.backups.len());
        let is_in_place = running == RUNNING || self.dice.percent(50);
        self.trace.step(format!("line {line}: backup {at} is restored, in place: {is_in_place}"));
        if is_in_place {
            self.stop(line);
        }
        let directory = log::copy(self.backups[at].directory.path());
        let mut chronicle = self.backups[at].chronicle.clone();
        chronicle.cut_off(self.time());
        self.begin(Some(directory), chronicle)
    }
}
