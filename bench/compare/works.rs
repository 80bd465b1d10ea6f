//! The works that every system is given, what is read off each, and what Fanfare aims for.

use std::time::Duration;

use fanfare::cli::bench::{Load, Pace, Percentiles, Protocol, Publish, Storm, StormKind};

use super::trial::Trial;

/// One work.
#[derive(Clone)]
pub struct Work {
    /// Its name, by which it is chosen.
    pub name: &'static str,
    /// What is done.
    pub load: Load,
    /// Where Fanfare keeps the events.
    pub storage: Storage,
    /// Whether no other system can do it.
    pub alone: bool,
    /// What is read off.
    pub measures: Vec<Measure>,
}

/// Where Fanfare keeps events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// In memory, as its peers do.
    Memory,
    /// On disk, each acknowledged once the disk itself has it.
    Disk,
}

/// One figure of a work.
#[derive(Clone)]
pub struct Measure {
    /// What it is, with its unit.
    pub name: &'static str,
    /// How it is read off.
    pub of: fn(&Trial) -> Option<f64>,
    /// What it should be.
    pub goals: &'static [Goal],
}

/// What Fanfare's figure should be.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// At most so many times that of the limit loop.
    OfLimit(f64),
    /// At most so many times that of the best peer.
    AtMostOfBest(f64),
    /// At least so many times that of the best peer; the best has the highest figure then.
    AtLeastOfBest(f64),
    /// At most so many times that of one peer.
    OfPeer(&'static str, f64),
    /// At most so many times Fanfare's own figure of another work.
    OfWork(&'static str, f64),
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    AtLeast(f64),
}

impl Measure {
    /// Whether a higher figure is a better one.
    pub fn higher_is_better(&self) -> bool {
        self.goals.iter().any(|goal| matches!(goal, Goal::AtLeastOfBest(_) | Goal::AtLeast(_)))
    }
}

/// A percentile, where there was anything to time.
fn some(times: Percentiles, of: impl Fn(Percentiles) -> f64) -> Option<f64> {
    (times.count > 0).then(|| of(times))
}

const fn cpu(goals: &'static [Goal]) -> Measure {
    let of = |trial: &Trial| trial.report.server.as_ref()?.cpu_us_per_delivery;
    Measure { name: "server CPU a delivery, µs", of, goals }
}

const fn cpu_an_event(goals: &'static [Goal]) -> Measure {
    let of = |trial: &Trial| trial.report.server.as_ref()?.cpu_us_per_event;
    Measure { name: "server CPU an event, µs", of, goals }
}

const fn p99(goals: &'static [Goal]) -> Measure {
    Measure {
        name: "latency p99, ms",
        of: |trial| some(trial.report.delivery.latency, |times| times.p99),
        goals,
    }
}

const P50: Measure = Measure {
    name: "latency p50, ms",
    of: |trial| some(trial.report.delivery.latency, |times| times.p50),
    goals: &[],
};

const fn ack_p99(goals: &'static [Goal]) -> Measure {
    Measure {
        name: "acknowledge p99, ms",
        of: |trial| some(trial.report.publish.latency, |times| times.p99),
        goals,
    }
}

const fn events(goals: &'static [Goal]) -> Measure {
    let of = |trial: &Trial| Some(trial.report.publish.events_per_second);
    Measure { name: "acknowledged events a second", of, goals }
}

const fn deliveries(goals: &'static [Goal]) -> Measure {
    let of = |trial: &Trial| Some(trial.report.delivery.per_second);
    Measure { name: "deliveries a second", of, goals }
}

const fn memory(goals: &'static [Goal]) -> Measure {
    let of = |trial: &Trial| Some(trial.report.server.as_ref()?.memory_per_connection? / 1024.0);
    Measure { name: "memory a connection, KiB", of, goals }
}

const START: Measure = Measure {
    name: "start to first answer, ms",
    of: |trial| Some(trial.start.as_secs_f64() * 1e3),
    goals: &[Goal::AtMost(50.0)],
};

const EMPTY: Measure = Measure {
    name: "memory without connections, MiB",
    of: |trial| Some(trial.report.server.as_ref()?.memory_before as f64 / f64::from(1 << 20)),
    goals: &[],
};

const BINARY: Measure = Measure {
    name: "binary, MiB",
    of: |trial| Some(trial.binary? as f64 / f64::from(1 << 20)),
    goals: &[Goal::AtMost(20.0)],
};

/// All works; `quick` makes them short, for a look rather than a result.
pub fn works(quick: bool) -> Vec<Work> {
    let mut works = with_peers(quick);
    works.extend(publishing(quick));
    works.extend(wide(quick));
    works
}

/// What works have in common.
fn load(quick: bool) -> Load {
    let duration = Duration::from_secs(if quick { 2 } else { 5 });
    Load { duration, warmup: Duration::from_secs(1), ..Load::default() }
}

fn work(name: &'static str, load: Load, measures: Vec<Measure>) -> Work {
    Work { name, load, storage: Storage::Memory, alone: false, measures }
}

fn alone(name: &'static str, storage: Storage, load: Load, measures: Vec<Measure>) -> Work {
    Work { storage, alone: true, ..work(name, load, measures) }
}

/// A subscriber for each of 1,000 topics.
fn each(load: Load) -> Load {
    Load { topics: 1_000, subscribers_per_topic: 1, ..load }
}

/// What other systems can do too.
fn with_peers(quick: bool) -> Vec<Work> {
    let load = load(quick);
    let idle = Load { pace: Pace::Idle, duration: Duration::from_millis(500), ..load };
    let idle = Load { subscribers_per_topic: 10_000, ..idle };
    let pause = Duration::from_millis(100);
    let limit = Duration::from_millis(50);
    let (in_flight, pipeline) = Load::flight(Some(100));
    vec![
        work(
            "paced-1000",
            load,
            vec![
                cpu(&[Goal::OfLimit(1.15), Goal::AtMostOfBest(0.8)]),
                P50,
                p99(&[Goal::AtMostOfBest(1.0)]),
            ],
        ),
        work(
            "paced-5000",
            Load { subscribers_per_topic: 5_000, pace: Pace::Rate(10.0), ..load },
            vec![cpu(&[Goal::OfLimit(1.15), Goal::AtMostOfBest(0.8)]), P50, p99(&[])],
        ),
        work(
            "burst-1000",
            Load { pace: Pace::Burst { events: 100, pause }, in_flight, pipeline, ..load },
            vec![
                cpu(&[
                    Goal::AtMost(0.35),
                    Goal::OfPeer("nats-server", 0.3),
                    Goal::OfPeer("nchan", 0.1),
                ]),
                p99(&[]),
            ],
        ),
        work(
            "topics-1000",
            Load { pace: Pace::Rate(2_000.0), ..each(load) },
            vec![cpu(&[Goal::OfLimit(1.15), Goal::AtMostOfBest(0.65)]), P50, p99(&[])],
        ),
        work(
            "topics-1000-max",
            Load { pace: Pace::Max, in_flight: 64, ..each(load) },
            vec![events(&[Goal::AtLeastOfBest(1.7)]), cpu(&[]), ack_p99(&[])],
        ),
        work(
            "sustained-1000",
            Load { pace: Pace::Search { p99: limit }, duration: load.duration / 2, ..load },
            vec![deliveries(&[Goal::AtLeastOfBest(2.5)]), cpu(&[])],
        ),
        work("idle-websocket", idle, vec![memory(&[Goal::AtMost(4.0)]), EMPTY, START, BINARY]),
        work(
            "idle-sse",
            Load { protocol: Protocol::Sse, ..idle },
            vec![memory(&[Goal::AtMost(16.0)])],
        ),
    ]
}

/// What publishing alone costs.
fn publishing(quick: bool) -> Vec<Work> {
    let load = load(quick);
    let nobody = Load { subscribers_per_topic: 0, pace: Pace::Max, topics: 100, ..load };
    vec![
        alone(
            "disk-256",
            Storage::Disk,
            Load { pace: Pace::Max, in_flight: 256, ..each(load) },
            vec![events(&[Goal::AtLeast(15_000.0)]), ack_p99(&[]), cpu_an_event(&[])],
        ),
        alone("single", Storage::Memory, nobody, vec![cpu_an_event(&[]), events(&[])]),
        alone(
            "websocket",
            Storage::Memory,
            Load { publish: Publish::WebSocket, ..nobody },
            vec![cpu_an_event(&[Goal::OfWork("single", 0.5)]), events(&[])],
        ),
        alone(
            "batch",
            Storage::Memory,
            Load { publish: Publish::Batch, ..nobody },
            vec![cpu_an_event(&[Goal::AtMost(5.0)]), events(&[])],
        ),
        alone(
            "ndjson",
            Storage::Memory,
            Load { publish: Publish::Ndjson, ..nobody },
            vec![cpu_an_event(&[Goal::AtMost(5.0)]), events(&[])],
        ),
        alone(
            "ndjson-disk",
            Storage::Disk,
            Load { publish: Publish::Ndjson, ..nobody },
            vec![cpu_an_event(&[Goal::AtMost(15.0)]), events(&[])],
        ),
    ]
}

/// Much that an event does not concern, and what comes and goes beside it.
fn wide(quick: bool) -> Vec<Work> {
    let load = load(quick);
    let many = Load { topics: 100_000, pace: Pace::Rate(2_000.0), ..load };
    let few = Load { subscribers_per_topic: 100, pace: Pace::Rate(100.0), ..load };
    let storm = |kind| Some(Storm { kind, rate: 10_000.0 });
    let as_narrow = || vec![cpu(&[Goal::OfWork("topics-1000", 1.25)]), P50, p99(&[])];
    let undisturbed = || vec![P50, p99(&[Goal::OfWork("paced-100", 2.0)])];
    vec![
        alone(
            "wide-topics",
            Storage::Memory,
            Load { subscribers_per_topic: 1, topics_per_connection: 100, ..many },
            as_narrow(),
        ),
        alone(
            "wide-patterns",
            Storage::Memory,
            Load { subscribers_per_topic: 0, patterns: 1_000, ..many },
            as_narrow(),
        ),
        alone(
            "wide-client",
            Storage::Memory,
            Load {
                topics: 10_000,
                subscribers_per_topic: 1,
                topics_per_connection: 10_000,
                ..many
            },
            as_narrow(),
        ),
        work(
            "wide-subscribers",
            Load { subscribers_per_topic: 15_000, pace: Pace::Rate(3.0), ..load },
            vec![cpu(&[Goal::OfLimit(1.15), Goal::AtMostOfBest(1.0)]), P50, p99(&[])],
        ),
        alone("paced-100", Storage::Memory, few, vec![P50, p99(&[])]),
        alone(
            "storm-subscribe",
            Storage::Memory,
            Load { storm: storm(StormKind::Subscribe), ..few },
            undisturbed(),
        ),
        alone(
            "storm-connect",
            Storage::Memory,
            Load { storm: storm(StormKind::Connect), ..few },
            undisturbed(),
        ),
    ]
}
