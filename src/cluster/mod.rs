//! The other nodes: how what is asked of all sessions reaches theirs.
//!
//! A question goes out over the log's own connections, to whoever has a lease, and again and again until each
//! has answered or the time is over: a node that has just come back may have missed it. Who hears it again
//! gives the answer it gave before. Redis carries the letters and keeps none.

mod answered;
mod news;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant as Moment};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use self::answered::{Answered, Known};
use self::news::News;
use crate::broker::{Answer, Answers, BrokerHandle, Question, Relay};
use crate::history::redis::{Letter, LetterKind, Nodes};
use crate::model::{Code, Event, LogName, Problem};
use crate::panics::lock;

/// How long nodes may take to answer.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// How long until those who did not answer are asked again.
const AGAIN: Duration = Duration::from_millis(400);

/// How long an answer is remembered from when its question was heard: longer than anybody asks again.
const ANSWER_LIFE: Duration = PATIENCE.saturating_mul(2);

/// How many answers are remembered.
const ANSWERS: usize = 16_384;

/// The relay over the Redis of the log.
pub struct RedisRelay {
    nodes: Nodes,
    answered: Mutex<Answered>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, UnboundedSender<(LogName, Answer)>>>,
}

/// What travels: which question, and what it asks or what is answered.
#[derive(Serialize, Deserialize)]
struct Numbered<T> {
    number: u64,
    what: T,
    /// Whose sessions a question is about: those of the log in this database. An earlier release does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    database: Option<i64>,
}

impl RedisRelay {
    /// A relay between the nodes of a log.
    pub fn new(nodes: Nodes) -> Arc<Self> {
        let answered = Mutex::new(Answered::new(ANSWER_LIFE, ANSWERS));
        Arc::new(Self { nodes, answered, next: AtomicU64::new(0), waiting: Mutex::default() })
    }

    /// What the others know this node by.
    pub fn name(&self) -> String {
        self.nodes.me().to_string()
    }

    /// Answers what other nodes ask, for good, and takes their answers.
    pub async fn run(self: Arc<Self>, broker: BrokerHandle) {
        while let Some(Letter { from, kind, body }) = self.nodes.next().await {
            match kind {
                LetterKind::Answer => self.take(from, &body),
                LetterKind::News => self.hear(&broker, from, &body),
                LetterKind::Question => {
                    let (relay, broker) = (self.clone(), broker.clone());
                    tokio::spawn(async move { relay.answer(&broker, from, &body).await });
                }
            }
        }
    }

    fn take(&self, from: LogName, body: &[u8]) {
        let Ok(Numbered { number, what, .. }) = serde_json::from_slice(body) else {
            return debug!(%from, "an answer that is not one");
        };
        if let Some(waiting) = lock(&self.waiting).get(&number) {
            // Whoever asked may have stopped waiting.
            _ = waiting.send((from, what));
        }
    }

    /// Delivers how another node of this log is.
    fn hear(&self, broker: &BrokerHandle, from: LogName, body: &[u8]) {
        match News::read(body) {
            Some(news) if news.is_of(self.nodes.database()) => match news.into_event() {
                Some(event) => broker.say(&from.to_string(), event),
                None => debug!(%from, "news that are none"),
            },
            Some(_) => debug!(%from, "news of a node of another database"),
            None => debug!(%from, "news that are none"),
        }
    }

    /// Answers a question: as before where it was heard before, else as this node's sessions do.
    async fn answer(&self, broker: &BrokerHandle, from: LogName, body: &[u8]) {
        let Ok(Numbered { number, what, database }) =
            serde_json::from_slice::<Numbered<Question>>(body)
        else {
            return debug!(%from, "a question that is not one");
        };
        if database.is_some_and(|database| database != self.nodes.database()) {
            return debug!(%from, "a question to nodes of another database");
        }
        let is_remembered = changes_something(&what);
        let known = match is_remembered {
            true => lock(&self.answered).hear(from, number, Moment::now()),
            false => Known::New,
        };
        let body = match known {
            Known::Answered(body) => body,
            // Its answer will be heard where this one would.
            Known::UnderWay => return,
            Known::New => {
                let what = broker.answer(what).await;
                let Ok(body) = serde_json::to_vec(&Numbered { number, what, database: None })
                else {
                    return;
                };
                let body: Arc<[u8]> = body.into();
                if is_remembered {
                    lock(&self.answered).note(from, number, body.clone());
                }
                body
            }
        };
        // Where it is lost, it is asked again.
        _ = self.nodes.answer(from, &body).await;
    }

    /// Asks until every node that is there has answered, or the time is over.
    async fn gather(
        &self,
        question: &[u8],
        mut answered: UnboundedReceiver<(LogName, Answer)>,
    ) -> Result<Answers, Problem> {
        let (mut silent, mut answers) = (self.nodes.others(), Vec::new());
        let give_up = Instant::now() + PATIENCE;
        let mut is_asked = false;
        while !silent.is_empty() && Instant::now() < give_up {
            // What was answered holds, and may yet be, where asking again fails.
            self.nodes.ask(question).await.or_else(|problem| match is_asked {
                true => Ok(()),
                false => Err(problem),
            })?;
            is_asked = true;
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
        lock(&self.relay.waiting).remove(&self.number);
    }
}

/// Whether a question does more than ask, so that it must not be answered twice.
fn changes_something(question: &Question) -> bool {
    match question {
        Question::EndSession(_)
        | Question::EndUser(_)
        | Question::EndRevoked(_)
        | Question::Command(_)
        | Question::Overhear(_)
        | Question::Redeem(_) => true,
        Question::Count(_)
        | Question::Topics(_)
        | Question::Members(..)
        | Question::CountUsers(..)
        | Question::Present(..)
        | Question::Rooms(..)
        | Question::Sessions(..)
        | Question::RankedSessions(..) => false,
    }
}

impl Relay for RedisRelay {
    fn ask(&self, what: Question) -> BoxFuture<'_, Result<Answers, Problem>> {
        Box::pin(async move {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let database = Some(self.nodes.database());
            let question = serde_json::to_vec(&Numbered { number, what, database })
                .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
            let (sender, answered) = unbounded_channel();
            lock(&self.waiting).insert(number, sender);
            let _asked = Asked { relay: self, number };
            self.gather(&question, answered).await
        })
    }

    fn has_turn(&self, name: &str) -> BoxFuture<'_, bool> {
        Box::pin(self.nodes.has_turn(name.to_owned()))
    }

    fn say(&self, event: Event) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(body) = News::of(&event, self.nodes.database()).write() {
                // The next one comes in a second.
                _ = timeout_at(Instant::now() + PATIENCE, self.nodes.tell(&body)).await;
            }
        })
    }

    fn others(&self) -> Vec<String> {
        self.nodes.others().iter().map(LogName::to_string).collect()
    }
}
