//! `fanfare serve`: the broker, from its configuration to its end.

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use actix_web::rt;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::print::may_colour;
use super::reload::Watch;
use super::signals::Signals;
use super::{Failure, open_files};
use crate::config::{Config, Loaded, Log, LogFormat, Sources, load_with_origins};
use crate::lines::{Lines, NoteTroubles, STANDARD_ERROR};
use crate::panics;
use crate::server::Server;
use crate::supervisor::Supervisor;
use crate::trust;

/// How much longer than a stop an end after a panic may take before it is forced.
const LAST_RESORT: Duration = Duration::from_secs(10);

/// Serves until SIGTERM or SIGINT, or a panic, and for `server.shutdown_delay` after it, which a second signal or a
/// panic ends; the next signal ends the process at once.
pub fn run(sources: Sources) -> Result<(), Failure> {
    let loaded = load_with_origins(&sources)?;
    if loaded.config.calls_over_tls() {
        trust::roots().map_err(|error| Failure::Usage(error.to_string()))?;
    }
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
    let (address, internal) = (server.addr(), server.internal_addr());
    let addresses = Addresses { public: address, internal, has_console: server.has_console() };
    let greeting = greeting(addresses, &loaded.config, sources.file.as_deref());
    let supervisor = Supervisor::of_process();
    let watch = Watch::new(sources, loaded, server.reload(), supervisor.clone());
    rt::spawn(watch.map_err(Failure::failed)?.run());
    rt::spawn(supervisor.clone().attend(server.beats()));
    Lines::to("greeting", std::io::stdout()).say(greeting);
    let (hurry, hurried) = oneshot::channel();
    let server = server.hurried_by(async { _ = hurried.await });
    server.run_until(stop(signals, delay, hurry, supervisor)).await.map_err(Failure::failed)?;
    match panics::is_broken() {
        true => Err(Failure::failed("a part of the broker has panicked")),
        false => Ok(()),
    }
}

/// Waits for the first signal or a panic, and leaves a watch that takes the next ones at their word.
async fn stop(
    mut signals: Signals,
    delay: Duration,
    hurry: oneshot::Sender<()>,
    supervisor: Supervisor,
) {
    tokio::select! {
        first = signals.next() => match delay.is_zero() {
            true => tracing::info!("{first}: stopping; another one ends at once"),
            false => tracing::info!(
                "{first}: stopping in {delay:?} (server.shutdown_delay), or at another one"
            ),
        },
        () = panics::broken() => tracing::error!("a part of the broker has panicked: stopping"),
    }
    supervisor.stopping();
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
        .with_ansi(std::io::stderr().is_terminal() && may_colour());
    // Refused only where a log was started before, which then goes on.
    _ = match log.format {
        LogFormat::Text => lines.finish().with(NoteTroubles).try_init(),
        LogFormat::Json => lines.json().finish().with(NoteTroubles).try_init(),
    };
}

/// Where the broker serves.
struct Addresses {
    public: SocketAddr,
    internal: Option<SocketAddr>,
    /// Whether the console is there, at the address of operators.
    has_console: bool,
}

/// Where to look, once the broker serves: each link is to the address that serves what it is to.
fn greeting(addresses: Addresses, config: &Config, file: Option<&Path>) -> String {
    let Addresses { public: address, internal, has_console } = addresses;
    let scheme = if config.server.certificate.is_some() { "https" } else { "http" };
    let public = format!("{scheme}://{}", reachable(address));
    let inside = internal.map(|address| format!("http://{}", reachable(address)));
    let inside = inside.as_ref().unwrap_or(&public);
    let open = config.auth.is_open();
    let key = if open { "" } else { "-H 'Authorization: Bearer KEY' " };
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("Fanfare {version} is serving on {scheme}://{address}");
    if let Some(internal) = internal {
        text += &format!(", for operators and publishers on http://{internal}");
    }
    let console = match has_console {
        true => format!("{inside}/"),
        false => "off on this address until there is an API key with admin rights".to_owned(),
    };
    text += &format!(
        "\n\
         \x20 console     {console}\n\
         \x20 publish     curl {key}-d '{{\"hello\":\"world\"}}' {inside}/v1/topics/demo/events\n\
         \x20 API docs    {public}/docs\n",
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
pub fn reachable(address: SocketAddr) -> SocketAddr {
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
        let at = |public: &str, internal: Option<&str>, has_console| Addresses {
            public: public.parse().unwrap(),
            internal: internal.map(|internal| internal.parse().unwrap()),
            has_console,
        };
        let text = greeting(at("0.0.0.0:9000", None, true), &config, None);
        assert!(text.contains("serving on http://0.0.0.0:9000\n"), "{text}");
        assert!(text.contains("console     http://127.0.0.1:9000/\n"), "{text}");
        assert!(text.contains("Bearer KEY") && !text.contains("open mode"), "{text}");
        let file = Some(Path::new("a.toml"));
        let text = greeting(at("[::1]:80", None, true), &Config::default(), file);
        assert!(text.contains("http://[::1]:80/docs") && text.contains("open mode"), "{text}");
        assert!(text.contains("configured  a.toml"), "{text}");
    }

    #[test]
    fn each_link_of_the_greeting_is_to_the_address_that_serves_it() {
        let (public, internal) = ("127.0.0.1:80".parse().unwrap(), "[::]:90".parse().ok());
        let at = |has_console| Addresses { public, internal, has_console };
        let mut config = Config::default();
        let text = greeting(at(false), &config, None);
        assert!(text.contains(
            "serving on http://127.0.0.1:80, for operators and publishers on http://[::]:90\n"
        ));
        assert!(text.contains("http://[::1]:90/v1/topics/demo/events"), "{text}");
        assert!(text.contains("http://127.0.0.1:80/docs"), "{text}");
        assert!(text.contains("console     off on this address"), "{text}");
        config.auth.api_keys.push(KeyHash([0; 32]));
        let text = greeting(at(true), &config, None);
        assert!(text.contains("console     http://[::1]:90/\n"), "{text}");
    }
}
