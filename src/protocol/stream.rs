//! What the body of `POST /v1/sse` asks for.
//!
//! The members of `subscribe`, read by the same rules, and those of the stream itself. There is no `op`
//! and no `ref`, for a stream is one subscription.

use super::{Form, ParseLimits, SSE, SSE_DATA, Subscribe, native};
use crate::model::{Code, Problem};

/// An event stream as a body asks for it.
pub struct StreamRequest {
    /// What it is subscribed to.
    pub subscribe: Subscribe,
    /// The form of its events.
    pub form: &'static dyn Form,
    /// Seconds between heartbeats that are to be seen, if they are.
    pub heartbeat: Option<u32>,
}

/// The longest time between heartbeats that may be asked for, in seconds.
pub const MAX_HEARTBEAT_SECONDS: u32 = 300;

impl StreamRequest {
    /// Reads `{"topics":[…],"since"?,"snapshot"?,"last"?,"tail"?,"mode"?,"max_rate"?,"heartbeat"?,"format"?}`.
    pub fn parse(body: &[u8], limits: &ParseLimits) -> Result<Self, Problem> {
        let not_utf8 = |_| Problem::new(Code::InvalidJson, "the body is not UTF-8");
        native::read(std::str::from_utf8(body).map_err(not_utf8)?)?.stream(limits)
    }
}

/// The form of event streams that is asked for: the one with everything, or `data`.
pub fn stream_form(name: Option<&str>) -> Result<&'static dyn Form, Problem> {
    match name {
        None => Ok(&SSE),
        Some("data") => Ok(&SSE_DATA),
        Some(_) => Err(Problem::new(Code::BadRequest, "format must be data; else leave it out")),
    }
}
