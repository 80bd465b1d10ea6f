//! `fanfare check`: what the broker would be configured with, or what stands before one that runs.
//!
//! Without `--url` it looks at the configuration, says where each setting comes from, and fetches the keys
//! that tokens are checked with. With it, it looks at a running broker from where its clients are.

mod idle;
mod report;
mod road;
mod stream;
mod visitor;

use std::time::Duration;

use actix_web::rt::System;

use super::{ConfigArgs, Failure, note, open_files, print};
use crate::auth::published_keys;
use crate::config::{Jwks, Sources, Span, load_with_origins};
use crate::model::Pattern;
use crate::trust;

const EXAMPLES: &str = "\
Examples:
  fanfare check --config fanfare.toml                  look at a configuration
  fanfare check --url https://push.example             look at a running broker from outside
  fanfare check --url https://push.example --origin https://dashboard.example --idle 120

With a token (or an API key): FANFARE_TOKEN=... fanfare check --url ... (better than --token, which
others on this machine can see in the list of processes). The password of a proxy on the way:
FANFARE_PROXY_LOGIN=USER:PASSWORD, or http://USER:PASSWORD@HOST.

Each line of a look at a running broker is `ok`, `wrong` with what to set, or `unseen` with what it
would take to see.";

/// What `check` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Look at the broker that runs there, through all that stands before it
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The origin of the page that will connect [default: that of the URL]
    #[arg(long, value_name = "ORIGIN", requires = "url")]
    origin: Option<String>,
    /// The topics to subscribe to for a look at an event stream
    #[arg(long, value_name = "PATTERN", requires = "url", default_value = "demo", value_parser = Pattern::parse)]
    topic: Pattern,
    /// How long to leave connections idle, to see whether something cuts them: 120, or 120s, or 5m
    #[arg(long, value_name = "DURATION", requires = "url", value_parser = idle_time)]
    idle: Option<Duration>,
    /// The token; better set FANFARE_TOKEN
    #[arg(long, value_name = "TOKEN", requires = "url")]
    token: Option<String>,
}

/// The longest that connections are left idle.
const LONGEST_IDLE: Duration = Duration::from_secs(3_600);

/// A number of seconds, or a duration with its unit.
fn idle_time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map(Duration::from_secs).ok();
    let time = seconds.or_else(|| Some(text.parse::<Span>().ok()?.0));
    let time = time.filter(|time| !time.is_zero() && *time <= LONGEST_IDLE);
    time.ok_or_else(|| {
        format!("expected a number of seconds or a duration, at most {}", Span(LONGEST_IDLE))
    })
}

/// Looks at a configuration, or at a running broker.
pub fn run(args: Args, before: ConfigArgs) -> Result<(), Failure> {
    let config = args.config.over(before);
    let Some(url) = args.url else { return configuration(&config.sources()) };
    if !config.is_absent() {
        let reason =
            "--config, --set and --listen are for a look at the configuration, without --url";
        return Err(Failure::Usage(reason.to_owned()));
    }
    let Args { origin, topic, idle, token, .. } = args;
    System::new().block_on(road::look(road::Look { url, origin, topic, idle, token }))
}

/// Prints the settings that differ from their defaults, and warns of what is probably not meant.
fn configuration(sources: &Sources) -> Result<(), Failure> {
    let loaded = load_with_origins(sources)?;
    match &sources.file {
        Some(path) => print(format_args!("configuration file: {}", path.display()))?,
        None => print("configuration file: none")?,
    }
    if loaded.settings.is_empty() {
        print("every key is at its default")?;
    }
    for setting in &loaded.settings {
        print(format_args!("{} = {}  ({})", setting.key, setting.value, setting.origin))?;
    }
    if loaded.config.calls_over_tls() {
        trust::roots().map_err(|error| Failure::Usage(error.to_string()))?;
    }
    let open_files = open_files::make_room(loaded.config.limits.connections);
    for warning in loaded.warnings.iter().chain(&open_files) {
        note(format_args!("warning: {warning}"));
    }
    if let Some(jwks) = loaded.config.auth.jwt.as_ref().and_then(|jwt| jwt.jwks.as_ref()) {
        keys(jwks);
    }
    print("the configuration is good")
}

/// Warns of published keys that can't be had or used. The issuer may be away now and back when it matters, so
/// that is no fault of the configuration.
fn keys(jwks: &Jwks) {
    match System::new().block_on(published_keys(jwks)) {
        Ok(keys) => {
            for key in keys.left_out() {
                note(format_args!(
                    "warning: auth.jwks_url: {key}: no token that is signed with it is valid"
                ));
            }
        }
        Err(error) => {
            note(format_args!("warning: auth.jwks_url: the keys can't be fetched: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_time_is_a_number_of_seconds_or_a_duration() {
        assert_eq!(idle_time("120"), Ok(Duration::from_secs(120)));
        assert_eq!(idle_time("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "0", "-1", "2h", "3601", "99999999999999999999"] {
            assert!(idle_time(wrong).is_err(), "{wrong}");
        }
    }
}
