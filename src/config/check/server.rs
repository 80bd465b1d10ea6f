//! What was typed of where and how to serve: addresses, origins, TLS and proxies.

use std::net::IpAddr;
use std::thread::available_parallelism;
use std::time::Duration;

use ipnet::IpNet;

use super::super::certificate::{self, Certificate};
use super::super::resumption::ResumptionSecret;
use super::super::server::Server;
use super::super::value::Span;
use super::super::{Config, origin, schema};
use super::complaints::Complaints;

/// Where and how to serve.
pub(super) fn server(typed: &schema::Server, complaints: &mut Complaints) -> Server {
    let most_workers = 512;
    if typed.workers > most_workers {
        complaints.add("server.workers", format!("must be at most {most_workers}"));
    }
    let Span(flush_interval) = typed.flush_interval;
    if flush_interval > Duration::from_millis(100) {
        complaints.add("server.flush_interval", "must be at most 100ms");
    }
    Server {
        listen: typed.listen,
        internal_listen: typed.internal_listen,
        allowed_origins: origins(&typed.allowed_origins, complaints),
        certificate: certificate(typed, complaints),
        resumption_secret: resumption_secret(typed, complaints),
        trusted_proxies: proxies(&typed.trusted_proxies, complaints),
        proxy_headers: typed.proxy_headers,
        workers: match typed.workers {
            0 => available_parallelism().map_or(1, usize::from),
            workers => workers,
        },
        keep_alive: complaints.between("server.keep_alive", typed.keep_alive, 1, 3_600),
        heartbeat: heartbeat("server.heartbeat", typed.heartbeat, complaints),
        stream_heartbeat: heartbeat("server.stream_heartbeat", typed.stream_heartbeat, complaints),
        flush_interval,
        compression: typed.compression.then_some(typed.compression_bytes.0),
        trace_context: typed.trace_context,
        shutdown_delay: complaints.between("server.shutdown_delay", typed.shutdown_delay, 0, 600),
        shutdown_grace: complaints.between("server.shutdown_grace", typed.shutdown_grace, 0, 600),
    }
}

/// A time between heartbeats, which clients are told in whole seconds.
fn heartbeat(key: &str, typed: Span, complaints: &mut Complaints) -> Duration {
    let heartbeat = complaints.between(key, typed, 1, 300);
    if heartbeat.as_secs() > 0 && heartbeat.subsec_nanos() != 0 {
        complaints.add(key, "must be a whole number of seconds");
    }
    heartbeat
}

fn origins(typed: &[String], complaints: &mut Complaints) -> Vec<String> {
    let mut origins = Vec::new();
    for (index, text) in typed.iter().enumerate() {
        match origin::parse(text) {
            Ok(origin) => origins.push(origin),
            Err(error) => {
                let key = format!("server.allowed_origins[{index}]");
                complaints.add(&key, format!("{text:?} {error}"));
            }
        }
    }
    origins
}

fn certificate(typed: &schema::Server, complaints: &mut Complaints) -> Option<Certificate> {
    let missing = "is needed too: TLS takes a certificate and its key";
    match (&typed.tls_certificate, &typed.tls_key) {
        (None, None) => {}
        (Some(_), None) => complaints.add("server.tls_key", missing),
        (None, Some(_)) => complaints.add("server.tls_certificate", missing),
        (Some(chain), Some(key)) => match certificate::read(chain, key) {
            Ok(certificate) => return Some(certificate),
            Err((key, message)) => complaints.add(key, message),
        },
    }
    None
}

fn resumption_secret(
    typed: &schema::Server,
    complaints: &mut Complaints,
) -> Option<ResumptionSecret> {
    let secret = typed.tls_resumption_secret.as_ref()?;
    match ResumptionSecret::parse(secret) {
        Err(message) => complaints.add("server.tls_resumption_secret", message),
        Ok(_) if typed.tls_certificate.is_none() => {
            let message = "is needed too: sessions of TLS are resumed where it is spoken";
            complaints.add("server.tls_certificate", message);
        }
        Ok(secret) => return Some(secret),
    }
    None
}

fn proxies(typed: &[String], complaints: &mut Complaints) -> Vec<IpNet> {
    let mut proxies = Vec::new();
    for (index, text) in typed.iter().enumerate() {
        let address = || text.parse::<IpAddr>().map(|address| address.to_canonical().into());
        match text.parse().or_else(|_| address()) {
            Ok(proxy) => proxies.push(proxy),
            Err(_) => {
                let message = format!("{text:?} is neither an address nor a network as 10.0.0.0/8");
                complaints.add(&format!("server.trusted_proxies[{index}]"), message);
            }
        }
    }
    proxies
}

/// Warns of secrets that others may read, on this machine or on their way.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let certificate = config.server.certificate.as_ref();
    let exposed = certificate.filter(|certificate| certificate.is_exposed());
    let exposed =
        exposed.map(|_| "server.tls_key may be read by every user of this machine".to_owned());
    exposed.into_iter().chain(without_tls(config)).collect()
}

/// Warns of addresses where keys and tokens can be read on their way. A proxy that is trusted is there to
/// speak TLS to the world.
fn without_tls(config: &Config) -> Vec<String> {
    let server = &config.server;
    let is_secured = server.certificate.is_some() || !server.trusted_proxies.is_empty();
    let public = (!is_secured).then_some(("server.listen", server.listen));
    let inside = server.internal_listen.map(|address| ("server.internal_listen", address));
    let exposed = public.into_iter().chain(inside).filter(|(_, address)| {
        !config.auth.is_open() && !address.ip().to_canonical().is_loopback()
    });
    let warning = |(key, address)| {
        format!(
            "{key}: {address} is reachable from other machines without TLS, so keys and tokens can be read \
             on the way: {}",
            match key {
                "server.listen" => {
                    "set server.tls_certificate and server.tls_key, or server.trusted_proxies where a \
                     proxy speaks TLS before it"
                }
                _ => "let no network reach it that is not trusted",
            }
        )
    };
    exposed.map(warning).collect()
}

/// Refuses to serve other machines where everyone has every right.
pub(super) fn require_credentials(config: &Config, complaints: &mut Complaints) {
    let addresses = [
        ("server.listen", Some(config.server.listen)),
        ("server.internal_listen", config.server.internal_listen),
    ];
    for (key, address) in addresses {
        let Some(address) = address.filter(|address| !address.ip().to_canonical().is_loopback())
        else {
            continue;
        };
        if config.auth.is_open() {
            let message = format!(
                "{address} is reachable from other machines, but no credential is configured: set \
                 auth.api_keys, auth.jwt_secret, auth.jwt_public_key or auth.jwks_url, or \
                 listen on 127.0.0.1"
            );
            complaints.add(key, message);
        }
    }
}
