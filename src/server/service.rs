//! What answers a connection: plain or over TLS, in HTTP/1.1 or HTTP/2.
//!
//! It is what `actix_web::HttpServer` does, with five things more that it has no word for: sockets are
//! counted; upgrade requests come with theirs, before the application's routing; the certificate may
//! change while it serves; HTTP/2 has limits; and it is spoken without TLS too, by who begins with it.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::ready;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_codec::{Framed, FramedParts};
use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol, Request};
use actix_server::GracefulShutdownSignal;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_factory, fn_service,
    map_config,
};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::http::Version;
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpResponse, web};
use futures_util::future::{Either, FutureExt, OptionFuture};
use tracing::debug;

use super::gate::Gate;
use super::line::{HANG_UP, Line, ended, written};
use super::opening::{Opening, turn_away};
use super::requests::{Around, attend, require_small};
use super::routes::{configure, not_found, without_upgrades};
use super::sockets::Socket;
use super::tls::{Tls, is_http2};
use super::{Parts, http2, listener};
use crate::clock::Timer;
use crate::metrics::{Asker, Metrics};
use crate::model::{Code, Problem};
use crate::panics::contained;
use crate::session::{self, Sessions, SharedTcp, Upgrade};

/// A connection, as `HttpService` takes it.
pub(super) type Connection<IO> = (IO, Protocol, Option<SocketAddr>);

/// Serves connections without TLS on one worker thread.
pub(super) fn cleartext(
    parts: &Parts,
    stopping: &GracefulShutdownSignal,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()>
+ use<> {
    let sessions = parts.sessions();
    let http1 = http1(parts, sessions.clone(), stopping);
    let http2 = application(parts, sessions);
    let (parts, stopping) = (parts.clone(), stopping.clone());
    fn_factory(move || {
        let (http1, http2) = (http1.new_service(()), http2.new_service(()));
        let (parts, stopping, gate) = (parts.clone(), stopping.clone(), Gate::default());
        async move {
            let (http1, http2) = (Rc::new(http1.await?), Rc::new(http2.await?));
            Ok(fn_service(move |io: TcpStream| {
                listener::prepare(&io, &parts.limits);
                let peer = io.peer_addr().ok();
                let socket = match parts.sockets.take(peer, &parts.entrance) {
                    Ok(socket) => socket,
                    Err(problem) => {
                        refuse_socket(&parts.metrics, &problem, peer);
                        // What can't be written at once is not worth a socket.
                        _ = io.try_write(&written(&problem));
                        return Either::Right(ready(Ok(())));
                    }
                };
                let (http1, http2) = (http1.clone(), http2.clone());
                let (limits, stopping) = (parts.limits.clone(), stopping.clone());
                let (keep_alive, protocols) = (parts.keep_alive, parts.protocols);
                let patience = limits.request_timeout;
                let seen = see(io, socket, gate.clone(), patience, stopping.clone());
                let beginning = seen.map(move |seen| match seen {
                    None => ready(Ok(())).boxed_local(),
                    Some(Seen { io, socket, opening: Opening::Http2, .. }) => {
                        let serving = async move {
                            let patience = (&*limits, keep_alive);
                            let stopping = stopping.notified();
                            http2::serve(io, peer, http2, socket, patience, stopping).await
                        };
                        serving.map(cut_short).boxed_local()
                    }
                    Some(Seen { io, socket, late, .. }) => {
                        let io = SharedTcp::new(io);
                        let line = Line::new(io, socket, &limits, protocols).due(late);
                        http1.call((line, Protocol::Http1, peer)).map(ended).boxed_local()
                    }
                });
                // What it took to begin takes no room in what goes on.
                let served = Box::pin(beginning).flatten();
                Either::Left(contained(served).map(|served| served.unwrap_or(Ok(()))))
            }))
        }
    })
}

/// A connection that has begun to say something, or is to have.
struct Seen {
    io: TcpStream,
    socket: Socket,
    opening: Opening,
    /// When its first head is due.
    late: Timer,
}

/// Waits for what a client begins to speak; nothing where its socket has to make room, or the broker stops.
async fn see(
    io: TcpStream,
    socket: Socket,
    gate: Gate,
    patience: Duration,
    stopping: GracefulShutdownSignal,
) -> Option<Seen> {
    let mut late = Timer::after(patience);
    let opening = tokio::select! {
        // What has come counts, however late it is looked at.
        biased;
        opening = Opening::look(&io) => opening,
        // Whoever was late is told so in HTTP/1.1.
        () = &mut late => Opening::Http1,
        () = socket.closing() => return None,
        () = stopping.notified() => return None,
    };
    // However long that takes, it is not the client who is late.
    tokio::select! {
        () = gate.pass() => {}
        () = socket.closing() => return None,
    }
    Some(Seen { io, socket, opening, late })
}

/// What became of a connection is its client's to see.
fn cut_short(served: Result<(), impl Display>) -> Result<(), DispatchError> {
    if let Err(error) = served {
        debug!(%error, "a connection was cut short");
    }
    Ok(())
}

/// Serves connections over TLS on one worker thread.
#[expect(
    clippy::too_many_lines,
    reason = "one socket's way to its requests, with each way in which that may end beside it"
)]
pub(super) fn encrypted(
    parts: &Parts,
    tls: &Tls,
    stopping: &GracefulShutdownSignal,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()>
+ use<> {
    let sessions = parts.sessions();
    let http1 = http1(parts, sessions.clone(), stopping);
    let http2 = application(parts, sessions);
    let (tls, parts, stopping) = (tls.clone(), parts.clone(), stopping.clone());
    fn_factory(move || {
        let (http1, http2) = (http1.new_service(()), http2.new_service(()));
        let (tls, parts, stopping) = (tls.clone(), parts.clone(), stopping.clone());
        let gate = Gate::default();
        async move {
            let (http1, http2) = (Rc::new(http1.await?), Rc::new(http2.await?));
            Ok(fn_service(move |io: TcpStream| {
                let (http1, http2) = (http1.clone(), http2.clone());
                let (tls, limits, stopping) = (tls.clone(), parts.limits.clone(), stopping.clone());
                let (peer, keep_alive) = (io.peer_addr().ok(), parts.keep_alive);
                let protocols = parts.protocols;
                let taken = parts.sockets.take(peer, &parts.entrance);
                let (metrics, gate) = (parts.metrics.clone(), gate.clone());
                let serving = async move {
                    let socket = match taken {
                        Ok(socket) => socket,
                        // Who can't be served before a handshake can't be told so.
                        Err(problem) => {
                            refuse_socket(&metrics, &problem, peer);
                            return Ok(());
                        }
                    };
                    listener::prepare(&io, &limits);
                    let begun = Instant::now();
                    let io = tokio::select! {
                        io = tls.accept(io, &gate) => io,
                        () = socket.closing() => return Ok(()),
                        // Who has not shaken hands has asked for nothing.
                        () = stopping.notified() => return Ok(()),
                    };
                    // Who speaks none has shaken no hands.
                    if !matches!(io, Ok(Err(_))) {
                        metrics.entry.shook_hands(io.is_ok(), begun.elapsed());
                    }
                    match io {
                        Ok(Ok(io)) if is_http2(&io) => {
                            let (patience, stopping) =
                                ((&*limits, keep_alive), stopping.notified());
                            let served = http2::serve(io, peer, http2, socket, patience, stopping);
                            cut_short(served.await)
                        }
                        Ok(Ok(io)) => {
                            let line = Line::new(io, socket, &limits, protocols);
                            cut_short(ended(http1.call((line, Protocol::Http1, peer)).await))
                        }
                        Ok(Err(io)) => {
                            let detail = "TLS is spoken here: ask with https://";
                            let problem = Problem::new(Code::BadRequest, detail);
                            refuse_socket(&metrics, &problem, peer);
                            turn_away(io, &problem).await;
                            Ok(())
                        }
                        Err(error) => {
                            metrics.refusals.note_tls(&error, peer.map(|peer| peer.ip()));
                            cut_short(Err(error))
                        }
                    }
                };
                contained(Box::pin(serving)).map(|served| served.unwrap_or(Ok(())))
            }))
        }
    })
}

/// Serves HTTP/1.1 over `IO`; a WebSocket or an event stream takes the socket over.
pub(super) fn http1<IO: session::Stream + 'static>(
    parts: &Parts,
    sessions: Sessions,
    stopping: &GracefulShutdownSignal,
) -> impl ServiceFactory<
    Connection<Line<IO>>,
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
> + use<IO> {
    let stopping = stopping.clone();
    let application = application(parts, sessions.clone());
    HttpService::build()
        // It would be that of the first head alone: `Line` looks at all of them.
        .client_request_timeout(Duration::ZERO)
        .client_disconnect_timeout(HANG_UP)
        .on_connect_ext(|line: &Line<IO>, data| {
            data.insert(line.course().clone());
            data.insert(line.course().handover().clone());
        })
        .keep_alive(parts.keep_alive)
        .graceful_shutdown_signal(move || {
            let stopping = stopping.clone();
            async move { stopping.notified().await }
        })
        .upgrade(fn_service(move |(request, framed): (_, Framed<Line<IO>, _>)| {
            let FramedParts { io: mut line, codec, read_buf, write_buf, .. } = framed.into_parts();
            // It is there: behind an event stream, which has it otherwise, nothing is asked for any more.
            let upgrade = line.take().map(|io| {
                let mut parts = FramedParts::with_read_buf(io, codec, read_buf);
                parts.write_buf = write_buf;
                Upgrade::new(request, Framed::from_parts(parts))
            });
            let upgraded = upgrade.map(|asked| upgrade_to(sessions.clone(), asked));
            // In a box, or each connection would keep room for it.
            Box::pin(OptionFuture::from(upgraded).map(|_| Ok::<_, Infallible>(())))
        }))
        .finish(application)
}

/// The routes of upgrade requests.
async fn upgrade_to<IO>(sessions: Sessions, upgrade: Upgrade<IO>)
where
    IO: session::Stream + 'static,
{
    let is_old = upgrade.head().version < Version::HTTP_11;
    match (require_small(upgrade.head()), is_old) {
        (Err(problem), _) => sessions.turn_away(upgrade, &problem).await,
        (Ok(()), true) => sessions.turn_away(upgrade, &without_upgrades()).await,
        (Ok(()), false) => sessions.websocket(upgrade).await,
    }
}

/// Notes that a connection is not served.
fn refuse_socket(metrics: &Metrics, problem: &Problem, peer: Option<SocketAddr>) {
    let address = peer.map(|peer| peer.ip());
    metrics.refusals.note(problem, Asker { head: None, address });
}

/// The application that answers all other requests, on one worker thread.
fn application(
    parts: &Parts,
    sessions: Sessions,
) -> impl ServiceFactory<
    Request,
    Config = (),
    Response = ServiceResponse<BoxBody>,
    Error = HttpResponse,
    InitError = (),
> + use<> {
    let Parts { auth, broker, entrance, metrics, .. } = parts.clone();
    let around = Arc::new(Around { auth, broker, entrance, metrics });
    let app = App::new()
        .configure(|services| configure(services, parts, sessions))
        .default_service(web::to(not_found))
        .wrap(from_fn(move |request, next| attend(around.clone(), request, next)));
    // It would say where we are; we ask the request.
    let config = |()| AppConfig::default();
    map_config(app.into_factory().map_err(|error| error.error_response()), config)
}
