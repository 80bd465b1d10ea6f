//! Tickets: a single use of someone's rights, for URLs that get into logs and histories.
//!
//! A browser can't set headers on an `EventSource` or a `WebSocket`; a ticket in the URL is of no use
//! to whoever reads it there later. A user gets one for their own token; an application gets one for
//! any user, with rights that it says, and so needs no tokens at all.

use std::time::{Duration, SystemTime};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use rand::RngExt;
use serde_json::json;

use super::members::Members;
use crate::auth::{Access, Caller, User};
use crate::body::Sending;
use crate::broker::{BrokerHandle, TICKET_LIFE};
use crate::http::Query;
use crate::model::{Bearer, Code, Info, Pattern, Problem, Timestamp};

/// How long a session lasts where its application does not say, in seconds.
const DEFAULT_SECONDS: u64 = 60 * 60;

/// The longest that it may last, in seconds.
const MAX_SECONDS: u64 = 24 * 60 * 60;

/// The longest name of a user, in bytes.
const MAX_USER_BYTES: usize = 255;

/// What an application says of whom it wants a ticket for.
const WANTED: [&str; 5] = ["user", "subscribe", "publish", "session_seconds", "info"];

/// `POST /v1/tickets`: a ticket for `?ticket=`.
pub async fn make_ticket(
    sending: Sending,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    sending.check(require_credential)?;
    let (body, access) = sending.small_json().await?;
    let user = match access.caller() {
        Caller::User(user) if body.is_empty() => (**user).clone(),
        Caller::User(_) => {
            let detail = "a ticket for a token has the token's rights: send no body";
            return Err(Problem::new(Code::BadRequest, detail));
        }
        Caller::Application(_) | Caller::Key(_) => user_of(&access, &body)?,
        Caller::Anonymous => return Err(without_credential(&access)),
    };
    let left = serde_json::to_string(&user)
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let ticket = broker.leave(left)?;
    Ok(HttpResponse::Created()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(json!({ "ticket": ticket, "expires_in": TICKET_LIFE.as_secs() })))
}

fn require_credential(access: &Access) -> Result<(), Problem> {
    match access.caller() {
        Caller::Anonymous => Err(without_credential(access)),
        Caller::User(_) | Caller::Application(_) | Caller::Key(_) => Ok(()),
    }
}

fn without_credential(access: &Access) -> Problem {
    access.refusal("a ticket needs a token or an API key")
}

/// Whom an application vouches for.
fn user_of(access: &Access, body: &[u8]) -> Result<User, Problem> {
    let bad = |detail: String| Problem::new(Code::BadRequest, detail);
    let mut wanted = Members::read(body, &WANTED)?;
    let user = wanted.text("user")?.ok_or_else(|| bad("`user` is missing".to_owned()))?;
    if user.is_empty() || user.len() > MAX_USER_BYTES {
        return Err(bad(format!("`user` must have 1 to {MAX_USER_BYTES} bytes")));
    }
    let session_seconds = wanted.whole("session_seconds", 1..=MAX_SECONDS, DEFAULT_SECONDS)?;
    let info = Info::of(&wanted.value("info")?).map_err(|why| bad(format!("`info` {why}")))?;
    let mut patterns = |name| -> Result<Vec<Pattern>, Problem> {
        let texts = wanted.texts(name)?;
        Ok(texts.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?)
    };
    let (subscribe, publish) = (patterns("subscribe")?, patterns("publish")?);
    access.require_grant(&subscribe, &publish)?;
    let now = SystemTime::now();
    let token = format!("ticket:{:032x}", rand::rng().random::<u128>());
    let bearer = Bearer { user, token, issued: Some(Timestamp::from(now)), info };
    let expires = now + Duration::from_secs(session_seconds);
    Ok(User { bearer, proof: access.proof(), expires, subscribe, publish })
}
