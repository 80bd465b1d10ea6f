//! Batches on their way to the broker, sent until it has them or time is up.
//!
//! Each batch has one `Idempotency-Key` for all its tries, so that one whose answer was lost is not
//! published twice.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use bytes::Bytes;
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use super::super::backoff::Backoff;
use super::super::note;
use super::super::remote::{Refusal, Remote};
use super::batch::Batch;

/// Sends batches to one broker.
pub struct Sender<'a> {
    remote: &'a Remote,
    retry_for: Duration,
    progress: ProgressBar,
}

/// What became of one try that failed.
struct Missed {
    reason: String,
    /// Whether another try may do better.
    passing: bool,
    /// How long the broker asks to wait.
    asked: Option<Duration>,
}

impl<'a> Sender<'a> {
    /// The largest answer that is read, far above that to a full batch.
    const MAX_ANSWER: usize = 8 << 20;

    /// A sender that gives up `retry_for` after the first try of a batch that failed.
    pub fn new(remote: &'a Remote, retry_for: Duration, progress: ProgressBar) -> Self {
        Self { remote, retry_for, progress }
    }

    /// The display of what was sent.
    pub fn progress(&self) -> &ProgressBar {
        &self.progress
    }

    /// Sends what is in `batch`, leaves it empty, and gives the broker's answer or the reason why it
    /// has not been published.
    pub async fn send(&self, batch: &mut Batch) -> Result<String, String> {
        let body = batch.take();
        let key = format!("{:032x}", rand::random::<u128>());
        let mut backoff = Backoff::default();
        let mut give_up = None;
        loop {
            let missed = match self.attempt(&key, body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(missed) => missed,
            };
            let give_up = *give_up.get_or_insert_with(|| Instant::now() + self.retry_for);
            let wait = backoff.wait(missed.asked, rand::random());
            if !missed.passing || self.retry_for.is_zero() {
                return Err(missed.reason);
            }
            if Instant::now() + wait > give_up {
                return Err(format!("{}; gave up after {:?}", missed.reason, self.retry_for));
            }
            let text = format!("{}; trying again in {:.1} s", missed.reason, wait.as_secs_f32());
            self.progress.suspend(|| note(text));
            sleep(wait).await;
        }
    }

    async fn attempt(&self, key: &str, body: Bytes) -> Result<String, Missed> {
        let request = self
            .remote
            .post("/v1/events")
            .insert_header((CONTENT_TYPE, "application/x-ndjson"))
            .insert_header(("Idempotency-Key", key));
        let lost = |reason: String| Missed { reason, passing: true, asked: None };
        let mut response = request
            .send_body(body)
            .await
            .map_err(|error| lost(format!("{}: {error}", self.remote.url())))?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER);
        let asked = retry_after.and_then(|value| value.to_str().ok()).and_then(seconds);
        let answer = response.body().limit(Self::MAX_ANSWER).await.map_err(|error| {
            lost(format!("{}: the answer broke off: {error}", self.remote.url()))
        })?;
        if matches!(status, StatusCode::OK | StatusCode::CREATED) {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
        let refusal = Refusal::new(status, &answer);
        Err(Missed { reason: refusal.to_string(), passing: refusal.is_passing(), asked })
    }
}

/// The seconds that a `Retry-After` asks for; a date is left to the backoff.
fn seconds(retry_after: &str) -> Option<Duration> {
    retry_after.trim().parse().ok().map(Duration::from_secs)
}

#[derive(Deserialize)]
struct Receipts<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

/// The receipt of the only event, out of the answer to a batch of one.
pub fn receipt(answer: &str) -> Option<&str> {
    let receipts: Receipts<'_> = serde_json::from_str(answer).ok()?;
    receipts.events.first().map(|receipt| receipt.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receipt_is_cut_out_of_the_answer() {
        let answer = r#"{"events":[{"id":"abcdefgh-1-1","topic":"a"}]}"#;
        assert_eq!(receipt(answer), Some(r#"{"id":"abcdefgh-1-1","topic":"a"}"#));
        assert_eq!(receipt("{}"), None);
    }

    #[test]
    fn only_seconds_are_read_from_retry_after() {
        assert_eq!(seconds(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(seconds("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
