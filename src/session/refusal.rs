//! Why a connection does not become a session, for each way of saying so.

use actix_web::HttpResponse;

use super::encoding::{Encoding, Framing};
use super::voice::good_bye;
use super::{RECONNECT_MS, stream_of};
use crate::clock::Instant;
use crate::model::{Close, Code, Problem};
use crate::protocol::Entry;

/// Why a connection does not become a session.
#[derive(Debug)]
pub struct Refusal {
    /// As over HTTP.
    pub problem: Problem,
    /// As on an event stream, where the client may come back as it is.
    pub passing: Option<Close>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        // What there are too many of in a request is so again the next time.
        let passing = (problem.code == Code::Unavailable).then_some(Close::Unavailable);
        Self { problem, passing }
    }
}

impl Refusal {
    /// The broker stops.
    pub fn restarting() -> Self {
        let problem = Problem::new(Code::Unavailable, Close::Restart.message());
        Self { problem, passing: Some(Close::Restart) }
    }

    /// There is no room for so many; `problem` says of what.
    pub fn too_many(problem: Problem) -> Self {
        Self { problem, passing: Some(Close::TooMany) }
    }

    /// Why a worker lets nobody in.
    pub fn closed(close: Close) -> Self {
        let code = match close {
            Close::Restart => return Self::restarting(),
            Close::Forbidden => Code::Forbidden,
            _ => Code::Unauthorized,
        };
        Problem::new(code, close.message()).into()
    }

    /// A stream that ends at once and says why and when to come back: an `EventSource` gives up for good on
    /// any other status than 200, and sees nothing of one. None, where coming back would end the same way.
    pub fn as_stream(&self, entry: &'static Entry, now: Instant) -> Option<HttpResponse> {
        let close = self.passing?;
        let retry_after_ms = match self.problem.retry_after {
            Some(seconds) => rand::random_range(1_000 * seconds..=2_000 * seconds),
            None => rand::random_range(RECONNECT_MS),
        };
        let dialect = entry.first();
        let encoding = Encoding::new(dialect.form, Framing::Bare);
        let because = (close, &*self.problem.detail);
        let good_bye =
            good_bye(&mut *(dialect.talk)(), &encoding, because, Some(retry_after_ms), now);
        let mut response = stream_of(entry).body(good_bye.concat());
        // By this it is counted, as what is refused by its status is.
        response.extensions_mut().insert(self.problem.clone());
        Some(response)
    }
}
