//! The wiring: the one place where everything meets, the one route table, and the stop.
//!
//! A stop goes in a stated order: not ready and no new sessions; every session is told to come back
//! elsewhere (1012), spread over the grace time; then the listener closes and what still runs is
//! given a moment.

mod listener;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_codec::Framed;
use actix_http::HttpService;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{
    self, AppConfig, ServerHandle, ServiceFactory, ServiceRequest, ServiceResponse, fn_service,
};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpRequest, HttpResponse, Resource, ResponseError, Route, guard};
use futures_util::future::LocalBoxFuture;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::auth::Auth;
use crate::broker::{Bounds, BrokerHandle, NoRelay, Relay, Router, Timing};
use crate::cluster::RedisRelay;
use crate::config::{Config, Limits, Storage};
use crate::history::History;
use crate::history::memory::MemoryHistory;
use crate::history::redis::{JoinError, Joined};
use crate::history::sqlite::{OpenError, Opened};
use crate::http::SECURITY_HEADERS;
use crate::ingress::redis::Source;
use crate::metrics::Metrics;
use crate::model::{Code, Problem};
use crate::notices::webhook::Webhook;
use crate::notices::{Noticed, Notices};
use crate::session::{Door, Places, Sessions, SharedTcp, Upgrade, require_handshake};
use crate::{admin, console, ingress};

/// How long a client that was answered, and has not sent all it announced, is still read from; its
/// connection is cut then. Long enough for it to see the answer.
const HANG_UP: Duration = Duration::from_millis(700);

/// How long requests that are under way may take once the listener is closed, in seconds.
const LAST_REQUESTS_SECONDS: u64 = 2;

/// How long a drained session may take to leave before the listener closes.
const LAST_GOOD_BYES: Duration = Duration::from_millis(500);

/// How often the history is swept of what is too old.
const SWEEP: Duration = Duration::from_secs(1);

/// A broker that listens and is about to serve.
pub struct Server {
    address: SocketAddr,
    server: dev::Server,
    broker: BrokerHandle,
    history: Arc<dyn History>,
    services: Vec<Service>,
    places: Places,
    grace: Duration,
}

/// Why a broker can't start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, forbidden or not of this machine.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The history can't be opened.
    #[error(transparent)]
    History(#[from] OpenError),
    /// The log of the cluster can't be joined.
    #[error(transparent)]
    Cluster(#[from] JoinError),
    /// The server failed while it ran.
    #[error("the server failed: {0}")]
    Run(#[from] io::Error),
}

/// What every worker thread is made of.
#[derive(Clone)]
struct Parts {
    auth: Arc<Auth>,
    broker: BrokerHandle,
    metrics: Arc<Metrics>,
    limits: Arc<Limits>,
    heartbeat: Duration,
    compression: Option<usize>,
    places: Places,
    allowed_origins: Arc<[String]>,
}

impl Parts {
    /// Opens sessions on the current thread, which becomes a worker of the broker.
    fn sessions(&self) -> Sessions {
        let max_patterns = self.limits.subscriptions;
        Sessions::new(
            Door {
                auth: self.auth.clone(),
                broker: self.broker.clone(),
                max_patterns,
                compression: self.compression,
            },
            self.broker.clone(),
            self.broker.start_worker(),
            self.metrics.clone(),
            self.limits.clone(),
            self.heartbeat,
            self.places.clone(),
        )
    }
}

impl Server {
    /// Wires a broker together and binds its address; it serves once it is run. Must be called on
    /// an actix system.
    pub fn build(config: Config) -> Result<Self, ServeError> {
        let metrics = Arc::new(Metrics::default());
        let Log { history, router, relay } = open_history(&config)?;
        let to_others: Arc<dyn Relay> = match &relay {
            Some(relay) => relay.clone(),
            None => Arc::new(NoRelay),
        };
        let origins = config.server.allowed_origins.clone();
        let auth = Arc::new(Auth::new(&config.auth, config.rules.clone(), origins.clone()));
        let (notices, noticed) = Notices::new(config.notices, auth.clone(), metrics.clone());
        let broker = BrokerHandle::new(
            history.clone(),
            to_others,
            router,
            Arc::new(notices),
            metrics.clone(),
            Bounds { inbox_events: config.limits.inbox_events, tickets: config.auth.tickets },
            Timing {
                heartbeat: config.server.heartbeat,
                flush_interval: config.server.flush_interval,
            },
        );
        let limits = Arc::new(config.limits.clone());
        let mut services = feeds(&config, &broker, &limits)?;
        services.extend(always(&auth, &broker, &history, noticed));
        if let Some(relay) = relay {
            services.push(Box::pin(relay.run(broker.clone())));
        }
        let places = Places::default();
        let parts = Parts {
            auth: auth.clone(),
            broker: broker.clone(),
            metrics,
            limits,
            heartbeat: config.server.heartbeat,
            compression: config.server.compression,
            places: places.clone(),
            allowed_origins: origins.into(),
        };
        let listen = config.server.listen;
        let listener = listener::bind(listen)
            .map_err(|source| ServeError::Listen { address: listen, source })?;
        let address = listener.local_addr()?;
        let grace = config.server.shutdown_grace;
        let server = serve(listener, &config, parts)?;
        Ok(Self { address, server, broker, history, services, places, grace })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The broker behind it.
    pub fn broker(&self) -> BrokerHandle {
        self.broker.clone()
    }

    /// Serves until `stop` is ready, then says good-bye to every session and returns.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let handle = self.server.handle();
        let services: Vec<_> = self.services.into_iter().map(actix_web::rt::spawn).collect();
        let running = actix_web::rt::spawn(self.server);
        let history = self.history;
        let stopping = async {
            stop.await;
            shut_down(&self.broker, &self.places, &handle, self.grace).await;
        };
        let outcome = tokio::select! {
            outcome = running => outcome.map_err(io::Error::other).flatten(),
            () = stopping => Ok(()),
        };
        services.iter().for_each(JoinHandle::abort);
        history.stop();
        Ok(outcome?)
    }
}

/// What runs beside the listener, until the stop.
type Service = LocalBoxFuture<'static, ()>;

/// What brings events in and out beside clients.
fn feeds(
    config: &Config,
    broker: &BrokerHandle,
    limits: &Arc<Limits>,
) -> Result<Vec<Service>, ServeError> {
    let mut services: Vec<Service> = Vec::new();
    for from in &config.sources {
        let source = Source::new(from, broker.clone(), limits.clone());
        let source = source.map_err(|error| JoinError::Address(error.to_string()))?;
        services.push(Box::pin(source.run()));
    }
    for hook in &config.webhooks {
        let webhook = Webhook::new(hook.clone(), broker.clone());
        let webhook = webhook.map_err(|problem| io::Error::other(problem.to_string()))?;
        services.push(Box::pin(webhook.run()));
    }
    Ok(services)
}

/// What every node does by itself.
fn always(
    auth: &Arc<Auth>,
    broker: &BrokerHandle,
    history: &Arc<dyn History>,
    noticed: Noticed,
) -> [Service; 4] {
    let keys = auth.clone();
    [
        Box::pin(sweep(history.clone())),
        Box::pin(async move { keys.keep_keys().await }),
        Box::pin(admin::revocations::follow(broker.clone(), auth.clone())),
        Box::pin(noticed.store(broker.clone())),
    ]
}

/// The log of this node, and the ways out of it.
struct Log {
    history: Arc<dyn History>,
    /// To the sessions of this node.
    router: Arc<Router>,
    /// To the other nodes, where there may be some.
    relay: Option<Arc<RedisRelay>>,
}

/// The log that the configuration asks for. A data directory is used only where a rule keeps events on
/// disk.
fn open_history(config: &Config) -> Result<Log, ServeError> {
    let rules = config.rules.clone();
    if let Some(redis) = &config.redis {
        let joined = Joined::open(redis)?;
        let router = Arc::new(Router::new(joined.head()));
        let history = joined.start(&config.history, rules, router.clone());
        let relay = Some(RedisRelay::new(history.nodes()));
        return Ok(Log { history: Arc::new(history), router, relay });
    }
    if rules.all().any(|rule| rule.storage == Storage::Disk) {
        let opened = Opened::open(&config.history, rules)?;
        let router = Arc::new(Router::new(opened.head()));
        let history = opened.start(router.clone())?;
        return Ok(Log { history: Arc::new(history), router, relay: None });
    }
    let start = MemoryHistory::new_start();
    let router = Arc::new(Router::new(start));
    let history = MemoryHistory::new(start, &config.history, rules, router.clone());
    Ok(Log { history: Arc::new(history), router, relay: None })
}

/// Serves what comes to `listener`: what `actix_web::HttpServer` does, with one thing more that it
/// has no word for: upgrade requests come with their sockets, before the application's routing.
fn serve(listener: TcpListener, config: &Config, parts: Parts) -> io::Result<dev::Server> {
    let Limits { connections, stall_timeout, request_timeout, .. } = config.limits;
    let server = dev::Server::build()
        .workers(config.server.workers)
        // A margin over our own limit, so that the refusal is ours to explain.
        .max_concurrent_connections(connections.saturating_add(1_000))
        .shutdown_timeout(LAST_REQUESTS_SECONDS)
        .disable_signals();
    let stopping = server.graceful_shutdown_signal();
    let server = server.listen("http", listener, move || {
        let (sessions, stopping) = (parts.sessions(), stopping.clone());
        let app = app(parts.clone(), sessions.clone()).into_factory();
        HttpService::build()
            .on_connect_ext(move |stream, _| listener::prepare(stream, stall_timeout))
            .client_request_timeout(request_timeout)
            .client_disconnect_timeout(HANG_UP)
            // A client that hangs up its half has gone: an event stream has no other sign of it.
            .h1_allow_half_closed(false)
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .upgrade(fn_service(move |(request, framed): (_, Framed<TcpStream, _>)| {
                // In a box, or each connection would keep room for it.
                let framed = framed.into_map_io(SharedTcp::new);
                Box::pin(upgrade(sessions.clone(), Upgrade::new(request, framed)))
            }))
            .finish(map_config(
                app.map_err(|error| error.error_response()),
                // It would say where we are; we ask the request.
                |()| AppConfig::default(),
            ))
            .tcp()
    })?;
    Ok(server.run())
}

/// The routes of upgrade requests.
async fn upgrade(sessions: Sessions, upgrade: Upgrade<SharedTcp>) -> Result<(), Infallible> {
    match upgrade.head().uri.path() {
        "/v1/ws" => sessions.websocket(upgrade).await,
        _ => {
            let problem = Problem::new(Code::NotFound, "no WebSocket is at this path");
            upgrade.refuse(&problem).await;
        }
    }
    Ok(())
}

/// The application that answers all other requests, on one worker thread.
fn app(
    parts: Parts,
    sessions: Sessions,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let origins = parts.allowed_origins.clone();
    App::new()
        .configure(|services| configure(services, &parts, sessions))
        .default_service(web::to(not_found))
        .wrap(from_fn(move |request, next| with_headers(origins.clone(), request, next)))
}

/// The route table, and what the handlers of one worker thread work with.
fn configure(services: &mut ServiceConfig, parts: &Parts, sessions: Sessions) {
    let Parts { auth, broker, metrics, limits, .. } = parts.clone();
    let (get, post, delete) = (web::get, web::post, web::delete);
    services
        .app_data(web::Data::new(sessions))
        .app_data(web::Data::new(broker))
        .app_data(web::Data::from(auth))
        .app_data(web::Data::from(metrics))
        .app_data(web::Data::from(limits))
        .service(
            path("/v1/topics/{topic}/events", "GET, POST, DELETE")
                .route(get().to(ingress::read_events))
                .route(post().to(ingress::publish_event))
                .route(delete().to(ingress::forget_events)),
        )
        .service(path("/v1/topics/{topic}/presence", "GET").route(get().to(admin::presence)))
        .service(path("/v1/topics/{topic}", "GET").route(get().to(ingress::read_topic)))
        .service(path("/v1/topics", "GET").route(get().to(ingress::list_topics)))
        .service(path("/v1/events", "POST").route(post().to(ingress::publish_batch)))
        .service(path("/v1/sessions/{id}", "DELETE").route(delete().to(admin::end_session)))
        .service(path("/v1/sessions", "GET").route(get().to(admin::list_sessions)))
        .service(
            path("/v1/revocations", "GET, POST")
                .route(get().to(admin::list_revocations))
                .route(post().to(admin::revoke)),
        )
        .service(path("/v1/tickets", "POST").route(post().to(admin::make_ticket)))
        .service(path("/v1/users/{user}/sessions", "DELETE").route(delete().to(admin::end_user)))
        .service(path("/v1/ws", "GET").route(get().to(without_upgrade)))
        .service(path("/v1/sse", "GET").route(get().to(Sessions::sse)))
        .service(path("/health/live", "GET, HEAD").route(get_or_head().to(admin::live)))
        .service(path("/health/ready", "GET, HEAD").route(get_or_head().to(admin::ready)))
        .service(path("/metrics", "GET").route(get().to(admin::metrics)));
    for asset in console::ASSETS {
        services.service(
            path(asset.path, "GET, HEAD").route(get_or_head().to(|| async { asset.response() })),
        );
    }
}

/// A path that refuses other methods by naming those it takes (RFC 9110, section 15.5.6).
fn path(path: &str, methods: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move || async move {
        let detail = format!("this path takes {methods}");
        let mut response = Problem::new(Code::MethodNotAllowed, detail).error_response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
        response
    }))
}

fn get_or_head() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

async fn not_found() -> HttpResponse {
    Problem::new(Code::NotFound, "there is nothing at this path").error_response()
}

/// A WebSocket path asked for as any other: upgrade requests do not come here.
async fn without_upgrade(request: HttpRequest) -> HttpResponse {
    let problem = match require_handshake(request.head()) {
        Ok(()) => Problem::new(Code::BadRequest, "a WebSocket handshake has no body"),
        Err(problem) => problem,
    };
    problem.error_response()
}

/// Adds the headers that every response has, and lets pages of listed origins read what they may ask
/// for (CORS, as the Fetch standard says).
async fn with_headers(
    allowed: Arc<[String]>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let headers = request.headers();
    let origin = headers
        .get(header::ORIGIN)
        .filter(|origin| allowed.iter().any(|listed| listed.as_bytes() == origin.as_bytes()))
        .cloned();
    let is_preflight = origin.is_some()
        && request.method() == Method::OPTIONS
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match is_preflight {
        true => request.into_response(preflight()),
        false => next.call(request).await?.map_into_boxed_body(),
    };
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    Ok(response)
}

fn preflight() -> HttpResponse {
    let allowed = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Event-Type";
    HttpResponse::NoContent()
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, allowed))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "600"))
        .finish()
}

async fn sweep(history: Arc<dyn History>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        history.sweep();
    }
}

async fn shut_down(broker: &BrokerHandle, places: &Places, server: &ServerHandle, grace: Duration) {
    info!(sessions = places.open(), "stopping");
    broker.drain(grace).await;
    let everyone_left = async {
        while places.open() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(LAST_GOOD_BYES, everyone_left).await.is_err() {
        warn!(sessions = places.open(), "some sessions did not leave in time");
    }
    server.stop(true).await;
}
