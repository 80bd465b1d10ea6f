//! Publishing over REST.

use std::fmt::Display;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde::{Serialize, Serializer};

use super::batch::Batch;
use super::form::{Form, StoredAs};
use super::idempotency;
use crate::auth::{Access, Auth, Entrance};
use crate::body::Sending;
use crate::broker::BrokerHandle;
use crate::config::Limits;
use crate::history::{Append, EventReceipt, Receipt};
use crate::http::{self, Query};
use crate::model::{Code, Cursor, EventType, NewEvent, Problem, Timestamp, Topic};

/// What a publisher is told of one event.
#[derive(Serialize)]
struct ReceiptBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Text<Cursor>>,
    topic: Text<Topic>,
    time: Text<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_as: Option<StoredAs>,
}

/// A string in JSON, written without being made first.
struct Text<T>(T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// What a publisher is told of a batch.
#[derive(Serialize)]
struct BatchBody {
    events: Vec<ReceiptBody>,
}

impl From<EventReceipt> for ReceiptBody {
    fn from(receipt: EventReceipt) -> Self {
        let (id, topic) = (receipt.cursor.map(Text), Text(receipt.topic));
        Self { id, topic, time: Text(receipt.time), stored_as: None }
    }
}

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
    let (form, charset) = Form::of(request.headers())?;
    let kind =
        http::header(request.headers(), &http::X_EVENT_TYPE)?.map(EventType::parse).transpose()?;
    let (body, access) = sending.whole(limits.event_bytes, "limits.event_bytes", charset).await?;
    let (data, stored_as) = form.data(&body, &limits)?;
    let key = idempotency::key(&request, &entrance, &access, &body)?;
    drop(body);
    let events = vec![NewEvent { topic, kind, data }];
    require_publish(&access, &events)?;
    let receipt = publish(&broker, &auth, &access, Append { events, key }).await?;
    let mut response = created(&receipt);
    match receipt.events.into_iter().next() {
        Some(event) => Ok(response.json(ReceiptBody { stored_as, ..event.into() })),
        None => Err(Problem::new(Code::Internal, "no receipt was given")),
    }
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
    let (form, charset) = Form::of(request.headers())?;
    let (body, access) = sending.whole(limits.batch_bytes, "limits.batch_bytes", charset).await?;
    let batch = match form {
        Form::Json | Form::Guess => Batch::from_json(&body, &limits)?,
        Form::Lines => Batch::from_lines(&body, &limits)?,
        Form::Text | Form::Binary => {
            let detail = "send application/json or application/x-ndjson";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
    };
    require_publish(&access, &batch.events)?;
    access.require_rate(batch.events.len())?;
    let key = idempotency::key(&request, &entrance, &access, &body)?;
    drop(body);
    let receipt = publish(&broker, &auth, &access, Append { events: batch.events, key }).await?;
    let mut response = created(&receipt);
    let events = receipt.events.into_iter().map(ReceiptBody::from).collect();
    Ok(response.json(BatchBody { events }))
}

fn require_publish(access: &Access, events: &[NewEvent]) -> Result<(), Problem> {
    events.iter().try_for_each(|event| access.require_publish(&event.topic))
}

/// Publishes for who may, and still may when it is done.
async fn publish(
    broker: &BrokerHandle,
    auth: &Auth,
    access: &Access,
    append: Append,
) -> Result<Receipt, Problem> {
    let still_allowed =
        |append: &Append| auth.still_may(access, |now| require_publish(now, &append.events));
    broker.publish(append, still_allowed).await
}

/// 201, or 200 for the result of an earlier request.
fn created(receipt: &Receipt) -> HttpResponseBuilder {
    HttpResponse::build(if receipt.repeated { StatusCode::OK } else { StatusCode::CREATED })
}
