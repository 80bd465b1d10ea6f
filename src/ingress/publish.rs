//! Publishing over REST.

use std::slice;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};

use super::batch::Batch;
use super::body_format::{BodyFormat, StoredAs};
use super::idempotency;
use crate::auth::{Access, Auth, Entrance};
use crate::body::Sending;
use crate::broker::BrokerHandle;
use crate::config::Limits;
use crate::history::{Append, EventReceipt, Receipt};
use crate::http::{self, Query};
use crate::metrics::Way;
use crate::model::{Code, Data, EventType, Member, NewEvent, Problem, Removed, Topic};
use crate::protocol::{join, keep_from, put_trace, receipt_object};

/// The media type of all answers here.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// `POST /v1/topics/{topic}/events`: the body is the data.
pub async fn publish_event(
    sending: Sending,
    topic: web::Path<String>,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    entrance: web::Data<Entrance>,
    auth: web::Data<Auth>,
    limits: web::Data<Limits>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let topic = Topic::parse(&topic)?;
    sending.check(|access| access.require_publish(&topic))?;
    sending.check(|access| access.require_rate(1))?;
    let (form, charset) = BodyFormat::of(request.headers())?;
    let kind =
        http::header(request.headers(), &http::X_EVENT_TYPE)?.map(EventType::parse).transpose()?;
    let (body, access) = sending.whole(limits.event_bytes, "limits.event_bytes", charset).await?;
    let (data, stored_as) = form.data(&body, &limits)?;
    let mut event = NewEvent::new(topic, kind, data);
    if let Some(session) = http::header(request.headers(), &http::X_EXCEPT_SESSION)? {
        keep_from(session, &mut event)?;
    }
    let key = idempotency::key(&request, &entrance, &access, &body, slice::from_ref(&event))?;
    drop(body);
    require_publish(&access, slice::from_ref(&event))?;
    put_trace(entrance.trace(request.head()).as_ref(), &mut event);
    access.sign(&mut event, None)?;
    let append = Append { events: vec![event], key };
    let receipt = publish(&request, &broker, &auth, &access, append).await?;
    let mut response = created(&receipt);
    match receipt.events.first() {
        Some(event) => Ok(response.body(receipt_body(event, stored_as))),
        None => Err(Problem::new(Code::Internal, "no receipt was given")),
    }
}

/// `DELETE /v1/topics/{topic}`: a tombstone, which removes the current value.
pub async fn remove_value(
    access: Access,
    topic: web::Path<String>,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    entrance: web::Data<Entrance>,
    auth: web::Data<Auth>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    let mut event = NewEvent::new(Topic::parse(&topic)?, None, Data::null());
    event.envelope = Some(Box::new([Member::Removed(Removed::Publisher)].into_iter().collect()));
    require_publish(&access, slice::from_ref(&event))?;
    access.require_rate(1)?;
    let key = idempotency::key(&request, &entrance, &access, &[], slice::from_ref(&event))?;
    put_trace(entrance.trace(request.head()).as_ref(), &mut event);
    access.sign(&mut event, None)?;
    let append = Append { events: vec![event], key };
    let receipt = publish(&request, &broker, &auth, &access, append).await?;
    let bodies: Vec<_> = receipt.events.iter().map(|event| receipt_body(event, None)).collect();
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, JSON)).body(bodies.concat()))
}

/// `POST /v1/events`: one event, a batch, or one event a line.
pub async fn publish_batch(
    sending: Sending,
    request: HttpRequest,
    broker: web::Data<BrokerHandle>,
    entrance: web::Data<Entrance>,
    auth: web::Data<Auth>,
    limits: web::Data<Limits>,
) -> Result<HttpResponse, Problem> {
    Query::parse(request.query_string(), &[])?;
    sending.check(Access::require_publish_somewhere)?;
    let (form, charset) = BodyFormat::of(request.headers())?;
    let (body, access) = sending.whole(limits.batch_bytes, "limits.batch_bytes", charset).await?;
    let mut batch = match form {
        BodyFormat::Json | BodyFormat::Guess => Batch::from_json(&body, &limits)?,
        BodyFormat::Lines => Batch::from_lines(&body, &limits)?,
        BodyFormat::Text | BodyFormat::Binary => {
            let detail = "send application/json or application/x-ndjson";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
    };
    require_publish(&access, &batch.events)?;
    // As they were given: who sent them is no part of what is repeated.
    let key = idempotency::key(&request, &entrance, &access, &body, &batch.events)?;
    drop(body);
    let trace = entrance.trace(request.head());
    batch.events.iter_mut().for_each(|event| put_trace(trace.as_ref(), event));
    batch.sign(&access)?;
    access.require_rate(batch.events.len())?;
    let append = Append { events: batch.events, key };
    let receipt = publish(&request, &broker, &auth, &access, append).await?;
    let mut response = created(&receipt);
    let events: Vec<_> = receipt.events.iter().map(|event| receipt_body(event, None)).collect();
    Ok(response.body([br#"{"events":["#, events.join(&b","[..]).as_slice(), b"]}"].concat()))
}

fn require_publish(access: &Access, events: &[NewEvent]) -> Result<(), Problem> {
    events.iter().try_for_each(|event| access.require_publish(&event.topic))
}

/// Publishes for who may, and still may when it is done.
async fn publish(
    request: &HttpRequest,
    broker: &BrokerHandle,
    auth: &Auth,
    access: &Access,
    mut append: Append,
) -> Result<Receipt, Problem> {
    if broker.is_traced() {
        // The first one stands for all: they are one publish.
        let trace = Entrance::any_trace(request.head());
        append.events.first_mut().into_iter().for_each(|event| join(trace.as_ref(), event));
    }
    let still_allowed =
        |append: &Append| auth.still_may(access, |now| require_publish(now, &append.events));
    let may_read =
        |topic: &Topic| auth.still(access).is_ok_and(|access| access.may_subscribe(topic));
    broker.publish_for(append, Way::Http, still_allowed, may_read).await
}

/// 201, or 200 where nothing was stored: for the result of an earlier request, and where all is superseded; with JSON
/// to follow.
fn created(receipt: &Receipt) -> HttpResponseBuilder {
    let is_stored = receipt.events.iter().any(|event| event.superseded.is_none());
    let status = if is_stored && !receipt.repeated { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CONTENT_TYPE, JSON));
    response
}

/// What the publisher is told of one event.
fn receipt_body(event: &EventReceipt, stored_as: Option<StoredAs>) -> Vec<u8> {
    let superseded = event.superseded.map(|superseded| superseded.version);
    let stored_as = stored_as.map(StoredAs::name);
    receipt_object(event.cursor, &event.topic, event.time, superseded, stored_as)
}
