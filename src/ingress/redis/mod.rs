//! Events out of an application's own Redis: its channels and streams become topics.
//!
//! One node at a time reads each source, so that its order stays. What can't be an event is passed by with a
//! warning a minute; while the log can't take events, a stream waits, and of a channel so much as there is room for.

mod channel;
mod stream;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{AsyncConnectionConfig, RedisResult};
use tokio::time::sleep;
use tracing::{info, warn};

use super::body_format::BodyFormat;
use crate::auth::Publisher;
use crate::broker::BrokerHandle;
use crate::config::{Hidden, Limits, RedisSource, Tap};
use crate::history::redis::{Away, Connection, Locator, Turn};
use crate::history::{Append, Asked, IdempotencyKey, Series};
use crate::metrics::{Way, Why};
use crate::model::{Code, LogName, NewEvent, Problem, PublishKey};

/// How long until the next attempt, and how often it is looked whose turn it is.
const RETRY: Duration = Duration::from_secs(1);

/// How long Redis may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// How many events go to the log together.
const TOGETHER: usize = 100;

/// A channel or stream that is read.
pub struct Source {
    from: RedisSource,
    locator: Locator,
    turn: Turn,
    /// What is known by nothing else.
    series: Series,
    /// Whose the keys are that entries give.
    publisher: Publisher,
    broker: BrokerHandle,
    limits: Arc<Limits>,
}

/// By what a publish is known.
enum KnownBy {
    /// A key that an entry gives: another event under it is refused.
    Key(PublishKey),
    /// Where it was read: another stream of that name may have had something there.
    Position(IdempotencyKey),
    /// Nothing but its turn.
    Turn,
}

impl Source {
    /// Source `index` of these, whose events go to `broker`.
    pub fn new(
        sources: &[RedisSource],
        index: usize,
        broker: BrokerHandle,
        limits: Arc<Limits>,
    ) -> RedisResult<Self> {
        let from = &sources[index];
        let name = from.tap.name();
        // In the slot of what is read, so that one server of a cluster has both.
        let slot = if name.contains('{') { name.to_owned() } else { format!("{{{name}}}") };
        // What several sources read has a turn for each.
        let key = match sources[..index].iter().filter(|other| other.tap.name() == name).count() {
            0 => format!("{slot}:fanfare"),
            before => format!("{slot}:fanfare:{before}"),
        };
        let turn = Turn::new(key, LogName::random().to_string());
        let (locator, from, series) = (Locator::new(&from.redis)?, from.clone(), Series::new());
        let api_key = from.keys.as_ref().and_then(|keys| keys.api_key.as_ref());
        let publisher = Publisher::with_credential(api_key.map(|Hidden(key)| key.as_str()));
        Ok(Self { locator, from, turn, series, publisher, broker, limits })
    }

    /// Reads for good.
    pub async fn run(mut self) {
        let tap = self.from.tap.clone();
        let name = tap.name();
        let mut last = None;
        loop {
            let read = match &tap {
                Tap::Channel(name) => self.hear(name).await,
                Tap::Stream { name, group, field } => {
                    self.follow(name, group, field.as_deref()).await
                }
            };
            match read {
                Ok(()) => info!(name, "another node reads this source now"),
                Err(reason) if last.as_ref() == Some(&reason) => {}
                Err(reason) => {
                    warn!(name, %reason, "a source can't be read");
                    last = Some(reason);
                }
            }
            sleep(RETRY).await;
        }
    }

    /// Connects; from then on each answer may take `patience`.
    async fn connect(
        &self,
        config: AsyncConnectionConfig,
        patience: Duration,
    ) -> Result<Connection, Away> {
        let client = self.locator.find(self.from.tap.name()).await?;
        let mut connection = Connection::open(&client, config, ANSWER, patience).await?;
        self.turn.ask(&mut connection).await?;
        Ok(connection)
    }

    /// Waits until it is this node's turn.
    async fn wait_for_turn(&self, connection: &mut Connection) -> Result<(), Away> {
        while !self.turn.take(connection).await? {
            sleep(RETRY).await;
        }
        Ok(())
    }

    /// The event that data from a channel or stream is; none where it can't be one, which is told with its place.
    fn event(&self, name: &str, place: &dyn fmt::Display, data: &[u8]) -> Option<NewEvent> {
        let parsed = match std::str::from_utf8(data) {
            Ok(_) => BodyFormat::Guess.data(data, &self.limits),
            Err(_) => BodyFormat::Binary.data(data, &self.limits),
        };
        let topic = self.from.topic_of(name).map_err(Problem::from);
        match (topic, parsed) {
            (Ok(topic), Ok((data, _))) if !topic.is_reserved() => {
                Some(NewEvent::new(topic, self.from.kind.clone(), data))
            }
            (topic, parsed) => {
                let problem = topic.err().or(parsed.err());
                let why = match problem.as_ref().map(|problem| problem.code) {
                    None | Some(Code::InvalidTopic) => Why::InvalidTopic,
                    Some(Code::TooLarge) => Why::TooLarge,
                    Some(_) => Why::InvalidEvent,
                };
                let detail = problem.map(|problem| problem.detail);
                let detail = detail.unwrap_or_else(|| "its topic is the broker's own".to_owned());
                self.broker.passed_by().note(why, 1, || format!("{place}: {detail}"));
                None
            }
        }
    }

    /// Under what name what is read gives its idempotency key, if it gives any.
    fn key_name(&self) -> Option<&str> {
        self.from.keys.as_ref().map(|keys| keys.name.as_str())
    }

    /// The key that an entry gives; none where it can't be one, and then it is passed by.
    fn own_key(&self, name: &str, key: &str) -> Option<PublishKey> {
        let parsed = PublishKey::parse(key).inspect_err(|error| {
            self.broker.passed_by().note(Why::InvalidKey, 1, || format!("{name}: {error}"));
        });
        parsed.ok()
    }

    /// Publishes until the log has it, once; false once it is another node's turn.
    async fn publish(
        &mut self,
        connection: &mut Connection,
        events: Vec<NewEvent>,
        known: KnownBy,
    ) -> Result<bool, Away> {
        let is_by_itself = matches!(known, KnownBy::Key(_));
        let key = match known {
            KnownBy::Key(key) => {
                let (scope, asked) =
                    (self.publisher.clone().scope(&key), Asked::of_events(&events));
                IdempotencyKey { scope, asked, is_in_series: false }
            }
            KnownBy::Position(key) => key,
            KnownBy::Turn => self.series.next_key(),
        };
        let mut append = Append { events, key: Some(key) };
        while !append.events.is_empty() {
            let Err(problem) = self.broker.publish(append.clone(), Way::Redis, |_| Ok(())).await
            else {
                break;
            };
            match problem.code {
                // Another stream of that name had a batch there.
                Code::IdempotencyMismatch if !is_by_itself => {
                    append.key = Some(self.series.next_key());
                }
                Code::InProgress
                | Code::Unavailable
                | Code::OutcomeUnknown
                | Code::StorageFull
                | Code::TooMany => {
                    sleep(RETRY).await;
                }
                code => {
                    let (number, name) = (append.events.len() as u64, self.from.tap.name());
                    let refused = || format!("{name}: {}: {}", code.as_str(), problem.detail);
                    self.broker.passed_by().note(Why::Refused, number, refused);
                    break;
                }
            }
            if !self.turn.take(connection).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
