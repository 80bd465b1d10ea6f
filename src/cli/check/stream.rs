//! An event stream on its way here: whether it begins at once, as itself, and goes on.
//!
//! A broker greets at once and says something each heartbeat, whatever is published. So it shows by time
//! alone whether something between gathers what it passes on.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ORIGIN};
use awc::error::{PayloadError, SendRequestError};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::LocalBoxStream;
use tokio::time::{Instant, timeout};

use super::super::remote::Answer;
use super::report::Verdict::{self, Good, Unseen, Wrong};
use super::visitor::{PATIENCE, Visitor, text};

/// What comes within this time belongs to the beginning.
const BEGINNING: Duration = Duration::from_millis(500);

/// An event stream that has begun.
pub(super) struct Begun {
    rest: LocalBoxStream<'static, Result<Bytes, PayloadError>>,
    /// Seconds until the broker says something again.
    pub(super) heartbeat: u64,
}

impl Visitor {
    /// A request for an event stream, for as long as it lasts.
    pub(super) fn stream_request(&self) -> awc::ClientRequest {
        let request = self.remote.get(&format!("/v1/sse?{}", self.query));
        let request = request.insert_header((ORIGIN, self.origin.as_str()));
        let request = request.insert_header((ACCEPT_ENCODING, "gzip, deflate, br"));
        // awc's own time-out would hold for the body too; each use has its own.
        let request = request.timeout(Duration::from_secs(24 * 3_600));
        request.insert_header((ACCEPT, "text/event-stream")).no_decompress()
    }

    /// An event stream that begins at once, as it is, or why it does not.
    pub(super) async fn event_stream(&self) -> Result<Begun, Verdict> {
        let answer = match timeout(PATIENCE, self.stream_request().send()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(SendRequestError::Timeout)) | Err(_) => return Err(kept_back(PATIENCE)),
            Ok(Err(error)) => return Err(Wrong(self.remote.why(&error).await.to_string())),
        };
        if answer.status() != StatusCode::OK {
            return Err(self.refused(answer.status()).await);
        }
        let kind = text(answer.headers(), &CONTENT_TYPE);
        if !kind.starts_with("text/event-stream") {
            let reason = format!("the answer is {kind:?} and no event stream: what answers there?");
            return Err(Wrong(reason));
        }
        let encoding = text(answer.headers(), &CONTENT_ENCODING);
        if !matches!(encoding, "" | "identity") {
            return Err(Wrong(format!(
                "what stands between compresses it ({encoding}), and so gathers events: leave \
                 text/event-stream out of what it compresses (nginx: gzip_types)"
            )));
        }
        let mut rest = answer.boxed_local();
        let first = match timeout(PATIENCE, rest.next()).await {
            Ok(Some(Ok(first))) => String::from_utf8_lossy(&first).into_owned(),
            Ok(Some(Err(error))) => return Err(Wrong(format!("it broke off: {error}"))),
            Ok(None) => return Err(Wrong("it ended before anything came".to_owned())),
            Err(_) => return Err(kept_back(PATIENCE)),
        };
        if first.contains("fanfare.bye") {
            return Err(Unseen(format!("the broker sends clients away: {}", first.trim())));
        }
        Ok(Begun { rest, heartbeat: heartbeat(&first) })
    }

    /// A refusal that is the broker's own, for want of a token or a right, tells nothing of what is between. What
    /// stands between may have compressed the words of the answer that is known of, so they are asked for.
    pub(super) async fn refused(&self, status: StatusCode) -> Verdict {
        let request = self.remote.get(&format!("/v1/sse?{}", self.query));
        let request = request.insert_header((ORIGIN, self.origin.as_str()));
        let answer = match self.remote.head(request.send()).await {
            Ok(head) if head.status() == status => head.words().await,
            _ => Answer::wordless(status),
        };
        let refusal = self.remote.refusal(&answer).await;
        match refusal.code() {
            Some("unauthorized" | "forbidden") if self.remote.introduction().is_some() => {
                Unseen(format!(
                    "{refusal}; the proxy's password has the place of the token, which would end up in logs if it were in \
                 the URL: give a --topic that a rule opens to anyone"
                ))
            }
            Some("unauthorized" | "forbidden") => {
                Unseen(format!("{refusal}; set FANFARE_TOKEN, or give --topic"))
            }
            Some("origin_not_allowed") => Unseen("the origin is refused first".to_owned()),
            _ => Wrong(format!("the answer is {refusal}")),
        }
    }
}

/// Whether a stream that began also brings what comes later.
pub(super) async fn goes_on(begun: Result<Begun, Verdict>) -> Verdict {
    let Begun { mut rest, heartbeat } = match begun {
        Ok(begun) => begun,
        Err(verdict) => return verdict,
    };
    let wait = Duration::from_secs(heartbeat) + PATIENCE;
    let began = Instant::now();
    let later = async {
        loop {
            match rest.next().await {
                Some(Ok(_)) if began.elapsed() < BEGINNING => {}
                Some(Ok(_)) => {
                    return Good(
                        "it begins at once and goes on, and nothing compresses it".to_owned(),
                    );
                }
                Some(Err(error)) => return Wrong(format!("it begins, and breaks off: {error}")),
                None => return Wrong("it begins, and ends before anything else comes".to_owned()),
            }
        }
    };
    timeout(wait, later).await.unwrap_or_else(|_| kept_back(wait))
}

fn kept_back(wait: Duration) -> Verdict {
    Wrong(format!(
        "nothing came within {wait:?}, though the broker speaks at once and each heartbeat: what \
         stands between gathers it; nginx: proxy_buffering off, and no proxy_ignore_headers \
         X-Accel-Buffering"
    ))
}

/// The seconds of the broker's greeting; its default, where that has other words by now.
fn heartbeat(greeting: &str) -> u64 {
    let said = greeting.split_once("heartbeat=").map(|(_, rest)| rest);
    let digits = said.and_then(|said| said.split(|c: char| !c.is_ascii_digit()).next());
    digits.and_then(|digits| digits.parse().ok()).filter(|seconds| *seconds <= 300).unwrap_or(25)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heartbeat_is_what_the_greeting_says() {
        assert_eq!(heartbeat(": welcome 35 heartbeat=7\nretry: 1\n"), 7);
        for other in
            ["", ": welcome", "heartbeat=", "heartbeat=99999999999999999999", "heartbeat=x"]
        {
            assert_eq!(heartbeat(other), 25, "{other}");
        }
    }
}
