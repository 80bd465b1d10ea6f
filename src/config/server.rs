//! Where and how to serve.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::certificate::Certificate;
use super::resumption::ResumptionSecret;

/// Where and how to serve.
#[derive(Debug, Clone)]
pub struct Server {
    /// The address to serve on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// An address of their own for operators and publishers.
    pub internal_listen: Option<SocketAddr>,
    /// Origins of pages that may connect beside those of the broker's own address, exactly as a
    /// browser sends them (RFC 6454).
    pub allowed_origins: Vec<String>,
    /// What to serve TLS with; none to serve without.
    pub certificate: Option<Certificate>,
    /// What nodes share to resume each other's sessions of TLS.
    pub resumption_secret: Option<ResumptionSecret>,
    /// Reverse proxies whose word on a client is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How they say it.
    pub proxy_headers: ProxyHeaders,
    /// Threads that serve connections.
    pub workers: usize,
    /// How long a connection without a request is kept.
    pub keep_alive: Duration,
    /// Time between heartbeats on a WebSocket, whole seconds.
    pub heartbeat: Duration,
    /// On an event stream, likewise.
    pub stream_heartbeat: Duration,
    /// How long what an event brings may be held back while more comes.
    pub flush_interval: Duration,
    /// The length in bytes from which on messages are compressed for WebSocket clients that offer
    /// it; `None` for never.
    pub compression: Option<usize>,
    /// Whether readers are given the `traceparent` of a publish.
    pub trace_context: bool,
    /// How long a stop serves on first, so that nobody new comes.
    pub shutdown_delay: Duration,
    /// How long a stop takes at most to say good-bye to every session.
    pub shutdown_grace: Duration,
}

/// The headers in which a reverse proxy says who asked, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeaders {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}
