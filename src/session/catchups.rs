//! The subscribes of one session that are not live yet, each with whoever reads its history.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use super::catchup::Catchup;
use super::topic_set::TopicSet;
use crate::broker::{BarrierId, Delivery, Roll};
use crate::model::{Cursor, Event, Pattern, Topic};

/// The subscribes of one session that are not live yet, in the order in which they came.
#[derive(Default)]
pub struct Catchups(Vec<Active>);

/// A subscribe that is registered and not live yet.
pub struct Active {
    /// Behind this its next step is taken.
    pub barrier: BarrierId,
    /// What waits for it.
    pub catchup: Catchup,
    /// How many of the newest events of each topic are wanted where there is a gap, if they are.
    pub values: Option<usize>,
    /// The shortest time between two events of a topic, where they are conflated.
    pub interval: Option<Duration>,
    /// Who reads its history; nobody where it wants none.
    pub reader: Option<Reader>,
    /// Current values that were on their way when events were lost: they are read again.
    pub reread: TopicSet,
}

/// The way to whoever reads a history; dropped, nobody reads any more.
pub struct Reader {
    progress: UnboundedSender<Progress>,
    task: Option<Running>,
}

/// A task that ends when nobody holds it.
pub struct Running(pub AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the reader of a subscribe's history is told.
#[derive(Debug, Clone)]
pub enum Progress {
    /// Read what came up to `boundary`.
    Read {
        /// Where the history is to be read up to.
        boundary: Cursor,
        /// What came up to here has been sent already.
        sent: Option<Cursor>,
        /// Current values that are to be read, whatever else is.
        reread: TopicSet,
        /// Whether nothing but these is missing.
        only_reread: bool,
        /// Of which topics that tell of others it is to be asked who is in them.
        awaits_roll: TopicSet,
    },
    /// These are in the topics that it asks about; nothing where that is not known after all.
    Called(Option<Roll>),
    /// It is live; nothing is left to read.
    Live,
}

/// What becomes of an event that comes while some subscribes are not live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It goes out if something live wants it.
    NotHere,
    /// It waits, and goes out once.
    Waits,
    /// It goes out.
    GoesOut,
}

/// What a barrier means to a subscribe.
pub enum Reached {
    /// Its history is being read.
    Reads,
    /// It is live from here on.
    Live(Box<Active>),
}

impl Active {
    /// Whether a value is read again, for it was read before events were lost, perhaps itself among them.
    pub fn rereads(&self, value: &Event) -> bool {
        match value.topic.is_presence() {
            true => self.catchup.awaits_roll_of(&value.topic),
            false => self.reread.covers(&value.topic),
        }
    }
}

impl Reader {
    /// Whoever hears of `progress` reads.
    pub fn new(progress: UnboundedSender<Progress>) -> Self {
        Self { progress, task: None }
    }

    /// Says how far to read, or that there is no more to be.
    pub fn tell(&self, progress: Progress) {
        // Where the reader has failed, it has ended the session.
        _ = self.progress.send(progress);
    }
}

impl Catchups {
    /// Whether everything is live.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds one.
    pub fn add(&mut self, active: Active) {
        // Most sessions have one at a time: a crowd that comes at once takes no room for four each.
        if self.0.is_empty() {
            self.0.reserve_exact(1);
        }
        self.0.push(active);
    }

    /// The one of a barrier.
    pub fn get(&mut self, barrier: BarrierId) -> Option<&mut Active> {
        self.0.iter_mut().find(|active| active.barrier == barrier)
    }

    /// Gives the one of a barrier its reader; where there is none any more, nobody reads.
    pub fn run_by(&mut self, barrier: BarrierId, task: Running) {
        if let Some(reader) = self.get(barrier).and_then(|active| active.reader.as_mut()) {
            reader.task = Some(task);
        }
    }

    /// What they are to become live for.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter().flat_map(|active| active.catchup.patterns())
    }

    /// Those that have begun: later events are theirs.
    pub fn begun(&self) -> impl Iterator<Item = &Active> {
        self.0.iter().filter(|active| active.catchup.has_begun())
    }

    /// Wants these patterns no longer.
    pub fn unsubscribe(&mut self, patterns: &[Pattern]) {
        self.0.retain_mut(|active| !active.catchup.unsubscribe(patterns));
        self.pass_turn_on();
        self.give_back_room();
    }

    /// Has an event wait where it is wanted. What is ephemeral has no place in a replay, and is wanted now, unless it
    /// says who comes to a topic or leaves it: what comes behind those who are there waits in one place, and what comes
    /// before them goes out only where they were told already.
    pub fn hold(&mut self, delivery: &Arc<Delivery>) -> Held {
        let event = &delivery.event;
        let is_wanted = |one: &Active| one.catchup.has_begun() && one.catchup.asks_for(event);
        if event.topic.is_presence() {
            let waits = |one: &Active| is_wanted(one) && !one.catchup.awaits_roll_of(&event.topic);
            let last = self.0.iter_mut().rfind(|one| waits(one));
            return last.map_or(Held::NotHere, |last| {
                last.catchup.hold(delivery);
                Held::Waits
            });
        }
        if event.topic.is_metrics() {
            return self.hold_said(delivery);
        }
        if event.cursor.is_none() {
            return if self.0.iter().any(is_wanted) { Held::GoesOut } else { Held::NotHere };
        }
        self.0.iter_mut().for_each(|active| active.catchup.hold(delivery));
        Held::NotHere
    }

    /// Has what a node says of itself wait behind what nodes said before, where that is being told; what comes before
    /// that is in it.
    fn hold_said(&mut self, delivery: &Arc<Delivery>) -> Held {
        let topic = &delivery.event.topic;
        let is_wanted = |one: &&mut Active| one.catchup.has_begun() && one.catchup.matches(topic);
        let mut held = Held::NotHere;
        for Active { catchup, .. } in self.0.iter_mut().filter(is_wanted) {
            if catchup.has_begun_past() {
                catchup.hold(delivery);
                return Held::Waits;
            }
            if catchup.asks_no_past() {
                held = Held::GoesOut;
            }
        }
        held
    }

    /// What it means that all before `barrier` has been delivered, up to `position`.
    pub fn barrier_reached(&mut self, barrier: BarrierId, position: Cursor) -> Option<Reached> {
        let at = self.0.iter().position(|active| active.barrier == barrier)?;
        let Active { catchup, reader, reread, .. } = &mut self.0[at];
        if let Some(reader) = reader {
            let is_missing = !catchup.has_begun() || catchup.has_overflowed();
            let reread = std::mem::take(reread);
            let awaits_roll = catchup.awaits_roll().clone();
            if is_missing || reread != TopicSet::Nothing || awaits_roll != TopicSet::Nothing {
                let (boundary, sent) = (position, catchup.sent());
                if is_missing {
                    catchup.begin(position);
                }
                let only_reread = !is_missing;
                reader.tell(Progress::Read { boundary, sent, reread, only_reread, awaits_roll });
                return Some(Reached::Reads);
            }
        }
        let active = self.0.remove(at);
        self.pass_turn_on();
        self.give_back_room();
        Some(Reached::Live(Box::new(active)))
    }

    /// Hears for the one of `barrier` who is in the topics that it asks about. One after the other tells that, in their
    /// order: what waits behind the members that one tells would be told behind the later ones of another.
    pub fn called(&mut self, barrier: BarrierId, roll: Option<Roll>) {
        let Some(at) = self.0.iter().position(|active| active.barrier == barrier) else { return };
        if self.0[..at].iter().any(|earlier| earlier.catchup.asks_who_is_there()) {
            self.0[at].catchup.wait_for_turn();
            return;
        }
        let Active { catchup, reader, .. } = &mut self.0[at];
        if let Some(roll) = &roll {
            catchup.hear_roll(roll);
        }
        if let Some(reader) = reader {
            reader.tell(Progress::Called(roll));
        }
    }

    /// Has the first one that waited for its turn ask again, where it is that now.
    fn pass_turn_on(&mut self) {
        let first = self.0.iter_mut().find(|active| active.catchup.asks_who_is_there());
        if let Some(Active { catchup, reader: Some(reader), .. }) = first
            && catchup.take_turn()
        {
            reader.tell(Progress::Called(None));
        }
    }

    /// Hears that events of some topics were lost, or of any: current values that were on their way are
    /// read again, and what waits from before that is not sent after them.
    pub fn lose(&mut self, lost: Option<&[Topic]>) {
        for active in self.0.iter_mut().filter(|active| active.catchup.has_begun()) {
            let reads_values = active.values.is_some() || active.interval.is_some();
            if reads_values && active.reader.is_some() {
                active.reread.and(lost);
                active.catchup.forget(lost);
            }
        }
    }

    /// Most sessions never catch up again.
    fn give_back_room(&mut self) {
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }
}
