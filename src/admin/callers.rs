//! Who asks, and what a credential is worth.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::{Value, json};

use super::members::Members;
use crate::auth::{Access, Auth, Caller, Rights};
use crate::body::Sending;
use crate::http::Query;
use crate::model::{Code, Problem, Timestamp, Topic};

/// `GET /v1/caller`: who asks, what that is worth, and on `topic` if one is given.
pub async fn read_caller(access: Access, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.query_string(), &["topic"])?;
    let topic = query.one("topic")?.map(Topic::parse).transpose()?;
    let mut told = shown(&access);
    told["open"] = access.is_of_open_broker().into();
    told["version"] = env!("CARGO_PKG_VERSION").into();
    if let Some(topic) = topic {
        told["topic"] = json!({
            "topic": topic.as_str(),
            "subscribe": access.may_subscribe(&topic),
            "publish": access.may_publish(&topic),
            "forget": access.require_forget(&topic).is_ok(),
        });
    }
    Ok(answer(&told))
}

/// `POST /v1/tokens/explain`: what a credential says, and what this broker makes of it. It is kept nowhere.
pub async fn explain_token(
    sending: Sending,
    request: HttpRequest,
    auth: web::Data<Auth>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    sending.check(Access::require_admin)?;
    let (body, access) = sending.small_json().await?;
    access.require_admin()?;
    let token = Members::read(&body, &["token"])?.text("token")?;
    let token = token.as_deref().map(str::trim).filter(|token| !token.is_empty());
    let missing = || Problem::new(Code::BadRequest, "`token` is missing");
    let token = token.ok_or_else(missing)?;
    let mut told = json!({ "open": access.is_of_open_broker() });
    let mut parts = token.split('.').map(part);
    if let (Some(Some(header)), Some(Some(claims))) = (parts.next(), parts.next()) {
        told["header"] = header;
        told["claims"] = claims;
    }
    match auth.identify(Some(token)).await {
        Err(refused) => {
            told["valid"] = false.into();
            told["detail"] = refused.detail.into();
        }
        Ok(caller) => {
            told["valid"] = true.into();
            told["caller"] = shown(&auth.access(caller));
        }
    }
    auth.still_may(&access, Access::require_admin)?;
    Ok(answer(&told))
}

fn answer(told: &Value) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(told)
}

/// A part of a token that is JSON.
fn part(text: &str) -> Option<Value> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// Who it is, until when, and what they may do.
fn shown(access: &Access) -> Value {
    let Rights { subscribe, publish, own, not_own } = access.rights();
    let mut shown = json!({
        "kind": kind(access.caller()),
        "admin": access.is_admin(),
        "subscribe": subscribe,
        "publish": publish,
        "own": own,
    });
    if !not_own.is_empty() {
        shown["not_own"] = not_own.into();
    }
    match access.caller() {
        Caller::Key(key) => shown["name"] = key.name.as_str().into(),
        Caller::User(user) => {
            shown["user"] = user.bearer.user.as_str().into();
            shown["token"] = user.bearer.token.as_str().into();
            shown["expires"] = Timestamp::from(user.expires).to_string().into();
        }
        Caller::Application(_) | Caller::Anonymous => {}
    }
    shown
}

fn kind(caller: &Caller) -> &'static str {
    match caller {
        Caller::Application(_) => "application",
        Caller::Key(_) => "key",
        Caller::User(_) => "user",
        Caller::Anonymous => "anonymous",
    }
}
