//! What the broker counts about itself, in the OpenMetrics text format and the classic one.
//!
//! One value made at start and handed to whoever counts; every counter is an atomic, so counting
//! costs nanoseconds on any thread. Labels are few and fixed, and there from the start: no topic, user or
//! address becomes one.

mod early_keys;
mod ends;
mod entry;
mod histogram;
mod log;
mod passed_by;
mod refusals;
mod road;
mod state;
mod sum;
mod superseded;
mod table;
mod tally;
mod text;
mod traces;
mod troubles;
mod webhooks;

use std::sync::LazyLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
pub use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use self::early_keys::EARLY_KEYS;
pub use self::ends::Ends;
pub use self::entry::{Check, Entry, GUARD, Guard, Rate, RouteGroup};
pub use self::histogram::{Histogram, Observed};
pub use self::log::{LOG, LogNumbers};
pub use self::passed_by::{PassedBy, Why};
pub use self::refusals::{Asker, Refusals};
pub use self::road::{Fate, Gap, Road, Way};
pub use self::state::{CHECKS, Process, State};
pub use self::sum::Sum;
pub use self::superseded::Superseded;
pub use self::table::{Level, Table};
use self::tally::Held;
pub use self::text::CLASSIC;
pub use self::traces::{SpanFate, TraceNumbers};
pub use self::troubles::{Logged, TROUBLES};
pub use self::webhooks::{WebhookNumbers, WebhookState, Webhooks};
use crate::model::Removed;

/// The media type of [`Metrics::render`].
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How sessions are connected.
const TRANSPORTS: [&str; 2] = ["websocket", "sse"];

/// Log lines that could not be written: of the process, which has one log.
pub static LOG_LINES_LOST: LazyLock<Counter> = LazyLock::new(Counter::default);

/// The counters of one node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// What has names that are not ours: the process.
    beside: Registry,
    /// What an event meets on its road.
    pub road: Road,
    /// Who comes in.
    pub entry: Entry,
    /// How things stand.
    pub state: State,
    /// The process.
    pub process: Process,
    /// How webhooks fare.
    pub webhooks: Webhooks,
    /// What became of traces and their spans.
    pub traces: TraceNumbers,
    /// Events taken from publishers.
    pub events_published: Counter,
    /// Events that were not stored, for a newer value stood there.
    pub superseded: Superseded,
    /// Values that this node ended, by `reason`.
    pub values_ended: Family<ReasonLabel, Counter>,
    /// Events queued for sessions.
    pub events_delivered: Counter,
    /// Events sent out of the history.
    pub events_replayed: Counter,
    /// Messages compressed; one that many sessions share counts once.
    pub messages_compressed: Counter,
    /// Refused requests, messages and connections, by `reason`.
    pub refusals: Refusals,
    /// Open sessions, by `transport`.
    pub sessions: Family<TransportLabel, Gauge>,
    /// Sessions that ended, by `code`.
    pub closes: Ends,
    /// Sessions whose client ended at the same large event as before, again.
    pub stumbles: Counter,
    /// Notices that could not be stored.
    pub notices_lost: Counter,
    /// Entries and messages of an application's Redis that did not become events, by `reason`.
    pub passed_by: PassedBy,
    /// Patterns that sessions are subscribed to, each counted once a session.
    pub subscriptions: Gauge,
}

/// How a session ended: the name of a [`crate::model::Ended`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

/// Why a value ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// `expired` or `left`.
    pub reason: &'static str,
}

/// How a session is connected.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TransportLabel {
    /// `websocket` or `sse`.
    pub transport: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::with(Webhooks::default())
    }
}

impl Metrics {
    /// Those of a node that has webhooks.
    pub fn with(webhooks: Webhooks) -> Self {
        let mut registry = Registry::with_prefix("fanfare");
        let (road, entry) = (Road::new(&mut registry), Entry::new(&mut registry));
        let (state, process) = (State::new(&mut registry), Process::default());
        let mut beside = Registry::default();
        process.register(&mut beside);
        webhooks.register(&mut registry);
        LOG.register(&mut registry);
        GUARD.register(&mut registry);
        let (refusals, closes) = (Refusals::new(&mut registry), Ends::new(&mut registry));
        let passed_by = PassedBy::new(&mut registry);
        let traces = TraceNumbers::default();
        traces.register(&mut registry);
        let mut metrics = Self {
            registry,
            beside,
            road,
            entry,
            state,
            process,
            webhooks,
            traces,
            events_published: Counter::default(),
            superseded: Superseded::default(),
            values_ended: Family::default(),
            events_delivered: Counter::default(),
            events_replayed: Counter::default(),
            messages_compressed: Counter::default(),
            refusals,
            sessions: Family::default(),
            closes,
            stumbles: Counter::default(),
            notices_lost: Counter::default(),
            passed_by,
            subscriptions: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    #[expect(
        clippy::too_many_lines,
        reason = "a table: each metric by itself, none follows from another"
    )]
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "events_published",
            "Events taken from publishers",
            self.events_published.clone(),
        );
        registry.register(
            "events_superseded",
            "Events of publishers that were not stored, for a newer value stood there",
            self.superseded.counter.clone(),
        );
        for reason in [Removed::Expired, Removed::Left].into_iter().filter_map(Removed::reason) {
            drop(self.values_ended.get_or_create(&ReasonLabel { reason }));
        }
        registry.register(
            "values_ended",
            "Values that this node ended, for their time was over or their session had left",
            self.values_ended.clone(),
        );
        registry.register(
            "events_delivered",
            "Events queued for sessions",
            self.events_delivered.clone(),
        );
        registry.register(
            "events_replayed",
            "Events sent out of the history",
            self.events_replayed.clone(),
        );
        registry.register(
            "messages_compressed",
            "Messages compressed, one that many sessions share counted once",
            self.messages_compressed.clone(),
        );
        for transport in TRANSPORTS {
            drop(self.sessions.get_or_create(&TransportLabel { transport }));
        }
        registry.register("sessions", "Open sessions by transport", self.sessions.clone());
        registry.register(
            "stumbles",
            "Sessions whose client ended at the same large event as before, again",
            self.stumbles.clone(),
        );
        registry.register(
            "notices_lost",
            "Notices that could not be stored",
            self.notices_lost.clone(),
        );
        registry.register(
            "log_lines_lost",
            "Log lines that could not be written",
            LOG_LINES_LOST.clone(),
        );
        registry.register(
            "idempotency_keys_forgotten_early",
            "Idempotency keys forgotten before their window was over",
            EARLY_KEYS.counter.clone(),
        );
        let build = Level::default();
        build.set(1.0);
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        registry.register("build_info", "Which release this is", Table::of([(version, build)]));
        registry.register(
            "subscriptions",
            "Patterns that sessions are subscribed to",
            self.subscriptions.clone(),
        );
    }

    /// Logs what was held back for a minute after a line like it.
    pub fn tell_held_back(&self) {
        self.tell(Held::Due);
    }

    /// Logs all that was held back, for nothing follows.
    pub fn tell_the_rest(&self) {
        self.tell(Held::Rest);
    }

    fn tell(&self, held: Held) {
        self.refusals.tell_held(held);
        self.closes.tell_held(held);
        self.passed_by.tell_held(held);
        self.superseded.tell_held(held);
        EARLY_KEYS.tell_held(held);
    }

    /// The counters as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a String can't fail; an encoder that fails leaves what it wrote.
        _ = encode(&mut text, &self.registry);
        text.truncate(text.trim_end_matches("# EOF\n").len());
        _ = encode(&mut text, &self.beside);
        text
    }

    /// The same as [`CLASSIC`].
    pub fn render_classic(&self) -> String {
        text::classic(&self.render())
    }
}
