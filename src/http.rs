//! What every HTTP path shares: queries, credentials and problems.
//!
//! Queries are strict: a parameter nobody knows, or one given twice, is refused by name instead of
//! being ignored. Problems are RFC 9457 documents; this is the one place that gives a code its
//! status.

pub mod cache;
pub mod grammar;
pub mod packed;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use serde::Serialize;
use serde_json::value::RawValue;

use self::grammar::MediaType;
use crate::model::{Code, Cursor, Event, Problem, Topic, whole_number};
use crate::protocol::event_object;

/// Seconds after which a refused request may be tried again, where nothing better is known.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Headers that every response has.
const ALWAYS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("same-origin")),
    (
        header::PERMISSIONS_POLICY,
        HeaderValue::from_static(
            "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ),
];

/// Headers of every response that has none of its own: it is no page, and for nobody else.
const OTHERWISE: [(HeaderName, HeaderValue); 3] = [
    (header::CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
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

/// `X-Except-Session`: a session that does not get a published event.
pub const X_EXCEPT_SESSION: HeaderName = HeaderName::from_static("x-except-session");

/// `traceparent` (W3C Trace Context, section 3.2).
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The most parameters in one query.
const MAX_PARAMETERS: usize = 1_024;

/// A parameter with another value each time, which keeps caches from answering.
const CACHE_BUSTER: &str = "_";

/// What stands for `Last-Event-ID` in the URL, where a polyfill of `EventSource` can't set the header.
pub const LAST_EVENT_ID_PARAMETER: &str = "lastEventId";

/// The parameters of a request, decoded.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query string that may have the parameters `known`, and any number of cache busters.
    pub fn parse(query: &str, known: &[&str]) -> Result<Self, Problem> {
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        let mut pairs: Vec<_> = pairs.take(MAX_PARAMETERS + 1).collect();
        if pairs.len() > MAX_PARAMETERS {
            let detail = format!("more than {MAX_PARAMETERS} parameters");
            return Err(Problem::new(Code::TooMany, detail));
        }
        pairs.retain(|(name, _)| name != CACHE_BUSTER);
        if known.contains(&LAST_EVENT_ID_PARAMETER) {
            let names = pairs.iter_mut().map(|(name, _)| name);
            names.filter(|name| is_last_event_id(name)).for_each(|name| {
                LAST_EVENT_ID_PARAMETER.clone_into(name);
            });
        }
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                Err(bad(match known {
                    [] => format!("unknown parameter {name:?}: there are none here"),
                    _ => format!("unknown parameter {name:?}; known are {}", known.join(", ")),
                }))
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
        match whole_number(text).and_then(|number| usize::try_from(number).ok()) {
            Some(number) if (1..=max).contains(&number) => Ok(number),
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

    /// The cursor `name`; one that is empty is none, as in `Last-Event-ID`.
    pub fn cursor(&self, name: &str) -> Result<Option<Cursor>, Problem> {
        Ok(self.one_filled(name)?.map(Cursor::parse).transpose()?)
    }

    /// The value of `name`, where it is given and not empty.
    pub fn one_filled(&self, name: &str) -> Result<Option<&str>, Problem> {
        Ok(self.one(name)?.filter(|value| !value.is_empty()))
    }

    /// The topic `name`, which a page of topics gave as the place to go on from.
    pub fn topic(&self, name: &str) -> Result<Option<Topic>, Problem> {
        Ok(self.one(name)?.map(Topic::from_stored).transpose()?)
    }
}

/// The one value of a header, where it is given; it must be visible ASCII.
pub fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad(format!("{name} is given more than once")));
    }
    // As `HeaderValue::to_str` has it, and many bytes at a time.
    let odd = |odd, byte: &u8| odd | u8::from(!(b' '..=b'~').contains(byte) & (*byte != b'\t'));
    let bytes = value.as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.iter().fold(0, odd) == 0 => Ok(Some(text)),
        _ => Err(bad(format!("{name} has characters that are not visible ASCII"))),
    }
}

/// Whether polyfills mean `Last-Event-ID` by this name: `lastEventId`, `Last-Event-ID`, `last_event_id`.
fn is_last_event_id(name: &str) -> bool {
    let letters = name.bytes().filter(|byte| !b"-_".contains(byte));
    letters.map(|byte| byte.to_ascii_lowercase()).eq(*b"lasteventid")
}

/// The credential of a request: `Authorization: Bearer` (RFC 6750), or else `access_token`. Another scheme
/// (RFC 9110, section 11.6.2) is meant for who stands before us, and is no credential of ours.
pub fn credential<'a>(
    headers: &'a HeaderMap,
    access_token: Option<&'a str>,
) -> Result<Option<&'a str>, Problem> {
    let name = &header::AUTHORIZATION;
    if !headers.get_all(name).any(is_bearer) {
        return Ok(access_token);
    }
    let token = header(headers, name)?.and_then(|value| value.get(BEARER.len()..));
    Ok(token.map(str::trim))
}

/// The scheme of our credentials.
const BEARER: &str = "bearer";

/// Whether a value of `Authorization` is of our scheme, whatever follows.
fn is_bearer(value: &HeaderValue) -> bool {
    let scheme = value.as_bytes().split(|byte| b" \t".contains(byte)).next();
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(BEARER.as_bytes()))
}

/// How the body of a request is encoded (RFC 9110, section 8.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// What an answer that refuses another coding says in `Accept-Encoding` (RFC 9110, section 15.5.16).
    pub const ACCEPTED: HeaderValue = HeaderValue::from_static("gzip");

    /// Reads `Content-Encoding`; another coding than gzip, or more than one, is refused (415).
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let codings = grammar::list(headers, &header::CONTENT_ENCODING);
        let mut codings = codings.filter(|coding| !coding.eq_ignore_ascii_case("identity"));
        let is_gzip =
            |coding: &str| ["gzip", "x-gzip"].iter().any(|gzip| coding.eq_ignore_ascii_case(gzip));
        match (codings.next(), codings.next()) {
            (None, _) => Ok(Coding::Identity),
            (Some(coding), None) if is_gzip(coding) => Ok(Coding::Gzip),
            _ => {
                let detail = "of encoded bodies those are taken that say `Content-Encoding: gzip`, \
                              and no other coding";
                Err(Problem::new(Code::UnsupportedMediaType, detail))
            }
        }
    }
}

/// The labels of ASCII, which UTF-8 contains. (To browsers they mean windows-1252.)
const ASCII: [&str; 3] = ["us-ascii", "ascii", "ansi_x3.4-1968"];

/// The encoding of a body of text, as the `charset` of its media type names it (WHATWG Encoding, section
/// 4.2): `None` for UTF-8, or windows-1252, which all labels of Latin-1 mean there. Others are refused (415).
pub fn charset(media_type: &MediaType<'_>) -> Result<Option<&'static Encoding>, Problem> {
    let Some(label) = media_type.parameter("charset") else { return Ok(None) };
    let label = label.trim();
    if ASCII.iter().any(|ascii| ascii.eq_ignore_ascii_case(label)) {
        return Ok(None);
    }
    match Encoding::for_label(label.as_bytes()) {
        Some(encoding) if encoding == UTF_8 => Ok(None),
        Some(encoding) if encoding == WINDOWS_1252 => Ok(Some(encoding)),
        Some(_) | None => {
            let label: String = label.chars().take(64).collect();
            let detail = format!("text must be UTF-8, or ISO-8859-1, and not {label:?}");
            Err(Problem::new(Code::UnsupportedMediaType, detail))
        }
    }
}

/// The media type of a body, where one is given; what is none is refused (415).
pub fn media_type(headers: &HeaderMap) -> Result<Option<MediaType<'_>>, Problem> {
    let Some(text) = header(headers, &header::CONTENT_TYPE)? else { return Ok(None) };
    let unreadable = || {
        let detail = "Content-Type is not a media type; the form is application/json";
        Problem::new(Code::UnsupportedMediaType, detail)
    };
    MediaType::parse(text).map(Some).ok_or_else(unreadable)
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
    fn where_there_are_no_parameters_that_is_said() {
        let refused = Query::parse("ttl_ms=5", &[]).unwrap_err().detail;
        assert_eq!(refused, "unknown parameter \"ttl_ms\": there are none here");
    }

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
        for same in ["limit=7.0", "limit=0.7e1", "limit=70E-1"] {
            assert_eq!(parse(same).unwrap().limit("limit", 1, 9), Ok(7), "{same}");
        }
        for bad in
            ["limit=0", "limit=10", "limit=x", "limit=", "limit=1.5", "limit=-1", "limit=%2B7"]
        {
            assert!(parse(bad).unwrap().limit("limit", 1, 9).is_err(), "{bad}");
        }
        assert!(parse("snapshot=yes").unwrap().flag("snapshot").is_err());
        for many in ["topic=a&", "_=1&"].map(|one| one.repeat(2_000)) {
            assert_eq!(Query::parse(&many, &["topic"]).unwrap_err().code, Code::TooMany);
        }
    }

    #[test]
    fn of_codings_gzip_is_taken_and_empty_members_count_for_nothing() {
        let coding = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(line));
            }
            Coding::of(&headers).map_err(|problem| problem.code)
        };
        for (lines, expected) in [
            (&[][..], Some(Coding::Identity)),
            (&[""], Some(Coding::Identity)),
            (&[" , ,"], Some(Coding::Identity)),
            (&["identity, Identity"], Some(Coding::Identity)),
            (&["gzip"], Some(Coding::Gzip)),
            (&[",", " X-Gzip ,identity"], Some(Coding::Gzip)),
            (&["gzip, gzip"], None),
            (&["gzip", "br"], None),
            (&["br"], None),
            (&["gzip;q=1"], None),
        ] {
            assert_eq!(coding(lines), expected.ok_or(Code::UnsupportedMediaType), "{lines:?}");
        }
    }

    #[test]
    fn what_polyfills_and_caches_put_into_a_query_is_understood() {
        let known = ["since", LAST_EVENT_ID_PARAMETER];
        for name in ["lastEventId", "Last-Event-ID", "last_event_id", "lastEventID"] {
            let query = format!("_=1&{name}=x&_=2&since=");
            let query = Query::parse(&query, &known).unwrap();
            assert_eq!(query.one(LAST_EVENT_ID_PARAMETER), Ok(Some("x")), "{name}");
            assert_eq!(query.cursor("since"), Ok(None));
            assert!(Query::parse(&format!("{name}=x"), &["since"]).is_err(), "{name}");
        }
        assert!(
            Query::parse("lastEventId=x&Last-Event-ID=y", &known)
                .unwrap()
                .one(LAST_EVENT_ID_PARAMETER)
                .is_err()
        );
    }

    #[test]
    fn a_credential_is_a_bearer_token_or_the_access_token() {
        let mut headers = HeaderMap::new();
        assert_eq!(credential(&headers, Some("q")), Ok(Some("q")));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer  abc"));
        assert_eq!(credential(&headers, Some("q")), Ok(Some("abc")));
        for (value, expected) in [
            ("Bearer", Some("")),
            ("Bearer ", Some("")),
            ("Bearer\tabc", Some("abc")),
            ("Basic abc", Some("q")),
            ("Bearerabc", Some("q")),
            ("", Some("q")),
            ("Digest username=\"b\u{e4}r\"", Some("q")),
        ] {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.insert(header::AUTHORIZATION, value);
            assert_eq!(credential(&headers, Some("q")), Ok(expected), "{headers:?}");
        }
        let unreadable = HeaderValue::from_bytes("Bearer \u{e4}".as_bytes()).unwrap();
        headers.insert(header::AUTHORIZATION, unreadable);
        assert_eq!(credential(&headers, Some("q")).unwrap_err().code, Code::BadRequest);
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic abc"));
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
        assert_eq!(credential(&headers, None).unwrap_err().code, Code::BadRequest, "which one?");
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic abc"));
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Negotiate abc"));
        assert_eq!(credential(&headers, Some("q")), Ok(Some("q")));
    }

    #[test]
    fn of_the_conflicts_only_the_one_that_passes_says_when_to_come_again() {
        for (code, is_passing) in [(Code::InProgress, true), (Code::IdempotencyMismatch, false)] {
            let response = Problem::new(code, "").error_response();
            assert_eq!(response.status(), StatusCode::CONFLICT);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), is_passing);
        }
    }
}
