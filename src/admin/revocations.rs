//! Revocation: a user's tokens, one token, or the token that a session came in with.
//!
//! A revocation is an event of the log, on a topic of the broker's own: it outlives a restart as
//! events do, and reaches every node as they do. Each node follows that topic.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;
use tokio::sync::oneshot;
use tracing::debug;

use super::members::Members;
use crate::auth::{Access, Auth, TooManyRevocations};
use crate::body::Sending;
use crate::broker::BrokerHandle;
use crate::history::{Append, Page, Read};
use crate::http::Query;
use crate::metrics::Way;
use crate::model::{
    Code, Cursor, Data, NewEvent, Pattern, Problem, Revocation, Revoked, Timestamp, Topic,
};

/// How often a node looks for revocations that others made.
const LOOK: Duration = Duration::from_secs(1);

/// Revocations that are read at a time.
const PAGE: usize = 1_000;

/// What an operator wants to have revoked.
enum Wanted {
    /// It, or who it is.
    Revoked(Revoked),
    /// The token that this session came in with.
    TokenOf(String),
}

impl Wanted {
    /// Reads one of `{"user"}`, `{"token"}` and `{"session"}`.
    fn read(body: &[u8]) -> Result<Self, Problem> {
        let mut members = Members::read(body, &["user", "token", "session"])?;
        let mut text = |name| members.text(name);
        match (text("user")?, text("token")?, text("session")?) {
            (Some(user), None, None) => Ok(Wanted::Revoked(Revoked::User(user))),
            (None, Some(id), None) => Ok(Wanted::Revoked(Revoked::Token(id))),
            (None, None, Some(id)) => Ok(Wanted::TokenOf(id)),
            _ => {
                let detail = "the body must have one of the three: `user`, `token`, `session`";
                Err(Problem::new(Code::BadRequest, detail))
            }
        }
    }
}

/// `GET /v1/revocations`: what is accepted no longer.
pub async fn list_revocations(
    access: Access,
    request: HttpRequest,
    auth: web::Data<Auth>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    access.require_admin()?;
    let all = auth.revocations().list();
    let all: Vec<_> = all.iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(json!({ "revocations": all })))
}

/// `POST /v1/revocations`: refuses tokens from here on, and ends the sessions that came in with them.
pub async fn revoke(
    sending: Sending,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    auth: web::Data<Auth>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    sending.check(Access::require_admin)?;
    let (body, access) = sending.small_json().await?;
    access.require_admin()?;
    let wanted = Wanted::read(&body)?;
    drop(body);
    let what = match wanted {
        Wanted::Revoked(what) => what,
        Wanted::TokenOf(session) => Revoked::Token(token_of(&broker, session).await?),
    };
    let revocation = Revocation { what, at: Timestamp::from(SystemTime::now()) };
    let full = |error: TooManyRevocations| Problem::new(Code::TooMany, error.to_string());
    let stored = broker.history().topic(Topic::revocations()).await?.retained;
    auth.revocations().check_room(&revocation, stored).map_err(full)?;
    store(&broker, &revocation, || auth.still_may(&access, Access::require_admin)).await?;
    auth.revocations().add(&revocation);
    let ended = broker.end_revoked(revocation.clone()).await?;
    let mut answer = shown(&revocation);
    answer["ended"] = ended.all.into();
    if ended.silent > 0 {
        answer["silent_nodes"] = ended.silent.into();
    }
    Ok(HttpResponse::Created().json(answer))
}

fn shown(revocation: &Revocation) -> serde_json::Value {
    let at = revocation.at.to_string();
    match &revocation.what {
        Revoked::User(user) => json!({ "user": user, "at": at }),
        Revoked::Token(token) => json!({ "token": token, "at": at }),
    }
}

/// The id of the token that a session came in with.
async fn token_of(broker: &BrokerHandle, session: String) -> Result<String, Problem> {
    let Some(view) = broker.session(session).await? else {
        return Err(Problem::new(Code::NotFound, "there is no such session"));
    };
    view.info.bearer.map(|bearer| bearer.token).ok_or_else(|| {
        let detail = "the session came in without a token; DELETE /v1/sessions/{id} ends it";
        Problem::new(Code::BadRequest, detail)
    })
}

async fn store(
    broker: &BrokerHandle,
    revocation: &Revocation,
    allowed: impl FnOnce() -> Result<(), Problem>,
) -> Result<(), Problem> {
    let internal = |error: String| Problem::new(Code::Internal, error);
    let json = serde_json::to_vec(revocation).map_err(|error| internal(error.to_string()))?;
    let data = Data::from_json(&json, 8).map_err(|error| internal(error.to_string()))?;
    let event = NewEvent::new(Topic::revocations(), None, data);
    broker.publish(Append { events: vec![event], key: None }, Way::Broker, |_| allowed()).await?;
    Ok(())
}

/// Follows the log for revocations, for good: those from before the start of this node, of which it says
/// once it knows them all, and those that other nodes make.
pub async fn follow(broker: BrokerHandle, auth: Arc<Auth>, known: oneshot::Sender<()>) {
    let patterns: Arc<[_]> = Arc::new([Pattern::from(&Topic::revocations())]);
    let (mut after, mut known) = (None, Some(known));
    loop {
        match read(&broker, patterns.clone(), after).await {
            Ok(page) => {
                for event in &page.events {
                    match serde_json::from_str(event.data.json().get()) {
                        Ok(revocation) => apply(&broker, &auth, revocation).await,
                        Err(error) => debug!(%error, "a revocation that is not one"),
                    }
                }
                after = Some(page.next);
                if !page.done {
                    continue;
                }
                if let Some(known) = known.take() {
                    _ = known.send(());
                }
            }
            Err(problem) => debug!(%problem, "revocations can't be read"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn read(
    broker: &BrokerHandle,
    patterns: Arc<[Pattern]>,
    after: Option<Cursor>,
) -> Result<Page, Problem> {
    let read = Read { patterns, after, upto: None, max_events: PAGE, max_bytes: usize::MAX };
    broker.history().read(read).await
}

async fn apply(broker: &BrokerHandle, auth: &Auth, revocation: Revocation) {
    if auth.revocations().add(&revocation) {
        broker.end_revoked_here(revocation).await;
    }
}
