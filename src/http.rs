//! What every HTTP path shares: queries, credentials and problems.
//!
//! Queries are strict: a parameter nobody knows, or one given twice, is refused by name instead of
//! being ignored. Problems are RFC 9457 documents; this is the one place that gives a code its
//! status.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde_json::json;

use crate::model::{Code, Cursor, Problem, Topic};

/// Seconds after which a refused request may be tried again, where nothing better is known.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Headers that every response has.
const ALWAYS: [(HeaderName, HeaderValue); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("same-origin")),
    (header::CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
    (
        header::PERMISSIONS_POLICY,
        HeaderValue::from_static(
            "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ),
];

/// Headers of every response that has none of its own: it is no page, and for nobody else.
const OTHERWISE: [(HeaderName, HeaderValue); 2] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Adds the headers that keep a browser from doing with a response what it is not for.
pub fn secure(headers: &mut HeaderMap) {
    for (name, value) in ALWAYS {
        headers.insert(name, value);
    }
    for (name, value) in OTHERWISE {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
}

/// `Idempotency-Key`, as draft-ietf-httpapi-idempotency-key-header names it.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// `Last-Event-ID` (WHATWG HTML, section 9.2.4).
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// `X-Event-Type`: the type of a published event.
pub const X_EVENT_TYPE: HeaderName = HeaderName::from_static("x-event-type");

/// The most parameters in one query.
const MAX_PARAMETERS: usize = 1_024;

/// The parameters of a request, decoded.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string that may have the parameters `known`.
    pub fn parse(query: &str, known: &[&str]) -> Result<Self, Problem> {
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        let pairs: Vec<_> = pairs.take(MAX_PARAMETERS + 1).collect();
        if pairs.len() > MAX_PARAMETERS {
            let detail = format!("more than {MAX_PARAMETERS} parameters");
            return Err(Problem::new(Code::TooMany, detail));
        }
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                Err(bad(format!("unknown parameter {name:?}; known are {}", known.join(", "))))
            }
            None => Ok(Self(pairs)),
        }
    }

    /// Every value of `name`, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name`, which may be given once.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(bad(format!("{name} is given more than once"))),
            (value, None) => Ok(value),
        }
    }

    /// The whole number `name`, from 1 to `max`.
    pub fn limit(&self, name: &str, default: usize, max: usize) -> Result<usize, Problem> {
        let Some(text) = self.one(name)? else { return Ok(default) };
        match text.parse() {
            Ok(number) if (1..=max).contains(&number) => Ok(number),
            _ => Err(bad(format!("{name} must be a whole number from 1 to {max}"))),
        }
    }

    /// The truth value `name`: `true` or `false`.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.one(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(bad(format!("{name} must be true or false"))),
        }
    }

    /// The cursor `name`.
    pub fn cursor(&self, name: &str) -> Result<Option<Cursor>, Problem> {
        Ok(self.one(name)?.map(Cursor::parse).transpose()?)
    }

    /// The topic `name`.
    pub fn topic(&self, name: &str) -> Result<Option<Topic>, Problem> {
        Ok(self.one(name)?.map(Topic::parse).transpose()?)
    }
}

/// The one value of a header, where it is given; it must be visible ASCII.
pub fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad(format!("{name} is given more than once")));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(bad(format!("{name} has characters that are not visible ASCII"))),
    }
}

/// The credential of a request: `Authorization: Bearer` (RFC 6750), or else `access_token`.
pub fn credential<'a>(
    headers: &'a HeaderMap,
    access_token: Option<&'a str>,
) -> Result<Option<&'a str>, Problem> {
    let Some(authorization) = header(headers, &header::AUTHORIZATION)? else {
        return Ok(access_token);
    };
    match authorization.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(Problem::new(Code::Unauthorized, "Authorization must be: Bearer TOKEN")),
    }
}

fn bad(detail: String) -> Problem {
    Problem::new(Code::BadRequest, detail)
}

/// The status of a code: the one place where that is decided.
fn status(code: Code) -> StatusCode {
    match code {
        Code::BadRequest | Code::InvalidJson | Code::InvalidCursor => StatusCode::BAD_REQUEST,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::Forbidden | Code::OriginNotAllowed => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::IdempotencyMismatch | Code::InProgress => StatusCode::CONFLICT,
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

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        status(self.code)
    }

    fn error_response(&self) -> HttpResponse {
        let status = status(self.code);
        let mut response = HttpResponseBuilder::new(status);
        match self.code {
            Code::Unauthorized => _ = response.insert_header((header::WWW_AUTHENTICATE, "Bearer")),
            Code::UpgradeRequired => {
                response.insert_header((header::UPGRADE, "websocket"));
                response.insert_header((header::SEC_WEBSOCKET_VERSION, "13"));
            }
            Code::TooMany | Code::Unavailable | Code::StorageFull | Code::OutcomeUnknown => {
                response.insert_header((header::RETRY_AFTER, RETRY_AFTER_SECONDS));
            }
            _ => {}
        }
        let body = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "code": self.code.as_str(),
            "detail": self.detail,
        });
        response.content_type("application/problem+json").body(body.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_strict() {
        let parse = |query| Query::parse(query, &["topic", "limit", "snapshot"]);
        let query = parse("topic=a%2Eb&topic=%3E&limit=7&snapshot=true").unwrap();
        assert_eq!(query.all("topic").collect::<Vec<_>>(), ["a.b", ">"]);
        assert_eq!(query.limit("limit", 1, 9), Ok(7));
        assert_eq!(query.flag("snapshot"), Ok(true));
        assert_eq!(query.one("topic").unwrap_err().detail, "topic is given more than once");
        let unknown = parse("topics=a").unwrap_err();
        assert!(unknown.detail.starts_with("unknown parameter \"topics\""), "{unknown}");
        for bad in ["limit=0", "limit=10", "limit=x", "limit=", "limit=1.0"] {
            assert!(parse(bad).unwrap().limit("limit", 1, 9).is_err(), "{bad}");
        }
        assert!(parse("snapshot=yes").unwrap().flag("snapshot").is_err());
        assert_eq!(parse(&"topic=a&".repeat(2_000)).unwrap_err().code, Code::TooMany);
    }

    #[test]
    fn a_credential_is_a_bearer_token_or_the_access_token() {
        let mut headers = HeaderMap::new();
        assert_eq!(credential(&headers, Some("q")), Ok(Some("q")));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer  abc"));
        assert_eq!(credential(&headers, Some("q")), Ok(Some("abc")));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic abc"));
        assert_eq!(credential(&headers, None).unwrap_err().code, Code::Unauthorized);
    }
}
