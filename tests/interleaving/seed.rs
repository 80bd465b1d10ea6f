//! What a run is made of: one number. All that is random is drawn from it, in an order that is the
//! same each time, and every step leaves a line, so that two runs can be compared.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

/// How many of the last steps a failure shows.
const LAST: usize = 60;

/// A source of decisions. Each part of a run has one of its own, drawn from the run's.
#[derive(Debug)]
pub struct Dice(StdRng);

impl Dice {
    /// The decisions that follow from a number.
    pub fn of(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end.max(1))
    }

    /// Whether something happens that happens so many times of a hundred.
    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// A time up to `most` milliseconds; often none.
    pub fn wait(&mut self, most: usize) -> Duration {
        let millis = if self.percent(40) { 0 } else { self.below(most + 1) };
        Duration::from_millis(millis as u64)
    }

    /// The dice of another part.
    pub fn part(&mut self) -> Self {
        Self(StdRng::seed_from_u64(self.0.random()))
    }

    /// Waits for up to `most` milliseconds and lets others go first a few times.
    pub async fn pause(&mut self, most: usize) {
        let (wait, turns) = (self.wait(most), self.below(4));
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
}

/// What happened, step by step.
#[derive(Debug)]
pub struct Trace {
    start: Instant,
    shows_all: bool,
    hash: RefCell<DefaultHasher>,
    steps: Cell<usize>,
    last: RefCell<VecDeque<String>>,
}

impl Trace {
    /// Begins now; with `shows_all`, each step is printed as it happens.
    pub fn new(shows_all: bool) -> Self {
        Self {
            start: Instant::now(),
            shows_all,
            hash: RefCell::default(),
            steps: Cell::new(0),
            last: RefCell::default(),
        }
    }

    /// Notes a step. What is different each time, as the ids of sessions, has no place in it.
    pub fn step(&self, who: impl fmt::Display, what: impl fmt::Display) {
        let line = format!("{:>8.3} {who}: {what}", self.start.elapsed().as_secs_f64());
        if self.shows_all {
            println!("{line}");
        }
        line.hash(&mut *self.hash.borrow_mut());
        self.steps.set(self.steps.get() + 1);
        let mut last = self.last.borrow_mut();
        if last.len() == LAST {
            last.pop_front();
        }
        last.push_back(line);
    }

    /// How many steps there were, and what they are known by.
    pub fn digest(&self) -> (usize, u64) {
        (self.steps.get(), self.hash.borrow().finish())
    }

    /// The last steps, a line each.
    pub fn tail(&self) -> String {
        Vec::from(self.last.borrow().clone()).join("\n")
    }
}

/// A future that lets others go first now and then, and may be dropped at any of its awaits.
pub struct Shaken<F> {
    inner: Option<Pin<Box<F>>>,
    dice: Dice,
    /// How often it is polled before it is dropped.
    polls: Option<usize>,
}

impl<F: Future<Output = ()>> Shaken<F> {
    /// Shakes a future; it is dropped after so many polls, if any are given.
    pub fn new(inner: F, dice: Dice, polls: Option<usize>) -> Self {
        Self { inner: Some(Box::pin(inner)), dice, polls }
    }
}

impl<F: Future<Output = ()>> Future for Shaken<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.dice.percent(20) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(polls) = &mut self.polls {
            if *polls == 0 {
                self.inner = None;
                return Poll::Ready(());
            }
            *polls -= 1;
        }
        match &mut self.inner {
            Some(inner) => inner.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}
