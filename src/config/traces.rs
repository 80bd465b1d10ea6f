//! Which publishes are traced, and where their spans are exported to.

use std::time::Duration;

use actix_web::http::header::{HeaderName, HeaderValue};

use super::value::Hidden;

/// Which publishes are traced, and where their spans are exported to.
#[derive(Debug, Clone)]
pub struct Traces {
    /// Where spans are posted to; it may hold a secret.
    pub endpoint: Hidden,
    /// What they are posted with; the values show themselves in no `Debug`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What part of the publishes without a `traceparent` is traced, from 0 to 1.
    pub sample: f64,
    /// The most publishes that are traced a second; 0 for any number.
    pub per_second: usize,
    /// The most spans that wait for the collector.
    pub queue: usize,
    /// How long the collector may take to answer.
    pub timeout: Duration,
    /// What the broker is called.
    pub service: String,
    /// Whether spans say topics.
    pub topics: bool,
}
