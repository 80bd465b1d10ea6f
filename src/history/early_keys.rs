//! Telling that idempotency keys are forgotten before their window is over, for more came than may be remembered.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::metrics::KEYS_FORGOTTEN_EARLY;

/// How often the log says so.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// What was said of it.
#[derive(Debug, Default)]
pub(in crate::history) struct EarlyKeys {
    told: Option<Instant>,
    untold: u64,
}

impl EarlyKeys {
    /// So many more were forgotten, of which the last was remembered for so long.
    pub(in crate::history) fn tell(&mut self, count: u64, remembered: Duration) {
        KEYS_FORGOTTEN_EARLY.inc_by(count);
        self.untold += count;
        let is_due = self.told.is_none_or(|told| told.elapsed() >= TOLD_AGAIN);
        if count == 0 || !is_due {
            return;
        }
        warn!(
            keys = self.untold,
            remembered = ?Duration::from_secs(remembered.as_secs()),
            "more idempotency keys come than history.idempotency_keys: the oldest are forgotten before \
             history.idempotency_window is over"
        );
        (self.told, self.untold) = (Some(Instant::now()), 0);
    }
}
