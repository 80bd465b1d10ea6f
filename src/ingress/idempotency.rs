//! What a repeated publish is known by.

use actix_web::HttpRequest;
use actix_web::http::header;
use aws_lc_rs::digest::{Context, SHA256};

use crate::auth::{Access, Caller, Entrance};
use crate::history::IdempotencyKey;
use crate::http;
use crate::model::{Code, Problem};

/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// Reads `Idempotency-Key`: 1 to 255 characters of visible ASCII. Its scope is who asks: a user by
/// name, because tokens are renewed; anonymous clients by their address, or one would be told what became of
/// another's event; anyone else by credential.
pub(super) fn key(
    request: &HttpRequest,
    entrance: &Entrance,
    access: &Access,
    body: &[u8],
) -> Result<Option<IdempotencyKey>, Problem> {
    let headers = request.headers();
    let Some(key) = http::header(headers, &http::IDEMPOTENCY_KEY)? else { return Ok(None) };
    if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.bytes().all(|b| b.is_ascii_graphic()) {
        let detail =
            format!("Idempotency-Key must be 1 to {MAX_KEY_BYTES} visible ASCII characters");
        return Err(Problem::new(Code::BadRequest, detail));
    }
    let address;
    let who = match access.caller() {
        Caller::User(user) => ["user", &user.bearer.user],
        Caller::Anonymous => {
            address = entrance.client(request.head())?.address.map(|address| address.to_string());
            ["address", address.as_deref().unwrap_or_default()]
        }
        Caller::Application(_) | Caller::Key(_) => {
            ["credential", http::credential(headers, None)?.unwrap_or_default()]
        }
    };
    let scope = digest(&[who[0].as_bytes(), who[1].as_bytes(), key.as_bytes()]);
    let value = |name| http::header(headers, name).map(Option::unwrap_or_default);
    let (content_type, kind) = (value(&header::CONTENT_TYPE)?, value(&http::X_EVENT_TYPE)?);
    let path = request.path();
    let asked = digest(&[path.as_bytes(), content_type.as_bytes(), kind.as_bytes(), body]);
    Ok(Some(IdempotencyKey { scope, request: asked, is_in_series: false }))
}

/// A digest of several texts that can't be shifted into one another.
pub(super) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
