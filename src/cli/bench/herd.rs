//! A herd: clients that come all at once, each for what it missed or for the current values of all topics.
//!
//! What they come for is published first. Then all connect, ask in the same moment, and are live once they have it; what that
//! takes of the server, from the first question to the last answer, is the cost of their comeback.

mod report;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::{Decompress, FlushDecompress};
use tokio::io::AsyncReadExt;
use tokio::sync::Barrier;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub use self::report::HerdReport;
use super::super::note;
use super::demand::{Asking, Demand, HerdKind};
use super::dialect::{Answer, Dialect, Heard, Opening, Post, Transport};
use super::frames::{self, Frame, Kind, Op};
use super::payload::Payload;
use super::process::Server;
use super::response::{Response, response};
use super::socket::{self, Sources, ask};
use super::stream::Stream;
use super::target::Target;
use super::work::Bench;

/// Events that are published together.
const BATCH: usize = 500;
/// How much a client reads at a time, in bytes.
const READ: usize = 64 << 10;
/// How much of a compressed message is looked at, in bytes.
const GLANCE: usize = 64;
/// How often is looked whether a broker is there again.
const SOON: Duration = Duration::from_millis(5);
/// How long a herd may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A herd to be.
#[derive(Debug, Clone, Copy)]
pub struct Herd {
    /// What its clients ask for.
    pub demand: Demand,
    /// How many there are.
    pub clients: usize,
    /// The process that has to end before they come.
    pub after: Option<u32>,
}

/// A client on its way back.
struct Client {
    dialect: Arc<dyn Dialect>,
    opening: Opening,
    /// How many events it is to get.
    due: usize,
    /// They come in the order of the log, each once.
    is_ordered: bool,
    is_compressed: bool,
}

/// What came to one client until it was live.
#[derive(Debug, Default)]
struct Haul {
    events: usize,
    bytes: usize,
    /// The number of the newest event, where they are in order.
    newest: Option<u64>,
    /// How often it was told that it is live.
    lives: usize,
    /// What it has to say in return.
    outgoing: Vec<u8>,
    /// Reads what is compressed, where that was agreed on.
    inflates: Option<Decompress>,
}

impl Bench {
    /// Publishes what a herd comes for, and has it come; of the load, payload and sources count. Must be called
    /// within a `LocalSet`.
    pub async fn come_back(&self, herd: Herd) -> Result<HerdReport, String> {
        if let Some(id) = self.server.missing() {
            return Err(format!("there is no process {id}"));
        }
        let clients = herd.clients;
        let herd = self.prepare(herd).await?;
        let due: Vec<_> = herd.iter().map(|client| client.due).collect();
        let together = Rc::new(Barrier::new(clients + 1));
        let memory_before = self.server.memory();
        let tasks = self.set_out(herd, &together);
        together.wait().await;
        let (begun, here) = (Instant::now(), Server::this());
        let (cpu, own) = (self.server.cpu(), here.cpu());
        together.wait().await;
        let events: usize = due.iter().sum();
        let mut report = HerdReport { clients, events, ..HerdReport::default() };
        let mut bytes = 0;
        for (task, due) in tasks.into_iter().zip(due) {
            let came = task.await.map_err(|_| "a client failed".to_owned())?;
            let haul = came.unwrap_or_else(|reason| {
                report.reason.get_or_insert(reason);
                Haul::default()
            });
            report.wrong += haul.events.abs_diff(due) as u64;
            bytes += haul.bytes;
        }
        let (took, used) = (begun.elapsed(), self.server.cpu().since(&cpu));
        let all = events.max(1) as f64;
        report.live_seconds = took.as_secs_f64();
        report.bytes = bytes as f64 / all;
        if self.server.is_known() {
            report.cpu_us_per_event = Some(used as f64 / 1e3 / all);
            report.cpu_us_per_client = Some(used as f64 / 1e3 / clients as f64);
        }
        (report.memory_before, report.memory_after) = (memory_before, self.server.memory());
        report.client_cpu = here.cpu().since(&own) as f64 / 1e9 / took.as_secs_f64();
        Ok(report)
    }

    /// Publishes what they come for, and has them know how to ask for it.
    async fn prepare(&self, Herd { demand, clients, after }: Herd) -> Result<Vec<Client>, String> {
        self.publish(&demand, demand.before()).await?;
        let place = match self.dialect.place() {
            Some(request) => {
                let mut stream = self.publish_to.connect(Sources::SYSTEM, 0).await?;
                ask(&mut stream, &request).await?
            }
            None => Vec::new(),
        };
        self.publish(&demand, demand.meanwhile()).await?;
        if let Some(process) = after {
            outlast(&self.target, process).await?;
        }
        let is_ordered = demand.kind == HerdKind::Resume;
        let client = |client| {
            let asking = Asking { demand: &demand, prefix: &self.prefix, client, place: &place };
            let (dialect, is_compressed) = (self.dialect.clone(), demand.is_compressed);
            let (opening, due) = (dialect.comeback(&asking)?, demand.due(client));
            Ok(Client { dialect, opening, due, is_ordered, is_compressed })
        };
        (0..clients).map(client).collect()
    }

    /// Has all connect, and ask once they may.
    fn set_out(
        &self,
        herd: Vec<Client>,
        together: &Rc<Barrier>,
    ) -> Vec<JoinHandle<Result<Haul, String>>> {
        let sources = Sources::new(self.load.sources, self.target.address);
        let target = Rc::new(self.target.clone());
        let set_out = |(number, client): (usize, Client)| {
            let (together, target) = (together.clone(), target.clone());
            tokio::task::spawn_local(async move {
                let stream = target.connect(sources, number).await;
                // All are there; then what this takes begins to be measured; then all ask.
                together.wait().await;
                together.wait().await;
                let came = timeout(PATIENCE, client.come_back(stream?)).await;
                came.unwrap_or_else(|_| Err("it was not live in time".into()))
            })
        };
        herd.into_iter().enumerate().map(set_out).collect()
    }

    /// Publishes so many events, to one topic after the other.
    async fn publish(&self, demand: &Demand, events: usize) -> Result<(), String> {
        let dialect = &*self.dialect;
        let mut stream = self.publish_to.connect(Sources::SYSTEM, 0).await?;
        if let Some(greeting) = dialect.greeting() {
            say(&mut stream, dialect, &greeting, 1).await?;
        }
        let payload = Payload::new(self.load.payload);
        let numbers: Vec<_> = (0..events).collect();
        for batch in numbers.chunks(BATCH) {
            let topics =
                batch.iter().map(|number| demand.topic(&self.prefix, number % demand.topics));
            let topics: Vec<_> = topics.collect();
            let data = batch.iter().map(|number| {
                let mut data = Vec::new();
                payload.write(&mut data, *number as u64, 0);
                data
            });
            let data: Vec<_> = data.collect();
            let posts = topics.iter().zip(&data).map(|(topic, data)| Post { topic, data });
            let mut request = Vec::new();
            dialect.publish(&posts.collect::<Vec<_>>(), &mut request);
            let said = say(&mut stream, dialect, &request, dialect.answers(batch.len())).await;
            said.map_err(|reason| format!("nothing to come back for: {reason}"))?;
        }
        Ok(())
    }
}

/// Waits until a process has ended, and for as long as a herd may take until the broker is ready.
async fn outlast(target: &Target, process: u32) -> Result<(), String> {
    note(format!(
        "what it comes for is published: the herd comes once process {process} has ended"
    ));
    while Server::new(vec![process]).missing().is_none() {
        sleep(SOON).await;
    }
    let mut request = Vec::new();
    target.request(&mut request, "GET", "/health/ready");
    request.extend_from_slice(b"\r\n");
    let ready = async {
        loop {
            if let Ok(mut stream) = target.connect(Sources::SYSTEM, 0).await
                && let Ok(answer) = ask(&mut stream, &request).await
                && matches!(response(&answer), Ok(Some(Response { status: 200, .. })))
            {
                return;
            }
            sleep(SOON).await;
        }
    };
    let waited = timeout(PATIENCE, ready).await;
    waited.map_err(|_| format!("the broker is not ready after {} s", PATIENCE.as_secs()))
}

/// Sends this as a publisher, and waits for so many answers.
async fn say(
    stream: &mut Stream,
    dialect: &dyn Dialect,
    request: &[u8],
    answers: usize,
) -> Result<(), String> {
    stream.send(request).await.map_err(|error| error.to_string())?;
    let (mut received, mut answered) = (Vec::new(), 0);
    while answered < answers {
        match stream.read_buf(&mut received).await {
            Ok(0) => return Err("the server hung up".into()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
        let mut done = 0;
        while let Some((answer, length)) = dialect.answer(&received[done..])? {
            done += length;
            match answer {
                Answer::Nothing => {}
                Answer::Done | Answer::Last => answered += 1,
                Answer::Refused(reason) => return Err(reason),
                Answer::Reply(reply) => {
                    stream.send(&reply).await.map_err(|error| error.to_string())?;
                }
            }
        }
        received.drain(..done);
    }
    Ok(())
}

impl Client {
    /// Asks, and reads until all that was asked for has come.
    async fn come_back(&self, mut stream: Stream) -> Result<Haul, String> {
        let Opening { request, transport, messages, .. } = &self.opening;
        let mut received = Vec::new();
        socket::open(&mut stream, request, *transport, &mut received).await?;
        let inflates = self.is_compressed.then(|| Decompress::new(false));
        let mut haul = Haul { bytes: received.len(), inflates, ..Haul::default() };
        messages.iter().for_each(|message| self.reply(message, &mut haul));
        loop {
            if self.take(&mut received, &mut haul)? {
                return Ok(haul);
            }
            if !haul.outgoing.is_empty() {
                let outgoing = std::mem::take(&mut haul.outgoing);
                stream.send(&outgoing).await.map_err(|error| error.to_string())?;
            }
            received.reserve(READ);
            match stream.read_buf(&mut received).await {
                Ok(0) => return Err("the server hung up".into()),
                Ok(read) => haul.bytes += read,
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn reply(&self, message: &[u8], haul: &mut Haul) {
        let is_binary = self.opening.transport == Transport::Binary;
        frames::write(&mut haul.outgoing, if is_binary { Op::Binary } else { Op::Text }, message);
    }

    /// Takes the whole messages of what was received; true once all has come.
    fn take(&self, received: &mut Vec<u8>, haul: &mut Haul) -> Result<bool, String> {
        let mut done = 0;
        while let Some((frame, length)) = haul.read(&received[done..])? {
            let mut space = [0; GLANCE];
            let message = haul.glance(&frame, &mut space)?;
            done += length;
            match frame.kind {
                Kind::Close => return Err(frames::reason(message)),
                Kind::Ping => frames::write(&mut haul.outgoing, Op::Pong, message),
                Kind::Pong => {}
                Kind::Data => {
                    haul.events += self.dialect.brings(message);
                    if let Some(number) = self.dialect.number(message).filter(|_| self.is_ordered) {
                        if haul.newest.is_some_and(|newest| number <= newest) {
                            return Err("an event came twice or out of order".into());
                        }
                        haul.newest = Some(number);
                    }
                    let mut reply = Vec::new();
                    match self.dialect.hear(message, &[], &mut reply) {
                        Heard::Nothing => {}
                        Heard::Live => haul.lives += 1,
                        Heard::Ended(reason) => return Err(reason),
                    }
                    if !reply.is_empty() {
                        self.reply(&reply, haul);
                    }
                }
            }
            let is_there = match self.opening.lives {
                0 => haul.events >= self.due,
                lives => haul.lives >= lives,
            };
            if is_there {
                return Ok(true);
            }
        }
        received.drain(..done);
        Ok(false)
    }
}

impl Haul {
    /// How a message begins, or all of it.
    fn glance<'a>(
        &mut self,
        frame: &Frame<'a>,
        space: &'a mut [u8; GLANCE],
    ) -> Result<&'a [u8], String> {
        let Some(inflates) = self.inflates.as_mut().filter(|_| frame.is_compressed) else {
            return Ok(frame.payload);
        };
        // Each message by itself (RFC 7692, section 7.1.1.1), so that the rest need not be read.
        inflates.reset(false);
        let read = inflates.decompress(frame.payload, space, FlushDecompress::Sync);
        read.map_err(|error| format!("a message that can't be inflated: {error}"))?;
        Ok(&space[..inflates.total_out() as usize])
    }

    fn read<'a>(&self, received: &'a [u8]) -> Result<Option<(Frame<'a>, usize)>, String> {
        match self.inflates {
            Some(_) => frames::read_any(received),
            None => frames::read(received),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::{Protocol, Publish};
    use super::super::native::Native;
    use super::*;

    fn frame(message: &str) -> Vec<u8> {
        [&[0x81, message.len() as u8], message.as_bytes()].concat()
    }

    /// A client that is told that it is live so often, or is live with two events.
    fn client(lives: usize) -> Client {
        let target = Target::at(([127, 0, 0, 1], 1).into());
        let (protocol, publish) = (Protocol::Json, Publish::Batch);
        let carried = String::new();
        let publish_to = target.clone();
        let (token, key) = (None, None);
        let dialect = Native { target, publish_to, token, key, protocol, publish, carried };
        let transport = Transport::Text;
        let opening = Opening { request: Vec::new(), transport, messages: Vec::new(), lives };
        let (dialect, due) = (Arc::new(dialect), 2);
        Client { dialect, opening, due, is_ordered: true, is_compressed: false }
    }

    #[test]
    fn a_client_has_come_back_once_it_is_live_however_its_messages_are_cut() {
        let messages = [
            r#"{"op":"ack","ref":0}"#,
            r#"{"op":"event","id":"a-1-1"}"#,
            r#"{"op":"event","id":"a-1-2"}"#,
            r#"{"op":"live","ref":0}"#,
        ];
        for (lives, messages) in [(1, &messages[..]), (0, &messages[..3])] {
            let all = messages.iter().map(|message| frame(message)).collect::<Vec<_>>().concat();
            for size in 1..all.len() {
                let (mut haul, mut received, mut is_live) = (Haul::default(), Vec::new(), false);
                for piece in all.chunks(size) {
                    assert!(!is_live, "{size}");
                    received.extend_from_slice(piece);
                    is_live = client(lives).take(&mut received, &mut haul).unwrap();
                }
                assert!(is_live, "{size}");
                assert_eq!(haul.events, 2, "{size}");
            }
        }
        let mut gap = frame(r#"{"op":"gap","ref":0}"#);
        assert!(client(1).take(&mut gap, &mut Haul::default()).is_err());
    }

    #[test]
    fn what_was_missed_comes_once_and_in_the_order_of_the_log() {
        for (numbers, is_right) in [(&[1, 2, 10][..], true), (&[2, 1], false), (&[1, 1], false)] {
            let event = |n: &i32| format!(r#"{{"op":"event","id":"abcdefgh-1-{n}","topic":"a"}}"#);
            let mut received: Vec<u8> = numbers.iter().flat_map(|n| frame(&event(n))).collect();
            let taken = client(1).take(&mut received, &mut Haul::default());
            assert_eq!(taken.is_ok(), is_right, "{numbers:?}");
        }
    }
}
