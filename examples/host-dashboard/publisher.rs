//! The way to the broker: one batch after the other, each until the broker has it.
//!
//! The order of samples is kept by never having two requests under way. What can't succeed later
//! either (a body that the broker finds wrong) is dropped and said; everything else is sent again,
//! with its idempotency key, at growing intervals.

use std::rc::Rc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use awc::Client;
use awc::error::SendRequestError;
use tokio::time::sleep;

use crate::outbox::{Batch, Outbox};

const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(4);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends batches to one broker.
pub struct Publisher {
    client: Client,
    endpoint: String,
    key: Option<String>,
}

/// What became of one request.
enum Outcome {
    /// The broker has the batch.
    Stored,
    /// It will never take it.
    Refused(String),
    /// Not now; the broker may have said when.
    Later { why: String, after: Option<Duration> },
}

impl Publisher {
    /// A publisher to the broker at `url`.
    pub fn new(url: &str, key: Option<String>) -> Self {
        let client = Client::builder().timeout(REQUEST_TIMEOUT).finish();
        Self { client, endpoint: format!("{url}/v1/events"), key }
    }

    /// Publishes what is in the outbox, for as long as the program runs.
    pub async fn run(self, outbox: Rc<Outbox>) {
        let mut interval = FIRST_RETRY;
        let mut trouble: Option<String> = None;
        loop {
            let batch = outbox.first().await;
            let outcome = self.send(&batch).await;
            match outcome {
                Outcome::Stored => {
                    outbox.remove(&batch);
                    interval = FIRST_RETRY;
                    if trouble.take().is_some() {
                        eprintln!(
                            "host-dashboard: publishing again; {} samples to catch up on",
                            outbox.len()
                        );
                    }
                }
                Outcome::Refused(why) => {
                    outbox.remove(&batch);
                    eprintln!(
                        "host-dashboard: the broker refused a sample, which is dropped: {why}"
                    );
                }
                Outcome::Later { why, after } => {
                    if trouble.as_ref() != Some(&why) {
                        eprintln!(
                            "host-dashboard: {why}. Samples are kept and sent when it takes them."
                        );
                        trouble = Some(why);
                    }
                    sleep(after.unwrap_or(interval)).await;
                    interval = (interval * 2).min(LONGEST_RETRY);
                }
            }
            match outbox.take_dropped() {
                0 => {}
                dropped => eprintln!(
                    "host-dashboard: no room for more samples, the oldest {dropped} dropped"
                ),
            }
        }
    }

    async fn send(&self, batch: &Batch) -> Outcome {
        let mut request = self
            .client
            .post(&self.endpoint)
            .insert_header((CONTENT_TYPE, "application/json"))
            .insert_header(("Idempotency-Key", batch.idempotency_key.as_str()));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let mut response = match request.send_body(batch.body.clone()).await {
            Ok(response) => response,
            Err(error) => return Outcome::Later { why: self.explain(&error), after: None },
        };
        let status = response.status();
        if status.is_success() {
            return Outcome::Stored;
        }
        let after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = response.body().await.unwrap_or_default();
        self.judge(status, &Problem::read(&body), after.map(Duration::from_secs))
    }

    /// What an answer other than success means for the batch.
    fn judge(&self, status: StatusCode, problem: &Problem, after: Option<Duration>) -> Outcome {
        let said = format!("{status} {}: {}", problem.code, problem.detail);
        let later = |why| Outcome::Later { why, after };
        match (status.as_u16(), problem.code.as_str()) {
            (400 | 413 | 415 | 422, _) | (409, "idempotency_mismatch") => Outcome::Refused(said),
            (401, _) => later(format!(
                "the broker wants an API key ({said}): start this with --key or FANFARE_API_KEY"
            )),
            (403, _) => later(format!("this key may not publish to host.> ({said})")),
            (404 | 405, _) => {
                later(format!("no Fanfare broker answers at {} ({said})", self.endpoint))
            }
            _ => later(format!("the broker can't take samples now ({said})")),
        }
    }

    /// A failure without an answer, and what can be done about it.
    fn explain(&self, error: &SendRequestError) -> String {
        match error {
            SendRequestError::Connect(error) => {
                format!(
                    "no broker answers at {} ({error}); start one with `fanfare`",
                    self.endpoint
                )
            }
            error => format!("no answer from {} ({error})", self.endpoint),
        }
    }
}

/// The two members of a problem (RFC 9457) that are shown.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    detail: String,
}

impl Problem {
    fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }
}
