//! Connections that come and go, or subscribe and unsubscribe, while the rest is measured.
//!
//! They live on a thread of their own, keep to a rate whatever the server does, and are not counted
//! among the subscribers.

use std::rc::Rc;
use std::thread::JoinHandle;

use hdrhistogram::Histogram;
use std::cell::RefCell;
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::task::LocalSet;

use super::clock::Clock;
use super::dialect::{Dialect, Heard, Opening, Transport};
use super::frames::{self, Kind, Op};
use super::load::{Storm, StormKind};
use super::meter::histogram;
use super::report::{Percentiles, StormReport};
use super::schedule::{Schedule, Timing};
use super::socket::{self, Sources};
use super::stream::Stream;
use super::target::Target;
use super::work::Bench;

/// Connections of a storm at a time.
const CONNECTIONS: usize = 128;
/// Addresses that they come from: one that was used stays taken for a minute.
const SOURCES: usize = 64;

/// A storm that goes on.
pub(super) struct Blowing {
    thread: JoinHandle<Result<StormReport, String>>,
}

/// What all connections of a storm share.
struct Weather {
    dialect: Arc<dyn Dialect>,
    target: Target,
    sources: Sources,
    clock: Clock,
    prefix: String,
    since: u64,
    schedule: Schedule,
    counts: RefCell<Counts>,
}

struct Counts {
    failed: u64,
    reason: Option<String>,
    latency: Histogram<u64>,
}

/// Starts a storm that lasts until `end` and is measured from `since` on.
pub(super) fn start(
    bench: &Bench,
    storm: Storm,
    clock: Clock,
    since: u64,
    end: u64,
) -> Result<Blowing, String> {
    let begin = clock.now();
    let interval = 1e9 / storm.rate;
    let total = ((end - begin) as f64 / interval) as u64;
    let timing = Timing::Rate { begin, interval, total };
    let (dialect, target) = (bench.dialect.clone(), bench.target.clone());
    let prefix = format!("{}.storm", bench.prefix);
    let work = move || {
        let weather = Rc::new(Weather {
            dialect,
            sources: Sources::new(SOURCES, target.address),
            target,
            clock,
            prefix,
            since,
            schedule: Schedule::new(clock, timing, CONNECTIONS)?,
            counts: RefCell::new(Counts { failed: 0, reason: None, latency: histogram()? }),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("can't start a runtime: {error}"))?;
        LocalSet::new().block_on(&runtime, blow(&weather, storm.kind));
        let counts = weather.counts.borrow();
        let latency = Percentiles::from(&counts.latency);
        Ok(StormReport {
            done: latency.count,
            per_second: latency.count as f64 / ((end - since) as f64 / 1e9),
            failed: counts.failed,
            reason: counts.reason.clone(),
            latency,
        })
    };
    let thread = std::thread::Builder::new().name("storm".into()).spawn(work);
    Ok(Blowing { thread: thread.map_err(|error| format!("can't start a thread: {error}"))? })
}

impl Blowing {
    /// Waits for its end.
    pub(super) fn finish(self) -> Result<StormReport, String> {
        self.thread.join().map_err(|_| "the thread of the storm failed".to_owned())?
    }
}

async fn blow(weather: &Rc<Weather>, kind: StormKind) {
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let weather = weather.clone();
            tokio::task::spawn_local(async move {
                match kind {
                    StormKind::Connect => weather.connect().await,
                    StormKind::Subscribe => weather.subscribe(number).await,
                }
            })
        })
        .collect();
    for task in tasks {
        // One that panicked has said so.
        _ = task.await;
    }
}

impl Weather {
    /// Connects, waits until the subscription is live, disconnects; again and again.
    async fn connect(&self) {
        while let Some(slot) = self.schedule.next().await {
            let topics = [format!("{}.{}", self.prefix, slot.number)];
            let came = async {
                let opening = self.dialect.opening(&topics);
                let mut visit = Visit::open(self, &opening, slot.number as usize).await?;
                visit.live(self, &topics, opening.lives).await
            };
            self.count(slot.at, came.await);
        }
    }

    /// Subscribes to a topic and unsubscribes, in turn, on one connection.
    async fn subscribe(&self, number: usize) {
        let mut visit: Option<Visit> = None;
        let mut subscribed = false;
        while let Some(slot) = self.schedule.next().await {
            let done = async {
                if visit.is_none() {
                    subscribed = false;
                    visit = Some(Visit::open(self, &self.dialect.opening(&[]), number).await?);
                }
                let Some(visit) = &mut visit else { return Ok(()) };
                let op = if subscribed { "unsubscribe" } else { "subscribe" };
                let topic = format!("{}.{number}", self.prefix);
                let message = format!(r#"{{"op":"{op}","ref":1,"topics":["{topic}"]}}"#);
                visit.say(message.as_bytes()).await?;
                visit.answered().await?;
                subscribed = !subscribed;
                Ok(())
            };
            let done = done.await;
            if done.is_err() {
                visit = None;
            }
            self.count(slot.at, done);
        }
    }

    fn count(&self, at: u64, done: Result<(), String>) {
        let counts = &mut *self.counts.borrow_mut();
        match done {
            Err(reason) => {
                counts.failed += 1;
                counts.reason.get_or_insert(reason);
            }
            Ok(()) if at >= self.since => {
                counts.latency.saturating_record(self.clock.now().saturating_sub(at));
            }
            Ok(()) => {}
        }
    }
}

/// One connection of a storm.
struct Visit {
    stream: Stream,
    transport: Transport,
    received: Vec<u8>,
}

impl Visit {
    async fn open(weather: &Weather, opening: &Opening, number: usize) -> Result<Self, String> {
        let stream = weather.target.connect(weather.sources, number).await?;
        let transport = opening.transport;
        let mut visit = Self { stream, transport, received: Vec::new() };
        let Self { stream, received, .. } = &mut visit;
        socket::open(stream, &opening.request, transport, received).await?;
        for message in &opening.messages {
            visit.say(message).await?;
        }
        Ok(visit)
    }

    async fn say(&mut self, message: &[u8]) -> Result<(), String> {
        let op = if self.transport == Transport::Binary { Op::Binary } else { Op::Text };
        let mut frame = Vec::new();
        frames::write(&mut frame, op, message);
        self.stream.send(&frame).await.map_err(|error| error.to_string())
    }

    /// Waits until so many subscriptions are live.
    async fn live(
        &mut self,
        weather: &Weather,
        topics: &[String],
        lives: usize,
    ) -> Result<(), String> {
        let mut left = lives;
        while left > 0 {
            let message = self.message().await?;
            let mut reply = Vec::new();
            match weather.dialect.hear(&message, topics, &mut reply) {
                Heard::Nothing => {}
                Heard::Live => left -= 1,
                Heard::Ended(reason) => return Err(reason),
            }
            if !reply.is_empty() {
                self.say(&reply).await?;
            }
        }
        Ok(())
    }

    /// Waits for the answer to a subscribe or unsubscribe of Fanfare's own protocol.
    async fn answered(&mut self) -> Result<(), String> {
        loop {
            let message = self.message().await?;
            if message.starts_with(br#"{"op":"ack""#) {
                return Ok(());
            }
            if message.starts_with(br#"{"op":"error""#) {
                return Err(String::from_utf8_lossy(&message).into_owned());
            }
        }
    }

    /// The next message, or the next piece of an event stream.
    async fn message(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if self.transport == Transport::EventStream {
                if !self.received.is_empty() {
                    return Ok(std::mem::take(&mut self.received));
                }
            } else if let Some((frame, length)) = frames::read(&self.received)? {
                let (kind, payload) = (frame.kind, frame.payload.to_vec());
                self.received.drain(..length);
                match kind {
                    Kind::Data => return Ok(payload),
                    Kind::Close => return Err(frames::reason(&payload)),
                    Kind::Ping | Kind::Pong => continue,
                }
            }
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) => return Err("the server hung up".into()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
