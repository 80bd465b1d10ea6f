//! One connection that publishes what is due, and times the answers.
//!
//! Answers come in the order of the publishes, as HTTP has it. A connection that was idle for long is
//! opened anew before it is used, since servers hang up on those without notice; so is one that the server said it would end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use hdrhistogram::Histogram;
use tokio::io::AsyncReadExt;

use super::clock::Clock;
use super::dialect::{Answer, Dialect, Post};
use super::meter::histogram;
use super::payload::Payload;
use super::schedule::{Schedule, Slot};
use super::socket::Sources;
use super::stream::Stream;
use super::target::Target;

/// What all publishers count together.
#[derive(Debug)]
pub struct Tally {
    /// Acknowledged events by topic.
    pub by_topic: Vec<u64>,
    /// Acknowledged events.
    pub acknowledged: u64,
    /// How many deliveries these have to bring.
    pub expected: u64,
    /// Events whose publish failed.
    pub failed: u64,
    /// Why the first one did.
    pub reason: Option<String>,
    /// The moment from which on times count.
    pub since: u64,
    /// From when a publish was due until it was acknowledged.
    pub latency: Histogram<u64>,
    /// From when a publish was due until it was sent: what the bench itself, or all connections being
    /// busy, held it up.
    pub lateness: Histogram<u64>,
}

impl Tally {
    /// Nothing yet, on so many topics.
    pub fn new(topics: usize) -> Result<Self, String> {
        Ok(Self {
            by_topic: vec![0; topics],
            acknowledged: 0,
            expected: 0,
            failed: 0,
            reason: None,
            since: 0,
            latency: histogram()?,
            lateness: histogram()?,
        })
    }
}

/// What all publishers share.
pub struct Publishing {
    /// How the server is spoken to.
    pub dialect: Arc<dyn Dialect>,
    /// Where it is.
    pub target: Target,
    /// The time.
    pub clock: Clock,
    /// The names of the topics, which take turns.
    pub topics: Vec<String>,
    /// How many deliveries an event on each topic has to bring.
    pub listeners_by_topic: Vec<u64>,
    /// The data of events.
    pub payload: Payload,
    /// Events of one publish.
    pub events_a_publish: usize,
    /// Publishes that may wait for an answer on one connection.
    pub pipeline: usize,
    /// The counts.
    pub tally: RefCell<Tally>,
}

/// One connection that publishes.
pub struct Publisher {
    publishing: Rc<Publishing>,
    /// Its place among all.
    number: usize,
    stream: Option<Stream>,
    received: BytesMut,
    request: Vec<u8>,
    waiting: VecDeque<Slot>,
    used: Instant,
}

impl Publisher {
    /// How long a connection may be idle and still be used; servers commonly wait five seconds.
    const IDLE: Duration = Duration::from_secs(3);

    /// Connects, as the publisher of this number.
    pub async fn open(publishing: Rc<Publishing>, number: usize) -> Result<Self, String> {
        let mut publisher = Self {
            publishing,
            number,
            stream: None,
            received: BytesMut::new(),
            request: Vec::new(),
            waiting: VecDeque::new(),
            used: Instant::now(),
        };
        publisher.connect().await?;
        Ok(publisher)
    }

    /// Publishes until the schedule has no more and all is answered.
    pub async fn run(mut self, schedule: Rc<Schedule>, first: u64) {
        let mut more = true;
        while more || !self.waiting.is_empty() {
            let result = tokio::select! {
                biased;
                answered = Self::read(&mut self.stream, &mut self.received), if !self.waiting.is_empty() => {
                    match answered {
                        Ok(()) => self.answers().await,
                        Err(reason) => Err(reason),
                    }
                }
                slot = schedule.next(), if more && self.waiting.len() < self.publishing.pipeline => {
                    match slot {
                        Some(slot) => self.send(slot, &schedule, first).await,
                        None => {
                            more = false;
                            Ok(())
                        }
                    }
                }
            };
            if let Err(reason) = result {
                self.failed(reason);
            }
        }
    }

    async fn connect(&mut self) -> Result<(), String> {
        let Publishing { dialect, target, .. } = &*self.publishing;
        let stream = target.connect(Sources::SYSTEM, self.number).await?;
        self.received.clear();
        let greeting = dialect.greeting();
        self.stream = Some(stream);
        let Some(greeting) = greeting else { return Ok(()) };
        self.write(&greeting).await?;
        loop {
            while let Some((answer, length)) = self.publishing.dialect.answer(&self.received)? {
                self.received.advance(length);
                match answer {
                    Answer::Done | Answer::Last => return Ok(()),
                    Answer::Refused(reason) => return Err(reason),
                    Answer::Reply(reply) => self.write(&reply).await?,
                    Answer::Nothing => {}
                }
            }
            Self::read(&mut self.stream, &mut self.received).await?;
        }
    }

    /// Sends a publish, and in the same write as many more as are due already and have room.
    async fn send(&mut self, slot: Slot, schedule: &Schedule, first: u64) -> Result<(), String> {
        let mut request = std::mem::take(&mut self.request);
        request.clear();
        let idle = self.waiting.is_empty() && self.used.elapsed() > Self::IDLE;
        let pipeline = self.publishing.pipeline;
        let mut next = Some(slot);
        while let Some(slot) = next {
            let start = first + slot.number * self.publishing.events_a_publish as u64;
            let slot = Slot { number: start, at: slot.at };
            self.publishing.write(slot, &mut request);
            self.waiting.push_back(slot);
            next = (self.waiting.len() < pipeline).then(|| schedule.next_now()).flatten();
        }
        if self.stream.is_none() || idle {
            self.connect().await?;
        }
        let sent = self.write(&request).await;
        self.request = request;
        sent
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.used = Instant::now();
        match &mut self.stream {
            Some(stream) => stream.send(bytes).await.map_err(|error| error.to_string()),
            None => Err("the connection is lost".into()),
        }
    }

    /// Reads more. May be cancelled without loss.
    async fn read(stream: &mut Option<Stream>, received: &mut BytesMut) -> Result<(), String> {
        let Some(stream) = stream else { return Err("the connection is lost".into()) };
        match stream.read_buf(received).await {
            Ok(0) => Err("the server hung up on a publisher".into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Takes all answers that have come.
    async fn answers(&mut self) -> Result<(), String> {
        while let Some((answer, length)) = self.publishing.dialect.answer(&self.received)? {
            self.received.advance(length);
            match answer {
                Answer::Nothing => {}
                Answer::Reply(reply) => self.write(&reply).await?,
                Answer::Done => self.acknowledged()?,
                Answer::Last => {
                    self.acknowledged()?;
                    if !self.waiting.is_empty() {
                        return Err("the server hung up on publishes without an answer".into());
                    }
                    self.stream = None;
                }
                Answer::Refused(reason) => {
                    let _slot = self.waiting.pop_front().ok_or(reason.clone())?;
                    self.publishing.failed(1, reason);
                }
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self) -> Result<(), String> {
        let slot = self.waiting.pop_front().ok_or("an answer to nothing")?;
        self.publishing.acknowledged(slot);
        Ok(())
    }

    /// Gives up on the connection and on all that waits for an answer on it.
    fn failed(&mut self, reason: String) {
        self.stream = None;
        let lost = self.waiting.drain(..).count();
        self.publishing.failed(lost, reason);
    }
}

impl Publishing {
    fn topic(&self, number: u64) -> usize {
        (number % self.topics.len() as u64) as usize
    }

    /// Writes the publish whose first event is that of the slot, and notes how late it is.
    fn write(&self, slot: Slot, request: &mut Vec<u8>) {
        let mut data = Vec::with_capacity(self.events_a_publish * 160);
        let numbers = slot.number..slot.number + self.events_a_publish as u64;
        let ends: Vec<_> = numbers
            .map(|number| {
                self.payload.write(&mut data, number, slot.at);
                (number, data.len())
            })
            .collect();
        let mut begin = 0;
        let post = |(number, end): &(u64, usize)| {
            let data = &data[std::mem::replace(&mut begin, *end)..*end];
            Post { topic: &self.topics[self.topic(*number)], data }
        };
        let posts: Vec<_> = ends.iter().map(post).collect();
        self.dialect.publish(&posts, request);
        let tally = &mut *self.tally.borrow_mut();
        if slot.at >= tally.since {
            tally.lateness.saturating_record(self.clock.now().saturating_sub(slot.at));
        }
    }

    /// Counts a publish whose first event is that of the slot.
    fn acknowledged(&self, slot: Slot) {
        let tally = &mut *self.tally.borrow_mut();
        for number in slot.number..slot.number + self.events_a_publish as u64 {
            let topic = self.topic(number);
            tally.by_topic[topic] += 1;
            tally.expected += self.listeners_by_topic[topic];
        }
        tally.acknowledged += self.events_a_publish as u64;
        if slot.at >= tally.since {
            tally.latency.saturating_record(self.clock.now().saturating_sub(slot.at));
        }
    }

    fn failed(&self, publishes: usize, reason: String) {
        let tally = &mut *self.tally.borrow_mut();
        tally.failed += (publishes * self.events_a_publish) as u64;
        tally.reason.get_or_insert(reason);
    }
}
