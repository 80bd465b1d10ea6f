//! Commands to sessions: what an operator has them do.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use crate::auth::{Access, Auth};
use crate::body::Sending;
use crate::broker::{BrokerHandle, Order};
use crate::config::Limits;
use crate::http::Query;
use crate::model::{Audience, Code, Problem};
use crate::protocol::{Command, Token};

/// `POST /v1/commands`: has sessions of every node do something, as if their clients had asked; none gets a right by that.
pub async fn command(
    sending: Sending,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    auth: web::Data<Auth>,
    limits: web::Data<Limits>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    sending.check(Access::require_admin)?;
    let (body, access) = sending.small_json().await?;
    access.require_admin()?;
    let (audience, command) = Command::parse(&body, &limits.of_messages())?;
    if let Command::Refresh { token: Token(token) } = &command {
        auth.identify(Some(token)).await?;
    }
    auth.still_may(&access, Access::require_admin)?;
    // As it came: each node reads it by its own limits.
    let words = String::from_utf8_lossy(&body).into_owned();
    drop(body);
    let is_one = matches!(audience, Audience::Session(_));
    let obeyed = broker.command(Order { audience, words }).await?;
    let (silent, all) = (obeyed.silent, obeyed.all);
    if is_one && all.done + all.refused == 0 {
        obeyed.whole()?;
        return Err(Problem::new(Code::NotFound, "there is no such session"));
    }
    let mut answer = json!({ "done": all.done, "refused": all.refused });
    if silent > 0 {
        answer["silent_nodes"] = silent.into();
    }
    Ok(HttpResponse::Ok().json(answer))
}
