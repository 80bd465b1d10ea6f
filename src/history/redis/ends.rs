//! Which values have ended, as the server keeps it.
//!
//! One node at a time asks. It measures the server's clock against its own, which never steps: where the server's leaps, what
//! is to end is moved by as much, so that a wrong clock ends nothing early.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::super::Ending;
use super::link::{Server, away};
use super::scripts;
use super::state::State;
use super::turn::Turn;
use crate::model::{Envelope, Problem, Topic};
use crate::panics::half_done;

/// By how much the server's clock may run differently from this node's until that is a leap, in milliseconds.
const LEAP: i64 = 1_000;

/// How long a node that has not got the turn waits until it asks for it again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks which values have ended.
pub(super) struct Ends {
    server: Arc<Server>,
    turn: Turn,
    state: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    /// What the server's clock said when, while this node has the turn.
    clock: Option<(i64, Instant)>,
    /// Until when it is another node's turn.
    rests: Option<Instant>,
}

/// What the script says: how the log stands, the time by the server's clock, and each topic with the number of its value and
/// what that carries.
type Due = (State, i64, Vec<(String, u64, Vec<u8>)>);

impl Ends {
    pub(super) fn new(server: Arc<Server>) -> Self {
        let turn = Turn::new(server.keys.turn("ends"), server.node.to_string());
        Self { server, turn, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.state.lock().unwrap_or_else(half_done)
    }

    /// The values whose time is over, at most so many; none while another node is to end them.
    pub(super) async fn due(&self, limit: usize) -> Result<Vec<Ending>, Problem> {
        let now = Instant::now();
        if self.lock().rests.is_some_and(|until| now < until) {
            return Ok(Vec::new());
        }
        let link = self.server.link()?;
        let turn = self.turn.take(&mut link.commands.clone()).await;
        if !self.server.judge(&link, turn).map_err(|error| away(&error))? {
            *self.lock() = Asked { clock: None, rests: Some(now + PATIENCE) };
            return Ok(Vec::new());
        }
        let before = std::mem::take(&mut *self.lock()).clock;
        let clock = self.server.reads(&link).clock().await;
        let clock = self.server.judge(&link, clock).map_err(|error| away(&error))?;
        let leap = before.map_or(0, |before| leap(before, (clock.millis(), Instant::now())));
        let mut invocation = scripts::DUE.prepare_invoke();
        self.server.prepare(&link, &mut invocation);
        invocation.arg(limit).arg(leap);
        let (state, clock, due): Due =
            self.server.invoke(&link, &invocation).await.map_err(|error| away(&error))?;
        self.lock().clock = Some((clock, Instant::now()));
        let ending = |(name, number, envelope): (String, u64, Vec<u8>)| {
            let topic = Topic::from_stored(&name).ok()?;
            Some(Ending::of(topic, state.at(number), &Envelope::read(&envelope)?))
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
