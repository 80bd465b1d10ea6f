//! From what was typed to what it means: values are checked by themselves and with each other.
//!
//! Always gives a whole configuration, so that everything that is wrong is found in one go; one with
//! complaints must not be used.

mod auth;
mod complaints;
mod history;
mod limits;
mod redis;
mod rules;
mod server;
mod traces;
mod webhooks;

pub use self::complaints::{Complaint, Complaints};
use super::Config;
use super::log::Log;
use super::schema::{self, Typed};

impl Default for Config {
    /// The checked defaults: loopback, open, everything bounded.
    fn default() -> Self {
        check(&Typed::default(), &mut Complaints::default()).0
    }
}

/// Gives what was typed its meaning, with warnings about what is probably not meant.
pub fn check(typed: &Typed, complaints: &mut Complaints) -> (Config, Vec<String>) {
    let webhooks = webhooks::webhooks(typed, complaints);
    let config = Config {
        server: server::server(&typed.server, complaints),
        auth: auth::auth(typed, complaints),
        history: history::history(&typed.history, &typed.limits, complaints),
        redis: redis::redis(&typed.redis, complaints),
        sources: redis::sources(typed, complaints),
        rules: rules::rules(typed, complaints),
        notices: webhooks::notices(&typed.notices, &webhooks),
        webhooks,
        limits: limits::limits(&typed.limits, complaints),
        log: log(&typed.log, complaints),
        traces: traces::traces(&typed.traces, complaints),
    };
    server::require_credentials(&config, complaints);
    let warnings = [
        auth::warnings(typed, &config),
        server::warnings(&config),
        webhooks::unfed(typed, &config),
        history::unsynced(&config),
        limits::too_small(&config.limits),
        rules::warnings(typed, &config.rules),
    ];
    (config, warnings.concat())
}

fn log(typed: &schema::Log, complaints: &mut Complaints) -> Log {
    if tracing_subscriber::EnvFilter::try_new(&typed.filter).is_err() {
        let message = "not a filter; write a level such as info, or info,fanfare=debug";
        complaints.add("log.filter", message);
    }
    Log { filter: typed.filter.clone(), format: typed.format }
}

#[cfg(test)]
mod tests;
