//! `fanfare serve`: the broker, from its configuration to its end.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use actix_web::rt;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing_subscriber::EnvFilter;

use super::reload::Watch;
use super::signals::Signals;
use super::{Failure, open_files};
use crate::config::{Config, Loaded, Log, LogFormat, Sources, load_with_origins};
use crate::lines::{Lines, STANDARD_ERROR};
use crate::panics;
use crate::server::Server;

/// How much longer than a stop an end after a panic may take before it is forced.
const LAST_RESORT: Duration = Duration::from_secs(10);

/// Serves until SIGTERM or SIGINT, or a panic, and for `server.shutdown_delay` after it, which a second signal or a
/// panic ends; the next signal ends the process at once.
pub fn run(sources: Sources) -> Result<(), Failure> {
    let loaded = load_with_origins(&sources)?;
    start_log(&loaded.config.log);
    let (server, limits) = (&loaded.config.server, &loaded.config.limits);
    panics::watch(server.shutdown_grace + limits.close_timeout + LAST_RESORT);
    let open_files = open_files::make_room(loaded.config.limits.connections);
    for warning in loaded.warnings.iter().chain(&open_files) {
        tracing::warn!("{warning}");
    }
    rt::System::new().block_on(serve(sources, loaded))
}

async fn serve(sources: Sources, loaded: Loaded) -> Result<(), Failure> {
    let signals = Signals::catch().map_err(Failure::failed)?;
    let server = Server::build(loaded.config.clone()).map_err(Failure::failed)?;
    let delay = loaded.config.server.shutdown_delay;
    let greeting = greeting(server.addr(), &loaded.config, sources.file.as_deref());
    let watch = Watch::new(sources, loaded, server.reload()).map_err(Failure::failed)?;
    rt::spawn(watch.run());
    Lines::to("greeting", std::io::stdout()).say(greeting);
    let (hurry, hurried) = oneshot::channel();
    let server = server.hurried_by(async { _ = hurried.await });
    server.run_until(stop(signals, delay, hurry)).await.map_err(Failure::failed)?;
    match panics::is_broken() {
        true => Err(Failure::failed("a part of the broker has panicked")),
        false => Ok(()),
    }
}

/// Waits for the first signal or a panic, and leaves a watch that takes the next ones at their word.
async fn stop(mut signals: Signals, delay: Duration, hurry: oneshot::Sender<()>) {
    tokio::select! {
        first = signals.next() => match delay.is_zero() {
            true => tracing::info!("{first}: stopping; another one ends at once"),
            false => tracing::info!(
                "{first}: stopping in {delay:?} (server.shutdown_delay), or at another one"
            ),
        },
        () = panics::broken() => tracing::error!("a part of the broker has panicked: stopping"),
    }
    rt::spawn(async move {
        tokio::select! {
            second = signals.next(), if !delay.is_zero() => {
                tracing::info!("{second}: stopping; another one ends at once");
            }
            // What a part of the broker no longer does, nobody is to wait for.
            () = panics::broken() => {}
            () = sleep(delay) => {}
        }
        _ = hurry.send(());
        signals.next().await;
        std::process::exit(1);
    });
}

fn start_log(log: &Log) {
    let filter = EnvFilter::try_new(&log.filter).unwrap_or_default();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| &*STANDARD_ERROR)
        // It would write of them by itself, and panic where it can't.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    // Refused only where a log was started before, which then goes on.
    _ = match log.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}

/// Where to look, once the broker serves.
fn greeting(address: SocketAddr, config: &Config, file: Option<&Path>) -> String {
    let scheme = if config.server.certificate.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", reachable(address));
    let open = config.auth.is_open();
    let key = if open { "" } else { "-H 'Authorization: Bearer KEY' " };
    let mut text = format!(
        "Fanfare {version} is serving on {scheme}://{address}\n\
         \x20 console     {url}/\n\
         \x20 publish     curl {key}-d '{{\"hello\":\"world\"}}' {url}/v1/topics/demo/events\n\
         \x20 API docs    {url}/docs\n",
        version = env!("CARGO_PKG_VERSION"),
    );
    if let Some(file) = file {
        text.push_str(&format!("  configured  {}\n", file.display()));
    }
    if open {
        text.push_str(
            "  open mode: no credentials are configured, so everyone on this machine may publish \
             and subscribe\n",
        );
    }
    text
}

/// The address to write into a link: one that stands for all addresses can't be visited.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyHash;

    #[test]
    fn the_greeting_has_links_that_can_be_visited() {
        let mut config = Config::default();
        config.auth.api_keys.push(KeyHash([0; 32]));
        let text = greeting("0.0.0.0:9000".parse().unwrap(), &config, None);
        assert!(text.contains("serving on http://0.0.0.0:9000\n"), "{text}");
        assert!(text.contains("console     http://127.0.0.1:9000/\n"), "{text}");
        assert!(text.contains("Bearer KEY") && !text.contains("open mode"), "{text}");
        let file = Some(Path::new("a.toml"));
        let text = greeting("[::1]:80".parse().unwrap(), &Config::default(), file);
        assert!(text.contains("http://[::1]:80/docs") && text.contains("open mode"), "{text}");
        assert!(text.contains("configured  a.toml"), "{text}");
    }
}
