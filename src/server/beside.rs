//! What runs beside the listener, until the stop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use super::ServeError;
use crate::admin;
use crate::auth::Auth;
use crate::broker::BrokerHandle;
use crate::config::{Config, Limits, Own};
use crate::history::History;
use crate::history::redis::JoinError;
use crate::ingress::redis::Source;
use crate::metrics::Metrics;
use crate::notices::Noticed;
use crate::notices::webhook::Webhook;
use crate::traces::Exporter;

/// How often the history is swept of what is too old, and it is looked for what was held back of the log.
const SWEEP: Duration = Duration::from_secs(1);

/// What runs beside the listener, until the stop.
pub(super) type Service = LocalBoxFuture<'static, ()>;

/// What brings events in and out beside clients.
pub(super) fn feeds(
    config: &Config,
    broker: &BrokerHandle,
    limits: &Arc<Limits>,
) -> Result<Vec<Service>, ServeError> {
    let mut services: Vec<Service> = Vec::new();
    for index in 0..config.sources.len() {
        let source = Source::new(&config.sources, index, broker.clone(), limits.clone());
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
pub(super) fn always(
    auth: &Arc<Auth>,
    broker: &BrokerHandle,
    history: &Arc<dyn History>,
    noticed: Noticed,
    known: oneshot::Sender<()>,
) -> [Service; 7] {
    let (keys, watched) = (auth.clone(), broker.clone());
    let (asking, ending) = (broker.clone(), broker.clone());
    [
        Box::pin(async move { asking.call_rolls().await }),
        Box::pin(async move { watched.watch_log().await }),
        Box::pin(sweep(history.clone())),
        Box::pin(async move { ending.end_values().await }),
        Box::pin(async move { keys.keep_keys().await }),
        Box::pin(admin::revocations::follow(broker.clone(), auth.clone(), known)),
        Box::pin(noticed.store(broker.clone())),
    ]
}

/// Exports traces; they name the pattern of a topic's rule as the operator wrote it.
pub(super) fn export(exporter: Exporter, broker: &BrokerHandle, auth: &Arc<Auth>) -> Service {
    let (node, auth) = (broker.node().to_owned(), auth.clone());
    Box::pin(exporter.run(node, move |topic| {
        let policy = auth.policy();
        let rules = policy.rules();
        let rule = rules.listed.iter().find(|rule| rule.pattern.matches(topic))?;
        let own = rule.own.as_ref().map(Own::as_str);
        Some(own.unwrap_or(rule.pattern.as_str()).to_owned())
    }))
}

async fn sweep(history: Arc<dyn History>) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        history.sweep();
    }
}

/// Sees to it that what was held back of the log is told, though nothing like it follows.
pub(super) async fn tell_held_back(metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        metrics.tell_held_back();
    }
}
