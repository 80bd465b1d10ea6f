//! The wiring: the one place where everything meets, and the stop.
//!
//! A stop goes in a stated order: not ready and no new sessions; every session is told to come back
//! elsewhere (1012), spread over the grace time; then the listener closes and what still runs is
//! given a moment.

mod course;
mod headers;
mod http2;
mod line;
mod listener;
mod reload;
mod requests;
mod routes;
mod service;
mod sockets;
mod tls;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{self, ServerHandle};
use futures_util::future::LocalBoxFuture;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

pub use self::reload::{Reload, ReloadError};
use self::service::{encrypted, plain};
use self::sockets::Sockets;
use self::tls::Tls;
use crate::admin;
use crate::auth::{Auth, Entrance};
use crate::body::Bodies;
use crate::broker::{BrokerHandle, NoRelay, Relay, Router, Timing};
use crate::cluster::RedisRelay;
use crate::config::{Config, Limits, Storage};
use crate::history::History;
use crate::history::memory::MemoryHistory;
use crate::history::redis::{JoinError, Joined};
use crate::history::sqlite::{OpenError, Opened};
use crate::ingress::redis::Source;
use crate::metrics::Metrics;
use crate::notices::webhook::Webhook;
use crate::notices::{Noticed, Notices};
use crate::session::{Door, Places, Sessions};

/// How long requests that are under way may take once the listener is closed, in seconds.
const LAST_REQUESTS_SECONDS: u64 = 2;

/// How long a drained session may take to leave before the listener closes.
const LAST_GOOD_BYES: Duration = Duration::from_millis(500);

/// How often the history is swept of what is too old.
const SWEEP: Duration = Duration::from_secs(1);

/// A broker that listens and is about to serve.
pub struct Server {
    address: SocketAddr,
    internal_address: Option<SocketAddr>,
    server: dev::Server,
    reload: Reload,
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
    heartbeat: Duration,
    compression: Option<usize>,
    places: Places,
    bodies: Arc<Bodies>,
    sockets: Sockets,
    entrance: Entrance,
    /// Whether what is for operators and publishers is served too.
    is_inside: bool,
    /// Whether only this machine comes in.
    is_local: bool,
}

impl Parts {
    /// Opens sessions on the current thread, which becomes a worker of the broker.
    fn sessions(&self) -> Sessions {
        let max_patterns = self.limits.subscriptions;
        Sessions::new(
            Door {
                auth: self.auth.clone(),
                entrance: self.entrance.clone(),
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
        let auth = Arc::new(Auth::new(&config.auth, config.rules.clone(), origins));
        let (notices, noticed) = Notices::new(config.notices, auth.clone(), metrics.clone());
        let broker = BrokerHandle::new(
            history.clone(),
            to_others,
            router,
            Arc::new(notices),
            metrics.clone(),
            config.auth.tickets,
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
        let tls = |certificate| Tls::new(certificate, config.limits.handshake_timeout);
        let tls = config.server.certificate.as_ref().map(tls).transpose()?;
        let listener = listener::bind(config.server.listen)?;
        let address = listener.local_addr()?;
        let inside = config.server.internal_listen.map(listener::bind).transpose()?;
        let internal_address = inside.as_ref().map(TcpListener::local_addr).transpose()?;
        let parts = Parts {
            auth: auth.clone(),
            broker: broker.clone(),
            metrics,
            limits,
            heartbeat: config.server.heartbeat,
            compression: config.server.compression,
            places: places.clone(),
            bodies: Arc::new(Bodies::new(&config.limits)),
            sockets: Sockets::new(&config.limits),
            entrance: Entrance::new(tls.is_some(), &config.server),
            is_inside: inside.is_none(),
            is_local: is_local(address),
        };
        let listeners = Listeners { public: listener, tls: tls.clone(), inside };
        let server = serve(listeners, &config, parts)?;
        let rules = config.rules.clone();
        let reload = Reload { auth, broker: broker.clone(), tls, rules };
        let grace = config.server.shutdown_grace;
        Ok(Self {
            address,
            internal_address,
            server,
            reload,
            broker,
            history,
            services,
            places,
            grace,
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

    /// The broker behind it.
    pub fn broker(&self) -> BrokerHandle {
        self.broker.clone()
    }

    /// What may be replaced while it serves.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
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
    let (rules, inbox_events) = (config.rules.clone(), config.limits.inbox_events);
    if let Some(redis) = &config.redis {
        let joined = Joined::open(redis)?;
        let router = Arc::new(Router::new(joined.head(), inbox_events));
        let history = joined.start(&config.history, rules, router.clone());
        let relay = Some(RedisRelay::new(history.nodes()));
        return Ok(Log { history: Arc::new(history), router, relay });
    }
    if rules.all().any(|rule| rule.storage == Storage::Disk) {
        let opened = Opened::open(&config.history, rules)?;
        let router = Arc::new(Router::new(opened.head(), inbox_events));
        let history = opened.start(router.clone())?;
        return Ok(Log { history: Arc::new(history), router, relay: None });
    }
    let start = MemoryHistory::new_start();
    let router = Arc::new(Router::new(start, inbox_events));
    let history = MemoryHistory::new(start, &config.history, rules, router.clone());
    Ok(Log { history: Arc::new(history), router, relay: None })
}

/// Where requests come in.
struct Listeners {
    public: TcpListener,
    /// What the public one speaks, if it does.
    tls: Option<Tls>,
    /// For operators and publishers, where they have one of their own.
    inside: Option<TcpListener>,
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
        server = server.listen("internal", listener, move || plain(&parts, &stopping))?;
    }
    let server = match tls {
        None => server.listen("http", public, move || plain(&parts, &stopping)),
        Some(tls) => server.listen("https", public, move || encrypted(&parts, &tls, &stopping)),
    }?;
    Ok(server.run())
}

fn is_local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
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
