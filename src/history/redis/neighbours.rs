//! The nodes of a log, as one of them hears them.
//!
//! A heartbeat renews a node's lease with all others, and proves to the node itself that what it sends comes
//! back.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tracing::debug;

use super::leases::{Leases, Word};
use crate::model::LogName;
use crate::panics::lock;

/// How many letters wait; what is over is dropped, and asked again.
const WAITING: usize = 1_024;

pub(super) const HEARTBEAT: u8 = b'+';
pub(super) const GOOD_BYE: u8 = b'-';
pub(super) const QUESTION: u8 = b'?';
pub(super) const ANSWER: u8 = b'!';
/// One that an earlier release does not know, and passes over.
pub(super) const NEWS: u8 = b'*';

/// What one node says to others.
#[derive(Debug)]
pub struct Letter {
    /// The node that says it.
    pub from: LogName,
    /// What is to be done with it.
    pub kind: LetterKind,
    /// What it says.
    pub body: Vec<u8>,
}

/// What is to be done with a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetterKind {
    /// It asks this node, as all others.
    Question,
    /// It answers a question of this node.
    Answer,
    /// It says how the node is that sent it.
    News,
}

impl LetterKind {
    fn read(kind: u8) -> Option<Self> {
        match kind {
            QUESTION => Some(Self::Question),
            ANSWER => Some(Self::Answer),
            NEWS => Some(Self::News),
            _ => None,
        }
    }
}

/// The nodes of one log, as one of them hears them.
pub(super) struct Neighbours {
    me: LogName,
    leases: Mutex<Leases>,
    /// When this node last heard itself; none while it does not.
    heard: watch::Sender<Option<Instant>>,
    incoming: mpsc::Sender<Letter>,
    letters: tokio::sync::Mutex<mpsc::Receiver<Letter>>,
}

impl Neighbours {
    /// Nobody but this node, whose log is in a database.
    pub(super) fn new(me: LogName, database: i64) -> Self {
        let (incoming, letters) = mpsc::channel(WAITING);
        let leases = Mutex::new(Leases::in_database(database));
        let heard = watch::Sender::new(None);
        Self { me, leases, heard, incoming, letters: letters.into() }
    }

    /// Takes what was said on a channel of the nodes.
    pub(super) fn hear(&self, said: &[u8]) {
        let Some((head, body)) = said.split_at_checked(1 + LogName::LENGTH) else { return };
        let from = std::str::from_utf8(&head[1..]).ok().and_then(LogName::parse);
        let (kind, Some(from)) = (head[0], from) else { return };
        match kind {
            HEARTBEAT if from == self.me => self.hear_myself(),
            _ if from == self.me => {}
            GOOD_BYE => lock(&self.leases).end(from, Instant::now()),
            HEARTBEAT => {
                lock(&self.leases).hear_word(from, Word::read(body), Instant::now());
            }
            _ if lock(&self.leases).is_stranger(from) => {}
            _ => {
                self.meet(from);
                if let Some(kind) = LetterKind::read(kind) {
                    let letter = Letter { from, kind, body: body.to_vec() };
                    if self.incoming.try_send(letter).is_err() {
                        debug!("a letter of another node is dropped, for too many wait");
                    }
                }
            }
        }
    }

    /// Another node is there.
    pub(super) fn meet(&self, node: LogName) {
        if node != self.me {
            lock(&self.leases).hear(node, Instant::now());
        }
    }

    /// Another node that does not read entries of a form; none where it is what all of them read.
    pub(super) fn without(&self, form: u8) -> Option<LogName> {
        // Every release reads the first.
        if form > 1 { lock(&self.leases).without(form, Instant::now()) } else { None }
    }

    /// For how long a node has been gone, as far as this one can tell; none where it is there, or may be.
    pub(super) fn absent_for(&self, node: LogName) -> Option<Duration> {
        let now = Instant::now();
        let since = lock(&self.leases).absent_since(node, now).filter(|_| node != self.me);
        since.map(|since| now.saturating_duration_since(since))
    }

    /// Whether nodes are there that may hear the log on the channel of all databases alone.
    pub(super) fn has_earlier(&self) -> bool {
        lock(&self.leases).has_earlier(Instant::now())
    }

    /// This node hears itself.
    pub(super) fn hear_myself(&self) {
        let now = Instant::now();
        lock(&self.leases).hear_myself(now);
        self.heard.send_replace(Some(now));
    }

    /// The connection over which this node hears is gone.
    pub(super) fn lose_hearing(&self) {
        lock(&self.leases).lose_hearing();
        self.heard.send_replace(None);
    }

    /// Whether this node has heard itself over the connection that stands, and does no longer.
    pub(super) fn is_silent(&self) -> bool {
        self.heard.borrow().is_some() && self.is_deaf()
    }

    /// Whether this node does not hear itself, or not for long.
    pub(super) fn is_deaf(&self) -> bool {
        lock(&self.leases).is_deaf(Instant::now())
    }

    /// The other nodes that are there.
    pub(super) fn others(&self) -> Vec<LogName> {
        lock(&self.leases).others(Instant::now())
    }

    /// The next thing that another node says to this one.
    pub(super) async fn next_letter(&self) -> Option<Letter> {
        self.letters.lock().await.recv().await
    }
}
