//! One bench from its first connection to its report.
//!
//! Counts and processor time are taken together, once when the warm-up is over and once when all has
//! arrived, so that one divided by the other is the cost of a delivery.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::audience::Audience;
use super::clock::Clock;
use super::fleet::{Fitting, Fleet};
use super::load::Pace;
use super::meter::histogram;
use super::payload::Payload;
use super::process::{Cpu, Server};
use super::publisher::{Publisher, Publishing, Tally};
use super::report::{DeliveryReport, Percentiles, PublishReport, Report, ServerReport, SlowReport};
use super::schedule::{Schedule, Timing};
use super::socket::Sources;
use super::storm;
use super::work::{Bench, Watch};

/// How long nothing may arrive before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a server is left alone before its memory is looked at.
const SETTLE: Duration = Duration::from_secs(1);

/// A bench whose connections are live.
pub(super) struct Running<'a> {
    pub(super) bench: &'a Bench,
    clock: Clock,
    audience: Arc<Audience>,
    fleet: Fleet,
    publishing: Rc<Publishing>,
    setup: Duration,
    memory_before: u64,
    memory_connected: u64,
}

/// Counts and processor time at one moment.
struct Snapshot {
    at: u64,
    delivered: u64,
    acknowledged: u64,
    server: Cpu,
    store: Cpu,
    client: Cpu,
}

impl<'a> Running<'a> {
    /// Opens all connections.
    pub(super) async fn start(bench: &'a Bench) -> Result<Self, String> {
        let Bench { load, dialect, target, .. } = bench;
        let clock = Clock::start();
        let audience = Arc::new(Audience::new(load, bench.prefix.clone()));
        let memory_before = bench.server.memory();
        let fitting = Fitting {
            dialect: dialect.clone(),
            target: target.clone(),
            sources: Sources::new(load.sources, target.address),
            clock,
            slow_pace: load.slow_pace,
            threads: load.threads,
        };
        let fleet = Fleet::launch(&Arc::new(fitting), &audience)?;
        let begun = Instant::now();
        fleet.live(|live| (bench.watch)(Watch::Opening(live, fleet.size()))).await?;
        let setup = begun.elapsed();
        if bench.server.is_known() {
            sleep(SETTLE).await;
        }
        let publishing = Publishing {
            dialect: dialect.clone(),
            target: bench.publish_to.clone(),
            clock,
            topics: audience.topics.clone(),
            listeners_by_topic: audience.listeners_by_topic(),
            payload: Payload::new(load.payload),
            events_a_publish: load.events_a_publish(),
            pipeline: load.pipeline,
            tally: RefCell::new(Tally::new(load.topics)?),
        };
        let memory_connected = bench.server.memory();
        let publishing = Rc::new(publishing);
        Ok(Self {
            bench,
            clock,
            audience,
            fleet,
            publishing,
            setup,
            memory_before,
            memory_connected,
        })
    }

    /// Publishes at a pace, measures for so long after the warm-up, and reports.
    pub(super) async fn run(&self, pace: Pace, duration: Duration) -> Result<Report, String> {
        let load = &self.bench.load;
        let mut publishers = Vec::new();
        if pace != Pace::Idle {
            for number in 0..load.publishers() {
                publishers.push(Publisher::open(self.publishing.clone(), number).await?);
            }
        }
        let first = self.publishing.tally.borrow().acknowledged;
        let begin = self.clock.now() + 10_000_000;
        let since = begin + nanos(load.warmup);
        let end = since + nanos(duration);
        self.forget_times(since);
        let storm = match load.storm {
            Some(storm) => Some(storm::start(self.bench, storm, self.clock, since, end)?),
            None => None,
        };
        let timing = timing(pace, load.events_a_publish(), begin, end);
        let claimants = publishers.len() * load.pipeline;
        let schedule = Rc::new(Schedule::new(self.clock, timing, claimants)?);
        let tasks: Vec<_> = publishers
            .into_iter()
            .map(|publisher| tokio::task::spawn_local(publisher.run(schedule.clone(), first)))
            .collect();
        let bursts = async {
            if let Pace::Burst { events, pause } = pace {
                self.bursts(&schedule, events, pause, since..end).await;
            }
        };
        let watching = async {
            self.until(since).await;
            let start = self.snapshot();
            self.until(end).await;
            (start, self.snapshot())
        };
        let (((start, stop), ()), ()) =
            tokio::join!(async { tokio::join!(watching, bursts) }, async {
                for task in tasks {
                    // A publisher that panicked has said so; what it did not publish is not expected.
                    _ = task.await;
                }
            });
        self.drain().await;
        let last = self.snapshot();
        let mut report = self.report(&start, &stop, &last)?;
        report.storm = match storm {
            Some(storm) => Some(storm.finish()?),
            None => None,
        };
        Ok(report)
    }

    /// Lets only what is due from `since` on count for times.
    fn forget_times(&self, since: u64) {
        let tally = &mut *self.publishing.tally.borrow_mut();
        tally.latency.reset();
        tally.lateness.reset();
        tally.since = since;
        self.fleet.each(|meter| {
            meter.latency.reset();
            meter.since = since;
        });
    }

    /// Lets time pass, and says what goes on.
    async fn until(&self, moment: u64) {
        const TICK: Duration = Duration::from_millis(200);
        let moment = self.clock.instant(moment).into();
        while Instant::now() < moment {
            tokio::time::sleep_until((Instant::now() + TICK).min(moment)).await;
            let acknowledged = self.publishing.tally.borrow().acknowledged;
            (self.bench.watch)(Watch::Running(acknowledged, self.delivered()));
        }
    }

    /// Releases burst after burst, each once the one before has arrived; one at least in the time that
    /// is measured, however long it takes.
    async fn bursts(&self, schedule: &Schedule, events: usize, pause: Duration, time: Range<u64>) {
        let publishes = events.div_ceil(self.bench.load.events_a_publish());
        let mut released = 0;
        let mut last = 0;
        while last < time.start || self.clock.now() < time.end {
            last = self.clock.now();
            schedule.release(publishes);
            released += publishes as u64;
            let published = || {
                let tally = self.publishing.tally.borrow();
                (tally.acknowledged + tally.failed) / self.publishing.events_a_publish as u64
            };
            let first = published();
            while published() < first + publishes as u64 {
                sleep(Duration::from_millis(1)).await;
            }
            self.drain().await;
            sleep(pause).await;
        }
        schedule.finish(released);
    }

    /// Waits until everything has arrived, or nothing does any more.
    async fn drain(&self) {
        let mut before = self.delivered();
        let mut give_up = Instant::now() + PATIENCE;
        while self.delivered() < self.publishing.tally.borrow().expected {
            sleep(Duration::from_millis(1)).await;
            let now = self.delivered();
            if now > before {
                before = now;
                give_up = Instant::now() + PATIENCE;
            } else if Instant::now() > give_up {
                break;
            }
        }
    }

    fn delivered(&self) -> u64 {
        self.fleet.sum(|meter| meter.delivered)
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            at: self.clock.now(),
            delivered: self.delivered(),
            acknowledged: self.publishing.tally.borrow().acknowledged,
            server: self.bench.server.cpu(),
            store: self.bench.store.cpu(),
            client: Server::this().cpu(),
        }
    }

    /// Deliveries that did not come, and those that came too often.
    fn faults(&self) -> (u64, u64) {
        let tally = self.publishing.tally.borrow();
        let received = self.fleet.received();
        let counted = self.audience.seats.iter().zip(received).filter(|(seat, _)| !seat.slow);
        let (missing, extra) = counted.fold((0, 0), |(missing, extra), (seat, got)| {
            let expected = self.audience.expected(seat, &tally.by_topic);
            (missing + expected.saturating_sub(got), extra + got.saturating_sub(expected))
        });
        // A publish whose answer was lost may have been done all the same.
        let uncertain =
            tally.failed * self.publishing.listeners_by_topic.iter().max().unwrap_or(&0);
        (missing, extra.saturating_sub(uncertain))
    }

    fn report(&self, start: &Snapshot, stop: &Snapshot, last: &Snapshot) -> Result<Report, String> {
        let seconds = |until: &Snapshot| (until.at - start.at) as f64 / 1e9;
        let tally = self.publishing.tally.borrow();
        let mut latency = histogram()?;
        self.fleet.each(|meter| _ = latency.add(&meter.latency));
        let (missing, extra) = self.faults();
        let bytes = self.fleet.sum(|meter| meter.bytes) as f64;
        let slow = self.audience.seats.iter().filter(|seat| seat.slow).count();
        Ok(Report {
            connections: self.fleet.size(),
            setup_seconds: self.setup.as_secs_f64(),
            seconds: seconds(stop),
            publish: PublishReport {
                events: stop.acknowledged - start.acknowledged,
                events_per_second: (stop.acknowledged - start.acknowledged) as f64 / seconds(stop),
                failed: tally.failed,
                reason: tally.reason.clone(),
                latency: Percentiles::from(&tally.latency),
                lateness: Percentiles::from(&tally.lateness),
            },
            delivery: DeliveryReport {
                expected: tally.expected,
                delivered: last.delivered,
                missing,
                extra,
                reason: self.fleet.ended_because(),
                per_second: (stop.delivered - start.delivered) as f64 / seconds(stop),
                bytes: bytes / last.delivered.max(1) as f64,
                latency: Percentiles::from(&latency),
            },
            server: self.bench.server.is_known().then(|| self.server_report(start, last)),
            client_cpu: last.client.since(&start.client) as f64 / 1e9 / seconds(last),
            slow: SlowReport {
                connections: slow,
                ended: self.fleet.sum(|meter| meter.slow_ended as u64),
            },
            storm: None,
            search: Vec::new(),
        })
    }

    fn server_report(&self, start: &Snapshot, last: &Snapshot) -> ServerReport {
        let nanos = last.server.since(&start.server) as f64;
        let events = last.acknowledged - start.acknowledged;
        let share = |nanos: f64, count: u64| (count > 0).then(|| nanos / 1e3 / count as f64);
        let of_store = last.store.since(&start.store) as f64;
        let store_cpu_us_per_event =
            share(of_store, events).filter(|_| self.bench.store.is_known());
        let connections = self.fleet.size() as f64;
        let grown = self.memory_connected as f64 - self.memory_before as f64;
        ServerReport {
            cpu_us_per_delivery: share(nanos, last.delivered - start.delivered),
            cpu_us_per_event: share(nanos, events),
            store_cpu_us_per_event,
            cpu: nanos / (last.at - start.at) as f64,
            memory_before: self.memory_before,
            memory_connected: self.memory_connected,
            memory_after: self.bench.server.memory(),
            memory_per_connection: (connections > 0.0).then(|| grown / connections),
        }
    }
}

fn timing(pace: Pace, events_a_publish: usize, begin: u64, end: u64) -> Timing {
    match pace {
        Pace::Rate(rate) => {
            let interval = 1e9 * events_a_publish as f64 / rate;
            let total = ((end - begin) as f64 / interval).ceil() as u64;
            Timing::Rate { begin, interval, total }
        }
        Pace::Max => Timing::Until(end),
        Pace::Idle | Pace::Burst { .. } | Pace::Search { .. } => Timing::Released,
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
