//! The headers that every response has, and CORS.
//!
//! Pages of listed origins may read what they may ask for, as the Fetch standard says; the browser
//! keeps all others from it.

use actix_http::RequestHead;
use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};

use crate::auth::Auth;
use crate::http::secure;

/// For how long browsers come back over TLS alone (RFC 6797).
const A_YEAR: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// The headers that the answer to one request gets.
pub(super) struct Headers {
    is_encrypted: bool,
    /// The origin of the page that asks, where it is a listed one.
    origin: Option<HeaderValue>,
    is_preflight: bool,
}

impl Headers {
    /// Those of the answer to a request with this head.
    pub(super) fn of(head: &RequestHead, auth: &Auth, is_encrypted: bool) -> Self {
        let origin = head.headers.get(header::ORIGIN);
        let origin = origin.filter(|origin| auth.policy().lists_origin(origin.as_bytes())).cloned();
        let is_preflight = origin.is_some()
            && head.method == Method::OPTIONS
            && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        Self { is_encrypted, origin, is_preflight }
    }

    /// The answer to the question that a browser asks before a request, where this is one.
    pub(super) fn preflight(&self) -> Option<HttpResponse> {
        self.is_preflight.then(preflight)
    }

    /// Adds them.
    pub(super) fn add_to(self, headers: &mut HeaderMap) {
        secure(headers);
        if self.is_encrypted {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, A_YEAR);
        }
        if let Some(origin) = self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
    }
}

fn preflight() -> HttpResponse {
    let allowed = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Event-Type";
    HttpResponse::NoContent()
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, allowed))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "600"))
        .finish()
}
