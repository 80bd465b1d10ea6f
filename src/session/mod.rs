//! One connected client: from the upgrade to the good-bye.
//!
//! [`Door`] decides who comes in, [`Sessions`] makes a session of them: a seat at the thread's worker, a
//! `Receiver` for what it receives, which the worker owns, an actor for what a WebSocket client asks, and a
//! transport that moves bytes and holds the seat. The pure parts (`Outbox`, `Catchup`, `FrameReader`) know of
//! no actor, clock or socket.

mod actor;
mod backwards;
mod catchup;
mod catchups;
mod conflation;
mod deflate;
mod door;
mod errand;
mod frames;
mod house;
mod intake;
mod live;
mod outbox;
mod outgoing;
mod permits;
mod pump;
mod receiver;
mod refusal;
mod replay;
mod resumed;
mod rhythm;
mod socket;
mod stream;
mod stumbles;
mod takeover;
mod tally;
mod tcp;
mod term;
mod values;
mod voice;
mod wish;
mod encoding;

use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use actix_http::RequestHead;
use actix_web::http::header;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder, web};
use futures_util::future::LocalBoxFuture;
use tracing::debug;

use self::actor::{Hear, Session, Stop};
pub use self::deflate::{ClientContext, Contexts, Deflate, inflate};
pub use self::door::{Admission, Door, Identified, Spoken, Wanted};
pub use self::encoding::{Encoding, Framing, close_frame, message_frame};
pub use self::frames::{FrameLimits, FrameReader, Incoming};
pub use self::house::House;
pub use self::outgoing::{Outgoing, Sink};
pub use self::permits::{Permit, Permits, Unparted, UserPermit};
pub use self::receiver::Receiver;
use self::refusal::Refusal;
pub use self::rhythm::{Heartbeats, Rhythm};
pub use self::socket::{Listener, Said, Socket, SocketLimits, Stream};
use self::stream::EventStream;
pub use self::stream::Loss;
pub use self::stumbles::Stumbles;
pub use self::takeover::{Upgrade, Upgraded, require_handshake};
pub use self::tcp::SharedTcp;
use self::voice::Voice;
use crate::body::Sending;
use crate::broker::{Seat, SessionInfo, Transport, WorkerHandle};
use crate::config::Limits;
use crate::http::grammar;
use crate::metrics::{Asker, Metrics};
use crate::model::{Close, Ended, Problem, Timestamp};
use crate::panics::contained;
use crate::protocol::{Form, ParseLimits, Reply, Subscribe};

/// What clients are asked to wait before they reconnect after a lost connection, in milliseconds.
const RECONNECT_MS: std::ops::Range<u32> = 1_000..3_000;

/// Opens the sessions of one worker thread.
#[derive(Clone)]
pub struct Sessions {
    door: Door,
    house: Rc<House>,
    worker: WorkerHandle<Receiver>,
    metrics: Arc<Metrics>,
    heartbeats: Heartbeats,
}

impl Sessions {
    /// Opens sessions on the current worker thread.
    pub fn new(
        door: Door,
        house: House,
        worker: WorkerHandle<Receiver>,
        metrics: Arc<Metrics>,
        heartbeats: Heartbeats,
    ) -> Self {
        Self { door, house: Rc::new(house), worker, metrics, heartbeats }
    }

    /// The door of these sessions.
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// `GET /v1/ws`: takes over the socket of a client that asked for an upgrade.
    pub async fn websocket<IO: Stream + 'static>(&self, upgrade: Upgrade<IO>) {
        let address = self.door.address(upgrade.head());
        let admitted = self.door.admit_websocket(upgrade.head()).await;
        let arrived = admitted.and_then(|(admission, spoken)| {
            let encoding = spoken.encoding(&self.metrics);
            Ok((self.arrive(admission, Transport::WebSocket, encoding, address)?, spoken))
        });
        let (arrived, spoken) = match arrived {
            Ok(arrived) => arrived,
            Err(refusal) => return self.turn_away(upgrade, &refusal.problem).await,
        };
        match upgrade.accept(spoken.name, spoken.deflate.map(|deflate| deflate.answer())) {
            Ok(upgraded) => self.converse(upgraded, arrived, spoken),
            Err(error) => debug!(%error, "a handshake could not be answered"),
        }
    }

    /// Answers an upgrade request with a problem and hangs up.
    pub async fn turn_away<IO: Stream + 'static>(&self, upgrade: Upgrade<IO>, problem: &Problem) {
        let address = self.door.address(upgrade.head());
        self.metrics.refusals.note(problem, Asker { head: Some(upgrade.head()), address });
        upgrade.refuse(problem).await;
    }

    /// Serves a WebSocket in a task of its own.
    fn converse<IO: Stream + 'static>(
        &self,
        upgraded: Upgraded<IO>,
        arrived: Arrived,
        spoken: Spoken,
    ) {
        let Upgraded { io, early, answer } = upgraded;
        let Spoken { protocol, deflate, context, .. } = spoken;
        let limits = self.socket_limits(deflate.is_some());
        let outgoing = arrived.outgoing.clone();
        let (seat, permit) = self.begin(arrived, &answer);
        let (key, worker) = (seat.session(), self.worker.clone());
        let session = Session::new(key, worker, protocol, self.house.clone()).start();
        let listener = Conversation { session, seat: Some(seat), _permit: permit };
        let socket = Socket::new(io, early, outgoing, limits, listener).remembering(context);
        actix_web::rt::spawn(contained(socket));
    }

    /// `GET /v1/sse`.
    pub async fn sse(
        sessions: web::Data<Self>,
        request: HttpRequest,
    ) -> actix_web::Result<HttpResponse> {
        let admitted = sessions.door.admit_sse(request.head()).await;
        let address = sessions.door.address(request.head());
        let arrived = admitted.and_then(|admitted| sessions.arrive_at_stream(admitted, address));
        let arrived = match arrived {
            Ok(arrived) => arrived,
            Err(refusal) => {
                let stream = refusal.as_stream().filter(|_| asks_for_stream(request.head()));
                return stream.ok_or_else(|| refusal.problem.into());
            }
        };
        Ok(sessions.stream(&request, arrived))
    }

    /// `HEAD /v1/sse`: what `GET` would be answered, without a session.
    pub async fn sse_head(
        sessions: web::Data<Self>,
        request: HttpRequest,
    ) -> Result<HttpResponse, Problem> {
        sessions.door.inspect_sse(request.head()).await?;
        Ok(event_stream().streaming(futures_util::stream::empty::<Result<_, Infallible>>()))
    }

    /// `POST /v1/sse`: an event stream for who sets headers and reads statuses, so that it is refused as
    /// any other request is.
    pub async fn sse_of_body(
        sessions: web::Data<Self>,
        request: HttpRequest,
        payload: web::Payload,
    ) -> Result<HttpResponse, Problem> {
        let (door, head) = (&sessions.door, request.head());
        let (query, access) = door.meet_sse_of(head).await.map_err(|refusal| refusal.problem)?;
        let sending = Sending::of(access, request.clone(), payload.into_inner());
        let max = sessions.house.limits.message_bytes;
        let (body, access) = sending.json(max, "limits.message_bytes").await?;
        let admitted = door.admit_sse_of(head, &query, access, &body).await;
        let address = sessions.door.address(request.head());
        let arrived = admitted.and_then(|admitted| sessions.arrive_at_stream(admitted, address));
        Ok(sessions.stream(&request, arrived.map_err(|refusal| refusal.problem)?))
    }

    /// The answer that is an event stream.
    fn stream(&self, request: &HttpRequest, arrived: Arrived) -> HttpResponse {
        let outgoing = arrived.outgoing.clone();
        let (seat, permit) = self.begin(arrived, &[]);
        let of_request = request.extensions().get::<Rc<Loss>>().cloned();
        let loss = of_request.or_else(|| request.conn_data::<Rc<Loss>>().cloned());
        event_stream().body(EventStream { outgoing, seat, loss, _permit: permit })
    }

    fn arrive_at_stream(
        &self,
        (admission, form): (Admission, &'static dyn Form),
        address: Option<IpAddr>,
    ) -> Result<Arrived, Refusal> {
        self.arrive(admission, Transport::Sse, Encoding::new(form, Framing::Bare), address)
    }

    /// Gives a connection that was admitted its room and its seat, or says why there is none. What was
    /// true at the door is looked at again in the call that gives the seat; from the look to the seat nothing
    /// is waited for.
    fn arrive(
        &self,
        admission: Admission,
        transport: Transport,
        encoding: Encoding,
        address: Option<IpAddr>,
    ) -> Result<Arrived, Refusal> {
        let House { broker, permits, limits, .. } = &*self.house;
        if broker.is_draining() {
            return Err(Refusal::restarting());
        }
        let Admission { session, identified: Identified { access, credential }, wanted } =
            admission;
        let permit = permits.take(address, limits).map_err(Refusal::too_many)?;
        let bearer = access.caller().user().map(|user| user.bearer.clone());
        let user_permit = match &bearer {
            Some(bearer) => permits.take_user(&bearer.user, limits).map_err(Refusal::too_many)?,
            None => None,
        };
        let written = self.metrics.road.written(transport == Transport::WebSocket).clone();
        let outgoing = Arc::new(Outgoing::new(limits.outbox_bytes).counted_by(written));
        outgoing.owes(permits.owe_farewell());
        let rhythm = Rhythm::new(self.heartbeats, transport, wanted.heartbeat);
        let mut voice = Voice::new(encoding, outgoing.clone(), self.metrics.clone());
        voice.show_heartbeats(rhythm.is_shown);
        let info = SessionInfo {
            id: session.clone(),
            bearer: bearer.map(Box::new),
            since: Timestamp::from(self.house.clock.time()),
            transport,
            address: address.map(|address| address.to_string()),
            node: None,
        };
        let receiver = Receiver::new(
            self.house.clone(),
            transport,
            rhythm,
            voice,
            access,
            session.clone(),
            user_permit,
        );
        let receiver = receiver.of_publisher(credential, address);
        let seat = self.worker.enter(info, receiver).map_err(Refusal::closed)?;
        Ok(Arrived { session, seat, permit, outgoing, rhythm, subscribe: wanted.subscribe })
    }

    /// Welcomes who has a seat, behind what the transport says first, and subscribes it to what it asked for.
    fn begin(&self, arrived: Arrived, before: &[u8]) -> (Seat<Receiver>, Permit) {
        let Arrived { session, seat, permit, rhythm, subscribe, .. } = arrived;
        let welcome = Reply::Welcome {
            session: &session,
            heartbeat: u64::from(rhythm.seconds),
            retry_after_ms: rand::random_range(RECONNECT_MS),
        };
        let (key, trouble) = (seat.session(), self.worker.trouble());
        self.worker.with(key, |receiver| {
            receiver.welcome(before, &welcome);
            if let Some(trouble) = trouble {
                receiver.reply(&Reply::Trouble(trouble));
            }
            receiver.wait_for(subscribe);
        });
        self.worker.recheck_rights(key);
        (seat, permit)
    }

    fn socket_limits(&self, deflates: bool) -> SocketLimits {
        let limits = &self.house.limits;
        SocketLimits {
            frames: FrameLimits {
                message_bytes: limits.message_bytes,
                message_fragments: limits.message_fragments,
                deflate: deflates,
            },
            close_timeout: limits.close_timeout,
            stall_timeout: limits.stall_timeout,
        }
    }
}

/// A connection that was admitted, and has its room and its seat.
struct Arrived {
    session: Arc<str>,
    seat: Seat<Receiver>,
    permit: Permit,
    outgoing: Arc<Outgoing>,
    rhythm: Rhythm,
    subscribe: Option<Subscribe>,
}

/// The side of the broker in the conversation with one client.
struct Conversation {
    session: Addr<Session>,
    /// None once the client has left.
    seat: Option<Seat<Receiver>>,
    _permit: Permit,
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // Its socket says how each conversation ends, but for one that panicked.
        self.left(Ended::Closed(Close::Internal));
        self.session.do_send(Stop);
    }
}

impl Listener for Conversation {
    fn said(&mut self, message: Said) -> LocalBoxFuture<'static, ()> {
        let heard = self.session.send(Hear(message));
        // Who is not heard any more has left.
        Box::pin(async move { _ = heard.await })
    }

    fn more(&mut self) {
        if let Some(seat) = &self.seat {
            seat.worker().flush(seat.session());
        }
    }

    fn end(&mut self, close: Close) {
        if let Some(seat) = &self.seat {
            seat.worker().end(seat.session(), close);
        }
    }

    fn left(&mut self, ended: Ended) {
        if let Some(seat) = self.seat.take() {
            seat.leave(ended);
        }
    }
}

/// What a message of a client may hold.
fn parse_limits(limits: &Limits) -> ParseLimits {
    ParseLimits {
        json_depth: limits.json_depth,
        event_bytes: limits.event_bytes,
        patterns: limits.subscriptions,
        last_events: limits.last_events,
    }
}

fn event_stream() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/event-stream")
        // No cache keeps it, and nothing on the way encodes it, for that would hold events back (RFC 9111,
        // section 5.2.2.6): so Node's `compression` does otherwise.
        .insert_header((header::CACHE_CONTROL, "no-store, no-transform"))
        // Asks nginx, which buffers responses by default, to pass events on as they come.
        .insert_header(("x-accel-buffering", "no"));
    response
}

/// Whether a client says that it reads event streams, as every `EventSource` does.
fn asks_for_stream(head: &RequestHead) -> bool {
    grammar::accepts_by_name(&head.headers, "text", "event-stream")
}
