//! What is answered to a request: a head, and a body that is read to its end where it is not too long.

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use awc::ClientResponse;
use awc::error::SendRequestError;
use bytes::Bytes;

use super::{Remote, Why};
use crate::trust;

/// The longest body of a refusal that is read, in bytes.
const MAX_WORDS: usize = 64 << 10;

/// An answer of which the body is still to come.
pub struct Head(ClientResponse);

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// What became of the request.
    pub status: StatusCode,
    /// What is said beside it.
    pub headers: HeaderMap,
    /// What is said.
    pub body: Bytes,
}

impl Answer {
    /// An answer of which nothing but the status is known.
    pub fn wordless(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

impl Head {
    /// What became of the request.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// What is said beside the body.
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// The whole answer, with a body of at most so many bytes; why there is none otherwise.
    pub async fn whole(self, max_bytes: usize) -> Result<Answer, Why> {
        let mut response = self.0.timeout(Remote::TIMEOUT);
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.body().limit(max_bytes).await;
        let body = body.map_err(|error| Why { reason: trust::broke_off(&error), lasts: false })?;
        Ok(Answer { status, headers, body })
    }

    /// The whole of an answer that may be a refusal; without words where they broke off.
    pub async fn words(self) -> Answer {
        let (status, headers) = (self.status(), self.headers().clone());
        let wordless = |_| Answer { headers, ..Answer::wordless(status) };
        self.whole(MAX_WORDS).await.unwrap_or_else(wordless)
    }
}

impl Remote {
    /// The head of the answer to a request that is on its way; why there is none otherwise.
    pub async fn head(
        &self,
        sent: impl Future<Output = Result<ClientResponse, SendRequestError>>,
    ) -> Result<Head, Why> {
        match sent.await {
            Ok(response) => Ok(Head(response)),
            Err(error) => Err(self.why(&error).await),
        }
    }
}
