//! Reading topics and their events back over REST.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::auth::{Access, Auth};
use crate::broker::{BrokerHandle, Gathered};
use crate::history::{ListTopics, Read, TopicSummary};
use crate::http::{self, Query};
use crate::model::{Code, Cursor, Event, Pattern, Problem, Start, Topic};

/// The most items of one page.
const MAX_LIMIT: usize = 1_000;

/// The items of a page where no limit is asked for.
const DEFAULT_LIMIT: usize = 100;

/// The size at which a page of events ends early, in bytes.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

#[derive(Serialize)]
struct EventsBody {
    events: Vec<Box<RawValue>>,
    next: String,
    gap: bool,
}

#[derive(Serialize)]
struct TopicBody {
    topic: String,
    subscribers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    latest: Option<Box<RawValue>>,
    retained: usize,
    #[serde(skip_serializing_if = "is_zero")]
    silent_nodes: usize,
}

#[derive(Serialize)]
struct TopicsBody {
    topics: Vec<TopicBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    silent_nodes: usize,
}

#[derive(Serialize)]
struct ForgottenBody {
    removed: usize,
}

/// `GET /v1/topics/{topic}/events`: kept events after a cursor.
pub async fn read_events(
    access: Access,
    topic: web::Path<String>,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    auth: web::Data<Auth>,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.query_string(), &["since", "limit"])?;
    let topic = Topic::parse(&topic)?;
    access.require_subscribe(&topic)?;
    let (after, is_gap) = since(&query, &broker).await?;
    let read = Read {
        patterns: Arc::new([Pattern::from(&topic)]),
        after,
        upto: None,
        max_events: query.limit("limit", DEFAULT_LIMIT, MAX_LIMIT)?,
        max_bytes: PAGE_BYTES,
    };
    let page = broker.history().read(read).await?;
    auth.still_may(&access, |now| now.require_subscribe(&topic))?;
    let events = page.events.iter().map(|event| object(event)).collect::<Result<_, _>>()?;
    let (next, gap) = (page.next.to_string(), is_gap || page.gap.is_some());
    Ok(HttpResponse::Ok().json(EventsBody { events, next, gap }))
}

/// Where to read from: a cursor, a moment (RFC 3339), or as long ago as `-15m`; and whether events are
/// missed by that, for the clock went back.
async fn since(query: &Query, broker: &BrokerHandle) -> Result<(Option<Cursor>, bool), Problem> {
    match query.one_filled("since")?.map(Start::parse).transpose()? {
        None => Ok((None, false)),
        Some(Start::After(cursor)) => Ok((Some(cursor), false)),
        Some(Start::Since(since)) => {
            let moment = broker.history().place_before(since).await?;
            Ok((Some(moment.place), moment.gap))
        }
    }
}

/// `DELETE /v1/topics/{topic}/events`: forgets what is kept.
pub async fn forget_events(
    access: Access,
    topic: web::Path<String>,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let topic = Topic::parse(&topic)?;
    access.require_forget(&topic)?;
    let removed = broker.history().forget(topic).await?;
    Ok(HttpResponse::Ok().json(ForgottenBody { removed }))
}

/// `GET /v1/topics/{topic}`: what is known of a topic; zeros where nobody used it.
pub async fn read_topic(
    access: Access,
    topic: web::Path<String>,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    auth: web::Data<Auth>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let topic = Topic::parse(&topic)?;
    access.require_subscribe(&topic)?;
    let summary = broker.history().topic(topic.clone()).await?;
    let Gathered { all, silent } = broker.subscribers(vec![topic.clone()]).await?;
    auth.still_may(&access, |now| now.require_subscribe(&topic))?;
    let subscribers = all.into_iter().sum();
    Ok(HttpResponse::Ok().json(TopicBody {
        topic: summary.topic.to_string(),
        subscribers,
        latest: summary.value().map(object).transpose()?,
        retained: summary.retained,
        silent_nodes: silent,
    }))
}

/// `GET /v1/topics`: topics with subscribers or kept events, of those the caller may receive.
pub async fn list_topics(
    access: Access,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    auth: web::Data<Auth>,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.query_string(), &["match", "limit", "after"])?;
    let pattern = match query.one("match")? {
        Some(text) => Pattern::parse(text)?,
        None => Pattern::everything(),
    };
    access.require_some_of(&pattern)?;
    let limit = query.limit("limit", DEFAULT_LIMIT, MAX_LIMIT)?;
    let after = query.topic("after")?;
    let Gathered { all: listed, silent } =
        broker.topics(ListTopics { pattern, after, limit }).await?;
    let access = auth.still(&access)?;
    let is_full = listed.len() == limit;
    let next = listed.last().filter(|_| is_full).map(|(summary, _)| summary.topic.to_string());
    let visible = listed.into_iter().filter(|(summary, _)| access.may_subscribe(&summary.topic));
    let topics = visible.map(|(summary, subscribers)| line(summary, subscribers)).collect();
    Ok(HttpResponse::Ok().json(TopicsBody { topics, next, silent_nodes: silent }))
}

fn line(summary: TopicSummary, subscribers: usize) -> TopicBody {
    let TopicSummary { topic, retained, .. } = summary;
    TopicBody { topic: topic.to_string(), subscribers, latest: None, retained, silent_nodes: 0 }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

fn object(event: &Event) -> Result<Box<RawValue>, Problem> {
    let value = http::event_value(event);
    value.ok_or_else(|| Problem::new(Code::Internal, "a kept event could not be written"))
}
