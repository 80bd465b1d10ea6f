//! The other nodes: how what is asked of all sessions reaches theirs.
//!
//! A question goes out over the log's own connections, to whoever has a lease, and again and again until each
//! has answered or the time is over: a node that has just come back may have missed it. Redis carries the
//! letters and keeps none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::broker::{Answer, Answers, BrokerHandle, Question, Relay};
use crate::history::redis::{Letter, Nodes};
use crate::model::{Code, LogName, Problem};

/// How long nodes may take to answer.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// How long until those who did not answer are asked again.
const AGAIN: Duration = Duration::from_millis(400);

/// The relay over the Redis of the log.
pub struct RedisRelay {
    nodes: Nodes,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, UnboundedSender<(LogName, Answer)>>>,
}

/// What travels: which question, and what it asks or what is answered.
#[derive(Serialize, Deserialize)]
struct Numbered<T> {
    number: u64,
    what: T,
}

impl RedisRelay {
    /// A relay between the nodes of a log.
    pub fn new(nodes: Nodes) -> Arc<Self> {
        Arc::new(Self { nodes, next: AtomicU64::new(0), waiting: Mutex::default() })
    }

    /// Answers what other nodes ask, for good, and takes their answers.
    pub async fn run(self: Arc<Self>, broker: BrokerHandle) {
        while let Some(Letter { from, is_answer, body }) = self.nodes.next().await {
            if is_answer {
                self.take(from, &body);
                continue;
            }
            let (nodes, broker) = (self.nodes.clone(), broker.clone());
            tokio::spawn(async move { answer(&nodes, &broker, from, &body).await });
        }
    }

    fn take(&self, from: LogName, body: &[u8]) {
        let Ok(Numbered { number, what }) = serde_json::from_slice(body) else {
            return debug!(%from, "an answer that is not one");
        };
        if let Some(waiting) = self.lock().get(&number) {
            // Whoever asked may have stopped waiting.
            _ = waiting.send((from, what));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, UnboundedSender<(LogName, Answer)>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks until every node that is there has answered, or the time is over.
    async fn gather(
        &self,
        question: &[u8],
        mut answered: UnboundedReceiver<(LogName, Answer)>,
    ) -> Result<Answers, Problem> {
        let (mut silent, mut answers) = (self.nodes.others(), Vec::new());
        let give_up = Instant::now() + PATIENCE;
        while !silent.is_empty() && Instant::now() < give_up {
            self.nodes.ask(question).await?;
            let again = give_up.min(Instant::now() + AGAIN);
            while !silent.is_empty()
                && let Ok(Some((from, answer))) = timeout_at(again, answered.recv()).await
            {
                if let Some(at) = silent.iter().position(|node| *node == from) {
                    silent.swap_remove(at);
                    answers.push(answer);
                }
            }
        }
        // Who said good-bye meanwhile has nothing to say.
        let there = self.nodes.others();
        silent.retain(|node| there.contains(node));
        Ok(Answers { answers, silent: silent.len() })
    }
}

/// A question that somebody waits for; forgotten when nobody does any more.
struct Asked<'a> {
    relay: &'a RedisRelay,
    number: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.relay.lock().remove(&self.number);
    }
}

/// Lets this node's sessions answer.
async fn answer(nodes: &Nodes, broker: &BrokerHandle, from: LogName, body: &[u8]) {
    let Ok(Numbered { number, what }) = serde_json::from_slice::<Numbered<Question>>(body) else {
        return debug!(%from, "a question that is not one");
    };
    let what = broker.answer(what).await;
    if let Ok(body) = serde_json::to_vec(&Numbered { number, what }) {
        // Where it is lost, it is asked again.
        _ = nodes.answer(from, &body).await;
    }
}

impl Relay for RedisRelay {
    fn ask(&self, what: Question) -> BoxFuture<'_, Result<Answers, Problem>> {
        Box::pin(async move {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let question = serde_json::to_vec(&Numbered { number, what })
                .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
            let (sender, answered) = unbounded_channel();
            self.lock().insert(number, sender);
            let _asked = Asked { relay: self, number };
            self.gather(&question, answered).await
        })
    }

    fn is_first(&self) -> bool {
        self.nodes.is_first()
    }
}
