//! How events come into the log: as soon as there is room, and counted by what became of them.

use std::time::Duration;

use super::BrokerHandle;
use crate::clock::{Instant, within};
use crate::history::{Append, AppendError, Feed, Receipt};
use crate::metrics::{Fate, Way};
use crate::model::{Code, NewEvent, NotLatest, Problem, Topic};
use crate::traces::{Outcome, Publishing};

/// How long a publisher waits for workers that are behind before it is refused.
const MAX_WAIT: Duration = Duration::from_millis(800);

/// How long a publisher waits for a refusal with all that belongs to it.
const MAX_REFUSAL: Duration = Duration::from_millis(900);

/// How long at least it is looked for what belongs to it.
const LEAST_LOOK: Duration = Duration::from_millis(100);

/// How often a waiting publisher looks again.
const WAIT_STEP: Duration = Duration::from_millis(5);

impl BrokerHandle {
    /// Stores events, which came a way, whole or not at all; they reach subscribers through the feed. Waits a moment
    /// where workers are behind, then refuses. Whether it may be done is asked of `allowed` after the
    /// wait, at the last moment before it is.
    pub async fn publish(
        &self,
        mut append: Append,
        way: Way,
        allowed: impl FnOnce(&Append) -> Result<(), Problem>,
    ) -> Result<Receipt, Problem> {
        let mut traced = self.shared.router.traces().begin(way, &mut append.events);
        let outcome = self.store(append, way, allowed, &mut traced).await;
        traced.ended(|| traced_as(&outcome));
        outcome
    }

    async fn store(
        &self,
        append: Append,
        way: Way,
        allowed: impl FnOnce(&Append) -> Result<(), Problem>,
        traced: &mut Publishing,
    ) -> Result<Receipt, Problem> {
        self.wait_for_room().await?;
        allowed(&append)?;
        // What has terms is refused by name.
        let has_terms = append.events.iter().any(|event| event.terms.is_some());
        let topics = match has_terms {
            true => append.events.iter().map(|event| event.topic.clone()).collect(),
            false => Vec::new(),
        };
        // What ends values is nobody's publish.
        let ends =
            |event: &NewEvent| event.terms.as_ref().is_some_and(|it| it.unless_after.is_some());
        let is_published = !append.events.iter().any(ends);
        let metrics = &self.shared.metrics;
        let (count, bytes) = (append.events.len() as u64, append.events.iter().map(NewEvent::cost));
        let (bytes, begun) = (bytes.sum::<usize>() as u64, Instant::now());
        traced.commits();
        let receipt = self.shared.history.append(append).await;
        traced.committed();
        metrics.road.commit.observe(begun.elapsed());
        let receipt = receipt.map_err(|error| {
            metrics.road.published(way, fate(&error), count);
            refused(error, &topics)
        })?;
        self.count(way, &receipt, is_published, bytes);
        Ok(receipt)
    }

    fn count(&self, way: Way, receipt: &Receipt, is_published: bool, bytes: u64) {
        let metrics = &self.shared.metrics;
        if receipt.repeated {
            return metrics.road.published(way, Fate::Repeated, receipt.events.len() as u64);
        }
        metrics.road.published_bytes.add(bytes);
        let superseded = receipt.events.iter().filter(|event| event.superseded.is_some()).count();
        let stored = (receipt.events.len() - superseded) as u64;
        metrics.events_published.inc_by(stored);
        metrics.road.published(way, Fate::Stored, stored);
        if superseded == 0 || !is_published {
            return;
        }
        metrics.road.published(way, Fate::Superseded, superseded as u64);
        for event in &receipt.events {
            if let Some(by) = event.superseded {
                metrics.superseded.note(&event.topic, by.version);
            }
        }
    }

    /// The same for a client: a refusal for what the newest event of a topic is comes with that event, where the client
    /// may read it and there is time for that.
    pub async fn publish_for(
        &self,
        append: Append,
        way: Way,
        allowed: impl FnOnce(&Append) -> Result<(), Problem>,
        may_read: impl Fn(&Topic) -> bool,
    ) -> Result<Receipt, Problem> {
        let begun = self.now();
        match self.publish(append, way, allowed).await {
            Ok(receipt) => Ok(receipt),
            Err(problem) => {
                let left = MAX_REFUSAL.saturating_sub(self.now().saturating_duration_since(begun));
                Err(self.explained(problem, left.max(LEAST_LOOK), may_read).await)
            }
        }
    }

    async fn explained(
        &self,
        mut problem: Problem,
        time: Duration,
        may_read: impl Fn(&Topic) -> bool,
    ) -> Problem {
        if let Some(found) = &mut problem.not_latest
            && let Ok(Ok(summary)) =
                within(time, self.shared.history.topic(found.topic.clone())).await
            && may_read(&found.topic)
        {
            found.event = summary.latest;
        }
        problem
    }

    async fn wait_for_room(&self) -> Result<(), Problem> {
        let give_up = self.now() + MAX_WAIT;
        while self.shared.router.is_full() {
            if self.now() >= give_up {
                return Err(Problem::new(
                    Code::Unavailable,
                    "delivery is behind (limits.inbox_events); try again",
                ));
            }
            tokio::time::sleep(WAIT_STEP).await;
        }
        Ok(())
    }
}

/// What the span of a publish says of its end.
fn traced_as(outcome: &Result<Receipt, Problem>) -> Outcome {
    match outcome {
        Err(problem) => Outcome::Failed(problem.code.as_str()),
        Ok(receipt) if receipt.repeated => Outcome::Repeated,
        Ok(Receipt { events, .. }) if events.iter().all(|event| event.superseded.is_some()) => {
            Outcome::Superseded
        }
        Ok(receipt) => Outcome::Stored(match &receipt.events[..] {
            [event] => event.cursor,
            _ => None,
        }),
    }
}

/// What became of events that were not stored.
fn fate(error: &AppendError) -> Fate {
    match error {
        AppendError::Mismatch => Fate::Mismatch,
        AppendError::InProgress => Fate::InProgress,
        AppendError::TooManyKeys | AppendError::TooManyBound { .. } => Fate::TooMany,
        AppendError::NotLatest { .. } => Fate::NotLatest,
        AppendError::StorageFull => Fate::StorageFull,
        AppendError::Unavailable(_) => Fate::Unavailable,
        AppendError::OutcomeUnknown(_) => Fate::OutcomeUnknown,
    }
}

/// Why events of these topics were not stored.
fn refused(error: AppendError, topics: &[Topic]) -> Problem {
    let code = match error {
        AppendError::Mismatch => Code::IdempotencyMismatch,
        AppendError::InProgress => Code::InProgress,
        AppendError::TooManyKeys | AppendError::TooManyBound { .. } => Code::TooMany,
        AppendError::NotLatest { .. } => Code::NotLatest,
        AppendError::StorageFull => Code::StorageFull,
        AppendError::Unavailable(_) => Code::Unavailable,
        AppendError::OutcomeUnknown(_) => Code::OutcomeUnknown,
    };
    let not_latest = match error {
        AppendError::NotLatest { index } => topics.get(index).cloned(),
        _ => None,
    };
    let not_latest = not_latest.map(|topic| Box::new(NotLatest { topic, event: None }));
    let index = match error {
        AppendError::NotLatest { index } if topics.len() > 1 => format!("events[{index}]: "),
        _ => String::new(),
    };
    Problem { not_latest, ..Problem::new(code, format!("{index}{error}")) }
}
