//! The headers that every response has, and CORS.
//!
//! Pages of listed origins may send what they like, with the browser's own credentials or without, and read
//! what comes back, as the Fetch standard says; the browser keeps all others from it. The broker
//! takes no cookie but the one that `auth.cookie` names; all other credentials are those of who stands before
//! it. Listing an origin trusts its pages with them.

use actix_http::RequestHead;
use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};

use crate::auth::Auth;
use crate::http::{grammar, secure};

/// For how long browsers come back over TLS alone (RFC 6797).
const A_YEAR: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// What no page may say of itself, for proxies say it of who asks.
const OF_PROXIES: &str = "x-forwarded-";

/// The headers that the answer to one request gets.
pub(super) struct Headers {
    is_encrypted: bool,
    /// The origin of the page that asks, where it is a listed one.
    origin: Option<HeaderValue>,
    /// Whether another origin might be answered otherwise.
    varies: bool,
    /// What a preflight of such a page is answered.
    preflight: Option<HttpResponse>,
}

impl Headers {
    /// Those of the answer to a request with this head.
    pub(super) fn of(head: &RequestHead, auth: &Auth, is_encrypted: bool) -> Self {
        let policy = auth.policy();
        let origin = head.headers.get(header::ORIGIN);
        let origin = origin.filter(|origin| policy.lists_origin(origin.as_bytes())).cloned();
        let preflight = (origin.is_some() && is_preflight(head)).then(|| preflight(&head.headers));
        Self { is_encrypted, origin, varies: policy.lists_origins(), preflight }
    }

    /// The answer to the question that a browser asks before a request, where this is one.
    pub(super) fn preflight(&mut self) -> Option<HttpResponse> {
        self.preflight.take()
    }

    /// Adds them.
    pub(super) fn add_to(self, headers: &mut HeaderMap) {
        secure(headers);
        if self.is_encrypted {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, A_YEAR);
        }
        if let Some(origin) = self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
            let exposed = HeaderValue::from_static("Retry-After");
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        if self.varies {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
    }
}

/// Whether a browser asks if a page may make a request (Fetch standard, section 3.3.2).
pub(super) fn is_preflight(head: &RequestHead) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Allows every header that is asked for: those that we don't read do nothing.
fn preflight(headers: &HeaderMap) -> HttpResponse {
    let is_a_pages = |name: &&str| {
        let name = name.to_ascii_lowercase();
        grammar::is_token(&name) && name != "forwarded" && !name.starts_with(OF_PROXIES)
    };
    let asked = grammar::list(headers, &header::ACCESS_CONTROL_REQUEST_HEADERS);
    let allowed = asked.filter(is_a_pages).collect::<Vec<_>>().join(", ");
    HttpResponse::NoContent()
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, DELETE"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, allowed))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "600"))
        .insert_header((header::VARY, "Access-Control-Request-Headers"))
        .finish()
}
