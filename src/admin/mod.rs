//! Seeing and ending sessions, presence, tickets, revocations, health and metrics.

mod callers;
mod commands;
mod members;
pub mod revocations;
pub mod settings;
mod tickets;

use std::collections::{BTreeSet, HashMap};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;

pub use self::callers::{explain_token, read_caller};
pub use self::commands::command;
pub use self::revocations::{list_revocations, revoke};
pub use self::settings::read_settings;
pub use self::tickets::make_ticket;
use crate::auth::{Access, Auth};
use crate::broker::{BrokerHandle, Gathered, Range, Rank, Ranking, SessionInfo, SessionView, Sort};
use crate::http::{Page, PageSize, Query, grammar, read_next};
use crate::metrics::{self, Metrics};
use crate::model::{Attendee, Code, Problem, Topic};

#[derive(Serialize)]
struct SessionBody {
    session: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    since: String,
    transport: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    subscriptions: Vec<String>,
    queued_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
}

impl From<SessionView> for SessionBody {
    fn from(view: SessionView) -> Self {
        let SessionView { info, subscriptions, queued_bytes, lag_ms, skipped } = view;
        Self {
            user: info.user().map(str::to_owned),
            token: info.bearer.map(|bearer| bearer.token),
            session: info.id.to_string(),
            since: info.since.to_string(),
            transport: info.transport.name(),
            address: info.address,
            node: info.node,
            subscriptions: subscriptions.iter().map(|pattern| pattern.to_string()).collect(),
            queued_bytes,
            lag_ms,
            skipped,
        }
    }
}

/// A session that would receive an event of a topic, as presence shows it.
fn member_of(
    topic: &Topic,
    info: SessionInfo,
    sessions_by_user: &HashMap<String, usize>,
) -> Attendee {
    let user = info.user().map(str::to_owned);
    Attendee {
        topic: topic.clone(),
        user_sessions: user.as_ref().and_then(|user| sessions_by_user.get(user)).copied(),
        user,
        info: info.info().cloned(),
        session: info.id.to_string(),
        since: info.since,
        transport: info.transport.name().to_owned(),
        node: info.node.unwrap_or_default(),
        change: None,
    }
}

/// `GET /v1/sessions`: who is connected.
pub async fn list_sessions(
    access: Access,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    auth: web::Data<Auth>,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.query_string(), &["user", "sort", "limit", "after"])?;
    access.require_admin()?;
    let user = query.one("user")?.map(str::to_owned);
    let sort = query.one("sort")?.map(sort).transpose()?;
    let (size, range) = range(&query)?;
    let sessions = match sort {
        None => broker.sessions(user, range).await?,
        Some(sort) => {
            let after = range.after.as_deref().map(|after| rank(sort, after)).transpose()?;
            broker.ranked_sessions(user, Ranking { sort, after, limit: range.limit }).await?
        }
    };
    auth.still_may(&access, Access::require_admin)?;
    let place = |view: &SessionView| match sort {
        None => view.info.id.to_string(),
        Some(sort) => {
            let Rank { value, id } = sort.rank(view);
            format!("{id}.{value}")
        }
    };
    Ok(page("sessions", sessions, size, place, SessionBody::from))
}

fn sort(name: &str) -> Result<Sort, Problem> {
    let detail = "sort must be queued_bytes, since, user or address; without it, sessions are listed by their ids";
    name.parse().map_err(|()| Problem::new(Code::BadRequest, detail))
}

/// Reads `next` of a sorted list, `<id>.<value>`, which is opaque to clients.
fn rank(sort: Sort, text: &str) -> Result<Rank, Problem> {
    read_next(text, "a list with this sort", |id, value| {
        Some(Rank { value: sort.parse_value(value)?, id: id.to_owned() })
    })
}

/// `DELETE /v1/sessions/{id}`: ends a session.
pub async fn end_session(
    access: Access,
    id: web::Path<String>,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    access.require_admin()?;
    match broker.end_session(id.into_inner()).await? {
        true => Ok(HttpResponse::NoContent().finish()),
        false => Err(Problem::new(Code::NotFound, "there is no such session")),
    }
}

/// `DELETE /v1/users/{user}/sessions`: ends every session of a user.
pub async fn end_user(
    access: Access,
    user: web::Path<String>,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    access.require_admin()?;
    let ended = broker.end_user(user.into_inner()).await?;
    Ok(HttpResponse::Ok().json(json!({ "ended": ended })))
}

/// `GET /v1/topics/{topic}/presence`: who is subscribed, where the topic's rule lets one ask.
pub async fn presence(
    access: Access,
    topic: web::Path<String>,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    auth: web::Data<Auth>,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.query_string(), &["limit", "after"])?;
    let topic = Topic::parse(&topic)?;
    require_presence(&access, &topic)?;
    let (size, range) = range(&query)?;
    let mut members = broker.presence(topic.clone(), range).await?;
    let users: BTreeSet<_> = members.all.iter().filter_map(SessionInfo::user).collect();
    let users: Vec<_> = users.into_iter().map(str::to_owned).collect();
    let counts = match users.is_empty() {
        true => Gathered { all: Vec::new(), silent: 0 },
        false => broker.user_sessions(topic.clone(), users.clone()).await?,
    };
    members.silent = members.silent.max(counts.silent);
    // Who has come or gone in between is there, or not, as the list says.
    let sessions_by_user = users.into_iter().zip(counts.all.into_iter().map(|count| count.max(1)));
    let sessions_by_user = sessions_by_user.collect();
    auth.still_may(&access, |now| require_presence(now, &topic))?;
    let member = |info| member_of(&topic, info, &sessions_by_user);
    Ok(page("members", members, size, |info| info.id.to_string(), member))
}

fn require_presence(access: &Access, topic: &Topic) -> Result<(), Problem> {
    access.require_subscribe(topic)?;
    if access.rules().of(topic).presence {
        return Ok(());
    }
    let detail = format!("presence is off for {topic}; a [[topics]] rule can turn it on");
    Err(Problem::new(Code::NotFound, detail).allowed_by("topics.presence"))
}

/// The page that is asked for, and the range of it and one item more.
fn range(query: &Query) -> Result<(PageSize, Range), Problem> {
    let (size, after) = (PageSize::of(query)?, query.one("after")?.map(str::to_owned));
    Ok((size, Range { after, limit: size.and_one() }))
}

/// The page of items that are in the order of their places.
fn page<T, B: Serialize>(
    name: &'static str,
    Gathered { all: mut items, silent: silent_nodes }: Gathered<Vec<T>>,
    size: PageSize,
    place: impl Fn(&T) -> String,
    body: impl Fn(T) -> B,
) -> HttpResponse {
    let is_cut = size.cut(&mut items);
    let next = items.last().filter(|_| is_cut).map(place);
    let items: Vec<_> = items.into_iter().map(body).collect();
    HttpResponse::Ok().json(Page { name, items, next, silent_nodes })
}

/// `GET /health/live`: the process answers. A page of an origin that is not listed can't read it, but learns that something
/// is there, by which the client tells that from a broker that is away.
pub async fn live() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin"))
        .json(json!({ "status": "ok" }))
}

/// `GET /health/ready`: the broker can do its job.
pub async fn ready(broker: web::Data<BrokerHandle>) -> HttpResponse {
    let trouble = broker.history().trouble();
    let is_ready = trouble.is_none() && !broker.is_leaving();
    let serving = if broker.is_leaving() { "the broker is stopping" } else { "ok" };
    let history = trouble.as_deref().unwrap_or("ok");
    let checks = json!({ "history": history, "serving": serving });
    match is_ready {
        true => HttpResponse::Ok().json(json!({ "status": "ready", "checks": checks })),
        false => HttpResponse::ServiceUnavailable()
            .insert_header(("retry-after", "1"))
            .json(json!({ "status": "not_ready", "checks": checks })),
    }
}

/// `GET /metrics`: what the broker counts about itself; with credentials configured, for
/// applications. In the classic text format, unless OpenMetrics is asked for by name and no less.
pub async fn metrics(
    access: Access,
    request: HttpRequest,
    metrics: web::Data<Metrics>,
) -> Result<HttpResponse, Problem> {
    access.require_admin()?;
    let weight = |of: (&str, &str)| grammar::weight_by_name(request.headers(), of.0, of.1);
    let open = weight(("application", "openmetrics-text"));
    let is_open = open > 0.0 && open >= weight(("text", "plain"));
    let (content_type, text) = match is_open {
        true => (metrics::OPEN_METRICS, metrics.render()),
        false => (metrics::CLASSIC, metrics.render_classic()),
    };
    let vary = (header::VARY, "Accept");
    Ok(HttpResponse::Ok().content_type(content_type).insert_header(vary).body(text))
}
