//! The cookie that may hold a subscriber's token (`auth.cookie`).
//!
//! A browser adds a cookie to every request for its host, whichever page asks. So it is a credential only
//! where the browser says that one of our pages asks: by `Origin`, which a page can't set and which comes with
//! all that changes something and with every WebSocket, or, for a plain read, by `Sec-Fetch-Site` (W3C Fetch
//! Metadata). Who says neither gets nothing by a cookie.

use actix_http::RequestHead;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName};
use memchr::memchr;

use super::origin::Page;
use crate::http;
use crate::model::{Code, Problem};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The token in the cookie called `name`, where it counts for a request that `page` makes. Refuses (403)
/// what would change something by a cookie alone, from a page that is not known.
pub(super) fn token<'a>(
    head: &'a RequestHead,
    name: &str,
    page: Page,
) -> Result<Option<&'a str>, Problem> {
    let Some(token) = named(&head.headers, name)? else { return Ok(None) };
    let site = http::header(&head.headers, &SEC_FETCH_SITE)?;
    let reads = matches!(head.method, Method::GET | Method::HEAD) && !head.upgrade();
    match (page, site) {
        (Page::Listed, _) | (Page::Own, None | Some("same-origin")) => Ok(Some(token)),
        (Page::Unknown, Some("same-origin")) if reads => Ok(Some(token)),
        _ if reads => Ok(None),
        _ => {
            let detail = "the cookie of auth.cookie is a credential only for pages of this broker's own \
                          origin and of server.allowed_origins, and the browser does not name one";
            Err(Problem::new(Code::OriginNotAllowed, detail))
        }
    }
}

/// The value of a cookie (RFC 6265, section 4.2), which HTTP/2 may send in several fields (RFC 9113, section
/// 8.2.3). An empty one is none; of two nobody can say which is ours.
fn named<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let fields = headers.get_all(header::COOKIE);
    let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    // What other applications of the host keep in theirs is no matter.
    let ours = pairs.filter_map(|pair| {
        let (of, value) = pair.split_at_checked(memchr(b'=', pair)?)?;
        (of.trim_ascii() == name.as_bytes()).then_some(&value[1..])
    });
    // No token has a byte beyond ASCII, so that one is refused as what it is.
    let mut values = ours.map(|value| unquoted(str::from_utf8(value).unwrap_or("?")));
    match (values.next(), values.next()) {
        (_, Some(_)) => {
            let detail = "the cookie of auth.cookie is there more than once";
            Err(Problem::new(Code::BadRequest, detail))
        }
        (value, None) => Ok(value.filter(|value| !value.is_empty())),
    }
}

fn unquoted(value: &str) -> &str {
    let value = value.trim();
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn head(method: Method, headers: &[(&'static str, &'static str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.method = method;
        for (name, value) in headers {
            let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
            head.headers.append(name, value);
        }
        head
    }

    #[test]
    fn what_another_cookie_holds_is_no_matter() {
        let mut head = head(Method::GET, &[]);
        for field in [&b"x=\xfc; t=ours"[..], b"y=\xff"] {
            let field = HeaderValue::from_bytes(field).unwrap();
            head.headers.append(header::COOKIE, field);
        }
        assert_eq!(named(&head.headers, "t").unwrap(), Some("ours"));
        assert_eq!(named(&head.headers, "x").unwrap(), Some("?"));
    }

    #[test]
    fn a_cookie_counts_where_the_browser_says_that_our_page_asks() {
        let refused = Err(Code::OriginNotAllowed);
        for (page, site, reading, changing) in [
            (Page::Own, None, Ok(true), Ok(true)),
            (Page::Own, Some("same-origin"), Ok(true), Ok(true)),
            (Page::Own, Some("cross-site"), Ok(false), refused),
            (Page::Own, Some("same-site"), Ok(false), refused),
            (Page::Own, Some("none"), Ok(false), refused),
            (Page::Listed, None, Ok(true), Ok(true)),
            (Page::Listed, Some("cross-site"), Ok(true), Ok(true)),
            (Page::Listed, Some("same-site"), Ok(true), Ok(true)),
            (Page::Unknown, None, Ok(false), refused),
            (Page::Unknown, Some("same-origin"), Ok(true), refused),
            (Page::Unknown, Some("same-site"), Ok(false), refused),
            (Page::Unknown, Some("cross-site"), Ok(false), refused),
            (Page::Unknown, Some("none"), Ok(false), refused),
            (Page::Unknown, Some("Same-Origin, same-origin"), Ok(false), refused),
        ] {
            for (method, expected) in [
                (Method::GET, reading),
                (Method::HEAD, reading),
                (Method::POST, changing),
                (Method::DELETE, changing),
            ] {
                let mut head = head(method, &[("cookie", "t=abc")]);
                if let Some(site) = site {
                    head.headers.insert(SEC_FETCH_SITE, HeaderValue::from_static(site));
                }
                let counts = token(&head, "t", page).map(|token| token == Some("abc"));
                let counts = counts.map_err(|problem| problem.code);
                assert_eq!(counts, expected, "{page:?} {site:?} {}", head.method);
            }
        }
    }

    #[test]
    fn a_websocket_needs_an_origin_though_it_begins_with_get() {
        let mut head = head(Method::GET, &[("cookie", "t=abc"), ("sec-fetch-site", "same-origin")]);
        assert_eq!(token(&head, "t", Page::Unknown), Ok(Some("abc")));
        let upgrade = HeaderValue::from_static("keep-alive, Upgrade");
        head.headers.insert(header::CONNECTION, upgrade);
        let refused = token(&head, "t", Page::Unknown).unwrap_err();
        assert_eq!(refused.code, Code::OriginNotAllowed);
        assert_eq!(token(&head, "t", Page::Own), Ok(Some("abc")));
    }

    #[test]
    fn one_cookie_is_found_by_its_whole_name() {
        for (cookies, expected) in [
            (&["t=abc"][..], Ok(Some("abc"))),
            (&["a=b; t=abc; c=d"], Ok(Some("abc"))),
            (&["a=b;t=\"abc\""], Ok(Some("abc"))),
            (&["a=b", "t=abc", "c"], Ok(Some("abc"))),
            (&["t=a=b="], Ok(Some("a=b="))),
            (&["t="], Ok(None)),
            (&["t=\"\""], Ok(None)),
            (&["t"], Ok(None)),
            (&["T=abc; xt=abc; t2=abc; a=t=abc"], Ok(None)),
            (&["t=abc; t=abd"], Err(Code::BadRequest)),
            (&["t=abc", "t=abc"], Err(Code::BadRequest)),
            (&["t=; t=abc"], Err(Code::BadRequest)),
        ] {
            let mut head = RequestHead::default();
            for cookie in cookies {
                head.headers.append(header::COOKIE, HeaderValue::from_static(cookie));
            }
            let found = named(&head.headers, "t").map_err(|problem| problem.code);
            assert_eq!(found, expected, "{cookies:?}");
        }
    }
}
