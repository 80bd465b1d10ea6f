//! A herd: clients that come all at once, each for what it missed or for the current values of all topics.
//!
//! What they come for is published first. Then all connect, ask in the same moment, and are live once they have it; what that
//! takes of the server, from the first question to the last answer, is the cost of their comeback.

mod demand;
mod report;

use std::rc::Rc;
use std::time::{Duration, Instant};

use flate2::{Decompress, FlushDecompress};
use tokio::io::AsyncReadExt;
use tokio::sync::Barrier;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub use self::demand::{Demand, HerdKind};
use self::report::HerdReport;
use super::dialect::{Answer, Dialect, Post, Transport, http_answer, upgrade};
use super::frames::{self, Frame, Kind};
use super::native::Native;
use super::payload::Payload;
use super::process::Server;
use super::response;
use super::socket::{self, Sources, ask};
use super::stream::Stream;
use super::target::Target;

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
pub(super) struct Herd {
    pub(super) demand: Demand,
    pub(super) clients: usize,
    /// Whether they have it compressed.
    pub(super) is_compressed: bool,
    /// Bytes of data an event.
    pub(super) payload: usize,
    /// From how many addresses of this machine they come; 0 leaves it to the system.
    pub(super) sources: usize,
    /// The process that has to end before they come.
    pub(super) after: Option<u32>,
}

/// What came to one client until it was live.
#[derive(Debug, Default)]
struct Haul {
    events: usize,
    bytes: usize,
    /// The number of the newest event, where they have to come in the order of the log.
    newest: Option<u64>,
    /// Reads what is compressed, where that was agreed on.
    inflates: Option<Decompress>,
}

impl Herd {
    /// Publishes what they come for, and has them come. Must be called within a `LocalSet`.
    pub(super) async fn run(
        self,
        native: &Native,
        server: &Server,
        prefix: &str,
    ) -> Result<HerdReport, String> {
        if let Some(id) = server.missing() {
            return Err(format!("there is no process {id}"));
        }
        let demand = self.demand;
        self.publish(native, prefix, demand.before()).await?;
        let since = cursor(native).await?;
        self.publish(native, prefix, demand.meanwhile()).await?;
        if let Some(process) = self.after {
            outlast(native, process).await?;
        }
        let due: Vec<_> = (0..self.clients).map(|client| demand.due(client)).collect();
        let requests = (0..self.clients).map(|client| {
            let query = demand.query(prefix, client, &since);
            self.request(native, &query)
        });
        let requests = requests.collect();
        let (together, memory_before) = (Rc::new(Barrier::new(self.clients + 1)), server.memory());
        let tasks = self.set_out(&native.target, requests, &together);
        together.wait().await;
        let (begun, here) = (Instant::now(), Server::this());
        let (cpu, own) = (server.cpu(), here.cpu());
        together.wait().await;
        let events: usize = due.iter().sum();
        let mut report = HerdReport { clients: self.clients, events, ..HerdReport::default() };
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
        let (took, used) = (begun.elapsed(), server.cpu().since(&cpu));
        let all = events.max(1) as f64;
        report.live_seconds = took.as_secs_f64();
        report.bytes = bytes as f64 / all;
        if server.is_known() {
            report.cpu_us_per_event = Some(used as f64 / 1e3 / all);
            report.cpu_us_per_client = Some(used as f64 / 1e3 / self.clients as f64);
        }
        (report.memory_before, report.memory_after) = (memory_before, server.memory());
        report.client_cpu = here.cpu().since(&own) as f64 / 1e9 / took.as_secs_f64();
        Ok(report)
    }

    /// Has all connect, and ask once they may.
    fn set_out(
        self,
        target: &Target,
        requests: Vec<Vec<u8>>,
        together: &Rc<Barrier>,
    ) -> Vec<JoinHandle<Result<Haul, String>>> {
        let (sources, target) =
            (Sources::new(self.sources, target.address), Rc::new(target.clone()));
        let client = |(number, request): (usize, Vec<u8>)| {
            let (together, target) = (together.clone(), target.clone());
            tokio::task::spawn_local(async move {
                let stream = target.connect(sources, number).await;
                // All are there; then what this takes begins to be measured; then all ask.
                together.wait().await;
                together.wait().await;
                come_back(stream?, &request, self).await
            })
        };
        requests.into_iter().enumerate().map(client).collect()
    }

    /// Publishes so many events, to one topic after the other.
    async fn publish(&self, native: &Native, prefix: &str, events: usize) -> Result<(), String> {
        let mut stream = native.target.connect(Sources::SYSTEM, 0).await?;
        let payload = Payload::new(self.payload);
        let numbers: Vec<_> = (0..events).collect();
        for batch in numbers.chunks(BATCH) {
            let topics =
                batch.iter().map(|number| self.demand.topic(prefix, number % self.demand.topics));
            let topics: Vec<_> = topics.collect();
            let data = batch.iter().map(|number| {
                let mut data = Vec::new();
                payload.write(&mut data, *number as u64, 0);
                data
            });
            let data: Vec<_> = data.collect();
            let posts = topics.iter().zip(&data).map(|(topic, data)| Post { topic, data });
            let mut request = Vec::new();
            native.publish(&posts.collect::<Vec<_>>(), &mut request);
            let answer = ask(&mut stream, &request).await?;
            if let Some((Answer::Refused(reason), _)) = http_answer(&answer)? {
                return Err(format!("nothing to come back for: {reason}"));
            }
        }
        Ok(())
    }

    /// What a client sends.
    fn request(&self, native: &Native, query: &str) -> Vec<u8> {
        let mut request = Vec::new();
        native.ask(&mut request, "GET", &format!("/v1/ws?{query}"), &native.token);
        upgrade(&mut request);
        if self.is_compressed {
            request.extend_from_slice(
                b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n",
            );
        }
        request.extend_from_slice(b"\r\n");
        request
    }
}

/// Waits until a process has ended, and for as long as a herd may take until the broker is ready.
async fn outlast(native: &Native, process: u32) -> Result<(), String> {
    eprintln!("what the herd comes for is published: it comes once process {process} has ended");
    while Server::new(vec![process]).missing().is_none() {
        sleep(SOON).await;
    }
    let mut request = Vec::new();
    native.ask(&mut request, "GET", "/health/ready", &None);
    request.extend_from_slice(b"\r\n");
    let ready = async {
        loop {
            if let Ok(mut stream) = native.target.connect(Sources::SYSTEM, 0).await
                && let Ok(answer) = ask(&mut stream, &request).await
                && matches!(response::response(&answer), Ok(Some(ready)) if ready.status == 200)
            {
                return;
            }
            sleep(SOON).await;
        }
    };
    let waited = timeout(PATIENCE, ready).await;
    waited.map_err(|_| format!("the broker is not ready after {} s", PATIENCE.as_secs()))
}

/// The place that the server has come to.
async fn cursor(native: &Native) -> Result<String, String> {
    let mut request = Vec::new();
    native.ask(&mut request, "GET", "/v1/cursor", &native.key);
    request.extend_from_slice(b"\r\n");
    let mut stream = native.target.connect(Sources::SYSTEM, 0).await?;
    let answer = ask(&mut stream, &request).await?;
    let body = response::response(&answer)?.map_or(&[][..], |response| response.body);
    let body: serde_json::Value = serde_json::from_slice(body)
        .map_err(|_| format!("no cursor: {}", String::from_utf8_lossy(&answer)))?;
    let cursor = body["cursor"].as_str().ok_or_else(|| format!("no cursor: {body}"))?;
    Ok(cursor.to_owned())
}

/// Asks, and reads until all that was asked for has come.
async fn come_back(mut stream: Stream, request: &[u8], herd: Herd) -> Result<Haul, String> {
    let mut received = Vec::new();
    let reading = async {
        socket::open(&mut stream, request, Transport::Text, &mut received).await?;
        let inflates = herd.is_compressed.then(|| Decompress::new(false));
        let newest = (herd.demand.kind == HerdKind::Resume).then_some(0);
        let mut haul = Haul { events: 0, bytes: received.len(), newest, inflates };
        loop {
            if haul.take(&mut received)? {
                return Ok(haul);
            }
            received.reserve(READ);
            match stream.read_buf(&mut received).await {
                Ok(0) => return Err("the server hung up".into()),
                Ok(read) => haul.bytes += read,
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    let came = timeout(PATIENCE, reading).await;
    came.unwrap_or_else(|_| Err("it was not live in time".into()))
}

impl Haul {
    /// Takes the whole messages of what was received; true once all has come.
    fn take(&mut self, received: &mut Vec<u8>) -> Result<bool, String> {
        let mut done = 0;
        while let Some((frame, length)) = self.read(&received[done..])? {
            let mut space = [0; GLANCE];
            let message = self.glance(&frame, &mut space)?;
            match frame.kind {
                Kind::Close => return Err(frames::reason(message)),
                Kind::Ping | Kind::Pong => {}
                Kind::Data if message.starts_with(br#"{"op":"event""#) => {
                    if let Some(newest) = &mut self.newest {
                        let number = number_of(message).filter(|number| number > newest);
                        *newest = number.ok_or("an event came twice or out of order")?;
                    }
                    self.events += 1;
                }
                Kind::Data if message.starts_with(br#"{"op":"live""#) => return Ok(true),
                Kind::Data if message.starts_with(br#"{"op":"gap""#) => {
                    return Err("what was missed is not kept any more".into());
                }
                Kind::Data => {}
            }
            done += length;
        }
        received.drain(..done);
        Ok(false)
    }

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

/// The number of an event in the log, by how its message begins: the last part of its id.
fn number_of(message: &[u8]) -> Option<u64> {
    let id =
        message.strip_prefix(br#"{"op":"event","id":""#)?.split(|byte| *byte == b'"').next()?;
    let number = id.rsplit(|byte| *byte == b'-').next()?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(message: &str) -> Vec<u8> {
        [&[0x81, message.len() as u8], message.as_bytes()].concat()
    }

    #[test]
    fn a_client_has_come_back_once_it_is_live_however_its_messages_are_cut() {
        let messages = [
            r#"{"op":"ack","ref":0}"#,
            r#"{"op":"event","id":"a-1-1"}"#,
            r#"{"op":"event","id":"a-1-2"}"#,
            r#"{"op":"live","ref":0}"#,
        ];
        let all = messages.map(frame).concat();
        for size in 1..all.len() {
            let (mut haul, mut received, mut is_live) = (Haul::default(), Vec::new(), false);
            for piece in all.chunks(size) {
                assert!(!is_live, "{size}");
                received.extend_from_slice(piece);
                is_live = haul.take(&mut received).unwrap();
            }
            assert!(is_live, "{size}");
            assert_eq!(haul.events, 2, "{size}");
        }
        let mut gap = frame(r#"{"op":"gap","ref":0}"#);
        assert!(Haul::default().take(&mut gap).is_err());
    }

    #[test]
    fn what_was_missed_comes_once_and_in_the_order_of_the_log() {
        for (numbers, is_right) in [(&[1, 2, 10][..], true), (&[2, 1], false), (&[1, 1], false)] {
            let message =
                |n| frame(&format!(r#"{{"op":"event","id":"abcdefgh-1-{n}","topic":"a"}}"#));
            let mut received: Vec<u8> = numbers.iter().flat_map(message).collect();
            let mut haul = Haul { newest: Some(0), ..Haul::default() };
            assert_eq!(haul.take(&mut received).is_ok(), is_right, "{numbers:?}");
        }
    }
}
