//! A refusal as an answer: a document of RFC 9457, and the one place that gives a code its status.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::model::{Code, Event, Problem};
use crate::protocol::event_object;

/// Seconds after which a refused request may be tried again, where nothing better is known.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The status of a code: the one place where that is decided.
fn status(code: Code) -> StatusCode {
    match code {
        Code::BadRequest | Code::InvalidJson | Code::InvalidCursor => StatusCode::BAD_REQUEST,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::Forbidden | Code::OriginNotAllowed => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::IdempotencyMismatch | Code::InProgress => StatusCode::CONFLICT,
        Code::NotLatest => StatusCode::PRECONDITION_FAILED,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Code::TooSlow => StatusCode::REQUEST_TIMEOUT,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
        Code::InvalidTopic | Code::InvalidPattern | Code::InvalidEvent => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Code::TooMany => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable | Code::StorageFull | Code::OutcomeUnknown => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A refusal as RFC 9457 has it.
#[derive(Serialize)]
struct ProblemBody<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    setting: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Box<RawValue>>,
}

/// An event as a JSON value; none where that could not be written.
pub fn event_value(event: &Event) -> Option<Box<RawValue>> {
    RawValue::from_string(String::from_utf8(event_object(event)).ok()?).ok()
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        status(self.code)
    }

    fn error_response(&self) -> HttpResponse {
        let status = status(self.code);
        let mut response = HttpResponseBuilder::new(status);
        match self.code {
            Code::Unauthorized => {
                // RFC 6750, section 3.1: without a credential there is no error to name.
                let bearer = match self.is_of_credential {
                    true => r#"Bearer error="invalid_token""#,
                    false => "Bearer",
                };
                response.insert_header((header::WWW_AUTHENTICATE, bearer));
            }
            Code::UpgradeRequired => {
                response.insert_header((header::UPGRADE, "websocket"));
                response.insert_header((header::SEC_WEBSOCKET_VERSION, "13"));
            }
            Code::InProgress
            | Code::TooMany
            | Code::Unavailable
            | Code::StorageFull
            | Code::OutcomeUnknown => {
                let seconds = self.retry_after.unwrap_or(RETRY_AFTER_SECONDS);
                response.insert_header((header::RETRY_AFTER, seconds));
            }
            _ => {}
        }
        let body = ProblemBody {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code: self.code.as_str(),
            detail: &self.detail,
            setting: self.setting,
            event: self.newest().and_then(event_value),
        };
        let body = serde_json::to_string(&body).unwrap_or_default();
        let mut response = response.content_type("application/problem+json").body(body);
        // For whoever stands around all handlers, and counts what they refuse.
        response.extensions_mut().insert(self.clone());
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_conflicts_only_the_one_that_passes_says_when_to_come_again() {
        for (code, is_passing) in [(Code::InProgress, true), (Code::IdempotencyMismatch, false)] {
            let response = Problem::new(code, "").error_response();
            assert_eq!(response.status(), StatusCode::CONFLICT);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), is_passing);
        }
    }
}
