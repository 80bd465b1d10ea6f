//! Which values have ended, as the server keeps it.
//!
//! One node at a time asks. It measures the server's clock against its own, which never steps: where the server's leaps, what
//! is to end is moved by as much, so that a wrong clock ends nothing early. Each node says which of its sessions have left;
//! those of a node that is gone have left with it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use redis::RedisResult;

use super::super::{Departure, Ending};
use super::away::away;
use super::departures::{Departures, Left};
use super::link::Server;
use super::log_state::LogState;
use super::scripts;
use super::turn::Turn;
use crate::model::{Envelope, LogName, Problem, Removed, Topic};
use crate::panics::lock;

/// By how much the server's clock may run differently from this node's until that is a leap, in milliseconds.
const LEAP: i64 = 1_000;

/// How many sessions that left one call tells of.
const TOGETHER: usize = 1_000;

/// How long a node that has not got the turn waits until it asks for it again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks which values have ended.
pub(super) struct Ends {
    server: Arc<Server>,
    turn: Turn,
    /// How long values stay whose session was cut.
    linger: Duration,
    departures: Mutex<Departures>,
    state: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    /// What the server's clock said when, while this node has the turn.
    clock: Option<(i64, Instant)>,
    /// Until when it is another node's turn.
    rests: Option<Instant>,
    /// The nodes that hold values.
    nodes: Vec<LogName>,
}

/// What the script says: how the log stands, the time by the server's clock, each topic with the number of its value, what
/// that carries and why it ends, and the nodes that hold values.
type Due = (LogState, i64, Vec<(String, u64, Vec<u8>, String)>, Vec<String>);

/// The holder of what is bound to a session of a node, as the server lists it.
pub(super) fn holder(node: LogName, session: &str) -> String {
    format!("{node} {session}")
}

impl Ends {
    /// What ends in the log of a server, where values stay for so long after their session was cut.
    pub(super) fn new(server: Arc<Server>, linger: Duration) -> Self {
        let turn = Turn::new(server.keys.turn("ends"), server.node.to_string());
        Self { server, turn, linger, departures: Mutex::default(), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        lock(&self.state)
    }

    fn departures(&self) -> MutexGuard<'_, Departures> {
        lock(&self.departures)
    }

    /// Notes that sessions of this node have left.
    pub(super) async fn depart(&self, departures: Vec<Departure>) -> Result<(), Problem> {
        let left = departures.into_iter().map(|Departure { session, lingers }| {
            let stays = if lingers { self.linger } else { Duration::ZERO };
            (holder(self.server.node, &session), stays)
        });
        let left: Vec<_> = left.collect();
        self.tell(&left).await?;
        self.departures().note_told(left, Instant::now());
        Ok(())
    }

    async fn tell(&self, left: &[Left]) -> Result<(), Problem> {
        let link = self.server.link()?;
        for some in left.chunks(TOGETHER) {
            let mut invocation = scripts::DEPART.prepare_invoke();
            self.server.prepare(&link, &mut invocation);
            for (holder, stays) in some {
                invocation.arg(holder).arg(stays.as_millis() as u64);
            }
            let noted: RedisResult<LogState> = self.server.invoke(&link, &invocation).await;
            noted.map_err(|error| away(&error))?;
        }
        Ok(())
    }

    /// Says again who has left, where the server may have forgotten it.
    async fn repeat_departures(&self) -> Result<(), Problem> {
        let epoch = self.server.head().epoch;
        let forgotten = self.departures().forgotten(epoch, Instant::now());
        self.tell(&forgotten).await?;
        self.departures().known_in(epoch);
        Ok(())
    }

    /// The nodes whose sessions are gone with them, and had time to come back elsewhere.
    fn absent_nodes(&self, nodes: &[LogName]) -> Vec<String> {
        let is_gone = |node: &&LogName| {
            let gone = self.server.nodes.absent_for(**node);
            gone.is_some_and(|gone| gone >= self.linger)
        };
        nodes.iter().filter(is_gone).map(LogName::to_string).collect()
    }

    /// The values that have ended, at most so many; none while another node is to end them.
    pub(super) async fn due(&self, limit: usize) -> Result<Vec<Ending>, Problem> {
        self.repeat_departures().await?;
        let now = Instant::now();
        if self.lock().rests.is_some_and(|until| now < until) {
            return Ok(Vec::new());
        }
        let link = self.server.link()?;
        let turn = self.turn.take(&mut link.commands.clone()).await;
        if !self.server.judge(&link, turn).map_err(|error| away(&error))? {
            *self.lock() = Asked { rests: Some(now + PATIENCE), ..Asked::default() };
            return Ok(Vec::new());
        }
        let Asked { clock: before, nodes, .. } = std::mem::take(&mut *self.lock());
        let clock = self.server.reads(&link).clock().await;
        let clock = self.server.judge(&link, clock).map_err(|error| away(&error))?;
        let leap = before.map_or(0, |before| leap(before, (clock.millis(), Instant::now())));
        let mut invocation = scripts::DUE.prepare_invoke();
        self.server.prepare(&link, &mut invocation);
        invocation.arg(limit).arg(leap).arg(self.absent_nodes(&nodes));
        let (state, clock, due, nodes): Due =
            self.server.invoke(&link, &invocation).await.map_err(|error| away(&error))?;
        let nodes = nodes.iter().filter_map(|node| LogName::parse(node)).collect();
        *self.lock() = Asked { clock: Some((clock, Instant::now())), rests: None, nodes };
        let ending = |(name, number, envelope, reason): (String, u64, Vec<u8>, String)| {
            let topic = Topic::from_stored(&name).ok()?;
            let reason = if reason == "left" { Removed::Left } else { Removed::Expired };
            Some(Ending::of(topic, state.at(number), &Envelope::read(&envelope)?, reason))
        };
        Ok(due.into_iter().filter_map(ending).collect())
    }
}

/// By how much one clock has leapt ahead of the other, or back, in milliseconds.
fn leap((from, since): (i64, Instant), (to, until): (i64, Instant)) -> i64 {
    let passed = i64::try_from(until.duration_since(since).as_millis()).unwrap_or(i64::MAX);
    let leap = to.saturating_sub(from).saturating_sub(passed);
    if leap.abs() < LEAP { 0 } else { leap }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_runs_a_little_differently_does_not_leap() {
        let since = Instant::now();
        let until = since + Duration::from_secs(10);
        for (to, expected) in
            [(10_000, 0), (10_900, 0), (9_100, 0), (3_610_000, 3_600_000), (-3_590_000, -3_600_000)]
        {
            assert_eq!(leap((0, since), (to, until)), expected, "{to}");
        }
    }
}
