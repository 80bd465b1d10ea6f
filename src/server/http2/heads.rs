//! Heads of requests and responses, between the two versions of the `http` crate that are in use:
//! actix-web has 0.2, and `h2`, where it is still looked after, has 1.

use std::time::SystemTime;

use actix_http::{RequestHead, ResponseHead};
use actix_web::body::BodySize;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode, Uri, Version, uri};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::frame::STAND_IN;

/// What HTTP/1.1 says about a connection, which HTTP/2 says otherwise (RFC 9113, section 8.2.2).
const OF_HTTP1: [HeaderName; 3] = [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE];

/// One version of the crate takes what the other refuses.
#[derive(Debug)]
pub struct Untold;

/// Fills the head of a request with what came, in which a letter may stand for a `>`.
pub fn read(
    to: &mut RequestHead,
    from: &http::request::Parts,
    has_stand_ins: bool,
) -> Result<(), Untold> {
    to.method = Method::from_bytes(from.method.as_str().as_bytes()).map_err(|_| Untold)?;
    to.uri = address(&from.uri, has_stand_ins).ok_or(Untold)?;
    to.version = Version::HTTP_2;
    for (name, value) in &from.headers {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(|_| Untold)?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Untold)?;
        to.headers.append(name, value);
    }
    Ok(())
}

/// What is asked for, by its parts: behind an authority, the `*` of `OPTIONS *` can't be told as one text.
fn address(from: &http::Uri, has_stand_ins: bool) -> Option<Uri> {
    let path = |path: &str| match has_stand_ins {
        true => path.replace(char::from(STAND_IN), "%3E").parse(),
        false => path.parse(),
    };
    let mut to = uri::Parts::default();
    to.scheme = from.scheme_str().map(str::parse).transpose().ok()?;
    to.authority = from.authority().map(|authority| authority.as_str().parse()).transpose().ok()?;
    to.path_and_query = from.path_and_query().map(|from| path(from.as_str())).transpose().ok()?;
    Uri::from_parts(to).ok()
}

/// The head of a response as HTTP/2 has it.
pub fn written(from: &ResponseHead, size: BodySize) -> Result<http::Response<()>, Untold> {
    let mut to = http::Response::builder().status(from.status.as_u16());
    for (name, value) in from.headers.iter().filter(|(name, _)| !OF_HTTP1.contains(name)) {
        to = to.header(name.as_str(), value.as_bytes());
    }
    if let BodySize::Sized(bytes) = size
        && from.status != StatusCode::NO_CONTENT
    {
        to = to.header(http::header::CONTENT_LENGTH, bytes);
    }
    let now = Timestamp::try_from(SystemTime::now()).ok();
    let date = now.and_then(|now| DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok());
    if let Some(date) = date {
        to = to.header(http::header::DATE, date);
    }
    to.body(()).map_err(|_| Untold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_every_header_in_order_and_its_whole_address() {
        let request = http::Request::builder()
            .method("PROPFIND")
            .uri("https://broker.example/v1/topics?limit=5&topic=%3E")
            .header("x-one", "1")
            .header("x-one", &b"caf\xe9"[..])
            .body(());
        let mut head = RequestHead::default();
        read(&mut head, &request.unwrap().into_parts().0, false).unwrap();
        assert_eq!(head.method.as_str(), "PROPFIND");
        assert_eq!(head.uri.to_string(), "https://broker.example/v1/topics?limit=5&topic=%3E");
        let values: Vec<_> = head.headers.get_all("x-one").map(HeaderValue::as_bytes).collect();
        assert_eq!(values, [&b"1"[..], b"caf\xe9"]);
    }

    #[test]
    fn a_request_of_everything_asks_for_no_path() {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some("https".parse().unwrap());
        parts.authority = Some("broker.example".parse().unwrap());
        parts.path_and_query = Some("*".parse().unwrap());
        let request = http::Request::builder().method("OPTIONS");
        let request = request.uri(http::Uri::from_parts(parts).unwrap()).body(());
        let mut head = RequestHead::default();
        read(&mut head, &request.unwrap().into_parts().0, false).unwrap();
        assert_eq!(head.uri.path(), "*");
    }

    #[test]
    fn a_response_says_its_length_and_nothing_about_a_connection() {
        let mut from = ResponseHead::new(StatusCode::CREATED);
        from.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        from.headers.append(header::VARY, HeaderValue::from_static("origin"));
        from.headers.append(header::VARY, HeaderValue::from_static("accept"));
        let to = written(&from, BodySize::Sized(7)).unwrap();
        assert_eq!(
            (to.status().as_u16(), &to.headers()["content-length"]),
            (201, &"7".parse().unwrap())
        );
        assert_eq!(to.headers().get_all("vary").iter().count(), 2);
        assert!(to.headers().contains_key("date") && !to.headers().contains_key("connection"));
        let empty =
            written(&ResponseHead::new(StatusCode::NO_CONTENT), BodySize::Sized(0)).unwrap();
        assert!(!empty.headers().contains_key("content-length"));
    }
}
