//! How this node is: once a second it says so on `$sys.metrics`, and sets what is scraped of it.
//!
//! It looks at what others count and hold, and holds nothing itself but what it said a second before. Nothing waits
//! for it: not who publishes, and not the next second, where a disk or Redis does not answer.

mod disk;
mod machine;
mod said;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::disk::DiskWatch;
use self::said::{
    Disk, Failing, Held, Issuer, Latencies, Latency, Queue, Redis, Said, Sessions, Slowest,
    Sockets, Totals, Trouble, Webhook,
};
use crate::auth::{self, Auth};
use crate::broker::{BrokerHandle, Examined};
use crate::config::Config;
use crate::history::{Kept, Stock};
use crate::metrics::{Fate, LOG, Metrics, Observed, TROUBLES, TransportLabel, WebhookNumbers};
use crate::model::{Data, Event, EventType, Timestamp, Topic};
use crate::supervisor::Beat;

/// How often a node says how it is.
const PERIOD: Duration = Duration::from_secs(1);

/// Who has not answered for so long is said to be away: it may be dead, and who looks is not to wait until its time is over.
const HANGS: Duration = Duration::from_secs(3);
const UNANSWERED: &str = "there is no answer yet";

/// How deep what it says is nested.
const MAX_DEPTH: usize = 8;

/// How many connections are open, and how many there may be.
pub type CountSockets = Box<dyn Fn() -> (usize, usize)>;

/// Looks at a node once a second.
pub struct Vitals {
    broker: BrokerHandle,
    auth: Arc<Auth>,
    metrics: Arc<Metrics>,
    config: Config,
    sockets: CountSockets,
    disk: Option<DiskWatch>,
    started: SystemTime,
    began: Instant,
    /// Since when each check fails that does.
    failing_since: BTreeMap<&'static str, Instant>,
    /// Since when Redis is there, or away.
    redis_since: (bool, Instant),
    before: Before,
    beats: watch::Sender<Beat>,
}

/// How it was when it was last said.
struct Before {
    number: u64,
    at: Instant,
    totals: Totals,
    commit: Observed,
    delivery: Observed,
    relay: Observed,
    cpu: Duration,
}

impl Vitals {
    /// Those of a node that has just started.
    pub fn new(
        broker: BrokerHandle,
        auth: Arc<Auth>,
        metrics: Arc<Metrics>,
        config: &Config,
        sockets: CountSockets,
    ) -> Self {
        let (config, now) = (config.clone(), Instant::now());
        let has_disk = broker.history().stock().disk.is_some();
        let disk = has_disk.then(|| DiskWatch::of(&config.history));
        let before = Before {
            number: 0,
            at: now,
            totals: totals(&metrics),
            commit: metrics.road.commit.observed(),
            delivery: metrics.road.delivery.observed(),
            relay: LOG.relay.observed(),
            cpu: machine::cpu(),
        };
        Self {
            broker,
            auth,
            metrics,
            config,
            sockets,
            disk,
            started: SystemTime::now(),
            began: now,
            failing_since: BTreeMap::new(),
            redis_since: (true, now),
            before,
            beats: watch::Sender::default(),
        }
    }

    /// That this node lives: all workers, of which there are some once it serves, have answered, and the log has.
    pub fn beats(&self) -> watch::Receiver<Beat> {
        self.beats.subscribe()
    }

    /// Says how the node is, for good.
    pub async fn run(mut self) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // What is to be said of a second is known when it is over.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let examined = self.broker.examine().await;
            let serves = examined.workers > 0;
            let said = self.look(examined);
            if let Some(event) = event(&said) {
                self.broker.say_to_all(event).await;
            }
            if serves {
                self.beats.send_replace(said.summary());
            }
        }
    }

    fn look(&mut self, examined: Examined) -> Said {
        let (now, cpu, total) = (Instant::now(), machine::cpu(), totals(&self.metrics));
        let trouble = self.broker.history().trouble();
        let period = now.saturating_duration_since(self.before.at);
        let process = machine::process(cpu.saturating_sub(self.before.cpu));
        let failing = self.failing(trouble.as_ref(), now);
        let said = Said {
            node: self.broker.node().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            started: Timestamp::from(self.started).to_string(),
            uptime_ms: millis(now.saturating_duration_since(self.began)),
            number: self.before.number + 1,
            period_ms: millis(period),
            ready: failing.is_empty(),
            failing,
            sessions: self.sessions(),
            subscriptions: self.metrics.subscriptions.get(),
            sockets: self.sockets(),
            second: total.since(&self.before.totals),
            total,
            latency_ms: self.latencies(),
            gaps: some(self.metrics.road.gaps()),
            refusals: some(self.metrics.refusals.counts()),
            closes: some(self.metrics.closes.counts()),
            queue: self.queue(&examined),
            slowest: slowest(examined),
            disk: self.disk.as_mut().and_then(DiskWatch::look),
            history: self.held(),
            memory: machine::memory(),
            process,
            redis: self.redis(trouble, now),
            issuer: self.auth.issuer().map(issuer),
            webhooks: self.metrics.webhooks.all().map(webhook).collect(),
            errors: errors(),
        };
        (self.before.number, self.before.at) = (said.number, now);
        (self.before.totals, self.before.cpu) = (total, cpu);
        self.set_levels(&said, cpu);
        said
    }

    /// What is not well, in the words of `GET /health/ready`.
    fn failing(&mut self, trouble: Option<&String>, now: Instant) -> Vec<Failing> {
        let mut failing = Vec::new();
        let mut note = |check, detail: &str| {
            let since = *self.failing_since.entry(check).or_insert(now);
            let since_ms = millis(now.saturating_duration_since(since));
            failing.push(Failing { check, detail: detail.to_owned(), since_ms });
        };
        if let Some(trouble) = trouble {
            note("history", trouble);
            if self.config.redis.is_some() {
                note("redis", trouble);
            }
        }
        if self.broker.is_leaving() {
            note("serving", "the broker is stopping");
        }
        let fails = |check: &str| failing.iter().any(|failing| failing.check == check);
        self.failing_since.retain(|check, _| fails(check));
        failing
    }

    fn sessions(&self) -> Sessions {
        let open =
            |transport| self.metrics.sessions.get_or_create(&TransportLabel { transport }).get();
        let limit = self.config.limits.connections as u64;
        Sessions { websocket: open("websocket"), sse: open("sse"), limit }
    }

    fn sockets(&self) -> Sockets {
        let (open, limit) = (self.sockets)();
        Sockets { open: open as u64, limit: limit as u64 }
    }

    fn latencies(&mut self) -> Latencies {
        let (road, before) = (&self.metrics.road, &mut self.before);
        Latencies {
            commit: latency(road.commit.observed(), &mut before.commit),
            delivery: latency(road.delivery.observed(), &mut before.delivery),
            relay: latency(LOG.relay.observed(), &mut before.relay)
                .filter(|_| self.config.redis.is_some()),
        }
    }

    fn queue(&self, examined: &Examined) -> Queue {
        Queue {
            bytes: examined.queued_bytes,
            largest_bytes: examined.slowest.first().map_or(0, |slow| slow.strain.queued_bytes),
            limit_bytes: self.config.limits.outbox_bytes as u64,
            inbox: self.broker.longest_inbox() as u64,
            inbox_limit: self.config.limits.inbox_events as u64,
        }
    }

    /// What is kept, where most of it is to be.
    fn held(&self) -> Held {
        let stock = self.broker.history().stock();
        let Stock { memory, disk, redis, pending_bytes, at_hand_bytes } = stock;
        self.metrics.state.at_hand.set(at_hand_bytes as f64);
        for (kind, kept) in [("memory", memory), ("disk", disk), ("redis", redis)] {
            let Kept { bytes, limit, events, .. } = kept.unwrap_or_default();
            self.metrics.state.kept(kind, bytes, limit, events.unwrap_or(0));
        }
        let (kind, kept) = match (redis, disk) {
            (Some(kept), _) => ("redis", kept),
            (None, Some(kept)) => ("disk", kept),
            (None, None) => ("memory", memory.unwrap_or_default()),
        };
        Held {
            kind,
            events: kept.events,
            topics: kept.topics,
            bytes: kept.bytes,
            limit_bytes: kept.limit,
            pending_bytes,
            pending_limit_bytes: self.config.history.pending_bytes as u64,
        }
    }

    fn redis(&mut self, trouble: Option<String>, now: Instant) -> Option<Redis> {
        self.config.redis.as_ref()?;
        if self.redis_since.0 != trouble.is_none() {
            self.redis_since = (trouble.is_none(), now);
        }
        Some(Redis {
            state: if trouble.is_none() { "connected" } else { "away" },
            detail: trouble,
            since_ms: millis(now.saturating_duration_since(self.redis_since.1)),
            // The first one is none anew.
            reconnects: LOG.connections.get().saturating_sub(1),
            nodes: self.broker.nodes() as u64,
        })
    }

    /// Sets what is scraped and is nobody's to count.
    fn set_levels(&self, said: &Said, cpu: Duration) {
        let Metrics { state, process, .. } = &*self.metrics;
        state.ready.set(if said.ready { 1.0 } else { 0.0 });
        for check in crate::metrics::CHECKS {
            state.check(check, said.failing.iter().any(|failing| failing.check == check));
        }
        let Disk { used_bytes, limit_bytes, free_bytes, wal_bytes } = said.disk.unwrap_or_default();
        for (level, value) in [
            (&state.sockets, said.sockets.open),
            (&state.sockets_limit, said.sockets.limit),
            (&state.sessions_limit, said.sessions.limit),
            (&state.queue, said.queue.bytes),
            (&state.queue_largest, said.queue.largest_bytes),
            (&state.queue_limit, said.queue.limit_bytes),
            (&state.inbox, said.queue.inbox),
            (&state.inbox_limit, said.queue.inbox_limit),
            (&state.pending, said.history.pending_bytes),
            (&state.pending_limit, said.history.pending_limit_bytes),
            (&state.disk_used, used_bytes),
            (&state.disk_limit, limit_bytes),
            (&state.disk_free, free_bytes),
            (&state.wal, wal_bytes),
            (&state.nodes, self.broker.nodes() as u64),
            (&process.rss, said.memory.rss_bytes),
            (&state.memory_limit, said.memory.limit_bytes),
            (&process.descriptors, said.process.descriptors),
            (&process.descriptors_limit, said.process.descriptors_limit),
            (&process.threads, said.process.threads),
        ] {
            level.set(value as f64);
        }
        let since_1970 = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        process.started.set(since_1970.as_secs_f64());
        process.cpu.set(cpu.as_secs_f64());
        let keys_age = said.issuer.as_ref().and_then(|issuer| issuer.keys_age_ms);
        state.keys_age.set(Duration::from_millis(keys_age.unwrap_or(0)).as_secs_f64());
    }
}

/// What a node says, as an event.
fn event(said: &Said) -> Option<Event> {
    let data = serde_json::to_vec(said).ok()?;
    Some(Event {
        cursor: None,
        topic: Topic::metrics(),
        kind: EventType::parse("metrics").ok(),
        time: Timestamp::from(SystemTime::now()),
        data: Data::from_json(&data, MAX_DEPTH).ok()?,
        envelope: None,
    })
}

fn totals(metrics: &Metrics) -> Totals {
    let road = &metrics.road;
    Totals {
        published: road.ended(Fate::Stored),
        published_bytes: road.published_bytes.get(),
        superseded: road.ended(Fate::Superseded),
        repeated: road.ended(Fate::Repeated),
        delivered: metrics.events_delivered.get(),
        written_bytes: road.written_bytes(),
        replayed: metrics.events_replayed.get(),
        conflated: road.conflated.get(),
        skipped: road.skipped.get(),
        gaps: road.gaps().map(|(_, count)| count).sum(),
        refused: metrics.refusals.counts().map(|(_, count)| count).sum(),
        connected: metrics.entry.connects(),
        closed: metrics.closes.counts().map(|(_, count)| count).sum(),
    }
}

/// How long things took since it was last asked; nothing where none did.
fn latency(now: Observed, before: &mut Observed) -> Option<Latency> {
    let since = now.since(before);
    *before = now;
    let quantile = |share| since.quantile(share).map(|micros| (micros / 10.0).round() / 100.0);
    Some(Latency { p50: quantile(0.5)?, p99: quantile(0.99)?, count: since.count() })
}

/// What came to pass of this.
fn some<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> BTreeMap<String, u64> {
    counts.filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_owned(), count)).collect()
}

fn slowest(examined: Examined) -> Vec<Slowest> {
    let slowest = examined.slowest.into_iter().map(|slow| Slowest {
        session: slow.session.to_string(),
        user: slow.user,
        transport: slow.transport.name(),
        queued_bytes: slow.strain.queued_bytes,
        lag_ms: millis(slow.strain.lag),
        skipped: slow.strain.skipped,
    });
    slowest.collect()
}

fn issuer(issuer: auth::Issuer) -> Issuer {
    let (mut last, mut lasts) = (issuer.last, issuer.lasts);
    if let Some(waits) = issuer.waits.filter(|waits| *waits >= HANGS)
        && !matches!(last, Some(Err(_)))
    {
        (last, lasts) = (Some(Err(UNANSWERED.to_owned())), waits);
    }
    let (state, detail) = match last {
        None => ("unknown", None),
        Some(Ok(())) => ("answers", None),
        Some(Err(why)) => ("away", Some(why)),
    };
    Issuer {
        state,
        detail,
        since_ms: millis(lasts),
        has_keys: issuer.has_keys,
        keys_age_ms: issuer.keys_age.map(millis),
    }
}

fn webhook(hook: &WebhookNumbers) -> Webhook {
    let state = hook.state();
    let now = Timestamp::from(SystemTime::now()).millis();
    let waits = state.waits_since.map_or(0, |since| now.saturating_sub(since).max(0));
    let lag_ms = u64::try_from(waits).unwrap_or(0);
    hook.lags(Duration::from_millis(lag_ms).as_secs_f64());
    let hanging = state.posts_since.filter(|since| since.elapsed() >= HANGS);
    let last = match (state.last, hanging) {
        (None | Some((Ok(()), _)), Some(since)) => Some((Err(UNANSWERED.to_owned()), since)),
        (last, _) => last,
    };
    let (outcome, detail, at) = match last {
        None => ("none", None, None),
        Some((Ok(()), at)) => ("taken", None, Some(at)),
        Some((Err(why), at)) => ("failed", Some(why), Some(at)),
    };
    let outcome_ms = at.map(|at| millis(at.elapsed()));
    Webhook {
        name: hook.name().to_owned(),
        turn: state.has_turn,
        lag_ms,
        outcome,
        detail,
        outcome_ms,
    }
}

fn errors() -> Vec<Trouble> {
    let said = TROUBLES.newest().into_iter().map(|logged| Trouble {
        time: logged.time.to_string(),
        level: logged.level,
        message: logged.message,
    });
    said.collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
