//! One running history, the directory it keeps, and the rules it goes by.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare::clock::Clock;
use fanfare::config::{Config, Rules, Storage, Who};
use fanfare::history::memory::MemoryHistory;
use fanfare::history::sqlite::Opened;
use fanfare::history::{Feed, History, Loss, Removal};
use fanfare::model::{Cursor, Event, Pattern, Topic};
use tempfile::TempDir;

use crate::seed::Dice;
use crate::shelf::Shelf;

/// The oldest event kept of the topics that have an age.
pub const AGE: Duration = Duration::from_secs(60);

/// Every topic of a life, of each kind of rule.
pub const TOPICS: [&str; 12] =
    ["d.a", "d.b", "m.a", "m.b", "n.a", "few.a", "few.b", "old.a", "mold.a", "x.a", "x.b", "x.c.d"];

/// What readers ask for.
pub const PATTERNS: [&[&str]; 14] = [
    &["d.a"],
    &["m.a"],
    &["x.a"],
    &["few.a"],
    &["old.a"],
    &["mold.a"],
    &[">"],
    &["*.a"],
    &["d.*"],
    &["x.>"],
    &["x.*", "d.b"],
    &["few.>", "m.b"],
    &["x.b", "x.a"],
    &["old.*", "x.c.>"],
];

/// Hears what a log commits.
#[derive(Default)]
pub struct RecordingFeed {
    pub events: Mutex<Vec<Arc<Event>>>,
    pub shelf: Mutex<Shelf>,
}

impl Feed for RecordingFeed {
    fn committed(&self, events: Vec<Arc<Event>>) {
        self.shelf.lock().expect("nobody panics with it").add(&events);
        self.events.lock().expect("nobody panics with it").extend(events);
    }

    fn removed(&self, removals: &[Removal]) {
        self.shelf.lock().expect("nobody panics with it").remove(removals);
    }

    fn skip(&self, _: &Topic, _: Option<Cursor>) -> bool {
        false
    }

    fn broken(&self, loss: Loss) {
        panic!("nothing was lost after {}", loss.since);
    }
}

/// A history that runs.
pub struct Log {
    pub history: Arc<dyn History>,
    pub heard: Arc<RecordingFeed>,
    pub rules: Rules,
    /// Where it keeps its data, if that is on a disk.
    pub directory: Option<TempDir>,
}

/// Rules of one of many kinds, where what is kept is kept there; in Redis, nothing is beside it.
pub fn rules(dice: &mut Dice, kept: Storage) -> Rules {
    let mut rules = Config::default().rules;
    rules.default.storage = kept;
    rules.default.keep_newest = dice.percent(70);
    let beside = if kept == Storage::Redis { kept } else { Storage::Memory };
    let mut rule = |pattern: &str, storage| {
        let mut rule = rules.default.clone();
        rule.pattern = Pattern::parse(pattern).expect("a pattern");
        rule.storage = storage;
        rules.listed.push(rule);
        rules.listed.len() - 1
    };
    // A change of rights alone.
    if dice.percent(30) {
        let pattern = dice.pick(&["d.a", "x.>", "d.>"]);
        if pattern.starts_with('d') {
            rule(pattern, kept);
        }
    }
    rule("m.>", beside);
    rule("n.>", Storage::None);
    let few = rule("few.>", kept);
    let old = rule("old.>", kept);
    let mold = rule("mold.>", beside);
    let often = [kept, kept, beside, beside, Storage::None];
    if dice.percent(50) {
        rule("x.a", dice.pick(&often));
    }
    rule("x.>", dice.pick(&often));
    rules.listed[few].max_events = 3;
    rules.listed[old].max_age = AGE;
    rules.listed[mold].max_age = AGE;
    if dice.percent(30) {
        rules.listed[0].subscribe = Who::Anyone;
    }
    rules
}

fn config(path: &Path) -> Config {
    let mut config = Config::default();
    config.history.path = path.to_owned();
    // What the system holds is as good here as what a disk does.
    config.history.fsync = false;
    config.history.commit_timeout = Duration::from_secs(60);
    config
}

impl Log {
    /// Opens a log in a directory, or a new one in memory.
    pub fn open(directory: Option<TempDir>, rules: Rules, clock: Clock) -> Result<Self, String> {
        let (heard, kept) = (Arc::new(RecordingFeed::default()), rules.clone());
        let history: Arc<dyn History> = match &directory {
            None => {
                let (start, config) = (MemoryHistory::new_start(), Config::default().history);
                Arc::new(MemoryHistory::new(start, &config, rules, clock, heard.clone()))
            }
            Some(directory) => {
                let config = config(directory.path()).history;
                let opened = Opened::open(&config, rules, clock).map_err(|e| e.to_string())?;
                Arc::new(opened.start(heard.clone()).map_err(|e| e.to_string())?)
            }
        };
        heard.shelf.lock().expect("nobody panics with it").begin = history.head().sequence;
        Ok(Self { history, heard, rules: kept, directory })
    }

    /// What was heard since this was asked last.
    pub fn take_heard(&self) -> Vec<Arc<Event>> {
        std::mem::take(&mut *self.heard.events.lock().expect("nobody panics with it"))
    }
}

/// A copy of a data directory, as a kill leaves it if the log still runs.
pub fn copy(from: &Path) -> TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    for name in ["head", "history.db", "history.db-wal"] {
        if from.join(name).exists() {
            fs::copy(from.join(name), copy.path().join(name)).expect("a copy");
        }
    }
    copy
}

/// Cuts off some of the end of the database's log.
pub fn cut(directory: &Path, dice: &mut Dice) {
    let path = directory.join("history.db-wal");
    let Ok(file) = fs::File::options().write(true).open(path) else { return };
    let length = file.metadata().expect("its length").len();
    // Not so much that the schema is gone, which would be refused.
    let left = length - length * dice.below(60) as u64 / 100;
    file.set_len(left).expect("cut");
}
