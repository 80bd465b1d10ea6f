//! What an event meets on its road: how it came, how long it waited where, and what became of it.

use prometheus_client::registry::{Registry, Unit};

use super::TRANSPORTS;
use super::histogram::Histogram;
use super::sum::Sum;
use super::table::Table;

/// By which way events come to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A request over HTTP.
    Http,
    /// A message of a session.
    WebSocket,
    /// An application's Redis.
    Redis,
    /// The broker itself: notices, ends of values, revocations.
    Broker,
}

impl Way {
    /// What it is called.
    pub fn name(self) -> &'static str {
        WAYS[self as usize]
    }
}

/// What became of an event that was to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was stored, or passed on where its topic keeps nothing.
    Stored,
    /// It was not, for a newer value stands there.
    Superseded,
    /// It had been stored before, under the same key.
    Repeated,
    /// What had to be the newest was not.
    NotLatest,
    /// Its key stood for something else.
    Mismatch,
    /// The first one under its key is still on its way.
    InProgress,
    /// Over a limit.
    TooMany,
    /// There was no space.
    StorageFull,
    /// It was not stored for another reason.
    Unavailable,
    /// Nobody knows.
    OutcomeUnknown,
}

/// Why a session is told of a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// What came after its cursor is kept no longer.
    Retention,
    /// Its cursor is of another log, or of a place that this one lost.
    Foreign,
    /// It asked by a time over which the clock went back.
    Clock,
    /// Events went by unheard while it was live.
    Loss,
    /// Who was in a topic could not be told from there on.
    Presence,
}

const WAYS: [&str; 4] = ["http", "websocket", "redis", "broker"];

const FATES: [&str; 10] = [
    "stored",
    "superseded",
    "repeated",
    "not_latest",
    "mismatch",
    "in_progress",
    "too_many",
    "storage_full",
    "unavailable",
    "outcome_unknown",
];

const GAPS: [&str; 5] = ["retention", "foreign", "clock", "loss", "presence"];

/// What an event meets on its road.
#[derive(Debug)]
pub struct Road {
    publishes: Table<Sum>,
    /// Bytes of published events, as every bound on a history counts them.
    pub published_bytes: Sum,
    /// From a publish's arrival at the history until it is stored.
    pub commit: Histogram,
    /// From there until a worker takes it out of its inbox.
    pub inbox_wait: Histogram,
    /// From there until that worker has written it.
    pub delivery: Histogram,
    written: Table<Sum>,
    /// Events sent in the place of others.
    pub conflated: Sum,
    /// Those others.
    pub skipped: Sum,
    gaps: Table<Sum>,
    /// From a subscribe until it is live.
    pub subscribe: Histogram,
}

impl Road {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let road = Self {
            publishes: Table::by_both(("way", &WAYS), ("outcome", &FATES), Sum::default),
            published_bytes: Sum::default(),
            commit: Histogram::of_times(),
            inbox_wait: Histogram::of_times(),
            delivery: Histogram::of_times(),
            written: Table::by("transport", TRANSPORTS, Sum::default),
            conflated: Sum::default(),
            skipped: Sum::default(),
            gaps: Table::by("reason", GAPS, Sum::default),
            subscribe: Histogram::of_times(),
        };
        road.register(registry);
        road
    }

    fn register(&self, to: &mut Registry) {
        let help = "Events that were to be published, by the way they came and what became of them";
        to.register("publishes", help, self.publishes.clone());
        let help = "Bytes of events taken from publishers";
        to.register_with_unit("published", help, Unit::Bytes, self.published_bytes.clone());
        let help = "From a publish's arrival at the history until it was stored";
        to.register_with_unit("commit", help, Unit::Seconds, self.commit.clone());
        let help = "From the commit of an event until a worker took it out of its inbox";
        to.register_with_unit("inbox_wait", help, Unit::Seconds, self.inbox_wait.clone());
        let help = "From the commit of an event until a worker had written it";
        to.register_with_unit("delivery", help, Unit::Seconds, self.delivery.clone());
        let help = "Bytes given to sockets for sessions, before TLS, by transport";
        to.register_with_unit("written", help, Unit::Bytes, self.written.clone());
        let help = "Events sent in the place of others, to sessions that want the newest";
        to.register("events_conflated", help, self.conflated.clone());
        let help = "Events that were not sent, for newer ones of their topics took their place";
        to.register("events_skipped", help, self.skipped.clone());
        to.register("gaps", "Gaps reported to sessions, by reason", self.gaps.clone());
        let help = "From a subscribe until it was live";
        to.register_with_unit("subscribe", help, Unit::Seconds, self.subscribe.clone());
    }

    /// So many events that came this way ended so.
    pub fn published(&self, way: Way, fate: Fate, number: u64) {
        if let Some(sum) = self.publishes.at(way as usize * FATES.len() + fate as usize) {
            sum.add(number);
        }
    }

    /// How many events ended so, whichever way they came.
    pub fn ended(&self, fate: Fate) -> u64 {
        let ways =
            (0..WAYS.len()).filter_map(|way| self.publishes.at(way * FATES.len() + fate as usize));
        ways.map(Sum::get).sum()
    }

    /// Bytes given to sockets for sessions of WebSocket, or of event streams.
    pub fn written(&self, is_websocket: bool) -> &Sum {
        static NOBODYS: std::sync::LazyLock<Sum> = std::sync::LazyLock::new(Sum::default);
        self.written.at(usize::from(!is_websocket)).unwrap_or(&NOBODYS)
    }

    /// How many bytes were given to sockets for sessions.
    pub fn written_bytes(&self) -> u64 {
        self.written.rows().map(|(_, sum)| sum.get()).sum()
    }

    /// A session is told of a gap.
    pub fn gap(&self, why: Gap) {
        if let Some(sum) = self.gaps.at(why as usize) {
            sum.inc();
        }
    }

    /// How many gaps were told, by reason.
    pub fn gaps(&self) -> impl Iterator<Item = (&str, u64)> {
        self.gaps.rows().map(|(reason, sum)| (reason, sum.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_and_each_end_is_found_at_its_number() {
        let road = Road::new(&mut Registry::default());
        assert_eq!(FATES[Fate::OutcomeUnknown as usize], "outcome_unknown");
        assert_eq!(WAYS[Way::Broker as usize], "broker");
        assert_eq!(GAPS[Gap::Presence as usize], "presence");
        road.published(Way::Http, Fate::Stored, 2);
        road.published(Way::Broker, Fate::Stored, 3);
        road.published(Way::Broker, Fate::OutcomeUnknown, 1);
        assert_eq!((road.ended(Fate::Stored), road.ended(Fate::OutcomeUnknown)), (5, 1));
        road.gap(Gap::Loss);
        let gaps: Vec<_> = road.gaps().filter(|(_, count)| *count > 0).collect();
        assert_eq!(gaps, [("loss", 1)]);
        road.written(true).add(1);
        road.written(false).add(2);
        assert_eq!(road.written_bytes(), 3);
    }
}
