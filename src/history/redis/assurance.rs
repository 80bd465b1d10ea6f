//! Whether this node has told all that the log has, so that what it has at hand is what is kept.
//!
//! Redis is asked for the log's record, once for all who want to know at that moment and no more often than each
//! [`EVERY`]: a crowd that comes back costs it the same as one client. The answer is good for who asked before the question
//! was put, so nobody is served what was gone when he came, whichever node removed it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::entry;
use super::link::Server;
use super::log_state::LogState;
use super::reads::Reads;
use crate::clock::within;
use crate::model::Cursor;

/// How often Redis is asked at most.
const EVERY: Duration = Duration::from_millis(2);

/// How long it is waited for what Redis has and this node has not heard yet.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long anybody waits for an answer.
const ANSWER: Duration = Duration::from_secs(2);

/// How far a node has told the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// All up to here.
    pub(super) at: Cursor,
    /// The breach of the log that it has told of.
    pub(super) breach: u64,
    /// What was removed, as much as in so many tellings.
    pub(super) removals: u64,
}

impl Told {
    /// Whether that is all, of a log that stands like this.
    fn is_all(&self, state: &LogState) -> bool {
        self.at.log == state.head.log
            && self.at >= state.head
            && self.breach == state.breach
            && self.removals >= state.removals
    }
}

/// What came of a question.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    /// It is the answer to those who asked before this number.
    before: u64,
    is_all: bool,
}

/// Asks Redis for all who want to know.
pub(super) struct Assurance {
    server: Arc<Server>,
    told: watch::Sender<Told>,
    /// The number of who asks next.
    next: AtomicU64,
    due: Notify,
    round: watch::Sender<Round>,
}

impl Assurance {
    /// Of a node that has told so much.
    pub(super) fn new(server: Arc<Server>, told: Told) -> Self {
        let (told, round) = (watch::Sender::new(told), watch::Sender::default());
        Self { server, told, next: AtomicU64::new(0), due: Notify::new(), round }
    }

    /// Notes that so much is told by now.
    pub(super) fn note(&self, told: Told) {
        self.told.send_if_modified(|before| std::mem::replace(before, told) != told);
    }

    /// Whether all is told that the log has by now.
    pub(super) async fn is_given(&self) -> bool {
        let mut rounds = self.round.subscribe();
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        self.due.notify_one();
        let answer = within(ANSWER, rounds.wait_for(|round| round.before > number)).await;
        matches!(answer, Ok(Ok(round)) if round.is_all)
    }

    /// Asks for good, as often as somebody wants to know.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            self.due.notified().await;
            let next = Instant::now() + EVERY;
            let before = self.next.load(Ordering::SeqCst);
            let is_all = self.ask().await;
            self.round.send_replace(Round { before, is_all });
            sleep_until(next).await;
        }
    }

    async fn ask(&self) -> bool {
        let at = self.told.borrow().at;
        let Ok(link) = self.server.link() else { return false };
        // What such a node removes is not told.
        if self.server.nodes.without(entry::TELLS_REMOVALS).is_some() {
            return false;
        }
        let connection = link.commands.clone();
        let mut reads = Reads { connection, ..self.server.reads(&link) };
        let state = self.server.judge(&link, reads.state().await);
        // What has less than was told has lost it, and will say so.
        let Some(state) = state.ok().flatten().filter(|state| state.head >= at) else {
            return false;
        };
        let mut told = self.told.subscribe();
        within(PATIENCE, told.wait_for(|told| told.is_all(&state))).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(epoch: &str, seq: &str, breach: &str, removals: &str) -> LogState {
        let values = ["abcdefgh", epoch, "0", seq, breach, "0", "", "", "1", "", removals]
            .map(str::to_owned);
        LogState::read(&values.map(Some)).unwrap()
    }

    #[test]
    fn all_is_told_where_neither_an_event_nor_a_removal_nor_a_loss_is_missing() {
        let at = Cursor::parse("abcdefgh-2-40").unwrap();
        let told = Told { at, breach: 7, removals: 3 };
        for (epoch, seq, breach, removals, is_all) in [
            ("2", "40", "7", "3", true),
            ("2", "39", "7", "2", true),
            ("2", "41", "7", "3", false),
            ("2", "40", "7", "4", false),
            ("2", "40", "9", "3", false),
            ("3", "40", "7", "3", false),
        ] {
            let state = state(epoch, seq, breach, removals);
            assert_eq!(told.is_all(&state), is_all, "{epoch} {seq} {breach} {removals}");
        }
        let elsewhere = Cursor::parse("zzzzzzzz-9-99").unwrap();
        assert!(!Told { at: elsewhere, ..told }.is_all(&state("2", "40", "7", "3")));
    }
}
