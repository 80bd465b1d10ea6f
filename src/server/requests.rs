//! What every request goes through around its handler, over HTTP/1.1 and HTTP/2 alike: how large its head
//! may be, what becomes of a body that its handler leaves, and the headers that its answer gets.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use actix_http::{ConnectionType, RequestHead};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode, Version, header};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse, ResponseError};

use super::course::{Answer, Course, Underway};
use super::headers::{Headers, is_preflight};
use super::line::MAX_HEAD_BYTES;
use crate::auth::{Auth, Entrance};
use crate::broker::BrokerHandle;
use crate::http::Coding;
use crate::metrics::{Asker, Metrics, Refusals, RouteGroup};
use crate::model::{Code, Problem};

/// The most fields of the head of a request. The parser of HTTP/1.1 takes 96 and refuses more itself.
const MAX_FIELDS: usize = 100;

/// What every request goes through.
pub(super) struct Around {
    pub(super) auth: Arc<Auth>,
    pub(super) broker: BrokerHandle,
    pub(super) entrance: Entrance,
    pub(super) metrics: Arc<Metrics>,
}

/// Has a request answered.
pub(super) async fn attend(
    around: Arc<Around>,
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Around { auth, broker, entrance, metrics } = &*around;
    let (begun, group) = (Instant::now(), group_of(request.head()));
    let of_request = request.extensions().get::<Rc<Course>>().cloned();
    let course = of_request.or_else(|| request.conn_data::<Rc<Course>>().cloned());
    let turn = require_turn(request.head(), course.as_deref());
    let turn = turn.and_then(|()| entrance.require_host(request.head()));
    let is_old = request.version() < Version::HTTP_11;
    let underway = Underway::begin(course, request.take_payload());
    request.set_payload(Underway::body(&underway));
    let mut headers = Headers::of(request.head(), auth, entrance.is_encrypted());
    // One that came in pieces. It is answered as if it asked for none, and the connection ends, for actix-http would
    // say that it is upgraded.
    let is_upgrade = request.head().connection_type() == ConnectionType::Upgrade;
    let checked = turn.and_then(|()| require_small(request.head()));
    // What a page asks for first is refused by the reason for which the rest would be.
    let checked = checked.and_then(|()| match is_preflight(request.head()) {
        true => auth.check_page(entrance, request.head()),
        false => Ok(()),
    });
    let answered = headers.preflight().or_else(|| of_everything(request.head()));
    let mut response = match (checked, answered) {
        (Err(problem), _) => request.into_response(problem.error_response()),
        (Ok(()), Some(answer)) => request.into_response(answer),
        (Ok(()), None) => next.call(request).await?,
    };
    note_refusal(&response, entrance, &metrics.refusals);
    metrics.entry.answered(group, response.status().as_u16(), begun.elapsed());
    headers.add_to(response.headers_mut());
    if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE
        && Coding::of(response.request().headers()).is_err()
    {
        // Where another coding is not what is wrong, it must not be said (RFC 9110, section 15.5.16).
        response.headers_mut().insert(header::ACCEPT_ENCODING, Coding::ACCEPTED);
    }
    // Who goes says so on each connection that is used, for a request that comes just when it is closed may be lost.
    let is_leaving = broker.is_leaving() && response.request().version() <= Version::HTTP_11;
    // HTTP/1.0 has no chunks (RFC 9112, section 6.1): the end of the connection is that of the answer.
    let is_unchunked = is_old && response.response().body().size() == BodySize::Stream;
    let head = response.response_mut().head_mut();
    head.no_chunking(is_unchunked);
    if is_upgrade || is_leaving || is_unchunked {
        head.set_connection_type(ConnectionType::Close);
    }
    Ok(response.map_body(|_, body| BoxBody::new(Answer { body, underway })))
}

/// What a request is for.
fn group_of(head: &RequestHead) -> RouteGroup {
    RouteGroup::of(head.method.as_str(), head.uri.path())
}

/// Notes that a request was refused, where it was: wherever that was, the answer has its problem with it.
fn note_refusal<B>(answer: &ServiceResponse<B>, entrance: &Entrance, refusals: &Refusals) {
    let extensions = answer.response().extensions();
    if let Some(problem) = extensions.get::<Problem>() {
        let head = answer.request().head();
        let address = entrance.client(head).ok().and_then(|client| client.address);
        refusals.note(problem, Asker { head: Some(head), address });
    }
}

/// The answer to `OPTIONS *`, which asks for no path (RFC 9110, section 9.3.7) but whether somebody is here.
fn of_everything(head: &RequestHead) -> Option<HttpResponse> {
    let is_asked = head.method == Method::OPTIONS && head.uri.path() == "*";
    let allow = (header::ALLOW, "GET, HEAD, POST, DELETE, OPTIONS");
    is_asked.then(|| HttpResponse::NoContent().insert_header(allow).finish())
}

/// Refuses what comes behind a request of HTTP/1.1 that was to be the last one (RFC 9112, section 9.6): another
/// reader of the connection may take it for something else. actix-http 3.20 takes it for a request.
fn require_turn(head: &RequestHead, course: Option<&Course>) -> Result<(), Problem> {
    let is_kept = head.connection_type() == ConnectionType::KeepAlive;
    let is_last = head.version <= Version::HTTP_11 && !is_kept;
    match course.is_none_or(|course| course.may_begin(is_last)) {
        true => Ok(()),
        false => Err(Problem::new(Code::BadRequest, "the request before this one was the last")),
    }
}

/// Refuses a head with too many fields or bytes.
pub(super) fn require_small(head: &RequestHead) -> Result<(), Problem> {
    let too_large = |detail| Err(Problem::new(Code::HeadTooLarge, detail));
    let fields = head.headers.len();
    if fields > MAX_FIELDS {
        return too_large(format!(
            "the head of a request may have {MAX_FIELDS} fields, and this one has {fields}"
        ));
    }
    let target = head.uri.path().len() + head.uri.query().map_or(0, str::len);
    // With what stands between name and value, and at the end.
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let bytes = target + fields.sum::<usize>();
    if bytes > MAX_HEAD_BYTES {
        return too_large(format!(
            "the head of a request may have {MAX_HEAD_BYTES} bytes, and this one has {bytes}"
        ));
    }
    Ok(())
}
