//! Webhooks: notices, posted to an application.
//!
//! A webhook reads the notices in the log from where it was, posts them, and notes how far it got, in the
//! log too: so each is posted at least once, in order, by one node at a time. Signed as the Standard
//! Webhooks specification says (version 1.0.0), for which most languages have a library.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use awc::Client;
use aws_lc_rs::hmac;
use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::{SESSIONS, TOPICS};
use crate::broker::BrokerHandle;
use crate::config;
use crate::history::{Append, Page, Read};
use crate::metrics::{Way, WebhookNumbers};
use crate::model::{Cursor, Data, Event, NewEvent, NoticeKind, Pattern, Problem, Topic};
use crate::trust;

/// How often a webhook looks for more.
const LOOK: Duration = Duration::from_millis(500);

/// How often the turn to post is kept while something takes its time.
const TURN: Duration = Duration::from_secs(1);

/// Notices that are posted together.
const TOGETHER: usize = 100;

/// How long the application may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long until the first repeat; twice as long before each further one.
const FIRST_REPEAT: Duration = Duration::from_secs(1);

/// The longest time between repeats.
const LAST_REPEAT: Duration = Duration::from_secs(300);

/// Posts notices to one application.
pub struct Webhook {
    hook: config::Webhook,
    broker: BrokerHandle,
    patterns: Arc<[Pattern]>,
    offset_topic: Topic,
    turn: String,
    /// How it fares.
    numbers: Option<Arc<WebhookNumbers>>,
}

/// How far it got.
#[derive(Serialize, Deserialize)]
struct Offset {
    cursor: String,
}

/// A notice as it is posted.
#[derive(Serialize)]
struct Posted<'a> {
    id: Option<String>,
    topic: &'a str,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    time: String,
    data: &'a RawValue,
}

/// What is posted, and what makes it this and no other.
struct Posting {
    id: String,
    body: String,
}

impl Webhook {
    /// A webhook that has not looked yet.
    pub fn new(hook: config::Webhook, broker: BrokerHandle) -> Result<Self, Problem> {
        let patterns = [SESSIONS, TOPICS, Pattern::PRESENCE].map(Pattern::parse);
        let patterns: Vec<_> = patterns.into_iter().collect::<Result<_, _>>()?;
        let offset_topic = Topic::offset_of_webhook(&hook.name)?;
        let turn = format!("webhook:{}", hook.name);
        let numbers = broker.webhook(&hook.name);
        Ok(Self { hook, broker, patterns: patterns.into(), offset_topic, turn, numbers })
    }

    /// Posts what is noticed, for good.
    pub async fn run(self) {
        let client = match trust::client(PATIENCE, []) {
            Ok(client) => client,
            Err(error) => return error!(webhook = self.hook.name, "nothing is posted: {error}"),
        };
        loop {
            if self.has_turn().await
                && let Err(problem) = self.post_all(&client).await
            {
                debug!(webhook = self.hook.name, %problem, "the notices can't be read");
            }
            sleep(LOOK).await;
        }
    }

    /// Whether it is this node that posts. Only those have a turn that know this webhook.
    async fn has_turn(&self) -> bool {
        let has_turn = self.broker.has_turn(&self.turn).await;
        self.note_of(|numbers| numbers.turn(has_turn));
        has_turn
    }

    /// What `work` comes to, unless it is another node's turn before.
    async fn in_turn<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = sleep(TURN) => if !self.has_turn().await {
                    info!(webhook = self.hook.name, "another node posts from here on");
                    return None;
                },
            }
        }
    }

    /// Posts until it is another node's turn.
    async fn post_all(&self, client: &Client) -> Result<(), Problem> {
        let mut after = self.begin().await?;
        while self.has_turn().await {
            let page = self.read(after).await?;
            let wanted: Vec<_> = page.events.iter().filter(|event| self.wants(event)).collect();
            let oldest = wanted.first().map(|event| event.time.millis());
            self.note_of(|numbers| numbers.waits(oldest));
            if let Some(message) = Posting::of(&wanted) {
                if self.in_turn(self.post(client, &message)).await.is_none() {
                    return Ok(());
                }
                self.note(page.next).await?;
                self.note_of(|numbers| numbers.waits(None));
            }
            after = page.next;
            if page.done {
                sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Where it left off; the end of the log if it never was anywhere, and the beginning if nobody knows any
    /// more where it was.
    async fn begin(&self) -> Result<Cursor, Problem> {
        let latest = self.broker.history().topic(self.offset_topic.clone()).await?.latest;
        let offset = latest.and_then(|event| {
            let offset: Offset = serde_json::from_str(event.data.json().get()).ok()?;
            Cursor::parse(&offset.cursor).ok()
        });
        if let Some(offset) = offset {
            return Ok(offset);
        }
        let head = self.broker.history().head();
        let begin = match self.has_been_somewhere(head).await? {
            true => head.at(0),
            false => head,
        };
        self.note(begin).await?;
        Ok(begin)
    }

    /// Whether it noted places once that are gone.
    async fn has_been_somewhere(&self, head: Cursor) -> Result<bool, Problem> {
        let patterns = [Pattern::from(&self.offset_topic)].into();
        let after = Some(head.at(0));
        let read = Read { patterns, after, upto: None, max_events: 1, max_bytes: usize::MAX };
        Ok(self.broker.history().read(read).await?.gap.is_some())
    }

    async fn note(&self, cursor: Cursor) -> Result<(), Problem> {
        let offset = json!({ "cursor": cursor.to_string() }).to_string();
        let Ok(data) = Data::from_json(offset.as_bytes(), 8) else { return Ok(()) };
        let event = NewEvent::new(self.offset_topic.clone(), None, data);
        self.broker
            .publish(Append { events: vec![event], key: None }, Way::Broker, |_| Ok(()))
            .await?;
        Ok(())
    }

    async fn read(&self, after: Cursor) -> Result<Page, Problem> {
        let (patterns, after) = (self.patterns.clone(), Some(after));
        let read =
            Read { patterns, after, upto: None, max_events: TOGETHER, max_bytes: usize::MAX };
        let page = self.broker.history().read(read).await?;
        if page.gap.is_some() {
            warn!(webhook = self.hook.name, "notices were forgotten before they were posted");
        }
        Ok(page)
    }

    fn wants(&self, event: &Event) -> bool {
        let kind = event.kind.as_ref().and_then(|kind| NoticeKind::parse(kind.as_str()));
        let Some(kind) = kind.filter(|kind| self.hook.events.contains(kind)) else { return false };
        kind.is_about_sessions() || {
            let about = about(event);
            about.is_some_and(|topic| self.hook.topics.iter().any(|of| of.matches(&topic)))
        }
    }

    /// Posts until it was taken.
    async fn post(&self, client: &Client, message: &Posting) {
        let mut pause = FIRST_REPEAT;
        while let Err(reason) = self.try_post_noted(client, message).await {
            let wait = pause.mul_f64(rand::random_range(0.8..1.2));
            warn!(webhook = self.hook.name, ?wait, "not taken, to be posted again: {reason}");
            sleep(wait).await;
            pause = (pause * 2).min(LAST_REPEAT);
        }
    }

    async fn try_post_noted(&self, client: &Client, message: &Posting) -> Result<(), String> {
        self.note_of(WebhookNumbers::posts);
        let outcome = self.try_post(client, message).await;
        self.note_of(|numbers| numbers.posted(outcome.clone()));
        outcome
    }

    fn note_of(&self, note: impl FnOnce(&WebhookNumbers)) {
        if let Some(numbers) = &self.numbers {
            note(numbers);
        }
    }

    async fn try_post(&self, client: &Client, message: &Posting) -> Result<(), String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = now.as_secs().to_string();
        let signature = signature(&self.hook.secret.0, &message.id, &seconds, &message.body);
        let request = client
            .post(&self.hook.url.0)
            .insert_header(("content-type", "application/json"))
            .insert_header(("webhook-id", message.id.as_str()))
            .insert_header(("webhook-timestamp", seconds))
            .insert_header(("webhook-signature", signature));
        let answer = request.send_body(message.body.clone()).await;
        let answer = answer.map_err(|error| trust::reason(&error))?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(format!("the answer is {}", answer.status())),
        }
    }
}

impl Posting {
    /// Some notices as one message; none where there are none.
    fn of(events: &[&Arc<Event>]) -> Option<Self> {
        let id = events.last()?.cursor?.to_string();
        let posted = |event: &&Arc<Event>| {
            let body = Posted {
                id: event.cursor.map(|cursor| cursor.to_string()),
                topic: event.topic.as_str(),
                kind: event.kind.as_ref().map(|kind| kind.as_str()),
                time: event.time.to_string(),
                data: event.data.json(),
            };
            serde_json::to_string(&body).ok()
        };
        let events: Vec<_> = events.iter().filter_map(posted).collect();
        Some(Self { id, body: format!("{{\"events\":[{}]}}", events.join(",")) })
    }
}

/// The topic that a notice is about.
fn about(event: &Event) -> Option<Topic> {
    #[derive(Deserialize)]
    struct About {
        topic: Topic,
    }
    serde_json::from_str::<About>(event.data.json().get()).ok().map(|about| about.topic)
}

/// The signature of a message that is sent at a time (Standard Webhooks 1.0.0, "Signature scheme").
fn signature(secret: &[u8], id: &str, seconds: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example of the specification's libraries.
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, seconds) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
        let signed = signature(&secret, id, seconds, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
