//! A broker without a listener, on one thread.
//!
//! Everything of it is real but the sockets and the history: it serves whatever connection it is
//! handed, over anything that reads and writes bytes. So a test holds the network, the clock and the
//! log in its hand.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;

use actix_http::Protocol;
use actix_http::error::DispatchError;
use actix_server::ServerBuilder;
use actix_service::boxed::{self, RcService};
use actix_service::{Service as _, ServiceFactory};
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::beside::{Service, always};
use super::line::Line;
use super::service::{Connection, http1};
use super::sockets::Sockets;
use super::stop::Patience;
use super::{Parts, Reload, forms_bytes, heartbeats};
use crate::admin::settings::Settings;
use crate::auth::{Auth, Entrance};
use crate::body::Bodies;
use crate::broker::{BrokerHandle, NoRelay, Router, Timing};
use crate::clock::Clock;
use crate::config::Config;
use crate::history::History;
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::panics::contained;
use crate::protocol::Protocols;
use crate::session::{Contexts, Permits, Stream};

/// A connection of any kind.
pub type AnyStream = Box<dyn Stream>;

/// What answers connections, as one worker of the broker.
type Worker = RcService<Connection<Line<AnyStream>>, (), DispatchError>;

/// A broker that serves, on the current thread, the connections that it is handed.
pub struct Local {
    reload: Reload,
    metrics: Arc<Metrics>,
    permits: Permits,
    sockets: Sockets,
    entrance: Entrance,
    protocols: Protocols,
    workers: Vec<Worker>,
    /// Connections taken so far.
    taken: Cell<usize>,
    services: RefCell<Vec<Service>>,
    config: Config,
    /// Holds the signal that connections listen to.
    _listeners: ServerBuilder,
}

impl Local {
    /// Wires a broker over a history whose feed is `router`, with as many workers as `server.workers`
    /// says, all of this thread. Listeners, storage, TLS, Redis, sources and webhooks of the
    /// configuration are not looked at. Must be called on an actix system.
    #[expect(
        clippy::too_many_lines,
        reason = "wires what `Server::build` does, read from the top as a list"
    )]
    pub async fn build(
        protocols: Protocols,
        config: Config,
        history: Arc<dyn History>,
        router: Arc<Router>,
        clock: Clock,
    ) -> Self {
        let metrics = Arc::new(Metrics::default());
        let origins = config.server.allowed_origins.clone();
        let auth = Auth::new(&config.auth, config.rules.clone(), origins).timed_by(clock);
        let auth = Arc::new(auth);
        let (notices, noticed) =
            Notices::new(config.notices, auth.clone(), metrics.clone(), clock, None);
        let broker = BrokerHandle::new(
            history.clone(),
            Arc::new(NoRelay),
            router,
            Arc::new(notices),
            metrics.clone(),
            config.auth.tickets,
            Timing { flush_interval: config.server.flush_interval, clock },
        );
        let (permits, sockets) =
            (Permits::default(), Sockets::new(&config.limits, metrics.clone()));
        let settings = Arc::<Settings>::default();
        let parts = Parts {
            settings: settings.clone(),
            auth: auth.clone(),
            broker: broker.clone(),
            metrics: metrics.clone(),
            limits: Arc::new(config.limits.clone()),
            keep_alive: config.server.keep_alive,
            heartbeats: heartbeats(&config),
            clock,
            compression: config.server.compression,
            contexts: Contexts::new(config.limits.inflate_bytes),
            stumbles: Arc::default(),
            forms_bytes: forms_bytes(&config, false),
            permits: permits.clone(),
            entrance: Entrance::new(false, &config.server),
            protocols,
            bodies: Arc::new(Bodies::new(&config.limits)),
            sockets: sockets.clone(),
            is_inside: true,
            is_local: true,
        };
        let listeners = ServerBuilder::default();
        let workers = (0..config.server.workers).map(|_| worker(&parts, &listeners));
        let workers = join_all(workers).await.into_iter().flatten().collect();
        // Who is handed connections by a test need not wait for what was revoked before.
        let (known, _) = oneshot::channel();
        let services = always(&auth, &broker, &history, noticed, known).into();
        let reload = Reload { auth, broker, tls: None, rules: config.rules.clone(), settings };
        Self {
            reload,
            metrics,
            permits,
            sockets,
            entrance: parts.entrance,
            protocols,
            workers,
            taken: Cell::new(0),
            services: RefCell::new(services),
            config,
            _listeners: listeners,
        }
    }

    /// What may be replaced while it serves.
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// What is left of sessions, outboxes and readers of histories: each holds one of these.
    pub fn holders(&self) -> usize {
        let sessions = Arc::strong_count(&self.metrics) + self.permits.unparted();
        sessions + self.reload.broker.holders()
    }

    /// How many sessions have a place.
    pub fn open(&self) -> usize {
        self.permits.open()
    }

    /// What it does beside serving, which never ends; the first call has it, later ones have nothing
    /// left to do.
    pub async fn run(&self) {
        let services = self.services.take();
        join_all(services).await;
    }

    /// Serves one connection until it ends or is dropped. Workers take turns.
    pub async fn serve(&self, io: AnyStream, peer: Option<SocketAddr>) {
        let taken = self.taken.replace(self.taken.get().wrapping_add(1));
        if let Some(worker) = self.workers.get(taken % self.workers.len().max(1)) {
            let Ok(socket) = self.sockets.take(peer, &self.entrance) else { return };
            let line = Line::new(io, socket, &self.config.limits, self.protocols);
            // How it ended is the client's to see.
            _ = contained(worker.call((line, Protocol::Http1, peer))).await;
        }
    }

    /// Takes no new sessions and says good-bye to all others, as before a stop.
    pub async fn drain(&self) {
        Patience::of(&self.config).say_good_bye(&self.reload.broker, &self.permits).await;
    }
}

async fn worker(parts: &Parts, listeners: &ServerBuilder) -> Result<Worker, ()> {
    let stopping = listeners.graceful_shutdown_signal();
    let factory = http1(parts, parts.sessions(), &stopping);
    Ok(boxed::rc_service(factory.new_service(()).await?))
}
