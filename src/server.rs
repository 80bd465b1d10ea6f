//! The wiring: the one place where everything meets, and the stop.
//!
//! A stop goes in a stated order: not ready, while everything is served on for as long as balancers need to
//! notice, and every session is told to go elsewhere in that time; then no new sessions; every session
//! is told to come back elsewhere (1012), spread over the grace time; then the listener closes and what still
//! runs is given a moment.

mod beside;
mod course;
mod gate;
mod headers;
mod http2;
mod line;
mod listener;
mod local;
mod log;
mod opening;
mod reload;
mod requests;
mod resumption;
mod routes;
mod service;
mod sockets;
mod stop;
mod targets;
mod tls;
mod upgrades;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev;
use futures_util::future::LocalBoxFuture;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use self::beside::{Service, always, export, feeds, tell_held_back};
pub use self::local::{AnyStream, Local};
use self::log::Log;
pub use self::reload::{Reload, ReloadError};
use self::service::{cleartext, encrypted};
use self::sockets::Sockets;
use self::stop::Patience;
use self::tls::Tls;
use crate::admin::settings::Settings;
use crate::auth::{Auth, Entrance};
use crate::body::Bodies;
use crate::broker::{BrokerHandle, NoRelay, Relay, Timing};
use crate::clock::Clock;
use crate::config::{Config, Limits};
use crate::history::redis::JoinError;
use crate::history::sqlite::OpenError;
use crate::history::{Hand, History};
use crate::metrics::{Metrics, Webhooks};
use crate::notices::Notices;
use crate::protocol::{PROTOCOLS, Protocols};
use crate::session::{Contexts, Door, Heartbeats, House, Permits, Sessions, SharedForms, Stumbles};
use crate::supervisor::Beat;
use crate::traces::Traces;
use crate::vitals::Vitals;

/// How long requests that are under way may take once the listener is closed, in seconds.
const LAST_REQUESTS_SECONDS: u64 = 2;

/// How long a start waits until it is known who was revoked before.
const REVOCATIONS_KNOWN: Duration = Duration::from_secs(10);

/// A broker that listens and is about to serve.
pub struct Server {
    address: SocketAddr,
    internal_address: Option<SocketAddr>,
    server: dev::Server,
    reload: Reload,
    broker: BrokerHandle,
    history: Arc<dyn History>,
    metrics: Arc<Metrics>,
    traces: Traces,
    services: Vec<Service>,
    beats: watch::Receiver<Beat>,
    revocations_known: oneshot::Receiver<()>,
    permits: Permits,
    patience: Patience,
    hurry: LocalBoxFuture<'static, ()>,
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
    /// There can be no TLS with this certificate.
    #[error("can't serve TLS: {0}")]
    Tls(#[from] rustls::Error),
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
    keep_alive: Duration,
    heartbeats: Heartbeats,
    clock: Clock,
    compression: Option<usize>,
    contexts: Contexts,
    stumbles: Arc<Stumbles>,
    /// How much one worker thread keeps of what it encoded for those who came back.
    forms_bytes: usize,
    permits: Permits,
    bodies: Arc<Bodies>,
    sockets: Sockets,
    entrance: Entrance,
    /// What is spoken.
    protocols: Protocols,
    settings: Arc<Settings>,
    /// Whether what is for operators and publishers is served too.
    is_inside: bool,
    /// Whether only this machine comes in.
    is_local: bool,
}

impl Parts {
    /// Opens sessions on the current thread, which becomes a worker of the broker.
    fn sessions(&self) -> Sessions {
        let Parts { auth, broker, limits, permits, .. } = self.clone();
        let door = Door {
            auth: auth.clone(),
            entrance: self.entrance.clone(),
            broker: broker.clone(),
            permits: permits.clone(),
            limits: limits.clone(),
            compression: self.compression,
            contexts: self.contexts.clone(),
            protocols: self.protocols,
        };
        let (metrics, stumbles) = (self.metrics.clone(), self.stumbles.clone());
        let forms = RefCell::new(SharedForms::new(self.forms_bytes));
        let clock = self.clock;
        let house = House { auth, broker, limits, permits, stumbles, metrics, forms, clock };
        Sessions::new(door, house, self.metrics.clone(), self.heartbeats)
    }
}

impl Server {
    /// Wires a broker together and binds its address; it serves once it is run. Must be called on
    /// an actix system.
    pub fn build(config: Config) -> Result<Self, ServeError> {
        Self::speaking(PROTOCOLS, config)
    }

    /// The same, for clients of these protocols.
    #[expect(
        clippy::too_many_lines,
        reason = "the one place that wires, read from the top as a list"
    )]
    pub fn speaking(protocols: Protocols, config: Config) -> Result<Self, ServeError> {
        let hooks = Webhooks::named(config.webhooks.iter().map(|hook| hook.name.clone()));
        let (metrics, clock) = (Arc::new(Metrics::with(hooks)), Clock::default());
        let (traces, exporter) = Traces::open(config.traces.as_ref(), &metrics.traces);
        let Log { history, router, relay } = Log::open(&config, clock, &traces)?;
        let to_others: Arc<dyn Relay> = match &relay {
            Some(relay) => relay.clone(),
            None => Arc::new(NoRelay),
        };
        let origins = config.server.allowed_origins.clone();
        let auth = Auth::new(&config.auth, config.rules.clone(), origins).timed_by(clock);
        let auth = Arc::new(auth);
        let node = relay.as_ref().map(|relay| relay.name());
        let (notices, noticed) =
            Notices::new(config.notices, auth.clone(), metrics.clone(), clock, node);
        let broker = BrokerHandle::new(
            history.clone(),
            to_others,
            router,
            Arc::new(notices),
            metrics.clone(),
            config.auth.tickets,
            Timing { flush_interval: config.server.flush_interval, clock },
        );
        let limits = Arc::new(config.limits.clone());
        let mut services = feeds(&config, &broker, &limits)?;
        let (known, revocations_known) = oneshot::channel();
        services.extend(always(&auth, &broker, &history, noticed, known));
        services.push(Box::pin(tell_held_back(metrics.clone())));
        services.extend(exporter.map(|exporter| export(exporter, &broker, &auth)));
        if let Some(relay) = relay {
            services.push(Box::pin(relay.run(broker.clone())));
        }
        let (permits, settings) = (Permits::default(), Arc::<Settings>::default());
        let tls = |certificate| {
            let secret = config.server.resumption_secret.as_ref();
            Tls::new(certificate, secret, config.limits.handshake_timeout, clock)
        };
        let tls = config.server.certificate.as_ref().map(tls).transpose()?;
        let listener = listener::bind(config.server.listen)?;
        let address = listener.local_addr()?;
        let inside = config.server.internal_listen.map(listener::bind).transpose()?;
        let internal_address = inside.as_ref().map(TcpListener::local_addr).transpose()?;
        let sockets = Sockets::new(&config.limits, metrics.clone());
        let count = sockets.clone();
        let count = Box::new(move || count.open());
        let vitals = Vitals::new(broker.clone(), auth.clone(), metrics.clone(), &config, count);
        let beats = vitals.beats();
        services.push(Box::pin(vitals.run()));
        let parts = Parts {
            auth: auth.clone(),
            broker: broker.clone(),
            metrics: metrics.clone(),
            limits,
            keep_alive: config.server.keep_alive,
            heartbeats: heartbeats(&config),
            clock,
            compression: config.server.compression,
            contexts: Contexts::new(config.limits.inflate_bytes),
            stumbles: Arc::default(),
            forms_bytes: forms_bytes(&config, inside.is_some()),
            permits: permits.clone(),
            bodies: Arc::new(Bodies::new(&config.limits)),
            sockets,
            entrance: Entrance::new(tls.is_some(), &config.server)
                .where_another_is_inside(inside.is_some()),
            protocols,
            settings: settings.clone(),
            is_inside: inside.is_none(),
            is_local: is_local(address),
        };
        let listeners = Listeners { public: listener, tls: tls.clone(), inside };
        let server = serve(listeners, &config, parts)?;
        let rules = config.rules.clone();
        let reload = Reload { auth, broker: broker.clone(), tls, rules, settings };
        let patience = Patience::of(&config);
        Ok(Self {
            address,
            internal_address,
            server,
            reload,
            broker,
            history,
            metrics,
            traces,
            services,
            beats,
            revocations_known,
            permits,
            patience,
            hurry: Box::pin(std::future::pending()),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens to operators and publishers, if that is another address.
    pub fn internal_addr(&self) -> Option<SocketAddr> {
        self.internal_address
    }

    /// Whether the console is served, where operators come in.
    pub fn has_console(&self) -> bool {
        let address = self.internal_address.unwrap_or(self.address);
        routes::has_console(is_local(address), &self.reload.auth)
    }

    /// The broker behind it.
    pub fn broker(&self) -> BrokerHandle {
        self.broker.clone()
    }

    /// That it lives, once a second from when it serves.
    pub fn beats(&self) -> watch::Receiver<Beat> {
        self.beats.clone()
    }

    /// What may be replaced while it serves.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// Ends `server.shutdown_delay` where that is ready before its time is over.
    pub fn hurried_by(self, hurry: impl Future<Output = ()> + 'static) -> Self {
        Self { hurry: Box::pin(hurry), ..self }
    }

    /// Serves until `stop` is ready and for `server.shutdown_delay` after it, then says good-bye to every session
    /// and returns.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let handle = self.server.handle();
        let services: Vec<_> = self.services.into_iter().map(actix_web::rt::spawn).collect();
        let running = actix_web::rt::spawn(serve_once_known(self.revocations_known, self.server));
        let history = self.history;
        let stopping = async {
            stop.await;
            self.patience.serve_on(&self.broker, &self.permits, self.hurry).await;
            self.patience.say_good_bye(&self.broker, &self.permits).await;
            handle.stop(true).await;
        };
        let outcome = tokio::select! {
            outcome = running => outcome.map_err(io::Error::other).flatten(),
            () = stopping => Ok(()),
        };
        self.traces.flush().await;
        services.iter().for_each(JoinHandle::abort);
        history.stop();
        self.metrics.tell_the_rest();
        Ok(outcome?)
    }
}

/// Where requests come in.
struct Listeners {
    public: TcpListener,
    /// What the public one speaks, if it does.
    tls: Option<Tls>,
    /// For operators and publishers, where they have one of their own.
    inside: Option<TcpListener>,
}

/// How much each worker thread keeps of what it encoded for those who came back: all of them together have a part of
/// what is at hand, and each has one for each listener.
fn forms_bytes(config: &Config, has_inside: bool) -> usize {
    let threads = config.server.workers * (1 + usize::from(has_inside));
    Hand::forms_bytes(config.history.at_hand_bytes) / threads.max(1)
}

/// Serves what comes to the listeners.
fn serve(listeners: Listeners, config: &Config, parts: Parts) -> io::Result<dev::Server> {
    let mut server = dev::Server::build()
        .workers(config.server.workers)
        // It would count for each worker by itself: `Sockets` counts for all.
        .max_concurrent_connections(usize::MAX)
        .shutdown_timeout(LAST_REQUESTS_SECONDS)
        .disable_signals();
    let Listeners { public, tls, inside } = listeners;
    let stopping = server.graceful_shutdown_signal();
    if let Some(listener) = inside {
        let (stopping, entrance) = (stopping.clone(), Entrance::new(false, &config.server));
        let is_local = is_local(listener.local_addr()?);
        let parts = Parts { entrance, is_local, is_inside: true, ..parts.clone() };
        server = server.listen("internal", listener, move || cleartext(&parts, &stopping))?;
    }
    let server = match tls {
        None => server.listen("http", public, move || cleartext(&parts, &stopping)),
        Some(tls) => server.listen("https", public, move || encrypted(&parts, &tls, &stopping)),
    }?;
    Ok(server.run())
}

/// Serves once it is known who was revoked before: a token must not be good again for as long as that takes.
async fn serve_once_known(known: oneshot::Receiver<()>, server: dev::Server) -> io::Result<()> {
    match timeout(REVOCATIONS_KNOWN, known).await {
        Ok(Ok(())) => server.await,
        Ok(Err(_)) | Err(_) => {
            Err(io::Error::other("what was revoked before can't be read from the history"))
        }
    }
}

fn is_local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn heartbeats(config: &Config) -> Heartbeats {
    let server = &config.server;
    Heartbeats { websocket: server.heartbeat, stream: server.stream_heartbeat }
}
