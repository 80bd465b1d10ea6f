//! One connected client: from the upgrade to the good-bye.
//!
//! [`Door`] decides who comes in, [`Sessions`] makes a session of them: a seat at the thread's worker, a
//! `Receiver` for what it receives, which the worker owns, an actor for what a WebSocket client asks, and a
//! transport that moves bytes and holds the seat. The pure parts (`Outbox`, `Catchup`, `FrameReader`) know of
//! no actor, clock or socket.

mod actor;
mod application;
mod backwards;
mod catchup;
mod catchups;
mod conflation;
mod deflate;
mod door;
mod ear;
mod errand;
mod filters;
mod frames;
mod house;
mod intake;
mod live;
mod outbox;
mod outgoing;
mod permits;
mod publishes;
mod pump;
mod reading;
mod receiver;
mod refusal;
mod request;
mod replay;
mod resumed;
mod rhythm;
mod runner;
mod shared_forms;
mod socket;
mod stream;
mod stumbles;
mod takeover;
mod tally;
mod tcp;
mod term;
mod topic_set;
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
use actix_web::http::{Version, header};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder, web};
use futures_util::future::{LocalBoxFuture, OptionFuture};
use tracing::debug;

use self::actor::{Session, Stop};
pub use self::deflate::{ClientContext, Contexts, Deflate, inflate};
use self::door::new_id;
pub use self::door::{Admission, Door, Identified, Spoken};
use self::ear::Hear;
pub use self::encoding::{Encoding, Framing, close_frame, message_frame};
use self::errand::Errand;
pub use self::frames::{FrameLimits, FrameReader, Incoming};
pub use self::house::House;
pub use self::outgoing::{Outgoing, Sink};
pub use self::permits::{Permit, Permits, Unparted, UserPermit};
pub use self::receiver::Receiver;
use self::refusal::Refusal;
pub use self::rhythm::{Heartbeats, Rhythm};
pub use self::shared_forms::SharedForms;
pub use self::socket::{Listener, Said, Socket, SocketLimits, Stream};
pub use self::stream::{EventStream, Handover, Loss};
use self::stream::{HandedOver, Streamed};
pub use self::stumbles::Stumbles;
pub use self::takeover::{Upgrade, Upgraded, require_handshake};
pub use self::tcp::SharedTcp;
use self::voice::Voice;
use crate::body::Sending;
use crate::broker::{Seat, SessionInfo, Transport, WorkerHandle};
use crate::http::grammar;
use crate::metrics::{Asker, Metrics};
use crate::model::{Close, Code, Ended, Problem, Timestamp};
use crate::panics::contained;
use crate::protocol::{ByBody, Carrier, Entry, Reply, Subscribe, Token};

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
    pub fn new(door: Door, house: House, metrics: Arc<Metrics>, heartbeats: Heartbeats) -> Self {
        let run = |worker: &_, session, errand: Errand| errand.run(worker, session);
        let worker = house.broker.start_worker(run);
        Self { door, house: Rc::new(house), worker, metrics, heartbeats }
    }

    /// The door of these sessions.
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// Takes over the socket of a client that asked for an upgrade.
    pub async fn websocket<IO: Stream + 'static>(&self, upgrade: Upgrade<IO>) {
        let Some(entry) = self.door.protocols.websocket_at(upgrade.head().uri.path()) else {
            let problem = Problem::new(Code::NotFound, "no WebSocket is at this path");
            return self.turn_away(upgrade, &problem).await;
        };
        let address = self.door.address(upgrade.head());
        let admitted = self.door.admit_websocket(entry, upgrade.head()).await;
        let arrived = admitted.and_then(|(admission, spoken)| {
            let form = admission.wants.dialect.form;
            let framing = if form.is_binary { Framing::Binary } else { Framing::Text };
            let encoding = Encoding::new(form, framing).compressed(spoken.deflate, &self.metrics);
            Ok((self.arrive(entry, admission, encoding, address)?, spoken))
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
        Spoken { deflate, context, .. }: Spoken,
    ) {
        let Upgraded { io, early, answer } = upgraded;
        let limits = self.socket_limits(deflate.is_some());
        let (outgoing, secret) = (arrived.outgoing.clone(), arrived.secret.clone());
        let (seat, permit) = self.begin(arrived, &answer);
        let hearing = Some(self.listen(&seat, secret));
        let listener = Conversation { hearing, seat: Some(seat), _permit: permit };
        let socket = Socket::new(io, early, outgoing, limits, listener).remembering(context);
        actix_web::rt::spawn(contained(socket));
    }

    /// Has somebody hear what the client of a session says; over other requests too, where it was told a secret for that.
    fn listen(&self, seat: &Seat<Receiver>, secret: Option<Token>) -> Hearing {
        let (key, worker) = (seat.session(), self.worker.clone());
        let session = Session::new(key, worker, self.house.clone()).start();
        if let Some(secret) = secret {
            let ear = session.clone().recipient();
            self.worker.with(key, |receiver| receiver.overhear_by(secret, ear));
        }
        Hearing(session)
    }

    /// `GET` of a stream.
    pub async fn stream(
        sessions: web::Data<Self>,
        request: HttpRequest,
        entry: &'static Entry,
    ) -> actix_web::Result<HttpResponse> {
        let admitted = sessions.door.admit_stream(entry, request.head()).await;
        let address = sessions.door.address(request.head());
        let arrived = admitted
            .and_then(|admitted| sessions.arrive_at_stream(entry, &request, admitted, address));
        let arrived = match arrived {
            Ok(arrived) => arrived,
            Err(refusal) => {
                let stream = refusal.as_stream(entry, sessions.house.clock.now());
                let stream = stream.filter(|_| asks_for_stream(request.head()));
                return stream.ok_or_else(|| refusal.problem.into());
            }
        };
        Ok(sessions.answer(entry, &request, arrived))
    }

    /// `HEAD` of a stream: what `GET` would be answered, without a session.
    pub async fn stream_head(
        sessions: web::Data<Self>,
        request: HttpRequest,
        entry: &'static Entry,
    ) -> Result<HttpResponse, Problem> {
        sessions.door.inspect_stream(entry, request.head()).await?;
        Ok(stream_of(entry).streaming(futures_util::stream::empty::<Result<_, Infallible>>()))
    }

    /// `POST` of a stream: for who sets headers and reads statuses, so that it is refused as any other request is.
    pub async fn stream_of_body(
        sessions: web::Data<Self>,
        request: HttpRequest,
        payload: web::Payload,
        (entry, by_body): (&'static Entry, &'static ByBody),
    ) -> Result<HttpResponse, Problem> {
        let (door, head) = (&sessions.door, request.head());
        let met = door.meet_stream_of((entry, by_body), head).await;
        let (brings, access) = met.map_err(|refusal| refusal.problem)?;
        let sending = Sending::of(access, request.clone(), payload.into_inner());
        let max = sessions.house.limits.message_bytes;
        let (body, access) = sending.json(max, "limits.message_bytes").await?;
        let admitted = door.admit_stream_of(by_body, head, (&brings, access), &body).await;
        let address = sessions.door.address(request.head());
        let arrived = admitted
            .and_then(|admitted| sessions.arrive_at_stream(entry, &request, admitted, address));
        Ok(sessions.answer(entry, &request, arrived.map_err(|refusal| refusal.problem)?))
    }

    /// The answer that is a stream.
    fn answer(&self, entry: &Entry, request: &HttpRequest, arrived: Arrived) -> HttpResponse {
        let (outgoing, secret) = (arrived.outgoing.clone(), arrived.secret.clone());
        let (seat, permit) = self.begin(arrived, &[]);
        // Who is told no secret can say nothing.
        let hearing = secret.map(|secret| self.listen(&seat, Some(secret)));
        let conversation = Conversation { hearing, seat: Some(seat), _permit: permit };
        let stream = EventStream { outgoing, conversation, limits: self.socket_limits(false) };
        let mut answer = stream_of(entry);
        match handover_of(request) {
            // Nothing else is answered on that connection.
            Some(handover) => answer.force_close().body(HandedOver::new(stream, handover.clone())),
            None => {
                let loss = request.extensions().get::<Rc<Loss>>().cloned().unwrap_or_default();
                answer.body(Streamed { stream, loss })
            }
        }
    }

    fn arrive_at_stream(
        &self,
        entry: &Entry,
        request: &HttpRequest,
        admission: Admission,
        address: Option<IpAddr>,
    ) -> Result<Arrived, Refusal> {
        // HTTP/1.0 has no chunks (RFC 9112, section 6.1): the end of the connection is that of the answer.
        let has_chunks = handover_of(request).is_some() && request.version() > Version::HTTP_10;
        let framing = if has_chunks { Framing::Chunked } else { Framing::Bare };
        let encoding = Encoding::new(admission.wants.dialect.form, framing);
        self.arrive(entry, admission, encoding, address)
    }

    /// Gives a connection that was admitted its room and its seat, or says why there is none. What was
    /// true at the door is looked at again in the call that gives the seat; from the look to the seat nothing
    /// is waited for.
    fn arrive(
        &self,
        entry: &Entry,
        admission: Admission,
        encoding: Encoding,
        address: Option<IpAddr>,
    ) -> Result<Arrived, Refusal> {
        let House { broker, permits, limits, .. } = &*self.house;
        if broker.is_draining() {
            return Err(Refusal::restarting());
        }
        let Admission { session, identified: Identified { access, credential }, wants } = admission;
        let transport = match entry.carrier {
            Carrier::WebSocket => Transport::WebSocket,
            Carrier::Stream { .. } => Transport::Sse,
        };
        let permit = permits.take(address, limits).map_err(Refusal::too_many)?;
        let bearer = access.caller().user().map(|user| user.bearer.clone());
        let user_permit = match &bearer {
            Some(bearer) => permits.take_user(&bearer.user, limits).map_err(Refusal::too_many)?,
            None => None,
        };
        let written = self.metrics.road.written(transport == Transport::WebSocket).clone();
        let outgoing = Arc::new(Outgoing::new(limits.outbox_bytes).counted_by(written));
        outgoing.owes(permits.owe_farewell());
        let rhythm = Rhythm::new(self.heartbeats, transport, wants.heartbeat);
        let mut voice = Voice::new(wants.talk, encoding, outgoing.clone(), self.house.clone());
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
        let secret = entry.has_way_back.then(|| Token(new_id().to_string()));
        let subscribe = wants.subscribe;
        Ok(Arrived { session, seat, permit, outgoing, rhythm, secret, subscribe })
    }

    /// Welcomes who has a seat, behind what the transport says first, and subscribes it to what it asked for.
    fn begin(&self, arrived: Arrived, before: &[u8]) -> (Seat<Receiver>, Permit) {
        let Arrived { session, seat, permit, rhythm, secret, subscribe, .. } = arrived;
        let welcome = Reply::Welcome {
            session: &session,
            heartbeat: u64::from(rhythm.seconds),
            retry_after_ms: rand::random_range(RECONNECT_MS),
            secret: secret.as_ref(),
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
    /// By which its client is known when it says something over another request.
    secret: Option<Token>,
    subscribe: Option<Subscribe>,
}

/// The side of the broker in the conversation with one client.
struct Conversation {
    /// Where its client can say something.
    hearing: Option<Hearing>,
    /// None once the client has left.
    seat: Option<Seat<Receiver>>,
    _permit: Permit,
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // Its socket says how each conversation ends, but for one that panicked.
        self.left(Ended::Closed(Close::Internal));
    }
}

/// Who hears the client of a session, for as long as it is there.
struct Hearing(Addr<Session>);

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.do_send(Stop);
    }
}

impl Listener for Conversation {
    fn said(&mut self, said: Vec<Said>) -> LocalBoxFuture<'static, ()> {
        let heard = self.hearing.as_ref().map(|hearing| hearing.0.send(Hear(said)));
        // Who is not heard any more has left.
        Box::pin(async move { _ = OptionFuture::from(heard).await })
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

/// Where a stream waits for the socket of the connection that it was asked for on, if that speaks HTTP/1.1.
fn handover_of(request: &HttpRequest) -> Option<&Rc<Handover>> {
    request.conn_data()
}

fn stream_of(entry: &Entry) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    if let Carrier::Stream { media_type } = entry.carrier {
        response.content_type(media_type);
    }
    response
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
