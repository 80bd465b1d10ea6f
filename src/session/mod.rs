//! One connected client: from the upgrade to the good-bye.
//!
//! [`Door`] decides who comes in, [`Sessions`] makes a session of them: an actor for what the client
//! asks, a `Reception` for what it receives, and a transport that moves bytes. The pure parts
//! (`Outbox`, `Catchup`, `FrameReader`) know of no actor, clock or socket.

mod actor;
mod catchup;
mod conflation;
mod deflate;
mod door;
mod frames;
mod live;
mod outbox;
mod outgoing;
mod places;
mod reception;
mod replay;
mod socket;
mod stream;
mod takeover;
mod tcp;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use futures_util::future::LocalBoxFuture;
use rand::RngExt;
use tracing::debug;

use self::actor::{Begin, Gone, Heard, More, Session};
pub use self::deflate::{Deflate, inflate};
pub use self::door::{Admission, Door, Language};
pub use self::frames::{FrameLimits, FrameReader, Incoming};
pub use self::outgoing::{Outgoing, Sink};
pub use self::places::{Place, Places, UserPlace};
use self::reception::Reception;
pub use self::socket::{Listener, Said, Socket, SocketLimits, Stream};
use self::stream::EventStream;
pub use self::takeover::{Upgrade, Upgraded, require_handshake};
pub use self::tcp::SharedTcp;
pub use self::wire::{Framing, Wire, close_frame, message_frame};
use crate::broker::{BrokerHandle, SessionInfo, Subscriber, WorkerHandle};
use crate::config::Limits;
use crate::metrics::Metrics;
use crate::model::{Allowance, Close, Code, Problem, Timestamp};
use crate::protocol::{Reply, SSE};

/// What clients are asked to wait before they reconnect after a lost connection, in milliseconds.
const RECONNECT_MS: std::ops::Range<u32> = 1_000..3_000;

/// Opens the sessions of one worker thread.
#[derive(Clone)]
pub struct Sessions {
    door: Door,
    broker: BrokerHandle,
    worker: WorkerHandle,
    metrics: Arc<Metrics>,
    limits: Arc<Limits>,
    heartbeat: Duration,
    places: Places,
}

impl Sessions {
    /// Opens sessions on the current worker thread.
    pub fn new(
        door: Door,
        broker: BrokerHandle,
        worker: WorkerHandle,
        metrics: Arc<Metrics>,
        limits: Arc<Limits>,
        heartbeat: Duration,
        places: Places,
    ) -> Self {
        Self { door, broker, worker, metrics, limits, heartbeat, places }
    }

    /// The door of these sessions.
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// `GET /v1/ws`: takes over the socket of a client that asked for an upgrade.
    pub async fn websocket<IO: Stream + 'static>(&self, upgrade: Upgrade<IO>) {
        let address = self.door.address(upgrade.head());
        let admitted = self.door.admit_websocket(upgrade.head()).await;
        let admitted = admitted.and_then(|admission| self.arrive(admission, address));
        let arrival = match admitted {
            Ok(arrival) => arrival,
            Err(problem) => return upgrade.refuse(&problem).await,
        };
        let admission = &arrival.admission;
        let extensions = admission.deflate.map(|deflate| deflate.answer());
        match upgrade.accept(admission.language.subprotocol(), extensions) {
            Ok(upgraded) => self.converse(upgraded, arrival),
            Err(error) => debug!(%error, "a handshake could not be answered"),
        }
    }

    /// Serves a WebSocket in a task of its own.
    fn converse<IO: Stream + 'static>(&self, upgraded: Upgraded<IO>, arrival: Arrival) {
        let Upgraded { io, early, answer } = upgraded;
        let reception = self.reception(&arrival.admission);
        let (sessions, limits) = (self.clone(), self.socket_limits(&arrival.admission));
        actix_web::rt::spawn(async move {
            let outgoing = reception.outgoing().clone();
            _ = outgoing.push(answer);
            let opened = sessions.open(arrival, reception.clone()).await;
            let Ok((session, place)) = opened else { return };
            let listener = Conversation { session, reception, _place: place };
            actix_web::rt::spawn(Socket::new(io, early, outgoing, limits, listener));
        });
    }

    /// `GET /v1/sse`.
    pub async fn sse(
        sessions: web::Data<Self>,
        request: HttpRequest,
    ) -> actix_web::Result<HttpResponse> {
        let admission = sessions.door.admit_sse(request.head()).await?;
        let address = sessions.door.address(request.head());
        let arrival = match sessions.arrive(admission, address) {
            Ok(arrival) => arrival,
            Err(problem) if accepts_event_stream(&request) => {
                return Ok(turned_away(&problem));
            }
            Err(problem) => return Err(problem.into()),
        };
        let reception = sessions.reception(&arrival.admission);
        let outgoing = reception.outgoing().clone();
        let (session, place) = sessions.open(arrival, reception).await?;
        let body = EventStream { outgoing, session, _place: place };
        Ok(event_stream().body(body))
    }

    /// Gives a connection that was admitted its room, or says why there is none.
    fn arrive(&self, admission: Admission, address: Option<IpAddr>) -> Result<Arrival, Problem> {
        if self.broker.is_draining() {
            return Err(Problem::new(Code::Unavailable, "the broker is restarting"));
        }
        let place = self.places.take(address, &self.limits)?;
        let user = admission.access.caller().user();
        let user_place = match user {
            Some(user) => self.places.take_user(&user.bearer.user, &self.limits)?,
            None => None,
        };
        Ok(Arrival { admission, address, place, user_place })
    }

    fn reception(&self, admission: &Admission) -> Arc<Reception> {
        let outgoing = Arc::new(Outgoing::new(self.limits.outbox_bytes));
        let transport = admission.language.transport();
        let wire = admission.language.wire().compressed(admission.deflate, &self.metrics);
        let (access, metrics) = (admission.access.clone(), self.metrics.clone());
        let max_conflated = self.limits.conflated_bytes;
        Arc::new(Reception::new(transport, wire, outgoing, access, max_conflated, metrics))
    }

    async fn open(
        &self,
        arrival: Arrival,
        reception: Arc<Reception>,
    ) -> Result<(Addr<Session>, Place), Problem> {
        let Arrival { admission, address, place, user_place } = arrival;
        let Admission { access, subscribe, language, .. } = admission;
        let info = SessionInfo {
            id: new_id(),
            bearer: access.caller().user().map(|user| Box::new(user.bearer.clone())),
            since: Timestamp::from(SystemTime::now()),
            transport: language.transport(),
            address: address.map(|address| address.to_string()),
        };
        reception.reply(&Reply::Welcome {
            session: &info.id,
            heartbeat: self.heartbeat.as_secs(),
            retry_after_ms: rand::random_range(RECONNECT_MS),
        });
        let gone = |gone: String| Problem::new(Code::Unavailable, gone);
        let key = self.worker.enter(info, reception.clone()).await;
        let session = Session {
            key: key.map_err(|error| gone(error.to_string()))?,
            protocol: match language {
                Language::WebSocket(protocol, _) => Some(protocol),
                Language::Sse(_) => None,
            },
            reception: reception.clone(),
            broker: self.broker.clone(),
            worker: self.worker.clone(),
            auth: self.door.auth.clone(),
            limits: self.limits.clone(),
            waiting: None,
            bad_messages: 0,
            expiry: None,
            places: self.places.clone(),
            user_place,
            messages: Allowance::default(),
            bytes: Allowance::default(),
        };
        let session = session.start();
        reception.belongs_to(session.downgrade());
        session.send(Begin(subscribe)).await.map_err(|error| gone(error.to_string()))?;
        Ok((session, place))
    }

    fn socket_limits(&self, admission: &Admission) -> SocketLimits {
        SocketLimits {
            frames: FrameLimits {
                message_bytes: self.limits.message_bytes,
                message_fragments: self.limits.message_fragments,
                deflate: admission.deflate.is_some(),
            },
            close_timeout: self.limits.close_timeout,
            stall_timeout: self.limits.stall_timeout,
        }
    }
}

/// A connection that was admitted, and has its room.
struct Arrival {
    admission: Admission,
    address: Option<IpAddr>,
    place: Place,
    user_place: Option<UserPlace>,
}

/// The side of the broker in the conversation with one client.
struct Conversation {
    session: Addr<Session>,
    reception: Arc<Reception>,
    _place: Place,
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.session.do_send(Gone);
    }
}

impl Listener for Conversation {
    fn said(&mut self, message: Said) -> LocalBoxFuture<'static, ()> {
        let (heard, reception) = (self.session.send(Heard(message)), self.reception.clone());
        Box::pin(async move {
            if heard.await.is_err() {
                reception.end(Close::Internal);
            }
        })
    }

    fn more(&mut self) {
        self.session.do_send(More);
    }

    fn end(&mut self, close: Close) {
        self.reception.end(close);
    }
}

/// An id of 128 random bits, in hexadecimal.
fn new_id() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

fn event_stream() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Asks nginx, which buffers responses by default, to pass events on as they come.
        .insert_header(("x-accel-buffering", "no"));
    response
}

fn accepts_event_stream(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

/// A stream that ends at once and says when to come back: an `EventSource` gives up for good on any
/// other status than 200.
fn turned_away(problem: &Problem) -> HttpResponse {
    let close = match problem.code {
        Code::Unavailable => Close::Restart,
        _ => Close::TooMany,
    };
    let wire = Wire::new(&SSE, Framing::Bare);
    let retry_after_ms = Some(rand::random_range(RECONNECT_MS));
    event_stream().body(wire.good_bye(close, retry_after_ms).concat())
}
