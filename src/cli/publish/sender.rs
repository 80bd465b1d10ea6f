//! Batches on their way to the broker, sent until it has them or time is up.
//!
//! Each batch has one `Idempotency-Key` for all its tries, so that one whose answer was lost is not
//! published twice.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};

use super::super::backoff::Backoff;
use super::super::note;
use super::super::remote::{Remote, Why};
use super::batch::Part;

/// Sends batches to one broker.
pub struct Sender<'a> {
    remote: &'a Remote,
    retry_for: Duration,
    progress: ProgressBar,
}

/// Why events were not published.
#[derive(Debug)]
pub struct Missed {
    /// In a sentence.
    pub reason: String,
    /// Whether it is one of the events that is refused: others may be good.
    pub of_event: bool,
    /// Whether it is a right that is wanting: for one of the topics.
    pub of_right: bool,
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

    /// Sends events under a key of their own, and gives the broker's answer or the reason why they have not been published.
    pub async fn send(&self, part: &Part) -> Result<String, Missed> {
        self.send_under(&format!("{:032x}", rand::random::<u128>()), part).await
    }

    /// Sends events under this key.
    pub async fn send_under(&self, key: &str, part: &Part) -> Result<String, Missed> {
        let mut backoff = Backoff::default();
        let mut failing_since = None;
        loop {
            let missed = match self.attempt(key, part).await {
                Ok(answer) => return Ok(answer),
                Err(missed) => missed,
            };
            let failing_since = *failing_since.get_or_insert_with(Instant::now);
            let wait = backoff.wait(missed.asked, rand::random());
            if !missed.passing || self.retry_for.is_zero() {
                return Err(missed);
            }
            if failing_since.elapsed() + wait > self.retry_for {
                let reason = format!("{}; gave up after {:?}", missed.reason, self.retry_for);
                return Err(Missed { reason, ..missed });
            }
            let text = format!("{}; trying again in {:.1} s", missed.reason, wait.as_secs_f32());
            self.progress.suspend(|| note(text));
            sleep(wait).await;
        }
    }

    async fn attempt(&self, key: &str, part: &Part) -> Result<String, Missed> {
        let request = self
            .remote
            .post("/v1/events")
            .insert_header((CONTENT_TYPE, "application/x-ndjson"))
            .insert_header(("Idempotency-Key", key));
        let lost = |why: Why| Missed {
            reason: format!("{}: {why}", self.remote.url()),
            of_event: false,
            of_right: false,
            passing: !why.lasts,
            asked: None,
        };
        let head = self.remote.head(request.send_body(part.body())).await.map_err(lost)?;
        let answer = head.whole(Self::MAX_ANSWER).await.map_err(lost)?;
        let status = answer.status;
        let retry_after = answer.headers.get(RETRY_AFTER);
        let asked = retry_after.and_then(|value| value.to_str().ok()).and_then(seconds);
        if matches!(status, StatusCode::OK | StatusCode::CREATED) {
            return Ok(String::from_utf8_lossy(&answer.body).into_owned());
        }
        let refusal = self.remote.refusal(&answer).await;
        let (of_event, passing) = (refusal.is_of_event(), refusal.is_passing());
        // Its only line is another one of the input.
        let mut reason = refusal.to_string().replacen(": line 1: ", ": ", 1);
        if status == StatusCode::UNAUTHORIZED && !refusal.is_of_proxy() {
            reason += "; set FANFARE_API_KEY to a key (or a token) that may publish there";
        }
        let of_right = status == StatusCode::FORBIDDEN;
        Err(Missed { reason, of_event, of_right, passing, asked })
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

/// How many events of a batch were not stored, for a newer version is kept.
pub fn superseded(answer: &str) -> u64 {
    #[derive(Deserialize)]
    struct Fate {
        #[serde(default)]
        superseded: bool,
    }
    let receipts =
        serde_json::from_str::<Receipts<'_>>(answer).map_or(Vec::new(), |all| all.events);
    let is_superseded = |receipt: &&&RawValue| {
        serde_json::from_str::<Fate>(receipt.get()).is_ok_and(|fate| fate.superseded)
    };
    receipts.iter().filter(is_superseded).count() as u64
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
        assert_eq!(superseded(answer), 0);
        let answer =
            r#"{"events":[{"topic":"a","superseded":true,"version":5},{"id":"i","topic":"a"}]}"#;
        assert_eq!(superseded(answer), 1);
    }

    #[test]
    fn only_seconds_are_read_from_retry_after() {
        assert_eq!(seconds(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(seconds("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
