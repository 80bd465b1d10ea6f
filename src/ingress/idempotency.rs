//! What a repeated publish over HTTP is known by.

use actix_web::HttpRequest;
use actix_web::http::header;

use crate::auth::{Access, Entrance, Publisher};
use crate::history::{Asked, IdempotencyKey, digest};
use crate::http;
use crate::model::{Code, NewEvent, Problem, PublishKey};

/// Reads `Idempotency-Key`, and what is asked under it. Without one nothing is digested.
pub(super) fn key(
    request: &HttpRequest,
    entrance: &Entrance,
    access: &Access,
    body: &[u8],
    events: &[NewEvent],
) -> Result<Option<IdempotencyKey>, Problem> {
    let headers = request.headers();
    let Some(key) = http::header(headers, &http::IDEMPOTENCY_KEY)? else { return Ok(None) };
    let key = PublishKey::parse(key)
        .map_err(|error| Problem::new(Code::BadRequest, format!("Idempotency-Key {error}")))?;
    let address = entrance.client(request.head())?.address;
    let publisher = Publisher::new(access.caller(), http::credential(headers, None)?, address);
    let asked = Asked::of_events(events).with_raw(as_it_came(request, body)?);
    Ok(Some(IdempotencyKey { scope: publisher.scope(&key), asked, is_in_series: false }))
}

/// What earlier releases know a request by: its bytes, its path and what its headers say of them.
fn as_it_came(request: &HttpRequest, body: &[u8]) -> Result<[u8; 32], Problem> {
    let value = |name| http::header(request.headers(), name).map(Option::unwrap_or_default);
    let (content_type, kind) = (value(&header::CONTENT_TYPE)?, value(&http::X_EVENT_TYPE)?);
    let path = request.path();
    Ok(digest(&[path.as_bytes(), content_type.as_bytes(), kind.as_bytes(), body]))
}
