//! Idempotency keys that are forgotten before their window is over, for more came than may be remembered.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tracing::warn;

use super::tally::Held;
use crate::model::{Quiet, Summary};

/// Those of the process, which has one history.
pub static EARLY_KEYS: LazyLock<EarlyKeys> = LazyLock::new(EarlyKeys::default);

/// The keys that were forgotten early.
#[derive(Debug, Default)]
pub struct EarlyKeys {
    pub(super) counter: Counter,
    /// For how long the last of them was remembered.
    quiet: Quiet<Duration>,
}

impl EarlyKeys {
    /// So many more were forgotten, of which the last was remembered for so long.
    pub fn note(&self, count: u64, remembered: Duration) {
        self.counter.inc_by(count);
        self.quiet.tell(count, Instant::now(), || remembered).into_iter().for_each(say);
    }

    pub(super) fn tell_held(&self, held: Held) {
        let told = match held {
            Held::Due => self.quiet.held_back(Instant::now()),
            Held::Rest => self.quiet.rest(),
        };
        told.into_iter().for_each(say);
    }
}

fn say(Summary { count, example }: Summary<Duration>) {
    warn!(
        keys = count,
        remembered = ?Duration::from_secs(example.as_secs()),
        "more idempotency keys come than history.idempotency_keys: the oldest are forgotten before \
         history.idempotency_window is over"
    );
}
