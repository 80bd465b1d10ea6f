//! Why a call came to nothing: what was answered, or what became of it on the way.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, WWW_AUTHENTICATE};
use serde::Deserialize;

/// Why a request failed, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    pub(super) reason: String,
    /// Whether it would fail again for as long as nobody changes anything.
    pub lasts: bool,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its status.
    pub status: StatusCode,
    pub(super) problem: Option<Problem>,
    /// What to do, where something else than a broker answers.
    pub(super) hint: Option<String>,
}

/// What a broker says of it (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Problem {
    code: String,
    detail: String,
}

impl Refusal {
    /// Reads what the body says, if it is a broker's.
    pub fn new(status: StatusCode, body: &[u8]) -> Self {
        Self { status, problem: serde_json::from_slice(body).ok(), hint: None }
    }

    /// The stable name of the refusal, where a broker gave it.
    pub fn code(&self) -> Option<&str> {
        self.problem.as_ref().map(|problem| problem.code.as_str())
    }

    /// What a broker says of it.
    pub fn detail(&self) -> &str {
        self.problem.as_ref().map_or("", |problem| problem.detail.as_str())
    }

    /// Whether something that stands before the broker says it.
    pub fn is_of_proxy(&self) -> bool {
        self.hint.is_some()
    }

    /// Whether it may be for the sake of one of several events, so that the others would be accepted.
    pub fn is_of_event(&self) -> bool {
        matches!(self.status.as_u16(), 400 | 413 | 422)
    }

    /// Whether the same request may be accepted later.
    pub fn is_passing(&self) -> bool {
        match self.problem.as_ref().map(|problem| problem.code.as_str()) {
            Some("in_progress" | "outcome_unknown") => true,
            _ => matches!(self.status.as_u16(), 408 | 429 | 502 | 503 | 504),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.problem, &self.hint) {
            (Some(Problem { code, detail }), _) => write!(f, "{code}: {detail}"),
            (None, Some(hint)) => write!(f, "HTTP {}: {hint}", self.status),
            (None, None) => write!(f, "HTTP {}", self.status),
        }
    }
}

/// The scheme by which somebody else than a broker asks who this is.
pub(super) fn foreign_scheme(headers: &HeaderMap) -> Option<&str> {
    let asked = headers.get_all(WWW_AUTHENTICATE).filter_map(|value| value.to_str().ok());
    let mut schemes = asked.filter_map(|value| value.split([' ', ',']).next());
    schemes.find(|scheme| !scheme.eq_ignore_ascii_case("bearer"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn who_else_asks_who_this_is_is_told_from_a_broker() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
            }
            foreign_scheme(&headers).map(str::to_owned)
        };
        assert_eq!(of(&["Bearer error=\"invalid_token\""]), None);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["Basic realm=\"here\""]).as_deref(), Some("Basic"));
        assert_eq!(of(&["Bearer", "Negotiate"]).as_deref(), Some("Negotiate"));
    }

    #[test]
    fn refusals_say_what_the_broker_says() {
        let body = br#"{"status":422,"code":"invalid_topic","detail":"not a topic","extra":1}"#;
        let refusal = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, body);
        assert_eq!(refusal.to_string(), "invalid_topic: not a topic");
        assert!(!refusal.is_passing());
        let refusal = Refusal::new(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(refusal.to_string(), "HTTP 502 Bad Gateway");
        assert!(refusal.is_passing());
        let body = br#"{"code":"in_progress","detail":"wait"}"#;
        assert!(Refusal::new(StatusCode::CONFLICT, body).is_passing());
    }
}
