//! The stop: everybody is told to go elsewhere, then to come back elsewhere, and each has its time for it.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use crate::broker::BrokerHandle;
use crate::clock::within;
use crate::config::Config;
use crate::session::Permits;

/// How long clients that were told may take to leave before the listener closes.
const LAST_GOOD_BYES: Duration = Duration::from_millis(500);

/// How long the parts of a stop may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// All is served on for so long.
    delay: Duration,
    /// Sessions are ended evenly over this time.
    grace: Duration,
    /// And each may take so long to take its last word.
    close_timeout: Duration,
}

impl Patience {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            delay: config.server.shutdown_delay,
            grace: config.server.shutdown_grace,
            close_timeout: config.limits.close_timeout,
        }
    }

    /// Serves on, not ready, until balancers had the time to notice and every session was told to go elsewhere.
    pub(super) async fn serve_on(
        self,
        broker: &BrokerHandle,
        permits: &Permits,
        hurry: impl Future<Output = ()>,
    ) {
        let delay = self.delay;
        broker.go(delay);
        if !delay.is_zero() {
            info!(sessions = permits.open(), ?delay, "not ready any more, and serving on");
            _ = within(delay, hurry).await;
        }
    }

    /// Tells every session to come back elsewhere, and waits a moment for them to leave.
    pub(super) async fn say_good_bye(self, broker: &BrokerHandle, permits: &Permits) {
        let Self { grace, close_timeout, .. } = self;
        info!(sessions = permits.open(), "stopping");
        broker.drain(grace).await;
        let until = async |is_so: &dyn Fn() -> bool| {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // Whoever was welcomed is told, as far as its socket takes it.
        _ = timeout(close_timeout, until(&|| permits.unparted() == 0)).await;
        if timeout(LAST_GOOD_BYES, until(&|| permits.open() == 0)).await.is_err() {
            warn!(sessions = permits.open(), "some sessions did not leave in time");
        }
    }
}
