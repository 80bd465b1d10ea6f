//! How webhooks fare: each by its name, which the configuration fixes.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use prometheus_client::registry::{Registry, Unit};

use super::sum::Sum;
use super::table::{Level, Table};
use crate::panics::lock;

const OUTCOMES: [&str; 2] = ["taken", "failed"];

/// The webhooks of one node.
#[derive(Debug, Default)]
pub struct Webhooks(Vec<Arc<WebhookNumbers>>);

/// How one webhook fares.
#[derive(Debug)]
pub struct WebhookNumbers {
    name: String,
    posts: [Sum; 2],
    lag: Level,
    state: Mutex<WebhookState>,
}

/// How one webhook stands.
#[derive(Debug, Clone, Default)]
pub struct WebhookState {
    /// Whether it is this node that posts.
    pub has_turn: bool,
    /// When the oldest notice came that waits, in milliseconds since 1970.
    pub waits_since: Option<i64>,
    /// What became of the last post, with why it failed, and when that was.
    pub last: Option<(Result<(), String>, Instant)>,
    /// Since when a post waits for its answer.
    pub posts_since: Option<Instant>,
}

impl Webhooks {
    /// Those of these names.
    pub fn named(names: impl IntoIterator<Item = String>) -> Self {
        let numbers = |name| {
            let posts = [Sum::default(), Sum::default()];
            let (lag, state) = (Level::default(), Mutex::default());
            Arc::new(WebhookNumbers { name, posts, lag, state })
        };
        Self(names.into_iter().map(numbers).collect())
    }

    pub(super) fn register(&self, to: &mut Registry) {
        let named = |hook: &WebhookNumbers| ("webhook", hook.name.clone());
        let posts = self.all().flat_map(|hook| {
            let outcomes = OUTCOMES.iter().zip(&hook.posts);
            outcomes.map(|(outcome, posts)| {
                (vec![named(hook), ("outcome", (*outcome).to_owned())], posts.clone())
            })
        });
        let help = "Posts of webhooks, by webhook and outcome";
        to.register("webhook_posts", help, Table::of(posts));
        let help = "How old the oldest notice is that a webhook has not posted yet";
        let lags = self.all().map(|hook| (vec![named(hook)], hook.lag.clone()));
        to.register_with_unit("webhook_lag", help, Unit::Seconds, Table::of(lags));
    }

    /// The one of a name.
    pub fn get(&self, name: &str) -> Option<Arc<WebhookNumbers>> {
        self.0.iter().find(|hook| hook.name == name).cloned()
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &WebhookNumbers> {
        self.0.iter().map(|hook| &**hook)
    }
}

impl WebhookNumbers {
    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How old the oldest notice is that it has not posted yet, as of now.
    pub fn lags(&self, seconds: f64) {
        self.lag.set(seconds);
    }

    /// How it stands.
    pub fn state(&self) -> WebhookState {
        lock(&self.state).clone()
    }

    /// It is this node's turn, or not.
    pub fn turn(&self, has_turn: bool) {
        let mut state = lock(&self.state);
        state.has_turn = has_turn;
        if !has_turn {
            (state.waits_since, state.posts_since) = (None, None);
        }
    }

    /// The oldest notice that waits came then; none does.
    pub fn waits(&self, since: Option<i64>) {
        lock(&self.state).waits_since = since;
    }

    /// It posts, and waits for the answer.
    pub fn posts(&self) {
        lock(&self.state).posts_since = Some(Instant::now());
    }

    /// It posted.
    pub fn posted(&self, outcome: Result<(), String>) {
        self.posts[usize::from(outcome.is_err())].inc();
        let mut state = lock(&self.state);
        state.last = Some((outcome, Instant::now()));
        state.posts_since = None;
    }
}
