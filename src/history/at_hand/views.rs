//! Current values of the pattern sets that were asked for lately.
//!
//! Pure state. A view is there whole or not at all: it hears what the log tells from the moment it is made, is filled from the
//! log by whoever asked, and answers from then on, kept current by what the log tells. A set is worth a view once it is asked
//! for twice within a minute; a quiet minute ends it, and so do more bytes than may be.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::super::{Loss, LostTopic, Newest, NewestPage, Removal};
use super::wanted::Patterns;
use crate::model::{Event, Pattern, Topic};

/// How many views there are at most: each is looked at for each event.
const VIEWS: usize = 16;

/// How many pattern sets are remembered that were asked for once.
const ASKED_ONCE: usize = 64;

/// For how many looks of the clock, one a second, a view stays that nobody asks for.
const QUIET: u32 = 60;

/// For how many of them it is asked for no more where another is to take its place.
const IDLE: u32 = 10;

/// What a value takes of memory, about, beside what [`Event::cost`] counts.
const COST: usize = 96;

/// What is known of the values of some pattern sets.
#[derive(Debug)]
pub(super) struct Views {
    max_bytes: usize,
    /// The oldest first.
    views: Vec<View>,
    asked_once: VecDeque<(Arc<[Pattern]>, u32)>,
    /// The number of the next view to be filled.
    next: u64,
}

/// The current values of one pattern set.
#[derive(Debug)]
struct View {
    asked: Arc<[Pattern]>,
    /// The same, to be compared with.
    patterns: Patterns,
    /// The newest event of each topic, be it a tombstone.
    values: BTreeMap<Topic, Arc<Event>>,
    bytes: usize,
    state: State,
    turn: Turn,
    /// For how long nobody has asked.
    quiet: u32,
}

/// Whoever has it fills the view, while others who ask wait for it.
pub(super) type Turn = Arc<tokio::sync::Mutex<()>>;

#[derive(Debug)]
enum State {
    /// It hears what the log tells, and not all of it may be there yet.
    Filling {
        /// Of which attempt.
        number: u64,
        /// Up to which number events of topics were removed since it hears.
        removed: HashMap<Topic, u64>,
    },
    /// All of it is there.
    Whole,
    /// All of it is too much.
    TooLarge,
}

/// What becomes of who asks for current values.
#[derive(Debug)]
pub(super) enum Answer {
    /// This is the page.
    Page(NewestPage),
    /// The log has to be asked.
    Log,
    /// The view is to be filled, by whoever has the turn.
    Fill(Turn),
}

impl Views {
    /// None yet; later at most so many bytes of them.
    pub(super) fn new(max_bytes: usize) -> Self {
        let (views, asked_once) = (Vec::new(), VecDeque::new());
        Self { max_bytes, views, asked_once, next: 0 }
    }

    /// Somebody asks for a page of current values.
    pub(super) fn ask(&mut self, newest: &Newest) -> Answer {
        let Newest { patterns, after, .. } = newest;
        if let Some(view) = self.get(patterns) {
            return view.answer(newest);
        }
        if after.is_some() || self.max_bytes == 0 {
            return Answer::Log;
        }
        let is_asked_again = self.asked_once.iter().any(|(asked, _)| asked == patterns);
        if !is_asked_again {
            self.asked_once.truncate(ASKED_ONCE - 1);
            self.asked_once.push_front((patterns.clone(), 0));
            return Answer::Log;
        }
        if !self.make_room() {
            return Answer::Log;
        }
        self.asked_once.retain(|(asked, _)| asked != patterns);
        let view = View::new(patterns.clone());
        let turn = view.turn.clone();
        self.views.push(view);
        Answer::Fill(turn)
    }

    /// Whether there is a place for one more view, if need be that of one that nobody asks for.
    fn make_room(&mut self) -> bool {
        if self.views.len() < VIEWS {
            return true;
        }
        let quietest = self.views.iter().map(|view| view.quiet).max().unwrap_or(0);
        let at = self.views.iter().position(|view| view.quiet == quietest);
        at.filter(|_| quietest >= IDLE).map(|at| self.views.remove(at)).is_some()
    }

    fn get(&mut self, patterns: &Arc<[Pattern]>) -> Option<&mut View> {
        self.views.iter_mut().find(|view| view.asked == *patterns)
    }

    /// Begins to fill a view, which hears what the log tells from here on; the number of this attempt, unless
    /// it is filled by now.
    pub(super) fn begin(&mut self, patterns: &Arc<[Pattern]>) -> Option<u64> {
        let number = self.next;
        let view = self.get(patterns)?;
        let State::Filling { .. } = view.state else { return None };
        view.empty();
        view.state = State::Filling { number, removed: HashMap::new() };
        self.next += 1;
        Some(number)
    }

    /// Takes a page that the log gave for an attempt; whether it goes on.
    pub(super) fn fill(
        &mut self,
        patterns: &Arc<[Pattern]>,
        number: u64,
        page: NewestPage,
    ) -> bool {
        let Some(view) = self.get(patterns) else { return false };
        let State::Filling { number: current, removed } = &mut view.state else { return false };
        if *current != number {
            return false;
        }
        let removed = std::mem::take(removed);
        for event in page.events {
            let heard = view.values.get(&event.topic).map_or(0, |heard| sequence(heard));
            let gone = removed.get(&event.topic).copied().unwrap_or(0);
            if sequence(&event) > heard.max(gone) {
                view.put(event);
            }
        }
        view.state = match page.next {
            Some(_) => State::Filling { number, removed },
            None => {
                view.bytes -= removed.len() * COST;
                State::Whole
            }
        };
        self.bound();
        self.get(patterns).is_some_and(|view| matches!(view.state, State::Filling { .. }))
    }

    /// An attempt has failed: whoever asks next begins with the log.
    pub(super) fn give_up(&mut self, patterns: &Arc<[Pattern]>, number: u64) {
        let is_of = |view: &View| match view.state {
            State::Filling { number: of, .. } => view.asked == *patterns && of == number,
            State::Whole | State::TooLarge => false,
        };
        self.views.retain(|view| !is_of(view));
    }

    /// Hears events that come next in the log.
    pub(super) fn add(&mut self, events: &[Arc<Event>]) {
        if self.views.is_empty() {
            return;
        }
        for event in events.iter().filter(|event| event.cursor.is_some()) {
            for view in self.views.iter_mut().filter(|view| view.hears(&event.topic)) {
                // What was read from the log may be newer than what it has told.
                if view.values.get(&event.topic).is_none_or(|it| sequence(it) < sequence(event)) {
                    view.put(event.clone());
                }
            }
        }
        self.bound();
    }

    /// Whether a view is of a topic, and has to hear all of it.
    pub(super) fn hear(&self, topic: &Topic) -> bool {
        self.views.iter().any(|view| view.hears(topic))
    }

    /// Whether the view of some patterns is there and whole.
    pub(super) fn have(&self, patterns: &Arc<[Pattern]>) -> bool {
        let is_whole = |view: &View| matches!(view.state, State::Whole) && view.asked == *patterns;
        self.views.iter().any(is_whole)
    }

    /// Hears that events were lost: of such topics up to a place, or of any.
    pub(super) fn lose(&mut self, Loss { position, topics, .. }: &Loss) {
        let Some(topics) = topics else { return self.clear() };
        for LostTopic { topic, .. } in &**topics {
            for view in self.views.iter_mut().filter(|view| view.hears(topic)) {
                view.remove(topic, position.sequence);
            }
        }
        self.bound();
    }

    /// Hears what is kept no longer.
    pub(super) fn remove(&mut self, removals: &[Removal]) {
        for Removal { topic, upto, .. } in removals {
            let Some(topic) = topic else { return self.clear() };
            for view in self.views.iter_mut().filter(|view| view.hears(topic)) {
                view.remove(topic, *upto);
            }
        }
        self.bound();
    }

    /// Nothing is known any more.
    pub(super) fn clear(&mut self) {
        self.views.clear();
    }

    /// A second has passed.
    pub(super) fn pass(&mut self) {
        self.views.iter_mut().for_each(|view| view.quiet += 1);
        self.views.retain(|view| view.quiet < QUIET);
        self.asked_once.iter_mut().for_each(|(_, since)| *since += 1);
        self.asked_once.retain(|(_, since)| *since < QUIET);
    }

    /// What all views take of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.views.iter().map(|view| view.bytes).sum()
    }

    /// Empties the view that was asked for longest ago where all are too much, and of those the largest.
    fn bound(&mut self) {
        while self.bytes() > self.max_bytes {
            let by_use = |view: &&mut View| (view.quiet, view.bytes);
            let full = self.views.iter_mut().filter(|view| view.bytes > 0);
            let Some(view) = full.max_by_key(by_use) else { return };
            view.empty();
            (view.state, view.quiet) = (State::TooLarge, 0);
        }
    }
}

impl View {
    fn new(patterns: Arc<[Pattern]>) -> Self {
        // Of no attempt yet.
        let state = State::Filling { number: u64::MAX, removed: HashMap::new() };
        let (values, turn) = (BTreeMap::new(), Turn::default());
        let (asked, patterns) = (patterns.clone(), Patterns::of(&patterns));
        Self { asked, patterns, values, bytes: 0, state, turn, quiet: 0 }
    }

    fn answer(&mut self, newest: &Newest) -> Answer {
        // What was too large is tried again after a while, however often it is asked for.
        if !matches!(self.state, State::TooLarge) {
            self.quiet = 0;
        }
        match self.state {
            State::Whole => Answer::Page(self.page(newest)),
            // Who has begun with the log goes on there.
            State::Filling { .. } if newest.after.is_none() => Answer::Fill(self.turn.clone()),
            State::Filling { .. } | State::TooLarge => Answer::Log,
        }
    }

    fn hears(&self, topic: &Topic) -> bool {
        !matches!(self.state, State::TooLarge) && self.patterns.have(topic)
    }

    fn put(&mut self, event: Arc<Event>) {
        self.bytes += event.cost() + COST;
        if let Some(before) = self.values.insert(event.topic.clone(), event) {
            self.bytes -= before.cost() + COST;
        }
    }

    fn remove(&mut self, topic: &Topic, upto: u64) {
        if let State::Filling { removed, .. } = &mut self.state {
            let last = removed.entry(topic.clone()).or_insert_with(|| {
                self.bytes += COST;
                0
            });
            *last = (*last).max(upto);
        }
        if self.values.get(topic).is_some_and(|value| sequence(value) <= upto)
            && let Some(gone) = self.values.remove(topic)
        {
            self.bytes -= gone.cost() + COST;
        }
    }

    fn empty(&mut self) {
        (self.values, self.bytes) = (BTreeMap::new(), 0);
    }

    fn page(&self, newest: &Newest) -> NewestPage {
        let Newest { after, max_events, max_bytes, .. } = newest;
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut events, mut bytes) = (Vec::new(), 0);
        let mut values = self.values.range::<Topic, _>((from, Bound::Unbounded)).peekable();
        while let Some((topic, value)) = values.next() {
            if newest.wants(value) {
                bytes += value.cost();
                events.push(value.clone());
            }
            let is_full = events.len() >= *max_events || bytes >= *max_bytes;
            if is_full && values.peek().is_some() {
                return NewestPage { events, gap: false, next: Some(topic.clone()) };
            }
        }
        NewestPage { events, gap: false, next: None }
    }
}

fn sequence(event: &Event) -> u64 {
    event.cursor.map_or(0, |cursor| cursor.sequence)
}

#[cfg(test)]
mod tests;
