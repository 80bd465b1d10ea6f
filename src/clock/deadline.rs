//! How long others are waited for: in time during which this process ran.
//!
//! A process can stand still (SIGSTOP, a frozen cgroup, a machine that moves), and time goes on meanwhile.
//! What others did in it has arrived and is not looked at yet, and what they were to do they may still be
//! about to. So time in which the process stood still counts for no deadline, and one that is looked at
//! late is looked at once more, after what has arrived.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Sleep, sleep_until, timeout_at};
use tracing::warn;

use super::Instant;

/// How often each [`Pulse`] beats.
pub const TICK: Duration = Duration::from_secs(1);

/// A deadline that is looked at so much too late was not looked at by a thread that had the time.
const LATE: Duration = Duration::from_millis(50);

/// How many threads tell that the process runs.
static PULSES: AtomicUsize = AtomicUsize::new(0);

/// When one did last, in milliseconds since [`began`]; 0 where none does.
static TICKED: AtomicU64 = AtomicU64::new(0);

/// For how many milliseconds the process has stood still in all.
static STOOD: AtomicU64 = AtomicU64::new(0);

fn began() -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    *BEGAN.get_or_init(Instant::now)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One thread's sign that the process runs, from its first beat until it is dropped.
#[derive(Debug)]
pub struct Pulse(());

impl Pulse {
    /// Begins to beat.
    pub fn begin() -> Self {
        PULSES.fetch_add(1, Ordering::AcqRel);
        let pulse = Self(());
        pulse.beat();
        pulse
    }

    /// Says that the process runs, which is to be done every [`TICK`].
    pub fn beat(&self) {
        // At least 1, for 0 is never.
        let now = millis(began().elapsed()).max(1);
        let still = unticked(TICKED.fetch_max(now, Ordering::AcqRel), now);
        if still > 0 {
            STOOD.fetch_add(still, Ordering::AcqRel);
            warn!(milliseconds = still, "this process stood still: deadlines are moved by as much");
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if PULSES.fetch_sub(1, Ordering::AcqRel) == 1 {
            TICKED.store(0, Ordering::Release);
        }
    }
}

/// For how long the process stood still between two ticks, as far as it was for longer than a tick.
fn unticked(last: u64, now: u64) -> u64 {
    let (gap, tick) = (now.saturating_sub(last), millis(TICK));
    if last > 0 && gap > 2 * tick { gap - tick } else { 0 }
}

/// For how many milliseconds the process has stood still in all, up to now.
fn stood_still() -> u64 {
    // In this order: a tick in between is counted twice rather than not at all.
    let last = TICKED.load(Ordering::Acquire);
    let since = unticked(last, millis(began().elapsed()));
    STOOD.load(Ordering::Acquire) + since
}

/// Until when somebody has time for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    at: Instant,
    /// For how many milliseconds the process had stood still when that was reckoned.
    stood: u64,
    was_late: bool,
}

impl Deadline {
    /// A deadline so far from now.
    pub fn after(time: Duration) -> Self {
        Self { at: Instant::now() + time, stood: stood_still(), was_late: false }
    }

    /// When it is to be looked at.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// How much of the time is left.
    pub fn left(&mut self) -> Duration {
        self.move_on();
        self.at.saturating_duration_since(Instant::now())
    }

    /// Moves it by as long as the process stood still.
    fn move_on(&mut self) {
        let stood = stood_still();
        self.at += Duration::from_millis(stood.saturating_sub(self.stood));
        self.stood = stood;
    }

    /// Whether it has passed; if not, it is to be looked at again at [`Deadline::at`].
    pub fn has_passed(&mut self) -> bool {
        let now = Instant::now();
        if now < self.at {
            return false;
        }
        let lateness = now - self.at;
        self.move_on();
        if now < self.at {
            return false;
        }
        if lateness > LATE && !self.was_late {
            self.was_late = true;
            self.at = now + LATE;
            return false;
        }
        true
    }
}

/// The rounds of one who judges others by what they said. In one that comes late it has not heard yet what they
/// said meanwhile, and judges nobody; in the next it does, however late, or who is always busy never would.
#[derive(Debug, Default)]
pub struct Rounds {
    skipped: bool,
}

impl Rounds {
    /// Whether it may judge in a round that was due at this moment.
    pub fn may_judge(&mut self, due: Instant) -> bool {
        self.skipped = due.elapsed() >= TICK && !self.skipped;
        !self.skipped
    }
}

/// Waits for a deadline.
#[derive(Debug)]
pub struct Timer {
    deadline: Deadline,
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    /// A timer that ends so far from now.
    pub fn after(time: Duration) -> Self {
        let deadline = Deadline::after(time);
        Self { deadline, sleep: Box::pin(sleep_until(deadline.at())) }
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.deadline.has_passed() {
                return Poll::Ready(());
            }
            let at = self.deadline.at();
            self.sleep.as_mut().reset(at);
        }
    }
}

/// What `future` comes to, unless that takes longer than `time`.
pub async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut deadline = Deadline::after(time);
    let mut future = pin!(future);
    loop {
        match timeout_at(deadline.at(), &mut future).await {
            Err(_) if !deadline.has_passed() => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_process_that_ticks_late_is_busy_and_one_that_does_not_tick_stands_still() {
        assert_eq!(unticked(0, 100_000), 0, "it has not begun");
        assert_eq!(unticked(5_000, 7_000), 0);
        assert_eq!(unticked(5_000, 65_000), 59_000);
        assert_eq!(unticked(65_000, 5_000), 0, "another thread was faster");
    }

    #[test]
    fn who_comes_late_once_judges_nobody_and_who_always_does_judges_every_other_time() {
        let (mut rounds, late) = (Rounds::default(), Instant::now() - 2 * TICK);
        assert!(rounds.may_judge(Instant::now()));
        let judges: Vec<_> = (0..4).map(|_| rounds.may_judge(late)).collect();
        assert_eq!(judges, [false, true, false, true]);
        assert!(rounds.may_judge(Instant::now()));
    }

    #[actix_web::test]
    async fn a_deadline_that_is_looked_at_late_is_looked_at_twice() {
        let mut deadline = Deadline::after(Duration::ZERO);
        std::thread::sleep(2 * LATE);
        let first = deadline.at();
        assert!(!deadline.has_passed() && deadline.at() > first);
        std::thread::sleep(2 * LATE);
        assert!(deadline.has_passed());
    }

    #[actix_web::test]
    async fn what_is_there_in_time_is_taken_and_what_never_comes_is_not_waited_for() {
        assert_eq!(within(SECOND, async { 7 }).await, Ok(7));
        assert!(within(2 * LATE, std::future::pending::<()>()).await.is_err());
        // Both are there when it is looked: what was waited for counts.
        let late = within(LATE / 5, async { std::thread::sleep(LATE * 2) });
        assert_eq!(late.await, Ok(()));
        Timer::after(LATE).await;
    }
}
