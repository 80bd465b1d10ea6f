//! The headers that every response has, and CORS.
//!
//! Pages of listed origins may read what they may ask for, as the Fetch standard says; the browser
//! keeps all others from it.

use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse};

use crate::auth::Auth;
use crate::http::secure;

/// For how long browsers come back over TLS alone (RFC 6797).
const A_YEAR: &str = "max-age=31536000";

/// Adds the headers to the response, or answers the question that a browser asks before a request.
pub(super) async fn with_headers(
    auth: Arc<Auth>,
    is_encrypted: bool,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let headers = request.headers();
    let origin = headers.get(header::ORIGIN);
    let origin = origin.filter(|origin| auth.policy().lists_origin(origin.as_bytes())).cloned();
    let is_preflight = origin.is_some()
        && request.method() == Method::OPTIONS
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match is_preflight {
        true => request.into_response(preflight()),
        false => next.call(request).await?.map_into_boxed_body(),
    };
    let headers = response.headers_mut();
    secure(headers);
    if is_encrypted {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(A_YEAR));
    }
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    Ok(response)
}

fn preflight() -> HttpResponse {
    let allowed = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Event-Type";
    HttpResponse::NoContent()
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, allowed))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "600"))
        .finish()
}
