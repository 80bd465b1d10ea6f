//! What every HTTP path shares: headers, credentials, queries and problems.

pub mod cache;
mod content;
pub mod grammar;
pub mod packed;
mod paging;
mod problem;
mod security;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

pub use self::content::{Coding, charset, media_type};
pub use self::paging::{Page, PageSize, read_next};
pub use self::problem::event_value;
pub use self::security::secure;
use crate::model::{Code, Problem};
pub use crate::protocol::{LAST_EVENT_ID_PARAMETER, Query};

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

fn bad(detail: String) -> Problem {
    Problem::new(Code::BadRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
