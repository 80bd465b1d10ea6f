//! Who looks at a broker, and for how long.

use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName};
use awc::ws::Message;
use futures_util::{Sink, SinkExt};

use super::super::remote::Remote;

/// How long a step may take. What a broker says at once is kept back by something if it is not here by then.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Who looks.
pub(super) struct Visitor {
    pub(super) remote: Remote,
    pub(super) origin: String,
    /// The query that subscribes.
    pub(super) query: String,
    pub(super) has_token: bool,
}

impl Visitor {
    /// Says the token where the request did not.
    pub(super) async fn introduce<S>(&self, socket: &mut S) -> Result<(), S::Error>
    where
        S: Sink<Message> + Unpin,
    {
        match self.remote.introduction() {
            Some(introduction) => socket.send(Message::Text(introduction.into())).await,
            None => Ok(()),
        }
    }
}

/// What a header says; nothing where it is not there, or no text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
