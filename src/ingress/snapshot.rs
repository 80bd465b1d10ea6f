//! Current values over REST: what a page is painted with before its first connection, and where to go on from.
//!
//! The cursor is taken before anything is read, and each page repeats that of the first: what is published while
//! pages are read is at worst told twice, once in a later page and once by `since`. Where a page ends is the name of a
//! topic, so that topics may come and go between two of them; only a name that the caller may know is told.

use std::fmt;
use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::value::RawValue;

use super::read::{PAGE_BYTES, ROUNDS, end_page, object, pattern};
use crate::auth::{Access, Auth};
use crate::broker::BrokerHandle;
use crate::history::{Newest, digest};
use crate::http::cache::{EntityTag, Keepers, set_cache_headers};
use crate::http::{PageSize, Query, read_next};
use crate::model::{Cursor, Event, Pattern, Problem, Topic};

#[derive(Serialize)]
struct SnapshotBody {
    events: Vec<Box<RawValue>>,
    cursor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Where a page begins: `<cursor>.<topic>`, opaque to clients.
struct PageToken {
    /// The cursor of the first page.
    cursor: Cursor,
    /// The page is of topics after this one by name.
    after: Topic,
}

impl PageToken {
    fn parse(text: &str) -> Result<Self, Problem> {
        read_next(text, "a page of /v1/snapshot", |cursor, after| {
            Some(Self { cursor: Cursor::parse(cursor).ok()?, after: Topic::parse(after).ok()? })
        })
    }
}

impl fmt::Display for PageToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.cursor, self.after)
    }
}

/// `GET /v1/snapshot`: the current value of each matching topic that the caller may receive.
pub async fn read_snapshot(
    access: Access,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    auth: web::Data<Auth>,
) -> Result<HttpResponse, Problem> {
    let query = Query::parse(request.query_string(), &["match", "limit", "after"])?;
    let pattern = pattern(&query)?;
    access.require_some_of(&pattern)?;
    let size = PageSize::of(&query)?;
    let place = query.one_filled("after")?.map(PageToken::parse).transpose()?;
    let cursor = place.as_ref().map_or_else(|| broker.history().head(), |place| place.cursor);
    let after = place.map(|place| place.after);
    let (access, values) = values(&broker, &auth, access, &pattern, size, after).await?;
    let Values { events, next } = values;
    let events = events.iter().map(|event| object(event)).collect::<Result<Vec<_>, _>>()?;
    let tag = tag(cursor, &events, next.as_ref());
    let is_for_all =
        access.is_anyones(&pattern) && !request.headers().contains_key(header::AUTHORIZATION);
    let keepers = if is_for_all { Keepers::All } else { Keepers::Nobody };
    if tag.is_known(request.headers()) {
        let mut answer = HttpResponse::NotModified();
        set_cache_headers(&mut answer, &tag, keepers);
        return Ok(answer.finish());
    }
    let next = next.map(|after| PageToken { cursor, after }.to_string());
    let mut answer = HttpResponse::Ok();
    set_cache_headers(&mut answer, &tag, keepers);
    Ok(answer.json(SnapshotBody { events, cursor: cursor.to_string(), next }))
}

/// What the caller sees: that the cursor has moved meanwhile changes nothing, for no value that it sees came since.
fn tag(cursor: Cursor, events: &[Box<RawValue>], next: Option<&Topic>) -> EntityTag {
    let log = cursor.at(0).to_string();
    let next = next.map_or("", Topic::as_str);
    let events = events.iter().map(|event| event.get().as_bytes());
    let parts: Vec<_> = [log.as_bytes(), next.as_bytes()].into_iter().chain(events).collect();
    EntityTag::of(&digest(&parts))
}

/// A page of current values.
struct Values {
    /// By topic.
    events: Vec<Arc<Event>>,
    /// The topic after which there are more.
    next: Option<Topic>,
}

/// Reads the values of a page, and the rights by which they may be shown.
async fn values(
    broker: &BrokerHandle,
    auth: &Auth,
    mut access: Access,
    pattern: &Pattern,
    size: PageSize,
    mut after: Option<Topic>,
) -> Result<(Access, Values), Problem> {
    let patterns: Arc<[Pattern]> = access.within(pattern).into();
    let (mut events, mut bytes) = (Vec::<Arc<Event>>::new(), 0);
    for _ in 0..ROUNDS {
        let (max_events, max_bytes) = (size.and_one() - events.len(), PAGE_BYTES - bytes);
        let (patterns, since) = (patterns.clone(), None);
        let newest = Newest { patterns, after, since, max_events, max_bytes };
        let page = broker.history().newest(newest).await?;
        access = auth.still(&access)?;
        let visible = page.events.into_iter().filter(|event| access.may_subscribe(&event.topic));
        visible.for_each(|event| {
            bytes += event.cost();
            events.push(event);
        });
        after = page.next;
        if after.is_none() || events.len() > size.items() || bytes >= PAGE_BYTES {
            break;
        }
    }
    let next = end_page(&access, pattern, &mut events, size, after, |event| &event.topic)?;
    Ok((access, Values { events, next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is_one() {
        for text in ["abcdefgh-1-42.a", "abcdefgh-9-0.orders.eu.42", "abcdefgh-1-1.$sys.a"] {
            assert_eq!(PageToken::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "a", "orders.eu", "abcdefgh-1-1", "abcdefgh-1-1.", "abcdefgh-1-1.a..b"] {
            assert!(PageToken::parse(text).is_err(), "{text}");
        }
    }
}
