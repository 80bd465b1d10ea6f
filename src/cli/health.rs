//! `fanfare health`: whether the broker of this configuration is well, for a supervisor that runs a command.
//!
//! A container's health check is one: there is no shell in the image, nor any other client. Which address to ask it knows
//! from the same configuration as the broker.

use std::fmt::Display;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::rt::System;
use serde_json::Value;
use tokio::time::timeout;

use super::remote::{Answer, Remote, UrlArgs};
use super::serve::reachable;
use super::{ConfigArgs, Failure, print};
use crate::config::{Config, load_with_origins};

const EXAMPLES: &str = "\
Examples:
  fanfare health                                  whether it is alive: a supervisor restarts by this alone
  fanfare health --ready                          whether it can do its job, and else what fails
  fanfare health --url https://push.example       another one

It asks server.internal_listen, or else server.listen, of this machine. With a certificate there and
no internal_listen, --url has to say the name that the certificate is for. An answer may take 5 s.";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most that is read of an answer, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// What `health` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Whether it is able to do its job (GET /health/ready), and not only alive (GET /health/live)
    #[arg(long)]
    ready: bool,
    /// Ask the broker there, whatever is configured here
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Asks, and fails where it is not well.
pub fn run(args: Args, before: ConfigArgs) -> Result<(), Failure> {
    let config = args.config.over(before);
    let url = match args.url {
        Some(url) if config.is_absent() => url,
        Some(_) => {
            let reason = "--config, --set and --listen say which broker to ask, and so does --url";
            return Err(Failure::Usage(reason.to_owned()));
        }
        None => address(&load_with_origins(&config.sources())?.config)?,
    };
    let path = if args.ready { "/health/ready" } else { "/health/live" };
    System::new().block_on(async {
        let remote = Remote::new(UrlArgs::of(url), None)?;
        let answer = timeout(PATIENCE, ask(&remote, path)).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(Failure::Failed(format!("{}: no answer within {PATIENCE:?}", remote.url())))
        })?;
        match answer.status {
            StatusCode::OK => print(if args.ready { "ready" } else { "alive" }),
            _ => Err(Failure::Failed(why_not(&answer))),
        }
    })
}

/// Where the broker of a configuration can be asked from its own machine.
fn address(config: &Config) -> Result<String, Failure> {
    let server = &config.server;
    let address = match (server.internal_listen, &server.certificate) {
        (Some(internal), _) => internal,
        (None, None) => server.listen,
        (None, Some(_)) => {
            let reason = "the broker speaks TLS: give --url https://NAME with a name of its certificate, or set \
                          server.internal_listen";
            return Err(Failure::Usage(reason.to_owned()));
        }
    };
    Ok(format!("http://{}", reachable(address)))
}

async fn ask(remote: &Remote, path: &str) -> Result<Answer, Failure> {
    let failed = |why: &dyn Display| Failure::Failed(format!("{}: {why}", remote.url()));
    let head = remote.head(remote.get(path).send()).await.map_err(|why| failed(&why))?;
    head.whole(MAX_BYTES).await.map_err(|why| failed(&why))
}

/// What an answer names as not well.
fn why_not(Answer { status, body, .. }: &Answer) -> String {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let checks = said["checks"].as_object().into_iter().flatten();
    let failing = checks.filter_map(|(check, said)| Some((check, said.as_str()?)));
    let failing = failing.filter(|(_, said)| *said != "ok");
    let failing: Vec<_> = failing.map(|(check, said)| format!("{check}: {said}")).collect();
    match failing[..] {
        [] => format!("the answer is {status}"),
        _ => format!("not ready: {}", failing.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderMap;
    use bytes::Bytes;

    #[test]
    fn the_address_is_one_of_this_machine() {
        let mut config = Config::default();
        config.server.listen = "0.0.0.0:9000".parse().unwrap();
        assert_eq!(address(&config).unwrap(), "http://127.0.0.1:9000");
        config.server.internal_listen = "[::]:9001".parse().ok();
        assert_eq!(address(&config).unwrap(), "http://[::1]:9001");
    }

    #[test]
    fn what_fails_is_named() {
        let answer = |body: &'static str| Answer {
            status: StatusCode::SERVICE_UNAVAILABLE,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        };
        let said = answer(r#"{"checks":{"history":"no space","serving":"ok"}}"#);
        assert_eq!(why_not(&said), "not ready: history: no space");
        for other in ["", "[]", r#"{"checks":7}"#] {
            assert_eq!(why_not(&answer(other)), "the answer is 503 Service Unavailable");
        }
    }
}
