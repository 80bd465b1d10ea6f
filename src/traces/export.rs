//! The task that posts spans to the collector: a batch at a time, in the order in which they ended.
//!
//! It is all that waits for the collector. While that hangs, spans wait in the queue, and those for which there is no
//! room are dropped and counted. What is posted again, and when, is as OTLP over HTTP says (OTLP 1.9, "Failures"). A
//! collector that fails is named once, and once more when it takes spans again.

use std::time::{Duration, SystemTime};

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HttpDate};
use actix_web::web::Bytes;
use awc::Client;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{error, info, warn};

use super::otlp::{Answer, Source, request};
use super::span::Span;
use crate::config;
use crate::metrics::{SpanFate, TraceNumbers};
use crate::model::Topic;
use crate::trust;

/// How many spans are posted together.
const TOGETHER: usize = 256;

/// How long spans wait for others to be posted with.
const GATHER: Duration = Duration::from_secs(1);

/// How often spans are posted before they are given up.
const TRIES: u32 = 5;

/// How long until the first repeat; twice as long before each further one.
const FIRST_REPEAT: Duration = Duration::from_secs(1);

/// The longest time until a repeat that a collector may ask for.
const LAST_REPEAT: Duration = Duration::from_secs(300);

/// How much of an answer is read, in bytes: what is longer is not what was asked for.
const ANSWER_BYTES: usize = 64 * 1_024;

/// How much of what a collector says of itself is logged, in characters.
const SAID: usize = 200;

/// Posts spans to the collector.
pub struct Exporter {
    config: config::Traces,
    pub(super) spans: Receiver<Span>,
    stop: watch::Receiver<bool>,
    numbers: TraceNumbers,
    /// Whether the log says that the collector fails.
    is_told: bool,
}

/// What became of a post.
enum Posted {
    /// All was taken, but so many, for that reason.
    Taken(u64, String),
    /// It would not be taken again.
    Refused(String),
    /// It may be later, in a time that the collector said.
    Later(String, Option<Duration>),
}

impl Exporter {
    pub(super) fn new(
        config: config::Traces,
        spans: Receiver<Span>,
        stop: watch::Receiver<bool>,
        numbers: TraceNumbers,
    ) -> Self {
        Self { config, spans, stop, numbers, is_told: false }
    }

    /// Posts spans of the node of this name until it is to stop, and then what is left, once; `rule_of` gives the
    /// pattern of the rule that a topic falls under.
    pub async fn run(mut self, node: String, rule_of: impl Fn(&Topic) -> Option<String>) {
        let config = &self.config;
        let client = match trust::client(config.timeout, config.headers.clone()) {
            Ok(client) => client,
            Err(error) => return error!("no trace is exported: {error}"),
        };
        let has_topics = config.topics;
        let source = Source { service: config.service.clone(), node, has_topics };
        while let Some(spans) = self.gather().await {
            let body = Bytes::from(request(&source, &spans, &rule_of));
            self.post(&client, body, spans.len() as u64).await;
        }
    }

    /// Waits for spans that are to be posted together; none once it is to stop and nothing is left.
    pub(super) async fn gather(&mut self) -> Option<Vec<Span>> {
        let mut spans = Vec::new();
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            count = self.spans.recv_many(&mut spans, TOGETHER) => if count == 0 { return None },
            () = stopping(&mut stop) => return None,
        }
        let due = Instant::now() + GATHER;
        while spans.len() < TOGETHER {
            let room = TOGETHER - spans.len();
            let more = timeout_at(due, self.spans.recv_many(&mut spans, room));
            tokio::select! {
                // None come where nobody is left to record any; to ask again would be answered at once, for good.
                more = more => if !matches!(more, Ok(1..)) { break },
                () = stopping(&mut stop) => break,
            }
        }
        Some(spans)
    }

    /// Posts spans until they are taken or given up; once, where it is to stop.
    async fn post(&mut self, client: &Client, body: Bytes, count: u64) {
        let mut pause = FIRST_REPEAT;
        for left in (0..TRIES).rev() {
            let (reason, asked) = match self.try_post(client, body.clone()).await {
                Posted::Taken(0, _) => {
                    self.numbers.ended(SpanFate::Exported, count);
                    return self.tell_taken();
                }
                Posted::Taken(rejected, why) => {
                    let rejected = rejected.min(count);
                    self.numbers.ended(SpanFate::Exported, count - rejected);
                    self.numbers.ended(SpanFate::Refused, rejected);
                    return self.tell(&format!("it takes not all of them: {why}"));
                }
                Posted::Refused(reason) => {
                    self.numbers.ended(SpanFate::Refused, count);
                    return self.tell(&reason);
                }
                Posted::Later(reason, asked) => (reason, asked),
            };
            self.tell(&reason);
            if left == 0 || *self.stop.borrow() {
                break;
            }
            let wait = asked.unwrap_or_else(|| pause.mul_f64(rand::random_range(0.8..1.2)));
            pause *= 2;
            let mut stop = self.stop.clone();
            tokio::select! {
                () = sleep(wait.min(LAST_REPEAT)) => {}
                () = stopping(&mut stop) => {}
            }
        }
        self.numbers.ended(SpanFate::Lost, count);
    }

    async fn try_post(&self, client: &Client, body: Bytes) -> Posted {
        let posted = timeout(self.config.timeout, self.exchange(client, body)).await;
        posted.unwrap_or_else(|_| Posted::Later("no answer came in time".to_owned(), None))
    }

    async fn exchange(&self, client: &Client, body: Bytes) -> Posted {
        let request = client.post(&self.config.endpoint.0);
        let request = request.insert_header((header::CONTENT_TYPE, "application/json"));
        let mut answer = match request.send_body(body).await {
            Ok(answer) => answer,
            Err(error) => return Posted::Later(trust::reason(&error), None),
        };
        let status = answer.status();
        let reason = || format!("the answer is {status}");
        match status {
            _ if status.is_success() => {
                // What can't be read says nothing of spans that were not taken.
                let body = answer.body().limit(ANSWER_BYTES).await.unwrap_or_default();
                let answer: Answer = serde_json::from_slice(&body).unwrap_or_default();
                match answer.rejected() {
                    Some((count, why)) => Posted::Taken(count, tame(why)),
                    None => Posted::Taken(0, String::new()),
                }
            }
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Posted::Later(reason(), retry_after(answer.headers())),
            _ => Posted::Refused(reason()),
        }
    }

    /// Names a collector that fails, unless it did before.
    fn tell(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.is_told, true) {
            warn!(
                "the collector of traces takes no spans, which wait (traces.queue) or are dropped: {reason}"
            );
        }
    }

    fn tell_taken(&mut self) {
        if std::mem::take(&mut self.is_told) {
            info!("the collector of traces takes spans again");
        }
    }
}

/// Waits until it is to stop.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    // Who says so is gone only together with what there is to stop for.
    _ = stop.wait_for(|stop| *stop).await;
}

/// When a collector wants to be asked again: in seconds, or at a time (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date: SystemTime = text.parse::<HttpDate>().ok()?.into();
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// What somebody else says, fit for a line of the log.
fn tame(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SAID).collect()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn a_time_to_come_again_is_read_in_seconds_and_as_a_date() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        let soon = HttpDate::from(SystemTime::now() + Duration::from_secs(100));
        let soon = read(&soon.to_string()).unwrap();
        assert!((90..=100).contains(&soon.as_secs()), "{soon:?}");
        assert_eq!(read("later"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
        assert_eq!(tame("a\nb\u{1b}[31m").as_str(), "ab[31m");
    }
}
