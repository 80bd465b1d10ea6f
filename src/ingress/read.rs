//! Reading topics and their events back over REST.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::auth::{Access, Auth};
use crate::broker::{BrokerHandle, Gathered};
use crate::history::{ListTopics, Read, ReadBack, TopicSummary};
use crate::http::{self, Page, PageSize, Query};
use crate::model::{Code, Cursor, Event, Pattern, Problem, Start, Topic};

/// The size at which a page of events ends early, in bytes.
pub(super) const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// How often a page looks further where it finds nothing that matches or may be shown; each time it looks at a
/// thousand events or topics or more.
pub(super) const ROUNDS: usize = 256;

#[derive(Serialize)]
struct EventsBody {
    events: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    gap: bool,
}

#[derive(Serialize)]
struct TopicBody {
    topic: String,
    subscribers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    latest: Option<Box<RawValue>>,
    /// When the newest event came; in lists, where the event itself is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    latest_time: Option<String>,
    retained: usize,
    /// How many of its events were superseded; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded: Option<u64>,
    #[serde(skip_serializing_if = "is_zero")]
    silent_nodes: usize,
}

#[derive(Serialize)]
struct ForgottenBody {
    removed: usize,
}

/// `GET /v1/topics/{topic}/events`: kept events of a topic.
pub async fn read_events(
    access: Access,
    topic: web::Path<String>,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    auth: web::Data<Auth>,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.query_string(), &["since", "before", "limit"])?;
    let topic = Topic::parse(&topic)?;
    events(&query, &Pattern::from(&topic), access, &broker, &auth).await
}

/// `GET /v1/events`: kept events of all topics that match, of those that the caller may receive.
pub async fn read_matching_events(
    access: Access,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    auth: web::Data<Auth>,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.query_string(), &["match", "since", "before", "limit"])?;
    events(&query, &pattern(&query)?, access, &broker, &auth).await
}

/// Which way a page of kept events is read, and from where.
#[derive(Clone, Copy)]
enum Way {
    /// On from a place, oldest first.
    On(Option<Cursor>),
    /// Back from a place, newest first.
    Back(Option<Cursor>),
}

/// What a look at some of them finds.
struct Look {
    events: Vec<Arc<Event>>,
    next: Option<Cursor>,
    is_gap: bool,
    is_last: bool,
}

impl Way {
    /// The way that is asked for, and whether events are missed by that already.
    async fn asked(query: &Query, broker: &BrokerHandle) -> Result<(Self, bool), Problem> {
        match (query.one("before")?, query.one_filled("since")?) {
            (None, _) => {
                let (after, is_gap) = since(query, broker).await?;
                Ok((Self::On(after), is_gap))
            }
            (Some(_), None) => Ok((Self::Back(query.cursor("before")?), false)),
            (Some(_), Some(_)) => {
                let detail =
                    "since reads on from a place, and before back from one: give one of the two";
                Err(Problem::new(Code::BadRequest, detail))
            }
        }
    }

    async fn look(
        self,
        broker: &BrokerHandle,
        patterns: Arc<[Pattern]>,
        max_events: usize,
    ) -> Result<Look, Problem> {
        let max_bytes = PAGE_BYTES;
        match self {
            Self::On(after) => {
                let read = Read { patterns, after, upto: None, max_events, max_bytes };
                let page = broker.history().read(read).await?;
                let (next, is_gap) = (Some(page.next), page.gap.is_some());
                Ok(Look { events: page.events, next, is_gap, is_last: page.done })
            }
            Self::Back(before) => {
                let read = ReadBack { patterns, before, max_events, max_bytes };
                let page = broker.history().read_back(read).await?;
                let (next, is_gap) = (page.next, page.gap);
                Ok(Look { events: page.events, next, is_gap, is_last: next.is_none() })
            }
        }
    }

    /// The same way, from another place.
    fn go_on(self, next: Option<Cursor>) -> Self {
        match self {
            Self::On(_) => Self::On(next),
            Self::Back(_) => Self::Back(next),
        }
    }
}

/// A page of kept events of what the caller may receive.
async fn events(
    query: &Query,
    pattern: &Pattern,
    mut access: Access,
    broker: &BrokerHandle,
    auth: &Auth,
) -> Result<HttpResponse, Problem> {
    access.require_some_of(pattern)?;
    let size = PageSize::of(query)?;
    let (mut way, mut gap) = Way::asked(query, broker).await?;
    let patterns: Arc<[Pattern]> = access.within(pattern).into();
    let mut left = ROUNDS;
    let (events, next) = loop {
        let found = way.look(broker, patterns.clone(), size.items()).await?;
        let Look { mut events, next, is_gap, is_last } = found;
        access = auth.still(&access)?;
        access.require_some_of(pattern)?;
        gap |= is_gap;
        events.retain(|event| access.may_subscribe(&event.topic));
        left -= 1;
        // A page ends where much was looked at, too: one without events is to mean that there are none.
        if is_last || !events.is_empty() || left == 0 {
            break (events, next);
        }
        way = way.go_on(next);
    };
    let events = events.iter().map(|event| object(event)).collect::<Result<_, _>>()?;
    let next = next.map(|next| next.to_string());
    Ok(HttpResponse::Ok().json(EventsBody { events, next, gap }))
}

/// `GET /v1/cursor`: the newest committed place, as this node knows it.
pub async fn read_cursor(
    access: Access,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    access.require_some_right()?;
    Ok(HttpResponse::Ok().json(json!({ "cursor": broker.history().head().to_string() })))
}

/// Where to read from: a cursor, a moment (RFC 3339), or as long ago as `-15m`; and whether events are
/// missed by that, for the clock went back.
async fn since(query: &Query, broker: &BrokerHandle) -> Result<(Option<Cursor>, bool), Problem> {
    match query.one_filled("since")?.map(Start::parse).transpose()? {
        None => Ok((None, false)),
        Some(Start::After(cursor)) => Ok((Some(cursor), false)),
        Some(Start::Since(since)) => {
            let moment = broker.history().position_before(since).await?;
            Ok((Some(moment.position), moment.gap))
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
        latest_time: None,
        superseded: Some(broker.superseded(&topic)).filter(|count| *count > 0),
        retained: summary.retained,
        silent_nodes: silent,
    }))
}

/// `GET /v1/topics`: topics with subscribers or kept events, of those the caller may receive.
pub async fn list_topics(
    mut access: Access,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    auth: web::Data<Auth>,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.query_string(), &["match", "limit", "after"])?;
    let pattern = pattern(&query)?;
    access.require_some_of(&pattern)?;
    let size = PageSize::of(&query)?;
    let after = query.topic("after")?;
    let mut list = ListTopics { pattern: pattern.clone(), after, limit: size.and_one() };
    let mut found = Vec::new();
    for _ in 0..ROUNDS {
        let listed = broker.topics(list.clone()).await?;
        access = auth.still(&access)?;
        let is_full = listed.len() == list.limit;
        list.after = listed.last().filter(|_| is_full).map(|summary| summary.topic.clone());
        let is_shown =
            |summary: &TopicSummary| !summary.is_removed && access.may_subscribe(&summary.topic);
        found.extend(listed.into_iter().filter(is_shown));
        if list.after.is_none() || found.len() > size.items() {
            break;
        }
        // Few of them may be shown.
        list.limit = PageSize::MAX;
    }
    let next = end_page(&access, &pattern, &mut found, size, list.after, |found| &found.topic)?;
    let topics = found.iter().map(|summary| summary.topic.clone()).collect();
    let Gathered { all: counts, silent } = broker.subscribers(topics).await?;
    let access = auth.still(&access)?;
    let mut found: Vec<_> = found.into_iter().zip(counts).collect();
    let next = end_page(&access, &pattern, &mut found, size, next, |(found, _)| &found.topic)?;
    let topics = found.into_iter().map(|(summary, subscribers)| line(summary, subscribers));
    let (items, next) = (topics.collect(), next.map(|topic| topic.to_string()));
    Ok(HttpResponse::Ok().json(Page { name: "topics", items, next, silent_nodes: silent }))
}

/// Cuts what was found to a page of what the caller may receive, and says the topic after which there may be more: one
/// that the caller may know of. `after` is where the last look has ended, unless nothing comes behind.
pub(super) fn end_page<T>(
    access: &Access,
    pattern: &Pattern,
    found: &mut Vec<T>,
    size: PageSize,
    after: Option<Topic>,
    topic: impl Fn(&T) -> &Topic,
) -> Result<Option<Topic>, Problem> {
    access.require_some_of(pattern)?;
    found.retain(|one| access.may_subscribe(topic(one)));
    let is_cut = size.cut(found);
    match (after, found.last()) {
        (_, Some(last)) if is_cut => Ok(Some(topic(last).clone())),
        (None, _) => Ok(None),
        (Some(after), _) if access.may_subscribe(&after) => Ok(Some(after)),
        (Some(_), Some(last)) => Ok(Some(topic(last).clone())),
        (Some(_), None) => Err(access.refusal(format!(
            "too many topics of {pattern} come before the first that may be shown; ask for a narrower pattern"
        ))),
    }
}

/// The pattern `match`; without it, everything but the broker's own.
pub(super) fn pattern(query: &Query) -> Result<Pattern, Problem> {
    match query.one("match")? {
        Some(text) => Ok(Pattern::parse(text)?),
        None => Ok(Pattern::everything()),
    }
}

fn line(summary: TopicSummary, subscribers: usize) -> TopicBody {
    let TopicSummary { topic, retained, latest_time, .. } = summary;
    let latest_time = latest_time.map(|time| time.to_string());
    let topic = topic.to_string();
    TopicBody {
        topic,
        subscribers,
        latest: None,
        latest_time,
        retained,
        superseded: None,
        silent_nodes: 0,
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
pub(super) fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// An event as it is shown.
pub(super) fn object(event: &Event) -> Result<Box<RawValue>, Problem> {
    let value = http::event_value(event);
    value.ok_or_else(|| Problem::new(Code::Internal, "a kept event could not be written"))
}
