//! Connects: clients that come one behind the other, ask one small thing, and go.
//!
//! What that takes of the server is mostly the handshake of TLS, in full or of a session that is resumed. The same
//! without TLS says what the rest is.

use std::fmt;
use std::time::Instant;

use hdrhistogram::Histogram;
use indicatif::HumanCount;
use serde::Serialize;

use super::measure::nanos;
use super::meter::histogram;
use super::process::Server;
use super::report::{Percentiles, times};
use super::response;
use super::socket::{Sources, ask};
use super::target::{Sessions, Target};

/// Connects before those that count: the first has no session to resume.
const WARM_UP: usize = 20;

/// Connects to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connects {
    pub(super) count: usize,
    /// From how many addresses of this machine they come; 0 leaves it to the system.
    pub(super) sources: usize,
    pub(super) sessions: Sessions,
}

/// What became of them.
#[derive(Debug, Serialize)]
pub(super) struct ConnectsReport {
    /// How many there were.
    connects: usize,
    /// How many of them resumed a session of TLS.
    resumed: usize,
    /// Whether all of them were to.
    is_to_resume: bool,
    /// From the first packet until a request may be sent.
    connecting: Percentiles,
    /// From the request until its answer is there.
    answer: Percentiles,
    /// Microseconds of the server's processor time for one of them.
    cpu_us_per_connect: Option<f64>,
}

impl Connects {
    /// Has them come.
    pub(super) async fn run(
        self,
        target: &Target,
        server: &Server,
    ) -> Result<ConnectsReport, String> {
        if let Some(id) = server.missing() {
            return Err(format!("there is no process {id}"));
        }
        let sources = Sources::new(self.sources, target.address);
        let mut visits =
            Visits { target, sources, resumed: 0, times: [histogram()?, histogram()?] };
        for number in 0..WARM_UP {
            visits.add(number).await?;
        }
        visits.resumed = 0;
        visits.times.iter_mut().for_each(Histogram::reset);
        let before = server.cpu();
        for number in 0..self.count {
            visits.add(number).await?;
        }
        let used = server.cpu().since(&before) as f64 / 1e3 / self.count as f64;
        let [connecting, answer] = visits.times.each_ref().map(Percentiles::from);
        Ok(ConnectsReport {
            connects: self.count,
            resumed: visits.resumed,
            is_to_resume: self.sessions == Sessions::Resumed,
            connecting,
            answer,
            cpu_us_per_connect: server.is_known().then_some(used),
        })
    }
}

/// Those that came.
struct Visits<'a> {
    target: &'a Target,
    sources: Sources,
    resumed: usize,
    /// How long it took to connect, and to be answered then.
    times: [Histogram<u64>; 2],
}

impl Visits<'_> {
    async fn add(&mut self, number: usize) -> Result<(), String> {
        let mut request = Vec::new();
        self.target.request(&mut request, "GET", "/health/live");
        request.extend_from_slice(b"\r\n");
        let begun = Instant::now();
        let mut stream = self.target.connect(self.sources, number).await?;
        let connected = begun.elapsed();
        let answer = ask(&mut stream, &request).await?;
        let status = response::response(&answer)?.map_or(0, |response| response.status);
        if status != 200 {
            return Err(format!("the server answered HTTP {status}"));
        }
        self.resumed += usize::from(stream.is_resumed());
        for (times, took) in self.times.iter_mut().zip([connected, begun.elapsed() - connected]) {
            times.saturating_record(nanos(took));
        }
        Ok(())
    }
}

impl ConnectsReport {
    /// What is wrong with it, if something is.
    pub(super) fn fault(&self) -> Option<String> {
        let full = self.connects - self.resumed;
        (self.is_to_resume && full > 0).then(|| format!("{full} handshakes resumed no session"))
    }
}

impl fmt::Display for ConnectsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [connects, resumed] =
            [self.connects, self.resumed].map(|count| HumanCount(count as u64));
        times(f, "connecting", &self.connecting)?;
        times(f, "answer", &self.answer)?;
        if let Some(us) = self.cpu_us_per_connect {
            writeln!(f, "server       {us:.0} µs a connect")?;
        }
        write!(f, "connects     {connects}, of which {resumed} resumed a session of TLS")
    }
}
