//! One life of a log in Redis, and of the nodes on it: what is done follows from a seed.

mod node;
mod troubles;

use fanfare::config::{Rules, Storage};
use fanfare::history::{Append, AppendError, Receipt};
use fanfare::model::{Cursor, LogName, Timestamp, Topic};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use self::node::Node;
use crate::TROUBLED;
use crate::book::{Book, Bookmark, EndsAt, Tally, fates_of, is_at_hand, too_old};
use crate::chronicle::{Chronicle, Entry, Fault, id};
use crate::log::{self, AGE, TOPICS};
use crate::reading::{PATIENCE, POLL, answer, pages, patterns};
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::terms::{Fate, came_to, judge};
use crate::trace::Trace;

/// How many steps a life has.
const STEPS: usize = 120;

/// The most nodes that run at a time.
const NODES: usize = 3;

/// How many epochs a loop of restarts begins: more than the record of the log names.
const EPOCHS: usize = 40;

const YEAR: i64 = 365 * 24 * 3_600;

/// The record of the log.
const RECORD: &str = "{fanfare}:log";

/// A copy of what Redis has on its disk, and what had been acknowledged when it was made.
struct Snapshot {
    directory: TempDir,
    chronicle: Chronicle,
}

/// One life.
pub struct Life {
    book: Book,
    redis: Redis,
    rules: Rules,
    nodes: Vec<Node>,
    /// Which chronicle is that of the log now: another one each time that something was lost.
    line: usize,
    snapshots: Vec<Snapshot>,
    /// The last publish under a key, as long as a repeat must be known.
    keyed: Option<(Append, Receipt)>,
    is_full: bool,
    is_troubled: bool,
    /// By how many seconds the clock of Redis is ahead of this machine's, rightly and wrongly.
    ahead: [i64; 2],
    /// The newest event when that clock was last set wrong, or right.
    disturbed: usize,
}

impl Life {
    /// The life that follows from a seed.
    pub fn new(seed: u64, shows_all: bool) -> Self {
        let mut book = Book::new(seed, shows_all);
        book.is_in_real_time = true;
        let rules = log::rules(&mut book.dice, Storage::Redis);
        Self {
            book,
            redis: Redis::ahead_by(0),
            rules,
            nodes: Vec::new(),
            line: 0,
            snapshots: Vec::new(),
            keyed: None,
            is_full: false,
            is_troubled: seed / TROUBLED % 2 == 1,
            ahead: [0, 0],
            disturbed: 0,
        }
    }

    /// What was done, and how readings came out.
    pub fn end(self) -> (Trace, Tally) {
        (self.book.trace, self.book.tally)
    }

    /// Lives.
    pub async fn live(&mut self) -> Result<(), Fault> {
        self.go_on_as(empty());
        self.join().await?;
        self.join().await?;
        self.publish_to(0, &["d.a"]).await?;
        for _ in 0..STEPS {
            self.step().await?;
        }
        self.hear().await
    }

    async fn step(&mut self) -> Result<(), Fault> {
        let at = self.book.dice.below(self.nodes.len());
        if self.is_troubled && self.book.dice.percent(3) {
            return self.be_troubled(at).await;
        }
        let (history, line) = (self.nodes[at].history.clone(), self.line);
        if self.book.carries && self.book.dice.percent(25) {
            return match self.book.dice.below(4) {
                0 => self.book.read_changed(&history, line).await,
                1 => self.book.read_back(&history, line).await,
                2 => self.end_values(at).await,
                _ => self.look_at_hand(at).await,
            };
        }
        // The odds are of each kind of run.
        match self.book.dice.below(100) {
            0..32 => self.publish(at).await,
            32..34 => self.repeat(at).await,
            34..37 => self.forget(at).await,
            37..56 => self.book.read_after(&history, line).await,
            56..65 => self.book.read_since(&history, line, self.time()).await,
            65..69 => self.book.read_current(&history, line).await,
            69..72 => self.book.read_kept(&history, line).await,
            72..75 => self.hear().await,
            75..78 => self.pass(),
            78..81 => self.set_clock(),
            81..82 => self.grow_old(at).await,
            82..83 => self.grow_old_twice(at).await,
            83..85 => self.restart_node(at).await,
            85..87 => self.restart_all().await,
            87..88 => self.join_or_leave(at).await,
            88..90 => self.kill(),
            90..92 => self.begin_epochs(at).await,
            92..94 => self.copy(),
            94..97 => self.bring_back_some().await,
            97..98 => self.flush().await,
            _ => self.fill(),
        }
    }

    fn time(&self) -> Timestamp {
        let [seconds, micros]: [i64; 2] = self.redis.run(&["TIME"]);
        Timestamp::from_millis(seconds * 1_000 + micros / 1_000)
    }

    /// The log has acknowledged this from here on.
    fn go_on_as(&mut self, chronicle: Chronicle) {
        self.book.chronicles.push(chronicle);
        self.line = self.book.chronicles.len() - 1;
        self.book.opened(self.line, self.rules.default.keep_newest);
        self.keyed = None;
    }

    async fn join(&mut self) -> Result<(), Fault> {
        let rules = self.rules.clone();
        self.nodes.push(match self.is_troubled {
            true => Node::join_over(Proxy::to(self.redis.port).await, rules)?,
            false => Node::join(&self.redis.url(), rules)?,
        });
        Ok(())
    }

    async fn join_some(&mut self, count: usize) -> Result<(), Fault> {
        for _ in 0..count {
            self.join().await?;
        }
        Ok(())
    }

    async fn publish(&mut self, at: usize) -> Result<(), Fault> {
        let count = self.book.dice.pick(&[1, 1, 1, 2, 4, 9]);
        let topics: Vec<_> = (0..count).map(|_| self.book.dice.pick(&TOPICS)).collect();
        self.publish_to(at, &topics).await
    }

    async fn publish_to(&mut self, at: usize, topics: &[&str]) -> Result<(), Fault> {
        let events = self.book.events_of(self.line, topics);
        let append = Append { events, key: Some(self.book.key()) };
        self.publish_as(at, append, false).await
    }

    async fn fates(
        &self,
        at: usize,
        append: &Append,
        stored: Option<&Receipt>,
    ) -> Result<Result<Vec<Fate>, usize>, Fault> {
        let (history, last) = (&*self.nodes[at].history, self.book.last_places(self.line));
        fates_of(history, &self.rules, append, stored, &last).await
    }

    /// Values whose time is over end, as some node has them do.
    async fn end_values(&mut self, at: usize) -> Result<(), Fault> {
        if self.is_full {
            return Ok(());
        }
        self.book.trace.step("values end");
        self.settle().await?;
        let ends = self.book.ends.get(&self.line).into_iter().flatten();
        let is_over =
            |(_, ends): &(&Topic, &EndsAt)| ends.at < Instant::now() && ends.id > self.disturbed;
        let over: Vec<_> = ends.filter(is_over).map(|(topic, _)| topic.clone()).collect();
        let (history, give_up) = (self.nodes[at].history.clone(), Instant::now() + PATIENCE);
        let due = loop {
            let due = answer(|| history.due(10_000)).await?;
            let is_due = |topic: &&Topic| due.iter().any(|ending| ending.topic == **topic);
            match over.iter().find(|topic| !is_due(topic)) {
                None => break due,
                Some(topic) if Instant::now() > give_up => {
                    return Err(Fault(format!("the value of {topic} has not ended: {due:?}")));
                }
                Some(_) => sleep(POLL).await,
            }
        };
        if due.is_empty() {
            return Ok(());
        }
        let events = self.book.tombstones(due);
        let append = Append { events, key: Some(self.book.key()) };
        self.publish_as(at, append, false).await?;
        let ends = self.book.ends.get(&self.line);
        match over.iter().find(|topic| ends.is_some_and(|ends| ends.contains_key(*topic))) {
            Some(topic) => Err(Fault(format!("the value of {topic} did not end"))),
            None => Ok(()),
        }
    }

    /// Somebody who keeps what a node tells has at hand what is kept of it.
    async fn look_at_hand(&mut self, at: usize) -> Result<(), Fault> {
        if self.is_full {
            return Ok(());
        }
        self.book.trace.step(format!("what is at hand at node {at}"));
        self.settle().await?;
        let node = &self.nodes[at];
        is_at_hand(&*node.history, || node.at_hand()).await
    }

    /// Publishes the newest events, which may be stored already.
    async fn publish_as(
        &mut self,
        at: usize,
        append: Append,
        may_be_stored: bool,
    ) -> Result<(), Fault> {
        let before = self.book.events - append.events.len();
        let expected = self.fates(at, &append, None).await?;
        let Some(answer) = self.append(at, &append, may_be_stored).await? else { return Ok(()) };
        let came_to = answer.as_ref().map(came_to).map_err(|index| *index);
        if came_to != expected && !may_be_stored {
            let after = self.fates(at, &append, answer.as_ref().ok()).await?;
            judge(&came_to, [expected, after])?;
        }
        let Ok(receipt) = answer else { return Ok(()) };
        let now = self.time();
        self.book.acknowledged(self.line, &append.events, &receipt, now, Instant::now())?;
        let ids = (before + 1..).zip(&receipt.events);
        let kept: Vec<_> = ids.filter(|(_, it)| it.cursor.is_some()).map(|(id, _)| id).collect();
        self.nodes.iter_mut().for_each(|node| node.owe(kept.iter().copied()));
        if let Some(cursor) = receipt.events.iter().rev().find_map(|event| event.cursor) {
            let seen = self.book.chronicles[self.line].all().len();
            self.book.bookmarks.push(Bookmark { cursor, line: self.line, seen });
        }
        self.keyed = Some((append, receipt));
        Ok(())
    }

    /// Appends what may be stored already, or certainly is not, and again under the same key until an answer
    /// comes: a receipt, or whose terms are not met; nothing where Redis is full.
    async fn append(
        &self,
        at: usize,
        append: &Append,
        mut may_be_stored: bool,
    ) -> Result<Option<Result<Receipt, usize>>, Fault> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.nodes[at].history.append(append.clone()).await {
                Ok(receipt) if receipt.repeated && !may_be_stored => {
                    return Err(Fault(format!(
                        "certainly not stored, and there it was: {receipt:?}"
                    )));
                }
                Ok(receipt) => return Ok(Some(Ok(receipt))),
                Err(AppendError::NotLatest { index }) => return Ok(Some(Err(index))),
                Err(AppendError::StorageFull) if self.is_full => return Ok(None),
                Err(error @ (AppendError::Unavailable(_) | AppendError::OutcomeUnknown(_)))
                    if Instant::now() < give_up =>
                {
                    may_be_stored |= matches!(error, AppendError::OutcomeUnknown(_));
                    sleep(POLL).await;
                }
                Err(error) => return Err(Fault(format!("refused: {error}"))),
            }
        }
    }

    async fn repeat(&mut self, at: usize) -> Result<(), Fault> {
        let Some((append, first)) = self.keyed.clone() else { return Ok(()) };
        self.book.trace.step("a repeat");
        match self.append(at, &append, true).await? {
            Some(Ok(again)) if again.repeated && again.events == first.events => Ok(()),
            None => Ok(()),
            other => Err(Fault(format!("a repeat came to {other:?}"))),
        }
    }

    async fn forget(&mut self, at: usize) -> Result<(), Fault> {
        let topic = Topic::parse(self.book.dice.pick(&TOPICS)).expect("a topic");
        self.book.trace.step(format!("DELETE {topic}"));
        self.book.forgotten(self.line, &topic);
        let history = self.nodes[at].history.clone();
        answer(|| history.forget(topic.clone())).await.map(|_| ())
    }

    /// Every node has heard what was published, or was told of a loss.
    async fn hear(&mut self) -> Result<(), Fault> {
        if self.is_full {
            return Ok(());
        }
        self.book.trace.step("what nodes heard");
        self.settle().await?;
        // Whatever was lost before, this is heard by all.
        self.publish_to(0, &["d.a"]).await?;
        for node in &mut self.nodes {
            node.hear().await?;
        }
        Ok(())
    }

    /// All nodes know how the log stands.
    async fn settle(&self) -> Result<(), Fault> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            self.sweep();
            let fields = ["HMGET", RECORD, "run", "epoch", "seq"];
            let [run, epoch, sequence]: [Option<String>; 3] = self.redis.run(&fields);
            let info: String = self.redis.run(&["INFO", "server"]);
            let is_known = |node: &Node| {
                let head = node.history.head();
                node.history.trouble().is_none()
                    && Some(head.epoch.to_string()) == epoch
                    && Some(head.sequence.to_string()) == sequence
            };
            let is_entered = run.is_some_and(|run| info.contains(&format!("run_id:{run}")));
            if is_entered && self.nodes.iter().all(is_known) {
                return Ok(());
            }
            if Instant::now() > give_up {
                let heads: Vec<_> =
                    self.nodes.iter().map(|node| node.history.head().to_string()).collect();
                return Err(Fault(format!("{heads:?} does not become {epoch:?}, {sequence:?}")));
            }
            sleep(POLL).await;
        }
    }

    /// As each node does every second.
    fn sweep(&self) {
        self.nodes.iter().for_each(|node| node.history.sweep());
    }

    fn pass(&mut self) -> Result<(), Fault> {
        let seconds = self.book.dice.pick(&[1, 10, 50, 300, 3_000]);
        self.book.trace.step(format!("{seconds} s pass"));
        self.move_clock([self.ahead[0] + seconds, self.ahead[1]]);
        Ok(())
    }

    /// The clock of Redis is set: to the true time, or to a wrong one.
    fn set_clock(&mut self) -> Result<(), Fault> {
        let all = [0, 0, 0, 3, -3, 120, -120, 3_600, -3_600, 10 * YEAR, -10 * YEAR];
        let wrong = self.book.dice.pick(&all);
        self.book.trace.step(format!("the clock is set {wrong} s off"));
        self.move_clock([self.ahead[0], wrong]);
        self.disturbed = self.book.events;
        Ok(())
    }

    fn move_clock(&mut self, ahead: [i64; 2]) {
        self.ahead = ahead;
        self.redis.set_ahead(ahead.iter().sum());
        self.keyed = None;
        self.sweep();
    }

    /// Everything that has an age has reached it, unless the clock was set since, and goes.
    async fn grow_old(&mut self, at: usize) -> Result<(), Fault> {
        self.book.trace.step("what has an age grows old");
        self.settle().await?;
        self.move_clock([self.ahead[0] + AGE.as_secs() as i64 + 2, self.ahead[1]]);
        let chronicle = &self.book.chronicles[self.line];
        let ids = chronicle.all().iter().map(|Entry { id, .. }| *id);
        let late: Vec<_> = ids.filter(|id| *id > self.disturbed).collect();
        let (history, texts) = (&*self.nodes[at].history, patterns(&["old.a", "mold.a"]));
        let give_up = Instant::now() + PATIENCE;
        loop {
            self.sweep();
            let (given, _) = pages(history, &texts, None, None, 1_000, 100).await?;
            match too_old(&given, &late) {
                Some(event) if Instant::now() > give_up => {
                    return Err(Fault(format!("{} is too old and kept", id(event))));
                }
                Some(_) => sleep(POLL).await,
                None => return Ok(()),
            }
        }
    }

    /// What went for its age comes back with a snapshot, and goes again.
    async fn grow_old_twice(&mut self, at: usize) -> Result<(), Fault> {
        self.publish_to(at, &["old.a", "mold.a"]).await?;
        self.copy()?;
        self.grow_old(at).await?;
        self.bring_back(self.snapshots.len() - 1, false).await?;
        self.grow_old(at).await
    }

    async fn restart_node(&mut self, at: usize) -> Result<(), Fault> {
        self.book.trace.step(format!("node {at} is restarted"));
        drop(self.nodes.remove(at));
        self.join().await
    }

    /// Under other rules.
    async fn restart_all(&mut self) -> Result<(), Fault> {
        self.book.trace.step("all nodes are restarted");
        let count = self.stop_all();
        self.rules = log::rules(&mut self.book.dice, Storage::Redis);
        self.book.opened(self.line, self.rules.default.keep_newest);
        self.join_some(count).await
    }

    fn stop_all(&mut self) -> usize {
        self.nodes.drain(..).count()
    }

    async fn join_or_leave(&mut self, at: usize) -> Result<(), Fault> {
        if self.nodes.len() < NODES && self.book.dice.percent(60) {
            self.book.trace.step("a node joins");
            return self.join().await;
        }
        if self.nodes.len() > 1 {
            self.book.trace.step(format!("node {at} leaves"));
            drop(self.nodes.remove(at));
        }
        Ok(())
    }

    /// What was acknowledged is on its disk.
    fn kill(&mut self) -> Result<(), Fault> {
        self.book.trace.step("Redis is killed");
        self.redis.kill();
        self.redis.restart();
        self.is_full = false;
        Ok(())
    }

    /// As a loop of restarts does: each time the record is of another run of the server.
    async fn begin_epochs(&mut self, at: usize) -> Result<(), Fault> {
        if self.is_full {
            return Ok(());
        }
        self.book.trace.step(format!("{EPOCHS} epochs"));
        for n in 0..EPOCHS {
            self.settle_record().await?;
            let run = format!("run-{n}");
            _ = self.redis.run::<usize>(&["HSET", RECORD, "run", &run]);
            let topic = self.book.dice.pick(&["d.a", "d.b", "x.c.d"]);
            self.publish_to(at, &[topic]).await?;
        }
        Ok(())
    }

    /// Redis has a record of the log.
    async fn settle_record(&self) -> Result<(), Fault> {
        let give_up = Instant::now() + PATIENCE;
        while self.redis.run::<usize>(&["EXISTS", RECORD]) == 0 {
            if Instant::now() > give_up {
                return Err(Fault("no node begins a log".to_owned()));
            }
            self.sweep();
            sleep(POLL).await;
        }
        Ok(())
    }

    fn copy(&mut self) -> Result<(), Fault> {
        self.book.trace.step(format!("snapshot {}", self.snapshots.len()));
        let directory = self.redis.copy();
        let chronicle = self.book.chronicles[self.line].clone();
        self.snapshots.push(Snapshot { directory, chronicle });
        Ok(())
    }

    /// An old snapshot takes the place of what Redis has; at times while no node runs.
    async fn bring_back_some(&mut self) -> Result<(), Fault> {
        if self.snapshots.is_empty() {
            return Ok(());
        }
        let at = self.book.dice.below(self.snapshots.len());
        let is_alone = self.book.dice.percent(40);
        self.bring_back(at, is_alone).await
    }

    async fn bring_back(&mut self, at: usize, is_alone: bool) -> Result<(), Fault> {
        self.book.trace.step(format!("snapshot {at} is back; while no node runs: {is_alone}"));
        let count = if is_alone { self.stop_all() } else { 0 };
        self.redis.bring_back(&self.snapshots[at].directory);
        self.is_full = false;
        self.go_on_as(self.snapshots[at].chronicle.clone());
        self.join_some(count).await
    }

    async fn flush(&mut self) -> Result<(), Fault> {
        self.book.trace.step("FLUSHALL");
        let is_alone = self.book.dice.percent(30);
        let count = if is_alone { self.stop_all() } else { 0 };
        _ = self.redis.run::<String>(&["FLUSHALL"]);
        self.go_on_as(empty());
        self.join_some(count).await
    }

    /// Redis is full, or is no more.
    fn fill(&mut self) -> Result<(), Fault> {
        self.is_full = !self.is_full;
        self.book.trace.step(format!("Redis is full: {}", self.is_full));
        let most = if self.is_full { "1" } else { "0" };
        _ = self.redis.run::<String>(&["CONFIG", "SET", "maxmemory", most]);
        Ok(())
    }
}

/// What a new log has acknowledged. Numbers rise over all epochs, so none has to be told apart.
fn empty() -> Chronicle {
    let (mut chronicle, log) = (Chronicle::default(), LogName::random());
    chronicle.open(Cursor { log, epoch: 0, sequence: 0 });
    chronicle
}
