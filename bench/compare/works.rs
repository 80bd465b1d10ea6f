//! The works that every system is given, what is read off each, and what Fanfare aims for.

use std::time::Duration;

use fanfare::cli::bench::{
    Demand, Herd, HerdKind, Load, Pace, Percentiles, Protocol, Publish, Storm, StormKind,
};

use super::trial::Trial;

/// One work.
#[derive(Clone)]
pub struct Work {
    /// Its name, by which it is chosen.
    pub name: &'static str,
    /// What is done.
    pub load: Load,
    /// Who comes back at once instead, if that is the work.
    pub herd: Option<Herd>,
    /// Whether it is done over TLS.
    pub is_over_tls: bool,
    /// Where events are kept.
    pub storage: Storage,
    /// Whether no other system can do it.
    pub alone: bool,
    /// What is read off.
    pub measures: Vec<Measure>,
}

/// Where events are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// In memory.
    Memory,
    /// On disk, each acknowledged once the disk itself has it.
    Disk,
    /// In a Redis that three nodes share.
    Redis,
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
    let of = |trial: &Trial| trial.load()?.server.as_ref()?.cpu_us_per_delivery;
    Measure { name: "server CPU a delivery, µs", of, goals }
}

const fn cpu_an_event(goals: &'static [Goal]) -> Measure {
    let of = |trial: &Trial| trial.load()?.server.as_ref()?.cpu_us_per_event;
    Measure { name: "server CPU an event, µs", of, goals }
}

const fn p99(goals: &'static [Goal]) -> Measure {
    Measure {
        name: "latency p99, ms",
        of: |trial| some(trial.load()?.delivery.latency, |times| times.p99),
        goals,
    }
}

const P50: Measure = Measure {
    name: "latency p50, ms",
    of: |trial| some(trial.load()?.delivery.latency, |times| times.p50),
    goals: &[],
};

const fn ack_p99(goals: &'static [Goal]) -> Measure {
    Measure {
        name: "acknowledge p99, ms",
        of: |trial| some(trial.load()?.publish.latency, |times| times.p99),
        goals,
    }
}

const fn events(goals: &'static [Goal]) -> Measure {
    let of = |trial: &Trial| Some(trial.load()?.publish.events_per_second);
    Measure { name: "acknowledged events a second", of, goals }
}

const fn deliveries(goals: &'static [Goal]) -> Measure {
    let of = |trial: &Trial| Some(trial.load()?.delivery.per_second);
    Measure { name: "deliveries a second", of, goals }
}

const fn memory(goals: &'static [Goal]) -> Measure {
    let of = |trial: &Trial| Some(trial.load()?.server.as_ref()?.memory_per_connection? / 1024.0);
    Measure { name: "memory a connection, KiB", of, goals }
}

const fn store_cpu(goals: &'static [Goal]) -> Measure {
    let of = |trial: &Trial| trial.load()?.server.as_ref()?.store_cpu_us_per_event;
    Measure { name: "CPU of Redis an event, µs", of, goals }
}

const fn herd_cpu(goals: &'static [Goal]) -> Measure {
    let of = |trial: &Trial| trial.herd()?.cpu_us_per_event;
    Measure { name: "server CPU an event, µs", of, goals }
}

const fn all_live(goals: &'static [Goal]) -> Measure {
    let of = |trial: &Trial| Some(trial.herd()?.live_seconds);
    Measure { name: "all live after, s", of, goals }
}

const START: Measure = Measure {
    name: "start to first answer, ms",
    of: |trial| Some(trial.start.as_secs_f64() * 1e3),
    goals: &[Goal::AtMost(12.0)],
};

const EMPTY: Measure = Measure {
    name: "memory without connections, MiB",
    of: |trial| Some(trial.load()?.server.as_ref()?.memory_before as f64 / f64::from(1 << 20)),
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
    works.extend(streams(quick));
    works.extend(over_tls(quick));
    works.extend(herds());
    works.extend(on_redis(quick));
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
    let storage = Storage::Memory;
    Work { name, load, herd: None, is_over_tls: false, storage, alone: false, measures }
}

fn alone(name: &'static str, storage: Storage, load: Load, measures: Vec<Measure>) -> Work {
    Work { storage, alone: true, ..work(name, load, measures) }
}

/// A subscriber for each of 1,000 topics.
fn each(load: Load) -> Load {
    Load { topics: 1_000, subscribers_per_topic: 1, ..load }
}

/// So many connections that nothing comes to.
fn idle(connections: usize, load: Load) -> Load {
    let duration = Duration::from_millis(500);
    Load { pace: Pace::Idle, subscribers_per_topic: connections, duration, ..load }
}

/// What other systems can do too.
fn with_peers(quick: bool) -> Vec<Work> {
    let load = load(quick);
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
                    Goal::AtMost(0.2),
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
            vec![deliveries(&[Goal::AtLeastOfBest(5.0)]), cpu(&[])],
        ),
        work(
            "idle-websocket",
            idle(10_000, load),
            vec![memory(&[Goal::AtMost(3.0)]), EMPTY, START, BINARY],
        ),
    ]
}

/// Event streams.
fn streams(quick: bool) -> Vec<Work> {
    let load = Load { protocol: Protocol::Sse, ..load(quick) };
    vec![
        work("idle-sse", idle(10_000, load), vec![memory(&[Goal::AtMost(6.0)])]),
        work(
            "sse-1000",
            load,
            vec![cpu(&[Goal::AtMostOfBest(0.8)]), P50, p99(&[Goal::AtMostOfBest(1.0)])],
        ),
    ]
}

/// The same over TLS.
fn over_tls(quick: bool) -> Vec<Work> {
    let load = load(quick);
    let stream = Load { protocol: Protocol::Sse, ..load };
    let paced = || vec![cpu(&[Goal::AtMostOfBest(0.8)]), P50, p99(&[Goal::AtMostOfBest(1.0)])];
    let works = vec![
        work("tls-idle-websocket", idle(5_000, load), vec![memory(&[Goal::AtMost(9.0)])]),
        work("tls-idle-sse", idle(5_000, stream), vec![memory(&[Goal::AtMost(12.0)])]),
        work("tls-1000", load, paced()),
        work("tls-sse-1000", stream, paced()),
    ];
    works.into_iter().map(|work| Work { is_over_tls: true, ..work }).collect()
}

/// Clients that come back all at once, for what they missed or for current values.
fn herds() -> Vec<Work> {
    let come_back = |name, storage, kind, topics, goals| {
        let (by_name, sets, behind, is_half_granted, is_compressed) = (0, 1, 1_000, false, false);
        let demand = Demand { kind, topics, by_name, sets, behind, is_half_granted, is_compressed };
        let herd = Some(Herd { demand, clients: 200, after: None });
        let load = Load { publish: Publish::Batch, payload: 100, ..Load::default() };
        let measures = vec![herd_cpu(goals), all_live(&[Goal::AtMostOfBest(1.0)])];
        Work { herd, storage, ..work(name, load, measures) }
    };
    let memory = |name, kind, topics| {
        come_back(name, Storage::Memory, kind, topics, &[Goal::AtMostOfBest(0.5)])
    };
    let disk =
        |name, kind, topics| come_back(name, Storage::Disk, kind, topics, &[Goal::AtMost(0.35)]);
    vec![
        memory("resume-1", HerdKind::Resume, 1),
        disk("resume-1-disk", HerdKind::Resume, 1),
        memory("resume-500", HerdKind::Resume, 500),
        disk("resume-500-disk", HerdKind::Resume, 500),
        memory("values-200", HerdKind::Snapshot, 200),
        disk("values-200-disk", HerdKind::Snapshot, 200),
        memory("values-1000", HerdKind::Snapshot, 1_000),
        disk("values-1000-disk", HerdKind::Snapshot, 1_000),
    ]
}

/// Three nodes on one Redis, with publishers and subscribers at each.
fn on_redis(quick: bool) -> Vec<Work> {
    let load = Load { in_flight: 64, ..load(quick) };
    let search = Pace::Search { p99: Duration::from_millis(50) };
    let searched = Load { pace: search, duration: load.duration / 2, ..load };
    let best = &[Goal::AtMostOfBest(1.0)];
    let most = || vec![deliveries(&[Goal::AtLeastOfBest(1.0)]), cpu(best), store_cpu(best)];
    let works = vec![
        work("redis-1000", searched, most()),
        work("redis-topics-1000", each(searched), most()),
        work(
            "redis-paced",
            Load { pace: Pace::Rate(1_000.0), ..each(load) },
            vec![cpu_an_event(best), store_cpu(best), p99(best)],
        ),
    ];
    works.into_iter().map(|work| Work { storage: Storage::Redis, ..work }).collect()
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
