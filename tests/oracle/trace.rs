//! What was done, step by step: what follows from the seed, and not what came of it, so that two runs can
//! be compared.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// How many of the last steps a failure shows.
const LAST: usize = 60;

/// The steps of one life.
pub struct Trace {
    shows_all: bool,
    hash: DefaultHasher,
    steps: usize,
    last: VecDeque<String>,
}

impl Trace {
    /// Begins; with `shows_all`, each step is printed as it is done.
    pub fn new(shows_all: bool) -> Self {
        Self { shows_all, hash: DefaultHasher::new(), steps: 0, last: VecDeque::new() }
    }

    /// Notes a step.
    pub fn step(&mut self, what: impl Into<String>) {
        let line = format!("{:>4} {}", self.steps, what.into());
        line.hash(&mut self.hash);
        self.steps += 1;
        self.show(line);
    }

    /// Notes what came of it, which is no part of what runs are compared by.
    pub fn note(&mut self, what: impl std::fmt::Display) {
        self.show(format!("       {what}"));
    }

    fn show(&mut self, line: String) {
        if self.shows_all {
            println!("{line}");
        }
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// How many steps there were, and what they are known by.
    pub fn digest(&self) -> (usize, u64) {
        (self.steps, self.hash.finish())
    }

    /// The last steps, a line each.
    pub fn tail(&self) -> String {
        Vec::from(self.last.clone()).join("\n")
    }
}
